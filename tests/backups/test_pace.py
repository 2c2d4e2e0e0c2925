"""A snapshot for a backup is written no faster than leaves commits some room; one that the log
needs, or that somebody waits for, is not held up."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import pytest
import trio

from tests.support import open_single
from trioraft import Limits, Role, SQLiteStorage
from trioraft.node import runner

STATE = bytes(64 * 1024)
PIECES = 64


class Large:
    """Its state has some megabytes."""

    def apply(self, index: int, data: bytes) -> None:
        """Nothing changes."""

    def snapshot(self) -> Iterable[bytes]:
        return [STATE] * PIECES

    def restore(self, chunks: Iterable[bytes]) -> None:
        for _ in chunks:
            pass


async def test_only_a_backup_s_snapshot_is_slowed_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = 8 * len(STATE) * PIECES
    monkeypatch.setattr(runner, "SNAPSHOT_BYTES_PER_S_MAX", rate)
    paced: list[object] = []
    paced_by = runner._paced

    def noted(chunks: Iterable[bytes]) -> Iterable[bytes]:
        paced.append(chunks)
        return paced_by(chunks)

    monkeypatch.setattr(runner, "_paced", noted)
    storage = SQLiteStorage(tmp_path)
    with trio.fail_after(30.0):
        async with open_single(
            storage=storage, machine=Large(), limits=Limits(snapshot_entries=20)
        ) as node:
            await node.wait(lambda status: status.role is Role.LEADER)
            for _ in range(30):  # the log wants one
                await node.propose(b"x")
            while not list(tmp_path.glob("*.raft")):  # noqa: ASYNC110, ASYNC240 - a file tells nobody
                await trio.sleep(0.01)
            await node.propose(b"x")
            await node.take_snapshot()
            assert paced == []
            await node.propose(b"x")
            begun_s = time.monotonic()
            await node.backup(tmp_path / "backup")
            assert len(paced) == 1
            assert time.monotonic() - begun_s > 0.9 / 8


def test_the_pace_is_kept_over_many_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "SNAPSHOT_BYTES_PER_S_MAX", 1_000_000)
    begun_s = time.monotonic()
    assert sum(map(len, runner._paced([bytes(1000)] * 100))) == 100_000
    assert time.monotonic() - begun_s > 0.09
