"""serve: an HTTP port beside a node, in a thread of its own.

Rules of this file:

* The port's thread is its own, with a Trio run of its own, so that neither its load nor its failure
  is the node's: it is held to a share of a processor (`share`), and asks the node for figures, all
  who ask together a few times a second (`reach`).
* It is the same beside a node of any event loop: what is asked of the node runs where that lives.
* What it needs of other packages is imported when a port is opened.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from functools import partial
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Final, TypeAlias, final

import attrs
import trio

from ..core.errors import ConfigError, NodeDead, WrongEventLoop
from ..core.types import Address, NodeId
from ..embedding.async_node import AsyncNode
from ..embedding.awaiting import AsyncBeside
from ..embedding.blocking_node import BlockingNode
from ..embedding.thread import TrioThread
from ..embedding.waiting import BlockingBeside
from ..logs.loggers import EventLogger
from ..net.addresses import AddressRules, host_port
from ..net.listening import listen as listen_at
from ..net.tls import ServerTls, TlsContexts, server_tls_of
from ..net.token_bucket import TokenBucket
from ..node.figures import begin_measuring, end_measuring
from ..node.node import Node
from ..service.port import Service
from ..tasks.background import running_beside
from ..tasks.event_loop import require_event_loop
from .limits import HttpLimits
from .reach import NodeReach
from .share import CpuShare

AnyNode: TypeAlias = Node | AsyncNode | BlockingNode
Beside: TypeAlias = Callable[[], AbstractAsyncContextManager[Any, bool | None]]
"""What is to be open beside a port."""
PACKAGES: Final = ("starlette", "h11", "prometheus_client")
"""What `trioraft[http]` brings."""
WHAT: Final = "trioraft.http.serve"
TOLD_EACH_S: Final = 10.0
TOLD_AT_ONCE: Final = 5


def missing_packages() -> list[str]:
    """What of `trioraft[http]` is not installed."""
    return [name for name in PACKAGES if find_spec(name) is None]


@final
@attrs.frozen
class HttpPort:
    """A port that is open. Made by `serve`."""

    address: Address
    """Where it listens, with the real port."""
    is_tls: bool

    @property
    def url(self) -> str:
        """Its address as browsers want it."""
        return f"http{'s' if self.is_tls else ''}://{host_port(self.address)}"


def serve(
    node: AnyNode,
    *,
    listen: Address,
    service: Service | None = None,
    routes: Sequence[Any] = (),
    beside: Beside | None = None,
    ssl_context: TlsContexts | ServerTls | ssl.SSLContext | None = None,
    insecure: bool = False,
    limits: HttpLimits | None = None,
    logger: EventLogger | None = None,
) -> Serving:
    """Serve probes and metrics of a node over HTTP, for the body of a `with`.

        async with (
            open_node(…) as node,
            trioraft.http.serve(node, listen=("127.0.0.1", 9000)) as port,
        ):
            print(port.url)

    `async with` beside nodes of `trioraft.open_node` and `trioraft.aio`, `with` beside those of
    `trioraft.sync`. `/livez` and `/readyz` answer 200 or, with the reason in words, 503; `/metrics`
    is for Prometheus (docs/metrics.md). From then on the node is counted and timed.

    Args:
        node: the node; open it outside, so that it is there until the last answer.
        listen: host and port; port 0 lets the system choose: `port.address`.
        service: the port for clients beside the node (`open_service`), to tell of it as well.
        routes: of your own, Starlette's (`Route`, `Mount`, …); they run in the port's thread, under
            Trio, and find the way to the node in `request.app.state.reach`.
        beside: makes what is open there as long as the port is, for your routes.
        ssl_context: for HTTPS: `ServerTls`, or an `ssl.SSLContext` for the server's side. It may
            ask for clients' certificates, and need not.
        insecure: allow plain HTTP beyond this machine: whoever reaches the port can read the
            node's status and metrics, and see your routes.
        limits: bounds. Default: `HttpLimits()`.
        logger: a structlog logger; is told where a route fails, and, beside a node under Trio,
            why a port has ended that nobody left. None: nobody is.

    Raises:
        ConfigError: an argument cannot work, the node has an HTTP port already, or what
            `trioraft[http]` brings is not installed.
        OSError: the address cannot be used.
        WrongEventLoop: this is not the node's own event loop.

    Leaving closes the port, with all of its connections, and ends its thread.
    """
    missing = missing_packages()
    if missing:
        raise ConfigError(
            f"an HTTP port needs {', '.join(missing)}; install it with: "
            "pip install 'trioraft[http]'"
        )
    if not isinstance(node, AnyNode):
        raise ConfigError(f"node is {node!r}: give one that open_node has made")
    tls = server_tls_of(ssl_context, insecure=True)
    rules = AddressRules(tls is not None, insecure, "read its status and metrics")
    address = rules.check("listen", listen, port_min=0)
    own = (tuple(routes), beside or nullcontext)
    return Serving(node, _Opening(address, service, *own, tls, limits or HttpLimits(), logger))


@final
class Serving:
    """An HTTP port that is to be opened. Made by `serve`."""

    def __init__(self, node: AnyNode, opening: _Opening) -> None:
        self._node = node
        self._opening = opening
        self._beside: Any = None

    async def __aenter__(self) -> HttpPort:
        node = self._node
        if isinstance(node, BlockingNode):
            raise WrongEventLoop(f"{WHAT} of a {type(node).__name__}: use a plain `with`")
        self._check_unentered()
        begin, thread = self._opening.begin, self._opening.thread
        if isinstance(node, Node):
            require_event_loop(WHAT, "trio")
            tell_of_end = partial(self._opening.tell_of_end, node.id)
            self._beside = _TrioBeside(thread(await begin(node)), tell_of_end)
        else:
            require_event_loop(WHAT, "asyncio")
            self._beside = AsyncBeside(thread(await node.run_in_trio(begin)), WHAT, _same)
        try:
            port: HttpPort = await self._beside.__aenter__()
        except BaseException:
            await self._aend()
            raise
        return port

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._beside.__aexit__(error_type, error, traceback)
        finally:
            await self._aend()

    async def _aend(self) -> None:
        if isinstance(self._node, Node):
            end_measuring(self._node)
        elif isinstance(self._node, AsyncNode):
            with suppress(NodeDead):
                await self._node.run_in_trio(_end)

    def __enter__(self) -> HttpPort:
        node = self._node
        if not isinstance(node, BlockingNode):
            raise WrongEventLoop(f"{WHAT} of a {type(node).__name__}: use `async with`")
        require_event_loop(WHAT, None)
        self._check_unentered()
        reach = node.run_in_trio(self._opening.begin)
        self._beside = BlockingBeside(self._opening.thread(reach), WHAT, _same)
        try:
            port: HttpPort = self._beside.__enter__()
        except BaseException:
            node.run_in_trio(_end)
            raise
        return port

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._beside.__exit__(error_type, error, traceback)
        finally:
            if isinstance(self._node, BlockingNode):
                with suppress(NodeDead):
                    self._node.run_in_trio(_end)

    def _check_unentered(self) -> None:
        if self._beside is not None:
            raise ConfigError(f"this {WHAT} was entered before: call {WHAT} again")


async def _end(node: Node) -> None:
    end_measuring(node)


def _same(port: HttpPort) -> HttpPort:
    return port


@final
@attrs.frozen(eq=False)
class _Opening:
    """How a port is opened, in its thread."""

    address: Address
    service: Service | None
    routes: tuple[Any, ...]
    beside: Beside
    tls: TlsContexts | ServerTls | None
    limits: HttpLimits
    logger: EventLogger | None

    async def begin(self, node: Node) -> NodeReach:
        """In the node's thread: measure it from here on."""
        begin_measuring(node)
        return NodeReach(node, trio.lowlevel.current_trio_token(), self.service)

    def thread(self, reach: NodeReach) -> TrioThread[HttpPort]:
        """For the port."""
        return TrioThread(lambda: self.opened(reach), f"http[{reach.node_id}]")

    def tell_of_end(self, node_id: NodeId, failure: BaseException | None) -> None:
        """In the node's thread: the port has ended, and nobody has left it."""
        if self.logger is not None:
            with suppress(Exception):  # a log that cannot be written ends no node from here
                said = f"HTTP: the port has ended, open another: {failure!r:.500}"
                self.logger.warning(said, node=node_id)

    @asynccontextmanager
    async def opened(self, reach: NodeReach) -> AsyncIterator[HttpPort]:
        """In the port's thread."""
        from .app import Pages  # what it imports is there only with `trioraft[http]`
        from .metrics import OwnScene
        from .server import Server

        share = CpuShare(self.limits.cpu_share)
        failure = f"node {reach.node_id!r} cannot serve HTTP at {host_port(self.address)}"
        sock = await listen_at(self.address, failure)

        def own() -> OwnScene:
            return OwnScene(
                reach.lag.copy(),
                reach.silent_s,
                server.connections,
                dict(server.answers),
                server.refused,
                share.paused_s,
            )

        pages = Pages(reach, own, lambda: None if self.tls is None else self.tls.expires_s)
        app = pages.application(self.routes)
        paths = [path for route in app.routes if (path := getattr(route, "path", None))]
        tell = _teller(reach, self.logger)
        server = Server(app, sock, self.limits, self.tls, tell, paths)
        trio.lowlevel.add_instrument(share)
        name = f"http[{reach.node_id}]"
        async with (
            running_beside(reach.run, stop=reach.stop, name=f"{name}.reach"),
            self.beside(),
            running_beside(server.run, stop=server.stop, name=name),
        ):
            yield HttpPort(server.address, self.tls is not None)


def _teller(reach: NodeReach, logger: EventLogger | None) -> Callable[[str], None]:
    """Tells the log, in the node's thread, and not too often."""
    may_tell = TokenBucket(1 / TOLD_EACH_S, TOLD_AT_ONCE)

    def tell(text: str) -> None:
        if logger is None or not may_tell.take(trio.current_time()):
            return

        def told() -> None:
            with suppress(Exception):  # a log that cannot be written ends no node from here
                logger.warning(f"HTTP: {text}", node=reach.node_id)

        reach.soon(told)

    return tell


@final
class _TrioBeside:
    """What is in a thread of its own, for an `async with` under Trio."""

    def __init__(
        self, thread: TrioThread[HttpPort], on_lost: Callable[[BaseException | None], None]
    ) -> None:
        self._thread = thread
        self._on_lost = on_lost
        self._is_left = False
        self._turn = trio.Event()
        self._over = trio.Event()
        self._ready: list[HttpPort] = []
        self._failure: BaseException | None = None

    async def __aenter__(self) -> HttpPort:
        token = trio.lowlevel.current_trio_token()

        def tell(function: Callable[..., None], value: Any) -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(function, value)

        def is_ready(port: HttpPort) -> None:
            self._ready.append(port)
            self._turn.set()

        def ended(failure: BaseException | None) -> None:
            self._failure = failure
            self._over.set()
            if self._turn.is_set() and not self._is_left:
                self._on_lost(failure)
            self._turn.set()

        self._thread.start(lambda port: tell(is_ready, port), lambda error: tell(ended, error))
        try:
            await self._turn.wait()
        except BaseException:
            await self._leave()
            raise
        if not self._ready or self._over.is_set():
            self._thread.join()
            raise self._failure or ConfigError(
                f"{self._thread.name} ended before it began: open another"
            )
        return self._ready[0]

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._leave()

    async def _leave(self) -> None:
        self._is_left = True
        self._thread.stop()
        with trio.CancelScope(shield=True):
            await self._over.wait()
        self._thread.join()
