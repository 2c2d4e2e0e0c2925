"""The load that a trioraft leader puts on itself.

Rules of this file:

* It is what a program that embeds a node would write: tasks that await `propose`, or one task
  that keeps a window of `submit`ted commands full and takes every result, in order.
* Every command is another one. A command counts once the task that wants its result has it.
* In an open loop, latency counts from when a command was due (`open_loop`).
* Where a load is to go on, a task whose command failed waits until the node leads again.
* Latency is taken of every `propose`; in a window, of the newest command of every refill, from
  `submit` until the task has come round to it. Both cost less than 1 % of a command.
"""

from __future__ import annotations

import itertools
import math
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, final

import trio

from trioraft import Node, Proposal, RaftError, Role

from .. import stats
from ..open_loop import Schedule, keep_time
from .cases import COMMAND_BYTES, Mode
from .gauge import Gauge, rss_mb
from .pipe import Fill, Filled, Load, Loaded, Mark

clock = time.perf_counter

NUMBER_BYTES: Final = 8


def commands(size_bytes: int = COMMAND_BYTES) -> Iterator[bytes]:
    """Commands without end, each another one."""
    rest = bytes(size_bytes - NUMBER_BYTES)
    return (number.to_bytes(NUMBER_BYTES, "big") + rest for number in itertools.count())


@final
class Meter:
    """What was done since it was last reset."""

    def __init__(self) -> None:
        self.ops = 0
        """Commands whose results arrived."""
        self.failed = 0
        self.latencies_s = array("d")
        self._wanted = math.inf
        self._reached = trio.Event()

    def add(self, ops: int) -> None:
        """So many more results arrived."""
        self.ops += ops
        if self.ops >= self._wanted:
            self._reached.set()

    async def wait_for(self, ops: int) -> None:
        """Wait until there were so many."""
        self._wanted = ops
        if self.ops < ops:
            await self._reached.wait()

    def reset(self) -> None:
        """The measured interval begins."""
        self.ops = self.failed = 0
        del self.latencies_s[:]

    def latency_ms(self, percent: float) -> float:
        """A percentile; 0 if nothing was measured."""
        return stats.percentile(self.latencies_s, percent) * 1000 if self.latencies_s else 0.0


async def measure(node: Node, load: Load, gauge: Gauge, on_begin: Callable[[], None]) -> Loaded:
    """Put load on a leader, and measure once it is warm.

    Args:
        node: leads.
        load: how much, and for how long.
        gauge: of this process.
        on_begin: called when the measured interval begins.

    Raises:
        RaftError: it leads no more, or died.
    """
    meter, source = Meter(), commands(load.command_bytes)
    term, began_s = 0, 0.0

    def begin() -> None:
        nonlocal term, began_s
        on_begin()
        gauge.begin(load.profile)
        meter.reset()
        term, began_s = node.status.term, clock()

    if load.mode is Mode.OPEN:
        schedule = Schedule(load.concurrency, load.warm_up_s, load.seconds)
        took_s = await keep_time(lambda: node.propose(next(source)), schedule, begin)
        meter.latencies_s = took_s
        meter.add(len(took_s))
        return loaded_of(meter, clock() - began_s, node.status.term - term, gauge)
    async with trio.open_nursery() as nursery:
        if load.mode is Mode.TASKS:
            failures = RaftError if load.goes_on else ()
            for _ in range(load.concurrency):
                nursery.start_soon(_propose_for_ever, node, source, meter, failures)
        else:
            nursery.start_soon(_keep_full, node, load.concurrency, source, meter)
        await trio.sleep(load.warm_up_s)
        begin()
        await trio.sleep(load.seconds)
        await meter.wait_for(0 if load.goes_on else load.ops_min)
        loaded = loaded_of(meter, clock() - began_s, node.status.term - term, gauge)
        nursery.cancel_scope.cancel()
    return loaded


def loaded_of(meter: Meter, elapsed_s: float, terms: int, gauge: Gauge) -> Loaded:
    """What was measured, once it is over."""
    usage = gauge.end()
    p50_ms, p99_ms, p999_ms = map(meter.latency_ms, (50, 99, 99.9))
    return Loaded(meter.ops, elapsed_s, p50_ms, p99_ms, usage, p999_ms, meter.failed, terms)


async def _propose_for_ever(
    node: Node,
    source: Iterator[bytes],
    meter: Meter,
    failures: type[RaftError] | tuple[()],
) -> None:
    propose, add = node.propose, meter.latencies_s.append
    while True:
        began_s = clock()
        try:
            await propose(next(source))
        except failures:
            meter.failed += 1
            await node.wait(lambda status: status.role is Role.LEADER)
            continue
        add(clock() - began_s)
        meter.add(1)


async def _keep_full(node: Node, size: int, source: Iterator[bytes], meter: Meter) -> None:
    """Keep `size` commands on their way; take each result as soon as the oldest has it."""
    submit = node.submit
    window: deque[Proposal] = deque()
    samples: deque[tuple[Proposal, float]] = deque()
    while True:
        for _ in range(size - len(window)):
            window.append(submit(next(source)))
        samples.append((window[-1], clock()))
        done = await _take_done(window)
        while samples and samples[0][0].is_done:
            meter.latencies_s.append(clock() - samples.popleft()[1])
        meter.add(done)


async def _take_done(window: deque[Proposal]) -> int:
    """Wait for the oldest, and take every result that is there by then; returns how many."""
    done = 0
    while window and (done == 0 or window[0].is_done):
        await window.popleft().result()
        done += 1
    return done


async def fill(node: Node, order: Fill) -> Filled:
    """Take so many commands through a window, and note on the way what each part took.

    Raises:
        RaftError: it leads no more, or died.
    """
    source = itertools.islice(commands(), order.ops)
    window: deque[Proposal] = deque()
    began_s, ops = clock(), 0
    marks = [_mark(ops, began_s)]
    while True:
        window.extend(map(node.submit, itertools.islice(source, order.concurrency - len(window))))
        if not window:
            break
        ops += await _take_done(window)
        if ops >= order.ops * len(marks) / order.marks:
            marks.append(_mark(ops, began_s))
    return Filled(tuple(marks), node.status.last_index)


def _mark(ops: int, began_s: float) -> Mark:
    return Mark(ops, clock() - began_s, time.process_time(), rss_mb())
