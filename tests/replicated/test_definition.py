"""A replicated class is checked when it is defined: what cannot work is refused with what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import attrs
import msgspec
import pytest

from tests.replicated.support import Board, Point
from trioraft import ConfigError
from trioraft.machines.replicated import ReplicatedObject, command, query
from trioraft.structures import Queue


class Opaque:
    """Nothing that could travel."""


def refused(body: dict[str, Any], message: str) -> None:
    """A class with this body is refused."""
    with pytest.raises(ConfigError, match=message):
        type("Bad", (ReplicatedObject,), {"__module__": __name__, **body})


def a_command(function: Callable[..., Any], **annotations: Any) -> dict[str, Any]:
    """A body with one command, annotated like this."""
    function.__annotations__ = annotations
    function.__name__ = "do"
    return {"do": command(function)}


def test_annotations_that_cannot_travel_are_refused() -> None:
    refused({"__annotations__": {"x": Opaque}}, r"Bad\.x is annotated Opaque.*cannot travel")
    refused({"__annotations__": {"x": list[Opaque]}}, r"Bad\.x .*a Opaque cannot travel")
    refused(a_command(lambda self, n: None, n=Opaque, **{"return": None}), r"Bad\.do\(n\) is anno")
    refused(a_command(lambda self: None, **{"return": complex}), r"result of Bad\.do .*complex")
    refused({"__annotations__": {"x": "Nowhere"}}, "'Nowhere', which is not known")


def test_commands_without_annotations_are_refused() -> None:
    refused(a_command(lambda self, n: None, **{"return": None}), r"Bad\.do\(n\) has no annotation")
    refused(a_command(lambda self: None), r"Bad\.do has no return annotation")
    refused(a_command(lambda self, *n: None, n=int, **{"return": None}), "name each argument")
    refused(a_command(lambda self, **n: None, n=int, **{"return": None}), "name each argument")


def test_methods_that_are_not_plain_are_refused() -> None:
    async def do(self: Any) -> None: ...

    refused({"do": command(do)}, "async function")
    other: Any = staticmethod(lambda: None)
    refused({"do": command(other)}, "right above the `def`")


def test_names_and_versions_are_checked() -> None:
    refused({"__annotations__": {"version": int}, "version": 1}, "has the name of something")
    refused({"version": 0}, "version is 0")
    refused({"version": True}, "version is True")

    def do(self: Any) -> None: ...

    refused({"do": command(since=2)(do)}, r"since=2, but Bad\.version is 1")


def test_class_variables_and_private_names_are_no_state() -> None:
    assert set(Board._definition.fields) == {"total", "points"}


def test_a_marked_method_of_another_class_says_what_to_derive_from() -> None:
    class NotReplicated:
        @command
        def do(self) -> None: ...

    with pytest.raises(ConfigError, match=r"class NotReplicated\(ReplicatedObject\)"):
        _ = NotReplicated().do()


def test_the_base_class_is_not_for_use() -> None:
    with pytest.raises(ConfigError, match="derive a class"):
        ReplicatedObject()


def test_defaults_are_shared_with_no_other_object() -> None:
    first, second = Literals(), Literals()
    first.names.append("x")
    assert second.names == ["always"]
    assert Literals.names == ["always"]


class Literals(ReplicatedObject):
    """Defaults as one would write them."""

    names: list[str] = ["always"]  # noqa: RUF012 - copied for each object: that is the test
    shown: ClassVar[int] = 3

    @query
    def get(self) -> list[str]:
        """All names."""
        return self.names


class Made(ReplicatedObject):
    """State that `__init__` makes."""

    names: list[str]
    missing: int

    def __init__(self, *names: str) -> None:
        self.names = list(names)


def test_init_may_make_state_and_what_it_forgets_is_found() -> None:
    made = Made("a", "b")
    assert made.names == ["a", "b"]
    with pytest.raises(ConfigError, match=r"Made\.missing has no value"):
        made.attach(object())  # type: ignore[arg-type] # it does not come to that


def test_an_object_without_a_node_says_how_to_give_it_one() -> None:
    with pytest.raises(ConfigError, match=r"board\.attach\(node\)"):
        _ = Board().port


class Points(Queue[Point]):
    """Items of a class of one's own."""


class Pairs(Queue[tuple[int, list[Point]]]):
    """Nested ones."""


@pytest.mark.parametrize(
    ("queue", "item"), [(Points(), Point(1, 2)), (Pairs(), (1, [Point(3)])), (Queue[int](), 5)]
)
def test_a_subclass_fills_in_type_variables(queue: Queue[Any], item: object) -> None:
    method = queue._definition.methods["put"]
    queue.apply(1, call_of(queue, "put", item))
    assert queue.entries == {0: item}
    other = type(queue)()
    other.restore(queue.snapshot())
    assert other.entries == {0: item}
    assert type(other.entries[0]) is type(item)
    assert method.name == "put"


def call_of(instance: ReplicatedObject, name: str, *args: Any) -> bytes:
    """A command as it stands in the log."""
    arguments = msgspec.Raw(instance._definition.methods[name].encode(args, {}))
    return msgspec.msgpack.encode([0, name, 1, 0.0, arguments])


@attrs.frozen
class Kept:
    """An attrs class can travel as well."""

    name: str


class Keeps(ReplicatedObject):
    """Keeps one."""

    kept: Kept | None = None

    @command
    def keep(self, kept: Kept) -> Kept:
        """Keep it."""
        self.kept = kept
        return kept


def test_attrs_classes_travel() -> None:
    keeps = Keeps()
    keeps.apply(1, call_of(keeps, "keep", Kept("x")))
    assert keeps.kept == Kept("x")
