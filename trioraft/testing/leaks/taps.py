"""Listening to method calls for a while: a class attribute is replaced, and put back.

Rules of this file:

* A tap is there while somebody listens, and the class is as it was when the last one stops.
  Listeners may come and go in any order: scopes nest, and tasks overlap.
* A listener stands *around* the call: it is given the next one to call, and must call it.
* The state lives in the tap, and the tap in the class: there is no registry beside it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from types import MethodType
from typing import Any, Concatenate, TypeAlias, final

import attrs

Around: TypeAlias = Callable[Concatenate[Callable[..., Any], Any, ...], Any]
"""`around(call, instance, *args, **kwargs)`: does its part and returns `call(instance, …)`."""

# Two Trio runs in two threads may start to listen at the same moment.
_CHANGING = threading.Lock()


@final
class _Tap:
    """A method in whose place it stands, and those who listen to its calls."""

    def __init__(self, original: Callable[..., Any]) -> None:
        functools.update_wrapper(self, original)
        self.original = original
        self.listeners: tuple[Around, ...] = ()

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __call__(self, instance: object, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        call = self.original
        for listener in self.listeners:
            call = functools.partial(listener, call)
        return call(instance, *args, **kwargs)


@final
@attrs.frozen
class Listening:
    """What `listen` started; `stop()` ends it."""

    owner: type
    name: str
    around: Around

    def stop(self) -> None:
        """Take the listener out, and the tap with the last one. Call it once."""
        with _CHANGING:
            tap = self.owner.__dict__[self.name]
            # A listener is compared by equality: a bound method is a new object at each mention.
            tap.listeners = tuple(each for each in tap.listeners if each != self.around)
            if not tap.listeners:
                setattr(self.owner, self.name, tap.original)


def listen(owner: type, name: str, around: Around) -> Listening:
    """Have `around` called around every call of the method `name` that `owner` itself defines.

    Raises:
        RuntimeError: `owner` defines no such method: another version than this was written for.
    """
    with _CHANGING:
        current = owner.__dict__.get(name)
        if current is None:
            raise RuntimeError(
                f"the leak check does not know this version of {owner.__module__}: "
                f"{owner.__qualname__} has no method {name}; see trioraft/testing/trio_internals.py"
            )
        if not isinstance(current, _Tap):
            current = _Tap(current)
            setattr(owner, name, current)
        current.listeners = (*current.listeners, around)
    return Listening(owner, name, around)
