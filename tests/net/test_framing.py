"""Frames: a length that is not believed, and bytes that come as they please."""

from __future__ import annotations

import pytest

from tests.net.support import payloads_of
from trioraft.core.errors import BadMessage
from trioraft.net.framing import Deframer, frame_of, piece_length


def test_a_length_is_refused_before_its_bytes_arrive() -> None:
    deframer = Deframer(1000)
    deframer.feed(b"\xff\xff\xff\xff")
    with pytest.raises(BadMessage, match="declares 4294967295 bytes, at most 1000"):
        deframer.next_payload()


def test_the_largest_frame_passes_and_one_byte_more_does_not() -> None:
    assert payloads_of(Deframer(3), b"\0\0\0\x03abc") == [b"abc"]
    with pytest.raises(BadMessage):
        payloads_of(Deframer(2), b"\0\0\0\x03abc")


def test_half_a_frame_is_pending() -> None:
    deframer = Deframer(100)
    assert not deframer.pending
    assert payloads_of(deframer, b"\0\0") == []
    assert deframer.pending
    assert payloads_of(deframer, b"\0\x02ab\0") == [b"ab"]
    assert deframer.pending
    assert payloads_of(deframer, b"\0\0\x01c") == [b"c"]
    assert not deframer.pending


# -- pieces --------------------------------------------------------------------------------------


def deframer_of_pieces(frame_bytes_max: int = 1000) -> Deframer:
    deframer = Deframer(frame_bytes_max)
    deframer.takes_pieces = True
    return deframer


def piece(data: bytes, *, is_last: bool = False) -> bytes:
    return piece_length(len(data), is_last=is_last) + data


def test_a_frame_in_pieces_and_whole_ones_between_them() -> None:
    deframer = deframer_of_pieces()
    data = piece(b"ab") + frame_of(b"X") + piece(b"cd") + piece(b"e", is_last=True) + frame_of(b"Y")
    assert payloads_of(deframer, data) == [b"X", b"abcde", b"Y"]
    assert deframer.pieces == 3
    assert not deframer.pending


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7])
def test_pieces_may_be_cut_up_on_the_way(step: int) -> None:
    deframer = deframer_of_pieces()
    data = (piece(b"abc") + frame_of(b"X") + piece(b"def", is_last=True)) * 3
    found = []
    for start in range(0, len(data), step):
        found += payloads_of(deframer, data[start : start + step])
    assert found == [b"X", b"abcdef"] * 3


def test_a_frame_is_pending_between_its_pieces() -> None:
    deframer = deframer_of_pieces()
    assert payloads_of(deframer, piece(b"ab")) == []
    assert deframer.pending
    assert payloads_of(deframer, piece(b"c", is_last=True)) == [b"abc"]
    assert not deframer.pending


def test_pieces_without_end_are_refused_before_they_are_collected() -> None:
    deframer = deframer_of_pieces(1000)
    for _ in range(10):
        assert payloads_of(deframer, piece(bytes(100))) == []
    with pytest.raises(BadMessage, match="amount to 1001 bytes, at most 1000"):
        payloads_of(deframer, piece_length(1, is_last=False))


def test_a_piece_is_refused_by_its_length() -> None:
    with pytest.raises(BadMessage, match="amount to 1073741823 bytes, at most 1000"):
        payloads_of(deframer_of_pieces(), b"\xff\xff\xff\xff")


def test_empty_pieces_are_refused() -> None:
    """They could go on for ever without a bound being reached."""
    with pytest.raises(BadMessage, match="empty"):
        payloads_of(deframer_of_pieces(), piece(b""))


def test_a_last_piece_without_a_piece() -> None:
    with pytest.raises(BadMessage, match="at most 1000"):
        payloads_of(deframer_of_pieces(), b"\x40\0\0\x01a")


def test_pieces_where_nobody_takes_any_are_a_length_that_is_too_large() -> None:
    with pytest.raises(BadMessage, match="declares 2147483650 bytes"):
        payloads_of(Deframer(1000), piece(b"ab"))
