"""Disks that are trusted too early or too far.

Rules of this file: each breaks one rule about what is durable and leaves the rest alone.
"""

from __future__ import annotations

import zlib

import attrs

from trioraft.core.outbox import Outbox
from trioraft.core.raft import Raft
from trioraft.core.ready import Ready
from trioraft.core.types import HardState, LogIndex, Term
from trioraft.sim.disk import _HEAD_BYTES, Disk, _Appended, _decode, _Identified, _is_torn, _Log
from trioraft.sim.process import Process

from .bug import broken_core, broken_disk, patched


class PromisesTooSoon(Raft):
    """Hazard D1: what waits for the disk leaves at once."""

    def ready(self) -> Ready | None:
        ready = super().ready()
        if ready is None or not ready.messages_after_persist:
            return ready
        everything = ready.messages + ready.messages_after_persist
        return attrs.evolve(ready, messages=everything, messages_after_persist=())


def vouches_for_what_was_cut(outbox: Outbox, last_index: LogIndex) -> None:
    """Hazard D2: a write that is under way still counts for entries that were cut meanwhile."""


class BringsBackWhatWasCut(Disk):
    """Hazard D3: when a journal is replayed, entries that were cut are there again."""

    def _replay(self) -> _Log:
        log = super()._replay()
        seen = {entry.index: entry for entry in log.entries}
        for frame in self._journal:
            payload = frame[2 * _HEAD_BYTES :]
            crc = int.from_bytes(frame[_HEAD_BYTES : 2 * _HEAD_BYTES], "big")
            if _is_torn(frame) or zlib.crc32(payload) != crc:
                continue
            record = _decode(payload)
            if isinstance(record, _Identified):
                record = record.record
            if isinstance(record, _Appended):
                for entry in record.entries:
                    seen.setdefault(entry.index, entry)
        while (entry_behind := seen.get(log.last_index + 1)) is not None:
            log.entries.append(entry_behind)
        return log


class ForgetsItsTermWhenItCompacts(Disk):
    """Hazard D3: the record that replaces a journal has the entries, and not the vote."""

    def compact(self, base_index: LogIndex, base_term: Term) -> None:
        before = self._log.hard_state
        self._log.hard_state = HardState(before.term)
        super().compact(base_index, base_term)
        self._log.hard_state = before


def goes_on_after_a_failed_sync(process: Process) -> None:
    """Hazard D5: a sync fails, and is believed: the write is not there."""
    process.disk.fails_next = False
    process.disk._under_way = None


BUGS = (
    broken_core("D1", PromisesTooSoon),
    patched("D2", Outbox, "clip_writes", vouches_for_what_was_cut),
    broken_disk("D3", BringsBackWhatWasCut),
    broken_disk("D3", ForgetsItsTermWhenItCompacts),
    patched("D5", Process, "_disk_failed", goes_on_after_a_failed_sync),
)
