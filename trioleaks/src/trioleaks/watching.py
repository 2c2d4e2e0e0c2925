"""`watch`: growth of any kind of thing in a program that runs, and where it comes from.

Rules of this file:

* A program that runs has tasks, sockets and files of its own: how many there are says nothing.
  What grew at every look, and started in the same place, is reported.
* What existed when the watch began is not counted.
"""

from __future__ import annotations

import itertools
import logging
import sys
from collections import Counter, deque
from collections.abc import Callable
from typing import TypeAlias, final

import attrs
import trio
from trio.abc import Instrument
from trio.lowlevel import Task

from . import privates
from .generators import AsyncGeneratorHooks
from .recorder import Recorder
from .report import LeakKind
from .runs import TurnOwnership
from .sites import Origin

_LOG = logging.getLogger("trioleaks")
_PROGRAM = "the program"

_Place: TypeAlias = tuple[LeakKind, str]


@final
@attrs.frozen
class Growth:
    """One kind of thing of which there were more at every look.

    Attributes:
        kind: what sort of thing it is.
        place: "file:line in function" where all of them were started, or "an unknown place".
        counts: how many there were at each of the last looks, the newest last.
    """

    kind: LeakKind
    place: str
    counts: tuple[int, ...]

    def __str__(self) -> str:
        counts = ", ".join(map(str, self.counts))
        return f"more of them at every look: {self.kind.value} started at {self.place}: {counts}"


def _log(growth: Growth) -> None:
    _LOG.warning("%s", growth)


async def watch(
    *,
    every_s: float = 60.0,
    looks: int = 4,
    on_growth: Callable[[Growth], object] = _log,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Look at this program again and again, and say what grows. Runs until it is cancelled.

    Counted, by the place where they were started: tasks of this Trio run, and threads, processes,
    sockets, files and other descriptors, signal handlers and temporary directories of the process,
    memory channels, async generators and limiters' tokens of this run.

    Args:
        every_s: seconds between two looks, by the run's clock; more than 0.
        looks: at how many looks in a row there must be more than at the one before; 2 or more.
            What has been reported is reported again after as many looks.
        on_growth: told of each growth; the default logs a warning to `trioleaks`.
        task_status: started once it watches.

    Raises:
        ValueError: `every_s` or `looks` is too small.
        RuntimeError: this version of Trio is not known.
    """
    if every_s <= 0.0 or looks < 2:
        raise ValueError(
            f"watch(every_s={every_s}, looks={looks}): every_s must be more than 0 and looks at "
            "least 2, for growth is seen by comparing"
        )
    privates.require()
    watched = _Watched()
    seen: dict[_Place, deque[int]] = {}
    with watched:
        task_status.started()
        while True:
            await trio.sleep(every_s)
            now = watched.counts()
            for place in now.keys() | seen.keys():
                counts = seen.setdefault(place, deque(maxlen=looks))
                counts.append(now[place])
                if len(counts) == looks and _grows(tuple(counts)):
                    on_growth(Growth(place[0], place[1], tuple(counts)))
                    counts.clear()
            seen = {place: counts for place, counts in seen.items() if any(counts) or now[place]}


def _grows(counts: tuple[int, ...]) -> bool:
    return all(before < after for before, after in itertools.pairwise(counts))


@final
class _Watched(Instrument):
    """What the program has started since, and still has."""

    def __init__(self) -> None:
        self._ownership = TurnOwnership(_PROGRAM)
        self._recorder = Recorder(self._ownership)
        self._ownership.owner_of_thread = lambda _: _PROGRAM
        self._tasks: dict[Task, Origin] = {}
        self._hooks: AsyncGeneratorHooks | None = None

    def __enter__(self) -> None:
        self._recorder.note(_PROGRAM)
        self._recorder.start()
        self._hooks = AsyncGeneratorHooks.listen(self._recorder.generators)
        trio.lowlevel.add_instrument(self)

    def __exit__(self, *_exception: object) -> None:
        try:
            trio.lowlevel.remove_instrument(self)
        finally:
            if self._hooks is not None:
                self._hooks.stop(self._recorder.generators)
            self._recorder.stop()

    def task_spawned(self, task: Task) -> None:
        """Trio calls this in the spawning task."""
        self._tasks[task] = self._ownership.maker(sys._getframe(1)).origin

    def task_exited(self, task: Task) -> None:
        """Trio calls this when a task has ended."""
        self._tasks.pop(task, None)

    def counts(self) -> Counter[_Place]:
        """How many things there are, by kind and place."""
        owners = (_PROGRAM,)
        left = self._recorder.look(owners)
        found = Counter(
            (each.leak.kind, each.leak.spawned_at or "an unknown place") for each in left
        )
        for origin in self._tasks.values():
            found[LeakKind.TASK, origin.text or "an unknown place"] += 1
        return found
