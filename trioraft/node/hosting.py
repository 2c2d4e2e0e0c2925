"""Hosting: what a host of many nodes in one process says to one of them, and learns from it.

A node of a group that was quiet ends, and another begins when it is needed: as after a crash, but
that the state machine is in memory still, at an index that the log has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import attrs

from ..core.types import LogIndex, Term


@final
@attrs.frozen
class MachineAt:
    """How far a state machine that is in memory was brought by an earlier life of its node."""

    index: LogIndex
    term: Term
    """Of the entry at that index."""
    checksum: int | None
    """Of the results up to there (`member.results`); None: unknown."""


def _when_due(deadline_s: float) -> float:
    return deadline_s


@final
@attrs.frozen
class Hosting:
    """One node among many of a process."""

    label: str
    """Names its tasks, `raft[LABEL]`, and its lines in the log."""
    machine_at: MachineAt | None = None
    """Where the state machine stands; None: it is new."""
    goes_first: bool = False
    """Whether it campaigns at once where nobody leads: the others are known to wait."""
    beat_at: Callable[[float], float] = _when_due
    """When a heartbeat leaves that is due at this moment: heartbeats of many groups together."""
