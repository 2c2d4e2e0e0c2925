"""The network in memory: what its faults do, in numbers, and that a seed decides everything."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from trioraft.core.config import Limits
from trioraft.core.errors import ConfigError
from trioraft.core.messages import Introduction, Message
from trioraft.core.types import NodeId
from trioraft.transport.base import ConnectionRejected, Listening, MessagesDropped
from trioraft.transport.memory import MemoryNetwork, NetworkFaults

from .support import Recorder, heartbeat, replication, rounds, running

ALL_ARRIVED_S = 1.0


@attrs.define(eq=False)
class Clocked(Recorder):
    """Remembers when each message came."""

    arrivals_s: list[float] = attrs.Factory(list)

    def on_message(self, message: Message, origin: Introduction) -> None:
        self.arrivals_s.append(trio.current_time())
        super().on_message(message, origin)


@asynccontextmanager
async def nodes_on(network: MemoryNetwork, *ids: NodeId) -> AsyncIterator[dict[NodeId, Clocked]]:
    owners = {node_id: Clocked() for node_id in ids}
    async with AsyncExitStack() as stack:
        for node_id, owner in owners.items():
            await stack.enter_async_context(running(network.transport(node_id), owner))
        yield owners


def send_rounds(network: MemoryNetwork, sender: NodeId, receiver: NodeId, count: int) -> None:
    for number in range(count):
        network.transport(sender).send(heartbeat(sender, receiver, number))


async def test_delays_are_within_their_range(autojump_clock: MockClock) -> None:
    network = MemoryNetwork(random.Random(1), delay_s=(0.010, 0.020))
    async with nodes_on(network, "0", "1") as owners:
        start_s = trio.current_time()
        send_rounds(network, "0", "1", 500)
        await trio.sleep(ALL_ARRIVED_S)
        took_s = [arrival_s - start_s for arrival_s in owners["1"].arrivals_s]
        assert sorted(rounds(owners["1"].messages)) == list(range(500))
        assert rounds(owners["1"].messages) != list(range(500))  # a range of delays reorders
        assert 0.010 <= min(took_s) < 0.0105
        assert 0.0195 < max(took_s) <= 0.020 + 1e-9


async def test_without_a_range_nothing_is_reordered(autojump_clock: MockClock) -> None:
    network = MemoryNetwork(random.Random(1), delay_s=(0.005, 0.005))
    async with nodes_on(network, "0", "1") as owners:
        send_rounds(network, "0", "1", 500)
        await trio.sleep(ALL_ARRIVED_S)
        assert rounds(owners["1"].messages) == list(range(500))


async def test_an_earlier_message_wakes_a_receiver_that_waits_for_a_later_one(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork(random.Random(1), delay_s=(10.0, 10.0))
    async with nodes_on(network, "0", "1") as owners:
        send_rounds(network, "0", "1", 1)
        await trio.sleep(1)
        network.faults = NetworkFaults(delay_s=(0.5, 0.5))
        network.transport("0").send(heartbeat("0", "1", 7))
        await trio.sleep(1)
        assert rounds(owners["1"].messages) == [7]
        await trio.sleep(10)
        assert rounds(owners["1"].messages) == [7, 0]


async def test_loss_duplication_and_lateness_are_as_frequent_as_asked_for(
    autojump_clock: MockClock,
) -> None:
    count = 2000
    network = MemoryNetwork(random.Random(7), drop=0.1, duplicate=0.2, late=(0.1, 0.075))
    async with nodes_on(network, "0", "1") as owners:
        start_s = trio.current_time()
        send_rounds(network, "0", "1", count)
        await trio.sleep(ALL_ARRIVED_S)
        received = rounds(owners["1"].messages)
        late = [at_s for at_s in owners["1"].arrivals_s if at_s - start_s > 0.075]
        assert len(set(received)) == pytest.approx(0.9 * count, rel=0.03)
        assert len(received) == pytest.approx(0.9 * 1.2 * count, rel=0.03)
        assert len(late) == pytest.approx(0.1 * len(received), rel=0.15)
        assert max(owners["1"].arrivals_s) - start_s <= 0.080 + 1e-9


async def deliveries(seed: int) -> list[tuple[int, float]]:
    network = MemoryNetwork(random.Random(seed), drop=0.1, duplicate=0.1, late=(0.1, 0.075))
    async with nodes_on(network, "0", "1", "2") as owners:
        start_s = trio.current_time()
        for number in range(100):
            network.transport("0").send(heartbeat("0", "2", number))
            network.transport("1").send(heartbeat("1", "2", 1000 + number))
            await trio.sleep(0.001)
        await trio.sleep(ALL_ARRIVED_S)
        took_s = [round(at_s - start_s, 9) for at_s in owners["2"].arrivals_s]
        return list(zip(rounds(owners["2"].messages), took_s, strict=True))


async def test_the_same_seed_gives_the_same_deliveries(autojump_clock: MockClock) -> None:
    first = await deliveries(3)
    assert first == await deliveries(3)
    assert first != await deliveries(4)


async def test_a_cut_has_a_direction(autojump_clock: MockClock) -> None:
    network = MemoryNetwork(random.Random(1))
    async with nodes_on(network, "0", "1") as owners:
        network.cut("0", "1")
        assert network.is_cut("0", "1")
        assert not network.is_cut("1", "0")
        send_rounds(network, "0", "1", 3)
        send_rounds(network, "1", "0", 3)
        await trio.sleep(ALL_ARRIVED_S)
        assert (len(owners["1"].messages), len(owners["0"].messages)) == (0, 3)
        network.mend("0", "1")
        send_rounds(network, "0", "1", 3)
        await trio.sleep(ALL_ARRIVED_S)
        assert len(owners["1"].messages) == 3


CUTS: dict[str, Callable[[MemoryNetwork], None]] = {
    "cut": lambda network: network.cut("0", "1"),
    "disconnect the sender": lambda network: network.disconnect("0"),
    "partition": lambda network: network.partition({"0"}, {"1", "2"}),
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
async def test_a_cut_takes_what_is_in_flight(
    autojump_clock: MockClock, cut: Callable[[MemoryNetwork], None]
) -> None:
    network = MemoryNetwork(random.Random(1))
    async with nodes_on(network, "0", "1", "2") as owners:
        send_rounds(network, "0", "1", 3)
        send_rounds(network, "2", "1", 3)
        cut(network)
        network.heal()
        await trio.sleep(ALL_ARRIVED_S)
        assert {message.sender for message in owners["1"].messages} == {"2"}


async def test_partitions(autojump_clock: MockClock) -> None:
    network = MemoryNetwork(random.Random(1))

    def open_ways() -> set[str]:
        return {a + b for a in "abcde" for b in "abcde" if a < b and not network.is_cut(a, b)}

    network.partition({"a", "b"}, {"c"})
    assert open_ways() == {"ab", "de"}  # those not named form a group of their own
    network.partition({"a"})
    assert open_ways() == {"bc", "bd", "be", "cd", "ce", "de"}
    network.disconnect("b")
    assert open_ways() == {"cd", "ce", "de"}
    network.partition()
    assert open_ways() == {"ac", "ad", "ae", "cd", "ce", "de"}
    network.reconnect("b")
    network.cut("a", "b")
    network.partition({"c"}, {"a", "b"})
    assert open_ways() == {"de"}
    network.heal()
    assert len(open_ways()) == 10
    with pytest.raises(ConfigError, match="'a' is in two groups"):
        network.partition({"a"}, {"b", "a"})


async def test_a_disconnected_node_hears_and_says_nothing(autojump_clock: MockClock) -> None:
    network = MemoryNetwork(random.Random(1))
    async with nodes_on(network, "0", "1", "2") as owners:
        network.disconnect("0")
        for sender, receiver in (("0", "1"), ("1", "0"), ("1", "2")):
            send_rounds(network, sender, receiver, 2)
        await trio.sleep(ALL_ARRIVED_S)
        assert [len(owner.messages) for owner in owners.values()] == [0, 0, 2]
        assert [owner.lost for owner in owners.values()] == [[], [], []]  # it was silent


async def test_the_end_of_a_node_is_noticed_by_those_it_could_reach(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork(random.Random(1))
    async with nodes_on(network, "1", "2", "3") as owners:
        async with running(network.transport("0")):
            network.cut("0", "3")
            for receiver in ("1", "2"):
                send_rounds(network, "0", receiver, 5)
        assert owners["1"].lost == []  # not from the task that ends
        await trio.sleep(ALL_ARRIVED_S)
        assert [owner.lost for owner in owners.values()] == [["0"], ["0"], []]
        assert [len(owner.messages) for owner in owners.values()] == [5, 5, 0]


async def test_the_end_of_a_node_comes_after_its_last_message(autojump_clock: MockClock) -> None:
    for seed in range(20):
        network = MemoryNetwork(random.Random(seed), late=(0.5, 0.075))
        order: list[str] = []

        class Ordered(Recorder):
            def on_message(self, message: Message, origin: Introduction) -> None:
                order.append("message")  # noqa: B023 - used within this round only

            def on_peer_lost(self, peer: NodeId) -> None:
                order.append("end")  # noqa: B023 - used within this round only

        async with running(network.transport("1"), Ordered()):
            async with running(network.transport("0")):
                send_rounds(network, "0", "1", 10)
            await trio.sleep(ALL_ARRIVED_S)
        assert order == ["message"] * 10 + ["end"]


async def test_machines_may_vanish_without_a_word(autojump_clock: MockClock) -> None:
    network = MemoryNetwork(random.Random(1), tell_lost=False)
    async with nodes_on(network, "1") as owners:
        async with running(network.transport("0")):
            pass
        await trio.sleep(ALL_ARRIVED_S)
        assert owners["1"].lost == []


async def test_a_node_that_does_not_run_gets_nothing_then_or_later(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork(random.Random(1))
    async with nodes_on(network, "0"):
        send_rounds(network, "0", "1", 3)
        async with nodes_on(network, "1") as owners:
            send_rounds(network, "0", "1", 2)
            send_rounds(network, "0", "unknown", 2)
            await trio.sleep(ALL_ARRIVED_S)
            assert len(owners["1"].messages) == 2
            send_rounds(network, "0", "1", 2)
        async with nodes_on(network, "1") as owners:  # what was on its way died with the node
            await trio.sleep(ALL_ARRIVED_S)
            assert owners["1"].messages == []
        network.transport("1").send(heartbeat("1", "0"))  # nobody sends from a dead node


async def test_a_full_inbox_drops_and_tells_once(autojump_clock: MockClock) -> None:
    network = MemoryNetwork(random.Random(1))
    limits = Limits(link_queue_messages_max=4)
    sender, receiver = Recorder(), Recorder()
    async with (
        running(network.transport("0"), sender),
        running(network.transport("1"), receiver, limits=limits),
    ):
        send_rounds(network, "0", "1", 10)
        await trio.sleep(ALL_ARRIVED_S)
        assert len(receiver.messages) == 4
        send_rounds(network, "0", "1", 1)
        assert sender.all(MessagesDropped) == []  # not called from within `send`
        await trio.sleep(ALL_ARRIVED_S)
        (event,) = sender.all(MessagesDropped)
        assert (event.peer, event.count) == ("1", 6)


async def test_a_full_inbox_counts_bytes_too(autojump_clock: MockClock) -> None:
    network = MemoryNetwork(random.Random(1))
    limits = Limits(link_queue_bytes_max=1000)
    async with (
        running(network.transport("0")),
        running(network.transport("1"), limits=limits) as receiver,
    ):
        for burst in (1, 2, 3):
            for number in range(5):
                network.transport("0").send(replication("0", "1", 400, number))
            await trio.sleep(ALL_ARRIVED_S)
            assert len(receiver.messages) == 2 * burst
        network.transport("0").send(replication("0", "1", 5000, 9))  # alone, it always fits
        await trio.sleep(ALL_ARRIVED_S)
        assert len(receiver.messages) == 7


async def test_a_breach_is_told_and_costs_what_is_in_flight(autojump_clock: MockClock) -> None:
    network = MemoryNetwork(random.Random(1), delay_s=(0.001, 0.001))
    async with nodes_on(network, "0", "1", "2") as owners:
        network.transport("0").send(heartbeat("2", "1"))
        send_rounds(network, "0", "1", 3)
        send_rounds(network, "2", "1", 1)
        await trio.sleep(ALL_ARRIVED_S)
        (event,) = owners["1"].all(ConnectionRejected)
        assert (event.remote, event.peer) == ("memory:0", "0")
        assert event.reason == "a message from '2' came over the connection of '0'"
        assert [message.sender for message in owners["1"].messages] == ["2"]


async def test_clusters_do_not_mix(autojump_clock: MockClock) -> None:
    network = MemoryNetwork(random.Random(1))
    async with (
        running(network.transport("0"), cluster_id="blue") as blue,
        running(network.transport("1"), cluster_id="green") as green,
    ):
        send_rounds(network, "0", "1", 3)
        await trio.sleep(ALL_ARRIVED_S)
        assert green.messages == []
        for owner, reason in (
            (blue, "node '1' belongs to cluster 'green', this node to 'blue'"),
            (green, "node '0' belongs to cluster 'blue', this node to 'green'"),
        ):
            assert (await owner.until_rejected()).reason == reason


async def test_it_says_that_it_listens(autojump_clock: MockClock) -> None:
    network = MemoryNetwork(random.Random(1))
    async with nodes_on(network, "0") as owners:
        (event,) = owners["0"].all(Listening)
        assert event.address == "memory:0"
        assert network.transport("0").address_of("1") is None


BAD_FAULTS = [
    {"delay_s": (-0.1, 1)},
    {"delay_s": (2, 1)},
    {"delay_s": (0, float("inf"))},
    {"delay_s": (float("nan"), 1)},
    {"drop": 1.1},
    {"drop": -0.1},
    {"duplicate": 2},
    {"late": (2, 0.1)},
    {"late": (0.1, -1)},
]


@pytest.mark.parametrize("faults", BAD_FAULTS, ids=repr)
def test_faults_out_of_range_are_refused(faults: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="give"):
        MemoryNetwork(random.Random(1), **faults)  # type: ignore[arg-type]  # wrong on purpose
