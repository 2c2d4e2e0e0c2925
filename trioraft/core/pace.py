"""Pace: how long an answer takes in this cluster, as measured.

Rules of this file:

* Patience that is shorter than an answer takes deposes every leader (hazard P1; paper, section 5.6:
  broadcast time ≪ election timeout). Nobody has to guess how long that is: each leader sees it by
  its heartbeat rounds, and tells it to those that may have to elect the next one.
* It stretches patience, never shortens it, and never beyond `Timing.widening_max`.
* No safety rests on it: not a lease, not a promise, not a vote.
"""

from __future__ import annotations

from typing import Final

import attrs

from .config import Timing

ANSWERS_PER_TIMEOUT: Final = 2.0
"""So many answers fit into the lower election timeout at least: one may be late, or lost."""
OUTLIER_FACTOR: Final = 4.0
OUTLIER_S: Final = 0.05
"""No single measurement is believed to be more than so many times what is known, and that."""
_GAIN: Final = 0.25
"""How much the newest of several measurements counts."""


@attrs.define
class Pace:
    """What a node knows of how long others, and its own disk, take to answer."""

    timing: Timing
    round_trip_s: float = 0.0
    """To a quorum of the voters and back: as this leader has measured it, or its leader has told;
    0: nobody knows."""
    write_s: float = 0.0
    """A durable write of this node; 0: none was seen yet."""
    _learnt_ms: int = 0
    """When the newest question was asked whose answer was believed."""

    def on_written(self, took_s: float) -> None:
        """This node's disk has ended a write."""
        self.write_s = smoothed(self.write_s, took_s)

    def on_told(self, round_trip_ms: int) -> None:
        """The leader says how long a round trip takes."""
        self.round_trip_s = round_trip_ms / 1000

    def on_asked(self, asked_ms: int, now: float) -> None:
        """Somebody answers a question, while there is no leader who knows better. One question
        teaches one step: if this node was away meanwhile, all its answers are as late.

        Args:
            asked_ms: when this node asked, by its own clock.
            now: the time.
        """
        if self._learnt_ms < asked_ms <= now * 1000:  # an earlier life's clock may be ahead
            self._learnt_ms = asked_ms
            took_s = now - asked_ms / 1000
            self.round_trip_s = max(self.round_trip_s, _believed(self.round_trip_s, took_s))

    def on_elected(self, took_s: float) -> None:
        """This node asked for votes, and so soon a quorum had given them."""
        self.round_trip_s = max(self.round_trip_s, took_s - 2 * self.write_s)

    @property
    def vote_s(self) -> float:
        """How long a vote takes: it is durable on both sides before it counts (hazard V1)."""
        return self.round_trip_s + 2 * self.write_s

    @property
    def stretch(self) -> float:
        """By how much timeouts have to be longer than they are set, from 1."""
        asked = ANSWERS_PER_TIMEOUT * self.vote_s / self.timing.election_timeout_s[0]
        return max(1.0, min(asked, self.timing.widening_max))

    @property
    def timeout_s(self) -> float:
        """The upper election timeout, or longer if answers take longer."""
        return self.timing.election_timeout_s[1] * self.stretch


def smoothed(before_s: float, measured_s: float) -> float:
    """What is known with one measurement more; 0 before the first. One that is out of proportion
    (the process stood still meanwhile) counts for little; several do not."""
    if not before_s:
        return measured_s
    return before_s + (_believed(before_s, measured_s) - before_s) * _GAIN


def _believed(before_s: float, measured_s: float) -> float:
    return min(measured_s, OUTLIER_FACTOR * before_s + OUTLIER_S)
