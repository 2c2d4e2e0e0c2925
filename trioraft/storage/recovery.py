"""Recovery: a stopped node is looked into, and made to go on with voters that somebody chose.

Rules of this file:

* This is outside of Raft. A majority of the old voters would have to agree, and it is gone: the
  person who asks for it takes its place, and answers for what may be lost.
* Nothing is changed by looking or planning; looking checks everything as if the node were opened.
  What is carried out is one atomic append: a new term without a vote, another history in the
  disk's identity, and a configuration of this disk alone at the end of the log. It is done, or it
  is not.
* The log keeps what it holds: nothing is cut off, nothing is invented. The node says in its log,
  when it is opened next, that this was done.
* The one exception is an entry that nobody can apply (`ApplyFailed`), if it is named: an empty one
  takes its place. From there on all entries get the new term, so that no log with the old one can
  ever be taken for this one: whoever has it is refused, and begins empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

import attrs

from ..core.errors import BadMessage, ConfigError, StorageError
from ..core.features import command_of
from ..core.reconfiguration import Membership, configuration_entry, configuration_of
from ..core.types import (
    Address,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Incarnation,
    LogIndex,
    NodeId,
    Recovered,
    Term,
)
from .directory import DATABASE, LOCK, Directory, Folder
from .group_log import read_group
from .health import DISK_TROUBLE, Health
from .log_database import LoadedLog, Owner, is_shared, load, read_owner, reading
from .on_disk import OnDisk, match_snapshot, recovered_of
from .received_snapshot import ReceivedSnapshot
from .shared import GroupFolder, GroupStorage, SharedLog, snapshots_of
from .snapshot_files import SnapshotFiles
from .sqlite import SQLiteStorage
from .wal_check import check_database_files


@attrs.frozen
class StoredNode:
    """What a directory says of its node."""

    cluster_id: str
    node_id: NodeId
    recovered: Recovered
    notices: tuple[str, ...]
    """What the next opening would say."""
    group: str | None = None
    """Which of the groups that share the directory it is about; None: it is one node's."""
    process: Owner | None = None
    """Whose directory that is, then."""


def look_into(path: Path, group: str | None = None) -> StoredNode:
    """Read and check everything in a storage's directory.

    Args:
        path: of a node that does not run.
        group: of a log that many groups share, which one.

    Raises:
        StorageError: a process has it open, there is no storage, or no such group, it is of another
            format, or it cannot be read.
        CorruptStorage: it holds something else than what was written.
    """
    if not path.is_dir() or not {DATABASE, LOCK} & {file.name for file in path.iterdir()}:
        raise StorageError(
            f"there is no storage of trioraft in {path}: give the directory that the node was "
            "opened with"
        )
    health = Health(path)
    directory = Directory(path, health)
    state = directory.acquire()
    try:
        if state.is_new:
            raise StorageError(f"the storage in {path} was never finished: it holds nothing yet")
        try:
            check_database_files(
                directory.database,
                directory.write_ahead_log,
                was_left_open=state.was_left_open,
            )
        except DISK_TROUBLE as error:
            raise health.error("looking into the storage", error) from error
        _check_kind(directory.database, group)
        if group is None:
            return _look_into_one(directory, health)
        return _look_into_group(directory, health, group)
    finally:
        directory.release()


def _check_kind(database: Path, group: str | None) -> None:
    """Refuse one node's log for that of many groups, and the other way round."""
    with reading(database) as connection:
        if is_shared(connection) == (group is not None):
            return
    if group is None:
        raise StorageError(
            f"{database.parent} holds the logs of many groups: name the one that is meant, with "
            "--group (trioraft inspect lists them). Nothing was changed"
        )
    raise StorageError(
        f"{database.parent} holds the log of one node, and no groups: leave --group out"
    )


def _look_into_one(directory: Directory, health: Health) -> StoredNode:
    owner = read_owner(directory.database)
    loaded = load(directory.database, owner)
    return _stored(loaded, owner, directory, owner.cluster_id, health)


def _look_into_group(directory: Directory, health: Health, group: str) -> StoredNode:
    found = read_group(directory.database, group)
    owner = found.stored.owner
    folder = GroupFolder(directory, found.stored.id)
    label = snapshots_of(owner.cluster_id, group)
    stored = _stored(found.loaded, owner, folder, label, health)
    return attrs.evolve(stored, group=group, process=found.process)


def _stored(
    loaded: LoadedLog, owner: Owner, folder: Folder, label: str, health: Health
) -> StoredNode:
    snapshots = SnapshotFiles(folder, label, health)
    received = ReceivedSnapshot(folder, label, health)
    snapshot, _, problems = match_snapshot(loaded, snapshots, received)
    recovered = recovered_of(loaded, snapshot)
    notices = (*loaded.notices, *problems)
    return StoredNode(owner.cluster_id, owner.node_id, recovered, notices)


@attrs.frozen
class StoppedNode:
    """What a stopped node has."""

    directory: Path
    stored: StoredNode
    configuration: Configuration
    """The newest in its log, or in its snapshot; without voters if the log is still empty."""

    @property
    def node_id(self) -> NodeId:
        """Whose directory it is."""
        return self.stored.node_id

    @property
    def hard_state(self) -> HardState:
        """Its term, and whom it voted for in that."""
        return self.stored.recovered.hard_state

    @property
    def last_index(self) -> LogIndex:
        """Index of the last entry, 0 if there never was one."""
        recovered = self.stored.recovered
        return recovered.base_index + len(recovered.entries)

    @property
    def last_term(self) -> Term:
        """Term of that entry."""
        recovered = self.stored.recovered
        return recovered.entries[-1].term if recovered.entries else recovered.base_term


@attrs.frozen
class Plan:
    """What would be written."""

    found: StoppedNode
    hard_state: HardState
    entry: Entry
    configuration: Configuration
    identity: bytes
    """What the disk says of itself from then on."""
    skipped: Entry | None = None
    """What nobody could apply; an empty entry takes its place."""

    @property
    def entries(self) -> list[Entry]:
        """All that is written, the configuration last."""
        skipped = self.skipped
        if skipped is None:
            return [self.entry]
        recovered, term = self.found.stored.recovered, self.hard_state.term
        record = f"trioraft recover took out a command of {len(skipped.data)} bytes".encode()
        rest = recovered.entries[skipped.index - recovered.base_index :]
        return [
            Entry(skipped.index, term, record, EntryKind.NOOP),
            *(Entry(entry.index, term, entry.data, entry.kind) for entry in rest),
            self.entry,
        ]


def find(directory: Path, group: str | None = None) -> StoppedNode:
    """Look at the directory of a stopped node; changes nothing.

    Args:
        directory: its.
        group: of a log that many groups share, which one.

    Raises:
        StorageError: the node runs, or there is no storage, or it cannot be read.
        CorruptStorage: it is damaged, and is no base to go on from.
    """
    stored = look_into(directory, group)
    recovered = stored.recovered
    membership = Membership(recovered.configuration, recovered.entries)
    return StoppedNode(directory, stored, membership.current)


def plan(
    found: StoppedNode,
    voters: Sequence[NodeId],
    addresses: Mapping[NodeId, Address] | None = None,
    *,
    disk: Incarnation,
    identity: bytes,
    skip: LogIndex | None = None,
) -> Plan:
    """Decide what to write so that this node goes on alone; changes nothing.

    Args:
        found: the node that shall go on.
        voters: who shall vote: this node alone, as nobody else has a disk yet that could count.
        addresses: where it is reached, if that is not in the configuration, or has changed.
        disk: this node's own, which is the one that counts.
        identity: what it says of itself, of another history than before.
        skip: an entry that ends every member that applies it, to be taken out.

    Raises:
        ConfigError: with these voters it cannot work.
    """
    known, given = found.configuration, dict(addresses or {})
    if not found.last_index:
        raise ConfigError(
            f"node {found.node_id!r} has an empty log: there is nothing to go on from. Recover "
            "another node, or start a new cluster in empty directories"
        )
    if found.node_id not in voters:
        raise ConfigError(
            f"this is the directory of node {found.node_id!r}, which is not among the voters "
            f"{_names(voters)}: name it too, or nobody who has the log could lead"
        )
    others = sorted(set(voters) - {found.node_id})
    if others:
        raise ConfigError(
            f"{_names(others)} has no disk yet that could be counted: recover node "
            f"{found.node_id!r} alone, start it, and let the others join with empty directories"
        )
    unused = sorted(given.keys() - set(voters))
    if unused:
        raise ConfigError(
            f"an address is given for {_names(unused)}, which is not among the voters "
            f"{_names(voters)}: only voters are kept"
        )
    where = {**known.addresses, **given}
    configuration = Configuration(
        voters=tuple(sorted(voters)),
        addresses={node: where[node] for node in sorted(voters) if node in where},
        disks={found.node_id: disk},
        features=known.features,  # what is in the log is read as it was written
    )
    skipped = None if skip is None else _to_skip(found, skip)
    return _plan_of(found, configuration, identity, skipped)


def _plan_of(
    found: StoppedNode, configuration: Configuration, identity: bytes, skipped: Entry | None
) -> Plan:
    term = found.hard_state.term + 1
    entry = configuration_entry(configuration, found.last_index + 1, term)
    try:
        placed = configuration_of(entry)
    except BadMessage as error:
        raise ConfigError(f"voters {_names(configuration.voters)} cannot be: {error}") from error
    return Plan(found, HardState(term), entry, placed, identity, skipped)


def _to_skip(found: StoppedNode, index: LogIndex) -> Entry:
    """The entry to be taken out, if that cannot let replicas differ."""
    recovered = found.stored.recovered
    applied = 0 if recovered.snapshot is None else recovered.snapshot.index
    if index <= max(applied, recovered.base_index):
        raise ConfigError(
            f"entry {index} was applied by node {found.node_id!r}, whose snapshot ends at "
            f"{applied}: it can be applied. Recover this node without --skip"
        )
    if index > found.last_index:
        raise ConfigError(f"there is no entry {index}: the log ends at {found.last_index}")
    entry = recovered.entries[index - recovered.base_index - 1]
    if command_of(entry) is None:
        raise ConfigError(f"entry {index} is no command: it does nothing, and ends nobody")
    return entry


def carry_out(plan: Plan, at: datetime) -> str:
    """Write what was planned, all of it or nothing.

    Args:
        plan: of a node that has not run since.
        at: the present time, for the log.

    Returns:
        What was done, as the node will say it once in its own log.

    Raises:
        StorageError: the node runs, or has run since it was looked at; nothing was changed. Or
            the disk failed.
    """
    found = plan.found
    with _opened(found) as (storage, recovered):
        if recovered != found.stored.recovered:
            raise StorageError(
                f"node {found.node_id!r} has run since its directory was looked at: nothing was "
                "changed; keep it stopped, and begin anew"
            )
        notice = _notice(plan, at)
        entries = plan.entries
        storage.append_with_notice(
            plan.hard_state, entries, entries[0].index, notice, plan.identity
        )
    return notice


@contextmanager
def _opened(found: StoppedNode) -> Iterator[tuple[OnDisk, Recovered | None]]:
    """Its storage, as the node would open it."""
    stored = found.stored
    storage: SQLiteStorage | GroupStorage
    with ExitStack() as undo:
        if stored.group is None or stored.process is None:
            storage = SQLiteStorage(found.directory)
        else:
            shared, process = SharedLog(found.directory), stored.process
            shared.open(cluster_id=process.cluster_id, node_id=process.node_id)
            undo.callback(shared.close)
            storage = GroupStorage(shared, stored.group)
        recovered = storage.open(cluster_id=stored.cluster_id, node_id=stored.node_id)
        undo.callback(storage.close)
        yield storage, recovered


def _notice(plan: Plan, at: datetime) -> str:
    before = plan.found.configuration
    joint = f" and {_names(before.outgoing)}" if before.outgoing else ""
    return (
        f"trioraft recover forced a configuration at {at.isoformat(timespec='seconds')}: voters "
        f"{_names(plan.configuration.voters)} (entry {plan.entry.index}, term {plan.entry.term}) "
        f"instead of {_names(before.voters)}{joint} (entry {before.index}); what was acknowledged "
        f"and is not in this log is lost{_what_is_skipped(plan)}"
    )


def _what_is_skipped(plan: Plan) -> str:
    entry = plan.skipped
    if entry is None:
        return ""
    return (
        f"; entry {entry.index} of term {entry.term}, a command of {len(entry.data)} bytes, was "
        "taken out and is applied nowhere"
    )


def _names(ids: Sequence[NodeId]) -> str:
    return ", ".join(ids) or "none"
