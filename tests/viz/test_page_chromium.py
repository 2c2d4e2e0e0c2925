"""The pages in a real browser: they draw, they are linked, they complain about nothing.

Rules of this file: one headless Chromium for all of it; without one every test here is skipped.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from benchmarks.viz.browser import Page, find_chromium, open_browser
from benchmarks.viz.log import raftlog_lines
from benchmarks.viz.page import READY, pan
from docs.make_pictures import photograph
from trioraft.viz.analysis import analyse_lines
from trioraft.viz.model import Finding, Run
from trioraft.viz.page import write_pages

from .page_runs import ELECTION, run_of

pytestmark = pytest.mark.skipif(
    find_chromium() is None, reason="no Chromium is installed: the pages cannot be opened"
)

EVIL = "</script><script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>"
SEVEN = "=== RUN   seven\n" + "".join(
    f"10:00:00.{node:06} [{node}] becomes Follower with term=1; log=[]\n" for node in range(7)
)
ONE = "=== RUN   one\n10:00:00.000000 [0] becomes Follower with term=1; log=[]\n"
LONG = (
    "=== RUN   long\n00:00:00.000000 [0] becomes Leader; term=1, log=[]\n"
    "23:59:59.000000 [0] becomes Follower with term=2; log=[]\n"
)
# Two frames: what was asked for is drawn after them.
DRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))"


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with open_browser() as page:
        yield page


@pytest.fixture
def opened(browser: Page, tmp_path: Path) -> Iterator[Page]:
    """The page of the election, with a finding, in the light."""
    run = run_of(ELECTION)
    finding = Finding("leak", "error", (1,), ("0",), 0.150, 0.162, detail=EVIL, entries=(6,))
    open_run(browser, attrs.evolve(run, findings=(finding,)), tmp_path)
    yield browser
    assert browser.complaints == []


def open_run(page: Page, run: Run, out_dir: Path) -> None:
    page.complaints.clear()
    page.requests.clear()
    page.prefer("light")
    index = write_pages([run], out_dir)
    path = next(file for file in out_dir.iterdir() if file != index)
    page.open(path, f"{READY} && location.href.startsWith('file:///') && document.title !== ''")


def ink(page: Page, x0: float = 0, x1: float = 1) -> int:
    """How many colours the picture has between two shares of its width: 1 is a blank one."""
    page.evaluate(DRAWN)
    count = page.evaluate(
        "(() => { const canvas = document.getElementById('base');"
        f"const from = Math.floor(canvas.width * {x0});"
        f"const width = Math.floor(canvas.width * {x1}) - from;"
        "const data = canvas.getContext('2d').getImageData(from, 0, width, canvas.height).data;"
        "return new Set(new Uint32Array(data.buffer)).size; })()"
    )
    return int(count)


def test_the_picture_the_log_and_the_legend_are_there(opened: Page) -> None:
    assert ink(opened, 0.2) > 20
    assert opened.evaluate("document.querySelectorAll('.rows .row').length") == 20
    chips = opened.evaluate("[...document.querySelectorAll('.chip')].map((c) => c.innerText)")
    assert any("vote" in chip for chip in chips)
    assert opened.evaluate("document.querySelector('.badge').innerText") == "✓ PASS"


def test_it_asks_for_nothing_but_itself(opened: Page) -> None:
    assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in opened.requests if url.startswith("file:")]) == 1


def test_an_event_of_the_picture_selects_its_row(opened: Page) -> None:
    # The middle of the arrow that carried the vote of node 1 back.
    x, y = opened.evaluate(
        "(() => { const app = window.trioraft; app.view.show(148000, 160000); app.diagram.draw();"
        "const m = app.model.message; const id = m.positive.indexOf(1);"
        "const box = document.getElementById('stage').getBoundingClientRect();"
        "const y = (node) => app.diagram.layout.yOfNode(node);"
        "return [box.left + app.view.x((m.sent[id] + m.received[id]) / 2),"
        "box.top + (y(m.from[id]) + y(m.to[id])) / 2]; })()"
    )
    opened.click(x, y)
    selected = opened.evaluate("document.querySelector('.row[aria-selected=true]').innerText")
    assert "RequestVote reply" in selected
    assert "yes" in opened.evaluate("document.getElementById('details').innerText")


def test_a_row_selects_its_event_and_brings_it_on_screen(opened: Page) -> None:
    opened.evaluate("window.trioraft.view.show(0, 1000)")
    opened.evaluate("document.querySelector('.row[data-entry=\"18\"]').click()")
    assert opened.evaluate("window.trioraft.selected") == 18
    assert opened.evaluate(
        "(({ view, model }) => view.start < model.time[18] && model.time[18] < view.end)"
        "(window.trioraft)"
    )


def test_keys_step_from_event_to_event_and_along_a_message(opened: Page) -> None:
    opened.evaluate("document.getElementById('stage').focus()")
    texts = []
    for key in ("Home", "ArrowRight", "ArrowRight", "ArrowLeft"):
        opened.press(key)
        texts.append(opened.evaluate("window.trioraft.selected"))
    assert texts == [0, 1, 2, 1]
    opened.evaluate("window.trioraft.select(4)")  # a request for a vote is sent
    ends = []
    for _ in range(3):
        opened.press("Enter")
        ends.append(opened.evaluate("window.trioraft.model.text(window.trioraft.selected)"))
    assert ends[0].startswith("RequestVote:")
    assert ends[1].startswith("... RequestVote reply")
    assert ends[2].startswith("received RequestVoteReply")
    opened.press("ArrowUp")
    assert opened.evaluate("window.trioraft.model.node[window.trioraft.selected]") == -1
    opened.press("Escape")
    assert opened.evaluate("window.trioraft.selected") == -1


def test_keys_zoom_and_pan(opened: Page) -> None:
    opened.evaluate("document.getElementById('stage').focus()")
    whole = opened.evaluate("window.trioraft.view.span")
    opened.press("+")
    near = opened.evaluate("window.trioraft.view.span")
    assert near < whole
    start = opened.evaluate("window.trioraft.view.start")
    opened.press("ArrowRight", shift=True)
    assert opened.evaluate("window.trioraft.view.start") > start
    opened.press("0")
    assert opened.evaluate("window.trioraft.view.span") == whole


def test_filters_hide_kinds_and_nodes_everywhere(opened: Page) -> None:
    def click_chip(label: str) -> None:
        opened.evaluate(
            "[...document.querySelectorAll('.chip')]"
            f".find((chip) => chip.innerText.startsWith('{label}')).click()"
        )

    click_chip("vote")
    assert "RequestVote" not in opened.evaluate("document.getElementById('rows').innerText")
    click_chip("1")
    assert opened.evaluate("window.trioraft.diagram.layout.lanes.length") == 2
    # A finding's line is shown although it was filtered out: somebody asked for it.
    opened.evaluate("window.trioraft.showFinding(0)")
    assert opened.evaluate("window.trioraft.filters.shows(6)")


def test_a_finding_jumps_to_where_it_happened(opened: Page) -> None:
    opened.evaluate("document.querySelector('#findings button').click()")
    assert opened.evaluate("window.trioraft.selected") == 6
    start, end = opened.evaluate("[window.trioraft.view.start, window.trioraft.view.end]")
    assert start <= 150_000
    assert end >= 162_000


def test_searching_shows_the_lines_that_fit(opened: Page) -> None:
    opened.evaluate(
        "(() => { const field = document.getElementById('search'); field.value = 'LEADER;';"
        "field.dispatchEvent(new Event('input')); })()"
    )
    assert opened.evaluate("document.getElementById('log-count').innerText") == "1 of 20 lines"


def test_the_theme_follows_the_system_and_the_button(opened: Page) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light = opened.evaluate(ground)
    opened.prefer("dark")
    opened.wait(f"{ground} !== '{light}'")
    opened.evaluate("document.getElementById('theme-button').click()")
    assert opened.evaluate(ground) == light
    opened.evaluate("localStorage.clear()")


def test_paper_has_the_picture_and_the_log(opened: Page, tmp_path: Path) -> None:
    opened.evaluate(
        "addEventListener('beforeprint', () => { window.printed = "
        "[document.querySelectorAll('#printed tr').length, "
        "document.documentElement.dataset.theme]; })"
    )
    opened.prefer("dark")
    opened.print_to(tmp_path / "page.pdf")
    assert opened.evaluate("window.printed") == [20, "light"]
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    assert opened.evaluate("document.querySelectorAll('#printed tr').length") == 0


def test_what_was_drawn_for_paper_stays_until_it_is_printed(opened: Page) -> None:
    width = "document.getElementById('base').width"
    on_screen = opened.evaluate(width)
    opened.evaluate("dispatchEvent(new Event('beforeprint'))")
    opened.evaluate(DRAWN)
    assert opened.evaluate(width) > 2 * on_screen  # the stage has changed its size meanwhile
    assert ink(opened, 0.2) > 20
    opened.evaluate("dispatchEvent(new Event('afterprint'))")
    opened.evaluate(DRAWN)
    assert opened.evaluate(width) == on_screen


def test_the_help_opens_and_closes(opened: Page) -> None:
    opened.press("?")
    assert opened.evaluate("document.getElementById('help').open")
    opened.evaluate("document.querySelector('#help button').click()")
    opened.wait("!document.getElementById('help').open")


@pytest.mark.parametrize("log", [ONE, SEVEN, LONG], ids=["one node", "seven nodes", "a day"])
def test_odd_runs_open_and_can_be_walked(browser: Page, tmp_path: Path, log: str) -> None:
    run = run_of(log)
    open_run(browser, run, tmp_path)
    assert ink(browser) > 5
    browser.evaluate("document.getElementById('stage').focus()")
    for key in ("ArrowRight", "ArrowDown", "n", "f", "Enter", "-", "End"):
        browser.press(key)
    assert browser.evaluate("window.trioraft.selected") == len(run.entries) - 1
    assert browser.complaints == []


def test_a_run_without_anything_says_so(browser: Page, tmp_path: Path) -> None:
    open_run(browser, Run("none", None, "x", 1, 0.0), tmp_path)
    browser.press("ArrowRight")
    assert "There is no line." in browser.evaluate("document.getElementById('rows').innerText")
    assert browser.complaints == []


def test_nothing_that_a_log_says_runs(browser: Page, tmp_path: Path) -> None:
    run = run_of(ELECTION)
    entries = tuple(attrs.evolve(entry, text=entry.text + EVIL) for entry in run.entries)
    finding = Finding("leak", "error", (1,), ("0",), 0.1, 0.2, detail=EVIL, entries=(6,))
    open_run(browser, attrs.evolve(run, name=EVIL, entries=entries, findings=(finding,)), tmp_path)
    browser.evaluate("window.trioraft.showFinding(0)")
    assert browser.evaluate("typeof window.pwned") == "undefined"
    assert browser.evaluate("document.title").startswith(EVIL)
    assert browser.complaints == []


def test_the_pictures_of_the_documentation_can_be_made(browser: Page, tmp_path: Path) -> None:
    made = photograph(browser, [run_of(ELECTION)], tmp_path, whole="TestElection")
    assert [path.name for path in made] == ["page.png", "TestElection.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in made)


def test_many_events_open_fast_and_pan(browser: Page, tmp_path: Path) -> None:
    """A tenth of what `python -m benchmarks.viz.page` measures, with room for a busy machine."""
    (run,) = analyse_lines(raftlog_lines(10_000), "many.raftlog")
    open_run(browser, run, tmp_path)
    assert browser.evaluate("performance.getEntriesByName('trioraft-drawn')[0].startTime") < 2000
    assert browser.evaluate("document.querySelectorAll('.rows .row').length") < 100
    smooth = pan(browser, "a tenth", 0.1, frames=12)
    assert smooth.frames_per_s > 10
    assert browser.complaints == []


# -- played, and within another page ---------------------------------------------------------


def test_space_plays_from_event_to_event_until_somebody_takes_over(opened: Page) -> None:
    opened.evaluate("document.getElementById('stage').focus()")
    opened.press("Home")
    opened.press(" ")
    opened.wait("window.trioraft.selected >= 3")
    assert opened.evaluate("document.getElementById('play').getAttribute('aria-label')") == "Pause"
    opened.press("Home")
    assert opened.evaluate("document.getElementById('play').getAttribute('aria-label')") == "Play"
    opened.evaluate("new Promise((done) => setTimeout(done, 2 * 300 + 50))")
    assert opened.evaluate("window.trioraft.selected") == 0


def test_playing_ends_with_the_run(opened: Page) -> None:
    opened.evaluate("window.trioraft.select(17)")
    opened.evaluate("document.getElementById('play').click()")
    opened.wait("document.getElementById('play').getAttribute('aria-label') === 'Play'")
    assert opened.evaluate("window.trioraft.selected") == 19


def test_an_address_may_name_the_time_that_is_shown(opened: Page, tmp_path: Path) -> None:
    (path,) = tmp_path.glob("0*.html")
    opened.call("Page.navigate", url="about:blank")
    opened.call("Page.navigate", url=f"{path.as_uri()}#148000-160000")
    opened.wait(READY)
    shown = opened.evaluate("[window.trioraft.view.start, window.trioraft.view.end]")
    assert shown == [148000, 160000]


def test_in_a_frame_there_is_the_diagram_and_the_page_around_it_scrolls(
    opened: Page, tmp_path: Path
) -> None:
    (path,) = tmp_path.glob("0*.html")
    inner = html.escape(path.read_text(encoding="utf-8"))
    outer = tmp_path / "outer.html"
    style = "<style>iframe { width: 600px; height: 400px; color-scheme: dark }</style>"
    opened.call("Emulation.setEmulatedMedia", features=[])  # it would hold in the frame, too
    outer.write_text(f'<!doctype html>{style}<iframe srcdoc="{inner}"></iframe>', encoding="utf-8")
    opened.open(outer, "document.querySelector('iframe')?.contentWindow?.trioraft !== undefined")
    framed = "document.querySelector('iframe').contentWindow"
    visible = (
        f"((id) => {framed}.document.querySelector(id).getBoundingClientRect().height > 0)('{{}}')"
    )
    for part, is_there in (
        ("#stage", True),
        ("header", False),
        ("#rows", False),
        (".facts", False),
    ):
        assert opened.evaluate(visible.format(part)) is is_there, part
    stays = (
        f"((options) => {{ const frame = {framed}; const {{ view }} = frame.trioraft;"
        "const before = view.end; const event = new frame.WheelEvent('wheel',"
        "{ deltaY: -300, cancelable: true, bubbles: true, ...options });"
        "frame.document.getElementById('stage').dispatchEvent(event);"
        "return view.end === before && !event.defaultPrevented; })"
    )
    assert opened.evaluate(f"{stays}({{}})") is True
    assert opened.evaluate(f"{stays}({{ ctrlKey: true }})") is False
    # The theme is that of the page around it, whatever this machine prefers.
    assert opened.evaluate(f"{framed}.document.documentElement.dataset.theme") == "dark"
