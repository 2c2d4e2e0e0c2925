"""Whose disk a node has, seen from outside."""

from __future__ import annotations

import random

from trio.testing import MockClock

from tests.support import open_single
from trioraft import MemoryStorage


async def test_the_same_seed_does_not_make_two_disks_one(autojump_clock: MockClock) -> None:
    """Found by an id that was opened again with a fresh storage and the seed that it had before:
    the numbers of both were the same, and old configurations named the new disk (hazard I1)."""
    numbers = []
    for _ in range(2):
        async with open_single(storage=MemoryStorage(), rng=random.Random("0")) as node:
            raft = node._runner.raft
            assert raft is not None
            numbers.append(raft.disk)
    assert numbers[0] != numbers[1]
