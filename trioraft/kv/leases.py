"""Leases: what ends by itself in a key-value state, as of log time: leases with their keys, and
keys that have a time of their own.

All of it is state: only commands change it, and what decides stands in them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, TypeAlias, final

import msgspec

from ..core.types import Count
from ..machines.log_clock import LOG_TIME_MAX_S
from .commands import (
    LEASE_KEYS_MAX,
    LEASES_MAX,
    TTL_MS_MAX,
    LeaseId,
    LeaseNotFound,
    LeaseRefused,
    TtlMs,
)
from .deadlines import Deadlines

EndTime: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=LOG_TIME_MAX_S + TTL_MS_MAX)]


class LeaseRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One lease, as it stands in a snapshot."""

    lease_id: LeaseId
    ttl_ms: TtlMs
    prefix: bytes
    ends_at_s: EndTime
    """Log time."""


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is kept of a key; also in a snapshot."""

    value: bytes
    changed_index: Count
    created_index: Count = 0
    version: Count = 0
    """How often it was written since it is there."""
    lease_id: Count = 0
    """0: none."""
    ends_at_s: EndTime | None = None
    """Log time at which it goes, by itself."""


@final
class Leases:
    """Args:
    leases: those that there are at first.
    records: keys that belong to them, or end by themselves.
    """

    def __init__(
        self, leases: Iterable[LeaseRecord] = (), records: Iterable[tuple[bytes, Record]] = ()
    ) -> None:
        self._leases = {lease.lease_id: lease for lease in leases}
        self._keys: dict[LeaseId, set[bytes]] = {lease_id: set() for lease_id in self._leases}
        self._lease_ends: Deadlines[int] = Deadlines(
            (lease.lease_id, lease.ends_at_s) for lease in self._leases.values()
        )
        self._key_ends: Deadlines[bytes] = Deadlines()
        for key, record in records:
            self.moved(key, None, record)

    def __len__(self) -> int:
        return len(self._leases)

    def view(self) -> tuple[LeaseRecord, ...]:
        """All leases, as they are now."""
        return tuple(self._leases.values())

    # -- leases ----------------------------------------------------------------------------

    def grant(self, lease_id: LeaseId, ttl_ms: TtlMs, prefix: bytes, now_s: float) -> None:
        """There is another lease.

        Raises:
            LeaseRefused: there are too many.
        """
        if len(self._leases) >= LEASES_MAX:
            raise LeaseRefused(f"there are {LEASES_MAX} leases, and no more may be: revoke some")
        self._keys[lease_id] = set()
        self._put(LeaseRecord(lease_id, ttl_ms, prefix, now_s + ttl_ms / 1000))

    def renew(self, lease_id: LeaseId, prefix: bytes, now_s: float) -> LeaseRecord:
        """It ends a whole life later than now.

        Raises:
            LeaseNotFound: there is no such lease.
        """
        lease = self.find(lease_id, prefix)
        renewed = msgspec.structs.replace(lease, ends_at_s=now_s + lease.ttl_ms / 1000)
        self._put(renewed)
        return renewed

    def remove(self, lease_id: LeaseId) -> None:
        """It is over; its keys are gone already."""
        del self._leases[lease_id], self._keys[lease_id]
        self._lease_ends.remove(lease_id)

    def find(self, lease_id: LeaseId, prefix: bytes) -> LeaseRecord:
        """The lease.

        Raises:
            LeaseNotFound: there is none of this name, which the prefix is part of.
        """
        lease = self._leases.get(lease_id)
        if lease is None or lease.prefix != prefix:
            raise LeaseNotFound(
                f"there is no lease {lease_id} of prefix {prefix[:80]!r}: it ran out or was "
                "revoked, and its keys went with it; or it was granted with another prefix"
            )
        return lease

    def keys_of(self, lease_id: LeaseId) -> list[bytes]:
        """Its keys, in order."""
        return sorted(self._keys[lease_id])

    def _put(self, lease: LeaseRecord) -> None:
        self._leases[lease.lease_id] = lease
        self._lease_ends.set(lease.lease_id, lease.ends_at_s)

    # -- keys ------------------------------------------------------------------------------

    def check_may_have(self, lease_id: LeaseId, key: bytes) -> None:
        """Raises:
        LeaseNotFound: there is no such lease.
        LeaseRefused: the key cannot belong to it.
        """
        lease = self._leases.get(lease_id)
        if lease is None:
            raise LeaseNotFound(
                f"there is no lease {lease_id}: it ran out or was revoked, and its keys went with "
                "it; nothing was put"
            )
        if not key.startswith(lease.prefix):
            raise LeaseRefused(
                f"lease {lease_id} is for keys that begin with {lease.prefix[:80]!r}, and this "
                f"one is {key[:80]!r}; nothing was put"
            )
        keys = self._keys[lease_id]
        if len(keys) >= LEASE_KEYS_MAX and key not in keys:
            raise LeaseRefused(f"lease {lease_id} has {LEASE_KEYS_MAX} keys: grant another")

    def moved(self, key: bytes, before: Record | None, after: Record | None) -> None:
        """What a key is was changed from one to the other."""
        if before is not None and before.lease_id:
            self._keys[before.lease_id].discard(key)
        if after is not None and after.lease_id:
            self._keys[after.lease_id].add(key)
        ends_at_s = None if after is None else after.ends_at_s
        if ends_at_s is not None:
            self._key_ends.set(key, ends_at_s)
        elif before is not None and before.ends_at_s is not None:
            self._key_ends.remove(key)

    # -- what is over ----------------------------------------------------------------------

    def first_end_s(self) -> float | None:
        """The log time at which the next of all ends; None: nothing will."""
        lease_s, key_s = self._lease_ends.first_s(), self._key_ends.first_s()
        if lease_s is None or key_s is None:
            return key_s if lease_s is None else lease_s
        return min(lease_s, key_s)

    def first_lease_due(self, now_s: float) -> LeaseId | None:
        """The lease that ended first, if any has by now."""
        return self._lease_ends.first_due(now_s)

    def first_key_due(self, now_s: float) -> bytes | None:
        """The key that ended first by itself, if any has by now."""
        return self._key_ends.first_due(now_s)


def may_end(record: Record | None) -> bool:
    """Whether it belongs to a lease, or ends by itself."""
    return record is not None and (record.lease_id != 0 or record.ends_at_s is not None)
