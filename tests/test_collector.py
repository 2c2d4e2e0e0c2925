"""What lives long is not searched for cycles again and again; what dies is found all the same."""

from __future__ import annotations

import gc
import weakref
from typing import final

import pytest

from trioraft.tasks import collector
from trioraft.tasks.collector import long_lived_set_aside


@final
class Ring:
    """Refers to itself."""

    def __init__(self) -> None:
        self.self = self


def test_what_was_found_alive_is_set_aside_and_back_at_the_end() -> None:
    kept = [Ring() for _ in range(1000)]
    before = gc.get_threshold()
    with long_lived_set_aside():
        assert gc.get_freeze_count() > 1000
        assert not any(isinstance(each, Ring) for each in gc.get_objects())
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == before
    assert len([each for each in gc.get_objects() if isinstance(each, Ring)]) == len(kept)


def test_new_cycles_are_collected_as_ever() -> None:
    with long_lived_set_aside():
        ring = weakref.ref(Ring())
        assert ring() is not None
        gc.collect()
        assert ring() is None


def test_what_was_set_aside_and_died_is_found_once_as_much_again_was_set_aside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(collector, "SOONEST", 1)
    with long_lived_set_aside():
        kept = Ring()
        gc.collect()  # it is set aside
        ring = weakref.ref(kept)
        del kept
        gc.collect()
        assert ring() is not None  # a cycle that nobody looks at
        alive, made, searches = gc.get_freeze_count(), [], 0
        while ring() is not None:
            made.append([Ring() for _ in range(alive // 4)])
            gc.collect()
            searches += 1
        assert 2 <= searches <= 6


def test_it_is_the_programs_own_collector_again_if_that_program_fails() -> None:
    with pytest.raises(ZeroDivisionError), long_lived_set_aside():
        raise ZeroDivisionError
    assert gc.get_freeze_count() == 0
    assert not any(getattr(each, "__name__", "") == "on_search" for each in gc.callbacks)
