"""Following: what a node does with the entries and snapshots of its leader.

Rules of this file:

* Entries are taken only where the logs agree before them (paper, section 5.3); a refusal says
  where they may part.
* An acknowledgement covers what its message covered, and leaves once that is durable (hazards A5,
  A7, D1).
* A snapshot takes the log's place in one step, in the order of all other writes (hazard S1).
"""

from __future__ import annotations

import msgspec

from . import events, messages
from .errors import BadMessage
from .ready import SnapshotChunk
from .state import State
from .types import LogIndex, NodeId, Role, SnapshotMeta, Term


class Following(State):
    """The follower's side of replication."""

    def _hear_leader(self, message: messages.AppendEntries | messages.InstallSnapshot) -> None:
        """The leader of this term speaks (paper, section 5.2)."""
        if self.leader_id not in (None, message.sender):
            raise BadMessage(
                f"{message.sender!r} claims to lead term {message.term}, which "
                f"{self.leader_id!r} leads"
            )
        self.leader_id = message.sender
        self._leader_heard_s = self._now
        self._lost_leader = None
        if self._timer.narrow():
            self._trace_widened()
            self._start_timer()
        else:
            self._timer.restart(self._now)

    # -- entries ---------------------------------------------------------------------------

    def _follow(self, message: messages.AppendEntries) -> None:
        """Paper, figure 2, AppendEntries."""
        if message.term < self.term:
            self._reply_failure(message, conflict=(0, 0))
            return
        self._hear_leader(message)
        if message.prev_log_index < self.log.base_index:
            message = self._after_base(message)
        if self.log.term_at(message.prev_log_index) != message.prev_log_term:
            self._reply_failure(message, conflict=self.log.conflict_hint(message.prev_log_index))
            return
        cut_from = self.log.merge(message.entries)
        if cut_from is not None:
            self._out.clip_writes(cut_from - 1)
        # Hazard A7: only what this message covers is known to be the leader's.
        covered = message.prev_log_index + len(message.entries)
        self._commit_to(min(message.leader_commit, covered))
        self._reply_success(message, covered)

    def _after_base(self, message: messages.AppendEntries) -> messages.AppendEntries:
        """What a snapshot stands for is committed, so it matches: look at the rest only."""
        covered = message.prev_log_index + len(message.entries)
        base = min(self.log.base_index, covered)
        return msgspec.structs.replace(
            message,
            prev_log_index=base,
            prev_log_term=self.log.term_at(base) or 0,
            entries=message.entries[base - message.prev_log_index :],
        )

    def _check_entries(self, message: messages.AppendEntries) -> None:
        """Refuse what no correct leader sends, before anything is changed."""
        index, term = message.prev_log_index, message.prev_log_term
        for entry in message.entries:
            index += 1
            if entry.index != index or not term <= entry.term <= message.term:
                raise BadMessage(
                    f"entry ({entry.index}, term {entry.term}) from {message.sender!r} does not "
                    f"continue ({index - 1}, term {term}) in a message of term {message.term}"
                )
            term = entry.term
        conflict = self.log.first_conflict(message.entries)
        if conflict is not None and conflict <= self.log.commit_index:
            raise BadMessage(
                f"{message.sender!r} would replace entry {conflict}, but everything up to "
                f"{self.log.commit_index} is committed"
            )

    def _reply_success(self, message: messages.AppendEntries, match_index: LogIndex) -> None:
        reply = messages.AppendEntriesReply(
            self.node_id, message.sender, self.term, True, match_index, round=message.round
        )
        if match_index <= self.log.stable_index:
            self._send_once_term_is_durable(reply)
        else:
            self._send_after_persist(reply)

    def _reply_failure(
        self, message: messages.AppendEntries, *, conflict: tuple[LogIndex, Term]
    ) -> None:
        self._send_once_term_is_durable(
            messages.AppendEntriesReply(
                self.node_id,
                message.sender,
                self.term,
                success=False,
                match_index=0,
                rejected_index=message.prev_log_index,
                conflict_index=conflict[0],
                conflict_term=conflict[1],
                round=message.round,
            )
        )

    # -- snapshots -------------------------------------------------------------------------

    def _receive_chunk(self, message: messages.InstallSnapshot) -> None:
        """Paper, figure 13, with a resumable transfer."""
        meta = message.meta
        if message.term < self.term:
            self._reply_chunk(message.sender, meta, next_offset=0)
            return
        if not 0 <= message.offset <= message.offset + len(message.data) <= meta.size_bytes:
            raise BadMessage(
                f"{message.sender!r} sends {len(message.data)} bytes from {message.offset} of a "
                f"snapshot of {meta.size_bytes} bytes"
            )
        self._hear_leader(message)
        if meta.index <= self.log.commit_index:
            self._reply_installed(message.sender, meta)
            return
        chunk = SnapshotChunk(message.sender, meta, message.offset, message.data)
        self._out.chunks.append(chunk)

    def on_chunk_stored(self, chunk: SnapshotChunk, next_offset: int, now: float) -> None:
        """A chunk of `Ready.chunks` was given to the storage, which wants more from
        `next_offset`; all of the snapshot is there if that is its size."""
        if self.role is not Role.FOLLOWER or chunk.sender != self.leader_id:
            return  # its sender leads no more; the transfer may be resumed by whoever does
        self._now = now
        meta = chunk.meta
        if meta.index <= self.log.commit_index:
            self._reply_installed(chunk.sender, meta)
        elif next_offset == meta.size_bytes:
            self._install(meta, chunk.sender)
        else:
            self._reply_chunk(chunk.sender, meta, next_offset)

    def _install(self, meta: SnapshotMeta, sender: NodeId) -> None:
        self.log.restart_from(meta)
        self._out.clip_writes(self.log.stable_index)
        self._out.install = meta
        self._applying_index = meta.index
        self.snapshot = meta
        if self.tracing:
            installed = events.SnapshotInstalled(self._now, meta.index, meta.size_bytes, sender)
            self._out.trace(installed)
        self._reply_installed(sender, meta)

    def _reply_installed(self, sender: NodeId, meta: SnapshotMeta) -> None:
        reply = messages.InstallSnapshotReply(
            self.node_id, sender, self.term, meta, meta.size_bytes, installed=True
        )
        if meta.index <= self.log.stable_index and not self._out.is_installing:
            self._send_once_term_is_durable(reply)
        else:
            self._send_after_persist(reply)

    def _reply_chunk(self, sender: NodeId, meta: SnapshotMeta, next_offset: int) -> None:
        reply = messages.InstallSnapshotReply(self.node_id, sender, self.term, meta, next_offset)
        self._send_once_term_is_durable(reply)
