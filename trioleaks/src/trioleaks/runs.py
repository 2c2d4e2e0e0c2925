"""Every Trio run of a process: who started it, its tasks, and what is left when its main task ends.

Rules of this file:

* A run is heard of where all runs begin, whoever begins it: `trio.run`, pytest plugins, guests of
  other loops, runs in threads.
* When the main task has ended, only system tasks are left. One that nobody has cancelled by then
  is a leak; Trio cancels it a moment later, and that hides it.
* A task's doings belong to whoever's time it was started in. A main task's doings belong to
  whoever's time it is: some runners use one run for many tests.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, final

from trio.abc import Instrument
from trio.lowlevel import Task

from . import privates
from .generators import AsyncGeneratorHooks
from .probe import OTHERS, Job, Left, Maker, Owner, Owners
from .recorder import Recorder
from .sites import Origin, find_origin
from .taps import Listening, Tap
from .tasks import task_leak


class Started(NamedTuple):
    """A task that somebody has started."""

    maker: Maker
    is_system: bool


_TRIOS = Maker(Origin(None, by_trio=True), OTHERS)


@final
class TurnOwnership:
    """Whatever is done belongs to whoever's turn it is, or to whoever started the doer."""

    def __init__(self, owner: Owner) -> None:
        self.turn: Owner = owner
        """Whose turn it is now, in the main thread."""
        self.jobs: dict[int, Job] = {}
        """What worker threads do for a task now, by the threads' identities."""
        self.started: dict[Task, Started] = {}
        """The tasks that live, main tasks left out, of all runs."""
        self.beginning: set[int] = set()
        """The threads in which Trio makes what a run needs for itself."""
        self.owner_of_thread: Callable[[threading.Thread], Owner | None] = lambda _: None
        self._main_thread = threading.main_thread().ident

    def maker(self, depth: int) -> Maker:
        """See `Ownership`."""
        thread_id = threading.get_ident()
        if thread_id in self.beginning:
            return _TRIOS  # a run makes ten things of its own, under the whole stack of a test
        found = find_origin(sys._getframe(depth + 1))
        task = privates.current_task()
        started = None if task is None else self.started.get(task)
        if started is not None:
            doer = started.maker
        elif thread_id in self.jobs:
            doer = self.jobs[thread_id].maker
        elif thread_id == self._main_thread:
            return Maker(found, self.turn)
        else:
            owner = self.owner_of_thread(threading.current_thread())
            return Maker(found, OTHERS if owner is None else owner)
        return Maker(found if found.is_project else found.beneath(doer.origin), doer.owner)


@final
class WatchedRun(Instrument):
    """One Trio run."""

    def __init__(
        self,
        runner: Any,
        maker: Maker,
        ownership: TurnOwnership,
        on_main_end: Callable[[WatchedRun], None],
        on_end: Callable[[WatchedRun], None],
        tell_host: Callable[[Callable[[], object]], object] | None,
    ) -> None:
        self.runner = runner
        self.maker = maker
        self.is_over: bool = False
        self.tell_host = tell_host
        """Has a guest run's host call something, from any thread."""
        self.is_in_main_thread: bool = threading.current_thread() is threading.main_thread()
        self._ownership = ownership
        self._on_main_end = on_main_end
        self._on_end = on_end
        self._main: Task | None = None

    def __dir__(self) -> list[str]:
        """What Trio is to call: it asks for every name that an instrument has, at each run."""
        return ["task_exited", "task_spawned"]

    def task_spawned(self, task: Task) -> None:
        """Trio calls this in the spawning task, with the whole stack of the spawn in place."""
        nursery = task.parent_nursery
        if privates.main_task(self.runner) is None:  # the first task, or the main task
            self._main = task if nursery is not None else None
            return
        if nursery is None:
            return
        is_system = nursery is privates.system_nursery(self.runner)
        if is_system and privates.is_trios_own(self.runner, task):
            return
        maker = self._ownership.maker(privates.SPAWNER_DEPTH)
        if is_system:
            is_own = maker.origin.by_trio and not privates.is_users_function(task)
            if is_own or privates.is_anyios(task):
                return  # Trio's own: closes an async generator, waits for a child process, …
        self._ownership.started[task] = Started(maker, is_system)

    def task_exited(self, task: Task) -> None:
        """Trio calls this when a task has ended."""
        self._ownership.started.pop(task, None)
        if task is self._main:
            self._on_main_end(self)
        elif task.parent_nursery is None:
            self.is_over = True
            self._on_end(self)

    def system_tasks(self, owners: Owners) -> list[Left]:
        """System tasks of these owners that live and that nobody has cancelled."""
        return [
            Left(task_leak(task, started.maker.origin, is_system=True), ("task", id(task)), task)
            for task in tuple(privates.tasks_of(self.runner))
            if (started := self._ownership.started.get(task)) is not None
            and started.is_system
            and started.maker.owner in owners
            and not privates.is_cancelled(task)
        ]

    def origin_of(self, task: Task) -> Origin:
        """Where a task of this run was started."""
        started = self._ownership.started.get(task)
        return self.maker.origin if started is None else started.maker.origin

    def is_system(self, task: Task) -> bool:
        """Whether a task of this run is a system task."""
        started = self._ownership.started.get(task)
        return started is not None and started.is_system


@final
class Runs:
    """All runs that begin from `start()` to `stop()`."""

    def __init__(
        self,
        recorder: Recorder,
        ownership: TurnOwnership,
        *,
        on_begin: Callable[[WatchedRun], None],
        on_main_end: Callable[[WatchedRun], None],
        on_end: Callable[[WatchedRun], None],
    ) -> None:
        self._recorder = recorder
        self._ownership = ownership
        self._on_begin = on_begin
        self._on_main_end = on_main_end
        self._on_end = on_end
        self._live: dict[WatchedRun, None] = {}
        """Those that have not ended, in the order in which they began."""
        self._listening: Listening | None = None

    def start(self) -> None:
        """Begin to listen. `stop()` must follow."""
        self._listening = Tap(privates.RUN_MODULE, privates.RUN_BEGINS, self._around_begin).listen()

    def stop(self) -> None:
        """Listen no more."""
        if self._listening is not None:
            self._listening.stop()

    def live(self) -> list[WatchedRun]:
        """The runs that have not ended."""
        for run in tuple(self._live):
            if run.is_over:  # it broke
                self._live.pop(run, None)
        return list(self._live)

    def _drop(self, run: WatchedRun) -> None:
        self._live.pop(run, None)
        self._on_end(run)

    def _around_begin(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        thread_id, frame = threading.get_ident(), sys._getframe(1)
        self._ownership.beginning.add(thread_id)
        try:
            runner = call(*args, **kwargs)
        finally:
            self._ownership.beginning.discard(thread_id)
        run = WatchedRun(
            runner,
            self._ownership.maker(1),
            self._ownership,
            self._on_main_end,
            self._drop,
            privates.host_of(frame),
        )
        privates.add_instrument(runner, run)
        # The run puts back what was there before, when it ends.
        AsyncGeneratorHooks.listen(self._recorder.generators)
        self._live[run] = None
        self._on_begin(run)
        return runner
