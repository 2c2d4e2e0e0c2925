"""All kinds together: what is listened to while something is watched, and what is left.

Rules of this file:

* It costs nothing where it is not used, and little where it is: everything is recorded as it
  starts, nothing is searched for.
* Threads and garbage decide when they end; they are looked at again, with growing pauses, until
  nothing is left or the grace is over. Nothing else ends by itself once its owner is gone.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack
from typing import final

from .channels import ChannelProbe
from .descriptors import DescriptorProbe
from .directories import DirectoryProbe
from .generators import AsyncGeneratorProbe
from .handlers import HandlerProbe
from .hosts import AsyncioTaskProbe
from .limiters import LimiterProbe
from .probe import Left, Owner, Owners, Ownership, Probe
from .processes import ProcessProbe
from .report import LeakKind
from .threads import ThreadProbe

FIRST_PAUSE_S = 0.001  # each pause is twice the one before, up to the longest
PAUSE_S_MAX = 0.05
STILL_LOOKS = 4  # at which a thread was found in one place, and so waits

_YOUNG, _ALL = 1, 2
"""Generations of the garbage collector. What a test has just left is young; to search all objects
takes longer than many a test."""

BY_GARBAGE = frozenset(
    (
        LeakKind.FILE,
        LeakKind.PIPE,
        LeakKind.DESCRIPTOR,
        LeakKind.TEMPORARY_DIRECTORY,
    )
)
"""Kinds that may be closed by the garbage collector and are no leak then. One that drops a socket
has leaked it, and no other kind ends with its object."""


@final
class Recorder:
    """Every kind's probe, under one ownership."""

    def __init__(self, ownership: Ownership) -> None:
        self.ownership = ownership
        self.threads: ThreadProbe = ThreadProbe(ownership)
        self.descriptors: DescriptorProbe = DescriptorProbe(ownership)
        self.processes: ProcessProbe = ProcessProbe(ownership)
        self.handlers: HandlerProbe = HandlerProbe(ownership)
        self.directories: DirectoryProbe = DirectoryProbe(ownership)
        self.asyncio_tasks: AsyncioTaskProbe = AsyncioTaskProbe(ownership)
        self.channels: ChannelProbe = ChannelProbe(ownership)
        self.generators: AsyncGeneratorProbe = AsyncGeneratorProbe(ownership)
        self.limiters: LimiterProbe = LimiterProbe(ownership)
        self._of_process: tuple[Probe, ...] = (
            self.threads,
            self.processes,
            self.descriptors,
            self.handlers,
            self.directories,
            self.asyncio_tasks,
        )
        self._of_run: tuple[Probe, ...] = (self.channels, self.generators, self.limiters)
        self._listening = ExitStack()

    def start(self) -> None:
        """Begin to listen. `stop()` must follow."""
        with ExitStack() as stack:
            for probe in (*self._of_process, *self._of_run):
                for tap in probe.taps():
                    stack.callback(tap.listen().stop)
            self._listening = stack.pop_all()

    def stop(self) -> None:
        """Listen no more: every class and hook is as it was."""
        self._listening.close()

    def note(self, owner: Owner) -> None:
        """What is there now was there before this owner began."""
        for probe in (*self._of_process, *self._of_run):
            probe.note(owner)

    def claim(self, owner: Owner) -> None:
        """What is new since this owner was noted, and nobody saw come, is this owner's."""
        self.threads.claim(owner)
        self.processes.claim(owner)
        self.descriptors.claim(owner)

    def forget(self, owners: Owners) -> None:
        """These owners are done."""
        for probe in (*self._of_process, *self._of_run):
            probe.forget(owners)

    def prune(self) -> None:
        """Keep nothing of what is gone."""
        for probe in (*self._of_process, *self._of_run):
            probe.prune()

    def left_of_run(self, owners: Owners, *, is_over: bool = False) -> list[Left]:
        """What these owners left of the kinds that live in a Trio run; ask in that run's thread.

        Args:
            owners: whose.
            is_over: the run is over but for its system tasks.
        """
        return [
            *self.channels.left(owners, is_over=is_over),
            *self.generators.left(owners),
            *self.limiters.left(owners),
        ]

    def left_of_process(
        self,
        owners: Owners,
        is_meant: Callable[[Left], bool],
        grace_s: float,
        let_go: Callable[[list[Left]], Collection[object]] = lambda _: (),
    ) -> list[Left]:
        """What these owners left of the kinds that live in the process, after the grace.

        Args:
            owners: whose.
            is_meant: whether such a thing may stay, so that it is not waited for.
            grace_s: how long, in seconds, threads may take to end. Blocks for as long at most.
            let_go: drops the caller's own references to what is left, and returns the keys of
                what is told all the same if it goes with them.
        """
        left = self._after_grace(owners, is_meant, grace_s)
        if any(each.leak.kind in BY_GARBAGE for each in left):
            self.processes.let_go()
        left = self._collected(left, owners, is_meant, _YOUNG)
        if not any(each.leak.kind in BY_GARBAGE for each in left):
            return left
        # First: all objects are searched once, and that takes longer than all the rest.
        forgotten = let_go(left)
        return self._collected(left, owners, is_meant, _ALL, forgotten)

    def _after_grace(
        self, owners: Owners, is_meant: Callable[[Left], bool], grace_s: float
    ) -> list[Left]:
        """What is left when threads had the time to end.

        A thread that gets on has the grace in pauses, however long the machine makes them: where
        it stands still, so do threads. One that waits in one place at look after look is not
        ending, and has the grace in real time: a sleep of a second must not depend on the load.
        """
        left = list(self._look(owners, is_meant))
        remaining_s, pause_s = grace_s, FIRST_PAUSE_S
        until, still, places = time.monotonic() + grace_s, 0, _places(left)
        while remaining_s > 0 and places:
            if still >= STILL_LOOKS and time.monotonic() >= until:
                break
            # A thread cannot be awaited here: a job is no thread, and both may hold other things.
            time.sleep(min(pause_s, remaining_s))  # noqa: TID251 - no task runs here: it is over
            remaining_s -= pause_s
            pause_s = min(2 * pause_s, PAUSE_S_MAX)
            left = list(self._look(owners, is_meant))
            before, places = places, _places(left)
            still = still + 1 if places == before else 0
        return left

    def _collected(
        self,
        left: list[Left],
        owners: Owners,
        is_meant: Callable[[Left], bool],
        generation: int,
        told: Collection[object] = (),
    ) -> list[Left]:
        """What is still there when garbage was collected, if it may be garbage; and `told`."""
        if not any(each.leak.kind in BY_GARBAGE for each in left):
            return left
        gc.collect(generation)
        kept = {*keys(self._look(owners, is_meant)), *told}
        return [each for each in left if each.key in kept or each.leak.kind not in BY_GARBAGE]

    def look(self, owners: Owners) -> list[Left]:
        """What these owners have now, of all kinds but tasks; waits for nothing, and does not have
        garbage collected, which would take long in a program that runs.
        """
        probes = (*self._of_process, self.channels, self.generators)
        return [each for probe in probes for each in probe.left(owners)] + self.limiters.held(
            owners
        )

    def _look(self, owners: Owners, is_meant: Callable[[Left], bool]) -> Iterator[Left]:
        for probe in self._of_process:
            for each in probe.left(owners):
                if not is_meant(each):
                    yield each


def _places(left: Iterable[Left]) -> dict[object, tuple[str, ...]]:
    """The threads among these, and where each is."""
    return {each.key: each.leak.await_chain for each in left if each.leak.kind is LeakKind.THREAD}


def keys(found: Iterable[Left]) -> set[object]:
    """What is the same when the same things are found again."""
    return {each.key for each in found}
