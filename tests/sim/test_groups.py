"""Many groups in the simulator: they sleep and wake while processes crash, and what is broken on
purpose is found."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs
import pytest

from trioraft.core.messages import GroupMessage
from trioraft.core.types import HardState, LogIndex, NodeId, Recovered
from trioraft.groups.group import GroupPhase
from trioraft.groups.host import Host
from trioraft.node.hosting import MachineAt
from trioraft.node.runner import NodeRunner
from trioraft.sim.tier2.groups import Mount, SharedDisk, run_groups_seed

SEEDS = range(3)
PLANTED_SEEDS = (*range(12), 69, 92)


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_wrong(seed: int) -> None:
    outcome = run_groups_seed(seed)
    if outcome.failure is not None:
        raise outcome.failure
    counts = outcome.counts
    assert min(counts.crashes, counts.partitions, counts.woken, counts.answered) > 0, outcome


def test_nothing_is_wrong_where_they_share_a_log() -> None:
    broken_off = 0
    for seed in SEEDS:
        print("seed", seed)
        outcome = run_groups_seed(seed, shares_log=True)
        if outcome.failure is not None:
            raise outcome.failure
        broken_off += outcome.counts.broken_off
        assert outcome.counts.answered > 0, outcome
    assert broken_off > 0


@pytest.mark.parametrize("shares_log", [False, True])
def test_a_seed_is_one_run(shares_log: bool) -> None:
    """In processes of their own: pytest's plugins take steps of tasks, too."""
    source = (
        "from trioraft.sim.tier2.groups import run_groups_seed; "
        f"print(run_groups_seed(7, shares_log={shares_log}))"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", source],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(told) == 1, told


MACHINE_AT, ON_ABSENT, OPEN = NodeRunner.machine_at, Host.on_absent, Mount.open
APPEND, READ = Mount.append, NodeRunner.read_barrier


def wakes_one_entry_too_early(runner: NodeRunner) -> MachineAt:
    """For `NodeRunner.machine_at`: the last command is applied again."""
    at, member = MACHINE_AT(runner), runner.member
    assert member is not None
    term = member.raft.log.term_at(at.index - 1) or 0
    return at if at.index < 3 else attrs.evolve(at, index=at.index - 1, term=term)


def wakes_where_the_log_ends(runner: NodeRunner) -> MachineAt:
    """For `NodeRunner.machine_at`: with `sleeps_at_any_time`, what was not applied never is."""
    member = runner.member
    assert member is not None
    log = member.raft.log
    return attrs.evolve(MACHINE_AT(runner), index=log.last_index, term=log.last_term)


def sleeps_at_any_time(runner: NodeRunner) -> str | None:
    """For `NodeRunner.unfinished`: whatever is under way (alone that is only unkind)."""
    return None


def sleeps_through_messages(host: Host, peer: NodeId, message: GroupMessage) -> None:
    """For `Host.on_absent`: no message wakes anybody."""
    group = host.groups.get(message.group)
    if group is None or group.phase is not GroupPhase.ASLEEP:
        ON_ABSENT(host, peer, message)


def forgets_its_vote(mount: Mount, *, cluster_id: str, node_id: NodeId) -> Recovered | None:
    """For `Mount.open`: a woken node has no term and no vote."""
    recovered = OPEN(mount, cluster_id=cluster_id, node_id=node_id)
    return None if recovered is None else attrs.evolve(recovered, hard_state=HardState())


async def reads_what_it_woke_with(runner: NodeRunner, *, lease: bool) -> LogIndex:
    """For `NodeRunner.read_barrier`: a lease outlasts the sleep, whoever has led meanwhile."""
    at = runner._hosting.machine_at
    return at.index if lease and at is not None else await READ(runner, lease=lease)


def keeps_no_entry(mount: Mount, hard_state: Any, *rest: Any) -> None:
    """For `Mount.append`: entries are acknowledged, and not kept."""
    APPEND(mount, hard_state, (), None, rest[2])


def goes_on_in_what_was_broken_off(_: SharedDisk) -> None:
    """For `SharedDisk.check`: what is written next is in a transaction that nobody commits."""


def tells_all_that_it_is_stored(_: SharedDisk, calls: Sequence[Callable[[], object]]) -> list[None]:
    """For `SharedDisk.write_together`: only the first one is."""
    calls[0]()
    return [None for _ in calls]


Broken = Iterable[tuple[type, str, Callable[..., Any]]]


@pytest.mark.parametrize(
    "broken",
    [
        [(NodeRunner, "machine_at", wakes_one_entry_too_early)],
        [
            (NodeRunner, "machine_at", wakes_where_the_log_ends),
            (NodeRunner, "unfinished", sleeps_at_any_time),
        ],
        [(Host, "on_absent", sleeps_through_messages)],
        [(Mount, "open", forgets_its_vote)],
        [(Mount, "append", keeps_no_entry)],
        [(NodeRunner, "read_barrier", reads_what_it_woke_with)],
    ],
    ids=lambda broken: broken[0][2].__name__,
)
def test_what_is_broken_is_found(broken: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name, planted in broken:
        monkeypatch.setattr(owner, name, planted)
    assert any(run_groups_seed(seed).failure is not None for seed in PLANTED_SEEDS)


@pytest.mark.parametrize(
    ("name", "planted"),
    [
        ("check", goes_on_in_what_was_broken_off),
        ("write_together", tells_all_that_it_is_stored),
    ],
    ids=lambda planted: getattr(planted, "__name__", ""),
)
def test_what_is_broken_in_a_shared_log_is_found(
    name: str, planted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SharedDisk, name, planted)
    outcomes = (run_groups_seed(seed, shares_log=True) for seed in PLANTED_SEEDS)
    assert any(outcome.failure is not None for outcome in outcomes)
