"""GroupLog: the log of one group, as a storage has it; its records are among those of others.

Rules of this file:

* What it knows of its log changes in the moment in which a write is durable, in the thread that
  made it so (`took`).
* 16 bytes a record are in memory while it is open, and its identity.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import final

import attrs
import msgspec

from ..core.errors import CorruptStorage, StorageError
from ..core.types import Entry, HardState, LogIndex, Term
from .formats import OLDEST
from .log_database import Base, LoadedLog, Owner, RecordEnds, read_owner, reading, replay
from .records import Row, StoredWrite, from_row, to_rows
from .shared_database import (
    GROUP_ROWS_SQL,
    REPLACE_GROUP,
    SCHEMA,
    GroupState,
    Job,
    SharedDatabase,
    StoredGroup,
    group_of,
    load_shared,
)


@attrs.frozen
class StoppedGroup:
    """A group in a directory that nobody has open."""

    process: Owner
    """Whose directory that is."""
    stored: StoredGroup
    loaded: LoadedLog


def read_group(path: Path, name: str) -> StoppedGroup:
    """Read and check a group, and all that is checked with it, without changing anything.

    Args:
        path: of the database.
        name: of the group.

    Raises:
        StorageError: there is no such group; or as `load_shared`.
        CorruptStorage: it is not what was written.
    """
    process = read_owner(path, SCHEMA)
    state = load_shared(path, process).groups.get(name)
    if state is None:
        raise StorageError(f"{path}: there is no group {name!r}; trioraft inspect lists them")
    if state.problem is not None:
        raise _damaged(path, state)
    with reading(path) as connection:
        rows = connection.execute(
            "SELECT id, crc, payload FROM groups WHERE id = ?", (state.id,)
        ).fetchall()
        stored = group_of(rows[0], path)
        bounds = (state.id, stored.base.first_record)
        with closing(connection.execute(GROUP_ROWS_SQL, bounds)) as records:
            return StoppedGroup(process, stored, _replayed(records, path, stored))


def _replayed(rows: Iterable[Row], path: Path, stored: StoredGroup) -> LoadedLog:
    named = path.with_name(f"{path.name}, group {stored.name!r}")
    loaded = replay(rows, named, stored.base)
    return attrs.evolve(loaded, identity=stored.identity, notices=stored.notices)


def _damaged(path: Path, state: GroupState) -> CorruptStorage:
    return CorruptStorage(f"{path}: group {state.name!r} {state.problem}. {REPLACE_GROUP}")


@final
class GroupLog:
    """The log of one group. One call at a time, as `Log` has them."""

    def __init__(self, database: SharedDatabase, state: GroupState, stored: StoredGroup) -> None:
        """Of a new group, which is not stored yet: `begin` is called next."""
        self.base: Base = stored.base
        self.last_index: LogIndex = stored.base.index
        self._database = database
        self._state = state
        self._stored = stored
        self._hard_state = HardState()
        self._ends = RecordEnds(stored.base.first_record)
        self._numbers = array("q")

    @classmethod
    def load(
        cls, database: SharedDatabase, state: GroupState, owner: Owner, path: Path
    ) -> tuple[GroupLog, LoadedLog]:
        """Read and check the log of a group that is there.

        Args:
            database: where it is.
            state: the group.
            owner: whose it should be.
            path: of the database, for errors.

        Raises:
            StorageError: it belongs to another node or cluster.
            CorruptStorage: it is not what was written.
        """
        if state.problem is not None:
            raise _damaged(path, state)
        stored = database.stored_group(state)
        if stored.owner != owner:
            raise StorageError(
                f"{path}: group {state.name!r} belongs to node {stored.owner.node_id!r} of cluster "
                f"{stored.owner.cluster_id!r}, not to node {owner.node_id!r} of cluster "
                f"{owner.cluster_id!r}: give each node a directory of its own; nothing was changed"
            )
        rows, numbers = database.records_of(state)
        loaded = _replayed(rows, path, stored)
        log = cls(database, state, stored)
        log.last_index = loaded.last_index
        log._hard_state = loaded.hard_state
        log._ends = loaded.ends
        log._numbers = numbers
        return log, loaded

    @property
    def notices(self) -> tuple[str, ...]:
        """What a tool did, and no node has said yet."""
        return self._stored.notices

    def begin(self) -> None:
        """Store the new group. Its hard state is never missing: a record that says "new" is there
        from the start.

        Raises:
            As `append`.
        """
        rows = list(to_rows(StoredWrite(1, HardState(), None, ()), 0))
        self._write(rows, HardState(), self._stored)

    def append(
        self,
        hard_state: HardState | None,
        entries: Sequence[Entry],
        replace_from: LogIndex | None,
        identity: bytes | None = None,
        *,
        notices: tuple[str, ...] | None = None,
    ) -> None:
        """See `Log.append`."""
        state = self._hard_state if hard_state is None else hard_state
        record = StoredWrite(self._ends.last_record + 1, state, replace_from, tuple(entries))
        rows = list(to_rows(record, self.last_index))
        self._database.check_rows(rows)
        stored = None
        if identity is not None or notices is not None:
            stored = msgspec.structs.replace(
                self._stored,
                identity=self._stored.identity if identity is None else identity,
                notices=self._stored.notices if notices is None else notices,
            )
        self._write(rows, state, stored)

    def _write(
        self, rows: Sequence[Row], hard_state: HardState, stored: StoredGroup | None
    ) -> None:
        def took() -> None:
            self._hard_state = hard_state
            newest = self._state.newest
            for position, (_, first_index, last_index, _, _) in enumerate(rows):
                self._ends.add(first_index, last_index)
                self._numbers.append(newest - len(rows) + 1 + position)
                self.last_index = last_index
            if stored is not None:
                self._based_on(stored)

        self._database.write(Job(self._state, rows, stored, took))

    def _based_on(self, stored: StoredGroup) -> None:
        first = stored.base.first_record
        del self._numbers[: first - self._ends.first_record]
        self._ends.forget_before(first)
        self.base = stored.base
        self._stored = stored

    def compact(
        self,
        base_index: LogIndex,
        base_term: Term,
        identity: bytes | None = None,
        needed: int = OLDEST,
    ) -> None:
        """Move the base; see `Log.compact`. Whoever reads this directory knows all formats."""
        del needed
        base = Base(base_index, base_term, self._ends.first_needed(base_index))
        self._rebase(base, (), identity)

    def start_over(
        self,
        base_index: LogIndex,
        base_term: Term,
        identity: bytes | None = None,
        needed: int = OLDEST,
    ) -> None:
        """Empty the log; see `Log.start_over`."""
        del needed
        first = self._ends.last_record + 1
        rows = list(to_rows(StoredWrite(first, self._hard_state, None, ()), base_index))
        self._rebase(Base(base_index, base_term, first), rows, identity)

    def _rebase(self, base: Base, rows: Sequence[Row], identity: bytes | None) -> None:
        kept = self._stored.identity if identity is None else identity
        stored = msgspec.structs.replace(self._stored, base=base, identity=kept)
        self._write(rows, self._hard_state, stored)

    def term_at(self, index: LogIndex) -> Term | None:
        """Term of the entry at `index`; None if it is not in the log.

        Raises:
            CorruptStorage: its record is not what was written.
        """
        if index == self.base.index:
            return self.base.term
        if not self.base.index < index <= self.last_index:
            return None
        sequence = self._ends.holder(index)
        row = self._database.record(self._numbers[sequence - self._ends.first_record])
        where = f"the log of group {self._state.name!r}"
        if row is None or row[0] != sequence:
            raise CorruptStorage(f"{where}: record {sequence} is gone. {REPLACE_GROUP}")
        record = from_row(row, where, index)
        return record.entries[index - record.entries[0].index].term
