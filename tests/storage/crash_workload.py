"""A process that uses a storage until it is killed, and says what it was promised.

Rules of this file:

* It prints what it is about to do, does it, and prints that it was done: what was done before the
  kill must be there afterwards.
* Started once, it forks a child for each round, so that a round costs no interpreter start.

A line on stdin is `seed path`; the child answers with `pid N`, then plans (JSON) and `done`.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Sequence

from trioraft import Configuration, Entry
from trioraft.core.types import HardState
from trioraft.storage.sqlite import SQLiteStorage


def entry(index: int, term: int) -> Entry:
    """The only entry there can be at this index in this term."""
    return Entry(index, term, b"%d/%d " % (index, term) * 10)


def identity(term: int) -> bytes | None:
    """The only identity that is written in this term; none in every third."""
    return b"%d " % term * 500 if term % 3 else None


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def plan(rng: random.Random, committed: int, last: int, term: int) -> dict[str, int]:
    """What to do next. What a snapshot stands for is committed, and stays."""
    chance = rng.random()
    if chance < 0.08 and last > committed:
        return {"snapshot": rng.randint(committed + 1, last)}
    if chance < 0.25:
        first = rng.randint(max(committed + 1, last - 20), last + 1)
        return {"first": first, "count": rng.choice([0, 1, 50]), "term": term + 1}
    if chance < 0.35:
        return {"first": 0, "count": 0, "term": term + 1}
    return {"first": last + 1, "count": rng.choice([1, 1, 1, 10, 300, 4000]), "term": term}


def work(seed: int, path: str) -> None:
    rng = random.Random(seed)
    storage = SQLiteStorage(path)
    recovered = storage.open(cluster_id="crash", node_id="0")
    base = committed = term = 0
    log: list[int] = []
    if recovered is not None:
        base = recovered.base_index
        committed = recovered.snapshot.index if recovered.snapshot else 0
        log = [e.term for e in recovered.entries]
        term = recovered.hard_state.term
    while True:
        step = plan(rng, committed, base + len(log), term)
        say(json.dumps(step))
        if "snapshot" in step:
            index = step["snapshot"]
            index_term = log[index - base - 1]
            content: Sequence[bytes] = [b"%d " % index * 5000] * 5
            storage.write_snapshot(index, index_term, Configuration(("0",)), content)
            storage.compact(index, index_term)
            del log[: index - base]
            base = committed = index
        else:
            first, count, term = step["first"], step["count"], step["term"]
            entries = [entry(i, term) for i in range(first, first + count)]
            storage.append(HardState(term, str(term)), entries, first or None, identity(term))
            if first:
                log[first - base - 1 :] = [term] * count
        say("done")


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
