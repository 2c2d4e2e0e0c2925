"""How fast a page of many events opens in Chromium, and how smoothly it pans.

Rules of this file:

* `python -m benchmarks.viz.page [--events 100000]` prints the figures; exit code 1 if one misses
  its bound.
* Opening is the time from the navigation to the first picture drawn, by the page's own clock.
* Panning is scripted: a step every frame, at several zooms, the frames counted by the browser's
  animation callbacks. Headless Chromium draws in software, on the processors that it gets.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs

from trioraft.viz.analysis import analyse_lines
from trioraft.viz.page import write_pages

from .browser import BrowserError, Page, open_browser
from .log import raftlog_lines

OPEN_S_MAX: Final = 2.0
FRAMES_PER_S_LEAST: Final = 30.0
ZOOMS: Final = {"the whole run": 1.0, "a tenth": 0.1, "a hundredth": 0.01, "close up": 0.001}
"""What is panned: which share of the run is on screen."""

READY: Final = "window.trioraft !== undefined"
# Pans for `frames` frames, back and forth, and returns the milliseconds of each.
_PAN: Final = """
new Promise((done) => {{
  const app = window.trioraft;
  const all = app.view.duration;
  app.view.show(all * 0.5, all * 0.5 + all * {share});
  const times = [];
  const step = (now) => {{
    times.push(now);
    if (times.length > {frames}) {{
      done(times.slice(1).map((time, i) => time - times[i]));
      return;
    }}
    app.view.pan(times.length % 40 < 20 ? 17 : -17);
    requestAnimationFrame(step);
  }};
  requestAnimationFrame(step);
}})
"""


@attrs.frozen
class Pan:
    """A pan at one zoom."""

    name: str
    frames_per_s: float
    slowest_ms: float


@attrs.frozen
class Figures:
    """What was measured."""

    events: int
    page_bytes: int
    write_s: float
    open_s: float
    pans: tuple[Pan, ...]


def measure(events: int, *, frames: int = 90) -> Figures:
    """Write a page of so many events, open it, and pan it at each zoom.

    Raises:
        BrowserError: there is no Chromium, or the page complained.
    """
    runs = analyse_lines(raftlog_lines(events), "benchmark.raftlog")
    with tempfile.TemporaryDirectory() as out, open_browser() as page:
        started = time.perf_counter()
        write_pages(runs, Path(out))
        write_s = time.perf_counter() - started
        path = next(file for file in Path(out).iterdir() if file.name != "index.html")
        page.open(path, READY)
        open_ms = page.evaluate("performance.getEntriesByName('trioraft-drawn')[0].startTime")
        pans = tuple(pan(page, name, share, frames) for name, share in ZOOMS.items())
        if page.complaints:
            raise BrowserError(f"the page complained: {page.complaints}")
        return Figures(
            events=sum(len(run.entries) for run in runs),
            page_bytes=path.stat().st_size,
            write_s=write_s,
            open_s=open_ms / 1000,
            pans=pans,
        )


def pan(page: Page, name: str, share: float, frames: int) -> Pan:
    """Pan an open page with `share` of its run on screen, for so many frames."""
    times_ms = page.evaluate(_PAN.format(share=share, frames=frames))
    return Pan(name, 1000 * len(times_ms) / sum(times_ms), max(times_ms))


def misses(figures: Figures) -> list[str]:
    """What is out of bounds, in words."""
    found = []
    if figures.open_s > OPEN_S_MAX:
        found.append(f"it opened in {figures.open_s:.2f} s, at most {OPEN_S_MAX} s are allowed")
    found += [
        f"{pan.name}: {pan.frames_per_s:.0f} frames/s, at least {FRAMES_PER_S_LEAST:.0f} are due"
        for pan in figures.pans
        if pan.frames_per_s < FRAMES_PER_S_LEAST
    ]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if a bound is missed, 2 without a browser."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events", type=int, default=100_000, help="lines of the log")
    options = parser.parse_args(arguments)
    try:
        figures = measure(options.events)
    except BrowserError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{figures.events:,} events: {figures.page_bytes / 1e6:.1f} MB, ", end="")
    print(f"written in {figures.write_s:.2f} s, opened in {figures.open_s:.2f} s")
    for one in figures.pans:
        print(f"  {one.name:14} {one.frames_per_s:5.1f} frames/s, ", end="")
        print(f"slowest frame {one.slowest_ms:.0f} ms")
    print(f"  (load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors)")
    for miss in misses(figures):
        print(f"missed: {miss}")
    return 1 if misses(figures) else 0


if __name__ == "__main__":
    sys.exit(main())
