"""One node's disk is full again and again: nothing is lost, nothing half is there."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from tests.thorough import tries
from trioraft.core.errors import DiskFull

from .support import content, open_storage
from .test_shared_full import ROOM_AFTER, STEPS, Model
from .test_sqlite_disk_full import small_disk

__all__ = ["small_disk"]  # a fixture

ROUNDS = tries(8)


def one_round(disk: Path, copy: Path, seed: int) -> int:
    """Returns how often there was no room."""
    rng = random.Random(seed)
    ballast = disk / "ballast"
    ballast.write_bytes(b"x" * rng.randint(300_000, 1_200_000))
    storage, _ = open_storage(disk / "one")
    model = Model(storage, "one")
    full = 0
    for step in range(STEPS):
        count = rng.choice([1, 40, 300, 900])
        try:
            model.append(count, step + 1)
        except DiskFull:
            full += 1
        else:
            model.appended(count, step + 1)
        if rng.random() < 0.15 and not full:
            full += not model.compact()
        if full > ROOM_AFTER:
            ballast.unlink(missing_ok=True)
        if full > 4 * ROOM_AFTER:
            break
    is_killed = rng.random() < 0.5
    if not is_killed:
        storage.close()
    shutil.copytree(disk / "one", copy)
    storage.close()
    found = content(copy)
    assert found is not None
    model.check(found)
    shutil.rmtree(copy)
    shutil.rmtree(disk / "one")
    ballast.unlink(missing_ok=True)
    return full


def test_full_again_and_again(small_disk: Path, tmp_path: Path) -> None:
    full = 0
    for seed in range(ROUNDS):
        print("seed", seed)
        full += one_round(small_disk, tmp_path / "copy", seed)
    assert full > ROUNDS
