"""Presence: which processes are there, as far as this one has heard.

Rules of this file:

* A process is heard by its frames; one that has nothing else to say says so, each `pulse_s`. So
  the price of noticing a silent partition is a frame a pair of processes, and not one a group.
* A connection that ended is a hint, as it is in Raft; silence for `SILENT_PULSES` pulses is one,
  too. Nothing is decided by either: groups wake up, and vote.
"""

from __future__ import annotations

from typing import Final, final

import attrs

from ..core.types import Incarnation, NodeId

SILENT_PULSES: Final = 3
"""After so many pulses without a frame a process counts as gone."""


@attrs.define
class _Seen:
    heard_s: float
    life: Incarnation
    leads: int
    is_lost: bool = False


@final
class Presence:
    """What is known of the other processes.

    Args:
        pulse_s: how often a process is heard at least, in seconds.
    """

    def __init__(self, pulse_s: float) -> None:
        self.pulse_s: float = pulse_s
        self._seen: dict[NodeId, _Seen] = {}

    def heard(self, peer: NodeId, life: Incarnation, leads: int, now: float) -> bool:
        """A frame has come. Returns whether it is the first one of this life of that process."""
        seen = self._seen.get(peer)
        if seen is None or seen.life != life:
            self._seen[peer] = _Seen(now, life, leads)
            return True
        seen.heard_s, seen.leads, seen.is_lost = now, leads, False
        return False

    def lost(self, peer: NodeId) -> None:
        """A connection with it has ended."""
        seen = self._seen.get(peer)
        if seen is not None:
            seen.is_lost = True

    def is_there(self, peer: NodeId) -> bool:
        """Whether it was heard lately, and not lost since."""
        seen = self._seen.get(peer)
        return seen is not None and not seen.is_lost

    def newly_silent(self, now: float) -> list[NodeId]:
        """Those that were there, and have been silent for too long: they count as lost."""
        patience_s = SILENT_PULSES * self.pulse_s
        silent = [
            peer
            for peer, seen in self._seen.items()
            if not seen.is_lost and now - seen.heard_s > patience_s
        ]
        for peer in silent:
            self._seen[peer].is_lost = True
        return silent

    def leads(self) -> dict[NodeId, int]:
        """How many groups each process leads that is there, as it has said last."""
        return {peer: seen.leads for peer, seen in self._seen.items() if not seen.is_lost}
