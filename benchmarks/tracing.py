"""What tracing costs: commands a second of one caller, three nodes in this process, in memory.

    python -m benchmarks.tracing --seconds 5

Rounds of all kinds alternate, so that a machine that has other work is as busy for each.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Iterable
from typing import Final

import trio
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler

from trioraft import MemoryNetwork, MemoryStorage, Node, NodeId, open_node
from trioraft.protocols import Tracer

ROUNDS: Final = 5
WARM_UP: Final = 200
"""Commands before those that are counted."""
IDS: Final[tuple[NodeId, ...]] = ("0", "1", "2")


class _Counts:
    """The result of a command is how many there were."""

    value = 0

    def apply(self, index: int, data: bytes) -> int:
        self.value += 1
        return self.value

    def snapshot(self) -> bytes:
        return b""

    def restore(self, snapshot: Iterable[bytes]) -> None:
        """Nothing comes here."""


def _tracer(sampler: Sampler) -> Tracer:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("benchmark")


KINDS: Final[dict[str, Sampler | None]] = {
    "no tracer": None,
    "a tracer, nothing sampled": ALWAYS_OFF,
    "every command sampled, spans kept in memory": ALWAYS_ON,
}


async def _rate(sampler: Sampler | None, seconds: float) -> float:
    """Commands a second, by CPU time of this process."""
    tracer = None if sampler is None else _tracer(sampler)
    network, nodes = MemoryNetwork(random.Random(0), delay_s=(0.0, 0.0)), dict[NodeId, Node]()

    async def live(node_id: NodeId, *, task_status: trio.TaskStatus[None]) -> None:
        async with open_node(
            node_id,
            voters=IDS,
            machine=_Counts(),
            storage=MemoryStorage(),
            transport=network.transport(node_id),
            tracer=tracer,
        ) as nodes[node_id]:
            task_status.started()
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for node_id in IDS:
            await nursery.start(live, node_id)
        leader_id = (await nodes["0"].wait(lambda status: status.leader_id is not None)).leader_id
        leader = nodes[leader_id or "0"]
        for _ in range(WARM_UP):
            await leader.propose(b"x")
        count, begun_s, end_s = 0, time.process_time(), time.monotonic() + seconds
        while time.monotonic() < end_s:
            await leader.propose(b"x")
            count += 1
        rate = count / (time.process_time() - begun_s)
        nursery.cancel_scope.cancel()
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each round")
    seconds = parser.parse_args().seconds
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(ROUNDS):
        for kind, sampler in KINDS.items():
            rates[kind].append(trio.run(_rate, sampler, seconds))
    print("| one caller, three nodes in one process, in memory | commands a second of CPU |")
    print("|---|---|")
    for kind, found in rates.items():
        low, high = min(found), max(found)
        print(f"| {kind} | {statistics.median(found):,.0f} ({low:,.0f}–{high:,.0f}) |")


if __name__ == "__main__":
    main()
