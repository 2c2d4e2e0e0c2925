"""A member on its own: what it wants done, in which order, and what becomes of whoever waits.

Rules of this file: actions are done by hand (`by_hand`), so that a test can stop between any two.
"""

from __future__ import annotations

from functools import partial
from typing import Any, get_args

import pytest

from trioraft.core.config import Limits
from trioraft.core.errors import (
    DescriptorsExhausted,
    DiskFull,
    InvariantViolation,
    OutcomeUnknown,
    ResourceExhausted,
    ThreadsExhausted,
)
from trioraft.core.events import RoleChanged
from trioraft.core.messages import (
    AppendEntries,
    AppendEntriesReply,
    Message,
    RequestPreVoteReply,
    RequestVoteReply,
)
from trioraft.core.ready import Write
from trioraft.core.types import Configuration, Entry, LogIndex, SnapshotMeta
from trioraft.member.actions import AdmitClients, Apply, Runner, SaveSnapshot, StorageStep
from trioraft.member.results import restore
from trioraft.storage.memory import MemoryStorage
from trioraft.testing.cluster import open_cluster

from .by_hand import ByHand

THREE = ("1", "2", "3")


def append(first: LogIndex, count: int) -> AppendEntries:
    """Of leader 2 in term 1: so many entries from an index on."""
    entries = tuple(Entry(first + n, 1, b"%d" % (first + n)) for n in range(count))
    return AppendEntries("2", "1", 1, first - 1, min(first - 1, 1), entries, 0)


def kinds(actions: list[Any]) -> list[type]:
    return [type(action) for action in actions]


# -- order -------------------------------------------------------------------------------------


def test_a_promise_leaves_when_its_write_is_durable_and_no_earlier() -> None:
    """Hazard D1."""
    one = ByHand(THREE)
    one.member.receive(append(1, 2), 0.0)
    (write,) = one.run()
    assert isinstance(write, Write)
    assert len(write.entries) == 2
    assert kinds(one.stored()) == [AppendEntriesReply]


def test_what_comes_while_a_write_is_on_its_way_joins_the_next_one() -> None:
    one = ByHand(THREE)
    for first in (1, 3, 5):
        one.member.receive(append(first, 2), 0.0)
        one.run()
    assert len(one.steps) == 1
    reply, write = one.stored()
    assert isinstance(reply, AppendEntriesReply)
    assert isinstance(write, Write)
    assert [entry.index for entry in write.entries] == [3, 4, 5, 6]
    assert kinds(one.stored()) == [AppendEntriesReply] * 2


def test_a_leaders_entries_leave_before_it_writes_them() -> None:
    """Its own disk works in parallel (dissertation 10.2.1)."""
    one = ByHand(("1", "2"))
    one.times_out()
    raft = one.member.raft
    raft.step(RequestPreVoteReply("2", "1", raft.term, raft.term + 1, True), one.now)
    one.run()
    one.stored()
    raft.step(RequestVoteReply("2", "1", raft.term, True), one.now)
    assert kinds(one.run()) == [AdmitClients]
    one.member.go_on()
    assert kinds(one.run()) == [AppendEntries, Write]


def test_what_is_done_at_once_joins_the_queue() -> None:
    """A runner brings what it knows at once as an input, in the middle of a run."""
    one = ByHand(THREE)
    one.stores_at_once = True
    one.member.receive(append(1, 1), 0.0)
    assert kinds(one.run()) == [Write, AppendEntriesReply]


def test_running_a_member_from_one_of_its_actions_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = ByHand(THREE)
    monkeypatch.setattr(one.member, "on_stored", partial(one.member.run))
    one.stores_at_once = True
    one.member.receive(append(1, 1), 0.0)
    with pytest.raises(InvariantViolation, match="in the middle of one of its own actions"):
        one.run()


def test_a_table_has_every_kind_of_action() -> None:
    """`Runner` has a field for each, so whoever runs a member does them all."""
    one = Runner(print, print, print, print, print, print, print)
    wanted = {*get_args(Message), *get_args(StorageStep), Apply, SaveSnapshot, AdmitClients}
    assert wanted | {RoleChanged} <= one.table().keys()


# -- leading -----------------------------------------------------------------------------------


def test_a_new_leader_lets_its_clients_in_before_it_speaks() -> None:
    one = ByHand()
    one.times_out()
    assert kinds(one.stored()) == [AdmitClients]
    one.propose(b"a", b"b")
    assert one.run() == []  # not before it is told to go on
    one.member.go_on()
    (write,) = one.run()
    assert isinstance(write, Write)
    assert [entry.data for entry in write.entries][1:] == [b"a", b"b"]


# -- outcomes ----------------------------------------------------------------------------------


def test_results_and_exceptions_go_to_whoever_proposed() -> None:
    one = ByHand().elected()
    a, error, b = one.propose(b"a", b"raise", b"b")
    one.applied()
    assert (a.outcomes, b.outcomes) == ([1], [2])
    assert kinds(error.outcomes) == [ValueError]


def test_an_invariant_that_breaks_in_apply_is_nobodys_result() -> None:
    one = ByHand().elected()
    one.machine.raises[b"a"] = InvariantViolation("on purpose")
    (asked,) = one.propose(b"a")
    with pytest.raises(InvariantViolation):
        one.applied()
    assert asked.outcomes == []


def test_death_ends_every_wait_once() -> None:
    """Hazard X4."""
    one = ByHand().elected()
    asked = one.propose(b"a", b"b")
    batch = one.member.reads.join(lease=False)
    woken: list[bool] = []
    batch.wake = lambda: woken.append(True)
    one.member.stop("killed", one.now)
    one.member.stop("killed", one.now)
    assert [kinds(each.outcomes) for each in asked] == [[OutcomeUnknown]] * 2
    assert (woken, batch.index) == ([True], None)
    assert one.run() == []


# -- applying and snapshots --------------------------------------------------------------------


class Wanted:
    """Somebody who waits for a snapshot."""

    def __init__(self) -> None:
        self.wanted_index: LogIndex = 0
        self.outcomes: list[object] = []

    def resolve(self, index: LogIndex) -> None:
        self.outcomes.append(index)

    def fail(self, error: ResourceExhausted | None) -> None:
        self.outcomes.append(error)


def received(index: LogIndex) -> SnapshotMeta:
    return SnapshotMeta(index, 1, Configuration(THREE), 0, 0)


def test_of_several_snapshots_that_wait_the_last_one_counts() -> None:
    """More are installed while the first is being restored; a storage keeps two of them."""
    one = ByHand(THREE)
    applies, metas = one.member.applies, [received(index) for index in (10, 20, 30, 40)]
    applies.put_snapshot(metas[0])
    assert one.member.to_restore is metas[0]
    for meta in metas[1:]:
        applies.put_snapshot(meta)
    applies.restored(metas[0])
    assert one.member.to_restore is metas[3]
    applies.restored(metas[3])
    assert (len(applies.queue), applies.applied_index) == (0, 40)


def test_no_view_is_taken_of_a_machine_that_is_being_restored() -> None:
    one = ByHand(THREE)
    applies, meta, wanted = one.member.applies, received(9), Wanted()
    applies.put((Entry(1, 1, b"a"),))
    applies.apply()
    applies.put_snapshot(meta)
    one.member.want_snapshot(wanted)
    assert one.run() == []
    applies.restored(meta)
    assert wanted.outcomes == [9]  # content with a newer one that arrived


def test_a_snapshot_is_a_view_of_one_moment() -> None:
    """Hazard S1: entries go on being applied while it is written."""
    one = ByHand(limits=Limits(snapshot_entries=2, snapshot_tail_entries=1)).elected()
    one.propose(b"a")
    one.applied()
    (save,) = [action for action in one.run() if isinstance(action, SaveSnapshot)]
    one.propose(b"b")
    one.applied()
    assert one.machine.commands == [b"a", b"b"]
    other = ByHand()
    restore(other.machine, save.chunks)
    assert other.machine.commands == [b"a"]
    meta = SnapshotMeta(save.index, save.term, save.configuration, 1, 0)
    one.member.on_snapshot_saved(meta, one.now)
    assert one.member.applies.snapshot_index == save.index


def test_no_room_for_a_snapshot_is_told_to_whoever_wants_it() -> None:
    one = ByHand().elected()
    one.propose(b"a")
    one.applied()
    wanted = Wanted()
    one.member.want_snapshot(wanted)
    assert kinds(one.run()) == [SaveSnapshot]
    error = DiskFull("no room (on purpose)")
    one.member.on_snapshot_unsaved(error, one.now)
    assert wanted.outcomes == [error]


@pytest.mark.parametrize(
    ("error", "more"),
    [(DiskFull("no room"), 16), (DescriptorsExhausted("none"), 2), (ThreadsExhausted("none"), 2)],
)
def test_g5_a_snapshot_that_lacked_descriptors_is_tried_again_soon(
    error: ResourceExhausted, more: int
) -> None:
    one = ByHand(limits=Limits(snapshot_entries=16)).elected()

    def applied_until_saved() -> int:
        for count in range(1, 100):
            one.propose(b"x")
            one.applied()
            if SaveSnapshot in kinds(one.run()):
                return count
        raise AssertionError("no snapshot was due")

    applied_until_saved()
    for _ in range(2):
        one.member.on_snapshot_unsaved(error, one.now)
        assert applied_until_saved() == more


# -- with a real node around it ----------------------------------------------------------------


class FullOnce:
    """A storage that has no room for the first snapshot it is to install."""

    blocking = False
    notices = ()

    def __init__(self) -> None:
        self._inner = MemoryStorage()
        self.refused = 0

    def install_snapshot(self, meta: SnapshotMeta, identity: bytes | None = None) -> None:
        if not self.refused:
            self.refused += 1
            raise DiskFull("no room (on purpose)")
        self._inner.install_snapshot(meta, identity)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


async def test_an_install_without_room_is_waited_out(autojump_clock: object) -> None:
    storages: dict[str, FullOnce] = {}

    def storage_of(node_id: str) -> Any:
        return storages.setdefault(node_id, FullOnce())

    limits = Limits(snapshot_entries=20, snapshot_tail_entries=1)
    async with open_cluster(3, storage=storage_of, limits=limits, seed=1) as cluster:
        leader, _ = await cluster.check_single_leader()
        away = next(node_id for node_id in cluster.ids if node_id != leader)
        cluster.disconnect(away)
        for number in range(100):
            await cluster.propose(b"%d" % number)
        cluster.reconnect(away)
        assert (await cluster.check_committed(b"99"))[0] == 3
        assert storages[away].refused == 1
