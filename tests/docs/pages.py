"""The pages: which there are, and what is in them.

Rules of this file: a page is a file in Markdown that people read. Tests of one page alone stand
beside this folder, and `HELD_BY` names them where they run what is on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

ROOT: Final = Path(__file__).parent.parent.parent
DOCS: Final = ROOT / "docs"
HELD_BY: Final = {
    "README.md": "tests/test_readme.py",
    "docs/backup.md": "tests/backups/test_story.py",
    "docs/elections.md": "tests/test_docs_elections.py",
    "docs/identity.md": "tests/test_identity_story.py",
    "docs/operating.md": "tests/serve/test_operating.py",
    "docs/scenarios.md": "tests/test_docs_scenarios.py",
}
"""Pages whose commands another test runs, as they stand or as a story."""


def pages() -> list[Path]:
    """All of them."""
    return [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
        ROOT / "trioleaks" / "README.md",
        *sorted((ROOT / "trioleaks" / "docs").rglob("*.md")),
        *sorted(DOCS.rglob("*.md")),
    ]


def name_of(page: Path) -> str:
    """Its path from the project's directory."""
    return page.relative_to(ROOT).as_posix()


@attrs.frozen
class Fence:
    """A fenced block."""

    page: str
    line: int
    kind: str
    """The first word behind the fence; empty if there is none."""
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


_FENCE: Final = re.compile(
    r"^(?P<indent> *)```(?P<kind>[^\s`]*)[^\n`]*\n(?P<text>.*?)^(?P=indent)```\s*$",
    re.DOTALL | re.MULTILINE,
)


def fences(page: str, text: str) -> Iterator[Fence]:
    """Every fenced block of a page, in order, without the indentation of the item it stands in."""
    for found in _FENCE.finditer(text):
        indent = len(found["indent"])
        lines = [line[indent:] for line in found["text"].splitlines(keepends=True)]
        line = text.count("\n", 0, found.start()) + 1
        yield Fence(page, line, found["kind"], "".join(lines))


def all_fences() -> list[Fence]:
    """Of all pages."""
    return [
        fence
        for page in pages()
        for fence in fences(name_of(page), page.read_text(encoding="utf-8"))
    ]


def without_fences(text: str) -> str:
    """A page's text, each block blanked out, line by line."""
    return _FENCE.sub(lambda found: "\n" * found[0].count("\n"), text)
