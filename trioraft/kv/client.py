"""KvClient: what can be asked of a key-value service: names and types for a `trioraft.Client`."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeVar, final

from ..core.errors import ConfigError, RaftError
from ..core.types import Address, LogIndex, NodeId
from ..rpc.protocol import Consistency
from . import leasing, stm, turns
from .commands import (
    CHANGES_MAX,
    Append,
    Cas,
    Change,
    Changes,
    Compare,
    Delete,
    Deleted,
    DeleteRange,
    Found,
    Get,
    Granted,
    Increment,
    Incremented,
    KeepAlive,
    LeaseLife,
    Operation,
    Page,
    Pair,
    Range,
    RangeShows,
    Revoke,
    Swapped,
    TimeToLive,
    TxnDone,
    Written,
)
from .leasing import KeptLease, Lease, LeaseLike
from .requests import (
    ClusterClient,
    Requests,
    Text,
    key_of,
    optional_key_of,
    value_of,
)
from .stm import Draft, Stm
from .transactions import Do, If, TxnOutcome, outcome_of, txn_of
from .turns import KvGrant, Leadership, Observed

T = TypeVar("T")


class RangeChanged(RaftError):  # noqa: N818 - what happened, as in the other errors of this kind
    """A range changed between its pages, or it cannot be told any more whether it did.

    Fault: of nobody: others write.
    Remedy: read it again from the beginning, or without `is_consistent`.
    """


@final
class KvClient:
    """A key-value service's client.

    ```python
    async with Client(addresses, error_types=ERROR_TYPES) as client:
        kv = KvClient(client)
        await kv.put("colour", "red")
        print(await kv.get("colour"))
    ```

    Every method raises what `trioraft.Client.call` or `.query` raise. Of all methods:

    `key` is a key, as text (UTF-8) or bytes.

    `timeout_s` is how long to try, in seconds; default: the client's.

    `consistency` is what a read is worth, as for `trioraft.Client.query`.

    Cancelling a command gives up the wait; it may still be applied. Cancelling a read disturbs
    nobody.

    Args:
        client: an open one. Make it with `error_types=ERROR_TYPES`.
    """

    def __init__(self, client: ClusterClient) -> None:
        self._requests = Requests(client)

    # -- commands --------------------------------------------------------------------------

    async def put(
        self,
        key: Text,
        value: Text,
        *,
        lease: LeaseLike | None = None,
        ttl_s: float | None = None,
        wants_previous: bool = False,
        timeout_s: float | None = None,
    ) -> Written:
        """Set a key's value.

        Args:
            key: which one.
            value: the whole new value.
            lease: the key goes with it. Without one it belongs to none (any more).
            ttl_s: the key goes after so many seconds of log time, unless it is put again.
            wants_previous: the answer bears the value before.
            timeout_s: in seconds.

        Raises:
            LeaseNotFound, LeaseRefused: it cannot belong to this lease; nothing was put.
        """
        command = Do.put(key, value, lease=lease, ttl_s=ttl_s, wants_previous=wants_previous)
        return await self._requests.call(command, Written, timeout_s)

    async def append(
        self,
        key: Text,
        value: Text,
        *,
        wants_previous: bool = False,
        timeout_s: float | None = None,
    ) -> Written:
        """Append to a key's value; an absent one counts as empty. Its lease and life stay.

        Args:
            value: what is appended.
            wants_previous: the answer bears the value before.

        Raises:
            ValueTooLarge: the value would grow beyond `VALUE_BYTES_MAX`; nothing was changed.
        """
        command = Append(key_of(key), value_of(value), wants_previous)
        return await self._requests.call(command, Written, timeout_s)

    async def increment(
        self, key: Text, by: int = 1, *, timeout_s: float | None = None
    ) -> Incremented:
        """Add to a number, which is kept as decimal text; an absent one is 0. Its lease and life
        stay.

        Args:
            by: how much; may be negative.

        Raises:
            NotANumber: the value is no decimal number of 64 bits; nothing was changed.
            ValueTooLarge: the sum would be none; nothing was changed.
        """
        return await self._requests.call(Increment(key_of(key), by), Incremented, timeout_s)

    async def delete(
        self, key: Text, *, wants_previous: bool = False, timeout_s: float | None = None
    ) -> Written:
        """Remove a key; `existed` of the answer says whether it was there.

        Args:
            wants_previous: the answer bears the value that it had.
        """
        return await self._requests.call(Delete(key_of(key), wants_previous), Written, timeout_s)

    async def delete_if(
        self,
        key: Text,
        expected: Text | None = None,
        *,
        changed_index: LogIndex | None = None,
        timeout_s: float | None = None,
    ) -> Swapped:
        """Remove a key if it has this value, or was last changed by this command, or both.

        Args:
            expected: the value that it must have; None: any.
            changed_index: the index of the command that must have been the last to change it; None:
                any.

        Raises:
            ConfigError: nothing is expected; nothing was sent.
        """
        if expected is None and changed_index is None:
            raise ConfigError("give what is expected: a value, a changed_index, or both")
        conditions = [] if expected is None else [If.equals(key, expected)]
        if changed_index is not None:
            conditions += [If.present(key), If.changed_index(key, "=", changed_index)]
        done = await self.txn(
            if_=conditions,
            then=[Do.get(key), Do.delete(key)],
            else_=[Do.get(key)],
            timeout_s=timeout_s,
        )
        found = done.results[0]
        if not isinstance(found, Found):
            raise TypeError(f"a get was answered by {found!r}")
        revision = found.changed_index, found.created_index, found.version
        return Swapped(done.index, done.succeeded, found.value, *revision)

    async def delete_range(
        self,
        prefix: Text,
        *,
        until: Text | None = None,
        limit: int | None = None,
        timeout_s: float | None = None,
    ) -> Deleted:
        """Remove the keys that begin with `prefix`, or those from it up to `until`, which is none
        of them; at once.

        Args:
            prefix: of the keys.
            until: the first key behind them.
            limit: only the first so many, at most `CHANGES_MAX`; `has_more` says whether there are
                others.
            timeout_s: in seconds.

        Raises:
            RequestTooLarge: without a limit: there are more than `CHANGES_MAX`; none was removed.
            ConfigError: `limit` is not from 1 to `CHANGES_MAX`; nothing was sent.
        """
        if limit is not None and not 1 <= limit <= CHANGES_MAX:
            raise ConfigError(f"limit is {limit!r}: give 1 to {CHANGES_MAX}")
        command = DeleteRange(key_of(prefix), optional_key_of(until), limit)
        return await self._requests.call(command, Deleted, timeout_s)

    async def cas(
        self,
        key: Text,
        expected: Text | None,
        value: Text,
        *,
        timeout_s: float | None = None,
    ) -> Swapped:
        """Set a key's value if it is `expected` (None: if the key is absent).

        Args:
            expected: what it must be.
            value: the whole new value.
        """
        wanted = None if expected is None else value_of(expected)
        command = Cas(key_of(key), wanted, value_of(value))
        return await self._requests.call(command, Swapped, timeout_s)

    # -- transactions ----------------------------------------------------------------------

    async def txn(
        self,
        *,
        if_: Sequence[Compare] = (),
        then: Sequence[Operation] = (),
        else_: Sequence[Operation] = (),
        timeout_s: float | None = None,
    ) -> TxnOutcome:
        """If all of `if_` hold, do `then`, else `else_`: in order, as one command.

        ```python
        done = await kv.txn(
            if_=[If.equals("owner", "nobody")],
            then=[Do.put("owner", "me"), Do.increment("owners")],
            else_=[Do.get("owner")],
        )
        ```

        Args:
            if_: conditions, as `If` makes them; none: they hold.
            then: what to do if all hold, as `Do` makes it.
            else_: what to do otherwise.

        Raises:
            RequestTooLarge, ValueTooLarge, NotANumber, LeaseNotFound, LeaseRefused: one operation
                cannot be done; nothing was changed.
            ConfigError: there are more than `COMPARES_MAX` or `OPERATIONS_MAX`.
        """
        done = await self._requests.call(txn_of(if_, then, else_), TxnDone, timeout_s)
        return outcome_of(done)

    async def stm(
        self,
        function: Callable[[Stm], Awaitable[T]],
        *,
        attempts_max: int = stm.ATTEMPTS_MAX,
        timeout_s: float | None = None,
    ) -> T:
        """Run a function that reads and writes keys as if it were alone; returns what it returns.

        ```python
        async def transfer(keys: Stm) -> None:
            paid = int(await keys.get("alice") or 0) - 5
            got = int(await keys.get("bob") or 0) + 5
            keys.put("alice", str(paid))
            keys.put("bob", str(got))

        await kv.stm(transfer)
        ```

        What it wrote is there once it returned, if nothing that it read has changed meanwhile;
        else it is run again. If it raises, nothing is written.

        Args:
            function: is given an `Stm`; may be run several times.
            attempts_max: so often.
            timeout_s: for each look and each attempt to write, in seconds.

        Raises:
            StmConflict: there was a conflict each time; nothing was written.
        """
        known: dict[bytes, Found] = {}
        for attempts in range(attempts_max):
            draft = Draft(known)
            result = await function(Stm(draft, self._look(timeout_s)))
            txn = draft.txn()
            if txn is None:
                return result
            done = await self._requests.call(txn, TxnDone, timeout_s)
            if done.succeeded:
                return result
            known = draft.found_by(done)
            await stm.pause(attempts)
        raise stm.conflict(attempts_max)

    def _look(self, timeout_s: float | None) -> Callable[[bytes], Awaitable[Found]]:
        return lambda key: self.find(key, timeout_s=timeout_s)

    # -- leases ----------------------------------------------------------------------------

    async def grant(
        self, ttl_s: float, *, prefix: Text = b"", timeout_s: float | None = None
    ) -> Lease:
        """Have a lease granted: keys that are put with it go when it ends.

        Args:
            ttl_s: how long it lasts without a renewal, in seconds of log time.
            prefix: only keys that begin so may belong to it. A role that is bounded to prefixes
                needs one; it is part of the lease's name.
            timeout_s: in seconds.

        Raises:
            LeaseRefused: there are too many leases.
        """
        return await leasing.grant(self._requests, ttl_s, prefix, timeout_s=timeout_s)

    async def keep_alive(
        self, lease: Lease | KeptLease, *, timeout_s: float | None = None
    ) -> LogIndex:
        """Have a lease last for its whole life from now on. Returns the index of the command.

        Args:
            lease: the lease, as it was granted or is kept.

        Raises:
            LeaseNotFound: it is over.
        """
        command = KeepAlive(lease.lease_id, lease.prefix)
        return (await self._requests.call(command, Granted, timeout_s)).index

    async def revoke(self, lease: Lease | KeptLease, *, timeout_s: float | None = None) -> Deleted:
        """End a lease now; its keys are gone with it.

        Args:
            lease: the lease, as it was granted or is kept.

        Raises:
            LeaseNotFound: it is over already.
        """
        command = Revoke(lease.lease_id, lease.prefix)
        return await self._requests.call(command, Deleted, timeout_s)

    async def time_to_live(
        self,
        lease: Lease | KeptLease,
        *,
        consistency: Consistency = "linearizable",
        timeout_s: float | None = None,
    ) -> LeaseLife | None:
        """How long a lease lasts, and its keys; None: it is over.

        Args:
            lease: the lease, as it was granted or is kept.
        """
        query = TimeToLive(lease.lease_id, lease.prefix)
        life = await self._requests.ask(
            query, LeaseLife, consistency=consistency, timeout_s=timeout_s
        )
        return life if life.ttl_ms else None

    def lease(self, ttl_s: float, *, prefix: Text = b"") -> AbstractAsyncContextManager[KeptLease]:
        """A lease for a body: granted, renewed by itself, and revoked at its end.

        ```python
        async with kv.lease(10) as lease:
            await kv.put("here/me", "127.0.0.1:80", lease=lease)
            print(await kv.time_to_live(lease))
        ```

        Cancelling the body revokes it.

        Args:
            ttl_s: how long its keys stay, in seconds, if this process vanishes.
            prefix: as in `grant`.

        Raises:
            LeaseLost: the body was cancelled, because it could not be renewed, or was revoked.
        """
        return leasing.kept(self._requests, ttl_s, prefix)

    # -- locks and elections ---------------------------------------------------------------

    def lock(
        self, name: Text, *, value: Text = b"", ttl_s: float = turns.TTL_S
    ) -> AbstractAsyncContextManager[KvGrant]:
        """Wait for a lock, hold it for the body, and give it back. First come, first served.

        ```python
        async with kv.lock("backup") as grant:
            await kv.put("backup", "begun")  # and whoever is told the token, refuses older ones
            print(grant.token)
        ```

        Cancelling gives it back, or the place among those who wait.

        Args:
            name: of the lock; its keys begin with this and a slash.
            value: of its key, to tell people who it is.
            ttl_s: how long it stays taken, in seconds, if this process vanishes.

        Raises:
            LockLost: the body was cancelled, because the lease could not be renewed, or was
                revoked.
        """
        return turns.held(self._requests, name, value=value, ttl_s=ttl_s)

    def elect(
        self, name: Text, *, value: Text = b"", ttl_s: float = turns.TTL_S
    ) -> AbstractAsyncContextManager[Leadership]:
        """Wait to be elected, lead for the body, and resign. As `lock`, with a value to observe.

        Args:
            name: of the election; its keys begin with this and a slash.
            value: what those who observe are told, such as an address.
            ttl_s: how long until another one is elected, in seconds, if this process vanishes.

        Raises:
            LockLost: the body was cancelled, because the lease could not be renewed, or was
                revoked.
        """
        return turns.elected(self._requests, name, value=value, ttl_s=ttl_s)

    def observe(self, name: Text) -> Observed:
        """Who is elected, now and whenever that changes: `async for elected in kv.observe("x"):`.

        Each item is an `Elected`, or None if nobody is. Those that were there only for a moment may
        be missed.
        """
        return Observed(self._requests, name)

    # -- queries ---------------------------------------------------------------------------

    async def get(
        self,
        key: Text,
        *,
        consistency: Consistency = "linearizable",
        timeout_s: float | None = None,
    ) -> bytes | None:
        """A key's value, or None if it is absent."""
        return (await self.find(key, consistency=consistency, timeout_s=timeout_s)).value

    async def find(
        self,
        key: Text,
        *,
        consistency: Consistency = "linearizable",
        timeout_s: float | None = None,
    ) -> Found:
        """A key's value with its revision: watch from `index + 1` on."""
        return await self._requests.ask(
            Get(key_of(key)), Found, consistency=consistency, timeout_s=timeout_s
        )

    async def count(
        self,
        prefix: Text = b"",
        *,
        until: Text | None = None,
        consistency: Consistency = "linearizable",
        timeout_s: float | None = None,
    ) -> int:
        """How many keys begin with `prefix`, or lie from there up to `until`.

        Args:
            prefix: of the keys.
            until: the first key behind them, which is not counted.
        """
        query = Range(key_of(prefix), until=optional_key_of(until), shows=RangeShows.COUNT)
        page = await self._requests.ask(query, Page, consistency=consistency, timeout_s=timeout_s)
        return page.count or 0

    async def page(
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
        """Some of the pairs whose keys begin with `prefix`, by key, all as of one index.

        Args:
            prefix: of the keys.
            until: those from `prefix` up to this key, which is not one of them, instead.
            after: only keys behind this one; the last key of the page before.
            items_max: largest number of pairs; there may be fewer, of large ones.
            keys_only: their values are left out.
            is_descending: from the last key on.
            unchanged_since: the index of the first page: `is_same` of the answer says whether the
                range is still as it was then, so that the pages belong together.
            consistency: as in `Client.query`.
            timeout_s: in seconds.

        Raises:
            ConfigError: `items_max` is less than 1; nothing was asked.
        """
        if items_max < 1:
            raise ConfigError(f"items_max is {items_max!r}: give at least 1")
        query = Range(
            key_of(prefix),
            optional_key_of(after),
            items_max,
            optional_key_of(until),
            is_descending,
            RangeShows.KEYS if keys_only else RangeShows.PAIRS,
            unchanged_since,
        )
        return await self._requests.ask(query, Page, consistency=consistency, timeout_s=timeout_s)

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
    ) -> AsyncIterator[Pair]:
        """All pairs whose keys begin with `prefix`, by key: `async for pair in kv.range("a/"):`.

        They are read page by page, each page as of a later index: what changes meanwhile may or
        may not show; unless `is_consistent`. `timeout_s` is for each page.

        Args:
            prefix: of the keys.
            until: those from `prefix` up to this key, which is not one of them, instead.
            limit: at most so many.
            keys_only: their values are left out.
            is_descending: from the last key on.
            is_consistent: all as of the index of the first page.
            consistency: as in `Client.query`.
            timeout_s: in seconds.

        Raises:
            RangeChanged: while iterating, with `is_consistent`: the range changed between pages.
        """

        async def next_page(before: Page | None, items_max: int) -> Page:
            last = before.pairs[-1].key if before is not None and before.pairs else None
            return await self.page(
                prefix,
                until=until,
                after=last,
                items_max=items_max,
                keys_only=keys_only,
                is_descending=is_descending,
                unchanged_since=before.index if before is not None and is_consistent else None,
                consistency=consistency,
                timeout_s=timeout_s,
            )

        return _Pairs(next_page, limit, is_consistent=is_consistent)

    def watch(
        self,
        prefix: Text = b"",
        *,
        key: Text | None = None,
        until: Text | None = None,
        from_index: LogIndex,
        wants_previous: bool = False,
        at: NodeId | Address | None = None,
    ) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        """Every change of the keys that begin with `prefix`, from an index on, in order.

        ```python
        found = await kv.find("colour")
        async with kv.watch(key="colour", from_index=found.index + 1) as changes:
            await kv.put("colour", "red")
            async for change in changes:
                print(change.key, change.value)
                break
        ```

        Args:
            prefix: of the keys.
            key: only this one, instead.
            until: those from `prefix` up to this key, which is not one of them, instead.
            from_index: of the first change wanted; 1: from the very beginning.
            wants_previous: changes bear the values before.
            at: at which server; default: the leader's if it is known, else any.

        Raises:
            ConfigError: a key and a range are given.
            HistoryCompacted: on entering, or while iterating: the changes from there on are not
                kept any more.
            ServerLost, ServerLeaving: likewise: subscribe again, from `index + 1` of the last
                change.
        """
        begin, end = key_of(prefix), optional_key_of(until)
        if key is not None:
            if begin or end is not None:
                raise ConfigError("a key and a range are given: give one of them")
            begin = key_of(key)
            end = begin + b"\0"
        wanted = Changes(from_index, begin, until=end, wants_previous=wants_previous)
        return self._requests.watch(wanted, at)


class _Pairs:
    """The pairs of all pages. No generator: one that is not iterated to its end is a leak."""

    def __init__(
        self,
        next_page: Callable[[Page | None, int], Awaitable[Page]],
        limit: int | None,
        *,
        is_consistent: bool,
    ) -> None:
        self._next_page = next_page
        self._missing = limit
        self._is_consistent = is_consistent
        self._pairs: deque[Pair] = deque()
        self._page: Page | None = None

    def __aiter__(self) -> _Pairs:
        return self

    async def __anext__(self) -> Pair:
        while not self._pairs:
            before = self._page
            if (before is not None and not before.has_more) or self._missing == 0:
                raise StopAsyncIteration
            items_max = 1000 if self._missing is None else min(1000, self._missing)
            page = await self._next_page(before, items_max)
            if before is not None and self._is_consistent:
                if not page.is_same:
                    said = "cannot be told any more whether it" if page.is_same is None else "it"
                    raise RangeChanged(
                        f"the range was read as of index {before.index} first, and {said} has "
                        f"changed by index {page.index}: read it again from the beginning"
                    )
                page = Page(before.index, page.pairs, page.has_more)
            self._pairs.extend(page.pairs)
            self._page = page
            if self._missing is not None:
                self._missing -= len(page.pairs)
        return self._pairs.popleft()
