"""A canary: says what a new Trio has changed under the leak check, before anything else fails."""

from __future__ import annotations

import threading

import trio
import trio.testing
from trioleaks.privates import changes, is_cancelled, runs_callbacks
from trioleaks.taps import Tap

import pytest  # isort: skip


def test_trio_has_all_that_the_leak_check_uses() -> None:
    assert changes() == []


def test_a_method_that_is_gone_is_named() -> None:
    with pytest.raises(RuntimeError, match="Thread has no begin"):
        Tap(threading.Thread, "begin", lambda call, *args: call(*args)).listen()


async def test_a_task_in_a_shield_is_seen_to_be_cancelled() -> None:
    seen: list[bool] = []

    async def shielded() -> None:
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked()
            seen.append(is_cancelled(trio.lowlevel.current_task()))

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shielded)
            scope.cancel()
    assert seen == [True]
    assert not is_cancelled(trio.lowlevel.current_task())


async def test_the_task_that_runs_callbacks_is_known() -> None:
    root = trio.lowlevel.current_root_task()
    assert root is not None
    agents = [
        task.name
        for nursery in root.child_nurseries
        for task in nursery.child_tasks
        if runs_callbacks(task)
    ]
    assert agents == ["<TrioToken.run_sync_soon task>"]
