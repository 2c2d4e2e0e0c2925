"""The hazards of whole nodes: what disks, callers and state machines can do to one. Those of the
protocol alone are tested in `tests/core`, those of the disk in `tests/storage`; the test at the end
says where each one stands."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.scenarios.replication import commit
from tests.support import open_single, raft_tasks
from trioraft import (
    DiskFull,
    Limits,
    MemoryStorage,
    NotLeader,
    OutcomeUnknown,
    Role,
    Status,
    StorageError,
    Timing,
)
from trioraft.member.apply_queue import SLICE_ENTRIES
from trioraft.testing.cluster import CommandLog, open_cluster
from trioraft.testing.faulty_storage import FaultyStorage


def leads(status: Status) -> bool:
    return status.role is Role.LEADER


# -- the disk ------------------------------------------------------------------------------


async def test_d5_a_failed_write_ends_the_node_and_acknowledges_nothing(
    autojump_clock: MockClock,
) -> None:
    storage = FaultyStorage(MemoryStorage())
    machine = CommandLog()

    async def use_it() -> None:
        async with open_single(storage=storage, machine=machine) as node:
            await node.wait(leads)
            await node.propose(b"kept")
            storage.fail_next_append(StorageError("fsync failed"))
            with pytest.raises(OutcomeUnknown):
                await node.propose(b"lost")
            await trio.sleep_forever()

    with pytest.raises(StorageError, match="fsync failed"):
        await use_it()
    assert raft_tasks() == []
    writes = storage.writes
    assert machine.commands[-1][1] == b"kept"
    await trio.sleep(10)
    assert storage.writes == writes  # it was not tried again


async def test_a_full_disk_is_waited_out(autojump_clock: MockClock) -> None:
    """The only voter steps down, takes no commands, and leads again when there is room."""
    storage = FaultyStorage(MemoryStorage())
    machine = CommandLog()
    async with open_single(storage=storage, machine=machine) as node:
        await node.wait(leads)
        await node.propose(b"before")
        storage.disk_full = True
        with pytest.raises(OutcomeUnknown):
            await node.propose(b"in between")
        assert node.status.role is Role.FOLLOWER
        assert str(node.status.last_role_change) == "disk full"
        await trio.sleep(3)
        assert node.status.role is Role.FOLLOWER
        with pytest.raises(NotLeader):
            await node.propose(b"refused")
        storage.disk_full = False
        await node.wait(leads)
        await node.propose(b"after")
    commands = [data for _, data in machine.commands]
    assert commands[0] == b"before"
    assert commands[-1] == b"after"
    assert b"refused" not in commands


async def test_a_leader_with_a_full_disk_lets_another_lead(autojump_clock: MockClock) -> None:
    storages: dict[str, FaultyStorage] = {}

    def storage_of(node_id: str) -> FaultyStorage:
        return storages.setdefault(node_id, FaultyStorage(MemoryStorage()))

    async with open_cluster(3, storage=storage_of) as cluster:
        old, term = await cluster.check_single_leader()
        storages[old].disk_full = True
        proposal = cluster.nodes[old].submit(b"perhaps")
        with pytest.raises(OutcomeUnknown):
            await proposal.result()
        new, new_term = await cluster.check_single_leader()
        assert new != old
        assert new_term > term
        await cluster.propose(b"two are a majority")
        storages[old].disk_full = False
        await cluster.propose(b"after")
        assert (await cluster.check_committed(b"after"))[0] == 3


async def test_killing_waits_for_the_write_that_has_begun() -> None:
    """Half a write is nobody's friend: the node is gone when the disk is done with it."""
    storage = FaultyStorage(MemoryStorage(), blocking=True)
    async with open_single(storage=storage) as node:
        await node.wait(leads)
        await node.propose(b"before")
        with storage.held():
            node.submit(b"on its way to the disk")
            await trio.to_thread.run_sync(storage.wait_until_held, 5.0)
            node.kill()
            await trio.testing.wait_all_tasks_blocked()
            assert "raft[0].storage" in raft_tasks()
    recovered = storage.open(cluster_id="trioraft", node_id="0")
    assert recovered is not None
    assert recovered.entries[-1].data == b"on its way to the disk"
    storage.close()


async def test_a_slow_disk_does_not_starve_heartbeats() -> None:
    """A leader each of whose writes takes several heartbeats is heard all the same; nobody
    campaigns against it, and it does not give up as long as each takes less than a timeout."""
    storages: dict[str, FaultyStorage] = {}

    def storage_of(node_id: str) -> FaultyStorage:
        return storages.setdefault(node_id, FaultyStorage(MemoryStorage(), blocking=True))

    timing = Timing(election_timeout_s=(0.2, 0.4), heartbeat_interval_s=0.03)
    async with open_cluster(3, storage=storage_of, timing=timing) as cluster:
        leader, term = await cluster.check_single_leader()
        await cluster.propose(b"before")
        storages[leader].delay_s = 0.1
        with trio.move_on_after(1.0):  # several election timeouts
            while True:
                await cluster.nodes[leader].propose(b"slow here, quick elsewhere")
        statuses = [node.status for node in cluster.nodes.values()]
        assert [status.term for status in statuses] == [term] * 3
        assert cluster.nodes[leader].status.role is Role.LEADER


# -- snapshots -----------------------------------------------------------------------------


async def test_s4_a_slow_transfer_is_not_overtaken_for_ever(autojump_clock: MockClock) -> None:
    """Commands keep coming, enough for many snapshots, while a follower gets one in many small
    chunks: it arrives."""
    limits = Limits(snapshot_entries=20, snapshot_tail_entries=5, snapshot_chunk_bytes=16)
    async with open_cluster(3, limits=limits, seed=1) as cluster:
        leader, _ = await cluster.check_single_leader()
        away = next(node_id for node_id in cluster.ids if node_id != leader)
        cluster.disconnect(away)
        for number in range(100):
            await cluster.propose(b"%d" % number)
        cluster.reconnect(away)
        async with trio.open_nursery() as nursery:

            async def keep_proposing() -> None:
                for number in range(100, 10_000):
                    await cluster.propose(b"%d" % number)

            nursery.start_soon(keep_proposing)
            behind = cluster.nodes[away]
            with trio.fail_after(60):
                await behind.wait(lambda status: status.applied_index > 90)
            nursery.cancel_scope.cancel()
        await commit(cluster, b"last")
        assert (await cluster.check_committed(b"last"))[0] == 3


async def test_v5_a_snapshot_lowers_no_term(autojump_clock: MockClock) -> None:
    limits = Limits(snapshot_entries=10, snapshot_tail_entries=2, snapshot_chunk_bytes=64)
    async with open_cluster(3, limits=limits, seed=2) as cluster:
        leader, _ = await cluster.check_single_leader()
        away = next(node_id for node_id in cluster.ids if node_id != leader)
        cluster.disconnect(away)
        for number in range(40):
            await cluster.propose(b"%d" % number)
        await cluster.crash(leader)  # the snapshot's entries are of a term before the next one
        await cluster.restart(leader)
        await cluster.check_single_leader()
        cluster.reconnect(away)
        await cluster.propose(b"last")
        await cluster.check_committed(b"last")
        term = cluster.nodes[away].status.term
        await cluster.crash(away)
        await cluster.restart(away)
        assert cluster.nodes[away].status.term >= term


# -- commands and callers ------------------------------------------------------------------


class Counting:
    """Counts how often each command was applied; one of them always fails."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def apply(self, index: int, data: bytes) -> int:
        self.seen.append(data)
        if data == b"bad":
            raise ValueError("this command is bad")
        return len(self.seen)

    def snapshot(self) -> bytes:
        return b" ".join(self.seen)

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.seen = b"".join(chunks).split()


async def test_s6_a_command_that_raises_is_applied_once(autojump_clock: MockClock) -> None:
    async with open_cluster(3, machine=Counting) as cluster:
        leader, _ = await cluster.check_single_leader()
        with pytest.raises(ValueError, match="this command is bad"):
            await cluster.nodes[leader].propose(b"bad")
        await cluster.nodes[leader].propose(b"good")
        await cluster.wait(
            lambda: all(machine.seen == [b"bad", b"good"] for machine in cluster.machines.values()),
            "each command once, on every node",
        )
        await trio.sleep(1)
        assert cluster.machines[leader].seen == [b"bad", b"good"]


async def test_x2_a_full_house_of_callers_holds_nothing_that_another_needs(
    autojump_clock: MockClock,
) -> None:
    """Far more callers than there is room for, some of them cancelled while they wait: everyone
    else gets through, and the room is given back."""
    limits = Limits(proposals_bytes_max=64)
    async with open_cluster(3, limits=limits) as cluster:
        leader, _ = await cluster.check_single_leader()
        node = cluster.nodes[leader]
        done: list[int] = []

        async def caller(number: int) -> None:
            with trio.move_on_after(0.004 if number % 3 == 0 else 60):
                await node.propose(b"%032d" % number)
                done.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(caller, number)
        assert {number for number in range(60) if number % 3} <= set(done)
        assert await node.propose(b"%064d" % 0)


class Clocking(Counting):
    """Notes the turn of the scheduler in which each command is applied."""

    turn = 0

    def __init__(self) -> None:
        super().__init__()
        self.turns: Counter[int] = Counter()

    def apply(self, index: int, data: bytes) -> int:
        self.turns[Clocking.turn] += 1
        return super().apply(index, data)


async def test_a_long_commit_is_applied_in_slices(autojump_clock: MockClock) -> None:
    """A slow state machine must not keep timers and heartbeats waiting for a whole commit."""
    machine = Clocking()
    async with open_single(machine=machine) as node, trio.open_nursery() as nursery:

        async def count_turns() -> None:
            while True:
                Clocking.turn += 1
                await trio.lowlevel.checkpoint()

        await node.wait(leads)
        proposals = [node.submit(b"%d" % number) for number in range(5 * SLICE_ENTRIES)]
        nursery.start_soon(count_turns)
        await proposals[-1].result()
        nursery.cancel_scope.cancel()
    assert machine.turns.total() == 5 * SLICE_ENTRIES
    # Within a turn tasks run in any order, so two slices may see the same count.
    assert max(machine.turns.values()) <= 2 * SLICE_ENTRIES


def test_disk_full_is_a_storage_error() -> None:
    assert issubclass(DiskFull, StorageError)


# -- where each hazard is tested -----------------------------------------------------------

WHERE = {
    "V1": "core/test_votes.py::test_v1_a_vote_leaves_only_once_it_is_durable",
    "V2": "core/test_votes.py::test_v2_stepping_down_within_a_term_keeps_the_vote",
    "V3": "core/test_votes.py::test_v3_a_vote_of_an_older_term_does_not_count",
    "V4": "core/test_votes.py::test_v4_a_pre_vote_is_not_a_vote",
    "V5": "test_hazards.py::test_v5_a_snapshot_lowers_no_term",
    "V6": "core/test_votes.py::test_v6_logs_are_compared_by_last_term_and_only_then_by_length",
    "L1": "core/test_liveness.py::test_l1_whoever_asks_first_the_longest_log_wins",
    "L2": "core/test_liveness.py::test_l2_a_restarted_node_with_an_old_term_grants_and_catches_up",
    "L3": "core/test_liveness.py::test_l3_granting_a_pre_vote_is_no_contact_with_a_leader",
    "L4": "core/test_liveness.py::test_l4_a_pre_candidate_knows_no_leader_and_protects_none",
    "L5": "core/test_liveness.py::test_l5_a_tie_of_timer_and_protection_costs_nothing",
    "L6": "test_shutdown.py::test_a_stalled_process_reads_its_input_before_it_believes_its_timer",
    "L9": "core/test_liveness.py::test_l9_stepping_down_within_a_term_leaves_one_timer",
    "A1": "core/test_append.py::test_a1_an_entry_of_an_earlier_term_is_not_committed_by_counting",
    "A2": "core/test_append.py::"
    "test_a2_entries_of_an_earlier_term_do_not_keep_later_ones_from_committing",
    "A3": "core/test_append.py::test_a3_a_message_whose_entries_are_here_removes_nothing",
    "A4": "core/test_append.py::test_a4_reordered_acknowledgements_take_nothing_back",
    "A5": "core/test_append.py::test_a5_the_hint_of_a_rejection_is_never_a_match",
    "A6": "core/test_append.py::test_a6_a_stale_rejection_does_not_move_next_below_match",
    "A7": "core/test_append.py::test_a7_a_follower_commits_no_further_than_the_message_reaches",
    "A8": "core/test_append.py::test_a8_a_single_voters_entry_counts_only_once_it_is_durable",
    "A9": "core/test_append.py::test_a9_a_heartbeat_of_a_later_term_is_obeyed_like_any_append",
    "D1": "core/test_durability.py::test_d1_an_append_is_acknowledged_only_once_it_is_durable",
    "D2": "core/test_durability.py::test_d2_a_write_under_way_does_not_vouch_for_what_replaced_it",
    "D3": "storage/test_hazards.py::test_d3_replay_does_not_bring_truncated_entries_back",
    "D4": "storage/test_hazards.py::test_d4_the_base_is_never_beyond_the_log_after_a_crash",
    "D6": "storage/test_hazards.py::test_d6_a_record_larger_than_any_growth_step",
    "L7": "test_availability.py::test_a_leader_whose_disk_hangs_is_replaced_within_two_"
    "election_timeouts",
    "L8": "core/test_membership.py::test_a_removed_follower_learns_it_and_campaigns_no_more",
    "M1": "core/test_membership.py::test_no_change_before_an_entry_of_the_own_term_is_committed",
    "M2": "core/test_membership.py::"
    "test_a_new_leader_goes_by_a_configuration_that_is_not_committed",
    "M3": "core/test_membership.py::"
    "test_a_new_leader_leaves_the_joint_configuration_of_the_old_one",
    "M4": "core/test_membership.py::"
    "test_nothing_commits_in_a_joint_configuration_without_both_majorities",
    "M5": "core/test_membership.py::"
    "test_a_configuration_that_is_truncated_is_undone_and_two_are_as_well",
    "M6": "core/test_membership.py::"
    "test_a_new_leader_goes_by_a_configuration_that_is_not_committed",
    "M7": "core/test_membership.py::test_a_learner_has_the_log_and_neither_votes_nor_counts",
    "T1": "core/test_transfer.py::test_it_is_given_up_at_its_deadline_and_commands_are_taken_again",
    "R1": "core/test_reads.py::"
    "test_nothing_is_read_before_the_leader_has_committed_an_entry_of_its_own",
    "R2": "core/test_reads.py::test_answers_to_an_earlier_round_confirm_nothing",
    "R3": "core/test_reads.py::test_a_leader_that_hears_no_quorum_answers_nothing",
    "S2": "core/test_snapshots.py::"
    "test_s2_a_snapshot_that_is_complete_is_installed_before_another_one_begins",
    "S3": "storage/test_sqlite_snapshots.py::test_s3_a_snapshot_beyond_the_log_is_refused",
    "V7": "storage/test_sqlite_open.py::test_v7_a_missing_hard_state_is_noticed",
    "D5": "test_hazards.py::test_d5_a_failed_write_ends_the_node_and_acknowledges_nothing",
    "S1": "core/test_snapshots.py::test_s1_nothing_is_applied_while_a_snapshot_is_being_installed",
    "S4": "test_hazards.py::test_s4_a_slow_transfer_is_not_overtaken_for_ever",
    "S5": "test_sessions.py::test_s5_sessions_are_in_the_snapshot",
    "S6": "test_hazards.py::test_s6_a_command_that_raises_is_applied_once",
    "X1": "test_shutdown.py::test_kill_leaves_nothing_over_tcp",
    "X2": "test_hazards.py::test_x2_a_full_house_of_callers_holds_nothing_that_another_needs",
    "X3": "test_node.py::test_whoever_waits_is_told_of_lost_leadership",
    "X4": "test_node.py::test_whoever_waits_is_told_of_the_death",
}
"""One regression test for each hazard, of those that it may have."""


@pytest.mark.parametrize("hazard", WHERE)
def test_every_hazard_has_its_test(hazard: str) -> None:
    file, _, name = WHERE[hazard].partition("::")
    tree = ast.parse(Path(__file__).parent.joinpath(file).read_text(encoding="utf-8"))
    names = {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert name in names
