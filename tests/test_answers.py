"""What may be the result of a command: only what every replica computes alike."""

from __future__ import annotations

import contextvars
import decimal
import errno
import itertools
import sqlite3
import sys
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tests.member.by_hand import ByHand
from tests.support import open_single, raft_tasks
from trioraft import ConfigError, MemoryStorage, Node, OutcomeUnknown, Role, SessionMachine
from trioraft.core.errors import ApplyFailed
from trioraft.core.types import LogIndex
from trioraft.kv.commands import Put
from trioraft.kv.commands import encode as encode_kv
from trioraft.kv.machine import KvMachine
from trioraft.machines.nesting import NESTING_MAX
from trioraft.machines.replicated import Replicas, ReplicatedObject, command
from trioraft.machines.sessions import SessionFull, encode_command, encode_open, encode_plain
from trioraft.member.state_machine import is_local
from trioraft.testing.cluster import open_cluster


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def in_the_middle_of(error: Exception, before: BaseException, *, hidden: bool = False) -> Exception:
    error.__context__, error.__suppress_context__ = before, hidden
    return error


def full_disk_of_sqlite() -> Exception:
    database = sqlite3.connect(":memory:")
    database.execute("pragma max_page_count = 1")
    try:
        database.execute("create table big (x)")
        database.execute("insert into big values (zeroblob(100000))")
    except sqlite3.Error as error:
        return error
    finally:
        database.close()
    raise AssertionError("there was room")


OF_THE_MACHINE: dict[str, Callable[[], BaseException]] = {
    "memory": MemoryError,
    "recursion": RecursionError,
    "errno": lambda: OSError(errno.EMFILE, "too many open files"),
    "a subclass with errno": lambda: PermissionError(errno.EACCES, "denied"),
    "a module": lambda: ModuleNotFoundError("no module named 'x'"),
    "the interpreter": lambda: SystemError("bad call"),
    "sqlite": full_disk_of_sqlite,
    "no plain exception": KeyboardInterrupt,
    "an exit": lambda: SystemExit(1),
    "a group": lambda: ExceptionGroup("several", [ValueError("x"), MemoryError()]),
    "a group of bases": lambda: BaseExceptionGroup("several", [KeyboardInterrupt()]),
    "its cause": lambda: caused(ValueError("cannot read"), OSError(errno.EIO, "I/O error")),
    "its context": lambda: in_the_middle_of(KeyError("x"), MemoryError()),
}
OF_THE_COMMAND: dict[str, Callable[[], Exception]] = {
    "its own": lambda: PermissionError("not yours"),
    "a time limit of its own": lambda: TimeoutError("you are too late"),
    "any other": lambda: KeyError("x"),
    "a group": lambda: ExceptionGroup("several", [ValueError("x"), OSError("not yours")]),
    "a cause": lambda: caused(ValueError("x"), KeyError("y")),
    "a context that is hidden": lambda: in_the_middle_of(KeyError(), MemoryError(), hidden=True),
    "constraint of sqlite": lambda: sqlite3.IntegrityError("unique"),
}


@pytest.mark.parametrize("what", OF_THE_MACHINE)
def test_e1_an_error_of_one_machine_ends_the_node_before_the_entry_counts(what: str) -> None:
    one = ByHand().elected()
    before = one.member.applies.applied_index
    one.machine.raises[b"bad"] = OF_THE_MACHINE[what]()  # type: ignore[assignment]
    good, bad, after = one.propose(b"good", b"bad", b"after")
    with pytest.raises(ApplyFailed) as ended:
        one.applied()
    assert ended.value.__cause__ is one.machine.raises[b"bad"]
    assert (ended.value.index, ended.value.term, ended.value.size_bytes) == (bad.index, 1, 3)
    assert f"entry {bad.index} of term 1, a command of 3 bytes" in str(ended.value)
    assert (good.outcomes, bad.outcomes, after.outcomes) == ([1], [], [])
    assert one.member.raft.log.applied_index == before
    assert one.machine.commands == [b"good"]
    one.member.stop("failed", one.now)
    assert [type(outcome) for outcome in bad.outcomes] == [OutcomeUnknown]


@pytest.mark.parametrize("what", OF_THE_COMMAND)
def test_an_error_of_the_command_is_its_result(what: str) -> None:
    one = ByHand().elected()
    one.machine.raises[b"bad"] = error = OF_THE_COMMAND[what]()
    bad, after = one.propose(b"bad", b"after")
    one.applied()
    assert bad.outcomes == [error]
    assert after.outcomes == [1]


def test_nothing_is_saved_of_a_state_that_a_command_has_left_half_way() -> None:
    one = ByHand().elected()
    one.machine.raises[b"bad"] = MemoryError()
    one.propose(b"good", b"bad")
    with pytest.raises(ApplyFailed):
        one.applied()
    one.member.want_snapshot(_Wants())
    one.run()
    assert not one.member.applies.is_saving


class _Wants:
    wanted_index: LogIndex = 0

    def resolve(self, index: LogIndex) -> None:
        raise AssertionError("a snapshot of half a command")

    def fail(self, error: object) -> None:
        pass


class Declares:
    """A machine that says which exceptions it raises on purpose."""

    error_types = (FileNotFoundError,)

    def __init__(self) -> None:
        self.error: BaseException = ValueError("a bug")
        self.applied = 0

    def apply(self, index: int, data: bytes) -> None:
        self.applied += 1
        raise self.error

    def snapshot(self) -> bytes:
        return b""

    def restore(self, chunks: Iterable[bytes]) -> None:
        pass


def test_of_a_machine_that_declares_its_errors_no_other_is_a_result() -> None:
    one, machine = ByHand(), Declares()
    one.member.applies._machine = machine
    one.elected()
    machine.error = FileNotFoundError(errno.ENOENT, "no such file")
    (asked,) = one.propose(b"x")
    one.applied()
    assert asked.outcomes == [machine.error]
    machine.error = ValueError("a bug")
    one.propose(b"x")
    with pytest.raises(ApplyFailed, match="ValueError: a bug"):
        one.applied()


def test_a_session_keeps_nothing_of_an_error_of_one_machine() -> None:
    inner = Declares()
    machine = SessionMachine(inner)
    session = machine.apply(1, encode_open(bytes(16)))
    for error in (MemoryError(), ValueError("not declared")):
        inner.error = error
        with pytest.raises(type(error)):
            machine.apply(2, encode_command(session, 1, b"x"))
        assert not machine.is_result(error)
    inner.error = FileNotFoundError(errno.ENOENT, "no such file")
    with pytest.raises(FileNotFoundError):
        machine.apply(3, encode_command(session, 1, b"x"))
    assert machine.is_result(inner.error)
    applied = inner.applied
    with pytest.raises(Exception, match="no such file") as again:
        machine.apply(4, encode_command(session, 1, b"x"))
    assert machine.is_result(again.value)
    assert inner.applied == applied
    with pytest.raises(Exception, match="not open") as expired:
        machine.apply(5, encode_command(99, 1, b"x"))
    assert machine.is_result(expired.value)


class Files(ReplicatedObject):
    """Files that are none."""

    @command(errors=[FileNotFoundError])
    def remove(self, name: str) -> None:
        raise FileNotFoundError(errno.ENOENT, "no such file", name)

    @command
    def read(self, name: str) -> None:
        raise FileNotFoundError(errno.ENOENT, "no such file", name)

    @command
    def nest(self, depth: int) -> list[Any]:
        result: list[Any] = []
        for _ in range(depth - 1):
            result = [result]
        return result


def call_of(name: str, argument: object) -> bytes:
    return msgspec.msgpack.encode([0, name, 1, 0.0, [argument]])


@pytest.mark.parametrize("wraps", [False, True])
def test_a_command_may_declare_what_looks_like_an_error_of_the_machine(wraps: bool) -> None:
    files = Files()
    machine: Any = SessionMachine(Replicas(files=files)) if wraps else files

    def raised_by(name: str) -> Exception:
        data = call_of(name, "x")
        if wraps:
            data = encode_plain(msgspec.msgpack.encode(["files", data]))
        with pytest.raises(FileNotFoundError) as raised:
            machine.apply(1, data)
        return raised.value

    assert machine.is_result(raised_by("remove"))
    assert not machine.is_result(raised_by("read"))


def test_a_result_that_is_too_deep_is_an_error_whatever_the_stack_holds() -> None:
    files = Files()
    files.apply(1, call_of("nest", NESTING_MAX))
    for depth in (NESTING_MAX + 1, 100_000):
        with pytest.raises(ConfigError, match="deep") as raised:
            files.apply(2, call_of("nest", depth))
        assert files.is_result(raised.value)


# -- before it is proposed -------------------------------------------------------------------


def tower(depth: int) -> bytes:
    return b"\x91" * depth + b"\x90"


def put_with(extra: bytes) -> bytes:
    return b"\x01\x95\x00\xc4\x01k\xc4\x01v\xc2" + extra


@pytest.mark.parametrize("depth", [NESTING_MAX, 700, 967, 100_000])
async def test_e1_a_command_nested_too_deep_is_refused_and_nothing_else(
    autojump_clock: MockClock, depth: int
) -> None:
    machine = SessionMachine(KvMachine())
    async with open_single(machine=machine) as node:
        await leading(node)
        before = node.status.last_index
        for data in (
            encode_plain(put_with(tower(depth))),
            b"\x01\x93\x00\xc4\x01x" + tower(depth),
        ):
            with pytest.raises(ConfigError, match="nested more than 64 deep"):
                await node.propose(data)
        assert node.status.last_index == before
        await node.propose(encode_plain(encode_kv(Put(b"k", b"v"))))


async def test_what_cannot_be_read_is_not_proposed(autojump_clock: MockClock) -> None:
    async with open_single(machine=SessionMachine(KvMachine())) as node:
        await leading(node)
        before = node.status.last_index
        for data in (b"", b"\x07rest", encode_plain(b"\x07"), encode_plain(b"\x01\xc1")):
            with pytest.raises(Exception, match=r"version|cannot be read"):
                node.submit(data)
        assert node.status.last_index == before


async def leading(node: Node) -> None:
    await node.wait(lambda status: status.role is Role.LEADER)


# -- what of the caller reaches a command --------------------------------------------------------


class Looks:
    """What a command can see of whoever is around it."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def apply(self, index: int, data: bytes) -> Any:
        depth, frame = 0, sys._getframe()
        while frame.f_back is not None:
            depth, frame = depth + 1, frame.f_back
        precision = decimal.getcontext().prec
        decimal.getcontext().prec = 3  # and does not tidy up
        task = trio.lowlevel.current_task().name
        protected = trio.lowlevel.currently_ki_protected()
        self.seen.append((depth, precision, WHO.get("nobody"), task, protected))
        return index

    def snapshot(self) -> bytes:
        return b""

    def restore(self, chunks: Iterable[bytes]) -> None:
        pass


WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who")


async def test_e1_nothing_of_the_caller_reaches_a_command(autojump_clock: MockClock) -> None:
    """Neither its stack, nor its context, nor its Ctrl-C."""
    machine = Looks()
    WHO.set("whoever opened it")
    with decimal.localcontext(decimal.Context(prec=7)):
        async with open_single(machine=machine) as node:
            await leading(node)

            async def deep(levels: int) -> None:
                if levels:
                    await deep(levels - 1)
                else:
                    WHO.set("whoever proposed it")
                    await node.propose(b"deep")

            await deep(100)
            await node.propose(b"plain")
            for proposal in [node.submit(b"several") for _ in range(5)]:
                await proposal.result()
    assert len(machine.seen) == 7
    (seen,) = set(machine.seen)
    assert seen[1:] == (decimal.DefaultContext.prec, "nobody", "raft[0].driver", True)


def test_e1_a_node_does_not_open_where_its_commands_would_lack_stack() -> None:
    async def open_it() -> None:
        async with open_single() as node:
            await leading(node)

    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)
        else:
            trio.run(open_it)

    with pytest.raises(ConfigError, match="leave at least 500"):
        deep(sys.getrecursionlimit() - 480)


# -- the end of the node -------------------------------------------------------------------------


async def test_e1_whoever_opened_the_node_gets_one_clear_error(autojump_clock: MockClock) -> None:
    """And the entry is still there: with what was lacking, the node applies it."""
    storage, machine = MemoryStorage(), Declares()
    machine.error = MemoryError()

    async def use_it() -> None:
        async with open_single(storage=storage, machine=machine) as node:
            await leading(node)
            with pytest.raises(OutcomeUnknown):
                await node.propose(b"big")
            await trio.sleep_forever()

    with pytest.raises(ApplyFailed, match="MemoryError") as ended:
        await use_it()
    assert isinstance(ended.value.__cause__, MemoryError)
    assert raft_tasks() == []
    machine.error = FileNotFoundError("its own")
    applied = machine.applied
    async with open_single(storage=storage, machine=machine) as node:
        await node.wait(lambda status: status.applied_index >= ended.value.index)
    assert machine.applied == applied + 1


def test_what_is_local_is_told_even_if_causes_go_in_a_circle() -> None:
    first, second = KeyError("a"), KeyError("b")
    first.__cause__, second.__cause__ = second, first
    assert not is_local(first)


# -- what decides stands in the log --------------------------------------------------------------


async def test_e2_replicas_with_other_settings_do_not_differ(autojump_clock: MockClock) -> None:
    """Of three nodes with three settings, those of the leader count, also for who comes later."""
    numbers = itertools.count(2)

    def machine() -> SessionMachine:
        bound = next(numbers)
        return SessionMachine(KvMachine(), sessions_max=bound, results_max=bound)

    async with open_cluster(3, machine=machine, seed=5) as cluster:
        machines = cluster.machines
        known = {node_id: machines[node_id]._settings.sessions_max for node_id in machines}
        assert sorted(known.values()) == [2, 3, 4]
        for _ in range(2):
            leader, _ = await cluster.check_single_leader()
            node, bound = cluster.nodes[leader], known[leader]
            sessions = [await node.propose(encode_open(bytes([n]) * 16)) for n in range(6)]
            outcomes = []
            for sequence in range(1, 7):
                try:
                    data = encode_command(sessions[-1], sequence, encode_kv(Put(b"k", b"v")))
                    await node.propose(data)
                except SessionFull:
                    outcomes.append("SessionFull")
                else:
                    outcomes.append("done")
            assert outcomes == ["done"] * bound + ["SessionFull"] * (6 - bound)
            await cluster.wait(
                lambda: len({each.status.applied_index for each in cluster.nodes.values()}) == 1,
                "all to have applied the same",
            )
            assert {len(machine) for machine in machines.values()} == {bound}
            assert len({b"".join(machine.snapshot()) for machine in machines.values()}) == 1
            await node.propose(encode_open(b"x" * 16))
            await node.transfer_leadership()
