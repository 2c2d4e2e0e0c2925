"""Recovery without its command: what is found, what is planned, what is written."""

from __future__ import annotations

import datetime
import random
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.storage.support import DATABASE, entries, fingerprint, flip
from trioraft import (
    ConfigError,
    CorruptStorage,
    MemoryNetwork,
    MemoryStorage,
    Node,
    Role,
    SQLiteStorage,
    StorageError,
    open_node,
)
from trioraft.core.errors import ApplyFailed
from trioraft.core.events import StorageNotice
from trioraft.core.reconfiguration import Membership
from trioraft.core.types import Address, Configuration, EntryKind, HardState, Recovered
from trioraft.member.identity import Ancestor, decode_identity
from trioraft.storage.recovery import carry_out, find
from trioraft.testing import CommandLog

from .support import ALONE, CLUSTER, IDENTITY, JOINT, THREE, plan, stopped_node

AT = datetime.datetime(2026, 5, 1, 12, tzinfo=datetime.UTC)


def reopened(directory: Path) -> tuple[Recovered, Sequence[str]]:
    """What the node gets that is opened next."""
    storage = SQLiteStorage(directory)
    recovered = storage.open(cluster_id=CLUSTER, node_id="2")
    notices = storage.notices
    storage.close()
    if recovered is None:
        pytest.fail("the directory is new")
    return recovered, notices


def current(recovered: Recovered) -> Configuration:
    return Membership(recovered.configuration, recovered.entries).current


# -- looking -----------------------------------------------------------------------------------


def test_it_finds_what_the_node_has_and_changes_nothing(tmp_path: Path) -> None:
    directory = stopped_node(tmp_path / "2", THREE, JOINT, snapshot=1)
    before = fingerprint(directory)
    found = find(directory)
    assert (found.stored.cluster_id, found.node_id) == (CLUSTER, "2")
    assert found.hard_state == HardState(7, "1")
    assert (found.last_index, found.last_term) == (7, 6)
    assert found.configuration.voters == ("2", "3")
    assert found.configuration.outgoing == ("0", "1", "2")
    assert found.configuration.index == 2
    plan(found, ["2"])
    assert fingerprint(directory) == before


def test_a_log_that_is_all_in_a_snapshot_is_found_too(tmp_path: Path) -> None:
    directory = stopped_node(tmp_path / "2", THREE, commands=2, snapshot=3)
    found = find(directory)
    assert (found.last_index, found.last_term) == (3, 6)
    assert found.configuration.voters == THREE.voters


def test_a_node_that_runs_is_refused(tmp_path: Path) -> None:
    directory = stopped_node(tmp_path / "2")
    planned = plan(find(directory), ["2"])
    storage = SQLiteStorage(directory)
    storage.open(cluster_id=CLUSTER, node_id="2")
    with pytest.raises(StorageError, match="is in use by this very process"):
        find(directory)
    with pytest.raises(StorageError, match="is in use"):
        carry_out(planned, AT)
    storage.close()
    assert reopened(directory)[0].hard_state == HardState(7, "1")


def test_a_damaged_directory_is_refused_and_left_alone(tmp_path: Path) -> None:
    directory = stopped_node(tmp_path / "2")
    flip(directory / DATABASE, -100)
    before = fingerprint(directory)
    with pytest.raises(CorruptStorage):
        find(directory)
    assert fingerprint(directory) == before


@pytest.mark.parametrize("what", ["missing", "empty", "something else"])
def test_what_is_no_storage_is_refused_and_nothing_is_created(tmp_path: Path, what: str) -> None:
    directory = tmp_path / "2"
    if what != "missing":
        directory.mkdir()
    if what == "something else":
        (directory / "letter.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(StorageError, match="no storage of trioraft"):
        find(directory)
    assert sorted(file.name for file in tmp_path.rglob("*")) == sorted(
        {"missing": [], "empty": ["2"], "something else": ["2", "letter.txt"]}[what]
    )


# -- planning ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("voters", "addresses", "words"),
    [
        (["0", "1"], {}, "not among the voters 0, 1"),
        ([], {}, "not among the voters none"),
        (["2", "2"], {}, "names a node twice"),
        (["2", "9", "0"], {}, "0, 9 has no disk yet .* recover node '2' alone"),
        (["2"], {"0": ("h", 1)}, "an address is given for 0"),
    ],
)
def test_voters_that_cannot_be_are_refused(
    tmp_path: Path, voters: list[str], addresses: dict[str, Address], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        plan(find(stopped_node(tmp_path / "2")), voters, addresses)


def test_a_node_without_a_log_is_no_base(tmp_path: Path) -> None:
    storage = SQLiteStorage(tmp_path / "2")
    storage.open(cluster_id=CLUSTER, node_id="2")
    storage.close()
    with pytest.raises(ConfigError, match="empty log"):
        plan(find(tmp_path / "2"), ["2"])


def test_addresses_are_kept_and_can_be_given(tmp_path: Path) -> None:
    found = find(stopped_node(tmp_path / "2"))
    for given, address in (({}, ("10.0.0.3", 7000)), ({"2": ("h", 7)}, ("h", 7))):
        assert plan(found, ["2"], given).configuration == Configuration(
            ("2",), addresses={"2": address}, index=7, disks={"2": 102}
        )


# -- writing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("configurations", [(THREE,), (THREE, JOINT)])
def test_term_and_configuration_are_at_the_end_of_an_unchanged_log(
    tmp_path: Path, configurations: tuple[Configuration, ...]
) -> None:
    directory = stopped_node(tmp_path / "2", *configurations)
    found = find(directory)
    carry_out(plan(found, ["2"]), AT)
    recovered, _ = reopened(directory)
    assert recovered.hard_state == HardState(8, None)
    assert recovered.entries[:-1] == found.stored.recovered.entries
    forced = recovered.entries[-1]
    assert (forced.index, forced.term) == (found.last_index + 1, 8)
    assert current(recovered) == Configuration(
        ("2",), addresses={"2": ("10.0.0.3", 7000)} if len(configurations) == 1 else {},
        index=forced.index, disks={"2": 102},
    )  # fmt: skip


def test_it_is_another_history_from_then_on(tmp_path: Path) -> None:
    directory = stopped_node(tmp_path / "2")
    carry_out(plan(find(directory), ["2"]), AT)
    identity = decode_identity(reopened(directory)[0].identity or b"")
    assert identity.incarnation == 102
    assert identity.formed
    assert identity.uuid not in (None, IDENTITY.uuid)
    assert identity.ancestors == (Ancestor(IDENTITY.uuid or "", 6, 6),)


def test_what_opening_a_node_writes_does_not_silence_a_notice(tmp_path: Path) -> None:
    directory = stopped_node(tmp_path / "2")
    notice = carry_out(plan(find(directory), ["2"]), AT)
    storage = SQLiteStorage(directory)
    storage.open(cluster_id=CLUSTER, node_id="2")
    storage.append(None, (), None, b"as at each opening")
    storage.close()
    assert reopened(directory)[1] == (notice,)


def test_a_node_that_ran_meanwhile_is_refused(tmp_path: Path) -> None:
    directory = stopped_node(tmp_path / "2")
    planned = plan(find(directory), ["2"])
    storage = SQLiteStorage(directory)
    storage.open(cluster_id=CLUSTER, node_id="2")
    storage.append(HardState(9, None), (), None)
    storage.close()
    with pytest.raises(StorageError, match="has run since"):
        carry_out(planned, AT)
    recovered, notices = reopened(directory)
    assert recovered.hard_state == HardState(9, None)
    assert not notices


def test_every_recovery_is_told_until_a_node_has_written(tmp_path: Path) -> None:
    directory = stopped_node(tmp_path / "2")
    said = [carry_out(plan(find(directory), ["2"]), AT) for _ in range(2)]
    assert "voters 2 (entry 7, term 8) instead of 0, 1, 2" in said[0]
    assert find(directory).stored.notices == tuple(said)
    storage = SQLiteStorage(directory)
    storage.open(cluster_id=CLUSTER, node_id="2")
    assert storage.notices == tuple(said)
    storage.append(HardState(10, "2"), (), None)
    storage.close()
    assert reopened(directory)[1] == ()


# -- the whole story ---------------------------------------------------------------------------


class Listener:
    """Keeps what a node says of its storage."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    def debug(self, event: str, **fields: object) -> None:
        trace = fields["trace"]
        if isinstance(trace, StorageNotice):
            self.notices.append(trace.text)

    info = warning = debug


def _opened(
    directory: Path,
    network: MemoryNetwork,
    node_id: str,
    voters: tuple[str, ...],
    listener: Listener | None = None,
) -> tuple[AbstractAsyncContextManager[Node], CommandLog]:
    machine = CommandLog()
    opening = open_node(
        node_id,
        voters=voters,
        machine=machine,
        storage=SQLiteStorage(directory),
        transport=network.transport(node_id),
        cluster_id=CLUSTER,
        logger=listener,
    )
    return opening, machine


async def _leader_of(nodes: Sequence[Node]) -> Node:
    status = await nodes[0].wait(lambda status: status.leader_id is not None)
    leader = next(node for node in nodes if node.id == status.leader_id)
    await leader.wait(lambda status: status.role is Role.LEADER)
    return leader


async def test_a_lone_survivor_leads_with_everything_and_the_cluster_grows_again(
    tmp_path: Path,
) -> None:
    """In real time: a virtual clock would run while the disk writes."""
    network = MemoryNetwork(random.Random(1))
    ids = ("0", "1", "2")
    acknowledged: list[bytes] = []
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(_opened(tmp_path / node_id, network, node_id, ids)[0])
            for node_id in ids
        ]
        leader = await _leader_of(nodes)
        for number in range(20):
            await leader.propose(b"%d" % number)
            acknowledged.append(b"%d" % number)
        # The survivor has it all; which of it is committed, it need not know.
        survivor = next(node for node in nodes if node is not leader)
        await survivor.wait(lambda status: status.last_index == leader.status.last_index)
        for node in nodes:
            node.kill()
    directory = tmp_path / survivor.id
    planned = plan(find(directory), [survivor.id])
    carry_out(planned, AT)

    listener = Listener()
    opening, machine = _opened(directory, network, survivor.id, ids, listener)
    async with AsyncExitStack() as stack:
        alone = await stack.enter_async_context(opening)
        await alone.wait(lambda status: status.role is Role.LEADER)
        await alone.propose(b"alone")
        assert [data for _, data in machine.commands] == [*acknowledged, b"alone"]
        # (the other notice: open_node was told the old voters)
        assert sum("forced a configuration" in text for text in listener.notices) == 1
        grown: list[tuple[Node, CommandLog]] = []
        for newcomer in ("7", "8"):
            opening, new_machine = _opened(tmp_path / newcomer, network, newcomer, ())
            grown.append((await stack.enter_async_context(opening), new_machine))
            await alone.add_learner(newcomer)
        await alone.change_voters([survivor.id, "7", "8"])
        await alone.propose(b"three again")
        index = alone.status.last_index
        for node, new_machine in grown:
            await node.wait(lambda status: status.applied_index >= index)
            assert new_machine.commands == machine.commands
    listener = Listener()
    async with _opened(directory, network, survivor.id, ids, listener)[0]:
        assert not any("forced a configuration" in text for text in listener.notices)


# -- an entry that ends every member -----------------------------------------------------------


class EndsAt:
    """It cannot apply one of the commands, whoever runs it."""

    def __init__(self) -> None:
        self.inner = CommandLog()
        self.snapshot, self.restore = self.inner.snapshot, self.inner.restore

    @property
    def commands(self) -> list[tuple[int, bytes]]:
        return self.inner.commands

    def apply(self, index: int, data: bytes) -> Any:
        if data == POISON:
            raise MemoryError
        return self.inner.apply(index, data)


POISON = entries(5, 1, term=6)[0].data


def test_an_entry_is_taken_out_and_no_old_log_can_be_taken_for_this_one(tmp_path: Path) -> None:
    directory = stopped_node(tmp_path / "2", snapshot=3)
    before = find(directory).stored.recovered
    planned = plan(find(directory), ["2"], skip=5)
    notice = carry_out(planned, AT)
    assert "entry 5 of term 6, a command of" in notice
    recovered, notices = reopened(directory)
    assert notice in notices
    old = {entry.index: entry for entry in before.entries}
    new = {entry.index: entry for entry in recovered.entries}
    assert new[4] == old[4]
    assert (new[5].kind, new[5].data) == (
        EntryKind.NOOP,
        b"trioraft recover took out a command of %d bytes" % len(POISON),
    )
    assert new[6].data == old[6].data
    assert {new[index].term for index in (5, 6, 7)} == {8}
    assert new[7].kind == EntryKind.CONFIGURATION


@pytest.mark.parametrize(
    ("skip", "voters", "words"),
    [
        (3, ["2"], "was applied by node '2'"),
        (7, ["2"], "ends at 6"),
        (5, ["2", "0"], "alone"),
    ],
)
def test_an_entry_that_may_be_applied_somewhere_is_not_taken_out(
    tmp_path: Path, skip: int, voters: list[str], words: str
) -> None:
    directory = stopped_node(tmp_path / "2", snapshot=3)
    before = fingerprint(directory)
    with pytest.raises(ConfigError, match=words):
        plan(find(directory), voters, skip=skip)
    assert fingerprint(directory) == before


def test_what_is_no_command_is_not_taken_out(tmp_path: Path) -> None:
    directory = stopped_node(tmp_path / "2", THREE, JOINT)
    with pytest.raises(ConfigError, match="no command"):
        plan(find(directory), ["2"], skip=2)


async def test_a_cluster_that_an_entry_ended_goes_on(
    tmp_path: Path, autojump_clock: object
) -> None:
    """Hazard E1: every member ends at it; one goes on without it, and all others begin empty."""
    directory = stopped_node(tmp_path / "2", ALONE)
    network = MemoryNetwork(random.Random(1))

    def opened(node_id: str, machine: Any, **options: Any) -> AbstractAsyncContextManager[Node]:
        options.setdefault("storage", SQLiteStorage(directory))
        return open_node(
            node_id,
            cluster_id=CLUSTER,
            machine=machine,
            transport=network.transport(node_id),
            **options,
        )

    async def ends() -> int:
        async with opened("2", EndsAt(), voters=["2"]) as node:
            await node.wait(lambda status: False)
        return 0

    with pytest.raises(ApplyFailed) as ended:
        await ends()
    index = ended.value.index
    assert f"trioraft recover --skip {index}" in str(ended.value)
    carry_out(plan(find(directory), ["2"], skip=index), AT)
    first, other = EndsAt(), EndsAt()
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(opened("2", first, voters=["2"]))
        await node.wait(lambda status: status.role is Role.LEADER)
        joining = opened("4", other, voters=(), storage=MemoryStorage())
        joined = await stack.enter_async_context(joining)
        await node.add_learner("4")
        await node.propose(b"after")
        await joined.wait(lambda status: status.applied_index == node.status.applied_index)
    assert first.commands == other.commands
    said = [data for _, data in first.commands]
    assert POISON not in said
    assert said[-1] == b"after"
    assert len(said) == 5
