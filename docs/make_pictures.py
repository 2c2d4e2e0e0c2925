"""The pictures of the documentation, made again: `python -m docs.make_pictures [LOG…]`.

Rules of this file:

* Without arguments, each of the election scenarios is told in virtual time with a fixed seed, so
  that the pictures stay the same until the code behind them changes. With logs, their runs are
  drawn instead.
* What a reader sees here is what `trioraft viz` writes: the same page, photographed.
* It needs Chromium, and takes some seconds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import trio
import trio.testing

from benchmarks.browser import BrowserError, Page, open_browser
from benchmarks.viz_page import READY
from tests.scenarios.elections import SCENARIOS
from trioraft.logs import open_raftlog, use_sink
from trioraft.testing.cluster import open_cluster
from trioraft.viz.analysis import analyse_log
from trioraft.viz.model import Run
from trioraft.viz.page import write_pages

OUT: Final = Path(__file__).parent / "images"
SEED: Final = 0
QUIET_S: Final = 0.020
"""How much of the time before anything happens is shown."""
WIDTH, HEIGHT = 1440, 900

# Two frames: what was asked for is on screen after them.
_DRAWN: Final = (
    "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"
)


def write_scenarios(path: Path) -> None:
    """Tell every scenario into one raftlog."""
    with open_raftlog(path) as raftlog:
        for name, scenario in SCENARIOS.items():
            with raftlog.run(name), use_sink(raftlog):
                clock = trio.testing.MockClock(autojump_threshold=0)
                trio.run(scenario, partial(open_cluster, seed=SEED), clock=clock)


def photograph(page: Page, runs: Sequence[Run], out_dir: Path) -> list[Path]:
    """Pictures of the runs: the diagram of each, the list, and one whole page by light and dark.

    Returns:
        The files, in the order in which they were made.

    Raises:
        BrowserError: a page complained.
        OSError: it cannot be written there.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    with tempfile.TemporaryDirectory() as folder:
        index = write_pages(runs, Path(folder))
        pages = sorted(path for path in Path(folder).iterdir() if path != index)
        page.prefer("light")
        _open(page, index, "true")
        made.append(_shot(page, out_dir / "index.png"))
        for run, path in zip(runs, pages, strict=True):
            _open(page, path, READY)
            if run is _fullest(runs):
                made += _whole_page(page, run, out_dir)
            made.append(_diagram(page, run, out_dir / f"{_stem(path)}.png"))
    if page.complaints:
        raise BrowserError(f"a page complained: {page.complaints}")
    return made


def _open(page: Page, path: Path, ready: str) -> None:
    # The address tells this page from the last, which stays until this one has come.
    here = f"location.pathname.endsWith('{path.name}') && document.readyState === 'complete'"
    page.open(path, f"{here} && {ready}")


def _diagram(page: Page, run: Run, path: Path) -> Path:
    """The diagram with its legend, without what only makes sense on a screen."""
    page.evaluate(
        "document.querySelectorAll('.zoom, .overview, .details').forEach((part) => part.remove())"
    )
    # The quiet before the first election is the same everywhere, and long.
    start_s = max(_first_stir_s(run) - QUIET_S, 0.0)
    end_s = run.duration_s + 0.02 * (run.duration_s - start_s)
    page.evaluate(
        f"window.trioraft.select(-1); window.trioraft.overview.draw = () => {{}}; "
        f"window.trioraft.view.show({start_s * 1e6}, {end_s * 1e6})"
    )
    return _shot(page, path, ".picture")


def _first_stir_s(run: Run) -> float:
    """When a node first was anything but a follower."""
    stirs = [span.start_s for node in run.nodes for span in node.roles if span.role != "Follower"]
    return min(stirs, default=0.0)


def _whole_page(page: Page, run: Run, out_dir: Path) -> list[Path]:
    """One page as it stands on a screen, at its first finding if it has one."""
    if run.findings:
        page.evaluate("window.trioraft.showFinding(0)")
    made = [_shot(page, out_dir / "page-light.png")]
    page.prefer("dark")
    page.wait("document.documentElement.dataset.theme === 'dark'")
    made.append(_shot(page, out_dir / "page-dark.png"))
    page.prefer("light")
    return made


def _fullest(runs: Sequence[Run]) -> Run:
    """The run with most to see: findings first, then messages."""
    return max(runs, key=lambda run: (len(run.findings), len(run.messages)))


def _stem(path: Path) -> str:
    """The run's name without its place in the list."""
    return path.stem.partition("-")[2]


def _shot(page: Page, path: Path, part: str | None = None) -> Path:
    page.evaluate(_DRAWN)
    page.picture(path, part)
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the pictures and name them; 2 without a browser."""
    parser = argparse.ArgumentParser(description="Make the pictures of the documentation.")
    parser.add_argument("logs", nargs="*", type=Path, metavar="LOG", help="logs to draw instead")
    parser.add_argument("--out", type=Path, default=OUT, help="where to; default: docs/images")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        logs = list(options.logs)
        if not logs:
            logs = [Path(folder) / "scenarios.raftlog"]
            write_scenarios(logs[0])
        # Where the log lies is this machine's own affair.
        runs = [attrs.evolve(run, source=log.name) for log in logs for run in analyse_log(log)]
    try:
        with open_browser(width=WIDTH, height=HEIGHT) as page:
            for path in photograph(page, runs, options.out):
                print(path)
    except BrowserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
