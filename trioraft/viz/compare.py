"""Two runs beside each other: which belong together, how they differ in numbers, and at which
moments they can be laid over each other.

A difference says which way it went, not whether that is good: fewer elections are better after a
change of timing, and nothing of the kind if the second log is shorter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal, TypeAlias

import attrs

from .findings.wording import ms
from .model import Durations, Mark, MarkKind, Run

Unit: TypeAlias = Literal["count", "ms"]


@attrs.frozen
class Row:
    """One number of both runs; None: the log does not tell it."""

    name: str
    unit: Unit
    before: float | None
    after: float | None
    meaning: str

    @property
    def difference(self) -> str:
        """`−120 ms (−35 %)`, `+3`, `same`; empty if one is unknown."""
        if self.before is None or self.after is None:
            return ""
        by = self.after - self.before
        if abs(by) < (0.05 if self.unit == "ms" else 0.5):
            return "same"
        sign = "+" if by > 0 else "−"
        text = f"{sign}{value_text(abs(by), self.unit)}"
        return f"{text} ({sign}{abs(by) / self.before:.0%})" if self.before else text


def value_text(value: float | None, unit: Unit) -> str:
    """A value for a person."""
    if value is None:
        return "not known"
    return ms(value / 1000) if unit == "ms" else f"{value:,.0f}"


@attrs.frozen
class Comparison:
    """Two runs that belong together."""

    before: Run
    after: Run
    rows: tuple[Row, ...]
    is_guess: bool
    """Whether they were put together by their order only: their names differ."""


def compared(before: Sequence[Run], after: Sequence[Run]) -> list[Comparison]:
    """Runs of two logs, put together by their names, else by their order.

    Args:
        before: of the first log.
        after: of the second log; what has no partner in the other is left out.
    """
    return [
        Comparison(one, other, tuple(_rows(one, other)), is_guess)
        for one, other, is_guess in _pairs(before, after)
    ]


def _pairs(before: Sequence[Run], after: Sequence[Run]) -> Iterator[tuple[Run, Run, bool]]:
    left = list(after)
    lonely: list[Run] = []
    for run in before:
        partner = next((other for other in left if _plain(other) == _plain(run)), None)
        if partner is None:
            lonely.append(run)
        else:
            left.remove(partner)
            yield run, partner, False
    # Those without a partner of their name are all that is left to compare.
    for run, other in zip(lonely, left, strict=False):
        yield run, other, True


def _plain(run: Run) -> str:
    """`TestFollowerComesBack` and `test_follower_comes_back` tell the same story."""
    return re.sub(r"^test|[^0-9a-z]", "", run.name.lower())


# --- numbers ------------------------------------------------------------------------------------

_Measure: TypeAlias = Callable[[Run], float | None]


def _rows(before: Run, after: Run) -> Iterator[Row]:
    for name, unit, measure, meaning in _MEASURES:
        row = Row(name, unit, measure(before), measure(after), meaning)
        if row.before is not None or row.after is not None:
            yield row


def _median(name: str) -> _Measure:
    def measure(run: Run) -> float | None:
        durations: Durations | None = getattr(run.statistics, name)
        return None if durations is None else durations.median_ms

    return measure


def _timeout(which: str) -> _Measure:
    def measure(run: Run) -> float | None:
        drawn = run.statistics.election_timeout
        value: Any = None if drawn is None else getattr(drawn, which)
        return None if value is None else float(value)

    return measure


def _sent(*kinds: str) -> _Measure:
    def measure(run: Run) -> float:
        return sum(count for kind, count in run.statistics.messages.items() if kind in kinds)

    return measure


def _found(severity: str) -> _Measure:
    return lambda run: sum(finding.severity == severity for finding in run.findings)


def _first_leader_ms(run: Run) -> float | None:
    first_s = run.statistics.first_leader_s
    return None if first_s is None else first_s * 1000


def _longest_failover_ms(run: Run) -> float | None:
    return max((one.waited_s * 1000 for one in run.statistics.failovers), default=None)


def _split(run: Run) -> float:
    return sum(1 for term in run.terms if term.candidates and term.leader is None)


def _committed(run: Run) -> float | None:
    points = [point.commit_index for node in run.nodes for point in node.commits]
    return max(points, default=None)


_MEASURES: Final[tuple[tuple[str, Unit, _Measure, str], ...]] = (
    ("time to the first leader", "ms", _first_leader_ms, "From the first line of the log."),
    (
        "failover, the longest",
        "ms",
        _longest_failover_ms,
        "From the last heartbeat that reached the majority until the next leader took office.",
    ),
    ("changes of leader", "count", lambda run: len(run.statistics.failovers), ""),
    (
        "elections",
        "count",
        lambda run: run.statistics.elections,
        "Terms in which somebody asked for votes.",
    ),
    ("elections nobody won", "count", _split, "Split votes, and candidates that were cut off."),
    ("terms", "count", lambda run: run.statistics.last_term - run.statistics.first_term, ""),
    ("messages", "count", lambda run: sum(run.statistics.messages.values()), "Sent, of all kinds."),
    (
        "messages about votes",
        "count",
        _sent("RequestVote", "RequestVoteReply", "RequestPreVote", "RequestPreVoteReply"),
        "",
    ),
    ("heartbeats and entries", "count", _sent("AppendEntries", "AppendEntriesReply"), ""),
    ("messages lost", "count", lambda run: run.statistics.messages_lost, ""),
    ("vote round trip", "ms", _median("vote_round_trip"), "The median."),
    ("heartbeat round trip", "ms", _median("heartbeat_round_trip"), "The median."),
    ("heartbeat every", "ms", _median("heartbeat_interval"), "The median."),
    ("election timeout, least", "ms", _timeout("least_ms"), "As drawn."),
    ("election timeout, most", "ms", _timeout("most_ms"), "As drawn."),
    ("committed up to", "count", _committed, "The highest index that any node knew."),
    ("findings: errors", "count", _found("error"), ""),
    ("findings: warnings", "count", _found("warning"), ""),
    ("lasted", "ms", lambda run: run.duration_s * 1000, ""),
    ("nodes", "count", lambda run: len(run.nodes), ""),
)


# --- moments ------------------------------------------------------------------------------------

_LOSSES: Final[frozenset[MarkKind]] = frozenset({"disconnect", "crash", "partition", "cut"})
_RETURNS: Final[frozenset[MarkKind]] = frozenset({"reconnect", "restart", "heal", "mend"})
START: Final = "the first line"


def moments(run: Run) -> dict[str, float]:
    """The moments at which a run can be laid over another one, in seconds: those that it has."""
    found = {START: 0.0}
    candidacies = (term.start_s for term in run.terms if term.candidates)
    named: tuple[tuple[str, float | None], ...] = (
        ("the first candidacy", min(candidacies, default=None)),
        ("the first leader", run.statistics.first_leader_s),
        ("the first cut or crash", _first(run, _LOSSES)),
        ("the first way back", _first(run, _RETURNS)),
        ("the first change of leader", next((f.won_s for f in run.statistics.failovers), None)),
    )
    return found | {name: at_s for name, at_s in named if at_s is not None}


def _first(run: Run, kinds: frozenset[MarkKind]) -> float | None:
    marks: Iterator[Mark] = (mark for mark in run.marks if mark.kind in kinds)
    return next((mark.at_s for mark in marks), None)


# --- in text ------------------------------------------------------------------------------------


def comparison_text(comparison: Comparison) -> str:
    """The table for a terminal."""
    before, after = comparison.before, comparison.after
    lines = [f"{before.name} ({before.source}) and {after.name} ({after.source})"]
    if comparison.is_guess:
        lines.append("  put together by their order in the logs: their names differ")
    table = [("", "before", "after", "difference")]
    for row in comparison.rows:
        values = value_text(row.before, row.unit), value_text(row.after, row.unit)
        table.append((row.name, *values, row.difference))
    widths = [max(len(line[column]) for line in table) for column in range(4)]
    for line in table:
        cells = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        lines.append(f"  {line[0].ljust(widths[0])}  {'  '.join(cells)}".rstrip())
    return "\n".join(lines)


def comparison_plain(comparison: Comparison) -> dict[str, Any]:
    """The same for `--json`: durations in milliseconds, null where a log does not tell."""
    return {
        "before": {"name": comparison.before.name, "source": comparison.before.source},
        "after": {"name": comparison.after.name, "source": comparison.after.source},
        "is_guess": comparison.is_guess,
        "differences": [
            {
                "name": row.name,
                "unit": row.unit,
                "before": None if row.before is None else round(row.before, 3),
                "after": None if row.after is None else round(row.after, 3),
            }
            for row in comparison.rows
        ],
    }
