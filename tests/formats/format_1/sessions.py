"""Sessions: their commands in the log, and their table in snapshots. Frozen: format 1."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from .peers import Count

Bound: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**62)]

RESULTS_BYTES_MAX = 1024 * 1024

RESULTS_MAX = 1024

SESSIONS_MAX = 10000


class Bounds(msgspec.Struct, frozen=True, array_like=True, gc=False):
    sessions_max: Bound = SESSIONS_MAX
    results_max: Bound = RESULTS_MAX
    results_bytes_max: Bound = RESULTS_BYTES_MAX
    results_total_bytes_max: Bound | None = None


class PlainCommand(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    data: bytes


CLIENT_ID_BYTES = 16

ClientId: TypeAlias = Annotated[
    bytes, msgspec.Meta(min_length=CLIENT_ID_BYTES, max_length=CLIENT_ID_BYTES)
]


class OpenSession(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    client_id: ClientId
    bounds: Bounds | None = None
    is_secret: bool = False


Sequence: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**62)]

SessionId: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**62)]


class SessionCommand(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    session_id: SessionId
    sequence: Sequence
    acknowledged_below: Count
    data: bytes


class CloseSession(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    session_id: SessionId


class _Failure(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    type_name: str
    message: str


class _Success(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    value: bytes


_Outcome: TypeAlias = _Success | _Failure


class _Session(msgspec.Struct, array_like=True):
    client_id: bytes
    acknowledged_below: int = 0
    results: dict[int, _Outcome] = {}
    results_bytes: int = 0


class _SessionTable(msgspec.Struct, frozen=True, array_like=True):
    version: int
    bounds: Bounds
    sessions: list[tuple[int, _Session]]


Envelope: TypeAlias = PlainCommand | OpenSession | SessionCommand | CloseSession
