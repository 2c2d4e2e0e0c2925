"""Links in the documentation lead somewhere: to files and headings, as they lie here.

Rules of this file:

* A page is read on GitHub as well as on the site, so what is checked here is the file: a link
  names a file from where the page lies, and a heading by the anchor that GitHub gives it.
* The site's own links are the matter of test_site.py. Addresses elsewhere are not asked for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from .pages import DOCS, ROOT, name_of, pages, without_fences

_LINK: Final = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)", re.MULTILINE)
_CODE: Final = re.compile(r"(`+)(?:(?!\1).)+\1", re.DOTALL)
_ELSEWHERE: Final = re.compile(r"[a-z][a-z+.-]*:")


def anchor_of(heading: str, before: Counter[str]) -> str:
    """What GitHub calls a heading; `before` counts those that it has called so already."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.replace("`", "").replace("*", ""))
    anchor = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
    count = before[anchor]
    before[anchor] += 1
    return f"{anchor}-{count}" if count else anchor


def anchors(text: str) -> set[str]:
    """Of all headings of a page."""
    seen: Counter[str] = Counter()
    headings = re.findall(r"^#{1,6} +(.+?) *#*$", without_fences(text), re.MULTILINE)
    return {anchor_of(heading, seen) for heading in headings}


def broken(page: Path, text: str) -> Iterator[str]:
    """Links of a page that lead nowhere."""
    prose = _CODE.sub("", without_fences(text))
    for found in _LINK.finditer(prose):
        target = found[1] or found[2]
        if _ELSEWHERE.match(target):
            continue
        path, hash_, anchor = target.partition("#")
        goal = (page.parent / path).resolve() if path else page
        if goal != page and not goal.exists():
            yield f"{target}: there is no such file"
        elif not goal.is_relative_to(ROOT):
            yield f"{target}: it leaves the repository"
        elif hash_ and goal.suffix == ".md":
            there = text if goal == page else goal.read_text(encoding="utf-8")
            if anchor not in anchors(there):
                yield f"{target}: there is no such heading"


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    assert [*broken(page, page.read_text(encoding="utf-8"))] == []


def test_there_are_links_to_headings_too() -> None:
    texts = [page.read_text(encoding="utf-8") for page in pages()]
    targets = [found[1] or found[2] for text in texts for found in _LINK.finditer(text)]
    assert len(targets) > 200
    assert sum("#" in target for target in targets) > 20


@pytest.mark.parametrize(
    "text",
    [
        "[a](nowhere.md)",
        "[a](style.md#nothing)",
        "[a](#nothing)",
        "# A\n[a](#a-1)",
        "![a](images/nothing.png)",
        "[a]: nowhere.md",
        "[a](../../outside.md)",
    ],
)
def test_what_leads_nowhere_is_found(text: str) -> None:
    assert len([*broken(DOCS / "page.md", text)]) == 1


def test_what_leads_somewhere_is_right() -> None:
    text = "# A `b`, c\n## A `b`, c\n[a](#a-b-c-1) [b](style.md#names) [c](../README.md) `[d](e)`\n"
    assert [*broken(DOCS / "page.md", text)] == []
