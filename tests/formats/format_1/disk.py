"""What a data directory holds beside the log's own entries. Frozen: format 1."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from .peers import Count, Entry, HardState, Incarnation, LogIndex, NodeId, SnapshotMeta, Term


class Ancestor(msgspec.Struct, frozen=True, array_like=True):
    uuid: str
    index: LogIndex
    term: Term


Opening: TypeAlias = tuple[Count, Count]


class Identity(msgspec.Struct, frozen=True, array_like=True):
    incarnation: Incarnation
    record: dict[NodeId, Incarnation] | None = None
    uuid: str | None = None
    formed: bool = False
    openings: Count = 0
    nonces: tuple[Count, ...] = ()
    remembered: dict[Incarnation, Opening] = {}
    ancestors: tuple[Ancestor, ...] = ()


class StoredWrite(msgspec.Struct, frozen=True, array_like=True, gc=False):
    number: int
    hard_state: HardState
    first_index: LogIndex | None
    entries: tuple[Entry, ...]


class Owner(msgspec.Struct, frozen=True, array_like=True):
    cluster_id: str
    node_id: NodeId


class StoredIdentity(msgspec.Struct, frozen=True, array_like=True):
    data: bytes | None = None


class Base(msgspec.Struct, frozen=True, array_like=True):
    index: LogIndex = 0
    term: Term = 0
    first_record: Count = 1


class Description(msgspec.Struct, frozen=True, array_like=True):
    cluster_id: str
    meta: SnapshotMeta


class LockNote(msgspec.Struct, frozen=True):
    state: Literal["open", "closed"]
    pid: int
    host: str
