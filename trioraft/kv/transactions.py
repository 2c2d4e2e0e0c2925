"""Transactions as they are written: `If` something holds, `Do` this, else that; and what it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, final

import attrs

from ..core.errors import ConfigError, RaftError
from ..core.types import LogIndex
from .commands import (
    COMPARES_MAX,
    OPERATIONS_MAX,
    Append,
    Compare,
    CompareBy,
    CompareHow,
    Delete,
    Deleted,
    DeleteRange,
    Found,
    Get,
    Increment,
    Incremented,
    Look,
    Looked,
    Operation,
    Page,
    Put,
    Range,
    RangeShows,
    Txn,
    TxnDone,
    Written,
)
from .leasing import LeaseLike, lease_id_of
from .requests import Text, key_of, optional_key_of, ttl_ms_of, value_of

How: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">="]
"""How something is compared."""

HOWS: Final[Mapping[str, CompareHow]] = MappingProxyType(
    {
        "=": CompareHow.EQUAL,
        "!=": CompareHow.UNEQUAL,
        "<": CompareHow.LESS,
        "<=": CompareHow.LESS_OR_EQUAL,
        ">": CompareHow.GREATER,
        ">=": CompareHow.GREATER_OR_EQUAL,
    }
)


class StmConflict(RaftError):  # noqa: N818 - what happened, as in the other errors of this kind
    """Others changed what was read in each attempt at a transaction; nothing was written.

    Fault: of too many who change the same keys at the same time.
    Remedy: try again later, or have fewer write the same keys.
    """


@final
class If:
    """What must hold of a key, or of every key that begins with it (`is_prefix=True`).

    Of an absent key the indexes and the version are 0, and the value is nothing: equal only to
    absence, neither below nor above any. Values are compared as bytes: "10" is below "9".

    `key` is which key, as text (UTF-8) or bytes.

    `how` is "=", "!=", "<", "<=", ">" or ">=": what is stored is to the left of it.

    `is_prefix` is whether it must hold of every key that begins with `key`.
    """

    @staticmethod
    def equals(key: Text, value: Text) -> Compare:
        """It has this value.

        Args:
            value: the whole value.
        """
        return Compare(key_of(key), CompareBy.VALUE, CompareHow.EQUAL, value_of(value))

    @staticmethod
    def absent(key: Text) -> Compare:
        """There is no such key."""
        return Compare(key_of(key), CompareBy.VALUE, CompareHow.EQUAL, None)

    @staticmethod
    def present(key: Text) -> Compare:
        """There is such a key."""
        return Compare(key_of(key), CompareBy.VALUE, CompareHow.UNEQUAL, None)

    @staticmethod
    def value(key: Text, how: How, value: Text, *, is_prefix: bool = False) -> Compare:
        """Its value compared with this one, as bytes.

        Args:
            value: what it is compared with.
        """
        return Compare(key_of(key), CompareBy.VALUE, HOWS[how], value_of(value), is_prefix)

    @staticmethod
    def changed_index(key: Text, how: How, index: LogIndex, *, is_prefix: bool = False) -> Compare:
        """The index of the command that last changed it.

        Args:
            index: what it is compared with.
        """
        return Compare(key_of(key), CompareBy.CHANGED_INDEX, HOWS[how], index, is_prefix)

    @staticmethod
    def created_index(key: Text, how: How, index: LogIndex, *, is_prefix: bool = False) -> Compare:
        """The index of the command since which it is there.

        Args:
            index: what it is compared with.
        """
        return Compare(key_of(key), CompareBy.CREATED_INDEX, HOWS[how], index, is_prefix)

    @staticmethod
    def version(key: Text, how: How, version: int, *, is_prefix: bool = False) -> Compare:
        """How often it was written since it is there.

        Args:
            version: what it is compared with.
        """
        return Compare(key_of(key), CompareBy.VERSION, HOWS[how], version, is_prefix)

    @staticmethod
    def lease(key: Text, how: How, lease: LeaseLike | None, *, is_prefix: bool = False) -> Compare:
        """The lease that it belongs to; None: none.

        Args:
            lease: what it is compared with.
        """
        lease_id = 0 if lease is None else lease_id_of(lease)
        return Compare(key_of(key), CompareBy.LEASE, HOWS[how], lease_id, is_prefix)

    @staticmethod
    def count(prefix: Text, how: How, count: int) -> Compare:
        """How many keys begin so.

        Args:
            prefix: of the keys that are counted.
            count: what their number is compared with.
        """
        return Compare(key_of(prefix), CompareBy.COUNT, HOWS[how], count, is_prefix=True)


@final
class Do:
    """What a transaction does; each has the result that the method of `KvClient` has,
    and its arguments are as `KvClient` has them."""

    @staticmethod
    def put(
        key: Text,
        value: Text,
        *,
        lease: LeaseLike | None = None,
        ttl_s: float | None = None,
        wants_previous: bool = False,
    ) -> Put:
        """Set a key's value."""
        lease_id = None if lease is None else lease_id_of(lease)
        ttl_ms = None if ttl_s is None else ttl_ms_of(ttl_s)
        return Put(key_of(key), value_of(value), wants_previous, lease_id, ttl_ms)

    @staticmethod
    def append(key: Text, value: Text, *, wants_previous: bool = False) -> Append:
        """Append to a key's value."""
        return Append(key_of(key), value_of(value), wants_previous)

    @staticmethod
    def delete(key: Text, *, wants_previous: bool = False) -> Delete:
        """Remove a key."""
        return Delete(key_of(key), wants_previous)

    @staticmethod
    def delete_range(
        prefix: Text, *, until: Text | None = None, limit: int | None = None
    ) -> DeleteRange:
        """Remove the keys that begin so, or those from there up to `until`."""
        return DeleteRange(key_of(prefix), optional_key_of(until), limit)

    @staticmethod
    def increment(key: Text, by: int = 1) -> Increment:
        """Add to a number."""
        return Increment(key_of(key), by)

    @staticmethod
    def get(key: Text) -> Look:
        """Look at a key; what was done before in the same transaction shows."""
        return Look(Get(key_of(key)))

    @staticmethod
    def page(
        prefix: Text = b"",
        *,
        until: Text | None = None,
        items_max: int = 1000,
        keys_only: bool = False,
    ) -> Look:
        """Look at a range, likewise."""
        shows = RangeShows.KEYS if keys_only else RangeShows.PAIRS
        return Look(Range(key_of(prefix), None, items_max, optional_key_of(until), shows=shows))


@final
@attrs.frozen
class TxnOutcome:
    """What a transaction did."""

    index: LogIndex
    succeeded: bool
    """Whether all comparisons held."""
    results: tuple[Written | Incremented | Deleted | Found | Page, ...]
    """Of the operations of that branch, in order."""


def txn_of(if_: Sequence[Compare], then: Sequence[Operation], else_: Sequence[Operation]) -> Txn:
    """A transaction as it is sent.

    Raises:
        ConfigError: it has more than one may have.
    """
    for what, given, most in (
        ("comparisons", if_, COMPARES_MAX),
        ("operations in `then`", then, OPERATIONS_MAX),
        ("operations in `else_`", else_, OPERATIONS_MAX),
    ):
        if len(given) > most:
            raise ConfigError(f"{len(given)} {what}: give at most {most}")
    return Txn(tuple(if_), tuple(then), tuple(else_))


def outcome_of(done: TxnDone) -> TxnOutcome:
    """Its result as it is given back."""
    results = (each.answer if isinstance(each, Looked) else each for each in done.results)
    return TxnOutcome(done.index, done.succeeded, tuple(results))
