"""A node's backup, and new clusters made of it: of one disk, and of three at once. The disks are
real, the network is not."""

from __future__ import annotations

import io
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from tests.storage.support import fingerprint
from trioraft import (
    ConfigError,
    CorruptStorage,
    LocalClient,
    MemoryNetwork,
    Node,
    Role,
    SessionExpired,
    SessionMachine,
    SQLiteStorage,
    StorageError,
    Timing,
    UnusableBackup,
    open_node,
    restore_backup,
)
from trioraft.backups.format import BackupReader, BackupWriter
from trioraft.kv.commands import Delete, Found, Get, Put, Result, Written, encode
from trioraft.kv.machine import KvMachine
from trioraft.machines.sessions import encode_command, encode_open, encode_plain
from trioraft.member.identity import decode_identity
from trioraft.net.sentences import moment
from trioraft.node import restoring
from trioraft.storage import formats
from trioraft.storage import restoring as making
from trioraft.storage.inspection import Wanted, inspect_directory
from trioraft.storage.recovery import find
from trioraft.storage.snapshot_files import SnapshotFiles
from trioraft.testing.cluster import CommandLog

from .support import UUID, backup_of, head_of

PATIENCE_S = 30.0
QUICK = Timing(election_timeout_s=(0.05, 0.1), heartbeat_interval_s=0.01)
CLUSTER = "orders"


def kv() -> SessionMachine:
    return SessionMachine(KvMachine(), result_type=Result)


def put(key: str, value: str) -> bytes:
    return encode(Put(key.encode(), value.encode()))


def value_of(machine: SessionMachine, key: str) -> bytes | None:
    found = machine.machine.query(encode(Get(key.encode())))  # type: ignore[attr-defined] # kv
    assert isinstance(found, Found)
    return found.value


def content(machine: SessionMachine) -> bytes:
    return b"".join(machine.snapshot())


@asynccontextmanager
async def nodes(
    directory: Path,
    *ids: str,
    voters: tuple[str, ...] | None = None,
    cluster_id: str = CLUSTER,
    machine: Callable[[], SessionMachine] = kv,
) -> AsyncIterator[dict[str, tuple[Node, SessionMachine]]]:
    """Nodes on the disks in this directory."""
    network = MemoryNetwork(random.Random(1))
    opened: dict[str, tuple[Node, SessionMachine]] = {}
    with trio.fail_after(PATIENCE_S):
        async with AsyncExitStack() as stack:
            for node_id in ids:
                state = machine()
                node = await stack.enter_async_context(
                    open_node(
                        node_id,
                        voters=ids if voters is None else voters,
                        machine=state,
                        storage=SQLiteStorage(directory / node_id),
                        transport=network.transport(node_id),
                        cluster_id=cluster_id,
                        timing=QUICK,
                        rng=random.Random(int(node_id)),
                    )
                )
                opened[node_id] = (node, state)
            yield opened


async def leader(opened: dict[str, tuple[Node, SessionMachine]]) -> Node:
    first, _ = next(iter(opened.values()))
    status = await first.wait(lambda status: status.leader_id in opened and status.commit_index > 0)
    assert status.leader_id is not None
    return opened[status.leader_id][0]


async def follower(opened: dict[str, tuple[Node, SessionMachine]]) -> tuple[Node, SessionMachine]:
    leads = await leader(opened)
    return next(each for each in opened.values() if each[0] is not leads)


async def test_a_follower_s_backup_has_all_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    async with nodes(tmp_path, "0", "1", "2") as opened:
        leads = await leader(opened)
        for number in range(50):
            await leads.propose(encode_plain(put(f"k{number}", "v")))
        at, machine = await follower(opened)
        head = await at.backup(path)
        expected = content(machine)
    with path.open("rb") as file:
        reader = BackupReader(file, "it")
        got = b"".join(reader.chunks())
    assert reader.head == head
    assert got.endswith(expected)  # behind the checksum of all results
    assert (head.cluster_id, head.node_id, head.machine) == (CLUSTER, at.id, "kv in sessions")
    assert head.uuid == leads.status.uuid
    assert head.snapshot.index == head.snapshot.index >= 51
    assert not head.is_stale
    assert not path.with_name("backup.part").exists()
    assert path.stat().st_mode & 0o777 == 0o600


async def test_one_disk_is_a_cluster_of_one_and_others_join_it(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    async with nodes(tmp_path / "old", "0", "1", "2") as opened:
        leads = await leader(opened)
        await leads.propose(encode_plain(put("kept", "1")))
        head = await (await follower(opened))[0].backup(path)
        await leads.propose(encode_plain(put("lost", "1")))
        old_uuid, old_term = leads.status.uuid, leads.status.term
    restored = restore_backup(path, {"0": tmp_path / "new" / "0"}, machine=kv())
    assert restored.uuid != old_uuid
    async with nodes(tmp_path / "new", "0", "1", "2", voters=()) as opened:
        node, machine = opened["0"]
        await node.wait(lambda status: status.role is Role.LEADER)
        await node.read_barrier()
        assert (value_of(machine, "kept"), value_of(machine, "lost")) == (b"1", None)
        assert node.status.uuid == restored.uuid
        assert node.status.term > old_term
        assert node.status.last_index > head.snapshot.index + restoring.INDEX_GAP
        for other in ("1", "2"):
            await node.add_learner(other)
        await node.change_voters(["0", "1", "2"])
        await node.propose(encode_plain(put("new", "1")))
        for other in ("1", "2"):
            joined, state = opened[other]
            await joined.read_barrier()
            assert content(state) == content(machine)


async def test_three_disks_are_one_history_and_two_of_them_suffice(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    async with nodes(tmp_path / "old", "0", "1", "2") as opened:
        leads = await leader(opened)
        await leads.propose(encode_plain(put("kept", "1")))
        await (await follower(opened))[0].backup(path)
    disks = {name: tmp_path / "new" / name for name in ("0", "1", "2")}
    restored = restore_backup(path, disks)
    first, *others = (find(disk).stored.recovered.snapshot for disk in disks.values())
    assert [first, first] == others
    async with nodes(tmp_path / "new", "0", "2", voters=("0", "1", "2")) as opened:
        await (await leader(opened)).propose(encode_plain(put("new", "1")))
        for node, machine in opened.values():
            await node.read_barrier()
            assert (value_of(machine, "kept"), value_of(machine, "new")) == (b"1", b"1")
            assert node.status.uuid == restored.uuid
            assert node.status.configuration.voters == ("0", "1", "2")
    async with nodes(tmp_path / "new", "0", "1", "2") as opened:  # the third comes later
        await (await leader(opened)).propose(encode_plain(put("all", "1")))
        for node, machine in opened.values():
            await node.read_barrier()
            assert value_of(machine, "all") == b"1"


async def test_the_old_cluster_s_nodes_are_refused_by_the_new_one(tmp_path: Path) -> None:
    """Even a majority of them: an old voter is another history, whatever it holds."""
    path = tmp_path / "backup"
    async with nodes(tmp_path / "old", "0", "1", "2") as opened:
        await (await leader(opened)).propose(encode_plain(put("k", "old")))
        await (await follower(opened))[0].backup(path)
    restore_backup(path, {"0": tmp_path / "mixed" / "0"})
    for name in ("1", "2"):
        (tmp_path / "old" / name).rename(tmp_path / "mixed" / name)
    async with nodes(tmp_path / "mixed", "0", "1", "2") as opened:
        node, _ = opened["0"]
        await node.wait(lambda status: status.role is Role.LEADER)
        await node.propose(encode_plain(put("k", "new")))
        old = opened["1"][0]
        await old.wait(lambda status: status.leader_id in ("1", "2"))
        await opened["2"][0].wait(lambda status: status.leader_id in ("1", "2"))
        await old.read_barrier()
        assert old.status.uuid == opened["2"][0].status.uuid != node.status.uuid
        assert value_of(opened["0"][1], "k") == b"new"
        assert value_of(opened["1"][1], "k") == b"old"


async def test_a_client_with_an_old_session_goes_on_or_is_told(tmp_path: Path) -> None:
    """Of what the backup has, a repeated command gets its first result; what came later was never
    there, and is applied when it is repeated; a session that was opened later is not known."""
    path = tmp_path / "backup"
    async with nodes(tmp_path / "old", "0") as opened:
        node = await leader(opened)
        session = await node.propose(encode_open(b"a" * 16))
        written = await node.propose(encode_command(session, 1, put("k", "1")))
        await node.backup(path)
        await node.propose(encode_command(session, 2, put("k", "2")))
        later = await node.propose(encode_open(b"b" * 16))
    restore_backup(path, {"0": tmp_path / "new" / "0"})
    async with nodes(tmp_path / "new", "0") as opened:
        node, machine = opened["0"]
        await node.wait(lambda status: status.role is Role.LEADER)
        assert await node.propose(encode_command(session, 1, put("k", "1"))) == written
        assert value_of(machine, "k") == b"1"
        again = await node.propose(encode_command(session, 2, put("k", "2")))
        assert isinstance(again, Written)
        assert value_of(machine, "k") == b"2"
        with pytest.raises(SessionExpired):
            await node.propose(encode_command(later, 1, put("k", "3")))
        assert await LocalClient(node, machine).call(encode(Delete(b"k"))) is not None


async def test_numbers_that_only_rise_rise_on(tmp_path: Path) -> None:
    """What was handed out after the backup (a fencing token, a revision) is never handed out
    again, though it is forgotten."""
    path = tmp_path / "backup"
    async with nodes(tmp_path / "old", "0") as opened:
        node = await leader(opened)
        await node.propose(encode_plain(put("k", "1")))
        await node.backup(path)
        for _ in range(20):
            last = await node.propose(encode_plain(put("k", "2")))
        old_index = node.status.last_index
    restore_backup(path, {"0": tmp_path / "new" / "0"})
    async with nodes(tmp_path / "new", "0") as opened:
        node = await leader(opened)
        first = await node.propose(encode_plain(put("k", "3")))
        assert first.index > old_index >= last.index
    (only,) = {restore_backup(path, {"0": tmp_path / "c"}, index_gap=0).index}
    assert only < old_index


async def test_a_restored_history_says_where_it_comes_from(tmp_path: Path) -> None:
    path, again = tmp_path / "backup", tmp_path / "again"
    async with nodes(tmp_path / "old", "0") as opened:
        node = await leader(opened)
        head = await node.backup(path)
    restore_backup(path, {"0": tmp_path / "new" / "0"})
    (notice,) = find(tmp_path / "new" / "0").stored.notices
    assert f"up to entry {head.snapshot.index} of term {head.snapshot.term}" in notice
    assert f"was taken at {moment(head.taken_s)} from node '0'" in notice
    async with nodes(tmp_path / "new", "0") as opened:
        node = await leader(opened)
        second = await node.backup(again)
    assert [(each.uuid, each.index) for each in second.ancestors] == [
        (head.uuid, head.snapshot.index)
    ]
    assert second.uuid != head.uuid
    assert find(tmp_path / "new" / "0").stored.notices == ()  # it was said


async def test_it_may_be_another_cluster_by_name(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    async with nodes(tmp_path / "old", "0") as opened:
        await (await leader(opened)).backup(path)
    restored = restore_backup(path, {"0": tmp_path / "new" / "0"}, cluster_id="staging")
    assert restored.cluster_id == "staging"
    async with nodes(tmp_path / "new", "0", cluster_id="staging") as opened:
        await leader(opened)


async def test_a_stale_backup_needs_no_majority(tmp_path: Path) -> None:
    async with nodes(tmp_path, "0", "1", "2") as opened:
        leads = await leader(opened)
        await leads.propose(encode_plain(put("k", "1")))
        survivor, machine = await follower(opened)
        await survivor.read_barrier()
        for node, _ in opened.values():
            if node is not survivor:
                node.kill()
        await survivor.wait(lambda status: status.leader_id is None)
        with pytest.raises(trio.TooSlowError):
            async with survivor.open_backup(patience_s=0.2):
                pass
        head = await survivor.backup(tmp_path / "backup", stale=True)
    assert head.is_stale
    restore_backup(tmp_path / "backup", {"0": tmp_path / "new"}, machine=machine)
    assert value_of(machine, "k") == b"1"


async def test_newer_snapshots_do_not_take_one_away_that_is_being_read(tmp_path: Path) -> None:
    async with nodes(tmp_path, "0") as opened:
        node, machine = opened["0"]
        await node.wait(lambda status: status.role is Role.LEADER)
        for number in range(300):
            await node.propose(encode_plain(put(f"k{number}", "v" * 10_000)))
        expected = content(machine)
        got = bytearray()
        async with node.open_backup() as backup:
            got += await anext(backup)
            for number in range(3):
                await node.propose(encode_plain(put("more", str(number))))
                await node.take_snapshot()
            async for piece in backup:
                got += piece
        assert got.endswith(expected)
        assert len(got) == backup.head.snapshot.size_bytes


def test_what_was_switched_on_stays_on(tmp_path: Path) -> None:
    features = ("entry-checksums",)
    content = b"whatever"
    head = head_of(content)
    configuration = msgspec.structs.replace(
        head.snapshot.configuration, features=features, learners=("3",)
    )
    snapshot = msgspec.structs.replace(head.snapshot, configuration=configuration)
    sink = io.BytesIO()
    writer = BackupWriter(sink, msgspec.structs.replace(head, snapshot=snapshot))
    writer.add(content)
    writer.end()
    restore_backup(io.BytesIO(sink.getvalue()), {"0": tmp_path / "new"})
    found = find(tmp_path / "new").configuration
    assert (found.features, found.voters, found.learners) == (features, ("0",), ())
    inspected = inspect_directory(tmp_path / "new", Wanted())
    assert inspected.format_version == formats.WITH_FEATURES  # an older release must not read it


# -- what is refused ---------------------------------------------------------------------------


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    path = tmp_path / "backup"
    path.write_bytes(backup_of(b"trioraft results\n", b"whatever" * 1000))
    return path


@pytest.mark.parametrize("names", [["file"], ["trioraft.lock"], [".hidden", "lost+found"]])
def test_a_directory_that_holds_anything_is_left_alone(
    names: list[str], backup: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "disk"
    directory.mkdir()
    for name in names:
        (directory / name).write_bytes(b"precious")
    before = fingerprint(directory)
    with pytest.raises(StorageError, match="is not empty"):
        restore_backup(backup, {"0": tmp_path / "other", "1": directory})
    assert fingerprint(directory) == before
    assert not (tmp_path / "other").exists()


def test_an_empty_directory_and_a_volume_will_do(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "volume" / "lost+found").mkdir(parents=True)
    restored = restore_backup(backup, {"0": tmp_path / "empty", "1": tmp_path / "volume"})
    assert restored.voters == ("0", "1")
    assert (restored.head.uuid, restored.head.snapshot.index) == (UUID, 7)


def test_each_restore_is_a_history_of_its_own_with_disks_of_its_own(
    backup: Path, tmp_path: Path
) -> None:
    disks = ["a", "b", "c", "d"]
    first = restore_backup(backup, {"0": tmp_path / "a", "1": tmp_path / "b"})
    second = restore_backup(backup, {"0": tmp_path / "c", "1": tmp_path / "d"})
    assert len({first.uuid, second.uuid, first.head.uuid}) == 3
    found = [find(tmp_path / name) for name in disks]
    stored = [decode_identity(each.stored.recovered.identity or b"") for each in found]
    assert len({identity.incarnation for identity in stored}) == 4
    assert [each.configuration.disks[each.node_id] for each in found] == [
        identity.incarnation for identity in stored
    ]


def test_half_a_backup_leaves_nothing_wherever_it_was_cut(backup: Path, tmp_path: Path) -> None:
    whole = backup.read_bytes()
    (tmp_path / "there").mkdir()
    for length in (0, 1, 25, 26, 100, 500, len(whole) // 2, len(whole) - 1):
        backup.write_bytes(whole[:length])
        with pytest.raises(UnusableBackup):
            restore_backup(backup, {"0": tmp_path / "new", "1": tmp_path / "there"})
        assert not (tmp_path / "new").exists()
        assert list((tmp_path / "there").iterdir()) == []


def test_a_damaged_backup_leaves_nothing(backup: Path, tmp_path: Path) -> None:
    damaged = bytearray(backup.read_bytes())
    damaged[-50] ^= 1
    with pytest.raises(UnusableBackup, match="damaged at byte"):
        restore_backup(io.BytesIO(damaged), {"0": tmp_path / "new"})
    assert not (tmp_path / "new").exists()


def test_another_kind_of_machine_is_refused(backup: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="is of another state machine: 'kv in sessions', and this"
    ):
        restore_backup(backup, {"0": tmp_path / "new"}, machine=CommandLog())
    with pytest.raises(ConfigError, match="another state machine"):
        restore_backup(backup, {"0": tmp_path / "new"}, machine_kind="queue")
    assert not (tmp_path / "new").exists()


def test_a_state_that_the_machine_cannot_read_leaves_nothing(backup: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        restore_backup(backup, {"0": tmp_path / "new"}, machine=kv())
    assert not (tmp_path / "new").exists()


def test_disks_that_cannot_be_are_refused(backup: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no directory was given"):
        restore_backup(backup, {})
    with pytest.raises(ConfigError, match="given for two nodes"):
        restore_backup(backup, {"0": tmp_path / "a", "1": tmp_path / "a"})
    with pytest.raises(ConfigError, match="index_gap is -1"):
        restore_backup(backup, {"0": tmp_path / "a"}, index_gap=-1)
    with pytest.raises(ConfigError, match="longer than"):
        restore_backup(backup, {"x" * 300: tmp_path / "a"})


class Killed(BaseException):
    """The process is gone here."""


@pytest.mark.parametrize("at", ["the snapshot", "the rename", "the database"])
def test_whoever_is_killed_leaves_what_is_refused(
    at: str, backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise Killed

    where = {
        "the snapshot": (SnapshotFiles, "_fill"),
        "the rename": (SnapshotFiles, "adopt"),
        "the database": (making, "create_database"),
    }[at]
    monkeypatch.setattr(where[0], where[1], die)
    monkeypatch.setattr(making, "unmake_node", lambda *_, **__: None)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    directory = tmp_path / "new"
    with pytest.raises(Killed):
        restore_backup(backup, {"0": directory})
    monkeypatch.undo()
    assert list(directory.iterdir())
    storage = SQLiteStorage(directory)
    if at != "the snapshot":
        with pytest.raises(CorruptStorage, match="restore was interrupted here"):
            storage.open(cluster_id="orders", node_id="0")
    with pytest.raises(StorageError, match="is not empty"):
        restore_backup(backup, {"0": directory})
