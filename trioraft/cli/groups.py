"""All commands for click: each is imported when it is called, and listed without that."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

import click

from .saying import complain, say

NAME: Final = "trioraft"
"""Of the program."""
_HELP: Final = "Raft consensus for Trio. To see it at work: trioraft demo"
COMPLETING: Final = "_TRIORAFT_COMPLETE"
"""The variable in which a shell says that it wants to complete."""


class Application(click.Group):
    """`trioraft`.

    Args:
        commands: the module of each below this package, and what it does.
    """

    def __init__(self, commands: Mapping[str, tuple[str, str]]) -> None:
        version = click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_version,
            help="Show the version and exit.",
        )
        super().__init__(
            NAME,
            params=[version],
            help=_HELP,
            no_args_is_help=True,
            context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        )
        self._commands = commands

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._commands:
            return None
        module = importlib.import_module(f".{self._commands[cmd_name][0]}", __package__)
        command = module.command()
        if not isinstance(command, click.Command):
            raise TypeError(f"{cmd_name} is {command!r}: no command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, what) for name, (_, what) in self._commands.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            meant = difflib.get_close_matches(args[0], self._commands, 1)
            if meant and meant[0] not in error.message:
                said = f"{error.message} Did you mean {meant[0]!r}?"
                raise click.UsageError(said, ctx) from None
            raise

    def main(  # type: ignore[override] # every one of its callers wants the process to end
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        *,
        obj: object = None,
        **_: Any,
    ) -> NoReturn:
        """Run one command, and exit with its code. What else ends it, Ctrl-C or a closed pipe, is
        its caller's; click would have codes of its own for that.

        Args:
            args, prog_name: as of click's.
            obj: the context's, for commands that are started in surroundings of their own.
        """
        words = list(sys.argv[1:] if args is None else args)
        self._main_shell_completion({}, NAME, COMPLETING)
        try:
            with self.make_context(NAME, words, obj=obj) as context:
                self.invoke(context)
        except click.exceptions.Exit as ended:
            sys.exit(ended.exit_code)
        except click.ClickException as error:
            _show_mistake(error)
            sys.exit(error.exit_code)
        sys.exit(0)


def _show_mistake(error: click.ClickException) -> None:
    context = error.ctx if isinstance(error, click.UsageError) else None
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        complain_of = error.format_message()
        for line in complain_of.splitlines():
            complain(line)
        return
    path = NAME if context is None else context.command_path
    complain(f"{path}: {error.format_message()}")
    if context is not None:
        complain(f"Usage: {path} {' '.join(context.command.collect_usage_pieces(context))}")
        complain(f"See: {path} --help")


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        say(f"trioraft {_version()}")
        ctx.exit()


def _version() -> str:
    from importlib import metadata  # slow, and seldom asked for

    try:
        return metadata.version("trioraft")
    except metadata.PackageNotFoundError:
        return "(run from its source, not installed)"
