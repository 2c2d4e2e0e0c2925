"""As `crash_workload`, with several groups of one `SharedLog`, all of which write at once.

Each line begins with the name of the group that it is about. What groups write is their own: their
names are in their entries and in their identities.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
from collections.abc import Sequence

from trioraft import Configuration, Entry, SharedLog
from trioraft.core.types import HardState, Recovered
from trioraft.protocols import Storage

from .crash_workload import plan, say

GROUPS = ("a", "b", "c", "d")


def entry(group: str, index: int, term: int) -> Entry:
    """The only entry there can be in this group at this index in this term."""
    return Entry(index, term, f"{group} {index}/{term} ".encode() * 10)


def identity(group: str, term: int) -> bytes | None:
    """The only identity that this group has in this term; none in every third."""
    return f"{group} {term} ".encode() * 300 if term % 3 else None


class Work:
    """What one group does."""

    def __init__(
        self, group: str, storage: Storage, recovered: Recovered | None, seed: str
    ) -> None:
        self._group = group
        self._storage = storage
        self._rng = random.Random(seed)
        self._base = self._committed = self._term = 0
        self._log: list[int] = []
        self.step: dict[str, int] = {}
        if recovered is not None:
            self._base = recovered.base_index
            self._committed = recovered.snapshot.index if recovered.snapshot else 0
            self._log = [e.term for e in recovered.entries]
            self._term = recovered.hard_state.term

    def plan(self) -> None:
        """Say what is to be done next."""
        self.step = plan(self._rng, self._committed, self._base + len(self._log), self._term)
        say(f"{self._group} {json.dumps(self.step)}")

    @property
    def is_append(self) -> bool:
        """Whether that is an append, and nothing else."""
        return "snapshot" not in self.step

    def do(self) -> None:
        """Do it, and remember."""
        step, group = self.step, self._group
        if "snapshot" in step:
            index = step["snapshot"]
            term = self._log[index - self._base - 1]
            content: Sequence[bytes] = [f"{group} {index} ".encode() * 2000] * 5
            self._storage.write_snapshot(index, term, Configuration(("0",)), content)
            self._storage.compact(index, term)
            del self._log[: index - self._base]
            self._base = self._committed = index
            return
        first, count, term = step["first"], step["count"], step["term"]
        entries = [entry(group, i, term) for i in range(first, first + count)]
        vote = HardState(term, f"{group}{term}")
        self._storage.append(vote, entries, first or None, identity(group, term))
        self._term = term
        if first:
            self._log[first - self._base - 1 :] = [term] * count

    def done(self) -> None:
        """Say that it was done."""
        say(f"{self._group} done")


def in_threads(works: Sequence[Work]) -> None:
    """Each group by itself, in a thread of its own."""

    def go_on(work: Work) -> None:
        while True:
            work.plan()
            work.do()
            work.done()

    for work in works[1:]:
        threading.Thread(target=go_on, args=[work], daemon=True).start()
    go_on(works[0])


def together(shared: SharedLog, works: Sequence[Work]) -> None:
    """All appends of a round at once, as nodes of one event loop have them made."""
    while True:
        for work in works:
            work.plan()
        appends = [work for work in works if work.is_append]
        outcomes = shared.write_together([work.do for work in appends])
        if any(outcome is not None for outcome in outcomes):
            raise AssertionError(outcomes)
        for work in appends:
            work.done()
        for work in works:
            if not work.is_append:
                work.do()
                work.done()


def work(seed: int, path: str) -> None:
    shared = SharedLog(path)
    shared.open(cluster_id="crash", node_id="0")
    works = []
    for group in GROUPS:
        storage = shared.storage_of(group)
        recovered = storage.open(cluster_id="crash", node_id="0")
        works.append(Work(group, storage, recovered, f"{seed} {group}"))
    say("open")
    if seed % 2:
        together(shared, works)
    else:
        in_threads(works)


def main() -> None:
    for line in sys.stdin:
        seed, path = line.split(maxsplit=1)
        child = os.fork()
        if child == 0:
            say(f"pid {os.getpid()}")
            work(int(seed), path.strip())
        os.waitpid(child, 0)
        say("over")


if __name__ == "__main__":
    main()
