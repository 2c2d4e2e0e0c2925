"""What `benchmarks.throughput` measured, as tables and as JSON.

Rules of this file:

* Beside a figure of trioraft stands its ratio to PySyncObj's of the same run, or nothing.
* What a figure is of stands below the table, with whatever limits its worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import attrs
from rich import box
from rich.console import Console
from rich.table import Table

from ..commands import machine
from .cases import COMMAND_BYTES, NODES, Case, Mode, System
from .measuring import Endurance, Restart, Result, Settings

NOTES = (
    f"{NODES} processes on this machine, TCP over the loopback, commands of {COMMAND_BYTES} "
    "bytes. The load runs in the leader's process, as in a program that embeds a node. tasks: so "
    "many await propose, again and again; window: one task keeps so many submitted. CPU: of all "
    "processes, for one command. RSS: the leader's peak, with what the measurement itself keeps."
)
PYSYNCOBJ_NOTE = (
    "PySyncObj: its defaults, the next command issued by each callback; it has no window, so "
    "both modes are the same there. Its journal is flushed before anything leaves a node, which "
    "it does not do by itself."
)


@final
@attrs.define
class Measured:
    """Everything so far."""

    results: list[Result] = attrs.field(factory=list)
    endurance: list[Endurance] = attrs.field(factory=list)
    restarts: list[Restart] = attrs.field(factory=list)
    was_interrupted: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to tell."""
        return not (self.results or self.endurance or self.restarts)


def document(measured: Measured, settings: Settings) -> dict[str, Any]:
    """The content of the JSON file."""
    return {
        "results": [result.row() for result in measured.results],
        "endurance": [endurance.row() for endurance in measured.endurance],
        "restart": [restart.row() for restart in measured.restarts],
        "settings": {
            "nodes": NODES,
            "command_bytes": COMMAND_BYTES,
            "seconds": settings.seconds,
            "gc": settings.collector.value,
            "profiled": settings.profile is not None,
        },
        "machine": machine(),
        "interrupted": measured.was_interrupted,
    }


def ratio_of(result: Result, results: Sequence[Result]) -> float | None:
    """How many times PySyncObj's throughput under the same load this is."""
    if result.case.system is not System.TRIORAFT:
        return None
    for other in results:
        if other.case.system is System.PYSYNCOBJ and other.case.peers == result.case.peers:
            return result.ops_per_s / other.ops_per_s
    return None


def load_name(case: Case) -> str:
    """How much load, in words."""
    if case.mode is Mode.OPEN:
        return f"{case.concurrency:,} a second"
    if case.mode is Mode.WINDOW:
        return f"window {case.concurrency:,}"
    return f"{case.concurrency:,} task{'s' if case.concurrency > 1 else ''}"


def print_tables(measured: Measured, console: Console) -> None:
    """Everything that was measured."""
    if measured.results:
        _print_throughput(measured.results, console)
    if measured.endurance:
        _print_endurance(measured.endurance, console)
    if measured.restarts:
        _print_restarts(measured.restarts, console)


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )


def _print_throughput(results: Sequence[Result], console: Console) -> None:
    table = _table("Throughput and latency")
    for name in ("load", "system", "storage"):
        table.add_column(name, no_wrap=True)
    for name in ("ops/s", "×", "p50 ms", "p99 ms", "CPU µs", "RSS MB"):
        table.add_column(name, justify="right", no_wrap=True)
    previous: tuple[bool, Mode, int] | None = None
    for result in results:
        case = result.case
        if previous is not None and previous[0] is not case.peers[0]:
            table.add_section()
        ratio = ratio_of(result, results)
        table.add_row(
            "" if case.peers == previous else load_name(case),
            case.system.value,
            case.storage.value,
            f"{result.ops_per_s:,.0f}",
            "" if ratio is None else f"{ratio:.1f}",
            _milliseconds(result.p50_ms),
            _milliseconds(result.p99_ms),
            f"{result.cpu_us_per_op:,.1f}",
            f"{result.rss_mb:.0f}",
        )
        previous = case.peers
    console.print(table)
    console.print(NOTES)
    if any(result.case.system is System.PYSYNCOBJ for result in results):
        console.print(PYSYNCOBJ_NOTE)
    busiest = max(result.load_average for result in results)
    console.print(f"Load average of this machine meanwhile: up to {busiest:.1f}.\n")


def _milliseconds(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _print_endurance(runs: Sequence[Endurance], console: Console) -> None:
    table = _table("Does a command become dearer while the log grows?")
    table.add_column("storage", no_wrap=True)
    for name in (
        "entries",
        "first fifth",
        "last fifth",
        "change",
        "CPU µs",
        "last",
        "RSS MB max",
        "at the end",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for run in runs:
        row = run.row()
        table.add_row(
            row["storage"],
            f"{row['entries']:,}",
            f"{row['first_fifth_ops_per_s']:,.0f}/s",
            f"{row['last_fifth_ops_per_s']:,.0f}/s",
            f"{row['change_percent']:+.1f} %",
            f"{row['first_fifth_cpu_us']:.1f}",
            f"{row['last_fifth_cpu_us']:.1f}",
            f"{row['rss_mb_max']:.0f}",
            f"{row['rss_mb_end']:.0f}",
        )
    console.print(table)
    console.print("Default limits: snapshots on the way, the log cut after each.\n")


def _print_restarts(runs: Sequence[Restart], console: Console) -> None:
    table = _table("How long does a node take to come back? (SQLite)")
    table.add_column("log", no_wrap=True)
    for name in ("entries", "open s", "applied s", "RSS MB"):
        table.add_column(name, justify="right", no_wrap=True)
    for run in runs:
        table.add_row(
            "cut by snapshots" if run.with_snapshots else "whole",
            f"{run.entries:,}",
            f"{run.open_s:.2f}",
            f"{run.applied_s:.2f}",
            f"{run.rss_mb:.0f}",
        )
    console.print(table)
    console.print(
        "A follower was killed and started again. open: its log is loaded and checked; applied: "
        "its state machine stands where it stood, and it follows the leader. The start of Python "
        "comes on top.\n"
    )
