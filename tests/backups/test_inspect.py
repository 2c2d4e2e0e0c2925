"""`trioraft inspect`: what it shows of a directory and of a backup, what it says of damage, and
that it writes nothing."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.recover.support import CLUSTER, DISKS, IDENTITY, JOINT, THREE
from tests.serve import commands
from tests.storage.support import DATABASE, crashed_copy, flip
from trioraft import CorruptStorage, Entry, ReplicatedObject, SQLiteStorage, StorageError, command
from trioraft.cli.entries import entry_fields, entry_text, secret_hash
from trioraft.core.features import checked_command
from trioraft.core.reconfiguration import configuration_entry
from trioraft.core.types import EntryKind, HardState
from trioraft.kv.commands import Compare, CompareBy, CompareHow, Put, Txn, encode
from trioraft.kv.machine import KvMachine
from trioraft.machines.replicated.calls import ForPart
from trioraft.machines.replicated.replica import Activate, MethodCall, Tick
from trioraft.machines.sessions import (
    SessionMachine,
    encode_close,
    encode_command,
    encode_open,
    encode_plain,
)
from trioraft.member.identity import encode_identity
from trioraft.member.results import RunningChecksum
from trioraft.storage.inspection import Wanted, inspect_directory
from trioraft.storage.log_database import meta_row

from .support import backup_of

SECRET = 2**61 + 12345


def state() -> bytes:
    """The content of a snapshot, as a server has it."""
    machine = SessionMachine(KvMachine())
    machine.apply(1, encode_open(b"a" * 16))
    for index in range(2, 12):
        machine.apply(index, encode_plain(encode(Put(b"%d" % index, b"v" * 100))))
    return RunningChecksum(0, lambda *_: None).head() + b"".join(machine.snapshot())


def open_node(directory: Path) -> SQLiteStorage:
    """Node 2: a configuration, a snapshot, truncated entries, another configuration, commands."""
    storage = SQLiteStorage(directory)
    storage.open(cluster_id=CLUSTER, node_id="2")
    first = [
        configuration_entry(THREE, 1, 3),
        *(Entry(index, 3, encode_plain(encode(Put(b"k", b"%d" % index)))) for index in range(2, 9)),
    ]
    storage.append(HardState(3, "2"), first, 1, encode_identity(IDENTITY))
    storage.write_snapshot(5, 3, msgspec.structs.replace(THREE, index=1), [state()])
    storage.compact(5, 3)
    storage.append(HardState(4), [configuration_entry(THREE, 9, 4), Entry(10, 4, b"lost")], 9)
    storage.append(HardState(7, "1"), [Entry(9, 7, b"", EntryKind.NOOP)], 9)
    storage.append(None, [configuration_entry(JOINT, 10, 7)], 10)
    for index in range(11, 41):
        data = encode_command(SECRET, index, encode(Put(b"k%d" % index, b"v")), index - 1)
        storage.append(None, [Entry(index, 7, data)], index)
    return storage


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    open_node(tmp_path / "2").close()
    return tmp_path / "2"


def untouched(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file, and when it was written last."""
    return {
        each.name: (each.stat().st_ino, each.stat().st_mtime_ns, each.read_bytes())
        for each in sorted(directory.iterdir())
    }


def told(*arguments: str, code: int = 0) -> dict[str, Any]:
    result = commands.run("inspect", *arguments, "--json")
    assert result.exit_code == code, result.output
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def test_it_shows_what_the_directory_says(directory: Path) -> None:
    before = untouched(directory)
    shown = commands.lines(commands.run("inspect", str(directory), "--verify", "--limit", "3"))
    assert [line[15 if at < 15 else 0 :] for at, line in enumerate(shown[:18])] == [
        str(directory),
        shown[1][15:],
        CLUSTER,
        "2",
        "7, voted for 1",
        "after index 5, term 3",
        "index 40, term 7",
        "34",
        IDENTITY.uuid,
        "102, opening 1",
        "0 on 100, 1 on 101, 2 on 102",
        f"{next(directory.glob('snapshot*')).name}: up to index 5, term 3, {len(state())} bytes, "
        + shown[11].rpartition(", ")[2],
        "10 keys, 0 leases, the last 10 changes, 1 sessions",
        "index 1: voters 0, 1, 2",
        "index 10: voters 2, 3; joint with the outgoing 0, 1, 2; learners 4",
        "",
        f"40  term 7  [session {secret_hash(SECRET)} #40] Put(key='k40', value='v')",
        f"39  term 7  [session {secret_hash(SECRET)} #39] Put(key='k39', value='v')",
    ]
    assert shown[-1] == "It is whole: everything was read, and every checksum is right."
    assert untouched(directory) == before


def test_the_same_is_there_for_programs(directory: Path) -> None:
    found = told(str(directory), "--limit", "2", "--verify")
    assert (found["node_id"], found["cluster_id"]) == ("2", CLUSTER)
    assert isinstance(found["format"], int)
    assert (found["term"], found["voted_for"], found["last_index"]) == (7, "1", 40)
    assert found["identity"]["record"] == DISKS
    assert [each["index"] for each in found["configurations"]] == [1, 10]
    assert [each["index"] for each in found["entries"]] == [40, 39]
    assert found["problems"] == []
    assert str(SECRET) not in json.dumps(found)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], list(range(40, 20, -1))),
        (["--limit", "1000"], list(range(40, 5, -1))),
        (["--from", "38"], [40, 39, 38]),
        (["--to", "12", "--limit", "2"], [12, 11]),
        (["--from", "12", "--to", "14"], [14, 13, 12]),
        (["--to", "10", "--limit", "3"], [10, 9, 8]),
        (["--from", "1", "--to", "5"], []),
        (["--from", "41"], []),
        (["--limit", "0"], []),
    ],
)
def test_entries_are_the_newest_of_those_asked_for(
    options: list[str], expected: list[int], directory: Path
) -> None:
    found = told(str(directory), *options)
    assert [each["index"] for each in found["entries"]] == expected


def test_what_was_truncated_is_not_shown_and_pushes_nothing_out(tmp_path: Path) -> None:
    storage = SQLiteStorage(tmp_path)
    storage.open(cluster_id=CLUSTER, node_id="2")
    storage.append(HardState(1), [Entry(index, 1, b"old") for index in range(1, 21)], 1)
    storage.append(HardState(2), [Entry(11, 2, b"new")], 11)
    storage.close()
    found = inspect_directory(tmp_path, Wanted(count_max=4))
    assert [(entry.index, entry.data) for entry in found.entries] == [
        (8, b"old"),
        (9, b"old"),
        (10, b"old"),
        (11, b"new"),
    ]
    assert (found.last_index, found.last_term, found.records) == (11, 2, 4)
    everything = inspect_directory(tmp_path, Wanted(count_max=100)).entries
    assert [entry.index for entry in everything] == list(range(1, 12))


def test_a_node_that_runs_is_refused_in_a_sentence(tmp_path: Path) -> None:
    storage = open_node(tmp_path / "2")
    try:
        result = commands.run("inspect", str(tmp_path / "2"))
    finally:
        storage.close()
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "is in use by this very process" in result.stderr
    assert "Stop the node first" in result.stderr
    assert result.stderr.count("\n") == 1


def test_two_may_look_and_none_may_open_it_meanwhile(directory: Path) -> None:
    from trioraft.storage import inspection

    with inspection._held(directory):
        assert told(str(directory))["node_id"] == "2"
        with pytest.raises(StorageError, match="in use by"):
            SQLiteStorage(directory).open(cluster_id=CLUSTER, node_id="2")


def test_what_a_killed_node_left_is_shown_and_left(tmp_path: Path) -> None:
    """With its write-ahead log, which SQLite would copy and remove, given the chance."""
    storage = open_node(tmp_path / "2")
    copy = crashed_copy(storage, tmp_path / "copy")
    storage.close()
    assert (copy / "log.sqlite3-wal").stat().st_size > 0
    before = untouched(copy)
    assert told(str(copy), "--verify")["last_index"] == 40
    assert untouched(copy) == before
    (copy / "trioraft.lock").unlink()  # of a copy that somebody made
    assert told(str(copy))["last_index"] == 40
    assert "trioraft.lock" not in {each.name for each in copy.iterdir()}


@pytest.mark.parametrize("name", ["nothing", "foreign", "file"])
def test_what_is_none_is_said(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "file":
        path.write_bytes(b"whatever")
    else:
        path.mkdir()
        if name == "foreign":
            (path / "other").write_bytes(b"")
    result = commands.run("inspect", str(path))
    assert result.exit_code == 1
    assert "trioraft inspect: " in result.stderr
    assert result.stderr.count("\n") == 1
    if path.is_dir():
        assert [each.name for each in path.iterdir()] in ([], ["other"])


def test_a_newer_format_is_refused_in_a_sentence(directory: Path) -> None:
    with closing(sqlite3.connect(directory / DATABASE)) as connection:
        row = meta_row("format", 99)
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", row)
        connection.commit()
    result = commands.run("inspect", str(directory))
    assert result.exit_code == 1
    assert "has format 99, written by a newer trioraft" in result.stderr


# -- damage ------------------------------------------------------------------------------------


def test_the_first_damage_is_told_with_its_entry_and_hides_nothing_else(directory: Path) -> None:
    database = directory / DATABASE
    at = database.read_bytes().index(b"k30\xc4\x01v")
    flip(database, at)
    result = commands.run("inspect", str(directory), "--limit", "100")
    assert result.exit_code == 3
    assert "Damaged. The first: " in result.stdout
    assert "(entries 30 to 30 by its columns; the record before it ends at 29)" in result.stdout
    found = told(str(directory), "--limit", "100", code=3)
    assert [each["index"] for each in found["entries"]] == [
        *range(40, 30, -1),
        *range(29, 5, -1),
    ]
    assert found["last_index"] == 40


def test_a_damaged_snapshot_is_found_by_reading_it(directory: Path) -> None:
    (snapshot,) = directory.glob("snapshot*")
    flip(snapshot, -10)
    assert told(str(directory))["problems"] == []
    (problem,) = told(str(directory), "--verify", code=3)["problems"]
    assert snapshot.name in problem
    flip(snapshot, 40)  # its header
    (problem,) = told(str(directory), code=3)["problems"]
    assert "the header" in problem


@pytest.mark.parametrize("seed", range(60))
def test_it_finds_whatever_opening_would_refuse(seed: int, directory: Path, tmp_path: Path) -> None:
    """A bit, a cut, or a file that is gone, anywhere: both say so, or neither does."""
    rng = random.Random(seed)
    files = sorted(file for file in directory.iterdir() if file.name != "trioraft.lock")
    file = rng.choice(files)
    if rng.random() < 0.8:
        flip(file, rng.randrange(file.stat().st_size), rng.randrange(8))
    else:
        with file.open("r+b") as opened:
            opened.truncate(rng.randrange(file.stat().st_size))
    before = untouched(directory)
    found = inspect_directory(directory, Wanted(), verify=True)
    assert untouched(directory) == before
    copy = shutil.copytree(directory, tmp_path / "copy")
    storage = SQLiteStorage(copy)
    try:
        storage.open(cluster_id=CLUSTER, node_id="2")
        refused = bool(storage.notices)  # a damaged snapshot that an older one replaces
    except (CorruptStorage, StorageError):
        refused = True
    finally:
        storage.close()
    if refused:
        assert found.problems


# -- backups -----------------------------------------------------------------------------------


def test_a_backup_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    path.write_bytes(backup_of(state()))
    before = path.stat()
    shown = commands.lines(commands.run("inspect", str(path), "--verify"))
    assert any(line.startswith("holds          10 keys") for line in shown)
    assert shown[-1] == "It is whole: everything was read, and every checksum is right."
    found = told(str(path), "--verify")
    assert found["content"]["keys"] == 10
    assert (found["index"], found["cluster_id"], found["problems"]) == (7, "orders", [])
    assert path.stat() == before


def test_half_a_backup_is_half_a_backup(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    whole = backup_of(state())
    for length in (30, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        result = commands.run("inspect", str(path), "--verify")
        assert result.exit_code == 3
        assert "half a backup: it was cut after" in result.output
        verified = commands.run("restore", str(path), "--verify")
        assert verified.exit_code == 1
        assert "half a backup" in verified.stderr


def test_a_backup_whose_content_is_no_state_is_said(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    path.write_bytes(backup_of(state()[:-20]))  # cut before it was backed up
    found = told(str(path), "--verify", code=3)
    assert "cannot be read" in found["problems"][0] or "ends after" in found["problems"][0]


# -- entries -----------------------------------------------------------------------------------


class Stock(ReplicatedObject):
    def __init__(self) -> None:
        self.count: int = 0

    @command
    def sell(self, what: str, count: int = 1) -> None:
        self.count -= count


def called(name: str, *arguments: Any) -> bytes:
    raw = msgspec.Raw(msgspec.msgpack.encode(arguments))
    return msgspec.msgpack.encode(MethodCall(name, 1, 0.0, raw))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (encode_plain(encode(Put(b"k", b"v"))), "[no session] Put(key='k', value='v')"),
        (encode_plain(encode(Put(b"\xff", b""))), "[no session] Put(key=0xff, value='')"),
        (
            encode_command(SECRET, 7, encode(Put(b"k", b"v", ttl_ms=5))),
            f"[session {secret_hash(SECRET)} #7] Put(key='k', value='v', ttl_ms=5)",
        ),
        (encode_open(b"c" * 16), f"open a session for client {secret_hash(b'c' * 16)}"),
        (encode_close(SECRET), f"close session {secret_hash(SECRET)}"),
        (encode_plain(called("sell", "lamp", 2)), "[no session] sell('lamp', 2)"),
        (
            encode_plain(msgspec.msgpack.encode(ForPart("stock", called("sell", "lamp")))),
            "[no session] stock.sell('lamp')",
        ),
        (encode_plain(msgspec.msgpack.encode(Activate(2, 0.0))), "[no session] activate(2)"),
        (encode_plain(msgspec.msgpack.encode(Tick(2, 0.0))), "[no session] tick()"),
        (encode_plain(b"raw"), "[no session] 'raw'"),
        (b"raw \xff", "0x72617720ff"),
        (b"", "''"),
        (b"\x1b[2J" + b"x" * 200, "'\\x1b[2J" + "x" * 56 + "… (209 characters)"),
    ],
)
def test_a_command_is_shown_as_far_as_it_can_be_read(data: bytes, text: str) -> None:
    entry = Entry(5, 2, data)
    assert entry_text(entry) == text
    assert json.loads(json.dumps(entry_fields(entry)))["index"] == 5


def test_a_command_with_a_checksum_is_shown_without_it_and_one_that_was_altered_is_told(
    tmp_path: Path,
) -> None:
    right = checked_command(1, 2, encode_plain(b"raw"))
    wrong = msgspec.structs.replace(
        checked_command(2, 2, encode_plain(b"raw")), data=right.data
    )  # of another place
    assert entry_text(right) == "[no session] 'raw'"
    assert entry_text(wrong) == "(altered) [no session] 'raw'"
    assert entry_fields(wrong)["altered"]
    storage = SQLiteStorage(tmp_path)
    storage.open(cluster_id=CLUSTER, node_id="2")
    storage.append(HardState(2), [right, wrong], 1)
    storage.close()
    (problem,) = told(str(tmp_path), code=3)["problems"]
    assert "entry 2" in problem


def test_a_real_call_is_shown_by_its_name_and_arguments() -> None:
    stock = Stock()
    method = type(stock)._definition.methods["sell"]
    data = encode_plain(
        msgspec.msgpack.encode(
            MethodCall("sell", 1, 0.0, msgspec.Raw(method.encode(("lamp",), {"count": 3})))
        )
    )
    assert entry_text(Entry(1, 1, data)) == "[no session] sell('lamp', 3)"


def test_a_transaction_is_shown_whole_for_programs() -> None:
    txn = Txn((Compare(b"k", CompareBy.VALUE, CompareHow.EQUAL, b"v"),), (Put(b"a", b"1"),))
    fields = entry_fields(Entry(1, 1, encode_plain(encode(txn))))
    assert fields["command"] == "Txn"
    assert "'a'" in str(fields["arguments"])


def test_whatever_stands_there_it_is_shown() -> None:
    rng = random.Random(3)
    right = encode_command(SECRET, 7, encode(Put(b"k", b"v")))
    for _ in range(2000):
        data = bytearray(right if rng.random() < 0.5 else rng.randbytes(rng.randrange(40)))
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
        entry = Entry(1, 1, bytes(data), rng.randrange(3))
        assert entry_text(entry).isprintable() or entry.kind != EntryKind.COMMAND
        json.dumps(entry_fields(entry))
    entry_text(Entry(1, 1, encode_plain(b"\x01" + b"\x91" * 100_000)))


def test_what_is_switched_on_is_said_with_the_members() -> None:
    """Otherwise the entry that does it would look like the one before."""
    on = msgspec.structs.replace(THREE, features=("entry-checksums",))
    before, after = (entry_text(configuration_entry(each, 7, 1)) for each in (THREE, on))
    assert after == f"{before}; entry-checksums is on"
