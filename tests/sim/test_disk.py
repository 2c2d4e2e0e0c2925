"""The simulated disk: what it comes back with after a crash."""

from __future__ import annotations

import random
import zlib

import pytest

from trioraft import Configuration, CorruptStorage, Entry
from trioraft.core.ready import SnapshotChunk, Write
from trioraft.core.types import HardState, Recovered, SnapshotMeta
from trioraft.sim.disk import Disk, Fate

ONE = Configuration(("0",))


def written(disk: Disk, write: Write) -> Disk:
    disk.begin(write)
    disk.sync()
    return disk


@pytest.mark.parametrize("fate", list(Fate))
@pytest.mark.parametrize("seed", range(5))
def test_an_identity_shares_the_fate_of_its_write(fate: Fate, seed: int) -> None:
    disk = written(Disk(), Write(HardState(1, "0"), (Entry(1, 1),), 1, b"first"))
    before = disk.recover(ONE)
    assert before == Recovered(HardState(1, "0"), (Entry(1, 1),), ONE, identity=b"first")
    disk.begin(Write(HardState(2, "0"), (Entry(2, 2),), 2, b"second"))
    disk.crash(fate, random.Random(seed))
    log = (Entry(1, 1), Entry(2, 2))
    after = Recovered(HardState(2, "0"), log, ONE, identity=b"second")
    assert disk.recover(ONE) == (after if fate is Fate.SURVIVES else before)
    written(disk, Write(HardState(3, None), (), None))
    assert disk.recover(ONE).identity == disk.identity
    assert disk.identity == (b"second" if fate is Fate.SURVIVES else b"first")


def test_an_identity_outlives_compaction_and_comes_with_a_snapshot() -> None:
    disk = written(Disk(), Write(None, (Entry(1, 1), Entry(2, 1)), 1, b"first"))
    disk.save_snapshot(1, 1, ONE, b"state")
    disk.compact(1, 1)
    assert disk.recover(ONE).identity == b"first"
    for index, identity, expected in ((8, None, b"first"), (9, b"second", b"second")):
        meta = SnapshotMeta(index, 2, ONE, 5, zlib.crc32(b"state"))
        with pytest.raises(CorruptStorage):
            disk.install(meta, b"of what was not received")
        disk.receive(SnapshotChunk("1", meta, 0, b"state"))
        disk.install(meta, identity)
        recovered = disk.recover(ONE)
        assert (recovered.base_index, recovered.identity) == (index, expected)


def test_a_rotten_identity_is_noticed() -> None:
    for seed in range(50):
        disk = written(Disk(), Write(None, (), None, b"whose disk this is"))
        assert disk.rot(random.Random(seed))
        with pytest.raises(CorruptStorage):
            disk.recover(ONE)
