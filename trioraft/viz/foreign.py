"""Logs of other Raft libraries, as people paste them into issues: etcd's, hashicorp/raft's.

Rules of this file:

* A line is a prelude, which many programs write (times, hosts, levels, places in the source), and a
  sentence, which only the library writes: here stands the prelude, `etcd` and `hashicorp` know the
  sentences.
* Many lines do not say whose they are. They belong to whoever wrote the log; if a log has several
  writers, and nothing tells which, they are nobody's (`Entry.node` is None).
* What such logs leave open is told to the reader of the page (`unknowns`), not guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias, final

import attrs
import msgspec

from . import etcd, hashicorp
from .facts import Fact
from .model import NodeName

LEVELS: Final = frozenset(
    {"TRACE", "DEBUG", "INFO", "WARN", "WARNING", "ERR", "ERROR", "CRITICAL", "FATAL"}
)
"""Words in brackets that are no node's name."""
TEXT_CHARS_MAX: Final = 2000


@attrs.frozen
class ForeignEntry:
    """A line, understood as far as that goes."""

    line: int
    wall_s: float | None
    node: NodeName | None
    text: str
    facts: tuple[Fact, ...] = ()


_Parsed: TypeAlias = etcd.Parsed | hashicorp.Parsed


@attrs.frozen
class _Line:
    number: int
    wall_s: float | None
    origin: str
    text: str
    parsed: _Parsed | None


# --- preludes -----------------------------------------------------------------------------------

_ISO: Final = re.compile(
    r"(\d{4})[-/](\d\d)[-/](\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?"
    r"(Z|[+-]\d\d:?\d\d)?(?![\d:])"
)
_SYSLOG: Final = re.compile(
    r"(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) {1,2}(\d{1,2}) (\d\d):(\d\d):(\d\d) "
    r"(?:([\w.-]{1,253}) [\w./-]{1,64}(?:\[\d{1,10}\])?: )?"
)
_CLOCK: Final = re.compile(r"(?<![\d:])(\d\d):(\d\d):(\d\d)\.(\d{3,9})(?![\d:])")
_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
_PREFIX: Final = re.compile(r"^\W{0,3}([\w.-]{1,64})\W{0,3}(?:\(?\d{1,9}\)?)?\W{0,6}(?:raft\s)?$")
PRELUDE_CHARS_MAX: Final = 200
"""Where a time may stand in a line."""


@attrs.frozen
class _Prelude:
    wall_s: float | None
    origin: str
    is_exact: bool
    """Whether the time has parts of a second."""
    ends_at: int = 0
    """Where in the line the time ends: what follows is the text."""


def _prelude(line: str) -> _Prelude:
    """Time and origin: of several times the last one, which the program itself wrote, unless an
    earlier one is more exact."""
    head = line[:PRELUDE_CHARS_MAX]
    first_at, ends_at = len(head), 0
    origin = ""
    times: list[tuple[bool, float]] = []
    if (match := _SYSLOG.search(head)) is not None:
        first_at, ends_at = match.span()
        origin = match[6] or ""
        day, hour, minute, second = (int(match[group]) for group in (2, 3, 4, 5))
        times += _moment(2000, _MONTHS.index(match[1]) + 1, day, hour, minute, second, None, None)
    if (match := _ISO.search(head)) is not None:
        first_at, ends_at = min(first_at, match.start()), max(ends_at, match.end())
        year, month, day, hour, minute, second = (int(match[group]) for group in range(1, 7))
        times += _moment(year, month, day, hour, minute, second, match[7], match[8])
    if not times and (match := _CLOCK.search(head)) is not None:
        first_at, ends_at = match.span()
        hour, minute, second = (int(match[group]) for group in (1, 2, 3))
        times += _moment(2000, 1, 1, hour, minute, second, match[4], None)
    if not origin and 0 < first_at < len(head):
        found = _PREFIX.match(head[:first_at])
        origin = found[1] if found is not None and found[1].lower() not in _NO_ORIGIN else ""
    exact = [time for time in times if time[0]] or times
    if not exact:
        return _Prelude(None, origin, is_exact=False)
    return _Prelude(exact[-1][1], origin, exact[-1][0], ends_at)


_NO_ORIGIN: Final = frozenset({"raft", "etcd", "consul", "vault", "nomad", "ts", "time"})


def _moment(
    year: int,
    month: int,
    day: int,
    hour: int,
    minute: int,
    second: int,
    fraction: str | None,
    zone: str | None,
) -> list[tuple[bool, float]]:
    """Whether it has parts of a second, and the time; nothing if there is no such time."""
    try:
        whole = datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
    except ValueError:
        return []
    part_s = 0.0 if fraction is None else int(fraction) / 10 ** len(fraction)
    return [(fraction is not None, whole + part_s - _offset_s(zone))]


def _offset_s(zone: str | None) -> float:
    if zone is None or zone == "Z":
        return 0.0
    digits = zone[1:].replace(":", "")
    return (-1 if zone[0] == "-" else 1) * (int(digits[:2]) * 3600.0 + int(digits[2:]) * 60.0)


# --- a whole log --------------------------------------------------------------------------------

_MAYBE: Final = ("raft", " at term ", "became ", "entering ")


@final
class ForeignLog:
    """Collects the lines of one file."""

    def __init__(self) -> None:
        self._lines: list[_Line] = []
        self._is_exact = False
        self._is_known = False

    @property
    def has_entries(self) -> bool:
        """Whether any line was one of another library."""
        return self._is_known

    def take(self, number: int, line: str) -> bool:
        """Whether the line is one of another library's log; once one was, every line with a time
        is, too: what the program around it says belongs to the story."""
        is_likely = any(word in line for word in _MAYBE)
        if not is_likely and not self._is_known:
            return False
        prelude, text = _plain(line) if line.startswith("{") else (_prelude(line), line)
        parsed = etcd.parse(text) or hashicorp.parse(text) if is_likely else None
        if parsed is None and (not self._is_known or prelude.wall_s is None):
            return False
        self._is_known = True
        self._is_exact = self._is_exact or prelude.is_exact
        text = text[prelude.ends_at :].strip()[:TEXT_CHARS_MAX]
        self._lines.append(_Line(number, prelude.wall_s, prelude.origin, text, parsed))
        return True

    def entries(self) -> list[ForeignEntry]:
        """The lines as entries, in their order."""
        found: list[ForeignEntry] = []
        rafts = [line for line in self._lines if isinstance(line.parsed, etcd.Parsed)]
        teller = etcd.Teller() if rafts else None
        speaker = hashicorp.Teller(
            [
                (line.origin, line.parsed)
                for line in self._lines
                if isinstance(line.parsed, hashicorp.Parsed)
            ]
        )
        owner_of = {line.origin: line.parsed.node for line in rafts if line.parsed is not None}
        owners = {line.parsed.node for line in rafts if line.parsed is not None}
        for line in self._lines:
            facts: tuple[Fact, ...] = ()
            match line.parsed:
                case etcd.Parsed() as parsed if teller is not None:
                    node: NodeName | None = parsed.node
                    facts = teller.tell(parsed)
                case hashicorp.Parsed() as parsed:
                    node, facts = speaker.tell(line.origin, parsed)
                case _ if rafts:
                    is_theirs = line.origin or len(owners) == 1
                    node = owner_of.get(line.origin) if is_theirs else None
                case _:
                    node = speaker.owner(line.origin)
            found.append(ForeignEntry(line.number, line.wall_s, node, line.text, facts))
        return found

    def names(self) -> Mapping[NodeName, str]:
        """The host of each node, where the log has both."""
        names: dict[NodeName, str] = {}
        for line, entry in zip(self._lines, self.entries(), strict=True):
            if line.origin and entry.node is not None and entry.node != line.origin:
                names.setdefault(entry.node, line.origin)
        return names

    def unknowns(self) -> list[str]:
        """What the page has to say about a log like this."""
        told: list[str] = []
        if any(isinstance(line.parsed, etcd.Parsed) for line in self._lines):
            told += etcd.UNKNOWNS
        theirs = [
            (line.origin, line.parsed)
            for line in self._lines
            if isinstance(line.parsed, hashicorp.Parsed)
        ]
        if theirs:
            told += hashicorp.UNKNOWNS
            told += hashicorp.doubts(parsed for _, parsed in theirs)
            if hashicorp.Teller(theirs).has_nameless():
                told.append(
                    "Some who wrote never said their address: a lane with a host's name may be the "
                    "same node as one with an address."
                )
        if not self._is_exact:
            told.append(
                "Times are to the second: what happened within one stands in the order of the "
                "lines, and durations are to the second, too."
            )
        if any(entry.node is None and entry.facts for entry in self.entries()):
            told.append(
                "Several nodes wrote into one log, and some lines do not say whose they are: they "
                "stand in the test's row."
            )
        return told


def _plain(line: str) -> tuple[_Prelude, str]:
    """A JSON line of zap or hclog as time and text."""
    try:
        fields = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return _Prelude(None, "", is_exact=False), line
    if not isinstance(fields, dict):
        return _Prelude(None, "", is_exact=False), line
    stamp = fields.get("ts", fields.get("@timestamp"))
    if isinstance(stamp, int | float) and abs(stamp) < 1e12:
        prelude = _Prelude(float(stamp), "", is_exact=True)
    else:
        prelude = attrs.evolve(_prelude(str(stamp)), ends_at=0)
    message = fields.get("msg", fields.get("@message"))
    if not isinstance(message, str):
        return prelude, line
    return prelude, _with_fields(message, fields)


_NOT_SHOWN: Final = frozenset(
    {"level", "ts", "caller", "msg", "logger", "stacktrace"}
    | {"@level", "@message", "@module", "@timestamp", "@caller"}
)


def _with_fields(message: str, fields: Mapping[str, Any]) -> str:
    """`entering candidate state: node="Node at …" term=18`, as hclog writes it in text."""
    parts = [
        f'{name}="{value}"' if " " in str(value) else f"{name}={value}"
        for name, value in fields.items()
        if name not in _NOT_SHOWN
    ]
    module = fields.get("@module")
    head = f"{module}: {message}" if isinstance(module, str) else message
    return f"{head}: {' '.join(parts)}" if parts else head
