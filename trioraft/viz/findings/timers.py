"""Election timers that should not be there, and what a leak check found."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from ..cluster import ClusterView
from ..facts import TimerBailed
from ..model import Finding, NodeName, NodeTrace, Run, Timer
from ..raftlog import parse_text
from .wording import finding, ms, terms

SAME_TERM_S: Final = 0.02
"""The Go project's timers look up every 10 ms; within one term nothing makes them notice."""
OTHER_TERM_S: Final = 0.1
"""A timer of an old term notices within 10 ms, on a busy machine within this."""
TOGETHER_S: Final = 0.05
"""Timers that end within this time ended for the same cause."""
EARLY: Final = 0.5
"""A candidacy before this part of the newest timer's time is another timer's doing."""


def orphan_timers(cluster: ClusterView) -> Iterator[Finding]:
    """A node had more than one election timer at once; one finding a stretch of time."""
    run = cluster.run
    bails = _bails(run)
    for node in run.nodes:
        found = [*_overlaps(node), *_early_expiries(run, node)]
        covered = [(at_s, end_s) for at_s, end_s, _ in found]
        found += [
            together
            for together in _bails_together(run, bails.get(node.name, []))
            if not any(start_s <= together[1] <= end_s + TOGETHER_S for start_s, end_s in covered)
        ]
        for start_s, end_s, entries in _merged(found):
            yield _orphans(run, node, start_s, end_s, entries)


_Stretch = tuple[float, float, frozenset[int]]


def _overlaps(node: NodeTrace) -> Iterator[_Stretch]:
    """Two timers alive at once, the older one for longer than it needs to notice."""
    alive: list[Timer] = []
    for timer in node.timers:
        alive = [older for older in alive if older.end_s > timer.start_s]
        for older in alive:
            both_s = min(older.end_s, timer.end_s) - timer.start_s
            limit_s = SAME_TERM_S if older.term == timer.term else OTHER_TERM_S
            if both_s <= limit_s or not (_ends_by_itself(older) and _ends_by_itself(timer)):
                continue
            entries = {older.start_entry, timer.start_entry}
            entries |= {timer.end_entry or 0, older.end_entry or 0}
            yield timer.start_s, timer.start_s + both_s, frozenset(entries)
        alive.append(timer)


def _ends_by_itself(timer: Timer) -> bool:
    return timer.end in ("bailed out", "expired") and timer.end_entry is not None


def _early_expiries(run: Run, node: NodeTrace) -> Iterator[_Stretch]:
    """A candidate asks again long before its timer can have expired."""
    for before, span in pairwise(node.roles):
        if (before.role, span.role) != ("Candidate", "Candidate") or span.reason is not None:
            continue
        newest = max(
            (timer for timer in node.timers if before.start_s <= timer.start_s < span.start_s),
            key=lambda timer: timer.start_s,
            default=None,
        )
        older = [timer for timer in node.timers if timer.start_s < before.start_s]
        if newest is None or len(older) < 2 or span.entry is None or before.entry is None:
            continue
        if span.start_s - newest.start_s < EARLY * newest.timeout_s:
            entries = frozenset({before.entry, newest.start_entry, span.entry})
            yield before.start_s, span.start_s, entries


def _bails(run: Run) -> dict[NodeName, list[tuple[int, int | None]]]:
    """Entry and start term of every timer that bailed out, by node."""
    bails: dict[NodeName, list[tuple[int, int | None]]] = {}
    for index, entry in enumerate(run.entries):
        if entry.node is None or not entry.text.startswith("in election timer "):
            continue
        fact = parse_text(entry.text, entry.node)
        if isinstance(fact, TimerBailed):
            bails.setdefault(entry.node, []).append((index, fact.from_term))
    return bails


def _bails_together(run: Run, bails: list[tuple[int, int | None]]) -> Iterator[_Stretch]:
    """Several timers bailed out for the same cause at the same time."""
    for (first, first_term), (second, second_term) in pairwise(bails):
        start_s, end_s = run.entries[first].at_s, run.entries[second].at_s
        if first_term == second_term and 0 <= end_s - start_s <= TOGETHER_S:
            yield start_s, end_s, frozenset({first, second})


def _merged(stretches: list[_Stretch]) -> list[_Stretch]:
    merged: list[_Stretch] = []
    for start_s, end_s, entries in sorted(stretches, key=lambda stretch: stretch[:2]):
        if merged and start_s <= merged[-1][1] + TOGETHER_S:
            last = merged.pop()
            merged.append((last[0], max(last[1], end_s), last[2] | entries))
        else:
            merged.append((start_s, end_s, entries))
    return merged


def _orphans(
    run: Run, node: NodeTrace, start_s: float, end_s: float, entries: frozenset[int]
) -> Finding:
    alive = [
        timer
        for timer in node.timers
        if timer.start_s <= end_s and timer.end_s >= start_s and _ends_by_itself(timer)
    ]
    numbers = sorted({timer.term for timer in alive})
    bailed = sum(1 for entry in entries if run.entries[entry].text.startswith("in election timer"))
    expired = sum(1 for entry in entries if "becomes" in run.entries[entry].text)
    count = max(2, _most_at_once(alive), bailed)
    ends = [f"{bailed} bailed out"] * (bailed > 0) + [f"{expired} expired"] * (expired > 0)
    where = f" of {terms(numbers)}" if numbers else ""
    return finding(
        run,
        "orphan-timer",
        "warning",
        terms=numbers,
        nodes=(node.name,),
        start_s=start_s,
        end_s=end_s,
        detail=f"Node {node.name} had {count} election timers{where} at once, for "
        f"{ms(end_s - start_s)}: {' and '.join(ends) or 'they ended together'}. A timer that was "
        "replaced must be stopped, or it begins elections of its own.",
        entries=entries,
    )


def _most_at_once(timers: list[Timer]) -> int:
    changes = [(timer.start_s, 1) for timer in timers] + [(timer.end_s, -1) for timer in timers]
    most = now = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


def leaks(cluster: ClusterView) -> Iterator[Finding]:
    """What the leak check reported."""
    run = cluster.run
    for leak in run.leaks:
        where = f" It is at {leak.place}" if leak.place is not None else ""
        started = ""
        if leak.started_at is not None and leak.started_at != leak.place:
            started = f"{',' if where else ' It was'} started by {leak.started_at}"
        elif leak.started_at is not None:
            where = f" It was started at {leak.place}"
        yield finding(
            run,
            "leak",
            "error",
            terms=(),
            nodes=(),
            start_s=run.duration_s,
            end_s=run.duration_s,
            detail=f"The leak check found {leak.what} still there after the end."
            + (f"{where}{started}." if where or started else ""),
            lines=(leak.line,),
        )
