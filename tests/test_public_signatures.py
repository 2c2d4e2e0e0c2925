"""Whatever a public signature speaks of can be imported from a public module.

Rules of this file:

* The walk begins at all public names and goes through signatures, fields and properties to
  whatever types they mention, and through those on.
* Constructors of classes that say "Made by …" or "Handed out …" are nobody's to call, and are not
  walked.
* What begins with `_` is not public, wherever it stands.
"""

from __future__ import annotations

import inspect
import sys
import typing
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

import attrs

from tests.public_names import MODULES, ROOT, public_objects

OURS = ("trioraft", "trioleaks")
SPECIAL = (
    *("__init__", "__call__", "__aenter__", "__enter__", "__aiter__", "__iter__", "__anext__"),
    *("__next__", "__await__", "__getitem__", "__contains__", "__len__"),
)
NOT_WALKED = {
    "Permission.check": "the port calls it, with the wire's requests",
    "Meter.on_acted": "the node calls it, with its core",
    "Meter.proposal": "the node calls it, with its budget",
}
"""Methods whose signatures are not public, and why."""


def types_in(annotation: Any) -> Iterator[type]:
    """Every class that an annotation mentions."""
    if isinstance(annotation, TypeVar):
        for bound in (annotation.__bound__, *annotation.__constraints__):
            yield from types_in(bound)
    elif isinstance(annotation, list | tuple):
        for part in annotation:
            yield from types_in(part)
    elif (arguments := typing.get_args(annotation)) and typing.get_origin(
        annotation
    ) is not typing.Literal:
        yield from types_in(typing.get_origin(annotation))
        yield from types_in(arguments)
    elif isinstance(annotation, type):
        yield annotation


def is_ours(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in OURS


@attrs.define
class Walk:
    """From what is public to all that it mentions."""

    public: dict[str, object]
    missing: dict[str, str] = attrs.field(factory=dict)
    """What cannot be imported: its name, and where it is mentioned."""
    unreadable: list[str] = attrs.field(factory=list)
    walked: int = 0
    _queue: deque[tuple[object, str]] = attrs.field(factory=deque)
    _seen: set[int] = attrs.field(factory=set)

    def run(self) -> Walk:
        public_ids = {id(value) for value in self.public.values()}
        self._queue.extend((value, name) for name, value in self.public.items())
        while self._queue:
            value, where = self._queue.popleft()
            if id(value) in self._seen:
                continue
            self._seen.add(id(value))
            self.walked += 1
            for kind, place in self._mentioned(value, where):
                if not is_ours(kind) or kind.__name__.startswith("_"):
                    continue
                if id(kind) not in public_ids:
                    self.missing.setdefault(f"{kind.__module__}.{kind.__qualname__}", place)
                self._queue.append((kind, place))
        return self

    def _mentioned(self, value: object, where: str) -> Iterator[tuple[type, str]]:
        if isinstance(value, type):
            if is_ours(value):
                yield from self._of_class(value, where)
        elif inspect.isfunction(value):
            yield from self._annotated(value, where)
        else:
            yield from ((kind, where) for kind in types_in(value))

    def _of_class(self, kind: type, where: str) -> Iterator[tuple[type, str]]:
        yield from self._annotated(kind, where)
        for name in dir(kind):
            member = inspect.getattr_static(kind, name)
            if name == "__init__" and is_made_for_you(kind):
                continue
            if name.startswith("_") and name not in SPECIAL:
                continue
            if f"{kind.__name__}.{name}" in NOT_WALKED:
                continue
            function = function_of(member)
            if function is not None and function.__module__.partition(".")[0] in OURS:
                yield from self._annotated(function, f"{where}.{name}")

    def _annotated(
        self, value: type | Callable[..., Any], where: str
    ) -> Iterator[tuple[type, str]]:
        try:
            hints = typing.get_type_hints(value, include_extras=True)
        except (NameError, TypeError) as error:
            self.unreadable.append(f"{where}: {error}")
            return
        for name, annotation in hints.items():
            if not name.startswith("_"):
                yield from ((kind, f"{where}({name})") for kind in types_in(annotation))


def function_of(member: object) -> Callable[..., Any] | None:
    """The function behind a method, a property or a decorated one."""
    if isinstance(member, property):
        member = member.fget
    if isinstance(member, staticmethod | classmethod):
        member = member.__func__
    if not callable(member):
        return None
    function = inspect.unwrap(member)
    return function if inspect.isfunction(function) else None


def is_made_for_you(kind: type) -> bool:
    """Whether its own description says who makes it."""
    description = kind.__doc__ or ""
    return "Made by " in description or "Handed out " in description


def test_the_page_lists_every_module_that_hands_names_on() -> None:
    package = ROOT / "trioraft"
    at_the_top = {f"trioraft.{path.stem}" for path in package.glob("[a-z]*.py")}
    assert at_the_top | {"trioraft", "trioraft.testing"} <= {*MODULES}


def test_whatever_public_signatures_mention_is_public() -> None:
    walk = Walk(public_objects()).run()
    assert walk.unreadable == []
    assert walk.missing == {}
    assert walk.walked > 250


def test_the_protocols_to_implement_can_be_imported() -> None:
    from trioraft import StateMachine, Storage, Transport
    from trioraft.protocols import Entry, HardState, Recovered, SnapshotMeta

    protocols = (StateMachine, Storage, Transport)
    assert all(getattr(kind, "_is_protocol", False) for kind in protocols)
    assert all(isinstance(kind, type) for kind in (Entry, HardState, Recovered, SnapshotMeta))


T = TypeVar("T")


class _Hidden:
    """Not to be seen."""


class Forgotten:
    """Mentioned, and not exported."""


class Mentions(Generic[T]):
    """Public, as the test says."""

    field: list[Forgotten]

    def hidden(self) -> _Hidden: ...  # type: ignore[empty-body] # its signature is the subject


class Made:
    """Made by nobody else."""

    def __init__(self, inner: Forgotten) -> None: ...


class Asks(Protocol):
    """A protocol's methods count, and what callables take."""

    def ask(self, ask: Callable[[Forgotten], int]) -> None: ...

    @property
    def answer(self) -> Forgotten | None: ...


def test_the_walk_finds_what_is_missing(monkeypatch: Any) -> None:
    monkeypatch.setattr(sys.modules[__name__], "OURS", ("trioraft", __name__.partition(".")[0]))

    def missing(kind: type) -> list[str]:
        return list(Walk({"x": kind}).run().missing.values())

    assert missing(Mentions) == ["x(field)"]
    assert missing(Made) == []
    assert missing(Asks) == ["x.answer(return)"]
    assert list(types_in(Callable[[Forgotten], int]))[1:] == [Forgotten, int]
