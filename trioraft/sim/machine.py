"""The machine that simulated nodes replicate: a few registers, under the library's own sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

import msgspec

from ..core.types import LogIndex
from ..machines.sessions import SessionMachine

GET: Final = "get"
PUT: Final = "put"
CAS: Final = "cas"

OnExecuted: TypeAlias = Callable[[int, LogIndex], None]
"""Told the number of an operation and the index at which it is carried out."""


class RegisterOperation(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a client wants done with one register."""

    number: int
    """Unique in a run."""
    kind: str
    key: int
    argument: int = 0
    expected: int = 0


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(RegisterOperation).decode
_decode_state = msgspec.msgpack.Decoder(dict[int, int]).decode


class _PaddedOperation(RegisterOperation, frozen=True, array_like=True, gc=False):
    """Larger than it need be; whoever reads it leaves the rest aside."""

    padding: bytes = b""


def encode_operation(operation: RegisterOperation, padding_bytes: int = 0) -> bytes:
    """As it stands in a command, larger by so many bytes than it need be."""
    if not padding_bytes:
        return _encode(operation)
    fields = msgspec.structs.asdict(operation)
    return _encode(_PaddedOperation(**fields, padding=bytes(padding_bytes)))


class Registers:
    """Whole numbers by key; all are 0 at first. Snapshots are larger than they need be by so many
    bytes."""

    def __init__(self, on_executed: OnExecuted, state_bytes: int = 0) -> None:
        self._ballast = bytes(state_bytes)
        self.values: dict[int, int] = {}
        self.error: Exception | None = None
        """What this machine lacks at the moment: raised in the middle of a command."""
        self._on_executed = on_executed

    def get(self, key: int) -> int:
        """The value now."""
        return self.values.get(key, 0)

    def apply(self, index: LogIndex, data: bytes) -> Any:
        """Carry out one operation."""
        result = self._carry_out(index, data)
        if self.error is not None:
            raise self.error
        return result

    def _carry_out(self, index: LogIndex, data: bytes) -> Any:
        operation = _decode(data)
        self._on_executed(operation.number, index)
        key = operation.key
        if operation.kind == PUT:
            self.values[key] = operation.argument
            return 0
        if operation.kind == CAS:
            if self.get(key) != operation.expected:
                return 0
            self.values[key] = operation.argument
            return 1
        return self.get(key)

    def snapshot(self) -> bytes:
        """All of it, in the order of the keys: equal states have equal snapshots."""
        return _encode(dict(sorted(self.values.items()))) + self._ballast

    def restore(self, chunks: Iterable[bytes]) -> None:
        """As it was."""
        content = b"".join(chunks)
        self.values = _decode_state(content[: len(content) - len(self._ballast)])


class Machine:
    """The registers with their sessions."""

    def __init__(self, on_executed: OnExecuted, *, sessions_max: int, state_bytes: int = 0) -> None:
        self.registers: Registers = Registers(on_executed, state_bytes)
        self._sessions = SessionMachine(self.registers, sessions_max=sessions_max)

    def apply(self, index: LogIndex, data: bytes) -> Any:
        """Apply one command; what it raises is its result."""
        return self._sessions.apply(index, data)

    def prepare_command(self, data: bytes) -> bytes:
        """As it shall stand in the log."""
        return self._sessions.prepare_command(data)

    def is_result(self, error: Exception) -> bool:
        """Whether what `apply` raised last is a result."""
        return self._sessions.is_result(error)

    def snapshot(self) -> Iterable[bytes]:
        """Sessions and registers: a view, which is read later, when further commands have been
        applied."""
        return self._sessions.snapshot()

    def restore(self, chunks: Iterable[bytes]) -> None:
        """As it was when the snapshot was made."""
        self._sessions.restore(chunks)
