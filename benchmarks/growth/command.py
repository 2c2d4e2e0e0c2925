"""`python -m benchmarks.growth`: its options, its progress, what it writes.

Rules of this file:

* Every curve of every round has a process of its own, so that memory is what it says.
* What is not flat although it should be is said at the end; no figure fails anything.
* Ctrl-C delivers what was measured so far (exit 130).
"""

from __future__ import annotations

import argparse
import fnmatch
import itertools
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from ..commands import EXIT_FAILED, EXIT_INTERRUPTED, machine, why_no_plot, why_not_writable
from ..processes import Process, ProcessError, python
from .cases import CURVES, Curve, Point
from .report import markdown, save_plot, steep, updated

SECONDS_MIN = 0.02


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth",
        description="What a proposal costs while something else grows, and what each one weighs.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--only", nargs="+", metavar="CURVE", help=", ".join(curve.key for curve in CURVES))
    add("--rounds", type=int, default=3, metavar="N", help="default: 3")
    add("--seconds", type=float, default=1.0, metavar="S", help="for each point; default: 1")
    add("--most", type=int, metavar="N", help="leave out what is more than this")
    add("--json", type=Path, metavar="FILE", help="write all points")
    add("--plot", type=Path, metavar="FILE.png", help="draw all curves")
    add("--from", dest="earlier", type=Path, metavar="FILE.json",
        help="measure nothing: tell what this has")  # fmt: skip
    add("--update", type=Path, metavar="FILE.md", help="put the tables between the marks in it")
    return parser


def measure(
    curve: Curve, number: int, seconds: float, counts: Sequence[int], points: list[Point]
) -> None:
    """One curve of one round, in a process of its own; each point is noted as it comes.

    Raises:
        ProcessError: it failed.
    """
    arguments = [curve.key, f"{number}", f"{seconds}", *map(str, counts)]
    command = python("benchmarks.growth.curve", *arguments)
    with Process(command, name=f"the curve {curve.key}", is_guarded=True) as process:
        try:
            for _ in counts:
                while (said := json.loads(process.next_line())) is None:
                    pass  # it is at it
                points.append(Point(**said))
        except KeyboardInterrupt:
            process.signal(signal.SIGINT)  # it has a server and a directory to put away
            process.rest()
            process.wait()
            raise
        if code := process.wait():
            raise ProcessError(f"{process.name} ended with {code}:\n{process.complaints()}")


def document(
    points: Sequence[Point], seconds: float, load_average: float, *, interrupted: bool
) -> dict[str, Any]:
    """The content of the JSON file."""
    return {
        "benchmark": "growth",
        "seconds": seconds,
        "machine": machine(),
        "load_average": round(load_average, 1),
        "interrupted": interrupted,
        "points": [attrs.asdict(point) for point in points],
    }


def _say(text: str) -> None:
    print(f"benchmarks.growth: {text}", file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(argv)
    curves = [
        curve
        for curve in CURVES
        if not options.only or any(fnmatch.fnmatchcase(curve.key, one) for one in options.only)
    ]
    if not curves or options.rounds < 1 or options.seconds < SECONDS_MIN:
        parser.error(f"give known curves, at least 1 round, and {SECONDS_MIN} seconds")
    for path, complaint in (
        (options.json, why_not_writable),
        (options.plot, why_no_plot),
        (options.update, why_not_writable),
    ):
        if path is not None and (said := complaint(path)) is not None:
            parser.error(said)
    if options.earlier is not None:
        try:
            earlier = json.loads(options.earlier.read_text(encoding="utf-8"))
            points = [Point(**fields) for fields in earlier["points"]]
            _deliver(options, points, earlier["load_average"], 0)
        except (OSError, ValueError, KeyError, TypeError) as error:
            parser.error(f"{options.earlier} is no file of benchmarks.growth: {error}")
        return 0
    return _measure_all(options, curves)


def _measure_all(options: argparse.Namespace, curves: Sequence[Curve]) -> int:
    points: list[Point] = []
    code, load_average = 0, os.getloadavg()[0]
    try:
        for number, curve in itertools.product(range(options.rounds), curves):
            counts = [n for n in curve.counts if options.most is None or n <= options.most]
            try:
                measure(curve, number, options.seconds, counts, points)
            except ProcessError as error:  # the others are measured all the same
                _say(str(error))
                code = EXIT_FAILED
                continue
            load_average = max(load_average, os.getloadavg()[0])
            _say(f"round {number + 1}: {curve.name}, up to {max(counts, default=0):,}")
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    if points:
        _deliver(options, points, load_average, code)
    return code


def _deliver(
    options: argparse.Namespace, points: Sequence[Point], load_average: float, code: int
) -> None:
    print(markdown(points, load_average))
    for sentence in steep(points):
        print(f"Not flat: {sentence}.")
    if options.json is not None:
        content = document(points, options.seconds, load_average, interrupted=code != 0)
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if options.plot is not None:
        save_plot(points, options.plot)
    if options.update is not None and not code:
        block = markdown(points, load_average)
        text = updated(options.update.read_text(encoding="utf-8"), block)
        options.update.write_text(text, encoding="utf-8")
