"""What was asked for, for one test: from the ini file, the command line and markers.

Rules of this file:

* It is loaded at every start of pytest: it imports nothing but the standard library's lightest.
* A marker beats the command line, which beats the ini file. A mistake is refused, with what to
  write instead.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

import pytest

MODES = ("off", "warn", "error")
MARKER = "leaks"
KIND_WORDS = (
    "task",
    "system task",
    "run",
    "asyncio task",
    "thread",
    "process",
    "socket",
    "file",
    "pipe",
    "descriptor",
    "memory channel",
    "async generator",
    "signal handler",
    "limiter token",
    "temporary directory",
)
"""The kinds' words, as in `report.KINDS`; a test compares the two."""


class Settings(NamedTuple):
    """How one test is checked."""

    mode: str = "off"
    """`off`, `warn` (told in the summary) or `error` (the test fails)."""
    is_strict: bool = False
    """Also when the body ends, before the test's nursery and fixtures are cleaned up."""
    allow: tuple[str, ...] = ()
    """What may stay, as `no_leaks(allow=...)` takes it."""
    kinds: frozenset[str] = frozenset(KIND_WORDS)
    """The words of the kinds that are looked for."""
    grace_s: float = 0.5
    """How long threads may take to end, in seconds."""
    off_by: str = ""
    """Why it is off, if a test says so itself."""


def add_options(parser: pytest.Parser) -> None:
    """Declare everything that can be set."""
    group = parser.getgroup("leaks", "leaks of Trio tests (trioleaks)")
    group.addoption("--leaks", metavar="MODE", choices=MODES, default=None,
                    help="check Trio tests for leaks: off, warn or error")  # fmt: skip
    group.addoption("--leaks-strict", action="store_true", default=None,
                    help="also check when a test's body ends, before its clean-up")  # fmt: skip
    group.addoption("--leaks-baseline", metavar="FILE", default=None,
                    help="leaks that FILE knows do not fail a test")  # fmt: skip
    group.addoption("--leaks-update", action="store_true", default=False,
                    help="write the leaks of this run into the baseline file")  # fmt: skip
    group.addoption("--leaks-json", metavar="FILE", default=None,
                    help="write what was found into FILE")  # fmt: skip
    parser.addini("leaks", "check Trio tests for leaks: off, warn or error", default="off")
    parser.addini("leaks_strict", "also check when a test's body ends", type="bool", default=False)
    parser.addini(
        "leaks_allow", "what tests may leave, each with a reason after ` # `", type="linelist",
        default=[],
    )  # fmt: skip
    parser.addini(
        "leaks_kinds", "kinds to look for, or with a leading - not to", type="linelist", default=[]
    )
    parser.addini("leaks_grace_s", "seconds that threads may take to end", default="0.5")
    parser.addini(
        "leaks_stuck_s", "seconds after which a cancelled task that goes on is stuck", default="5"
    )
    parser.addini("leaks_baseline", "leaks that this file knows do not fail a test", default="")


def of_config(config: pytest.Config) -> Settings:
    """What is asked for all tests.

    Raises:
        pytest.UsageError: something cannot be understood.
    """
    asked = config.getoption("--leaks")
    mode: str = config.getini("leaks") if asked is None else asked
    if mode not in MODES:
        raise pytest.UsageError(f"ini option leaks = {mode}: write one of {', '.join(MODES)}")
    return Settings(
        mode=mode,
        is_strict=bool(config.getoption("--leaks-strict") or config.getini("leaks_strict")),
        allow=tuple(_with_reason(line) for line in config.getini("leaks_allow")),
        kinds=_kinds(config.getini("leaks_kinds"), frozenset(KIND_WORDS), "ini option leaks_kinds"),
        grace_s=seconds(config, "leaks_grace_s"),
    )


def seconds(config: pytest.Config, name: str, least: float = 0.0) -> float:
    """An ini option that is a number of seconds, `least` or more.

    Raises:
        pytest.UsageError: it is not.
    """
    text = config.getini(name)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not least <= value < _INFINITE:
        raise pytest.UsageError(f"ini option {name} = {text}: write a number of seconds, e.g. 0.5")
    return value


def of_item(item: pytest.Item, common: Settings) -> Settings:
    """What is asked for this test: `common`, and what its markers change.

    Raises:
        pytest.UsageError: a marker cannot be understood.
    """
    settings = common
    for marker in reversed(list(item.iter_markers(MARKER))):
        settings = _marked(item, marker, settings)
    return settings


def _marked(item: pytest.Item, marker: pytest.Mark, settings: Settings) -> Settings:
    known = {"strict", "allow", "kinds", "grace_s"}
    wrong = marker.kwargs.keys() - known
    if len(marker.args) > 1 or wrong or (marker.args and marker.args[0] not in MODES):
        raise pytest.UsageError(
            f"{item.nodeid}: write leaks('off' | 'warn' | 'error', strict=, allow=[...], "
            f"kinds=[...], grace_s=), not {marker.args} {marker.kwargs}"
        )
    where = f"{item.nodeid}: marker leaks"
    mode = marker.args[0] if marker.args else "error" if settings.mode == "off" else settings.mode
    asked: Any = marker.kwargs
    return settings._replace(
        mode=mode,
        off_by="a marker" if mode == "off" else "",
        is_strict=_truth(asked.get("strict", settings.is_strict), where),
        allow=(*settings.allow, *_names(asked.get("allow", ()), where, "allow")),
        kinds=_kinds(_names(asked.get("kinds", ()), where, "kinds"), settings.kinds, where),
        grace_s=_grace(asked.get("grace_s", settings.grace_s), where),
    )


def _grace(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _INFINITE:
        raise pytest.UsageError(f"{where}: grace_s={value!r}: write a number of seconds, e.g. 0.5")
    return float(value)


_INFINITE = float("inf")


def _truth(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise pytest.UsageError(f"{where}: strict={value!r}: write True or False")
    return value


def _names(given: Any, where: str, what: str) -> tuple[str, ...]:
    if isinstance(given, str):
        raise pytest.UsageError(f"{where}: {what} must be a list, not one string: [{given!r}]")
    if not isinstance(given, Collection) or not all(isinstance(each, str) for each in given):
        raise pytest.UsageError(f"{where}: {what} must be a list of strings, not {given!r}")
    return tuple(given)


def _with_reason(line: str) -> str:
    entry, _, reason = line.partition(" # ")
    if not reason.strip():
        raise pytest.UsageError(
            f"ini option leaks_allow: {line!r} gives no reason; write `{line.strip()}  # why it "
            "may stay`"
        )
    return entry.strip()


def _kinds(words: Iterable[str], common: frozenset[str], where: str) -> frozenset[str]:
    added: set[str] = set()
    removed: set[str] = set()
    for word in words:
        kind = word.removeprefix("-").strip()
        if kind not in KIND_WORDS:
            raise pytest.UsageError(
                f"{where}: there is no kind {kind!r}; there are {', '.join(KIND_WORDS)}"
            )
        (removed if word.startswith("-") else added).add(kind)
    return (frozenset(added) if added else common) - removed
