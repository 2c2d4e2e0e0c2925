"""Runs that can be played, in the place of their pictures.

Rules of this file:

* The stories are told by the tests while the site is built, with the seeds of the page's own
  commands: what moves is what the page quotes. Its pictures stay for readers of the file, and for
  browsers without JavaScript.
* Each run is the page that `trioraft viz` writes. In a frame it shows the diagram only, follows
  the theme of the site, and leaves scrolling alone; a link opens it whole.
"""

from __future__ import annotations

import html
import tempfile
from pathlib import Path
from typing import Final

import attrs
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

from docs.make_pictures import shown_s, story_of, write_stories
from trioraft.viz.analysis import analyse_log
from trioraft.viz.page import write_pages
from trioraft.viz.page.write import file_names

_LOGGER: Final = logging.getLogger(__name__)
FOLDER: Final = "runs"
PAGES: Final = "trioraft_run_pages"
_FIGURE: Final = """\
<figure class="run">
<iframe src="{framed}" title="{title}" loading="lazy"></iframe>
<noscript><img src="{picture}" alt="{title}"></noscript>
<figcaption>{title}. ▶ plays it; <a href="{page}">open it whole</a> for the findings and the
log.</figcaption>
</figure>
"""


def tell(app: Sphinx) -> None:
    """Have the stories told, and write a page for each."""
    pages: dict[str, str] = {}
    setattr(app.builder, PAGES, pages)
    if app.builder.format != "html":
        return
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "elections.raftlog"
        write_stories(log)
        runs = [attrs.evolve(run, source=log.name) for run in analyse_log(log)]
    write_pages(runs, Path(app.outdir) / FOLDER)
    for run, name in zip(runs, file_names(runs), strict=True):
        start_us, end_us = (round(at_s * 1e6) for at_s in shown_s(run))
        pages[story_of(run)] = f"{FOLDER}/{name}#{start_us}-{end_us}"
    _LOGGER.info("told %d stories", len(pages))


def embed(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put runs where their pictures are."""
    pages: dict[str, str] = getattr(app.builder, PAGES)
    for image in [*doctree.findall(nodes.image)]:
        page = pages.get(Path(image["uri"]).stem)
        paragraph = image.parent
        if page is None or not isinstance(paragraph, nodes.paragraph):
            continue
        up = "../" * docname.count("/")
        page = f"{up}{page}"
        copied = app.env.images[image["uri"]][1]
        app.builder.images[image["uri"]] = copied  # it is nowhere else on the page
        picture = f"{up}_images/{copied}"
        figure = _FIGURE.format(
            framed=html.escape(page),
            page=html.escape(page.partition("#")[0]),
            title=html.escape(image["alt"]),
            picture=html.escape(picture),
        )
        paragraph.replace_self(nodes.raw("", figure, format="html"))


def setup(app: Sphinx) -> dict[str, object]:
    """Before pages are written."""
    app.connect("builder-inited", tell)
    app.connect("doctree-resolved", embed)
    return {"parallel_read_safe": True}
