"""A page of the documentation that is made of the code, wholly or in part: compared, or written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path


def run(page: Path, updated: Callable[[str], str]) -> int:
    """Compare the page with what it should be, and print what differs; with `--update`, write it.

    Args:
        page: the file.
        updated: makes the page as it should be of the page as it is.

    Returns:
        The exit code: 1 if it differs.
    """
    text = page.read_text(encoding="utf-8")
    wanted = updated(text)
    if "--update" in sys.argv[1:]:
        page.write_text(wanted, encoding="utf-8")
        return 0
    differ = {*wanted.splitlines()} ^ {*text.splitlines()}
    print(*sorted(differ), sep="\n")
    return int(text != wanted)
