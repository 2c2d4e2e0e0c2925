"""`no_leaks`: nothing that was started in a block is there when the block ends.

Rules of this file:

* The check is made at the end of the block, before anybody cancels anything: a nursery that
  cancels its tasks after the test would hide them.
* What existed before, Trio's own tasks and idle worker threads are never reported.
* The body's own error is never replaced: what leaked is added to it as a note.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import final

import trio

from . import privates
from .allowed import Allowed
from .checks import Check
from .generators import AsyncGeneratorHooks
from .probe import OURS, Left
from .recorder import Recorder
from .report import Leak, LeakError, LeakKind, render
from .tasks import WATCHING, TaskOwnership

_LOG = logging.getLogger("trioleaks")


def no_leaks(
    *,
    allow: Iterable[str] = (),
    grace_s: float = 0.1,
    kinds: Collection[LeakKind] | None = None,
    checks: Iterable[Check] = (),
) -> AbstractAsyncContextManager[None]:
    """Check that everything started in the `async with` block is gone when the block ends.

    Found: tasks in any nursery, system tasks included; worker threads and plain threads; child
    processes; sockets, files, pipes and other descriptors; memory channels whose other end
    somebody can wait at; async generators never finished; signal handlers; tokens of limiters;
    temporary directories.

    Whatever is cancelled by then gets a bounded moment to end, which never moves a virtual
    clock. Whatever is blocked and not cancelled is a leak at once.

    Args:
        allow: what may stay: names, with `*` and `?` as wildcards (brackets mean themselves), or
            entries such as `"kind=socket at=client.py:*"`. A task that may stay may keep the
            tasks below it.
        grace_s: how long cancelled tasks, and then threads, may take to end, in real seconds,
            whatever the clock.
        kinds: what to look for; None is all of `KINDS`. What `checks` find is always told.
        checks: checks of your own, called at the end of the block: see `Check`.

    Raises:
        LeakError: something was left behind; `leaks` says what. If the block itself raised,
            that error goes on instead, with the report as a note.
        RuntimeError: this version of Trio is not known.

    A block that is cancelled, or left by `KeyboardInterrupt` or a test outcome such as
    `pytest.skip()`, is not checked. Nests, and may overlap in other tasks. It checks what its
    own task does: enter it in the task that runs the body, not in a fixture. A task that is
    cancelled and goes on is also logged, to `trioleaks`: whoever waits for it may wait for ever.
    """
    return _NoLeaks(Allowed(allow), grace_s, kinds, tuple(checks))


@final
class _NoLeaks(AbstractAsyncContextManager[None]):
    """A class, not a generator: it is not itself an async generator that is never finished."""

    def __init__(
        self,
        allowed: Allowed,
        grace_s: float,
        kinds: Collection[LeakKind] | None,
        checks: tuple[Check, ...],
    ) -> None:
        self._allowed = allowed
        self._grace_s = grace_s
        self._kinds = kinds
        self._checks = checks
        self._scope: _Scope | None = None

    async def __aenter__(self) -> None:
        if self._scope is not None:
            raise RuntimeError("no_leaks() was entered twice: make a new one for each block")
        self._scope = _Scope()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True
        scope = self._scope
        if scope is None:
            raise RuntimeError("no_leaks() was left before it was entered")
        try:
            checked = exc is None or isinstance(exc, Exception)
            leaks = await self._find(scope) if checked else []
        finally:
            scope.stop()
        if not leaks:
            return
        stuck = tuple(leak for leak in leaks if leak.detail == "cancelled, but it goes on")
        if stuck:
            _LOG.error("%s", render(stuck, heading="cancelled, and may never end"))
        if exc is not None:
            exc.add_note(render(tuple(leaks)))
            return
        raise LeakError(leaks)

    async def _find(self, scope: _Scope) -> list[Leak]:
        found = await scope.find(self._allowed, self._is_meant, self._grace_s)
        own = [leak for check in self._checks for leak in check()]
        return [*found, *(leak for leak in own if not self._allowed.allows(leak))]

    def _is_meant(self, left: Left) -> bool:
        kind = left.leak.kind
        return (self._kinds is not None and kind not in self._kinds) or self._allowed.allows(
            left.leak
        )


@final
class _Scope:
    """Everything that listens while a block runs."""

    def __init__(self) -> None:
        privates.require()
        self._ownership = TaskOwnership()
        self._recorder = Recorder(self._ownership)
        self._recorder.note(OURS)
        self._recorder.start()
        self._hooks = AsyncGeneratorHooks.listen(self._recorder.generators)
        trio.lowlevel.add_instrument(self._ownership)
        self._outer = WATCHING.get()
        WATCHING.set((*self._outer, self._ownership))

    async def find(
        self, allowed: Allowed, is_meant: Callable[[Left], bool], grace_s: float
    ) -> list[Leak]:
        """Give what may end its moment, then say what is left."""
        await self._ownership.settle(allowed, grace_s)
        owners = (OURS,)
        found = self._recorder.left_of_process(owners, is_meant, grace_s)
        found += [each for each in self._recorder.left_of_run(owners) if not is_meant(each)]
        tasks = (Left(leak, leak.name) for leak in self._ownership.leaks(allowed))
        return [
            *(each.leak for each in tasks if not is_meant(each)),
            *(each.leak for each in found),
        ]

    def stop(self) -> None:
        """Listen no more: every class and hook is as it was."""
        WATCHING.set(self._outer)
        try:
            trio.lowlevel.remove_instrument(self._ownership)
        finally:
            self._hooks.stop(self._recorder.generators)
            self._recorder.stop()
