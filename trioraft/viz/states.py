"""What each node knew at every moment: its vote, its leader, the votes it got, the end of its log.

Rules of this file:

* Changes, each with the entry that shows it: whoever asks for a moment looks for the last change
  before it, and replays nothing.
* What no line shows is not there: a vote is unknown until a line tells it, not "nobody".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, TypeAlias, final, get_args

import attrs

from .model import LogEnd, Message, NodeName, RoleSpan, Run

StateField: TypeAlias = Literal["vote", "leader", "votes", "lastIndex", "lastTerm"]
"""`vote`: whom it voted for in its term. `leader`: whom it hears as leader. `votes`: who voted for
it. `lastIndex`, `lastTerm`: of the last entry of its log."""
STATE_FIELDS: Final[tuple[StateField, ...]] = get_args(StateField)
NOBODY: Final = ""
"""The text of a vote that was given to nobody yet, of no leader, of no votes."""


@attrs.frozen
class StateChange:
    """From this entry on, this is so."""

    node: NodeName
    entry: int
    field: StateField
    value: int | str
    """A number for the log's end; for the others names, with commas between them."""


def state_changes(run: Run) -> list[StateChange]:
    """All changes, in the order of time; no field changes to what it was."""
    minds = {node.name: _Mind(node.name) for node in run.nodes}
    changes: list[StateChange] = []
    events = sorted(_events(run), key=lambda event: (run.entries[event[0]].at_s, event[0]))
    for entry, name, what in events:
        mind = minds.get(name)
        if mind is None:
            continue
        before = mind.known()
        mind.hear(what)
        after = mind.known()
        if before != after:
            changes += [
                StateChange(name, entry, field, value)
                for field, value, old in zip(STATE_FIELDS, after, before, strict=True)
                if value != old and value is not None
            ]
    return changes


@attrs.frozen
class _Arrived:
    message: Message
    request: Message | None = None


@attrs.frozen
class _Left:
    message: Message
    request: Message | None = None


_What: TypeAlias = RoleSpan | _Arrived | _Left
_TOLD: Final = frozenset({"RequestVote", "RequestVoteReply", "AppendEntries", "AppendEntriesReply"})


def _events(run: Run) -> Iterator[tuple[int, NodeName, _What]]:
    for node in run.nodes:
        for span in node.roles:
            if span.entry is not None:
                yield span.entry, node.name, span
    for message in run.messages:
        if message.kind not in _TOLD:
            continue
        request = None if message.request is None else run.messages[message.request]
        if message.sent_entry is not None and message.sender is not None:
            yield message.sent_entry, message.sender, _Left(message, request)
        if message.received_entry is not None and message.receiver is not None:
            yield message.received_entry, message.receiver, _Arrived(message, request)


@final
@attrs.define
class _Mind:
    """What one node knows, as far as its lines tell."""

    name: NodeName
    term: int = 0
    vote: str | None = None
    leader: str | None = None
    votes: list[NodeName] = attrs.Factory(list)
    log: LogEnd | None = None

    def known(self) -> tuple[int | str | None, ...]:
        """In the order of `STATE_FIELDS`."""
        index, term = (None, None) if self.log is None else (self.log.index, self.log.term)
        return self.vote, self.leader, ", ".join(self.votes), index, term

    def hear(self, what: _What) -> None:
        """The next thing that it says."""
        match what:
            case RoleSpan():
                self._take_role(what)
            case _Left(message=message):
                self._send(message, what.request)
            case _Arrived(message=message):
                self._receive(message)

    def _take_role(self, span: RoleSpan) -> None:
        if span.term > self.term:
            self.vote = self.leader = NOBODY
        self.term = max(self.term, span.term)
        if span.log_end is not None:
            self.log = span.log_end
        match span.role:
            case "Candidate":
                self.vote, self.leader, self.votes = self.name, NOBODY, [self.name]
            case "PreCandidate":
                self.leader, self.votes = NOBODY, []
            case "Leader":
                self.leader = self.name
            case _:
                self.votes = []
                if span.role == "Dead" or self.leader == self.name:
                    self.leader = NOBODY

    def _send(self, message: Message, request: Message | None) -> None:
        match message.kind:
            case "RequestVote" if message.log_end is not None:
                self.log = message.log_end
            case "RequestVoteReply" if message.is_positive and request is not None:
                self.vote = request.sender
            case "AppendEntries":
                self.leader = self.name
                self._grow(message.log_end)
            case "AppendEntriesReply" if message.is_positive and request is not None:
                self._accept(request)
            case _:
                pass

    def _receive(self, message: Message) -> None:
        match message.kind:
            case "RequestVote" if message.receiver_vote is not None:
                self.vote = message.receiver_vote
            case "RequestVoteReply" if message.is_positive and message.term == self.term:
                voter = message.sender
                if self.vote == self.name and voter is not None and voter not in self.votes:
                    self.votes.append(voter)
            case "AppendEntries" if message.term is not None and message.term >= self.term:
                self.term = message.term
                self.leader = message.sender
            case _:
                pass

    def _grow(self, end: LogEnd | None) -> None:
        if end is not None and (self.log is None or end.index > self.log.index):
            self.log = end

    def _accept(self, request: Message) -> None:
        """An older message of the same leader takes nothing away; entries of a later term do."""
        end = request.log_end
        if end is None:
            return
        if request.entries_count and self.log is not None and end.term > self.log.term:
            self.log = end
        else:
            self._grow(end)
