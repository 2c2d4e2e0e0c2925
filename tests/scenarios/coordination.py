"""The recipes that etcd's users know (mutex, election, queue, barrier, and a semaphore), over
replicated structures and under a nemesis; `tests/coordination/test_recipes.py` and
`python -m tests.many_seeds` tell them.

Rules of this file:

* The nemesis crashes nodes with whoever works there, and cuts others off, one at a time, so that a
  majority remains; at the end all is well again, and everybody who still wants something gets it.
* A crash loses whoever was at work there; what it had asked for is of unknown outcome. What it held
  ends at some time after that: a release of unknown outcome.
* What was seen is checked for linearizability; and no two at once by their tokens.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Final, Protocol, TypeAlias

import attrs
import trio

from tests.replicated.support import Objects
from trioraft import NodeDead, NodeId, OutcomeUnknown
from trioraft.structures import Barrier, Election, Grant, Lock, LockLost, Queue, Semaphore
from trioraft.testing import linearizability as lin
from trioraft.testing.cluster import Cluster


class Open(Protocol):
    """Opens a cluster; what the scenario does not say is the teller's choice."""

    def __call__(
        self, size: int, *, machine: Callable[[], Any]
    ) -> AbstractAsyncContextManager[Cluster]: ...


Scenario: TypeAlias = Callable[[Open], Awaitable[None]]

TROUBLES = 6
LEASE_S = 2.0
TAIL_S = 60.0
"""How long everything may take once all is well."""


@attrs.define
class Nemesis:
    """Troubles of a cluster, one after the other."""

    cluster: Cluster
    is_over: trio.Event = attrs.field(factory=trio.Event)
    spared: frozenset[NodeId] = frozenset()
    """Which nodes are cut off at times, but never crashed."""

    async def run(self) -> None:
        """So many, each long enough to matter, or not."""
        rng = random.Random(f"nemesis {self.cluster.seed}")
        for _ in range(TROUBLES):
            await trio.sleep(rng.uniform(0.1, 1.5))
            victim = rng.choice(self.cluster.ids)
            if rng.random() < 0.5 and victim not in self.spared:
                await self.cluster.crash(victim)
                await trio.sleep(rng.uniform(0.1, 4))
                await self.cluster.restart(victim)
            else:
                self.cluster.disconnect(victim)
                await trio.sleep(rng.uniform(0.1, 4))
                self.cluster.reconnect(victim)
        self.is_over.set()


Work: TypeAlias = Callable[[Any, str], Awaitable[None]]
"""What one worker does again and again on one node, under its own name."""


async def work_on_every_node(
    cluster: Cluster, work: Work, *, workers: int = 2, spared: frozenset[NodeId] = frozenset()
) -> None:
    """Until the nemesis is over, and then once more; whoever dies with its node begins again."""
    objects = Objects[Any](cluster)
    nemesis = Nemesis(cluster, spared=spared)

    async def worker(node_id: NodeId, number: int) -> None:
        life = 0
        while not nemesis.is_over.is_set():
            await cluster.wait(lambda: node_id in cluster.nodes, "the node is up", timeout_s=TAIL_S)
            thing = objects.at(node_id)
            life += 1
            try:
                while not nemesis.is_over.is_set():
                    await work(thing, f"{node_id}.{number}.{life}")
            except (LockLost, NodeDead, OutcomeUnknown):  # of a leader that was deposed under it
                await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        for node_id in spared or cluster.ids:
            for number in range(workers):
                nursery.start_soon(worker, node_id, number)
        await nemesis.run()
        nursery.cancel_scope.deadline = trio.current_time() + TAIL_S
    assert not nursery.cancel_scope.cancelled_caught, "somebody waits for ever"


@attrs.define
class Holders:
    """Who had a turn, as they saw it."""

    acquire: Callable[[str], Any]
    release: Callable[[str], Any]
    history: lin.History = attrs.field(factory=lin.History)
    tokens: list[int] = attrs.field(factory=list)
    turns: int = 0
    unaware: list[lin.Token] = attrs.field(factory=list)
    """Turns that were waited for so long that one may have come and gone before, unheard of: the
    log gave it, and took it back when the lease was over."""

    async def turn(
        self, holding: AbstractAsyncContextManager[Grant], name: str, work_s: float
    ) -> None:
        """One, of one worker; each is a client of its own in the history."""
        self.turns += 1
        name = f"{name}#{self.turns}"
        asked = self.history.invoke(name, self.acquire(name))
        asked_s = trio.current_time()
        released: lin.Token | None = None
        try:
            async with holding as grant:
                waited_s = trio.current_time() - asked_s
                self.history.ok(asked, True)
                self.tokens.append(grant.token)
                try:
                    await trio.sleep(work_s)
                finally:
                    released = self.history.invoke(name, self.release(name))
        except BaseException:
            if trio.current_time() - asked_s >= LEASE_S:
                self.unaware.append(asked)
            if released is None:  # it may have had a turn and not have learnt of it
                self.history.unknown(asked)
                self.history.invoke(name, self.release(name))
            raise
        if waited_s >= LEASE_S:
            self.unaware.append(asked)
        if grant.is_given_back:
            self.history.ok(released, True)

    def check(self, model: lin.Model[Any]) -> None:
        """One at a time, or so many."""
        operations = list(self.history.operations())
        for number in self.unaware:
            asked = operations[number]
            for call in (self.acquire(asked.client), self.release(asked.client)):
                operations.append(lin.Operation(asked.client, call, asked.called_at))
        lin.check_linearizable(operations, model).raise_if_not_linearizable()


async def mutex(open_cluster: Open) -> None:
    """Never two holders; tokens rise from each to the next."""
    holders = Holders(lin.Lock.Acquire, lin.Lock.Release)
    async with open_cluster(3, machine=Lock) as cluster:
        rng = random.Random(cluster.seed)

        async def work(lock: Lock, name: str) -> None:
            await holders.turn(lock.hold(name, lease_s=LEASE_S), name, rng.uniform(0, 0.5))

        await work_on_every_node(cluster, work)
    holders.check(lin.Lock())
    assert holders.tokens == sorted(set(holders.tokens))
    assert len(holders.tokens) > TROUBLES


async def semaphore(open_cluster: Open) -> None:
    """Never more holders than permits."""
    holders = Holders(lin.Semaphore.Acquire, lin.Semaphore.Release)
    async with open_cluster(3, machine=lambda: Semaphore(2)) as cluster:
        rng = random.Random(cluster.seed)

        async def work(permits: Semaphore, name: str) -> None:
            await holders.turn(permits.hold(name, lease_s=LEASE_S), name, rng.uniform(0, 0.5))

        await work_on_every_node(cluster, work)
    holders.check(lin.Semaphore(2))
    assert len(holders.tokens) > TROUBLES


async def election(open_cluster: Open) -> None:
    """Never two leaders; and whoever looks sees the one there is."""
    holders = Holders(lin.Election.Campaign, lin.Election.Resign)
    history = holders.history
    async with open_cluster(3, machine=Election) as cluster:
        rng = random.Random(cluster.seed)

        async def work(office: Election, name: str) -> None:
            if name.split(".")[1] == "0":
                with history.operation(name, lin.Election.Look()) as look:
                    leader = await office.leader()
                    look.ok(None if leader is None else leader.name)
                await trio.sleep(0.2)
            else:
                named = f"{name}#{holders.turns + 1}"
                campaign = office.campaign(named, lease_s=LEASE_S)
                await holders.turn(campaign, name, rng.uniform(0, 0.5))

        await work_on_every_node(cluster, work)
    holders.check(lin.Election())
    assert holders.tokens == sorted(set(holders.tokens))


async def queue(open_cluster: Open) -> None:
    """Takers and putters that are cut off at times, while other nodes crash: first in, first out,
    each item once."""
    history, spared = lin.History(), frozenset(("0", "1"))
    async with open_cluster(5, machine=Queue[int]) as cluster:
        rng, numbers = random.Random(cluster.seed), itertools.count()

        async def work(jobs: Queue[int], name: str) -> None:
            if name.split(".")[1] == "0":
                item = next(numbers)
                with history.operation(name, lin.Queue.Enqueue(item)) as put:
                    await jobs.put(item)
                    put.ok()
                await trio.sleep(rng.uniform(0.1, 0.5))
            else:
                with history.operation(name, lin.Queue.Dequeue()) as taken:
                    with trio.move_on_after(TAIL_S):
                        taken.ok(await jobs.take(lease_s=TAIL_S))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(put_for_the_last, cluster, history)
            await work_on_every_node(cluster, work, spared=spared)
            nursery.cancel_scope.cancel()
    lin.check_linearizable(history, lin.Queue()).raise_if_not_linearizable()


async def put_for_the_last(cluster: Cluster, history: lin.History) -> None:
    """So that no taker waits for ever when nobody puts anything any more."""
    for item in itertools.count(1_000_000):
        await trio.sleep(5)
        if "0" in cluster.nodes:
            with (
                suppress(OutcomeUnknown),
                history.operation(f"last {item}", lin.Queue.Enqueue(item)) as put,
            ):
                await Objects[Queue[int]](cluster).at("0").put(item)
                put.ok()


async def work_at_items(open_cluster: Open) -> None:
    """Takers that die at work: each item is worked at, until it was done, by one at a time."""
    async with open_cluster(3, machine=Queue[int]) as cluster:
        rng, count = random.Random(cluster.seed), 40
        done: Counter[int] = Counter()
        latest: dict[int, int] = {}
        at_work: set[int] = set()

        async def work(jobs: Queue[int], name: str) -> None:
            if len(done) == count:
                await trio.sleep(0.1)
                return
            with trio.move_on_after(5):
                async with jobs.taking(lease_s=LEASE_S) as taken:
                    assert taken.item not in at_work
                    assert taken.token > latest.get(taken.item, 0)
                    latest[taken.item] = taken.token
                    at_work.add(taken.item)
                    try:
                        await trio.sleep(rng.uniform(0, 0.5))
                    finally:
                        at_work.discard(taken.item)
                done[taken.item] += 1

        leader, _ = await cluster.check_single_leader()
        for item in range(count):
            await Objects[Queue[int]](cluster).at(leader).put(item)
        await work_on_every_node(cluster, work)
        leader, _ = await cluster.check_single_leader()
        jobs = Objects[Queue[int]](cluster).at(leader)
        while await jobs.size() or jobs.taken:
            await work(jobs, "last")
    assert set(done) <= set(range(count))
    assert set(latest) == set(range(count))  # each was worked at
    assert max(done.values()) == 1  # and done once


async def barrier(open_cluster: Open) -> None:
    """All go on together: nobody before the last has come, and each time so many."""
    spans: dict[int, list[tuple[float, float]]] = {}
    async with open_cluster(3, machine=lambda: Barrier(3)) as cluster:
        rng = random.Random(cluster.seed)

        async def work(parties: Barrier, name: str) -> None:
            await trio.sleep(rng.uniform(0, 0.3))
            called_s = trio.current_time()
            with trio.move_on_after(20):  # at the end, some are too few
                token = await parties.arrive(name, lease_s=LEASE_S)
                spans.setdefault(token, []).append((called_s, trio.current_time()))

        await work_on_every_node(cluster, work)
    assert spans
    for parties in spans.values():
        assert len(parties) <= 3  # fewer, where one died in that moment
        assert max(called_s for called_s, _ in parties) <= min(left_s for _, left_s in parties)
    assert sum(len(parties) == 3 for parties in spans.values()) >= 1


SCENARIOS: Final[dict[str, Scenario]] = {
    "mutex": mutex,
    "semaphore": semaphore,
    "campaign": election,
    "job_queue": queue,
    "work_at_items": work_at_items,
    "barrier": barrier,
}
