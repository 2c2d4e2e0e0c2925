"""Storms in which results differ on some nodes (hazard E4): who stops, and why.

Rules of this file: what differs is the running checksum alone, as if a command had returned
something else there. What clients are told stays right, so that all other checks count.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from trioraft.core import agreement
from trioraft.core.errors import ResultsDiverged
from trioraft.core.events import ResultsDiffer
from trioraft.core.quorum import Outcome, tally
from trioraft.core.raft import Raft
from trioraft.core.types import Configuration, LogIndex, NodeId
from trioraft.sim.outcomes import RunOptions
from trioraft.sim.process import Process
from trioraft.sim.simulation import Simulation

SEEDS = (4, 13, 38, 54, 83, 124)
"""Of the first 150 these have the most of what is looked for."""
AWAY_S = 0.2


class Storm:
    """A run of tier 1 as far as its recovery, with results that differ."""

    def __init__(self, seed: int) -> None:
        self.stopped = 0
        """How many nodes stopped."""
        self.had: dict[tuple[LogIndex, int], set[NodeId]] = {}
        """Who ever had this checksum at this index."""
        self.sim = Simulation(seed, RunOptions(traced=True), make_core=self._core)
        checks: Any = self.sim.checks
        checks.on_failed = self._on_failed
        checks.on_state = lambda *_: None  # the checksum is a part of what a snapshot holds
        self._rng = random.Random(f"{seed} results")

    def _core(self, *args: object, **more: object) -> Raft:
        had = self.had

        class Recorded(Raft):
            def on_results(self, index: LogIndex, checksum: int) -> None:
                had.setdefault((index, checksum), set()).add(self.node_id)
                super().on_results(index, checksum)

        return Recorded(*args, **more)  # type: ignore[arg-type] # as it is called

    def run(self) -> None:
        sim = self.sim
        sim.start()
        sim._warm_up()
        for fault in sim.draw.faults:
            sim.agenda.after(fault.at_s, sim.injection.inject, fault)
        for process in self._rng.choices(list(sim.processes.values()), k=3):
            sim.agenda.after(self._rng.uniform(0, sim.draw.storm_s / 2), self._differ, process)
        sim.agenda.run(sim.agenda.now + sim.draw.storm_s, lambda: False)

    def _differ(self, process: Process) -> None:
        if process.member is not None:
            process.member.applies.checksum.add(0, self._rng.random())

    def _on_failed(self, node_id: NodeId, error: Exception) -> None:
        """It stops: then voters that are a majority really have what it says that they have."""
        assert isinstance(error, ResultsDiverged)
        text = r"up to entry (\d+) .* of the voters \((.*)\) has ([0-9a-f]{8}):"
        found = re.search(text, str(error))
        assert found is not None
        index, voters, theirs = int(found[1]), found[2].split(", "), int(found[3], 16)
        have = self.had[index, theirs]
        assert node_id not in voters
        assert have.issuperset(voters)
        cores = [process.core for process in self.sim.processes.values()]
        votes = {voter: voter in have for voter in voters}
        known = (core.configuration for core in cores if core is not None)
        assert any(tally(configuration, votes) is Outcome.WON for configuration in known)
        self.stopped += 1
        self.sim.agenda.after(AWAY_S, self.sim.processes[node_id].start)

    def told(self) -> Counter[bool]:
        """How often a difference was told, by whether there was a majority."""
        lines = (line.what for line in self.sim.recording._lines)
        return Counter(line.is_agreed for line in lines if isinstance(line, ResultsDiffer))


def test_e4_a_node_stops_only_where_a_majority_has_other_results() -> None:
    stopped, told = 0, Counter[bool]()
    for seed in SEEDS:
        storm = Storm(seed)
        storm.run()
        stopped += storm.stopped
        told += storm.told()
    assert stopped
    assert told[False]  # nobody knows who is right: that is all
    assert told[True]


def test_with_one_other_believed_nodes_would_stop_that_should_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def believes_one(_: Configuration, votes: Mapping[NodeId, bool]) -> Outcome:
        return Outcome.WON if any(votes.values()) else Outcome.PENDING

    monkeypatch.setattr(agreement, "tally", believes_one)
    with pytest.raises(AssertionError):
        test_e4_a_node_stops_only_where_a_majority_has_other_results()
