"""Everything of Trio that the leak check uses and Trio does not promise.

Rules of this file:

* Nothing else of the leak check touches a private name of Trio. `changes()` says in words what
  a new Trio no longer has, and a test calls it with each Trio that is supported.
* Each use says why the public face does not do.
* Names are looked up when they are used: a Trio that lacks one can still be imported with, and
  `require()` refuses it with a message instead of a crash.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from importlib.metadata import version
from types import ModuleType
from typing import Any

import trio
from trio.lowlevel import Task

_run: Any = sys.modules["trio._core._run"]  # `import trio` has loaded it, in every Trio we know

# A channel's constructor is made by attrs and calls this at its end; there is no public hook,
# and searching all objects of the process would cost milliseconds a test.
CHANNEL_OPENED = "__attrs_post_init__"
CHANNEL_TYPES = (trio.MemorySendChannel, trio.MemoryReceiveChannel)

# The worker threads are cached, so a thread says nothing about whether it works. Every job goes
# through this method; `trio.lowlevel.start_thread_soon` cannot be listened to, for it is a
# function that other modules have imported by name.
THREAD_JOB = "start_thread_soon"
THREAD_CACHE_MODULE = "trio._core._thread_cache"

# Every run comes through here, `trio.run`, guest runs and those in other threads; `trio.run` is
# imported by name in many places, and an instrument must be there when the run begins.
RUN_MODULE: Any = _run
RUN_BEGINS = "setup_runner"

# Between `Instrument.task_spawned` and the code that spawns stand the instruments' `call`,
# `spawn_impl` and `start_soon`, `start` or `spawn_system_task`: to ask each of these frames what it
# is costs more than the rest of the way up.
SPAWNER_DEPTH = 4

LIMITER_ACQUIRE = "acquire_on_behalf_of_nowait"


# Trio opens a descriptor for each of its child processes, by a name that it has imported or made.
_PIDFD = ("trio._subprocess", "pidfd_open")


def pidfd_makers() -> list[tuple[ModuleType, str]]:
    """Where Trio keeps the function that opens a descriptor for a process, where it does."""
    module = sys.modules.get(_PIDFD[0])
    return [] if module is None or not hasattr(module, _PIDFD[1]) else [(module, _PIDFD[1])]


def thread_cache_type() -> type:
    """The class of Trio's cache of worker threads."""
    found: type = sys.modules[THREAD_CACHE_MODULE].ThreadCache
    return found


def is_cancelled(task: Task) -> bool:
    """Whether a cancel scope around this task was cancelled, shielded from it or not.

    `Nursery.cancel_scope` is public, but a plain `with CancelScope()` around a nursery cannot
    be found from a task, and a task in a shielded clean-up is on its way out all the same.
    """
    return cancelled_by(task) is not None


def cancelled_by(task: Task) -> object | None:
    """The outermost cancel scope around this task that was cancelled; None if none was."""
    found: object | None = None
    status: Any = task._cancel_status
    while status is not None:
        if status._scope.cancel_called:
            found = status._scope
        status = status.parent
    return found


def shield_ends_at(task: Task) -> float:
    """When, by the run's clock, the scopes up to the innermost shield let go; inf without one."""
    ends: float = float("inf")
    status: Any = task._cancel_status
    while status is not None:
        ends = min(ends, float(status._scope.deadline))
        if status._scope.shield:
            return ends
        status = status.parent
    return float("inf")


def is_users_function(task: Task) -> bool:
    """Whether this task, started by Trio itself, runs a function that the user handed over.

    `trio.from_thread.run` from a thread that Trio did not start does: it uses a system task.
    """
    frame = task.coro.cr_frame
    return frame is not None and frame.f_globals.get("__name__") == "trio._threads"


def is_anyios(task: Task) -> bool:
    """Whether this task runs a function of anyio's Trio backend: it keeps the run's pool of worker
    processes, and closes it when the run ends, as Trio's own system tasks do.
    """
    frame = task.coro.cr_frame
    return frame is not None and frame.f_globals.get("__name__") == "anyio._backends._trio"


def runs_callbacks(task: Task) -> bool:
    """Whether this is Trio's task that runs what `run_sync_soon` was given, for whoever asked."""
    frame = task.coro.cr_frame
    return frame is not None and frame.f_globals.get("__name__") == "trio._core._entry_queue"


def is_thread_placeholder(borrower: object) -> bool:
    """Whether this borrower of a limiter stands for a worker thread, which is told of as itself."""
    return type(borrower).__module__ == "trio._threads"


def channel_state(end: Any) -> object:
    """What both ends of a memory channel share: the only way to know the other end."""
    return end._state


def is_trios_handler(handler: object) -> bool:
    """Whether this signal handler is the one with which a run hears of Ctrl-C."""
    module: str = getattr(handler, "__module__", None) or ""
    return module == "trio._core._ki"


def is_signal_receiver(handler: object) -> bool:
    """Whether this signal handler is that of an open `trio.open_signal_receiver`."""
    return getattr(handler, "__module__", None) == "trio._signals"


# A run, as `setup_runner` returns it. Instruments are told of tasks, not of runs.


def current_runner() -> Any:
    """The runner of this thread, in a task or between two turns of a guest run; or None."""
    return getattr(_run.GLOBAL_RUN_CONTEXT, "runner", None)


def current_task() -> Task | None:
    """The task that runs now, in this thread: Trio's own question raises where there is none."""
    found: Task | None = getattr(_run.GLOBAL_RUN_CONTEXT, "task", None)
    return found


def in_task() -> bool:
    """Whether a task runs now, in this thread: Trio 0.27 has no public question for it."""
    return hasattr(_run.GLOBAL_RUN_CONTEXT, "task")


def is_guest(runner: Any) -> bool:
    """Whether this run is the guest of another loop, whose code runs between its turns."""
    found: bool = runner.is_guest
    return found


def add_instrument(runner: Any, instrument: trio.abc.Instrument) -> None:
    """Have a run that is about to begin tell this instrument: `trio.lowlevel` needs a task."""
    runner.instruments.add_instrument(instrument)


def main_task(runner: Any) -> Task | None:
    """The task that `trio.run` was given, once it was started."""
    found: Task | None = runner.main_task
    return found


def has_ended(runner: Any) -> bool:
    """Whether no task of this run is left."""
    return runner.init_task is not None and not runner.tasks


def tasks_of(runner: Any) -> set[Task]:
    """All tasks of this run that live."""
    found: set[Task] = runner.tasks
    return found


def system_nursery(runner: Any) -> trio.Nursery | None:
    """The nursery of the run's system tasks."""
    found: trio.Nursery | None = runner.system_nursery
    return found


def is_trios_own(runner: Any, task: Task) -> bool:
    """Whether this is a task that every run has: the first one, and the one for callbacks."""
    return task is runner.init_task or runs_callbacks(task)


def current_time(runner: Any) -> float:
    """The time of the run's clock, asked from outside of its tasks."""
    found: float = runner.clock.current_time()
    return found


def wake(runner: Any, call: Callable[[], object]) -> None:
    """Have the run call this soon, from any thread; what `TrioToken.run_sync_soon` does.

    Raises:
        trio.RunFinishedError: the run is over.
    """
    runner.entry_queue.run_sync_soon(call)


def put_out(task: Task, error: BaseException) -> bool:
    """Raise `error` in a task that nothing else can end, at the point where it waits.

    No public call does: cancelling is what such a task does not heed. Returns whether the error
    will be raised; a task that waits for a thread which cannot be abandoned keeps on.
    """

    def raise_error() -> Any:
        raise error

    if task._next_send_fn is not None:  # it is about to run: have it run into the error
        task._next_send_fn, task._next_send = task.coro.throw, error
        return True
    if task._abort_func is None:
        return False
    task._attempt_abort(raise_error)
    return task._next_send_fn is not None


class _BrokenClock:
    """A clock that raises when the run loop asks for the time, which it does at every turn.

    A task may ask: one that catches everything would go round and never yield again.
    """

    def __init__(self, clock: Any, error: BaseException) -> None:
        self._clock = clock
        self._error = error

    def start_clock(self) -> None:
        self._clock.start_clock()

    def current_time(self) -> float:
        if not in_task():
            raise self._error
        time: float = self._clock.current_time()
        return time

    def deadline_to_sleep_time(self, deadline: float) -> float:
        raise self._error


def break_run(runner: Any, error: BaseException) -> None:
    """End a run that cannot end: its loop raises `TrioInternalError` from `error`.

    No public call ends a run whose tasks do not end. Its tasks never run again.
    """
    runner.clock = _BrokenClock(runner.clock, error)


def changes() -> list[str]:
    """What this Trio has no longer, one sentence each; empty for a Trio that we know."""
    found = [
        f"{each.__name__}.{name} is gone: how is a memory channel seen to open or close now?"
        for each in CHANNEL_TYPES
        for name in (CHANNEL_OPENED, "close")
        if name not in each.__dict__
    ]
    cache = getattr(sys.modules.get(THREAD_CACHE_MODULE), "ThreadCache", None)
    job = None if cache is None else cache.__dict__.get(THREAD_JOB)
    if job is None or _parameters(job)[:2] != ["self", "fn"]:
        found.append("ThreadCache.start_thread_soon(self, fn, ...) is gone: who starts threads?")
    if not hasattr(_run, "unrolled_run"):
        found.append("unrolled_run is gone: sites must know where Trio's run loop begins")
    if not hasattr(_run.Task, "_cancel_status") or not hasattr(_run.CancelStatus, "parent"):
        found.append("Task._cancel_status.parent is gone: how is a task seen to be cancelled?")
    begins = getattr(_run, RUN_BEGINS, None)
    if begins is None or _parameters(begins)[:2] != ["clock", "instruments"]:
        found.append("setup_runner(clock, instruments, ...) is gone: where does a run begin?")
    if not hasattr(_run, "GLOBAL_RUN_CONTEXT"):
        found.append("GLOBAL_RUN_CONTEXT is gone: which run is this thread's?")
    for name in ("instruments", "main_task", "init_task", "tasks", "system_nursery", "clock",
                 "is_guest", "entry_queue"):  # fmt: skip
        if name not in getattr(_run.Runner, "__annotations__", {}):
            found.append(f"Runner.{name} is gone: a run can no longer be looked at")
    for name in ("_abort_func", "_attempt_abort", "_next_send_fn", "_next_send"):
        if not hasattr(_run.Task, name):
            found.append(f"Task.{name} is gone: how is a task put out that cannot be cancelled?")
    if LIMITER_ACQUIRE not in trio.CapacityLimiter.__dict__:
        found.append(f"CapacityLimiter.{LIMITER_ACQUIRE} is gone: who holds a token?")
    return found


@functools.cache
def require() -> None:
    """Refuse a Trio that we do not know.

    Raises:
        RuntimeError: this Trio has changed; the message says what.
    """
    gone = changes()
    if gone:
        raise RuntimeError(
            f"this trioleaks does not know trio {version('trio')}: {'; '.join(gone)}. "
            "Take a newer trioleaks, or set `leaks = off` until there is one."
        )


def _parameters(function: Any) -> list[str]:
    return list(inspect.signature(inspect.unwrap(function)).parameters)


def host_of(frame: Any) -> Callable[[Callable[[], object]], object] | None:
    """What a guest run was given to have its host call something; None for a run of its own.

    Args:
        frame: within the call of `trio.lowlevel.start_guest_run`. The host's function is kept in
            a private place, and differently in each Trio; its argument's name is public.
    """
    while frame is not None:
        if frame.f_globals is _run.__dict__ and frame.f_code.co_name == "start_guest_run":
            found: Callable[[Callable[[], object]], object]
            found = frame.f_locals["run_sync_soon_threadsafe"]
            return found
        if frame.f_globals.get("__name__", "").partition(".")[0] not in ("trio", "trioleaks"):
            return None
        frame = frame.f_back
    return None


def waits_for_thread(task: Task) -> bool:
    """Whether this task waits for a worker thread that it may not abandon."""
    frames = list(task.iter_await_frames())
    return bool(frames) and any(
        frame.f_code.co_name == "to_thread_run_sync" for frame, _ in frames[-2:]
    )
