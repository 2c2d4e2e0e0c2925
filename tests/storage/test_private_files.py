"""What a storage makes is its owner's alone, whatever the umask."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from trioraft.core.types import SnapshotMeta
from trioraft.storage.directory import wider_mode

from .shared import fill, opened
from .support import VOTERS, entries, open_storage, snapshot


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o377])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def modes(directory: Path) -> dict[str, int]:
    return {file.name: mode(file) for file in directory.iterdir()}


@pytest.mark.usefixtures("umask")
def test_directory_and_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    directory = tmp_path / "0"
    storage, _ = open_storage(directory)
    storage.append(None, entries(1, 3), 1)
    seen: dict[str, int] = {}

    def chunks() -> Iterator[bytes]:
        seen.update(modes(directory))
        yield b"x"

    storage.write_snapshot(2, 1, VOTERS, chunks())
    storage.receive_chunk(SnapshotMeta(500, 9, VOTERS, 2, zlib.crc32(b"xy")), 0, b"x")
    snapshot(storage, 3, 1)
    seen |= modes(directory)
    storage.close()
    seen |= modes(directory)
    assert len(seen) == 7, seen  # database, write-ahead log, lock, a draft, what comes, two of ours
    assert {name: oct(mode) for name, mode in seen.items() if mode != 0o600} == {}
    assert mode(directory) == 0o700


@pytest.mark.usefixtures("umask")
def test_what_many_groups_share_is_private_too(tmp_path: Path) -> None:
    directory = tmp_path / "0"
    with opened(directory) as (_, storages):
        fill(storages, 1, 3)
        storages["us"].write_snapshot(2, 1, VOTERS, [b"x"])
        found = list(directory.rglob("*"))
        assert len(found) == 6, found  # database, write-ahead log, lock, two folders, a snapshot
        for path in found:
            assert mode(path) == (0o700 if path.is_dir() else 0o600), path


def test_only_the_directory_itself_is_made_private(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        storage, _ = open_storage(tmp_path / "parent" / "0")
    finally:
        os.umask(before)
    storage.close()
    assert (mode(tmp_path / "parent"), mode(tmp_path / "parent" / "0")) == (0o755, 0o700)


@pytest.mark.parametrize("given", [0o755, 0o770, 0o701, 0o2750])
def test_a_directory_that_was_there_is_left_as_it_is_and_can_be_told(
    given: int, tmp_path: Path
) -> None:
    directory = tmp_path / "0"
    directory.mkdir()
    directory.chmod(given)
    storage, _ = open_storage(directory)
    storage.close()
    assert mode(directory) == given
    assert wider_mode(directory) == given
    directory.chmod(0o700)
    assert wider_mode(directory) is None
