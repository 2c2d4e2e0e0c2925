"""Checks: what must hold after every event, over all nodes, disks and clients.

* The four properties of the paper's figure 3, and that nothing regresses, are `ClusterInvariants`.
  This file adds what needs to see the disks, the state machines and the clients.
* A check costs what the event changed. It never looks at a whole log.
* What is seen here is seen from outside: no check asks a core whether it is right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from functools import lru_cache

from ..core.errors import InvariantViolation
from ..core.features import ENTRY_CHECKSUMS, command_of
from ..core.invariants import ClusterInvariants
from ..core.messages import (
    AppendEntries,
    AppendEntriesReply,
    InstallSnapshotReply,
    Message,
    RequestVote,
    RequestVoteReply,
)
from ..core.progress import Progress
from ..core.raft import Raft
from ..core.reconfiguration import CONFIGURATIONS
from ..core.types import (
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Incarnation,
    LogIndex,
    NodeId,
    Term,
)
from ..member.identity import decode_identity
from ..member.member import Member
from .disk import Disk


def is_majority(configuration: Configuration, counts: Callable[[NodeId], bool]) -> bool:
    """Whether those that count are a majority, of both voters and outgoing ones if there are any.
    Not the core's own function: what is checked must not be what checks it."""
    return all(
        2 * sum(map(counts, group)) > len(group)
        for group in (configuration.voters, configuration.outgoing)
        if group
    )


def incarnation_of(disk: Disk) -> Incarnation:
    """The number of this disk; 0 if none was drawn yet."""
    return 0 if disk.identity is None else _incarnation(disk.identity)


@lru_cache(maxsize=256)  # it is looked at after every event, and hardly ever another
def _incarnation(identity: bytes) -> Incarnation:
    return decode_identity(identity).incarnation


class Checks(ClusterInvariants):
    """All that is checked while a cluster runs.

    Args:
        disks: of all nodes.
    """

    def __init__(self, disks: dict[NodeId, Disk]) -> None:
        super().__init__()
        self.commit_index: LogIndex = 0
        """The highest that any node has ever known to be committed."""
        self._disks = disks
        self._lost_disks: dict[Incarnation, Disk] = {}
        self.able: set[NodeId] = set()
        """Who has lived as a release that can do all features."""
        self._executed: dict[int, LogIndex] = {}
        self._states: dict[LogIndex, int] = {}
        self._settled: dict[int, object] = {}
        self._dropped: set[tuple[LogIndex, Term]] = set()
        self._asked: Counter[bytes] = Counter()
        self._places: dict[bytes, set[LogIndex]] = {}
        self._outcomes: dict[NodeId, list[tuple[tuple[LogIndex, Term], bool]]] = {}
        self._marks: dict[NodeId, tuple[object, ...]] = {}
        self._configurations: dict[NodeId, Configuration] = {}
        self._led: dict[NodeId, tuple[Term, LogIndex]] = {}
        self._placed: dict[NodeId, tuple[LogIndex, Term | None]] = {}
        self._begun: set[Term] = {0}
        self._sent: dict[tuple[NodeId, Term], LogIndex] = {}
        self._matches: dict[NodeId, dict[NodeId, tuple[Progress, LogIndex]]] = {}

    # -- after every input -----------------------------------------------------------------

    def observe(self, raft: Raft) -> None:
        """Check this node, and what it has just committed."""
        log = raft.log
        mark = (
            raft.term,
            raft.voted_for,
            raft.role,
            raft.leader_id,
            log.last_index,
            log.last_term,
            log.commit_index,
            log.base_index,
            log.applied_index,
            log.stable_index,
        )
        is_leader = raft.leadership is not None
        if not is_leader and self._marks.get(raft.node_id) == mark:
            return  # nothing that any of these rules speaks of has changed
        self._marks[raft.node_id] = mark
        super().observe(raft)
        self._check_outcomes(raft)
        self._check_term_has_begun(raft)
        self._check_stable_is_durable(raft)
        self._check_configuration(raft)
        if is_leader:
            self._check_leading(raft)
        if log.commit_index > self.commit_index:
            self._check_commit_is_durable(raft)
            self.commit_index = log.commit_index
        self._configurations[raft.node_id] = raft.configuration

    def _check_leading(self, raft: Raft) -> None:
        """What a leader commits and appends: what is wrong there shows elsewhere, but rarely."""
        log, commit_index = raft.log, raft.log.commit_index
        term, before = self._led.get(raft.node_id, (-1, 0))
        self._led[raft.node_id] = (raft.term, commit_index)
        if term != raft.term:
            self._check_elected(raft)
        self._check_matches(raft)
        if term == raft.term and commit_index > before and log.term_at(commit_index) != term:
            raise InvariantViolation(
                f"{raft.node_id!r} leads term {term} and commits up to entry {commit_index}, which "
                f"is of term {log.term_at(commit_index)} (paper, section 5.4.2; hazard A1)"
            )
        current = raft.configuration
        if self._configurations.get(raft.node_id, current).index == current.index:
            return
        if log.term_at(current.index) != raft.term:
            return  # an earlier leader's, which came in one batch with what made this one lead
        previous = raft.membership.before(current)
        is_first = current.index == log.first_index == 1
        if previous.index > commit_index or not (
            is_first or log.term_at(commit_index) == raft.term
        ):
            raise InvariantViolation(
                f"{raft.node_id!r} leads term {raft.term} and appends {current}, while "
                f"{previous}, or nothing of its own term, is committed only up to {commit_index} "
                "(hazards M1, M4)"
            )

    def _check_matches(self, raft: Raft) -> None:
        """What a follower is known to hold never becomes less within a term (hazard A4), as long as
        it stays a member."""
        leadership = raft.leadership
        if leadership is None:
            return
        known = self._matches.setdefault(raft.node_id, {})
        for peer, progress in leadership.progress.items():
            match_index, seen = progress.match_index, known.get(peer)
            if seen is None or seen[0] is not progress or match_index > seen[1]:
                known[peer] = (progress, match_index)
            elif match_index < seen[1] and not progress.lost_index:
                raise InvariantViolation(
                    f"{raft.node_id!r}, leader of term {raft.term}, knew that {peer!r} holds "
                    f"entries up to {seen[1]}, and now knows of {match_index} (hazard A4)"
                )

    def _check_term_has_begun(self, raft: Raft) -> None:
        """Only a candidate begins a term: whoever merely asks changes nothing (hazard V4)."""
        if raft.voted_for == raft.node_id:
            self._begun.add(raft.term)
        elif raft.term not in self._begun:
            raise InvariantViolation(
                f"{raft.node_id!r} is in term {raft.term}, for which nobody has campaigned "
                "(hazard V4)"
            )

    def _check_elected(self, raft: Raft) -> None:
        """Whoever leads was voted for in this very term, by a majority (hazards V3, V4). The
        configuration may have changed with the same input."""
        now = raft.configuration
        before = self._configurations.get(raft.node_id, now)
        if not (self._has_voted(raft, now) or self._has_voted(raft, before)):
            raise InvariantViolation(
                f"{raft.node_id!r} leads term {raft.term}, but no majority of {now} has voted for "
                "it in that term (hazards V3, V4)"
            )

    def _has_voted(self, raft: Raft, configuration: Configuration) -> bool:
        leader, term, disk_of = raft.node_id, raft.term, configuration.disk_of
        return is_majority(
            configuration,
            lambda node: (
                (node == leader and disk_of(node) == raft.disk)
                or self._votes.get((node, disk_of(node), term)) == leader
            ),
        )

    def _check_stable_is_durable(self, raft: Raft) -> None:
        """What a node takes for durable is on its disk (hazard D2)."""
        log = raft.log
        index = log.stable_index
        term = log.term_at(index)
        if index <= log.base_index or term is None:
            return  # a snapshot stands for it
        if not self._disks[raft.node_id].holds(index, term):
            raise InvariantViolation(
                f"{raft.node_id!r} takes entry {index} of term {term} for durable, and its disk "
                "does not hold it (hazard D2)"
            )

    def _check_configuration(self, raft: Raft) -> None:
        """A node goes by the newest configuration in its log, committed or not (paper, section 6;
        hazards M5, M6)."""
        log, current = raft.log, raft.configuration
        place = (current.index, log.term_at(current.index))
        before = self._placed.get(raft.node_id)
        if before == place:
            return
        self._placed[raft.node_id] = place
        first = max(current.index, log.first_index)
        inside = log.entries(first, log.last_index) if first <= log.last_index else ()
        newest = max((e.index for e in inside if e.kind in CONFIGURATIONS), default=0)
        if newest != current.index and (newest or current.index > log.base_index):
            raise InvariantViolation(
                f"{raft.node_id!r} goes by {current}; the newest configuration in its log of "
                f"{log.first_index}..{log.last_index} stands at {newest} (hazards M5, M6)"
            )
        self._check_features(raft)

    def _check_features(self, raft: Raft) -> None:
        """What is switched on every member could do once, and nothing switches it off."""
        current = raft.configuration
        before = raft.membership.before(current)
        lost = set(before.features) - set(current.features)
        if lost:
            raise InvariantViolation(
                f"{raft.node_id!r} has {sorted(lost)} on by {before}, and off by {current}: what "
                "is on stays on (hazard U3)"
            )
        unable = set(current.members) - self.able
        if unable and set(current.features) - set(before.features):
            raise InvariantViolation(
                f"{raft.node_id!r} has {current.features} on since entry {current.index}, and "
                f"{sorted(unable)}, who are members, never could: it is switched on only when "
                "every member can (hazard U1)"
            )

    def _check_commit_is_durable(self, raft: Raft) -> None:
        """What is committed survives: a majority holds it on its disks (paper, section 5.3). It may
        have been committed first, and the configuration changed with the same input."""
        index = raft.log.commit_index
        term = raft.log.term_at(index)
        before = self._configurations.get(raft.node_id, raft.configuration)
        if term is None or self._is_durable(index, term, raft.configuration):
            return
        if not self._is_durable(index, term, before):
            holders = [node for node, disk in self._disks.items() if disk.holds(index, term)]
            raise InvariantViolation(
                f"{raft.node_id!r}, {raft.role.value} of term {raft.term}, takes entry {index} of "
                f"term {term} for committed, but only {holders} hold it durably; that is no "
                f"majority of {raft.configuration}"
            )

    def _is_durable(self, index: LogIndex, term: Term, configuration: Configuration) -> bool:
        """On the very disks that the configuration names, those that were lost since too."""

        def holds(node: NodeId) -> bool:
            named = configuration.disk_of(node)
            is_here = self.disk_of(node) == named and not self._disks[node].is_older
            disk = self._disks[node] if is_here else self._lost_disks.get(named)
            return disk is not None and disk.holds(index, term)

        return is_majority(configuration, holds)

    def disk_of(self, node_id: NodeId) -> Incarnation:
        """Which disk this node has now."""
        return incarnation_of(self._disks[node_id])

    def on_disk_changed(self, node_id: NodeId, disk: Disk) -> None:
        """This node's disk is another from now on: whoever comes back with it begins anew."""
        lost = self._disks[node_id]
        if not lost.is_older:  # of what an older copy has, nothing counts
            self._lost_disks[incarnation_of(lost)] = lost
        self._disks[node_id] = disk
        self.on_restart(node_id)

    def on_sent(self, message: Message) -> None:
        """A message really leaves: what it promises is durable at its sender (hazards V1, D1)."""
        super().on_sent(message)
        match message:
            case AppendEntries():
                pair, last = (message.receiver, message.term), message.prev_log_index
                self._sent[pair] = max(self._sent.get(pair, 0), last + len(message.entries))
            case AppendEntriesReply() if message.success:
                self._check_holds(message, message.match_index)
                self._check_was_sent(message)
            case InstallSnapshotReply() if message.installed:
                self._check_holds(message, message.meta.index)
            case RequestVote():
                self._begun.add(message.term)
                self._check_voted(message, message.sender)
            case RequestVoteReply() if message.vote_granted:
                self._check_voted(message, message.receiver)
            case _:
                pass

    def _check_holds(self, message: Message, index: LogIndex) -> None:
        disk = self._disks[message.sender]
        term = disk.hard_state.term
        # In a later term its log may have been cut since; then nobody counts the promise.
        if term < message.term or (term == message.term and disk.last_index < index):
            raise InvariantViolation(
                f"{message.sender!r} acknowledges entry {index} in term {message.term}; durable "
                f"are term {term} and entries up to {disk.last_index} (hazard D1)"
            )

    def _check_was_sent(self, reply: AppendEntriesReply) -> None:
        known = self._sent.get((reply.sender, reply.term), 0)
        if reply.match_index > known:
            raise InvariantViolation(
                f"{reply.sender!r} acknowledges entry {reply.match_index} in term {reply.term}, in "
                f"which no message has covered more than {known} (hazard A5)"
            )

    def _check_voted(self, message: Message, candidate: NodeId) -> None:
        saved = self._disks[message.sender].hard_state
        if saved.term < message.term or (
            saved.term == message.term and saved.voted_for != candidate
        ):
            raise InvariantViolation(
                f"{message.sender!r} votes for {candidate!r} in term {message.term}; durable are "
                f"term {saved.term} and a vote for {saved.voted_for!r} (hazard V1)"
            )

    def on_restart(self, node_id: NodeId) -> None:
        """A new life: what was durable is what it begins with."""
        super().on_restart(node_id)
        self._marks.pop(node_id, None)
        self._outcomes.pop(node_id, None)
        self._led.pop(node_id, None)
        self._configurations.pop(node_id, None)
        self._placed.pop(node_id, None)

    def check_recovered(self, raft: Raft, before: HardState, last_index: LogIndex) -> None:
        """A node came back: nothing that was durable is gone.

        Args:
            raft: the node as it starts.
            before: the term and vote that were durable when it went.
            last_index: of the log that was.
        """
        if (raft.term, raft.voted_for) != (before.term, before.voted_for):
            raise InvariantViolation(
                f"{raft.node_id!r} came back with term {raft.term} and a vote for "
                f"{raft.voted_for!r}; durable were {before}"
            )
        if raft.log.last_index != last_index:
            raise InvariantViolation(
                f"{raft.node_id!r} came back with a log that ends at {raft.log.last_index}; "
                f"durable was one that ends at {last_index}"
            )

    # -- state machines and clients --------------------------------------------------------

    def on_apply(self, node_id: NodeId, entry: Entry, on: Collection[str]) -> None:
        """This entry is about to be applied: it is durable there, committed everywhere, and of the
        kind that those features ask for which are on there."""
        is_checked = entry.kind == EntryKind.CHECKED_COMMAND
        if is_checked != (ENTRY_CHECKSUMS in on) and command_of(entry) is not None:
            raise InvariantViolation(
                f"{node_id!r} applies {entry} where {list(on)} is on: a feature is on from its "
                "entry on and off before, on every replica alike (hazard U2)"
            )
        if (entry.index, entry.term) in self._dropped:
            raise InvariantViolation(
                f"{node_id!r} applies {entry}; its proposer was told that it is dropped (hazard X3)"
            )
        if not self._disks[node_id].holds(entry.index, entry.term):
            raise InvariantViolation(f"{node_id!r} applies {entry}, which is not durable there")
        committed = self.committed.get(entry.index)
        if committed is not None and committed != entry:
            raise InvariantViolation(
                f"{node_id!r} applies {entry}, but {committed} is committed (state-machine safety)"
            )

        command = command_of(entry)
        if command is not None and command in self._asked:
            self._places.setdefault(command, set()).add(entry.index)
            self._check_asked(command)

    def on_asked(self, command: bytes) -> None:
        """A node is asked once to propose this, or to have it proposed."""
        self._asked[command] += 1

    def on_not_taken(self, command: bytes | None) -> None:
        """One who asked was told that it certainly is not in the log, and never will be."""
        if command is not None:
            self._asked[command] -= 1
            self._check_asked(command)

    def _check_asked(self, command: bytes) -> None:
        """Without its session too a command stands in the log as often as somebody has asked, at
        most (hazard F1)."""
        places, asked = self._places.get(command, ()), self._asked[command]
        if len(places) > asked:
            raise InvariantViolation(
                f"a command stands at {sorted(places)}; nodes were asked {asked} times for it, "
                "beside those times that it certainly was not taken (hazard F1)"
            )

    def on_failed(self, node_id: NodeId, error: Exception) -> None:
        """A node ended by an error of its own, without a reason (hazards E1, E4)."""
        raise InvariantViolation(f"{node_id!r} ended, and nothing was wrong with it: {error}")

    def on_executed(self, operation: int, index: LogIndex) -> None:
        """A state machine carried out an operation: everywhere at the same place, and once."""
        first = self._executed.setdefault(operation, index)
        if first != index:
            raise InvariantViolation(
                f"operation {operation} is carried out at {index}, and was at {first} before "
                "(exactly once)"
            )

    def on_state(self, node_id: NodeId, index: LogIndex, checksum: int) -> None:
        """A node's state after this entry: the same on all of them."""
        first = self._states.setdefault(index, checksum)
        if first != checksum:
            raise InvariantViolation(
                f"{node_id!r} has another state at {index} than others (state-machine safety)"
            )

    def on_read(
        self,
        node_id: NodeId,
        index: LogIndex | None,
        applied_index: LogIndex,
        committed_when_asked: LogIndex,
    ) -> None:
        """A read barrier was answered: all that was committed when it was asked is applied here."""
        if index is None or not committed_when_asked <= index <= applied_index:
            raise InvariantViolation(
                f"{node_id!r} reads at {index}, with {applied_index} applied; when it was asked, "
                f"{committed_when_asked} was committed: a stale read"
            )

    def on_outcome(
        self, node_id: NodeId, proposal: object, place: tuple[LogIndex, Term], was_applied: bool
    ) -> None:
        """A caller learns that its command was applied, or dropped: once, and it is true (hazards
        X3, X4). What is committed is seen after the event that this is part of."""
        if id(proposal) in self._settled:
            raise InvariantViolation(f"{node_id!r} gives the proposal at {place} two outcomes")
        self._settled[id(proposal)] = proposal
        self._outcomes.setdefault(node_id, []).append((place, was_applied))

    def _check_outcomes(self, raft: Raft) -> None:
        for (index, term), was_applied in self._outcomes.pop(raft.node_id, ()):
            committed = self.committed.get(index)
            if not was_applied:
                self._dropped.add((index, term))
            if was_applied != (committed is not None and committed.term == term):
                raise InvariantViolation(
                    f"{raft.node_id!r} says that the proposal at {index} of term {term} is "
                    f"{'applied' if was_applied else 'dropped'}; committed there is {committed}"
                )

    def check_waiting(self, member: Member, now: float) -> None:
        """Nobody waits for what is applied already, or for what its member cannot commit any more
        (hazard X3)."""
        outcomes = member.outcomes
        for index, by_term in outcomes.deposed.items():
            for term, (_, deadline_s) in by_term.items():
                if index <= member.applies.applied_index or deadline_s <= now:
                    raise InvariantViolation(
                        f"{member.raft.node_id!r} has applied {member.applies.applied_index}, it "
                        f"is {now:.3f} s there, and the proposal at {index} of term {term}, which "
                        f"is waited for until {deadline_s:.3f} s, has no outcome (hazard E3)"
                    )
        waiting = outcomes.waiting
        if not waiting:
            return
        log, oldest = member.raft.log, next(iter(waiting))
        is_late = oldest <= member.applies.applied_index
        if is_late or (member.raft.leader_id is None and max(waiting) > log.commit_index):
            raise InvariantViolation(
                f"{member.raft.node_id!r} ({member.raft.role.value}) has applied "
                f"{member.applies.applied_index} and knows {log.commit_index} to be committed, and "
                f"the proposals at {list(waiting)} have no outcome (hazard X3)"
            )
