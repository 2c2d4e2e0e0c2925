"""DiskFigures: what a node's data directory takes, as its file system says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, final

import attrs
import trio

from ..storage.snapshot_files import is_snapshot

PATIENCE_S: Final = 1.0
"""How long a file system may take to say so; then it is not told, in seconds."""


@final
@attrs.frozen
class DiskFigures:
    """A data directory at one moment."""

    database_bytes: int
    snapshots_bytes: int
    free_bytes: int
    snapshot_s: float | None
    """When the newest snapshot was stored, in seconds since the epoch."""


def read(directory: Path) -> DiskFigures | None:
    """Look; None: it cannot be read."""
    database_bytes = snapshots_bytes = 0
    newest: tuple[str, float] | None = None
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if not entry.is_file(follow_symlinks=False):
                    continue
                stat = entry.stat(follow_symlinks=False)
                if is_snapshot(entry.name):
                    snapshots_bytes += stat.st_size
                    newest = max(newest or ("", 0.0), (entry.name, stat.st_mtime))
                else:
                    database_bytes += stat.st_size
        space = os.statvfs(directory)
    except OSError:
        return None
    return DiskFigures(
        database_bytes,
        snapshots_bytes,
        space.f_bavail * space.f_frsize,
        None if newest is None else newest[1],
    )


@final
class DiskLook:
    """Looks at a directory without waiting for a file system that hangs."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(1)

    async def look(self, directory: Path | None) -> DiskFigures | None:
        """What is there; None: it cannot be said, or not in time."""
        if directory is None or self._limiter.available_tokens < 1:
            await trio.lowlevel.checkpoint()
            return None
        with trio.move_on_after(PATIENCE_S):
            return await trio.to_thread.run_sync(
                read, directory, abandon_on_cancel=True, limiter=self._limiter
            )
        return None
