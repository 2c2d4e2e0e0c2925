"""Links out of the pages into the repository, and pages whose text stands elsewhere in it.

Rules of this file:

* Pages are written to be read as files, too: a link names a file, from where the page lies. What is
  no page of the site leads to the file in the repository.
* A page of docs/project/ may be but a place for a file that has to lie elsewhere (CONTRIBUTING.md,
  …): the site shows that file there.
* An entry of a table of contents that ends with `?` is a page that may not be written yet.
* Where the repository is, `[project.urls]` of pyproject.toml says.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path, PurePosixPath
from typing import Final

from sphinx.application import Sphinx

ROOT: Final = Path(__file__).parent.parent.parent
DOCS: Final = ROOT / "docs"
PLACES: Final = {
    "CONTRIBUTING.md": "project/contributing",
    "SECURITY.md": "project/reporting",
    "CHANGELOG.md": "project/changelog",
    "trioleaks/README.md": "project/trioleaks",
}
"""Where the site shows a file that lies outside of docs/."""
_LINK: Final = re.compile(r"(\]\(|^\[[^\]]+\]: )([^)\s]+)", re.MULTILINE)
_WHERE_IT_IS: Final = re.compile(r"^(\.\./[\w-]+)\?\n", re.MULTILINE)
"""In a table of contents: a page that is shown where it is written already."""


def source_url() -> str:
    """The repository's address."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    url: str = project["urls"]["Source"]
    return url


def file_of(docname: str) -> PurePosixPath:
    """The file, from the project's directory, whose text a page shows."""
    for file, place in PLACES.items():
        if place == docname:
            return PurePosixPath(file)
    return PurePosixPath("docs", f"{docname}.md")


def rewritten(text: str, docname: str, url: str) -> str:
    """The text with links that work on the site."""
    folder = file_of(docname).parent
    page = PurePosixPath("docs", docname).parent

    def link(found: re.Match[str]) -> str:
        target, hash_, anchor = found[2].partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return found[0]
        path = os.path.normpath(folder / target)
        if path in PLACES:
            to = os.path.relpath(f"docs/{PLACES[path]}.md", page)
        elif path.startswith("docs/") and path.endswith((".md", ".png", ".svg")):
            to = os.path.relpath(path, page)
        elif (ROOT / path).exists():
            kind = "tree" if (ROOT / path).is_dir() else "blob"
            to = f"{url}/{kind}/main/{path}"
        else:
            return found[0]  # Sphinx says that it leads nowhere
        return f"{found[1]}{to}{hash_}{anchor}"

    return _LINK.sub(link, text)


def read(app: Sphinx, docname: str, source: list[str]) -> None:
    """A page's text, as the site shows it."""
    file = ROOT / file_of(docname)
    if docname in PLACES.values():
        app.env.note_dependency(str(file))
        source[0] = file.read_text(encoding="utf-8")
    source[0] = rewritten(source[0], docname, source_url())
    source[0] = _WHERE_IT_IS.sub(
        lambda found: f"{found[1]}\n" if (file.parent / f"{found[1]}.md").exists() else "",
        source[0],
    )


def setup(app: Sphinx) -> dict[str, object]:
    """Before anybody reads the Markdown."""
    app.connect("source-read", read)
    return {"parallel_read_safe": True}
