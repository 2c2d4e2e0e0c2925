"""The live page in a real browser, at a laboratory that runs: it draws what happens, its buttons do
what they say, and it complains about nothing.

Rules of this file: one cluster and one browser for all of it; without a Chromium every test here is
skipped. `python -m tests.live.all_stories` plays all eight stories.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from benchmarks.viz.browser import Page, find_chromium, open_browser
from tests.serve.clusters import READY, started

pytestmark = pytest.mark.skipif(
    find_chromium() is None, reason="no Chromium is installed: the page cannot be opened"
)
LED = "window.trioraftLive?.picture && window.trioraftLive.cluster.leader !== null"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("lab")
    with started("3", "--lab", "--data", "here", cwd=directory) as cluster:
        cluster.wait_for(READY)
        told = json.loads((directory / "here" / "lab.json").read_bytes())
        yield f"{told['url']}/#token={told['token']}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with open_browser() as page:
        yield page


@pytest.fixture
def page(browser: Page, url: str) -> Iterator[Page]:
    """The page, of a cluster that has a leader."""
    browser.complaints.clear()
    browser.requests.clear()
    browser.prefer("light")
    browser.resize(1440, 900)
    browser.call("Page.navigate", url="about:blank")
    browser.call("Page.navigate", url=url)
    browser.wait(LED)
    yield browser
    assert browser.complaints == []


def ink(page: Page) -> int:
    """How many colours the picture has: 1 is a blank one."""
    count = page.evaluate(
        "(() => { const canvas = document.getElementById('base');"
        "const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;"
        "return new Set(new Uint32Array(data.buffer)).size; })()"
    )
    return int(count)


def press(page: Page, act: str, member: str) -> None:
    """Press a member's button."""
    page.wait(f"document.querySelector('[data-act={act}][aria-label$=\" {member}\"]')")
    page.evaluate(f"document.querySelector('[data-act={act}][aria-label$=\" {member}\"]').click()")


def leader(page: Page) -> str:
    page.wait(LED)
    return str(page.evaluate("window.trioraftLive.cluster.leader"))


def test_it_draws_and_says_who_leads(page: Page) -> None:
    page.wait("document.getElementById('connection').innerText === 'live'")
    assert f"{leader(page)} leads term" in page.evaluate(
        "document.getElementById('headline').innerText"
    )
    page.wait("window.trioraftLive.store.rows.messages.size > 20")
    assert ink(page) > 20
    rows = page.evaluate("[...document.querySelectorAll('#members tr')].map((r) => r.innerText)")
    assert [row[0] for row in rows] == ["0", "1", "2"]
    assert sum("leader" in row for row in rows) == 1


def test_it_asks_nobody_but_its_server(page: Page, url: str) -> None:
    own = url.partition("/#")[0]
    assert [each for each in page.requests if not each.startswith((own, "data:", "about:"))] == []


def test_buttons_cut_the_leader_off_and_another_leads(page: Page) -> None:
    old = leader(page)
    press(page, "disconnect", old)
    page.wait(f"![null, '{old}'].includes(window.trioraftLive.cluster.leader)")
    page.wait("document.querySelectorAll('.link.cut').length === 4")
    assert f"Disconnect {old}" in page.evaluate("document.getElementById('rows').innerText")
    page.evaluate("document.getElementById('heal').click()")
    page.wait("document.querySelectorAll('.link.cut').length === 0")


def test_buttons_kill_a_member_and_start_it_again(page: Page) -> None:
    victim = "0" if leader(page) != "0" else "1"
    press(page, "kill", victim)
    page.wait(f"document.querySelector('[aria-label=\"Restart {victim}\"]')")
    page.wait("document.querySelector('tr.silent')")
    press(page, "kill", victim)  # it says Restart now
    page.wait(f"document.querySelector('[aria-label=\"Kill {victim}\"]')")
    page.wait("!document.querySelector('tr.silent')")


def test_a_story_is_played_to_its_end(page: Page) -> None:
    page.evaluate("document.querySelector('.play[data-story=leader_disconnect]').click()")
    page.wait("window.trioraftLive.stories.playing !== ''")
    page.wait("window.trioraftLive.stories.playing === ''")
    played = "document.querySelector('.play[data-story=leader_disconnect]').dataset.played"
    assert page.evaluate(played) == "true"


def test_the_steps_of_a_story_that_plays_are_in_sight(page: Page) -> None:
    play = "document.querySelector('.play[data-story=follower_comes_back]')"
    page.evaluate(f"document.querySelector('.stories').scrollTop = 0; {play}.click()")
    page.wait("window.trioraftLive.stories.playing !== ''")
    steps = f"{play}.closest('details').getBoundingClientRect().bottom"
    panel = "document.querySelector('.stories').getBoundingClientRect().bottom"
    assert page.evaluate(f"{steps} <= {panel}")
    page.wait("window.trioraftLive.stories.playing === ''")


def test_without_the_token_buttons_say_what_is_missing(page: Page, url: str) -> None:
    page.call("Page.navigate", url="about:blank")
    page.call("Page.navigate", url=url.partition("#")[0])
    page.wait(LED)
    assert "#token" in page.evaluate("document.getElementById('lab-said').innerText")
    page.evaluate("document.getElementById('heal').click()")
    page.wait("document.getElementById('lab-said').innerText.includes('token is missing')")
    page.complaints[:] = [each for each in page.complaints if "401" not in each]


def test_keys_hold_the_picture_and_let_it_go_on(page: Page) -> None:
    page.evaluate("document.getElementById('stage').focus()")
    page.press(" ")
    assert page.evaluate("document.getElementById('follow').innerText") == "Held"
    before = page.evaluate("window.trioraftLive.picture.view.toTime + window.trioraftLive._start")
    shown = page.evaluate("window.trioraftLive.frames.count")
    page.wait(f"window.trioraftLive.frames.count > {shown} + 2")
    after = page.evaluate("window.trioraftLive.picture.view.toTime + window.trioraftLive._start")
    assert abs(after - before) < 50_000, "what is held stays where it is"
    page.press("o")
    assert page.evaluate("window.trioraftLive.picture.isByOrder")
    page.press("o")
    page.press(" ")
    assert page.evaluate("document.getElementById('follow').innerText") == "Live"
    page.press("?")
    assert page.evaluate("document.getElementById('help').open")
    page.evaluate("document.querySelector('#help button').click()")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 1024, 800, 390])
def test_nothing_is_wider_than_its_window(page: Page, width: int, scheme: str) -> None:
    page.prefer(scheme)
    page.resize(width, 844)
    shown = page.evaluate("window.trioraftLive.frames.count")
    page.wait(f"window.trioraftLive.frames.count > {shown}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert ink(page) > 10
    assert page.evaluate("document.documentElement.dataset.theme") == scheme


def test_a_page_that_is_open_for_long_keeps_no_more_than_its_server(page: Page) -> None:
    """Many more rows than are kept, by hand: what the server forgets is forgotten."""
    rows = page.evaluate(
        "(() => { const { store } = window.trioraftLive; const S = store.constructor;"
        "const made = new S(); for (let i = 0; i < 400; i++) {"
        "const first = { entries: i * 50, messages: i * 50, roles: 0, timers: 0, commits: 0,"
        "marks: 0, outages: 0, terms: 0 };"
        "made.take({ now: i * 1e6, before: (i - 3) * 1e6, first,"
        "entries: [...Array(50).keys()].map((k) => [i * 50 + k, i * 1e6, '0', 'vote', 'x']),"
        "messages: [...Array(50).keys()].map((k) => [i * 50 + k, 'vote', 'RequestVote', '0', '1',"
        " 1, 0, i * 1e6, i * 1e6 + 5, 'delivered', 0, -1, -1, -1, -1]),"
        "roles: [[i, '0', 'Follower', i, i * 1e6, (i + 1) * 1e6, -1, '']] }); }"
        "return Object.values(made.rows).map((rows) => rows.size); })()"
    )
    assert max(rows) <= 200


def test_a_frame_takes_little(page: Page) -> None:
    """With room for a busy machine; `python -m benchmarks.live_page` measures it."""
    page.wait("window.trioraftLive.store.rows.messages.size > 20")
    time.sleep(1)
    page.call("Performance.enable", timeDomain="threadTicks")
    before = script_s(page), page.evaluate("window.trioraftLive.frames.count")
    time.sleep(3)
    after = script_s(page), page.evaluate("window.trioraftLive.frames.count")
    assert (after[0] - before[0]) / max(after[1] - before[1], 1) < 0.05


def script_s(page: Page) -> float:
    """CPU time that scripts have taken."""
    metrics = page.call("Performance.getMetrics")["metrics"]
    return float(next(each["value"] for each in metrics if each["name"] == "ScriptDuration"))
