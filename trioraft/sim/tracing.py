"""Tracing: a traced run as a raftlog, which `trioraft viz` reads.

Rules of this file: virtual time is the only time in it, so that the same run gives the same file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from ..logs.raftlog import RaftlogRun, WallClock, run_name
from .outcomes import RunOutcome, TraceLine

EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""When every simulation begins."""


def raftlog_lines(outcome: RunOutcome) -> Iterator[str]:
    """The run, line by line: header, entries, status."""
    run = RaftlogRun(run_name(f"sim tier {outcome.tier} seed {outcome.seed}"), clock=_clock())
    yield run.header()
    for line in _in_order(outcome.trace):
        if isinstance(line.what, str):
            yield from run.remark_lines(line.node_id, line.what, line.at_s)
        elif line.node_id is not None:
            yield from run.event_lines(line.node_id, line.what)
    verdict = "PASS" if outcome.failure is None else "FAIL"
    yield f"--- {verdict}: {run.name} ({outcome.virtual_s:.2f}s)"


def _clock() -> WallClock:
    return WallClock(lambda: EPOCH)


def _in_order(trace: Sequence[TraceLine]) -> list[TraceLine]:
    return sorted(trace, key=lambda line: line.at_s)  # stable: what came first stays first
