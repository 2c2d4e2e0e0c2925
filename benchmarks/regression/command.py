"""`python -m benchmarks.regression`: the working tree beside the commit before, in one run.

Rules of this file:

* Both trees are measured by the same worker, in the same environment, in turns (A B A B): each
  round has two fresh processes, with the same seed for hashes, and each case is measured in both
  within a second. Who goes first changes from round to round.
* What is compared is the median of the rounds' ratios. A case is worse if that exceeds the
  tolerance and the interval in which the true one lies has no 1 in it: moods are no regression.
* Where the disk is what counts, time is compared; elsewhere CPU time, which others disturb less.
* The other tree is a worktree of git's, and gone at the end.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import attrs

from .. import stats
from ..commands import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, machine, why_not_writable
from ..processes import Process, ProcessError
from ..processes.process import ROOT

WORKER: Final = Path(__file__).with_name("worker.py")
CASES: Final[Mapping[str, str]] = {
    "propose/1/memory": "cpu_us",
    "propose/64/memory": "cpu_us",
    "propose/1/durable": "wall_us",
    "propose/64/durable": "wall_us",
    "service/put/1": "cpu_us",
    "service/put/64": "cpu_us",
    "service/get/1": "cpu_us",
    "service/get/64": "cpu_us",
    "sim": "cpu_us",
    "codec": "cpu_us",
    "apply": "cpu_us",
}
"""Each, and by what it is judged."""
ROUNDS: Final = 7
SECONDS: Final = 0.5
TOLERANCE: Final = 1.25
CERTAINTY_ROUNDS: Final = 6
"""With fewer rounds, no interval is certain enough (95 %) to call anything a regression."""


class RegressionError(Exception):
    """It cannot be measured; the message says why."""


@attrs.define
class Compared:
    """One case in both trees, round by round."""

    case: str
    before: list[float] = attrs.field(factory=list)
    """What one operation took, in microseconds."""
    after: list[float] = attrs.field(factory=list)
    missing: str = ""
    """Why there is nothing to compare."""

    @property
    def ratio(self) -> stats.Interval:
        """How many times what it took before it takes now."""
        return stats.median_interval(
            now / then for now, then in zip(self.after, self.before, strict=True)
        )

    def is_worse(self, tolerance: float) -> bool:
        """Whether it has become slower by more than is tolerated, and by more than noise."""
        return bool(self.after) and self.ratio.median > tolerance and self.ratio.low > 1

    def is_better(self, tolerance: float) -> bool:
        """The other way round."""
        return bool(self.after) and self.ratio.median < 1 / tolerance and self.ratio.high < 1


# -- trees -------------------------------------------------------------------------------------


def _git(*arguments: str, tree: Path = ROOT) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - git, with our own arguments
            ["git", "-C", str(tree), *arguments],  # noqa: S607 - wherever it is
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
    except FileNotFoundError as error:
        raise RegressionError("git is not installed: there is nothing to compare with") from error
    except subprocess.CalledProcessError as error:
        raise RegressionError(f"git {' '.join(arguments)}: {error.stderr.strip()}") from error
    return done.stdout.strip()


def base_of(tree: Path = ROOT) -> str:
    """What to compare with: the last commit where something was changed since, else the one before.

    Raises:
        RegressionError: there is none.
    """
    return "HEAD" if _git("status", "--porcelain", tree=tree) else "HEAD~1"


@contextmanager
def tree_of(revision: str, tree: Path = ROOT) -> Iterator[Path]:
    """A worktree of that revision; gone at the end.

    Raises:
        RegressionError: there is no such revision, or no repository.
    """
    commit = _git("rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}", tree=tree)
    with tempfile.TemporaryDirectory(prefix="regression-") as folder:
        place = Path(folder).resolve() / "base"
        _git("worktree", "add", "--quiet", "--detach", str(place), commit, tree=tree)
        try:
            yield place
        finally:
            _git("worktree", "remove", "--force", str(place), tree=tree)


# -- measuring ---------------------------------------------------------------------------------


def _start(tree: Path, number: int, data: Path) -> Process:
    variables = {k: v for k, v in os.environ.items() if not k.startswith("TRIORAFT_")}
    variables |= {"PYTHONHASHSEED": f"{number}", "PYTHONPATH": str(tree)}
    command = (sys.executable, str(WORKER), str(tree))
    name = f"the worker of {tree}"
    return Process(command, name=name, directory=data, environment=variables)


def _ask(worker: Process, case: str, seconds: float) -> dict[str, Any]:
    worker.say(f"{case} {seconds}\n".encode())
    answer = json.loads(worker.next_line())
    if not isinstance(answer, dict):
        raise ProcessError(f"{worker.name} answered {answer!r}")
    return answer


def compare(
    base: Path, tree: Path, number: int, seconds: float, all_compared: Sequence[Compared]
) -> None:
    """One round: each case in both trees.

    Raises:
        ProcessError: a worker failed.
    """
    with ExitStack() as stack:
        data = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=base.parent)))
        then = stack.enter_context(_start(base, number, data))
        now = stack.enter_context(_start(tree, number, data))
        for compared in all_compared:
            if compared.missing:
                continue
            workers = (then, now) if number % 2 == 0 else (now, then)
            answers = {each: _ask(each, compared.case, seconds) for each in workers}
            missing = answers[then].get("missing") or answers[now].get("missing")
            if missing:
                where = "before" if "missing" in answers[then] else "now"
                compared.missing = f"{where}: {missing}"
                continue
            figure = CASES[compared.case]
            compared.before.append(answers[then][figure])
            compared.after.append(answers[now][figure])


# -- the command -------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.regression",
        description="Measure a handful of quick cases in this tree and in another revision, in\n"
        "turns, and say what has become slower (exit 1).",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--base", metavar="REV", help="compare with this (default: the last commit, or the one "
        "before where nothing was changed since)")  # fmt: skip
    add("--only", nargs="+", metavar="CASE", help=", ".join(CASES))
    add("--rounds", type=int, default=ROUNDS, metavar="N", help=f"default: {ROUNDS}")
    add("--seconds", type=float, default=SECONDS, metavar="S", help=f"default: {SECONDS}")
    add("--tolerance", type=float, default=TOLERANCE, metavar="×", help=f"default: {TOLERANCE}")
    add("--json", type=Path, metavar="FILE", help="write all figures")
    return parser


def row(compared: Compared, tolerance: float) -> str:
    """One line of the table."""
    if compared.missing:
        return f"{compared.case:<20} not compared, {compared.missing}"
    ratio = compared.ratio
    unit = "CPU" if CASES[compared.case] == "cpu_us" else "time"
    verdict = "WORSE" if compared.is_worse(tolerance) else ""
    verdict = "better" if compared.is_better(tolerance) else verdict
    before, after = (stats.percentile(figures, 50) for figures in (compared.before, compared.after))
    return (
        f"{compared.case:<20} {before:>11,.1f} {after:>11,.1f} µs of {unit:<4} "
        f"{ratio.median:6.2f} ({ratio.low:.2f}–{ratio.high:.2f}) {verdict}"
    ).rstrip()


def main(argv: Sequence[str] | None = None, *, tree: Path = ROOT) -> int:
    """Compare, print, write; returns the exit code: 1 if something has become worse."""
    parser = _parser()
    options = parser.parse_args(argv)
    chosen = [
        Compared(case)
        for case in CASES
        if not options.only or any(fnmatch.fnmatchcase(case, one) for one in options.only)
    ]
    if not chosen or options.rounds < CERTAINTY_ROUNDS or options.seconds <= 0:
        parser.error(f"give known cases, {CERTAINTY_ROUNDS} rounds at least, and some seconds")
    if options.tolerance <= 1:
        parser.error("give a tolerance above 1")
    if options.json is not None and (said := why_not_writable(options.json)) is not None:
        parser.error(said)
    try:
        base = options.base or base_of(tree)
        with tree_of(base, tree) as base_tree:
            for number in range(options.rounds):
                compare(base_tree, tree, number, options.seconds, chosen)
                _say(f"round {number + 1} of {options.rounds}, beside {base}")
    except RegressionError as error:
        _say(str(error))
        return EXIT_USAGE
    except ProcessError as error:
        _say(str(error))
        return EXIT_FAILED
    except KeyboardInterrupt:
        _say("interrupted")
        return EXIT_INTERRUPTED
    for compared in chosen:
        print(row(compared, options.tolerance))
    if options.json is not None:
        content = {"benchmark": "regression", "base": base, "machine": machine(),
                   "cases": [attrs.asdict(compared) for compared in chosen]}  # fmt: skip
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return EXIT_FAILED if any(each.is_worse(options.tolerance) for each in chosen) else 0


def _say(text: str) -> None:
    print(f"benchmarks.regression: {text}", file=sys.stderr, flush=True)
