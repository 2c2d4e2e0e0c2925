"""One row on one cluster, and what came of it.

Rules of this file: a row begins with a cluster that works, and ends with one that does, or says
that it does not. The clients call all the time, through all rows.
"""

from __future__ import annotations

import os
from itertools import pairwise
from typing import Final

import attrs
import trio

from .members import POLL_S, Cluster, View
from .rows import Row, Scene

CALM_S: Final = 1.0
"""Before a fault."""
AFTER_S: Final = 2.0
"""Watched after healing, at least."""
HEALED_S_MAX: Final = 30.0
"""How long a cluster may take to be as before, when everything is whole."""
BEHIND_MAX: Final = 60
"""Entries by which the members of a cluster that works may lie apart."""
BIG_WRITERS: Final = 2
BIG_DEADLINE_S: Final = 20.0


@attrs.frozen
class Big:
    """One large write that has ended."""

    took_s: float
    is_written: bool


@attrs.frozen
class Result:
    """What came of a row."""

    row: Row
    cluster: str
    seconds: float
    writes_s: float
    """Acknowledged small writes a second, while the fault lasted."""
    gap_s: float
    gap_at_s: float
    """When the longest gap began, after the fault."""
    elections: int
    terms: int
    healed_s: float | None
    """From healing to the next acknowledged write; None: there was none in time."""
    caught_up_s: float | None
    """Until all members had the same leader and nearly the same log."""
    big: tuple[Big, ...]
    load: float
    """Of the machine: who waits for a processor makes others wait."""

    @property
    def problems(self) -> list[str]:
        """What is not as it should be, in words."""
        row, found = self.row, []
        if self.healed_s is None or self.caught_up_s is None:
            found.append(f"not as before {HEALED_S_MAX:g} s after healing")
        if row.gap_s_max is not None and self.gap_s > row.gap_s_max:
            found.append(f"no write for {self.gap_s:.1f} s, at most {row.gap_s_max:g} s are wanted")
        if row.healed_s_max is not None and (self.healed_s or 0.0) > row.healed_s_max:
            found.append(f"the first write {self.healed_s:.1f} s after healing, "
                         f"at most {row.healed_s_max:g} s are wanted")  # fmt: skip
        if row.elections_max is not None and self.elections > row.elections_max:
            found.append(f"{self.elections} elections, at most {row.elections_max} are wanted")
        failed = sum(not big.is_written for big in self.big)
        if row.writes_all and not self.big:
            found.append("no large value was written")
        elif row.writes_all and failed:
            found.append(f"{failed} of {len(self.big)} large values were not written")
        return found


async def measure(row: Row, cluster: Cluster, seconds: float) -> Result:
    """Break something, heal it, and watch.

    Args:
        row: what is broken.
        cluster: it works, and is called all the time.
        seconds: how long.
    """
    await trio.sleep(CALM_S)
    leader = await cluster.leader()
    if leader is None:
        raise AssertionError(f"{cluster.name}: no leader before {row.name!r}")
    elections, term = cluster.elections(), _term(await cluster.views())
    big: list[Big] = []
    begun_s = trio.current_time()
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(row.fault, Scene(cluster.lab, cluster, leader))
            if row.value_bytes is not None:
                for number in range(BIG_WRITERS):
                    nursery.start_soon(_write_big, cluster, f"big/{number}", row.value_bytes, big)
            await trio.sleep_forever()
    healed_s = trio.current_time()
    cluster.lab.heal()
    cluster.mend()
    caught_up_s = await _watch(cluster, healed_s)
    ended_s = trio.current_time()
    written = [at_s for at_s in cluster.written_s if at_s >= begun_s]
    marks = [begun_s, *written, ended_s]
    gaps = [(after - before, before - begun_s) for before, after in pairwise(marks)]
    gap_s, gap_at_s = max(gaps)
    after = [at_s - healed_s for at_s in written if at_s >= healed_s]
    lasted_s = healed_s - begun_s
    return Result(
        row,
        cluster.name,
        lasted_s,
        sum(at_s < healed_s for at_s in written) / lasted_s,
        gap_s,
        gap_at_s,
        cluster.elections() - elections,
        _term(await cluster.views()) - term,
        after[0] if after else None,
        caught_up_s,
        tuple(big),
        os.getloadavg()[0],
    )


async def _write_big(cluster: Cluster, name: str, size_bytes: int, done: list[Big]) -> None:
    while True:
        begun_s = trio.current_time()
        is_written = await cluster.write(name, os.urandom(size_bytes), BIG_DEADLINE_S)
        done.append(Big(trio.current_time() - begun_s, is_written))
        if not is_written:
            await trio.sleep(POLL_S)


async def _watch(cluster: Cluster, healed_s: float) -> float | None:
    """When the cluster was as before, counted from healing; None: not in time."""
    caught_up_s = None
    while trio.current_time() < healed_s + HEALED_S_MAX:
        await trio.sleep(POLL_S)
        views = await cluster.views()
        has_written = bool(cluster.written_s) and cluster.written_s[-1] > healed_s
        if caught_up_s is None and has_written and _is_well(cluster, views):
            caught_up_s = trio.current_time() - healed_s
        if caught_up_s is not None and trio.current_time() > healed_s + AFTER_S:
            break
    return caught_up_s


def _is_well(cluster: Cluster, views: dict[int, View]) -> bool:
    if len(views) < len(cluster.members):
        return False
    applied = [view.applied for view in views.values()]
    leaders = {(view.term, view.leader) for view in views.values()}
    return (
        max(applied) - min(applied) < BEHIND_MAX and len(leaders) == 1 and None not in leaders.pop()
    )


def _term(views: dict[int, View]) -> int:
    return max((view.term for view in views.values()), default=0)
