"""A node in a program of threads: its calls, its bodies, its end, and how it is used wrongly."""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from benchmarks.processes import Process
from tests.embedding.support import PATIENCE_S, Breaking, arguments, leads, node_threads
from trioraft import (
    ConfigError,
    LeadershipLost,
    Node,
    NodeDead,
    OutcomeUnknown,
    Role,
    SQLiteStorage,
    StorageError,
    sync,
)
from trioraft.core.errors import ApplyFailed
from trioraft.embedding.thread import TrioThread
from trioraft.structures import Counter, Lock


def test_calls_from_many_threads(tmp_path: Path) -> None:
    with sync.open_node("a", **arguments(machine=Counter())) as node:
        node.wait(leads)
        counter = Counter.through(node)
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda _: counter.add(1), range(100)))
        assert sorted(results) == list(range(1, 101))
        assert counter.get() == 100
        assert node.status.role is Role.LEADER
        assert node.budgets()
        assert node.read_barrier() > 100
        assert node.take_snapshot() > 100
        assert node.backup(tmp_path / "backup").machine == "Counter in sessions"
        with pytest.raises(OverflowError):
            counter.add(2**63 - 1)
        with pytest.raises(TimeoutError, match=r"waited 0\.01 s"):
            node.wait(lambda _: False, timeout_s=0.01)
        assert repr(node) == "<BlockingNode 'a'>"
    with pytest.raises(NodeDead, match="was left"):
        counter.get()
    assert node_threads() == []


def test_a_lock_is_held_by_threads() -> None:
    with sync.open_node("a", **arguments(machine=Lock())) as node:
        lock = Lock.through(node)
        held: list[int] = []

        def hold(number: int) -> int:
            with lock.hold(f"thread {number}", lease_s=30) as grant:
                held.append(grant.token)
                return grant.token

        with ThreadPoolExecutor(4) as pool:
            tokens = list(pool.map(hold, range(8)))
        assert held == sorted(held)
        assert {*held} == {*tokens}


def test_events_and_membership() -> None:
    with sync.open_node("a", **arguments()) as node:
        node.wait(leads)
        with node.events() as stream:
            node.propose(b"x")
            assert type(next(stream)).__name__ == "CommitAdvanced"
            assert stream.dropped == 0
            assert node.forward(b"y") == b"y"
            node.add_learner("b", ("127.0.0.1", 1))
            node.remove("b")
            with pytest.raises(ConfigError):
                node.transfer_leadership("nobody")
            node.kill()
            assert list(stream)  # what was before, then the end


def test_what_runs_in_the_node_s_thread_is_given_the_node() -> None:
    with sync.open_node("a", **arguments()) as node:

        async def inside(trio_node: Node) -> str:
            await trio_node.wait(leads)
            with pytest.raises(ConfigError, match="wait for itself"):
                node.status  # noqa: B018 - reading it is the point
            return threading.current_thread().name

        assert node.run_in_trio(inside) == "trioraft node 'a'"


async def sleep_forever(_: Node) -> None:
    await trio.sleep_forever()


def test_leaving_ends_what_other_threads_wait_for() -> None:
    told: list[BaseException] = []

    def wait(node: sync.BlockingNode) -> None:
        waits.set()
        try:
            node.run_in_trio(sleep_forever)
        except OutcomeUnknown as error:
            told.append(error)

    waits = threading.Event()
    with sync.open_node("a", **arguments()) as node:
        thread = threading.Thread(target=wait, args=(node,))
        thread.start()
        assert waits.wait(PATIENCE_S)
        node.wait(leads)
    thread.join(PATIENCE_S)
    assert "was left" in str(told)


# -- a node that fails ---------------------------------------------------------------------


def test_a_node_that_fails_is_told_to_calls_and_at_the_end() -> None:
    def program() -> None:
        with sync.open_node("a", **arguments(machine=Breaking())) as node:
            node.wait(leads)
            with pytest.raises(OutcomeUnknown):
                node.propose(b"break")
            with pytest.raises(NodeDead):
                node.wait(lambda _: False)

    with pytest.raises(ApplyFailed):
        program()
    assert node_threads() == []


def test_what_cannot_be_opened_is_told_at_the_door(tmp_path: Path) -> None:
    opening = partial(sync.open_node, "a")
    with opening(**arguments(storage=SQLiteStorage(tmp_path / "a"))):
        again = opening(**arguments(storage=SQLiteStorage(tmp_path / "a")))
        with pytest.raises(StorageError, match="in use"):
            again.__enter__()
    with pytest.raises(ConfigError, match="voters"):
        opening(**arguments(voters=["b"])).__enter__()
    assert node_threads() == []


def test_the_body_s_own_error_is_not_wrapped() -> None:
    with pytest.raises(KeyError, match="mine"), sync.open_node("a", **arguments()):
        raise KeyError("mine")


# -- work for the leader -------------------------------------------------------------------


def test_leadership_is_told_to_a_body_that_cannot_be_cancelled() -> None:
    with sync.open_node("a", **arguments()) as node:
        with node.lead() as leadership:
            assert leadership.term == 1
            assert not leadership.is_lost
            leadership.check()
            assert not leadership.wait_lost(0.001)

        def program() -> None:
            with node.lead() as leadership:
                node.kill()
                assert leadership.wait_lost(PATIENCE_S)
                assert leadership.is_lost
                with pytest.raises(LeadershipLost):
                    leadership.check()

        with pytest.raises(LeadershipLost):
            program()
        with pytest.raises(NodeDead):
            node.lead().__enter__()


def test_a_job_is_run_while_the_node_leads() -> None:
    with sync.open_node("a", **arguments()) as node:
        assert sync.run_while_leader(node, lambda leadership: leadership.term) == 1

        def stays(leadership: sync.Leadership) -> None:
            node.kill()
            leadership.wait_lost()

        with pytest.raises(NodeDead):
            sync.run_while_leader(node, stays)


# -- used wrongly --------------------------------------------------------------------------


def test_it_opens_once() -> None:
    opening = sync.open_node("a", **arguments())
    with opening, pytest.raises(ConfigError, match="opened before"):
        opening.__enter__()
    with pytest.raises(ConfigError, match="opened before"):
        opening.__enter__()


def test_a_fork_has_no_node(monkeypatch: pytest.MonkeyPatch) -> None:
    with sync.open_node("a", **arguments()) as node, monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(NodeDead, match="forked"):
            node.propose(b"x")


FORKED = """
import os, random
from trioraft import *
from trioraft import sync
from trioraft.testing import CommandLog
transport = MemoryNetwork(random.Random(0)).transport("a")
with sync.open_node("a", voters=["a"], machine=CommandLog(), storage=MemoryStorage(),
                    transport=transport) as node:
    node.wait(lambda status: status.role is Role.LEADER)
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        print("parent:", node.propose(b"x"), flush=True)
    else:
        try:
            node.propose(b"x")
        except NodeDead as error:
            print("child:", "forked" in str(error), flush=True)
print("left", flush=True)
"""


def test_a_real_fork_leaves_the_parent_s_node_alone() -> None:
    with Process((sys.executable, "-W", "ignore", "-c", FORKED)) as process:
        assert process.rest() == "child: True\nleft\nparent: b'x'\nleft\n"
        assert process.wait() == 0


INTERRUPTED = """
import random, signal, threading
from trioraft import *
from trioraft import sync
from trioraft.testing import CommandLog
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
gone = threading.Event()
transport = MemoryNetwork(random.Random(0)).transport("a")
async def wait(_):
    import trio
    print("waiting", flush=True)
    try:
        await trio.sleep_forever()
    finally:
        gone.set()
try:
    with sync.open_node("a", voters=["a"], machine=CommandLog(), storage=MemoryStorage(),
                        transport=transport) as node:
        try:
            node.run_in_trio(wait)
        except KeyboardInterrupt:
            print("interrupted; in its thread it is cancelled:", gone.wait(10), flush=True)
            raise
except KeyboardInterrupt:
    print("left;", len(threading.enumerate()), "thread", flush=True)
"""


def test_ctrl_c_ends_a_call_and_leaves_the_node() -> None:
    with Process((sys.executable, "-c", INTERRUPTED)) as process:
        assert process.next_line() == "waiting"
        process.signal(signal.SIGINT)
        assert process.rest() == (
            "interrupted; in its thread it is cancelled: True\nleft; 1 thread\n"
        )
        assert process.wait() == 0


def test_ctrl_c_gives_up_a_call_that_is_begun_and_not_yet_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given_up = threading.Event()

    async def wait(_: object) -> None:
        try:
            await trio.sleep_forever()
        finally:
            given_up.set()

    with sync.open_node("a", **arguments()) as node:
        begin = TrioThread.begin

        def interrupted(self: Any, *args: Any, **options: Any) -> None:
            monkeypatch.undo()
            begin(self, *args, **options)
            raise KeyboardInterrupt

        monkeypatch.setattr(TrioThread, "begin", interrupted)
        with pytest.raises(KeyboardInterrupt):
            node.run_in_trio(wait)
        assert given_up.wait(10)


def test_one_ctrl_c_while_leaving_is_raised_when_it_is_left() -> None:
    """As if it came while the node is left: once it waits for that, and again if it comes again."""

    class Interrupted(threading.Event):
        left = 1

        def wait(self, timeout: float | None = None) -> bool:
            if self.left:
                self.left -= 1
                raise KeyboardInterrupt
            return super().wait(timeout)

    opening = sync.open_node("a", **arguments())

    def program() -> None:
        with opening:
            opening._over = Interrupted()  # type: ignore[attr-defined] # what it waits for
            opening._service.stop()  # type: ignore[attr-defined] # it ends in any case

    with pytest.raises(KeyboardInterrupt):
        program()
    assert node_threads() == []
