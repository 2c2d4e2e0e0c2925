"""Frames: what goes in comes out, and nothing else comes out of anything else."""

from __future__ import annotations

import contextlib
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.drawn import drawn
from tests.net.support import payloads_of
from trioraft.core.errors import BadMessage
from trioraft.core.messages import (
    AppendEntries,
    AppendEntriesReply,
    Message,
    OwnIncarnation,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    RequestVoteReply,
)
from trioraft.core.types import NUMBER_MAX, Configuration, Count, Entry, NodeId, SnapshotMeta
from trioraft.net.framing import LENGTH_BYTES, Deframer
from trioraft.transport.codec import decode_message, encode_frame

META = SnapshotMeta(5, 1, Configuration(("1", "2"), addresses={"1": ("h", 1)}), 10, 99)

messages: st.SearchStrategy[Message] = drawn(Message, fields={})


def encode(message: Any) -> bytes:
    """A message's payload."""
    return encode_frame(message)[LENGTH_BYTES:]


@given(messages)
def test_a_message_comes_out_as_it_went_in(message: Message) -> None:
    (payload,) = payloads_of(Deframer(10_000), encode_frame(message))
    assert decode_message(payload) == message


@given(st.lists(messages, max_size=4), st.data())
def test_the_cuts_of_a_stream_do_not_matter(sent: list[Message], data: st.DataObject) -> None:
    stream = b"".join(map(encode_frame, sent))
    deframer = Deframer(10_000)
    received: list[Message] = []
    at = 0
    while at < len(stream):
        size = data.draw(st.integers(1, len(stream) - at))
        received += map(decode_message, payloads_of(deframer, stream[at : at + size]))
        at += size
    assert received == sent
    assert not deframer.pending


@given(st.binary(max_size=200))
def test_garbage_is_a_bad_message_and_nothing_else(payload: bytes) -> None:
    with contextlib.suppress(BadMessage):
        decode_message(payload)


@given(messages, st.data())
def test_a_damaged_message_is_a_bad_message_or_another_one(
    message: Message, data: st.DataObject
) -> None:
    payload = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode_message(bytes(payload))
    except BadMessage:
        return
    assert isinstance(decoded, Message)


HEAD = b"\x99\x05\xa11\xa12\x01\x01\x01"  # an AppendEntries up to its entries
VOTE = b"\x98\x01\xa11\xa12\x01\x01\x01\xc2"  # a whole RequestVote, and one field to come

HOSTILE = {
    "empty": b"",
    "a list of four billion entries": HEAD + b"\xdd\xff\xff\xff\xff",
    "a message of four billion fields": b"\xdd\xff\xff\xff\xff\x05",
    "a command of four gigabytes": HEAD + b"\x91\x93\x01\x01\xc6\xff\xff\xff\xff",
    "a string of four gigabytes": b"\x97\x01\xdb\xff\xff\xff\xff",
    "lists 200 000 deep in an unknown field": VOTE + b"\x91" * 200_000 + b"\x01",
    "maps 200 000 deep in an unknown field": VOTE + b"\x81\x01" * 200_000 + b"\x01",
    "lists 200 000 deep where entries belong": HEAD + b"\x91" * 200_000 + b"\x01",
    "an unknown tag": b"\x97\x63\xa11\xa12\x01\x01\x01\xc2",
    "a tag of 64 bits": b"\x97\xcf" + b"\xff" * 8 + b"\xa11\xa12\x01\x01\x01\xc2",
    "no list": b"\x01",
    "a map": b"\x81\x01\x02",
    "too few fields": b"\x93\x01\xa11\xa12",
    "a term that is a string": b"\x97\x01\xa11\xa12\xa11\x01\x01\xc2",
    "a term that is a float": b"\x97\x01\xa11\xa12\xcb" + b"\x40" * 8 + b"\x01\x01\xc2",
    "a term that is nil": b"\x97\x01\xa11\xa12\xc0\x01\x01\xc2",
    "a term of minus one": b"\x97\x01\xa11\xa12\xff\x01\x01\xc2",
    "a term of 64 bits": b"\x97\x01\xa11\xa12\xcf" + b"\xff" * 8 + b"\x01\x01\xc2",
    "a sender that is not UTF-8": b"\x97\x01\xa1\xff\xa12\x01\x01\x01\xc2",
    "an extension type": b"\xd4\x01\x00",
    "bytes behind the message": b"\x97\x01\xa11\xa12\x01\x01\x01\xc2\x00",
}


@pytest.mark.parametrize("payload", HOSTILE.values(), ids=HOSTILE)
def test_hostile_bytes(payload: bytes) -> None:
    with pytest.raises(BadMessage):
        decode_message(payload)


NUMBERS = [
    RequestVote("1", "2", -1, 1, 1),
    RequestVote("1", "2", 1, -1, 1),
    RequestVote("1", "2", 1, 1, -1),
    RequestVoteReply("1", "2", -1, True),
    RequestPreVote("1", "2", 1, -1, 1, 1),
    RequestPreVoteReply("1", "2", 1, -1, True),
    AppendEntries("1", "2", 1, -1, 1, (), 1),
    AppendEntries("1", "2", 1, 1, 1, (), -1),
    AppendEntries("1", "2", 1, 1, 1, (), 1, -1),
    AppendEntries("1", "2", 1, 1, 1, (Entry(2, 1), Entry(-3, 1), Entry(4, 1)), 1),
    AppendEntries("1", "2", 1, 1, 1, (Entry(2, 1), Entry(3, -1), Entry(4, 1)), 1),
    AppendEntries("1", "2", 1, 1, 1, (Entry(NUMBER_MAX + 1, 1),), 1),
    AppendEntriesReply("1", "2", 1, True, -1),
    AppendEntriesReply("1", "2", 1, False, 0, 0, -1),
    AppendEntriesReply("1", "2", NUMBER_MAX + 1, False, 0),
]


@pytest.mark.parametrize("message", NUMBERS, ids=repr)
def test_numbers_out_of_range(message: Message) -> None:
    with pytest.raises(BadMessage, match=r"Expected `int` [<>]= "):
        decode_message(encode(message))


SAMPLES: dict[object, object] = {
    str: "1",
    Count: 1,
    OwnIncarnation: 1,
    bool: True,
    bytes: b"",
    tuple[Entry, ...]: (),
    tuple[NodeId, ...]: ("0", "1"),
    SnapshotMeta: META,
}


@pytest.mark.parametrize("message_type", get_args(Message))
def test_every_number_of_every_message_is_checked(message_type: type[msgspec.Struct]) -> None:
    fields = msgspec.structs.fields(message_type)
    values = {field.name: SAMPLES[field.type] for field in fields if field.type in SAMPLES}
    bad: list[dict[str, object]] = [{field.name: -1} for field in fields if field.type is Count]
    bad += [
        {field.name: msgspec.structs.replace(META, **{number: -1})}
        for field in fields
        if field.type is SnapshotMeta
        for number in ("index", "term", "size_bytes", "checksum")
    ]
    assert bad
    assert decode_message(encode(message_type(**values))) == message_type(**values)
    for change in bad:
        with pytest.raises(BadMessage, match=r"Expected `int` [<>]= "):
            decode_message(encode(message_type(**{**values, **change})))


def test_fields_of_a_newer_node_are_skipped() -> None:
    message = RequestVoteReply("1", "2", 3, True)
    fields = msgspec.msgpack.decode(encode(message))
    assert decode_message(msgspec.msgpack.encode([*fields, "new", {"a": 1}])) == message
