"""Temporary directories that were made and not removed.

Rules of this file: a directory is known by its path, heard of by `tempfile`'s audit event.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any, final

from .probe import Left, Maker, Owner, Owners, Ownership
from .report import Leak, LeakKind
from .taps import Audit


@final
class DirectoryProbe:
    """Which temporary directories were made."""

    def __init__(self, ownership: Ownership) -> None:
        self._ownership = ownership
        self._made: dict[str, Maker] = {}

    def taps(self) -> Iterable[Audit]:
        """`tempfile.mkdtemp`, which `TemporaryDirectory` calls too."""
        yield Audit("tempfile.mkdtemp", self._hear)

    def note(self, owner: Owner) -> None:
        """Nothing: what was made before was not listened to."""

    def forget(self, owners: Owners) -> None:
        """See `Probe`."""
        self._made = {path: made for path, made in self._made.items() if made.owner not in owners}

    def prune(self) -> None:
        """See `Probe`."""
        self._made = {path: made for path, made in self._made.items() if os.path.isdir(path)}

    def _hear(self, args: tuple[Any, ...]) -> None:
        path = os.fsdecode(args[0])
        self._made[path] = self._ownership.maker(1)

    def left(self, owners: Owners) -> list[Left]:
        """Directories of these owners that are there."""
        found = []
        for path, made in tuple(self._made.items()):
            if made.owner in owners and path != _multiprocessings() and os.path.isdir(path):
                leak = Leak(
                    LeakKind.TEMPORARY_DIRECTORY,
                    path,
                    made.origin.text,
                    detail="never removed",
                    through=made.origin.through_text,
                )
                found.append(Left(leak, ("directory", path)))
        return found


def _multiprocessings() -> str | None:
    """The directory that multiprocessing keeps for the whole process, once it has one."""
    module = sys.modules.get("multiprocessing.process")
    if module is None:
        return None
    found: str | None = module.current_process()._config.get("tempdir")
    return found
