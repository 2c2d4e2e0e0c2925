"""Views of a dict: what they hold, and that nobody who uses the dict can tell."""

from __future__ import annotations

import gc
import itertools
import random
import threading
import weakref
from collections.abc import Callable, Generator, Iterator
from typing import Any, cast

import msgspec
import pytest

from trioraft.core.errors import InvariantViolation
from trioraft.machines import viewed
from trioraft.machines.viewed import DictView, Discarded, ViewedDict, ViewedDictOfMutable

SEEDS = range(25)
STEPS = 300


def encode(keys: list[Any], values: list[Any]) -> bytes:
    """Some pairs, as msgpack without a head."""
    return b"".join(msgspec.msgpack.encode(pair) for pair in zip(keys, values, strict=True))


def content(view: DictView[Any]) -> bytes:
    """All pairs of a view."""
    return b"".join(view.pieces(encode))


def expected(entries: dict[Any, Any]) -> bytes:
    """The same of a dict."""
    return encode(list(entries), list(entries.values()))


def freeze(value: Any) -> Any:
    """A value that can be changed, as it is."""
    return msgspec.Raw(msgspec.msgpack.encode(value))


def pairs_that_look_at(entries: dict[int, Any], keys: list[int]) -> Iterator[tuple[int, Any]]:
    """What counts how often each key comes, in what is being updated."""
    for key in keys:
        yield key, [*(entries.get(key) or [])[:3], key]


def changes(rng: random.Random, entries: dict[int, Any]) -> list[Callable[[dict[int, Any]], Any]]:
    """Ways to change or to read a dict, with their arguments drawn."""
    key, other, value = rng.randrange(40), rng.randrange(40), [rng.randrange(9)]
    some = [rng.randrange(40) for _ in range(5)]

    def set_it(d: dict[int, Any]) -> None:
        d[key] = list(value)

    def delete(d: dict[int, Any]) -> None:
        del d[key]

    def grow(d: dict[int, Any]) -> None:
        d[key].append(7)

    def grow_all(d: dict[int, Any]) -> int:
        for held in d.values():
            held.append(1)
        return len(d)

    def merge(d: dict[int, Any]) -> None:
        d |= {key: [1], other: [2]}

    def first(d: dict[int, Any]) -> Any:
        return next(iter(d.items()), None)

    def while_iterating(d: dict[int, Any]) -> None:
        for held in d:
            d.pop(held)

    def copied(d: dict[int, Any]) -> Any:
        for held in dict(d).values():
            held.append(3)
        return {**d} == d.copy() == d | {}

    return [
        set_it,
        set_it,
        delete,
        grow,
        grow,
        grow_all,
        merge,
        first,
        while_iterating,
        copied,
        lambda d: d.pop(key),
        lambda d: d.pop(key, None),
        lambda d: d.popitem(),
        lambda d: d.setdefault(key, list(value)).append(2),
        lambda d: d.update({key: [4], other: [5]}),
        lambda d: d.update([(key, [4]), (other, [5])]),
        lambda d: d.update([(key, [4]), (other, [5], "too long")]),
        lambda d: d.update([(key, [4]), 5, (other, [5])]),
        lambda d: d.update(pairs_that_look_at(d, some)),
        lambda d: d.clear() if rng.random() < 0.1 else None,
        lambda d: list(reversed(d.items())) + list(reversed(d.values())),
        lambda d: (key, [4]) in d.items(),
        lambda d: key in d.items(),
        lambda d: repr(d) + repr(d.values()) + repr(d.items()),
        lambda d: d.items().mapping == d.values().mapping == d,
        lambda d: sorted(d.items()),
        lambda d: d.get(key),
    ]


def outcome_of(change: Callable[[dict[int, Any]], Any], entries: dict[int, Any]) -> Any:
    """What it returned or raised."""
    try:
        return change(entries)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
        return type(error), str(error)


@pytest.mark.parametrize("seed", SEEDS)
def test_s7_a_view_holds_what_there_was_and_the_dict_behaves_as_any(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    print("seed", seed)
    rng = random.Random(seed)
    monkeypatch.setattr(viewed, "CHUNK_KEYS", 8)
    monkeypatch.setattr(viewed, "STALE_MIN", rng.choice([4, 1000]))
    plain: dict[int, Any] = {key: [key] for key in range(rng.randrange(30))}
    ours: ViewedDict[int, Any] = ViewedDictOfMutable(
        {key: list(value) for key, value in plain.items()}, freeze
    )
    open_views: list[tuple[Iterator[bytes], list[bytes], bytes]] = []
    for _ in range(STEPS):
        place = rng.randrange(100_000)
        rngs = random.Random(place), random.Random(place)
        theirs = changes(rngs[0], plain)
        mine = changes(rngs[1], ours)
        number = rng.randrange(len(theirs))
        assert outcome_of(mine[number], ours) == outcome_of(theirs[number], plain)
        assert list(ours.items()) == list(plain.items())
        if rng.random() < 0.1:
            view = ours.view()
            assert len(view) == len(plain)
            open_views.append((view.pieces(encode), [], expected(plain)))
            if rng.random() < 0.2:
                open_views.pop()  # nobody goes through it
        for pieces, read, whole in list(open_views):
            if rng.random() < 0.3:
                piece = next(pieces, None)
                if piece is not None:
                    read.append(piece)
                    continue
                assert b"".join(read) == whole
                open_views.remove((pieces, read, whole))
    for pieces, read, whole in open_views:
        assert b"".join([*read, *pieces]) == whole
    assert content(ours.view()) == expected(plain)


def test_what_is_gone_through_leaves_no_key_twice_and_nothing_put_aside() -> None:
    entries: ViewedDict[int, int] = ViewedDict({key: key for key in range(1000)})
    for key in range(1000):
        entries[key] = entries.pop(key)
    view = entries.view()
    entries.pop(5)
    assert content(view) == encode(list(range(1000)), list(range(1000)))
    entries[5] = 5
    entries[6] = 7
    assert sum(map(len, entries._chunks)) == 1001  # 5 stands there once in vain
    assert entries._views == ()
    again = entries.view()
    assert content(again) == expected(dict(entries))


def test_a_view_that_nobody_wants_any_more_has_nothing_put_aside() -> None:
    entries: ViewedDict[int, int] = ViewedDict({1: 1, 2: 2})
    view, other = entries.view(), entries.view()
    pieces = other.pieces(encode)
    next(pieces)
    cast("Generator[bytes, None, None]", pieces).close()
    del view
    entries[1] = 5
    assert entries._views == ()


def test_a_piece_has_a_bounded_number_of_entries_and_fewer_if_they_are_large() -> None:
    counts: list[int] = []

    def counted(keys: list[Any], values: list[Any]) -> bytes:
        counts.append(len(keys))
        return encode(keys, values)

    small: ViewedDict[int, bytes] = ViewedDict(dict.fromkeys(range(10_000), b"x"))
    list(small.view().pieces(counted))
    assert max(counts) == viewed.PIECE_ENTRIES_MAX
    assert sum(counts) == 10_000
    counts.clear()
    large: ViewedDict[int, bytes] = ViewedDict(dict.fromkeys(range(100), bytes(50_000)))
    sizes = list(map(len, large.view().pieces(counted)))
    assert sum(counts) == 100
    assert max(counts[1:]) == 1
    assert max(sizes[1:]) < 2 * viewed.PIECE_BYTES


def test_a_dict_that_was_cleared_is_in_the_view_as_it_was() -> None:
    entries: ViewedDict[int, int] = ViewedDict({key: key for key in range(2000)})
    view = entries.view()
    entries[3] = 33
    pieces = view.pieces(encode)
    read = [next(pieces)]
    entries.clear()
    entries.update({key: -key for key in range(2000)})
    entries[1999] = 5
    entries.clear()
    assert b"".join([*read, *pieces]) == encode(list(range(2000)), list(range(2000)))


def test_a_change_behind_its_back_is_noticed() -> None:
    entries: ViewedDict[int, int] = ViewedDict({1: 1, 2: 2})
    dict.__setitem__(entries, 3, 3)
    assert content(entries.view()) == encode([1, 2, 3], [1, 2, 3])
    view = entries.view()
    dict.__delitem__(entries, 2)
    with pytest.raises(InvariantViolation, match="other ways than its own methods"):
        content(view)


def test_s7_a_view_is_gone_through_in_a_thread_while_everything_changes() -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    rng = random.Random(seed)
    entries: ViewedDict[int, Any] = ViewedDictOfMutable(
        {key: [key] for key in range(20_000)}, freeze
    )
    for _ in range(3):
        whole, view, found = expected(dict(entries)), entries.view(), list[bytes]()
        thread = threading.Thread(target=lambda view=view, found=found: found.append(content(view)))
        thread.start()
        while thread.is_alive():
            key = rng.randrange(30_000)
            if key in entries and rng.random() < 0.3:
                entries.pop(key)
            else:
                entries.setdefault(key, [key]).append(rng.random())
        thread.join()
        assert found == [whole]


def test_what_was_replaced_goes_bit_by_bit_but_not_what_somebody_has() -> None:
    discarded = Discarded(each=3)
    entries: ViewedDict[int, object] = ViewedDict({key: object() for key in range(7)})
    view = entries.view()
    items = [Held() for _ in range(7)]
    gone = [weakref.ref(item) for item in items]
    discarded.add(entries, items, [1, 2])
    del entries, items
    left = []
    for _ in range(3):
        discarded.let_go()
        left.append(sum(held() is not None for held in gone))
    assert left == [4, 1, 0]
    discarded.let_go()
    assert len(view) == 7
    assert discarded  # a view of it is open
    del view
    discarded.let_go()
    kept = dict.fromkeys(range(9))
    discarded.add(kept)
    discarded.let_go()
    assert len(kept) == 9
    for _ in range(5):  # the last ones let go of its chunk of keys
        discarded.let_go()
    assert not discarded


def test_the_keys_of_what_was_replaced_go_bit_by_bit_too() -> None:
    discarded = Discarded(each=300)
    keys = [Held() for _ in range(1000)]
    gone = [weakref.ref(key) for key in keys]
    entries: ViewedDict[Held, None] = ViewedDict(dict.fromkeys(keys))
    discarded.add(entries)
    del entries, keys
    left = [1000]
    while discarded:
        discarded.let_go()
        left.append(sum(held() is not None for held in gone))
    assert max(before - after for before, after in itertools.pairwise(left)) <= 300
    assert left[-1] == 0


def renamed(entries: dict[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """What takes out what it gives back under another name."""
    for key in list(entries):
        yield key // 2, entries.pop(key)


def moved(entries: dict[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """What changes more than it gives."""
    yield 100, [1]
    entries[101] = [2]
    entries.pop(1)


class Watched(dict[Any, Any]):
    """A dict that changes another one while it is read."""

    def __init__(self, entries: dict[Any, Any]) -> None:
        super().__init__()
        self.entries = entries

    def keys(self) -> Any:
        self.entries.pop(2)
        return [7, 8]

    def __getitem__(self, key: Any) -> Any:
        self.entries.pop(key - 6)
        return [key]

    def __iter__(self) -> Iterator[Any]:
        return iter([7, 8])


@pytest.mark.parametrize("what", [renamed, moved, Watched])
@pytest.mark.parametrize("size", [3, 4, 40])
def test_s7_an_update_by_what_changes_the_dict_is_as_of_any(
    what: Callable[[dict[Any, Any]], Any], size: int
) -> None:
    plain = {key: [key] for key in range(size)}
    ours: ViewedDict[int, Any] = ViewedDictOfMutable({key: [key] for key in range(size)})
    before, view = expected(plain), ours.view()
    assert outcome_of(lambda d: d.update(what(d)), ours) == outcome_of(
        lambda d: d.update(what(d)), plain
    )
    assert list(ours.items()) == list(plain.items())
    assert content(view) == before
    assert sum(map(len, ours._chunks)) - ours._gone == len(plain)  # nothing is missing there
    assert content(ours.view()) == expected(plain)


def test_s7_a_view_taken_while_another_is_let_go_of_knows_what_is_stale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The other is gone through in a thread, and ends just when this one has looked whether it is
    over."""
    entries: ViewedDict[int, int] = ViewedDict({key: key for key in range(50)})
    for key in range(50):
        entries[key] = entries.pop(key)
    first = entries.view()
    looks = 0

    def forget_views() -> None:
        nonlocal looks
        forget(entries)
        looks += 1
        if looks == 1:
            content(first)

    forget = ViewedDict._forget_views
    monkeypatch.setattr(ViewedDict, "_forget_views", lambda _: forget_views())
    assert content(entries.view()) == expected(dict(entries))


def test_a_dict_made_by_one_has_its_values_put_aside_too() -> None:
    first: ViewedDict[int, Any] = ViewedDictOfMutable({1: [1]}, freeze)
    for entries in (first.fromkeys([1, 2]), type(first)({1: [5], 2: [5]})):
        assert isinstance(entries, ViewedDictOfMutable)
        entries[1] = [1]
        before, view = expected(entries), entries.view()
        entries[1].append(2)
        assert content(view) == before


def test_what_could_not_be_put_aside_is_not_written_as_what_it_has_become() -> None:
    entries: ViewedDict[int, Any] = ViewedDictOfMutable({1: [1, object()]})
    view = entries.view()
    entries[1].pop()
    with pytest.raises(TypeError, match="_Unencodable"):
        content(view)


def tracked_in(entries: ViewedDict[Any, Any]) -> list[object]:
    """What the collector looks into, of what grows with the dict."""
    return [each for each in (entries, *entries._chunks) if gc.is_tracked(each)]


def test_the_collector_looks_into_no_dict_of_what_cannot_change() -> None:
    entries: ViewedDict[int, Any] = ViewedDict({key: str(key) for key in range(10_000)})
    assert tracked_in(entries) == []
    entries[1] = (object(), [])  # the collector knows such a tuple, and so would look for it
    entries.update({key: (object(), []) for key in range(5_000, 15_000)})
    entries.setdefault(20_000, (object(), []))
    for key in range(3_000):
        del entries[key]
    view = entries.view()
    entries[30_000] = "x"
    list(view.pieces(lambda keys, values: b"x"))
    entries[3_000] = "y"
    entries.view()
    assert tracked_in(entries) == []


def test_what_the_collector_does_not_look_into_goes_all_the_same() -> None:
    held, owner = Held(), Held()
    gone = [weakref.ref(held), weakref.ref(owner)]
    entries: ViewedDict[int, Any] = ViewedDict({1: held})
    owner.has = owner, entries
    view = entries.view()
    del held, owner, entries, view
    gc.collect()
    assert [each() for each in gone] == [None, None]


def test_the_collector_looks_into_a_dict_that_may_be_in_a_cycle() -> None:
    entries: ViewedDict[int, Any] = ViewedDictOfMutable({1: Held()})
    gone = weakref.ref(entries[1])
    entries[1].has = entries
    del entries
    gc.collect()
    assert gone() is None


class Held:
    """Something of which is known whether it is still there."""

    has: Any = None
