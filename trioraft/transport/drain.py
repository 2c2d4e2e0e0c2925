"""How much a connection may hold: about what its line drains in a part of a heartbeat interval.

A kernel takes whatever fits into its buffers, seconds of a narrow line, and the router before that
line holds as much again, for all that cross it. A heartbeat that is behind all this comes too late
(hazard P2). So bulk is handed out in rounds: as much as the line has shown that it drains in time,
and then no more until that has happened.

Rules of this file:

* Values only: who asks knows the time, and what the kernel holds.
* What is held may be one segment more than the window: a receiver leaves the last one
  unacknowledged for a while, from which there is nothing to learn. So a window is two at least.
* A window grows only where it has held something up, and only by what drained in time for certain;
  it shrinks only by what was seen to take longer.
* The links of one node may all lead through the same narrow place, where windows that are as small
  as can be add up. So as long as none of them is known to be wide they share what may be held, by
  turns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

FIRST_SEGMENTS: Final = 4
"""The window of a line of which nothing is known, in segments. A line whose window is larger is
known to be wide."""

PAIR: Final = 2
"""Of segments: a receiver acknowledges two at once, and may sit on a single one."""

TURNS: Final = 2
"""So many links have their turn at the same time: one pair drains, the next waits behind it."""

SHARED_SEGMENTS: Final = TURNS * PAIR + 1
"""What all links of a node that are not known to be wide may hold together, at least and at first;
a segment is for what is urgent."""

SHARED_SEGMENTS_MAX: Final = 16
"""Beyond that no line that is worth sharing idles."""

QUICK_ROUNDS: Final = 2
SLOW_ROUNDS: Final = 4
"""They may hold a segment more where a pair of segments leaves within so many rounds, and half as
much where that takes longer."""

SHARED_S: Final = 0.1
"""What a link holds counts for so long after it was given bulk. It may be a last segment that is
not acknowledged yet, or the peer may be dead."""

ASKED_ROUNDS: Final = 2
"""Who has asked for room, and not again for so many rounds, does not want it any more."""

GROWTH_MAX: Final = 4.0
"""How many times larger a window becomes after one round, at most."""

GROWTH: Final = 1.25
"""How many times larger at least, where a larger one has been too much before."""

IDLE_S: Final = 10.0
"""What was learnt of a fast line is believed for so long, in seconds."""

LENGTH_S: Final = 60.0
"""How long a line was seen to be is believed for so long, in seconds."""

PACE: Final = 1.5
"""How much faster than one window in a round trip it leaves over a long line."""

MUCH_LONGER_ROUNDS: Final = 4
"""A line that has become longer by less than so many rounds is not looked at again."""

LEAST_ROUNDS: Final = 20
"""If the least that may be on its way takes as long as so many rounds, the line must be long."""

WINDOW_BYTES_MAX: Final = 64 * 1024 * 1024
"""Beyond that the kernel's own buffers are the bound."""

NEVER: Final = float("-inf")


@final
class Share:
    """What the links of one node hold that are not known to be wide, and whose turn it is."""

    def __init__(self) -> None:
        self._given_s: dict[Drain, float] = {}
        """When each was given bulk last."""
        self._segments = SHARED_SEGMENTS
        self._used_s = NEVER
        self._wide_s = NEVER
        """When one that is known to be wide was given bulk last: so there is no narrow place."""
        self._asked_s: dict[Drain, float] = {}
        """When each that waits for room has last asked; who has waited longest comes first."""

    def on_bulk(self, drain: Drain, now: float) -> None:
        """This link is about to be given some."""
        if now - self._used_s > IDLE_S:
            self._segments = SHARED_SEGMENTS
        self._used_s = now
        if drain.is_small:
            self._given_s[drain] = now
        else:
            self._wide_s = now

    def forget(self, drain: Drain) -> None:
        """It has no connection any more."""
        self._given_s.pop(drain, None)
        self._asked_s.pop(drain, None)

    def room(
        self, drain: Drain, now: float, segment_bytes: int, held_bytes: int, *, waits: bool = True
    ) -> int:
        """How many bytes a link that holds so many may add to what all hold; 0: it is not its
        turn, for which it waits or not."""
        pair_bytes = PAIR * segment_bytes
        room_bytes = self._segments * segment_bytes
        if now - self._wide_s < SHARED_S:
            return room_bytes
        room_bytes -= held_bytes + self._held_by_others(drain, now)
        if waits:
            self._asked_s[drain] = now
        for other, asked_s in [*self._asked_s.items()]:
            if other is drain:
                break
            if now - asked_s < ASKED_ROUNDS * other.target_s:
                room_bytes -= pair_bytes
            else:
                del self._asked_s[other]
        if room_bytes < pair_bytes:
            return 0
        self._asked_s.pop(drain, None)
        return room_bytes

    def on_round(self, at_least_s: float, at_most_s: float, target_s: float) -> None:
        """A round of a link that takes turns is over; it took something between."""
        if at_most_s <= QUICK_ROUNDS * target_s:
            self._segments = min(self._segments + 1, SHARED_SEGMENTS_MAX)
        elif at_least_s > SLOW_ROUNDS * target_s:
            self._segments = max(self._segments // 2, SHARED_SEGMENTS)

    def _held_by_others(self, drain: Drain, now: float) -> int:
        lately = {who: at_s for who, at_s in self._given_s.items() if now - at_s < SHARED_S}
        self._given_s = lately
        return sum(who.held() for who in lately if who is not drain)


@final
class Drain:
    """How fast one line takes what is sent, from connection to connection.

    Args:
        target_s: how long a round may take, beside the time to the peer and back, in seconds.
        share: of all lines of this node; None: there is no other.
    """

    def __init__(self, target_s: float, share: Share | None = None) -> None:
        self.held: Callable[[], int] = int
        """How many bytes the connection holds at this moment."""
        self._share = Share() if share is None else share
        self.window_bytes: int = 0
        """What a round may be large, and what may be held, but for a segment."""
        self.target_s = target_s
        self._is_new = True  # nothing was too much for it yet
        self._segment_bytes = 0
        self._written = 0
        self._held = 0  # as of the last look
        self._looked_s = NEVER
        self._round: tuple[int, int, float] | None = None
        """From so much drained to so much; when it began."""
        self._stood_still_s = NEVER  # the last look at which nothing of the round had drained
        self._filled_s = NEVER  # when the window last held something up
        self._length_s = 0.0  # there and back, as seen here
        self._length_until_s = NEVER
        self._paced_bytes = 0.0  # of a long line: what may leave by now

    @property
    def is_small(self) -> bool:
        """Whether this line is not known to be wide."""
        return self.window_bytes <= FIRST_SEGMENTS * self._segment_bytes

    @property
    def whole_bytes(self) -> int:
        """A frame up to this size is worth waiting for room, so as to leave in one piece."""
        return self._segment_bytes if self.is_small else self.window_bytes

    def open(self, segment_bytes: int, held: Callable[[], int]) -> None:
        """There is a new connection over this line; nothing is on its way.

        Args:
            segment_bytes: what one segment carries.
            held: tells how many bytes it holds.
        """
        self.held = held
        if segment_bytes != self._segment_bytes:
            self._segment_bytes = segment_bytes
            self.window_bytes = FIRST_SEGMENTS * segment_bytes
        self._written = self._held = 0
        self._looked_s = NEVER
        self._round = None

    def close(self) -> None:
        """The connection is over."""
        self._share.forget(self)
        self.held = int

    def on_bulk(self, now: float) -> None:
        """Bulk is about to leave. (What is urgent leaves over dead connections too.)"""
        self._share.on_bulk(self, now)

    def on_written(self, size_bytes: int, now: float, *, fills: bool) -> None:
        """The kernel has taken this.

        Args:
            size_bytes: how much.
            now: the time.
            fills: whether it was all that there was room for, and more waits.
        """
        self._written += size_bytes
        self._paced_bytes -= size_bytes
        if fills:
            self._filled_s = now
            held = self._held + size_bytes - self._segment_bytes
            if self._round is None and 2 * held >= self._segment_bytes:  # else it says nothing
                self._round = (self._written - held, self._written, now)
                self._stood_still_s = now

    def look(self, now: float, held_bytes: int, round_trip_s: float, *, waits: bool = True) -> int:
        """Return how many bytes may be handed out now; 0 if it would be hardly any.

        Args:
            now: the time.
            held_bytes: what the kernel has not sent yet, or the peer not acknowledged.
            round_trip_s: to the peer and back, as short as the kernel has seen it; 0: unknown.
            waits: whether bulk waits for its turn.
        """
        self._held = held_bytes
        held_bytes = max(0, held_bytes - self._segment_bytes)
        drained_bytes = self._written - held_bytes
        if now < self._length_until_s:
            round_trip_s = max(round_trip_s, self._length_s)
        if self._round is not None:
            start_bytes, end_bytes, began_s = self._round
            if drained_bytes <= start_bytes:
                self._stood_still_s = now
            if drained_bytes >= end_bytes:
                self._round = None
                at_least_s = max(0.0, self._looked_s - began_s)
                if now < self._length_until_s:  # it is no longer than that, whatever it seemed
                    self._length_s = min(self._length_s, now - began_s)
                self._learn(began_s, now, at_least_s, round_trip_s, end_bytes - start_bytes)
        first_bytes = FIRST_SEGMENTS * self._segment_bytes
        if self.window_bytes > first_bytes and now - self._filled_s > IDLE_S:
            self.window_bytes = first_bytes
            self._is_new = True
        room_bytes = self.window_bytes - held_bytes
        if round_trip_s > self.target_s:
            room_bytes = min(room_bytes, self._paced(now, round_trip_s))
        else:
            self._paced_bytes = 0.0
            if self.is_small and room_bytes >= self._segment_bytes:
                share = self._share
                shared_bytes = share.room(self, now, self._segment_bytes, self._held, waits=waits)
                room_bytes = min(room_bytes, shared_bytes)
        self._looked_s = now
        least_bytes = min(self._segment_bytes, self.window_bytes)
        return room_bytes if room_bytes >= least_bytes else 0

    def _paced(self, now: float, round_trip_s: float) -> int:
        """What may leave of a window that takes longer than a round to be acknowledged: it is
        spread over that time, or all of it would wait before the narrowest place at once."""
        rate = PACE * self.window_bytes / round_trip_s
        most_bytes = max(FIRST_SEGMENTS * self._segment_bytes, rate * self.target_s)
        passed_s = min(now - self._looked_s, self.target_s)
        self._paced_bytes = min(self._paced_bytes + rate * passed_s, most_bytes)
        return int(self._paced_bytes)

    def _learn(
        self, began_s: float, now: float, at_least_s: float, round_trip_s: float, round_bytes: int
    ) -> None:
        """A round is over. Nobody looked at the very moment: it took something between."""
        limit_s = round_trip_s + self.target_s
        if at_least_s > limit_s and self._is_long(began_s, now, at_least_s, limit_s, round_bytes):
            return
        at_most_s = now - began_s
        if self.is_small:
            self._share.on_round(at_least_s, at_most_s, self.target_s)
        if at_most_s <= round_trip_s + self.target_s / 2:
            most, least = (GROWTH_MAX, 2.0) if self._is_new else (2.0, GROWTH)
            factor = max(least, min(most, limit_s / max(at_most_s, 1e-9)))
        elif at_most_s <= limit_s:
            factor = limit_s / at_most_s
        elif at_least_s <= limit_s:
            return
        else:
            factor = max(0.5, limit_s / at_least_s)
            self._is_new = False
        window_bytes = min(int(self.window_bytes * factor), WINDOW_BYTES_MAX)
        self.window_bytes = max(PAIR * self._segment_bytes, window_bytes)

    def _is_long(
        self, began_s: float, now: float, at_least_s: float, limit_s: float, round_bytes: int
    ) -> bool:
        """Whether a round took longer than it should because the line is long, not narrow: then
        nothing comes for a while, and everything at once. (The kernel knows the shortest time of
        some minutes, and the line may lead elsewhere since.)"""
        if at_least_s < limit_s + MUCH_LONGER_ROUNDS * self.target_s:
            return False  # the other links of this node may do that, or nothing is lost by it
        if round_bytes > PAIR * self._segment_bytes:  # a pair comes at once anyway
            if now - self._stood_still_s > self.target_s:
                return False
        elif (
            self.window_bytes > PAIR * self._segment_bytes
            or at_least_s < LEAST_ROUNDS * self.target_s
        ):
            return False
        self._length_s, self._length_until_s = now - began_s, now + LENGTH_S
        return True
