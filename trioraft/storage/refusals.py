"""What every storage refuses, in the same words; nothing is stored or changed then."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..core.errors import CorruptStorage, SnapshotGone, StorageError
from ..core.types import Entry, LogIndex, SnapshotMeta, Term


def check_append(
    entries: Sequence[Entry],
    replace_from: LogIndex | None,
    base_index: LogIndex,
    last_index: LogIndex,
    newest_snapshot: Callable[[], LogIndex],
) -> None:
    """Refuse entries that do not continue the log, or would replace what a snapshot stands for."""
    if replace_from is None:
        fits = not entries
    else:
        fits = base_index < replace_from <= last_index + 1 and (
            not entries or entries[0].index == entries[-1].index - len(entries) + 1 == replace_from
        )
        if replace_from <= last_index:
            fits = fits and replace_from > newest_snapshot()
    if not fits:
        given = f"{entries[0].index} to {entries[-1].index}" if entries else "none"
        raise StorageError(
            f"entries {given} from {replace_from} do not continue a log that holds "
            f"{base_index + 1} to {last_index}, with snapshots up to {newest_snapshot()}. Nothing "
            "is stored"
        )


def check_compaction(
    base_index: LogIndex, base_term: Term, term: Term | None, newest_snapshot: LogIndex
) -> None:
    """Refuse a base that no snapshot reaches, or whose term is another than that in the log."""
    if base_index > newest_snapshot or term != base_term:
        raise StorageError(
            f"the log cannot be compacted up to entry {base_index} of term {base_term}: the "
            f"newest snapshot reaches {newest_snapshot}, and the term there is {term}. Take a "
            "snapshot first; nothing was changed"
        )


def check_snapshot(index: LogIndex, last_index: LogIndex) -> None:
    """Refuse a snapshot of what is not stored."""
    if not 0 < index <= last_index:
        raise StorageError(
            f"a snapshot of entries up to {index} does not fit a log that ends at {last_index}: "
            "only what is stored can be replaced. Nothing is stored"
        )


def check_installable(meta: SnapshotMeta, base_index: LogIndex) -> None:
    """Refuse a received snapshot that is older than the log's base."""
    if meta.index < base_index:
        raise StorageError(
            f"a snapshot of entries up to {meta.index} would move the log back, which begins "
            f"after entry {base_index}. Nothing was changed"
        )


def incomplete(meta: SnapshotMeta, received_bytes: int) -> StorageError:
    """The error for a snapshot that was not received as a whole."""
    return StorageError(
        f"the snapshot of entries up to {meta.index} is not complete: {received_bytes} of "
        f"{meta.size_bytes} bytes were received. Nothing was installed"
    )


def check_offset(offset: int) -> None:
    """Refuse to read before the beginning."""
    if offset < 0:
        raise StorageError(f"a snapshot has no byte {offset}; give an offset from 0")


def not_as_sent(meta: SnapshotMeta, crc: int) -> CorruptStorage:
    """The error for a received snapshot with another CRC-32; it was thrown away."""
    return CorruptStorage(
        f"the received snapshot of entries up to {meta.index} ({meta.size_bytes} bytes) is not "
        f"what was sent: its CRC-32 is {crc:08x} and should be {meta.checksum:08x}. It was thrown "
        "away; let it be sent again"
    )


def gone(meta: SnapshotMeta) -> SnapshotGone:
    """The error for a snapshot that is not there any more."""
    return SnapshotGone(
        f"the snapshot of entries up to {meta.index} (term {meta.term}, {meta.size_bytes} bytes) "
        "is not stored any more: take the newest one"
    )
