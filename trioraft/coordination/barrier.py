"""Barrier: nobody goes on before so many have come; and, if wanted, before all are done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from typing import Protocol

import anyio

from ..core.errors import ConfigError
from ..machines.replicated import WithHandles, query
from .answers import News
from .elsewhere import BlockingLineHandle, LineHandle
from .line import EVERYBODY, Place, WaitingLine
from .presence import LEASE_S, PASSING, PAUSE_S, Grant, Presence, persistently


class BarrierAccess(Protocol):
    """A barrier, here or elsewhere."""

    async def leave_line(self, tickets: list[str]) -> int: ...

    async def inside(self, token: int) -> int: ...

    def line_news(self, host: str) -> AbstractAsyncContextManager[AsyncIterator[News]]: ...


async def arriving(presence: Presence, owner: str) -> int:
    """As `Barrier.arrive`."""
    async with presence.hold(owner) as grant:
        return grant.token


@asynccontextmanager
async def together(
    barrier: BarrierAccess, presence: Presence, owner: str, *, cancels: bool = True
) -> AsyncIterator[Grant]:
    """As `Barrier.together`."""
    async with presence.hold(owner, cancels=cancels) as grant:
        yield grant
        grant.settle()
        await persistently(lambda: barrier.leave_line([grant.ticket]))
        grant.settled(is_over=True)
        await _until_empty(barrier, grant.token)


async def _until_empty(barrier: BarrierAccess, token: int) -> None:
    while True:
        try:
            async with barrier.line_news(EVERYBODY) as news:
                async for _ in news:
                    if not await barrier.inside(token):
                        return
        except PASSING:
            await anyio.sleep(PAUSE_S)


class PartyHandle(LineHandle["Barrier"]):
    """What a barrier's handle does by itself."""

    async def inside(self, token: int) -> int:
        """`Barrier.inside`."""
        return await self(Barrier.inside, token)

    async def arrive(self, owner: str, *, lease_s: float = LEASE_S) -> int:
        """`Barrier.arrive`."""
        return await arriving(self._presence(lease_s), owner)

    def together(
        self, owner: str, *, lease_s: float = LEASE_S
    ) -> AbstractAsyncContextManager[Grant]:
        """`Barrier.together`."""
        return together(self, self._presence(lease_s), owner)


class BlockingPartyHandle(BlockingLineHandle["Barrier"]):
    """What a barrier's handle for threads does by itself."""

    def arrive(self, owner: str, *, lease_s: float = LEASE_S) -> int:
        """`Barrier.arrive`."""
        token: int = self._run(lambda handle: handle.arrive(owner, lease_s=lease_s))
        return token

    def together(self, owner: str, *, lease_s: float = LEASE_S) -> AbstractContextManager[Grant]:
        """As `Barrier.together`; but a thread cannot be cancelled, so look at `grant.is_lost`."""
        return self._held(
            lambda handle: together(handle, handle._presence(lease_s), owner, cancels=False)
        )


class Barrier(WaitingLine, WithHandles["BarrierHandle", "BlockingBarrierHandle"]):
    """A replicated barrier: whoever arrives waits until `parties` have, and then all go on. It may
    be used again and again. A process that vanishes while it waits has not arrived.

    Args:
        parties: how many; the same on every node. In a cluster that has begun, what is given here
            does not count.

    Raises:
        ConfigError: `parties` is less than 1.
    """

    _handle_base = PartyHandle

    parties: int = 2
    opening: int = 0
    """How many may go on still, of those that have arrived: 0 between commands."""

    def __init__(self, parties: int = 2) -> None:
        super().__init__()
        if parties < 1:
            raise ConfigError(f"parties is {parties!r}: give 1 or more")
        self.parties = parties

    async def arrive(self, owner: str, *, lease_s: float = LEASE_S) -> int:
        """Wait until all have arrived.

        Args:
            owner: who arrives, to people; each call is one party.
            lease_s: how long the place is kept, in seconds, if this process vanishes.

        Returns:
            The index of the log entry that opened the barrier: the same for all who went on
            together, and more each time.

        Raises:
            LineFull, NodeDead: as `Lock.hold`.

        If it is cancelled, it has not arrived, unless the barrier was opened in that moment.
        """
        return await arriving(self._presence(lease_s), owner)

    def together(
        self, owner: str, *, lease_s: float = LEASE_S
    ) -> AbstractAsyncContextManager[Grant]:
        """Wait until all have arrived; and after the body, until all have left theirs (a *double
        barrier*). One that vanishes has left when its lease is over.

        Args:
            owner: as for `arrive`.
            lease_s: as for `arrive`, in seconds.

        Raises:
            LockLost: the body was cancelled, because the lease could not be renewed: the others may
                have gone on.
            LineFull, NodeDead: as `Lock.hold`.
            Exception: the body's own; then the others are not waited for.
        """
        return together(self, self._presence(lease_s), owner)

    @query
    def inside(self, token: int) -> int:
        """How many of those that went on by this entry have not left yet."""
        return sum(place.token == token for place in self.holding.values())

    def _has_turn(self) -> bool:
        if not self.opening and len(self.waiting) >= self.parties:
            self.opening = self.parties
        return self.opening > 0

    def _on_turn(self, ticket: str, place: Place) -> None:
        self.opening -= 1


# -- handles: written by `python -m tests.handles --update` ----------------------------------------


class BarrierHandle(PartyHandle):
    """A `Barrier` on other machines, for Trio and asyncio."""


class BlockingBarrierHandle(BlockingPartyHandle):
    """A `Barrier` on other machines, for threads."""

    def inside(self, token: int) -> int:
        """`Barrier.inside`."""
        return self(Barrier.inside, token)


Barrier._handle_type = BarrierHandle
Barrier._blocking_handle_type = BlockingBarrierHandle
