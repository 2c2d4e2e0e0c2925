"""The guard: what is on a disk, or crosses a wire, stays as an earlier release knows it.

When a test here fails, the change is at fault before the list is: see `frozen.WHAT_TO_DO`.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.formats import frozen
from tests.formats.frozen import (
    ADDED,
    HOMES,
    NEW,
    WHAT_TO_DO,
    WIDENED,
    differences,
    frozen_structs,
    present_structs,
)


@pytest.mark.parametrize("group", HOMES)
def test_structs_are_what_an_earlier_release_reads_and_writes(group: str) -> None:
    found = list(differences(group, frozen_structs(group), present_structs(group)))
    assert not found, "\n".join([*found, WHAT_TO_DO])


def test_whatever_is_listed_as_meant_is_there() -> None:
    """A list of exceptions that are none hides the next one."""
    for where in (*ADDED, *WIDENED):
        group, name, field = where.split(".")
        names = [each.name for each in msgspec.structs.fields(present_structs(group)[name])]
        assert field in names, where
    for where in NEW:
        group, name = where.split(".")
        assert name in present_structs(group), where
        assert name not in frozen_structs(group), where
    assert all(reason.endswith(".") for reason in (*ADDED.values(), *WIDENED.values()))


# -- the guard itself: each kind of change is seen ---------------------------------------------


class Before(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """As it was."""

    index: int
    term: int = 0


class Moved(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Two fields have changed places."""

    term: int
    index: int = 0


class Retyped(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """One is of another type."""

    index: str
    term: int = 0


class Retagged(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """It has the tag of another message."""

    index: int
    term: int = 0


class Mapped(msgspec.Struct, frozen=True, tag=1):
    """It is a map now."""

    index: int
    term: int = 0


class Shortened(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """One is gone."""

    index: int


class Redefaulted(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """What is not said means something else now."""

    index: int
    term: int = 1


class Lengthened(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """One was added."""

    index: int
    term: int = 0
    more: int = 0


class Demanding(msgspec.Struct, frozen=True, array_like=True, tag=1, kw_only=True):
    """One was added, and has to be said."""

    index: int
    term: int = 0
    more: int


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (Before, []),
        (Moved, ["g.Before.index was field 1, where term stands now"]),
        (Retyped, ["g.Before.index was int, and is str"]),
        (Retagged, ["g.Before was encoded as array, tag 1"]),
        (Mapped, ["g.Before was encoded as array"]),
        (Shortened, ["g.Before.term was field 2, where nothing stands now"]),
        (Redefaulted, ["g.Before.term had the default 0, and has 1"]),
        (Lengthened, ["g.Before.more was added, and does not stand in ADDED"]),
        (Demanding, ["g.Before.more was added without a default", "does not stand in ADDED"]),
        (None, ["g.Before is gone, or was renamed"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_change_is_told(now: Any, told: list[str]) -> None:
    present = {} if now is None else {"Before": now}
    found = list(differences("g", {"Before": Before}, present))
    assert len(found) == len(told)
    assert all(part in sentence for part, sentence in zip(told, found, strict=True))


def test_a_struct_that_nobody_announced_is_told() -> None:
    (told,) = differences("g", {}, {"Before": Before})
    assert told.startswith("g.Before is new")


def test_what_is_listed_with_its_reason_may_be_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(frozen.ADDED, "g.Before.more", "It means nothing to whoever is older.")
    assert list(differences("g", {"Before": Before}, {"Before": Lengthened})) == []
