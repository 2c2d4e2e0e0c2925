"""The routes of the HTTP port: probes, metrics, and those that others have added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from ..core.errors import NodeDead
from . import health
from .disk import DiskLook
from .metrics import Metrics, OwnScene, Scene
from .reach import LoopSilent, NodeReach, View

NO_STORE: Final = {"cache-control": "no-store"}


class Pages:
    """Our own routes.

    Args:
        reach: the way to the node.
        own: what the port tells of itself.
        expires_s: when the port's own certificates cannot be used any more.
    """

    def __init__(
        self,
        reach: NodeReach,
        own: Callable[[], OwnScene],
        expires_s: Callable[[], float | None],
    ) -> None:
        self._reach = reach
        self._own = own
        self._expires_s = expires_s
        self._metrics = Metrics()
        self._disk = DiskLook()

    def application(self, routes: Sequence[BaseRoute]) -> Starlette:
        """What is served; each request finds the way to the node in `app.state.reach`.

        Args:
            routes: of others; ours come first.
        """
        own = (Route("/livez", self.livez), Route("/readyz", self.readyz))
        app = Starlette(routes=[*own, Route("/metrics", self.metrics), *routes])
        app.state.reach = self._reach
        return app

    async def livez(self, _: Request) -> Response:
        """Whether the node is alive."""
        view = await self._view()
        figures = None if view is None else view.figures
        problem = health.why_not_alive(figures, self._reach.silent_s)
        return _text(f"not alive: {problem}", 503) if problem else _text("alive", 200)

    async def readyz(self, request: Request) -> Response:
        """Whether it is ready; with `?verbose` each of the things that make it so."""
        view = await self._view()
        found = health.checks(None if view is None else view.figures, self._reach.silent_s)
        why = "; ".join(health.problems(found))
        lines = [f"not ready: {why}" if why else "ready"]
        if "verbose" in request.query_params:
            lines += [f"[{'-' if each.problem else '+'}] {each.name}" for each in found]
        return _text("\n".join(lines), 503 if why else 200)

    async def metrics(self, _: Request) -> Response:
        """What Prometheus asks for."""
        view = await self._view()
        scene = None if view is None else await self._scene(view)
        content = self._metrics.exposition(scene, self._own())
        return Response(content, media_type=self._metrics.content_type, headers=NO_STORE)

    async def _view(self) -> View | None:
        """None: the node's loop did not answer."""
        try:
            return await self._reach.view()
        except (LoopSilent, NodeDead):
            return None

    async def _scene(self, view: View) -> Scene | None:
        figures, service = view.figures, view.service
        if figures.meter is None:  # the port is about to be closed
            return None
        known = {
            "peers": figures.status.peer_certificate_expires_s,
            "clients": None if service is None else service.client_certificate_expires_s,
            "http": self._expires_s(),
        }
        return Scene(
            figures,
            figures.meter,
            service,
            await self._disk.look(figures.directory),
            {port: expires_s for port, expires_s in known.items() if expires_s is not None},
        )


def _text(content: str, code: int) -> Response:
    return PlainTextResponse(f"{content}\n", code, headers=NO_STORE)
