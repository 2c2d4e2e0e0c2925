"""A machine that sleeps: its leader must not believe in its lease when it wakes (hazard Q2)."""

from __future__ import annotations

import time

import attrs
import pytest
import trio
from trio.testing import MockClock

from trioraft import Timing
from trioraft.node.suspension import SLEEP_S_MIN, Suspension
from trioraft.testing import open_cluster

LEASES = Timing(fast_failover=False, lease_clock_drift_max=0.1)


@attrs.define
class Machine:
    """One that sleeps when it is told to: the one clock runs on, and nothing else shows it."""

    running: int
    slept_s: float = 0.0

    def gettime(self, clock: int) -> float:
        return _GETTIME(clock) + (self.slept_s if clock == self.running else 0.0)


_GETTIME = time.clock_gettime


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """This one."""
    name = "CLOCK_BOOTTIME" if hasattr(time, "CLOCK_BOOTTIME") else "CLOCK_MONOTONIC_RAW"
    machine = Machine(getattr(time, name))
    monkeypatch.setattr(time, "clock_gettime", machine.gettime)
    return machine


async def test_q2_a_leader_that_wakes_asks_before_it_reads(
    machine: Machine, autojump_clock: MockClock
) -> None:
    async with open_cluster(3, timing=LEASES) as cluster:
        leader, _ = await cluster.check_single_leader()
        node = cluster.nodes[leader]
        await node.read_barrier(lease=True)  # asks the others, unless they have answered already
        began_s = trio.current_time()
        await node.read_barrier(lease=True)
        assert trio.current_time() == began_s  # by the clock alone
        machine.slept_s += 10.0
        await node.read_barrier(lease=True)
        assert trio.current_time() > began_s  # the others were asked
        asked_s = trio.current_time()
        await node.read_barrier(lease=True)
        assert trio.current_time() == asked_s


async def test_q2_a_leader_that_was_deposed_in_its_sleep_does_not_answer(
    machine: Machine, autojump_clock: MockClock
) -> None:
    async with open_cluster(3, timing=LEASES) as cluster:
        leader, _ = await cluster.check_single_leader()
        node = cluster.nodes[leader]
        await node.read_barrier(lease=True)
        cluster.disconnect(leader)
        began_s = trio.current_time()
        await node.read_barrier(lease=True)
        assert trio.current_time() == began_s  # it has a lease
        machine.slept_s += 10.0
        with trio.move_on_after(LEASES.heartbeat_interval_s):
            await node.read_barrier(lease=True)
            pytest.fail("it answered by a lease from before its sleep")


def test_each_sleep_is_told_once(machine: Machine) -> None:
    suspension = Suspension()
    assert not suspension.is_over()
    for sleep_s in (2 * SLEEP_S_MIN, 1000.0, 0.1):
        machine.slept_s += sleep_s
        assert suspension.is_over()
        assert not suspension.is_over()


def test_a_process_that_was_held_up_may_take_it_for_a_sleep_and_still_sees_the_next_one(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspension = Suspension()
    looks = iter((False, False, True))

    def held_up_before_the_last_look(clock: int) -> float:
        return machine.gettime(clock) + 0.3 * next(looks)

    with monkeypatch.context() as patch:
        patch.setattr(time, "clock_gettime", held_up_before_the_last_look)
        assert suspension.is_over()
    machine.slept_s += 0.1
    assert suspension.is_over()


def test_where_no_clock_tells_the_machine_may_always_have_slept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trioraft.node.suspension._CLOCKS", ())
    assert Suspension().is_over()
