"""OnDisk: the log and the snapshots of one node, once they are open, whoever else writes beside it.

Rules of this file:

* The log and the snapshots are used from two threads at a time. They share no connection: a
  snapshot is a file and describes itself.
* A snapshot that was received becomes the log's base in one transaction, and gets its name after
  that; a crash in between is made good at the next opening.
* Nothing is acknowledged that is not in the directory: it is looked at after each write, and
  before anything is forgotten (hazard D7).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import attrs

from ..core.errors import CorruptStorage
from ..core.types import (
    Configuration,
    Entry,
    HardState,
    LogIndex,
    Recovered,
    SnapshotMeta,
    Term,
)
from . import refusals
from .directory import KEEP_AND_REPLACE
from .formats import OLDEST, needed_by
from .health import Health
from .log_database import Base, LoadedLog
from .received_snapshot import ReceivedSnapshot
from .snapshot_files import SnapshotFiles


class Log(Protocol):
    """The log of one node. One call at a time; the calls may come from different threads."""

    @property
    def base(self) -> Base:
        """Where it begins."""

    @property
    def last_index(self) -> LogIndex:
        """Index of the last entry."""

    @property
    def notices(self) -> tuple[str, ...]:
        """What a tool did, and no node has said yet."""

    def append(
        self,
        hard_state: HardState | None,
        entries: Sequence[Entry],
        replace_from: LogIndex | None,
        identity: bytes | None = None,
        *,
        notices: tuple[str, ...] | None = None,
    ) -> None:
        """See `Storage.append`; `notices`: what the next opening shall say; None: as before."""

    def compact(
        self,
        base_index: LogIndex,
        base_term: Term,
        identity: bytes | None = None,
        needed: int = OLDEST,
    ) -> None:
        """Move the base. The snapshot that stands for what is before it may need a later format."""

    def start_over(
        self,
        base_index: LogIndex,
        base_term: Term,
        identity: bytes | None = None,
        needed: int = OLDEST,
    ) -> None:
        """Empty the log; it goes on after a base that it never held. As `compact`."""

    def term_at(self, index: LogIndex) -> Term | None:
        """Term of the entry at `index`; None if it is not in the log.

        Raises:
            CorruptStorage: its record is not what was written.
        """


@attrs.define
class Opened:
    """What there is between `open` and `close`."""

    health: Health
    log: Log
    snapshots: SnapshotFiles
    received: ReceivedSnapshot

    def note(self) -> None:
        """Write down that something was written; see `Directory.note`.

        Raises:
            StorageError: the disk failed.
        """
        raise NotImplementedError

    def check(self) -> None:
        """See `Directory.check`."""
        raise NotImplementedError

    def before_append(self) -> None:
        """See `Directory.check_before_write`."""
        raise NotImplementedError

    def after_append(self) -> None:
        """As `note`, and then `check`."""
        raise NotImplementedError


class OnDisk:
    """What storages on a disk have in common. All methods are as `Storage` has them."""

    blocking = True

    def _use(self) -> Opened:
        """What is open.

        Raises:
            StorageError: nothing is, or it failed.
        """
        raise NotImplementedError

    # -- the log ---------------------------------------------------------------------------

    def append(
        self,
        hard_state: HardState | None,
        entries: Sequence[Entry],
        replace_from: LogIndex | None,
        identity: bytes | None = None,
    ) -> None:
        """Store atomically and durably; see `Storage.append`. One transaction, one fsync."""
        # Whoever writes has had its chance to say what a tool did to this log. (Each opening writes
        # the identity before it says anything.)
        is_of_the_log = hard_state is not None or replace_from is not None
        notices = () if is_of_the_log and self._use().log.notices else None
        self._append(hard_state, entries, replace_from, identity, notices)

    def _append(
        self,
        hard_state: HardState | None,
        entries: Sequence[Entry],
        replace_from: LogIndex | None,
        identity: bytes | None,
        notices: tuple[str, ...] | None,
    ) -> None:
        opened = self._use()
        log = opened.log
        refusals.check_append(
            entries, replace_from, log.base.index, log.last_index, opened.snapshots.newest_index
        )
        opened.before_append()
        log.append(hard_state, entries, replace_from, identity, notices=notices)
        opened.after_append()

    def append_with_notice(
        self,
        hard_state: HardState,
        entries: Sequence[Entry],
        replace_from: LogIndex,
        notice: str,
        identity: bytes | None = None,
    ) -> None:
        """For a tool that changes a stopped node's log: as `append`, and in the same transaction
        a sentence that is among the `notices` of the next opening, until a node writes.

        Args:
            hard_state: as for `append`, but never None.
            entries: as for `append`.
            replace_from: as for `append`, but never None.
            notice: the sentence.
            identity: as for `append`.

        Raises:
            As `append`.
        """
        notices = (*self._use().log.notices, notice)
        self._append(hard_state, entries, replace_from, identity, notices)

    def compact(self, base_index: LogIndex, base_term: Term) -> None:
        """Forget entries up to `base_index`; see `Storage.compact`.

        The room is used again; the database file does not shrink. Long logs are removed in
        slices, some now and some with later appends, so that this takes milliseconds.
        """
        opened = self._use()
        log = opened.log
        if base_index <= log.base.index:
            return
        opened.check()
        opened.snapshots.check_newest()
        newest, term = opened.snapshots.newest_index(), log.term_at(base_index)
        refusals.check_compaction(base_index, base_term, term, newest)
        log.compact(base_index, base_term)
        opened.note()
        opened.snapshots.prune()

    # -- snapshots -------------------------------------------------------------------------

    def write_snapshot(
        self,
        index: LogIndex,
        term: Term,
        configuration: Configuration,
        chunks: Iterable[bytes],
    ) -> SnapshotMeta:
        """Store a snapshot of this node; see `Storage.write_snapshot`."""
        opened = self._use()
        refusals.check_snapshot(index, opened.log.last_index)
        opened.check()
        meta = opened.snapshots.write(index, term, configuration, chunks)
        opened.check()
        return meta

    def read_snapshot(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """The content in chunks; see `Storage.read_snapshot`."""
        return self._use().snapshots.read(meta)

    def read_chunk(self, meta: SnapshotMeta, offset: int, bytes_max: int) -> bytes:
        """Part of a snapshot; see `Storage.read_chunk`."""
        return self._use().snapshots.read_chunk(meta, offset, bytes_max)

    def receive_chunk(self, meta: SnapshotMeta, offset: int, data: bytes) -> int:
        """Keep part of a snapshot that is sent to us; see `Storage.receive_chunk`."""
        opened = self._use()
        opened.check()
        return opened.received.receive(meta, offset, data)

    def install_snapshot(self, meta: SnapshotMeta, identity: bytes | None = None) -> None:
        """Make a received snapshot the newest; see `Storage.install_snapshot`."""
        opened = self._use()
        log = opened.log
        refusals.check_installable(meta, log.base.index)
        opened.check()
        path = opened.received.complete(meta)
        needed = needed_by(meta.configuration)
        with opened.snapshots.adopting(path, meta):
            if log.term_at(meta.index) == meta.term:
                log.compact(meta.index, meta.term, identity, needed)
            else:
                log.start_over(meta.index, meta.term, identity, needed)
            opened.note()
        opened.received.was_adopted()
        opened.check()


def recovered_of(loaded: LoadedLog, snapshot: SnapshotMeta | None) -> Recovered:
    """What a node gets that opens this."""
    return Recovered(
        loaded.hard_state,
        tuple(loaded.entries),
        Configuration(()) if snapshot is None else snapshot.configuration,
        loaded.base.index,
        loaded.base.term,
        snapshot,
        loaded.identity,
    )


def match_snapshot(
    loaded: LoadedLog, snapshots: SnapshotFiles, received: ReceivedSnapshot
) -> tuple[SnapshotMeta | None, bool, tuple[str, ...]]:
    """Which snapshot goes with the log (hazard S3).

    Returns:
        The newest that can be read; whether it is a received one that has still to get its name;
        what is wrong with newer ones.

    Raises:
        CorruptStorage: none goes with the log.
    """
    usable, problems = snapshots.find()
    complete = received.find()
    newest = usable[0] if usable else None
    base = loaded.base
    if newest is None or newest.index < base.index:
        if base.index == 0:
            return None, False, tuple(problems)
        if complete is not None and (complete.index, complete.term) == (base.index, base.term):
            return complete, True, tuple(problems)
        here = "there is none" if newest is None else f"the newest reaches entry {newest.index}"
        raise CorruptStorage(
            f"{snapshots.directory}: the log begins after entry {base.index} (term {base.term}) "
            f"and needs a snapshot up to there, but {here} that can be read"
            f"{''.join(f'; {problem}' for problem in problems)}. {KEEP_AND_REPLACE}"
        )
    if newest.index > loaded.last_index or loaded.term_at(newest.index) != newest.term:
        raise CorruptStorage(
            f"{snapshots.directory}: the newest snapshot is of entries up to {newest.index} (term "
            f"{newest.term}), but the log goes from {base.index} (term {base.term}) to "
            f"{loaded.last_index} and does not hold that entry: they are not of the same time. "
            f"{KEEP_AND_REPLACE}"
        )
    return newest, False, tuple(problems)
