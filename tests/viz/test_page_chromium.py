"""The pages in a real browser: they draw, they are linked, they complain about nothing.

Rules of this file: one headless Chromium for all of it; without one every test here is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import attrs
import pytest

from benchmarks.viz.browser import Page, find_chromium, open_browser
from benchmarks.viz.log import raftlog_lines
from benchmarks.viz.page import READY, motions, pan
from docs.make_pictures import photograph
from trioraft.viz.analysis import analyse_lines
from trioraft.viz.compare import compared
from trioraft.viz.model import Finding, Run
from trioraft.viz.page import write_comparisons, write_pages

from .page_runs import ELECTION, run_of
from .script import three_nodes

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
    said = opened.evaluate("document.getElementById('details').innerText")
    assert "Node 1 gives node 0 its vote in term 1." in said
    # The line itself is folded below the words.
    assert "VoteGranted" not in said
    opened.evaluate("document.querySelector('#details summary').click()")
    assert "VoteGranted:true" in opened.evaluate("document.getElementById('details').innerText")


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


# --- drawn at once --------------------------------------------------------------------------

INK_NOW = (
    "(() => { const canvas = document.getElementById('base');"
    "const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;"
    "return new Set(new Uint32Array(data.buffer)).size; })()"
)


def test_a_picture_of_another_size_is_drawn_before_anybody_can_look(opened: Page) -> None:
    """A canvas that is given a size is empty: whoever photographs it before the next frame sees
    it so. Nine of twenty screenshots did."""
    assert (
        opened.evaluate(
            "(() => { const stage = document.getElementById('stage');"
            "stage.style.height = `${stage.clientHeight - 40}px`; window.trioraft.resize();"
            f"return {INK_NOW}; }})()"
        )
        > 20
    )


def test_twenty_screenshots_right_after_a_resize_all_have_the_picture(opened: Page) -> None:
    for number in range(20):
        opened.resize(900 + 13 * number, 700 + 7 * number)
        assert opened.evaluate(INK_NOW) > 20, number
    opened.resize(1440, 900)
    # The browser advises who looks at a canvas as often as this test does, and nobody else.
    opened.complaints[:] = [one for one in opened.complaints if "willReadFrequently" not in one]


# --- by order -------------------------------------------------------------------------------


def test_by_order_each_event_has_the_same_room(opened: Page) -> None:
    opened.evaluate("document.getElementById('stage').focus()")
    opened.press("o")
    xs = opened.evaluate(
        "(({ view, model }) => [...model.byTime].map((entry) => view.x(model.time[entry], entry)))"
        "(window.trioraft)"
    )
    gaps = [after - before for before, after in pairwise(xs)]
    assert max(gaps) - min(gaps) < 0.01
    # The election of 6 ms was a smear of the run's 400.
    share = (
        "(({ view, model }) => "
        "(view.x(model.time[12], 12) - view.x(model.time[3], 3)) / view.width)"
    )
    assert opened.evaluate(f"{share}(window.trioraft)") > 0.4
    opened.press("o")
    assert opened.evaluate(f"{share}(window.trioraft)") < 0.05


def test_by_order_what_is_hidden_takes_no_room(opened: Page) -> None:
    opened.evaluate("window.trioraft.countByOrder(true)")
    before = opened.evaluate("window.trioraft.view.duration")
    opened.evaluate(
        "[...document.querySelectorAll('.chip')]"
        ".find((chip) => chip.innerText.startsWith('vote')).click()"
    )
    assert opened.evaluate("window.trioraft.view.duration") < before
    xs = opened.evaluate(
        "(({ view, model, table }) => [...table.shown].map((entry) => "
        "view.x(model.time[entry], entry)))(window.trioraft)"
    )
    gaps = [after - before for before, after in pairwise(xs)]
    assert max(gaps) - min(gaps) < 0.01


def test_events_of_the_same_moment_stand_beside_each_other_by_order(
    browser: Page, tmp_path: Path
) -> None:
    lines = "".join(f"10:00:00.000000 [{node}] listening\n" for node in range(4))
    open_run(browser, run_of(f"=== RUN   same\n{lines}"), tmp_path)
    browser.evaluate("window.trioraft.countByOrder(true)")
    xs = browser.evaluate(
        "(({ view, model }) => [0, 1, 2, 3].map((entry) => Math.round(view.x(0, entry))))"
        "(window.trioraft)"
    )
    assert len(set(xs)) == 4
    assert browser.complaints == []


# --- the cursor -----------------------------------------------------------------------------


def state(page: Page, node: int) -> str:
    return str(page.evaluate(f"document.querySelectorAll('.state')[{node}].innerText"))


def test_the_state_of_each_node_at_the_cursor_stands_beside_its_lane(opened: Page) -> None:
    opened.evaluate("window.trioraft.select(3)")  # node 0 becomes a candidate
    assert "candidate" in state(opened, 0)
    assert "has votes of 0" in state(opened, 0)
    opened.evaluate("window.trioraft.select(9)")  # node 1 votes
    assert "voted for 0" in state(opened, 1)
    assert "term 1" in state(opened, 1)
    opened.evaluate("window.trioraft.select(17)")  # an entry is committed
    assert "leader" in state(opened, 0)
    assert "committed to 1" in state(opened, 0)
    assert "log to 1" in state(opened, 1)
    assert "follows 0" in state(opened, 1)
    top = "document.querySelectorAll('.state')[1].getBoundingClientRect().top"
    lane = (
        "document.getElementById('stage').getBoundingClientRect().top + "
        "window.trioraft.diagram.layout.laneOf[1].top"
    )
    assert abs(opened.evaluate(f"{top} - ({lane})")) < 3


def test_a_log_is_shown_as_boxes_with_the_terms_of_its_entries(opened: Page) -> None:
    opened.evaluate("window.trioraft.select(18)")
    boxes = "[...document.querySelectorAll('.state')[0].querySelectorAll('.boxes i')]"
    assert opened.evaluate(f"{boxes}.map((box) => [box.textContent, box.className])") == [
        ["1", "committed"]
    ]


def test_no_state_is_known_before_the_first_line(opened: Page) -> None:
    states = opened.evaluate(
        "(({ states }) => states._states.at(-1).map(({ role, vote }) => [role, vote]))"
        "(window.trioraft)"
    )
    assert states == [[None, None]] * 3


def test_it_plays_and_stops_by_the_space_bar(opened: Page) -> None:
    opened.evaluate("document.getElementById('stage').focus(); window.trioraft.player.put(0)")
    opened.press(" ")
    opened.wait("window.trioraft.player.cursor.time > 20000")
    assert opened.evaluate("document.querySelector('#transport button:nth-child(2)').title") == (
        "Pause"
    )
    opened.press(" ")
    stopped = opened.evaluate("window.trioraft.player.cursor.time")
    opened.evaluate(DRAWN)
    assert opened.evaluate("window.trioraft.player.cursor.time") == stopped
    assert opened.evaluate("window.trioraft.selected") >= 0


def test_playing_turns_the_page_when_the_cursor_leaves_it(opened: Page) -> None:
    opened.evaluate(
        "(({ player, view }) => { view.show(0, 50000); player.put(0); player.rate = 1;"
        "player.play(true); })(window.trioraft)"
    )
    opened.wait("window.trioraft.player.cursor.time > 120000")
    assert opened.evaluate(
        "(({ player, view }) => { player.play(false);"
        "return view.start < player.cursor.place && player.cursor.place < view.end; })"
        "(window.trioraft)"
    )


def test_playing_ends_at_the_end(opened: Page) -> None:
    opened.evaluate(
        "(({ player, view }) => { player.put(view.duration * 0.9); player.rate = 100;"
        "player.play(true); })(window.trioraft)"
    )
    opened.wait("!window.trioraft.player.isPlaying")
    assert opened.evaluate(
        "(({ player, model }) => player.cursor.position === model.size - 1)(window.trioraft)"
    )


def test_the_axis_and_the_slider_scrub(opened: Page) -> None:
    box = "document.getElementById('stage').getBoundingClientRect()"
    x, y = opened.evaluate(f"[{box}.left + window.trioraft.view.x(200000), {box}.top + 10]")
    opened.click(x, y)
    assert abs(opened.evaluate("window.trioraft.player.cursor.time") - 200_000) < 2_000
    opened.evaluate(
        "(() => { const slider = document.querySelector('#transport input');"
        "slider.value = '500'; slider.dispatchEvent(new Event('input')); })()"
    )
    assert abs(opened.evaluate("window.trioraft.player.cursor.time") - 200_000) < 5_000


# --- words ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (0, "if it hears no leader for 150 ms, it begins an election. It ran out after 150 ms."),
        (3, "it begins term 1, votes for itself, and asks the others for their votes."),
        (4, "Node 0 asks node 1 for its vote in term 1."),
        (12, "Node 0 leads term 1: a majority voted for it."),
        (13, "Node 0 leads term 1 and sends node 1 an entry of its log."),
        (15, "Node 1 has taken the entries of node 0: they count towards a majority."),
        (17, "Node 0 knows the log to be committed up to entry 1"),
        (18, "The test: node 0 is cut off from all others, and runs on."),
    ],
)
def test_what_is_selected_is_said_in_plain_words(opened: Page, entry: int, said: str) -> None:
    opened.evaluate(f"window.trioraft.select({entry})")
    assert said in opened.evaluate("document.querySelector('#details .said').innerText")
    raw = opened.evaluate("document.querySelector('#details .what').textContent")
    assert raw == opened.evaluate(f"window.trioraft.model.text({entry})")
    assert not opened.evaluate("document.querySelector('#details .raw').open")


def test_a_finding_selects_scrolls_and_explains(opened: Page) -> None:
    opened.evaluate("document.querySelector('#findings button').click()")
    said = opened.evaluate("document.getElementById('details').innerText")
    assert "Something outlived the test" in said
    assert "What to do: Whatever starts it must also end it" in said
    assert opened.evaluate("window.trioraft.diagram.stretch.nodes") == [0]
    row = opened.evaluate(
        "(() => { const row = document.querySelector('.row[aria-selected=true]')"
        ".getBoundingClientRect(); const rows = document.getElementById('rows')"
        ".getBoundingClientRect(); return row.top >= rows.top - 1 && row.bottom <= rows.bottom + 1;"
        "})()"
    )
    assert row
    opened.evaluate("document.querySelector('#details .links button').click()")
    assert opened.evaluate("window.trioraft.diagram.stretch") is None


def test_the_legend_has_all_that_is_drawn(opened: Page) -> None:
    items = opened.evaluate(
        "[...document.querySelectorAll('#legend span')].map((item) => item.textContent)"
    )
    assert items == [
        *("follower", "candidate (C)", "leader (L)"),
        *("election timer", "timer that ran out"),
        *("message", "reply", "lost"),
        *("disconnect", "reconnect", "any other line"),
        *("cut off", "term without a leader yet", "commit index of a node"),
        *("finding: an error", "cursor: the state is that of this moment", "selected"),
    ]


def test_weather_cuts_and_lost_connections_are_drawn_as_such(browser: Page, tmp_path: Path) -> None:
    script = three_nodes()
    script.test(300, "fault 0: at 0.300 s: drop * for 0.200 s (0.250)")
    script.test(310, "Cut 0>1")
    script.test(320, "Dead 0>2 2>0")
    script.say(330, 2, "link to 0 down")
    script.test(400, "Mend 0>1")
    script.test(600, "done")
    open_run(browser, script.run(), tmp_path)
    model = "window.trioraft.model"
    assert browser.evaluate(f"{model}.weather.map((one) => [one.label, one.start, one.end])") == [
        ["messages get lost, 25%, everywhere", 300_000, 500_000]
    ]
    assert browser.evaluate(
        f"{model}.outages.map((one) => [one.node, one.level, one.start, one.end])"
    )[:2] == [[0, "partly", 310_000, 330_000], [0, "partly", 330_000, 400_000]]
    legend = browser.evaluate("document.getElementById('legend').innerText")
    for item in ("weather", "some lines cut", "connections dead", "link down", "cut", "mend"):
        assert item in legend
    hit = browser.evaluate(
        "(({ diagram, view }) => diagram.hits.at(view.x(400000),"
        "diagram.layout.weather.top + 6))(window.trioraft)"
    )
    assert hit == {"type": "weather", "id": 0}
    assert browser.complaints == []


# --- small windows --------------------------------------------------------------------------


@pytest.fixture(params=[(800, 600), (390, 844)], ids=["800x600", "phone"])
def small(opened: Page, request: pytest.FixtureRequest) -> Iterator[Page]:
    width, height = request.param
    opened.resize(width, height)
    opened.wait("document.getElementById('legend').hidden")
    yield opened
    opened.resize(1440, 900)


def is_on_screen(page: Page, element: str) -> bool:
    return bool(
        page.evaluate(
            f"(() => {{ const box = document.querySelector('{element}').getBoundingClientRect();"
            "return box.width > 100 && box.height > 20 && box.top >= 0 && box.left >= 0 &&"
            "box.bottom <= innerHeight + 1 && box.right <= innerWidth + 1; })()"
        )
    )


def test_in_a_small_window_what_a_click_changes_is_on_the_screen(small: Page) -> None:
    for part in ("#stage", "#details", "#findings-pane", "#transport", ".tabs"):
        assert is_on_screen(small, part), part
    assert small.evaluate("document.documentElement.scrollHeight <= innerHeight + 1")
    assert small.evaluate("document.documentElement.scrollWidth <= innerWidth + 1")
    small.evaluate("document.querySelector('#findings button').click()")
    assert "What to do" in small.evaluate("document.getElementById('details').textContent")
    small.evaluate("document.querySelector('[data-shows=states]').click()")
    assert is_on_screen(small, "#states")
    assert not small.evaluate("document.getElementById('findings-pane').offsetHeight")
    small.evaluate("document.querySelector('[data-shows=log-pane]').click()")
    assert is_on_screen(small, "#rows")
    # What was selected behind the other tab is in sight now.
    assert small.evaluate(
        "(() => { const row = document.querySelector('.row[aria-selected=true]')"
        ".getBoundingClientRect(); const rows = document.getElementById('rows')"
        ".getBoundingClientRect(); return row.top >= rows.top - 1 && row.bottom <= rows.bottom + 1;"
        "})()"
    )
    # All lanes fit, however low the picture is.
    assert small.evaluate(
        "(({ layout }) => layout.lanesBottom <= layout.height + 1)(window.trioraft.diagram)"
    )


def test_in_a_small_window_legend_and_filters_are_behind_buttons(small: Page) -> None:
    assert not small.evaluate("document.getElementById('legend').offsetHeight")
    small.evaluate("document.querySelector('[data-opens=legend]').click()")
    assert small.evaluate("document.getElementById('legend').offsetHeight") > 20
    assert (
        small.evaluate(
            "document.querySelector('[data-opens=legend]').getAttribute('aria-expanded')"
        )
        == "true"
    )


# --- two runs -------------------------------------------------------------------------------


def test_two_runs_are_laid_over_each_other_at_a_moment_of_both(
    browser: Page, tmp_path: Path
) -> None:
    late = ELECTION.replace("10:00:00.4", "10:00:01.4")
    comparisons = compared([run_of(ELECTION)], [run_of(late)])
    (path,) = write_comparisons(comparisons, tmp_path)
    browser.complaints.clear()
    browser.resize(1440, 900)
    browser.open(path, "window.comparison !== undefined")
    browser.evaluate(
        "(() => { const select = document.getElementById('align');"
        "select.value = 'the first leader'; select.dispatchEvent(new Event('change')); })()"
    )
    zeros = "window.comparison.sides.map(({ view }) => Math.round(view.x(view.origin)))"
    assert len(set(browser.evaluate(zeros))) == 1
    windows = "window.comparison.sides.map(({ view, zero }) => [view.start - zero, view.span])"
    browser.evaluate("window.comparison.sides[0].view.zoom(0.3)")
    before, after = browser.evaluate(windows)
    assert before == pytest.approx(after)
    browser.evaluate("window.comparison.countByOrder()")
    assert len(set(browser.evaluate(zeros))) == 1
    browser.evaluate("document.getElementById('stage-after').focus()")
    browser.press("ArrowRight")
    assert browser.evaluate("document.getElementById('details-after').innerText").startswith("Node")
    rows = browser.evaluate(
        "[...document.querySelectorAll('.differences tbody tr')].map((row) => row.innerText)"
    )
    assert any(row.startswith("elections") and "same" in row for row in rows)
    assert browser.complaints == []


def test_many_events_play_and_are_scrubbed(browser: Page, tmp_path: Path) -> None:
    """A tenth of what `python -m benchmarks.viz.page` measures, with room for a busy machine."""
    (run,) = analyse_lines(raftlog_lines(10_000), "many.raftlog")
    open_run(browser, run, tmp_path)
    browser.call("Performance.enable", timeDomain="threadTicks")
    for motion in motions(browser, 10):
        assert motion.cpu_ms < 50, motion
    assert browser.complaints == []
