"""Slices: many tasks of one kind share the event loop with all others, and never hold it long.

Rules of this file:

* A pass of the scheduler runs every task that is ready. A thousand connections with work for a few
  milliseconds each would make that pass last seconds, and heartbeats late. So they share one slice;
  when it is used up, whoever wants more waits for a later pass.
* A write takes some ten passes of several nodes, so while there are writes a slice is shorter: that
  costs those who flood a quarter of their answers, and halves the time of a write.
* Who has used least of late goes first, and only as many are woken as a slice has room for: who
  asks little does not wait behind those who flood, however many they are.
* A piece of work may take longer than a slice, as a large answer does. What it took too much is
  owed, and paid by the slices that follow; and nobody is woken beside others whose last piece did
  not fit, or of whom nothing is known yet.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from heapq import heappop, heappush
from itertools import count
from time import perf_counter, thread_time
from typing import Final, final

import attrs
import trio

SLICE_S: Final = 0.004
"""How long all who share may keep the loop before everybody else has a turn, in seconds."""
PRESSED_SLICE_S: Final = 0.001
"""Likewise, while something waits that takes many passes."""
QUANTUM_S: Final = 0.00025
"""How long one may, while others of the kind wait."""
OWED_S_MAX: Final = 0.250
"""What is owed at most, in seconds of CPU time."""
SHORT_S: Final = 0.00025
"""What kept the loop no longer is taken for work, whatever it was."""
CPU_READ_S: Final = 0.005
"""How old a reading of the thread's CPU time may be, in seconds. To read it is a call of the
system, at which the kernel looks whether others are to have the processor: on a full machine half
of the time of a read was lost there, in the middle of it."""
FORGOTTEN_S: Final = 0.100
"""After what time half of what somebody has used is forgotten."""

SLICE_CLOCK: ContextVar[Callable[[], float]] = ContextVar(
    "trioraft slice_clock", default=perf_counter
)
"""By which slices that are made in this context are measured. What a machine takes for the same
work is never twice the same; a simulation, of which a seed is one run, puts its own clock in its
place, by which no work takes any time."""


@final
@attrs.define(eq=False)
class _Waiter:
    expected_s: float
    woken: trio.Event = attrs.Factory(trio.Event)
    has_left: bool = False


@final
class Slices:
    """One slice after the other, for all who share them: each has a `Turn`.

    Args:
        slice_s: see `SLICE_S`.
        quantum_s: see `QUANTUM_S`.
        is_pressed: whether something waits that takes many passes; asked once for each slice.
    """

    def __init__(
        self,
        slice_s: float = SLICE_S,
        quantum_s: float = QUANTUM_S,
        is_pressed: Callable[[], bool] = lambda: False,
    ) -> None:
        self.clock: Callable[[], float] = SLICE_CLOCK.get()
        self._longest_s = self._slice_s = slice_s
        self._is_pressed = is_pressed
        self._quantum_s = quantum_s
        self._spent_s = 0.0
        self._owed_s = 0.0
        self._calm_since_s = 0.0  # since when nobody works or waits, which pays as well
        self._waiting: list[tuple[float, int, _Waiter]] = []  # a heap: who has used least first
        self._numbers = count()
        self._is_renewing = False
        self._cpu_s = self._cpu_read_s = 0.0  # of this thread, as of when

    def begin(self, now_s: float) -> None:
        """Somebody's work begins."""
        if not self._waiting:
            self._rest_until(now_s)
        if now_s - self._cpu_read_s > CPU_READ_S:
            self._cpu_s, self._cpu_read_s = thread_time(), now_s

    def _rest_until(self, now_s: float) -> None:
        """All others could have their turn since the last piece of work, and nobody waits."""
        rested_s, self._calm_since_s = now_s - self._calm_since_s, now_s
        self._spent_s = max(0.0, self._spent_s - rested_s)
        self._owed_s = max(0.0, self._owed_s - rested_s)

    def worked(self, since_s: float, now_s: float) -> float:
        """How much CPU time somebody has taken since then, in seconds: at most what has passed, and
        what this thread has taken since it was last read. Where others take the core away, that is
        nobody's debt."""
        for_s = now_s - since_s
        if for_s <= SHORT_S:
            return for_s
        before_s = self._cpu_s
        self._cpu_s, self._cpu_read_s = thread_time(), now_s
        return min(for_s, self._cpu_s - before_s)

    def is_over(self, since_s: float) -> bool:
        """Whether who has kept the loop for so long is to let others go on."""
        if self._waiting and since_s > self._quantum_s:
            return True
        return self._spent_s + since_s > self._slice_s

    def spend(self, for_s: float, cpu_s: float) -> None:
        """Somebody has kept the loop for so long, and has worked for so long: when others take the
        core away, that is nobody's debt."""
        self._spent_s += for_s
        self._owed_s += max(0.0, cpu_s - self._longest_s)
        self._calm_since_s = self.clock()

    async def wait(self, used_s: float, expected_s: float = SLICE_S) -> None:
        """Wait for a later pass, behind those who have used less. Cancellable.

        Args:
            used_s: how long it has kept the loop of late.
            expected_s: how long its next piece of work is likely to.
        """
        waiter = _Waiter(expected_s)
        heappush(self._waiting, (used_s, next(self._numbers), waiter))
        self._renew_soon()
        try:
            await waiter.woken.wait()
        finally:
            waiter.has_left = True

    def _renew_soon(self) -> None:
        if not self._is_renewing:
            self._is_renewing = True
            self._rest_until(self.clock())
            trio.lowlevel.current_trio_token().run_sync_soon(self._renew)

    def _renew(self) -> None:
        """A pass is over: wake as many as the next slice has room for."""
        self._is_renewing = False
        paid_s = max(self._slice_s, QUANTUM_S)
        self._spent_s = self._owed_s = min(OWED_S_MAX, max(0.0, self._owed_s - paid_s))
        longest_s = self._longest_s
        self._slice_s = min(longest_s, PRESSED_SLICE_S) if self._is_pressed() else longest_s
        room_s = self._slice_s - self._owed_s
        while self._waiting and room_s >= 0:
            _, _, waiter = heappop(self._waiting)
            if not waiter.has_left:
                waiter.woken.set()
                room_s -= max(self._quantum_s, waiter.expected_s)
        self._calm_since_s = self.clock()
        if self._waiting:
            self._renew_soon()


@final
class Turn:
    """What one of those who share has used.

    Use, with no wait of another kind between `begin` and `end`::

        turn.begin()
        for each in work:
            if turn.is_over():
                await turn.next()
            do(each)
        turn.end()
    """

    def __init__(self, slices: Slices) -> None:
        self._slices = slices
        self._began_s = 0.0
        self._used_s = 0.0
        self._used_at_s = 0.0
        self._expected_s = 2 * SLICE_S  # nothing is known yet

    def begin(self) -> None:
        """Work begins, or goes on after a wait."""
        self._began_s = now_s = self._slices.clock()
        self._slices.begin(now_s)

    def end(self) -> None:
        """Work pauses, or is done."""
        now_s = self._slices.clock()
        for_s, worked_s = now_s - self._began_s, self._slices.worked(self._began_s, now_s)
        self._began_s = now_s
        self._slices.spend(for_s, worked_s)
        self._expected_s = max(worked_s, self._expected_s / 2)
        self._used_s *= 0.5 ** ((now_s - self._used_at_s) / FORGOTTEN_S)
        self._used_s += for_s
        self._used_at_s = now_s

    def is_over(self) -> bool:
        """Whether others should go on now."""
        return self._slices.is_over(self._slices.clock() - self._began_s)

    async def next(self) -> None:
        """Wait until everybody else has had a turn. Cancellable."""
        self.end()
        await self._slices.wait(self._used_s, self._expected_s)
        self.begin()
