"""The standard library's logging in the place of structlog's, and the page about logs."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.support import open_single
from trioraft import Role
from trioraft.core.errors import ConfigError
from trioraft.core.events import RoleChanged, TermJumped
from trioraft.logs import RepeatFilter, TraceLogger
from trioraft.logs.event_texts import _TEXTS, event_kind
from trioraft.logs.loggers import _LEVELS, StandardLogger
from trioraft.transport.base import ConnectionRejected

PAGE = Path(__file__).parent.parent / "docs" / "logging.md"


class Kept(logging.Handler):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def logger_at(level: int) -> tuple[logging.Logger, Kept]:
    """One of its own, which the process does not keep."""
    logger, kept = logging.Logger("shop.raft", level), Kept()
    logger.addHandler(kept)
    return logger, kept


def told(record: logging.LogRecord, name: str) -> Any:
    return getattr(record, name)


async def test_a_node_logs_to_the_standard_library(autojump_clock: MockClock) -> None:
    logger, kept = logger_at(logging.INFO)
    async with open_single("0", ("0",), logger=logger) as node:
        await node.wait(lambda status: status.role is Role.LEADER)
    (leader,) = (
        record
        for record in kept.records
        if told(record, "event") == "role_changed" and told(record, "fields")["role"] == "Leader"
    )
    assert leader.getMessage().startswith("becomes Leader; term=1")
    assert told(leader, "node") == "0"
    assert told(leader, "fields")["term"] == 1
    assert (leader.name, leader.levelname) == ("shop.raft", "INFO")
    assert all(record.levelno >= logging.INFO for record in kept.records)


async def test_at_debug_there_is_every_message_and_no_command(autojump_clock: MockClock) -> None:
    logger, kept = logger_at(logging.DEBUG)
    async with open_single("0", ("0",), logger=logger) as node:
        await node.wait(lambda status: status.role is Role.LEADER)
        await node.propose(b"secret")
    kinds = {told(record, "event") for record in kept.records}
    assert {"commit_advanced", "election_timer_started", "role_changed"} <= kinds
    assert "secret" not in "".join(str(vars(record)) for record in kept.records)


def test_nothing_is_built_where_the_level_keeps_it_out() -> None:
    logger, kept = logger_at(logging.ERROR)
    assert not TraceLogger(logger, "0").enabled
    StandardLogger(logger).warning("term_jumped", node="0", trace=object())  # never looked at
    assert not kept.records
    assert TraceLogger(logger_at(logging.WARNING)[0], "0").enabled


def test_an_adapter_keeps_its_own_words() -> None:
    logger, kept = logger_at(logging.INFO)
    adapter = logging.LoggerAdapter(logger, {"shop": "east"})
    TraceLogger(adapter, "0").event(TermJumped(1.0, "1", 900, 3))
    assert "elections hardly explain that" in kept.records[0].getMessage()
    assert (told(kept.records[0], "shop"), told(kept.records[0], "node")) == ("east", "0")


def test_nobody_speaks_to_the_terminal_through_a_record() -> None:
    logger, kept = logger_at(logging.INFO)
    TraceLogger(logger, "0").event(ConnectionRejected(1.0, "\x1b[2Jhost", None, "100 %s %d\x07"))
    message = kept.records[0].getMessage()
    assert "\x1b" not in message
    assert "\x07" not in message
    assert "100 %s %d" in message


async def test_repeats_are_counted_there_too(autojump_clock: MockClock) -> None:
    logger, kept = logger_at(logging.INFO)
    async with trio.open_nursery() as nursery:
        repeats = RepeatFilter(logger)
        await nursery.start(repeats.run)
        log = TraceLogger(repeats, "0")
        for _ in range(59):
            log.event(TermJumped(trio.current_time(), "1", 900, 3))
            await trio.sleep(1)
        await trio.sleep(2)
        repeats.stop()
    first, second = kept.records
    assert "more in the last" not in first.getMessage()
    assert second.getMessage().endswith("(58 more in the last minute)")
    assert told(second, "fields")["repeats"] == 58


def test_an_error_brings_its_traceback() -> None:
    logger, kept = logger_at(logging.INFO)
    StandardLogger(logger).error("it failed", node="0", exc_info=ConfigError("so it is"))
    assert kept.records[0].exc_info is not None
    assert kept.records[0].exc_info[0] is ConfigError


# -- the page ------------------------------------------------------------------------------


def test_the_page_has_every_event_with_its_level() -> None:
    rows = re.findall(r"^\| (`[^|]*`) \| (\w+) \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.M)
    listed = {name: level for names, level, _ in rows for name in re.findall(r"`(\w+)`", names)}
    assert listed == {event_kind(each): _LEVELS.get(each, "debug") for each in _TEXTS}


@pytest.mark.parametrize("level", ["warning", "error"])
def test_whatever_warns_says_what_to_do(level: str) -> None:
    rows = re.findall(rf"^\| `(\w+)` \| {level} \| (.+) \|$", PAGE.read_text("utf-8"), re.M)
    assert rows
    assert all(len(re.split(r"[.:;] ", text)) > 1 for _, text in rows)


def test_the_event_that_the_page_names_is_there() -> None:
    assert event_kind(RoleChanged) == "role_changed"
