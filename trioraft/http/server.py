"""Server: HTTP/1.1 for an ASGI application, within bounds, on Trio. h11 speaks the protocol.

Rules of this file:

* A wall stands around each connection: whatever goes wrong in it ends it, and nothing else.
* Everything has a bound: connections, also of one host, the head and the body of a request, and the
  time for each of them, for an answer to begin, and for the other side to take a part of it. An
  answer that goes on (a stream of events) may last, as long as it is taken.
* Who comes to a full port is let in where another host has more than its own; then one of that
  host's goes, an idle one first. A flood from one host leaves room for the probe from another.
* No lack of descriptors ends the accepting, and some are always left for the disk and for others.
* Shutting down is cancelling: nothing here is shielded.
"""

from __future__ import annotations

import errno
import math
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias, final
from urllib.parse import unquote

import attrs
import h11
import trio

from ..core.types import Address
from ..net.descriptors import descriptors_max
from ..net.tls import ServerTls, TlsContexts
from .limits import HttpLimits

Message: TypeAlias = MutableMapping[str, Any]
App: TypeAlias = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]
"""ASGI 3, of kind "http"."""
Tell: TypeAlias = Callable[[str], None]

DESCRIPTORS_RESERVED: Final = 128
"""Of this process's descriptors, left over for its disk, its peers and its clients."""
ACCEPT_PAUSE_S: Final = 0.1
"""Pause, in seconds, before accepting again when the machine is out of descriptors or memory."""
READ_BYTES: Final = 16 * 1024
ACCEPTED_AT_ONCE: Final = 64
_SCARCE: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


@final
@attrs.define(eq=False)
class _Visit:
    """One connection, as the others see it."""

    host: str
    remote: Address  # as it was accepted: of who has reset it since, the socket tells no more
    scope: trio.CancelScope = attrs.Factory(trio.CancelScope)
    idle_since_s: float | None = attrs.Factory(trio.current_time)
    """None: it is at work. At first it is not, until it has asked."""


@final
class Server:
    """Serves an application at a socket.

    Args:
        app: what answers.
        sock: listens already; closed when `run` ends.
        limits: bounds.
        tls: for each handshake; None: plain TCP.
        tell: is told of what went wrong in the application.
        paths: whose answers are counted apart.
    """

    def __init__(
        self,
        app: App,
        sock: socket.socket,
        limits: HttpLimits,
        tls: TlsContexts | ServerTls | None,
        tell: Tell,
        paths: Collection[str] = (),
    ) -> None:
        self.answers: Counter[tuple[str, int]] = Counter()
        """Answers, by the path and the status."""
        self.refused: int = 0
        """Connections that were closed because there were too many."""
        self.address: Address = sock.getsockname()[:2]
        self._app = app
        self._sock = sock
        self._limits = limits
        self._tls = tls
        self._tell = tell
        self._paths = frozenset(paths)
        self._visits: dict[_Visit, None] = {}
        self._hosts: Counter[str] = Counter()
        self._stop = trio.CancelScope()

    @property
    def connections(self) -> int:
        """Those that are open."""
        return len(self._visits)

    def stop(self) -> None:
        """End `run`, and all connections with it."""
        self._stop.cancel()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `stop`."""
        with self._sock as sock, self._stop:
            sock.setblocking(False)
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    await trio.lowlevel.wait_readable(sock)
                    try:
                        self._accept_some(sock, nursery)
                    except Exception as error:  # noqa: BLE001 - no failure here may reach the node
                        if not (isinstance(error, OSError) and error.errno in _SCARCE):
                            self._tell(f"cannot accept: {error!r:.200}")
                        await trio.sleep(ACCEPT_PAUSE_S)

    # -- who is let in ---------------------------------------------------------------------

    def _accept_some(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                sock, remote = listener.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue
            host = remote[0]
            is_scarce = sock.fileno() >= descriptors_max() - DESCRIPTORS_RESERVED
            if is_scarce or not self._make_room(host):
                self.refused += 1
                sock.close()
                continue
            visit = _Visit(host, remote[:2])
            self._visits[visit] = None
            self._hosts[host] += 1
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
            nursery.start_soon(self._serve_within_wall, stream, visit, name=f"http.{host}")

    def _make_room(self, host: str) -> bool:
        """Whether one more of this host may come; another one may have to go for it."""
        limits = self._limits
        if self._hosts[host] >= limits.connections_of_host_max:
            return self._let_go(host, only_idle=True)
        if len(self._visits) < limits.connections_max:
            return True
        (largest, count), *_ = self._hosts.most_common(1)
        return self._let_go(largest, only_idle=count <= self._hosts[host] + 1)

    def _let_go(self, host: str, *, only_idle: bool) -> bool:
        """End the connection of this host that is idle longest, or else its newest."""
        of_host = [visit for visit in self._visits if visit.host == host]
        idle = [visit for visit in of_host if visit.idle_since_s is not None]
        gone = min(idle, key=lambda visit: visit.idle_since_s or 0.0, default=None)
        if gone is None and not only_idle and of_host:
            gone = of_host[-1]
        if gone is None:
            return False
        self._forget(gone)
        gone.scope.cancel()
        return True

    def _forget(self, visit: _Visit) -> None:
        if visit in self._visits:
            del self._visits[visit]
            self._hosts[visit.host] -= 1
            if not self._hosts[visit.host]:
                del self._hosts[visit.host]

    # -- one connection --------------------------------------------------------------------

    async def _serve_within_wall(self, stream: trio.SocketStream, visit: _Visit) -> None:
        try:
            with visit.scope:
                async with _closing(stream):
                    await self._serve(stream, visit)
        except Exception as error:  # noqa: BLE001 - a page's own code may raise anything
            if not _is_of_the_other_side(error):
                self._tell(f"serving a connection failed: {error!r:.200}")
        finally:
            self._forget(visit)

    async def _serve(self, plain: trio.SocketStream, visit: _Visit) -> None:
        stream: _Stream = plain
        if self._tls is not None:
            tls = trio.SSLStream(plain, self._tls.server, server_side=True, https_compatible=True)
            with trio.fail_after(self._limits.request_timeout_s):
                await tls.do_handshake()
            stream = tls
        talk = _Talk(stream, self._limits, visit, self.address, self._tls is not None)
        while True:
            request = await talk.next_request()
            if request is None:
                return
            await self._answer(talk, request)
            if not talk.begin_next():
                return

    async def _answer(self, talk: _Talk, request: h11.Request) -> None:
        exchange = _Exchange(talk, request)
        scope = exchange.scope()
        try:
            with exchange.beginning:
                await self._app(scope, exchange.receive, exchange.send)
            if exchange.beginning.cancelled_caught:
                await exchange.fail(503)
        except Exception as error:
            if _is_of_the_other_side(error):
                raise
            self._tell(f"{request.method.decode()} {scope['path']!r} failed: {error!r:.200}")
            await exchange.fail(500)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self.answers[path, exchange.status or 500] += 1
        await exchange.end()


def _is_of_the_other_side(error: BaseException) -> bool:
    """Whether it went away, was too slow, or speaks something else: nobody need be told."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_of_the_other_side, error.exceptions))
    gone = (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, ConnectionError)
    return isinstance(error, (*gone, h11.RemoteProtocolError))


_Stream: TypeAlias = trio.SocketStream | trio.SSLStream[trio.SocketStream]


@asynccontextmanager
async def _closing(stream: trio.SocketStream) -> AsyncIterator[None]:
    """Close it, and do not wait for the other side."""
    try:
        yield
    finally:
        await trio.aclose_forcefully(stream)


@final
class _Talk:
    """What goes on over one connection."""

    def __init__(
        self,
        stream: _Stream,
        limits: HttpLimits,
        visit: _Visit,
        local: Address,
        is_tls: bool,
    ) -> None:
        self.remote, self.local, self.is_tls = visit.remote, local, is_tls
        self.limits = limits
        self.h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_bytes_max)
        self._stream = stream
        self._visit = visit
        self._is_first = True

    async def next_request(self) -> h11.Request | None:
        """The next one; None: there is none any more."""
        limits, self._visit.idle_since_s = self.limits, trio.current_time()
        wait_s = limits.request_timeout_s if self._is_first else limits.idle_timeout_s
        deadline_s = trio.current_time() + wait_s
        self._is_first = False
        while True:
            try:
                event = self.h11.next_event()
            except h11.RemoteProtocolError as error:
                await self._refuse(error)
                return None
            if isinstance(event, h11.Request):
                self._visit.idle_since_s = None
                return event
            if event is not h11.NEED_DATA:
                return None
            with trio.move_on_at(deadline_s):
                was_idle = not self.h11.trailing_data[0]
                if await self.read() and was_idle:  # its head has begun, and must end in time
                    deadline_s = min(deadline_s, trio.current_time() + limits.request_timeout_s)
                continue
            return None

    @property
    def has_room(self) -> bool:
        """Whether what has come, and is not looked at yet, is little enough to read more."""
        return len(self.h11.trailing_data[0]) <= self.limits.head_bytes_max

    async def read(self) -> bool:
        """Give h11 what comes; False: nothing will any more."""
        data = bytes(await self._stream.receive_some(READ_BYTES))
        self.h11.receive_data(data)
        return bool(data)

    async def write(self, event: h11.Event) -> None:
        """Send this, in time."""
        data = self.h11.send(event)
        if data:
            with trio.fail_after(self.limits.answer_timeout_s):
                await self._stream.send_all(data)

    def begin_next(self) -> bool:
        """Whether another request may come over this connection."""
        if self.h11.our_state is not h11.DONE or self.h11.their_state is not h11.DONE:
            return False
        self.h11.start_next_cycle()
        return True

    async def _refuse(self, error: h11.RemoteProtocolError) -> None:
        if self.h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            text = f"{error}\n".encode()
            headers = [("content-length", str(len(text))), ("connection", "close")]
            await self.write(h11.Response(status_code=error.error_status_hint, headers=headers))
            await self.write(h11.Data(data=text))
            await self.write(h11.EndOfMessage())


@final
class _Exchange:
    """One request and its answer, as ASGI has them."""

    def __init__(self, talk: _Talk, request: h11.Request) -> None:
        self.status: int | None = None
        self._talk = talk
        self._request = request
        self._body_bytes = 0
        self._is_read = self._is_over = self._is_too_large = False
        self.beginning = trio.move_on_after(talk.limits.answer_timeout_s)
        """Ends the application unless its answer begins in time."""

    def scope(self) -> Message:
        """What ASGI tells of a request."""
        request, talk = self._request, self._talk
        target, _, query = request.target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": request.http_version.decode("ascii"),
            "method": request.method.decode("ascii"),
            "scheme": "https" if talk.is_tls else "http",
            "path": unquote(target.decode("ascii", errors="replace")),
            "raw_path": target,
            "query_string": query,
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in request.headers],
            "client": tuple(talk.remote),
            "server": tuple(talk.local),
            "state": {},
        }

    async def receive(self) -> Message:
        """The body, and then that the other side has gone, or has sent too much for later."""
        talk = self._talk
        deadline_s = trio.current_time() + talk.limits.request_timeout_s
        while not self._is_read:
            event = talk.h11.next_event()
            if isinstance(event, h11.Data):
                self._body_bytes += len(event.data)
                if self._body_bytes > talk.limits.body_bytes_max:
                    self._is_too_large = True
                    raise h11.RemoteProtocolError("the request's body is too large", 413)
                return {"type": "http.request", "body": bytes(event.data), "more_body": True}
            if isinstance(event, h11.EndOfMessage):
                self._is_read = True
                return {"type": "http.request", "body": b"", "more_body": False}
            if event is not h11.NEED_DATA:
                self._is_read = True
                break
            if talk.h11.they_are_waiting_for_100_continue:
                await talk.write(h11.InformationalResponse(status_code=100, headers=[]))
            with trio.fail_at(deadline_s):
                await talk.read()
        while not self._is_over and talk.has_room and await talk.read():
            pass  # what it sends now is for later
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """A part of the answer."""
        if message["type"] == "http.response.start":
            self.status = 413 if self._is_too_large else message["status"]
            self.beginning.deadline = math.inf
            headers = list(message.get("headers", ()))
            await self._talk.write(h11.Response(status_code=self.status, headers=headers))
        elif message["type"] == "http.response.body":
            data = message.get("body", b"")
            if data and self._request.method != b"HEAD":
                await self._talk.write(h11.Data(data=data))
            if not message.get("more_body", False):
                self._is_over = True
                await self._talk.write(h11.EndOfMessage())

    async def fail(self, code: int) -> None:
        """The application has failed: say so, if nothing was said yet."""
        if self.status is not None:
            return
        headers = [(b"content-length", b"0"), (b"connection", b"close")]
        await self.send({"type": "http.response.start", "status": code, "headers": headers})
        await self.send({"type": "http.response.body"})

    async def end(self) -> None:
        """Read what is left of the request, if it is little."""
        if self._talk.h11.their_state is h11.SEND_BODY:
            event: Any = self._talk.h11.next_event()
            while isinstance(event, h11.Data):
                event = self._talk.h11.next_event()
