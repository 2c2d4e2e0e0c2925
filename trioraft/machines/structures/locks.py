"""Lock: one holder at a time, for as long as its lease lasts.

* A lease ends by *log time* (see `LogClock`), so all nodes agree on whether it did: it
  ends with the first command that was proposed so late. The holder counts on its own monotonic
  clock, from before it asked; what it takes for its lease ends first, but for clocks' drift.
* No lease can stop a holder that is asleep. Whoever acts for the holder outside should be given the
  *token*, which rises with each holder, and refuse one that is lower than the last it saw.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, TypeAlias

import attrs
import msgspec
import trio

from ...core.errors import NotLeader, OutcomeUnknown, ProposalDropped, RaftError
from ...core.types import Role
from ...member.status import Status
from ...tasks.background import running_beside
from ..replicated import ReplicatedObject, command, query

LEASE_S_MAX = 366 * 24 * 3600.0
"""Longest lease, in seconds."""
RENEWALS_PER_LEASE = 3
"""`hold` renews this often within a lease."""
RELEASE_PATIENCE_S = 1.0
"""How long `hold` tries to give the lock back; after that the lease has to run out."""
_EXPIRY_MARGIN_S = 0.001
"""Who waits for the end of a lease comes this much later, so that rounding does not matter."""

LeaseTime: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=LEASE_S_MAX)]
"""How long a lease lasts, in seconds."""


class LockLost(RaftError):  # noqa: N818 - what happened, as in the other errors of this kind
    """The lease ran out, or was taken away, while its holder was at work; that was cancelled."""


class Lease(msgspec.Struct, frozen=True):
    """Who holds the lock."""

    owner: str
    token: int
    """Rises with each holder."""
    expires_at_s: float
    """The log time at which it ends, unless it is renewed."""


class Lock(ReplicatedObject):
    """A replicated lock.

    ```python
    async with lock.hold("backup", lease_s=10) as token:
        await write_backup(token)
    ```
    """

    lease: Lease | None = None
    last_token: int = 0

    @command
    def acquire(self, owner: str, lease_s: LeaseTime) -> int | None:
        """Take the lock, or hold it on if `owner` has it.

        Args:
            owner: names one holder; the same name means the same holder, so that asking again
                after `OutcomeUnknown` does no harm.
            lease_s: how long from now on, in seconds of log time.

        Returns:
            The token, or None if another holds it.
        """
        lease = self._valid_lease()
        if lease is not None and lease.owner != owner:
            return None
        if lease is None:
            self.last_token += 1
        self.lease = Lease(owner, self.last_token, self.log_time_s + lease_s)
        return self.last_token

    @command
    def renew(self, token: int, lease_s: LeaseTime) -> bool:
        """Make a lease last `lease_s` seconds from now; returns False if it is over already."""
        lease = self._valid_lease()
        if lease is None or lease.token != token:
            return False
        self.lease = Lease(lease.owner, token, self.log_time_s + lease_s)
        return True

    @command
    def release(self, token: int) -> bool:
        """Give the lock back; returns False if the lease was over already."""
        lease = self._valid_lease()
        if lease is None or lease.token != token:
            return False
        self.lease = None
        return True

    @query
    def holder(self) -> Lease | None:
        """Who holds the lock, as of the latest command; its lease may be over by now."""
        return self._valid_lease()

    def _valid_lease(self) -> Lease | None:
        lease = self.lease
        return None if lease is None or lease.expires_at_s <= self.log_time_s else lease

    @asynccontextmanager
    async def hold(self, owner: str, *, lease_s: float) -> AsyncIterator[int]:
        """Wait for the lock, hold it for the body, renewing the lease, and give it back.

        Args:
            owner: says who it is, to people; each call is a holder of its own.
            lease_s: how long the lock stays taken, in seconds, if this process vanishes.

        Yields:
            The token.

        Raises:
            LockLost: the body was cancelled, because the lease could not be renewed.
            NotLeader: this node does not lead, so it cannot acquire the lock.
            NodeDead: the node died; the body was cancelled.
            Exception: the body's own.

        If it is cancelled while it waits, the lock may stay taken until the lease is over.
        """
        keeper = _Keeper(self, f"{owner}/{secrets.token_hex(8)}", lease_s)
        await keeper.acquire()
        try:
            async with running_beside(keeper.run, stop=keeper.stop, name=f"lock[{owner}]"):
                yield keeper.token
        finally:
            await keeper.release()


@attrs.define(eq=False)
class _Keeper:
    """One holder's view of its lease."""

    _lock: Lock
    _owner: str
    _lease_s: float
    token: int = 0
    _until_s: float = 0.0
    """On the local monotonic clock; the lease in the log ends no earlier."""
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    async def acquire(self) -> None:
        """Wait until the lock is ours."""
        while True:
            asked_s = trio.current_time()
            try:
                token = await self._lock.acquire(self._owner, self._lease_s)
            except (ProposalDropped, OutcomeUnknown):
                continue  # the same owner asks again: at worst it has the lock already
            if token is not None:
                self.token, self._until_s = token, asked_s + self._lease_s
                return
            await self._until_free()

    async def _until_free(self) -> None:
        """Wait until somebody else's lease is given back, renewed, or over."""
        lock, lease = self._lock, self._lock.lease
        if lease is None:
            return
        remaining_s = max(0.0, lease.expires_at_s - lock.log_now_s()) + _EXPIRY_MARGIN_S
        with trio.move_on_after(remaining_s):
            await lock.wait(lambda now: now.lease != lease)

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Renew the lease until stopped; fail when it is lost."""
        task_status.started()
        with self._scope:
            while True:
                pause_s = self._lease_s / RENEWALS_PER_LEASE
                await trio.sleep_until(self._until_s - self._lease_s + pause_s)
                with trio.move_on_at(self._until_s) as in_time:
                    await self._renew()
                if in_time.cancelled_caught:
                    raise LockLost(
                        f"the lease of {self._lease_s:g} s could not be renewed in time (no "
                        "leader, or no majority): what was done under it was cancelled"
                    )

    async def _renew(self) -> None:
        while True:
            asked_s = trio.current_time()
            try:
                is_ours = await self._lock.renew(self.token, self._lease_s)
            except NotLeader:
                await self._lock.port.wait(_leads)
            except (ProposalDropped, OutcomeUnknown):
                continue  # another turn says who leads now
            else:
                break
        if not is_ours:
            raise LockLost(
                f"the lease with token {self.token} is over: it was not renewed in time, by log "
                "time, or was released"
            )
        self._until_s = asked_s + self._lease_s

    def stop(self) -> None:
        self._scope.cancel()

    async def release(self) -> None:
        """Give the lock back if that can be done soon; otherwise its lease runs out."""
        patience_s = min(RELEASE_PATIENCE_S, self._until_s - trio.current_time())
        with trio.move_on_after(patience_s, shield=True):
            try:
                await self._lock.release(self.token)
            except RaftError:
                return  # nobody here can: the lease will be over soon enough


def _leads(status: Status) -> bool:
    return status.role is Role.LEADER
