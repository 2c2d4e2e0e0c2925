"""Things that were opened and never closed, and where each was opened.

Rules of this file:

* A ledger keeps nothing alive: it holds weak references, and remembers where each was opened.
* Dropped is not closed: a socket that the garbage collector must close was left to luck.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar, final

from .probe import OTHERS, Maker, Owners, Ownership

_T = TypeVar("_T")

_key = object.__hash__
"""What tells living objects apart, as `id` does: to call that is an audit event each time."""

DROPPED_MAX = 1_000  # things dropped without being closed, of which no more are remembered


class Opened(NamedTuple, Generic[_T]):
    """A thing that was opened and not yet closed."""

    ref: weakref.ref[Any]
    kind: type
    maker: Maker
    number: int
    """Counts what was opened: the same for the same thing."""
    state: weakref.ref[Any] | None = None
    """What it shares with others, if it does."""

    @property
    def thing(self) -> _T | None:
        """The thing, or None if it was dropped."""
        found: _T | None = self.ref()
        return found


@final
class Ledger(Generic[_T]):
    """Which things of one kind were opened and not closed. Gives two listeners for taps."""

    def __init__(
        self, ownership: Ownership, state_of: Callable[[_T], object] | None = None
    ) -> None:
        self._ownership = ownership
        self._state_of = state_of
        self._open: dict[int, Opened[_T]] = {}
        self._dropped: list[Opened[_T]] = []
        self._count = 0
        self.count_opened: int = 0
        """How many things were opened by somebody whose business it is."""

    def around_open(self, call: Callable[..., Any], thing: _T, *args: Any, **kwargs: Any) -> None:
        """Listener around the constructor: one that raises has opened nothing."""
        __tracebackhide__ = True
        call(thing, *args, **kwargs)
        key = _key(thing)
        before = self._open.get(key)
        if before is not None and before.thing is None:
            self._note_dropped(before)  # an address that is used again: the former was dropped
        self._count += 1
        maker = self._ownership.maker(1)
        if maker.owner is not OTHERS:
            self.count_opened += 1
        self._open[key] = Opened(
            weakref.ref(thing),
            type(thing),
            maker,
            self._count,
            None if self._state_of is None else weakref.ref(self._state_of(thing)),
        )

    def around_close(self, call: Callable[..., Any], thing: _T, *args: Any, **kwargs: Any) -> Any:
        """Listener around whatever closes: even a close that raises has closed."""
        __tracebackhide__ = True
        self._open.pop(_key(thing), None)
        return call(thing, *args, **kwargs)

    def get(self, thing: _T) -> Opened[_T] | None:
        """What is known of a thing that is open."""
        opened = self._open.get(_key(thing))
        return None if opened is None or opened.thing is not thing else opened

    def all(self) -> list[Opened[_T]]:
        """What is open or was dropped open, whoever opened it, in the order of opening."""
        return [*self._dropped, *self._open.values()]

    def forget(self, owners: Owners) -> None:
        """What these owners have opened is no longer of interest."""
        self._dropped = [each for each in self._dropped if each.maker.owner not in owners]
        for key, each in tuple(self._open.items()):
            owner = each.maker.owner
            if owner not in owners and owner is not OTHERS:
                continue
            if each.thing is None:
                del self._open[key]
            elif owner is not OTHERS:  # it is open, and that was told
                self._open[key] = each._replace(maker=Maker(each.maker.origin, OTHERS))

    def prune(self) -> None:
        """What was dropped, with all that it shared with others, is nobody's business any more."""
        self._dropped = [each for each in self._dropped if not _is_gone(each)]
        self._open = {
            key: each
            for key, each in self._open.items()
            if each.thing is not None or not _is_gone(each)
        }

    def _note_dropped(self, opened: Opened[_T]) -> None:
        if len(self._dropped) < DROPPED_MAX:
            self._dropped.append(opened)


def _is_gone(dropped: Opened[Any]) -> bool:
    return dropped.state is not None and dropped.state() is None
