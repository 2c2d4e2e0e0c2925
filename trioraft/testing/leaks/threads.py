"""Threads that are alive, and jobs of Trio's worker threads that still run.

Rules of this file:

* Trio caches its worker threads: what is recorded is the job, so an idle one is never seen.
* A thread cannot be cancelled. One that is just ending has `MOMENT_S`, any other is a leak.
"""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar, final

import attrs

from .report import Leak, LeakKind
from .sites import Origin, describe_thread
from .tasks import Ownership
from .trio_internals import THREAD_CACHE_MODULE

_T = TypeVar("_T")

MOMENT_S = 0.02  # real time, for all threads together


@final
@attrs.define(eq=False)
class _Job:
    """A function that a cached worker thread runs for somebody."""

    name: str
    origin: Origin
    is_ours: bool
    thread: int | None = None
    over: threading.Event = attrs.field(factory=threading.Event)


@final
class ThreadProbe:
    """What was started in threads. Gives two listeners for taps."""

    def __init__(self, ownership: Ownership) -> None:
        self._ownership = ownership
        self._before = set(threading.enumerate())
        self._started: weakref.WeakKeyDictionary[threading.Thread, tuple[Origin, bool]]
        self._started = weakref.WeakKeyDictionary()
        self._workers: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        self._jobs: set[_Job] = set()

    def around_start(self, call: Callable[..., Any], thread: threading.Thread) -> None:
        """Listener around `threading.Thread.start`."""
        __tracebackhide__ = True
        frame = sys._getframe(1)
        if _is_worker(frame):
            self._workers.add(thread)
        else:
            self._started[thread] = (self._ownership.origin(frame), self._ownership.is_ours())
        call(thread)

    def around_job(
        self,
        call: Callable[..., Any],
        cache: object,
        fn: Callable[[], object],
        *rest: Any,
        **kw: Any,
    ) -> None:
        """Listener around the thread cache's one method: `fn` tells when it begins and ends."""
        __tracebackhide__ = True
        origin = self._ownership.origin(sys._getframe(1))
        named = kw.get("name") or (rest[1] if len(rest) > 1 else None)
        job = _Job(named or "worker thread", origin, self._ownership.is_ours())
        self._jobs.add(job)
        call(cache, self._reporting(job, fn), *rest, **kw)

    def _reporting(self, job: _Job, fn: Callable[[], _T]) -> Callable[[], _T]:
        def work() -> _T:
            __tracebackhide__ = True
            thread = threading.get_ident()
            job.thread = thread
            self._ownership.jobs[thread] = job.is_ours
            try:
                return fn()
            finally:
                self._ownership.jobs.pop(thread, None)
                self._jobs.discard(job)
                job.over.set()

        return work

    def leaks(self) -> list[Leak]:
        """What still runs, after a moment for threads that are just ending."""
        deadline = time.monotonic() + MOMENT_S
        jobs = [job for job in tuple(self._jobs) if job.is_ours and not _ends(job, deadline)]
        threads = [
            thread
            for thread in threading.enumerate()
            if self._is_new(thread) and not _joins(thread, deadline)
        ]
        if not jobs and not threads:
            return []
        stacks = sys._current_frames()
        return [_job_leak(job, stacks) for job in jobs] + [
            _thread_leak(thread, self._started.get(thread), stacks) for thread in threads
        ]

    def _is_new(self, thread: threading.Thread) -> bool:
        if thread in self._before or thread in self._workers:
            return False
        _, is_ours = self._started.get(thread, (None, True))
        return is_ours


def _is_worker(frame: FrameType | None) -> bool:
    """Whether Trio's thread cache starts this thread: its caller, past taps, is the cache."""
    while frame is not None:
        module: str = frame.f_globals.get("__name__", "")
        if not module.startswith("trioraft.testing.leak"):
            return module == THREAD_CACHE_MODULE
        frame = frame.f_back
    return False


def _ends(job: _Job, deadline: float) -> bool:
    return job.over.wait(max(0.0, deadline - time.monotonic()))


def _joins(thread: threading.Thread, deadline: float) -> bool:
    thread.join(max(0.0, deadline - time.monotonic()))
    return not thread.is_alive()


def _job_leak(job: _Job, stacks: dict[int, FrameType]) -> Leak:
    return Leak(
        kind=LeakKind.THREAD,
        name=job.name,
        spawned_at=job.origin.text,
        await_chain=() if job.thread is None else describe_thread(stacks.get(job.thread)),
        detail="a worker thread still runs this",
    )


def _thread_leak(
    thread: threading.Thread, started: tuple[Origin, bool] | None, stacks: dict[int, FrameType]
) -> Leak:
    return Leak(
        kind=LeakKind.THREAD,
        name=thread.name,
        spawned_at=None if started is None else started[0].text,
        await_chain=() if thread.ident is None else describe_thread(stacks.get(thread.ident)),
        detail=f"still alive{', a daemon' if thread.daemon else ''}",
    )
