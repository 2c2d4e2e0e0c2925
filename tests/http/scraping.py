"""Scraping without a port: what `/metrics` would say of a node in this very loop, in whatever time
that has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs

from tests.http.support import values
from trioraft import Node, Service
from trioraft.http import disk
from trioraft.http.metrics import METRICS, Metrics, OwnScene, Scene
from trioraft.node.figures import begin_measuring, figures_of
from trioraft.node.meter import Distribution


def own_scene(**given: Any) -> OwnScene:
    """Of a port that nobody asks anything."""
    nothing = OwnScene(Distribution(), 0.0, 1, {}, 0, 0.0)
    return attrs.evolve(nothing, **given)


class Scraper:
    """What one node exports, from when this is made.

    Args:
        node: in this very event loop.
        service: the port for clients beside it.
    """

    def __init__(self, node: Node, service: Service | None = None) -> None:
        begin_measuring(node)
        self.node = node
        self.service = service
        self._metrics = Metrics()

    def scene(self) -> Scene:
        """What is told now."""
        figures = figures_of(self.node)
        assert figures.meter is not None
        return Scene(
            figures,
            figures.meter,
            None if self.service is None else self.service.status(),
            None if figures.directory is None else disk.read(figures.directory),
            {} if self.service is None else _certificates(self.service),
        )

    def text(self, own: OwnScene | None = None, scene: Scene | None = None) -> str:
        """As Prometheus would get it."""
        return self._metrics.exposition(scene or self.scene(), own or own_scene()).decode()

    def values(self) -> dict[str, float]:
        """Its samples, by name and labels."""
        return values(self.text())

    @contextmanager
    def moving(self, *names: str) -> Iterator[None]:
        """See that each of these metrics is another one after the body."""
        before = self.values()
        yield
        saw_move(before, self.values(), *names)


def _certificates(service: Service) -> dict[str, float]:
    expires_s = service.status().client_certificate_expires_s
    return {} if expires_s is None else {"clients": expires_s}


def saw_move(before: dict[str, float], after: dict[str, float], *names: str) -> None:
    """See that each of these metrics has moved."""
    known = {metric.name for metric in METRICS}
    for name in names:
        assert name in known, f"{name} is no metric"
        assert of_metric(before, name) != of_metric(after, name), f"{name} has not moved"


def of_metric(samples: dict[str, float], name: str) -> dict[str, float]:
    """The samples of one metric."""
    endings = ("", "_info", "_bucket", "_sum", "_count")
    return {
        sample: value
        for sample, value in samples.items()
        if sample.partition("{")[0] in {name + ending for ending in endings}
    }
