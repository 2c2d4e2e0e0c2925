"""Pages as files: complete, self-contained, harmless whatever a log says."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import attrs
import pytest

from trioraft.viz.compare import compared
from trioraft.viz.model import Finding, Role, Run
from trioraft.viz.page import write_pages
from trioraft.viz.page.write import (
    compare_page,
    duration_text,
    file_names,
    index_page,
    row_of,
    run_page,
)

from .page_runs import ELECTION, run_of

EMPTY = Run(name="none", status=None, source="x", start_line=1, duration_s=0.0)
EVIL = "</title><script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


@attrs.define
class Seen(HTMLParser):
    """The elements of a document, as a browser would find them."""

    tags: list[str] = attrs.Factory(list)
    attributes: list[tuple[str, str | None]] = attrs.Factory(list)
    texts: list[str] = attrs.Factory(list)

    def __attrs_pre_init__(self) -> None:
        HTMLParser.__init__(self)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def seen(html: str) -> Seen:
    parser = Seen()
    parser.feed(html)
    parser.close()
    return parser


def test_a_page_for_each_run_and_an_index_that_links_them(tmp_path: Path) -> None:
    run = run_of(ELECTION)
    index = write_pages([run, run, EMPTY], tmp_path / "new" / "pages")
    assert index == tmp_path / "new" / "pages" / "index.html"
    names = ["001-TestElection.html", "002-TestElection.html", "003-none.html"]
    assert sorted(path.name for path in index.parent.iterdir()) == [*names, "index.html"]
    links = [
        value
        for name, value in seen(index.read_text(encoding="utf-8")).attributes
        if name == "href"
    ]
    assert [link for link in links if link and link.endswith(".html")] == names


def test_no_run_gives_an_index_that_says_so(tmp_path: Path) -> None:
    assert "No run was found." in write_pages([], tmp_path).read_text(encoding="utf-8")


def test_a_page_is_written_again_in_its_place(tmp_path: Path) -> None:
    write_pages([run_of(ELECTION)], tmp_path)
    other = tmp_path / "notes.txt"
    other.write_text("mine", encoding="utf-8")
    write_pages([attrs.evolve(run_of(ELECTION), status="FAIL")], tmp_path)
    assert "✗ FAIL" in (tmp_path / "001-TestElection.html").read_text(encoding="utf-8")
    assert other.read_text(encoding="utf-8") == "mine"


def test_nothing_is_fetched_from_anywhere() -> None:
    run = run_of(ELECTION)
    for html in (run_page(run), index_page([run], ["a.html"])):
        fetching = ("src", "srcset", "action", "poster", "background")
        document = seen(html)
        assert [value for name, value in document.attributes if name in fetching] == []
        assert not {"iframe", "object", "embed", "img", "base"} & set(document.tags)
        links = [value for name, value in document.attributes if name == "href"]
        assert {value for value in links if value} <= {"index.html", "a.html", "data:,"}
        code = " ".join(document.texts)
        for reach in ("://", "@import", "fetch(", "XMLHttpRequest", "WebSocket", "sendBeacon"):
            assert reach not in code


def test_the_policy_lets_only_our_own_code_run() -> None:
    html = run_page(run_of(ELECTION))
    policy = dict(seen(html).attributes)["content"]
    match = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert match is not None
    assert policy is not None
    rules = match.group(1)
    assert rules.startswith("default-src 'none'")
    assert "unsafe" not in rules
    script = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    style = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert len(script) == len(style) == 1
    for source in (*script, *style):
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in rules


def test_names_and_texts_of_a_log_stay_text() -> None:
    run = run_of(ELECTION)
    node = attrs.evolve(run.nodes[0], full_name=EVIL)
    finding = Finding("leak", "error", (1,), ("0",), 0.0, 0.1, detail=EVIL)
    evil = attrs.evolve(
        run, name=EVIL, source=EVIL, nodes=(node, *run.nodes[1:]), findings=(finding,)
    )
    for html, scripts in ((run_page(evil), 2), (index_page([evil], ["a.html"]), 1)):
        document = seen(html)
        assert document.tags.count("script") == scripts
        assert "img" not in document.tags
        assert EVIL in "".join(document.texts)


def test_half_a_character_does_not_stop_a_page(tmp_path: Path) -> None:
    run = run_of(ELECTION)
    entry = attrs.evolve(run.entries[0], text="broken \ud800 text")
    broken = attrs.evolve(run, name="name \udcff", entries=(entry, *run.entries[1:]))
    write_pages([broken], tmp_path)
    html = (tmp_path / "001-name.html").read_text(encoding="utf-8")
    data = re.search(r'id="run">(.*?)</script>', html, re.DOTALL)
    assert data is not None
    assert json.loads(data.group(1))["entries"]["texts"][0] == "broken \ud800 text"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("TestElection", "001-TestElection.html"),
        ("../../etc/passwd", "001-etc-passwd.html"),
        ("", "001-run.html"),
        ("…", "001-run.html"),
        ("x" * 500, f"001-{'x' * 80}.html"),
    ],
)
def test_a_file_name_is_plain_whatever_the_run_is_called(name: str, expected: str) -> None:
    assert file_names([attrs.evolve(EMPTY, name=name)]) == [expected]


def test_the_list_counts_findings_by_severity() -> None:
    finding = Finding("leak", "error", (), (), 0.0, 0.0, detail="one")
    info = attrs.evolve(finding, severity="info")
    row = row_of(attrs.evolve(run_of(ELECTION), findings=(finding, finding, info)), "a.html")
    assert row.findings == (("error", "✗", 2), ("info", "i", 1))
    assert row.leaders == ((1, "0"),)


def test_the_small_picture_shows_who_led_and_never_grows() -> None:
    spark = row_of(run_of(ELECTION), "a.html").spark
    assert spark is not None
    assert [bar.role for bar in spark.bars if bar.y < 9] == ["Follower", "Candidate", "Leader"]
    assert row_of(EMPTY, "a.html").spark is None
    node = run_of(ELECTION).nodes[0]
    turns: tuple[Role, ...] = ("Leader", "Dead")
    spans = tuple(
        attrs.evolve(node.roles[0], role=role, start_s=i / 1e4, end_s=(i + 1) / 1e4)
        for i, role in enumerate(turns * 5000)
    )
    run = attrs.evolve(EMPTY, duration_s=1.0, nodes=(attrs.evolve(node, roles=spans),))
    busy = row_of(run, "a.html").spark
    assert busy is not None
    assert len(busy.bars) <= 180


@pytest.mark.parametrize(
    ("duration_ms", "text"),
    [
        (0.25, "250 µs"),
        (12.34, "12.3 ms"),
        (999.6, "1 s"),
        (1250, "1.25 s"),
        (250_000, "4 min 10 s"),
        (86_340_000, "23 h 59 min"),
    ],
)
def test_durations_are_short(duration_ms: float, text: str) -> None:
    assert duration_text(duration_ms) == text


def test_every_script_and_style_is_in_the_page() -> None:
    run = run_of(ELECTION)
    (two,) = compared([run], [run])
    html = run_page(run) + index_page([], []) + compare_page(two)
    static = files("trioraft.viz.page").joinpath("static")
    names = [
        file.name
        for file in static.iterdir()
        if file.name.endswith((".js", ".css")) and not file.name.startswith("live")
    ]
    assert len(names) > 15
    for name in names:
        assert static.joinpath(name).read_text(encoding="utf-8") in html, name


def test_every_script_says_what_it_is_and_is_short() -> None:
    for file in files("trioraft.viz.page").joinpath("static").iterdir():
        text = file.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 400, file.name
        if file.name.endswith((".js", ".css")):
            assert text.startswith("/* "), file.name
