"""RaftLog: the log in memory, and how far it is durable, committed and applied.

Rules of this file:

* Entries stand at base_index + 1 … last_index without a gap; terms never decrease.
* Invariant: applied_index <= commit_index <= last_index and stable_index <= handed_index <=
  last_index. base_index <= applied_index too, except while a snapshot that was received is being
  restored: then applied_index is behind until the state machine has it.
* A committed entry is never truncated (paper, section 5.4.3): asking for it is an error.
* What is cut is no longer durable: stable_index and handed_index go back with it (hazard D2).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from operator import attrgetter

from .config import ENTRY_OVERHEAD_BYTES
from .errors import InvariantViolation
from .events import LogSummary
from .types import Entry, LogIndex, SnapshotMeta, Term

_term_of = attrgetter("term")


class RaftLog:
    """The entries after the base, with the four marks that a node keeps on them."""

    __slots__ = (
        "_bytes_at_base",
        "_ends_bytes",
        "_entries",
        "applied_index",
        "base_index",
        "base_term",
        "commit_index",
        "handed_index",
        "last_index",
        "stable_index",
    )

    def __init__(
        self, entries: Sequence[Entry] = (), *, base_index: LogIndex = 0, base_term: Term = 0
    ) -> None:
        """A log recovered from storage: all of `entries` are durable.

        Args:
            entries: continuous, from base_index + 1.
            base_index: last index that is covered by a snapshot; 0 for none.
            base_term: the term of that index.
        """
        self.base_index: LogIndex = base_index
        self.base_term: Term = base_term
        self.last_index: LogIndex = base_index
        """Of the last entry, durable or not: base_index + the number of entries, looked at
        often."""
        self._entries: list[Entry] = []
        # Command bytes from the log's creation up to and including each entry: sizes of slices
        # are then differences, and the bounds on bytes cost a bisection instead of a sum.
        self._ends_bytes: list[int] = []
        self._bytes_at_base = 0
        self.commit_index: LogIndex = base_index
        self.applied_index: LogIndex = base_index
        self.append(entries)
        self.handed_index: LogIndex = self.last_index
        self.stable_index: LogIndex = self.last_index

    # -- reading ---------------------------------------------------------------------------

    @property
    def last_term(self) -> Term:
        """Term of the last entry."""
        return self._entries[-1].term if self._entries else self.base_term

    @property
    def first_index(self) -> LogIndex:
        """Index of the first entry that is still here."""
        return self.base_index + 1

    def term_at(self, index: LogIndex) -> Term | None:
        """Term of the entry at `index`; None if it is compacted away or not there yet."""
        offset = index - self.base_index - 1
        if offset == -1:
            return self.base_term
        if 0 <= offset < len(self._entries):
            return self._entries[offset].term
        return None

    def entries(self, first: LogIndex, last: LogIndex) -> tuple[Entry, ...]:
        """Entries first … last, both included."""
        base = self.base_index
        if first <= base or last > self.last_index:
            raise InvariantViolation(
                f"entries {first}..{last} asked of a log that holds "
                f"{self.first_index}..{self.last_index}"
            )
        return tuple(self._entries[first - base - 1 : last - base])

    def size_bytes(self, first: LogIndex, last: LogIndex) -> int:
        """Bytes of commands in entries first … last."""
        return self._end_bytes(last) - self._end_bytes(first - 1)

    def last_within(self, first: LogIndex, *, entries_max: int, bytes_max: int) -> LogIndex:
        """The last index of a batch from `first` within both bounds; at least `first` itself."""
        last = min(self.last_index, first + entries_max - 1)
        if self.size_bytes(first, last) > bytes_max:
            limit = self._end_bytes(first - 1) + bytes_max
            fitting = bisect_right(self._ends_bytes, limit)
            last = max(first, self.base_index + fitting)
        return last

    def base_of_tail(self, last: LogIndex, *, entries_max: int, bytes_max: int) -> LogIndex:
        """The index after which a tail up to entry `last` begins that is within both bounds; `last`
        itself if not even that entry is."""
        base = max(self.base_index, last - entries_max)
        surplus_bytes = self.size_bytes(base + 1, last) - bytes_max
        if surplus_bytes > 0:
            least = self._end_bytes(base) + surplus_bytes
            base = min(last, self.base_index + 1 + bisect_left(self._ends_bytes, least))
        return base

    @property
    def held_bytes(self) -> int:
        """Bytes of commands in all the entries that are here."""
        return self._end_bytes(self.last_index) - self._bytes_at_base

    @property
    def memory_bytes(self) -> int:
        """What all of that takes, about."""
        ends = self._ends_bytes  # asked with each command
        held_bytes = ends[-1] - self._bytes_at_base if ends else 0
        return held_bytes + len(ends) * ENTRY_OVERHEAD_BYTES

    def _end_bytes(self, index: LogIndex) -> int:
        offset = index - self.base_index - 1
        return self._bytes_at_base if offset < 0 else self._ends_bytes[offset]

    def is_up_to_date(self, last_index: LogIndex, last_term: Term) -> bool:
        """Whether a candidate's log is at least as up-to-date as this one (paper, 5.4.1).

        Term first, index second: lexicographic, never field by field (hazard V6).
        """
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def conflict_hint(self, prev_index: LogIndex) -> tuple[LogIndex, Term]:
        """Where a leader whose entry at `prev_index` does not match should look next.

        Returns:
            (one past the end, 0) when the log is too short; otherwise the first index of the
            term that stands at `prev_index`, and that term (paper, end of section 5.3).
        """
        term = self.term_at(prev_index)
        if term is None:
            return (self.last_index + 1, 0) if prev_index > self.last_index else (prev_index, 0)
        first = bisect_left(self._entries, term, key=_term_of)
        return max(self.base_index + 1 + first, self.first_index), term

    def last_index_of_term(self, term: Term) -> LogIndex | None:
        """Last index that bears `term`, or None if no entry here does."""
        after = bisect_right(self._entries, term, key=_term_of)
        if after and self._entries[after - 1].term == term:
            return self.base_index + after
        return None

    def summary(self) -> LogSummary:
        """For events and logs."""
        return LogSummary(self.first_index, self.last_index, self.last_term)

    # -- writing ---------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> None:
        """Continue the log. The entries must start at last_index + 1."""
        if not entries:
            return
        if entries[0].index != self.last_index + 1 or entries[0].term < self.last_term:
            raise InvariantViolation(
                f"entry {entries[0].index} of term {entries[0].term} does not continue a log that "
                f"ends at {self.last_index} of term {self.last_term}"
            )
        end = self._ends_bytes[-1] if self._ends_bytes else self._bytes_at_base
        sizes = [len(entry.data) for entry in entries]
        sizes[0] += end
        self._ends_bytes.extend(accumulate(sizes))
        self._entries.extend(entries)
        self.last_index += len(entries)

    def append_one(self, entry: Entry) -> None:
        """`append` of a single entry made by this leader: the hot path of propose."""
        ends = self._ends_bytes
        ends.append((ends[-1] if ends else self._bytes_at_base) + len(entry.data))
        self._entries.append(entry)
        self.last_index += 1

    def merge(self, entries: Sequence[Entry]) -> LogIndex | None:
        """Take a leader's entries after a successful consistency check (paper, figure 2).

        Entries that are here already stay untouched: a delayed or duplicated message truncates
        nothing (hazard A3). From the first conflict on, ours give way.

        Returns:
            The first index that was cut, or None.
        """
        for position, entry in enumerate(entries):
            term = self.term_at(entry.index)
            if term is None and entry.index > self.last_index:
                self.append(entries[position:])
                return None
            if term is not None and term != entry.term:
                self.truncate(entry.index)
                self.append(entries[position:])
                return entry.index
        return None

    def first_conflict(self, entries: Sequence[Entry]) -> LogIndex | None:
        """The first index at which `entries` contradict this log, or None."""
        for entry in entries:
            term = self.term_at(entry.index)
            if term is None:
                if entry.index > self.last_index:
                    return None
            elif term != entry.term:
                return entry.index
        return None

    def truncate(self, first_removed: LogIndex) -> None:
        """Cut the entries from `first_removed` on."""
        if first_removed <= self.commit_index:
            raise InvariantViolation(
                f"truncating from {first_removed} would remove entries committed up to "
                f"{self.commit_index}"
            )
        keep = first_removed - self.base_index - 1
        del self._entries[keep:]
        del self._ends_bytes[keep:]
        self.last_index = first_removed - 1
        self.handed_index = min(self.handed_index, self.last_index)
        self.stable_index = min(self.stable_index, self.last_index)

    def compact(self, base_index: LogIndex) -> None:
        """Forget the entries up to `base_index`; a snapshot stands for them (paper, section 7)."""
        term = self.term_at(base_index)
        if term is None or base_index > self.applied_index:
            raise InvariantViolation(
                f"compacting up to {base_index} a log that holds {self.first_index}.."
                f"{self.last_index} and is applied up to {self.applied_index}"
            )
        count = base_index - self.base_index
        if count:
            self._bytes_at_base = self._ends_bytes[count - 1]
        del self._entries[:count]
        del self._ends_bytes[:count]
        self.base_index, self.base_term = base_index, term

    def restart_from(self, snapshot: SnapshotMeta) -> bool:
        """A snapshot takes the place of everything up to its index (paper, figure 13, steps 6–7).

        What follows is kept if the log holds the snapshot's last entry, and dropped otherwise.

        Returns:
            Whether it was kept.
        """
        if snapshot.index <= self.commit_index:
            raise InvariantViolation(
                f"a snapshot of {snapshot.index} would take back entries committed up to "
                f"{self.commit_index}"
            )
        keeps_rest = self.term_at(snapshot.index) == snapshot.term
        count = snapshot.index - self.base_index if keeps_rest else len(self._entries)
        if count:
            self._bytes_at_base = self._ends_bytes[count - 1]
        del self._entries[:count]
        del self._ends_bytes[:count]
        self.base_index, self.base_term = snapshot.index, snapshot.term
        self.last_index = self.base_index + len(self._entries)
        self.commit_index = snapshot.index
        self.handed_index = max(self.base_index, min(self.handed_index, self.last_index))
        self.stable_index = max(self.base_index, min(self.stable_index, self.last_index))
        return keeps_rest

    def commit_to(self, index: LogIndex) -> bool:
        """Raise the commit index; it never goes back (hazard A4). True if it moved."""
        if index <= self.commit_index:
            return False
        if index > self.last_index:
            raise InvariantViolation(
                f"commit index {index} is beyond the log, which ends at {self.last_index}"
            )
        self.commit_index = index
        return True
