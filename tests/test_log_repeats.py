"""What comes again and again is told once, and then counted: a log stays readable, and complete."""

from __future__ import annotations

import io
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from trioraft import MemoryNetwork, MemoryStorage, Timing, open_node
from trioraft.core.events import Forming, LogSummary, RoleChanged, SnapshotSaved
from trioraft.core.reasons import ElectionWon, HigherTerm, NoWinner
from trioraft.core.types import Role
from trioraft.logs import RepeatFilter, TraceLogger, configure
from trioraft.logs.event_texts import Traced
from trioraft.logs.loggers import Format
from trioraft.logs.repeats import KINDS_MAX
from trioraft.testing.cluster import CommandLog
from trioraft.transport.base import (
    CertificatesReloaded,
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


async def test_an_isolated_node_writes_some_lines_a_minute(autojump_clock: MockClock) -> None:
    """Its election is lost several times a second, for days."""
    voters = ("0", "1", "2")
    network = MemoryNetwork(random.Random(0))
    async with open_log() as written, trio.open_nursery() as nursery:
        scopes = {voter: trio.CancelScope() for voter in voters}

        async def live(node_id: str) -> None:
            with scopes[node_id]:
                async with open_node(
                    node_id,
                    voters=voters,
                    machine=CommandLog(),
                    storage=MemoryStorage(),
                    transport=network.transport(node_id),
                    timing=Timing(),
                    rng=random.Random(node_id),
                    logger=written.log._logger if node_id == "0" else None,
                ) as node:
                    await node.wait(lambda status: status.leader_id is not None)
                    await trio.sleep_forever()

        for voter in voters:
            nursery.start_soon(live, voter)
        await trio.sleep(5)
        for voter in ("1", "2"):
            scopes[voter].cancel()
        await trio.sleep(65)
        before = len(written.lines)
        await trio.sleep(600)
        assert 10 <= len(written.lines) - before <= 30
        assert sum(count or 0 for count in written.repeats[before:]) > 600
        scopes["0"].cancel()
