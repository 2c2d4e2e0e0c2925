"""trioraft's JSON lines, one event each, as `trioraft.logs` writes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import pairwise
from math import inf
from typing import Any, Final, TypeAlias, TypeVar

import attrs
import msgspec

from . import facts
from .model import ROLE_NAMED, LogEnd, Members, NodeName
from .raftlog import parse_test_text

_Fields: TypeAlias = Mapping[str, Any]
_T = TypeVar("_T")

NOT_SHOWN: Final = frozenset({"timestamp", "level", "node", "event", "at_s"})
"""What every line has: it is no part of the text."""
VALUE_CHARS_MAX: Final = 200


@attrs.frozen
class JsonEntry:
    """One line."""

    line: int
    node: NodeName | None
    at_s: float | None
    """By the clock of the process; a test's remark has none."""
    wall_s: float | None
    text: str
    fact: facts.Fact | None
    report: str | None = None
    """A leak report, if it is one."""


def parse_json_line(line: int, text: str) -> JsonEntry | None:
    """The line as an entry; None if it is none of ours."""
    try:
        fields = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
    if not isinstance(fields, dict) or not isinstance(event := fields.get("event"), str):
        return None
    node = fields.get("node")
    name = None if node is None else str(node)
    wall_s = _wall_s(_text(fields, "timestamp"))
    at_s = fields.get("at_s")
    at_s = float(at_s) if isinstance(at_s, int | float) and abs(at_s) < 1e12 else None
    if at_s is None and wall_s is None:
        return None
    if name is None:
        report = _text(fields, "report")
        fact: facts.Fact | None = parse_test_text(event)
        return JsonEntry(line, None, at_s, wall_s, event, fact, report)
    rule = _RULES.get(event)
    fact = None if rule is None else rule(fields)
    return JsonEntry(line, name, at_s, wall_s, _described(event, fields), fact)


def fact_of(event: str, fields: Mapping[str, Any]) -> facts.Fact | None:
    """What an event says, of its fields as JSON lines have them; None if it is nothing we know."""
    rule = _RULES.get(event)
    return None if rule is None else rule({**fields, "event": event})


def times_of(entries: list[JsonEntry]) -> list[float]:
    """When each entry was written, in seconds since the first; the order of the file is kept.
    `at_s` is the clock of one process: if it runs backwards, several wrote the file, and the wall
    clock's `timestamp` counts instead."""
    clocks = [entry.at_s for entry in entries if entry.at_s is not None]
    is_one_clock = all(one <= other + 1e-3 for one, other in pairwise(clocks))
    times = _by_clock(entries) if clocks and is_one_clock else _by_wall(entries)
    start_s = min(times, default=0.0)
    return [value - start_s for value in times]


def _by_wall(entries: list[JsonEntry]) -> list[float]:
    times: list[float] = []
    for entry in entries:
        value = entry.at_s if entry.wall_s is None else entry.wall_s
        times.append(times[-1] if value is None else value)
    return times


def _by_clock(entries: list[JsonEntry]) -> list[float]:
    """By `at_s`. A remark has none: it stands where the wall clock puts it between the events
    around it, which it cannot leave, for the clock may be a virtual one."""
    following: list[float] = []
    next_s = inf
    for entry in reversed(entries):
        next_s = next_s if entry.at_s is None else entry.at_s
        following.append(next_s)
    times: list[float] = []
    last_wall_s: float | None = None
    for entry, next_s in zip(entries, reversed(following), strict=True):
        value = entry.at_s
        if value is None:
            last_s = times[-1] if times else next_s
            passed_s = 0.0
            if entry.wall_s is not None and last_wall_s is not None:
                passed_s = max(0.0, entry.wall_s - last_wall_s)
            value = min(last_s + passed_s, next_s)
        times.append(value)
        last_wall_s = entry.wall_s
    return times


def _wall_s(stamp: str | None) -> float | None:
    if stamp is None:
        return None
    try:
        return datetime.fromisoformat(stamp).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


# --- fields ---------------------------------------------------------------------------------


def _text(fields: _Fields, name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) else None


def _number(fields: _Fields, name: str) -> int | None:
    value = fields.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _described(event: str, fields: _Fields) -> str:
    """`role_changed role=Leader previous=Candidate term=1 …`."""
    parts = [event]
    for name, value in fields.items():
        if name not in NOT_SHOWN:
            parts.append(f"{name}={_shown(value)[:VALUE_CHARS_MAX]}")
    return " ".join(parts)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        if isinstance(text := value.get("text"), str):
            return f'"{text}"'
        kind = value.get("type", "")
        inner = " ".join(f"{key}:{_shown(item)}" for key, item in value.items() if key != "type")
        return f"{kind}{{{inner}}}"
    if isinstance(value, list):
        return f"[{' '.join(_shown(item) for item in value)}]"
    return str(value)


def _role_changed(fields: _Fields) -> facts.Fact | None:
    role = ROLE_NAMED.get(_text(fields, "role") or "")
    if role is None:
        return None
    reason = fields.get("reason")
    text = _text(reason, "text") if isinstance(reason, dict) else None
    log = fields.get("log")
    log_end = _end(log, "last_index", "last_term") if isinstance(log, dict) else None
    return facts.Became(role, _number(fields, "term"), text, log_end)


def _end(fields: _Fields, index_name: str, term_name: str) -> LogEnd | None:
    index, term = _number(fields, index_name), _number(fields, term_name)
    return None if index is None or term is None else LogEnd(index, term)


def _timer_started(fields: _Fields) -> facts.Fact | None:
    timeout_s, term = fields.get("timeout_s"), _number(fields, "term")
    if not isinstance(timeout_s, int | float) or not abs(timeout_s) < 1e12 or term is None:
        return None
    return facts.TimerStarted(float(timeout_s), term)


def _message_received(fields: _Fields) -> facts.Fact | None:
    packet = _packet(fields.get("message"))
    if packet is None:
        return None
    return facts.Received(packet, _number(fields, "term"), _text(fields, "voted_for"))


_SET_BY_SENDER: Final = ("type", "sender", "receiver")


def _packet(message: object) -> facts.Packet | None:
    if not isinstance(message, dict) or (kind := _text(message, "type")) is None:
        return None
    entries = message.get("entries")
    count = _number(entries, "count") if isinstance(entries, dict) else None
    positive = message.get("vote_granted", message.get("success"))
    rest = {name: value for name, value in message.items() if name not in _SET_BY_SENDER}
    return facts.Packet(
        kind,
        _text(message, "sender"),
        _text(message, "receiver"),
        _number(message, "term"),
        _shown(rest),
        positive if isinstance(positive, bool) else None,
        count or 0,
        _log_end(kind, message, count or 0),
    )


def _log_end(kind: str, message: _Fields, count: int) -> LogEnd | None:
    """As `raftlog` finds it in a line."""
    if kind == "RequestVote":
        return _end(message, "last_log_index", "last_log_term")
    end = _end(message, "prev_log_index", "prev_log_term") if kind == "AppendEntries" else None
    if end is None or not count:
        return end
    # Of which term the last entry is, the line does not say; the leader's own is the likeliest.
    return LogEnd(end.index + count, _number(message, "term") or end.term)


def _configuration_changed(fields: _Fields) -> facts.Fact | None:
    configuration = fields.get("configuration")
    if not isinstance(configuration, dict):
        return None
    index = _number(configuration, "index")
    names = [configuration.get(name) for name in ("voters", "outgoing", "learners")]
    groups = [tuple(map(str, name)) if isinstance(name, list) else () for name in names]
    if index is None or not groups[0]:
        return None
    return facts.Configured(index, Members(*groups))


def _forming(fields: _Fields) -> facts.Fact | None:
    names = fields.get("waiting_for")
    return facts.Forming(tuple(map(str, names))) if isinstance(names, list) else None


def _given(value: _T | None, fact: Callable[[_T], facts.Fact]) -> facts.Fact | None:
    return None if value is None else fact(value)


def _link(fields: _Fields) -> facts.Fact | None:
    is_up = fields["event"] == "link_up"
    return _given(_text(fields, "peer"), lambda peer: facts.LinkChanged(peer, is_up))


_RULES: Final[Mapping[str, Callable[[_Fields], facts.Fact | None]]] = {
    "role_changed": _role_changed,
    "election_timer_started": _timer_started,
    "message_sent": lambda fields: _given(_packet(fields.get("message")), facts.Sent),
    "message_received": _message_received,
    "commit_advanced": lambda fields: _given(_number(fields, "commit_index"), facts.Committed),
    "link_up": _link,
    "link_down": _link,
    "listening": lambda _: facts.Appeared(),
    "configuration_changed": _configuration_changed,
    "forming": _forming,
    "transfer_started": lambda fields: _given(_text(fields, "target"), facts.TransferStarted),
}
