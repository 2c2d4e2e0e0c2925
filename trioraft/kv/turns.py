"""Locks and elections on keys and leases: etcd's recipe, with the leader of the log as the clerk.

Rules of this file:

* Who wants a turn has a lease granted whose first key is made by the same command, and whose name
  ends in the command's log index (`ordered_key`): by key is by age. The first one has its turn.
* Everybody else waits for one key to go, the one before their own, and is told by a watch: a
  hand-over wakes one, and costs an entry to line up and one to leave, however many wait.
* The index of the grant is the *token*. It rises from holder to holder, so whatever is done for the
  holder outside can carry it: whoever has seen a higher one refuses it (fencing).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, final

import anyio
import attrs

from ..core.errors import LockLost
from ..core.types import LogIndex
from ..rpc.errors import ServerLeaving, ServerLost
from .commands import (
    Changes,
    Compare,
    CompareBy,
    CompareHow,
    HistoryCompacted,
    LeaseId,
    Page,
    Pair,
    Put,
    Range,
    RangeShows,
    Txn,
    TxnDone,
    ordered_key,
)
from .leasing import KeptLease, LeaseLost, kept
from .requests import Requests, Text, key_of, value_of

TTL_S: Final = 10.0
"""How long a lock stays taken, in seconds, if its holder vanishes; unless said otherwise."""
LOOK_AGAIN_S: Final = 10.0
"""A server that is cut off from the others tells nothing new, and does not say so: who waits looks
again after so long, at the leader, which costs the log nothing."""
RETRY_S: Final = 0.2
"""Pause before going on at another server."""
_DIGITS: Final = 16


@final
class KvGrant:
    """A turn: a lock that is held. Made by `KvClient.lock`, for the body of a `with`.

    Attributes:
        token: the log index of the command that lined up for it; rises from holder to holder.
        lease_id: of its lease: keys below the lock's own name that are put with it go when it does.
    """

    __slots__ = ("_lease", "lease_id", "token")

    def __init__(self, lease: KeptLease) -> None:
        self.token: LogIndex = lease.lease_id
        self.lease_id: LeaseId = lease.lease_id
        self._lease = lease

    def __repr__(self) -> str:
        return f"<KvGrant {self.token}{', lost' if self.is_lost else ''}>"

    def __index__(self) -> int:
        """The token, where an integer is wanted."""
        return self.token

    @property
    def is_lost(self) -> bool:
        """Whether it is over. May be asked from any thread."""
        return self._lease.is_lost

    def check(self) -> None:
        """For bodies that nobody can cancel, as in a thread.

        Raises:
            LockLost: it is lost.
        """
        try:
            self._lease.check()
        except LeaseLost as error:
            raise LockLost(str(error)) from error


@final
class Leadership:
    """Being elected. Made by `KvClient.elect`, for the body of a `with`.

    Attributes:
        token: the log index of the command that lined up for it; rises from leader to leader.
    """

    __slots__ = ("_grant", "_key", "_requests", "token")

    def __init__(self, requests: Requests, grant: KvGrant, key: bytes) -> None:
        self.token: LogIndex = grant.token
        self._grant = grant
        self._key = key
        self._requests = requests

    def __repr__(self) -> str:
        return f"<Leadership {self.token}{', lost' if self.is_lost else ''}>"

    @property
    def is_lost(self) -> bool:
        """Whether it is over. May be asked from any thread."""
        return self._grant.is_lost

    def check(self) -> None:
        """For bodies that nobody can cancel, as in a thread.

        Raises:
            LockLost: it is lost.
        """
        self._grant.check()

    async def proclaim(self, value: Text, *, timeout_s: float | None = None) -> None:
        """Say something else to those who observe.

        Args:
            value: what to say.
            timeout_s: when to give up, in seconds; default: the client's.

        Raises:
            LockLost: the leadership is over; nothing was said.
            RaftError: as `Client.call`.

        Cancelling the wait does not undo it: it may still be said.
        """
        is_mine = Compare(self._key, CompareBy.CREATED_INDEX, CompareHow.EQUAL, self.token)
        put = Put(self._key, value_of(value), lease_id=self.token)
        done = await self._requests.call(Txn((is_mine,), (put,)), TxnDone, timeout_s)
        if not done.succeeded:
            raise LockLost(f"the leadership with token {self.token} is over: nothing was said")


@final
@attrs.frozen
class Elected:
    """Who leads, as those who observe see it."""

    value: bytes
    token: LogIndex


@asynccontextmanager
async def held(
    requests: Requests, name: Text, *, value: Text = b"", ttl_s: float = TTL_S
) -> AsyncIterator[KvGrant]:
    """Wait for a turn, have it for the body, and give it back."""
    prefix = key_of(name) + b"/"
    lease: KeptLease | None = None
    try:
        async with kept(requests, ttl_s, prefix, value=value_of(value)) as lease:
            await _until_first(requests, prefix, ordered_key(prefix, lease.lease_id))
            yield KvGrant(lease)
    except LeaseLost as error:
        if lease is None or not lease.lost_by(error):
            raise  # of another one, that the body has
        raise LockLost(f"the turn at {name!r} is over: {error}") from error


@asynccontextmanager
async def elected(
    requests: Requests, name: Text, *, value: Text = b"", ttl_s: float = TTL_S
) -> AsyncIterator[Leadership]:
    """Wait to be elected, lead for the body, and resign."""
    async with held(requests, name, value=value, ttl_s=ttl_s) as grant:
        yield Leadership(requests, grant, ordered_key(key_of(name) + b"/", grant.token))


async def _until_first(requests: Requests, prefix: bytes, key: bytes) -> None:
    while True:
        # From the first name that `ordered_key` can make: what nests below is another lock's.
        wanted = Range(
            prefix + b"0" * _DIGITS,
            items_max=2,
            until=key + b"\0",
            is_descending=True,
            shows=RangeShows.KEYS,
        )
        page = await requests.ask(wanted, Page)
        if not page.pairs or page.pairs[0].key != key:
            raise LockLost(f"key {key[:200]!r} is gone: somebody removed it, or revoked its lease")
        if len(page.pairs) == 1:
            return
        await _until_gone(requests, page.pairs[1].key, page.index + 1)


async def _until_gone(requests: Requests, key: bytes, from_index: LogIndex) -> None:
    """Wait until this key was removed; or until it is time to look again."""
    with anyio.move_on_after(LOOK_AGAIN_S):
        while True:
            try:
                async with requests.watch(Changes(from_index, key, until=key + b"\0")) as changes:
                    async for change in changes:
                        if change.value is None:
                            return
            except HistoryCompacted:
                return
            except (ServerLost, ServerLeaving):
                await anyio.sleep(RETRY_S)


@final
class Observed:
    """Who is elected, whenever that changes; the latest, so some may be missed.

    Made by `KvClient.observe`. No generator: one that is not iterated to its end is a leak.
    """

    def __init__(self, requests: Requests, name: Text) -> None:
        self._requests = requests
        prefix = key_of(name) + b"/"
        self._range = Range(prefix + b"0" * _DIGITS, items_max=1, until=prefix + b"g")
        self._shown: Elected | None = None
        self._has_shown = False

    def __aiter__(self) -> Observed:
        return self

    async def __anext__(self) -> Elected | None:
        while True:
            page = await self._requests.ask(self._range, Page)
            first = page.pairs[0] if page.pairs else None
            elected = None if first is None else Elected(first.value, first.created_index)
            if not self._has_shown or elected != self._shown:
                self._shown, self._has_shown = elected, True
                return elected
            await self._until_other(first, page.index + 1)

    async def _until_other(self, first: Pair | None, from_index: LogIndex) -> None:
        wanted = Changes(from_index, self._range.prefix, until=self._range.until)
        with anyio.move_on_after(LOOK_AGAIN_S):
            while True:
                try:
                    async with self._requests.watch(wanted) as changes:
                        async for change in changes:
                            if first is None or change.key == first.key:
                                return
                except HistoryCompacted:
                    return
                except (ServerLost, ServerLeaving):
                    await anyio.sleep(RETRY_S)
