"""Trials to numbers: the summary of a run, as a table and as JSON.

Rules of this file:

* Times are in milliseconds from here on; seconds end in `election_cases`.
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

from . import stats
from .election_cases import Setup, Trial, expected_best_s, round_trip_s


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
        """The theoretical best of each trial."""
        return [trial.timers_s * 1000 + self.round_trip_ms for trial in self.trials]

    @property
    def split_votes(self) -> int:
        """Trials that needed more than one term."""
        return sum(trial.terms > 1 for trial in self.trials)

    def summary(self) -> dict[str, Any]:
        """The row of this result in the JSON file; times in milliseconds."""
        took, best_ms = stats.summarize(self.took_ms), self.best_ms
        above_ms = [took - best for took, best in zip(self.took_ms, best_ms, strict=True)]
        times_ms = {
            "min": took.min,
            "p50": took.p50,
            "p90": took.p90,
            "p99": took.p99,
            "max": took.max,
            "best": stats.percentile(best_ms, 50),
            "above_best": stats.percentile(above_ms, 50),
            "best_expected": expected_best_s(self.setup) * 1000 + self.round_trip_ms,
            "round_trip": self.round_trip_ms,
        }
        return {
            "case": self.setup.case.value,
            "nodes": self.setup.nodes,
            "n": took.n,
            **{name: round(value, 3) for name, value in times_ms.items()},
            "split_votes": self.split_votes,
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
        times = [f"{row[name]:.1f}" for name in _TIMES]
        gap = f"{row['p50'] - row['best']:+.1f}"
        table.add_row(case, str(row["nodes"]), str(row["n"]), *times, gap)
    console.print(table)
    trips_ms = sorted(f"{result.round_trip_ms:.1f}" for result in results)
    console.print(
        "best: the least of what the followers' timers had left, plus one round trip "
        f"({'–'.join(dict.fromkeys([trips_ms[0], trips_ms[-1]]))} ms here); the median over the "
        "trials. All nodes in one process, TCP over the loopback."
    )
    for result in results:
        if result.split_votes:
            console.print(
                f"{result.setup.case.value}, {result.setup.nodes} nodes: {result.split_votes} of "
                f"{len(result.trials)} elections split their votes and took a further term."
            )
