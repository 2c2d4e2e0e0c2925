"""Leaks that a project had before it asked: let be, while new ones fail.

Rules of this file:

* A leak is known by its kind and the function that started it, without the line, which moves;
  where that is unknown, by its kind and name, without the numbers in it.
* It is loaded at every start of pytest: the standard library's lightest, and no more.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeAlias

import pytest

VERSION = 1

Told: TypeAlias = dict[str, Any]
"""What a report carries of a leak: see `session`."""

_PLACE = re.compile(r"^(.*):\d+ in (.*)$", re.DOTALL)
_NUMBER = re.compile(r"\d+")


def key_of(leak: Told) -> tuple[str, str]:
    """What makes it the same leak, in this run and the next."""
    place = leak["started_at"]
    match = None if place is None else _PLACE.match(place)
    where = f"name {_NUMBER.sub('0', leak['name'])}" if match is None else f"{match[1]} {match[2]}"
    return leak["kind"], where


class Baseline:
    """The leaks that a file knows."""

    def __init__(self, path: Path | None) -> None:
        """Read the file; one that is not there yet knows no leak.

        Raises:
            pytest.UsageError: it is no baseline.
        """
        self._path = path
        self._known: dict[tuple[str, str], set[str]] = {}
        if path is None or not path.exists():
            return
        import json  # here: most runs have no baseline

        try:
            read = json.loads(path.read_text(encoding="utf-8"))
            entries: Any = read["leaks"] if read["version"] == VERSION else None
            for entry in entries:
                self._known[entry["kind"], entry["where"]] = set(entry["tests"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise pytest.UsageError(
                f"--leaks-baseline {path}: this is no baseline of version {VERSION} ({error!r}); "
                "write a new one with --leaks-update"
            ) from error

    def knows(self, leak: Told) -> bool:
        """Whether this leak is an old one."""
        return key_of(leak) in self._known

    def write(self, results: list[Told]) -> int:
        """Write what these tests leak, and what is known of others; returns how many entries."""
        import json  # here: see above

        if self._path is None:
            return 0
        ran = {result["test"] for result in results}
        known = {key: tests - ran for key, tests in self._known.items()}
        for result in results:
            for leak in result["leaks"]:
                known.setdefault(key_of(leak), set()).add(result["test"])
        entries = [
            {"kind": kind, "where": where, "tests": sorted(tests)}
            for (kind, where), tests in sorted(known.items())
            if tests
        ]
        text = json.dumps({"version": VERSION, "leaks": entries}, indent=1)
        self._path.write_text(text + "\n", encoding="utf-8")
        return len(entries)


def of_config(config: pytest.Config) -> Baseline:
    """The baseline that the command line or the ini file names."""
    named: str = config.getoption("--leaks-baseline") or config.getini("leaks_baseline")
    if not named:
        return Baseline(None)
    folder = (
        config.invocation_params.dir if config.getoption("--leaks-baseline") else config.rootpath
    )
    return Baseline(Path(folder, named))
