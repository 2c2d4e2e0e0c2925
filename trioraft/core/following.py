"""Following: what a node does with the entries and snapshots of its leader.

Rules of this file:

* Entries are taken only where the logs agree before them (paper, section 5.3); a refusal says
  where they may part.
* An acknowledgement covers what its message covered, and leaves once that is durable (hazards A5,
  A7, D1).
* A snapshot takes the log's place in one step, in the order of all other writes (hazard S1).
"""

from __future__ import annotations

from typing import Final

import msgspec

from . import events, messages
from .errors import BadMessage
from .membership import configuration_of, problem_with
from .ready import SnapshotChunk
from .state import State
from .types import EntryKind, LogIndex, NodeId, Role, SnapshotMeta, Term

_CONFIGURATION: Final = int(EntryKind.CONFIGURATION)  # comparing with an enum costs more


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
        self._leader_heard_s = self._promised_s = self._now
        self._lost_leader = None
        self._haste = 0
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
        covered = message.prev_log_index + len(message.entries)
        if message.prev_log_index < self.log.base_index:
            message = self._after_base(message)
        if self.log.term_at(message.prev_log_index) != message.prev_log_term:
            self._reply_failure(message, conflict=self.log.conflict_hint(message.prev_log_index))
            return
        cut_from = self.log.merge(message.entries)
        if cut_from is not None:
            self._out.clip_writes(cut_from - 1)
        self._track_configurations(cut_from, message.entries)
        # Hazard A7: only what this message covers is known to be the leader's.
        self._commit_to(min(message.leader_commit, covered))
        self._reply_success(message, covered)

    def _after_base(self, message: messages.AppendEntries) -> messages.AppendEntries:
        """What a snapshot stands for is committed, so it matches: look at the rest only, which
        may be nothing."""
        return msgspec.structs.replace(
            message,
            prev_log_index=self.log.base_index,
            prev_log_term=self.log.base_term,
            entries=message.entries[self.log.base_index - message.prev_log_index :],
        )

    def _check_leader(self, message: messages.AppendEntries | messages.InstallSnapshot) -> None:
        """Refuse what no correct leader of this term or a later one sends."""
        if isinstance(message, messages.AppendEntries):
            self._check_entries(message)
        else:
            self._check_chunk(message)

    def _check_entries(self, message: messages.AppendEntries) -> None:
        index, term = message.prev_log_index, message.prev_log_term
        if index < 0:
            raise BadMessage(f"{message.sender!r} sends entries that follow index {index}")
        for entry in message.entries:
            index += 1
            if entry.index != index or not term <= entry.term <= message.term:
                raise BadMessage(
                    f"entry ({entry.index}, term {entry.term}) from {message.sender!r} does not "
                    f"continue ({index - 1}, term {term}) in a message of term {message.term}"
                )
            term = entry.term
            if entry.kind == _CONFIGURATION:
                configuration_of(entry)
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
        # The base of a snapshot counts as stable before it is installed; a crash takes it back.
        if match_index <= self.log.stable_index and not self._out.is_installing:
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

    def _check_chunk(self, message: messages.InstallSnapshot) -> None:
        meta = message.meta
        if not 0 <= message.offset <= message.offset + len(message.data) <= meta.size_bytes:
            raise BadMessage(
                f"{message.sender!r} sends {len(message.data)} bytes from {message.offset} of a "
                f"snapshot of {meta.size_bytes} bytes"
            )
        if meta.index < 1 or meta.term > message.term:
            raise BadMessage(
                f"{message.sender!r} sends a snapshot of ({meta.index}, term {meta.term}) in a "
                f"message of term {message.term}"
            )
        problem = problem_with(meta.configuration)
        if problem is None and meta.configuration.index > meta.index:
            problem = f"it was made for index {meta.configuration.index}"
        if problem is not None:
            raise BadMessage(
                f"{message.sender!r} sends a snapshot of entry {meta.index} with a wrong "
                f"configuration: {problem}"
            )

    def _receive_chunk(self, message: messages.InstallSnapshot) -> None:
        """Paper, figure 13, with a resumable transfer.

        One chunk at a time, and none while a snapshot waits to be installed: the storage holds
        one that was received, and a new transfer would throw it away. The leader asks again.
        """
        meta = message.meta
        if message.term < self.term:
            self._reply_chunk(message.sender, meta, next_offset=0)
            return
        self._hear_leader(message)
        if meta.index <= self.log.commit_index:
            self._reply_installed(message.sender, meta)
            return
        if self._chunk_under_way or self._out.is_installing:
            return
        self._chunk_under_way = True
        chunk = SnapshotChunk(message.sender, meta, message.offset, message.data)
        self._out.chunks.append(chunk)

    def on_chunk_stored(self, chunk: SnapshotChunk, next_offset: int, now: float) -> None:
        """A chunk of `Ready.chunks` was given to the storage, which wants more from
        `next_offset`; all of the snapshot is there if that is its size."""
        self._chunk_under_way = False
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
        was_member = self.node_id in self.configuration.members
        keeps_rest = self.log.restart_from(meta)
        self._membership.on_installed(meta.configuration, meta.index, keeps_rest=keeps_rest)
        if self._membership.current != self.configuration:
            self._configuration_changed()
        self._out.clip_writes(self.log.stable_index)
        self._out.install = meta
        self._applying_index = meta.index
        self.snapshot = meta
        if self.tracing:
            installed = events.SnapshotInstalled(self._now, meta.index, meta.size_bytes, sender)
            self._out.trace(installed)
        self._reply_installed(sender, meta)
        if was_member and self.node_id not in self.configuration.members:
            self._note_removed(self.configuration.index)

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
