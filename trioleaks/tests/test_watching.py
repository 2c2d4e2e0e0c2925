"""`watch` tells of what grows, and of nothing that comes and goes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio
import trio.testing

from trioleaks import Growth, LeakKind, watch

pytestmark = pytest.mark.leaks("off")  # what grows here leaks


async def watched(body_s: float, grow: object) -> list[Growth]:
    """What a watch says of a program that calls `grow()` once a second, for so many seconds."""
    found: list[Growth] = []
    assert callable(grow)
    async with trio.open_nursery() as nursery:
        await nursery.start(
            lambda task_status: watch(
                every_s=1.0, looks=3, on_growth=found.append, task_status=task_status
            )
        )
        with trio.move_on_after(body_s):
            await trio.sleep(0.5)  # between two looks
            while True:
                grow()
                await trio.sleep(1.0)
        nursery.cancel_scope.cancel()
    return found


async def test_tasks_and_pipes_that_only_grow_are_told_with_their_place(
    autojump_clock: object,
) -> None:
    pipes: list[int] = []
    async with trio.open_nursery() as nursery:

        def grow() -> None:
            nursery.start_soon(trio.sleep_forever)
            pipes.extend(os.pipe())

        found = await watched(3.5, grow)
        nursery.cancel_scope.cancel()
    for number in pipes:
        os.close(number)

    told = {each.kind: each for each in found}
    assert told.keys() == {LeakKind.TASK, LeakKind.PIPE}
    assert "test_watching.py" in told[LeakKind.TASK].place
    assert told[LeakKind.TASK].place.endswith(".grow")
    assert list(told[LeakKind.PIPE].counts) == sorted(set(told[LeakKind.PIPE].counts))
    assert "more of them at every look: pipe started at" in str(told[LeakKind.PIPE])


async def test_what_comes_and_goes_is_not_told(autojump_clock: object, tmp_path: Path) -> None:
    def come_and_go() -> None:
        with (tmp_path / "file").open("w"):
            pass

    kept: list[object] = []

    def grow_once() -> None:
        come_and_go()
        if not kept:
            kept.append((tmp_path / "kept").open("w"))

    assert await watched(8.5, grow_once) == []
    kept[0].close()  # type: ignore[attr-defined]  # the file that was opened above


@pytest.mark.parametrize("arguments", [{"every_s": 0.0}, {"looks": 1}])
async def test_a_watch_that_cannot_compare_is_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="growth is seen by comparing"):
        await watch(**arguments)  # type: ignore[arg-type]  # one of them at a time
