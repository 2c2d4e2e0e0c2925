"""Scheduler: hears of every step of every task, and what it takes that Trio does the same twice.

Nothing else of tier 2 touches a private name of Trio. `changes()` says in words what a new Trio no
longer has, and a test calls it; another test sees that the names still have their effect.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, final

import trio
from trio._core import _run
from trio.abc import Instrument
from trio.lowlevel import Task

from ...core.errors import InvariantViolation
from .life import Life, World

STEPS_MAX: Final = 2_000_000
"""A run of more steps than this is going round in circles."""


@final
class Scheduler(Instrument):
    """The instrument of one run: notes, checks and crashes between any two steps of a task.

    A task belongs to the life whose tasks started it. Between two steps of a task there is exactly
    one `await` that gave way: counting steps is choosing an `await`. Nothing may be raised here:
    Trio would drop the instrument and go on.
    """

    def __init__(self, world: World, clock: trio.abc.Clock) -> None:
        self.steps: int = 0
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


# Trio shuffles the tasks that can run, so that nobody comes to rely on their order. What it
# shuffles is a set, unless this switch (made for hypothesis) has it sorted first …
_SWITCH: Final = "_ALLOW_DETERMINISTIC_SCHEDULING"
# … and what it shuffles with is this source of chance.
_CHANCE: Final = "_r"

_ALONE: Final = threading.Lock()
"""Both belong to the whole process: of several threads (of a Dask worker, say) one has them."""


@contextmanager
def deterministic(seed: object) -> Iterator[None]:
    """Have every `trio.run` of the block schedule its tasks as this seed says, and no other way.

    Different seeds give different orders: each is one more way in which tasks may interleave.
    Does not nest, and waits for other threads that are in such a block. Trio is left as it was
    found: pytest-trio's tests, and hypothesis, rely on whatever they found.
    """
    with _ALONE:
        chance: random.Random = getattr(_run, _CHANCE)
        was_on, state = getattr(_run, _SWITCH), chance.getstate()
        setattr(_run, _SWITCH, True)
        chance.seed(str(seed))
        try:
            yield
        finally:
            setattr(_run, _SWITCH, was_on)
            chance.setstate(state)


def changes() -> list[str]:
    """What this Trio has no longer, one sentence each; empty for a Trio that we know."""
    found = []
    if not isinstance(getattr(_run, _SWITCH, None), bool):
        found.append(f"trio._core._run.{_SWITCH} is gone: how are tasks put into an order now?")
    if not isinstance(getattr(_run, _CHANCE, None), random.Random):
        found.append(f"trio._core._run.{_CHANCE} is gone: what are tasks shuffled with now?")
    return found
