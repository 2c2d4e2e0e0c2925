"""What a snapshot of a replicated object holds, whatever its fields are and what commands do with
them while it is written."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Generic, TypeVar

import msgspec
import pytest
from trio.testing import MockClock

from tests.support import open_single
from trioraft import ConfigError, MemoryStorage, ResourceExhausted
from trioraft.core.types import SnapshotMeta
from trioraft.machines.replicated import ReplicatedObject, command
from trioraft.machines.viewed import ViewedDict, ViewedDictOfMutable

T = TypeVar("T")


class Box(msgspec.Struct, Generic[T], frozen=True):
    """Something of which there is one for each type."""

    inside: T


class Shelf(ReplicatedObject):
    """Fields of many kinds."""

    numbers: dict[str, int] = msgspec.field(default_factory=lambda: {"one": 1})
    lists: dict[str, list[int]] = msgspec.field(default_factory=lambda: {"a": [1]})
    either: dict[str, int | list[int]] = msgspec.field(default_factory=dict)
    anything: Any = None
    boxes: dict[str, Box[int]] = msgspec.field(default_factory=lambda: {"b": Box(1)})
    bounded: Annotated[dict[str, int], msgspec.Meta(min_length=2, max_length=700)] = msgspec.field(
        default_factory=lambda: {"x": 1, "y": 2}
    )
    long: Annotated[list[int], msgspec.Meta(min_length=20)] = msgspec.field(
        default_factory=lambda: list(range(40))
    )
    titled: Annotated[dict[str, int], msgspec.Meta(title="a title")] = msgspec.field(
        default_factory=lambda: {"t": 1}
    )
    some: set[int] = msgspec.field(default_factory=set)
    fixed: frozenset[str] = frozenset()

    @command
    def put(self, key: str, value: int) -> None:
        """Set one."""
        self.numbers[key] = value


def hosted() -> Shelf:
    """As a node has it."""
    shelf = Shelf()
    shelf.in_sessions()
    return shelf


def state_of(shelf: Shelf) -> bytes:
    """All of it, as a snapshot has it."""
    return b"".join(shelf.snapshot())


def restored(content: Iterable[bytes]) -> Shelf:
    """An object that was brought up by this snapshot."""
    shelf = Shelf()
    shelf.restore(content)
    return shelf


def test_a_class_of_which_there_is_one_for_each_type_can_be_a_value() -> None:
    shelf = hosted()
    assert type(shelf.boxes) is ViewedDict
    shelf.boxes["c"] = Box(2)
    assert restored(shelf.snapshot()).boxes == {"b": Box(1), "c": Box(2)}


def test_a_field_with_bounds_on_its_length_is_written_and_read_as_a_whole() -> None:
    shelf = hosted()
    shelf.long = list(range(2000))
    shelf.bounded = {str(number): number for number in range(600)}
    again = restored([state_of(shelf)])
    assert (again.long, again.bounded) == (shelf.long, shelf.bounded)
    shelf.long = [1]
    with pytest.raises(ConfigError, match="length >= 20"):
        state_of(shelf)


def test_s7_a_dict_that_came_from_another_field_is_viewed_as_this_one_is() -> None:
    shelf = hosted()
    shelf.either, shelf.numbers = shelf.numbers, {}  # type: ignore[assignment] # ints they are
    shelf._replica.keep_views()
    assert type(shelf.either) is ViewedDictOfMutable
    shelf.either["two"] = [2]
    before, view = state_of(shelf), shelf.snapshot()
    held = shelf.either["two"]
    assert isinstance(held, list)
    held.append(3)
    assert b"".join(view) == before


def test_s7_a_dict_in_a_field_of_anything_is_written_at_once() -> None:
    shelf = hosted()
    shelf.anything, shelf.numbers = shelf.numbers, {}
    shelf.anything["two"] = [2]
    before, view = state_of(shelf), shelf.snapshot()
    shelf.anything["two"].append(3)
    assert b"".join(view) == before


def test_a_title_makes_no_difference() -> None:
    shelf = hosted()
    assert type(shelf.titled) is ViewedDict
    assert restored(shelf.snapshot()).titled == {"t": 1}


def test_sets_are_read_piece_by_piece() -> None:
    shelf = hosted()
    shelf.some, shelf.fixed = set(range(5000)), frozenset(map(str, range(5000)))
    again = restored([state_of(shelf)])
    assert (again.some, again.fixed) == (shelf.some, shelf.fixed)
    assert type(again.fixed) is frozenset


@pytest.fixture
def no_collector() -> Any:
    """The collector does not run by itself, as where what lives long was frozen."""
    gc.disable()
    yield
    gc.enable()


async def test_a_snapshot_that_could_not_be_written_keeps_no_view(
    autojump_clock: MockClock, no_collector: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(_: MemoryStorage, *args: Any) -> SnapshotMeta:
        pieces: Iterator[bytes] = iter(args[-1])
        while b"one" not in next(pieces):
            pass
        raise ResourceExhausted("no room")

    monkeypatch.setattr(MemoryStorage, "write_snapshot", write)
    shelf = Shelf()
    async with open_single(machine=shelf) as node:
        shelf.attach(node)
        await shelf.put("two", 2)
        with pytest.raises(ResourceExhausted):
            await node.take_snapshot()
        assert isinstance(shelf.numbers, ViewedDict)
        assert not shelf.numbers.is_viewed
        await shelf.put("two", 3)
        assert not shelf.numbers._views
