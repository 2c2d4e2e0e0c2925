"""Members take their snapshots at different indexes, and none later than its limits say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from trioraft.core.config import Limits
from trioraft.core.types import Configuration, Entry, EntryKind, LogIndex, SnapshotMeta
from trioraft.member.apply_queue import ApplyQueue
from trioraft.member.member import phase_of
from trioraft.member.outcomes import Outcomes
from trioraft.member.results import RunningChecksum

EVERY = 12
BYTES = 1200
MEMBERS = ("a", "b", "c")


class Nothing:
    """No state."""

    def apply(self, index: LogIndex, data: bytes) -> None:
        """Nothing changes."""

    def snapshot(self) -> bytes:
        return b""

    def restore(self, chunks: Iterable[bytes]) -> None:
        for _ in chunks:
            pass


def queue_of(node_id: str) -> ApplyQueue:
    """What a member has."""
    limits = Limits(snapshot_entries=EVERY, snapshot_bytes=BYTES)
    checksum = RunningChecksum(0, lambda index, value: None)
    return ApplyQueue(Nothing(), Outcomes(), limits, checksum, phase_of(node_id, MEMBERS))


def meta(index: int) -> SnapshotMeta:
    """A snapshot that stands there."""
    return SnapshotMeta(index, 1, Configuration(MEMBERS), 0, 0)


def snapshots(queue: ApplyQueue, until: int, *, size_bytes: int = 0) -> Iterator[LogIndex]:
    """Where it takes them, if entries of this size come one by one."""
    while queue.applied_index < until:
        data = bytes(size_bytes)
        queue.put((Entry(queue.applied_index + 1, 1, data, EntryKind.COMMAND),))
        index = queue.apply()
        if queue.should_save():
            list(queue.begin_save())
            queue.saved(index)
            yield index


def test_members_take_turns() -> None:
    taken = {node_id: list(snapshots(queue_of(node_id), 40)) for node_id in MEMBERS}
    assert taken == {"a": [12, 24, 36], "b": [8, 20, 32], "c": [4, 16, 28, 40]}


def test_so_they_do_where_bytes_decide() -> None:
    taken = {node_id: list(snapshots(queue_of(node_id), 25, size_bytes=240)) for node_id in MEMBERS}
    assert taken == {"a": [5, 10, 15, 20, 25], "b": [4, 9, 14, 19, 24], "c": [2, 7, 12, 17, 22]}


@pytest.mark.parametrize("index", [3, 12, 30])
def test_a_snapshot_of_the_leader_s_and_a_restart_leave_them_apart(index: int) -> None:
    queues = {node_id: queue_of(node_id) for node_id in MEMBERS}
    for queue in queues.values():
        queue.restored(meta(index))
    first = {node_id: next(snapshots(queue, index + EVERY)) for node_id, queue in queues.items()}
    assert len(set(first.values())) == len(MEMBERS)
    assert max(first.values()) <= index + EVERY


def test_who_is_no_member_or_alone_takes_its_own_when_limits_say() -> None:
    assert phase_of("x", MEMBERS) == 0.0
    assert phase_of("a", ["a"]) == 0.0
    assert sorted(phase_of(each, ["c", "a", "d", "b"]) for each in "abcd") == [0, 0.25, 0.5, 0.75]
