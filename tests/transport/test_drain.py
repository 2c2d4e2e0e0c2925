"""How much a line is given: played against lines whose rate and length are known.

Rules of this file: no sockets and no clock. A line takes bytes at a rate, one after the other for
all that share it, and acknowledges them a round trip after they have left.
"""

from __future__ import annotations

from collections import deque

import attrs
import pytest

from trioraft.transport.drain import (
    ASKED_ROUNDS,
    FIRST_SEGMENTS,
    IDLE_S,
    LENGTH_S,
    PAIR,
    QUICK_ROUNDS,
    SHARED_S,
    SHARED_SEGMENTS,
    SHARED_SEGMENTS_MAX,
    SLOW_ROUNDS,
    Drain,
    Share,
)

SEGMENT = 1448
TARGET_S = 0.0125
LOOK_S = 0.003


@attrs.define
class Line:
    """A narrow place that several connections share."""

    rate: float
    """Bytes in a second."""
    round_trip_s: float = 0.0
    free_s: float = 0.0
    """When what waits before it will have passed."""
    longest_wait_s: float = 0.0

    def send(self, now: float, size_bytes: int) -> float:
        """Return when these bytes are acknowledged."""
        self.longest_wait_s = max(self.longest_wait_s, self.free_s - now)
        self.free_s = max(self.free_s, now) + size_bytes / self.rate
        return self.free_s + self.round_trip_s


@attrs.define
class Sender:
    """A connection that has more to send than it may."""

    line: Line
    knows_round_trip: bool = True
    drain: Drain = attrs.Factory(lambda: Drain(TARGET_S))
    on_its_way: deque[tuple[float, int]] = attrs.Factory(deque)
    held_bytes: int = 0
    sent_bytes: int = 0

    def __attrs_post_init__(self) -> None:
        self.drain.open(SEGMENT, lambda: self.held_bytes)

    def come_round(self, now: float, wanted_bytes: int = 10**9) -> None:
        while self.on_its_way and self.on_its_way[0][0] <= now:
            self.held_bytes -= self.on_its_way.popleft()[1]
        known_s = self.line.round_trip_s if self.knows_round_trip else 0.0
        room = self.drain.look(now, self.held_bytes, known_s)
        size = min(room, wanted_bytes)
        if size <= 0:
            return
        self.drain.on_bulk(now)
        for start in range(0, size, SEGMENT):
            part = min(SEGMENT, size - start)
            self.on_its_way.append((self.line.send(now, part), part))
        self.sent_bytes += size
        self.held_bytes += size
        self.drain.on_written(size, now, fills=size < wanted_bytes)


def sharing(line: Line, count: int) -> list[Sender]:
    """The links of one node, over the same line."""
    share = Share()
    return [Sender(line, drain=Drain(TARGET_S, share)) for _ in range(count)]


def play(*senders: Sender, from_s: float = 0.0, for_s: float = 20.0) -> None:
    """Let them send for so long, and then measure the rest of the time anew."""
    now, end_s = from_s, from_s + for_s
    while now < end_s:
        for sender in senders:
            sender.come_round(now)
        now += LOOK_S


def settled(*senders: Sender, from_s: float = 0.0) -> float:
    """Let them find their rate; then return which part of the line they use, all together."""
    play(*senders, from_s=from_s)
    line = senders[0].line
    line.longest_wait_s = 0.0
    before = sum(sender.sent_bytes for sender in senders)
    play(*senders, from_s=from_s + 20.0)
    sent = sum(sender.sent_bytes for sender in senders) - before
    return sent / (line.rate * 20.0)


MBIT = 125_000.0


@pytest.mark.parametrize("mbit", [1, 4, 10, 100])
@pytest.mark.parametrize("round_trip_s", [0.0002, 0.02, 0.2])
def test_a_line_is_used_and_nobody_waits_before_it(mbit: float, round_trip_s: float) -> None:
    line = Line(mbit * MBIT, round_trip_s)
    assert settled(Sender(line)) > 0.8
    assert line.longest_wait_s <= 2 * TARGET_S + 4 * SEGMENT / line.rate


@pytest.mark.parametrize("mbit", [1, 4, 10, 100])
def test_p2_four_links_share_a_line(mbit: float) -> None:
    line = Line(mbit * MBIT, 0.001)
    senders = sharing(line, 4)
    assert settled(*senders) > 0.9
    assert line.longest_wait_s <= 5 * TARGET_S + SHARED_SEGMENTS * SEGMENT / line.rate
    shares = [sender.sent_bytes for sender in senders]
    assert max(shares) < 12 * min(shares)  # who is the first to be known as wide stays ahead


@pytest.mark.parametrize("count", [2, 4, 6])
def test_p2_links_that_begin_at_the_same_time_share_what_a_narrow_line_holds(count: int) -> None:
    line = Line(1 * MBIT, 0.001)
    senders = sharing(line, count)
    play(*senders, for_s=2.0)
    assert line.longest_wait_s <= SHARED_SEGMENTS * SEGMENT / line.rate
    shares = [sender.sent_bytes for sender in senders]
    assert max(shares) < 1.5 * min(shares)


def opened(share: Share, held_bytes: int = 0) -> Drain:
    """A link of which nothing is known."""
    drain = Drain(TARGET_S, share)
    drain.open(SEGMENT, lambda: held_bytes)
    return drain


def test_who_has_waited_longest_is_next() -> None:
    share = Share()
    full, first, second = opened(share, SHARED_SEGMENTS * SEGMENT), opened(share), opened(share)
    full.on_bulk(0.0)
    assert first.look(0.001, 0, 0.0) == 0
    assert second.look(0.002, 0, 0.0) == 0
    full.held = lambda: PAIR * SEGMENT  # room for one
    assert second.look(0.003, 0, 0.0) == 0
    assert first.look(0.004, 0, 0.0) == (SHARED_SEGMENTS - PAIR) * SEGMENT


def test_who_has_nothing_that_waits_is_in_nobodys_way() -> None:
    """It only wants to know whether a heartbeat may leave at once."""
    share = Share()
    full, idle, next_one = opened(share, SHARED_SEGMENTS * SEGMENT), opened(share), opened(share)
    full.on_bulk(0.0)
    assert idle.look(0.001, 0, 0.0, waits=False) == 0
    full.held = lambda: PAIR * SEGMENT
    assert next_one.look(0.002, 0, 0.0) > 0


def test_who_does_not_ask_again_loses_the_turn() -> None:
    share = Share()
    full, first, second = opened(share, SHARED_SEGMENTS * SEGMENT), opened(share), opened(share)
    full.on_bulk(0.0)
    assert first.look(0.001, 0, 0.0) == 0
    full.held = lambda: PAIR * SEGMENT
    assert second.look(0.002, 0, 0.0) == 0
    assert (
        second.look(0.002 + ASKED_ROUNDS * TARGET_S, 0, 0.0) == (SHARED_SEGMENTS - PAIR) * SEGMENT
    )


def test_what_a_dead_link_holds_is_not_in_the_others_way_for_long() -> None:
    share = Share()
    dead, living = opened(share, SHARED_SEGMENTS * SEGMENT), opened(share)
    dead.on_bulk(0.0)
    assert living.look(SHARED_S / 2, 0, 0.0) == 0
    assert living.look(SHARED_S, 0, 0.0) == FIRST_SEGMENTS * SEGMENT


def test_a_closed_connection_is_in_nobodys_way() -> None:
    share = Share()
    full, living = opened(share, SHARED_SEGMENTS * SEGMENT), opened(share)
    next_one = opened(share)
    full.on_bulk(0.0)
    assert next_one.look(0.001, 0, 0.0) == 0
    full.close()
    next_one.close()
    assert living.look(0.002, 0, 0.0) == FIRST_SEGMENTS * SEGMENT


def test_nobody_waits_for_a_turn_where_a_link_is_known_to_be_wide() -> None:
    share = Share()
    wide, other, held = opened(share), opened(share), opened(share, SHARED_SEGMENTS * SEGMENT)
    wide.window_bytes = (FIRST_SEGMENTS + 1) * SEGMENT
    held.on_bulk(0.0)
    wide.on_bulk(0.0)
    assert other.look(0.001, 0, 0.0) == FIRST_SEGMENTS * SEGMENT


def test_a_line_that_only_seemed_long_is_believed_to_be_so_no_longer_than_it_is() -> None:
    """Acknowledgements waited in a queue of the peer's, once: a queue of ours is none the less."""
    line = Line(1 * MBIT, 0.3)
    sender = Sender(line, knows_round_trip=False)
    play(sender, for_s=6.0)
    line.round_trip_s = 0.001
    play(sender, from_s=6.0, for_s=3.0)
    line.longest_wait_s = 0.0
    play(sender, from_s=9.0, for_s=10.0)
    assert line.longest_wait_s < 0.1


def held_together(share: Share, now: float) -> int:
    """How many segments the links may hold at this moment."""
    return share.room(opened(share), now, SEGMENT, 0) // SEGMENT


def test_more_may_be_held_where_pairs_leave_quickly_and_less_where_they_do_not() -> None:
    share = Share()
    assert held_together(share, 0.0) == SHARED_SEGMENTS
    for _ in range(3):
        share.on_round(0.0, QUICK_ROUNDS * TARGET_S, TARGET_S)
    assert held_together(share, 0.0) == SHARED_SEGMENTS + 3
    share.on_round(0.0, 1.0, TARGET_S)  # nobody looked at the right moment
    assert held_together(share, 0.0) == SHARED_SEGMENTS + 3
    for _ in range(10):
        share.on_round(1.01 * SLOW_ROUNDS * TARGET_S, 1.0, TARGET_S)
    assert held_together(share, 0.0) == SHARED_SEGMENTS
    for _ in range(1000):
        share.on_round(0.0, 0.001, TARGET_S)
    assert held_together(share, 0.0) == SHARED_SEGMENTS_MAX


def test_how_much_may_be_held_is_forgotten() -> None:
    share = Share()
    drain = opened(share)
    drain.on_bulk(0.0)
    share.on_round(0.0, 0.001, TARGET_S)
    drain.on_bulk(IDLE_S)
    assert held_together(share, IDLE_S) == SHARED_SEGMENTS + 1
    drain.on_bulk(2.1 * IDLE_S)
    assert held_together(share, 2.1 * IDLE_S) == SHARED_SEGMENTS


def test_a_round_of_whoever_takes_turns_says_how_much_may_be_held() -> None:
    share = Share()
    drain = opened(share)
    drain.look(0.0, 0, 0.001)
    drain.on_written(PAIR * SEGMENT, 0.0, fills=True)
    drain.look(1.5 * TARGET_S, 0, 0.001)
    assert held_together(share, 1.0) == SHARED_SEGMENTS + 1


def test_a_segment_alone_says_nothing() -> None:
    """It counts as drained from the start, or there may be a heartbeat before it."""
    for before_bytes in (0, 100):
        drain = Drain(TARGET_S)
        drain.open(SEGMENT, int)
        drain.look(0.0, before_bytes, 0.001)
        drain.on_written(SEGMENT, 0.0, fills=True)
        drain.look(0.001, SEGMENT, 0.001)
        assert drain.window_bytes == FIRST_SEGMENTS * SEGMENT


def test_a_pair_that_is_acknowledged_at_once_makes_no_line_long() -> None:
    drain = Drain(TARGET_S)
    drain.open(SEGMENT, int)
    for number in range(5):
        began_s = float(number)
        drain.look(began_s, 0, 0.001)
        drain.on_written(PAIR * SEGMENT, began_s, fills=True)
        for part in range(1, 50):
            drain.look(began_s + part * LOOK_S, PAIR * SEGMENT, 0.001)
        drain.look(began_s + 50 * LOOK_S, 0, 0.001)
    assert drain.window_bytes == PAIR * SEGMENT


def test_where_the_kernel_knows_no_round_trip() -> None:
    line = Line(10 * MBIT, 0.4)
    assert settled(Sender(line, knows_round_trip=False)) > 0.5


def test_the_first_burst_is_small() -> None:
    sender = Sender(Line(1 * MBIT))
    sender.come_round(0.0)
    assert sender.sent_bytes == FIRST_SEGMENTS * SEGMENT


def test_a_line_that_becomes_narrow() -> None:
    line = Line(100 * MBIT, 0.001)
    sender = Sender(line)
    assert settled(sender) > 0.9
    line.rate = 1 * MBIT
    now = max(line.free_s, 40.0)
    assert settled(sender, from_s=now) > 0.9
    assert line.longest_wait_s <= TARGET_S + 4 * SEGMENT / line.rate


def test_a_line_that_becomes_wide() -> None:
    line = Line(1 * MBIT, 0.001)
    sender = Sender(line)
    assert settled(sender) > 0.9
    line.rate = 100 * MBIT
    assert settled(sender, from_s=40.0) > 0.9


def test_a_line_that_becomes_long_without_the_kernels_noticing() -> None:
    line = Line(10 * MBIT, 0.4)
    sender = Sender(line, knows_round_trip=False)
    play(sender, for_s=LENGTH_S)
    assert sender.sent_bytes > line.rate * LENGTH_S / 2


def test_what_was_learnt_of_a_fast_line_is_forgotten() -> None:
    sender = Sender(Line(100 * MBIT, 0.0001))
    play(sender, for_s=1.0)
    assert sender.drain.window_bytes > 100_000
    sender.drain.look(1.0 + IDLE_S - 1, 0, 0.0001)
    assert sender.drain.window_bytes > 100_000
    sender.drain.look(1.0 + IDLE_S + 1, 0, 0.0001)
    assert sender.drain.window_bytes == FIRST_SEGMENTS * SEGMENT


def test_what_was_learnt_of_a_narrow_line_is_kept_for_the_next_connection() -> None:
    sender = Sender(Line(1 * MBIT))
    play(sender)
    window = sender.drain.window_bytes
    assert window < FIRST_SEGMENTS * SEGMENT
    sender.drain.open(SEGMENT, int)
    sender.drain.look(20.0 + 10 * IDLE_S, 0, 0.0)
    assert sender.drain.window_bytes == window


def test_traffic_that_was_never_held_up_teaches_nothing() -> None:
    sender = Sender(Line(1000 * MBIT))
    for at in range(1000):
        sender.come_round(at * LOOK_S, wanted_bytes=500)
    assert sender.drain.window_bytes == FIRST_SEGMENTS * SEGMENT


def test_a_look_that_came_late_says_nothing() -> None:
    """Nobody looked for a while: when a round ended is not known, so nothing shrinks."""
    drain = Drain(TARGET_S)
    drain.open(SEGMENT, int)
    drain.look(0.0, 0, 0.001)
    drain.on_written(FIRST_SEGMENTS * SEGMENT, 0.0, fills=True)
    drain.look(3.0, 0, 0.001)
    assert drain.window_bytes == FIRST_SEGMENTS * SEGMENT


def test_one_segment_that_nobody_acknowledges_yet_counts_as_drained() -> None:
    drain = Drain(TARGET_S)
    drain.open(SEGMENT, int)
    drain.look(0.0, 0, 0.001)
    drain.on_written(FIRST_SEGMENTS * SEGMENT, 0.0, fills=True)
    assert drain.look(0.002, SEGMENT, 0.001) > FIRST_SEGMENTS * SEGMENT
    assert drain.look(0.003, 100 * SEGMENT, 0.001) == 0
