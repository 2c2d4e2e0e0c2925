"""The checker on histories whose verdict is known: by hand, by simulation, by trying everything.

Rules of this file: a history by hand is a few lines of `saw(client, call, from, to, result)`.
"""

from __future__ import annotations

import time
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.properties import quietly
from trioraft import ConfigError
from trioraft.testing import (
    Counter,
    Illegal,
    KeyValue,
    Linearizable,
    Lock,
    Model,
    NotLinearizable,
    Operation,
    OperationOutcome,
    Queue,
    Register,
    Transactions,
    Unknown,
    check_linearizable,
)

from .linearizable_histories import OK, Draw, dumb_check, explained_by, simulated

Get, Put, Append, Delete = KeyValue.Get, KeyValue.Put, KeyValue.Append, KeyValue.Delete
Cas = KeyValue.CompareAndSet
KV = KeyValue()


def saw(
    client: str, call: Any, called_at: float, returned_at: float, result: Any = None
) -> Operation:
    """An operation with its answer."""
    return Operation(client, call, called_at, returned_at, OK, result)


def unsure(client: str, call: Any, called_at: float) -> Operation:
    """An operation without one."""
    return Operation(client, call, called_at)


LEGAL: dict[str, tuple[Model[Any], list[Operation]]] = {
    "nothing": (KV, []),
    "a read during a write sees the old value": (
        KV,
        [saw("a", Put("x", 1), 0, 9), saw("b", Get("x"), 1, 2)],
    ),
    "a read during a write sees the new value": (
        KV,
        [saw("a", Put("x", 1), 0, 9), saw("b", Get("x"), 1, 2, 1)],
    ),
    "reads during two writes turn once": (
        KV,
        [
            saw("a", Put("x", 1), 0, 9),
            saw("b", Put("x", 2), 0, 9),
            saw("c", Get("x"), 1, 2, 2),
            saw("c", Get("x"), 3, 4, 1),
        ],
    ),
    "an unknown write takes effect late": (
        KV,
        [
            unsure("a", Put("x", 1), 0),
            saw("b", Get("x"), 1, 2),
            saw("b", Put("x", 2), 3, 4),
            saw("b", Get("x"), 5, 6, 2),
            saw("b", Get("x"), 7, 8, 1),
        ],
    ),
    "an unknown write never takes effect": (
        KV,
        [unsure("a", Put("x", 1), 0), saw("b", Get("x"), 1, 2)],
    ),
    "an unknown write explains why a comparison failed": (
        KV,
        [
            saw("a", Put("x", 1), 0, 1),
            unsure("b", Put("x", 2), 2),
            saw("a", Cas("x", 1, 3), 3, 4, False),
        ],
    ),
    "unknown appends of which one shows": (
        KV,
        [
            unsure("a", Append("x", "a"), 0),
            unsure("b", Append("x", "b"), 0),
            saw("c", Get("x"), 1, 2, "b"),
        ],
    ),
    "an answer at the time of a call overlaps it": (
        KV,
        [saw("a", Put("x", 1), 0, 1), saw("b", Get("x"), 1, 2)],
    ),
    "keys know nothing of each other": (
        KV,
        [saw("a", Put("x", 1), 0, 1), saw("a", Get("y"), 2, 3), saw("a", Get("x"), 4, 5, 1)],
    ),
    "a register begins with its initial value": (
        Register(7),
        [saw("a", Register.Read(), 0, 1, 7)],
    ),
    "unknown additions, two of three": (
        Counter(),
        [*(unsure("a", Counter.Add(), 0) for _ in range(3)), saw("b", Counter.Read(), 1, 2, 2)],
    ),
    "a lock is released by an unknown call": (
        Lock(),
        [
            saw("a", Lock.Acquire("a"), 0, 1, True),
            unsure("a", Lock.Release("a"), 2),
            saw("b", Lock.Acquire("b"), 3, 4, True),
        ],
    ),
}

ILLEGAL: dict[str, tuple[Model[Any], list[Operation], Any]] = {
    "a stale read": (
        KV,
        [saw("a", Put("x", 1), 0, 1), saw("a", Put("x", 2), 2, 3), saw("b", Get("x"), 4, 5, 1)],
        2,
    ),
    "a value that was never written": (
        KV,
        [saw("a", Put("x", 1), 0, 1), saw("b", Get("x"), 2, 3, 9)],
        1,
    ),
    "a write from the future": (
        KV,
        [saw("b", Get("x"), 0, 1, 1), unsure("a", Put("x", 1), 2)],
        None,
    ),
    "a lost update": (
        Counter(),
        [
            saw("a", Counter.Add(), 0, 5, 1),
            saw("b", Counter.Add(), 0, 5, 1),
        ],
        2,
    ),
    "an append that is there twice": (
        KV,
        [saw("a", Append("x", "a"), 0, 1), saw("b", Get("x"), 2, 3, "aa")],
        "a",
    ),
    "appends whose order changes": (
        KV,
        [
            saw("a", Append("x", "a"), 0, 9),
            saw("b", Append("x", "b"), 0, 9),
            saw("c", Get("x"), 10, 11, "ab"),
            saw("c", Get("x"), 12, 13, "ba"),
        ],
        "ab",
    ),
    "an append that is lost": (
        KV,
        [
            saw("a", Append("x", "a"), 0, 1),
            saw("a", Append("x", "b"), 2, 3),
            saw("b", Get("x"), 4, 5, "a"),
        ],
        "ab",
    ),
    "two comparisons that both won": (
        KV,
        [
            saw("a", Put("x", 0), 0, 1),
            saw("b", Cas("x", 0, 1), 2, 5, True),
            saw("c", Cas("x", 0, 2), 2, 5, True),
        ],
        False,
    ),
    "a comparison that failed for no reason": (
        KV,
        [saw("a", Put("x", 0), 0, 1), saw("b", Cas("x", 0, 1), 2, 3, False)],
        True,
    ),
    "reads that go back, of one client": (
        KV,
        [
            saw("a", Put("x", 1), 0, 1),
            saw("a", Put("x", 2), 2, 9),
            saw("b", Get("x"), 3, 4, 2),
            saw("b", Get("x"), 5, 6, 1),
        ],
        2,
    ),
    "reads that go back, of two clients": (
        KV,
        [
            unsure("a", Put("x", 1), 0),
            saw("b", Get("x"), 1, 2, 1),
            saw("c", Get("x"), 3, 4, None),
        ],
        1,
    ),
    "a delete that comes back": (
        KV,
        [
            saw("a", Put("x", 1), 0, 1),
            saw("a", Delete("x"), 2, 3),
            saw("b", Get("x"), 4, 5, 1),
        ],
        None,
    ),
    "an unknown write that takes effect twice": (
        KV,
        [
            unsure("a", Put("x", 1), 0),
            saw("b", Get("x"), 1, 2, 1),
            saw("b", Put("x", 2), 3, 4),
            saw("b", Get("x"), 5, 6, 2),
            saw("b", Get("x"), 7, 8, 1),
        ],
        2,
    ),
    "a write that failed and shows": (
        KV,
        [
            Operation("a", Put("x", 1), 0, 1, OperationOutcome.FAILED),
            saw("b", Get("x"), 2, 3, 1),
        ],
        None,
    ),
    "a queue that turns": (
        Queue(),
        [
            saw("a", Queue.Enqueue(1), 0, 1),
            saw("a", Queue.Enqueue(2), 2, 3),
            saw("b", Queue.Dequeue(), 4, 5, 2),
        ],
        1,
    ),
    "a value that two took": (
        Queue(),
        [
            saw("a", Queue.Enqueue(1), 0, 1),
            saw("b", Queue.Dequeue(), 2, 5, 1),
            saw("c", Queue.Dequeue(), 2, 5, 1),
        ],
        None,
    ),
    "a lock that two hold": (
        Lock(),
        [
            saw("a", Lock.Acquire("a"), 0, 1, True),
            saw("b", Lock.Acquire("b"), 2, 3, True),
        ],
        False,
    ),
    "one key of two": (
        KV,
        [
            *(saw("a", Put("y", n), 10 * n, 10 * n + 1) for n in range(5)),
            saw("a", Put("x", 1), 0, 1),
            saw("b", Get("x"), 2, 3),
        ],
        1,
    ),
}


@pytest.mark.parametrize(("model", "operations"), LEGAL.values(), ids=LEGAL)
def test_what_is_linearizable(model: Model[Any], operations: list[Operation]) -> None:
    result = check_linearizable(operations, model)
    assert isinstance(result, Linearizable)
    assert result
    result.raise_if_not_linearizable()
    assert all(explained_by(order, model) for order in result.orders.values())


@pytest.mark.parametrize(("model", "operations", "would"), ILLEGAL.values(), ids=ILLEGAL)
def test_what_is_not(model: Model[Any], operations: list[Operation], would: Any) -> None:
    result = check_linearizable(operations, model)
    assert isinstance(result, Illegal)
    assert not result
    prefix = result.prefixes[0]
    assert explained_by(prefix.order, model)
    assert would in [refusal.would_return for refusal in prefix.refusals]
    assert all(refusal.operation not in prefix.order for refusal in prefix.refusals)
    with pytest.raises(NotLinearizable, match="and none of these can be next") as caught:
        result.raise_if_not_linearizable()
    assert caught.value.result is result


def test_a_witness_reads_well() -> None:
    _, operations, _ = ILLEGAL["reads that go back, of one client"]
    assert str(check_linearizable(operations, KV)) == (
        "not linearizable: of 4 answers of 'x' at most 3 can be explained, "
        "with 0 operations of unknown outcome\n"
        "  this order is right as far as it goes:\n"
        "    a: put('x', 1) -> None  [0..1]\n"
        "    a: put('x', 2) -> None  [2..9]\n"
        "    b: get('x') -> 2  [3..4]\n"
        "  state then: 2\n"
        "  and none of these can be next:\n"
        "    b: get('x') -> 1  [5..6]: here it would return 2"
    )


def test_a_witness_shows_the_end_of_a_long_order_and_the_ends_of_a_long_value() -> None:
    operations = [saw("a", Append("x", f"{n:05},"), 2 * n, 2 * n + 1) for n in range(100)]
    result = check_linearizable([*operations, saw("b", Get("x"), 900, 901, "?")], KV)
    lines = str(result).splitlines()
    assert "    (88 before)" in lines
    assert "    a: append('x', '00099,') -> None  [198..199]" in lines
    assert any("…(402 characters)…" in line and line.endswith("00099,'") for line in lines)
    assert max(map(len, lines)) < 400


def read_write(rng: Any, number: int) -> Any:
    return Put("x", number) if rng.random() < 0.5 else Get("x")


def read_write_compare(rng: Any, number: int) -> Any:
    few = rng.randrange(5)
    return rng.choice([Put("x", few), Get("x"), Get("x"), Cas("x", few, rng.randrange(5))])


def read_append(rng: Any, number: int) -> Any:
    return Append("x", f"{number},") if rng.random() < 0.5 else Get("x")


def million_steps_s() -> float:
    """How long this machine, with all that it does besides, takes for a million steps of Python."""
    began_s = time.process_time()
    steps = 0
    while steps < 1_000_000:
        steps += 1
    return time.process_time() - began_s


@pytest.mark.parametrize("draw", [read_write, read_write_compare, read_append])
def test_ten_thousand_operations_of_five_clients_on_one_key(draw: Draw) -> None:
    operations = simulated(KV, draw, count=10_000, pending=0.001)
    bound_s = 30 * million_steps_s()  # on a quick machine that is a second
    took_s: list[float] = []
    while not took_s or (took_s[-1] >= bound_s and len(took_s) < 5):  # a busy one only adds to it
        began_s = time.process_time()
        result = check_linearizable(operations, KV)
        took_s.append(time.process_time() - began_s)
    assert isinstance(result, Linearizable)
    assert explained_by(result.orders["x"], KV)
    assert result.steps < 60_000
    assert min(took_s) < bound_s


@pytest.mark.parametrize("draw", [read_write, read_write_compare, read_append])
def test_one_wrong_answer_among_thousands_is_found(draw: Draw) -> None:
    operations = simulated(KV, draw, count=3000, pending=0.001, seed=1)
    number = next(
        n for n, op in enumerate(operations) if n > 2000 and op.call == Get("x") and op.result
    )
    operations[number] = wrong = attrs.evolve(operations[number], result="never written")
    result = check_linearizable(operations, KV)
    assert isinstance(result, Illegal)
    assert len(result.prefixes[0].order) > 1900
    assert wrong in [refusal.operation for refusal in result.prefixes[0].refusals]


def test_no_answer_in_time_is_no_pass() -> None:
    """Twenty values enqueued at once, and all taken in an order that cannot be."""
    operations = [saw("a", Queue.Enqueue(n), 0, 1) for n in range(20)]
    operations += [saw("b", Queue.Dequeue(), 2, 3, n) for n in [*range(19), 18]]
    result = check_linearizable(operations, Queue(), timeout_s=0.05)
    assert isinstance(result, Unknown)
    assert not result
    with pytest.raises(NotLinearizable, match=r"within 0\.05 s"):
        result.raise_if_not_linearizable()


def test_an_illegal_part_is_found_before_a_hard_one_takes_all_the_time() -> None:
    hard = [saw("a", Put("hard", n), 0, 10) for n in range(14)]
    hard += [saw("b", Get("hard"), 0, 10, n) for n in range(14)]
    hard += [saw("b", Get("hard"), 20, 30, "?")]
    assert isinstance(check_linearizable(hard, KV, timeout_s=0.05), Unknown)
    wrong = [saw("c", Get("easy"), 0, 1, "?")]
    result = check_linearizable([*hard, *wrong], KV, timeout_s=0.05)
    assert isinstance(result, Illegal)
    assert result.part == "easy"


def test_many_unknown_additions_are_no_trouble() -> None:
    """They are alike: which of them took effect makes no difference."""
    operations = [unsure("a", Counter.Add(), 0) for _ in range(40)]
    operations += [saw("b", Counter.Read(), 1 + 2 * n, 2 + 2 * n, 3 * n) for n in range(10)]
    assert check_linearizable(operations, Counter(), timeout_s=5)
    operations.append(saw("b", Counter.Read(), 90, 91, 41))
    assert isinstance(check_linearizable(operations, Counter(), timeout_s=5), Illegal)


def test_the_time_must_be_some() -> None:
    with pytest.raises(ConfigError, match="give the search some time"):
        check_linearizable([], KV, timeout_s=0)


def test_a_model_of_ones_own() -> None:
    class Sticky(Model[str | None]):
        """A cell that keeps the first value it is given, and answers with it."""

        name = "sticky"

        def initial(self) -> str | None:
            return None

        def apply(self, state: str | None, call: str) -> tuple[str | None, str]:
            value = call if state is None else state
            return value, value

    fine = [saw("a", "a", 0, 2, "b"), saw("b", "b", 0, 2, "b"), unsure("c", "c", 0)]
    assert check_linearizable(fine, Sticky())
    result = check_linearizable([*fine, saw("c", "c", 3, 4, "c")], Sticky())
    assert isinstance(result, Illegal)
    assert "c: 'c' -> 'c'  [3..4]: here it would return 'b'" in str(result)


def test_unknown_operations_that_could_change_places_may_both_take_effect() -> None:
    class Silent(Model[int]):
        """A sum; adding gives no answer."""

        name = "silent"

        def initial(self) -> int:
            return 0

        def apply(self, state: int, call: int) -> tuple[int, int | None]:
            return (state + call, None) if call else (state, state)

    operations = [unsure("a", 1, 0), unsure("b", 2, 0), saw("c", 0, 1, 2, 3)]
    assert check_linearizable(operations, Silent())


few = st.sampled_from([None, 0, 1])
text = st.sampled_from(["a", "b", "ab"])
SMALL: dict[str, tuple[Model[Any], st.SearchStrategy[Any], st.SearchStrategy[Any]]] = {
    "key-value": (
        KV,
        st.one_of(
            st.just(Get("x")),
            st.builds(Put, st.just("x"), st.one_of(few, text)),
            st.builds(Append, st.just("x"), text),
            st.just(Delete("x")),
            st.builds(Cas, st.just("x"), few, few),
        ),
        st.sampled_from([None, None, 0, 1, "a", "b", "ab", "ba", "abab", True, False]),
    ),
    "register": (
        Register(0),
        st.one_of(
            st.just(Register.Read()),
            st.builds(Register.Write, few),
            st.builds(Register.CompareAndSet, few, few),
        ),
        st.sampled_from([None, 0, 1, True, False]),
    ),
    "counter": (
        Counter(),
        st.one_of(st.just(Counter.Read()), st.builds(Counter.Add, st.integers(-1, 2))),
        st.integers(-1, 4),
    ),
    "queue": (
        Queue(),
        st.one_of(st.just(Queue.Dequeue()), st.builds(Queue.Enqueue, few)),
        few,
    ),
    "lock": (
        Lock(),
        st.builds(
            lambda kind, owner: kind(owner),
            st.sampled_from([Lock.Acquire, Lock.Release]),
            st.sampled_from("ab"),
        ),
        st.booleans(),
    ),
}


@st.composite
def small_histories(
    draw: st.DrawFn, model: Model[Any], calls: st.SearchStrategy[Any], answers: Any
) -> list[Operation]:
    """A few operations; their answers are those of a single copy, but for at most one or two."""
    operations = []
    state = model.initial()
    for effect_at in range(draw(st.integers(0, 6))):
        call = draw(calls)
        called_at = effect_at - draw(st.integers(0, 3))
        returned_at = effect_at + draw(st.integers(0, 3))
        kind = draw(st.sampled_from(["right"] * 6 + ["wrong", "pending", "pending", "failed"]))
        if kind in ("right", "wrong") or (kind == "pending" and draw(st.booleans())):
            state, result = model.apply(state, call)
        if kind == "wrong":
            result = draw(answers)
        if kind == "pending":
            operations.append(Operation("p", call, called_at))
        elif kind == "failed":
            failed = OperationOutcome.FAILED
            operations.append(Operation("f", call, called_at, returned_at, failed))
        else:
            operations.append(Operation("c", call, called_at, returned_at, OK, result))
    return draw(st.permutations(operations))


@pytest.mark.parametrize("name", SMALL)
def test_the_checker_agrees_with_one_that_tries_every_order(name: str) -> None:
    model, calls, answers = SMALL[name]
    verdicts = set()

    @given(small_histories(model, calls, answers))
    @settings(quietly, max_examples=60)
    def agrees(operations: list[Operation]) -> None:
        result = check_linearizable(operations, model)
        assert bool(result) == dumb_check(operations, model)
        verdicts.add(type(result))
        if isinstance(result, Linearizable):
            assert all(explained_by(order, model) for order in result.orders.values())
        if isinstance(result, Illegal):
            assert all(explained_by(prefix.order, model) for prefix in result.prefixes)

    agrees()
    assert verdicts == {Linearizable, Illegal}


# -- transactions --------------------------------------------------------------------------

Do = Transactions.Do


def test_transactions_are_seen_whole_or_not_at_all() -> None:
    put = saw("a", Do(writes={"x": "1", "y": "1"}), 0, 10, (True, ()))
    both = Do(reads=("x", "y"))
    for values in ((None, None), ("1", "1")):
        assert check_linearizable([put, saw("b", both, 1, 9, (True, values))], Transactions())
    for half in (("1", None), (None, "1")):
        torn = [put, saw("b", both, 1, 9, (True, half))]
        assert isinstance(check_linearizable(torn, Transactions()), Illegal)


def test_a_transaction_that_fails_must_have_had_a_reason() -> None:
    put = saw("a", Do(writes={"x": "1"}), 0, 1, (True, ()))
    claim = Do(compares={"x": "1"}, writes={"x": None}, reads=("x",))
    assert check_linearizable([put, saw("b", claim, 2, 3, (True, (None,)))], Transactions())
    refused = [put, saw("b", claim, 2, 3, (False, ("1",)))]
    assert isinstance(check_linearizable(refused, Transactions()), Illegal)
    unsure_one = unsure("c", Do({"x": "1"}, {"x": "2"}), 0)
    assert check_linearizable([put, unsure_one, saw("b", claim, 2, 3, (False, ("2",)))],
                              Transactions())  # fmt: skip


def test_keys_that_are_never_touched_together_are_parts_of_their_own() -> None:
    operations = [
        saw("a", Do(writes={"a": "1"}, reads=("b",)), 0, 1, (True, (None,))),
        saw("a", Do(writes={"c": "1"}), 2, 3, (True, ())),
        saw("b", Do(reads=("b", "d")), 4, 5, (True, (None, None))),
        saw("b", Do(), 4, 5, (True, ())),
    ]
    parts = Transactions().partition(operations)
    assert sorted(len(part) for part in parts.values()) == [1, 1, 2]
