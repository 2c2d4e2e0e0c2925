"""`trioraft recover`, killed at each of its writes: the directory is its old self, or recovered."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.serve.commands import lines, run
from tests.storage.support import fingerprint
from trioraft.core.types import HardState
from trioraft.member.identity import decode_identity
from trioraft.storage.recovery import StoppedNode, find

from .support import IDENTITY, JOINT, THREE, stopped_node

VOTERS = ("--voters", "2", "--yes")


@contextmanager
def killed_at_each_write(directory: Path, copies: Path) -> Iterator[list[Path]]:
    """A copy of the directory as each call into the system, or into SQLite, leaves it, if that is
    new: what a process leaves that is killed there. (What SQLite leaves that is killed in the
    middle of a commit is SQLite's own, and `tests/kill_nine` tries it.)"""
    seen = [fingerprint(directory)]
    found: list[Path] = []

    def look(_frame: FrameType, event: str, function: Any) -> None:
        if event != "c_return":
            return
        owner = getattr(function, "__self__", None)
        is_sqlite = isinstance(owner, sqlite3.Connection | sqlite3.Cursor)
        if not is_sqlite and getattr(function, "__module__", None) != "posix":
            return
        sys.setprofile(None)
        now = fingerprint(directory)
        if now != seen[-1]:
            seen.append(now)
            found.append(copies / str(len(found)))
            shutil.copytree(directory, found[-1])
        sys.setprofile(look)

    sys.setprofile(look)
    try:
        yield found
    finally:
        sys.setprofile(None)


def is_recovered(now: StoppedNode, before: StoppedNode) -> bool:
    """Whether it is all of it; false: nothing of it. Anything else fails."""
    if now.stored.recovered == before.stored.recovered:
        assert now.stored.notices == before.stored.notices
        return False
    assert now.hard_state == HardState(before.hard_state.term + 1, None)
    assert now.configuration.voters == ("2",)
    assert now.last_index == before.last_index + 1
    identity = decode_identity(now.stored.recovered.identity or b"")
    assert identity.uuid != IDENTITY.uuid
    assert len(now.stored.notices) == len(before.stored.notices) + 1
    return True


@pytest.mark.parametrize("options", [(), ("--skip", "5")], ids=["alone", "without an entry"])
def test_a_recovery_that_is_killed_leaves_all_of_it_or_nothing_and_can_be_repeated(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    directory = stopped_node(tmp_path / "2", THREE, JOINT)
    before = find(directory)
    with killed_at_each_write(directory, tmp_path / "killed") as killed:
        lines(run("recover", str(directory), *VOTERS, *options))
    outcomes = []
    for copy in killed:
        outcomes.append(is_recovered(find(copy), before))
        lines(run("recover", str(copy), "--show"))
        again = () if outcomes[-1] else options
        lines(run("recover", str(copy), *VOTERS, *again))
        assert find(copy).configuration.voters == ("2",)
    assert outcomes == sorted(outcomes)  # once it is there, it stays
    assert set(outcomes) == {False, True}
    assert is_recovered(find(directory), before)
