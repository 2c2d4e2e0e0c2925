"""The rows of the table: what is done to the network, and what may come of it at most.

Rules of this file:

* A row is a coroutine that breaks something. It may go on doing so until it is cancelled; then
  everything is healed for it: lines, members that were stopped, members that were killed.
* What a row may cost is written beside it. Rows without a bound are there to be looked at.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import attrs
import trio

from trioraft import Timing

from .lab import Lab
from .members import Cluster
from .switch import Line

GAP_S_MAX: Final = 1.5
"""Without an acknowledged write, after a cut of any kind."""
FLAP_S: Final = 0.3
RESTART_S: Final = 1.0
MBIT: Final = 1e6
KIB: Final = 1024
MIB: Final = 1024 * KIB


@attrs.frozen
class Scene:
    """Where a row plays."""

    lab: Lab
    cluster: Cluster
    leader: int
    """When it begins."""

    @property
    def others(self) -> list[int]:
        """The followers."""
        return [member for member in self.cluster.members if member != self.leader]

    def member(self, is_leader: bool) -> int:
        """The leader, or a follower."""
        return self.leader if is_leader else self.others[0]


Fault: TypeAlias = Callable[[Scene], Awaitable[None]]


@attrs.frozen
class Row:
    """One fault, and what it may cost."""

    group: str
    name: str
    fault: Fault
    gap_s_max: float | None = None
    """Longest time without an acknowledged write, the fault and what follows it together."""
    healed_s_max: float | None = None
    """Until the first write after the network is whole."""
    elections_max: int | None = None
    value_bytes: int | None = None
    """Two more clients write values of this size all the time."""
    writes_all: bool = False
    """Whether every one of them must succeed."""
    longer: float = 1.0
    """So many times as long as others."""
    members: int = 5
    timing: str = "default"
    """Which members it wants: see `TIMINGS`."""


def _options(timing: Timing) -> tuple[str, ...]:
    low_s, high_s = timing.election_timeout_s
    timeouts = f"{low_s * 1000:.0f}ms-{high_s * 1000:.0f}ms"
    return (
        *("--election-timeout", timeouts),
        *("--heartbeat", f"{timing.heartbeat_interval_s * 1000:.0f}ms"),
    )


TIMINGS: Final[dict[str, tuple[str, ...]]] = {
    "default": (),
    "for 10 % loss": _options(Timing.for_round_trip(0.001, loss=0.1)),
    "for RTT 400 ms": _options(Timing.for_round_trip(0.4)),
}
"""Options of `trioraft serve`, by name."""


# --- cuts -------------------------------------------------------------------------------------


async def nothing(_: Scene) -> None:
    """For comparison."""


async def leader_cut_from_members(scene: Scene) -> None:
    scene.lab.cut([scene.leader], scene.others)


async def leader_cut_from_everyone(scene: Scene) -> None:
    scene.lab.cut([scene.leader], [*scene.others, scene.lab.clients])


async def leader_only_sends(scene: Scene) -> None:
    scene.lab.set_lines(Line(is_cut=True), scene.others, [scene.leader])


async def leader_only_hears(scene: Scene) -> None:
    scene.lab.set_lines(Line(is_cut=True), [scene.leader], scene.others)


async def follower_hears_nobody(scene: Scene) -> None:
    follower = scene.others[0]
    scene.lab.set_lines(Line(is_cut=True), [scene.leader, *scene.others[1:]], [follower])


async def follower_heard_by_nobody(scene: Scene) -> None:
    follower = scene.others[0]
    scene.lab.set_lines(Line(is_cut=True), [follower], [scene.leader, *scene.others[1:]])


async def bridge_beside_leader(scene: Scene) -> None:
    """The leader is in one half; a follower sees both."""
    a, _, b, c = scene.others
    scene.lab.cut([scene.leader, a], [b, c])


async def leader_is_bridge(scene: Scene) -> None:
    a, b, c, d = scene.others
    scene.lab.cut([a, b], [c, d])


async def star(scene: Scene) -> None:
    """Only one follower sees a majority."""
    middle = scene.others[0]
    for member in scene.cluster.members:
        rest = [other for other in scene.cluster.members if other not in (middle, member)]
        if member != middle:
            scene.lab.cut([member], rest)


async def ring(scene: Scene) -> None:
    """Each sees its two neighbours."""
    members = scene.cluster.members
    for place, member in enumerate(members):
        scene.lab.cut([member], [members[(place + step) % len(members)] for step in (2, 3)])


async def leader_in_minority(scene: Scene) -> None:
    scene.lab.cut([scene.leader, scene.others[0]], scene.others[1:])


async def everyone_alone(scene: Scene) -> None:
    for member in scene.cluster.members:
        scene.lab.cut([member], [other for other in scene.cluster.members if other != member])


# --- dead connections -------------------------------------------------------------------------


async def firewall_forgets(scene: Scene) -> None:
    scene.lab.forget_connections()


async def firewall_forgets_then_leader_killed(scene: Scene) -> None:
    scene.lab.forget_connections(scene.others)
    await trio.sleep(0.5)
    scene.cluster.kill(scene.leader)


def frozen(*, is_leader: bool) -> Fault:
    """A host that stops for a while; its kernel does not."""

    async def fault(scene: Scene) -> None:
        scene.cluster.pause(scene.member(is_leader))

    return fault


def half_open(*, is_leader: bool) -> Fault:
    """A host that is cut off, restarts, and is back: the others' connections to it are no more, and
    nobody has told them."""

    async def fault(scene: Scene) -> None:
        member = scene.member(is_leader)
        rest = [each for each in (*scene.cluster.members, scene.lab.clients) if each != member]
        scene.lab.cut([member], rest)
        await trio.sleep(RESTART_S)
        scene.cluster.kill(member)
        scene.cluster.start_again(member)
        await trio.sleep(RESTART_S)
        scene.lab.heal()

    return fault


def flapping(*, is_leader: bool) -> Fault:
    """A line that comes and goes."""

    async def fault(scene: Scene) -> None:
        member = scene.member(is_leader)
        while True:
            scene.lab.cut([member], [each for each in scene.cluster.members if each != member])
            await trio.sleep(FLAP_S)
            scene.lab.heal()
            await trio.sleep(FLAP_S)

    return fault


def moved(*, is_leader: bool) -> Fault:
    """Its name stands for another address, and nobody has the old one."""

    async def fault(scene: Scene) -> None:
        scene.lab.move(scene.member(is_leader))

    return fault


# --- long, lossy, narrow lines ------------------------------------------------------------------


def line(**what: float | bool) -> Fault:
    """Every line between members is this."""

    async def fault(scene: Scene) -> None:
        scene.lab.set_lines(Line(**what))  # type: ignore[arg-type] # its own fields

    return fault


def line_and_leader_killed(**what: float | bool) -> Fault:
    """The same, and the leader is killed on it."""

    async def fault(scene: Scene) -> None:
        await line(**what)(scene)
        await trio.sleep(2.0)
        leader = await scene.cluster.leader()
        scene.cluster.kill(scene.leader if leader is None else leader)

    return fault


def narrow(mbit: float) -> Fault:
    """What leaves each member does so at this rate."""

    async def fault(scene: Scene) -> None:
        scene.lab.set_rate(mbit * MBIT)

    return fault


def _cut(name: str, fault: Fault, **more: object) -> Row:
    return Row("cuts", name, fault, gap_s_max=GAP_S_MAX, **more)  # type: ignore[arg-type] # its own


def _dead(name: str, fault: Fault, **more: object) -> Row:
    return Row("dead", name, fault, gap_s_max=GAP_S_MAX, **more)  # type: ignore[arg-type] # its own


def _narrow(mbit: float, size_bytes: int, size: str, *, members: int = 5) -> Row:
    few = "" if members == 5 else f", {members} members"
    return Row(
        *("narrow", f"{mbit:g} Mbit/s, values of {size}{few}", narrow(mbit)),
        members=members,
        elections_max=2,
        value_bytes=size_bytes,
        writes_all=True,
        longer=2.0,
    )


ROWS: Final = (
    Row("cuts", "nothing", nothing, gap_s_max=GAP_S_MAX, elections_max=0),
    _cut("leader cut from members", leader_cut_from_members),
    _cut("leader cut from everyone", leader_cut_from_everyone),
    _cut("leader only sends", leader_only_sends),
    _cut("leader only hears", leader_only_hears),
    _cut("follower hears nobody", follower_hears_nobody, elections_max=0),
    _cut("follower is heard by nobody", follower_heard_by_nobody, elections_max=0),
    _cut("bridge: a follower sees both halves", bridge_beside_leader),
    _cut("bridge: the leader sees both halves", leader_is_bridge, elections_max=0),
    _cut("star: one follower sees a majority", star),
    _cut("ring: each sees two neighbours", ring),
    _cut("leader in a minority", leader_in_minority),
    Row("cuts", "everyone alone", everyone_alone, healed_s_max=GAP_S_MAX),
    _dead("firewall forgets all connections", firewall_forgets),
    _dead(
        "firewall forgets followers', leader killed 0.5 s later",
        firewall_forgets_then_leader_killed,
    ),
    _dead("leader frozen", frozen(is_leader=True)),
    _dead("follower frozen", frozen(is_leader=False), elections_max=0),
    _dead("leader half open", half_open(is_leader=True)),
    _dead("follower half open", half_open(is_leader=False)),
    Row("dead", "leader's line flaps", flapping(is_leader=True)),
    _dead("follower's line flaps", flapping(is_leader=False)),
    _dead("leader has another address", moved(is_leader=True)),
    _dead("follower has another address", moved(is_leader=False)),
    Row("long", "RTT 100 ms", line(delay_s=0.05), gap_s_max=GAP_S_MAX, elections_max=0),
    Row("long", "RTT 400 ms", line(delay_s=0.2), elections_max=2),
    Row("long", "RTT 600 ms", line(delay_s=0.3), elections_max=2),
    Row(
        *("long", "RTT 400 ms, leader killed", line_and_leader_killed(delay_s=0.2)),
        gap_s_max=5.0,
        longer=1.5,
    ),
    Row(
        *("lossy", "50 ± 50 ms, out of order"),
        line(delay_s=0.05, jitter_s=0.05, keeps_order=False),
        gap_s_max=GAP_S_MAX,
    ),
    Row("lossy", "1 % lost", line(loss=0.01), gap_s_max=GAP_S_MAX, longer=2.0),
    Row("lossy", "10 % lost", line(loss=0.1), longer=2.0),
    Row("lossy", "30 % lost", line(loss=0.3), longer=2.0),
    Row(
        *("narrow", "MTU black hole at 1000 B, values of 3000 B", line(packet_bytes_max=1000)),
        value_bytes=3000,
        healed_s_max=30.0,
    ),
    _narrow(10, 100, "100 B"),
    _narrow(10, 64 * KIB, "64 KiB"),
    _narrow(10, MIB, "1 MiB"),
    _narrow(4, 64 * KIB, "64 KiB"),
    _narrow(1, 100, "100 B"),
    _narrow(1, 64 * KIB, "64 KiB"),
    _narrow(10, MIB, "1 MiB", members=3),
    _narrow(4, 64 * KIB, "64 KiB", members=3),
    _narrow(1, 64 * KIB, "64 KiB", members=3),
    Row("lossy", "10 % lost", line(loss=0.1), longer=2.0, timing="for 10 % loss"),
    Row(
        *("long", "RTT 400 ms, leader killed", line_and_leader_killed(delay_s=0.2)),
        gap_s_max=5.0,
        longer=1.5,
        timing="for RTT 400 ms",
    ),
)
