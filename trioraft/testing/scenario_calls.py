"""What a scenario's clients ask for, and one after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final, NoReturn, TypeAlias, final

import trio

from ..core.errors import RaftError
from ..scenario import Answer

if TYPE_CHECKING:
    from ..kv import KvClient

Call: TypeAlias = "Callable[[KvClient], Awaitable[str | None]]"
"""Returns what the client is told."""


@final
class Calls:
    """What one client has to ask for. Bounded by the steps that a scenario may have."""

    def __init__(self) -> None:
        self._calls: deque[tuple[Answer, Call]] = deque()
        self._has_calls = trio.lowlevel.ParkingLot()

    def add(self, answer: Answer, call: Call) -> None:
        """One more, behind the others."""
        self._calls.append((answer, call))
        self._has_calls.unpark_all()

    async def carry_out(
        self, client: KvClient, on_answer: Callable[[], object] = lambda: None
    ) -> NoReturn:
        """Ask, until cancelled.

        Args:
            client: who asks.
            on_answer: called when an answer has come.
        """
        while True:
            while not self._calls:
                await self._has_calls.park()
            answer, call = self._calls.popleft()
            try:
                answer.value = await call(client)
                answer.outcome = "done"
            except RaftError as error:
                answer.outcome = str(error)
            on_answer()


def text_of(value: bytes | None) -> str | None:
    """A value as scenarios write it."""
    return None if value is None else value.decode("utf-8", errors="backslashreplace")


async def _put(client: KvClient, *, key: str, values: tuple[str, ...]) -> str | None:
    return text_of((await client.put(key, values[0], wants_previous=True)).previous)


async def _append(client: KvClient, *, key: str, values: tuple[str, ...]) -> str | None:
    return text_of((await client.append(key, values[0], wants_previous=True)).previous)


async def _delete(client: KvClient, *, key: str, values: tuple[str, ...]) -> str | None:
    return text_of((await client.delete(key, wants_previous=True)).previous)


async def _swap(client: KvClient, *, key: str, values: tuple[str | None, str]) -> str | None:
    return "done" if (await client.cas(key, *values)).swapped else "refused"


async def _get(client: KvClient, *, key: str, values: tuple[()]) -> str | None:
    return text_of(await client.get(key))


KV_CALLS: Final[Mapping[str, Callable[..., Awaitable[str | None]]]] = {
    "put": _put,
    "append": _append,
    "delete": _delete,
    "swap": _swap,
    "get": _get,
}
"""By the player's word for it: `(client, key=…, values=…)`."""
