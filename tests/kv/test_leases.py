"""Leases and lives of keys: they end by log time, with a command, and never before."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.kv.told import Told
from trioraft.kv import ChangeKind, KvMachine, LeaseNotFound, LeaseRefused, commands, leases
from trioraft.kv.commands import (
    Append,
    Cas,
    Deleted,
    DeleteRange,
    Expire,
    Granted,
    GrantLease,
    Increment,
    KeepAlive,
    Put,
    Revoke,
    TimeToLive,
    Txn,
    decode_command,
    encode,
    ordered_key,
)
from trioraft.kv.deadlines import Deadlines


def granted(told: Told, ttl_ms: int = 1000, prefix: bytes = b"") -> int:
    done = told.do(GrantLease(ttl_ms, prefix))
    assert isinstance(done, Granted)
    return done.lease_id


def test_keys_go_with_their_lease() -> None:
    told = Told()
    lease = granted(told)
    told.do(Put(b"a", b"1", lease_id=lease))
    told.do(Put(b"b", b"2", lease_id=lease))
    told.do(Put(b"c", b"3"))
    told.now_s = 0.999
    assert told.expire() == Deleted(told.index, 0)
    assert told.keys() == [b"a", b"b", b"c"]
    told.now_s = 1.0
    assert told.expire() == Deleted(told.index, 2)
    assert told.keys() == [b"c"]
    first, second = told.changes(told.index, wants_previous=True)
    assert [first.key, second.key] == [b"a", b"b"]
    assert (first.kind, first.previous, first.lease_id) == (ChangeKind.EXPIRED, b"1", lease)
    with pytest.raises(LeaseNotFound):
        told.do(KeepAlive(lease))
    assert told.machine.leases_count == 0


def test_a_renewed_lease_lasts_from_then_on() -> None:
    told = Told()
    lease = granted(told)
    told.do(Put(b"a", b"", lease_id=lease))
    for _ in range(5):
        told.now_s += 0.9
        assert told.do(KeepAlive(lease)) == Granted(told.index, lease, 1000)
        told.expire()
    told.now_s += 0.9
    told.expire()
    assert told.keys() == [b"a"]
    told.now_s += 0.1
    told.expire()
    assert told.keys() == []


def test_revoking_ends_it_and_its_keys() -> None:
    told = Told()
    lease = granted(told)
    told.do(Put(b"a", b"", lease_id=lease))
    assert told.do(Revoke(lease)) == Deleted(3, 1)
    assert told.changes(3)[0].kind is ChangeKind.DELETED
    with pytest.raises(LeaseNotFound):
        told.do(Revoke(lease))
    with pytest.raises(LeaseNotFound):
        told.do(Put(b"a", b"", lease_id=lease))
    assert told.keys() == []


def test_a_key_that_is_put_again_belongs_where_it_is_put_to() -> None:
    told = Told()
    first, second = granted(told), granted(told, 5000)
    for key in (b"stays", b"moves", b"leaves", b"swapped"):
        told.do(Put(key, b"1", lease_id=first))
    told.do(Put(b"moves", b"2", lease_id=second))
    told.do(Put(b"leaves", b"2"))
    told.do(Cas(b"swapped", b"1", b"2"))
    told.do(Append(b"stays", b"2"))
    assert told.ask(TimeToLive(first)).keys == (b"stays",)
    told.now_s = 1
    assert told.expire().count == 1
    assert told.keys() == [b"leaves", b"moves", b"swapped"]
    told.now_s = 5
    assert told.expire().count == 1
    assert told.keys() == [b"leaves", b"swapped"]


def test_a_key_can_have_a_life_of_its_own() -> None:
    told = Told()
    told.do(Put(b"brief", b"1", ttl_ms=500))
    told.do(Put(b"put again", b"1", ttl_ms=500))
    told.do(Put(b"counted", b"1", ttl_ms=500))
    told.now_s = 0.4
    told.do(Put(b"put again", b"1", ttl_ms=500))
    told.do(Increment(b"counted"))  # its end stays where it is
    told.do(Put(b"for good", b"1", ttl_ms=10))
    told.do(Put(b"for good", b"1"))
    told.do(Txn((), (Put(b"in a transaction", b"", ttl_ms=100),)))
    told.now_s = 0.5
    assert told.expire().count == 3
    assert told.keys() == [b"for good", b"put again"]
    told.now_s = 0.9
    assert told.expire().count == 1


def test_whichever_ends_first_takes_the_key() -> None:
    told = Told()
    lease = granted(told, 1000)
    told.do(Put(b"a", b"", lease_id=lease, ttl_ms=100))
    told.do(Put(b"b", b"", lease_id=lease, ttl_ms=5000))
    told.now_s = 0.1
    assert (told.expire().count, told.keys()) == (1, [b"b"])
    told.now_s = 1
    assert (told.expire().count, told.keys()) == (1, [])
    told.now_s = 9
    assert told.expire().count == 0


def test_a_lease_with_a_value_has_a_key_at_once() -> None:
    told = Told()
    told.do(Put(b"x", b""))
    lease = told.do(GrantLease(1000, b"queue/", b"me")).lease_id
    assert told.pairs(prefix=b"queue/") == [(b"queue/0000000000000002", b"me")]
    assert ordered_key(b"queue/", lease) == b"queue/0000000000000002"
    told.do(Revoke(lease, b"queue/"))
    assert told.keys() == [b"x"]


def test_the_prefix_is_part_of_the_name_and_bounds_the_keys() -> None:
    told = Told()
    lease = granted(told, prefix=b"app/")
    told.do(Put(b"app/x", b"", lease_id=lease))
    for command in (KeepAlive(lease), Revoke(lease, b"app"), KeepAlive(lease, b"")):
        with pytest.raises(LeaseNotFound):
            told.do(command)
    with pytest.raises(LeaseRefused, match="begin with b'app/'"):
        told.do(Put(b"other", b"", lease_id=lease))
    assert told.ask(TimeToLive(lease)).ttl_ms == 0
    assert told.do(Revoke(lease, b"app/")).count == 1


def test_there_is_a_bound_on_leases_and_on_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASES_MAX", 2)
    monkeypatch.setattr(leases, "LEASE_KEYS_MAX", 2)
    told = Told()
    lease = granted(told)
    granted(told)
    with pytest.raises(LeaseRefused, match="revoke some"):
        granted(told)
    told.do(Put(b"a", b"", lease_id=lease))
    told.do(Put(b"b", b"", lease_id=lease))
    told.do(Put(b"a", b"again", lease_id=lease))
    with pytest.raises(LeaseRefused, match="grant another"):
        told.do(Put(b"c", b"", lease_id=lease))
    told.do(DeleteRange(b"a"))
    told.do(Put(b"c", b"", lease_id=lease))


def test_what_is_over_ends_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trioraft.kv.machine.CHANGES_MAX", 4)
    told = Told()
    for number in range(3):
        lease = granted(told, 100)
        for letter in b"abc":
            told.do(Put(b"%d/%c" % (number, letter), b"", lease_id=lease))
    told.now_s = 1
    assert told.expire() == Deleted(told.index, 3, True)
    assert told.expire() == Deleted(told.index, 3, True)
    assert told.expire() == Deleted(told.index, 3, True)
    assert told.expire() == Deleted(told.index, 0)


def test_log_time_never_goes_back() -> None:
    told = Told()
    told.now_s = 100
    lease = granted(told, 1000)
    told.do(Put(b"a", b"", lease_id=lease))
    told.now_s = 50  # a leader whose clock is behind
    told.do(KeepAlive(lease))
    told.expire()
    told.now_s = 100.9
    told.expire()
    assert told.keys() == [b"a"]


def test_all_of_it_is_in_a_snapshot() -> None:
    told = Told()
    told.now_s = 7
    lease = granted(told, 1000, b"a")
    told.do(Put(b"a/1", b"", lease_id=lease))
    told.do(Put(b"brief", b"", ttl_ms=500))
    told.do(KeepAlive(lease, b"a"))
    other = told.restarted()
    assert other.content() == told.content()
    for each in (told, other):
        each.now_s = 7.5
        assert each.expire().count == 1
        each.now_s = 7.99
        assert each.expire().count == 0
        each.do(Put(b"a/2", b"", lease_id=lease))
        each.now_s = 8
        assert each.expire().count == 2
    assert other.content() == told.content()


def test_a_snapshot_says_whether_something_ends_in_it() -> None:
    """A release that knows of no leases must refuse it then, and may read it otherwise."""
    told = Told()
    told.do(Put(b"a", b""))
    assert told.content()[16:18] == b"\x97\x01"
    lease = granted(told)
    assert told.content()[16:18] == b"\x97\x02"
    told.do(Revoke(lease))
    assert told.content()[16:18] == b"\x97\x01"


# -- the clock -----------------------------------------------------------------------------


def stamped(machine: KvMachine, command: commands.Command) -> float | None:
    prepared = decode_command(machine.prepare_command(encode(command)))
    at_s = getattr(prepared, "at_s", None)
    assert at_s is None or isinstance(at_s, float)
    return at_s


async def test_only_what_needs_the_time_is_told_it(autojump_clock: MockClock) -> None:
    machine = KvMachine()
    machine.apply(1, machine.prepare_command(encode(GrantLease(1000))))
    await trio.sleep(2)
    for free in (Put(b"a", b"", at_s=1e9), Increment(b"a"), Revoke(1), Txn((), (Put(b"a", b""),))):
        data = encode(free)
        assert machine.prepare_command(data) is data
    for needing in (
        Put(b"a", b"", ttl_ms=1),
        GrantLease(1),
        KeepAlive(1),
        Txn((), (), (Put(b"a", b"", ttl_ms=1),)),
    ):
        assert stamped(machine, needing) == pytest.approx(2.0)


async def test_what_a_client_says_of_the_time_counts_for_nothing(
    autojump_clock: MockClock,
) -> None:
    machine = KvMachine()
    machine.apply(1, machine.prepare_command(encode(GrantLease(1000, at_s=1e9))))
    machine.apply(2, encode(Put(b"a", b"", lease_id=1)))
    lie = 1e12
    lies: tuple[commands.Command, ...] = (
        Expire(lie),
        Put(b"b", b"", at_s=lie),
        Put(b"c", b"", ttl_ms=1, at_s=lie),
        KeepAlive(1, at_s=lie),
        Txn((), (Put(b"d", b"", at_s=lie),), at_s=lie),
        Txn((), (Put(b"d", b"", ttl_ms=9, at_s=lie),), at_s=lie),
    )
    for index, command in enumerate(lies, 3):
        machine.apply(index, machine.prepare_command(encode(command)))
    assert machine.query(encode(commands.Get(b"a"))).value == b""  # type: ignore[union-attr] # a Found
    due_s = machine.due_in_s(trio.current_time())
    assert due_s is not None
    assert due_s < 1.1


async def test_when_something_is_due(autojump_clock: MockClock) -> None:
    machine = KvMachine()
    assert machine.due_in_s(trio.current_time()) is None
    machine.apply(1, machine.prepare_command(encode(GrantLease(3000))))
    assert machine.due_in_s(trio.current_time()) == pytest.approx(3.0)
    await trio.sleep(1)
    assert machine.due_in_s(trio.current_time()) == pytest.approx(2.0)
    machine.apply(2, machine.prepare_command(encode(Put(b"a", b"", ttl_ms=500))))
    assert machine.due_in_s(trio.current_time()) == pytest.approx(0.5)
    await trio.sleep(0.5)
    machine.apply(3, machine.command_when_due(trio.current_time()))
    assert machine.due_in_s(trio.current_time()) == pytest.approx(1.5)
    machine.apply(4, encode(Revoke(1)))
    assert machine.due_in_s(trio.current_time()) is None


async def test_log_time_goes_on_while_anything_can_end(autojump_clock: MockClock) -> None:
    leader, follower = KvMachine(), KvMachine()
    index = 1

    def propose(data: bytes) -> None:
        nonlocal index
        for machine in (leader, follower):
            machine.apply(index, data)
        index += 1

    propose(leader.prepare_command(encode(GrantLease(3_600_000))))
    for _ in range(6):
        assert leader.due_in_s(trio.current_time()) == pytest.approx(10.0)
        await trio.sleep(10)
        propose(leader.command_when_due(trio.current_time()))
    restarted = KvMachine()  # it knows only what is in the log
    restarted.restore(list(follower.snapshot()))
    life = restarted.query(encode(TimeToLive(1)))
    assert isinstance(life, commands.LeaseLife)
    assert life.remaining_ms == pytest.approx(3_540_000, abs=1)


async def test_a_new_leader_counts_on_from_what_the_last_one_said(
    autojump_clock: MockClock,
) -> None:
    first, second = KvMachine(), KvMachine()
    data = first.prepare_command(encode(GrantLease(10_000)))
    for machine in (first, second):
        machine.apply(1, data)
    await trio.sleep(4)
    assert second.due_in_s(trio.current_time()) == pytest.approx(6.0)
    data = second.prepare_command(encode(KeepAlive(1)))
    for machine in (first, second):
        machine.apply(2, data)
    assert first.due_in_s(trio.current_time()) == pytest.approx(10.0)


# -- deadlines -----------------------------------------------------------------------------


def test_deadlines_forget_what_does_not_count_any_more() -> None:
    deadlines: Deadlines[int] = Deadlines()
    for turn in range(10_000):
        deadlines.set(turn % 10, float(turn))
    assert len(deadlines._heap) < 200
    assert deadlines.first_s() == 9990.0
    for subject in range(10):
        deadlines.remove(subject)
    assert (deadlines.first_s(), deadlines.first_due(1e9), len(deadlines)) == (None, None, 0)


def test_of_equal_deadlines_the_order_is_that_of_the_subjects() -> None:
    for subjects in ([3, 1, 2], [1, 2, 3], [2, 3, 1]):
        deadlines = Deadlines((subject, 5.0) for subject in subjects)
        ended = []
        while (subject := deadlines.first_due(5.0)) is not None:
            deadlines.remove(subject)
            ended.append(subject)
        assert ended == [1, 2, 3]
