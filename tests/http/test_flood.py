"""A node whose HTTP port is flooded goes on as if there were none.

Rules of this file: no bound is on a time, which a busy machine may stretch, but on CPU time, counts
and ratios. What a flood costs in milliseconds, `python -m benchmarks.http_flood` measures.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

import trioraft.http
from benchmarks.processes import Process, python
from tests.http.support import HERE, PATIENCE_S, ask, open_leader
from trioraft import Node, SQLiteStorage
from trioraft.http import reach
from trioraft.http.reach import LOOK_EVERY_S
from trioraft.http.share import BURST_S
from trioraft.node.figures import figures_of

WINDOW_S = 1.0
PAIRS = 3
RATIO_MIN = 1 / 2
"""Of commands in a flood, to those without, at least once: something else may take the machine's
time meanwhile, but a flood takes it always. A port without a bound leaves a tenth to a quarter, one
in the node's own loop a hundredth."""
SHARE = 0.1
"""Of a processor: the default, which is not asked for here."""
STEP_S = 0.1
"""CPU time that one step of a task may take before it is held."""


@contextmanager
def flood(port: trioraft.http.HttpPort) -> Iterator[Process]:
    """Another process asks for `/metrics` as fast as it can."""
    command = python("benchmarks.http_flood", "--flood", str(port.address[1]))
    with Process(command, name="the flood", is_guarded=True) as process:
        while int(process.next_line()) == 0:
            pass  # until it is answered
        yield process


def cpu_s() -> float:
    """CPU time of the port's thread."""
    (thread,) = (each for each in threading.enumerate() if each.name == "trioraft http[a]")
    assert thread.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


async def proposed(node: Node) -> int:
    """How many commands are done in a while."""
    count = 0
    with trio.move_on_after(WINDOW_S):
        while True:
            await node.propose(b"x")
            count += 1
    return count


async def test_a_flood_gets_its_share_of_a_processor_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = 0

    def counted(node: Node) -> object:
        nonlocal looks
        looks += 1
        return figures_of(node)

    monkeypatch.setattr(reach, "figures_of", counted)
    async with open_leader() as node, trioraft.http.serve(node, listen=HERE) as port:
        with trio.fail_after(PATIENCE_S), flood(port) as flooding:
            begun_s, begun_cpu_s, looks = time.monotonic(), cpu_s(), 0
            answers = 0
            for _ in range(3):
                answers += int(await trio.to_thread.run_sync(flooding.next_line))
            took_s = time.monotonic() - begun_s
            used_s = cpu_s() - begun_cpu_s
    assert answers > 0
    assert used_s <= SHARE * took_s + BURST_S + STEP_S
    assert looks <= took_s / LOOK_EVERY_S + 2, "however many asked"


async def test_a_node_goes_on_while_its_port_is_flooded(tmp_path: Path) -> None:
    """One whose log is on a disk: it has to get the interpreter back after each write."""
    storage = SQLiteStorage(tmp_path / "node")
    async with (
        open_leader(storage=storage) as node,
        trioraft.http.serve(node, listen=HERE) as port,
    ):
        term, ratios = node.status.term, []
        with trio.fail_after(PATIENCE_S):
            for _ in range(PAIRS):
                quiet = await proposed(node)
                with flood(port):
                    ratios.append(await proposed(node) / quiet)
        assert node.status.term == term
        assert max(ratios) > RATIO_MIN, ratios


async def test_a_probe_is_answered_while_the_port_is_flooded() -> None:
    """It comes from the very host of the flood, so it is one of many."""
    async with open_leader() as node, trioraft.http.serve(node, listen=HERE) as port:
        with trio.fail_after(PATIENCE_S), flood(port):
            while True:
                try:
                    answer = await ask(port, "/livez")
                except ConnectionError:
                    continue  # it was one too many
                break
        assert answer.status == 200
