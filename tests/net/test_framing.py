"""Frames: a length that is not believed, and bytes that come as they please."""

from __future__ import annotations

import pytest

from tests.net.support import payloads_of
from trioraft.core.errors import BadMessage
from trioraft.net.framing import Deframer


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
