"""Trials to numbers: the summary of a run, as a table and as JSON.

Rules of this file:

* Times are in milliseconds from here on; seconds end in `cases`.
* Like is compared with like: `best` is the *median* over the trials of each trial's own best, and
  stands beside the median of what was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import attrs
from rich import box
from rich.console import Console
from rich.table import Table

from .. import stats
from .cases import Case, Setup, Trial, expected_best_s, round_trip_s


@final
@attrs.frozen
class Result:
    """The trials of one setup. There is at least one."""

    setup: Setup
    trials: tuple[Trial, ...]

    @property
    def round_trip_ms(self) -> float:
        """One round trip, as it was measured in these trials."""
        return round_trip_s(self.trials) * 1000

    @property
    def took_ms(self) -> list[float]:
        """What each trial took."""
        return [trial.took_s * 1000 for trial in self.trials]

    @property
    def best_ms(self) -> list[float]:
        """The theoretical best of each trial; empty if no timer counts."""
        return [
            trial.timers_s * 1000 + self.round_trip_ms
            for trial in self.trials
            if trial.timers_s is not None
        ]

    @property
    def split_votes(self) -> int:
        """Trials in which one election needed more than one term."""
        if self.setup.case is Case.ROLLING:
            return 0  # it has as many elections as it happens to restart leaders
        return sum(trial.terms > 1 for trial in self.trials)

    @property
    def calls(self) -> int:
        """Calls of clients, in all trials."""
        return sum(trial.calls for trial in self.trials)

    @property
    def failed_calls(self) -> int:
        """Those of unknown outcome."""
        return sum(trial.failed_calls for trial in self.trials)

    def summary(self) -> dict[str, Any]:
        """The row of this result in the JSON file; times in milliseconds."""
        took, best_ms = stats.summarize(self.took_ms), self.best_ms
        times_ms = {
            "min": took.min,
            "p50": took.p50,
            "p90": took.p90,
            "p99": took.p99,
            "max": took.max,
        }
        expected_s = expected_best_s(self.setup)
        if best_ms and expected_s is not None:
            above_ms = [took - best for took, best in zip(self.took_ms, best_ms, strict=True)]
            times_ms |= {
                "best": stats.percentile(best_ms, 50),
                "above_best": stats.percentile(above_ms, 50),
                "best_expected": expected_s * 1000 + self.round_trip_ms,
                "round_trip": self.round_trip_ms,
            }
        return {
            "case": self.setup.case.value,
            "nodes": self.setup.nodes,
            "n": took.n,
            **{name: round(value, 3) for name, value in times_ms.items()},
            "split_votes": self.split_votes,
            "calls": self.calls,
            "failed_calls": self.failed_calls,
            "unit": "ms",
        }


_TIMES = ("min", "p50", "p90", "p99", "max", "best")


def print_table(results: Sequence[Result], console: Console) -> None:
    """One row a result, and what the numbers mean."""
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),  # ten columns fit into eighty characters
        pad_edge=False,
        title="Time without a leader, in ms",
        title_justify="left",
        title_style="bold",
    )
    table.add_column("case", no_wrap=True)
    for name in ("nodes", "n", *_TIMES, "p50−best"):
        table.add_column(name, justify="right", no_wrap=True)
    last_case = None
    for result in results:
        row = result.summary()
        case = row["case"] if row["case"] != last_case else ""
        last_case = row["case"]
        times = [f"{row[name]:.1f}" if name in row else "–" for name in _TIMES]
        gap = f"{row['p50'] - row['best']:+.1f}" if "best" in row else "–"
        table.add_row(case, str(row["nodes"]), str(row["n"]), *times, gap)
    console.print(table)
    trips_ms = sorted(f"{result.round_trip_ms:.1f}" for result in results if result.best_ms)
    if trips_ms:
        console.print(
            "best: the least of what the followers' timers had left, plus one round trip "
            f"({'–'.join(dict.fromkeys([trips_ms[0], trips_ms[-1]]))} ms here); the median over "
            "the trials."
        )
    console.print(
        "TCP over the loopback. kill, transfer, rolling: a process and SQLite for each node, until "
        "a proposal succeeds; the others: all nodes in one process, until a leader is known."
    )
    for result in results:
        if result.calls:
            console.print(
                f"{result.setup.case.value}, {result.setup.nodes} nodes: {result.failed_calls} of "
                f"{result.calls} calls failed."
            )
        if result.split_votes:
            console.print(
                f"{result.setup.case.value}, {result.setup.nodes} nodes: {result.split_votes} of "
                f"{len(result.trials)} elections split their votes and took a further term."
            )
