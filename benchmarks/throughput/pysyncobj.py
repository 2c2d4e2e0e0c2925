"""A PySyncObj node in a process of its own, which does what it is told through a pipe.

Rules of this file:

* PySyncObj runs as it comes: its own thread ticks, every setting has its default.
* Load is what suits it best: so many commands on their way, and each callback issues the next
  one. It knows nothing like a window, so a window of N is the same thing here as N tasks.
* Its journal is written through a memory map, which 0.3.17 never has flushed to the disk. Here it
  is flushed before anything leaves the node, once a message and not once an entry: as durable as
  trioraft's log, at the least cost.
* The end of standard input ends the process, whatever its threads do.
"""

from __future__ import annotations

import importlib
import os
import queue
import socket
import sys
import threading
import time
from array import array
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, final

from .. import stats
from ..open_loop import Schedule
from ..processes.child import HOST
from ..processes.pipe import Bound, Failed, Peers, answer
from .cases import Mode, Storage
from .gauge import Gauge, set_collector
from .loads import commands
from .pipe import (
    Began,
    Begin,
    End,
    Led,
    Load,
    Loaded,
    Opened,
    Order,
    Setup,
    Usage,
    decode_order,
)

clock = time.perf_counter

WATCH_LOOK_S: Final = 0.001
"""How often is asked whether this node leads: PySyncObj tells nobody."""
WATCH_PATIENCE_S: Final = 10.0
DONE_LOOK_S: Final = 0.01
"""How often is looked whether all commands are done, once all are issued."""


def run(setup: Setup) -> int:
    """Be a node until standard input ends; does not return before."""
    orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
    threading.Thread(target=_read_orders, args=(orders,), daemon=True).start()
    with socket.socket() as holder:  # PySyncObj wants to know the ports of all from the start
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((HOST, setup.port))
        answer(Bound(holder.getsockname()[1]))
        peers = orders.get()
    if not isinstance(peers, Peers):
        raise TypeError(f"the first order is {peers!r}, not Peers")
    names = {f"{HOST}:{port}": node_id for node_id, port in peers.ports.items()}
    began_s = clock()
    counter = _open(setup, names)
    set_collector(setup.collector)
    answer(Opened(names[counter._getLeader().id], clock() - began_s))
    if setup.is_watched:
        threading.Thread(target=_watch, args=(counter, setup.node_id), daemon=True).start()
    gauge = Gauge()
    while True:
        match orders.get():
            case Load() as load:
                answer(_measure(counter, load, gauge))
            case Begin():
                gauge.begin(None)
            case End():
                answer(gauge.end())
            case other:
                raise TypeError(f"{other!r} is no order for a PySyncObj node")


def _read_orders(orders: queue.SimpleQueue[Order]) -> None:
    for line in sys.stdin.buffer:
        orders.put(decode_order(line))
    os._exit(0)


def _watch(counter: Any, node_id: str) -> None:
    """Say whenever this node has come to lead, and a command of its has succeeded."""
    led = False
    while True:
        leads = counter._isLeader()
        if leads and not led:
            with suppress(Exception):  # it leads no more
                counter.add(b"", sync=True, timeout=WATCH_PATIENCE_S)
                answer(Led(node_id, counter.raftCurrentTerm))
        led = leads
        time.sleep(WATCH_LOOK_S)


def _open(setup: Setup, names: dict[str, str]) -> Any:
    """The replicated counter, as soon as it knows a leader."""
    pysyncobj: Any = importlib.import_module("pysyncobj")
    ready = threading.Event()
    options: dict[str, Any] = {"onReady": ready.set}
    transport = None
    if setup.storage is Storage.JOURNAL:
        journal = Path(setup.directory) / f"node-{setup.node_id}.journal"
        options["journalFile"] = str(journal)
        options["fullDumpFile"] = str(journal.with_suffix(".dump"))
        transport = _flush_before_sending()

    class Counter(pysyncobj.SyncObj):  # type: ignore[misc]  # it has no types
        def __init__(self, own: str, others: list[str], **more: Any) -> None:
            super().__init__(own, others, pysyncobj.SyncObjConf(**options), **more)
            self.count = 0

        @pysyncobj.replicated  # type: ignore[untyped-decorator]  # as above
        def add(self, _data: bytes) -> int:
            self.count += 1
            return self.count

    own = next(address for address, name in names.items() if name == setup.node_id)
    more = {} if transport is None else {"transportClass": transport}
    counter = Counter(own, [address for address in names if address != own], **more)
    ready.wait()
    return counter


def _flush_before_sending() -> Any:
    """Have journals flushed before messages leave; returns the transport class that does it."""
    syncobj: Any = importlib.import_module("pysyncobj.syncobj")
    base_journal = importlib.import_module("pysyncobj.journal").FileJournal
    base_transport = importlib.import_module("pysyncobj.transport").TCPTransport
    journals: list[Any] = []

    class Journal(base_journal):  # type: ignore[misc, valid-type]  # it has no types
        is_dirty = False

        def add(self, *entry: Any) -> None:
            super().add(*entry)
            self.is_dirty = True

        def flush_if_dirty(self) -> None:
            if self.is_dirty:
                self.is_dirty = False
                self.flush()

    class Transport(base_transport):  # type: ignore[misc, valid-type]  # it has no types
        def send(self, node: Any, message: Any) -> Any:
            for journal in journals:
                journal.flush_if_dirty()
            return super().send(node, message)

    def create_journal(*arguments: Any) -> Any:
        journals.append(Journal(*arguments))
        return journals[-1]

    syncobj.createJournal = create_journal  # there is no other way in
    return Transport


# -- load --------------------------------------------------------------------------------------


@final
class _Pump:
    """Keeps commands on their way. All but `start` and `issue` runs in PySyncObj's own thread."""

    def __init__(self, counter: Any, size_bytes: int) -> None:
        self.latencies_s = array("d")
        self.failure: int | None = None
        self.is_on = True
        self._add = counter.add
        self._source = commands(size_bytes)

    def start(self, concurrency: int) -> None:
        for _ in range(concurrency):
            self._issue()

    def issue(self, due_at_s: float) -> None:
        """One command that was due then; any thread may do so."""

        def done(_result: Any, failure: int) -> None:
            self.latencies_s.append(clock() - due_at_s)
            self.failure = failure or self.failure

        self._add(next(self._source), callback=done)

    def _issue(self) -> None:
        began_s = clock()

        def done(_result: Any, failure: int) -> None:
            self.latencies_s.append(clock() - began_s)
            if failure:
                self.failure = failure
            elif self.is_on:
                self._issue()

        self._add(next(self._source), callback=done)


def _measure(counter: Any, load: Load, gauge: Gauge) -> Loaded | Failed:
    pump = _Pump(counter, load.command_bytes)
    if load.mode is Mode.OPEN:
        return _measure_open(pump, load, gauge)
    pump.start(load.concurrency)
    time.sleep(load.warm_up_s)
    answer(Began())
    gauge.begin(None)
    began_s, before = clock(), len(pump.latencies_s)
    time.sleep(load.seconds)
    while len(pump.latencies_s) - before < load.ops_min and pump.failure is None:
        time.sleep(load.seconds)
    elapsed_s, after = clock() - began_s, len(pump.latencies_s)
    usage = gauge.end()
    pump.is_on = False
    if pump.failure is not None:
        return Failed(f"PySyncObj gave up a command with FAIL_REASON {pump.failure}")
    return _loaded(pump.latencies_s[before:after], elapsed_s, usage)


def _measure_open(pump: _Pump, load: Load, gauge: Gauge) -> Loaded | Failed:
    schedule = Schedule(load.concurrency, load.warm_up_s, load.seconds)
    began_s, first, sent = clock(), 0, 0
    for due_s in schedule.dues_s():
        time.sleep(max(0.0, began_s + due_s - clock()))
        if schedule.counts(due_s) and not first:
            answer(Began())
            gauge.begin(None)
            first = sent + 1
        pump.issue(began_s + due_s)
        sent += 1
    while len(pump.latencies_s) < sent and pump.failure is None:
        time.sleep(DONE_LOOK_S)
    usage = gauge.end()
    if pump.failure is not None:
        return Failed(f"PySyncObj gave up a command with FAIL_REASON {pump.failure}")
    # They are done in the order in which they were issued.
    return _loaded(pump.latencies_s[first - 1 :], clock() - began_s - load.warm_up_s, usage)


def _loaded(latencies_s: array[float], elapsed_s: float, usage: Usage) -> Loaded:
    p50_ms, p99_ms, p999_ms = (stats.percentile(latencies_s, p) * 1000 for p in (50, 99, 99.9))
    return Loaded(len(latencies_s), elapsed_s, p50_ms, p99_ms, usage, p999_ms)
