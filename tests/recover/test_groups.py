"""One of many groups in a directory goes on alone: the others are as they were."""

from __future__ import annotations

import datetime
import hashlib
import json
import random
from pathlib import Path

import pytest

from tests.storage.support import entries, flip
from trioraft import (
    CorruptStorage,
    MemoryNetwork,
    Role,
    SharedLog,
    StorageError,
    open_group,
    open_groups,
)
from trioraft.core.reconfiguration import Membership, configuration_entry
from trioraft.core.types import HardState, Recovered
from trioraft.member.identity import decode_identity, encode_identity
from trioraft.protocols import Storage
from trioraft.storage.recovery import carry_out, find
from trioraft.testing import CommandLog

from .support import CLUSTER, IDENTITY, THREE, plan, stopped_node
from .test_command import run

AT = datetime.datetime(2026, 5, 1, 12, tzinfo=datetime.UTC)
GROUPS = ("eu", "us")


def opened(directory: Path) -> tuple[SharedLog, dict[str, tuple[Storage, Recovered | None]]]:
    """It, and all its groups, as process 2."""
    shared = SharedLog(directory)
    shared.open(cluster_id=CLUSTER, node_id="2")
    storages = {group: shared.storage_of(group) for group in GROUPS}
    return shared, {
        group: (storage, storage.open(cluster_id=f"{CLUSTER}/{group}", node_id="2"))
        for group, storage in storages.items()
    }


def fingerprint_of(directory: Path) -> dict[Path, str]:
    """Of all files in it, and in its folders."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def stopped_process(directory: Path, *, snapshot: int = 0) -> Path:
    """The directory of process 2 with two groups, each as `stopped_node` has one."""
    shared, groups = opened(directory)
    log = [configuration_entry(THREE, 1, 3), *entries(2, 5, term=6)]
    for storage, _ in groups.values():
        storage.append(HardState(7, "1"), log, 1, encode_identity(IDENTITY))
        if snapshot:
            storage.write_snapshot(snapshot, 6, THREE, [b"state"])
            storage.compact(snapshot, 6)
    shared.close()
    return directory


@pytest.mark.parametrize("snapshot", [0, 4])
def test_a_group_is_found_and_nothing_is_changed(tmp_path: Path, snapshot: int) -> None:
    directory = stopped_process(tmp_path / "2", snapshot=snapshot)
    before = fingerprint_of(directory)
    found = find(directory, "us")
    assert (found.stored.cluster_id, found.node_id) == (f"{CLUSTER}/us", "2")
    assert (found.last_index, found.last_term) == (6, 6)
    assert found.stored.recovered.base_index == snapshot
    assert found.configuration.voters == THREE.voters
    plan(found, ["2"])
    assert fingerprint_of(directory) == before


def test_it_goes_on_alone_and_the_others_are_as_they_were(tmp_path: Path) -> None:
    directory = stopped_process(tmp_path / "2", snapshot=4)
    found = find(directory, "us")
    notice = carry_out(plan(found, ["2"]), AT)
    assert "voters 2 (entry 7, term 8) instead of 0, 1, 2" in notice
    for _ in range(2):  # it is told until a node has written
        shared, groups = opened(directory)
        storage, recovered = groups["us"]
        assert recovered is not None
        assert recovered.hard_state == HardState(8, None)
        assert recovered.entries[:-1] == found.stored.recovered.entries
        current = Membership(recovered.configuration, recovered.entries).current
        assert (current.voters, current.disks) == (("2",), {"2": 102})
        identity = decode_identity(recovered.identity or b"")
        assert identity.uuid not in (None, IDENTITY.uuid)
        assert storage.notices == (notice,)
        storage.append(None, (), None, recovered.identity)  # as at each opening
        other, recovered = groups["eu"]
        assert recovered is not None
        assert (recovered.hard_state, len(recovered.entries)) == (HardState(7, "1"), 2)
        assert other.notices == ()
        shared.close()
    assert find(directory, "us").stored.notices == (notice,)
    shared, groups = opened(directory)
    groups["us"][0].append(HardState(9, "2"), (), None)
    shared.close()
    shared, groups = opened(directory)
    assert groups["us"][0].notices == ()
    shared.close()


async def test_a_recovered_group_leads_by_itself(tmp_path: Path) -> None:
    directory = stopped_process(tmp_path / "2")
    carry_out(plan(find(directory, "us"), ["2"]), AT)
    transport = MemoryNetwork(random.Random(0)).transport("2")
    storage = SharedLog(directory)
    machine = CommandLog()
    async with (
        open_groups("2", storage=storage, transport=transport, cluster_id=CLUSTER) as groups,
        open_group(groups, "us", voters=["0", "1", "2"], machine=machine) as group,
        group.awake() as node,
    ):
        await node.wait(lambda status: status.role is Role.LEADER)
        await node.propose(b"after")
    assert len(machine.commands) == 6


def test_what_is_no_group_is_refused(tmp_path: Path) -> None:
    many = stopped_process(tmp_path / "many")
    one = stopped_node(tmp_path / "one")
    with pytest.raises(
        StorageError, match="the logs of many groups: name the one that is meant"
    ) as at:
        find(many)
    assert "empty" not in str(at.value)
    with pytest.raises(StorageError, match="the log of one node, and no groups: leave --group"):
        find(one, "eu")
    with pytest.raises(StorageError, match="there is no group 'nobody'"):
        find(many, "nobody")
    shared, _ = opened(many)
    with pytest.raises(StorageError, match="is in use by this very process"):
        find(many, "eu")
    shared.close()
    planned = plan(find(many, "eu"), ["2"])
    shared, groups = opened(many)
    groups["eu"][0].append(HardState(9, None), (), None)
    shared.close()
    with pytest.raises(StorageError, match="has run since"):
        carry_out(planned, AT)


def test_a_damaged_group_is_no_base_and_another_one_is(tmp_path: Path) -> None:
    directory = stopped_process(tmp_path / "2")
    database = directory / "log.sqlite3"
    flip(database, database.read_bytes().index(b"6/6 ."))  # a page is filled from its end
    with pytest.raises(CorruptStorage, match="'us' has a record"):
        find(directory, "us")
    carry_out(plan(find(directory, "eu"), ["2"]), AT)
    assert find(directory, "eu").hard_state == HardState(8, None)


def test_the_command_names_the_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = str(stopped_process(tmp_path / "2"))
    assert run(directory, typed="", monkeypatch=monkeypatch) == 1
    assert "name the one that is meant, with --group" in capsys.readouterr().err
    assert run(directory, "--group", "us", "--json", typed="", monkeypatch=monkeypatch) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["group"], shown["cluster_id"]) == ("us", f"{CLUSTER}/us")
    words = (directory, "--group", "us", "--voters", "2")
    assert run(*words, typed="no\n", monkeypatch=monkeypatch) == 1
    said = capsys.readouterr()
    assert "SharedLog.forget" in said.out
    assert run(*words, typed=f"{CLUSTER}/us\n", monkeypatch=monkeypatch) == 0
    said = capsys.readouterr()
    assert "Start process 2." in said.out
    assert find(Path(directory), "us").hard_state == HardState(8, None)
    assert find(Path(directory), "eu").hard_state == HardState(7, "1")
