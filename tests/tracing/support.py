"""Nodes, ports and clients that are traced, in virtual time; and what was traced, as a tree."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from opentelemetry.trace import Tracer

from trioraft import MemoryNetwork, MemoryStorage, Node, open_node
from trioraft.core.types import NodeId

IDS: tuple[NodeId, ...] = ("0", "1", "2")


class Counter:
    """The result of a command is how many there were; one raises."""

    def __init__(self) -> None:
        self.value = 0

    def apply(self, index: int, data: bytes) -> int:
        if data == b"raise":
            raise KeyError("as told")
        self.value += 1
        return self.value

    def query(self, data: bytes) -> int:
        return self.value

    def snapshot(self) -> bytes:
        return str(self.value).encode()

    def restore(self, snapshot: Iterable[bytes]) -> None:
        self.value = int(b"".join(snapshot))


class Traces:
    """All that is traced in a test, by any process that it plays."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self._exporter = InMemorySpanExporter()
        self._sampler = sampler

    def tracer(self) -> Tracer:
        """Of one process."""
        provider = TracerProvider(sampler=self._sampler, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        return provider.get_tracer("tests")

    @property
    def spans(self) -> list[ReadableSpan]:
        """Those that have ended, in the order in which they began."""
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def clear(self) -> None:
        self._exporter.clear()

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def tree(self) -> list[str]:
        """A line for each span: its name, and whose it is; indented below its parent."""
        children: dict[int | None, list[ReadableSpan]] = {}
        for span in self.spans:
            parent = None if span.parent is None else span.parent.span_id
            children.setdefault(parent, []).append(span)
        return list(_lines(children, None, 0))


def _lines(
    children: dict[int | None, list[ReadableSpan]], parent: int | None, depth: int
) -> Iterator[str]:
    for span in children.get(parent, ()):
        node = attribute(span, "node")
        at = "" if node is None else f" at {node}"
        yield f"{'  ' * depth}{span.name.removeprefix('trioraft.')}{at}"
        yield from _lines(children, id_of(span), depth + 1)


def attribute(span: ReadableSpan, name: str) -> Any:
    return None if span.attributes is None else span.attributes.get(f"trioraft.{name}")


def links_of(span: ReadableSpan) -> set[int]:
    return {link.context.span_id for link in span.links}


def id_of(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.span_id


def trace_of(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.trace_id


@attrs.define
class Nodes:
    """Three nodes in one process."""

    nodes: dict[NodeId, Node]
    machines: dict[NodeId, Any]

    async def leader(self) -> Node:
        """Whoever leads, once all follow it."""
        first = self.nodes[IDS[0]]
        status = await first.wait(lambda status: status.leader_id is not None)
        leader_id = status.leader_id
        assert leader_id is not None
        for node in self.nodes.values():
            await node.wait(lambda status: status.leader_id == leader_id)
        leader = self.nodes[leader_id]
        await leader.wait(lambda status: status.commit_index > 0)
        return leader

    async def follower(self) -> Node:
        leader = await self.leader()
        return next(node for node in self.nodes.values() if node is not leader)


@asynccontextmanager
async def traced_nodes(
    tracer: Callable[[], Tracer | None], machine: Callable[[], Any] = Counter
) -> AsyncIterator[Nodes]:
    """Three nodes, each with a tracer of its own."""
    network = MemoryNetwork(random.Random(0))
    machines = {node_id: machine() for node_id in IDS}
    nodes: dict[NodeId, Node] = {}

    async def live(node_id: NodeId, *, task_status: trio.TaskStatus[None]) -> None:
        async with open_node(
            node_id,
            voters=IDS,
            machine=machines[node_id],
            storage=MemoryStorage(),
            transport=network.transport(node_id),
            rng=random.Random(node_id),
            tracer=tracer(),
        ) as nodes[node_id]:
            task_status.started()
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for node_id in IDS:
            await nursery.start(live, node_id)
        yield Nodes(nodes, machines)
        nursery.cancel_scope.cancel()
