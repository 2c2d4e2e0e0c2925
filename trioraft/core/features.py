"""Features: what all members of a cluster begin to do at one entry of the log, or none of them.

Rules of this file (docs/upgrading.md):

* A feature is on from the configuration on that names it, and off before: a function of the log
  alone, so that every replica does the same with every entry. A truncated configuration takes its
  features with it; a snapshot carries its own.
* It is switched on once every member has said that it can, and never off again.
* What an earlier release must not take for something that it knows is of a kind of entry that it
  refuses: a configuration with features (`EntryKind.CONFIGURATION_WITH_FEATURES`), and whatever the
  feature writes.
* A name is never used for something else, and never leaves `FEATURES` as long as a log may have it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Mapping
from typing import Final

from .errors import ConfigError, EntryAltered
from .types import Configuration, Entry, EntryKind, LogIndex, Term

ENTRY_CHECKSUMS: Final = "entry-checksums"

FEATURES: Final[Mapping[str, str]] = {
    ENTRY_CHECKSUMS: "commands carry a checksum from the leader to where they are applied, which "
    "every member checks: memory, a network card or a disk that alters one is noticed before it "
    "is applied",
}
"""What this release can do, by name, and what each is good for."""

_CHECKED: Final = int(EntryKind.CHECKED_COMMAND)  # comparing with an enum costs more
_COMMAND: Final = int(EntryKind.COMMAND)
_HEAD: Final = struct.Struct(">I")
_INDEX: Final = struct.Struct(">Q")


def lacking(needed: Collection[str], offered: Collection[str]) -> tuple[str, ...]:
    """Which of these features somebody who offers those does not know, in their order."""
    return tuple(name for name in needed if name not in offered)


def check_names(names: Collection[str], offered: Collection[str]) -> None:
    """Check that features are some that a node can do.

    Raises:
        ConfigError: one is not.
    """
    unknown = lacking(names, offered)
    if unknown or not names:
        can = ", ".join(offered) or "none"
        what = f"{', '.join(unknown)} is no feature" if unknown else "no feature was named, out"
        raise ConfigError(f"{what} of those that this node can do: {can}")


def check_can_go_on(configuration: Configuration, offered: Collection[str], node_id: str) -> None:
    """Check that a node can take part in what its log has switched on.

    Raises:
        ConfigError: it cannot.
    """
    missing = lacking(configuration.features, offered)
    if missing:
        raise ConfigError(
            f"the log of node {node_id!r} has switched on {', '.join(missing)} (entry "
            f"{configuration.index}), which this trioraft cannot do: a release that can has to run "
            "here. There is no way back behind that entry (docs/upgrading.md)"
        )


# -- entry-checksums ---------------------------------------------------------------------------


def _checksum(index: LogIndex, data: bytes | memoryview) -> int:
    """Of the command and of its place: not of its term, which a recovery by force may change."""
    return zlib.crc32(data, zlib.crc32(_INDEX.pack(index)))


def checked_command(index: LogIndex, term: Term, data: bytes) -> Entry:
    """The entry for a command that carries its checksum."""
    return Entry(index, term, _HEAD.pack(_checksum(index, data)) + data, _CHECKED)


def is_intact(entry: Entry) -> bool:
    """Whether an entry that carries a checksum is what its leader made."""
    data = memoryview(entry.data)
    if len(data) < _HEAD.size:
        return False
    (told,) = _HEAD.unpack_from(data)
    return bool(told == _checksum(entry.index, data[_HEAD.size :]))


def check_intact(entry: Entry) -> None:
    """Check an entry of this node's own log.

    Raises:
        EntryAltered: its command is not what the leader took.
    """
    if entry.kind == _CHECKED and not is_intact(entry):
        raise EntryAltered(entry.index, entry.term)


def command_of(entry: Entry) -> bytes | None:
    """The command in an entry, without whatever it carries besides; None: it has none."""
    if entry.kind == _COMMAND:
        return entry.data
    return entry.data[_HEAD.size :] if entry.kind == _CHECKED else None
