"""How each thing is made to grow within this process, and what a proposal costs meanwhile.

Rules of this file:

* Nodes are in this process, in memory: what is measured is what they compute.
* One caller proposes one command after the other, so that nothing is shared between proposals.
* Whatever has grown stays as it is while a proposal is measured; it is quiet, and has settled.
"""

from __future__ import annotations

import gc
import itertools
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final, final

import attrs
import trio
from trio.testing import wait_all_tasks_blocked

from trioraft import MemoryNetwork, MemoryStorage, Node, Replicas, Role, Status, open_node
from trioraft.kv.commands import Changes, Put, encode
from trioraft.kv.machine import KvMachine
from trioraft.machines.sessions import (
    CLIENT_ID_BYTES,
    SessionMachine,
    encode_command,
    encode_open,
    encode_plain,
)
from trioraft.member.state_machine import StateMachine
from trioraft.structures import Counter, Lock

from .. import procfs, stats

LEASE_S: Final = 3600.0
WINDOW: Final = 1000
VALUE: Final = bytes(100)
SETTLE_S: Final = 0.02


@attrs.frozen
class Rig:
    """A cluster with something that grows."""

    grow: Callable[[int], Awaitable[None]]
    """Let there be so many, which is no less than there are."""
    propose: Callable[[], Awaitable[object]]


@attrs.frozen
class Cost:
    """What one proposal cost."""

    cpu_us: float
    p50_ms: float


async def cost(propose: Callable[[], Awaitable[object]], seconds: float) -> Cost:
    """Propose for so long, one after the other."""
    took_s: list[float] = []
    gc.collect()
    began_s, cpu_s = time.perf_counter(), time.process_time()
    while not took_s or time.perf_counter() - began_s < seconds:
        one_s = time.perf_counter()
        await propose()
        took_s.append(time.perf_counter() - one_s)
    cpu_s = time.process_time() - cpu_s
    return Cost(cpu_s / len(took_s) * 1e6, stats.percentile(took_s, 50) * 1000)


def rss_bytes() -> int:
    """What is resident in this process, once what nobody needs is gone."""
    gc.collect()
    return procfs.rss_bytes(os.getpid())


@final
class Nothing:
    """A machine that does the least that it can."""

    def apply(self, index: int, _data: bytes) -> int:
        """Nothing is kept."""
        return index

    def snapshot(self) -> bytes:
        """Nothing."""
        return b""

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Nothing."""
        b"".join(chunks)


@asynccontextmanager
async def cluster(machines: list[StateMachine]) -> AsyncIterator[list[Node]]:
    """A node for each machine; the first leads."""
    network = MemoryNetwork(random.Random(0))
    names = [f"{number}" for number in range(len(machines))]
    async with AsyncExitStack() as stack:
        nodes = []
        for name, machine in zip(names, machines, strict=True):
            opening = open_node(
                name,
                voters=names,
                machine=machine,
                storage=MemoryStorage(),
                transport=network.transport(name),
            )
            nodes.append(await stack.enter_async_context(opening))
        await nodes[0].wait(lambda status: status.leader_id is not None)
        nodes.sort(key=lambda node: node.status.role is not Role.LEADER)
        await nodes[0].wait(lambda status: status.role is Role.LEADER)
        yield nodes


async def _settle() -> None:
    """Every task that was started waits for something."""
    await wait_all_tasks_blocked(SETTLE_S)


def never(_status: Status) -> bool:
    """What a waiter waits for."""
    return False


@asynccontextmanager
async def waiters() -> AsyncIterator[Rig]:
    """Tasks in `node.wait`, for what does not come."""
    async with cluster([Nothing()]) as (node,), trio.open_nursery() as nursery:
        waiting = 0

        async def grow(to: int) -> None:
            nonlocal waiting
            for _ in range(to - waiting):
                nursery.start_soon(node.wait, never)
            waiting = to
            await _settle()

        yield Rig(grow, lambda: node.propose(VALUE))
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def queue() -> AsyncIterator[Rig]:
    """Members of a lock's queue; another object of the same machine gets the commands."""
    lock, counter = Lock(), Counter()
    machine = Replicas(counter=counter, lock=lock)
    async with cluster([machine]) as (node,), trio.open_nursery() as nursery:
        machine.attach(node)
        members, has_turn = 0, trio.Event()

        async def wait_for_turn(number: int) -> None:
            async with lock.hold(f"{number}", lease_s=LEASE_S):
                has_turn.set()
                await trio.sleep_forever()

        async def grow(to: int) -> None:
            nonlocal members
            for number in range(members, to):
                nursery.start_soon(wait_for_turn, number)
            members = to
            if to:
                await has_turn.wait()
                await node.wait(lambda _status: len(lock.waiting) >= to - 1)
            await _settle()

        yield Rig(grow, lambda: counter.add(1))
        nursery.cancel_scope.cancel()


async def _in_window(node: Node, commands: Iterable[bytes]) -> None:
    """Have all of these applied."""
    for some in _batches(commands):
        for proposal in [node.submit(command) for command in some]:
            await proposal.result()


def _batches(commands: Iterable[bytes]) -> Iterable[list[bytes]]:
    source = iter(commands)
    while some := list(itertools.islice(source, WINDOW)):
        yield some


def _put(key: bytes) -> bytes:
    return encode(Put(key, VALUE))


@asynccontextmanager
async def sessions() -> AsyncIterator[Rig]:
    """Sessions that have each had a command."""
    async with cluster([SessionMachine(KvMachine())]) as (node,):
        opened, rng, numbers = 0, random.Random(0), itertools.count(1)
        own = int(str(await node.propose(encode_open(rng.randbytes(CLIENT_ID_BYTES)))))

        async def grow(to: int) -> None:
            nonlocal opened
            new = range(opened, to)
            proposals = [node.submit(encode_open(rng.randbytes(CLIENT_ID_BYTES))) for _ in new]
            ids = [int(str(await proposal.result())) for proposal in proposals]
            await _in_window(node, (encode_command(one, 1, _put(b"theirs"), 1) for one in ids))
            opened = to

        def propose() -> Awaitable[object]:
            number = next(numbers)
            return node.propose(encode_command(own, number, _put(b"mine"), number))

        yield Rig(grow, propose)


WATCHED: Final[dict[str, Callable[[int], Changes]]] = {
    "prefix": lambda number: Changes(1, b"others/%d/" % number),
    "key": lambda number: Changes(1, b"others/%d" % number, until=b"others/%d\0" % number),
    "range": lambda number: Changes(1, b"others/%08d/b" % number, until=b"others/%08d/y" % number),
}


@asynccontextmanager
async def watches(kind: str) -> AsyncIterator[Rig]:
    """Watches of keys that nobody writes."""
    machine = KvMachine()
    async with cluster([SessionMachine(machine)]) as (node,), AsyncExitStack() as stack:
        watching = 0

        async def grow(to: int) -> None:
            nonlocal watching
            for number in range(watching, to):
                await stack.enter_async_context(machine.watch(encode(WATCHED[kind](number))))
            watching = to

        yield Rig(grow, lambda: node.propose(encode_plain(_put(b"mine"))))


@asynccontextmanager
async def keys() -> AsyncIterator[Rig]:
    """Keys of twelve bytes, with values of a hundred."""
    async with cluster([SessionMachine(KvMachine())]) as (node,):
        there = 0

        async def grow(to: int) -> None:
            nonlocal there
            await _in_window(
                node, (encode_plain(_put(b"key/%08d" % number)) for number in range(there, to))
            )
            there = to

        yield Rig(grow, lambda: node.propose(encode_plain(_put(b"mine"))))


@asynccontextmanager
async def members(count: int) -> AsyncIterator[Rig]:
    """A cluster of so many; it does not grow."""

    async def grow(_to: int) -> None:
        await trio.lowlevel.checkpoint()

    async with cluster([Nothing() for _ in range(count)]) as nodes:
        yield Rig(grow, lambda: nodes[0].propose(VALUE))


RIGS: Final[dict[str, Callable[[], AbstractAsyncContextManager[Rig]]]] = {
    "waiters": waiters,
    "queue": queue,
    "sessions": sessions,
    "watches/key": partial(watches, "key"),
    "watches/prefix": partial(watches, "prefix"),
    "watches/range": partial(watches, "range"),
    "keys": keys,
}
