"""Node and open_node: opening, waiting, watching, proposing, dying."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.support import open_single, raft_tasks
from tests.thorough import tries
from trioraft import (
    ConfigError,
    MemoryNetwork,
    MemoryStorage,
    NodeDead,
    NotLeader,
    OutcomeUnknown,
    Overloaded,
    Role,
    StorageError,
    Timing,
)
from trioraft.core.config import Limits
from trioraft.core.events import RoleChanged
from trioraft.core.types import Entry, HardState
from trioraft.testing.cluster import CommandLog, open_cluster


def leads(status: object) -> bool:
    return getattr(status, "role", None) is Role.LEADER


class CommandMachine:
    """A state machine without a state worth saving."""

    def snapshot(self) -> bytes:
        return b""

    def restore(self, chunks: Iterable[bytes]) -> None:
        pass


class Asynchronous(CommandMachine):
    async def apply(self, index: int, data: bytes) -> None: ...


# -- opening -------------------------------------------------------------------------------


async def test_the_only_voter_leads(autojump_clock: MockClock) -> None:
    async with open_single() as node:
        status = await node.wait(leads)
        assert (status.term, status.leader_id) == (1, "0")
        assert await node.propose(b"hello") == b"hello"
        assert raft_tasks() == sorted(node.expected_tasks())
    assert node.status.role is Role.DEAD
    assert raft_tasks() == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"voters": "012"}, "give a list"),
        ({"voters": ("0", "1", "1")}, "twice"),
        ({"voters": tuple(str(number) for number in range(65))}, "65 nodes; the most is 64"),
        ({"voters": ("1", "2")}, "not one of voters"),
        ({"voters": ("0", "")}, "non-empty"),
        ({"voters": ("0", 5)}, "non-empty"),
        ({"voters": ("0", "x" * 300)}, "at most 256 bytes"),
        ({"cluster_id": ""}, "cluster_id is ''"),
        ({"cluster_id": 5}, "cluster_id is 5"),
        ({"machine": CommandLog}, "give an instance"),
        ({"machine": CommandMachine()}, "has no method 'apply'"),
        ({"machine": Asynchronous()}, "apply is an async function"),
        ({"transport": MemoryNetwork(random.Random()).transport("7")}, "'7'"),
    ],
)
async def test_bad_arguments_are_refused_before_anything_starts(
    options: dict[str, object], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        async with open_single(**options):  # type: ignore[arg-type] # bad on purpose
            pass


async def test_a_storage_in_use_is_refused(autojump_clock: MockClock) -> None:
    storage = MemoryStorage()
    async with open_single(storage=storage):
        with pytest.raises(StorageError, match="in use"):
            async with open_single(storage=storage):
                pass


class OlderStorage:
    """Written before a storage kept an identity."""

    def append(self, hard_state: object, entries: object, replace_from: object) -> None: ...


class OlderInstaller:
    """Half of it was brought up to date."""

    def append(self, *args: object, **options: object) -> None: ...

    def install_snapshot(self, meta: object) -> None: ...


class Appends:
    """No storage at all."""

    append = OlderInstaller.append


@pytest.mark.parametrize(
    ("storage", "says"),
    [
        (OlderStorage(), r"OlderStorage\.append does not take the parameter 'identity'"),
        (OlderInstaller(), r"OlderInstaller\.install_snapshot does not take .* 'identity'"),
        (Appends(), "a Appends, which has no method 'install_snapshot'"),
    ],
)
async def test_a_storage_of_an_earlier_trioraft_is_refused(storage: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        async with open_single(storage=storage):
            pass


async def test_errors_of_the_body_arrive_as_themselves(autojump_clock: MockClock) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with open_single():
            raise KeyError("mine")


async def test_a_cancelled_body_leaves_nothing(autojump_clock: MockClock) -> None:
    with trio.move_on_after(1) as scope:
        async with open_single():
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert raft_tasks() == []


class BrokenStorage:
    """Fails its third write."""

    blocking = False
    notices = ()

    def __init__(self) -> None:
        self._inner = MemoryStorage()
        self._writes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def append(self, *args: Any, **options: Any) -> None:
        self._writes += 1
        if self._writes == 3:
            raise StorageError("the disk said no")
        self._inner.append(*args, **options)


async def test_a_failed_write_ends_the_body_with_its_error(autojump_clock: MockClock) -> None:
    async def use_it() -> None:
        async with open_single(storage=BrokenStorage()) as node:
            await node.wait(leads)
            await node.propose(b"written with the no-op")
            with pytest.raises(OutcomeUnknown):
                await node.propose(b"never acknowledged")
            await trio.sleep_forever()

    with pytest.raises(StorageError, match="the disk said no"):
        await use_it()
    assert raft_tasks() == []


# -- dying ---------------------------------------------------------------------------------


async def test_kill_ends_the_node_and_not_its_user(autojump_clock: MockClock) -> None:
    async with open_single() as node:
        await node.wait(leads)
        node.kill()
        node.kill()
        assert node.status.role is Role.DEAD
        assert node.status.leader_id is None
        await trio.testing.wait_all_tasks_blocked()
        assert raft_tasks() == []
        with pytest.raises(NodeDead):
            await node.propose(b"")
        with pytest.raises(NodeDead):
            await node.wait(leads)
        with pytest.raises(NodeDead):
            async with node.events():
                pass
        assert node.expected_tasks() == frozenset()


async def test_whoever_waits_is_told_of_the_death(autojump_clock: MockClock) -> None:
    """Hazard X4."""
    async with open_cluster(3) as cluster:
        leader, _ = await cluster.check_single_leader()
        node = cluster.nodes[leader]
        for other in cluster.ids:
            if other != leader:
                cluster.disconnect(other)
        proposal = node.submit(b"on its way")
        async with trio.open_nursery() as nursery:

            async def expect(error: type[Exception]) -> None:
                with pytest.raises(error):
                    await proposal.result()

            nursery.start_soon(expect, OutcomeUnknown)
            nursery.start_soon(expect, OutcomeUnknown)
            await trio.testing.wait_all_tasks_blocked()
            node.kill()


async def test_whoever_waits_is_told_of_lost_leadership(autojump_clock: MockClock) -> None:
    """Hazard X3: nothing waits for ever, though the node lives on."""
    async with open_cluster(3) as cluster:
        leader, _ = await cluster.check_single_leader()
        node = cluster.nodes[leader]
        cluster.disconnect(leader)
        with pytest.raises(OutcomeUnknown, match="leadership of term"):
            await node.propose(b"cut off")
        assert node.status.role is not Role.LEADER
        assert str(node.status.last_role_change).startswith(("quorum lost", "no "))


# -- waiting and watching ------------------------------------------------------------------


async def test_wait_returns_what_held(autojump_clock: MockClock) -> None:
    async with open_single() as node:
        status = await node.wait(lambda s: s.term >= 1)
        assert status.term == 1
        assert (await node.wait(lambda s: True)).node_id == "0"


async def test_events_tell_the_story_in_order(autojump_clock: MockClock) -> None:
    roles = []
    async with open_single() as node:
        async with node.events() as stream:
            await node.wait(leads)
            node.kill()
            async for event in stream:
                if isinstance(event, RoleChanged):
                    roles.append((event.role, str(event.reason)))
        assert stream.dropped == 0
    assert [role for role, _ in roles] == [
        Role.PRE_CANDIDATE,
        Role.CANDIDATE,
        Role.LEADER,
        Role.DEAD,
    ]
    assert roles[-1][1] == "killed"


async def test_a_slow_watcher_loses_events_and_is_told(autojump_clock: MockClock) -> None:
    limits = Limits(event_stream_max=2)
    async with open_single(limits=limits) as node, node.events() as stream:
        await node.wait(leads)
        await node.propose(b"x")
        node.kill()
        seen = [event async for event in stream]
        assert len(seen) == 2
        assert stream.dropped > 0


# -- proposing -----------------------------------------------------------------------------


async def test_a_follower_says_who_leads(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        leader, _ = await cluster.check_single_leader()
        follower = next(node for node in cluster.nodes.values() if node.id != leader)
        with pytest.raises(NotLeader) as caught:
            await follower.propose(b"")
        assert caught.value.leader_id == leader
        assert leader in str(caught.value)


class Picky(CommandMachine):
    def apply(self, index: int, data: bytes) -> int:
        return 100 // len(data)


async def test_a_commands_exception_is_its_result(autojump_clock: MockClock) -> None:
    async with open_single(machine=Picky()) as node:
        await node.wait(leads)
        with pytest.raises(ZeroDivisionError):
            await node.propose(b"")
        assert await node.propose(b"1234") == 25
        assert node.status.role is Role.LEADER


async def test_too_much_waits_or_is_refused(autojump_clock: MockClock) -> None:
    limits = Limits(proposals_bytes_max=100)
    async with open_cluster(3, limits=limits) as cluster:
        leader, _ = await cluster.check_single_leader()
        node = cluster.nodes[leader]
        first = node.submit(b"x" * 80)
        with pytest.raises(Overloaded, match="proposals_bytes_max"):
            node.submit(b"y" * 30)
        assert await node.propose(b"z" * 30) == b"z" * 30  # waited for the first
        assert first.is_done
        results = []
        async with trio.open_nursery() as nursery:
            for number in range(20):

                async def one(number: int = number) -> None:
                    results.append(await node.propose(b"%02d" % number * 20))

                nursery.start_soon(one)
        assert len(results) == 20


@pytest.mark.parametrize("data", ["41", None, 41, [b"41"], bytearray(b"41"), memoryview(b"41")])
async def test_a_command_is_bytes(data: Any, autojump_clock: MockClock) -> None:
    """Anything else would be refused by every other node, and be corrupt on this one's disk; a
    buffer could change after it was proposed."""
    async with open_cluster(3) as cluster:
        leader, _ = await cluster.check_single_leader()
        with pytest.raises(ConfigError, match="a command is bytes"):
            await cluster.nodes[leader].propose(data)
        with pytest.raises(ConfigError, match="a command is bytes"):
            cluster.nodes[leader].submit(data)
        await cluster.propose(b"good")
        assert (await cluster.check_committed(b"good"))[0] == 3


async def test_a_command_can_be_too_large(autojump_clock: MockClock) -> None:
    async with open_single(limits=Limits(command_bytes_max=10)) as node:
        await node.wait(leads)
        with pytest.raises(ConfigError, match="11 bytes exceeds"):
            await node.propose(b"x" * 11)


async def test_a_cancelled_wait_does_not_undo_the_command(autojump_clock: MockClock) -> None:
    machine = CommandLog()
    async with open_single(machine=machine) as node:
        await node.wait(leads)
        with trio.CancelScope() as scope:
            scope.cancel()
            await node.submit(b"sent").result()
        assert scope.cancelled_caught
        await node.propose(b"after")
        assert [data for _, data in machine.commands] == [b"sent", b"after"]


# -- restarting ----------------------------------------------------------------------------


async def test_a_restarted_node_remembers(autojump_clock: MockClock) -> None:
    storage = MemoryStorage()
    async with open_single(storage=storage) as node:
        await node.wait(leads)
        await node.propose(b"kept")
        term = node.status.term
    machine = CommandLog()
    async with open_single(storage=storage, machine=machine) as node:
        await node.wait(leads)
        assert node.status.term > term
        await node.propose(b"more")
    assert [data for _, data in machine.commands] == [b"kept", b"more"]


# -- the seeds' misconfigurations ----------------------------------------------------------


def test_a_heartbeat_of_3_s_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        Timing(election_timeout_s=(0.150, 0.300), heartbeat_interval_s=3.0)
    for part in (
        "heartbeat_interval_s is 3 s",
        "(0.15 s, 0.3 s)",
        "Rule: heartbeat_interval_s × 2",
    ):
        assert part in str(caught.value)


async def test_timeouts_below_the_round_trip_heal(autojump_clock: MockClock) -> None:
    timing = Timing(election_timeout_s=(0.005, 0.010), heartbeat_interval_s=0.0025)
    for seed in range(tries(20)):
        async with open_cluster(3, timing=timing, seed=seed, delay_s=(0.001, 0.005)) as cluster:
            await cluster.check_single_leader(timeout_s=2)


async def test_a_storage_keeps_its_entries(autojump_clock: MockClock) -> None:
    storage = MemoryStorage()
    async with open_single(storage=storage) as node:
        await node.wait(leads)
        await node.propose(b"x")
    recovered = storage.open(cluster_id="trioraft", node_id="0")
    assert recovered is not None
    assert recovered.hard_state == HardState(1, "0")
    assert recovered.entries[-1] == Entry(2, 1, b"x")
