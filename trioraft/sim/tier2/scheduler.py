"""Scheduler: hears of every step of every task: what is noted, checked and crashed between them.

Rules of this file:

* A task belongs to the life whose tasks started it. Between two steps of a task there is exactly
  one `await` that gave way: counting steps is choosing an `await`.
* Nothing may be raised here: Trio would drop the instrument and go on.
"""

from __future__ import annotations

from typing import Final, final

import trio
from trio.abc import Instrument
from trio.lowlevel import Task

from ...core.errors import InvariantViolation
from .life import Life
from .world import World

STEPS_MAX: Final = 2_000_000
"""A run of more steps than this is going round in circles."""


@final
class Scheduler(Instrument):
    """The instrument of one run."""

    def __init__(self, world: World, clock: trio.abc.Clock) -> None:
        self.steps = 0
        self._world = world
        self._clock = clock
        self._life_of: dict[Task, Life] = {}

    def adopt(self, life: Life) -> None:
        """The task that calls this, and all that it will start, is this life."""
        self._life_of[trio.lowlevel.current_task()] = life

    def task_spawned(self, task: Task) -> None:
        """A life's tasks start more of them."""
        nursery = task.parent_nursery
        life = None if nursery is None else self._life_of.get(nursery.parent_task)
        if life is not None:
            self._life_of[task] = life

    def task_exited(self, task: Task) -> None:
        """It takes no more steps."""
        self._life_of.pop(task, None)

    def before_task_step(self, task: Task) -> None:
        """This task goes on, now."""
        world = self._world
        world.watch.now = self._clock.current_time()
        self.steps += 1
        if self.steps == STEPS_MAX:
            world.fail(InvariantViolation(f"{STEPS_MAX} steps, and no end: something goes round"))
        life = self._life_of.get(task)
        if life is None:
            return
        world.recording.note("step", life.name, task.name)
        try:
            life.before_step()
        except Exception as error:  # noqa: BLE001 - Trio would only log it
            world.fail(error)

    def after_task_step(self, task: Task) -> None:
        """It gave way again, or ended: look at what it did."""
        life, world = self._life_of.get(task), self._world
        if world.failure is not None:
            world.cut_short()
            return
        # A client calls into any node, and its step is that node's input.
        touched = world.open_lives() if life is None else [life]
        try:
            for each in touched:
                if each.core is not None and not each.is_fenced:
                    world.checks.observe(each.core)
            world.look()
        except Exception as error:  # noqa: BLE001 - Trio would only log it
            world.fail(error)
