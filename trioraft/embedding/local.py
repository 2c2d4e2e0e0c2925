"""LocalClient: what a node's thread holds open, and what calls into it are given."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, final

import attrs
import msgspec

from ..machines.sessions import SessionMachine, encode_plain
from ..member.state_machine import StateMachine
from ..node.node import Node
from ..rpc.protocol import Consistency


@final
@attrs.frozen
class LocalClient:
    """A node's own client."""

    node: Node
    _machine: StateMachine

    async def call(
        self,
        data: bytes,
        *,
        timeout_s: float | None = None,
        result_type: Any = Any,
        exactly_once: bool = True,
    ) -> Any:
        """Have the cluster apply a command."""
        if isinstance(self._machine, SessionMachine):
            data = encode_plain(data)
        return msgspec.convert(await self.node.propose(data), result_type)

    async def query(
        self,
        data: bytes,
        *,
        consistency: Consistency = "linearizable",
        at: object = None,
        timeout_s: float | None = None,
        result_type: Any = Any,
    ) -> Any:
        """Ask the state machine."""
        await self.node.read_barrier()
        machine: Any = self._machine
        if isinstance(machine, SessionMachine):
            machine = machine.machine
        return machine.query(data)

    def watch(
        self, data: bytes, *, item_type: Any = Any, at: object = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
        """Subscribe to the state machine."""
        machine: Any = self._machine
        if isinstance(machine, SessionMachine):
            machine = machine.machine
        subscription: AbstractAsyncContextManager[AsyncIterator[Any]] = machine.watch(data)
        return subscription
