"""Async generators that were begun and never finished.

Rules of this file:

* The interpreter's own hooks tell of each first iteration; Trio's hooks are called on.
* A generator that is left to the garbage collector is not finished: Trio closes it some time
  later, in a system task, with everything in it cancelled.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import AsyncGenerator
from types import AsyncGeneratorType
from typing import Any, TypeAlias, final

from .report import Leak, LeakKind
from .sites import Origin, describe_frames
from .tasks import Ownership

_Generator: TypeAlias = AsyncGeneratorType[Any, Any]

ABANDONED_MAX = 1_000  # generators left to the garbage collector, of which no more are kept


@final
class AsyncGeneratorProbe:
    """Async generators that were begun and not finished, or left to the garbage collector."""

    def __init__(self, ownership: Ownership) -> None:
        self._ownership = ownership
        self._begun: dict[int, tuple[weakref.ref[_Generator], Origin]] = {}
        self._abandoned: list[Leak] = []
        self._prune_at = ABANDONED_MAX

    def began(self, generator: _Generator) -> None:
        """The interpreter iterates this generator for the first time."""
        if not self._ownership.is_ours():
            return
        origin = self._ownership.origin(sys._getframe(1))
        self._begun[id(generator)] = (weakref.ref(generator), origin)
        if len(self._begun) > self._prune_at:
            self._begun = {key: seen for key, seen in self._begun.items() if seen[0]() is not None}
            self._prune_at = ABANDONED_MAX + 2 * len(self._begun)

    def collected(self, generator: _Generator) -> None:
        """The garbage collector found this generator unfinished; Trio will close it."""
        seen = self._begun.pop(id(generator), None)
        if seen is not None and len(self._abandoned) < ABANDONED_MAX:
            detail = "never finished: left to the garbage collector"
            self._abandoned.append(_generator_leak(generator, seen[1], detail))

    def leaks(self) -> list[Leak]:
        """Every generator of ours that was begun and neither exhausted nor closed."""
        alive = [
            _generator_leak(generator, origin, "never finished")
            for ref, origin in self._begun.values()
            if (generator := ref()) is not None and generator.ag_frame is not None
        ]
        return self._abandoned + alive


def _generator_leak(generator: _Generator, origin: Origin, detail: str) -> Leak:
    frame = generator.ag_frame
    return Leak(
        kind=LeakKind.ASYNC_GENERATOR,
        name=generator.__qualname__,
        spawned_at=origin.text,
        await_chain=() if frame is None else describe_frames([(frame, frame.f_lineno)]),
        detail=detail,
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
