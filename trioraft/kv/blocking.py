"""BlockingKvClient: a key-value service's client for programs without an event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Protocol, TypeVar, final

from ..core.types import Address, LogIndex, NodeId
from ..rpc.protocol import Consistency
from . import stm, turns
from .client import KvClient
from .commands import (
    Change,
    Compare,
    Deleted,
    Found,
    Incremented,
    LeaseLife,
    Operation,
    Page,
    Pair,
    Swapped,
    Txn,
    TxnDone,
    Written,
)
from .leasing import KeptLease, Lease, LeaseLike
from .requests import ClusterClient, Requests, Text
from .stm import BlockingStm, Draft
from .transactions import TxnOutcome
from .turns import Elected, KvGrant, Leadership

T = TypeVar("T")


class BlockingRunner(Protocol):
    """What of a `trioraft.BlockingClient` is used here.

    Each method is as `BlockingClient` has it.
    """

    def run(self, function: Callable[[Any], Awaitable[T]]) -> T:
        """Call an async function with a client, in its thread, and return its result."""

    def hold(
        self, function: Callable[[Any], AbstractAsyncContextManager[T]]
    ) -> AbstractContextManager[T]:
        """Hold an async context manager open, in its thread, for a body here."""


@final
class BlockingKvClient:
    """As `KvClient`, without `await`; may be used from any thread.

    ```
    with BlockingClient(addresses, error_types=ERROR_TYPES) as client:
        kv = BlockingKvClient(client)
        kv.put("colour", "red")
        with kv.lock("backup") as grant:
            ...
    ```

    Every method takes what `KvClient`'s method of that name takes, returns and raises the same.
    Nobody can cancel a body here: `check()` of a lease, a lock or a leadership raises once it is
    lost, and so does leaving the body.

    Args:
        client: an open one. Make it with `error_types=ERROR_TYPES`.
    """

    def __init__(self, client: BlockingRunner) -> None:
        self._client = client

    def _run(self, function: Callable[[KvClient], Awaitable[T]]) -> T:
        return self._client.run(lambda client: function(KvClient(client)))

    def _each(self, make: Callable[[KvClient], AsyncIterator[T]]) -> Iterator[T]:
        async def made(kv: KvClient) -> AsyncIterator[T]:
            return make(kv)  # in the client's thread

        items = self._run(made)
        while True:
            try:
                item = self._run(lambda _: anext(items))
            except StopAsyncIteration:
                return
            yield item

    # -- commands --------------------------------------------------------------------------

    def put(
        self,
        key: Text,
        value: Text,
        *,
        lease: LeaseLike | None = None,
        ttl_s: float | None = None,
        wants_previous: bool = False,
        timeout_s: float | None = None,
    ) -> Written:
        """`KvClient.put`."""
        return self._run(
            lambda kv: kv.put(
                key,
                value,
                lease=lease,
                ttl_s=ttl_s,
                wants_previous=wants_previous,
                timeout_s=timeout_s,
            )
        )

    def append(
        self,
        key: Text,
        value: Text,
        *,
        wants_previous: bool = False,
        timeout_s: float | None = None,
    ) -> Written:
        """`KvClient.append`."""
        return self._run(
            lambda kv: kv.append(key, value, wants_previous=wants_previous, timeout_s=timeout_s)
        )

    def increment(self, key: Text, by: int = 1, *, timeout_s: float | None = None) -> Incremented:
        """`KvClient.increment`."""
        return self._run(lambda kv: kv.increment(key, by, timeout_s=timeout_s))

    def delete(
        self, key: Text, *, wants_previous: bool = False, timeout_s: float | None = None
    ) -> Written:
        """`KvClient.delete`."""
        return self._run(
            lambda kv: kv.delete(key, wants_previous=wants_previous, timeout_s=timeout_s)
        )

    def delete_if(
        self,
        key: Text,
        expected: Text | None = None,
        *,
        changed_index: LogIndex | None = None,
        timeout_s: float | None = None,
    ) -> Swapped:
        """`KvClient.delete_if`."""
        return self._run(
            lambda kv: kv.delete_if(key, expected, changed_index=changed_index, timeout_s=timeout_s)
        )

    def delete_range(
        self,
        prefix: Text,
        *,
        until: Text | None = None,
        limit: int | None = None,
        timeout_s: float | None = None,
    ) -> Deleted:
        """`KvClient.delete_range`."""
        return self._run(
            lambda kv: kv.delete_range(prefix, until=until, limit=limit, timeout_s=timeout_s)
        )

    def cas(
        self,
        key: Text,
        expected: Text | None,
        value: Text,
        *,
        timeout_s: float | None = None,
    ) -> Swapped:
        """`KvClient.cas`."""
        return self._run(lambda kv: kv.cas(key, expected, value, timeout_s=timeout_s))

    # -- transactions ----------------------------------------------------------------------

    def txn(
        self,
        *,
        if_: Sequence[Compare] = (),
        then: Sequence[Operation] = (),
        else_: Sequence[Operation] = (),
        timeout_s: float | None = None,
    ) -> TxnOutcome:
        """`KvClient.txn`."""
        return self._run(lambda kv: kv.txn(if_=if_, then=then, else_=else_, timeout_s=timeout_s))

    def stm(
        self,
        function: Callable[[BlockingStm], T],
        *,
        attempts_max: int = stm.ATTEMPTS_MAX,
        timeout_s: float | None = None,
    ) -> T:
        """`KvClient.stm`, of a plain function."""
        known: dict[bytes, Found] = {}
        for attempts in range(attempts_max):
            draft = Draft(known)
            result = function(BlockingStm(draft, lambda key: self.find(key, timeout_s=timeout_s)))
            txn = draft.txn()
            if txn is None:
                return result
            done = self._client.run(partial(_transact, txn, timeout_s))
            if done.succeeded:
                return result
            known = draft.found_by(done)
            self._client.run(partial(_pause, attempts))
        raise stm.conflict(attempts_max)

    # -- leases ----------------------------------------------------------------------------

    def grant(self, ttl_s: float, *, prefix: Text = b"", timeout_s: float | None = None) -> Lease:
        """`KvClient.grant`."""
        return self._run(lambda kv: kv.grant(ttl_s, prefix=prefix, timeout_s=timeout_s))

    def keep_alive(self, lease: Lease | KeptLease, *, timeout_s: float | None = None) -> LogIndex:
        """`KvClient.keep_alive`."""
        return self._run(lambda kv: kv.keep_alive(lease, timeout_s=timeout_s))

    def revoke(self, lease: Lease | KeptLease, *, timeout_s: float | None = None) -> Deleted:
        """`KvClient.revoke`."""
        return self._run(lambda kv: kv.revoke(lease, timeout_s=timeout_s))

    def time_to_live(
        self,
        lease: Lease | KeptLease,
        *,
        consistency: Consistency = "linearizable",
        timeout_s: float | None = None,
    ) -> LeaseLife | None:
        """`KvClient.time_to_live`."""
        return self._run(
            lambda kv: kv.time_to_live(lease, consistency=consistency, timeout_s=timeout_s)
        )

    def lease(self, ttl_s: float, *, prefix: Text = b"") -> AbstractContextManager[KeptLease]:
        """`KvClient.lease`."""
        return self._client.hold(lambda client: KvClient(client).lease(ttl_s, prefix=prefix))

    # -- locks and elections ---------------------------------------------------------------

    def lock(
        self, name: Text, *, value: Text = b"", ttl_s: float = turns.TTL_S
    ) -> AbstractContextManager[KvGrant]:
        """`KvClient.lock`."""
        return self._client.hold(
            lambda client: KvClient(client).lock(name, value=value, ttl_s=ttl_s)
        )

    @contextmanager
    def elect(
        self, name: Text, *, value: Text = b"", ttl_s: float = turns.TTL_S
    ) -> Iterator[BlockingLeadership]:
        """`KvClient.elect`."""
        with self._client.hold(
            lambda client: KvClient(client).elect(name, value=value, ttl_s=ttl_s)
        ) as leadership:
            yield BlockingLeadership(self._client, leadership)

    def observe(self, name: Text) -> Iterator[Elected | None]:
        """`KvClient.observe`."""
        return self._each(lambda kv: kv.observe(name))

    # -- queries ---------------------------------------------------------------------------

    def get(
        self,
        key: Text,
        *,
        consistency: Consistency = "linearizable",
        timeout_s: float | None = None,
    ) -> bytes | None:
        """`KvClient.get`."""
        return self._run(lambda kv: kv.get(key, consistency=consistency, timeout_s=timeout_s))

    def find(
        self,
        key: Text,
        *,
        consistency: Consistency = "linearizable",
        timeout_s: float | None = None,
    ) -> Found:
        """`KvClient.find`."""
        return self._run(lambda kv: kv.find(key, consistency=consistency, timeout_s=timeout_s))

    def count(
        self,
        prefix: Text = b"",
        *,
        until: Text | None = None,
        consistency: Consistency = "linearizable",
        timeout_s: float | None = None,
    ) -> int:
        """`KvClient.count`."""
        return self._run(
            lambda kv: kv.count(prefix, until=until, consistency=consistency, timeout_s=timeout_s)
        )

    def page(
        self,
        prefix: Text = b"",
        *,
        until: Text | None = None,
        after: Text | None = None,
        items_max: int = 1000,
        keys_only: bool = False,
        is_descending: bool = False,
        unchanged_since: LogIndex | None = None,
        consistency: Consistency = "linearizable",
        timeout_s: float | None = None,
    ) -> Page:
        """`KvClient.page`."""
        return self._run(
            lambda kv: kv.page(
                prefix,
                until=until,
                after=after,
                items_max=items_max,
                keys_only=keys_only,
                is_descending=is_descending,
                unchanged_since=unchanged_since,
                consistency=consistency,
                timeout_s=timeout_s,
            )
        )

    def range(
        self,
        prefix: Text = b"",
        *,
        until: Text | None = None,
        limit: int | None = None,
        keys_only: bool = False,
        is_descending: bool = False,
        is_consistent: bool = False,
        consistency: Consistency = "linearizable",
        timeout_s: float | None = None,
    ) -> Iterator[Pair]:
        """`KvClient.range`."""
        return self._each(
            lambda kv: kv.range(
                prefix,
                until=until,
                limit=limit,
                keys_only=keys_only,
                is_descending=is_descending,
                is_consistent=is_consistent,
                consistency=consistency,
                timeout_s=timeout_s,
            )
        )

    @contextmanager
    def watch(
        self,
        prefix: Text = b"",
        *,
        key: Text | None = None,
        until: Text | None = None,
        from_index: LogIndex,
        wants_previous: bool = False,
        at: NodeId | Address | None = None,
    ) -> Iterator[Iterator[Change]]:
        """`KvClient.watch`."""
        with self._client.hold(
            lambda client: KvClient(client).watch(
                prefix,
                key=key,
                until=until,
                from_index=from_index,
                wants_previous=wants_previous,
                at=at,
            )
        ) as changes:
            yield self._each(lambda _: changes)


async def _transact(txn: Txn, timeout_s: float | None, client: ClusterClient) -> TxnDone:
    return await Requests(client).call(txn, TxnDone, timeout_s)


async def _pause(attempts: int, _client: ClusterClient) -> None:
    await stm.pause(attempts)


@final
class BlockingLeadership:
    """As `Leadership`, without `await`. Made by `BlockingKvClient.elect`.

    Attributes:
        token: the log index of the command that lined up for it; rises from leader to leader.
    """

    __slots__ = ("_client", "_leadership", "token")

    def __init__(self, client: BlockingRunner, leadership: Leadership) -> None:
        self.token: LogIndex = leadership.token
        self._client = client
        self._leadership = leadership

    @property
    def is_lost(self) -> bool:
        """Whether it is over."""
        return self._leadership.is_lost

    def check(self) -> None:
        """Raises:
        LockLost: it is lost.
        """
        self._leadership.check()

    def proclaim(self, value: Text, *, timeout_s: float | None = None) -> None:
        """`Leadership.proclaim`."""
        self._client.run(lambda _: self._leadership.proclaim(value, timeout_s=timeout_s))
