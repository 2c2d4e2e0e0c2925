"""A disk that many groups share is full again and again: nothing is lost, nothing half is there."""

from __future__ import annotations

import random
import shutil
from functools import partial
from pathlib import Path

import attrs

from tests.thorough import tries
from trioraft import SharedLog
from trioraft.core.errors import DiskFull
from trioraft.core.types import HardState, Recovered
from trioraft.protocols import Storage

from .shared import GROUPS, content, entries_of, open_group, open_shared
from .support import VOTERS
from .test_sqlite_disk_full import small_disk

__all__ = ["small_disk"]  # a fixture

ROUNDS = tries(8)
STEPS = 60
ROOM_AFTER = 6
"""So often it is full before there is room."""


@attrs.define
class Model:
    """What a group holds, by what it was told."""

    storage: Storage
    group: str
    last: int = 0
    term: int = 0
    base: int = 0

    def append(self, count: int, term: int) -> None:
        entries = entries_of(self.group, self.last + 1, count)
        self.storage.append(HardState(term, self.group), entries, self.last + 1)

    def appended(self, count: int, term: int) -> None:
        self.last, self.term = self.last + count, term

    def compact(self) -> bool:
        """Returns whether there was room for it."""
        if self.last > self.base:
            try:
                self.storage.write_snapshot(self.last, 1, VOTERS, [b"x" * 100])
                self.storage.compact(self.last, 1)
            except DiskFull:
                return False
            self.base = self.last
        return True

    def check(self, found: Recovered | str) -> None:
        assert isinstance(found, Recovered)
        assert found.base_index == self.base
        assert found.entries == tuple(entries_of(self.group, self.base + 1, self.last - self.base))
        assert found.hard_state == (HardState(self.term, self.group) if self.term else HardState())


def append_some(shared: SharedLog, models: list[Model], rng: random.Random, term: int) -> int:
    """Append to some, together or one after the other. Returns how many found no room."""
    chosen = rng.sample(models, rng.randint(1, len(models)))
    calls = [(model, rng.choice([1, 1, 5, 40, 300])) for model in chosen]
    if rng.random() < 0.6:
        outcomes = shared.write_together([partial(model.append, n, term) for model, n in calls])
    else:
        outcomes = []
        for model, count in calls:
            try:
                model.append(count, term)
                outcomes.append(None)
            except DiskFull as error:
                outcomes.append(error)
    for (model, count), outcome in zip(calls, outcomes, strict=True):
        assert outcome is None or isinstance(outcome, DiskFull)
        if outcome is None:
            model.appended(count, term)
    return sum(outcome is not None for outcome in outcomes)


def one_round(disk: Path, copy: Path, seed: int) -> int:
    rng = random.Random(seed)
    ballast = disk / "ballast"
    ballast.write_bytes(b"x" * rng.randint(300_000, 1_200_000))
    shared = open_shared(disk / "shared")
    models = [Model(open_group(shared, group)[0], group) for group in GROUPS]
    full = 0
    for step in range(STEPS):
        full += append_some(shared, models, rng, step + 1)
        if rng.random() < 0.15 and not full:
            full += not rng.choice(models).compact()
        if full > ROOM_AFTER:
            ballast.unlink(missing_ok=True)
        if full > 4 * ROOM_AFTER:
            break
    is_killed = rng.random() < 0.5
    if not is_killed:
        shared.close()
    shutil.copytree(disk / "shared", copy)
    shared.close()
    found = content(copy)
    for model in models:
        model.check(found[model.group])
    shutil.rmtree(copy)
    shutil.rmtree(disk / "shared")
    ballast.unlink(missing_ok=True)
    return full


def test_full_again_and_again(small_disk: Path, tmp_path: Path) -> None:
    full = 0
    for seed in range(ROUNDS):
        print("seed", seed)
        full += one_round(small_disk, tmp_path / "copy", seed)
    assert full > ROUNDS
