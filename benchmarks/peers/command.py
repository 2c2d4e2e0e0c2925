"""`python -m benchmarks.peers`: its options, its progress, what it writes.

Rules of this file:

* Round by round, load by load, peer beside peer: what is compared was measured within seconds.
* What cannot work is said in one line before anything is measured (exit 2). A peer that is not
  there is left out, with a sentence. What fails is told at once and at the end (exit 1), and the
  rest is measured. Ctrl-C delivers what was measured so far (exit 130).
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import trio

from ..commands import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    ending_on_interrupt,
    machine,
    why_no_plot,
    why_not_writable,
)
from ..processes import ProcessError
from . import toolchain
from .cases import LOADS, NAMES, Load, Peer
from .measuring import Settings, measure
from .page import page, save_plot
from .report import markdown, plain_rows, updated
from .results import Results, Sample, document, merged, read

SECONDS_MIN: Final = 0.2

EXAMPLES: Final = """\
examples:
  python -m benchmarks.peers --list
  python -m benchmarks.peers --rounds 1 --seconds 1
  python -m benchmarks.peers --only 'library/*' --peers trioraft hashicorp
  python -m benchmarks.peers --rounds 5 --json peers.json --page peers.html
  python -m benchmarks.peers --from peers.json --update docs/benchmarks.md
"""


@attrs.frozen
class Options:
    """What was asked for, checked."""

    loads: tuple[Load, ...]
    peers: tuple[Peer, ...]
    rounds: int
    settings: Settings
    earlier: tuple[Results, ...]
    """Measured before: nothing is measured now."""
    json_path: Path | None
    page_path: Path | None
    plot_path: Path | None
    update_path: Path | None

    def steps(self) -> list[tuple[int, Load, Peer]]:
        """Everything to be measured, in order."""
        return [
            (number, load, peer)
            for number in range(self.rounds)
            for load in self.loads
            for peer in load.peers
            if peer in self.peers
        ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description="trioraft beside PySyncObj, etcd and hashicorp/raft, all durable, on this\n"
        "machine: rates, latencies, an open loop, and what a kill -9 of the leader costs.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--only", nargs="+", metavar="LOAD", help="loads, by key or pattern: see --list")
    add("--peers", nargs="+", type=Peer, metavar="NAME", help=f"of {', '.join(Peer)}")
    add("--rounds", type=int, default=3, metavar="N", help="default: 3")
    add("--seconds", type=float, default=3.0, metavar="S", help="for each; default: 3")
    add("--trials", type=int, default=10, metavar="N", help="kills in each round; default: 10")
    add("--dir", type=Path, default=Path(), metavar="DIR", help="where data goes: the disk matters")
    add("--json", type=Path, metavar="FILE", help="write all figures")
    add("--page", type=Path, metavar="FILE.html", help="write a page with the plots")
    add("--plot", type=Path, metavar="FILE.png", help="draw them into a file of their own")
    add("--update", type=Path, metavar="FILE.md", help="put the tables between the marks in it")
    add("--from", dest="earlier", nargs="+", type=Path, metavar="FILE.json",
        help="measure nothing: tell what these have, as rounds of one run")  # fmt: skip
    add("--list", action="store_true", help="say which loads there are, and what is missing here")
    return parser


def parse(argv: Sequence[str] | None) -> Options:
    """Read and check the command line.

    Raises:
        SystemExit: with 2 and one line on standard error, or with 0 after `--help` and `--list`.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    if args.list:
        _list()
        parser.exit()
    loads = tuple(
        load
        for load in LOADS
        if not args.only or any(fnmatch.fnmatchcase(load.key, pattern) for pattern in args.only)
    )
    peers = tuple(dict.fromkeys(args.peers or Peer))
    if not any(peer in peers for load in loads for peer in load.peers):
        parser.error("nothing is left of that: --list says which loads there are, and for whom")
    if args.rounds < 1 or args.trials < 1 or args.seconds < SECONDS_MIN:
        parser.error(f"give at least 1 round, 1 trial and {SECONDS_MIN} seconds")
    if not args.dir.is_dir():
        parser.error(f"--dir is {str(args.dir)!r}: give a directory")
    for path, complaint in (
        (args.json, why_not_writable),
        (args.page, why_not_writable),
        (args.plot, why_no_plot),
        (args.update, why_not_writable),
    ):
        if path is not None and (said := complaint(path)) is not None:
            parser.error(said)
    try:
        if args.update is not None:
            updated(args.update.read_text(encoding="utf-8"), "")
        files = [path.read_text(encoding="utf-8") for path in args.earlier or ()]
        earlier = tuple(read(json.loads(text)) for text in files)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    settings = Settings(args.seconds, args.trials, args.dir.absolute(), {})
    return Options(
        loads, peers, args.rounds, settings, earlier, args.json, args.page, args.plot, args.update
    )


def _list() -> None:
    for load in LOADS:
        print(f"{load.key:<18} {load.name:<28} {', '.join(NAMES[peer] for peer in load.peers)}")
    for peer in Peer:
        if (why := toolchain.what_is_missing(peer)) is not None:
            print(f"left out here: {why}")


def _say(text: str) -> None:
    print(f"benchmarks.peers: {text}", file=sys.stderr, flush=True)


# -- measuring ---------------------------------------------------------------------------------


@attrs.define
class Measurement:
    """What was measured so far."""

    samples: list[Sample] = attrs.field(factory=list)
    failures: list[str] = attrs.field(factory=list)
    was_interrupted: bool = False


async def run(options: Options, measurement: Measurement, say: Callable[[str], None]) -> None:
    """Measure everything; Ctrl-C ends it between two events, tidily.

    What fails is told, and the others are measured all the same: a run takes long.

    Raises:
        OSError: there is no room, or no port.
    """
    steps = options.steps()
    with trio.CancelScope() as scope:
        async with ending_on_interrupt(scope):
            for at, (number, load, peer) in enumerate(steps, 1):
                name = f"{at}/{len(steps)} {load.key}, {peer}"
                try:
                    sample = await measure(load, peer, number, options.settings)
                except ProcessError as error:
                    measurement.failures.append(f"{load.key}, {peer}, round {number + 1}: {error}")
                    say(f"{name} failed: {error}")
                    continue
                measurement.samples.append(sample)
                say(f"{name}: {_glance(sample)}")
    measurement.was_interrupted = scope.cancelled_caught


def _glance(sample: Sample) -> str:
    if sample.trials_ms:
        return "took " + ", ".join(f"{trial:.0f}" for trial in sample.trials_ms) + " ms"
    failed = f", {sample.failed} failed, {sample.terms} more terms" if sample.failed else ""
    return (
        f"{sample.ops_per_s:,.0f}/s, p50 {sample.p50_ms:.2f}, p99 {sample.p99_ms:.2f}, "
        f"p99.9 {sample.p999_ms:.2f} ms{failed}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; returns the exit code."""
    options = parse(argv)
    if options.earlier:
        _deliver(options, merged(options.earlier))
        return 0
    left_out = {
        NAMES[peer]: why
        for peer in options.peers
        if (why := toolchain.what_is_missing(peer)) is not None
    }
    for why in left_out.values():
        _say(f"left out: {why}")
    peers = tuple(peer for peer in options.peers if NAMES[peer] not in left_out)
    versions = toolchain.versions(peers)
    _say(", ".join(f"{name} {version}" for name, version in versions.items()))
    measurement, code = Measurement(), 0
    try:
        with tempfile.TemporaryDirectory(prefix="peers-programs-") as folder:
            programs = toolchain.build(peers, Path(folder))
            settings = attrs.evolve(options.settings, programs=programs)
            todo = attrs.evolve(options, peers=peers, settings=settings)
            trio.run(partial(run, todo, measurement, _say))
    except KeyboardInterrupt:  # while a program was built
        measurement.was_interrupted = True
    except (toolchain.BuildError, OSError) as error:
        _say(str(error))
        code = EXIT_FAILED
    if measurement.samples:
        results = Results(
            tuple(measurement.samples), versions, machine(), left_out,
            options.settings.seconds, measurement.was_interrupted or bool(code),
            tuple(measurement.failures),
        )  # fmt: skip
        _deliver(options, results)
    if measurement.was_interrupted:
        _say("interrupted")
        return EXIT_INTERRUPTED
    return EXIT_FAILED if measurement.failures else code


def _deliver(options: Options, results: Results) -> None:
    for row in plain_rows(results):
        print(row)
    if options.json_path is not None:
        text = json.dumps(document(results), indent=1, ensure_ascii=False)
        options.json_path.write_text(text + "\n", encoding="utf-8")
    if options.page_path is not None:
        options.page_path.write_text(page(results), encoding="utf-8")
    if options.plot_path is not None:
        save_plot(results, options.plot_path)
    if options.update_path is not None and results.was_interrupted:
        _say(f"{options.update_path} is left as it is: the run is not whole")
    elif options.update_path is not None:
        text = updated(options.update_path.read_text(encoding="utf-8"), markdown(results))
        options.update_path.write_text(text, encoding="utf-8")
