"""Replicated objects: their commands, and the head of their snapshots. Frozen: format 1."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

LOG_TIME_MAX_S = 1000000000000.0

LogTime: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=LOG_TIME_MAX_S)]


class MethodCall(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    name: str
    version: int
    at_s: LogTime
    arguments: msgspec.Raw


class Activate(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    version: int
    at_s: LogTime


class Tick(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    version: int
    at_s: LogTime


class Question(msgspec.Struct, frozen=True, array_like=True, gc=False):
    name: str
    arguments: msgspec.Raw


class _ObjectHead(msgspec.Struct, frozen=True, array_like=True):
    format: int
    active_version: int | None
    writer_version: int
    log_time_s: LogTime


class ForPart(msgspec.Struct, frozen=True, array_like=True, gc=False):
    name: str
    data: bytes
