"""Who started which task, and which of them are still there.

Rules of this file:

* What existed before, and whatever that starts of its own, belongs to others. Ours is what the
  watched task does, and the tasks it starts, and theirs: in whichever nursery they live.
* A task that is blocked and not cancelled is a leak at once: nobody waits for it. One that can
  run may run until it blocks (`PASSES_MAX` turns of the scheduler), so that the order in which
  Trio resumes tasks decides nothing. A cancelled one has `grace_s` real seconds.
* Waiting never moves a virtual clock: it waits for all tasks to be blocked, which a
  `MockClock` counts as activity.
"""

from __future__ import annotations

import inspect
import math
import sys
import threading
import time
from collections.abc import Iterable
from contextvars import ContextVar
from typing import final

import trio
import trio.testing
from trio.abc import Instrument
from trio.lowlevel import Task

from . import privates
from .allowed import Allowed
from .privates import is_cancelled, is_users_function, runs_callbacks
from .probe import OTHERS, OURS, Job, Maker
from .report import Leak, LeakKind
from .sites import Origin, describe_frames, find_origin

PASSES_MAX = 50  # scheduler turns that runnable tasks are given to block or to end
_TURNS_MIN = 8  # scheduler turns that cancelled tasks are given, however slow the machine is


def started_at(task: Task) -> str | None:
    """Where this task was started, if that was in a scope that the current task is in.

    Args:
        task: any task of the current Trio run.

    Returns: "file:line in function", or None.
    """
    for ownership in reversed(WATCHING.get()):
        origin = ownership.started.get(task) or ownership.others.get(task)
        if origin is not None:
            return origin.text
    return None


@final
class TaskOwnership(Instrument):
    """Tells the watched task's doings from those of whatever existed before it was watched."""

    def __init__(self) -> None:
        self._watched = trio.lowlevel.current_task()
        root = trio.lowlevel.current_root_task()
        if root is None:
            raise RuntimeError("a task without a root task: this is no Trio that we know")
        self._root = root
        self._runner = privates.current_runner()
        self._run_thread = threading.get_ident()
        # Thread objects, not their identities: those are used again once a thread has ended.
        self._threads_before = set(threading.enumerate())
        self._agents = {task for task in _children(self._root) if runs_callbacks(task)}
        self.started: dict[Task, Origin] = {}
        """The tasks of ours that live, in the order of their start."""
        self.others: dict[Task, Origin] = {}
        """Those that others have started meanwhile."""
        self.jobs: dict[int, Job] = {}
        """What worker threads do for a task now, by the threads' identities."""

    def task_spawned(self, task: Task) -> None:
        """Trio calls this in the spawning task, with the whole stack of the spawn in place."""
        origin, owner = self.maker(privates.SPAWNER_DEPTH)
        nursery = task.parent_nursery
        is_system = nursery is None or nursery.parent_task is self._root
        is_own = origin.by_trio and not is_users_function(task)
        if is_system and (is_own or privates.is_anyios(task)):
            return  # Trio's own: closes an async generator, waits for a child process, …
        (self.started if owner is OURS else self.others)[task] = origin

    def task_exited(self, task: Task) -> None:
        """Trio calls this when a task has ended."""
        self.started.pop(task, None)
        self.others.pop(task, None)

    def maker(self, depth: int) -> Maker:
        """`OURS` if the code that runs right now, in whichever thread, is the watched task's.

        A task that runs nothing but libraries' code (`open_tcp_stream` starts some) has no line
        of the project's: then it is the line that started the task, or the thread's job.
        """
        found = find_origin(sys._getframe(depth + 1))
        thread_id = threading.get_ident()
        task = privates.current_task()
        if task is not None:
            is_ours = task is self._watched or task in self.started or task in self._agents
            above = self.started.get(task) or self.others.get(task)
        elif thread_id in self.jobs:
            job = self.jobs[thread_id]
            is_ours, above = job.maker.owner is OURS, job.maker.origin
        elif thread_id == self._run_thread:
            # Between the turns of a guest run its host's code runs, which is not ours.
            is_ours, above = not privates.is_guest(self._runner), None
        else:
            is_ours, above = threading.current_thread() not in self._threads_before, None
        origin = found if found.is_project or above is None else found.beneath(above)
        return Maker(origin, OURS if is_ours else OTHERS)

    def is_allowed(self, task: Task, allowed: Allowed) -> bool:
        """Whether this task, or one of ours above it, may stay."""
        above = _ancestors(task) & self.started.keys()
        return task.name in allowed or any(each.name in allowed for each in above)

    def leaks(self, allowed: Allowed) -> list[Leak]:
        """Every task of ours that lives and may not, in the order in which they started."""
        return [
            task_leak(task, origin, is_system=_is_child(task, self._root))
            for task, origin in self.started.items()
            if not self.is_allowed(task, allowed)
        ]

    async def settle(self, allowed: Allowed, grace_s: float) -> None:
        """Let runnable tasks of ours block or end, and give cancelled ones `grace_s` seconds.

        Returns at once if no task of ours lives. Not cancelled from outside: it is bounded.
        """
        waited_for = {task for task in self.started if not self.is_allowed(task, allowed)}
        if not waited_for:
            return
        await _wait_for_exit(waited_for, passes_max=PASSES_MAX, grace_s=grace_s, cushion_s=0.0)
        cancelled = {task for task in waited_for if is_cancelled(task)}
        if cancelled:
            await _wait_for_exit(cancelled, passes_max=None, grace_s=grace_s, cushion_s=grace_s)


WATCHING: ContextVar[tuple[TaskOwnership, ...]] = ContextVar("trioleaks scopes", default=())
"""The scopes around the current task, outermost first."""


async def _wait_for_exit(
    tasks: set[Task], *, passes_max: int | None, grace_s: float, cushion_s: float
) -> None:
    """Wait until `tasks` (which shrinks) is empty, all is blocked, or a bound is reached."""
    with trio.CancelScope(shield=True) as scope:
        bound = _Bound(scope, tasks, passes_max, grace_s)
        trio.lowlevel.add_instrument(bound)
        try:
            await trio.testing.wait_all_tasks_blocked(cushion_s)
        finally:
            trio.lowlevel.remove_instrument(bound)


@final
class _Bound(Instrument):
    """Ends a wait when its tasks are gone, or after so many scheduler turns or real seconds."""

    def __init__(
        self, scope: trio.CancelScope, tasks: set[Task], passes_max: int | None, grace_s: float
    ) -> None:
        self._scope = scope
        self._tasks = tasks
        self._passes_left = math.inf if passes_max is None else passes_max
        self._left_s = grace_s  # real time, whatever the run's clock is
        self._turn_s_max = grace_s / _TURNS_MIN
        self._before = time.monotonic()

    def task_exited(self, task: Task) -> None:
        self._tasks.discard(task)
        if not self._tasks:
            self._scope.cancel()

    def before_io_wait(self, _timeout: float) -> None:
        now = time.monotonic()
        self._passes_left -= 1
        self._left_s -= min(now - self._before, self._turn_s_max)
        self._before = now
        if self._passes_left <= 0 or self._left_s <= 0:
            self._scope.cancel()


def walk_tasks(root: Task) -> Iterable[Task]:
    """Every task below `root`, `root` first."""
    left = [root]
    while left:
        task = left.pop()
        yield task
        left.extend(_children(task))


def _children(task: Task) -> set[Task]:
    return {child for nursery in task.child_nurseries for child in nursery.child_tasks}


def _ancestors(task: Task) -> set[Task]:
    found: set[Task] = set()
    nursery = task.parent_nursery
    while nursery is not None:
        found.add(nursery.parent_task)
        nursery = nursery.parent_task.parent_nursery
    return found


def _is_child(task: Task, parent: Task) -> bool:
    return task.parent_nursery is not None and task.parent_nursery.parent_task is parent


def task_leak(task: Task, origin: Origin, *, is_system: bool) -> Leak:
    """The leak that this task is, as it stands now."""
    if inspect.getcoroutinestate(task.coro) == inspect.CORO_CREATED:
        detail = "never had its first turn"
    elif is_cancelled(task):
        detail = "cancelled, but it goes on"
    else:
        detail = "still running, and nobody has cancelled it"
    return Leak(
        kind=LeakKind.SYSTEM_TASK if is_system else LeakKind.TASK,
        name=task.name,
        spawned_at=origin.text,
        await_chain=describe_frames(task.iter_await_frames()),
        detail=detail,
        through=origin.through_text,
    )
