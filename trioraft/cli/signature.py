"""A command is a function: its parameters are the command's options and arguments, for click.

Rules of this file:

* A parameter says what it is by its annotation, `Annotated[int, Option(min=1, help="…")]`,
  whether it may be left out by its default, and its name by its own: `log_format` is
  `--log-format`.
* Only what our commands need. (typer, which reads signatures as well, takes longer to import than
  all of a client: it brings pydantic.)
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, TypeVar, Union, final, get_args, get_origin, get_type_hints

import click

from .exits import raise_at_ctrl_c

BadParameter = click.BadParameter
"""A mistake in the command line: one message, and exit code 2."""
Exit = click.exceptions.Exit
"""Ends a command with an exit code."""

OTHER_OPTIONS: Final = "Options"

F = TypeVar("F", bound=Callable[..., Any])


class _Told:
    """What an annotation says of a parameter, in click's words.

    Args:
        names: of an option, as "--json"; by default the parameter's.
        min, max: of a number.
        panel: the heading in the help under which an option stands.
        told: as of `click.Option` and `click.Argument`.
    """

    def __init__(
        self,
        *names: str,
        min: int | None = None,
        max: int | None = None,
        help: str = "",
        panel: str = OTHER_OPTIONS,
        **told: Any,
    ) -> None:
        self.names: tuple[str, ...] = names
        self.min: int | None = min
        self.max: int | None = max
        self.help: str = help
        self.panel: str = panel
        self.told: dict[str, Any] = told


@final
class Option(_Told):
    """A parameter that is given by name."""


@final
class Argument(_Told):
    """A parameter that is given by its place; its help is for who reads the code and completes."""


class Command(click.Command):
    """A command whose options stand under headings, and whose values may begin with a hyphen."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_help_text(ctx, formatter)
        arguments = [each for each in self.params if isinstance(each, _Positional)]
        if arguments:
            with formatter.section("Arguments"):
                formatter.write_dl([(each.make_metavar(ctx), each.meaning) for each in arguments])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, _Positional):
                continue  # newer clicks have a record of it too; it stands above
            record = parameter.get_help_record(ctx)
            if record is not None:
                panels.setdefault(getattr(parameter, "panel", OTHER_OPTIONS), []).append(record)
        for panel, records in panels.items():
            with formatter.section(panel):
                formatter.write_dl(records)

    def invoke(self, ctx: click.Context) -> Any:
        raise_at_ctrl_c()
        return super().invoke(ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            takes_values = any(isinstance(each, click.Argument) for each in self.params)
            if takes_values and error.option_name in words and "--" not in words:
                at = words.index(error.option_name)
                rest = [word for word in words[at + 1 :] if not word.startswith("-")]
                meant = " ".join([*words[:at], "--", words[at], *rest])
                raise click.NoSuchOption(
                    error.option_name,
                    f"{error.format_message()} What begins with '-' and is no option comes after "
                    f"--, as in: {ctx.command_path} {meant}",
                    ctx=ctx,
                ) from None
            raise


class Commands:
    """Commands under one name."""

    def __init__(self, *, help: str) -> None:
        self._help = help
        self._commands: dict[str, click.Command] = {}

    def command(self, name: str | None = None, *, help: str | None = None) -> Callable[[F], F]:
        """Make a function a command; its docstring is the help, if none is given."""

        def add(function: F) -> F:
            called = name or function.__name__.replace("_", "-")
            self._commands[called] = command_of(function, called, help)
            return function

        return add

    def add(self, name: str, command: click.Command) -> None:
        """One that was made elsewhere, as a group below this one."""
        self._commands[name] = command

    def include(self, other: Commands) -> None:
        """All of another one's, beside those of this one."""
        self._commands.update(other._commands)

    def group(self, name: str) -> click.Group:
        """All that was added, for click."""
        return click.Group(name, self._commands, help=self._help, no_args_is_help=True)


def command_of(function: Callable[..., Any], name: str, help: str | None = None) -> Command:
    """A command that calls this function with what was given."""
    hints = get_type_hints(function, include_extras=True)
    parameters = [
        _parameter(each, hints[each.name])
        for each in inspect.signature(function).parameters.values()
    ]
    text = inspect.cleandoc(help if help is not None else function.__doc__ or "")
    return Command(name, params=parameters, callback=function, help=text)


class _Flagged(click.Option):
    """An option, and the heading under which it stands."""

    panel: str = OTHER_OPTIONS

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        return _none_if_empty(self, super().type_cast_value(ctx, value))


class _Positional(click.Argument):
    """An argument, and what it means."""

    meaning: str = ""

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        return _none_if_empty(self, super().type_cast_value(ctx, value))


def _none_if_empty(parameter: click.Parameter, value: Any) -> Any:
    """What was given no times was not given."""
    is_many = parameter.multiple or parameter.nargs == -1
    return (list(value) or None) if is_many and value is not None else value


class _Member(click.Choice[str]):
    """One of an enumeration's values."""

    def __init__(self, kind: type[enum.StrEnum]) -> None:
        super().__init__([member.value for member in kind])
        self._kind = kind

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if isinstance(value, self._kind):
            return value
        return self._kind(super().convert(value, param, ctx))


def _parameter(declared: inspect.Parameter, annotation: Any) -> click.Parameter:
    kind, *_ = get_args(annotation)
    told = next(each for each in annotation.__metadata__ if isinstance(each, _Told))
    kind, is_many = _without_none_and_list(kind)
    is_required = declared.default is inspect.Parameter.empty
    options = {"required": is_required, **told.told}
    options["type"] = _type(kind, told, options)
    if not is_required:
        options["default"] = declared.default
    if isinstance(told, Argument):
        options.pop("show_default", None)
        options.pop("show_envvar", None)
        argument = _Positional([declared.name], nargs=-1 if is_many else 1, **options)
        argument.meaning = told.help
        return argument
    options.setdefault("show_default", not is_required and kind is not bool)
    if options["show_default"] is False or declared.default is None:
        options["show_default"] = False
    flag = f"--{declared.name.replace('_', '-')}"
    names = list(told.names) or [flag]
    if kind is bool:
        del options["type"]
        options["is_flag"] = True
        names = names if told.names else [f"{flag}/--no-{flag[2:]}"]
    option = _Flagged([*names, declared.name], multiple=is_many, help=told.help, **options)
    option.panel = told.panel
    return option


def _without_none_and_list(kind: Any) -> tuple[Any, bool]:
    if get_origin(kind) in (Union, UnionType):
        (kind,) = (each for each in get_args(kind) if each is not NoneType)
    if get_origin(kind) in (list, Sequence):
        (kind,) = get_args(kind)
        return kind, True
    return kind, False


_OF_PATHS: Final = ("exists", "file_okay")
_TYPES: Final[Mapping[type, click.ParamType[Any]]] = {
    str: click.STRING,
    int: click.INT,
    float: click.FLOAT,
    bool: click.BOOL,
}


def _type(kind: Any, told: _Told, options: dict[str, Any]) -> click.ParamType[Any]:
    if kind is Path:
        wanted = {name: options.pop(name) for name in _OF_PATHS if name in options}
        return click.Path(path_type=Path, **wanted)
    if kind is int and (told.min is not None or told.max is not None):
        return click.IntRange(told.min, told.max)
    return _Member(kind) if issubclass(kind, enum.StrEnum) else _TYPES[kind]
