"""The running checksum of results does not depend on how they were applied."""

from __future__ import annotations

import random
from typing import Any

from trioraft.member.results import RunningChecksum

RESULTS: tuple[Any, ...] = (1, -3, "a", b"x", None, True, 1.5, {3, 1, 2}, [1, {}], 2**70, "\ud800")


def checksum_of(results: list[Any], looked_at: set[int]) -> int | None:
    checksum = RunningChecksum(0, lambda index, value: None)
    for index, result in enumerate(results, 1):
        checksum.add(index, result)
        if index in looked_at:
            assert checksum.value is not None
    return checksum.value


def test_slices_do_not_matter() -> None:
    rng = random.Random(1)
    results = [rng.choice(RESULTS) for _ in range(300)]
    looked_at = [set(rng.sample(range(1, 301), count)) for count in (0, 1, 5, 100, 300)]
    assert len({checksum_of(results, some) for some in looked_at}) == 1


def test_each_result_and_its_place_matter() -> None:
    others: list[list[Any]] = [
        *([], [1], [2], [1, 2], [2, 1], ["1"], [b"1"], [None], [[1]], [2**70], [-(2**70), 1])
    ]
    assert len({checksum_of(results, set()) for results in others}) == len(others)


def test_what_changes_later_counts_as_it_was() -> None:
    result: list[int] = []
    checksum = RunningChecksum(0, lambda index, value: None)
    checksum.add(1, result)
    result.append(1)
    assert checksum.value == checksum_of([[]], set())
