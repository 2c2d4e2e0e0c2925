"""The pictures of the documentation, made again: `python -m docs.make_pictures [LOG…]`.

Rules of this file:

* Without arguments, pytest tells the stories of docs/elections.md, by the same tests as the
  commands there: in virtual time with a fixed seed, so that the pictures stay the same until the
  code behind them changes. With logs, their runs are drawn instead.
* What a reader sees here is what `trioraft viz` writes: the same page, photographed.
* A run without a term has nothing to show, and gets no picture.
* It needs Chromium, and takes some seconds.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs

from benchmarks.viz.browser import BrowserError, Page, open_browser
from benchmarks.viz.page import READY
from trioraft.viz.analysis import analyse_log
from trioraft.viz.model import Run
from trioraft.viz.page import write_pages

DOCS: Final = Path(__file__).parent
OUT: Final = DOCS / "images"
STORIES: Final = ("tests/test_elections.py", "tests/gone_wrong.py")
WANTED: Final = "calm-0 or (gone_wrong and not mended)"
"""Of the scenarios' tellings the first: calm, seed 0. Of what goes wrong all that went wrong."""
WHOLE_PAGE: Final = "follower_comes_back_without_pre_vote"
"""The story that is also shown as a whole page."""
TO_FAIL: Final = "leaked_task"
"""The one story whose test must fail: the leak check sees to it."""
QUIET_S: Final = 0.020
"""How much of the time before anything happens is shown."""
WIDTH, HEIGHT = 1440, 900
HEIGHT_CUT: Final = 470
"""Of the diagram alone: three lanes need no more, and a clone stays small."""


class StoryError(Exception):
    """A story did not end as it should, so that its picture would be wrong."""


# Two frames: what was asked for is on screen after them.
_DRAWN: Final = (
    "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"
)


def write_stories(path: Path) -> None:
    """Have pytest tell every story into one raftlog.

    Raises:
        StoryError: one did not end as it should.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-k", WANTED, f"--raftlog={path}", *STORIES]
    done = subprocess.run(  # noqa: S603 - our own tests, without a shell
        command, cwd=DOCS.parent, capture_output=True, text=True, check=False
    )
    if not path.exists():
        raise StoryError(f"pytest ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    failed = [story_of(run) for run in analyse_log(path) if run.status != "PASS"]
    if failed != [TO_FAIL]:
        raise StoryError(f"only {TO_FAIL} should fail; {failed} did:\n{done.stdout}")


def story_of(run: Run) -> str:
    """What the story is called, without what pytest and the telling add to it."""
    name = re.sub(r"^test_(in_virtual_time_)?", "", run.name)
    return re.sub(r"_calm_0$", "", name)


def photograph(
    page: Page, runs: Sequence[Run], out_dir: Path, *, whole: str = WHOLE_PAGE
) -> list[Path]:
    """Pictures of the runs: the diagram of each, and one as a whole page.

    Args:
        page: of an open browser.
        runs: each with a name of its own.
        out_dir: where to; made if needed.
        whole: the story to show as a whole page too, at its first finding if it has one.

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
        for run, path in zip(runs, pages, strict=True):
            _open(page, path, READY)
            if story_of(run) == whole:
                if run.findings:
                    page.evaluate("window.trioraft.showFinding(0)")
                made.append(_shot(page, out_dir / "page.png"))
            made.append(_diagram(page, run, out_dir / f"{story_of(run)}.png"))
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
        "document.querySelectorAll('.zoom, .overview, .details, .states, .transport')"
        ".forEach((part) => part.remove());"
        # No cursor and nothing selected is in such a picture, nor the room for a whole page.
        "[...document.querySelectorAll('#legend span')].filter((item) => "
        "/^(cursor|selected)/.test(item.textContent)).forEach((item) => item.remove());"
        f"document.querySelector('.pictured').style.cssText = 'flex: none; height: {HEIGHT_CUT}px';"
        "document.querySelector('.picture').style.alignSelf = 'start';"
        "window.trioraft.diagram.resize()"
    )
    start_s, end_s = shown_s(run)
    page.evaluate(
        f"window.trioraft.select(-1); window.trioraft.overview.draw = () => {{}}; "
        "window.trioraft.diagram.cursor = null; "
        f"window.trioraft.view.show({start_s * 1e6}, {end_s * 1e6})"
    )
    return _shot(page, path, ".picture")


def shown_s(run: Run) -> tuple[float, float]:
    """From when to when a picture of the run shows it: the quiet before the first election is the
    same everywhere, and long."""
    start_s = max(_first_stir_s(run) - QUIET_S, 0.0)
    return start_s, run.duration_s + 0.02 * (run.duration_s - start_s)


def _first_stir_s(run: Run) -> float:
    """When a node first was anything but a follower."""
    stirs = [span.start_s for node in run.nodes for span in node.roles if span.role != "Follower"]
    return min(stirs, default=0.0)


def _shot(page: Page, path: Path, part: str | None = None) -> Path:
    page.evaluate(_DRAWN)
    page.picture(path, part)
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the pictures and name them; 2 without a browser, or with a story that went astray."""
    parser = argparse.ArgumentParser(description="Make the pictures of docs/elections.md.")
    parser.add_argument("logs", nargs="*", type=Path, metavar="LOG", help="logs to draw instead")
    parser.add_argument("--out", type=Path, default=OUT, help="where to; default: docs/images")
    options = parser.parse_args(arguments)
    try:
        for path in _make(options.logs, options.out):
            print(path)
    except (BrowserError, StoryError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _make(given: Sequence[Path], out_dir: Path) -> list[Path]:
    with tempfile.TemporaryDirectory() as folder:
        logs = list(given)
        if not logs:
            logs = [Path(folder) / "elections.raftlog"]
            write_stories(logs[0])
        # Where the log lies is this machine's own affair.
        runs = [attrs.evolve(run, source=log.name) for log in logs for run in analyse_log(log)]
    with open_browser(width=WIDTH, height=HEIGHT) as page:
        return photograph(page, [run for run in runs if run.terms], out_dir)


if __name__ == "__main__":
    sys.exit(main())
