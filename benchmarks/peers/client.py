"""python -m benchmarks.peers.client SETUP: load on `trioraft serve`, by a client of its own.

Rules of this file:

* It is started by `benchmarks.peers`, not by hand. SETUP is a `pipe.ClientSetup` in JSON.
* One `Client` with its session for each connection, as a program has it; callers share them.
* Keys and values are those that etcd gets.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

import msgspec
import trio

from trioraft import Client, RaftError
from trioraft.kv import ERROR_TYPES, KvClient

from ..open_loop import Schedule, clock, keep_time
from ..processes import child
from ..processes.pipe import answer
from ..throughput.cases import Call, Mode
from ..throughput.gauge import Gauge
from ..throughput.loads import Meter, loaded_of
from ..throughput.pipe import Began, Load, Loaded, Opened
from .pipe import ClientSetup, decode_order, decode_setup

KEYS: Final = 1000
TIMEOUT_S: Final = 30.0


def main() -> int:
    """Put load on what the only argument describes; returns the exit code."""
    return child.main_beside(decode_order, partial(_live, decode_setup(sys.argv[1].encode())))


async def _live(setup: ClientSetup, orders: child.Orders) -> None:
    addresses = [
        (host, int(port)) for host, _, port in (e.rpartition(":") for e in setup.endpoints)
    ]
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(
                Client(addresses, error_types=ERROR_TYPES, timeout_s=TIMEOUT_S)
            )
            for _ in range(setup.connections)
        ]
        await KvClient(clients[0]).put(b"bench/0", b"")
        answer(Opened("", 0.0))
        async for order in orders:
            if not isinstance(order, Load):
                raise TypeError(f"{order!r} is no order for a client of trioraft's")
            answer(await measure(clients, order))


async def measure(clients: list[Client], load: Load) -> Loaded:
    """Put load on a service, and measure once it is warm."""
    numbers, value = itertools.count(), bytes(load.command_bytes)
    stores = [KvClient(client) for client in clients]

    def call() -> Awaitable[object]:
        number = next(numbers)
        store, key = stores[number % len(stores)], b"bench/%d" % (number % KEYS)
        return store.get(key) if load.call is Call.GET else store.put(key, value)

    meter, gauge, began_s = Meter(), Gauge(), 0.0
    term = (await clients[0].status()).term

    def begin() -> None:
        nonlocal began_s
        answer(Began())
        gauge.begin(None)
        meter.reset()
        began_s = clock()

    if load.mode is Mode.OPEN:
        schedule = Schedule(load.concurrency, load.warm_up_s, load.seconds)
        meter.latencies_s = await keep_time(call, schedule, begin)
        meter.add(len(meter.latencies_s))
        elapsed_s = clock() - began_s
        return loaded_of(meter, elapsed_s, (await clients[0].status()).term - term, gauge)
    failures = RaftError if load.goes_on else ()
    async with trio.open_nursery() as nursery:
        for _ in range(load.concurrency):
            nursery.start_soon(_call_for_ever, call, meter, failures)
        await trio.sleep(load.warm_up_s)
        begin()
        await trio.sleep(load.seconds)
        await meter.wait_for(0 if load.goes_on else load.ops_min)
        loaded = loaded_of(meter, clock() - began_s, 0, gauge)
        nursery.cancel_scope.cancel()
    return msgspec.structs.replace(loaded, terms=(await clients[0].status()).term - term)


async def _call_for_ever(
    call: Callable[[], Awaitable[object]], meter: Meter, failures: type[RaftError] | tuple[()]
) -> None:
    add = meter.latencies_s.append
    while True:
        began_s = clock()
        try:
            await call()
        except failures:
            meter.failed += 1
            continue
        add(clock() - began_s)
        meter.add(1)


if __name__ == "__main__":
    sys.exit(main())
