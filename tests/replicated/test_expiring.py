"""Objects in which something ends by itself, by log time, on every node alike."""

from __future__ import annotations

import msgspec
import trio
from trio.testing import MockClock

from tests.replicated.support import open_objects
from tests.support import open_single
from trioraft import Expiring, Replicas, command, query
from trioraft.machines.replicated.replica import MethodCall, Tick
from trioraft.machines.sessions import SessionMachine, encode_plain
from trioraft.structures import Counter

ENCODE = msgspec.msgpack.encode


class Notes(Expiring):
    """Texts that last a minute."""

    texts: dict[str, float] = msgspec.field(default_factory=dict)

    @command
    def write(self, text: str) -> int:
        """Keep it; returns how many there are."""
        self.texts[text] = self.log_time_s + 60
        return len(self.texts)

    @query
    def read(self) -> list[str]:
        """All that are kept."""
        return list(self.texts)

    def next_expiry_s(self) -> float | None:
        return next(iter(self.texts.values()), None)

    def expire(self) -> None:
        while (end_s := self.next_expiry_s()) is not None and end_s <= self.log_time_s:
            del self.texts[next(iter(self.texts))]


async def test_it_ends_everywhere_though_nobody_calls(autojump_clock: MockClock) -> None:
    async with open_objects(Notes) as objects:
        notes = await objects.following()
        await notes.write("a")
        await trio.sleep(30)
        await notes.write("b")
        await trio.sleep(29)
        assert await notes.read() == ["a", "b"]
        await trio.sleep(2)
        for node_id in objects.cluster.ids:
            assert list(objects.at(node_id).texts) == ["b"]
        leader, _ = await objects.cluster.check_single_leader()
        last = objects.cluster.nodes[leader].status.last_index
        await trio.sleep(25)
        assert objects.cluster.nodes[leader].status.last_index == last  # nothing was due
        await objects.replaced_leader()
        await trio.sleep(10)
        assert list((await objects.leading()).texts) == []


def test_it_ends_before_any_other_command_of_that_time() -> None:
    notes = Notes()
    results = []
    for index, at_s in enumerate((0.0, 59.9, 119.9, 130.0), 1):
        call = MethodCall("write", 1, at_s, msgspec.Raw(ENCODE([f"at {at_s}"])))
        results.append(msgspec.msgpack.decode(notes.apply(index, ENCODE(call))))
    assert results == [1, 2, 1, 2]
    notes.apply(5, ENCODE(Tick(1, 150.0)))
    assert list(notes.texts) == ["at 119.9", "at 130.0"]
    notes.apply(6, ENCODE(Tick(1, 1000.0)))
    assert notes.texts == {}


async def test_the_first_of_several_is_due(autojump_clock: MockClock) -> None:
    early, late, counter = Notes(), Notes(), Counter()
    machine = Replicas(early=early, late=late, counter=counter)
    async with open_single(machine=machine) as node:
        machine.attach(node)
        await early.write("a")
        await trio.sleep(10)
        await late.write("b")
        await trio.sleep(51)
        assert (list(early.texts), list(late.texts)) == ([], ["b"])
        await trio.sleep(10)
        assert late.texts == {}


def test_nothing_is_due_where_nothing_can_end() -> None:
    assert Replicas(counter=Counter()).due_in_s is None
    assert SessionMachine(Replicas(counter=Counter())).due_in_s is None
    assert Replicas(notes=Notes()).due_in_s is not None


async def test_the_leader_writes_its_own_time_into_commands(autojump_clock: MockClock) -> None:
    """Whatever the sender says, early or late."""
    notes = Notes()
    async with open_single(machine=notes) as node:
        notes.attach(node)
        await notes.write("a")
        await trio.sleep(10)
        for said_s in (0.0, 1e9):
            call = ENCODE(MethodCall("write", 1, said_s, msgspec.Raw(ENCODE(["b"]))))
            await node.propose(encode_plain(call))
            assert notes.log_time_s < 11
        assert notes.log_time_s > 9.9
