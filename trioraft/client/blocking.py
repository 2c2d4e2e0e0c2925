"""BlockingClient: a client for programs without an event loop, which has a thread of its own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    ExitStack,
    contextmanager,
    suppress,
)
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Literal, TypeVar, final, overload

from anyio import CancelScope, Event
from anyio.from_thread import BlockingPortal, start_blocking_portal

from ..backups.format import BackupHead
from ..core.errors import ConfigError, RaftError
from ..core.types import Address, LogIndex, NodeId
from ..rpc.errors import ClientClosed
from ..rpc.protocol import Consistency, ServerStatus
from ..tasks.event_loop import require_event_loop
from .administration import INVITATION_VALID_S
from .backups import OnProgress
from .client import Client

_T = TypeVar("_T")


@final
class BlockingClient:
    """As `Client`, without `await`. Use it as `with BlockingClient(…) as client:`.

    Args:
        addresses: as for `Client`.
        backend: which event loop runs in the thread.
        options: all other arguments of `Client`.

    Every method takes what `Client`'s method of that name takes, returns and raises the same, and
    may be called from any thread.
    """

    def __init__(
        self,
        addresses: Iterable[Address] | Mapping[NodeId, Address],
        *,
        backend: Literal["trio", "asyncio"] = "trio",
        **options: Any,
    ) -> None:
        if backend not in ("trio", "asyncio"):
            raise ConfigError(f"backend is {backend!r}: give 'trio' or 'asyncio'")
        self._addresses, self._options = addresses, options
        self._make()  # what cannot work is said now
        self._backend = backend
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None
        self._client: Client | None = None
        self._pid = 0

    def _make(self) -> Client:
        return Client(self._addresses, **self._options)

    def __enter__(self) -> BlockingClient:
        require_event_loop("BlockingClient", None)
        if self._portal is not None:
            raise ClientClosed("this client is open already; make one for each `with`")
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal(self._backend))
            stack.callback(_cancel_rest, portal)
            client = stack.enter_context(portal.wrap_async_context_manager(self._make()))
            self._stack = stack.pop_all()
        self._portal, self._client, self._pid = portal, client, os.getpid()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._portal = self._client = None
        if self._pid == os.getpid():
            self._stack.__exit__(error_type, error, traceback)

    def run(self, function: Callable[[Client], Awaitable[_T]]) -> _T:
        """Call an async function with the `Client`, in its thread, and return what it returns.

        Raises:
            ClientClosed: the client is not open, or was opened before a fork.
            Exception: whatever the function raises.
        """
        require_event_loop("BlockingClient.run", None)
        portal, client = self._opened()
        call = _Call(function, client)
        try:
            try:
                future = portal.start_task_soon(call.run)
            except RuntimeError as error:  # the `with` was left by another thread, or we are there
                raise ClientClosed(f"the client takes no call from here: {error}") from error
            return future.result()
        except CancelledError as error:
            raise ClientClosed(
                "the client was closed while this was under way: it may be done or not; leave its "
                "`with` when its calls have ended"
            ) from error
        except Exception:
            raise
        except BaseException:  # Ctrl-C, wherever in the above it came
            with suppress(RuntimeError):  # the thread has ended, and the call with it
                portal.start_task_soon(call.give_up)
            raise

    @contextmanager
    def hold(self, function: Callable[[Client], AbstractAsyncContextManager[_T]]) -> Iterator[_T]:
        """Enter an async context manager of the `Client`, in its thread, for the body here.

        ```
        with client.hold(lambda client: client.watch(b"x")) as items:
            first = client.run(lambda _: anext(items))
        ```

        It ends when the body does, and sees no exception of the body's. What it raises then, or
        raised meanwhile, is raised at the end of the body.

        Raises:
            ClientClosed: the client is not open, or was opened before a fork, or was closed
                meanwhile.
        """
        portal, client = self._opened()
        held = _Held(function, client)
        try:
            try:
                future = portal.start_task_soon(held.run)
            except RuntimeError as error:
                raise ClientClosed(f"the client takes no call from here: {error}") from error
            value = held.value_or_error(future)
        except Exception:
            raise
        except BaseException:  # Ctrl-C, wherever in the above it came
            with suppress(RuntimeError):
                portal.start_task_soon(held.give_up)
            raise
        try:
            yield value
        finally:
            with suppress(RuntimeError):  # the thread has ended, and all with it
                portal.start_task_soon(held.leave)
            try:
                future.result()
            except CancelledError as error:
                raise ClientClosed(
                    "the client was closed while this was held: leave the body first"
                ) from error

    @overload
    def call(
        self,
        data: bytes,
        *,
        timeout_s: float | None = None,
        result_type: type[_T],
        exactly_once: bool = True,
    ) -> _T: ...

    @overload
    def call(
        self,
        data: bytes,
        *,
        timeout_s: float | None = None,
        result_type: Any = Any,
        exactly_once: bool = True,
    ) -> Any: ...

    def call(
        self,
        data: bytes,
        *,
        timeout_s: float | None = None,
        result_type: Any = Any,
        exactly_once: bool = True,
    ) -> Any:
        """`Client.call`."""
        return self.run(
            lambda client: client.call(
                data, timeout_s=timeout_s, result_type=result_type, exactly_once=exactly_once
            )
        )

    @overload
    def query(
        self,
        data: bytes,
        *,
        consistency: Consistency = "linearizable",
        at: NodeId | Address | None = None,
        timeout_s: float | None = None,
        result_type: type[_T],
    ) -> _T: ...

    @overload
    def query(
        self,
        data: bytes,
        *,
        consistency: Consistency = "linearizable",
        at: NodeId | Address | None = None,
        timeout_s: float | None = None,
        result_type: Any = Any,
    ) -> Any: ...

    def query(
        self,
        data: bytes,
        *,
        consistency: Consistency = "linearizable",
        at: NodeId | Address | None = None,
        timeout_s: float | None = None,
        result_type: Any = Any,
    ) -> Any:
        """`Client.query`."""
        return self.run(
            lambda client: client.query(
                data, consistency=consistency, at=at, timeout_s=timeout_s, result_type=result_type
            )
        )

    @overload
    def watch(
        self, data: bytes, *, at: NodeId | Address | None = None, item_type: type[_T]
    ) -> AbstractContextManager[Iterator[_T]]: ...

    @overload
    def watch(
        self, data: bytes, *, at: NodeId | Address | None = None, item_type: Any = Any
    ) -> AbstractContextManager[Iterator[Any]]: ...

    def watch(
        self, data: bytes, *, at: NodeId | Address | None = None, item_type: Any = Any
    ) -> AbstractContextManager[Iterator[Any]]:
        """`Client.watch`: `with client.watch(…) as items: for item in items: …`."""
        return self._watch(data, at, item_type)

    @contextmanager
    def _watch(
        self, data: bytes, at: NodeId | Address | None, item_type: Any
    ) -> Iterator[Iterator[Any]]:
        require_event_loop("BlockingClient.watch", None)
        portal, _ = self._opened()

        async def subscription(client: Client) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
            return client.watch(data, at=at, item_type=item_type)

        with portal.wrap_async_context_manager(self.run(subscription)) as items:
            yield self._each(items)

    def status(
        self, at: NodeId | Address | None = None, *, timeout_s: float | None = None
    ) -> ServerStatus:
        """`Client.status`."""
        return self.run(lambda client: client.status(at, timeout_s=timeout_s))

    def statuses(
        self, *, timeout_s: float | None = None
    ) -> dict[Address, ServerStatus | RaftError]:
        """`Client.statuses`."""
        if timeout_s is None:
            return self.run(lambda client: client.statuses())
        return self.run(lambda client: client.statuses(timeout_s=timeout_s))

    def transfer_leadership(
        self, to: NodeId | None = None, *, timeout_s: float | None = None
    ) -> NodeId:
        """`Client.transfer_leadership`."""
        return self.run(lambda client: client.transfer_leadership(to, timeout_s=timeout_s))

    def add_learner(
        self,
        node_id: NodeId,
        address: Address | None = None,
        *,
        expected_index: LogIndex | None = None,
        timeout_s: float | None = None,
    ) -> LogIndex:
        """`Client.add_learner`."""
        return self.run(
            lambda client: client.add_learner(
                node_id, address, expected_index=expected_index, timeout_s=timeout_s
            )
        )

    def change_voters(
        self,
        ids: Iterable[NodeId],
        *,
        addresses: Mapping[NodeId, Address] | None = None,
        expected_index: LogIndex | None = None,
        timeout_s: float | None = None,
    ) -> LogIndex:
        """`Client.change_voters`."""
        return self.run(
            lambda client: client.change_voters(
                ids, addresses=addresses, expected_index=expected_index, timeout_s=timeout_s
            )
        )

    def remove(
        self,
        node_id: NodeId,
        *,
        expected_index: LogIndex | None = None,
        timeout_s: float | None = None,
    ) -> LogIndex:
        """`Client.remove`."""
        return self.run(
            lambda client: client.remove(
                node_id, expected_index=expected_index, timeout_s=timeout_s
            )
        )

    def move(
        self,
        node_id: NodeId,
        address: Address,
        *,
        force: bool = False,
        timeout_s: float | None = None,
    ) -> LogIndex:
        """`Client.move`."""
        return self.run(
            lambda client: client.move(node_id, address, force=force, timeout_s=timeout_s)
        )

    def switch_on(
        self,
        features: Iterable[str],
        *,
        expected_index: LogIndex | None = None,
        timeout_s: float | None = None,
    ) -> LogIndex:
        """`Client.switch_on`."""
        names = tuple(features)
        return self.run(
            lambda client: client.switch_on(
                names, expected_index=expected_index, timeout_s=timeout_s
            )
        )

    def replace(self, node_id: NodeId, *, timeout_s: float | None = None) -> LogIndex:
        """`Client.replace`."""
        return self.run(lambda client: client.replace(node_id, timeout_s=timeout_s))

    def invite(
        self,
        node_id: NodeId,
        valid_s: float = INVITATION_VALID_S,
        *,
        at: NodeId | Address | None = None,
        timeout_s: float | None = None,
    ) -> str:
        """`Client.invite`."""
        return self.run(lambda client: client.invite(node_id, valid_s, at=at, timeout_s=timeout_s))

    def take_snapshot(
        self, at: NodeId | Address | None = None, *, timeout_s: float | None = None
    ) -> LogIndex:
        """`Client.take_snapshot`."""
        return self.run(lambda client: client.take_snapshot(at, timeout_s=timeout_s))

    def backup(
        self,
        path: Path | str,
        *,
        at: NodeId | Address | None = None,
        stale: bool = False,
        on_progress: OnProgress | None = None,
        timeout_s: float | None = None,
    ) -> BackupHead:
        """`Client.backup`. `on_progress` is called in the client's thread."""
        return self.run(
            lambda client: client.backup(
                path, at=at, stale=stale, on_progress=on_progress, timeout_s=timeout_s
            )
        )

    def _each(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        while True:
            try:
                item = self.run(lambda _: anext(items))
            except StopAsyncIteration:
                return
            yield item

    def _opened(self) -> tuple[BlockingPortal, Client]:
        portal, client = self._portal, self._client
        if portal is None or client is None:
            raise ClientClosed("the client is not open: use it inside its `with`")
        if self._pid != os.getpid():
            raise ClientClosed(
                "the client was opened before this process was forked, and its thread is in the "
                "parent: open one here"
            )
        return portal, client


@final
class _Call(Generic[_T]):
    """A call in the client's thread. It can be given up from the moment on that it is made."""

    def __init__(self, function: Callable[[Client], Awaitable[_T]], client: Client) -> None:
        self._function = function
        self._client = client
        self._scope: CancelScope | None = None
        self._is_given_up = False

    async def run(self) -> _T:
        with CancelScope() as self._scope:
            if self._is_given_up:
                self._scope.cancel()
            return await self._function(self._client)
        raise CancelledError

    def give_up(self) -> None:
        self._is_given_up = True
        if self._scope is not None:
            self._scope.cancel()


@final
class _Held(Generic[_T]):
    """An async context manager that is entered in the client's thread."""

    def __init__(
        self, function: Callable[[Client], AbstractAsyncContextManager[_T]], client: Client
    ) -> None:
        self._function = function
        self._client = client
        self._entered: Future[_T] = Future()
        self._scope: CancelScope | None = None
        self._is_given_up = False
        self._left: Event | None = None

    async def run(self) -> None:
        self._left = Event()
        with CancelScope() as self._scope:
            if self._is_given_up:
                self._scope.cancel()
            async with self._function(self._client) as value:
                self._entered.set_result(value)
                await self._left.wait()
            return
        raise CancelledError

    def value_or_error(self, future: Future[None]) -> _T:
        """Wait until it is entered; or raise what it raised instead."""
        future.add_done_callback(lambda _: self._entered.done() or self._entered.cancel())
        try:
            return self._entered.result()
        except CancelledError:
            try:
                future.result()
            except CancelledError as error:
                raise ClientClosed(
                    "the client was closed while this was under way: open another"
                ) from error
            raise ClientClosed("it ended before it began: enter it again") from None

    def leave(self) -> None:
        if self._left is not None:
            self._left.set()

    def give_up(self) -> None:
        self._is_given_up = True
        if self._scope is not None:
            self._scope.cancel()


def _cancel_rest(portal: BlockingPortal) -> None:
    """What other threads still wait for, or nobody any more, must not hold up the end."""
    with suppress(RuntimeError):  # it has ended
        portal.call(portal.stop, True)
