"""What a waiting line is asked, and answers."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from ..core.types import LogIndex

LEASE_S_MAX = 366 * 24 * 3600.0
"""Longest lease, in seconds."""
NAME_LENGTH_MAX = 256
"""Longest name of an owner, in characters."""

LeaseTime: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=LEASE_S_MAX)]
"""How long a lease lasts, in seconds."""
Name: TypeAlias = Annotated[str, msgspec.Meta(max_length=NAME_LENGTH_MAX)]
"""Of an owner, a host, a place."""
News: TypeAlias = dict[str, int]
"""Places of one host, by ticket, that got their turn, with the token; 0: the place is lost."""


class LinedUp(msgspec.Struct, frozen=True, array_like=True):
    """The answer to somebody who lines up."""

    epoch: LogIndex
    token: LogIndex
    """0: it waits."""


class KeptAlive(msgspec.Struct, frozen=True, array_like=True):
    """The answer to a host that says that it lives."""

    index: LogIndex
    """When that was."""
    epoch: LogIndex
    """Places that were taken before are gone."""
    holding: dict[str, LogIndex]
    """Its places that have their turn, with their tokens."""
