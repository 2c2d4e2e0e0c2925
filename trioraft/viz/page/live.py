"""The live page: a cluster as it is now, drawn by the scripts that draw runs. It is one HTML text;
what it shows, and what has changed since, it asks its server for."""

from __future__ import annotations

from functools import cache
from typing import Final

from .write import PICTURE_SCRIPTS, PICTURE_STYLES, hash_of, joined, script_of, template

_STYLES: Final = (*PICTURE_STYLES, "live.css")
_SCRIPTS: Final = (
    *PICTURE_SCRIPTS,
    *(
        "words.js",
        "details.js",
        "live_store.js",
        "live_members.js",
        "live_lab.js",
        "live_stories.js",
    ),
    "live_main.js",
)


@cache
def live_page(*, is_lab: bool) -> str:
    """The page, as HTML.

    Args:
        is_lab: whether there is a laboratory: buttons that break the cluster, and mend it.
    """
    return template("live.html").render(
        is_lab=is_lab, policy=policy(), style=joined(_STYLES), script=script_of(_SCRIPTS)
    )


@cache
def policy() -> str:
    """Its content security policy: its own style and script, and its server."""
    style, script = joined(_STYLES), script_of(_SCRIPTS)
    return (
        f"default-src 'none'; img-src data:; style-src {hash_of(style)}; "
        f"script-src {hash_of(script)}; connect-src 'self'; base-uri 'none'; form-action 'none'"
    )
