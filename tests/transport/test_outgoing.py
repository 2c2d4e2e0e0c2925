"""What waits for one connection: what may overtake what, and what a large frame becomes."""

from __future__ import annotations

import random

import pytest

from tests.net.support import payloads_of
from trioraft.core.config import Limits
from trioraft.core.messages import (
    AppendEntries,
    AppendEntriesReply,
    Forward,
    InstallSnapshot,
    Message,
    RequestVote,
    TimeoutNow,
)
from trioraft.core.types import Configuration, Entry, SnapshotMeta
from trioraft.net.framing import LENGTH_BYTES, Deframer
from trioraft.transport.codec import decode_message, encode_frame
from trioraft.transport.outgoing import PIECE_BYTES_MIN, WRITE_BYTES_MAX, Outgoing

META = SnapshotMeta(300, 4, Configuration(("0", "1")), 70_000, 0)
VOTE = RequestVote("0", "1", 7, 300, 6)
REPLY = AppendEntriesReply("0", "1", 7, True, 5)
ALL = 10**9


def entries(after: int, size_bytes: int = 10, count: int = 1) -> AppendEntries:
    found = tuple(Entry(after + 1 + at, 1, bytes(size_bytes)) for at in range(count))
    return AppendEntries("0", "1", 7, after, 1, found, 0)


def heartbeat(after: int) -> AppendEntries:
    return AppendEntries("0", "1", 7, after, 1, (), 0)


def chunk(offset: int, size_bytes: int = 10) -> InstallSnapshot:
    return InstallSnapshot("0", "1", 7, META, offset, bytes(size_bytes))


class Line:
    """A queue, and what its receiver makes of what leaves."""

    def __init__(self, *waiting: Message, limits: Limits | None = None) -> None:
        self.outgoing = Outgoing(limits or Limits())
        self.deframer = Deframer(10**9)
        self.deframer.takes_pieces = True
        self.arrived: list[Message] = []
        self.put(*waiting)

    def put(self, *messages: Message) -> None:
        for message in messages:
            self.outgoing.put(message, encode_frame(message))

    def leave(self, room_bytes: int) -> int:
        """Let something leave, and arrive. Return how many bytes that were."""
        data = self.outgoing.take(room_bytes)
        self.outgoing.on_left()
        self.arrived += [decode_message(payload) for payload in payloads_of(self.deframer, data)]
        return len(data)

    def leave_all(self, room_bytes: int = ALL) -> list[Message]:
        while self.outgoing and self.leave(room_bytes):
            pass
        assert not self.outgoing
        assert self.outgoing.waiting_bytes == 0
        return self.arrived


OVERTAKEN = {
    "a heartbeat that asks nothing": ([entries(5)], heartbeat(5)),
    "one of what is held long since": ([entries(5), entries(6)], heartbeat(2)),
    "one behind a snapshot": ([chunk(0), chunk(10)], heartbeat(400)),
    "a vote": ([entries(5)], VOTE),
    "a vote, a forwarded command": ([Forward("0", "1", 7, 1, bytes(1000))], VOTE),
    "an answer": ([entries(5), chunk(0)], REPLY),
    "the request to take over": ([entries(5)], TimeoutNow("0", "1", 7)),
}
NOT_OVERTAKEN = {
    "entries": ([entries(9)], entries(5)),
    "a chunk": ([chunk(10)], chunk(0)),
    "entries behind chunks": ([chunk(0)], entries(300)),
    "the question whether they came": ([entries(5)], heartbeat(6)),
    "the question about the last of them": ([entries(5), entries(6), entries(7)], heartbeat(7)),
    "the question about what is sent again": ([entries(9), entries(5)], heartbeat(6)),
}


@pytest.mark.parametrize(("waiting", "message"), OVERTAKEN.values(), ids=OVERTAKEN)
def test_p2_what_is_urgent_overtakes_bulk(waiting: list[Message], message: Message) -> None:
    assert Line(*waiting, message).leave_all() == [message, *waiting]


@pytest.mark.parametrize(("waiting", "message"), NOT_OVERTAKEN.values(), ids=NOT_OVERTAKEN)
def test_what_stays_in_order(waiting: list[Message], message: Message) -> None:
    assert Line(*waiting, message).leave_all() == [*waiting, message]


def test_urgent_messages_stay_in_order_among_themselves() -> None:
    assert Line(VOTE, REPLY, heartbeat(1), VOTE).leave_all() == [VOTE, REPLY, heartbeat(1), VOTE]


def test_a_large_frame_leaves_in_pieces_and_a_heartbeat_between_them() -> None:
    line = Line(entries(5, 10_000), entries(6))
    assert line.leave(4000) == 4000
    line.put(heartbeat(5), heartbeat(6))
    assert line.leave(0) > 0  # it asks for no room
    assert line.arrived == [heartbeat(5)]
    assert line.leave_all(4000)[1:] == [entries(5, 10_000), entries(6), heartbeat(6)]
    assert line.deframer.pieces == 3


def test_a_question_does_not_overtake_what_has_left_by_half() -> None:
    line = Line(entries(5, 10_000))
    line.leave(4000)
    line.put(heartbeat(6))
    assert line.leave_all(4000) == [entries(5, 10_000), heartbeat(6)]


def test_what_fits_leaves_whole_and_together() -> None:
    line = Line(*(entries(at, 1000) for at in range(100)), VOTE)
    assert line.leave(ALL) > 100_000
    assert len(line.arrived) == 101
    assert line.deframer.pieces == 0


def test_one_write_is_bounded() -> None:
    line = Line(*(entries(at, WRITE_BYTES_MAX // 3) for at in range(7)), entries(7, 4_000_000))
    while line.outgoing:
        assert 0 < line.leave(ALL) <= WRITE_BYTES_MAX
    found = [
        message.prev_log_index for message in line.arrived if isinstance(message, AppendEntries)
    ]
    assert found == list(range(8))


def test_no_frame_is_cut_for_the_end_of_a_write() -> None:
    line = Line(*(entries(at, 900_000) for at in range(5)))
    assert len(line.leave_all()) == 5
    assert line.deframer.pieces == 0


def test_a_piece_is_not_mostly_overhead() -> None:
    line = Line(entries(5, 10_000))
    assert line.leave(PIECE_BYTES_MIN + LENGTH_BYTES - 1) == 0
    assert line.leave(PIECE_BYTES_MIN + LENGTH_BYTES) > 0


def test_the_last_piece_may_be_small() -> None:
    line = Line(entries(5, 10_000))
    frame = len(encode_frame(entries(5, 10_000)))
    assert line.leave(frame - 1) == frame - 1
    assert line.arrived == []
    assert line.leave_all() == [entries(5, 10_000)]


def test_whatever_the_room_everything_arrives_once_and_in_order() -> None:
    rng = random.Random(8)
    for _ in range(200):
        line = Line()
        put: list[Message] = []
        for index in range(rng.randrange(1, 12)):
            put.append(entries(index, rng.choice((1, 700, 3000, 50_000))))
            line.put(put[-1])
            for _ in range(rng.randrange(4)):
                line.leave(rng.choice((0, 600, 1448, 5000, 40_000)))
            if rng.random() < 0.3:
                line.put(VOTE)
        line.leave_all(rng.choice((600, 1448, 5000)))
        assert [message for message in line.arrived if message != VOTE] == put


def test_it_is_bounded_by_messages_and_what_is_under_way_counts() -> None:
    outgoing = Outgoing(Limits(link_queue_messages_max=3))
    frame = encode_frame(VOTE)
    for _ in range(3):
        assert outgoing.has_room_for(frame)
        outgoing.put(VOTE, frame)
    assert not outgoing.has_room_for(frame)
    outgoing.take(ALL)
    assert not outgoing.has_room_for(frame)
    outgoing.on_left()
    assert outgoing.has_room_for(frame)


def test_it_is_bounded_by_bytes_but_for_a_message_alone() -> None:
    outgoing = Outgoing(Limits(link_queue_bytes_max=1000))
    large, small = encode_frame(entries(5, 5000)), encode_frame(VOTE)
    assert outgoing.has_room_for(large)
    outgoing.put(entries(5, 5000), large)
    assert not outgoing.has_room_for(small)
    outgoing.take(3000)  # a piece of it
    outgoing.on_left()
    assert not outgoing.has_room_for(small)
    outgoing.take(ALL)
    outgoing.on_left()
    assert outgoing.has_room_for(small)
