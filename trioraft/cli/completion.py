"""`trioraft completion bash|zsh|fish`: what a shell reads to complete commands and options.

Rules of this file: the script asks `trioraft` itself, through click, so that it never says what
this version does not know; who presses Tab waits for a tenth of a second.
"""

from __future__ import annotations

import enum
from typing import Annotated, Final

import click
from click.shell_completion import get_completion_class

from .groups import COMPLETING, NAME
from .saying import say_block
from .signature import Argument, command_of

HELP: Final = """\
Have a shell complete commands and options: print what it must read.

bash, in ~/.bashrc:  eval "$(trioraft completion bash)"

zsh, in ~/.zshrc:  eval "$(trioraft completion zsh)"

fish:  trioraft completion fish > ~/.config/fish/completions/trioraft.fish
"""


class Shell(enum.StrEnum):
    """Which can be helped."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def command() -> click.Command:
    """The command."""
    return command_of(completion, "completion", HELP)


def completion(shell: Annotated[Shell, Argument(metavar="bash|zsh|fish", help="Which.")]) -> None:
    found = get_completion_class(shell.value)
    if found is None:
        raise click.UsageError(f"this click knows no {shell.value}")
    script = found(click.Command(NAME), {}, NAME, COMPLETING)
    # Not `source()`, which starts a bash to ask for its version.
    say_block((script.source_template % script.source_vars()).rstrip("\n"))
