"""Checks: what must hold after every event, over all nodes, disks and clients.

Rules of this file:

* The four properties of the paper's figure 3, and that nothing regresses, are `ClusterInvariants`.
  This file adds what needs to see the disks, the state machines and the clients.
* A check costs what the event changed. It never looks at a whole log.
* What is seen here is seen from outside: no check asks a core whether it is right.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..core.errors import InvariantViolation
from ..core.invariants import ClusterInvariants
from ..core.messages import (
    AppendEntriesReply,
    InstallSnapshotReply,
    Message,
    RequestVote,
    RequestVoteReply,
)
from ..core.raft import Raft
from ..core.types import Configuration, Entry, HardState, LogIndex, NodeId, Term
from .disk import Disk


class Checks(ClusterInvariants):
    """All that is checked while a cluster runs.

    Args:
        disks: of all nodes.
    """

    def __init__(self, disks: Mapping[NodeId, Disk]) -> None:
        super().__init__()
        self.commit_index: LogIndex = 0
        """The highest that any node has ever known to be committed."""
        self._disks = disks
        self._executed: dict[int, LogIndex] = {}
        self._states: dict[LogIndex, int] = {}
        self._promised: dict[NodeId, HardState] = {}
        self._marks: dict[NodeId, tuple[object, ...]] = {}
        self._configurations: dict[NodeId, Configuration] = {}
        self._led: dict[NodeId, tuple[Term, LogIndex]] = {}

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
        if term == raft.term and commit_index > before and log.term_at(commit_index) != term:
            raise InvariantViolation(
                f"{raft.node_id!r} leads term {term} and commits up to entry {commit_index}, which "
                f"is of term {log.term_at(commit_index)} (paper, section 5.4.2; hazard A1)"
            )
        current = raft.configuration
        if self._configurations.get(raft.node_id, current).index == current.index:
            return
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
        return all(
            2 * sum(self._disks[node].holds(index, term) for node in group) > len(group)
            for group in (configuration.voters, configuration.outgoing)
            if group
        )

    def on_sent(self, message: Message) -> None:
        """A message really leaves: what it promises is durable at its sender (hazards V1, D1)."""
        super().on_sent(message)
        match message:
            case AppendEntriesReply() if message.success:
                self._check_holds(message, message.match_index)
            case InstallSnapshotReply() if message.installed:
                self._check_holds(message, message.meta.index)
            case RequestVote():
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
        self._led.pop(node_id, None)
        self._configurations.pop(node_id, None)

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

    def on_apply(self, node_id: NodeId, entry: Entry) -> None:
        """This entry is about to be applied: it is durable there, and committed everywhere."""
        if not self._disks[node_id].holds(entry.index, entry.term):
            raise InvariantViolation(f"{node_id!r} applies {entry}, which is not durable there")
        committed = self.committed.get(entry.index)
        if committed is not None and committed != entry:
            raise InvariantViolation(
                f"{node_id!r} applies {entry}, but {committed} is committed (state-machine safety)"
            )

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

    def on_read(self, node_id: NodeId, index: LogIndex, committed_when_asked: LogIndex) -> None:
        """A read barrier was answered: all that was committed when it was asked is in it."""
        if index < committed_when_asked:
            raise InvariantViolation(
                f"{node_id!r} reads at {index}; when it was asked, {committed_when_asked} was "
                "committed: a stale read"
            )
