"""A small siege, whose bounds do not depend on the machine's speed. What is measured, the command
measures: `python -m tests.siege`."""

from __future__ import annotations

import os
import random
from pathlib import Path

import trio

from benchmarks.processes import ServerProcesses
from tests.siege import attacks
from tests.siege.__main__ import RSS_MB_MAX, Siege, parse
from tests.siege.load import KeyWrites
from tests.siege.plot import plot
from tests.siege.watching import Change, Sample, Watcher

SETTLED_S = 30.0
CONNECTIONS = 200


def descriptors(watcher: Watcher) -> dict[str, int]:
    return {
        node_id: len(os.listdir(f"/proc/{watcher.pid(node_id)}/fd"))
        for node_id in watcher.servers.ids
    }


async def test_the_cluster_serves_in_a_small_siege_and_is_as_before_after_it(
    tmp_path: Path,
) -> None:
    options = parse(["--connections", str(CONNECTIONS), "--seed", "1", "--puts", "50",
                     "--callers", "2", "--ramp", "1"])  # fmt: skip
    options.core = None
    with ServerProcesses(tmp_path, options=("--log-format", "json")) as servers:
        watcher = Watcher(servers, tmp_path)
        siege = Siege(options, tmp_path, servers, watcher, random.Random(1))
        await siege.start()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watcher.run)
            async with siege.load() as process:
                siege.enter(process, "before")
                await trio.sleep(1.0)
                before = descriptors(watcher)
                async with siege.attackers(options.attack):
                    siege.enter(process, "siege")
                    await trio.sleep(4.0)
                siege.enter(process, "after")
                with trio.fail_after(SETTLED_S):
                    while any(  # noqa: ASYNC110 - other processes: there is no event
                        now > before[node_id] + 8 for node_id, now in descriptors(watcher).items()
                    ):
                        await trio.sleep(0.1)
                await trio.sleep(0.5)
            nursery.cancel_scope.cancel()
        assert siege.report is not None
        assert siege.report.lost == []
        assert siege.errors == []
        assert siege.report.acknowledged > 0
        assert siege.figures["connected"] >= CONNECTIONS // 2, siege.figures
        assert max(sample.rss_mb for sample in watcher.samples) < RSS_MB_MAX
        for node_id in servers.ids:
            assert watcher.pid(node_id) is not None, servers.servers[node_id].complaints()


def test_every_kind_has_a_connection() -> None:
    drawn = attacks.counts(200, [*attacks.KINDS])
    assert set(drawn) == set(attacks.KINDS) == set(attacks.SHARES)
    assert all(drawn.values())
    assert abs(sum(drawn.values()) - 200) <= len(drawn)


def sample(at_s: float, cpu_s: float, turned_away: int, *, has_said: bool = True) -> Sample:
    return Sample(at_s, "siege", "0", 50.0, 30, 3, cpu_s, 1.0, turned_away, 0, has_said)


def test_the_counters_of_a_server_that_began_anew_are_added() -> None:
    seen = [sample(0, 5, 10), sample(1, 6, 30), sample(2, 0.5, 4), sample(3, 1, 0, has_said=False)]
    change = Change.of(seen)
    assert (change.cpu_s, change.lasted_s, change.turned_away) == (2.0, 3, 24)


def test_what_may_be_there_is_what_nothing_came_wholly_after() -> None:
    written = KeyWrites()
    written.begins(1, 1.0)
    written.ends(1, 2.0, was_applied=True, is_known=True)
    assert (written.last, sorted(written.possible)) == (1, [1])
    written.begins(2, 3.0)
    assert written.possible == {1, 2}
    written.begins(3, 3.5)
    written.ends(2, 4.0, was_applied=True, is_known=True)
    assert written.possible == {2, 3}  # the first one ended before the second was sent
    written.ends(3, 5.0, was_applied=False, is_known=False)
    written.begins(4, 6.0)
    written.ends(4, 7.0, was_applied=True, is_known=True)
    assert (written.last, sorted(written.possible)) == (4, [3, 4])  # that may be applied yet
    written.begins(5, 8.0)
    written.ends(5, 9.0, was_applied=False, is_known=True)
    assert written.possible == {3, 4}


def test_a_plot_has_a_line_for_each_server_and_figure() -> None:
    drawn = plot([sample(0, 1, 0), sample(1, 2, 0)])
    assert drawn.startswith("<svg")
    assert drawn.count("<polyline") == 5
