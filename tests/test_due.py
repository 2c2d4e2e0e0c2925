"""What ends by itself in a state machine is proposed by whoever leads, when it does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

import pytest
import trio
from trio.testing import MockClock

from tests.support import open_single, raft_tasks
from trioraft import Role, SessionMachine, Status
from trioraft.machines.sessions import encode_plain
from trioraft.testing.cluster import open_cluster


def leads(status: Status) -> bool:
    return status.role is Role.LEADER


@final
class Alarm:
    """Rings when a time given in a command has come; the time of this node's clock, which is the
    same one for all nodes of these tests."""

    def __init__(self, *, is_deaf: bool = False) -> None:
        self.due_s: float | None = None
        self.rung: list[float] = []
        self.asked = 0
        self._is_deaf = is_deaf

    def apply(self, index: int, data: bytes) -> None:
        if data.startswith(b"ring"):
            self.asked += 1
            if not self._is_deaf and self.due_s is not None and self.due_s <= float(data[4:]):
                self.rung.append(self.due_s)
                self.due_s = None
        else:
            self.due_s = float(data)

    def due_in_s(self, now_s: float) -> float | None:
        return None if self.due_s is None else self.due_s - now_s

    def command_when_due(self, now_s: float) -> bytes:
        return b"ring%r" % now_s

    def snapshot(self) -> bytes:
        return b""

    def restore(self, chunks: Iterable[bytes]) -> None:
        pass


async def test_what_is_due_is_proposed_then_and_once(autojump_clock: MockClock) -> None:
    alarm = Alarm()
    async with open_single(machine=alarm) as node:
        await node.wait(leads)
        at_s = trio.current_time() + 5
        await node.propose(b"%r" % at_s)
        await node.propose(b"%r" % (at_s - 2))  # it moves to an earlier time
        await node.wait(lambda _: bool(alarm.rung))
        assert trio.current_time() == pytest.approx(at_s - 2, abs=0.05)
        await trio.sleep(10)
        assert (alarm.rung, alarm.asked) == ([at_s - 2], 1)


async def test_the_task_is_there_only_where_something_can_be_due(
    autojump_clock: MockClock,
) -> None:
    async with open_single(machine=SessionMachine(Alarm())) as node:
        await node.wait(leads)
        await node.propose(encode_plain(b"1e9"))
        assert "raft[0].due" in node.expected_tasks()
        assert raft_tasks() == sorted(node.expected_tasks())
    async with open_single() as node:
        await node.wait(leads)
        await node.propose(b"something")
        assert "raft[0].due" not in node.expected_tasks()
        assert raft_tasks() == sorted(node.expected_tasks())


async def test_within_sessions_it_is_a_command_without_one(autojump_clock: MockClock) -> None:
    alarm = Alarm()
    async with open_single(machine=SessionMachine(alarm)) as node:
        await node.wait(leads)
        await node.propose(encode_plain(b"%r" % (trio.current_time() + 1)))
        await node.wait(lambda _: bool(alarm.rung))


async def test_the_next_leader_does_what_the_last_one_would_have(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(3, machine=Alarm) as cluster:
        leader_id, _ = await cluster.check_single_leader()
        at_s = trio.current_time() + 5
        await cluster.nodes[leader_id].propose(b"%r" % at_s)
        await cluster.crash(leader_id)
        leader_id, _ = await cluster.check_single_leader()
        alarm = cluster.machines[leader_id]
        await cluster.nodes[leader_id].wait(lambda _: alarm.rung == [at_s])
        assert trio.current_time() == pytest.approx(at_s, abs=0.1)


async def test_what_does_not_end_is_not_asked_for_in_a_loop(autojump_clock: MockClock) -> None:
    alarm = Alarm(is_deaf=True)
    async with open_single(machine=alarm) as node:
        await node.wait(leads)
        await node.propose(b"%r" % trio.current_time())
        await trio.sleep(1)
        assert 50 <= alarm.asked <= 101
