"""Replicas that compute other results than the rest are found out (hazard E4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tests.member.by_hand import ByHand
from trioraft import Limits, Node, OutcomeUnknown, Role
from trioraft.core.agreement import POINTS_EVERY, Agreement
from trioraft.core.errors import ResultsDiverged
from trioraft.core.types import Configuration, LogIndex
from trioraft.machines.sessions import (
    SessionMachine,
    encode_command,
    encode_open,
    encode_plain,
)
from trioraft.member import results
from trioraft.member.results import RunningChecksum, restore
from trioraft.member.status import Status
from trioraft.testing.cluster import Cluster, open_cluster

THREE = Configuration(("0", "1", "2"))
PATIENCE_S = 30


def checksum_of(*results: Any, start: int | None = 0) -> int | None:
    running = RunningChecksum(start, lambda index, value: None)
    for index, result in enumerate(results, 1):
        if isinstance(result, Exception):
            running.add_error(index, result)
        else:
            running.add(index, result)
    return running.value


class Odd:
    """Nothing that msgspec knows."""


class Point(msgspec.Struct):
    x: int


# -- the checksum --------------------------------------------------------------------------------


def test_e4_what_is_equal_has_one_checksum_however_it_came_about() -> None:
    one, other = {"b", "a", "c"}, {"d", "c", "a", "b"} - {"d"}
    assert checksum_of(one, {"x": one}) == checksum_of(other, {"x": other})
    assert checksum_of(ValueError("here")) == checksum_of(ValueError("there"))
    assert checksum_of(Odd()) == checksum_of(Odd())
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    assert checksum_of(cyclic, "\ud800") == checksum_of(cyclic, "\ud800")


@pytest.mark.parametrize(
    "other",
    [(1, 3), (2, 1), (1,), (1, "2"), (1, None), (1, ValueError()), (1, [2]), (1, Point(2))],
)
def test_e4_what_differs_has_another_checksum(other: tuple[Any, ...]) -> None:
    assert checksum_of(1, 2) != checksum_of(*other)
    assert checksum_of(ValueError()) != checksum_of(KeyError())


def test_who_cannot_say_says_nothing() -> None:
    assert checksum_of(1, OutcomeUnknown("too old"), 2) is None
    assert checksum_of(1, start=None) is None


def test_slices_make_no_difference_and_it_goes_on_after_a_snapshot() -> None:
    noted: list[list[tuple[int, int]]] = []
    for slices in ((100,), (1,) * 100, (16, 1, 40, 43)):
        one = ByHand(limits=Limits(snapshot_tail_entries=1)).elected()
        commands = [b"%d" % number for number in range(sum(slices))]
        for size in slices:
            one.propose(*commands[:size])
            del commands[:size]
            one.applied()
        noted.append([*one.member.raft.agreement._points.items()])
        chunks = b"".join(one.member.applies.begin_save())
        other = ByHand()
        for cut in (1, 7, len(chunks)):
            pieces = [chunks[i : i + cut] for i in range(0, len(chunks), cut)]
            assert restore(other.machine, pieces) == one.member.applies.checksum.value
        assert other.machine.commands == one.machine.commands
    assert noted[0] == noted[1] == noted[2]
    assert [index for index, _ in noted[0]] == [16, 32, 48, 64, 80, 96]


def test_a_snapshot_of_an_earlier_release_has_no_checksum() -> None:
    for content in (b"", b"a\nb", b"trioraft results\n"):
        other = ByHand()
        assert restore(other.machine, [content]) is None
        assert b"\n".join(other.machine.commands) == content


# -- who is right ----------------------------------------------------------------------------------


def asked(ours: int) -> Agreement:
    agreement = Agreement()
    agreement.on_led()
    agreement.note(16, ours)
    assert agreement.next_question() == 16
    return agreement


def test_e4_only_a_majority_of_voters_is_right() -> None:
    agreement = asked(7)
    assert agreement.answered("0", "1", 7, THREE) is None
    majority = agreement.answered("0", "2", 8, THREE)
    assert majority is not None
    assert (majority.agreed, majority.voters, majority.differing) == (7, ("0", "1"), {"2": 8})
    agreement = asked(7)
    majority = agreement.answered("0", "1", 8, THREE)
    assert majority is not None
    assert majority.agreed is None
    majority = agreement.answered("0", "2", 8, THREE)
    assert majority is not None
    assert (majority.agreed, majority.voters, majority.differing) == (8, ("1", "2"), {"0": 7})


def test_a_learner_has_no_say() -> None:
    agreement, configuration = asked(7), Configuration(("0", "1"), learners=("2",))
    majority = agreement.answered("0", "2", 8, configuration)
    assert majority is not None
    assert (majority.agreed, majority.voters) == (None, ("0",))
    majority = agreement.answered("0", "1", 8, configuration)
    assert majority is not None
    assert majority.agreed is None


def test_while_members_change_both_majorities_have_to_agree() -> None:
    agreement = asked(7)
    joint = Configuration(("0", "1", "2"), outgoing=("0", "3", "4"))
    assert agreement.answered("0", "1", 7, joint) is None
    majority = agreement.answered("0", "2", 8, joint)
    assert majority is not None
    assert majority.agreed is None


# -- clusters --------------------------------------------------------------------------------------


class Differs:
    """Its results are its own from a certain command on."""

    made = 0

    def __init__(self, odd_ones: Iterable[int]) -> None:
        self.number = Differs.made
        self.is_odd = self.number in odd_ones
        self.count = 0
        Differs.made += 1

    def apply(self, index: int, data: bytes) -> Any:
        self.count += 1
        return -1 - self.number if self.is_odd and data == b"odd" else self.count

    def snapshot(self) -> bytes:
        return self.count.to_bytes(8, "big")

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.count = int.from_bytes(b"".join(chunks), "big")


def differing(*odd_ones: int) -> Callable[[], Differs]:
    Differs.made = 0
    return lambda: Differs(odd_ones)


async def commands(cluster: Cluster, count: int) -> None:
    for _ in range(count):
        await cluster.propose(b"even")


async def until_found_out() -> None:
    """Until the cluster ends with an error of one of its nodes, which cancels this."""
    with trio.fail_after(PATIENCE_S):
        await trio.sleep_forever()


async def when_compared(leader: Node, index: LogIndex, ids: Iterable[str]) -> Status:
    """Its status once all have told their checksum at this index or a later one."""
    raft = leader._runner.raft
    assert raft is not None
    agreement, everybody = raft.agreement, set(ids)
    with trio.fail_after(PATIENCE_S):
        return await leader.wait(
            lambda _: agreement.index >= index and agreement._answers.keys() == everybody
        )


async def until_it_stops(size: int, odd: int) -> None:
    async with open_cluster(size, machine=differing(odd), seed=2) as cluster:
        await cluster.propose(b"odd")
        await commands(cluster, POINTS_EVERY)
        await until_found_out()


@pytest.mark.parametrize("odd", [0, 1, 2])
async def test_e4_a_node_that_differs_from_the_majority_stops(
    autojump_clock: MockClock, odd: int
) -> None:
    """Whoever leads; and its error says both checksums."""
    with pytest.raises(ResultsDiverged) as stopped:
        await until_it_stops(3, odd)
    words = str(stopped.value)
    assert f"node '{odd}' has results with the checksum" in words
    assert "a majority of the voters" in words


async def test_where_nobody_is_right_everybody_goes_on_and_it_is_told(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(3, machine=differing(1, 2), seed=2) as cluster:
        await cluster.propose(b"odd")
        leader, _ = await cluster.check_single_leader()
        others = set(cluster.ids) - {leader}
        for index in (POINTS_EVERY, 2 * POINTS_EVERY):
            await commands(cluster, POINTS_EVERY)
            status = await when_compared(cluster.nodes[leader], index, cluster.ids)
            assert status.differing.keys() == others
        assert status.role is Role.LEADER
        assert len(cluster.nodes) == 3


async def test_e4_a_difference_goes_with_the_snapshot(autojump_clock: MockClock) -> None:
    """What was different once is different for ever, restarted or not."""
    limits = Limits(snapshot_entries=20, snapshot_tail_entries=1)

    async def until_it_stops() -> None:
        async with open_cluster(3, machine=differing(1), limits=limits, seed=2) as cluster:
            await cluster.propose(b"odd")
            await commands(cluster, 3)
            await cluster.nodes["1"].take_snapshot()
            await cluster.crash("1")
            await cluster.restart("1")
            await commands(cluster, POINTS_EVERY)
            await until_found_out()

    with pytest.raises(ResultsDiverged):
        await until_it_stops()


class HidesIt(Differs):
    """Its results are those of the others, whatever it holds."""

    def apply(self, index: int, data: bytes) -> Any:
        super().apply(index, data)
        self.count += self.is_odd and data == b"odd"
        return None


class Canonical(HidesIt):
    """Equal ones give equal snapshots."""

    has_canonical_snapshots = True


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "in a SessionMachine"])
async def test_e4_contents_are_compared_where_snapshots_are_canonical(
    wrapped: bool, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "CONTENTS_EVERY", 2 * POINTS_EVERY)
    Differs.made = 0

    def machine() -> Any:
        inner = Canonical([1])
        return SessionMachine(inner) if wrapped else inner

    async def until_it_stops() -> None:
        async with open_cluster(3, machine=machine, seed=2) as cluster:
            envelope = encode_plain if wrapped else bytes
            await cluster.propose(envelope(b"odd"))
            for _ in range(2 * POINTS_EVERY):
                await cluster.propose(envelope(b"even"))
            await until_found_out()

    with pytest.raises(ResultsDiverged, match="node '1' has results with the checksum"):
        await until_it_stops()


class Mumbles(Canonical):
    """Raises what every replica words in its own way; that is no difference."""

    def apply(self, index: int, data: bytes) -> Any:
        super().apply(index, data)
        raise ValueError(f"said by number {self.number}")


async def test_texts_that_a_session_keeps_are_not_compared(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "CONTENTS_EVERY", POINTS_EVERY)
    Differs.made = 0
    async with open_cluster(3, machine=lambda: SessionMachine(Mumbles([])), seed=2) as cluster:
        session = await cluster.propose(encode_open(bytes(16)))
        leader, _ = await cluster.check_single_leader()
        for sequence in range(1, POINTS_EVERY + 1):
            with pytest.raises(ValueError, match="said by number"):
                await cluster.propose(encode_command(session, sequence, b"even"))
        status = await when_compared(cluster.nodes[leader], POINTS_EVERY, cluster.ids)
        assert status.differing == {}


async def test_contents_are_left_alone_where_snapshots_are_not_canonical(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "CONTENTS_EVERY", POINTS_EVERY)
    Differs.made = 0
    async with open_cluster(3, machine=lambda: HidesIt([1]), seed=2) as cluster:
        await cluster.propose(b"odd")
        leader, _ = await cluster.check_single_leader()
        await commands(cluster, POINTS_EVERY)
        status = await when_compared(cluster.nodes[leader], POINTS_EVERY, cluster.ids)
        assert status.differing == {}


async def test_equal_replicas_say_nothing(autojump_clock: MockClock) -> None:
    async with open_cluster(3, machine=differing(), seed=2) as cluster:
        await cluster.propose(b"odd")
        leader, _ = await cluster.check_single_leader()
        for index in (POINTS_EVERY, 2 * POINTS_EVERY):
            await commands(cluster, POINTS_EVERY)
            status = await when_compared(cluster.nodes[leader], index, cluster.ids)
            assert status.differing == {}
