"""Semaphore: so many holders at a time, first come, first served."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import msgspec

from ..core.errors import ConfigError
from ..machines.replicated import WithHandles, command, query
from .elsewhere import BlockingHoldHandle, HoldHandle
from .line import WaitingLine
from .presence import LEASE_S, Grant


class Permit(msgspec.Struct, frozen=True):
    """Somebody who holds one."""

    owner: str
    token: int
    """The index of the log entry that granted it."""


class Semaphore(WaitingLine, WithHandles["SemaphoreHandle", "BlockingSemaphoreHandle"]):
    """A replicated semaphore: at most `permits` hold it at a time, as they hold a `Lock`.

    Args:
        permits: how many; the same on every node. In a cluster that has begun, `resize` changes it,
            and what is given here does not count.

    Raises:
        ConfigError: `permits` is less than 1.
    """

    _handle_base = HoldHandle

    permits: int = 1

    def __init__(self, permits: int = 1) -> None:
        super().__init__()
        if permits < 1:
            raise ConfigError(f"permits is {permits!r}: give 1 or more")
        self.permits = permits

    def hold(self, owner: str, *, lease_s: float = LEASE_S) -> AbstractAsyncContextManager[Grant]:
        """Wait for a permit, hold it for the body, and give it back: as `Lock.hold`.

        ```python
        async with semaphore.hold("download", lease_s=10):
            print("one of a few at a time")
        ```
        """
        return self._presence(lease_s).hold(owner)

    @command(since=2)
    def resize(self, permits: int) -> int:
        """Have so many permits from now on; returns how many there were. Those that are held stay
        so, also if they are more."""
        if permits < 1:
            raise ValueError(f"permits is {permits}: give 1 or more")
        before, self.permits = self.permits, permits
        self._serve()
        return before

    @query
    def holders(self) -> list[Permit]:
        """Who holds permits, in the order in which they were granted."""
        return [Permit(place.owner, place.token) for place in self.holding.values()]

    def _has_turn(self) -> bool:
        return len(self.holding) < self.permits


# -- handles: written by `python -m tests.handles --update` ----------------------------------------


class SemaphoreHandle(HoldHandle[Semaphore]):
    """A `Semaphore` on other machines, for Trio and asyncio."""

    async def resize(self, permits: int) -> int:
        """`Semaphore.resize`."""
        return await self(Semaphore.resize, permits)

    async def holders(self) -> list[Permit]:
        """`Semaphore.holders`."""
        return await self(Semaphore.holders)


class BlockingSemaphoreHandle(BlockingHoldHandle[Semaphore]):
    """A `Semaphore` on other machines, for threads."""

    def resize(self, permits: int) -> int:
        """`Semaphore.resize`."""
        return self(Semaphore.resize, permits)

    def holders(self) -> list[Permit]:
        """`Semaphore.holders`."""
        return self(Semaphore.holders)


Semaphore._handle_type = SemaphoreHandle
Semaphore._blocking_handle_type = BlockingSemaphoreHandle
