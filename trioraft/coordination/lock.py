"""Lock: one holder at a time, first come, first served, for as long as its lease lasts."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import msgspec

from ..machines.replicated import WithHandles, command, query
from .answers import LeaseTime, Name
from .elsewhere import BlockingHoldHandle, HoldHandle
from .line import Place, WaitingLine
from .presence import LEASE_S, Grant

LINE_VERSION = 2
"""Of the class, since which there is a line."""


class Lease(msgspec.Struct, frozen=True):
    """Who holds the lock."""

    owner: str
    token: int
    """Rises with each holder: the index of the log entry that made it one."""
    expires_at_s: float
    """The log time at which it ends, unless it is renewed."""


class Lock(WaitingLine, WithHandles["LockHandle", "BlockingLockHandle"]):
    """A replicated lock: one holder at a time, for as long as its lease lasts.

    Whoever waits stands in a line, and gets the lock in its turn, by the entry of the log with
    which it is given back. A lease ends by *log time* (see `LogClock`), so all nodes agree on
    whether it did. The holder counts on its own monotonic clock, from before it asked; what it
    takes for its lease ends first, but for clocks' drift. No lease can stop a holder that is
    asleep: whoever acts for the holder outside should be given the *token*, which rises with each
    holder, and refuse one that is lower than the last it saw.

    ```python
    async with lock.hold("backup", lease_s=10) as grant:
        print("whoever acts for us is told", grant.token)
    ```
    """

    _handle_base = HoldHandle

    lease: Lease | None = None
    """Whoever took it with `acquire`, outside the line."""
    last_token: int = 0

    def hold(self, owner: str, *, lease_s: float = LEASE_S) -> AbstractAsyncContextManager[Grant]:
        """Wait for the lock, hold it for the body, and give it back. The lease is renewed by
        itself, all that this process has of this lock at once.

        Args:
            owner: says who it is, to people; each call is a holder of its own.
            lease_s: how long the lock stays taken, in seconds, if this process vanishes.

        Returns:
            What yields the `Grant`, with the token.

        Raises:
            LockLost: the body was cancelled, because the lease could not be renewed.
            LineFull: too many wait.
            NodeDead: the node died; the body was cancelled.
            Exception: the body's own.

        If it is cancelled while it waits, it leaves the line.
        """
        return self._presence(lease_s).hold(owner)

    @command
    def acquire(self, owner: Name, lease_s: LeaseTime) -> int | None:
        """Take the lock if it is free and nobody waits for it, or hold it on if `owner` took it
        like this. Nobody renews it; `hold` does.

        Args:
            owner: names one holder; the same name means the same holder, so that asking again
                after `OutcomeUnknown` does no harm.
            lease_s: how long from now on, in seconds of log time.

        Returns:
            The token, or None if another holds it.
        """
        lease = self._valid_lease()
        if self.waiting or self.holding or (lease is not None and lease.owner != owner):
            return None
        if lease is None:
            has_line = self.active_version >= LINE_VERSION
            self.last_token = self.log_index if has_line else self.last_token + 1
        self.lease = Lease(owner, self.last_token, self.log_time_s + lease_s)
        return self.last_token

    @command
    def renew(self, token: int, lease_s: LeaseTime) -> bool:
        """Make a lease last `lease_s` seconds from now; returns False if it is over already.

        Args:
            token: of the lease.
            lease_s: how long it is to last, in seconds.
        """
        lease = self._valid_lease()
        if lease is None or lease.token != token:
            return False
        self.lease = Lease(lease.owner, token, self.log_time_s + lease_s)
        return True

    @command
    def release(self, token: int) -> bool:
        """Give the lock back, whoever has it; returns False if the lease was over already."""
        lease = self._valid_lease()
        if lease is not None and lease.token == token:
            self.lease = None
            self._serve()
            return True
        held = [ticket for ticket, place in self.holding.items() if place.token == token]
        self._give_up(held, tells=True)
        return bool(held)

    @query
    def holder(self) -> Lease | None:
        """Who holds the lock, as of the latest command; its lease may be over by now."""
        for place in self.holding.values():
            return Lease(place.owner, place.token, self.hosts[place.host].expires_at_s)
        return self._valid_lease()

    def _valid_lease(self) -> Lease | None:
        lease = self.lease
        return None if lease is None or lease.expires_at_s <= self.log_time_s else lease

    def _has_turn(self) -> bool:
        return not self.holding and self._valid_lease() is None

    def _on_turn(self, ticket: str, place: Place) -> None:
        self.last_token = place.token

    def next_expiry_s(self) -> float | None:
        """When the first lease is over, if anybody is to know."""
        ends_s = [super().next_expiry_s()]
        if self.waiting and self.lease is not None:
            ends_s.append(self.lease.expires_at_s)
        return min((end_s for end_s in ends_s if end_s is not None), default=None)

    def expire(self) -> None:
        """End what is over, and let the next in line have its turn."""
        if self._valid_lease() is None:
            self.lease = None
        super().expire()


# -- handles: written by `python -m tests.handles --update` ----------------------------------------


class LockHandle(HoldHandle[Lock]):
    """A `Lock` on other machines, for Trio and asyncio."""

    async def acquire(self, owner: Name, lease_s: LeaseTime) -> int | None:
        """`Lock.acquire`."""
        return await self(Lock.acquire, owner, lease_s)

    async def renew(self, token: int, lease_s: LeaseTime) -> bool:
        """`Lock.renew`."""
        return await self(Lock.renew, token, lease_s)

    async def release(self, token: int) -> bool:
        """`Lock.release`."""
        return await self(Lock.release, token)

    async def holder(self) -> Lease | None:
        """`Lock.holder`."""
        return await self(Lock.holder)


class BlockingLockHandle(BlockingHoldHandle[Lock]):
    """A `Lock` on other machines, for threads."""

    def acquire(self, owner: Name, lease_s: LeaseTime) -> int | None:
        """`Lock.acquire`."""
        return self(Lock.acquire, owner, lease_s)

    def renew(self, token: int, lease_s: LeaseTime) -> bool:
        """`Lock.renew`."""
        return self(Lock.renew, token, lease_s)

    def release(self, token: int) -> bool:
        """`Lock.release`."""
        return self(Lock.release, token)

    def holder(self) -> Lease | None:
        """`Lock.holder`."""
        return self(Lock.holder)


Lock._handle_type = LockHandle
Lock._blocking_handle_type = BlockingLockHandle
