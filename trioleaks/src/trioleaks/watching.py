"""`watch`: growth of any kind of thing in a program that runs, and where it comes from.

Rules of this file:

* A program that runs has tasks, sockets and files of its own: how many there are says nothing.
  What grew at every look, and started in the same place, is reported.
* What leaks slowly, or beside much that comes and goes, is seen in blocks of looks, twice as long
  at each level: from block to block both the fewest and the most that there were have grown.
* What existed when the watch began is not counted. It runs for months: it keeps nothing of what
  is gone.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias, final

import attrs
import trio
from trio.lowlevel import Task

from . import privates
from .generators import AsyncGeneratorHooks
from .probe import Maker
from .recorder import Recorder
from .report import LeakKind
from .runs import Started, TurnOwnership, WatchedRun
from .sites import UNKNOWN, find_origin_of_task

_LOG = logging.getLogger("trioleaks")
_PROGRAM = "the program"
LEVELS_MAX = 12  # blocks of up to 4,096 looks: days, at a look a minute

_Place: TypeAlias = tuple[LeakKind, str]


@final
@attrs.frozen
class Growth:
    """One kind of thing of which there were more and more.

    Attributes:
        kind: what sort of thing it is.
        place: "file:line in function" where all of them were started, or "an unknown place".
        counts: how many there were at most in each of the last stretches of time, the newest last.
        apart_s: how long such a stretch is, in seconds.
    """

    kind: LeakKind
    place: str
    counts: tuple[int, ...]
    apart_s: float

    def __str__(self) -> str:
        counts = ", ".join(map(str, self.counts))
        return f"growth: {self.kind} started at {self.place}: {counts} ({self.apart_s:g} s apart)"


def _log(growth: Growth) -> None:
    _LOG.warning("%s", growth)


class _Block(NamedTuple):
    """How many there were at some looks in a row."""

    least: int
    most: int


@final
class _Series:
    """How many there were of one thing: at single looks, at pairs of looks, at fours, …"""

    def __init__(self, length: int) -> None:
        self._length = length
        self._levels: list[deque[_Block]] = []
        self._halves: list[_Block | None] = []
        """By level, a block that waits for another to make one of the next level with."""

    @property
    def is_empty(self) -> bool:
        """Whether there were none, at all looks that are remembered."""
        return not any(block.most for blocks in self._levels for block in blocks)

    def add(self, count: int) -> tuple[tuple[int, ...], int] | None:
        """Take a look's count. If it grows: the counts that say so, and how many looks apart.

        What was told is forgotten: it is told again when it has grown for as long again.
        """
        block = _Block(count, count)
        for level in range(LEVELS_MAX):
            if level == len(self._levels):
                self._levels.append(deque(maxlen=self._length))
                self._halves.append(None)
            blocks, half = self._levels[level], self._halves[level]
            blocks.append(block)
            if len(blocks) == self._length and _grows(blocks):
                told = tuple(each.most for each in blocks)
                self._levels, self._halves = [], []
                return told, 2**level
            if half is None:
                self._halves[level] = block
                break
            self._halves[level] = None
            block = _Block(min(half.least, block.least), max(half.most, block.most))
        return None


def _grows(blocks: Sequence[_Block]) -> bool:
    return all(
        before.least < after.least and before.most < after.most
        for before, after in itertools.pairwise(blocks)
    )


async def watch(
    *,
    every_s: float = 60.0,
    looks: int = 8,
    on_growth: Callable[[Growth], object] = _log,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Look at this program again and again, and say what grows. Runs until it is cancelled.

    Counted, by the place where they were started: tasks of this Trio run, system tasks among them,
    and threads, processes, sockets, files and other descriptors, signal handlers, temporary
    directories and tasks of asyncio of the process, memory channels (each end), async generators
    and limiters' tokens of this run.

    What grows by less than one a look, or beside much that comes and goes, is found too, after 2,
    4, 8, … times as many looks. A load that rises for so long is told likewise; unlike a leak it
    comes down again.

    A look takes about 25 µs for each thing that was started since and is there, in which no other
    task runs: 0.1 s for 4,000. Choose `every_s` accordingly.

    Args:
        every_s: seconds between two looks, by the run's clock; more than 0.
        looks: at how many looks in a row there must be more than at the one before; 2 or more. What
            goes up and down by chance looks like growth once in so many tries: 2 for 2 looks, 24
            for 4, 40,320 for 8. What has been reported is reported again after as many looks.
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
    seen: dict[_Place, _Series] = {}
    with watched:
        task_status.started()
        while True:
            await trio.sleep(every_s)
            now = watched.counts()
            for place in now.keys() | seen.keys():
                series = seen.setdefault(place, _Series(looks))
                grown = series.add(now[place])
                if grown is not None:
                    counts, looks_apart = grown
                    on_growth(Growth(place[0], place[1], counts, looks_apart * every_s))
            seen = {
                place: series for place, series in seen.items() if now[place] or not series.is_empty
            }


@final
class _Watched:
    """What the program has started since, and still has."""

    def __init__(self) -> None:
        self._ownership = TurnOwnership(_PROGRAM)
        self._recorder = Recorder(self._ownership)
        self._ownership.owner_of_thread = lambda _: _PROGRAM
        self._runner = privates.current_runner()
        self._run = WatchedRun(
            self._runner,
            Maker(UNKNOWN, _PROGRAM),
            self._ownership,
            on_main_end=lambda _: None,
            on_end=lambda _: None,
            tell_host=None,
        )
        self._before: set[Task] = set()
        self._hooks: AsyncGeneratorHooks | None = None

    def __enter__(self) -> None:
        self._recorder.note(_PROGRAM)
        self._recorder.start()
        self._hooks = AsyncGeneratorHooks.listen(self._recorder.generators)
        # What tasks from before start is counted, at the function that they belong to.
        self._before = set(privates.tasks_of(self._runner))
        for task in self._before:
            maker = Maker(find_origin_of_task(task), _PROGRAM)
            self._ownership.started[task] = Started(maker, is_system=False)
        trio.lowlevel.add_instrument(self._run)

    def __exit__(self, *_exception: object) -> None:
        try:
            trio.lowlevel.remove_instrument(self._run)
        finally:
            if self._hooks is not None:
                self._hooks.stop(self._recorder.generators)
            self._recorder.stop()

    def counts(self) -> Counter[_Place]:
        """How many things there are, by kind and place."""
        self._recorder.prune()
        found = Counter(
            (each.leak.kind, each.leak.spawned_at or "an unknown place")
            for each in self._recorder.look((_PROGRAM,))
        )
        self._before &= self._ownership.started.keys()
        for task, started in self._ownership.started.items():
            if task not in self._before:
                kind = LeakKind.SYSTEM_TASK if started.is_system else LeakKind.TASK
                found[kind, started.maker.origin.text or "an unknown place"] += 1
        return found
