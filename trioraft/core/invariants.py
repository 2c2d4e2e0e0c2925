"""What must hold of one node, between two states of it, and across the nodes of a cluster.

Rules of this file:

* Pure: it looks, it never changes what it looks at. What must not be is `InvariantViolation`,
  and the message bears the values.
* A check after every event costs what the event changed, not what the log holds: each check
  remembers how far it has looked.
* The four properties across nodes are those of the paper's figure 3: election safety, log
  matching, leader completeness and state-machine safety.
"""

from __future__ import annotations

import attrs

from .errors import InvariantViolation
from .log import RaftLog
from .messages import Message, RequestVote, RequestVoteReply
from .raft import Raft
from .types import Entry, Incarnation, LogIndex, NodeId, Role, Term


def check_node(raft: Raft) -> None:
    """What must hold of one node after every input.

    Raises:
        InvariantViolation: naming the node, the rule and the values.
    """
    if raft.role is Role.DEAD:
        return
    _check_log(raft)
    _check_role(raft)
    if raft.leadership is not None:
        _check_progress(raft)


def _check_log(raft: Raft) -> None:
    log = raft.log
    # The base may be ahead of what is applied: while a received snapshot is being restored.
    if not max(log.base_index, log.applied_index) <= log.commit_index <= log.last_index:
        _fail(
            raft,
            f"base {log.base_index}, applied {log.applied_index} <= commit {log.commit_index} "
            f"<= last {log.last_index} does not hold",
        )
    if not log.stable_index <= log.handed_index <= log.last_index:
        _fail(
            raft,
            f"stable {log.stable_index} <= handed out {log.handed_index} <= last "
            f"{log.last_index} does not hold",
        )
    if log.applied_index > log.stable_index:
        _fail(raft, f"applied {log.applied_index}, durable only up to {log.stable_index}")
    if log.last_term > raft.term:
        _fail(raft, f"the last entry is of term {log.last_term}, the node in term {raft.term}")


def _check_role(raft: Raft) -> None:
    leads = raft.role is Role.LEADER
    asks = raft.role in (Role.CANDIDATE, Role.PRE_CANDIDATE)
    if leads != (raft.leadership is not None):
        _fail(raft, "a leadership exists exactly while the node leads")
    if raft.role in (Role.LEADER, Role.CANDIDATE) and raft.voted_for != raft.node_id:
        _fail(raft, f"it campaigned, but its vote is {raft.voted_for!r}")
    if leads and raft.leader_id != raft.node_id:
        _fail(raft, f"it leads, and takes {raft.leader_id!r} for the leader")
    if not leads and raft.leader_id == raft.node_id:
        _fail(raft, "it takes itself for the leader and does not lead")
    if asks and raft.leader_id is not None:
        _fail(raft, f"it asks for votes while it knows the leader {raft.leader_id!r} (hazard L4)")
    if raft.deadline is None and (not leads or raft.timing.check_quorum):
        _fail(raft, "no election timer runs")


def _check_progress(raft: Raft) -> None:
    leadership, log = raft.leadership, raft.log
    if leadership is None:
        return
    if leadership.term != raft.term or log.last_term != raft.term:
        _fail(
            raft,
            f"leadership of term {leadership.term}, last entry of term {log.last_term}: a leader "
            "has an entry of its own term",
        )
    for peer, progress in leadership.progress.items():
        if not 0 <= progress.match_index < progress.next_index <= log.last_index + 1:
            _fail(
                raft,
                f"of {peer!r}: 0 <= match {progress.match_index} < next {progress.next_index} "
                f"<= last + 1 = {log.last_index + 1} does not hold",
            )


def _fail(raft: Raft, rule: str) -> None:
    raise InvariantViolation(f"{raft.node_id!r}, {raft.role.value} of term {raft.term}: {rule}")


@attrs.frozen
class NodeFacts:
    """What may only move forwards, as it was at one moment."""

    node_id: NodeId
    term: Term
    voted_for: NodeId | None
    commit_index: LogIndex
    applied_index: LogIndex
    committed_entry: Entry | None
    """The entry at `commit_index`, if it is still in the log."""

    @classmethod
    def of(cls, raft: Raft) -> NodeFacts:
        """The facts of this node now."""
        log = raft.log
        return cls(
            node_id=raft.node_id,
            term=raft.term,
            voted_for=raft.voted_for,
            commit_index=log.commit_index,
            applied_index=log.applied_index,
            committed_entry=_entry_at(log, log.commit_index),
        )


def check_progressed(before: NodeFacts, after: Raft) -> None:
    """What must hold between two states of one node's life (not across a restart).

    Raises:
        InvariantViolation: the term, the commit or the applied index went back, a vote changed
            within its term (hazard V2), or a committed entry is not what it was.
    """
    if after.term < before.term:
        _fail(after, f"the term went back from {before.term}")
    if after.term == before.term and before.voted_for not in (None, after.voted_for):
        _fail(after, f"its vote went from {before.voted_for!r} to {after.voted_for!r}")
    log = after.log
    if log.commit_index < before.commit_index:
        _fail(after, f"commit index went from {before.commit_index} to {log.commit_index}")
    if log.applied_index < before.applied_index:
        _fail(after, f"applied index went from {before.applied_index} to {log.applied_index}")
    entry = _entry_at(log, before.commit_index)
    if before.committed_entry is not None and entry not in (before.committed_entry, None):
        _fail(after, f"committed {before.committed_entry} has become {entry}")


def _entry_at(log: RaftLog, index: LogIndex) -> Entry | None:
    if not log.first_index <= index <= log.last_index:
        return None
    return log.entries(index, index)[0]


@attrs.define
class ClusterInvariants:
    """Figure 3 of the paper, over all nodes and all time. Tell it of every event.

    `observe` a node after each of its inputs; `on_sent` each message that really leaves;
    `on_restart` a node that came back. Entries compacted away were looked at when they came.
    """

    committed: dict[LogIndex, Entry] = attrs.field(factory=dict)
    """The one sequence of committed entries, as far as nodes had them when they committed."""
    leaders: dict[Term, NodeId] = attrs.field(factory=dict)
    """Who has ever led which term."""
    _committed_by: dict[LogIndex, Term] = attrs.field(factory=dict)
    """For each committed entry a term not before the one in which it was committed."""
    _last_committed: LogIndex = 0
    _votes: dict[tuple[NodeId, Incarnation, Term], NodeId] = attrs.field(factory=dict)
    _entries: dict[tuple[LogIndex, Term], tuple[Entry, Term]] = attrs.field(factory=dict)
    """Every entry that ever stood anywhere, and the term of its predecessor."""
    _seen: dict[NodeId, list[Entry]] = attrs.field(factory=dict)
    """Each node's log, as far as it has been compared."""
    _seen_commit: dict[NodeId, LogIndex] = attrs.field(factory=dict)
    _complete_up_to: dict[Term, LogIndex] = attrs.field(factory=dict)
    _facts: dict[NodeId, NodeFacts] = attrs.field(factory=dict)

    def observe(self, raft: Raft) -> None:
        """Check this node after one of its inputs.

        Raises:
            InvariantViolation: by this node alone, or by it together with what others did.
        """
        check_node(raft)
        before = self._facts.get(raft.node_id)
        if before is not None:
            check_progressed(before, raft)
        self._facts[raft.node_id] = NodeFacts.of(raft)
        self._check_log_matching(raft)
        self._check_state_machine_safety(raft)
        if raft.role is Role.LEADER:
            self._check_election_safety(raft)
            self._check_leader_completeness(raft)

    def on_sent(self, message: Message) -> None:
        """A node has one vote a term, whatever it forgets (hazards V1, V2).

        Raises:
            InvariantViolation: a second vote in one term left a node.
        """
        if isinstance(message, RequestVote):
            candidate = message.sender
        elif isinstance(message, RequestVoteReply) and message.vote_granted:
            candidate = message.receiver
        else:
            return
        disk = self.disk_of(message.sender)
        first = self._votes.setdefault((message.sender, disk, message.term), candidate)
        if first != candidate:
            raise InvariantViolation(
                f"{message.sender!r} voted for {first!r} and for {candidate!r} in term "
                f"{message.term}"
            )

    def disk_of(self, node_id: NodeId) -> Incarnation:
        """Which disk this node has now: a vote is one disk's, and an emptied one is another."""
        return 0

    def on_restart(self, node_id: NodeId) -> None:
        """This node begins a new life: what it had not made durable is gone, by right."""
        self._facts.pop(node_id, None)
        self._seen_commit.pop(node_id, None)

    def _check_election_safety(self, raft: Raft) -> None:
        leader = self.leaders.setdefault(raft.term, raft.node_id)
        if leader != raft.node_id:
            _fail(raft, f"{leader!r} has led this very term (election safety)")

    def _check_log_matching(self, raft: Raft) -> None:
        """Equal (index, term) means equal entry and equal predecessor; by induction, equal logs."""
        log, seen = raft.log, self._seen.get(raft.node_id, [])
        if seen and seen[0].index != log.first_index:  # compacted, or restarted from a snapshot
            seen = [entry for entry in seen if entry.index >= log.first_index]
        if seen and seen[0].index != log.first_index:
            seen = []
        self._seen[raft.node_id] = seen
        same = min(len(seen), log.last_index - log.base_index)
        while same and seen[same - 1] != _entry_at(log, log.base_index + same):
            same -= 1
        del seen[same:]
        if log.base_index + same == log.last_index:
            return
        previous_term = seen[-1].term if seen else log.base_term
        for entry in log.entries(log.first_index + same, log.last_index):
            found = (entry, previous_term)
            known = self._entries.setdefault((entry.index, entry.term), found)
            if known != found:
                _fail(raft, f"{found} stands where {known} stood elsewhere (log matching)")
            previous_term = entry.term
            seen.append(entry)

    def _check_state_machine_safety(self, raft: Raft) -> None:
        log = raft.log
        replaced = self.committed.get(log.base_index)
        if replaced is not None and replaced.term != log.base_term:
            _fail(raft, f"a snapshot of term {log.base_term} stands for committed {replaced}")
        first = max(self._seen_commit.get(raft.node_id, 0) + 1, log.first_index)
        if first > log.commit_index:
            return
        for entry in log.entries(first, log.commit_index):
            other = self.committed.setdefault(entry.index, entry)
            if other != entry:
                _fail(raft, f"committed {entry}, elsewhere {other} (state-machine safety)")
            self._committed_by.setdefault(entry.index, raft.term)
        self._seen_commit[raft.node_id] = log.commit_index
        self._last_committed = max(self._last_committed, log.commit_index)

    def _check_leader_completeness(self, raft: Raft) -> None:
        done = max(self._complete_up_to.get(raft.term, 0), raft.log.base_index)
        for index in range(done + 1, self._last_committed + 1):
            entry = self.committed.get(index)
            if entry is not None:
                if self._committed_by[index] >= raft.term:
                    break
                found = _entry_at(raft.log, index)
                if found != entry:
                    _fail(raft, f"it lacks committed {entry}, has {found} (leader completeness)")
            done = index
        self._complete_up_to[raft.term] = done
