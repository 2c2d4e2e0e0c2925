"""A new cluster out of a backup: the disk of its only voter, or those of all its voters at once.

Rules of this file:

* It is a new history, whatever the cluster is called (docs/identity.md): its uuid is drawn here,
  and whoever has the old one is refused. Several disks are made by one call, since they must name
  each other; none is ever made twice, so each is moved to where it belongs, and not copied.
* Its log begins far behind the end of the old one, and its terms too: whatever was handed out as a
  number that only rises (a lock's fencing token, a key's revision, a leader's term) rises on.
* Nothing of a disk counts before its last write (`storage.restoring`), and that comes after the end
  of the backup has been read, and was right.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import attrs
import msgspec

from ..backups.format import BackupHead, BackupReader, BackupSource
from ..core.errors import ConfigError
from ..core.reconfiguration import problem_with
from ..core.types import Address, Configuration, HardState, LogIndex, NodeId, SnapshotMeta, Term
from ..member.identity import (
    Ancestor,
    Identity,
    encode_identity,
    restored_from_backup,
)
from ..member.results import restore
from ..member.state_machine import StateMachine, hosted, kind_of
from ..net.sentences import moment, quoted
from ..storage.restoring import NewNode, check_is_empty, content_of, make_node, unmake_node

INDEX_GAP: Final = 1_000_000_000
"""Entries that the old cluster may have written since the backup: at 1,600 a second, a week's."""
INDEX_GAP_MAX: Final = 10**15
TERM_GAP: Final = 1_000_000
"""Likewise of terms: elections."""


@attrs.frozen
class RestoredBackup:
    """What a restore has made."""

    head: BackupHead
    """What the backup was of."""
    cluster_id: str
    uuid: str
    """Of the new history."""
    index: LogIndex
    """Where its log begins: the next entry has the next index."""
    term: Term
    voters: tuple[NodeId, ...]


def restore_backup(
    backup: Path | str | BackupSource,
    disks: Mapping[NodeId, Path | str],
    *,
    cluster_id: str | None = None,
    addresses: Mapping[NodeId, Address] | None = None,
    machine: StateMachine | None = None,
    machine_kind: str | None = None,
    index_gap: int = INDEX_GAP,
) -> RestoredBackup:
    """Make the disks of a new cluster out of a backup; then start its nodes with them.

    With one disk it is a cluster of one, and the others join it with empty directories
    (`add_learner`, `change_voters`). With several, these are its voters, and each directory is then
    *moved* to its node's machine; a majority of them is enough to begin with.

    What was acknowledged after the backup is lost. Sessions that were open then go on; of one that
    was opened later, a client learns that it is not known (`SessionExpired`), and opens another.

    Args:
        backup: the file, or something to read it from, a pipe for instance.
        disks: by node: the directory, empty or not there yet.
        cluster_id: the new cluster's name; None: the old one's.
        addresses: where peers reach the nodes, as far as that is known already.
        machine: the state is restored into it as well, so that it is sure that it can be. Do not
            open a node with it: that will restore it again.
        machine_kind: the kind that it must be, if there is no machine; None: any.
        index_gap: how many entries the old cluster can have written since the backup.

    Returns:
        What was made.

    Raises:
        UnusableBackup: it is none, or half of one, or damaged, or of a newer release.
        ConfigError: it is of another kind of machine, or an argument cannot work.
        StorageError: a directory is not empty, or cannot be written.
        OSError: the file cannot be read.

    Whatever it raises, nothing of it is left in the directories. It blocks, and needs no event
    loop: a program calls it before it opens its node.
    """
    paths = {node_id: Path(path).absolute() for node_id, path in disks.items()}
    _check_arguments(paths, index_gap)
    for path in paths.values():
        check_is_empty(path)
    with ExitStack() as stack:
        if isinstance(backup, str | Path):
            name = str(backup)
            reader = BackupReader(stack.enter_context(Path(backup).open("rb")), name)
        else:
            name = "the backup"
            reader = BackupReader(backup, name)
        kind = machine_kind if machine is None else kind_of(hosted(machine))
        _check_kind(reader.head, kind, name)
        plan = _plan(reader.head, tuple(paths), cluster_id, addresses or {}, index_gap)
        _make_all(reader, paths, plan, machine)
    return plan.restored


@attrs.frozen
class _Plan:
    restored: RestoredBackup
    configuration: Configuration
    identities: Mapping[NodeId, Identity]
    hard_state: HardState
    notice: str

    def node(self, node_id: NodeId) -> NewNode:
        return NewNode(
            self.restored.cluster_id,
            node_id,
            self.restored.index,
            self.restored.head.snapshot.term,
            self.configuration,
            self.hard_state,
            encode_identity(self.identities[node_id]),
            self.notice,
        )


def _plan(
    head: BackupHead,
    voters: tuple[NodeId, ...],
    cluster_id: str | None,
    addresses: Mapping[NodeId, Address],
    index_gap: int,
) -> _Plan:
    snapshot = head.snapshot
    before = [Ancestor(each.uuid, each.index, each.term) for each in head.ancestors]
    if head.uuid is not None:
        before.append(Ancestor(head.uuid, snapshot.index, snapshot.term))
    identities = restored_from_backup(voters, before, random.SystemRandom())
    index, term = snapshot.index + index_gap, head.term + TERM_GAP
    configuration = msgspec.structs.replace(
        snapshot.configuration,  # what else it says of the cluster goes on: its features
        voters=tuple(sorted(voters)),
        outgoing=(),
        learners=(),
        returning=(),
        addresses={voter: addresses[voter] for voter in sorted(voters) if voter in addresses},
        index=index,
        disks={voter: identity.incarnation for voter, identity in identities.items()},
    )
    problem = problem_with(configuration)
    if problem is not None:
        raise ConfigError(f"voters {', '.join(voters)} cannot be: {problem}")
    restored = RestoredBackup(
        head,
        head.cluster_id if cluster_id is None else cluster_id,
        str(identities[voters[0]].uuid),
        index,
        term,
        configuration.voters,
    )
    return _Plan(restored, configuration, identities, HardState(term), _notice(restored))


def _make_all(
    reader: BackupReader, paths: Mapping[NodeId, Path], plan: _Plan, machine: StateMachine | None
) -> None:
    """The first out of the backup, the others out of the first. (A pipe is read only once.)"""
    (first, first_path), *others = paths.items()
    with ExitStack() as undo:
        meta = _make(undo, first_path, plan.node(first), reader.chunks())
        if machine is not None:
            restore(hosted(machine), content_of(first_path, meta))
        for node_id, path in others:
            _make(undo, path, plan.node(node_id), content_of(first_path, meta))
        undo.pop_all()


def _make(undo: ExitStack, path: Path, node: NewNode, content: Iterator[bytes]) -> SnapshotMeta:
    was_there = path.exists()
    meta = make_node(path, node, content)
    undo.callback(unmake_node, path, is_removed=not was_there)
    return meta


def _check_arguments(paths: Mapping[NodeId, Path], index_gap: int) -> None:
    if not paths:
        raise ConfigError("no directory was given: name at least one voter, and its directory")
    if len(set(paths.values())) < len(paths):
        raise ConfigError("a directory was given for two nodes: give each one of its own")
    if not 0 <= index_gap <= INDEX_GAP_MAX:
        raise ConfigError(f"index_gap is {index_gap}: give 0 to {INDEX_GAP_MAX}")


def _check_kind(head: BackupHead, kind: str | None, name: str) -> None:
    if kind is not None and head.machine != kind:
        raise ConfigError(
            f"{name} is of another state machine: {quoted(head.machine)}, and this is {kind!r}. "
            "Restore it where its cluster's program is (trioraft.restore_backup); nothing was "
            "changed"
        )


def _notice(restored: RestoredBackup) -> str:
    head = restored.head
    return (
        f"restored at {moment(time.time())} from a backup of cluster "
        f"{quoted(head.cluster_id)} that was taken at {moment(head.taken_s)} from node "
        f"{quoted(head.node_id)}, up to entry {head.snapshot.index} of term {head.snapshot.term} "
        f"of history {head.uuid}; what was acknowledged later is lost. The voters are "
        f"{', '.join(restored.voters)}, and the log goes on after index {restored.index}"
    )
