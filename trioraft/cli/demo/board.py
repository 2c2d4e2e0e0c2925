"""Board: what is to be seen of the nodes, kept up to date by their typed events.

Nothing here waits, prints or knows how things look; a view reads the board when it likes.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol, final

import attrs
import trio

from ...core import reasons
from ...core.events import ElectionTimerStarted, MessageReceived, MessageSent, RoleChanged
from ...core.messages import AppendEntries, Message, RequestVoteReply
from ...core.types import NodeId, Role, Term
from ...member.status import Status
from ...node.event_stream import NodeEvent

NOTES_MAX = 200
"""Notes that are kept for views; older ones are forgotten."""


class StepState(enum.Enum):
    """Where the story is with a step."""

    AHEAD = "ahead"
    NOW = "now"
    DONE = "done"


@final
@attrs.define(eq=False)
class Step:
    """One step of the story, and in the end one row of the table."""

    name: str
    text: str = ""
    """What a newcomer should know of it while it happens."""
    state: StepState = StepState.AHEAD
    took_s: float | None = None
    """How long it took, in seconds; None if there was nothing to wait for."""
    outcome: str = ""
    """What happened."""

    def finish(self, took_s: float | None, outcome: str) -> None:
        self.state, self.took_s, self.outcome = StepState.DONE, took_s, outcome


@final
@attrs.frozen
class Note:
    """Something that happened, in words."""

    at_s: float
    """When, on Trio's clock."""
    node_id: NodeId | None
    """Who did it; None: the story did."""
    text: str
    role: Role | None = None
    """The role that was taken, if that is what happened."""

    def sentence(self) -> str:
        """Who, and what."""
        return f"== {self.text} ==" if self.node_id is None else f"node {self.node_id} {self.text}"


@final
@attrs.frozen
class WasElected:
    """A leader that all connected nodes follow."""

    leader_id: NodeId
    term: Term
    votes: int


class Shown(Protocol):
    """What the board needs of a node."""

    @property
    def id(self) -> NodeId: ...
    @property
    def status(self) -> Status: ...


@final
@attrs.define(eq=False)
class BoardRow:
    """One node, as far as it is to be seen."""

    node_id: NodeId
    node: Shown | None = None
    """None until it is opened."""
    is_cut: bool = False
    """Whether nothing reaches or leaves it."""
    patience_since_s: float = 0.0
    """When its election timer was started or restarted last, on Trio's clock."""
    heartbeats: int = 0
    """Heartbeats sent since it leads."""
    leader_id: NodeId | None = None
    """Whom it was seen to follow last."""

    @property
    def status(self) -> Status | None:
        """What the node says of itself; None until it is opened."""
        return None if self.node is None else self.node.status


@final
class Board:
    """Everything a view shows. One for each run of the demo.

    Args:
        ids: the nodes, in the order in which they are shown.
        steps: names of the story's steps.
        on_note: called for each note as it is made, in a task of the demo's own.
        on_step: called for each step as it begins, and when there is more to say about it.
    """

    def __init__(
        self,
        ids: Iterable[NodeId],
        steps: Iterable[str],
        *,
        on_note: Callable[[Note], None],
        on_step: Callable[[Step], None],
    ) -> None:
        self.rows: dict[NodeId, BoardRow] = {node_id: BoardRow(node_id) for node_id in ids}
        self.steps: list[Step] = [Step(name) for name in steps]
        self.notes: deque[Note] = deque(maxlen=NOTES_MAX)
        self.role_changes: deque[tuple[NodeId, RoleChanged]] = deque(maxlen=NOTES_MAX)
        self.messages: int = 0
        """Messages sent by all nodes."""
        self.started_s: float = trio.current_time()
        self.is_measuring = False
        """Whether drawing would be measured with what is being measured: views keep still."""
        self.changed: trio.lowlevel.ParkingLot = trio.lowlevel.ParkingLot()
        """Unparked after every event."""
        self._on_note = on_note
        self._on_step = on_step

    # -- what the story does ---------------------------------------------------------------

    def begin(self, name: str, text: str) -> Step:
        """The story is at this step now."""
        step = next(step for step in self.steps if step.name == name)
        step.text, step.state = text, StepState.NOW
        self._on_step(step)
        return step

    def explain(self, step: Step, text: str) -> None:
        """There is more to say about a step."""
        step.text = text
        self._on_step(step)

    def opened(self, node: Shown) -> None:
        """The node is open, and is shown."""
        row = self.rows.setdefault(node.id, BoardRow(node.id))  # a scenario may add nodes
        row.node, row.patience_since_s = node, trio.current_time()

    def say(self, text: str) -> None:
        self._note(trio.current_time(), None, text)

    # -- what the nodes do -----------------------------------------------------------------

    def apply(self, node_id: NodeId, event: NodeEvent) -> None:
        """Take in one event of one node."""
        row = self.rows[node_id]
        match event:
            case MessageSent(message=message):
                self.messages += 1
                self._sent(row, message, event.at_s)
            case MessageReceived(message=AppendEntries()):
                self._heard_leader(row, event)
            case ElectionTimerStarted():
                row.patience_since_s = event.at_s
            case RoleChanged():
                self._role_changed(row, event)
            case _:
                pass
        self.changed.unpark_all()

    def _sent(self, row: BoardRow, message: Message, at_s: float) -> None:
        match message:
            case AppendEntries(entries=()):
                row.heartbeats += 1
            case RequestVoteReply(vote_granted=True):
                self._note(
                    at_s, row.node_id, f"votes for node {message.receiver} in term {message.term}"
                )
            case _:
                pass

    def _heard_leader(self, row: BoardRow, event: MessageReceived) -> None:
        # The event bears the receiver's state before it handled the message.
        message = event.message
        if message.term < event.term:
            return  # from a leader of the past
        row.patience_since_s = event.at_s
        follows_already = message.term == event.term and event.role is Role.FOLLOWER
        if follows_already and row.leader_id != message.sender:
            row.leader_id = message.sender
            text = f"follows node {message.sender} in term {message.term}"
            self._note(event.at_s, row.node_id, text, Role.FOLLOWER)

    def _role_changed(self, row: BoardRow, event: RoleChanged) -> None:
        self.role_changes.append((row.node_id, event))
        heard = event.reason
        row.leader_id = heard.leader_id if isinstance(heard, reasons.LeaderHeard) else None
        row.heartbeats = 0
        if event.role is not event.previous:  # only another term, or another try: the row says it
            self._note(event.at_s, row.node_id, role_sentence(event), event.role)

    def _note(
        self, at_s: float, node_id: NodeId | None, text: str, role: Role | None = None
    ) -> None:
        note = Note(at_s, node_id, text, role)
        self.notes.append(note)
        self._on_note(note)

    # -- what there is to see --------------------------------------------------------------

    @property
    def term(self) -> Term:
        """The highest term any node is in."""
        return max((row.status.term for row in self.rows.values() if row.status), default=0)

    def elected(self) -> WasElected | None:
        """The leader that all connected nodes follow; None if there is no such leader."""
        statuses = [row.status for row in self.rows.values() if not row.is_cut]
        known = [status for status in statuses if status is not None]
        leaders = [status for status in known if status.role is Role.LEADER]
        if len(leaders) != 1:
            return None
        (leader,) = leaders
        agree = all((each.leader_id, each.term) == (leader.node_id, leader.term) for each in known)
        won = leader.last_role_change
        if not agree or not isinstance(won, reasons.ElectionWon):
            return None
        return WasElected(leader.node_id, leader.term, won.votes)

    def first_to_ask(self, *, since_s: float) -> tuple[NodeId, float] | None:
        """Which connected node lost patience first after that moment, and when."""
        for node_id, event in self.role_changes:
            asks = event.role in (Role.PRE_CANDIDATE, Role.CANDIDATE)
            if asks and event.at_s >= since_s and not self.rows[node_id].is_cut:
                return node_id, event.at_s
        return None


def role_sentence(event: RoleChanged) -> str:
    """A change of role in words a newcomer understands."""
    if event.role is Role.FOLLOWER and event.previous is Role.LEADER:
        return f"steps down: {event.reason}"
    match event.role:
        case Role.PRE_CANDIDATE:
            return f"asks whether it could win: {event.reason}"
        case Role.CANDIDATE:
            return f"asks for votes in term {event.term}: {event.reason}"
        case Role.LEADER:
            return f"leads term {event.term}: {event.reason}"
        case Role.FOLLOWER:
            return f"is a follower in term {event.term}: {event.reason}"
        case Role.DEAD:
            return f"is Dead: {event.reason}"
