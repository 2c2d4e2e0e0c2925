"""Any commands, in any order: the machine does what a dictionary and a list of lives would."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.properties import quietly
from tests.kv.told import Told
from tests.thorough import tries
from trioraft.core.errors import RaftError
from trioraft.kv import Change, commands
from trioraft.kv.commands import (
    Append,
    Cas,
    Command,
    Compare,
    CompareBy,
    CompareHow,
    Delete,
    Deleted,
    DeleteRange,
    Expire,
    Get,
    GrantLease,
    Increment,
    KeepAlive,
    Look,
    Operation,
    Pair,
    Put,
    Range,
    RangeShows,
    Revoke,
    Txn,
)


def after(now_ms: int, ttl_ms: int) -> float:
    """When what begins now ends, in seconds, rounded as the machine rounds it."""
    return now_ms / 1000 + ttl_ms / 1000


@attrs.define
class Kept:
    value: bytes
    changed: int
    created: int
    version: int
    lease: int = 0
    ends_s: float | None = None


@attrs.define
class Model:
    """The same thing, dumbly: every question looks at everything."""

    keys: dict[bytes, Kept] = attrs.field(factory=dict)
    leases: dict[int, tuple[int, float]] = attrs.field(factory=dict)
    """By number: life and end, in milliseconds."""
    index: int = 0

    def do(self, command: Command, now_ms: int) -> bool:
        """Whether it could be done."""
        self.index += 1
        before = {key: attrs.evolve(kept) for key, kept in self.keys.items()}
        try:
            self._do(command, now_ms)
        except ValueError:
            self.keys = before
            return False
        return True

    def _do(self, command: Command | Operation, now_ms: int) -> None:
        match command:
            case Put(key, value, _, lease, ttl):
                if lease is not None and lease not in self.leases:
                    raise ValueError
                self._set(key, value, lease or 0, None if ttl is None else after(now_ms, ttl))
            case Append(key, text):
                old = self.keys.get(key)
                self._keep_ends(key, (old.value if old else b"") + text)
            case Increment(key, by):
                old = self.keys.get(key)
                self._keep_ends(key, b"%d" % (int(old.value if old else b"0") + by))
            case Cas(key, expected, value):
                old = self.keys.get(key)
                if (old.value if old else None) == expected:
                    self._set(key, value)
            case Delete(key):
                self.keys.pop(key, None)
            case DeleteRange(start, until, limit):
                for key in self.within(start, until)[:limit]:
                    del self.keys[key]
            case Txn(compares, then, otherwise):
                for operation in then if all(map(self._holds, compares)) else otherwise:
                    self._do(operation, now_ms)
            case GrantLease(ttl):
                self.leases[self.index] = ttl, after(now_ms, ttl)
            case KeepAlive(lease):
                if lease not in self.leases:
                    raise ValueError
                ttl = self.leases[lease][0]
                self.leases[lease] = ttl, after(now_ms, ttl)
            case Revoke(lease):
                if self.leases.pop(lease, None) is None:
                    raise ValueError
                self._drop(lambda kept: kept.lease == lease)
            case Expire():
                over = {lease for lease, (_, end) in self.leases.items() if end <= now_ms / 1000}
                for lease in over:
                    del self.leases[lease]
                self._drop(lambda kept: kept.lease in over)
                self._drop(lambda kept: kept.ends_s is not None and kept.ends_s <= now_ms / 1000)

    def within(self, start: bytes, until: bytes | None) -> list[bytes]:
        if until is None:
            return sorted(key for key in self.keys if key.startswith(start))
        return sorted(key for key in self.keys if start <= key < until)

    def _drop(self, is_over: Any) -> None:
        self.keys = {key: kept for key, kept in self.keys.items() if not is_over(kept)}

    def _set(self, key: bytes, value: bytes, lease: int = 0, ends_s: float | None = None) -> None:
        old = self.keys.get(key)
        created, version = (old.created, old.version + 1) if old else (self.index, 1)
        self.keys[key] = Kept(value, self.index, created, version, lease, ends_s)

    def _keep_ends(self, key: bytes, value: bytes) -> None:
        old = self.keys.get(key)
        self._set(key, value, old.lease if old else 0, old.ends_s if old else None)

    def _holds(self, compare: Compare) -> bool:
        if compare.by is CompareBy.COUNT:
            return len(self.within(compare.key, compare.until)) == compare.operand
        keys = self.within(compare.key, compare.until) if compare.is_prefix else [compare.key]
        return all(self._found(compare.by, key) == compare.operand for key in keys)

    def _found(self, by: CompareBy, key: bytes) -> bytes | int | None:
        kept = self.keys.get(key)
        if by is CompareBy.VALUE:
            return None if kept is None else kept.value
        return 0 if kept is None else kept.version

    def pairs(self, start: bytes = b"", until: bytes | None = None) -> list[Pair]:
        found = [(key, self.keys[key]) for key in self.within(start, until)]
        return [
            Pair(key, kept.value, kept.changed, kept.created, kept.version, kept.lease)
            for key, kept in found
        ]


KEYS = st.sampled_from([b"a", b"a/1", b"b", b"\xff"])
PREFIXES = st.sampled_from([b"", b"a", b"a/", b"b", b"\xff", b"c"])
UNTIL = st.none() | KEYS
VALUES = st.sampled_from([b"", b"0", b"7", b"-3"])
TTLS = st.none() | st.integers(1, 50)
LEASES = st.none() | st.integers(1, 4)
OPERATIONS = st.one_of(
    st.builds(Put, KEYS, VALUES, st.just(False), LEASES, TTLS),
    st.builds(Append, KEYS, st.sampled_from([b"", b"1"])),
    st.builds(Delete, KEYS),
    st.builds(Increment, st.just(b"b"), st.integers(-2, 2)),
    st.builds(DeleteRange, PREFIXES, UNTIL, st.none() | st.integers(1, 3)),
    st.builds(Look, st.builds(Get, KEYS)),
)
COMPARES = st.one_of(
    st.builds(
        Compare,
        PREFIXES,
        st.just(CompareBy.VERSION),
        st.just(CompareHow.EQUAL),
        st.integers(0, 2),
        st.booleans(),
    ),
    st.builds(
        Compare,
        KEYS,
        st.just(CompareBy.VALUE),
        st.just(CompareHow.EQUAL),
        st.none() | VALUES,
    ),
    st.builds(
        Compare,
        PREFIXES,
        st.just(CompareBy.COUNT),
        st.just(CompareHow.EQUAL),
        st.integers(0, 3),
        st.just(True),
        UNTIL,
    ),
)
BRANCHES = st.lists(OPERATIONS, max_size=4).map(tuple)
COMMANDS = st.one_of(
    *(OPERATIONS.filter(lambda operation: not isinstance(operation, Look)),),
    st.builds(Cas, KEYS, st.none() | VALUES, VALUES),
    st.builds(Txn, st.lists(COMPARES, max_size=2).map(tuple), BRANCHES, BRANCHES),
    *[st.builds(GrantLease, st.integers(1, 50))] * 3,
    st.builds(KeepAlive, st.integers(1, 4)),
    st.builds(Revoke, st.integers(1, 4)),
    *[st.just(Expire(0))] * 4,
)
STEPS = st.lists(st.tuples(COMMANDS, st.integers(0, 20)), min_size=5, max_size=30)


@settings(quietly, max_examples=tries(500))
@given(STEPS, st.integers(0, 24))
def test_it_does_what_a_dictionary_would(steps: list[tuple[Any, int]], restart: int) -> None:
    told, model = Told(), Model()
    seen: dict[bytes, Change] = {}
    for number, (command, later_ms) in enumerate(steps):
        if number == restart:
            told = told.restarted()
        told.now_s += later_ms / 1000
        now_ms = round(told.now_s * 1000)
        told.now_s = now_ms / 1000
        try:
            told.do(command)
            has_done = True
        except RaftError:
            has_done = False
        assert model.do(command, now_ms) == has_done, command
        _compare(told, model, seen)


def _compare(told: Told, model: Model, seen: dict[bytes, Change]) -> None:
    page = told.ask(Range())
    assert list(page.pairs) == model.pairs()
    assert told.machine.leases_count == len(model.leases)
    for change in told.changes(told.index, wants_previous=True):
        before = seen.get(change.key)
        assert change.previous == (None if before is None else before.value)
        seen[change.key] = change
    alive = {key: change.value for key, change in seen.items() if change.value is not None}
    assert alive == {key: kept.value for key, kept in model.keys.items()}


@given(st.sets(KEYS), PREFIXES, UNTIL, st.booleans(), st.integers(1, 3))
def test_ranges_are_what_they_say(
    keys: set[bytes], prefix: bytes, until: bytes | None, is_descending: bool, items_max: int
) -> None:
    told, model = Told(), Model()
    for key in sorted(keys):
        told.do(Put(key, key))
        model.do(Put(key, key), 0)
    expected = model.pairs(prefix, until)
    assert told.ask(Range(prefix, until=until, shows=RangeShows.COUNT)).count == len(expected)
    found: list[Pair] = []
    after = None
    while True:
        page = told.ask(Range(prefix, after, items_max, until, is_descending))
        found += page.pairs
        if not page.has_more:
            break
        after = found[-1].key
    assert found == (expected[::-1] if is_descending else expected)
    removed = told.do(DeleteRange(prefix, until))
    assert removed == Deleted(told.index, len(expected))
    assert told.pairs(prefix=prefix, until=until) == []


def test_the_model_is_asked_for_every_kind_of_command() -> None:
    tried = {Put, Append, Cas, Delete, Increment, DeleteRange, Txn}
    assert tried | {GrantLease, KeepAlive, Revoke, Expire} == set(commands.Command.__args__)
