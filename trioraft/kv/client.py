"""KvClient: what can be asked of a key-value service: names and types for a `trioraft.Client`."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Protocol, TypeAlias, TypeVar, final

from ..core.errors import ConfigError, RaftError
from ..core.types import Address, LogIndex, NodeId
from ..machines.sessions import UnknownCommand
from ..rpc.protocol import Consistency
from .commands import (
    KEY_BYTES_MAX,
    VALUE_BYTES_MAX,
    Append,
    Cas,
    Change,
    Changed,
    Changes,
    Command,
    Compacted,
    Delete,
    Found,
    Get,
    HistoryCompacted,
    Page,
    Pair,
    Put,
    Query,
    Range,
    Swapped,
    ValueTooLarge,
    Written,
    encode,
)

ERROR_TYPES: Final[tuple[type[RaftError], ...]] = (ValueTooLarge, UnknownCommand)
"""What a `KvMachine` raises on purpose: for `Client(error_types=…)` and `SessionMachine(…)`."""

_R = TypeVar("_R")
Text: TypeAlias = bytes | str
"""A key or a value, as it may be given."""


class ClusterClient(Protocol):
    """What of a `trioraft.Client` is used here."""

    async def call(self, data: bytes, *, timeout_s: float | None, result_type: Any) -> Any: ...

    async def query(
        self,
        data: bytes,
        *,
        consistency: Consistency,
        timeout_s: float | None,
        result_type: Any,
    ) -> Any: ...

    def watch(
        self, data: bytes, *, at: NodeId | Address | None, item_type: Any
    ) -> AbstractAsyncContextManager[AsyncIterator[Any]]: ...


@final
class KvClient:
    """A key-value service's client.

    ```python
    async with Client(addresses, error_types=ERROR_TYPES) as client:
        kv = KvClient(client)
        await kv.put("colour", "red")
        print(await kv.get("colour"))
    ```

    Every method takes `timeout_s` (seconds; default: the client's) and raises what
    `trioraft.Client.call` or `.query` raise. Cancelling a command gives up the wait; it may still
    be applied.

    Args:
        client: an open one. Make it with `error_types=ERROR_TYPES`.
    """

    def __init__(self, client: ClusterClient) -> None:
        self._client = client

    # -- commands --------------------------------------------------------------------------

    async def put(
        self,
        key: Text,
        value: Text,
        *,
        wants_previous: bool = False,
        timeout_s: float | None = None,
    ) -> Written:
        """Set a key's value. With `wants_previous` the answer bears the value it had."""
        return await self._call(Put(_key(key), _value(value), wants_previous), Written, timeout_s)

    async def append(
        self,
        key: Text,
        value: Text,
        *,
        wants_previous: bool = False,
        timeout_s: float | None = None,
    ) -> Written:
        """Append to a key's value; an absent one counts as empty.

        Raises:
            ValueTooLarge: the value would grow beyond `VALUE_BYTES_MAX`; nothing was changed.
        """
        return await self._call(
            Append(_key(key), _value(value), wants_previous), Written, timeout_s
        )

    async def delete(
        self, key: Text, *, wants_previous: bool = False, timeout_s: float | None = None
    ) -> Written:
        """Remove a key; `existed` of the answer says whether it was there."""
        return await self._call(Delete(_key(key), wants_previous), Written, timeout_s)

    async def cas(
        self,
        key: Text,
        expected: Text | None,
        value: Text,
        *,
        timeout_s: float | None = None,
    ) -> Swapped:
        """Set a key's value if it is `expected` (None: if the key is absent)."""
        wanted = None if expected is None else _value(expected)
        return await self._call(Cas(_key(key), wanted, _value(value)), Swapped, timeout_s)

    async def _call(self, command: Command, result_type: type[_R], timeout_s: float | None) -> _R:
        result: _R = await self._client.call(
            encode(command), timeout_s=timeout_s, result_type=result_type
        )
        return result

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
        """A key's value with the indexes that belong to it: watch from `index + 1` on."""
        return await self._ask(Get(_key(key)), Found, consistency, timeout_s)

    async def page(
        self,
        prefix: Text = b"",
        *,
        after: Text | None = None,
        items_max: int = 1000,
        consistency: Consistency = "linearizable",
        timeout_s: float | None = None,
    ) -> Page:
        """Some of the pairs whose keys begin with `prefix`, by key, all as of one index.

        Args:
            prefix: of the keys.
            after: only keys behind this one; the last key of the page before.
            items_max: largest number of pairs; there may be fewer, of large ones.
            consistency: as in `Client.query`.
            timeout_s: in seconds.
        """
        if items_max < 1:
            raise ConfigError(f"items_max is {items_max!r}: give at least 1")
        query = Range(_key(prefix), None if after is None else _key(after), items_max)
        return await self._ask(query, Page, consistency, timeout_s)

    def range(
        self,
        prefix: Text = b"",
        *,
        consistency: Consistency = "linearizable",
        timeout_s: float | None = None,
    ) -> AsyncIterator[Pair]:
        """All pairs whose keys begin with `prefix`, by key: `async for pair in kv.range("a/"):`.

        They are read page by page, each page as of a later index: what changes meanwhile may or
        may not show. `timeout_s` is for each page.
        """

        async def next_page(after: bytes | None) -> Page:
            return await self.page(
                prefix, after=after, consistency=consistency, timeout_s=timeout_s
            )

        return _Pairs(next_page)

    async def _ask(
        self, query: Query, answer_type: type[_R], consistency: Consistency, timeout_s: float | None
    ) -> _R:
        answer: _R = await self._client.query(
            encode(query), consistency=consistency, timeout_s=timeout_s, result_type=answer_type
        )
        return answer

    @asynccontextmanager
    async def watch(
        self,
        prefix: Text = b"",
        *,
        from_index: LogIndex,
        at: NodeId | Address | None = None,
    ) -> AsyncIterator[AsyncIterator[Change]]:
        """Every change of the keys that begin with `prefix`, from an index on, in order.

        ```python
        found = await kv.find("colour")
        async with kv.watch("colour", from_index=found.index + 1) as changes:
            await kv.put("colour", "red")
            async for change in changes:
                print(change.key, change.value)
                break
        ```

        Args:
            prefix: of the keys.
            from_index: of the first change wanted; 1: from the very beginning.
            at: at which server; default: the leader's if it is known, else any.

        Raises (on entering, or while iterating):
            HistoryCompacted: the changes from there on are not kept any more.
            ServerLost, ServerLeaving: subscribe again, from `index + 1` of the last change.
        """
        query = encode(Changes(from_index, _key(prefix)))
        async with self._client.watch(query, at=at, item_type=Changed | Compacted) as items:
            yield _SingleChanges(items, from_index)


class _Pairs:
    """The pairs of all pages. No generator: one that is not iterated to its end is a leak."""

    def __init__(self, next_page: Callable[[bytes | None], Awaitable[Page]]) -> None:
        self._next_page = next_page
        self._pairs: deque[Pair] = deque()
        self._after: bytes | None = None
        self._has_more = True

    def __aiter__(self) -> _Pairs:
        return self

    async def __anext__(self) -> Pair:
        while not self._pairs:
            if not self._has_more:
                raise StopAsyncIteration
            page = await self._next_page(self._after)
            self._pairs.extend(page.pairs)
            self._has_more = page.has_more
            if page.pairs:
                self._after = page.pairs[-1].key
        return self._pairs.popleft()


class _SingleChanges:
    """Changes one by one, of items that hold several."""

    def __init__(self, items: AsyncIterator[Changed | Compacted], from_index: LogIndex) -> None:
        self._items = items
        self._from_index = from_index
        self._changes: deque[Change] = deque()

    def __aiter__(self) -> _SingleChanges:
        return self

    async def __anext__(self) -> Change:
        while not self._changes:
            item = await anext(self._items)
            if isinstance(item, Compacted):
                raise HistoryCompacted(self._from_index, item.oldest_index)
            self._changes.extend(item.changes)
            self._from_index = item.next_index
        return self._changes.popleft()


def _key(text: Text) -> bytes:
    return _checked(text, "key", KEY_BYTES_MAX)


def _value(text: Text) -> bytes:
    return _checked(text, "value", VALUE_BYTES_MAX)


def _checked(text: Text, what: str, bytes_max: int) -> bytes:
    data = text.encode() if isinstance(text, str) else bytes(text)
    if len(data) > bytes_max:
        raise ConfigError(f"a {what} of {len(data)} bytes: give at most {bytes_max}")
    return data
