"""Where settings come from: the command line, else the environment, else a TOML file.

Rules of this file:

* Nothing is raised: what is wrong becomes a sentence that begins with where it was said, so that
  all of it can be told at once.
* An unknown name is never passed over in silence, except in the environment, which is not ours:
  there only what looks like a slip of the pen is reported.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import attrs

from .options import (
    CONFIG_FLAG,
    CONFIG_VARIABLE,
    ENVIRONMENT_PREFIX,
    OPTIONS,
    Option,
)

OTHER_VARIABLES: Final = frozenset({CONFIG_VARIABLE, "TRIORAFT_ADDRESSES"})
"""What the environment may also say to trioraft."""
_SERVICE_LINK: Final = re.compile(r"TRIORAFT_(.+_)?(SERVICE_(HOST|PORT)|PORT)(_.*)?")
"""What Kubernetes puts into a container's environment for a service that is called trioraft."""

Flags: TypeAlias = Mapping[str, str | bool | Sequence[str] | None]
"""What the command line says, by the option's name; None or an empty list: nothing."""


@attrs.frozen
class Given:
    """What was said about an option."""

    texts: tuple[str, ...]
    """One, except for an option of kind "many"."""
    where: str
    """As in "--listen", "TRIORAFT_LISTEN" or "node.toml: listen"."""


def gather(flags: Flags, environment: Mapping[str, str], problems: list[str]) -> dict[str, Given]:
    """What was said, by the option's name; the nearest source counts.

    Args:
        flags: the command line; "config" names the file.
        environment: of the process.
        problems: what is wrong is appended.
    """
    found: dict[str, Given] = {}
    config = flags.get("config") or environment.get(CONFIG_VARIABLE)
    if isinstance(config, str) and config:
        where = CONFIG_FLAG if flags.get("config") else CONFIG_VARIABLE
        found.update(_from_file(Path(config), where, problems))
    found.update(_from_environment(environment, problems))
    found.update(_from_flags(flags))
    return found


def _from_flags(flags: Flags) -> Iterator[tuple[str, Given]]:
    for name, option in OPTIONS.items():
        value = flags.get(name)
        if value is None or value is False or value == [] or value == ():
            continue
        if value is True:
            texts: tuple[str, ...] = ("true",)
        else:
            texts = (value,) if isinstance(value, str) else tuple(value)
        yield name, Given(texts, option.flag)


def _from_environment(
    environment: Mapping[str, str], problems: list[str]
) -> Iterator[tuple[str, Given]]:
    by_variable = {option.variable: option for option in OPTIONS.values()}
    known = [*by_variable, *OTHER_VARIABLES]
    for variable in sorted(environment):
        option = by_variable.get(variable)
        if option is not None:
            text = environment[variable]
            texts = _split(text) if option.kind == "many" else (text,)
            yield option.name, Given(texts, variable)
        elif variable.startswith(ENVIRONMENT_PREFIX) and variable not in OTHER_VARIABLES:
            meant = difflib.get_close_matches(variable, known, 1, 0.85)
            if meant and not _SERVICE_LINK.fullmatch(variable):
                problems.append(f"{variable} is no setting: did you mean {meant[0]}?")


def _from_file(path: Path, where: str, problems: list[str]) -> Iterator[tuple[str, Given]]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(f"{where} {str(path)!r} cannot be read: {error.strerror}")
        return
    except ValueError as error:  # no TOML, or no UTF-8
        problems.append(f"{where} {str(path)!r} is not a TOML file: {error}")
        return
    by_key = {option.key: option for option in OPTIONS.values()}
    for key, value in content.items():
        option = by_key.get(key)
        if option is None:
            problems.append(f"{path}: {key!r} is no setting{_meant(key, list(by_key))}")
            continue
        texts = _texts_of(option, value)
        if texts is None:
            problems.append(f"{path}: {key} is {value!r}: {_shape_of(option)}")
        else:
            yield option.name, Given(texts, f"{path}: {key}")


def _meant(key: str, known: list[str]) -> str:
    meant = difflib.get_close_matches(key.replace("_", "-"), known, 1, 0.6)
    return f": did you mean {meant[0]!r}?" if meant else "; docs/serve.md lists them all"


def _texts_of(option: Option, value: object) -> tuple[str, ...] | None:
    """A file's value as it would stand on the command line; None if it has the wrong shape."""
    if option.kind == "many":
        if isinstance(value, dict) and all(isinstance(item, str) for item in value.values()):
            return tuple(f"{name}={item}" for name, item in value.items())
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        return None
    if isinstance(value, bool):
        return ("true" if value else "false",)
    if isinstance(value, str | int | float):
        return (str(value),)
    return None


def _shape_of(option: Option) -> str:
    if option.kind == "many":
        return 'give a table, as { 1 = "127.0.0.1:7001" }, or a list of "ID=HOST:PORT"'
    return "give one value"


def _split(text: str) -> tuple[str, ...]:
    return tuple(part for part in re.split(r"[,\s]+", text) if part)
