"""Majorities, simple and joint (paper, sections 5.2 and 6). Pure functions.

Rules of this file: a joint configuration decides only where *both* majorities agree; an empty
set of voters decides nothing in a configuration, and agrees with everything as `outgoing`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from .types import Configuration, NodeId

T = TypeVar("T", int, float)


class Outcome(enum.Enum):
    """How a vote stands."""

    WON = "won"
    LOST = "lost"
    PENDING = "pending"


def majority(count: int) -> int:
    """Smallest number of nodes out of `count` that any two majorities share one of."""
    return count // 2 + 1


def tally(configuration: Configuration, votes: Mapping[NodeId, bool]) -> Outcome:
    """How an election stands, given who has answered what so far."""
    outcomes = [_tally_half(configuration.voters, votes)]
    if configuration.outgoing:
        outcomes.append(_tally_half(configuration.outgoing, votes))
    if Outcome.LOST in outcomes:
        return Outcome.LOST
    return Outcome.PENDING if Outcome.PENDING in outcomes else Outcome.WON


def _tally_half(voters: Sequence[NodeId], votes: Mapping[NodeId, bool]) -> Outcome:
    needed = majority(len(voters))
    granted = sum(1 for voter in voters if votes.get(voter) is True)
    refused = sum(1 for voter in voters if votes.get(voter) is False)
    if granted >= needed:
        return Outcome.WON
    return Outcome.LOST if len(voters) - refused < needed else Outcome.PENDING


def agreed(configuration: Configuration, value_of: Callable[[NodeId], T]) -> T:
    """The highest value that a quorum has reached: of match indexes, the commit index; of
    contact times, the moment since which a quorum has been heard.
    """
    value = _agreed_half(configuration.voters, value_of)
    if configuration.outgoing:
        value = min(value, _agreed_half(configuration.outgoing, value_of))
    return value


def _agreed_half(voters: Sequence[NodeId], value_of: Callable[[NodeId], T]) -> T:
    values = sorted(map(value_of, voters), reverse=True)
    return values[len(values) // 2]  # the smallest of a majority
