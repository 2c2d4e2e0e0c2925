"""Clients: sessions over the node's own calls, and what they saw of it. One that loses patience
cancels its call, wherever that stands: that is a fault as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, Final, final

import attrs
import trio

from ...core.errors import (
    InvariantViolation,
    NodeDead,
    NotLeader,
    OutcomeUnknown,
    Overloaded,
    ProposalDropped,
)
from ...core.types import NodeId
from ...machines.sessions import CLIENT_ID_BYTES, encode_command, encode_open
from ...member.attempts import Attempt
from ..clients import begun_call, choose
from ..draw import Kind
from ..machine import RegisterOperation, encode_operation
from ..outcomes import ClientCall
from .life import Life, World

PAUSE_S: Final = 0.02
"""After a refusal that named nobody."""
PATIENCE_GROWS_TO: Final = 16
"""Times the first patience: whoever asks a slow cluster ever again makes it slower still."""
ASK_AGAIN: Final = (NotLeader, ProposalDropped, OutcomeUnknown, NodeDead, Overloaded)
"""Answers that are none."""


@final
@attrs.define(eq=False)
class NodeClientPool:
    """What all clients share."""

    world: World
    history: list[ClientCall] = attrs.field(factory=list)
    losses: list[float] = attrs.field(factory=list)
    """Chances that an answer is lost, all at once."""
    completed: int = 0
    numbers: count[int] = attrs.field(factory=lambda: count(1))


@final
class NodeClient:
    """One of them."""

    def __init__(self, number: int, pool: NodeClientPool) -> None:
        self._number = number
        self._pool = pool
        self._world = pool.world
        self._rng = pool.world.rng("client", number)
        self._session = 0
        self._sequence = 0
        self._target: NodeId | None = None
        chance = pool.world.rng("client", f"{number} forwards").random()
        self._forwards = chance < pool.world.draw.forwards

    async def run(self) -> None:
        """Ask for one thing after the other until cancelled."""
        await self.open()
        while True:
            draw = self._world.draw
            barrier_reads = max(0.5, draw.barrier_reads)
            operation, by_barrier = choose(self._rng, draw, self._pool.numbers, barrier_reads)
            await self.carry_out(operation, by_barrier=by_barrier)
            await trio.sleep(self._rng.uniform(0.0, 2 * self._world.draw.think_s))

    async def open(self) -> None:
        """Begin a session."""
        command = encode_open(self._rng.randbytes(CLIENT_ID_BYTES))
        self._session = await self._until_answered(lambda life: self._propose(life, command))

    async def carry_out(self, operation: RegisterOperation, *, by_barrier: bool) -> int:
        """Ask until it is answered; returns the answer."""
        pool, world = self._pool, self._world
        place = len(pool.history)
        call = begun_call(self._number, operation, trio.current_time())
        pool.history.append(call)
        result: int
        if by_barrier:
            result = await self._until_answered(lambda life: self._read(life, operation.key))
        else:
            self._sequence += 1
            command = encode_command(
                self._session, self._sequence, encode_operation(operation), self._sequence
            )
            result = await self._until_answered(lambda life: self._propose(life, command))
            if operation.number not in world.executed:
                world.fail(
                    InvariantViolation(f"{operation} is answered with {result!r}, and not executed")
                )
        pool.history[place] = attrs.evolve(call, completed_s=trio.current_time(), result=result)
        pool.completed += 1
        world.recording.note("answer", self._number, result)
        return result

    # -- asking ----------------------------------------------------------------------------

    async def _until_answered(self, ask: Callable[[Life], Awaitable[Any]]) -> Any:
        patience_s = self._world.draw.patience_s
        longest_s = PATIENCE_GROWS_TO * patience_s
        while True:
            life = self._life()
            if life is not None:
                with trio.move_on_after(patience_s):
                    is_answered, answer = await self._ask(life, ask)
                    if is_answered:
                        return answer
                patience_s = min(2 * patience_s, longest_s)
            await trio.sleep(PAUSE_S * self._rng.uniform(0.5, 1.5))

    async def _ask(self, life: Life, ask: Callable[[Life], Awaitable[Any]]) -> tuple[bool, Any]:
        """(True, the answer), or (False, None)."""
        self._target = None
        try:
            answer = await ask(life)
        except ASK_AGAIN as error:
            if isinstance(error, NotLeader):
                self._target = error.leader_id
            return False, None
        except Exception as error:  # noqa: BLE001 - of a dead machine nobody hears
            if not life.is_fenced:
                self._world.fail(error)
            return False, None
        if life.is_fenced or self._is_lost():
            return False, None
        self._target = life.node_id
        return True, answer

    def _life(self) -> Life | None:
        lives = self._world.open_lives()
        for life in lives:
            if life.node_id == self._target:
                return life
        return self._rng.choice(lives) if lives else None

    def _is_lost(self) -> bool:
        for chance in self._pool.losses:
            if self._rng.random() < chance:
                self._world.recording.count(Kind.CLIENT_LOSS)
                return True
        return False

    async def _propose(self, life: Life, command: bytes) -> Any:
        if life.node is None:
            raise NodeDead(f"{life.name} is not open")
        if self._forwards:
            self._world.recording.count("forwarded")
            is_repeatable = self._rng.random() < 0.5
            return await life.node.forward(command, attempt=Attempt(is_repeatable))
        return await life.node.propose(command)

    async def _read(self, life: Life, key: int) -> int:
        """By a read barrier, on whatever node."""
        world, node = self._world, life.node
        if node is None:
            raise NodeDead(f"{life.name} is not open")
        committed = world.checks.commit_index
        is_lease = self._rng.random() < world.draw.lease_reads
        index = await node.read_barrier(lease=is_lease)
        if not life.is_fenced:
            world.checks.on_read(life.node_id, index, node.status.applied_index, committed)
        return life.machine.registers.get(key)
