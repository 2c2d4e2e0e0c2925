"""Bit rot in a directory of many groups: no group ever gets other data, or another group's.

Damage to the content of one group's record costs that group, and no other. As for a log of its own
(`test_sqlite_damage`), damage to the very last transaction in the write-ahead log may be taken for
a crash.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.thorough import tries
from trioraft import CorruptStorage
from trioraft.core.types import Recovered

from .shared import GROUPS, content, entries_of, fill, open_group, open_shared, opened
from .support import DATABASE, VOTERS, WRITE_AHEAD_LOG, flip

FLIPS = tries(100)


@pytest.fixture
def work() -> Iterator[Path]:
    """A place for hundreds of damaged copies: in memory where there is a file system for that."""
    memory = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as path:
        yield Path(path) / "damaged"


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed directory in which one group was compacted."""
    path = tmp_path_factory.mktemp("closed") / "s"
    with opened(path) as (_, storages):
        fill(storages, 1, 40)
        storages["us"].write_snapshot(30, 1, VOTERS, [b"snapshot of us"])
        storages["us"].compact(20, 1)
        fill(storages, 41, 10)
    return path


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a killed process leaves: all but a few pages are in the write-ahead log."""
    path = tmp_path_factory.mktemp("crashed")
    with opened(path / "a") as (_, storages):
        fill(storages, 1, 8)
        shutil.copytree(path / "a", path / "b")
    return path / "b"


def what_becomes_of(work: Path) -> dict[str, Recovered | str] | str:
    """What the groups hold, or how the whole is refused."""
    try:
        return content(work)
    except CorruptStorage as error:
        return "refused" if str(work) in str(error) else f"without a name: {error}"


def damage(
    intact: Path, work: Path, name: str, position: int, bit: int
) -> dict[str, Recovered | str] | str:
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(intact, work)
    flip(work / name, position, bit)
    return what_becomes_of(work)


def test_flips_in_the_database(closed: Path, work: Path) -> None:
    expected = content(closed)
    assert set(expected) == set(GROUPS)
    rng = random.Random(1)
    size = (closed / DATABASE).stat().st_size
    places = [(position, rng.randrange(8)) for position in range(100)]  # SQLite's header
    places += [(rng.randrange(size), rng.randrange(8)) for _ in range(2 * FLIPS)]
    outcomes: Counter[str] = Counter()
    for position, bit in places:
        found = damage(closed, work, DATABASE, position, bit)
        if isinstance(found, str):
            assert found == "refused", f"bit {bit} of byte {position}"
            outcomes["all refused"] += 1
            continue
        assert set(found) == set(GROUPS), f"bit {bit} of byte {position}"
        refused = [group for group, what in found.items() if what == "refused"]
        for group, what in found.items():
            assert what in (expected[group], "refused"), f"bit {bit} of byte {position}: {group}"
        assert len(refused) <= 1, f"bit {bit} of byte {position}"
        outcomes["one refused" if refused else "same"] += 1
    assert outcomes["all refused"] > FLIPS // 5, outcomes
    assert outcomes["one refused"] > FLIPS // 5, outcomes


def test_a_damaged_record_costs_its_group_and_no_other(closed: Path, work: Path) -> None:
    expected = content(closed)
    database = (closed / DATABASE).read_bytes()
    for group in GROUPS:
        for index in (33, 45, 50):
            position = database.rindex(f"{group} {index}/1 .".encode())
            for offset in (0, 50, -3, -5):
                found = damage(closed, work, DATABASE, position + offset, 1)
                assert found == {**expected, group: "refused"}, (group, index, offset)


def test_the_others_go_on_and_the_damaged_group_can_be_given_up(closed: Path, work: Path) -> None:
    shutil.copytree(closed, work)
    expected = content(work)
    flip(work / DATABASE, (work / DATABASE).read_bytes().rindex(b"us 45/1 ."))
    shared = open_shared(work)
    (notice,) = shared.notices
    assert "group 'us' is damaged and cannot be opened: it has a record, number" in notice
    with pytest.raises(CorruptStorage, match=r"'us' has a record.*does not match its CRC-32"):
        open_group(shared, "us")
    eu, recovered = open_group(shared, "eu")
    assert recovered == expected["eu"]
    eu.append(None, entries_of("eu", 51, 1), 51)
    shared.forget("us")
    us, recovered = open_group(shared, "us")
    assert recovered is None
    us.append(None, entries_of("us", 1, 1), 1)
    shared.close()
    found = content(work)
    assert found["as"] == expected["as"]
    assert isinstance(found["eu"], Recovered)
    assert len(found["eu"].entries) == 51
    assert isinstance(found["us"], Recovered)
    assert found["us"].entries == tuple(entries_of("us", 1, 1))


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path / DATABASE, isolation_level=None)) as connection:
        connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        # The newest of a group given to another, or renumbered: not believed, and not missed.
        "UPDATE records SET group_id = 2 WHERE number = (SELECT max(number) FROM records)",
        "UPDATE records SET number = number + 5 WHERE number = (SELECT max(number) FROM records)",
        "UPDATE records SET previous = previous - 3 WHERE number = 20",
        "UPDATE records SET sequence = 'x' WHERE number = 20",
        "UPDATE records SET last_index = NULL WHERE number = 20",
        "UPDATE records SET link_crc = link_crc + 1 WHERE number = 20",
        "UPDATE groups SET id = 9 WHERE id = 3",
        "UPDATE groups SET payload = (SELECT payload FROM groups WHERE id = 1) WHERE id = 2",
        "UPDATE groups SET payload = 3 WHERE id = 2",
        "DELETE FROM groups WHERE id = 2",
    ],
)
def test_where_it_is_not_known_whose_it_was_nothing_is_opened(
    statement: str, closed: Path, tmp_path: Path
) -> None:
    work = tmp_path / "d"
    shutil.copytree(closed, work)
    change(work, statement)
    with pytest.raises(CorruptStorage, match="Nothing was changed"):
        open_shared(work)


@pytest.mark.parametrize(
    "payload", ["NULL", "7", "CAST(payload AS TEXT)", "CAST(x'ff00fe' AS TEXT)", "1.5", "''"]
)
def test_a_payload_that_is_none_any_more_costs_its_group_and_no_other(
    payload: str, closed: Path, tmp_path: Path
) -> None:
    """A flipped bit in a row's header makes another type of it."""
    work = tmp_path / "d"
    shutil.copytree(closed, work)
    expected = content(work)
    with closing(sqlite3.connect(work / DATABASE)) as connection:
        row = connection.execute("SELECT group_id FROM records WHERE number = 100").fetchone()
    statement = f"UPDATE records SET payload = {payload} WHERE number = 100"  # noqa: S608 - ours
    change(work, statement)
    assert content(work) == {**expected, GROUPS[row[0] - 1]: "refused"}


def test_a_missing_record_is_missed(closed: Path, tmp_path: Path) -> None:
    work = tmp_path / "d"
    shutil.copytree(closed, work)
    expected = content(work)
    with closing(sqlite3.connect(work / DATABASE)) as connection:
        row = connection.execute("SELECT group_id FROM records WHERE number = 30").fetchone()
    change(work, "DELETE FROM records WHERE number = 30")
    group = GROUPS[row[0] - 1]
    assert content(work) == {**expected, group: "refused"}


def test_flips_in_the_write_ahead_log(crashed: Path, tmp_path: Path, work: Path) -> None:
    shutil.copytree(crashed, tmp_path / "whole")
    expected = content(tmp_path / "whole")
    last = GROUPS[-1]
    here = expected[last]
    assert isinstance(here, Recovered)
    rng = random.Random(2)
    size = (crashed / WRITE_AHEAD_LOG).stat().st_size
    frame_bytes = 24 + 8192
    frames = range(32, size, frame_bytes)
    places = [rng.randrange(32) for _ in range(20)]
    places += [start + offset for start in frames for offset in (0, 5, 8, 16, 4000)]
    places += [rng.randrange(size) for _ in range(FLIPS)]
    outcomes: Counter[str] = Counter()
    for position in places:
        found = damage(crashed, work, WRITE_AHEAD_LOG, position, rng.randrange(8))
        if isinstance(found, str) or found == expected:
            outcomes["refused" if isinstance(found, str) else "same"] += 1
            continue
        assert position >= frames[-1], "only the last transaction may be missing"
        missing = found[last]
        assert isinstance(missing, Recovered)
        assert missing.entries == here.entries[:-1], f"byte {position} of {size}"
        assert {**found, last: here} == expected
        outcomes["last missing"] += 1
    assert outcomes["refused"] > FLIPS // 2, outcomes
