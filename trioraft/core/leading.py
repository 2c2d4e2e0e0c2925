"""Leading: what a node does because it leads; what it knows for that is in `Leadership`.

Rules of this file:

* A leader begins its term with an entry of its own, and commits earlier ones through it (paper,
  sections 5.4.2 and 8).
* A leader that no quorum answers steps down (dissertation 6.2).
"""

from __future__ import annotations

from . import messages, reasons
from .errors import BadMessage, NotLeader
from .leadership import Leadership
from .progress import Progress
from .ready import ChunkRequest
from .reasons import Reason
from .state import State
from .types import Entry, EntryKind, LogIndex, Role


class Leading(State):
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
        self._check_quorum(leadership)
        noop = Entry(self.log.last_index + 1, self.term, b"", EntryKind.NOOP)
        self.log.append_one(noop)

    def propose(self, data: bytes, now: float) -> LogIndex:
        """Append a command to the leader's log; it leaves with the next `ready`.

        Raises:
            NotLeader: this node does not lead; the command was not taken.
        """
        if self._leadership is None:
            raise NotLeader(self.leader_id)
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

    def _check_quorum(self, leadership: Leadership) -> None:
        """A leader that no quorum answers steps down (dissertation 6.2)."""
        if not self.timing.check_quorum:
            self._timer.stop()
            return
        deadline = leadership.quorum_deadline(self.configuration, self._now)
        if deadline > self._now:
            self._timer.set_deadline(deadline)
            return
        silent_s = self._now - deadline + leadership.quorum_timeout_s
        self._become_follower(self.term, None, reasons.QuorumLost(silent_s))

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
        leadership.on_contact(reply.sender, self._now)
        if not reply.success:
            leadership.on_failure(reply)
        elif leadership.on_success(reply):
            self._maybe_commit(leadership)

    def _maybe_commit(self, leadership: Leadership) -> None:
        index = leadership.committable(self.configuration)
        if index is not None:
            self._commit_to(index)

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
            self._maybe_commit(leadership)
