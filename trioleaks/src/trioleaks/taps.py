"""Listening to calls and to the interpreter's audit events, for a while.

Rules of this file:

* A tap is there while somebody listens, and the class or module is as it was when the last one
  stops. Listeners may come and go in any order: scopes nest, and tasks overlap.
* A listener stands *around* the call: it is given the next one to call, and must call it.
* The state lives in the tap, and the tap in its place: there is no registry beside it.
* Python takes no audit hook back. There is one, added when it is first needed; while nobody
  listens it looks one word up and returns.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any, Concatenate, NamedTuple, TypeAlias, final

Around: TypeAlias = Callable[Concatenate[Callable[..., Any], ...], Any]
"""`around(call, *args, **kwargs)`: does its part and returns `call(*args, **kwargs)`."""
Hearer: TypeAlias = Callable[[tuple[Any, ...]], None]
"""Told of an audit event, with its arguments, before what it announces is done."""

# Two Trio runs in two threads may start to listen at the same moment.
_CHANGING = threading.Lock()


class _Tapped:
    """A function that is listened to, who listens, and what stands in its place meanwhile."""

    def __init__(self, original: Callable[..., Any]) -> None:
        self.original = original
        self.listeners: tuple[Around, ...] = ()
        self.stand_in: Any = _TypeStandIn(self) if isinstance(original, type) else _stand_in(self)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        call = self.original
        for listener in self.listeners:
            call = functools.partial(listener, call)
        return call(*args, **kwargs)


def _stand_in(tapped: _Tapped) -> Callable[..., Any]:
    """A plain function: the interpreter binds and calls nothing faster."""
    original = tapped.original

    @functools.wraps(original)
    def stand_in(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        listeners = tapped.listeners
        if len(listeners) == 1:
            return listeners[0](original, *args, **kwargs)
        return tapped.call(*args, **kwargs)

    vars(stand_in)[_TAPPED] = tapped
    return stand_in


@final
class _TypeStandIn:
    """The same for a class of which the module's name is used to make instances."""

    def __init__(self, tapped: _Tapped) -> None:
        vars(self)[_TAPPED] = tapped
        self._tapped = tapped
        self.__wrapped__ = tapped.original

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tapped.original, name)  # its name, its documentation, …

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        return self._tapped.call(*args, **kwargs)

    def __instancecheck__(self, instance: object) -> bool:
        original: Any = self._tapped.original
        return isinstance(instance, original)

    def __or__(self, other: Any) -> Any:
        return self._tapped.original | other

    def __ror__(self, other: Any) -> Any:
        return other | self._tapped.original


_TAPPED = "_trioleaks_tapped"
"""Where a stand-in says what it stands for."""


def tapped_of(current: Any) -> _Tapped | None:
    """What this stands for, if it is a stand-in."""
    found: Any = getattr(current, "__dict__", {}).get(_TAPPED)
    return found if isinstance(found, _Tapped) and found.stand_in is current else None


class Tap(NamedTuple):
    """What to listen to: a method of a class, or a function of a module."""

    owner: type | ModuleType
    name: str
    around: Around

    def listen(self) -> Listening:
        """Have `around` called around every call of it, until the listening is stopped.

        Raises:
            RuntimeError: there is no such function: another version than this was written for.
        """
        with _CHANGING:
            current = self.owner.__dict__.get(self.name)
            if current is None:
                raise RuntimeError(
                    f"the leak check does not know this version of {_module(self.owner)}: "
                    f"{_called(self.owner)} has no {self.name}; trioleaks/privates.py is where "
                    "to teach it"
                )
            tapped = tapped_of(current)
            if tapped is None:
                tapped = _Tapped(current)
                setattr(self.owner, self.name, tapped.stand_in)
            tapped.listeners = (*tapped.listeners, self.around)
        return Listening(self, tapped)


class Listening(NamedTuple):
    """What `Tap.listen` started; `stop()` ends it."""

    tap: Tap
    tapped: _Tapped

    def stop(self) -> None:
        """Take the listener out, and the tap with the last one. Call it once."""
        (owner, name, around), tapped = self.tap, self.tapped
        with _CHANGING:
            # A listener is compared by equality: a bound method is a new object at each mention.
            tapped.listeners = tuple(each for each in tapped.listeners if each != around)
            # Somebody may have put another in its place meanwhile, and put it back later: without
            # listeners it only calls the original.
            if not tapped.listeners and owner.__dict__[name] is tapped.stand_in:
                setattr(owner, name, tapped.original)


def _module(owner: type | ModuleType) -> str:
    return owner.__name__ if isinstance(owner, ModuleType) else owner.__module__


def _called(owner: type | ModuleType) -> str:
    return owner.__name__ if isinstance(owner, ModuleType) else owner.__qualname__


_HEARERS: dict[str, tuple[Hearer, ...]] = {}
"""Who hears which audit event."""


def _hook(event: str, args: tuple[Any, ...]) -> None:
    # Each `id()`, and each look at a frame's code, is an event.
    if event in _HEARERS:
        for hearer in _HEARERS.get(event, ()):
            hearer(args)


@functools.cache
def _add_hook() -> None:
    sys.addaudithook(_hook)


class Audit(NamedTuple):
    """An audit event to hear of, from `listen()` until `stop()`."""

    event: str
    hearer: Hearer

    def listen(self) -> Audit:
        """Have the hearer told of each such event, in the thread and the stack of its cause."""
        with _CHANGING:
            _add_hook()
            _HEARERS[self.event] = (*_HEARERS.get(self.event, ()), self.hearer)
        return self

    def stop(self) -> None:
        """Tell it no more. Call it once."""
        with _CHANGING:
            left = tuple(each for each in _HEARERS[self.event] if each != self.hearer)
            if left:
                _HEARERS[self.event] = left
            else:
                del _HEARERS[self.event]
