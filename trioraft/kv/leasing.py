"""Leases as a client has them: granted, named, and kept by a task beside the body that needs them.

Rules of this file:

* What counts here is the monotonic clock of this process, from before a lease was asked for or
  renewed: it is lost here before it may be over in the log, but for clocks' drift.
* Who holds one learns that it is lost by a cancellation of the body, and an error instead of its
  result. Errors arrive as themselves: the body's own too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypeAlias, final

import anyio
import attrs

from ..core.errors import ConfigError, RaftError
from ..rpc.errors import ClientClosed, PermissionDenied
from .commands import (
    Deleted,
    Granted,
    GrantLease,
    KeepAlive,
    LeaseId,
    LeaseNotFound,
    LeaseRefused,
    Revoke,
)
from .requests import Requests, Text, key_of, ttl_ms_of

RENEWALS_PER_LEASE: Final = 3
"""A lease that is kept is renewed this often within its life."""
RELEASE_PATIENCE_S: Final = 1.0
"""How long revoking it may take when the body is left; after that it runs out."""
RETRY_S: Final = 0.05
"""Pause before a renewal that no server could take is tried again."""
_FINAL = (LeaseNotFound, LeaseRefused, PermissionDenied, ClientClosed, ConfigError)
"""What trying again does not help against."""


class LeaseLost(RaftError):  # noqa: N818 - what happened, as in the other errors of this kind
    """A lease ran out, or was revoked, while its holder was at work; that was cancelled.

    Fault: of the network or the cluster, if it could not be renewed in time; or of who revoked it.
    Remedy: take what was under way for undone, and ask for another lease.
    """


@final
@attrs.frozen
class Lease:
    """The name of a lease."""

    lease_id: LeaseId
    ttl_s: float
    """How long it lasts without a renewal."""
    prefix: bytes = b""
    """What the keys begin with that may belong to it."""


@final
class KeptLease:
    """A lease that is renewed by itself. Made by `KvClient.lease`, for the body of a `with`."""

    def __init__(self, lease: Lease, until_s: float) -> None:
        self.lease_id: LeaseId = lease.lease_id
        self.ttl_s: float = lease.ttl_s
        self.prefix: bytes = lease.prefix
        self._until_s = until_s
        self._failure: RaftError | None = None
        self._scope = anyio.CancelScope()

    def __repr__(self) -> str:
        return f"<KeptLease {self.lease_id}{', lost' if self.is_lost else ''}>"

    @property
    def is_lost(self) -> bool:
        """Whether it is over, as far as is known here. May be asked from any thread."""
        return self._failure is not None

    def check(self) -> None:
        """For bodies that nobody can cancel, as in a thread.

        Raises:
            LeaseLost: it is lost.
        """
        if self._failure is not None:
            raise self._failure

    def lost_by(self, error: BaseException) -> bool:
        """Whether this is what it was lost by."""
        return error is self._failure

    def _lose(self, failure: RaftError) -> None:
        self._failure = failure
        self._scope.cancel()

    async def _keep(self, requests: Requests) -> None:
        """Renew it until cancelled; or lose it."""
        while True:
            pause_s = self.ttl_s / RENEWALS_PER_LEASE
            await anyio.sleep_until(self._until_s - self.ttl_s + pause_s)
            try:
                with anyio.fail_after(self._until_s - anyio.current_time()):
                    await self._renew(requests)
            except TimeoutError:
                self._lose(
                    LeaseLost(
                        f"lease {self.lease_id} of {self.ttl_s:g} s could not be renewed in time "
                        "(no leader, no majority, or no way there): what was done under it was "
                        "cancelled"
                    )
                )
                return
            except RaftError as error:
                lost = LeaseLost(f"lease {self.lease_id} is lost: {error}")
                lost.__cause__ = error
                self._lose(lost)
                return

    async def _renew(self, requests: Requests) -> None:
        while True:
            asked_s = anyio.current_time()
            try:
                await requests.call(
                    KeepAlive(self.lease_id, self.prefix),
                    Granted,
                    max(0.001, self._until_s - asked_s),
                )
            except _FINAL:
                raise
            except RaftError:  # no leader, no room, not known: another attempt does no harm
                await anyio.sleep(min(RETRY_S, self.ttl_s / 10))
            else:
                self._until_s = asked_s + self.ttl_s
                return


LeaseLike: TypeAlias = Lease | KeptLease | LeaseId
"""A lease, or its number."""


def lease_id_of(lease: LeaseLike) -> LeaseId:
    """The number of a lease."""
    return lease if isinstance(lease, int) else lease.lease_id


async def grant(
    requests: Requests,
    ttl_s: float,
    prefix: Text,
    *,
    value: bytes | None = None,
    timeout_s: float | None = None,
) -> Lease:
    """Have a lease granted; with a value there is a key of it at once."""
    name = key_of(prefix)
    granted = await requests.call(GrantLease(ttl_ms_of(ttl_s), name, value), Granted, timeout_s)
    return Lease(granted.lease_id, granted.ttl_ms / 1000, name)


@asynccontextmanager
async def kept(
    requests: Requests, ttl_s: float, prefix: Text, *, value: bytes | None = None
) -> AsyncIterator[KeptLease]:
    """A lease for the body: granted, renewed, and revoked.

    Raises:
        LeaseLost: the body was cancelled, because it is lost.
    """
    asked_s = anyio.current_time()
    lease = await grant(requests, ttl_s, prefix, value=value)
    keeper = KeptLease(lease, asked_s + lease.ttl_s)
    failure: BaseException | None = None
    try:
        async with anyio.create_task_group() as beside:
            beside.start_soon(keeper._keep, requests, name=f"lease {lease.lease_id}")
            with keeper._scope:
                try:
                    yield keeper
                except (Exception, KeyboardInterrupt, SystemExit) as error:  # noqa: BLE001 - raised below
                    # A task group would wrap it in a group of one: raised as it is, after it.
                    failure = error
            beside.cancel_scope.cancel()
    finally:
        await _release(requests, keeper)
    if keeper._failure is not None and failure is not None:
        raise keeper._failure from failure
    if keeper._failure is not None:
        raise keeper._failure
    if failure is not None:
        raise failure


async def _release(requests: Requests, keeper: KeptLease) -> None:
    """Give it back if that can be done soon; otherwise it runs out."""
    if keeper.is_lost and isinstance(keeper._failure, LeaseLost):
        cause = keeper._failure.__cause__
        if isinstance(cause, LeaseNotFound | ClientClosed):
            return
    with anyio.move_on_after(RELEASE_PATIENCE_S, shield=True):
        try:
            await requests.call(Revoke(keeper.lease_id, keeper.prefix), Deleted, RELEASE_PATIENCE_S)
        except RaftError:
            return  # nobody here can: it will be over soon enough
