"""Leading: what a node does because it leads; what it knows for that is in `Leadership`.

Rules of this file:

* A leader begins its term with an entry of its own, and commits earlier ones through it (paper,
  sections 5.4.2 and 8).
* A leader that no quorum answers, or whose disk does not, steps down (dissertation 6.2; hazard
  L7): it cannot commit, and would keep others from it.
"""

from __future__ import annotations

from typing import Final

from . import messages, reasons
from .changing import Changing
from .errors import BadMessage, NotLeader, ProposalDropped
from .leadership import Leadership
from .progress import Progress
from .reading import Reading
from .ready import ChunkRequest
from .reasons import Reason
from .types import Entry, EntryKind, LogIndex, NodeId, Role

NEVER_DUE: Final = float("inf")


class Leading(Changing, Reading):
    """The leader's side of replication."""

    def _become_leader(self, reason: Reason) -> None:
        previous = self._enter(Role.LEADER)
        self.leader_id = self.node_id
        self._campaign = None
        self._haste = 0
        leadership = self._leadership = Leadership.begin(
            self.node_id,
            self.term,
            self.configuration,
            self.log,
            self.timing,
            self.limits,
            quorum_timeout_s=self._timer.timeout_s / self._timer.factor,
            now=self._now,
        )
        if self._timer.narrow():
            self._trace_widened()
        self._trace_role(previous, reason)
        self._watch_leadership(leadership)
        self._append_first_entry(leadership)

    def _append_first_entry(self, leadership: Leadership) -> None:
        """The cluster's very first leader begins with the bootstrap configuration: from then on
        it stands in the log, and nodes that are opened with other voters do no harm."""
        index = self.log.last_index + 1
        if self.configuration.index == 0:
            self._append_configuration(leadership, self.configuration)
        else:
            self.log.append_one(Entry(index, self.term, b"", EntryKind.NOOP))

    def propose(self, data: bytes, now: float) -> LogIndex:
        """Append a command to the leader's log; it leaves with the next `ready`.

        Raises:
            NotLeader: this node does not lead; the command was not taken.
            ProposalDropped: leadership is being handed over; the command was not taken.
        """
        if self._leadership is None:
            raise NotLeader(self.leader_id)
        if self._leadership.transfer is not None:
            raise ProposalDropped(
                f"leadership is being handed over to {self._leadership.transfer.target!r}: the "
                "command was not taken; propose it there, or here in a moment"
            )
        self._now = max(self._now, now)  # the caller may look at its clock once for a batch
        index = self.log.last_index + 1
        self.log.append_one(Entry(index, self.term, data))
        return index

    def on_heartbeat_due(self, now: float) -> None:
        """The heartbeat deadline was reached: be heard. Calling it early does nothing."""
        if self._leadership is None or now < self._leadership.next_heartbeat_s:
            return
        self._now = now
        for message in self._leadership.heartbeats(now):
            self._send(message)
        if self._has_committed_own_term():
            self._leadership.reads.begin_round(self._leadership.round, self.log.commit_index)
        if self._leadership.transfer is not None:
            self._leadership.transfer.was_asked = False
            self._advance_transfer(self._leadership)

    def _watch_leadership(self, leadership: Leadership) -> None:
        """Step down if that is due; otherwise look again when it may be."""
        self._timer.stop()
        self._maybe_give_up_transfer(leadership)
        if leadership.transfer is not None:
            self._timer.hurry_to(leadership.transfer.deadline_s)
        if not self.timing.check_quorum:
            return
        patience_s = leadership.quorum_timeout_s
        quorum_deadline = leadership.quorum_deadline(self.configuration, self._now)
        waits_since_s = self._out.oldest_write_s
        disk_deadline = NEVER_DUE
        if waits_since_s is not None and self._other_voters():  # somebody else could lead
            disk_deadline = waits_since_s + patience_s
        if quorum_deadline <= self._now:
            silent_s = self._now - quorum_deadline + patience_s
            self._become_follower(self.term, None, reasons.QuorumLost(silent_s))
        elif disk_deadline <= self._now:
            stalled = reasons.DiskStalled(self._now - disk_deadline + patience_s)
            self._resign(leadership, stalled)
        else:
            self._timer.hurry_to(min(quorum_deadline, disk_deadline))

    # -- entries ---------------------------------------------------------------------------

    def _on_append_reply(self, reply: messages.AppendEntriesReply) -> None:
        leadership = self._leadership
        if leadership is None or reply.term < self.term or reply.sender not in leadership.progress:
            self._note_stale(reply)
            return
        if reply.match_index > self.log.last_index:
            raise BadMessage(
                f"{reply.sender!r} acknowledges entry {reply.match_index}, but the log of its "
                f"leader ends at {self.log.last_index}"
            )
        leadership.on_answered(reply, self._now)
        if leadership.reads.await_confirmation or self.timing.lease_s is not None:
            self._confirm_reads(leadership)
        if not reply.success:
            leadership.on_failure(reply)
        elif leadership.on_success(reply):
            self._on_matched(leadership, reply.sender)
        elif leadership.change is not None:
            self._on_joining_heard(leadership, reply.sender)

    def _on_matched(self, leadership: Leadership, peer: NodeId) -> None:
        """A follower holds more than before."""
        self._maybe_commit(leadership)
        if self._leadership is not leadership:
            return  # that commit took this node out of the cluster
        if leadership.change is not None:
            self._on_joining_heard(leadership, peer)
        self._advance_transfer(leadership)

    def _maybe_commit(self, leadership: Leadership) -> None:
        index = leadership.committable(self.configuration)
        if index is not None:
            self._commit_to(index)
            self._after_commit(leadership)

    # -- snapshots -------------------------------------------------------------------------

    def send_chunk(self, request: ChunkRequest, data: bytes, now: float) -> None:
        """The content that `Ready.chunk_requests` asked for; stale requests are dropped."""
        self._now = now
        progress = self._asked_for(request)
        if progress is not None:
            message = messages.InstallSnapshot(
                self.node_id, request.receiver, self.term, request.meta, request.offset, data
            )
            self._send(message)

    def on_snapshot_gone(self, request: ChunkRequest) -> None:
        """The snapshot that was asked for was replaced by a newer one: start over with that."""
        progress = self._asked_for(request)
        if progress is not None and self.snapshot is not None:
            progress.on_behind(self.snapshot)

    def _asked_for(self, request: ChunkRequest) -> Progress | None:
        if self._leadership is None:
            return None
        progress = self._leadership.progress.get(request.receiver)
        if progress is None or progress.snapshot != request.meta:
            return None
        return progress if progress.snapshot_offset == request.offset else None

    def _on_chunk_reply(self, reply: messages.InstallSnapshotReply) -> None:
        leadership = self._leadership
        if leadership is None or reply.term < self.term or reply.sender not in leadership.progress:
            return
        if reply.meta.index > self.log.last_index:
            raise BadMessage(
                f"{reply.sender!r} answers about a snapshot of entry {reply.meta.index}, but the "
                f"log of its leader ends at {self.log.last_index}"
            )
        if not 0 <= reply.next_offset <= reply.meta.size_bytes:
            raise BadMessage(
                f"{reply.sender!r} wants {reply.next_offset} of a snapshot of "
                f"{reply.meta.size_bytes} bytes"
            )
        leadership.on_contact(reply.sender, self._now)
        if leadership.on_chunk_stored(reply):
            self._on_matched(leadership, reply.sender)
