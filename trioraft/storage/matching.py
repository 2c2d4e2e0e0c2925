"""Matching: a log and the snapshots beside it must be of one life.

Rules of this file: nothing is changed here; what does not go together is `CorruptStorage`.
"""

from __future__ import annotations

from ..core.errors import CorruptStorage
from ..core.types import Configuration, Recovered, SnapshotMeta
from .directory import KEEP_AND_REJOIN
from .log_loading import LoadedLog
from .received_snapshot import ReceivedSnapshot
from .snapshot_files import SnapshotFiles


def recovered_of(loaded: LoadedLog, snapshot: SnapshotMeta | None) -> Recovered:
    """What a node gets that opens this."""
    return Recovered(
        loaded.hard_state,
        tuple(loaded.entries),
        Configuration(()) if snapshot is None else snapshot.configuration,
        loaded.base.index,
        loaded.base.term,
        snapshot,
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
            f"{''.join(f'; {problem}' for problem in problems)}. {KEEP_AND_REJOIN}"
        )
    if newest.index > loaded.last_index or loaded.term_at(newest.index) != newest.term:
        raise CorruptStorage(
            f"{snapshots.directory}: the newest snapshot is of entries up to {newest.index} (term "
            f"{newest.term}), but the log goes from {base.index} (term {base.term}) to "
            f"{loaded.last_index} and does not hold that entry: they are not of the same time. "
            f"{KEEP_AND_REJOIN}"
        )
    return newest, False, tuple(problems)
