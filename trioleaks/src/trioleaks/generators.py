"""Async generators that were begun and never finished.

Rules of this file:

* The interpreter's own hooks tell of each first iteration; Trio's hooks are called on.
* A generator that is left to the garbage collector is not finished: Trio closes it some time
  later, in a system task, with everything in it cancelled.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import AsyncGenerator, Iterable
from types import AsyncGeneratorType
from typing import Any, NamedTuple, TypeAlias, final

from . import privates
from .probe import Left, Maker, Owner, Owners, Ownership
from .report import Leak, LeakKind
from .sites import Origin, describe_frames
from .taps import Tap

_Generator: TypeAlias = AsyncGeneratorType[Any, Any]

ABANDONED_MAX = 1_000  # generators left to the garbage collector, of which no more are kept


class _Begun(NamedTuple):
    """A generator that was iterated for the first time."""

    ref: weakref.ref[_Generator]
    maker: Maker
    run: int
    """The identity of the run's runner."""


@final
class AsyncGeneratorProbe:
    """Async generators that were begun and not finished, or left to the garbage collector."""

    def __init__(self, ownership: Ownership) -> None:
        self._ownership = ownership
        self._begun: dict[int, _Begun] = {}
        self._abandoned: list[tuple[_Begun, Left]] = []
        self._prune_at = ABANDONED_MAX

    def taps(self) -> Iterable[Tap]:
        """None: see `AsyncGeneratorHooks`, which are a thread's and not a class's."""
        return ()

    def note(self, owner: Owner) -> None:
        """Nothing: what was begun before was not listened to."""

    def forget(self, owners: Owners) -> None:
        """See `Probe`."""
        self._abandoned = [each for each in self._abandoned if each[0].maker.owner not in owners]
        self._begun = {
            key: each
            for key, each in self._begun.items()
            if each.maker.owner not in owners and each.ref() is not None
        }

    def prune(self) -> None:
        """Nothing: what is gone is kept only so far (`ABANDONED_MAX`)."""

    def began(self, generator: _Generator) -> None:
        """The interpreter iterates this generator for the first time."""
        if not privates.in_task():
            return  # a guest run's host has generators of its own
        if sys._getframe(2).f_code.co_name == "firstiter":
            return  # another library's hook stands before ours, and finishes its own
        maker = self._ownership.maker(1)
        if maker.origin.by_trio and not maker.origin.is_project:
            return
        self._begun[id(generator)] = _Begun(
            weakref.ref(generator), maker, id(privates.current_runner())
        )
        if len(self._begun) > self._prune_at:
            self._begun = {key: seen for key, seen in self._begun.items() if seen.ref() is not None}
            self._prune_at = ABANDONED_MAX + 2 * len(self._begun)

    def collected(self, generator: _Generator) -> None:
        """The garbage collector found this generator unfinished; Trio will close it."""
        seen = self._begun.pop(id(generator), None)
        if seen is not None and len(self._abandoned) < ABANDONED_MAX:
            detail = "never finished: left to the garbage collector"
            leak = _generator_leak(generator, seen.maker.origin, detail)
            key = ("abandoned generator", len(self._abandoned), id(generator))
            self._abandoned.append((seen, Left(leak, key)))

    def left(self, owners: Owners) -> list[Left]:
        """Every generator of the current run that was begun and neither exhausted nor closed."""
        run = id(privates.current_runner())
        alive = [
            Left(
                _generator_leak(generator, seen.maker.origin, "never finished"),
                ("generator", id(generator)),
                generator,
            )
            for seen in tuple(self._begun.values())
            if seen.maker.owner in owners
            and seen.run == run
            and (generator := seen.ref()) is not None
            and generator.ag_frame is not None
        ]
        abandoned = [
            left for seen, left in self._abandoned if seen.maker.owner in owners and seen.run == run
        ]
        return abandoned + alive


def _generator_leak(generator: _Generator, origin: Origin, detail: str) -> Leak:
    frame = generator.ag_frame
    return Leak(
        kind=LeakKind.ASYNC_GENERATOR,
        name=generator.__qualname__,
        spawned_at=origin.text,
        await_chain=() if frame is None else describe_frames([(frame, frame.f_lineno)]),
        detail=detail,
        through=origin.through_text,
    )


@final
class AsyncGeneratorHooks:
    """The interpreter's hooks while probes listen; they call on whatever was there before."""

    def __init__(self) -> None:
        self._before = sys.get_asyncgen_hooks()
        self._probes: tuple[AsyncGeneratorProbe, ...] = ()

    @classmethod
    def listen(cls, probe: AsyncGeneratorProbe) -> AsyncGeneratorHooks:
        """Have `probe` told of this thread's async generators, until `stop(probe)`."""
        hooks = getattr(sys.get_asyncgen_hooks().firstiter, "__self__", None)
        if not isinstance(hooks, cls):
            hooks = cls()
            sys.set_asyncgen_hooks(hooks._firstiter, hooks._finalizer)
        hooks._probes = (*hooks._probes, probe)
        return hooks

    def stop(self, probe: AsyncGeneratorProbe) -> None:
        """Tell `probe` no more. Generators keep the finalizer; it goes on passing them on."""
        self._probes = tuple(each for each in self._probes if each is not probe)
        current = getattr(sys.get_asyncgen_hooks().firstiter, "__self__", None)
        if not self._probes and current is self:
            sys.set_asyncgen_hooks(*self._before)

    def _firstiter(self, generator: AsyncGenerator[Any, Any]) -> None:
        if isinstance(generator, AsyncGeneratorType):  # others bring their own: Cython
            for probe in self._probes:
                probe.began(generator)
        if self._before.firstiter is not None:
            self._before.firstiter(generator)

    def _finalizer(self, generator: AsyncGenerator[Any, Any]) -> None:
        if isinstance(generator, AsyncGeneratorType):
            for probe in self._probes:
                probe.collected(generator)
        if self._before.finalizer is not None:
            self._before.finalizer(generator)
