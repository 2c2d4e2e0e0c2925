"""Replicas: several objects in one log, each with its own state, version and time."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from trio.testing import MockClock

from tests.replicated.support import Board, leads
from tests.support import open_single
from trioraft import ConfigError, Limits, MemoryStorage, OutcomeUnknown
from trioraft.machines.replicated import Replicas
from trioraft.machines.sessions import UnknownCommand
from trioraft.structures import Counter, Lock, Queue


async def test_several_objects_share_a_log_and_survive_a_restart(
    autojump_clock: MockClock,
) -> None:
    storage = MemoryStorage()
    limits = Limits(snapshot_entries=5, snapshot_tail_entries=1)
    tokens: list[int] = []
    for turn in (1, 2):
        counter, queue, lock = Counter(), Queue[str](), Lock()
        machine = Replicas(counter=counter, queue=queue, lock=lock)
        async with open_single(machine=machine, storage=storage, limits=limits) as node:
            machine.attach(node)
            machine.attach(node)
            await node.wait(leads)
            for _ in range(10):
                await counter.add(1)
            await queue.put(f"turn {turn}")
            async with lock.hold("me", lease_s=5) as grant:
                tokens.append(grant.token)
            assert await counter.get() == 10 * turn
            assert await queue.size() == turn
    assert tokens[0] < tokens[1]


def command_for(name: str, *args: Any) -> bytes:
    """A command of the counter, for an object of this name."""
    arguments = msgspec.Raw(msgspec.msgpack.encode(args))
    call = msgspec.msgpack.encode([0, "add", 1, 0.0, arguments])
    return msgspec.msgpack.encode([name, call])


def test_a_node_that_lacks_an_object_applies_nothing_from_there_on() -> None:
    machine = Replicas(a=Counter())
    machine.apply(1, command_for("a", 1))
    for index, name in ((2, "b"), (3, "a")):
        with pytest.raises(OutcomeUnknown, match=r"an object 'b', and this node has only \['a'\]"):
            machine.apply(index, command_for(name, 1))
    with pytest.raises(ConfigError, match="an object 'b'"):
        machine.snapshot()


def test_an_object_may_be_added_but_not_left_out() -> None:
    a, b = Counter(), Counter()
    one, both = Replicas(a=Counter()), Replicas(a=a, b=b)
    one.apply(1, command_for("a", 3))
    both.restore(one.snapshot())
    both.apply(2, command_for("b", 4))
    assert (a.value, b.value) == (3, 4)
    with pytest.raises(ConfigError, match="restart it with the release that has it"):
        one.restore(both.snapshot())


def test_what_cannot_be_read_is_refused() -> None:
    machine = Replicas(a=Counter())
    with pytest.raises(UnknownCommand):
        machine.apply(1, b"\xc1")
    with pytest.raises(ConfigError, match="not one of Replicas"):
        machine.restore([b"something else"])


def test_only_objects_of_their_own_are_taken() -> None:
    board = Board()
    with pytest.raises(ConfigError, match="two names"):
        Replicas(a=board, b=board)
    with pytest.raises(ConfigError, match="a is a int"):
        Replicas(a=3)  # type: ignore[arg-type] # that is the test
