"""SortedMap against a dict, and views that stay as they were."""

from __future__ import annotations

import random

import pytest

from trioraft.kv.sorted_map import CHUNK_PAIRS_MAX, SortedMap


def some_key(rng: random.Random) -> bytes:
    return b"%05d" % rng.randrange(3000)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_a_dict_in_order(seed: int) -> None:
    rng = random.Random(seed)
    model: dict[bytes, int] = {}
    tested: SortedMap[int] = SortedMap()
    views = []
    for step in range(12_000):
        key = some_key(rng)
        # Growing first, shrinking later: chunks are split, and become empty.
        if rng.random() < (0.8 if step < 6_000 else 0.2):
            model[key] = step
            tested.set(key, step)
        else:
            model.pop(key, None)
            tested.delete(key)
        if step % 1000 == 0:
            views.append((tested.view(), sorted(model.items())))
        probe = some_key(rng)
        assert tested.get(probe) == model.get(probe)
        assert len(tested) == len(model)
    start = some_key(rng)
    assert list(tested.items_from(b"")) == sorted(model.items())
    assert list(tested.items_from(start)) == [p for p in sorted(model.items()) if p[0] >= start]
    for view, content in views:
        assert len(view) == len(content)
        assert list(view.items()) == content


def test_chunks_are_never_too_large() -> None:
    tested: SortedMap[int] = SortedMap()
    for number in range(5 * CHUNK_PAIRS_MAX):
        tested.set(b"%05d" % number, number)
    assert max(len(chunk.keys) for chunk in tested._chunks) <= CHUNK_PAIRS_MAX


@pytest.mark.parametrize("each", [1, 3, 256, 1000])
def test_made_of_pairs(each: int) -> None:
    pairs = [(b"%05d" % number, number) for number in range(1000)]
    tested = SortedMap([pairs[start : start + each] for start in range(0, 1000, each)])
    assert [len(chunk.keys) for chunk in tested._chunks] == [256, 256, 256, 232]
    assert list(tested.items_from(b"")) == pairs
    assert tested.get(b"00999") == 999
    assert tested.get(b"") is None
    tested.set(b"", -1)
    assert next(tested.items_from(b"")) == (b"", -1)


def test_an_empty_one() -> None:
    tested: SortedMap[int] = SortedMap()
    tested.delete(b"x")
    assert tested.get(b"x") is None
    assert list(tested.items_from(b"")) == []
    assert list(tested.view().items()) == []


def test_no_chunk_is_empty() -> None:
    keys = [b"%05d" % number for number in range(3 * CHUNK_PAIRS_MAX)]
    tested = SortedMap([[(key, 0) for key in keys]])
    for key in keys[:-1]:
        tested.delete(key)
        assert all(chunk.keys for chunk in tested._chunks)
        assert tested._firsts == [chunk.keys[0] for chunk in tested._chunks]
    assert list(tested.items_from(b"")) == [(keys[-1], 0)]
