"""Tier 2 of the simulator: the same run from the same seed, crashes that let nothing through, a
disk that keeps the protocol, and broken nodes that are found out.

Rules of this file: no test here is async: a simulation is a `trio.run` of its own.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import attrs
import pytest
import trio
from click.testing import CliRunner
from trio._core import _run

from tests.sim import planted_nodes as planted
from tests.sim.planted.queues import reads_without_a_round
from trioraft.cli.application import application
from trioraft.core.errors import StorageError
from trioraft.core.types import Entry, HardState
from trioraft.member.member import Member
from trioraft.member.reads import Reads
from trioraft.node.administration import Administration
from trioraft.node.runner import NodeRunner
from trioraft.sim.agenda import Agenda
from trioraft.sim.disk import Disk, Fate
from trioraft.sim.draw import TIER1_ONLY, TIER2_KINDS, draw_tier2
from trioraft.sim.judging import check_history
from trioraft.sim.outcomes import RunOptions, RunOutcome, RunRecording
from trioraft.sim.tier2 import run_seed
from trioraft.sim.tier2.life import Mount, NodeDisk
from trioraft.sim.tier2.scheduler import changes, deterministic
from trioraft.testing import STORAGE_CHECKS, check_storage
from trioraft.testing.storage_conformance import StorageCheck

CHECKED = RunOptions(check_history=check_history)
DIGESTS = """
from trioraft.sim.outcomes import RunOptions
from trioraft.sim.tier2 import run_seed
for seed in range(2):
    print(run_seed(seed, RunOptions()).digest)
"""


# -- what Trio does not promise ----------------------------------------------------------------


def test_trio_still_has_the_private_names_that_we_use() -> None:
    assert changes() == []


def test_a_change_of_trio_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(_run, "_ALLOW_DETERMINISTIC_SCHEDULING")
    monkeypatch.setattr(_run, "_r", None)
    assert ["is gone" in sentence for sentence in changes()] == [True, True]


def order_of_tasks(seed: int) -> list[int]:
    order: list[int] = []

    async def take_turns(number: int) -> None:
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            order.append(number)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(take_turns, number)

    with deterministic(seed):
        trio.run(main)
    return order


def test_the_private_names_still_have_their_effect() -> None:
    """If this fails, Trio decides about the order of tasks by other means than these names."""
    assert [order_of_tasks(1) for _ in range(5)] == [order_of_tasks(1)] * 5
    assert len({tuple(order_of_tasks(seed)) for seed in range(5)}) == 5


def test_trio_is_left_as_it_was_found() -> None:
    before = (_run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r.getstate())
    run_seed(0)
    assert (_run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r.getstate()) == before


# -- runs --------------------------------------------------------------------------------------


def test_the_same_seed_is_the_same_run_in_every_process() -> None:
    here = [run_seed(seed).digest for seed in range(2)]
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    done = subprocess.run(
        [sys.executable, "-c", DIGESTS], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == here
    assert len(set(here)) == len(here)


def test_looking_changes_nothing() -> None:
    seen = run_seed(4, RunOptions(traced=True, check_history=check_history))
    assert any(not isinstance(line.what, str) for line in seen.trace)
    assert seen == attrs.evolve(run_seed(4), trace=seen.trace)


def test_a_slice_of_seeds_is_clean_and_faults_happen() -> None:
    happened: Counter[str] = Counter()
    for seed in range(9):
        outcome = run_seed(seed, CHECKED)
        assert outcome.failure is None, f"seed {seed}: {outcome.failure}"
        assert outcome.commits >= outcome.drawn["warmup_commits"]
        last = [call.result for call in outcome.history if call.client == outcome.drawn["clients"]]
        assert len(last) == 2
        assert None not in last  # the last write and read
        happened.update(outcome.injected)
    assert {"crash", "leave", "crash_mid_ready", "snapshot_saved"} <= set(happened)


def test_each_kind_is_drawn_or_left_to_tier_1_for_a_reason() -> None:
    sure = [draw_tier2(seed).intensities.keys() for seed in range(len(TIER2_KINDS))]
    assert [kind for kind, drawn in zip(TIER2_KINDS, sure, strict=True) if kind not in drawn] == []
    assert all(TIER1_ONLY.isdisjoint(drawn) for drawn in sure)


def test_only_the_faults_that_were_asked_for_happen() -> None:
    outcome = run_seed(3, RunOptions(nodes=3, only_faults=()))
    assert outcome.failure is None
    assert set(outcome.injected) <= {"snapshot_saved", "snapshot_installed"}


# -- broken nodes ------------------------------------------------------------------------------


def first_failure(seeds: range) -> RunOutcome | None:
    for seed in seeds:
        outcome = run_seed(seed, CHECKED)
        if outcome.failure is not None:
            return outcome
    return None


@pytest.mark.parametrize(
    ("owner", "name", "broken", "rule", "seed"),
    [
        (NodeRunner, "_change_leader_tasks", planted.keeps_heartbeating, "have no such task", 0),
        (NodeRunner, "_lead", planted.leaves_a_task_behind, "system task", 0),
        (Administration, "transfer_before_leaving", planted.says_no_goodbye, "", 0),
        (NodeRunner, "propose", planted.answers_when_proposed, "and not executed", 0),
        (Reads, "ask", reads_without_a_round, "a stale read", 15),
        (Member, "_take", planted.promises_too_soon, "hazard", 0),
        (NodeRunner, "kill", planted.stays_when_killed, "is not gone", 0),
        (NodeRunner, "_until_there_is_room", planted.goes_on_after_eio, "", 9),
    ],
)
def test_a_broken_node_is_found_out(
    owner: type, name: str, broken: object, rule: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a seed on that is not far from the one that finds it."""
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, broken)
        found = first_failure(range(seed, seed + 60))
    assert found is not None
    assert rule in str(found.failure)
    assert run_seed(found.seed, CHECKED).failure is None  # it is the node, not the seed


def test_a_disk_that_is_slow_for_a_part_of_the_leaving_is_waited_for() -> None:
    """A write that began after the node had left, while its disk was slow, and ended when the disk
    was quick again: its time counts."""
    assert run_seed(40028, CHECKED).failure is None


def test_the_command_runs_tier_2_and_says_how_to_repeat_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NodeRunner, "propose", planted.answers_when_proposed)
    words = ["sim", "--tier", "2", "--seeds", "0:1", "--jobs", "1", "--trace", str(tmp_path)]
    result = CliRunner().invoke(application(), words)
    assert result.exit_code == 1
    assert "replay: trioraft sim --tier 2 --seeds 0:1 --jobs 1 --faults none" in result.output
    log = (tmp_path / "trioraft-sim-2-0.raftlog").read_text(encoding="utf-8")
    assert "and not executed" in log
    assert "--- FAIL" in log


# -- disks -------------------------------------------------------------------------------------


class Nobody:
    """Owns mounts that never crash."""

    def crash(self, fate: Fate) -> None:
        raise AssertionError(fate)

    def on_disk_failed(self) -> None:
        """Nobody dies of it."""


def mount(node_disk: NodeDisk) -> Mount:
    return Mount(node_disk, Nobody(), RunRecording(Agenda(), traced=False))


def new_disk() -> NodeDisk:
    return NodeDisk(Disk(), random.Random(1), (0.0, 0.0))


NOT_A_MOUNTS: frozenset[str] = frozenset(
    {
        "a_storage_has_one_user",  # a mount serves one life …
        "a_storage_belongs_to_one_node",  # … of one node
        "a_transfer_keeps_what_continues",  # tier 1's disk keeps what no leader sends
    }
)


@pytest.mark.parametrize(
    "check",
    [check for check in STORAGE_CHECKS if check.__name__ not in NOT_A_MOUNTS],
    ids=lambda check: check.__name__,
)
def test_a_mount_keeps_the_storage_protocol(check: StorageCheck) -> None:
    check_storage(lambda: mount(new_disk()), checks=[check])


def test_after_the_fence_nothing_reaches_the_disk() -> None:
    node_disk = new_disk()
    before = mount(node_disk)
    before.open(cluster_id="c", node_id="0")
    before.append(HardState(1, "0"), [Entry(1, 1, b"kept")], 1)
    before.fence(Fate.LOST)
    before.append(HardState(2, "1"), [Entry(2, 2, b"lost")], 2)
    recovered = mount(node_disk).open(cluster_id="c", node_id="0")
    assert recovered is not None
    assert recovered.hard_state == HardState(1, "0")
    assert [entry.data for entry in recovered.entries] == [b"kept"]


def test_a_disk_that_failed_fails_until_it_is_mounted_anew() -> None:
    node_disk = new_disk()
    storage = mount(node_disk)
    storage.open(cluster_id="c", node_id="0")
    node_disk.disk.fails_next = True
    for _ in range(2):
        with pytest.raises(StorageError):
            storage.append(HardState(1, "0"), [], None)
    again = mount(node_disk)
    again.open(cluster_id="c", node_id="0")
    again.append(HardState(1, "0"), [], None)
