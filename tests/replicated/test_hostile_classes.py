"""Classes that look right and are not: refused when they are defined, not when a node saves."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tests.replicated.support import Board, open_objects
from trioraft import ConfigError
from trioraft.machines.log_clock import LogClock
from trioraft.machines.replicated import ReplicatedObject, command, run_while_leader
from trioraft.machines.replicated.replica import LOG_NOW, MethodCall, Question


def define(body: dict[str, Any], *bases: type) -> Any:
    return type("Bad", bases or (ReplicatedObject,), {"__module__": __name__, **body})


@pytest.mark.parametrize(
    "default",
    ["none at all", None, dataclasses.field(default_factory=int), object()],
)
def test_a_default_is_what_the_annotation_says(default: Any) -> None:
    with pytest.raises(ConfigError, match=r"Bad\.total"):
        define({"__annotations__": {"total": int}, "total": default})


def test_a_field_of_msgspec_may_have_a_plain_default_or_none() -> None:
    good = define({"__annotations__": {"total": int}, "total": msgspec.field(default=3)})
    assert good().total == 3
    bare = define({"__annotations__": {"total": int}, "total": msgspec.field()})
    with pytest.raises(ConfigError, match=r"total has no value"):
        bare().attach(object())


def test_a_command_that_is_overridden_stays_one() -> None:
    """Without its decorator it would change one node's state alone."""

    def add(self: Any, n: int, *, twice: bool = False) -> int:
        self.points.clear()
        return n

    with pytest.raises(ConfigError, match=r"Bad\.add overrides a command"):
        define({"add": add}, Board)
    define({"add": command(add)}, Board)


def test_log_time_goes_on_after_a_snapshot_from_far_ahead() -> None:
    """A node that got the log time with a snapshot, and nothing after it, leads next."""
    clock = LogClock()
    clock.start(now_s=5.0)
    clock.log_time_s = 10_000.0  # as restoring does
    assert clock.reading_s(now_s=6.0) == 10_000.0
    clock.advance(clock.reading_s(now_s=6.0))
    assert clock.reading_s(now_s=16.0) == 10_010.0


async def test_a_job_that_ended_is_not_run_again_because_leadership_went(
    autojump_clock: MockClock,
) -> None:
    runs: list[int] = []
    async with open_objects(Board) as objects:
        leader, _ = await objects.cluster.check_single_leader()
        node = objects.cluster.nodes[leader]

        async def job(term: int) -> str:
            runs.append(term)
            with contextlib.suppress(trio.Cancelled):  # it was just done
                await trio.sleep_forever()
            return "done"

        async def isolate() -> None:
            await trio.sleep(0.05)
            objects.cluster.disconnect(leader)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(isolate)
            with trio.fail_after(30):
                assert await run_while_leader(node, job) == "done"
        assert len(runs) == 1


async def test_log_time_passes_for_those_who_ask_also_if_nobody_attached(
    autojump_clock: MockClock,
) -> None:
    """Or a lock whose holder died would stay taken while only short programs ask for it."""
    machine = Board()
    question = msgspec.msgpack.encode(Question(LOG_NOW, msgspec.Raw(msgspec.msgpack.encode(()))))
    first_s = msgspec.msgpack.decode(machine.query(question))
    await trio.sleep(60)
    assert msgspec.msgpack.decode(machine.query(question)) == pytest.approx(first_s + 60)
    call = MethodCall("add", 1, 5.0, msgspec.Raw(msgspec.msgpack.encode((1, False))))
    machine.apply(1, msgspec.msgpack.encode(call))
    assert msgspec.msgpack.decode(machine.query(question)) == pytest.approx(5.0)
