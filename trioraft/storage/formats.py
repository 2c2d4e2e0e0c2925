"""Formats of a data directory: which there are, and how one becomes the next.

Rules of this file (docs/upgrading.md):

* A directory has the oldest format that holds what is in it: a later release that opens it changes
  nothing, so that an earlier one may open it again. It is migrated in the very transaction that
  first writes what an earlier release must not read.
* Before that the database is copied, and the copy is durable under its own name: a crash leaves the
  old format, with or without a copy, or the new one with it.
* A format that is not known is refused with a sentence, and nothing is changed.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from operator import attrgetter
from pathlib import Path
from typing import Final

from ..core.errors import StorageError
from ..core.types import Configuration, Entry, EntryKind
from .directory import create_private, sync_directory, sync_file

OLDEST: Final = 2
"""What a new directory has: format 1 of the promise in docs/upgrading.md. (Number 1 was of before
it; it kept no identity.)"""
WITH_FEATURES: Final = 3
"""There are entries, or snapshots, that only a release with features reads."""
NEWEST: Final = WITH_FEATURES

_LAST_KIND: Final = int(EntryKind.CONFIGURATION)
_kind_of = attrgetter("kind")


def check(database: Path, number: int) -> None:
    """Check that this release reads a directory.

    Raises:
        StorageError: it does not.
    """
    if number > NEWEST:
        raise StorageError(
            f"{database} has format {number}, written by a newer trioraft; this one knows up to "
            f"format {NEWEST}. Start the newer one again: there is no way back once it has "
            "switched something on (docs/upgrading.md). Nothing was changed"
        )
    if number < OLDEST:
        raise StorageError(
            f"{database} has format {number}, written by a trioraft from before the first "
            f"release; this one knows formats {OLDEST} to {NEWEST}. Copy out what you need with "
            "the trioraft that wrote it, then start all nodes of the cluster anew in empty "
            "directories; nothing was changed"
        )


def needed_for(entries: Sequence[Entry]) -> int:
    """The oldest format that holds these entries."""
    last_kind = entries[0].kind if len(entries) == 1 else max(map(_kind_of, entries), default=0)
    return WITH_FEATURES if last_kind > _LAST_KIND else OLDEST


def needed_by(configuration: Configuration) -> int:
    """The oldest format that holds a snapshot with this configuration."""
    return WITH_FEATURES if configuration.features else OLDEST


def copy_of(database: Path, number: int) -> Path:
    """Where the copy of a database of this format stands once it has a later one."""
    return database.with_name(f"{database.name}.format-{number}")


def keep_copy(connection: sqlite3.Connection, database: Path, number: int) -> Path:
    """Copy a database beside itself, as its connection sees it; durable when this returns.

    It is for looking, and for going back with all members at once: alone, a member that was started
    from it would have forgotten what it acknowledged since.

    Raises:
        OSError, sqlite3.Error: there is no room, or the disk failed; the database is as it was.
    """
    target = copy_of(database, number)
    draft = target.with_name(f"{target.name}.new")
    os.close(create_private(draft))
    with closing(sqlite3.connect(draft, isolation_level=None)) as copy:
        connection.backup(copy)
    descriptor = os.open(draft, os.O_RDWR)
    try:
        sync_file(descriptor)
    finally:
        os.close(descriptor)
    os.rename(draft, target)
    sync_directory(target.parent)
    return target
