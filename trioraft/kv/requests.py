"""Requests: what a key-value service is asked, typed, through whatever reaches the cluster."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Protocol, TypeAlias, TypeVar, final

from ..core.errors import ConfigError, RaftError
from ..core.types import Address, LogIndex, NodeId
from ..machines.sessions import UnknownCommand
from ..rpc.protocol import Consistency
from .commands import (
    KEY_BYTES_MAX,
    TTL_MS_MAX,
    VALUE_BYTES_MAX,
    Change,
    Changed,
    Changes,
    Command,
    Compacted,
    HistoryCompacted,
    LeaseNotFound,
    LeaseRefused,
    NotANumber,
    Query,
    RequestTooLarge,
    ValueTooLarge,
    encode,
)

ERROR_TYPES: Final[tuple[type[RaftError], ...]] = (
    ValueTooLarge,
    UnknownCommand,
    NotANumber,
    RequestTooLarge,
    LeaseNotFound,
    LeaseRefused,
)
"""What a `KvMachine` raises on purpose: for `Client(error_types=…)` and `SessionMachine(…)`."""

_R = TypeVar("_R")
Text: TypeAlias = bytes | str
"""A key or a value, as it may be given."""


class ClusterClient(Protocol):
    """What of a `trioraft.Client` is used here.

    Each method is as `Client` has it.
    """

    async def call(self, data: bytes, *, timeout_s: float | None, result_type: Any) -> Any:
        """Send a command; returns its result."""

    async def query(
        self,
        data: bytes,
        *,
        consistency: Consistency,
        timeout_s: float | None,
        result_type: Any,
    ) -> Any:
        """Ask a question; returns the answer."""

    def watch(
        self, data: bytes, *, at: NodeId | Address | None, item_type: Any
    ) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
        """Follow answers as they change."""


@final
class Requests:
    """Args:
    client: an open one.
    """

    def __init__(self, client: ClusterClient) -> None:
        self._client = client

    async def call(self, command: Command, result_type: type[_R], timeout_s: float | None) -> _R:
        """Have a command applied, once."""
        result: _R = await self._client.call(
            encode(command), timeout_s=timeout_s, result_type=result_type
        )
        return result

    async def ask(
        self,
        query: Query,
        answer_type: type[_R],
        *,
        consistency: Consistency = "linearizable",
        timeout_s: float | None = None,
    ) -> _R:
        """Have a question answered."""
        answer: _R = await self._client.query(
            encode(query), consistency=consistency, timeout_s=timeout_s, result_type=answer_type
        )
        return answer

    @asynccontextmanager
    async def watch(
        self, wanted: Changes, at: NodeId | Address | None = None
    ) -> AsyncIterator[AsyncIterator[Change]]:
        """Changes, one by one. See `KvClient.watch` for what it raises."""
        query = encode(wanted)
        async with self._client.watch(query, at=at, item_type=Changed | Compacted) as items:
            yield _SingleChanges(items, wanted.from_index)


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


# -- what was given ------------------------------------------------------------------------


def key_of(text: Text) -> bytes:
    """A key as bytes.

    Raises:
        ConfigError: it is too long.
    """
    return _checked(text, "key", KEY_BYTES_MAX)


def optional_key_of(text: Text | None) -> bytes | None:
    """Likewise, if there is one."""
    return None if text is None else key_of(text)


def value_of(text: Text) -> bytes:
    """A value as bytes.

    Raises:
        ConfigError: it is too long.
    """
    return _checked(text, "value", VALUE_BYTES_MAX)


def _checked(text: Text, what: str, bytes_max: int) -> bytes:
    data = text.encode() if isinstance(text, str) else bytes(text)
    if len(data) > bytes_max:
        raise ConfigError(f"a {what} of {len(data)} bytes: give at most {bytes_max}")
    return data


def ttl_ms_of(ttl_s: float) -> int:
    """A life in milliseconds.

    Raises:
        ConfigError: it is none, or too long.
    """
    if not 0.001 <= ttl_s <= TTL_MS_MAX / 1000:
        raise ConfigError(
            f"ttl_s is {ttl_s!r}: give seconds, from 0.001 to {TTL_MS_MAX // 1000} (a year)"
        )
    return round(ttl_s * 1000)
