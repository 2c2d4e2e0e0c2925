"""The key-value state machine by itself: commands in, results out."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterable

import pytest

from tests.kv.told import Told
from trioraft import ConfigError
from trioraft.kv import (
    Change,
    Found,
    KvMachine,
    Page,
    Pair,
    Swapped,
    ValueTooLarge,
    Written,
    commands,
    history,
    machine,
    snapshot,
)
from trioraft.kv.commands import (
    Append,
    Cas,
    Changed,
    Changes,
    Compacted,
    Delete,
    Get,
    Put,
    Range,
    encode,
)
from trioraft.machines.sessions import SessionMachine, UnknownCommand, encode_plain


def recut(chunks: Iterable[bytes], size: int) -> list[bytes]:
    content = b"".join(chunks)
    return [content[start : start + size] for start in range(0, len(content), size)]


# -- commands ------------------------------------------------------------------------------


def test_put_tells_what_was_there() -> None:
    told = Told()
    assert told.do(Put(b"k", b"1", wants_previous=True)) == Written(1, False, None, 1, 1)
    assert told.do(Put(b"k", b"2", wants_previous=True)) == Written(2, True, b"1", 1, 2)
    assert told.do(Put(b"k", b"3")) == Written(3, True, None, 1, 3)
    assert told.ask(Get(b"k")) == Found(3, b"3", 3, 1, 3)
    assert told.ask(Get(b"other")) == Found(3, None, 0)


def test_append_to_what_is_there_and_to_nothing() -> None:
    told = Told()
    assert told.do(Append(b"k", b"a", wants_previous=True)) == Written(1, False, None, 1, 1)
    assert told.do(Append(b"k", b"b", wants_previous=True)) == Written(2, True, b"a", 1, 2)
    assert told.ask(Get(b"k")) == Found(2, b"ab", 2, 1, 2)


def test_append_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "VALUE_BYTES_MAX", 4)
    told = Told()
    told.do(Append(b"k", b"abcd"))
    with pytest.raises(ValueTooLarge, match="makes 5; at most 4"):
        told.do(Append(b"k", b"e"))
    assert told.ask(Get(b"k")) == Found(2, b"abcd", 1, 1, 1)


def test_compare_and_set() -> None:
    told = Told()
    assert told.do(Cas(b"k", b"1", b"2")) == Swapped(1, False, None)
    assert told.do(Cas(b"k", None, b"1")) == Swapped(2, True, None, 2, 2, 1)
    assert told.do(Cas(b"k", None, b"x")) == Swapped(3, False, b"1", 2, 2, 1)
    assert told.do(Cas(b"k", b"1", b"2")) == Swapped(4, True, b"1", 4, 2, 2)
    assert told.ask(Get(b"k")) == Found(4, b"2", 4, 2, 2)


def test_delete() -> None:
    told = Told()
    told.do(Put(b"k", b"1"))
    assert told.do(Delete(b"k", wants_previous=True)) == Written(2, True, b"1")
    assert told.do(Delete(b"k", wants_previous=True)) == Written(3, False, None)
    assert told.ask(Get(b"k")) == Found(3, None, 0)
    assert told.machine.keys_count == 0


@pytest.mark.parametrize(
    "data", [b"", b"\x02" + encode(Put(b"k", b"v"))[1:], b"\x01\x93\x63", b"\x01garbage"]
)
def test_what_cannot_be_read_is_refused_and_changes_nothing(data: bytes) -> None:
    told = Told()
    told.do(Put(b"k", b"v"))
    with pytest.raises(UnknownCommand):
        told.machine.apply(2, data)
    with pytest.raises(UnknownCommand):
        told.machine.query(data)
    assert told.pairs() == [(b"k", b"v")]


def test_a_key_or_value_that_is_too_long_is_refused() -> None:
    told = Told()
    with pytest.raises(UnknownCommand, match="length"):
        told.do(Put(bytes(commands.KEY_BYTES_MAX + 1), b""))
    with pytest.raises(UnknownCommand, match="length"):
        told.do(Put(b"", bytes(commands.VALUE_BYTES_MAX + 1)))
    assert told.machine.keys_count == 0


# -- range ---------------------------------------------------------------------------------


def test_range_by_prefix_in_order() -> None:
    told = Told()
    for key in (b"b/2", b"a", b"b/1", b"b", b"c", b"b/"):
        told.do(Put(key, b"=" + key))
    assert told.pairs(prefix=b"b/") == [(b"b/", b"=b/"), (b"b/1", b"=b/1"), (b"b/2", b"=b/2")]
    assert [key for key, _ in told.pairs()] == sorted([b"b/2", b"a", b"b/1", b"b", b"c", b"b/"])
    assert told.pairs(prefix=b"d") == []


def test_pages_follow_each_other_without_gap_or_overlap() -> None:
    told = Told()
    keys = [b"k%03d" % number for number in range(25)]
    for key in [*keys, b"l"]:
        told.do(Put(key, b"v"))
    found: list[bytes] = []
    after = None
    while True:
        page = told.ask(Range(b"k", after, items_max=10))
        assert isinstance(page, Page)
        found += [pair.key for pair in page.pairs]
        if not page.has_more:
            break
        after = found[-1]
    assert found == keys


def test_a_page_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "ANSWER_BYTES_MAX", 100)
    told = Told()
    for number in range(10):
        told.do(Put(b"%d" % number, bytes(60)))
    page = told.ask(Range())
    assert isinstance(page, Page)
    assert (len(page.pairs), page.has_more) == (2, True)
    assert page.pairs[0] == Pair(b"0", bytes(60), 1, 1, 1)


# -- watching ------------------------------------------------------------------------------


def test_changes_from_an_index_on() -> None:
    told = Told()
    told.do(Put(b"a", b"1"))
    told.do(Put(b"b", b"2"))
    told.do(Append(b"a", b"3"))
    told.do(Delete(b"a"))
    told.do(Delete(b"a"))  # changes nothing
    told.do(Cas(b"b", b"x", b"y"))  # nor does this
    changed = told.ask(Changes(2))
    first, second, third = (
        Change(2, b"b", b"2", created_index=2, version=1),
        Change(3, b"a", b"13", created_index=1, version=2),
        Change(4, b"a", None, created_index=1),
    )
    assert changed == Changed((first, second, third), 7)
    assert told.ask(Changes(2, b"a")) == Changed((second, third), 7)
    assert told.ask(Changes(100)) == Changed((), 100)


def test_changes_come_in_pages() -> None:
    told = Told()
    for number in range(25):
        told.do(Put(b"k", b"%d" % number))
    index, found = 1, []
    while index <= told.index:
        changed = told.ask(Changes(index, changes_max=10))
        assert isinstance(changed, Changed)
        found += [change.value for change in changed.changes]
        index = changed.next_index
    assert found == [b"%d" % number for number in range(25)]


def test_a_query_scans_a_bounded_number_of_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SCANNED_MAX", 10)
    told = Told()
    for _ in range(25):
        told.do(Put(b"noise", b""))
    told.do(Put(b"wanted", b""))
    assert told.ask(Changes(1, b"wanted")) == Changed((), 11)
    assert told.ask(Changes(21, b"wanted")) == Changed(
        (Change(26, b"wanted", b"", created_index=26, version=1),), 27
    )


@pytest.mark.parametrize("bounds", [{"changes_max": 10}, {"changes_bytes_max": 10 * 3}])
def test_changes_that_are_gone_are_never_skipped_in_silence(bounds: dict[str, int]) -> None:
    told = Told(KvMachine(**bounds))
    for number in range(1000):
        told.do(Put(b"k", b"%d" % (number % 10)))
    assert told.machine.changes_bytes == 10 * 3
    assert told.ask(Changes(990)) == Compacted(991)
    changed = told.ask(Changes(991))
    assert isinstance(changed, Changed)
    assert [change.index for change in changed.changes] == list(range(991, 1001))


def test_the_values_of_dropped_changes_are_let_go() -> None:
    kept = history.ChangeHistory(changes_max=10_000, bytes_max=100_000)
    tracemalloc.start()
    try:
        for number in range(1, 1_001):
            kept.add(Change(number, b"k", bytes(10_000)))
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept.held_bytes <= 100_000
    assert held_bytes < 1_000_000


# -- snapshots -----------------------------------------------------------------------------


def grown(seed: int, commands_count: int = 2000) -> Told:
    rng = random.Random(seed)
    told = Told(KvMachine(changes_max=100))
    for _ in range(commands_count):
        key = b"%d" % rng.randrange(500)
        value = rng.randbytes(rng.randrange(200))
        choices = (Put(key, value), Append(key, value), Delete(key), Cas(key, None, value))
        told.do(rng.choice(choices))
    return told


@pytest.mark.parametrize("cut", [1, 7, 4096, 10_000_000])
def test_a_snapshot_brings_everything_back(cut: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "PART_BYTES", 1000)
    told = grown(1, 300 if cut == 1 else 2000)
    restored = Told(KvMachine(changes_max=100))
    restored.do(Put(b"gone", b"afterwards"))
    restored.machine.restore(recut(told.machine.snapshot(), cut))
    restored.index = told.index
    assert restored.pairs() == told.pairs()
    assert b"".join(restored.machine.snapshot()) == b"".join(told.machine.snapshot())
    oldest = told.ask(Changes(0))
    assert restored.ask(Changes(0)) == oldest == Compacted(oldest.oldest_index)
    assert restored.do(Put(b"k", b"v")) == told.do(Put(b"k", b"v"))


def test_a_snapshot_is_a_view_that_later_commands_do_not_change() -> None:
    told, twin = grown(2), grown(2)
    chunks = told.machine.snapshot()
    begun = [next(iter(chunks))]
    for number in range(500):
        told.do(Delete(b"%d" % number))
        told.do(Put(b"new %d" % number, b""))
    assert b"".join([*begun, *chunks]) == b"".join(twin.machine.snapshot())


def test_a_restore_that_fails_leaves_all_as_it_was() -> None:
    told = grown(3)
    before = b"".join(told.machine.snapshot())
    for content in (b"", b"something else", before[:-100], before.replace(b"kv\n", b"kv!")):
        with pytest.raises(ConfigError):
            told.machine.restore([content])
    assert b"".join(told.machine.snapshot()) == before


def test_results_survive_a_session() -> None:
    sessions = SessionMachine(
        KvMachine(), result_type=commands.Result, error_types=[ValueTooLarge, UnknownCommand]
    )
    result = sessions.apply(1, encode_plain(encode(Put(b"k", b"v"))))
    assert result == Written(1, False, None, 1, 1)
