"""What all findings share: words, pointers, and what counts as long, measured by the run itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ..model import Finding, FindingKind, NodeName, Run, Severity

POINTERS_MAX: Final = 12
"""Lines that a finding points to."""


def ms(seconds: float) -> str:
    """`12 ms`, `0.7 ms`, `3.2 s`."""
    value = seconds * 1000
    if value >= 10_000:
        return f"{seconds:.1f} s"
    return f"{value:.0f} ms" if value >= 9.95 or value == 0 else f"{value:.1f} ms"


def ms_range(least_s: float, most_s: float) -> str:
    """`150–300 ms`, or `150 ms` if both are the same."""
    least, most = f"{least_s * 1000:.0f}", f"{most_s * 1000:.0f}"
    return f"{least} ms" if least == most else f"{least}–{most} ms"


def listed(names: Sequence[str]) -> str:
    """`0`, `0 and 1`, `0, 1 and 2`."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def nodes(names: Sequence[NodeName]) -> str:
    """`node 0`, `nodes 0 and 1`."""
    return f"node{'' if len(names) == 1 else 's'} {listed(names)}"


def terms(numbers: Sequence[int]) -> str:
    """`term 3`, `terms 2–7`, `terms 2 and 9`."""
    if len(numbers) == 1:
        return f"term {numbers[0]}"
    if numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"terms {numbers[0]}–{numbers[-1]}"
    return f"terms {listed([str(number) for number in numbers])}"


def times(count: int) -> str:
    """`once`, `twice`, `5 times`."""
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def finding(
    run: Run,
    kind: FindingKind,
    severity: Severity,
    *,
    terms: Iterable[int],
    nodes: Iterable[NodeName],
    start_s: float,
    end_s: float,
    detail: str,
    entries: Iterable[int | None] = (),
    lines: Iterable[int] = (),
) -> Finding:
    """A finding, its pointers sorted, without doubles, and few.

    Args:
        run: that it is about.
        kind: which.
        severity: how bad.
        terms: that it is about.
        nodes: that it is about, the most important first.
        start_s: since when.
        end_s: until when.
        detail: the sentence.
        entries: indexes of the entries that show it; None is left out.
        lines: line numbers that show it and are no entries.
    """
    known = sorted({entry for entry in entries if entry is not None})[:POINTERS_MAX]
    pointed = {run.entries[entry].line for entry in known} | set(lines)
    return Finding(
        kind,
        severity,
        tuple(sorted(set(terms))),
        tuple(dict.fromkeys(nodes)),
        start_s,
        max(start_s, end_s),
        detail,
        tuple(sorted(pointed)[:POINTERS_MAX]),
        tuple(known),
    )


TIMEOUTS_PER_FAILOVER: Final = 3.0
"""A leader is noticed missing after one timeout, and elected in the next; three are long."""
TIMEOUT_UNKNOWN_S: Final = 1.0
"""Taken for the longest timeout if the log shows none."""


def longest_timeout_s(run: Run) -> float:
    """The longest election timeout that was drawn."""
    drawn = run.statistics.election_timeout
    return TIMEOUT_UNKNOWN_S if drawn is None else drawn.most_ms / 1000


def shortest_timeout_s(run: Run) -> float:
    """The shortest election timeout that was drawn; 0 if none is known."""
    drawn = run.statistics.election_timeout
    return 0.0 if drawn is None else drawn.least_ms / 1000


def leaderless_limit_s(run: Run) -> float:
    """Without a leader for longer than this, something is wrong."""
    return TIMEOUTS_PER_FAILOVER * longest_timeout_s(run)
