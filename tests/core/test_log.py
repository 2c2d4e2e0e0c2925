"""RaftLog against the dumbest model there is: a list of entries and some numbers.

Rules of this file: operations are drawn at random and done to both; after each the log must
look like the list. What the log must refuse, it refuses.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from trioraft.core.errors import InvariantViolation
from trioraft.core.log import RaftLog
from trioraft.core.types import Entry

from .conversation import entries_of
from .properties import quietly

sorted_terms = st.lists(st.integers(1, 6), max_size=12).map(sorted)


def log_of(*terms: int) -> RaftLog:
    """A recovered log with entries of these terms."""
    return RaftLog(entries_of(*terms))


class LogAgainstList(RuleBasedStateMachine):
    """One log and one list, driven alike."""

    def __init__(self) -> None:
        super().__init__()
        self.log = RaftLog()
        self.entries: list[Entry] = []
        self.term = 1
        self.commit = 0
        self.stable = 0
        self.base = 0

    def new_entries(self, first: int, sizes: list[int]) -> list[Entry]:
        return [Entry(first + n, self.term, b"x" * size) for n, size in enumerate(sizes)]

    @rule(by=st.integers(1, 3))
    def next_term(self, by: int) -> None:
        self.term += by

    @rule(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=5))
    def append(self, sizes: list[int]) -> None:
        new = self.new_entries(len(self.entries) + 1, sizes)
        self.log.append(new)
        self.entries += new

    @rule(size=st.integers(0, 9))
    def append_one(self, size: int) -> None:
        (new,) = self.new_entries(len(self.entries) + 1, [size])
        self.log.append_one(new)
        self.entries.append(new)

    @rule(data=st.data(), sizes=st.lists(st.integers(0, 9), min_size=1, max_size=5))
    def merge_over_a_tail(self, data: st.DataObject, sizes: list[int]) -> None:
        """A leader of a later term sends entries that overlap, and may contradict, ours."""
        overlap_from = data.draw(st.integers(self.commit + 1, len(self.entries) + 1))
        kept = data.draw(st.integers(overlap_from, len(self.entries) + 1))
        self.term += 1
        sent = self.entries[overlap_from - 1 : kept - 1] + self.new_entries(kept, sizes)
        cut = self.log.merge(sent)
        assert cut == (kept if kept <= len(self.entries) else None)
        self.entries[kept - 1 :] = sent[kept - overlap_from :]
        self.stable = min(self.stable, kept - 1)

    @rule(data=st.data())
    def merge_what_is_here(self, data: st.DataObject) -> None:
        first = data.draw(st.integers(1, len(self.entries) + 1))
        last = data.draw(st.integers(first - 1, len(self.entries)))
        assert self.log.merge(self.entries[first - 1 : last]) is None

    @precondition(lambda self: self.commit < len(self.entries))
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        first = data.draw(st.integers(self.commit + 1, len(self.entries)))
        self.log.truncate(first)
        del self.entries[first - 1 :]
        self.stable = min(self.stable, first - 1)

    @rule(data=st.data())
    def commit_to(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.entries)))
        assert self.log.commit_to(index) == (index > self.commit)
        self.commit = max(self.commit, index)

    @rule(data=st.data())
    def apply_and_compact(self, data: st.DataObject) -> None:
        """The list keeps everything; the log forgets what a snapshot stands for."""
        self.log.applied_index = self.commit
        self.base = data.draw(st.integers(self.base, self.commit))
        self.log.compact(self.base)

    @rule()
    def hand_out_and_persist(self) -> None:
        self.log.handed_index = self.log.last_index
        self.log.stable_index = self.log.last_index
        self.stable = len(self.entries)

    @precondition(lambda self: self.commit > 0)
    @rule(data=st.data())
    def cutting_what_is_committed_is_refused(self, data: st.DataObject) -> None:
        with pytest.raises(InvariantViolation, match="would remove entries committed"):
            self.log.truncate(data.draw(st.integers(1, self.commit)))

    @rule(beyond=st.integers(1, 5))
    def committing_what_is_not_there_is_refused(self, beyond: int) -> None:
        with pytest.raises(InvariantViolation, match="beyond the log"):
            self.log.commit_to(len(self.entries) + beyond)

    @rule(gap=st.integers(2, 4))
    def a_gap_is_refused(self, gap: int) -> None:
        with pytest.raises(InvariantViolation, match="does not continue"):
            self.log.append([Entry(len(self.entries) + gap, self.term)])

    @invariant()
    def they_look_alike(self) -> None:
        log, entries, base = self.log, self.entries, self.base
        assert log.last_index == len(entries)
        assert log.last_term == (entries[-1].term if entries else 0)
        assert log.first_index == base + 1
        assert log.entries(base + 1, len(entries)) == tuple(entries[base:])
        terms = [0, *(entry.term for entry in entries), None]
        assert [log.term_at(n) for n in range(base, len(entries) + 2)] == terms[base:]
        assert all(log.term_at(n) is None for n in range(base))
        assert (log.commit_index, log.stable_index) == (self.commit, self.stable)
        assert log.stable_index <= log.handed_index <= log.last_index
        assert log.size_bytes(base + 1, len(entries)) == sum(len(e.data) for e in entries[base:])


TestLogAgainstList = LogAgainstList.TestCase
TestLogAgainstList.settings = quietly


SIZES = st.lists(st.integers(0, 20), min_size=1, max_size=15)
ENTRIES_MAX = st.integers(1, 8)


@given(SIZES, st.data(), ENTRIES_MAX, st.integers(0, 60))
@quietly
def test_a_batch_is_the_longest_within_its_bounds_and_at_least_one_entry(
    sizes: list[int], data: st.DataObject, entries_max: int, bytes_max: int
) -> None:
    log = RaftLog([Entry(n, 1, b"x" * size) for n, size in enumerate(sizes, 1)])
    first = data.draw(st.integers(1, len(sizes)))
    fitting = [
        last
        for last in range(first, len(sizes) + 1)
        if last - first < entries_max and sum(sizes[first - 1 : last]) <= bytes_max
    ]
    expected = max(fitting, default=first)
    assert log.last_within(first, entries_max=entries_max, bytes_max=bytes_max) == expected


@given(SIZES, st.data(), ENTRIES_MAX, st.integers(1, 60))
@quietly
def test_a_tail_is_the_longest_within_its_bounds(
    sizes: list[int], data: st.DataObject, entries_max: int, bytes_max: int
) -> None:
    log = RaftLog(
        [Entry(n, 1, b"x" * size) for n, size in enumerate(sizes, 8)], base_index=7, base_term=1
    )
    last = data.draw(st.integers(7, 7 + len(sizes)))
    fitting = [
        base
        for base in range(7, last + 1)
        if last - base <= entries_max and sum(sizes[base - 7 : last - 7]) <= bytes_max
    ]
    assert log.base_of_tail(last, entries_max=entries_max, bytes_max=bytes_max) == min(fitting)
    assert log.held_bytes == sum(sizes)


@given(sorted_terms, st.integers(1, 6))
@quietly
def test_the_last_index_of_a_term(terms: list[int], term: int) -> None:
    found = [index for index, at in enumerate(terms, 1) if at == term]
    assert log_of(*terms).last_index_of_term(term) == (found[-1] if found else None)


@given(sorted_terms, st.integers(1, 15))
@quietly
def test_the_hint_names_the_first_index_of_the_conflicting_term(
    terms: list[int], prev_index: int
) -> None:
    if prev_index > len(terms):
        expected = (len(terms) + 1, 0)
    else:
        term = terms[prev_index - 1]
        expected = (terms.index(term) + 1, term)
    assert log_of(*terms).conflict_hint(prev_index) == expected


@given(sorted_terms, sorted_terms)
@quietly
def test_of_two_logs_one_at_least_is_up_to_date_for_the_other(a: list[int], b: list[int]) -> None:
    one, two = log_of(*a), log_of(*b)
    one_suffices = two.is_up_to_date(one.last_index, one.last_term)
    two_suffices = one.is_up_to_date(two.last_index, two.last_term)
    assert one_suffices or two_suffices
    if one_suffices and two_suffices:
        assert (one.last_term, one.last_index) == (two.last_term, two.last_index)


@given(sorted_terms, sorted_terms)
@quietly
def test_the_first_conflict_is_where_the_terms_part(a: list[int], b: list[int]) -> None:
    pairs = enumerate(zip(a, b, strict=False), 1)
    expected = next((index for index, (ours, theirs) in pairs if ours != theirs), None)
    assert log_of(*a).first_conflict(entries_of(*b)) == expected


def test_a_log_does_not_continue_with_an_earlier_term() -> None:
    with pytest.raises(InvariantViolation, match="does not continue"):
        log_of(1, 3).append([Entry(3, 2)])


def test_entries_that_are_not_there_are_not_given() -> None:
    with pytest.raises(InvariantViolation, match=r"entries 2\.\.4 asked"):
        log_of(1, 1).entries(2, 4)


def test_a_log_above_a_base_knows_the_term_of_its_base_only() -> None:
    log = RaftLog(entries_of(3, 3, 4, first=6), base_index=5, base_term=2)
    assert [log.term_at(index) for index in (4, 5, 6, 8, 9)] == [None, 2, 3, 4, None]
    assert (log.first_index, log.last_index, log.commit_index, log.applied_index) == (6, 8, 5, 5)
    assert log.conflict_hint(7) == (6, 3)
    assert log.conflict_hint(9) == (9, 0)
    assert log.conflict_hint(3) == (3, 0)


def test_an_empty_log_shows_as_such() -> None:
    assert str(RaftLog().summary()) == "[]"
    assert str(log_of(1, 2, 2).summary()) == "[1..3 term 2]"
