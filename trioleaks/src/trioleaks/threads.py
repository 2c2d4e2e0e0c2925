"""Threads that are alive, and jobs of Trio's worker threads that still run.

Rules of this file:

* Trio caches its worker threads: what is recorded is the job, so an idle one is never seen.
* A thread cannot be cancelled. Whether it is just ending is for the caller to wait and see.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, TypeVar, final

from . import privates
from .probe import Job, Left, Maker, Owner, Owners, Ownership
from .report import Leak, LeakKind
from .sites import UNKNOWN, describe_thread
from .taps import Tap

_T = TypeVar("_T")


@final
class ThreadProbe:
    """What was started in threads."""

    def __init__(self, ownership: Ownership) -> None:
        self._ownership = ownership
        self._before: dict[Owner, weakref.WeakSet[threading.Thread]] = {}
        self._started: weakref.WeakKeyDictionary[threading.Thread, Maker]
        self._started = weakref.WeakKeyDictionary()
        self._workers: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        self._jobs: set[Job] = set()

    def taps(self) -> Iterable[Tap]:
        """`Thread.start`, and the way of every job to a worker thread."""
        yield Tap(privates.thread_cache_type(), privates.THREAD_JOB, self._around_job)
        yield Tap(threading.Thread, "start", self._around_start)

    def note(self, owner: Owner) -> None:
        """See `Probe`."""
        self._before[owner] = weakref.WeakSet(threading.enumerate())

    def forget(self, owners: Owners) -> None:
        """See `Probe`."""
        for owner in owners:
            self._before.pop(owner, None)
        self._jobs = {job for job in self._jobs if job.maker.owner not in owners}

    def prune(self) -> None:
        """Nothing: what has ended is not kept."""

    def claim(self, owner: Owner) -> None:
        """Threads that are new and that nobody saw start are this owner's."""
        before = self._before.get(owner)
        if before is not None:
            for thread in threading.enumerate():
                if thread not in before and thread not in self._workers:
                    self._started.setdefault(thread, Maker(UNKNOWN, owner))

    def owner_of(self, thread: threading.Thread) -> Owner | None:
        """Whose this thread is, if it was seen to start."""
        started = self._started.get(thread)
        return None if started is None else started.owner

    def _around_start(self, call: Callable[..., Any], thread: threading.Thread) -> None:
        __tracebackhide__ = True
        frame = sys._getframe(1)
        if _is_worker(frame):
            self._workers.add(thread)
        else:
            self._started[thread] = self._ownership.maker(1)
        call(thread)

    def _around_job(
        self,
        call: Callable[..., Any],
        cache: object,
        fn: Callable[[], object],
        *rest: Any,
        **kw: Any,
    ) -> None:
        """`fn` tells when it begins and ends."""
        __tracebackhide__ = True
        maker = self._ownership.maker(1)
        named = kw.get("name") or (rest[1] if len(rest) > 1 else None)
        name = named or f"worker thread for {getattr(fn, '__qualname__', fn)}"
        job = Job(name, maker)
        self._jobs.add(job)
        call(cache, self._reporting(job, fn), *rest, **kw)

    def _reporting(self, job: Job, fn: Callable[[], _T]) -> Callable[[], _T]:
        def work() -> _T:
            __tracebackhide__ = True
            thread = threading.get_ident()
            job.thread = thread
            self._ownership.jobs[thread] = job
            try:
                return fn()
            finally:
                self._ownership.jobs.pop(thread, None)
                self._jobs.discard(job)

        return work

    def left(self, owners: Owners) -> list[Left]:
        """What runs now."""
        jobs = [job for job in tuple(self._jobs) if job.maker.owner in owners]
        threads = [each for each in threading.enumerate() if self._is_owned(each, owners)]
        if not jobs and not threads:
            return []
        stacks = sys._current_frames()
        return [
            *(Left(_job_leak(job, stacks), ("job", id(job))) for job in jobs),
            *(
                Left(
                    _thread_leak(each, self._started.get(each), stacks), ("thread", id(each)), each
                )
                for each in threads
            ),
        ]

    def _is_owned(self, thread: threading.Thread, owners: Owners) -> bool:
        known = [before for owner in owners if (before := self._before.get(owner)) is not None]
        was_there = [thread in before for before in known]
        if (known and all(was_there)) or thread in self._workers:
            return False
        started = self._started.get(thread)
        if started is not None:
            return started.owner in owners
        # Nobody saw it start, in ways that are not listened to: it is theirs if it is new.
        return bool(known) and not any(was_there)


def _is_worker(frame: FrameType | None) -> bool:
    """Whether Trio's thread cache starts this thread: its caller, past taps, is the cache."""
    while frame is not None:
        module: str = frame.f_globals.get("__name__", "")
        if not module.startswith("trioleaks."):
            return module == privates.THREAD_CACHE_MODULE
        frame = frame.f_back
    return False


def _job_leak(job: Job, stacks: dict[int, FrameType]) -> Leak:
    return Leak(
        kind=LeakKind.THREAD,
        name=job.name,
        spawned_at=job.maker.origin.text,
        await_chain=() if job.thread is None else describe_thread(stacks.get(job.thread)),
        detail="a worker thread still runs this",
        through=job.maker.origin.through_text,
    )


def _thread_leak(
    thread: threading.Thread, started: Maker | None, stacks: dict[int, FrameType]
) -> Leak:
    return Leak(
        kind=LeakKind.THREAD,
        name=thread.name,
        spawned_at=None if started is None else started.origin.text,
        await_chain=() if thread.ident is None else describe_thread(stacks.get(thread.ident)),
        detail=f"still alive{', a daemon' if thread.daemon else ''}",
        through=None if started is None else started.origin.through_text,
    )
