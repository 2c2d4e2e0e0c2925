"""A directory of many groups, as the first release that had them left it, is read as it was.

`shared_directory` was made once, by `made`, and is never made anew: what it holds stays readable.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from tests.storage.shared import content, entries_of, fill, open_group, open_shared, opened
from tests.storage.support import VOTERS
from trioraft.core.types import HardState, Recovered

KEPT: Final = Path(__file__).parent / "shared_directory"


def made(path: Path) -> None:
    """How it was made."""
    with opened(path, ("eu", "us", "as", "old")) as (shared, storages):
        fill(storages, 1, 12)
        storages["us"].write_snapshot(10, 1, VOTERS, [b"state ", b"of us"])
        storages["us"].compact(8, 1)
        storages["as"].append(HardState(2, "as"), entries_of("as", 6, 2, term=2), 6, b"identity")
        storages["old"].close()
        shared.forget("old")


def expected(found: dict[str, Recovered | str]) -> None:
    assert set(found) == {"as", "eu", "us"}
    assert found["eu"] == Recovered(HardState(1, "eu"), tuple(entries_of("eu", 1, 12)))
    us, as_ = found["us"], found["as"]
    assert isinstance(us, Recovered)
    assert (us.hard_state, us.base_index, us.base_term) == (HardState(1, "us"), 8, 1)
    assert us.entries == tuple(entries_of("us", 9, 4))
    assert us.snapshot is not None
    assert us.snapshot.index == 10
    assert isinstance(as_, Recovered)
    assert as_.entries == (*entries_of("as", 1, 5), *entries_of("as", 6, 2, term=2))
    assert (as_.hard_state, as_.identity) == (HardState(2, "as"), b"identity")


def test_what_was_kept_is_read_and_goes_on(tmp_path: Path) -> None:
    shutil.copytree(KEPT, tmp_path / "d")
    expected(content(tmp_path / "d"))
    shared = open_shared(tmp_path / "d")
    us, recovered = open_group(shared, "us")
    assert recovered is not None
    assert recovered.snapshot is not None
    assert b"".join(us.read_snapshot(recovered.snapshot)) == b"state of us"
    us.append(None, entries_of("us", 13, 3), 13)
    old, recovered = open_group(shared, "old")
    assert recovered is None
    old.append(None, entries_of("old", 1, 1), 1)
    shared.close()
    found = content(tmp_path / "d")
    assert isinstance(found["us"], Recovered)
    assert found["us"].entries == tuple(entries_of("us", 9, 7))
    assert isinstance(found["old"], Recovered)
    assert found["old"].entries == tuple(entries_of("old", 1, 1))


def test_the_same_is_made_today(tmp_path: Path) -> None:
    made(tmp_path / "d")
    expected(content(tmp_path / "d"))
