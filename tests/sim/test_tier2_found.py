"""Mistakes that tier 2 of the simulator has found, each as small as it could be made.

Rules of this file: a case names the seed that found it, and needs no seed itself.
"""

from __future__ import annotations

import contextlib

import trio
from trio.testing import MockClock

from trioraft import MemoryStorage, NodeDead, StorageError
from trioraft.core.types import Role
from trioraft.tasks.background import running_beside
from trioraft.testing import FaultyStorage, open_cluster

LONG_S = 60.0


async def test_a_disk_that_fails_in_a_callers_own_call_ends_the_node(
    autojump_clock: MockClock,
) -> None:
    """Seed 142. A command waits for the driver's next round; a hand-over comes first, and writes
    it in the caller's task. The same holds for whatever else `Driver._act` raises there, an
    `InvariantViolation` for one."""
    storages = {str(number): FaultyStorage(MemoryStorage()) for number in range(3)}
    is_dead = False
    with contextlib.suppress(StorageError):  # the node's own end is to arrive here
        async with open_cluster(3, storage=lambda node_id: storages[node_id]) as cluster:
            leader, _ = await cluster.check_single_leader()
            node = cluster.nodes[leader]
            node.submit(b"x")
            storages[leader].fail_next_append()
            with contextlib.suppress(StorageError, NodeDead):
                await node.transfer_leadership()
            is_dead = node.status.role is Role.DEAD
    assert is_dead


async def failing_twice(*, task_status: trio.TaskStatus[None]) -> None:
    """A log write and a snapshot on one disk that fails: two calls that nobody can cancel."""

    async def fail() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(1.0)
        raise StorageError("the disk failed")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail)
        nursery.start_soon(fail)
        task_status.started()


async def test_a_disk_that_fails_two_calls_at_once_is_one_storage_error(
    autojump_clock: MockClock,
) -> None:
    """Seed 37 (of the first draw)."""
    is_storage_error = False
    try:
        async with running_beside(failing_twice, stop=lambda: None, name="node"):
            await trio.sleep_forever()
    except StorageError:
        is_storage_error = True
    except ExceptionGroup:
        pass
    assert is_storage_error


async def test_a_goodbye_that_fails_ends_the_service_all_the_same(
    autojump_clock: MockClock,
) -> None:
    """Seen from seed 142: transfer_before_leaving goes through `Driver._act`, which may raise a
    StorageError or an InvariantViolation in the task that leaves."""
    scope = trio.CancelScope()

    async def service(*, task_status: trio.TaskStatus[None]) -> None:
        with scope:
            task_status.started()
            await trio.sleep(LONG_S)

    async def goodbye() -> None:
        await trio.lowlevel.checkpoint()
        raise StorageError("the disk failed")

    with contextlib.suppress(StorageError, ExceptionGroup):
        async with running_beside(service, stop=scope.cancel, name="node", before_stop=goodbye):
            pass
    assert trio.current_time() < LONG_S
