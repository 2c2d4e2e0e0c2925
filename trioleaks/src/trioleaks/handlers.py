"""Signal handlers that were set and not put back, open signal receivers among them.

Rules of this file:

* A handler is a leak if it is not one that was there before any of the owners began: fixtures
  set and restore handlers of their own.
* Python's own and Trio's way of hearing Ctrl-C is theirs, and so is what a plugin of pytest sets
  around a test: a time limit's alarm, say.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any, final

from . import privates
from .probe import Left, Maker, Owner, Owners, Ownership
from .report import Leak, LeakKind
from .sites import UNKNOWN, Origin, short_path
from .taps import Tap

# `signal.getsignal` makes enum members of what it returns, at ten times the price: it is the same
# function of the extension module, which other Pythons may not have.
_getsignal: Any = getattr(sys.modules.get("_signal"), "getsignal", signal.getsignal)
_UNKNOWN = Maker(UNKNOWN, None)
_SIGNALS = tuple(sorted(int(number) for number in signal.valid_signals()))


def _handlers() -> tuple[object, ...]:
    return tuple(map(_getsignal, _SIGNALS))


@final
class HandlerProbe:
    """Which handlers there were, and who set which since."""

    def __init__(self, ownership: Ownership) -> None:
        self._ownership = ownership
        self._before: dict[Owner, tuple[object, ...]] = {}
        self._set: dict[int, Maker] = {}

    def taps(self) -> Iterable[Tap]:
        """`signal.signal`, which Trio calls too."""
        yield Tap(signal, "signal", self._around_set)

    def note(self, owner: Owner) -> None:
        """See `Probe`."""
        self._before[owner] = _handlers()

    def forget(self, owners: Owners) -> None:
        """See `Probe`."""
        for owner in owners:
            self._before.pop(owner, None)

    def prune(self) -> None:
        """Nothing: there are as many signals as there are."""

    def _around_set(self, call: Callable[..., Any], number: int, handler: object) -> Any:
        __tracebackhide__ = True
        former = call(number, handler)
        ends = privates.is_trios_handler(former) and handler is signal.default_int_handler
        if ends or privates.is_trios_handler(handler):
            self._set.pop(int(number), None)  # every run does so as it begins, and as it ends
            return former
        self._set[int(number)] = self._ownership.maker(1)
        return former

    def left(self, owners: Owners) -> list[Left]:
        """Handlers that are not what they were."""
        befores = [before for each in owners if (before := self._before.get(each)) is not None]
        now = _handlers()
        if befores and all(before == now for before in befores):
            return []
        found = []
        for index, number in enumerate(_SIGNALS):
            handler = now[index]
            origin, owner = self._set.get(number, _UNKNOWN)
            asked = befores if owner not in self._before else [self._before[owner]]
            if any(before[index] == handler for before in asked):
                continue
            if privates.is_trios_handler(handler) or _is_pytests(origin):
                continue
            if owner is not None and owner not in owners:
                continue
            found.append(Left(_leak(number, handler, origin), ("signal", number, id(handler))))
        return found


def _is_pytests(origin: Origin) -> bool:
    """Whether a plugin of pytest did it, and no line of the project's."""
    if origin.site is None or origin.is_project:
        return False
    return short_path(origin.site[0].co_filename).startswith(("pytest", "_pytest"))


def _leak(number: int, handler: object, origin: Origin) -> Leak:
    name = signal.Signals(number).name if number in _NAMED else f"signal {number}"
    if privates.is_signal_receiver(handler):
        detail = "a signal receiver is still open"
    else:
        what = getattr(handler, "__qualname__", None) or _named(handler)
        detail = f"the handler is now {what}, and was another before"
    return Leak(
        LeakKind.SIGNAL_HANDLER,
        f"handler of {name}",
        origin.text,
        detail=detail,
        through=origin.through_text,
    )


_NAMED = frozenset(int(each) for each in signal.Signals)


def _named(handler: Any) -> str:
    try:
        return signal.Handlers(handler).name
    except ValueError:
        return str(handler)
