"""What strangers may cost, who is looked at for it, and how it is measured."""

from __future__ import annotations

import itertools

import pytest
import trio

from trioraft.net import door as door_module
from trioraft.net.door import (
    BURST_S,
    CLOSING_BURST_S,
    CLOSING_SHARE,
    CREDIT_AT_FIRST,
    CREDIT_MAX,
    HOSTS_MAX,
    LOOK_S_MAX,
    LOOKS_SHARE,
    Door,
    Look,
    metered,
)

COST_S = 0.001
NOW_S = 1000.0


def knock(door: Door, host: str, now_s: float = NOW_S, *, was_of_use: bool = False) -> bool:
    """Whether somebody from this host was looked at, at the usual price."""
    look = door.look(host, now_s)
    if look is None:
        return False
    look.spend(COST_S)
    look.end()
    if was_of_use:
        look.was_of_use()
    return True


def test_g10_all_strangers_together_have_a_share_of_the_loop() -> None:
    door, looked_at = Door(), 0
    fresh = (f"host-{number}" for number in itertools.count())
    for step in range(100_000):  # 10 s of 10,000 a second, each from elsewhere
        looked_at += knock(door, next(fresh), NOW_S + step / 10_000)
    assert 0.5 * BURST_S < looked_at * COST_S < BURST_S + 10 * LOOKS_SHARE
    assert door.closed == 100_000 - looked_at


def test_g10_a_host_that_was_of_use_is_looked_at_while_strangers_are_not_any_more() -> None:
    door = Door()
    assert knock(door, "friend", was_of_use=True)
    fresh = (f"host-{number}" for number in range(10_000))
    answers = [knock(door, host) for host in fresh]
    assert not answers[-1]
    assert not knock(door, "stranger")
    assert all(knock(door, "friend", was_of_use=True) for _ in range(100))


def test_g10_a_host_that_is_never_of_use_gives_way_to_one_that_nobody_knows() -> None:
    door = Door()
    assert knock(door, "nuisance", was_of_use=True)
    tries = [knock(door, "nuisance") for _ in range(1000)]
    assert not tries[-1]
    assert 50 < sum(tries) < 200
    assert knock(door, "stranger")


def test_a_host_without_credit_is_looked_at_where_there_is_plenty() -> None:
    """All may come from one address: of a proxy, or a gateway."""
    door = Door()
    now_s = NOW_S
    for _ in range(int(3 * CREDIT_MAX)):
        now_s += 1.1 * COST_S / LOOKS_SHARE  # by then its cost has come back
        assert knock(door, "proxy", now_s)


def test_who_is_vouched_for_has_all_credit() -> None:
    door = Door()
    door.vouch("member")
    door.vouch("")  # where the kernel did not say
    for number in range(10_000):
        knock(door, f"host-{number}")
    assert not knock(door, "stranger")
    assert knock(door, "member")
    assert door.knows("member")
    assert not door.knows("")


def test_strange_hosts_are_forgotten_and_take_no_useful_ones_place() -> None:
    door = Door()
    assert knock(door, "friend", was_of_use=True)
    for number in range(3 * HOSTS_MAX):
        door.look(f"host-{number}", NOW_S)
    assert len(door._others) == HOSTS_MAX
    assert door.knows("friend")
    for number in range(2 * HOSTS_MAX):
        door.vouch(f"host-{number}")
    assert len(door._useful) == HOSTS_MAX
    assert not door.knows("friend")


def test_what_nobody_knows_begins_with_half_the_credit_there_is() -> None:
    """Whatever the clock says: it may have begun long ago."""
    door = Door()
    door.look("stranger", 1e9)
    assert door._others["stranger"].left(1e9) == CREDIT_AT_FIRST - 1


def test_g10_hosts_that_were_of_use_have_a_reserve_that_strangers_cannot_use_up() -> None:
    """However much those cost that were let in: bytes one at a time, or TLS."""
    door = Door()
    assert knock(door, "friend", was_of_use=True)
    costly = [door.look(f"host-{number}", NOW_S) for number in range(100)]
    for look in costly:
        assert look is not None
        look.spend(1.0)
    assert not knock(door, "stranger")
    assert knock(door, "friend", was_of_use=True)
    # What was used beyond the share is paid back before strangers are looked at again.
    assert not knock(door, "stranger", NOW_S + 0.9 * BURST_S / LOOKS_SHARE)
    assert knock(door, "stranger", NOW_S + 2.1 * BURST_S / LOOKS_SHARE)
    tries = [knock(door, "nuisance", NOW_S, was_of_use=number == 0) for number in range(1000)]
    assert not tries[-1]


def test_g10_who_shares_a_host_with_an_attacker_is_looked_at_soon_after_the_attack() -> None:
    """As on the loopback: half frames of many megabytes, and then a probe, or a client."""
    door = Door()
    assert knock(door, "shared", was_of_use=True)
    for step in range(600):  # a minute
        look = door.look("shared", NOW_S + step / 10)
        if look is not None:
            look.spend(0.9 * LOOK_S_MAX)
            look.end()
    over_s = NOW_S + 60
    waited_s = next(n for n in range(100) if knock(door, "shared", over_s + n, was_of_use=True))
    assert waited_s <= 1
    # Meanwhile it is no burden for hosts that were always of use.
    door.vouch("friend")
    for _ in range(1000):
        knock(door, "shared", over_s + 1)
    assert knock(door, "friend", over_s + 1)


def test_g10_one_look_has_a_bound_too() -> None:
    ended = []
    look = Door().look("stranger", NOW_S)
    assert look is not None
    look.on_excess = lambda: ended.append(True)
    look.spend(0.9 * LOOK_S_MAX)
    assert not ended
    look.spend(0.2 * LOOK_S_MAX)
    assert ended


def test_many_that_come_at_once_do_not_all_find_the_share_unused() -> None:
    door = Door()
    looks = [door.look(f"host-{number}", NOW_S) for number in range(5000)]
    assert 100 < len([look for look in looks if look is not None]) < 2000


def test_accepting_has_a_share_too_and_then_nobody_is_accepted_for_a_while() -> None:
    door = Door()
    assert door.accepted(CLOSING_BURST_S, NOW_S) == 0
    assert door.accepted(0.01, NOW_S) == pytest.approx(0.01 / CLOSING_SHARE)
    assert door.accepted(0.0, NOW_S + 1.0) == 0


class FakeClock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        monkeypatch.setattr(door_module, "thread_time", lambda: self.now_s)


class Costs:
    """A door that only remembers."""

    def __init__(self) -> None:
        self.door = Door()
        self.look = Look(self.door, "host", 0.0)

    @property
    def spent_s(self) -> float:
        return self.look._spent_s


async def test_work_is_measured_and_not_what_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, costs = FakeClock(monkeypatch), Costs()

    async def work() -> str:
        clock.now_s += 1
        await trio.lowlevel.checkpoint()
        clock.now_s += 2
        costs.look.end()
        await trio.lowlevel.checkpoint()
        clock.now_s += 4  # is no stranger's any more
        return "done"

    async def other() -> None:
        clock.now_s += 100

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        assert await metered(work(), costs.look) == "done"
    assert costs.spent_s == 3


async def test_what_work_raises_comes_through_and_what_cancels_it_goes_in() -> None:
    costs, seen = Costs(), []

    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise ValueError("it failed")

    async def wait() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            seen.append("cancelled")
            raise

    with pytest.raises(ValueError, match="it failed"):
        await metered(fail(), costs.look)
    with trio.move_on_after(0) as scope:
        await metered(wait(), costs.look)
    assert scope.cancelled_caught
    assert seen == ["cancelled"]


def test_work_that_is_thrown_away_is_closed() -> None:
    seen = []

    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            seen.append("closed")

    going = metered(work(), Costs().look)
    going.send(None)
    going.close()
    assert seen == ["closed"]
