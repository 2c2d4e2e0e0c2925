"""Things that were opened and never closed: the ledger, and the memory channels in it.

Rules of this file:

* A ledger keeps nothing alive: it holds weak references, and remembers where each was opened.
* Dropped is not closed. A channel's other end cannot learn that this one was dropped, and a
  socket that the garbage collector must close was left to luck.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar, final

import attrs

from .report import Leak, LeakKind
from .sites import Origin
from .tasks import Ownership

_T = TypeVar("_T")

DROPPED_MAX = 1_000  # things dropped without being closed, of which no more are remembered


@final
@attrs.frozen
class Opened(Generic[_T]):
    """A thing that was opened and not yet closed."""

    ref: weakref.ref[Any]
    kind: type
    origin: Origin
    is_ours: bool

    @property
    def thing(self) -> _T | None:
        """The thing, or None if it was dropped."""
        found: _T | None = self.ref()
        return found

    @property
    def opened_at(self) -> str | None:
        """Where, as a report says it."""
        return self.origin.text


@final
class Ledger(Generic[_T]):
    """Which things of one kind were opened and not closed. Gives two listeners for taps."""

    def __init__(self, ownership: Ownership) -> None:
        self._ownership = ownership
        self._open: dict[int, Opened[_T]] = {}
        self._dropped: list[Opened[_T]] = []

    def around_open(self, call: Callable[..., Any], thing: _T, *args: Any, **kwargs: Any) -> None:
        """Listener around the constructor: one that raises has opened nothing."""
        __tracebackhide__ = True
        call(thing, *args, **kwargs)
        origin = self._ownership.origin(sys._getframe(1))
        before = self._open.get(id(thing))
        if before is not None and before.thing is None:
            self._note_dropped(before)  # an address that is used again: the former was dropped
        self._open[id(thing)] = Opened(
            weakref.ref(thing), type(thing), origin, self._ownership.is_ours()
        )

    def around_close(self, call: Callable[..., Any], thing: _T, *args: Any, **kwargs: Any) -> Any:
        """Listener around whatever closes: even a close that raises has closed."""
        __tracebackhide__ = True
        self._open.pop(id(thing), None)
        return call(thing, *args, **kwargs)

    def left(self) -> list[Opened[_T]]:
        """What is open or was dropped open, in the order of opening."""
        return [*self._dropped, *self._open.values()]

    def _note_dropped(self, opened: Opened[_T]) -> None:
        if opened.is_ours and len(self._dropped) < DROPPED_MAX:
            self._dropped.append(opened)


def channel_leaks(ledger: Ledger[Any]) -> list[Leak]:
    """Ends of memory channels that were never closed. Trio's own channels are its affair."""
    leaks = []
    for end in ledger.left():
        if not end.is_ours or end.origin.by_trio:
            continue
        thing = end.thing
        if thing is None:
            detail = "dropped without being closed: the other end cannot learn of it"
        else:
            now = thing.statistics()
            waiting = now.tasks_waiting_send + now.tasks_waiting_receive
            detail = (
                f"never closed; items in it: {now.current_buffer_used}, tasks waiting: {waiting}"
            )
        side = "send" if "Send" in end.kind.__name__ else "receive"
        leaks.append(Leak(LeakKind.CHANNEL, f"memory {side} channel", end.opened_at, detail=detail))
    return leaks
