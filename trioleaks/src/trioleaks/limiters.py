"""Tokens of a `CapacityLimiter` that are held by nobody who could give them back.

Rules of this file:

* A limiter that is gone is nobody's trouble: what matters is one that others can still ask.
* Tokens of worker threads are told of as threads.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, final

import trio
from trio.lowlevel import Task

from . import privates
from .probe import Left, Maker, Owner, Owners, Ownership
from .report import Leak, LeakKind
from .taps import Tap

_PRUNE_AT = 100  # limiters, beyond which those that are gone are looked for


class _Asked(NamedTuple):
    """Somebody asked for a token."""

    borrower: weakref.ref[Any] | object
    maker: Maker


@final
class LimiterProbe:
    """Who asked for tokens, and of which limiters."""

    def __init__(self, ownership: Ownership) -> None:
        self._ownership = ownership
        self._asked: dict[int, tuple[weakref.ref[trio.CapacityLimiter], dict[int, _Asked]]] = {}

    def taps(self) -> Iterable[Tap]:
        """Every way to a token begins with this method."""
        yield Tap(trio.CapacityLimiter, privates.LIMITER_ACQUIRE, self._around_acquire)

    def note(self, owner: Owner) -> None:
        """Nothing: what was borrowed before was not listened to."""

    def _around_acquire(
        self, call: Callable[..., Any], limiter: trio.CapacityLimiter, borrower: object
    ) -> Any:
        __tracebackhide__ = True
        if not privates.is_thread_placeholder(borrower):
            if len(self._asked) > _PRUNE_AT:
                self._asked = {key: each for key, each in self._asked.items() if each[0]()}
            ref, borrowers = self._asked.get(id(limiter), (None, {}))
            if ref is None or ref() is not limiter:
                borrowers = {}
                self._asked[id(limiter)] = (weakref.ref(limiter), borrowers)
            borrowers[id(borrower)] = _Asked(
                borrower if not isinstance(borrower, Task) else weakref.ref(borrower),
                self._ownership.maker(1),
            )
        return call(limiter, borrower)  # may raise WouldBlock: then it is given the token later

    def left(self, owners: Owners) -> list[Left]:
        """Tokens that are held and will not be given back: their task has ended, or forgot."""
        if not self.held(owners):
            return []
        gc.collect()  # a limiter that only a caught error's traceback keeps is gone by then
        return self.held(owners)

    def held(self, owners: Owners) -> list[Left]:
        """The same, with those of limiters that are garbage."""
        found = []
        for ref, asked in tuple(self._asked.values()):
            limiter = ref()
            if limiter is None:
                continue
            statistics = limiter.statistics()
            for borrower in statistics.borrowers:
                by = asked.get(id(borrower))
                if by is None or by.maker.owner not in owners or _lives_elsewhere(borrower):
                    continue
                name = borrower.name if isinstance(borrower, Task) else repr(borrower)
                leak = Leak(
                    LeakKind.LIMITER,
                    f"token of a CapacityLimiter({statistics.total_tokens})",
                    by.maker.origin.text,
                    detail=f"held by {name}, and never given back",
                    through=by.maker.origin.through_text,
                )
                found.append(Left(leak, ("token", id(limiter), id(borrower)), limiter))
        return found

    def prune(self) -> None:
        """See `Probe`."""
        self._asked = {key: each for key, each in self._asked.items() if each[0]() is not None}
        for ref, asked in self._asked.values():
            limiter = ref()
            if limiter is None or limiter.statistics().tasks_waiting:
                continue  # who waits is no borrower yet, and may become one
            borrowers = {id(each) for each in limiter.statistics().borrowers}
            for key in asked.keys() - borrowers:
                del asked[key]

    def forget(self, owners: Owners) -> None:
        """See `Probe`."""
        for _ref, asked in tuple(self._asked.values()):
            for key in [key for key, each in asked.items() if each.maker.owner in owners]:
                del asked[key]


def _lives_elsewhere(borrower: object) -> bool:
    """Whether this is a task that lives and is not the one that asks: it may give back yet."""
    if not isinstance(borrower, Task):
        return False
    if privates.in_task() and borrower is trio.lowlevel.current_task():
        return False
    nursery = borrower.parent_nursery
    return nursery is not None and borrower in nursery.child_tasks
