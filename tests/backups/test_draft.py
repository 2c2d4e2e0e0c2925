"""A draft gets its name when it is durable, and leaves nothing otherwise."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trioraft import ConfigError
from trioraft.backups.draft import Draft, is_abandoned


def test_it_is_durable_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        done.append("directory" if os.path.isdir(f"/dev/fd/{descriptor}") else "file")
        fsync(descriptor)

    def renamed(*paths: Path) -> None:
        done.append("rename")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    with Draft(tmp_path / "x") as draft:
        draft.write(b"content")
        draft.finish()
    assert done == ["file", "rename", "directory"]
    assert (tmp_path / "x").read_bytes() == b"content"
    assert not draft.part.exists()


def test_what_is_not_finished_leaves_nothing_and_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"the one before")
    with Draft(tmp_path / "x") as draft:
        draft.write(b"half")
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"x": b"the one before"}


def test_two_at_a_time_are_refused_and_one_after_the_other_are_not(tmp_path: Path) -> None:
    with Draft(tmp_path / "x") as first:
        with pytest.raises(ConfigError, match="another backup is being written"):
            Draft(tmp_path / "x")
        assert not is_abandoned(first.part)
        first.write(b"1")
        first.finish()
    with Draft(tmp_path / "x") as second:
        second.finish()
    assert (tmp_path / "x").read_bytes() == b""


def test_what_somebody_left_who_was_killed_is_taken_over(tmp_path: Path) -> None:
    part = tmp_path / "x.part"
    part.write_bytes(b"left" * 100)
    assert is_abandoned(part)
    with Draft(tmp_path / "x") as draft:
        draft.write(b"new")
        draft.finish()
    assert (tmp_path / "x").read_bytes() == b"new"
    assert not part.exists()


def test_a_directory_is_no_file_and_a_finished_one_takes_no_more(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a directory"):
        Draft(tmp_path)
    with Draft(tmp_path / "x") as draft:
        draft.finish()
        with pytest.raises(ConfigError, match="is finished"):
            draft.write(b"more")
    assert not is_abandoned(tmp_path / "nothing")


def test_what_is_there_and_is_no_file_stays(tmp_path: Path) -> None:
    """A device, say: /dev/null would be a file from then on, for whoever is root."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ConfigError, match="is no file"):
        Draft(pipe)
    assert pipe.is_fifo()
    assert [each.name for each in tmp_path.iterdir()] == ["pipe"]


def test_a_link_stays_one_and_the_file_that_it_names_is_replaced(tmp_path: Path) -> None:
    """/dev/stdout is one."""
    (tmp_path / "elsewhere").mkdir()
    there, link = tmp_path / "elsewhere" / "x", tmp_path / "link"
    there.write_bytes(b"the one before")
    link.symlink_to(there)
    with Draft(link) as draft:
        draft.write(b"new")
        draft.finish()
    assert link.is_symlink()
    assert there.read_bytes() == b"new"
