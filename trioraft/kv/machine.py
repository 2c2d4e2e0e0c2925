"""KvMachine: the replicated state of a key-value service, and those who watch it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from itertools import chain
from typing import Final, final

import msgspec

from ..core.errors import ConfigError, RaftError
from ..core.types import LogIndex
from ..machines.log_clock import LogClock
from ..machines.nesting import check_nesting
from ..machines.sessions import UnknownCommand
from ..machines.viewed import Discarded
from ..tasks.monotonic import monotonic_s
from . import commands, history
from .commands import (
    CHANGES_MAX,
    COMPARED_KEYS_MAX,
    NUMBER_MAX,
    NUMBER_MIN,
    TXN_BYTES_MAX,
    VALUE_BYTES_MAX,
    Answer,
    Append,
    Cas,
    Change,
    Changed,
    Changes,
    Command,
    Compacted,
    Compare,
    CompareBy,
    CompareHow,
    Delete,
    Deleted,
    DeleteRange,
    Expire,
    Found,
    Get,
    Granted,
    GrantLease,
    Increment,
    Incremented,
    KeepAlive,
    LeaseLife,
    LeaseNotFound,
    LeaseRefused,
    Look,
    Looked,
    NotANumber,
    Operation,
    OperationResult,
    Page,
    Pair,
    Put,
    Range,
    RangeShows,
    RequestTooLarge,
    Result,
    Revoke,
    Swapped,
    TimeToLive,
    Txn,
    TxnDone,
    ValueTooLarge,
    Written,
    decode_command,
    decode_query,
    encode,
    ordered_key,
)
from .history import ChangeHistory
from .leases import Leases, Record, may_end
from .snapshot import KvState, decode_state, encode_state
from .sorted_map import SortedMap
from .spans import Span
from .watches import Watches

CLOCK_TICK_S: Final = 10.0
"""While anything can end by itself, log time goes on by a command at least this often: a leader
that was started meanwhile does not know how long before it the last one was."""
ANSWER_BYTES_MAX: Final = 1024 * 1024
"""Bytes of keys and values from which on an answer holds no further pair or change."""
SCANNED_MAX: Final = 10_000
"""Changes that one query looks at, whether they match or not."""
_NUMBER_BYTES_MAX: Final = 20


@final
class KvMachine:
    """Keys and values, both bytes; see `trioraft.kv.commands` for what it is told.

    Leases, and keys with a `ttl_ms`, end by log time (`trioraft.machines.log_clock`): whoever leads
    says in the commands that need it what the time is, and proposes the end of what is over.

    Args:
        changes_max: latest changes that are kept for those who watch.
        changes_bytes_max: bytes of keys and values in them, the values before included.
    """

    error_types: Final = (
        UnknownCommand,
        ValueTooLarge,
        NotANumber,
        RequestTooLarge,
        LeaseNotFound,
        LeaseRefused,
    )
    """All that `apply` raises on purpose."""
    machine_kind: Final = "kv"

    def __init__(
        self,
        *,
        changes_max: int = history.CHANGES_MAX,
        changes_bytes_max: int = history.CHANGES_BYTES_MAX,
    ) -> None:
        self._changes_max = changes_max
        self._changes_bytes_max = changes_bytes_max
        self._records: SortedMap[Record] = SortedMap()
        self._history = ChangeHistory(changes_max, changes_bytes_max)
        self._discarded = Discarded(each=1)  # a chunk of records
        self._watches = Watches()
        self._index: LogIndex = 0
        self._leases = Leases()
        self._clock = LogClock()
        self._changes: list[Change] = []  # of the command that is being applied
        self._undo: list[tuple[bytes, Record | None, Record | None]] | None = None

    @property
    def keys_count(self) -> int:
        """How many keys there are."""
        return len(self._records)

    @property
    def leases_count(self) -> int:
        """How many leases there are."""
        return len(self._leases)

    @property
    def changes_bytes(self) -> int:
        """Bytes of keys and values in the changes that are kept for who watches from the past."""
        return self._history.held_bytes

    def usage(self) -> dict[str, tuple[int, int | None]]:
        """What counts against a bound: by name, how much there is and how much there may be."""
        return {"changes_bytes": (self.changes_bytes, self._changes_bytes_max)}

    @property
    def index(self) -> LogIndex:
        """Of the last command that was applied."""
        return self._index

    # -- time ------------------------------------------------------------------------------

    def prepare_command(self, data: bytes) -> bytes:
        """Refuse what cannot be read, or is nested too deep, before it is proposed; what depends on
        time is told the time.

        Raises:
            UnknownCommand, ConfigError: that is so.
        """
        check_nesting(data[1:])
        command = decode_command(data)
        match command:
            case Put(ttl_ms=None):
                return data
            case Put() | GrantLease() | KeepAlive() | Expire():  # whatever its sender says
                return encode(msgspec.structs.replace(command, at_s=self._stamp_s()))
            case Txn() if _needs_time(command):
                return encode(msgspec.structs.replace(command, at_s=self._stamp_s()))
        return data

    def due_in_s(self, now_s: float) -> float | None:
        """How long until something ends, or log time has to go on; None: nothing will end.

        As `Timed.due_in_s`.
        """
        ends_at_s = self._leases.first_end_s()
        if ends_at_s is None:
            return None
        log_now_s = self._log_now_s(now_s)
        return min(ends_at_s, self._clock.log_time_s + CLOCK_TICK_S) - log_now_s

    def command_when_due(self, now_s: float) -> bytes:
        """Have what is over end.

        As `Timed.command_when_due`.
        """
        return encode(Expire(self._log_now_s(now_s)))

    def _stamp_s(self) -> float:
        now_s = monotonic_s()
        self._start_clock(now_s)
        return self._clock.stamp(now_s)

    def _log_now_s(self, now_s: float) -> float:
        self._start_clock(now_s)
        return self._clock.reading_s(now_s)

    def _start_clock(self, now_s: float) -> None:
        if not self._clock.is_started:
            self._clock.start(now_s)

    def _advance(self, at_s: float | None) -> float:
        """Log time goes on; returns what it is. A command that nobody prepared does not move it."""
        if at_s is not None:
            self._clock.apply(at_s, monotonic_s())
        return self._clock.log_time_s

    # -- commands --------------------------------------------------------------------------

    def apply(self, index: LogIndex, data: bytes) -> Result:
        """Apply one command, as `trioraft.kv.commands.encode` makes them.

        As `StateMachine.apply`.

        Raises:
            UnknownCommand: the command cannot be read; nothing was changed, on any node.
            RaftError: one of `error_types` says why it was not done; nothing was changed.
        """
        self._index = index
        if self._discarded:
            self._discarded.let_go()
        command = decode_command(data)
        result = self._result_of(index, command)
        if self._changes:
            changes, self._changes = self._changes, []
            for change in changes:
                self._history.add(change)
                self._watches.changed(change)
        return result

    def _result_of(self, index: LogIndex, command: Command) -> Result:
        match command:
            case Put() | Append() | Delete():
                return self._write(index, command, None)
            case Cas():
                return self._compare_and_set(index, command)
            case Increment():
                return self._increment(index, command)
            case DeleteRange():
                return self._delete_range(index, command)
            case Txn():
                return self._transact(index, command)
            case GrantLease():
                return self._grant(index, command)
            case KeepAlive():
                now_s = self._advance(command.at_s)
                lease = self._leases.renew(command.lease_id, command.prefix, now_s)
                return Granted(index, lease.lease_id, lease.ttl_ms)
            case Revoke():
                lease = self._leases.find(command.lease_id, command.prefix)
                return Deleted(index, self._end_lease(index, lease.lease_id, is_expired=False))
            case Expire():
                return self._expire(index, command.at_s)

    def _write(
        self, index: LogIndex, command: Put | Append | Delete, at_s: float | None
    ) -> Written:
        key = command.key
        before = self._records.get(key)
        match command:
            case Put():
                after: Record | None = self._put(index, command, before, at_s)
            case Append():
                value = _joined(key, b"" if before is None else before.value, command.value)
                after = _rewritten(index, before, value)
            case Delete():
                after = None
        if after is None and before is None:
            return Written(index, False)
        self._set(index, key, before, after)
        previous = before.value if command.wants_previous and before is not None else None
        if after is None:
            return Written(index, before is not None, previous)
        return Written(index, before is not None, previous, after.created_index, after.version)

    def _put(
        self, index: LogIndex, command: Put, before: Record | None, at_s: float | None
    ) -> Record:
        created_index = index if before is None else before.created_index
        version = 1 if before is None else before.version + 1
        lease_id, ttl_ms = command.lease_id, command.ttl_ms
        if lease_id is None and ttl_ms is None:
            return Record(command.value, index, created_index, version)
        if lease_id is not None:
            self._leases.check_may_have(lease_id, command.key)
        ends_at_s = None
        if ttl_ms is not None:
            ends_at_s = self._advance(command.at_s if at_s is None else at_s) + ttl_ms / 1000
        return Record(command.value, index, created_index, version, lease_id or 0, ends_at_s)

    def _compare_and_set(self, index: LogIndex, command: Cas) -> Swapped:
        before = self._records.get(command.key)
        found = None if before is None else before.value
        if found != command.expected:
            if before is None:
                return Swapped(index, False, None)
            revision = before.changed_index, before.created_index, before.version
            return Swapped(index, False, found, *revision)
        after = self._put(index, Put(command.key, command.value), before, None)
        self._set(index, command.key, before, after)
        return Swapped(index, True, found, index, after.created_index, after.version)

    def _increment(self, index: LogIndex, command: Increment) -> Incremented:
        before = self._records.get(command.key)
        number = _number(command.key, b"0" if before is None else before.value) + command.by
        if not NUMBER_MIN <= number <= NUMBER_MAX:
            raise ValueTooLarge(
                f"adding {command.by} at key {command.key[:80]!r} makes {number}, which is beyond "
                "64 bits: nothing was added"
            )
        after = _rewritten(index, before, b"%d" % number)
        self._set(index, command.key, before, after)
        return Incremented(index, number, after.created_index, after.version)

    def _delete_range(self, index: LogIndex, command: DeleteRange) -> Deleted:
        span = Span.of(command.prefix, command.until)
        limit = CHANGES_MAX if command.limit is None else command.limit
        doomed: list[tuple[bytes, Record]] = []
        has_more = False
        for pair in self._pairs_in(span):
            if len(doomed) == limit:
                has_more = True
                break
            doomed.append(pair)
        if has_more and command.limit is None:
            raise RequestTooLarge(
                f"more than {CHANGES_MAX} keys are in the range that begins with "
                f"{command.prefix[:80]!r}: nothing was removed; give a limit, and remove them in "
                "several steps"
            )
        for key, record in doomed:
            self._set(index, key, record, None)
        return Deleted(index, len(doomed), has_more)

    def _set(
        self,
        index: LogIndex,
        key: bytes,
        before: Record | None,
        after: Record | None,
        *,
        is_expired: bool = False,
    ) -> None:
        """The only place in which a command changes a key."""
        if self._undo is not None:
            self._undo.append((key, before, after))
        self._replace(key, before, after)
        previous = None if before is None else before.value
        if after is not None:
            change = Change(
                index,
                key,
                after.value,
                previous,
                after.created_index,
                after.version,
                after.lease_id,
            )
        elif before is not None:
            change = Change(
                index, key, None, previous, before.created_index, 0, before.lease_id, is_expired
            )
        else:
            return
        self._changes.append(change)

    def _replace(self, key: bytes, before: Record | None, after: Record | None) -> None:
        if after is None:
            self._records.delete(key)
        else:
            self._records.set(key, after)
        if may_end(before) or may_end(after):
            self._leases.moved(key, before, after)

    # -- transactions ----------------------------------------------------------------------

    def _transact(self, index: LogIndex, txn: Txn) -> TxnDone:
        succeeded = self._all_hold(txn.compares)
        operations = txn.then if succeeded else txn.otherwise
        self._undo = []
        try:
            results = self._results_of(index, operations, txn.at_s)
        except RaftError:
            for key, before, after in reversed(self._undo):
                self._replace(key, after, before)
            self._changes.clear()
            raise
        finally:
            self._undo = None
        return TxnDone(index, succeeded, results)

    def _results_of(
        self, index: LogIndex, operations: Iterable[Operation], at_s: float | None
    ) -> tuple[OperationResult, ...]:
        results: list[OperationResult] = []
        answered_bytes = written_bytes = 0
        for operation in operations:
            begin = len(self._changes)
            result = self._operate(index, operation, at_s)
            results.append(result)
            answered_bytes += _answered_bytes(result)
            written_bytes += sum(map(_written_bytes, self._changes[begin:]))
            if (
                len(self._changes) > CHANGES_MAX
                or max(answered_bytes, written_bytes) > TXN_BYTES_MAX
            ):
                raise RequestTooLarge(
                    f"the first {len(results)} operations change {len(self._changes)} keys, write "
                    f"{written_bytes} bytes and answer {answered_bytes}; a transaction has at most "
                    f"{CHANGES_MAX} keys and {TXN_BYTES_MAX} bytes of each: nothing was changed"
                )
        return tuple(results)

    def _operate(
        self, index: LogIndex, operation: Operation, at_s: float | None
    ) -> OperationResult:
        match operation:
            case Put() | Append() | Delete():
                return self._write(index, operation, at_s)
            case Increment():
                return self._increment(index, operation)
            case DeleteRange():
                return self._delete_range(index, operation)
            case Look(query=Get() as get):
                return Looked(self._get(get))
            case Look(query=Range() as wanted):
                return Looked(self._range(wanted))
        raise UnknownCommand(f"{type(operation).__name__} is nothing that a transaction can do")

    def _all_hold(self, compares: Iterable[Compare]) -> bool:
        room = COMPARED_KEYS_MAX
        for compare in compares:
            if not compare.is_prefix and compare.until is None:
                record = self._records.get(compare.key)
                count = 0 if record is None else 1
                if not _holds(compare, record, count):
                    return False
                continue
            span = Span.of(compare.key, compare.until)
            count = self._records.count(span.start, span.end)
            if compare.by is CompareBy.COUNT:
                if not _holds(compare, None, count):
                    return False
                continue
            room -= count
            if room < 0:
                raise RequestTooLarge(
                    f"the comparisons of one transaction look at more than {COMPARED_KEYS_MAX} "
                    "keys: nothing was changed; compare fewer"
                )
            if not all(_holds(compare, record, 1) for _, record in self._pairs_in(span)):
                return False
        return True

    # -- leases ----------------------------------------------------------------------------

    def _grant(self, index: LogIndex, command: GrantLease) -> Granted:
        now_s = self._advance(command.at_s)
        self._leases.grant(index, command.ttl_ms, command.prefix, now_s)
        if command.value is not None:
            key = ordered_key(command.prefix, index)
            before = self._records.get(key)
            after = self._put(index, Put(key, command.value, lease_id=index), before, None)
            self._set(index, key, before, after)
        return Granted(index, index, command.ttl_ms)

    def _end_lease(self, index: LogIndex, lease_id: int, *, is_expired: bool) -> int:
        keys = self._leases.keys_of(lease_id)
        for key in keys:
            self._set(index, key, self._records.get(key), None, is_expired=is_expired)
        self._leases.remove(lease_id)
        return len(keys)

    def _expire(self, index: LogIndex, at_s: float) -> Deleted:
        """End what is over; not all of it at once, if that is much."""
        now_s = self._advance(at_s)
        leases, count, steps = self._leases, 0, 0
        while steps < CHANGES_MAX:
            lease_id = leases.first_lease_due(now_s)
            if lease_id is not None:
                ended = self._end_lease(index, lease_id, is_expired=True)
                count, steps = count + ended, steps + ended + 1
                continue
            key = leases.first_key_due(now_s)
            if key is None:
                return Deleted(index, count)
            self._set(index, key, self._records.get(key), None, is_expired=True)
            count, steps = count + 1, steps + 1
        return Deleted(index, count, has_more=True)

    # -- what roles ask --------------------------------------------------------------------

    def keys_written(self, data: bytes) -> Iterable[bytes]:
        """The keys that a command may change (and whose values it may be told), or what they begin
        with; of a transaction those of its comparisons and of both branches.

        Raises:
            UnknownCommand, ConfigError: the command cannot be read.
        """
        check_nesting(data[1:])
        return _keys_of_command(decode_command(data))

    def keys_read(self, data: bytes) -> Iterable[bytes]:
        """What the answer to a query may show: keys, or what they begin with.

        Raises:
            UnknownCommand, ConfigError: the query cannot be read.
        """
        check_nesting(data[1:])
        return _keys_of_query(decode_query(data))

    # -- queries ---------------------------------------------------------------------------

    def query(self, data: bytes) -> Answer:
        """Answer one query from what is applied here, as `trioraft.kv.commands.encode` makes them.

        Raises:
            UnknownCommand: the query cannot be read.
        """
        query = decode_query(data)
        match query:
            case Get():
                return self._get(query)
            case Range():
                return self._range(query)
            case Changes():
                return self._changes_since(query)
            case TimeToLive():
                return self._life_of(query)

    def _get(self, query: Get) -> Found:
        record = self._records.get(query.key)
        if record is None:
            return Found(self._index, None)
        return Found(
            self._index,
            record.value,
            record.changed_index,
            record.created_index,
            record.version,
            record.lease_id,
        )

    def _range(self, query: Range) -> Page:
        span = Span.of(query.prefix, query.until)
        is_same = self._is_same(span, query.unchanged_since)
        if query.shows is RangeShows.COUNT:
            count = self._records.count(span.start, span.end)
            return Page(self._index, (), False, count, is_same)
        has_values = query.shows is RangeShows.PAIRS
        pairs: list[Pair] = []
        room_bytes = ANSWER_BYTES_MAX
        for key, record in self._pairs_in(span, query.after, is_descending=query.is_descending):
            if len(pairs) >= query.items_max or room_bytes <= 0:
                return Page(self._index, tuple(pairs), has_more=True, is_same=is_same)
            value = record.value if has_values else b""
            revision = record.changed_index, record.created_index, record.version
            pairs.append(Pair(key, value, *revision, record.lease_id))
            room_bytes -= len(key) + len(value)
        return Page(self._index, tuple(pairs), has_more=False, is_same=is_same)

    def _pairs_in(
        self, span: Span, after: bytes | None = None, *, is_descending: bool = False
    ) -> Iterator[tuple[bytes, Record]]:
        """The pairs of these keys, behind `after`. Not to be used any more after a change."""
        if is_descending:
            last = span.end if after is None else after
            if span.end is not None and after is not None:
                last = min(span.end, after)
            for pair in self._records.items_before(last):
                if pair[0] < span.start:
                    return
                yield pair
            return
        start = span.start if after is None else max(span.start, after)
        for pair in self._records.items_from(start):
            if span.end is not None and pair[0] >= span.end:
                return
            if pair[0] != after:
                yield pair

    def _is_same(self, span: Span, index: LogIndex | None) -> bool | None:
        """Whether nothing in it has changed since this index; None: it cannot be told."""
        if index is None or index + 1 < self._history.oldest_index:
            return None
        for scanned, change in enumerate(self._history.since(index + 1)):
            if change.key in span:
                return False
            if scanned >= SCANNED_MAX:
                return None
        return True

    def _changes_since(self, query: Changes) -> Changed | Compacted:
        oldest_index = self._history.oldest_index
        if query.from_index < oldest_index:
            return Compacted(oldest_index)
        span = Span.of(query.prefix, query.until)
        found: list[Change] = []
        room_bytes = ANSWER_BYTES_MAX
        last_index = 0
        for scanned, change in enumerate(self._history.since(query.from_index)):
            is_full = len(found) >= query.changes_max or room_bytes <= 0 or scanned >= SCANNED_MAX
            if is_full and change.index != last_index:  # what one command did stays together
                return Changed(tuple(found), change.index)
            last_index = change.index
            if change.key in span:
                found.append(change if query.wants_previous else _without_previous(change))
                room_bytes -= history.size_bytes(found[-1])
        return Changed(tuple(found), max(query.from_index, self._index + 1))

    def _life_of(self, query: TimeToLive) -> LeaseLife:
        try:
            lease = self._leases.find(query.lease_id, query.prefix)
        except LeaseNotFound:
            return LeaseLife(self._index, 0)
        remaining_s = max(0.0, lease.ends_at_s - self._log_now_s(monotonic_s()))
        keys = tuple(self._leases.keys_of(lease.lease_id))
        return LeaseLife(self._index, lease.ttl_ms, int(remaining_s * 1000), keys)

    @asynccontextmanager
    async def watch(self, data: bytes) -> AsyncIterator[AsyncIterator[Changed | Compacted]]:
        """Follow the changes that a `Changes` query, encoded, asks for, as they are made.

        Each item holds some changes; after a `Compacted` there are no more items. Nothing of a
        watch is kept here but the index that it wants next.

        Raises:
            UnknownCommand: it is no such query.

        Cancelling the body ends the subscription.
        """
        wanted = decode_query(data)
        if not isinstance(wanted, Changes):
            raise UnknownCommand(f"a {type(wanted).__name__} cannot be watched: encode a Changes")
        with self._watches.watching(wanted, self._changes_since) as items:
            yield items

    # -- snapshots -------------------------------------------------------------------------

    def snapshot(self) -> Iterator[bytes]:
        """The whole state as it is now; further commands do not show in it."""
        return encode_state(
            KvState(
                self._index,
                self._records.view(),
                self._history.view(),
                self._history.oldest_index,
                self._leases.view(),
                self._leases.first_end_s() is not None,
                self._clock.log_time_s,
            )
        )

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the whole state.

        Raises:
            ConfigError: the snapshot is not one of a `KvMachine`, or of a later release's.
        """
        restored = decode_state(chunks)
        ending: list[tuple[bytes, Record]] = []

        def parts() -> Iterator[list[tuple[bytes, Record]]]:
            for pairs in restored.parts:
                ending.extend([pair for pair in pairs if may_end(pair[1])])
                yield pairs

        records = SortedMap(parts())
        kept = ChangeHistory(
            self._changes_max,
            self._changes_bytes_max,
            changes=restored.changes,
            dropped_index=restored.oldest_index - 1,
        )
        try:
            leases = Leases(restored.leases, ending)
        except KeyError as error:
            raise ConfigError(
                f"the key-value snapshot cannot be read: a key belongs to lease {error}, which is "
                "not in it"
            ) from None
        self._discarded.add(self._records.taken_apart())
        self._records, self._history, self._index = records, kept, restored.index
        self._leases, self._clock.log_time_s = leases, restored.log_time_s
        self._watches.restored()


def _joined(key: bytes, before: bytes, appended: bytes) -> bytes:
    size_bytes = len(before) + len(appended)
    if size_bytes > VALUE_BYTES_MAX:
        raise ValueTooLarge(
            f"appending {len(appended)} bytes to {len(before)} at key {key[:80]!r} makes "
            f"{size_bytes}; at most {VALUE_BYTES_MAX} are kept: begin another key"
        )
    return before + appended


def _rewritten(index: LogIndex, before: Record | None, value: bytes) -> Record:
    """The key with another value; it goes when it went."""
    if before is None:
        return Record(value, index, index, 1)
    ends = before.lease_id, before.ends_at_s
    return Record(value, index, before.created_index, before.version + 1, *ends)


def _number(key: bytes, value: bytes) -> int:
    if len(value) <= _NUMBER_BYTES_MAX and value.removeprefix(b"-").isdigit():
        number = int(value)
        if NUMBER_MIN <= number <= NUMBER_MAX:
            return number
    raise NotANumber(
        f"key {key[:80]!r} has {value[:40]!r}, which is no decimal number of 64 bits: nothing was "
        "added"
    )


def _answered_bytes(result: OperationResult) -> int:
    match result:
        case Written(previous=bytes() as previous):
            return len(previous)
        case Looked(answer=Found() as found):
            return len(found.value or b"")
        case Looked(answer=Page() as page):
            return sum(len(pair.key) + len(pair.value) for pair in page.pairs)
    return 0


def _written_bytes(change: Change) -> int:
    return len(change.key) + len(change.value or b"")


def _without_previous(change: Change) -> Change:
    if change.previous is None:
        return change
    return Change(
        change.index,
        change.key,
        change.value,
        None,
        change.created_index,
        change.version,
        change.lease_id,
        change.is_expired,
    )


# -- comparing -----------------------------------------------------------------------------


def _holds(compare: Compare, record: Record | None, count: int) -> bool:
    found = _found(compare.by, record, count)
    operand = compare.operand
    if compare.how is CompareHow.EQUAL:
        return found == operand
    if compare.how is CompareHow.UNEQUAL:
        return found != operand
    if isinstance(found, bytes) and isinstance(operand, bytes):
        return _is_ordered(compare.how, (found > operand) - (found < operand))
    if isinstance(found, int) and isinstance(operand, int):
        return _is_ordered(compare.how, (found > operand) - (found < operand))
    return False


def _found(by: CompareBy, record: Record | None, count: int) -> bytes | int | None:
    if by is CompareBy.COUNT:
        return count
    if record is None:
        return None if by is CompareBy.VALUE else 0
    match by:
        case CompareBy.VALUE:
            return record.value
        case CompareBy.CHANGED_INDEX:
            return record.changed_index
        case CompareBy.CREATED_INDEX:
            return record.created_index
        case CompareBy.VERSION:
            return record.version
        case CompareBy.LEASE:
            return record.lease_id
    raise UnknownCommand(f"{by!r} is nothing that keys are compared by")


def _is_ordered(how: CompareHow, sign: int) -> bool:
    match how:
        case CompareHow.LESS:
            return sign < 0
        case CompareHow.LESS_OR_EQUAL:
            return sign <= 0
        case CompareHow.GREATER:
            return sign > 0
        case _:
            return sign >= 0


# -- which keys ----------------------------------------------------------------------------


def _needs_time(txn: Txn) -> bool:
    return any(
        isinstance(operation, Put) and operation.ttl_ms is not None
        for operation in (*txn.then, *txn.otherwise)
    )


def _keys_of_command(command: Command | Look) -> Iterable[bytes]:
    match command:
        case Put(key) | Append(key) | Cas(key) | Delete(key) | Increment(key):
            return (key,)
        case DeleteRange():
            return (_common(command.prefix, command.until),)
        case Look(query):
            return _keys_of_query(query)
        case Txn(compares, then, otherwise):
            compared = (_keys_of_compare(compare) for compare in compares)
            operated = (_keys_of_command(each) for each in (*then, *otherwise))
            return [*compared, *chain.from_iterable(operated)]
        case GrantLease() | KeepAlive() | Revoke():
            return (command.prefix,)
        case Expire():
            return (b"",)


def _keys_of_compare(compare: Compare) -> bytes:
    if compare.is_prefix or compare.until is not None:
        return _common(compare.key, compare.until)
    return compare.key


def _keys_of_query(query: commands.Query) -> Iterable[bytes]:
    match query:
        case Get(key):
            return (key,)
        case Range() | Changes():
            return (_common(query.prefix, query.until),)
        case TimeToLive():
            return (query.prefix,)


def _common(prefix: bytes, until: bytes | None) -> bytes:
    """What all keys of a range begin with: a role of that prefix may have them all."""
    return prefix if until is None else Span.of(prefix, until).common_prefix
