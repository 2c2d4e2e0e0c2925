"""The site can be made without a warning, and every link within it leads somewhere.

Rules of this file: it is made once for all tests here, by the command that CONTRIBUTING.md names;
only where to is changed. Nothing is asked for over a network.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import attrs

from docs.extensions.docstrings import translate
from docs.extensions.public_names import public_names, shown_as
from docs.extensions.repository import PLACES, rewritten

from .pages import DOCS, ROOT

COMMAND: Final = "sphinx-build -nW docs build/site"
PATIENCE_S: Final = 900.0


@attrs.define
class Page(HTMLParser):
    """What of a page's HTML is looked at."""

    ids: set[str] = attrs.Factory(set)
    targets: list[str] = attrs.Factory(list)
    frames: list[str] = attrs.Factory(list)

    def __attrs_pre_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Its name, where it leads, what it shows."""
        values = {name: value or "" for name, value in attributes}
        self.ids |= {values[name] for name in ("id", "name") if values.get(name)}
        self.targets += [values[name] for name in ("href", "src") if values.get(name)]
        if tag == "iframe":
            self.frames.append(values["src"])


def make(out: Path) -> None:
    """Make the site, quietly."""
    words = COMMAND.replace("build/site", str(out)).split()
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *words[1:], "-d", str(out / ".doctrees"), "-q"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0


def read(site: Path) -> dict[Path, Page]:
    """Every page but the runs, which link nowhere."""
    found = {}
    for path in site.rglob("*.html"):
        if "runs" not in path.parts:
            found[path] = Page()
            found[path].feed(path.read_text(encoding="utf-8"))
    return found


def test_the_command_is_the_one_that_contributors_are_told() -> None:
    assert COMMAND in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert COMMAND in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_site_is_made_without_a_warning_and_is_whole(tmp_path: Path) -> None:
    """One test, since making it takes half a minute."""
    make(tmp_path)
    built = read(tmp_path)
    assert sum(len(page.targets) for page in built.values()) > 5000
    assert [*broken(built, tmp_path)] == []
    assert [*missing_pages(built, tmp_path)] == []
    assert [*missing_anchors(built, tmp_path)] == []
    assert [*stories_that_do_not_play(built, tmp_path)] == []


def broken(built: dict[Path, Page], site: Path) -> Iterator[str]:
    """Links within the site that lead nowhere."""
    for path, page in built.items():
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            goal = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            ids = {*built[goal].ids, ""} if goal in built else None
            if not goal.exists() or (ids is not None and unquote(parts.fragment) not in ids):
                yield f"{path.relative_to(site)}: {target}"


def missing_pages(built: dict[Path, Page], site: Path) -> Iterator[str]:
    """Pages of docs/ that the site has not."""
    for page in DOCS.rglob("*.md"):
        if site / page.relative_to(DOCS).with_suffix(".html") not in built:
            yield str(page)


def missing_anchors(built: dict[Path, Page], site: Path) -> Iterator[str]:
    """Public names and commands that the reference does not show."""
    ids = set().union(*(page.ids for page in built.values()))
    names = {name.full for name in shown_as().values()}
    assert len(names) > 350
    yield from names - ids
    commands = built[site / "reference" / "cli.html"].ids
    for command in ("serve", "kv", "kv-put", "admin", "admin-status", "recover", "sim", "viz"):
        if f"trioraft-{command}" not in commands:
            yield command


def stories_that_do_not_play(built: dict[Path, Page], site: Path) -> Iterator[str]:
    """Pictures of docs/elections.md, but for that of a whole page, that are pictures still."""
    frames = built[site / "elections.html"].frames
    pictures = re.findall(
        r"^!\[", (DOCS / "elections.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    if len(frames) != len(pictures) - 1:
        yield f"{len(frames)} of {len(pictures) - 1}"
    for frame in frames:
        name, _, span = frame.partition("#")
        run = (site / name).read_text(encoding="utf-8")
        if "<canvas" not in run or not re.fullmatch(r"\d+-\d+", span):
            yield frame


# -- what makes it ---------------------------------------------------------------------------


def test_names_in_backticks_become_links_where_they_are_public() -> None:
    (line,) = translate(
        ["Use `open_node`, `submit` or `_act`; `Limits.command_bytes_max`."], "trioraft.Node"
    )
    assert ":py:obj:`open_node <trioraft.open_node>`" in line
    assert ":py:obj:`submit <trioraft.Node.submit>`" in line
    assert "``_act``" in line
    assert ":py:obj:`Limits.command_bytes_max <trioraft.Limits.command_bytes_max>`" in line


def test_an_inherited_name_leads_to_where_it_is_shown() -> None:
    (line,) = translate(["See `log_time_s`."], "trioraft.Expiring")
    assert "trioraft.ReplicatedObject.log_time_s" in line


def test_a_sentence_among_errors_becomes_a_paragraph() -> None:
    told = translate(
        ["Raises:", "    As `propose`.", "    NotLeader: no.", "", "Last."], "trioraft.Node"
    )
    assert [line for line in told if line] == [
        "Raises:",
        "    NotLeader: no.",
        "**Raises:** As :py:obj:`propose <trioraft.Node.propose>`.",
        "Last.",
    ]


def test_examples_and_stars_survive() -> None:
    told = translate(["Any `*` of 2 * 3, *so*:", "```python", "f(*args)", "```"], None)
    block = ["", ".. code-block:: python", "", "   f(*args)", ""]
    assert told == ["Any ``*`` of 2 \\* 3, *so*:", *block]


def test_links_beyond_the_pages_lead_to_the_repository_or_to_where_a_file_is_shown() -> None:
    text = "[a](../CONTRIBUTING.md#checks) [b](../examples/embed.py) [c](../deploy) [d](style.md)"
    assert rewritten(text, "serve", "https://host") == (
        "[a](project/contributing.md#checks) [b](https://host/blob/main/examples/embed.py) "
        "[c](https://host/tree/main/deploy) [d](style.md)"
    )


def test_what_is_shown_elsewhere_exists() -> None:
    for file, place in PLACES.items():
        assert (ROOT / file).exists()
        assert (DOCS / f"{place}.md").exists()


def test_every_public_name_is_shown_once() -> None:
    assert {name.defined for name in public_names()} == {*shown_as()}
