"""Machine: tier 1's registers and sessions as the state machine of a real node, and watched.

Rules of this file: nothing is raised here that is no result of a command: a node would take it for
one. What is wrong goes to the world.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any, Final, Protocol, final

from ...core.errors import InvariantViolation
from ...core.types import LogIndex, NodeId
from ..machine import Machine, Registers
from .world import World

SESSIONS_MAX: Final = 64
_DIGEST_BYTES: Final = 4


class MachineOwner(Protocol):
    """A life, as its state machine sees it."""

    @property
    def node_id(self) -> NodeId:
        """Whose state it is."""

    @property
    def is_fenced(self) -> bool:
        """Whether it is over: what it applies now, nobody gets to see."""


@final
class WatchedMachine:
    """A `StateMachine`. Its state includes a checksum of all commands that led to it."""

    def __init__(self, owner: MachineOwner, world: World) -> None:
        self._owner = owner
        self._world = world
        self._machine = Machine(self._on_executed, sessions_max=SESSIONS_MAX)
        self._digest = 0

    @property
    def registers(self) -> Registers:
        """The values now."""
        return self._machine.registers

    def apply(self, index: LogIndex, data: bytes) -> Any:
        """See `StateMachine.apply`."""
        self._digest = zlib.crc32(data, self._digest)
        if not self._owner.is_fenced:
            try:
                self._check(index, data)
            except InvariantViolation as error:
                self._world.fail(error)
        return self._machine.apply(index, data)

    def _check(self, index: LogIndex, data: bytes) -> None:
        node_id, world = self._owner.node_id, self._world
        entry = world.disks[node_id].entry_at(index)
        if entry is None or entry.data != data:
            raise InvariantViolation(
                f"{node_id!r} applies {data!r} at {index}; durable there is {entry}"
            )
        world.checks.on_apply(node_id, entry)
        world.checks.on_state(node_id, index, self._digest)

    def _on_executed(self, operation: int, index: LogIndex) -> None:
        if self._owner.is_fenced:
            return
        self._world.executed.setdefault(operation, index)
        try:
            self._world.checks.on_executed(operation, index)
        except InvariantViolation as error:
            self._world.fail(error)

    def snapshot(self) -> bytes:
        """See `StateMachine.snapshot`."""
        return self._digest.to_bytes(_DIGEST_BYTES, "big") + self._machine.snapshot()

    def restore(self, chunks: Iterable[bytes]) -> None:
        """See `StateMachine.restore`."""
        content = b"".join(chunks)
        self._digest = int.from_bytes(content[:_DIGEST_BYTES], "big")
        self._machine.restore([content[_DIGEST_BYTES:]])
