"""Replicated objects in a cluster: calls, errors, other leaders, crashes, snapshots, restarts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.replicated.support import Board, Point, leads, open_objects
from tests.support import open_single
from trioraft import ConfigError, Limits, NodeDead, NotLeader, OutcomeUnknown, SQLiteStorage
from trioraft.machines.replicated import ReplicatedObject, command, query

SMALL = Limits(snapshot_entries=10, snapshot_tail_entries=2)


async def test_a_command_is_applied_on_every_node(autojump_clock: MockClock) -> None:
    async with open_objects(Board) as boards:
        board = await boards.leading()
        assert await board.add(5) == 5
        assert await board.add(n=2, twice=True) == 9
        await board.place("here", Point(1, 2))
        for node_id in boards.cluster.ids:
            await boards.at(node_id).wait(lambda board: board.points == {"here": Point(1, 2)})
            assert boards.at(node_id).total == 9


async def test_a_query_sees_what_was_completed_before_on_any_node(
    autojump_clock: MockClock,
) -> None:
    async with open_objects(Board) as boards:
        leading, following = await boards.leading(), await boards.following()
        for number in range(1, 20):
            await leading.add(1)
            assert await following.get() == number


async def test_a_query_returns_a_copy(autojump_clock: MockClock) -> None:
    async with open_objects(Board) as boards:
        board = await boards.leading()
        await board.place("here", Point(1))
        (await board.where()).clear()
        assert await board.where() == {"here": Point(1)}


async def test_a_commands_exception_travels_to_its_caller(autojump_clock: MockClock) -> None:
    """And what it had changed until then stays, on every node alike (hazard S6)."""
    async with open_objects(Board) as boards:
        board = await boards.leading()
        with pytest.raises(LookupError, match="no such thing"):
            await board.fail("no such thing")
        assert await board.add(1) == 2
        assert await (await boards.following()).get() == 2


async def test_without_forwarding_a_command_elsewhere_names_the_leader(
    autojump_clock: MockClock,
) -> None:
    async with open_objects(Board) as boards:
        leader, _ = await boards.cluster.check_single_leader()
        follower = next(node_id for node_id in boards.cluster.ids if node_id != leader)
        for node_id in (leader, follower):
            node = boards.cluster.nodes[node_id]
            boards.cluster.machines[node_id].attach(node, forward=False)
        with pytest.raises(NotLeader) as caught:
            await boards.at(follower).add(1)
        assert caught.value.leader_id == leader
        assert await boards.at(leader).add(1) == 1
        assert await boards.at(follower).get() == 1


@pytest.mark.parametrize("call", ["add", "fail"])
async def test_bad_arguments_are_refused_by_name_and_nothing_is_sent(
    autojump_clock: MockClock, call: str
) -> None:
    async with open_objects(Board) as boards:
        board = await boards.leading()
        before = boards.cluster.nodes["0"].status.last_index
        with pytest.raises(ConfigError, match=rf"Board\.{call}\(\w+\) is annotated .*given"):
            await getattr(board, call)([1])
        with pytest.raises(TypeError, match=rf"{call}\(\): missing a required argument"):
            await getattr(board, call)()
        assert boards.cluster.nodes["0"].status.last_index == before
        with pytest.raises(ConfigError, match=r"Board\.add\(n\)"):
            await board.add(2**70)


async def test_state_is_changed_by_commands_only(autojump_clock: MockClock) -> None:
    async with open_objects(Board) as boards:
        board = await boards.leading()
        with pytest.raises(ConfigError, match="assigned to outside a command"):
            board.total = 3
        board._calls = 3
        assert await board.get() == 0


class Nested(ReplicatedObject):
    """Does what one would try first."""

    total: int = 0

    @command
    def add(self, n: int) -> int:
        """Add."""
        self.total += n
        return self.total

    @command
    def add_twice(self, n: int) -> int:
        """Forgets that commands are asynchronous."""
        self.add(n)  # type: ignore[unused-coroutine] # mypy says so, and then the class does
        return self.total

    @command
    def ask_the_clock(self) -> float:
        """Asks what differs between nodes."""
        return self.log_now_s()

    @query
    def wrong_type(self) -> int:
        """Says int and means str."""
        return "many"  # type: ignore[return-value] # that is the test

    @query
    def assigning(self) -> int:
        """Changes what it should read."""
        self.total = 7
        return 7


async def test_what_a_method_may_not_do(autojump_clock: MockClock) -> None:
    async with open_objects(Nested) as objects:
        nested = await objects.leading()
        with pytest.raises(ConfigError, match=r"self\._add\(…\)       # correct"):
            await nested.add_twice(1)
        with pytest.raises(ConfigError, match="read log_time_s"):
            await nested.ask_the_clock()
        with pytest.raises(ConfigError, match="annotated int, but 'many'"):
            await nested.wrong_type()
        with pytest.raises(ConfigError, match="assigned to outside a command"):
            await nested.assigning()
        assert nested.total == 0


async def test_a_new_leader_goes_on(autojump_clock: MockClock) -> None:
    async with open_objects(Board) as boards:
        await (await boards.leading()).add(1)
        _, board = await boards.replaced_leader()
        assert await board.add(1) == 2


async def test_a_caller_learns_that_its_node_died(autojump_clock: MockClock) -> None:
    """Nobody waits for ever (hazards X3, X4)."""
    async with open_objects(Board) as boards:
        leader, _ = await boards.cluster.check_single_leader()
        board = boards.at(leader)

        async def fails(error: type[Exception], call: str) -> None:
            with pytest.raises(error):
                await (board.add(1) if call == "add" else board.wait(lambda b: b.total < 0))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails, OutcomeUnknown, "add")
            nursery.start_soon(fails, NodeDead, "wait")
            await trio.testing.wait_all_tasks_blocked()
            await boards.cluster.crash(leader)
        for call in (board.add(1), board.get()):
            with pytest.raises(NodeDead):
                await call


async def test_calls_can_be_cancelled(autojump_clock: MockClock) -> None:
    async with open_objects(Board) as boards:
        board = await boards.leading()
        boards.cluster.partition({"0"}, {"1"}, {"2"})
        for call in (partial(board.add, 1), board.get):
            with trio.move_on_after(0.01) as scope:
                await call()
            assert scope.cancelled_caught


async def test_crash_snapshot_and_restart_bring_the_state_back(autojump_clock: MockClock) -> None:
    async with open_objects(Board, limits=SMALL) as boards:
        board = await boards.leading()
        leader, _ = await boards.cluster.check_single_leader()
        away = next(node_id for node_id in boards.cluster.ids if node_id != leader)
        await boards.cluster.crash(away)
        await board.place("here", Point(3, 4))
        for _ in range(40):
            await board.add(1)
        await boards.cluster.restart(away)
        await boards.at(away).wait(lambda board: board.total == 40)  # by a snapshot
        assert boards.at(away).points == {"here": Point(3, 4)}
        for node_id in boards.cluster.ids:
            await boards.cluster.crash(node_id)
            await boards.cluster.restart(node_id)
        assert await (await boards.leading()).get() == 40


async def test_a_restart_from_sqlite(tmp_path: Path, autojump_clock: MockClock) -> None:
    for first in (0, 12):
        board = Board()
        storage = SQLiteStorage(tmp_path)
        async with open_single(machine=board, storage=storage, limits=SMALL) as node:
            # Virtual time flies while a real disk writes: no deadline would be met.
            board.attach(node, timeout_s=math.inf)
            await node.wait(leads)
            for number in range(first, first + 12):
                assert await board.add(1) == number + 1


async def test_an_object_belongs_to_one_node(autojump_clock: MockClock) -> None:
    async with open_objects(Board) as boards:
        one, other = boards.cluster.nodes["0"], boards.cluster.nodes["1"]
        board = boards.at("0")
        board.attach(one)
        with pytest.raises(ConfigError, match=r"make a new Board\(\) for every node"):
            board.attach(other)


class Streaming(ReplicatedObject):
    """Writes its state in its own way."""

    _lines: tuple[str, ...] = ()

    @command
    def write(self, line: str) -> int:
        """Append a line."""
        self._lines = (*self._lines, line)
        return len(self._lines)

    def dump_state(self) -> Iterable[bytes]:
        """One chunk a line."""
        return iter([line.encode() + b"\n" for line in self._lines])

    def load_state(self, chunks: Iterable[bytes]) -> None:
        """In one step."""
        self._lines = tuple(b"".join(chunks).decode().splitlines())


def test_a_class_may_write_its_state_itself() -> None:
    first, second = Streaming(), Streaming()
    first._lines = ("a", "b")
    second.restore(first.snapshot())
    assert second._lines == ("a", "b")
