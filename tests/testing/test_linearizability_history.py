"""Recording what clients saw, keeping it in a file, and checking it again from there."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.properties import quietly
from trioraft import NotLeader, OutcomeUnknown
from trioraft.testing import (
    Counter,
    History,
    HistoryError,
    KeyValue,
    Lock,
    Model,
    Operation,
    OperationOutcome,
    Queue,
    Register,
    check_linearizable,
    load_history,
    save_history,
)
from trioraft.testing.linearizability.__main__ import main

from .linearizable_histories import simulated

Get, Put = KeyValue.Get, KeyValue.Put
OK, FAILED, UNKNOWN = OperationOutcome.OK, OperationOutcome.FAILED, OperationOutcome.UNKNOWN


def test_what_is_recorded_stands_in_the_order_of_events() -> None:
    history = History()
    a = history.invoke("a", Put("x", 1))
    b = history.invoke("b", Get("x"))
    c = history.invoke("c", Put("x", 2))
    d = history.invoke("d", Put("x", 3))
    e = history.invoke("e", Get("x"))
    history.ok(b, 1)
    history.ok(a)
    history.fail(c)
    history.unknown(d)
    assert e is not None
    assert history.operations() == (
        Operation("a", Put("x", 1), 1, 7, OK, None),
        Operation("b", Get("x"), 2, 6, OK, 1),
        Operation("c", Put("x", 2), 3, 8, FAILED),
        Operation("d", Put("x", 3), 4, 9, UNKNOWN),
        Operation("e", Get("x"), 5),
    )
    assert len(history) == 5
    assert check_linearizable(history, KeyValue())


def test_an_operation_ends_once() -> None:
    history = History()
    token = history.invoke("a", Get("x"))
    history.unknown(token)
    with pytest.raises(HistoryError, match="has ended already"):
        history.ok(token, 1)


def test_an_answer_before_its_call_is_refused() -> None:
    with pytest.raises(HistoryError, match="an answer comes after its call"):
        Operation("a", Get("x"), 5, 4, OK)
    with pytest.raises(HistoryError, match="said to have returned at None"):
        Operation("a", Get("x"), 5, outcome=OK)


@pytest.mark.parametrize(
    ("error", "outcome"), [(NotLeader(), FAILED), (OutcomeUnknown(), UNKNOWN), (OSError(), UNKNOWN)]
)
def test_an_error_in_the_block_says_what_is_known(
    error: Exception, outcome: OperationOutcome
) -> None:
    history = History()
    with pytest.raises(type(error)), history.operation("a", Put("x", 1)):
        raise error
    assert [op.outcome for op in history.operations()] == [outcome]


def test_a_block_that_says_how_it_went_is_believed() -> None:
    history = History()
    with history.operation("a", Get("x")) as recording:
        recording.ok(3)
    with history.operation("a", Put("x", 4)) as recording:
        recording.fail()
    with history.operation("a", Put("x", 5)) as recording:
        recording.unknown()

    def fails_afterwards() -> None:
        with history.operation("a", Get("x")) as recording:
            recording.ok(5)
            raise OutcomeUnknown

    with pytest.raises(OutcomeUnknown):
        fails_afterwards()
    outcomes = [(op.outcome, op.result) for op in history.operations()]
    assert outcomes == [(OK, 3), (FAILED, None), (UNKNOWN, None), (OK, 5)]


def test_a_block_that_says_nothing_is_a_mistake() -> None:
    history = History()
    with (
        pytest.raises(HistoryError, match="nobody said how"),
        history.operation("a", Put("x", 1)),
    ):
        pass


async def test_a_cancelled_operation_is_unknown(autojump_clock: trio.abc.Clock) -> None:
    history = History()
    with trio.move_on_after(1), history.operation("a", Put("x", 1)):
        await trio.sleep_forever()
    assert [op.outcome for op in history.operations()] == [UNKNOWN]


def test_threads_may_record_at_once() -> None:
    history = History()
    register = [0]
    guard = threading.Lock()

    def work(client: str) -> None:
        for _ in range(200):
            with history.operation(client, Counter.Add()) as recording:
                with guard:
                    register[0] += 1
                    result = register[0]
                recording.ok(result)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times = [at for op in history.operations() for at in (op.called_at, op.returned_at)]
    assert sorted(at or 0 for at in times) == list(range(1, 1601))
    assert check_linearizable(history, Counter())


values = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.text())
keys = st.text(max_size=4)
RECORDED: list[tuple[Model[Any], st.SearchStrategy[Any], st.SearchStrategy[Any]]] = [
    (KeyValue(), st.builds(Get, keys), values),
    (KeyValue(), st.builds(KeyValue.CompareAndSet, keys, values, values), st.booleans()),
    (KeyValue(), st.builds(KeyValue.Append, keys, st.text()), st.none()),
    (KeyValue(), st.builds(KeyValue.Delete, keys), st.none()),
    (Register(), st.builds(Register.Write, values), st.none()),
    (Counter(), st.builds(Counter.Add, st.integers(-9, 9)), st.integers(-9, 9)),
    (Queue(), st.just(Queue.Dequeue()), values),
    (Lock(), st.builds(Lock.Release, st.text()), st.booleans()),
]


@pytest.mark.parametrize(
    ("model", "calls", "results"), RECORDED, ids=[each[0].name for each in RECORDED]
)
def test_a_history_comes_out_of_a_file_as_it_went_in(
    model: Model[Any],
    calls: st.SearchStrategy[object],
    results: st.SearchStrategy[object],
    tmp_path: Path,
) -> None:
    times = st.tuples(st.integers(0, 9), st.integers(10, 19) | st.floats(10, 19))
    ended = st.builds(
        lambda client, call, at, result: Operation(client, call, at[0], at[1], OK, result),
        *(st.text(), calls, times, results),
    )
    others = st.builds(
        lambda client, call, outcome: Operation(client, call, 0.5, 7, outcome),
        *(st.text(), calls, st.sampled_from([FAILED, UNKNOWN])),
    )

    @given(
        st.lists(ended | others | st.builds(Operation, st.text(), calls, st.just(3)), max_size=5)
    )
    @settings(quietly, max_examples=20)
    def returns(operations: list[Operation]) -> None:
        save_history(tmp_path / "history", operations, model)
        loaded, its_model = load_history(tmp_path / "history")
        assert loaded == operations
        assert type(its_model) is type(model)

    returns()


GOOD = (
    '{"format":"trioraft-history","version":1,"model":"key-value"}\n'
    '{"client":"a","call":{"call":"put","key":"x","value":1},"called_at":1,"outcome":"ok",'
    '"returned_at":2,"result":null}\n'
    '{"client":"b","call":{"call":"get","key":"x"},"called_at":3,"outcome":"ok",'
    '"returned_at":4,"result":1}\n'
)


def test_the_format_stays(tmp_path: Path) -> None:
    """Files that people have kept are read by every later version."""
    kept, again = tmp_path / "kept", tmp_path / "again"
    kept.write_text(GOOD, encoding="utf-8")
    operations, model = load_history(kept)
    assert operations == [
        Operation("a", Put("x", 1), 1, 2, OK, None),
        Operation("b", Get("x"), 3, 4, OK, 1),
    ]
    save_history(again, operations, model)
    assert again.read_text(encoding="utf-8") == GOOD


BAD = {
    "empty": ("", "line 1 is no line of a history"),
    "something else": ("hello\n", "line 1 is no line of a history"),
    "another format": (GOOD.replace("trioraft-", "other-"), "'other-history' of version 1"),
    "another version": (GOOD.replace('"version":1', '"version":2'), "of version 2; this reads"),
    "another model": (GOOD.replace("key-value", "toaster"), "history of 'toaster': give the model"),
    "an unknown call": (GOOD.replace('"call":"get"', '"call":"peek"'), "line 3 is no line"),
    "half a line": (GOOD[:-20], "line 3 is no line"),
    "an answer before its call": (GOOD.replace('"returned_at":4', '"returned_at":2'), "line 3: "),
    "a result that cannot be": (GOOD.replace('"result":1', '"result":[]'), "line 3 is no line"),
    "no UTF-8": (GOOD.replace('"b"', '"\udcff"'), "line 3 is no line"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_what_is_no_history_is_refused_with_its_line(
    content: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "history"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(HistoryError, match=message):
        load_history(path)


def test_a_model_of_ones_own_reads_its_file(tmp_path: Path) -> None:
    class Echo(Model[None]):
        """Answers with what it is asked."""

        name = "echo"
        calls = str
        results = str

        def initial(self) -> None:
            return None

        def apply(self, state: None, call: str) -> tuple[None, str]:
            return None, call

    path = tmp_path / "history"
    operations = [Operation("a", "hello", 0, 1, OK, "hello")]
    save_history(path, operations, Echo())
    with pytest.raises(HistoryError, match="give the model of that name"):
        load_history(path)
    assert load_history(path, Echo())[0] == operations
    with pytest.raises(HistoryError, match="history of 'echo'"):
        load_history(path, Counter())


def test_the_command_says_whether_a_history_is_linearizable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "history"
    path.write_text(GOOD, encoding="utf-8")
    assert main([str(path)]) == 0
    assert capsys.readouterr().out.startswith("linearizable: 2 operations in order")
    path.write_text(GOOD.replace('"result":1', '"result":2'), encoding="utf-8")
    assert main([str(path)]) == 1
    assert "here it would return 1" in capsys.readouterr().out
    path.write_text("hello", encoding="utf-8")
    assert main([str(path)]) == 2
    assert "line 1 is no line of a history" in capsys.readouterr().err
    assert main([str(tmp_path / "nothing")]) == 2
    taken = [Operation("a", Queue.Enqueue(n), 0, 1, OK) for n in range(20)]
    taken += [Operation("b", Queue.Dequeue(), 2, 3, OK, n) for n in [*range(19), 18]]
    save_history(path, taken, Queue())
    assert main([str(path), "--timeout-s", "0.05"]) == 3
    assert "Give it more time" in capsys.readouterr().out


def test_the_command_runs_as_a_module(tmp_path: Path) -> None:
    def draw(rng: object, number: int) -> KeyValue.Put:
        return Put("x", number)

    save_history(tmp_path / "history", simulated(KeyValue(), draw, count=50), KeyValue())
    command = [sys.executable, "-m", "trioraft.testing.linearizability"]
    done = subprocess.run(
        [*command, tmp_path / "history"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("linearizable: 50 operations")
    assert done.stderr == ""
