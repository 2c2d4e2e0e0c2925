"""Commands on every node: forwarded to the leader, applied once, and certain of what they say."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tests.replicated.support import Board, Objects, open_objects
from tests.support import open_single
from trioraft import (
    ConfigError,
    DeadlineExceeded,
    DeadlineOutcomeUnknown,
    Limits,
    LocalClient,
    MemoryStorage,
    NodeDead,
    NotLeader,
    NotMember,
    OutcomeUnknown,
    Replicas,
    ReplicatedObject,
    SessionMachine,
    UnknownCommand,
    command,
    query,
)
from trioraft.kv import KvClient, KvMachine
from trioraft.structures import Counter, Dict
from trioraft.testing.cluster import open_cluster
from trioraft.transport.memory import NetworkFaults


class Tally(ReplicatedObject):
    """Counts, and knows who did."""

    total: int = 0
    seen: dict[str, int] = msgspec.field(default_factory=dict)

    @command
    def count(self, who: str) -> int:
        """Once more."""
        self.seen[who] = self.seen.get(who, 0) + 1
        self.total += 1
        return self.total

    @query
    def get(self) -> int:
        """How often."""
        return self.total


async def follower_of(objects: Objects[Tally]) -> str:
    """A node that does not lead."""
    leader, _ = await objects.cluster.check_single_leader()
    return next(node_id for node_id in objects.cluster.ids if node_id != leader)


async def test_every_node_counts_and_reads_its_own_write(autojump_clock: MockClock) -> None:
    async with open_objects(Tally) as tallies:
        for number, node_id in enumerate(tallies.cluster.ids, 1):
            tally = tallies.at(node_id)
            assert await tally.count(node_id) == number
            assert tally.total == number  # it is applied here
            assert await tally.get() == number


async def test_a_learner_counts_too(autojump_clock: MockClock) -> None:
    async with open_objects(Tally) as tallies:
        leader, _ = await tallies.cluster.check_single_leader()
        await tallies.cluster.join("3")
        await tallies.cluster.nodes[leader].add_learner("3")
        assert await tallies.at("3").count("learner") == 1


async def test_a_call_waits_for_a_leader_and_survives_its_end(autojump_clock: MockClock) -> None:
    async with open_objects(Tally) as tallies:
        follower = await follower_of(tallies)
        tally = tallies.at(follower)
        await tally.count("a")
        leader, _ = await tallies.cluster.check_single_leader()
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(tally.count, str(number))
            await trio.sleep(0.002)
            await tallies.cluster.crash(leader)
        assert tally.total == 21
        assert set(tally.seen.values()) == {1}


async def test_no_leader_within_the_deadline_is_nothing_applied(autojump_clock: MockClock) -> None:
    async with open_objects(Tally) as tallies:
        follower = await follower_of(tallies)
        tally = tallies.cluster.machines[follower]
        tally.attach(tallies.cluster.nodes[follower], timeout_s=3.0)
        await tally.count("a")
        for node_id in tallies.cluster.ids:
            if node_id != follower:
                await tallies.cluster.crash(node_id)
        await tallies.cluster.nodes[follower].wait(lambda status: status.leader_id is None)
        begun_s = trio.current_time()
        with pytest.raises(DeadlineExceeded, match="nothing was applied") as caught:
            await tally.count("b")
        assert not isinstance(caught.value, OutcomeUnknown)
        assert trio.current_time() - begun_s == pytest.approx(3.0)
        with pytest.raises(DeadlineExceeded, match="no leader has confirmed"):
            await tally.get()


async def test_what_was_sent_and_not_answered_is_unknown(autojump_clock: MockClock) -> None:
    async with open_objects(Tally) as tallies:
        follower = await follower_of(tallies)
        tally = tallies.cluster.machines[follower]
        tally.attach(tallies.cluster.nodes[follower], timeout_s=3.0)
        await tally.count("a")
        tallies.cluster.partition({"0"}, {"1"}, {"2"})
        with pytest.raises(DeadlineOutcomeUnknown):
            await tally.count("b")


async def test_a_leader_that_is_deposed_under_a_call_heals_it(autojump_clock: MockClock) -> None:
    async with open_objects(Tally) as tallies:
        leader, _ = await tallies.cluster.check_single_leader()
        tally = tallies.at(leader)
        await tally.count("before")
        others = set(tallies.cluster.ids) - {leader}
        tallies.cluster.partition({leader}, others)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tally.count, "during")
            await tallies.cluster.nodes[min(others)].wait(lambda status: status.leader_id in others)
            tallies.cluster.heal()
        assert tally.seen == {"before": 1, "during": 1}


async def test_a_full_leader_makes_callers_wait(autojump_clock: MockClock) -> None:
    limits = Limits(proposals_bytes_max=2000)
    async with open_objects(Tally, limits=limits) as tallies:
        tally = tallies.at(await follower_of(tallies))
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(tally.count, f"{number}:" + "x" * 300)
        assert tally.total == 50
        assert set(tally.seen.values()) == {1}


async def test_cancelling_gives_up_the_wait_alone(autojump_clock: MockClock) -> None:
    async with open_objects(Tally) as tallies:
        tally = tallies.at(await follower_of(tallies))
        await tally.count("a")
        with trio.move_on_after(0.0005) as scope:
            await tally.count("b")
        assert scope.cancelled_caught
        assert await tally.count("c") in (2, 3)


async def test_a_snapshot_that_covers_the_command_is_no_second_one(
    autojump_clock: MockClock,
) -> None:
    """The node learns by a snapshot what it waits for: the session has the answer."""
    limits = Limits(snapshot_entries=5, snapshot_tail_entries=1)
    async with open_objects(Tally, limits=limits) as tallies:
        leader, _ = await tallies.cluster.check_single_leader()
        follower = await follower_of(tallies)
        tally, leading = tallies.at(follower), tallies.at(leader)
        await tally.count("first")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tally.count, "mine")
            await leading.wait(lambda tally: tally.total == 2)
            tallies.cluster.disconnect(follower)
            for number in range(30):
                await leading.count(str(number))
            tallies.cluster.heal()
        assert tally.seen["mine"] == 1


async def test_who_was_removed_says_so(autojump_clock: MockClock) -> None:
    async with open_objects(Tally) as tallies:
        leader, _ = await tallies.cluster.check_single_leader()
        follower = await follower_of(tallies)
        tally = tallies.at(follower)
        await tallies.cluster.nodes[leader].remove(follower)
        await tallies.cluster.nodes[follower].wait(lambda status: status.is_removed)
        with pytest.raises(NotMember):
            await tally.count("x")
        await tallies.cluster.crash(follower)
        with pytest.raises(NodeDead):
            await tally.count("x")


async def test_a_plain_command_is_forwarded_without_a_session(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        leader, _ = await cluster.check_single_leader()
        follower = next(node_id for node_id in cluster.ids if node_id != leader)
        node = cluster.nodes[follower]
        with pytest.raises(NotLeader):
            await node.propose(b"x")
        await node.forward(b"x")
        await cluster.nodes[leader].forward(b"y")
        assert [data for _, data in cluster.machines[leader].commands] == [b"x", b"y"]
        with pytest.raises(ConfigError, match=r"exceeds Limits\.command_bytes_max"):
            await node.forward(bytes(9 * 1024 * 1024))


class Picky(ReplicatedObject):
    """Raises what it likes."""

    tries: int = 0

    @command
    def refuse(self) -> None:
        """With an exception of its own."""
        self.tries += 1
        raise PickyError("not today")


class PickyError(Exception):
    """Of nobody else."""


async def test_an_error_is_itself_also_where_the_command_was_sent_twice(
    autojump_clock: MockClock,
) -> None:
    """The session keeps its name and its message; the class was seen here when it was applied."""
    async with open_objects(Picky) as objects:
        follower = objects.at(await follower_of(objects))  # type: ignore[arg-type] # any will do
        with pytest.raises(PickyError, match="not today"):
            await follower.refuse()
        leader, _ = await objects.cluster.check_single_leader()
        async with trio.open_nursery() as nursery:

            async def refuse() -> None:
                with pytest.raises(PickyError, match="not today"):
                    await follower.refuse()

            nursery.start_soon(refuse)
            await trio.sleep(0.004)
            await objects.cluster.crash(leader)
        assert follower.tries == 2


async def count_under_faults(seed: int) -> None:
    """Nodes count, while the network does what it likes and leaders die."""
    rng = random.Random(f"{seed} counting")
    faults = NetworkFaults(
        delay_s=(0.0, rng.choice((0.001, 0.01))),
        drop=rng.choice((0.0, 0.05, 0.2)),
        duplicate=rng.choice((0.0, 0.3)),
        late=rng.choice(((0.0, 0.0), (0.1, 0.075))),
    )
    limits = rng.choice((Limits(), Limits(snapshot_entries=5, snapshot_tail_entries=1)))
    asked = dict.fromkeys(map(str, range(3)), 0)
    answers: list[int] = []
    async with open_cluster(3, seed=seed, machine=Tally, limits=limits) as cluster:
        objects = Objects[Tally](cluster)
        cluster.network._carrier.faults = faults  # type: ignore[attr-defined] # a memory network

        async def count(name: str) -> None:
            for _ in range(8):
                node = cluster.nodes.get(name)
                if node is None:
                    await trio.sleep(0.05)
                    continue
                machine = cluster.machines[name]
                machine.attach(node, timeout_s=60.0)
                number = asked[name]
                asked[name] += 1
                try:
                    answers.append(await machine.count(f"{name}.{number}"))
                except (NodeDead, OutcomeUnknown):
                    await trio.sleep(0.05)  # it was killed

        async def trouble() -> None:
            for _ in range(3):
                await trio.sleep(rng.uniform(0.05, 0.6))
                victim = rng.choice(cluster.ids)
                if rng.random() < 0.5:
                    await cluster.crash(victim)
                    await trio.sleep(rng.uniform(0.0, 0.5))
                    await cluster.restart(victim)
                else:
                    cluster.partition({victim}, set(cluster.ids) - {victim})
                    await trio.sleep(rng.uniform(0.1, 1.5))
                    cluster.heal()

        async with trio.open_nursery() as nursery:
            for name in cluster.ids:
                for _ in range(2):
                    nursery.start_soon(count, name)
            nursery.start_soon(trouble)
        total = await objects.at(cluster.ids[0]).get()
        seen = objects.at(cluster.ids[0]).seen
    assert set(seen.values()) <= {1}, f"seed {seed}: counted more than once: {seen}"
    assert len(answers) == len(set(answers)), f"seed {seed}: {sorted(answers)}"
    assert len(answers) <= total <= sum(asked.values()), f"seed {seed}"


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_nothing_is_counted_twice_or_lost(first: int) -> None:
    for seed in range(first, first + 10):
        trio.run(count_under_faults, seed, clock=MockClock(autojump_threshold=0))


# -- how it is hosted -------------------------------------------------------------------------


async def test_sessions_come_with_the_object_and_are_closed_when_the_node_leaves(
    autojump_clock: MockClock,
) -> None:
    async with open_objects(Tally) as tallies:
        follower = await follower_of(tallies)
        tally = tallies.at(follower)
        await tally.count("a")
        await tally.count("b")
        leader, _ = await tallies.cluster.check_single_leader()
        around = tallies.cluster.machines[leader].in_sessions()
        assert len(around) == 1
        await tallies.cluster.leave(follower)
        await tallies.cluster.nodes[leader].wait(lambda _status: len(around) == 0)


async def test_a_session_machine_of_ones_own_is_used_as_it_is(autojump_clock: MockClock) -> None:
    def machine() -> SessionMachine:
        return SessionMachine(Tally(), sessions_max=7)

    async with open_cluster(3, machine=machine) as cluster:
        leader, _ = await cluster.check_single_leader()
        for number, node_id in enumerate(cluster.ids, 1):
            tally = cluster.machines[node_id].machine
            tally.attach(cluster.nodes[node_id], sessions=True)
            assert await tally.count(node_id) == number
        assert cluster.machines[leader].usage()["sessions"] == (2, 7)  # the leader needs none


async def test_a_session_that_was_evicted_is_opened_again(autojump_clock: MockClock) -> None:
    def machine() -> SessionMachine:
        return SessionMachine(Tally(), sessions_max=1)

    async with open_cluster(3, machine=machine) as cluster:
        await cluster.check_single_leader()
        tallies = []
        for node_id in cluster.ids:
            tally = cluster.machines[node_id].machine
            tally.attach(cluster.nodes[node_id])
            tallies.append(tally)
        for number in range(9):
            assert await tallies[number % 3].count(str(number)) == number + 1


async def test_several_objects_are_forwarded_in_one_session(autojump_clock: MockClock) -> None:
    def machine() -> Replicas:
        return Replicas(counter=Counter(), names=Dict[str, int]())

    async with open_cluster(3, machine=machine) as cluster:
        leader, _ = await cluster.check_single_leader()
        follower = next(node_id for node_id in cluster.ids if node_id != leader)
        replicas = cluster.machines[follower]
        replicas.attach(cluster.nodes[follower])
        counter, names = replicas._objects["counter"], replicas._objects["names"]
        assert await counter.add(2) == 2
        await names.put("a", 1)
        assert await names.get("a") == 1
        assert len(replicas.in_sessions()) == 1


OLD_COMMANDS = (
    "9500a361646401cb3ff00000000000009205c2",
    "9500a361646401cb40000000000000009202c3",
)
OLD_SNAPSHOT = (
    "7472696f72616674206f626a6563740a000000000000000d94010101cb400000000000000082a5746f74616c09a670"
    "6f696e747380"
)
"""As nodes wrote them that had the object with nothing around: add 5, add 2 twice; and then."""


async def test_a_directory_from_before_there_were_sessions_is_read(
    autojump_clock: MockClock,
) -> None:
    """Its commands are in no envelope, and its snapshots have no table."""
    board = Board()
    for index, command_ in enumerate(OLD_COMMANDS, 1):
        assert board.in_sessions().apply(index, bytes.fromhex(command_)) is not None
    assert board.total == 9
    content = bytes.fromhex(OLD_SNAPSHOT)
    board = Board()
    around = board.in_sessions()
    around.restore([content[:7], content[7:]])
    assert board.total == 9
    around.apply(9, msgspec.msgpack.encode([0, "add", 1, 3.0, [1, False]]))
    assert board.total == 10
    storage = MemoryStorage()
    async with open_single(machine=Bare(board), storage=storage) as node:
        await node.wait(lambda status: status.leader_id is not None)
        await node.propose(msgspec.msgpack.encode([0, "add", 1, 1.0, [7, False]]))
    board = Board()
    async with open_single(machine=board, storage=storage) as node:
        board.attach(node)
        assert await board.add(1) == 8


class Bare:
    """An object as nodes had it before: with nothing around."""

    def __init__(self, _board: Board) -> None:
        board = Board()
        self.apply, self.snapshot, self.restore = board.apply, board.snapshot, board.restore


# -- through the node of this process ---------------------------------------------------------


async def test_a_local_client_does_what_a_client_does(autojump_clock: MockClock) -> None:
    def machine() -> SessionMachine:
        return SessionMachine(KvMachine())

    async with open_cluster(3, machine=machine) as cluster:
        leader, _ = await cluster.check_single_leader()
        follower = next(node_id for node_id in cluster.ids if node_id != leader)
        kv = KvClient(LocalClient(cluster.nodes[follower], cluster.machines[follower]))
        await kv.put("colour", "blue")
        found = await kv.find("colour")
        assert found is not None
        assert found.value == b"blue"
        async with kv.watch("colour", from_index=1) as changes:
            async for change in changes:
                assert change.value == b"blue"
                break


async def test_an_object_through_a_local_client(autojump_clock: MockClock) -> None:
    async with open_objects(Tally) as tallies:
        follower = await follower_of(tallies)
        node, machine = tallies.cluster.nodes[follower], tallies.cluster.machines[follower]
        client = LocalClient(node, machine, timeout_s=2.0)
        tally = Tally.through(client)
        assert await tally(Tally.count, "a") == 1
        assert await tally(Tally.get) == 1
        with pytest.raises(UnknownCommand, match="a question for Tally cannot be read"):
            await client.query(b"")
        with pytest.raises(ConfigError, match="a command is bytes"):
            await client.call("text")  # type: ignore[arg-type] # that is the test
        with pytest.raises(ConfigError, match="asks its own node"):
            client.watch(b"", at="1")
        with pytest.raises(ConfigError, match="give a positive time"):
            LocalClient(node, machine, timeout_s=0.0)
        for node_id in tallies.cluster.ids:
            if node_id != follower:
                await tallies.cluster.crash(node_id)
        with pytest.raises(DeadlineExceeded):
            await tally(Tally.count, "b")


async def test_three_processes_worth_of_nodes_on_tcp_and_sqlite(tmp_path: Path) -> None:
    """Real sockets and disks, and the leader leaves in the middle."""
    async with open_cluster(3, machine=Tally, storage="sqlite", network="tcp") as cluster:
        objects = Objects[Tally](cluster)
        await objects.leading()
        for node_id in cluster.ids:
            objects.at(node_id)

        async def count(node_id: str) -> None:
            for number in range(20):
                await cluster.machines[node_id].count(f"{node_id}.{number}")

        leader, _ = await cluster.check_single_leader()
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for node_id in cluster.ids:
                    if node_id != leader:
                        nursery.start_soon(count, node_id)
                await trio.sleep(0.05)  # in the middle, wherever that is
                await cluster.crash(leader)
        survivor = next(node_id for node_id in cluster.ids if node_id != leader)
        assert await cluster.machines[survivor].get() == 40
        assert set(cluster.machines[survivor].seen.values()) == {1}
