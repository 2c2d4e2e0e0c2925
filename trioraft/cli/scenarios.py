"""What commands that play scenarios share: naming one, completing its name, listing all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from ..core.errors import ConfigError
from ..scenario import Scenario, load, shipped_names
from .exits import EXIT_USAGE
from .saying import complain
from .signature import Exit


def complete(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of shipped scenarios; a file where none begins like that."""
    names = [name for name in shipped_names() if name.startswith(incomplete)]
    if not names:
        return [CompletionItem(incomplete, type="file")]
    return [CompletionItem(name, help=load(name).about) for name in names]


def read(
    command: str, name: str, check: Callable[[Scenario], None] = lambda _scenario: None
) -> Scenario:
    """The shipped one of this name, or the one in this file; a mistake is said, and exit code 2.

    Args:
        command: who says it.
        name: as it was given.
        check: raises `ConfigError` for what this command cannot play.
    """
    path = Path(name)
    try:
        scenario = load(path if path.is_file() else name)
        check(scenario)
    except ConfigError as error:
        complain(f"{command}: {error}")
        raise Exit(EXIT_USAGE) from None
    return scenario


def listed() -> Iterator[str]:
    """A line for each shipped one, and how to get on."""
    width = max(map(len, shipped_names()))
    for name in shipped_names():
        yield f"{name:<{width}}  {load(name).about}"


def called(scenario: Scenario) -> str:
    """What names it on a command line."""
    return scenario.name if scenario.name in shipped_names() else scenario.source
