"""What comes again and again is told once, and then counted: a log stays readable, and complete."""

from __future__ import annotations

import io
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from trioraft import MemoryNetwork, MemoryStorage, RaftError, Timing, open_node
from trioraft.core.events import Forming, LogSummary, RoleChanged, SnapshotSaved
from trioraft.core.reasons import ElectionWon, HigherTerm, NoWinner
from trioraft.core.types import Role
from trioraft.logs import RepeatFilter, TraceLogger, configure
from trioraft.logs.event_texts import Traced
from trioraft.logs.loggers import EventLogger, Format
from trioraft.logs.repeats import KINDS_MAX
from trioraft.storage.base import Storage
from trioraft.testing import FaultyStorage
from trioraft.testing.cluster import CommandLog
from trioraft.transport.base import (
    CertificatesReloaded,
    CertificatesUnusable,
    ConnectionRejected,
    LinkDown,
    LinkUp,
    MessagesDropped,
)

LOG = LogSummary(1, 0, 0)


def lost_again(waited_s: float = 0.2) -> RoleChanged:
    pre_candidate = Role.PRE_CANDIDATE
    return RoleChanged(
        trio.current_time(), pre_candidate, pre_candidate, 3, LOG, NoWinner(waited_s)
    )


@attrs.define
class Written:
    """A log, and what is in it."""

    stream: io.StringIO
    log: TraceLogger

    def tell(self, *told: Traced) -> None:
        for event in told:
            self.log.event(event)

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    @property
    def repeats(self) -> list[int | None]:
        return [line.get("repeats") for line in self.objects]


@asynccontextmanager
async def open_log(format: Format = "json") -> AsyncIterator[Written]:
    stream = io.StringIO()
    repeats = RepeatFilter(configure(format, stream=stream))
    async with trio.open_nursery() as nursery:
        await nursery.start(repeats.run)
        yield Written(stream, TraceLogger(repeats, "0"))
        repeats.stop()


async def test_elections_lost_again_and_again_are_two_lines_a_minute_at_most(
    autojump_clock: MockClock,
) -> None:
    async with open_log() as written:
        for _ in range(3 * 60 * 4):
            written.tell(lost_again())
            await trio.sleep(0.25)
        assert len(written.lines) <= 4
        assert written.objects[1]["repeats"] == pytest.approx(239, abs=2)
        assert written.objects[1]["over_s"] == 60
    assert 1 + sum(count or 0 for count in written.repeats) == 3 * 60 * 4


async def test_the_first_is_told_at_once_and_what_is_left_at_the_end(
    autojump_clock: MockClock,
) -> None:
    async with open_log() as written:
        written.tell(lost_again(0.1))
        assert written.repeats == [None]
        await trio.sleep(5)
        written.tell(lost_again(0.2), lost_again(0.3))
        await trio.sleep(7)
        assert written.repeats == [None]
    assert written.repeats == [None, 2]
    assert written.objects[1]["over_s"] == 12
    assert written.objects[1]["reason"]["waited_s"] == 0.3, "it is told as the last one was"


async def test_what_is_cancelled_tells_what_it_has_counted(autojump_clock: MockClock) -> None:
    stream = io.StringIO()
    repeats = RepeatFilter(configure("json", stream=stream))
    with trio.move_on_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(repeats.run)
            log = TraceLogger(repeats, "0")
            for _ in range(3):
                log.event(lost_again())
            await trio.sleep_forever()
    assert json.loads(stream.getvalue().splitlines()[-1])["repeats"] == 2


async def test_after_a_quiet_minute_it_is_news_again(autojump_clock: MockClock) -> None:
    async with open_log() as written:
        written.tell(lost_again(), lost_again())
        await trio.sleep(60.1)
        assert written.repeats == [None, 1]
        await trio.sleep(60.1)
        written.tell(lost_again())
        assert written.repeats == [None, 1, None]


async def test_a_link_that_flaps_is_told_with_how_often(autojump_clock: MockClock) -> None:
    async with open_log("console") as written:
        for _ in range(59):
            written.tell(LinkUp(trio.current_time(), "1"))
            await trio.sleep(0.5)
            written.tell(LinkDown(trio.current_time(), "1", "closed by the other side"))
            await trio.sleep(0.5)
        written.tell(LinkUp(trio.current_time(), "2"))
        await trio.sleep(10)
    texts = [line.split("] ", 1)[1].split(" node=")[0].rstrip() for line in written.lines]
    assert texts == [
        "link to 1 up",
        "link to 1 down: closed by the other side",
        "link to 2 up",
        "link to 1 up (58 more in the last minute)",
        "link to 1 down: closed by the other side (58 more in the last minute)",
    ]


async def test_what_differs_repeats_nothing(autojump_clock: MockClock) -> None:
    at_s = trio.current_time()
    candidate, follower = Role.CANDIDATE, Role.FOLLOWER
    different = (
        RoleChanged(at_s, Role.LEADER, candidate, 3, LOG, ElectionWon(2)),
        RoleChanged(at_s, Role.LEADER, candidate, 4, LOG, ElectionWon(2)),
        RoleChanged(at_s, follower, follower, 4, LOG, HigherTerm(4, "1")),
        LinkDown(at_s, "1", "refused"),
        LinkDown(at_s, "1", "timed out"),
        LinkDown(at_s, "2", "refused"),
        Forming(at_s, ("1",), ("refused",)),
        Forming(at_s, ("1",), ("of another cluster",)),
        SnapshotSaved(at_s, 10, 100, 5),
        SnapshotSaved(at_s, 20, 100, 15),
    )
    async with open_log() as written:
        written.tell(*different)
    assert written.repeats == [None] * len(different)


async def test_each_exchange_of_certificates_is_told_at_once(autojump_clock: MockClock) -> None:
    async with open_log() as written:
        for _ in range(3):
            written.tell(CertificatesReloaded(trio.current_time(), "peers", ("0.pem",), None))
            await trio.sleep(1)
        assert written.repeats == [None] * 3


async def test_nodes_are_told_apart(autojump_clock: MockClock) -> None:
    stream = io.StringIO()
    repeats = RepeatFilter(configure("json", stream=stream))
    async with trio.open_nursery() as nursery:
        await nursery.start(repeats.run)
        for node in ("0", "1"):
            TraceLogger(repeats, node).event(lost_again())
        repeats.stop()
    assert [json.loads(line)["node"] for line in stream.getvalue().splitlines()] == ["0", "1"]


async def test_messages_dropped_are_summed(autojump_clock: MockClock) -> None:
    async with open_log() as written:
        for count in (1, 10, 100):
            written.tell(MessagesDropped(trio.current_time(), "1", count))
    assert [line["count"] for line in written.objects] == [1, 110]


async def test_strangers_with_a_thousand_reasons_are_counted_together(
    autojump_clock: MockClock,
) -> None:
    async with open_log() as written:
        for number in range(1000):
            remote = f"192.0.2.{number % 250}:{number}"
            reason = f"it calls itself {number}"
            written.tell(ConnectionRejected(trio.current_time(), remote, None, reason))
        assert len(written.lines) == KINDS_MAX + 1
    assert len(written.lines) == KINDS_MAX + 2
    assert written.objects[-1]["repeats"] == 1000 - KINDS_MAX - 1


async def test_debug_and_what_is_no_event_go_straight_through(autojump_clock: MockClock) -> None:
    stream = io.StringIO()
    repeats = RepeatFilter(configure("json", stream=stream, level="debug"))
    async with trio.open_nursery() as nursery:
        await nursery.start(repeats.run)
        for _ in range(3):
            repeats.debug("timer", trace=lost_again(), node="0")
            repeats.info("said")
        repeats.stop()
    assert len(stream.getvalue().splitlines()) == 6


def test_it_listens_where_its_logger_does() -> None:
    assert TraceLogger(RepeatFilter(configure("json")), "0").enabled
    assert not TraceLogger(RepeatFilter(configure("json", level="critical")), "0").enabled


async def test_what_goes_on_is_told_less_and_less_often(autojump_clock: MockClock) -> None:
    async with open_log() as written:
        for _ in range(2 * 3500):
            written.tell(lost_again())
            await trio.sleep(0.5)
        told = [line["over_s"] for line in written.objects if "over_s" in line]
        assert told == [60, 120, 240, 480, 900, 900]
    assert 1 + sum(count or 0 for count in written.repeats) == 2 * 3500


async def test_where_it_is_quiet_for_a_minute_it_is_news_again_however_long_it_lasted(
    autojump_clock: MockClock,
) -> None:
    async with open_log() as written:
        for _ in range(2400):
            written.tell(lost_again())
            await trio.sleep(0.5)
        before = len(written.lines)
        await trio.sleep(61)
        assert len(written.lines) == before + 1, "what was counted is told"
        written.tell(lost_again())
        assert written.repeats[-1] is None, "the next one is told at once"


AN_HOUR_S = 3600.0


def refused(number: int) -> list[Traced]:
    """Another cluster's member knocks."""
    remote = f"192.0.2.7:{1024 + number % 60000}"
    return [ConnectionRejected(trio.current_time(), remote, "7", "it is of another cluster")]


def flooded(number: int) -> list[Traced]:
    """Somebody sends whatever comes to his mind."""
    remote = f"192.0.2.{number % 250}:{1024 + number % 60000}"
    return [ConnectionRejected(trio.current_time(), remote, None, f"it calls itself {number}")]


def unreachable(_: int) -> list[Traced]:
    """A peer is down, and is tried at both of its addresses."""
    at_s = trio.current_time()
    reasons = [f"cannot connect to {host}:7000: Connection refused" for host in ("b", "10.0.0.2")]
    return [LinkDown(at_s, "1", reason) for reason in reasons]


def flapping(_: int) -> list[Traced]:
    at_s = trio.current_time()
    return [LinkUp(at_s, "1"), LinkDown(at_s, "1", "closed"), MessagesDropped(at_s, "1", 3)]


def uncertified(_: int) -> list[Traced]:
    return [CertificatesUnusable(trio.current_time(), "peers", "0.pem is not PEM")]


@pytest.mark.parametrize(
    ("happens", "every_s", "kinds"),
    [
        (refused, 0.2, 1),
        (unreachable, 0.2, 2),
        (flapping, 1.0, 3),
        (uncertified, 5.0, 1),
        (flooded, 0.2, KINDS_MAX + 1),
    ],
    ids=lambda given: given.__name__ if callable(given) else "",
)
async def test_what_lasts_an_hour_is_some_lines(
    happens: Callable[[int], list[Traced]], every_s: float, kinds: int, autojump_clock: MockClock
) -> None:
    told = 0
    async with open_log() as written:
        for number in range(round(AN_HOUR_S / every_s)):
            events = happens(number)
            told += len(events)
            written.tell(*events)
            if number == round(60 / every_s):
                assert len(written.lines) <= 2 * kinds
            await trio.sleep(every_s)
        # 60, 120, 240, 480 and three times 900 s. A flood's kinds are each told once.
        assert len(written.lines) <= (kinds + 8 if happens is flooded else 8 * kinds)
    assert sum(1 if count is None else count for count in written.repeats) == told


@asynccontextmanager
async def open_members(
    log: EventLogger | None, started: Sequence[str], storage: Storage
) -> AsyncIterator[dict[str, trio.CancelScope]]:
    """Some of three members, the first of which writes this log; each ends when it is cancelled."""
    network = MemoryNetwork(random.Random(0))
    scopes = {member: trio.CancelScope() for member in started}
    async with trio.open_nursery() as nursery:

        async def live(member: str) -> None:
            is_first = member == started[0]
            with scopes[member]:
                async with open_node(
                    member,
                    voters=("0", "1", "2"),
                    machine=CommandLog(),
                    storage=storage if is_first else MemoryStorage(),
                    transport=network.transport(member),
                    # Slower than usual: an hour of heartbeats is a minute's work.
                    timing=Timing(election_timeout_s=(6.0, 12.0), heartbeat_interval_s=2.0),
                    rng=random.Random(member),
                    logger=log if is_first else None,
                ) as node:
                    while True:  # somebody always wants something
                        with trio.move_on_after(10), suppress(RaftError):
                            await node.propose(b"x")
                        await trio.sleep(20)

        for member in started:
            nursery.start_soon(live, member)
        yield scopes
        nursery.cancel_scope.cancel()


STATES = ("no majority", "one peer away", "forming", "disk full")


@pytest.mark.parametrize("state", STATES)
async def test_a_state_that_lasts_is_a_few_lines_an_hour(
    state: str, autojump_clock: MockClock
) -> None:
    """Once it was 384,000 lines a day where a majority was missing."""
    disk = FaultyStorage(MemoryStorage(), blocking=False)
    started = ("0", "1", "2") if state != "forming" else ("0", "1")
    async with (
        open_log() as written,
        open_members(written.log._logger, started, disk) as scopes,
    ):
        await trio.sleep(30)
        away = {"no majority": ("1", "2"), "one peer away": ("2",)}.get(state, ())
        for member in away:
            scopes[member].cancel()
        disk.disk_full = state == "disk full"
        await trio.sleep(60)
        first_minute = len(written.lines)
        assert first_minute <= 40
        await trio.sleep(AN_HOUR_S)
        first_hour = len(written.lines)
        await trio.sleep(AN_HOUR_S)
        second_hour = len(written.lines) - first_hour
        assert first_hour - first_minute <= 20
        assert second_hour <= 10
        disk.disk_full = False
    if state == "no majority":
        assert sum(count or 0 for count in written.repeats) > 500
