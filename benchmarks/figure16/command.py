"""The Raft paper's figure 16 in virtual time: how long a cluster is without a leader.

Rules of this file:

* It only tells what `trials` measured; what is measured, and the model, stand there.
* Our numbers stand beside the paper's, in the table and in the plots, whether they flatter or not.
* Nothing is written before everything is measured; what would fail later is found out first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import attrs

try:
    import typer
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table
except ModuleNotFoundError as error:
    raise SystemExit(
        f"{error.name} is not installed here: install the extra trioraft[bench]"
    ) from None

from .. import plots, stats
from ..commands import EXIT_FAILED, EXIT_INTERRUPTED, table_console, why_not_writable
from .trials import (
    CUT_S,
    DISK_WRITE_MEAN_S,
    LOG_LENGTHS,
    LONG_S,
    ONE_WAY_JITTER,
    ONE_WAY_S,
    RANDOMNESS,
    SCALE,
    TIMER_LATENESS_S,
    Line,
    Measured,
    Mode,
    Range,
    costs_of,
    lines_of,
    measure,
)

COLUMNS: Final = {
    "n": "n",
    "min": "min",
    "p50": "median",
    "mean": "mean",
    "p90": "p90",
    "p99": "p99",
    "max": "max",
    "over_10_s": "> 10 s",
}
"""Names of our results, and their headings."""
PAPER_MARKS: Final = {
    RANDOMNESS[0]: (plots.Mark(10_000, 0, "150–150:\n> 10,000", "left"),),
    RANDOMNESS[2]: (plots.Mark(287, 50, "150–155:\nmedian 287"),),
    RANDOMNESS[4]: (plots.Mark(513, 100, "150–200: worst 513", "above"),),
    SCALE[0]: (plots.Mark(152, 100, "12–24: worst 152", "above"),),
}
"""What the paper gives in numbers, where a cumulative distribution can show it."""


# -- what is told --------------------------------------------------------------------------


def results_of(measured: Measured, *, seed: int) -> dict[str, Any]:
    """Everything in one JSON object; times in milliseconds, cut elections as long as the cut."""
    return {
        "results": [_result_of(line, times_s) for line, times_s in measured.items()],
        "model": {
            "servers": len(LOG_LENGTHS),
            "log_lengths": list(LOG_LENGTHS.values()),
            "broadcast_ms": round(costs_of(Mode.PAPER).broadcast_s(len(LOG_LENGTHS) - 1) * 1000, 3),
            "one_way_ms": ONE_WAY_S * 1000,
            "one_way_jitter": ONE_WAY_JITTER,
            "disk_write_mean_ms": DISK_WRITE_MEAN_S * 1000,
            "timer_lateness_ms": TIMER_LATENESS_S * 1000,
            "cut_ms": CUT_S * 1000,
            "seed": seed,
        },
    }


def _result_of(line: Line, times_s: list[float]) -> dict[str, Any]:
    times_ms = [time_s * 1000 for time_s in times_s]
    rounded = {
        name: value if name == "n" else round(value, 3)
        for name, value in attrs.asdict(stats.summarize(times_ms)).items()
    }
    return {
        "range_ms": [line.timeouts.low_ms, line.timeouts.high_ms],
        "mode": line.mode.value,
        **rounded,
        "over_10_s": sum(time_s > LONG_S for time_s in times_s),
        "cut": sum(time_s >= CUT_S for time_s in times_s),
        "unit": "ms",
    }


def table_of(title: str, ranges: Iterable[Range], results: list[dict[str, Any]]) -> Table:
    """One half of the figure; where the paper gives a number, it stands under ours, both bold."""
    table = Table(
        title=f"{title} (ms, or s where it says so)",
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        collapse_padding=True,
    )
    for heading in ("timeouts", "mode"):
        table.add_column(heading, no_wrap=True)
    for heading in COLUMNS.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for timeouts in ranges:
        paper = dict(timeouts.paper)
        for result in results:
            if result["range_ms"] == [timeouts.low_ms, timeouts.high_ms]:
                table.add_row(str(timeouts), result["mode"], *_cells(result, paper))
        if paper:
            table.add_row(str(timeouts), "[bold]paper says[/]", *_cells(paper, paper))
        table.add_section()
    return table


def _cells(numbers: dict[str, Any], paper: dict[str, float | str]) -> Iterator[str]:
    for name in COLUMNS:
        text = _cell(name, numbers)
        yield f"[bold]{text}[/]" if name in paper and name != "n" else text


def _cell(name: str, numbers: dict[str, Any]) -> str:
    if name not in numbers:
        return "·"
    value = numbers[name]
    if name in ("n", "over_10_s"):
        return str(value)
    is_cut = value >= CUT_S * 1000 or (name == "mean" and numbers.get("cut", 0) > 0)
    text = f"{value:,.0f}" if value < LONG_S * 1000 else f"{value / 1000:.3g} s"
    return f"≥ {text}" if is_cut else text


def draw(path: Path, measured: Measured, modes: list[Mode]) -> None:
    """Both halves of the figure, one column for each mode.

    Raises:
        PlotsUnavailable: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    halves = [
        ("how much randomness", RANDOMNESS, (60.0, 200_000.0), True),
        ("how short a timeout", SCALE, (0.0, 600.0), False),
    ]
    rows = [
        [
            plots.Panel(
                title=f"{mode.value}: {name}",
                series=[_series(measured, mode, timeouts) for timeouts in ranges],
                x_label="time without leader, ms",
                x_limits=limits,
                x_log=is_log,
                cut=CUT_S * 1000,
                marks=_marks(ranges) if mode is Mode.PAPER else (),
            )
            for mode in modes
        ]
        for name, ranges, limits, is_log in halves
    ]
    plots.draw_cdfs(
        path,
        rows,
        title="Time without leader after a crash: the Raft paper's figure 16, in virtual time",
        key_title="timeouts and medians, ms:\n" + ", ".join(mode.value for mode in modes),
        note="Five servers, two of the four that stay cannot win; 15 ms broadcast time. "
        "Circles: what the paper gives in numbers. Elections are cut after two minutes.",
    )


def _marks(ranges: Iterable[Range]) -> list[plots.Mark]:
    return [mark for timeouts in ranges for mark in PAPER_MARKS.get(timeouts, ())]


def _series(measured: Measured, mode: Mode, timeouts: Range) -> plots.Series:
    times_s = measured[Line(mode, timeouts)]
    return plots.Series(str(timeouts), [time_s * 1000 for time_s in times_s])


# -- the command ---------------------------------------------------------------------------

app = typer.Typer(add_completion=False, rich_markup_mode="rich")

EXAMPLES: Final = """
Examples:

  python -m benchmarks.figure16                        all of it: about a minute on two cores

  python -m benchmarks.figure16 --quick --no-plot      a glance, in seconds

  python -m benchmarks.figure16 --mode after-write     only the mode in between

  python -m benchmarks.figure16 --json figure16.json --plot figure16.png
"""


@app.command(epilog=EXAMPLES)
def figure16(
    trials: Annotated[int, typer.Option(min=1, help="Crashes per range of timeouts.")] = 1000,
    seed: Annotated[int, typer.Option(help="Same seed, same figures.")] = 0,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes.", show_default="all cores")
    ] = None,
    mode: Annotated[
        list[Mode] | None,
        typer.Option(help="What is switched on.", show_default="paper and trioraft"),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the numbers here.")
    ] = None,
    plot: Annotated[Path, typer.Option(help="Where the plots go, as a PNG.")] = Path(
        "results/figure16.png"
    ),
    no_plot: Annotated[bool, typer.Option("--no-plot", help="Draw nothing.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Only 50 trials.")] = False,
) -> None:
    """How long is a Raft cluster without a leader? The paper's figure 16, in virtual time.

    Crashes the leader of five servers again and again, with several ranges of election timeouts,
    with what trioraft adds to the paper and without, and sets the figures beside the paper's.
    """
    errors = Console(stderr=True)
    modes = list(dict.fromkeys(mode or (Mode.PAPER, Mode.TRIORAFT)))
    try:
        if json_file is not None:
            _check_writable(json_file)
        if not no_plot:
            plots.check_available()
            _check_writable(plot)
        with _progress_bar(errors) as progress:
            task = progress.add_task("elections")
            measured = measure(
                lines_of(modes),
                trials=50 if quick else trials,
                seed=seed,
                jobs=jobs or os.cpu_count() or 1,
                on_progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
        results = results_of(measured, seed=seed)
        _tell(results)
        if json_file is not None:
            json_file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            errors.print(f"numbers: {json_file}", markup=False, soft_wrap=True)
        if not no_plot:
            draw(plot, measured, modes)
            errors.print(f"plots: {plot}", markup=False, soft_wrap=True)
    except KeyboardInterrupt:
        errors.print("interrupted: the trials so far are dropped, nothing was written")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except (plots.PlotsUnavailable, OSError) as error:
        errors.print(f"error: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(EXIT_FAILED) from None


def _check_writable(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if (said := why_not_writable(path)) is not None:
        raise OSError(said)


def _progress_bar(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console, transient=True)


def _tell(results: dict[str, Any]) -> None:
    console = table_console()
    model = results["model"]
    for title, ranges in (
        ("Time without leader: how much randomness", RANDOMNESS),
        ("Time without leader: how short a timeout", SCALE),
    ):
        console.print(table_of(title, ranges, results["results"]))
        console.print()
    console.print(
        f"{model['servers']} servers, broadcast time {model['broadcast_ms']:.1f} ms "
        f"({model['one_way_ms']:g} ms one way, {model['disk_write_mean_ms']:g} ms a write), "
        f"cut after {model['cut_ms'] / 1000:g} s, seed {model['seed']}. Virtual time."
    )
