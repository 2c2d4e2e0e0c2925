"""Whether a fixture that lives on still holds a thing that a test has made.

Rules of this file:

* A client that is kept for a whole module opens its connection in the first test: that is no leak
  of the first test. The fixture's value is searched for the thing, and nothing else is.
* It is searched only when something is left and such a fixture exists, and only so far.
"""

from __future__ import annotations

import functools
import gc
import io
import subprocess
import sys
from collections import deque
from collections.abc import Iterable
from types import AsyncGeneratorType, GeneratorType, ModuleType
from typing import Any, final

import pytest

from .probe import Left

OBJECTS_MAX = 50_000  # objects that are looked at below the fixtures' values

CACHE = "functools.cache"
"""Holds what was made once for the whole process, and is meant to stay."""

_PLAIN = (str, bytes, int, float, complex, bool, type(None), type, ModuleType)


@final
class Holders:
    """The fixtures of wider scopes that live."""

    def __init__(self) -> None:
        self._fixtures: dict[Any, object] = {}

    def add(self, fixturedef: pytest.FixtureDef[Any], node: object) -> None:
        """This fixture was set up, for that scope."""
        self._fixtures[fixturedef] = node

    def remove(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        """This fixture was torn down."""
        self._fixtures.pop(fixturedef, None)

    def holding(self, found: Iterable[Left]) -> dict[object, object]:
        """By key, the scope whose fixture holds the thing, or `CACHE` if `functools` does."""
        looked_for = list(found)
        held: dict[object, object] = dict.fromkeys(_cached(looked_for), CACHE)
        for fixturedef, node in self._fixtures.items():
            roots = _roots(fixturedef)
            for key in held_by(roots, looked_for) if roots else ():
                held.setdefault(key, node)
        return held


def _cached(looked_for: list[Left]) -> list[object]:
    """The keys of what is a result that a `functools.cache` keeps.

    Each search goes through all objects of the process: all things are searched for at once.
    """
    things = {id(left.thing): left for left in looked_for if left.thing is not None}
    if not things:
        return []
    kept = gc.get_referrers(*(left.thing for left in things.values()))
    dicts = [each for each in kept if type(each) is dict and "__name__" not in each]
    above = gc.get_referrers(*dicts) if dicts else []
    found: list[object] = []
    for cache in [each for each in (*kept, *above) if type(each) is _CACHE]:
        for each in gc.get_referents(cache):
            results = each.values() if type(each) is dict else (each,)
            found += [things[id(result)].key for result in results if id(result) in things]
    return found


_GENERATORS = (GeneratorType, AsyncGeneratorType)
_CACHE = type(functools.cache(len))


def _roots(fixturedef: Any) -> list[object]:
    """The fixture's value, and what its generator's frame holds until it is torn down."""
    cached = getattr(fixturedef, "cached_result", None)
    roots = [] if cached is None else [cached[0]]
    for finalizer in getattr(fixturedef, "_finalizers", ()):
        if isinstance(finalizer, functools.partial):
            roots += [each for each in finalizer.args if isinstance(each, _GENERATORS)]
    return [root for root in roots if not isinstance(root, _PLAIN)]


def held_by(roots: list[object], looked_for: list[Left]) -> set[object]:
    """The keys of what these objects, or others below them, are or hold.

    Descriptors and processes are known by Python's own objects for them, and by no number.
    """
    things = {id(left.thing): left.key for left in looked_for if left.thing is not None}
    numbers: dict[object, object] = {}
    for left in looked_for:
        key = left.key
        if isinstance(key, tuple) and key[0] in ("descriptor", "process"):
            numbers[key[0], key[1]] = key
    found: set[object] = set()
    seen: set[int] = {id(module.__dict__) for module in list(sys.modules.values())}
    queue = deque(roots)
    roots_left = len(roots)
    while queue and len(seen) < OBJECTS_MAX:
        each = queue.popleft()
        roots_left -= 1
        if id(each) in seen or isinstance(each, _PLAIN) or (roots_left < 0 and _is_pytests(each)):
            continue
        seen.add(id(each))
        if id(each) in things:
            found.add(things[id(each)])
        number = _number(each)
        if number in numbers:
            found.add(numbers[number])
        queue.extend(gc.get_referents(each))
    return found


def _is_pytests(thing: object) -> bool:
    """Whether this is pytest's own: below a session, a test or a request lies everything."""
    return type(thing).__module__.startswith(("_pytest.", "pluggy."))


def _number(thing: object) -> tuple[str, int] | None:
    if isinstance(thing, subprocess.Popen):
        return "process", thing.pid
    if isinstance(thing, io.FileIO):
        try:
            return "descriptor", thing.fileno()
        except ValueError:  # closed
            return None
    return None
