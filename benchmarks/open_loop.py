"""An open loop: calls at moments that were fixed beforehand, whatever has become of earlier ones.

Rules of this file:

* A call's latency counts from the moment at which it was due, not from the one at which it was
  made: a system that stops for a second is charged with every call that should have come meanwhile
  (else the load would wait with it, which is known as coordinated omission).
* Every call that was due in the measured interval is waited for.
* Whoever calls must not be what is measured: where the system has them, moments are kept by a timer
  of the kernel's, since an event loop's own are whole milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Final, final

import attrs
import trio

clock = time.perf_counter

TICK_S: Final = 0.00025
"""How often is looked whether a call is due."""


@attrs.frozen
class Schedule:
    """When calls are due, in seconds from the start."""

    per_s: float
    warm_up_s: float
    """Calls that are due before do not count."""
    seconds: float
    """How long the measured interval is, which follows."""

    def dues_s(self) -> Iterator[float]:
        """The moments, in order."""
        number = 0
        while (due_s := number / self.per_s) < self.warm_up_s + self.seconds:
            yield due_s
            number += 1

    def counts(self, due_s: float) -> bool:
        """Whether a call that is due then is measured."""
        return due_s >= self.warm_up_s


async def keep_time(
    call: Callable[[], Awaitable[object]],
    schedule: Schedule,
    on_begin: Callable[[], None],
    on_failure: Callable[[], None] | None = None,
    failures: type[Exception] | tuple[type[Exception], ...] = (),
) -> array[float]:
    """Make calls as they are due; returns when all have ended.

    Args:
        call: made at each moment.
        schedule: the moments.
        on_begin: called when the measured interval begins.
        on_failure: called for each that failed.
        failures: what a call may raise, if it is to be counted as failed.

    Returns:
        how long each call that counts took from the moment it was due, in seconds; calls that
        failed are left out.
    """
    took_s = array("d")

    async def one(due_at_s: float, counts: bool) -> None:
        try:
            await call()
        except failures:
            if on_failure is not None:
                on_failure()
            return
        if counts:
            took_s.append(clock() - due_at_s)

    async with trio.open_nursery() as nursery, ticks() as tick:
        began_s, has_begun = clock(), False
        for due_s in schedule.dues_s():
            while clock() < began_s + due_s:
                await tick()
            if schedule.counts(due_s) and not has_begun:
                has_begun = True
                on_begin()
            nursery.start_soon(one, began_s + due_s, schedule.counts(due_s))
    return took_s


@asynccontextmanager
async def ticks() -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """What waits for the next tick."""
    if sys.platform != "linux":

        async def sleep() -> None:
            await trio.sleep(TICK_S)

        yield sleep
        return
    timer = _Timer(TICK_S)
    try:
        yield timer.wait
    finally:
        timer.close()


@final
class _Timer:
    """A timer of the kernel's that Trio can wait for; Python has them from 3.13 on."""

    def __init__(self, every_s: float) -> None:
        class Spec(ctypes.Structure):
            _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "in_s", "in_ns")]

        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        every_ns = round(every_s * 1e9)
        spec = Spec(*divmod(every_ns, 10**9), *divmod(every_ns, 10**9))
        if self._fd < 0 or libc.timerfd_settime(self._fd, 0, ctypes.byref(spec), None):
            raise OSError(ctypes.get_errno(), "there is no timer to be had")

    async def wait(self) -> None:
        """Until it has gone off since last time."""
        await trio.lowlevel.wait_readable(self._fd)
        os.read(self._fd, 8)

    def close(self) -> None:
        """It goes off no more."""
        os.close(self._fd)
