"""The live page as an ASGI application: the page, what has changed since (server-sent events), and
what can be taken home; beside a laboratory also what can be done to it.

Rules of this file:

* Only who names this very server may ask (`Host`), whatever a name resolves to meanwhile; and what
  changes anything needs the laboratory's token and comes from this page (`Origin`), for any page of
  the Web may send requests here.
* The page needs nothing from anywhere: its policy allows its own style, its own script, and this
  server.
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import aclosing
from typing import Any, Final, Protocol

import anyio
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from ..viz.page.live import live_page, policy
from .hub import Hub, TooManyViewers

KEEP_ALIVE_S: Final = 10.0
"""How often somebody who is told nothing is told so: who has gone is noticed by it."""
KEEP_ALIVE: Final = b": nothing new\n\n"
COMMANDS_BYTES_MAX: Final = 16 * 1024
"""Largest list of commands for a laboratory."""
_NEVER_KEPT: Final = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}

Handler = Callable[[Request], Awaitable[Response]]


class Laboratory(Protocol):
    """What can be done to a cluster that is there to be broken."""

    token: str
    """Who knows it may do it."""

    def state(self) -> Mapping[str, Any]:
        """How it stands."""

    async def do(self, text: str) -> LabAnswer:
        """Carry out commands, one a line."""


class LabAnswer(Protocol):
    """What became of some commands."""

    status: int
    """200, 400 (not understood) or 409 (cannot be done now)."""
    done: list[str]
    """What was done, in the words of the log."""
    problem: str | None


def live_routes(
    hub: Hub, is_known: Callable[[str], bool], lab: Laboratory | None = None
) -> list[BaseRoute]:
    """The routes of a live page: `/`, `/live`, `/log`, `/picture`, and with a laboratory `/lab`.

    Args:
        hub: what is shown.
        is_known: whether that, as "127.0.0.1:8080", is a name of this server; requests that were
            sent to another one are refused. A page of the Web can have its own name lead here, and
            would then be of the same origin.
        lab: the laboratory, if the cluster lives in one.
    """
    pages = _Pages(hub, lab)

    def route(path: str, handler: Handler, method: str = "GET") -> Route:
        async def checked(request: Request) -> Response:
            host = request.headers.get("host", "").lower()
            if not is_known(host):
                return _said(f"this is not {host!r}: name it as it was told to you", 403)
            return await handler(request)

        return Route(path, checked, methods=[method])

    routes: list[BaseRoute] = [
        route("/", pages.page),
        route("/live", pages.live),
        route("/log", pages.log),
        route("/picture", pages.picture),
    ]
    if lab is not None:
        routes.append(route("/lab", pages.lab_state))
        routes.append(route("/lab", pages.lab_do, "POST"))
    return routes


def live_app(hub: Hub, hosts: Collection[str], lab: Laboratory | None = None) -> Any:
    """An application of nothing but the live page.

    Args:
        hub: what is shown.
        hosts: what a request may call this server, as "127.0.0.1:8080"; others are refused.
        lab: the laboratory, if the cluster lives in one.
    """
    return Starlette(routes=live_routes(hub, frozenset(hosts).__contains__, lab))


class _Pages:
    def __init__(self, hub: Hub, lab: Laboratory | None) -> None:
        self._hub = hub
        self._lab = lab

    async def page(self, _request: Request) -> Response:
        headers = {
            **_NEVER_KEPT,
            "content-security-policy": policy(),
            "x-frame-options": "DENY",
        }
        html = live_page(is_lab=self._lab is not None)
        return Response(html, media_type="text/html", headers=headers)

    async def live(self, _request: Request) -> Response:
        if self._hub.has_ended:
            return _said("the server is leaving", 503)
        headers = {**_NEVER_KEPT, "x-accel-buffering": "no"}
        return StreamingResponse(
            _frames(self._hub), media_type="text/event-stream", headers=headers
        )

    async def log(self, _request: Request) -> Response:
        return _to_keep(self._hub.record.raftlog(), "text/plain; charset=utf-8", "live.raftlog")

    async def picture(self, _request: Request) -> Response:
        # Some thousand lines are a fraction of a second: not for the event loop.
        html = await anyio.to_thread.run_sync(self._hub.record.picture)
        return _to_keep(html, "text/html; charset=utf-8", "live.html")

    async def lab_state(self, _request: Request) -> Response:
        lab = self._lab
        return JSONResponse({} if lab is None else dict(lab.state()), headers=_NEVER_KEPT)

    async def lab_do(self, request: Request) -> Response:
        lab = self._lab
        if lab is None:
            return _said("there is no laboratory here", 404)
        origin = request.headers.get("origin")
        if origin is not None and origin != f"{request.url.scheme}://{request.url.netloc}":
            return _said(f"only this server's own page may do that, not {origin!r}", 403)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(
            token.strip().encode(), lab.token.encode()
        ):
            return _said("the laboratory's token is missing: Authorization: Bearer TOKEN", 401)
        body = bytearray()
        async with aclosing(request.stream()) as pieces:
            async for piece in pieces:
                body += piece
                if len(body) > COMMANDS_BYTES_MAX:
                    return _said(f"at most {COMMANDS_BYTES_MAX} bytes of commands at once", 413)
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError as error:
            return _said(f"commands are text in UTF-8: {error}", 400)
        answer = await lab.do(text)
        told: dict[str, Any] = {"done": answer.done, "lab": dict(lab.state())}
        if answer.problem is not None:
            told["problem"] = answer.problem
        return JSONResponse(told, answer.status, headers=_NEVER_KEPT)


async def _frames(hub: Hub) -> AsyncIterator[bytes]:
    """What a page is told, until it is closed or the hub ends."""
    try:
        async with hub.viewer() as viewer:
            yield KEEP_ALIVE  # the headers leave with it
            while True:
                frame = KEEP_ALIVE
                with anyio.move_on_after(KEEP_ALIVE_S):
                    try:
                        frame = await viewer.frames.receive()
                    except (trio.EndOfChannel, trio.ClosedResourceError):
                        return
                yield frame
    except TooManyViewers as error:
        yield f"event: refused\ndata: {error}\n\n".encode()


def _said(text: str, status: int) -> Response:
    return PlainTextResponse(text + "\n", status, headers=_NEVER_KEPT)


def _to_keep(text: str, kind: str, name: str) -> Response:
    """A file to be kept."""
    headers = {**_NEVER_KEPT, "content-disposition": f'attachment; filename="{name}"'}
    data = text.encode("utf-8", "backslashreplace")
    return Response(data, headers={**headers, "content-type": kind})
