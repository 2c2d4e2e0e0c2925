"""Which process is to lead which group: pure functions of names and numbers.

Rules of this file:

* Where nobody has led yet, every process computes the same order of a group's voters, and the first
  of them campaigns at once: leaders are spread from the beginning, and votes do not split.
* Later a leader gives a group away only where its process leads more than its share, to one that
  leads fewer by two at least: no group is handed to and fro.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping
from typing import Final

from ..core.types import NodeId

SLACK: Final = 0.1
"""So much more than its share a process may lead before it gives any away."""


def ranked(group: str, voters: Collection[NodeId]) -> list[NodeId]:
    """The voters in the order in which they are to lead this group; the same everywhere. (A cyclic
    checksum would not do: between two names it differs by the same bits for every group.)"""

    def place(voter: NodeId) -> tuple[bytes, NodeId]:
        name = f"{group}\0{voter}".encode()
        return hashlib.blake2b(name, digest_size=8).digest(), voter

    return sorted(voters, key=place)


def surplus(own: int, others: Mapping[NodeId, int]) -> int:
    """How many groups a process that leads `own` is to give away; 0: none."""
    share = (own + sum(others.values())) / (1 + len(others))
    return max(0, own - math.ceil(share * (1 + SLACK)))


def taker(own: int, others: Mapping[NodeId, int], voters: Collection[NodeId]) -> NodeId | None:
    """Who is to have a group with these voters: whoever leads fewest, if that helps."""
    candidates = [(others[voter], voter) for voter in voters if voter in others]
    least, peer = min(candidates, default=(own, ""))
    return peer if own - least >= 2 else None
