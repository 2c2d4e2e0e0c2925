"""CommandLog: the state machine that tests look into.

Rules of this file: it keeps every command and its index, so that a test can compare nodes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

import attrs
import msgspec

from ..core.types import LogIndex


@final
@attrs.define
class CommandLog:
    """A state machine that remembers its commands; a command's result is the command."""

    commands: list[tuple[LogIndex, bytes]] = attrs.field(factory=list)

    def apply(self, index: LogIndex, data: bytes) -> bytes:
        """Remember one command."""
        self.commands.append((index, data))
        return data

    def snapshot(self) -> bytes:
        """All commands so far."""
        return msgspec.msgpack.encode(self.commands)

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Remember what the snapshot remembers."""
        self.commands = msgspec.msgpack.decode(b"".join(chunks), type=list[tuple[LogIndex, bytes]])
