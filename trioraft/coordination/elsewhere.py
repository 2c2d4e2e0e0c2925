"""What the handles of all waiting lines have: the same `hold`, from elsewhere and from threads."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    contextmanager,
    suppress,
)
from typing import Any, Generic, TypeVar, final

import anyio

from ..core.errors import RaftError
from ..core.types import LogIndex
from ..machines.replicated import BlockingHandle, Handle, Remote
from ..machines.replicated.definition import Definition
from .answers import KeptAlive, LinedUp, News
from .line import WaitingLine, encode_watch
from .presence import LEASE_S, Grant, Presence, presence_of

S_co = TypeVar("S_co", bound=WaitingLine, covariant=True)
T = TypeVar("T")


class LineHandle(Handle[S_co]):
    """A waiting line on other machines."""

    def __init__(self, definition: Definition, client: Remote) -> None:
        super().__init__(definition, client)
        self._presences: dict[float, Presence] = {}

    async def line_up(self, host: str, ticket: str, owner: str, lease_s: float) -> LinedUp:
        """`WaitingLine.line_up`."""
        return await self(WaitingLine.line_up, host, ticket, owner, lease_s)

    async def leave_line(self, tickets: list[str]) -> int:
        """`WaitingLine.leave_line`."""
        return await self(WaitingLine.leave_line, tickets)

    async def keep_alive(self, host: str, lease_s: float, gone: list[str]) -> KeptAlive:
        """`WaitingLine.keep_alive`."""
        return await self(WaitingLine.keep_alive, host, lease_s, gone)

    async def waiting_count(self) -> int:
        """`WaitingLine.waiting_count`."""
        return await self(WaitingLine.waiting_count)

    def line_news(self, host: str) -> AbstractAsyncContextManager[AsyncIterator[News]]:
        """`WaitingLine.line_news`."""
        return self._client.watch(encode_watch(host), item_type=dict[str, LogIndex])

    def _presence(self, lease_s: float) -> Presence:
        return presence_of(self, self._presences, lease_s)


class HoldHandle(LineHandle[S_co]):
    """What a lock and a semaphore have in common."""

    def hold(self, owner: str, *, lease_s: float = LEASE_S) -> AbstractAsyncContextManager[Grant]:
        """`Lock.hold`, `Semaphore.hold`: the same from here."""
        return self._presence(lease_s).hold(owner)


class BlockingLineHandle(BlockingHandle[S_co]):
    """A waiting line on other machines, for threads."""

    def waiting_count(self) -> int:
        """`WaitingLine.waiting_count`."""
        return self(WaitingLine.waiting_count)

    @contextmanager
    def _held(self, opening: Callable[[Any], AbstractAsyncContextManager[T]]) -> Iterator[T]:
        """What is opened with the handle of the other kind, for a body in this thread.

        That lives in a task of the client's thread, for which another thread of ours waits.
        """
        stay = _Stay(opening)

        def wait() -> None:
            try:
                self._run(stay.run)
            except BaseException as error:  # noqa: BLE001 - raised in the thread that asked
                stay.end(error)
            else:
                stay.end(None)

        thread = threading.Thread(target=wait, name=f"{self!r}", daemon=True)
        thread.start()
        body_error: BaseException | None = None
        try:
            yield stay.value.result()
        except BaseException as error:  # noqa: BLE001 - raised again below
            body_error = error
        finally:
            with suppress(RaftError):  # the client was closed, and the task is over with it
                self._run(stay.leave)
            thread.join()
        failure = stay.failure
        if failure is not None and failure is not body_error:
            raise failure from body_error
        if body_error is not None:
            raise body_error


class BlockingHoldHandle(BlockingLineHandle[S_co]):
    """What a lock and a semaphore have in common."""

    def hold(self, owner: str, *, lease_s: float = LEASE_S) -> AbstractContextManager[Grant]:
        """As `Lock.hold` and `Semaphore.hold`; but a thread cannot be cancelled, so look.

        ```python
        with lock.hold("backup", lease_s=10) as grant:
            for piece in range(3):
                grant.check()  # raises LockLost
                print(piece, "is written by", grant.token)
        ```

        Raises:
            LockLost: when the body is over: the lock was lost before that.
            Exception: as `Lock.hold`.
        """
        return self._held(
            lambda handle: handle._presence(lease_s).hold(owner, cancels=False)  # its twin
        )


@final
class _Stay(Generic[T]):
    """A body in one thread, and what is open for it in another."""

    def __init__(self, opening: Callable[[Any], AbstractAsyncContextManager[T]]) -> None:
        self.value: Future[T] = Future()
        self.failure: BaseException | None = None
        self._opening = opening
        self._scope: anyio.CancelScope | None = None
        self._over: anyio.Event | None = None
        self._is_left = False

    async def run(self, handle: Any) -> None:
        """Keep it open until it is left."""
        with anyio.CancelScope() as self._scope:
            if self._is_left:
                self._scope.cancel()
            async with self._opening(handle) as value:
                self._over = anyio.Event()
                self.value.set_result(value)
                await self._over.wait()

    async def leave(self, _handle: Any) -> None:
        """The body is over, or will not begin."""
        self._is_left = True
        if self._over is not None:
            self._over.set()
        elif self._scope is not None:
            self._scope.cancel()

    def end(self, error: BaseException | None) -> None:
        """It is not open any more."""
        self.failure = error
        if not self.value.done():
            self.value.set_exception(error or CancelledError())
