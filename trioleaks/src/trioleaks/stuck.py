"""Tasks that are cancelled and do not end: told at once, and put out, so that nobody waits on.

Rules of this file:

* Only a task that was seen cancelled for `stuck_s` seconds of real time is stuck, at look after
  look and by the same scope: a process that was stopped for so long has given its tasks no time,
  and where each pass takes longer than a task's own deadlines, each of them is over when it is
  looked at. One behind a shield that has a deadline of its own has until then; one that waits for a
  worker thread may wait longer, for the thread may end. Both are bounded.
* A run is dropped the moment it ends: all that its tasks held would live on with it, and every
  search for garbage would go through it.
* It is told the moment it is known. Then an error is raised where the task waits; if that does not
  end it, the run is ended; if the host of a guest run waits on, the host is made to raise.
* A thread keeps the time, for a run that is blocked has no turn to keep it in. It looks at nothing:
  it has the run look.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import final

import trio
from trio.lowlevel import Task

from . import privates
from .report import Leak, LeakKind
from .runs import WatchedRun
from .sites import describe_frames

PATIENCE = 6
"""How many times `stuck_s` a deadline, or a thread, may keep a cancelled task."""
STEP_S = 1.0
"""How long each way of ending it may take before the next, in seconds."""
TRIES_MAX = 3
"""How often an error is raised in a task that catches it."""

_RUNNERS = {"pytest_trio", "anyio"}
_BETWEEN = {"trio", "outcome", "contextlib"}


@final
class PutOut(BaseException):
    """Raised by the leak check in a task that could not be cancelled."""


@final
class _Patient:
    """A run that is looked at."""

    def __init__(self, run: WatchedRun, look_at: float) -> None:
        self.run = run
        self.look_at = look_at
        """When next, by the monotonic clock."""
        self.looked_at = 0.0
        """When it was last, by the monotonic clock."""
        self.cancelled_s: dict[tuple[Task, object], float] = {}
        """Cancelled tasks, each with the scope that is, and for how long each was seen so."""
        self.told: set[Task] = set()
        self.tries = 0
        self.is_broken = False


@final
class StuckWatch:
    """Has runs look for tasks that cannot be cancelled."""

    def __init__(self, stuck_s: float, tell: Callable[[WatchedRun, list[Leak]], None]) -> None:
        """Make one; `start()` begins.

        Args:
            stuck_s: how long a task may be cancelled and go on, in seconds.
            tell: called in the run's thread with what is stuck, once for each task.
        """
        self._stuck_s = stuck_s
        self._step_s = min(STEP_S, stuck_s / 3)
        self._tell = tell
        self._changed = threading.Condition()
        self._patients: dict[WatchedRun, _Patient] = {}
        self._is_idle = False
        """Whether the thread waits for a run, and not for a time."""
        self._is_over = False
        self._thread = threading.Thread(
            target=self._keep_time, name="trioleaks stuck watch", daemon=True
        )

    def start(self) -> None:
        """Begin. `stop()` must follow."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait for it."""
        with self._changed:
            self._is_over = True
            self._changed.notify()
        self._thread.join()

    def add(self, run: WatchedRun) -> None:
        """Have this run looked at until it is over."""
        patient = _Patient(run, time.monotonic() + self._stuck_s)
        with self._changed:
            self._patients[run] = patient
            if self._is_idle:
                self._changed.notify()

    def remove(self, run: WatchedRun) -> None:
        """This run is over."""
        with self._changed:
            self._patients.pop(run, None)

    def _keep_time(self) -> None:
        with self._changed:
            while not self._is_over:
                pause_s = self._look_at_due()
                # Whatever is added meanwhile is looked at later than what is waited for.
                self._is_idle = pause_s is None
                self._changed.wait(pause_s)

    def _look_at_due(self) -> float | None:
        """Have those looked at of which it is time; returns in how many seconds it will be again.

        A function of its own: it keeps no run while the thread waits.
        """
        now = time.monotonic()
        for patient in tuple(self._patients.values()):
            if patient.run.is_over:
                del self._patients[patient.run]
            elif patient.look_at <= now:
                patient.look_at = now + self._step_s
                self._have_looked(patient)
        soonest = min((each.look_at for each in self._patients.values()), default=None)
        return None if soonest is None else max(0.0, soonest - now)

    def _have_looked(self, patient: _Patient) -> None:
        if patient.is_broken:  # and its host still waits
            patient.run.is_over = True
            if patient.run.tell_host is not None:
                patient.run.tell_host(_raise_put_out)
            return
        try:
            privates.wake(patient.run.runner, lambda: self._look(patient))
        except trio.RunFinishedError:
            patient.run.is_over = True

    def _look(self, patient: _Patient) -> None:
        """In the run's thread."""
        now = time.monotonic()
        runner = patient.run.runner
        cancelled = {
            (task, privates.cancelled_by(task))
            for task in privates.tasks_of(runner)
            if _is_stuck_alone(runner, task)
        }
        for_s = min(now - patient.looked_at, 2 * self._step_s)
        patient.looked_at = now
        seen = patient.cancelled_s
        patient.cancelled_s = {
            each: seen[each] + for_s if each in seen else 0.0 for each in cancelled
        }
        stuck = [
            task
            for (task, _), cancelled_s in patient.cancelled_s.items()
            if self._is_stuck(runner, task, cancelled_s)
        ]
        if not stuck:
            return
        new = [task for task in stuck if task not in patient.told]
        if new:
            patient.told.update(new)
            self._tell(patient.run, [_leak(task, patient.run) for task in new])
            patient.tries = 0
        patient.tries += 1
        if patient.tries <= TRIES_MAX:
            put_out = [privates.put_out(task, PutOut(_message(task))) for task in stuck]
            if all(put_out):
                return
        if patient.tries > TRIES_MAX or not any(put_out):
            patient.is_broken = True
            privates.break_run(runner, PutOut(_message(stuck[0])))

    def _is_stuck(self, runner: object, task: Task, for_s: float) -> bool:
        if for_s < self._stuck_s:
            return False
        if for_s >= PATIENCE * self._stuck_s:
            return True
        ends_at = privates.shield_ends_at(task)
        if privates.current_time(runner) < ends_at < float("inf"):
            return False
        return not privates.waits_for_thread(task)


def _raise_put_out() -> None:
    raise PutOut("the run was ended, for a task of it could not be cancelled")


def _is_stuck_alone(runner: object, task: Task) -> bool:
    """Whether this task is cancelled and goes on of its own, and not for tasks below it."""
    if any(nursery.child_tasks for nursery in task.child_nurseries):
        return False
    if privates.is_trios_own(runner, task) or not privates.is_cancelled(task):
        return False
    modules = {
        frame.f_globals.get("__name__", "").partition(".")[0]
        for frame, _ in task.iter_await_frames()
    }
    # A runner's own task waits, shielded, for the test: it is the test that is stuck.
    return not modules & _RUNNERS or bool(modules - _RUNNERS - _BETWEEN)


def _message(task: Task) -> str:
    return f"{task.name} was cancelled and went on: put out by the leak check"


def _leak(task: Task, run: WatchedRun) -> Leak:
    origin = run.origin_of(task)
    return Leak(
        LeakKind.SYSTEM_TASK if run.is_system(task) else LeakKind.TASK,
        task.name,
        origin.text,
        describe_frames(task.iter_await_frames()),
        "cancelled, but it goes on: it is shielded, or catches Cancelled",
        origin.through_text,
    )
