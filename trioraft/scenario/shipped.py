"""The scenarios that come with the package, by name; and any other, from a file."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Final

from ..core.errors import ConfigError
from .model import Scenario
from .parsing import parse

FOLDER: Final = Path(__file__).parent / "shipped"
SUFFIX: Final = ".scenario"
BYTES_MAX: Final = 100_000
"""More is none that anybody wrote."""


@cache
def shipped_names() -> tuple[str, ...]:
    """Of all that come with the package, in order."""
    return tuple(sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}")))


def load(name: str | Path) -> Scenario:
    """Read a shipped scenario, by its name, or one from a file.

    Args:
        name: as `shipped_names` has it, or a file: a path, or whatever has a dot or a slash in it.

    Raises:
        ConfigError: there is no such scenario, or the file cannot be read.
        ScenarioError: at the first mistake in it.
    """
    wanted = str(name)
    if isinstance(name, str) and not any(mark in name for mark in "./\\"):
        wanted = wanted.replace("_", "-")
        if wanted in shipped_names():
            return parse(_read(FOLDER / (wanted + SUFFIX)), wanted + SUFFIX, name=wanted)
        near = get_close_matches(wanted, shipped_names(), n=1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"there is no scenario {wanted!r}.{meant} `trioraft demo --list` shows all; a file of "
            f"your own is named with its dot, as {wanted}{SUFFIX}"
        )
    return parse(_read(Path(name)), wanted)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(BYTES_MAX + 1)
        if len(data) > BYTES_MAX:
            raise ConfigError(f"{path} is no scenario: it has more than {BYTES_MAX} bytes")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot read the scenario {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is no text in UTF-8: byte {error.start} cannot be read"
        ) from error
