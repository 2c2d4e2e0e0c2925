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
from types import MethodType, ModuleType
from typing import Any, Concatenate, TypeAlias, final

import attrs

Around: TypeAlias = Callable[Concatenate[Callable[..., Any], ...], Any]
"""`around(call, *args, **kwargs)`: does its part and returns `call(*args, **kwargs)`."""
Hearer: TypeAlias = Callable[[tuple[Any, ...]], None]
"""Told of an audit event, with its arguments, before what it announces is done."""

# Two Trio runs in two threads may start to listen at the same moment.
_CHANGING = threading.Lock()


class _Tap:
    """A function in whose place it stands, and those who listen to its calls."""

    def __init__(self, original: Callable[..., Any]) -> None:
        self.original = original
        self.__wrapped__ = original
        self.listeners: tuple[Around, ...] = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)  # its name, its documentation, …

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        call = self.original
        for listener in self.listeners:
            call = functools.partial(listener, call)
        return call(*args, **kwargs)


@final
class _MethodTap(_Tap):
    """The same for a method, which wants its instance."""

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)


@final
class _TypeTap(_Tap):
    """The same for a class of which the module's name is used to make instances."""

    def __instancecheck__(self, instance: object) -> bool:
        original: Any = self.original
        return isinstance(instance, original)

    def __or__(self, other: Any) -> Any:
        return self.original | other

    def __ror__(self, other: Any) -> Any:
        return other | self.original


def _tap_for(owner: type | ModuleType, current: Any) -> _Tap:
    if isinstance(owner, type):
        return _MethodTap(current)
    return _TypeTap(current) if isinstance(current, type) else _Tap(current)


@final
@attrs.frozen
class Tap:
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
            if not isinstance(current, _Tap):
                current = _tap_for(self.owner, current)
                setattr(self.owner, self.name, current)
            current.listeners = (*current.listeners, self.around)
        return Listening(self)


@final
@attrs.frozen
class Listening:
    """What `Tap.listen` started; `stop()` ends it."""

    tap: Tap

    def stop(self) -> None:
        """Take the listener out, and the tap with the last one. Call it once."""
        owner, name = self.tap.owner, self.tap.name
        with _CHANGING:
            tap = owner.__dict__[name]
            # A listener is compared by equality: a bound method is a new object at each mention.
            tap.listeners = tuple(each for each in tap.listeners if each != self.tap.around)
            if not tap.listeners:
                setattr(owner, name, tap.original)


def _module(owner: type | ModuleType) -> str:
    return owner.__name__ if isinstance(owner, ModuleType) else owner.__module__


def _called(owner: type | ModuleType) -> str:
    return owner.__name__ if isinstance(owner, ModuleType) else owner.__qualname__


@final
class _AuditHook:
    """The process's one hook, and who hears which event."""

    def __init__(self) -> None:
        self._hearers: dict[str, tuple[Hearer, ...]] = {}
        self._is_added = False

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        for hearer in self._hearers.get(event, ()):
            hearer(args)

    def add(self, event: str, hearer: Hearer) -> None:
        with _CHANGING:
            if not self._is_added:
                self._is_added = True
                sys.addaudithook(self)
            self._hearers[event] = (*self._hearers.get(event, ()), hearer)

    def remove(self, event: str, hearer: Hearer) -> None:
        with _CHANGING:
            left = tuple(each for each in self._hearers[event] if each != hearer)
            if left:
                self._hearers[event] = left
            else:
                del self._hearers[event]


_AUDIT = _AuditHook()


@final
@attrs.frozen
class Audit:
    """An audit event to hear of, from `listen()` until `stop()`."""

    event: str
    hearer: Hearer

    def listen(self) -> Audit:
        """Have the hearer told of each such event, in the thread and the stack of its cause."""
        _AUDIT.add(self.event, self.hearer)
        return self

    def stop(self) -> None:
        """Tell it no more. Call it once."""
        _AUDIT.remove(self.event, self.hearer)
