"""Transactions, as the machine does them: all or nothing, one command."""

from __future__ import annotations

import pytest

from tests.kv.told import Told
from trioraft.core.errors import ConfigError, RaftError
from trioraft.kv import (
    Deleted,
    Do,
    Found,
    If,
    Incremented,
    LeaseNotFound,
    NotANumber,
    RequestTooLarge,
    ValueTooLarge,
    Written,
    machine,
)
from trioraft.kv.commands import (
    Append,
    Compare,
    CompareBy,
    CompareHow,
    Delete,
    DeleteRange,
    GrantLease,
    Increment,
    Looked,
    Operation,
    Put,
    TimeToLive,
    Txn,
    TxnDone,
)
from trioraft.kv.transactions import txn_of


def told_with(**pairs: str) -> Told:
    told = Told()
    for key, value in pairs.items():
        told.do(Put(key.encode(), value.encode()))
    return told


def holds(told: Told, *compares: Compare) -> bool:
    done = told.do(Txn(compares))
    assert isinstance(done, TxnDone)
    return done.succeeded


def test_one_branch_is_done_and_its_results_are_told() -> None:
    told = told_with(a="1")
    then = (
        Do.put("a", "2", wants_previous=True),
        Do.get("a"),
        Do.delete("b"),
        Do.increment("n", 5),
    )
    done = told.do(Txn((If.equals("a", "1"),), then, (Do.get("a"),)))
    assert done == TxnDone(
        2,
        True,
        (
            Written(2, True, b"1", 1, 2),
            Looked(Found(2, b"2", 2, 1, 2)),
            Written(2, False),
            Incremented(2, 5, 2, 1),
        ),
    )
    again = told.do(Txn((If.equals("a", "1"),), then, (Do.get("a"),)))
    assert again == TxnDone(3, False, (Looked(Found(3, b"2", 2, 1, 2)),))


def test_without_comparisons_it_is_simply_done() -> None:
    told = Told()
    assert told.do(Txn((), (Put(b"a", b"1"), Append(b"a", b"2")))).succeeded
    assert told.pairs() == [(b"a", b"12")]
    (first, second) = told.changes(wants_previous=True)
    assert (first.index, first.value, first.previous, first.version) == (1, b"1", None, 1)
    assert (second.index, second.value, second.previous, second.version) == (1, b"12", b"1", 2)


def test_all_that_a_key_can_be_compared_by() -> None:
    told = told_with(a="5", b="6")
    told.do(Put(b"a", b"7"))
    lease = told.do(GrantLease(1000)).lease_id
    told.do(Put(b"c", b"", lease_id=lease))
    for compare in (
        If.equals("a", "7"),
        If.present("a"),
        If.absent("x"),
        If.value("a", "!=", "5"),
        If.value("a", ">", "6"),
        If.value("a", ">=", "7"),
        If.value("a", "<", "8"),
        If.value("a", "<=", "7"),
        If.value("x", "!=", "7"),
        If.changed_index("a", "=", 3),
        If.created_index("a", "=", 1),
        If.created_index("x", "=", 0),
        If.version("a", "=", 2),
        If.version("x", "<", 1),
        If.lease("c", "=", lease),
        If.lease("a", "=", None),
        If.count("", "=", 3),
        If.count("x", "=", 0),
    ):
        assert holds(told, compare), compare
    for compare in (
        If.equals("a", "5"),
        If.absent("a"),
        If.present("x"),
        If.value("x", "<", "9"),
        If.value("x", ">=", ""),
        If.changed_index("a", "<", 3),
        If.version("a", ">", 2),
        If.lease("c", "=", None),
        If.count("", ">", 3),
    ):
        assert not holds(told, compare), compare


def test_values_and_numbers_are_never_mixed_up() -> None:
    told = told_with(a="5")
    for operand in (5, None):
        assert not holds(told, Compare(b"a", CompareBy.VALUE, CompareHow.GREATER, operand))
    assert not holds(told, Compare(b"a", CompareBy.VERSION, CompareHow.EQUAL, b"1"))
    assert not holds(told, Compare(b"a", CompareBy.VERSION, CompareHow.LESS, b"9"))


def test_a_comparison_of_a_prefix_holds_if_it_holds_of_every_key() -> None:
    told = told_with(**{"a/1": "x", "a/2": "x", "b": "y"})
    assert holds(told, If.value("a/", "=", "x", is_prefix=True))
    assert not holds(told, If.value("", "=", "x", is_prefix=True))
    assert holds(told, If.version("c", "=", 7, is_prefix=True))  # there is none
    until = Compare(b"a/2", CompareBy.VALUE, CompareHow.EQUAL, b"x", until=b"b")
    assert holds(told, until)
    assert not holds(told, Compare(b"a/2", CompareBy.VALUE, CompareHow.EQUAL, b"x", until=b"c"))


FAILING: list[tuple[Operation, type[RaftError]]] = [
    (Increment(b"text"), NotANumber),
    (Increment(b"large", 1), ValueTooLarge),
    (Put(b"z", b"", lease_id=77), LeaseNotFound),
]


@pytest.mark.parametrize(("operation", "error"), FAILING)
def test_what_fails_undoes_all_before_it(operation: Operation, error: type[RaftError]) -> None:
    told = told_with(text="no", large=str(2**63 - 1), gone="x")
    lease = told.do(GrantLease(60_000)).lease_id
    told.do(Put(b"leased", b"1", lease_id=lease))
    told.do(Put(b"brief", b"1", ttl_ms=500))
    before, first = told.content(), told.index + 1
    done = (
        Put(b"leased", b"other"),
        Put(b"brief", b"other"),
        Put(b"new", b"1", lease_id=lease),
        Put(b"new2", b"1", ttl_ms=10),
        Append(b"gone", b"y"),
        DeleteRange(b"g"),
        Delete(b"large") if operation.__class__ is not Increment else Delete(b"other"),
    )
    with pytest.raises(error):
        told.do(Txn((), (*done, operation)))
    after = told.restarted()
    assert after.pairs() == [(b"brief", b"1"), (b"gone", b"x"), (b"large", b"%d" % (2**63 - 1)),
                             (b"leased", b"1"), (b"text", b"no")]  # fmt: skip
    assert told.pairs() == after.pairs()
    assert told.changes(first) == ()
    assert told.ask(_life(lease)).keys == (b"leased",)
    told.now_s = 1.0
    assert told.expire().count == 1  # only the one that was brief before
    assert len(before) == len(after.content())


def _life(lease_id: int) -> TimeToLive:
    return TimeToLive(lease_id)


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    for number in range(30):
        told.do(Put(b"k%02d" % number, bytes(10)))
    monkeypatch.setattr(machine, "TXN_BYTES_MAX", 100)
    monkeypatch.setattr(machine, "COMPARED_KEYS_MAX", 20)
    monkeypatch.setattr(machine, "CHANGES_MAX", 5)
    before = told.pairs()
    for txn in (
        Txn((), (Put(b"k00", bytes(60)), Put(b"k01", bytes(60)))),
        Txn((), (Do.page("k"),)),
        Txn((), (Put(b"new", b""), Do.page("k"))),
        Txn((If.version("k", ">", 0, is_prefix=True),)),
        Txn((), tuple(Put(b"%d" % number, b"") for number in range(6))),
        Txn((), (DeleteRange(b"k"),)),
        Txn((), (DeleteRange(b"k", limit=5), DeleteRange(b"k", limit=5))),
    ):
        with pytest.raises(RequestTooLarge):
            told.do(txn)
        assert told.pairs() == before
    assert told.do(Txn((If.count("k", "=", 30),), (DeleteRange(b"k", limit=5),))).results == (
        Deleted(told.index, 5, True),
    )


def test_more_than_there_may_be_is_refused_before_it_is_sent() -> None:
    for if_, then, else_ in (
        ([If.absent("a")] * 129, [], []),
        ([], [Do.get("a")] * 129, []),
        ([], [], [Do.get("a")] * 129),
    ):
        with pytest.raises(ConfigError, match=r"129 .*: give at most 128"):
            txn_of(if_, then, else_)
