"""All commands, for the reference: `trioraft` as click has it, its help as the site shows it."""

from __future__ import annotations

import re
from typing import Final

import click
from sphinx.application import Sphinx

from trioraft.cli.application import application

trioraft: Final = application()


def _show_example(app: Sphinx, context: click.Context, lines: list[str]) -> None:
    """`Example: trioraft …` is a command, to be read as one."""
    for number, line in enumerate(lines):
        lines[number] = re.sub(r"^(\s*Example:\s+)(.*\S)\s*$", r"\1``\2``", line)


def _show_optional_part(app: Sphinx, context: click.Context, lines: list[str]) -> None:
    """`[ID=]HOST:PORT`, of which sphinx-click takes the first bracket for its own."""
    for number, line in enumerate(lines):
        lines[number] = line.replace("<ID=]HOST:PORT>", "<[ID=]HOST:PORT>")


def setup(app: Sphinx) -> dict[str, object]:
    """After sphinx-click has made its lines."""
    app.connect("sphinx-click-process-description", _show_example)
    app.connect("sphinx-click-process-options", _show_optional_part)
    return {"parallel_read_safe": True}
