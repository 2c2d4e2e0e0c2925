"""RateLimiter: a bucket of tokens that fills by log time, for all processes together."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Protocol, TypeAlias

import anyio
import msgspec

from ..core.errors import ConfigError, RaftError
from ..machines.replicated import (
    BlockingHandle,
    Handle,
    WithHandles,
    command,
    query,
)

Amount: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=1e12)]


class RateExceeded(RaftError):  # noqa: N818 - what it is, as in the other errors of this kind
    """It would take too long until it is one's turn; nothing was taken.

    Fault: the callers', who bring more than the rate allows.
    Remedy: come back later, or wait for longer (`wait_max_s`).
    """


class LimiterAccess(Protocol):
    """A rate limiter, here or elsewhere."""

    def reserve(self, amount: float = 1, wait_max_s: float | None = None) -> Awaitable[float]: ...


async def acquiring(limiter: LimiterAccess, amount: float, wait_max_s: float | None) -> float:
    """As `RateLimiter.acquire`."""
    wait_s = await limiter.reserve(amount, wait_max_s)
    if wait_s < 0:
        raise RateExceeded(
            f"{amount:g} would be there in {-wait_s:g} s, and wait_max_s is {wait_max_s}"
        )
    await anyio.sleep(wait_s)
    return wait_s


class AcquireHandle(Handle["RateLimiter"]):
    """What a rate limiter's handle does by itself."""

    async def reserve(self, amount: float = 1, wait_max_s: float | None = None) -> float:
        """`RateLimiter.reserve`."""
        return await self(RateLimiter.reserve, amount, wait_max_s)

    async def acquire(self, amount: float = 1, *, wait_max_s: float | None = None) -> float:
        """`RateLimiter.acquire`."""
        return await acquiring(self, amount, wait_max_s)


class BlockingAcquireHandle(BlockingHandle["RateLimiter"]):
    """What a rate limiter's handle for threads does by itself."""

    def acquire(self, amount: float = 1, *, wait_max_s: float | None = None) -> float:
        """`RateLimiter.acquire`."""
        wait_s: float = self._run(lambda handle: handle.acquire(amount, wait_max_s=wait_max_s))
        return wait_s


class RateLimiter(WithHandles["RateLimiterHandle", "BlockingRateLimiterHandle"]):
    """A replicated token bucket: `per_s` in a second, and `burst` at once, for all processes
    together, in the order in which they come.

    ```python
    await limiter.acquire()  # of a RateLimiter(per_s=100, burst=20)
    print("one of a hundred in this second")
    ```

    Time is log time, which stands still without a leader: so at most `burst` more than `per_s`
    times the time that passed is handed out, and less after an outage. Each call is one log entry:
    acquire many at once (`amount`) where that is too much.

    Args:
        per_s: how much comes into the bucket in a second.
        burst: how much it holds, and has at first. Both are the same on every node; in a cluster
            that has begun, `change` changes them, and what is given here does not count.

    Raises:
        ConfigError: an argument is no positive number.
    """

    _handle_base = AcquireHandle

    per_s: float = 1.0
    burst: float = 1.0
    level: float = 1.0
    """What was in the bucket at `level_at_s`. Below 0: it was handed out already."""
    level_at_s: float = 0.0

    def __init__(self, per_s: float = 1.0, burst: float = 1.0) -> None:
        super().__init__()
        for name, value in (("per_s", per_s), ("burst", burst)):
            if not 0 < value < float("inf"):
                raise ConfigError(f"{name} is {value!r}: give a positive number")
        self.per_s, self.burst, self.level = float(per_s), float(burst), float(burst)

    async def acquire(self, amount: float = 1, *, wait_max_s: float | None = None) -> float:
        """Wait until so much may be had; returns how long that took, in seconds.

        Args:
            amount: how much. More than `burst` is had in one piece, once it all has come together.
            wait_max_s: longest wait, in seconds; None: any.

        Raises:
            RateExceeded: it would take longer; nothing was taken.
            RaftError: as any command.

        If it is cancelled while it waits, what was to come is taken all the same.
        """
        return await acquiring(self, amount, wait_max_s)

    @command
    def reserve(self, amount: Amount = 1, wait_max_s: float | None = None) -> float:
        """Take so much, from what is to come if need be.

        Args:
            amount: how much.
            wait_max_s: longest wait that is worth it, in seconds; None: any.

        Returns:
            How long the caller is to wait before it uses it, in seconds. Less than 0: nothing was
            taken, since it would be so long (without the sign), and that is over `wait_max_s`.
        """
        self._fill()
        wait_s = max(0.0, (amount - self.level) / self.per_s)
        if wait_max_s is not None and wait_s > wait_max_s:
            return -wait_s
        self.level -= amount
        return wait_s

    @command
    def change(self, per_s: Amount, burst: Amount) -> None:
        """Another rate from now on. What was reserved stays so.

        Args:
            per_s: how much in a second.
            burst: how much at once.
        """
        self._fill()
        self.per_s, self.burst = per_s, burst
        self.level = min(self.level, burst)

    @query
    def available(self) -> float:
        """How much could be had at once, as of the latest command; below 0 if it is owed."""
        return self.level

    def _fill(self) -> None:
        passed_s = self.log_time_s - self.level_at_s
        self.level = min(self.burst, self.level + passed_s * self.per_s)
        self.level_at_s = self.log_time_s


# -- handles: written by `python -m tests.handles --update` ----------------------------------------


class RateLimiterHandle(AcquireHandle):
    """A `RateLimiter` on other machines, for Trio and asyncio."""

    async def change(self, per_s: Amount, burst: Amount) -> None:
        """`RateLimiter.change`."""
        return await self(RateLimiter.change, per_s, burst)

    async def available(self) -> float:
        """`RateLimiter.available`."""
        return await self(RateLimiter.available)


class BlockingRateLimiterHandle(BlockingAcquireHandle):
    """A `RateLimiter` on other machines, for threads."""

    def reserve(self, amount: Amount = 1, wait_max_s: float | None = None) -> float:
        """`RateLimiter.reserve`."""
        return self(RateLimiter.reserve, amount, wait_max_s)

    def change(self, per_s: Amount, burst: Amount) -> None:
        """`RateLimiter.change`."""
        return self(RateLimiter.change, per_s, burst)

    def available(self) -> float:
        """`RateLimiter.available`."""
        return self(RateLimiter.available)


RateLimiter._handle_type = RateLimiterHandle
RateLimiter._blocking_handle_type = BlockingRateLimiterHandle
