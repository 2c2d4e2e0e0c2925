"""Frames, the handshake, and errors as answers: pure functions of bytes."""

from __future__ import annotations

import typing
from typing import Any

import anyio
import msgspec
import pytest
import trio
from trio.testing import MockClock

from trioraft import (
    BadMessage,
    ConfigError,
    NodeDead,
    NotLeader,
    OutcomeUnknown,
    Overloaded,
    ProposalDropped,
    RaftError,
    ServerLeaving,
    SessionExpired,
)
from trioraft.client.attempts import Numbering
from trioraft.machines.sessions import CommandFailed, UnknownCommand
from trioraft.rpc import protocol
from trioraft.rpc.errors import DeadlineExceeded, DeadlineOutcomeUnknown
from trioraft.rpc.failures import error_of, failure_of
from trioraft.rpc.protocol import (
    MAGIC,
    PROTOCOL_VERSION,
    REQUEST_KIND_MAX,
    AddLearnerRequest,
    Answer,
    Cancel,
    ChangeVotersRequest,
    ClientHello,
    Failure,
    GetStatus,
    GoingAway,
    InviteNode,
    Item,
    MoveNode,
    Ping,
    Propose,
    Query,
    ReadBackup,
    RemoveNode,
    ReplaceNode,
    Request,
    Result,
    SwitchOnRequest,
    Take,
    TakeSnapshot,
    TransferLeadership,
    Watch,
    WatchStatus,
    Welcome,
    append_frame,
    decode_answer,
    decode_hello,
    decode_request,
    decode_welcome,
    encode_value,
    frame,
    id_of_unknown,
)

REQUESTS: list[Any] = [
    Propose(1, b"x"),
    Query(2, b"x", "lease"),
    GetStatus(3),
    TransferLeadership(4, "1", 0.5),
    AddLearnerRequest(5, "3", ("host", 1), 7),
    ChangeVotersRequest(6, ("0", "1"), {"1": ("host", 1)}, 7),
    RemoveNode(7, "1"),
    ReplaceNode(7, "1"),
    InviteNode(7, "1", 60.0),
    MoveNode(7, "1", ("host", 1), True),
    SwitchOnRequest(7, ("entry-checksums",), 7),
    TakeSnapshot(8),
    Watch(9, b"x", 1000),
    WatchStatus(10, 0.5),
    Cancel(11),
    Take(9, 500),
    Ping(12),
    ReadBackup(13, True, 0.5),
]
ANSWERS: list[Any] = [
    Result(1, encode_value([1, "a", b"b"])),
    Failure(2, "not-leader", "", leader_id="1", leader_address=("host", 1)),
    Item(3, encode_value(None)),
    GoingAway(),
    GoingAway("there are 1024 connections"),
]


def payload_of(message: Any) -> bytes:
    return frame(message)[4:]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: type(request).__name__)
def test_a_request_arrives_as_it_was_sent(request_: Any) -> None:
    assert decode_request(payload_of(request_)) == request_


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: type(answer).__name__)
def test_an_answer_arrives_as_it_was_sent(answer: Any) -> None:
    arrived = decode_answer(payload_of(answer))
    assert type(arrived) is type(answer)
    assert msgspec.msgpack.encode(arrived) == msgspec.msgpack.encode(answer)


def test_every_kind_is_tested_and_numbered() -> None:
    assert {type(request) for request in REQUESTS} == set(typing.get_args(Request))
    assert {type(answer) for answer in ANSWERS} == set(typing.get_args(Answer))
    kinds = sorted(request.__struct_config__.tag for request in REQUESTS)
    assert len(set(kinds)) == len(kinds)
    assert kinds[-1] == protocol.REQUEST_KIND_MAX


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        payload_of(GoingAway()) + b"x",
        msgspec.msgpack.encode([0, -1, b"x"]),
        msgspec.msgpack.encode([0, 2**63, b"x"]),
        msgspec.msgpack.encode([1, 1, b"x", "somewhat"]),
        b"\x91" * 100_000,
    ],
)
def test_what_is_no_request_is_a_bad_message(payload: bytes) -> None:
    with pytest.raises(BadMessage):
        decode_request(payload)
    with pytest.raises(BadMessage):
        decode_answer(payload)


@pytest.mark.parametrize(
    ("payload", "request_id"),
    [
        (msgspec.msgpack.encode([REQUEST_KIND_MAX + 1, 7, "new"]), 7),
        (msgspec.msgpack.encode([0, 7]), None),  # known, and wrong
        (b"\xc1", None),
    ],
)
def test_the_id_of_a_later_release_s_request_can_be_read(
    payload: bytes, request_id: int | None
) -> None:
    assert id_of_unknown(payload) == request_id


def test_frames_follow_each_other_and_a_bad_one_leaves_no_trace() -> None:
    buffer = bytearray()
    size_bytes = append_frame(buffer, Ping(1))
    with pytest.raises(OverflowError):
        append_frame(buffer, Ping(2**70))
    append_frame(buffer, Ping(2))
    assert bytes(buffer) == frame(Ping(1)) + frame(Ping(2))
    assert len(frame(Ping(1))) == 4 + size_bytes


def test_another_version_s_first_frames_can_be_told() -> None:
    later = msgspec.msgpack.encode([MAGIC, 99, {"what": "ever"}])
    assert decode_hello(later) == ClientHello(MAGIC, 99, "")
    assert decode_welcome(later) == Welcome(MAGIC, 99)
    ours = ClientHello(MAGIC, PROTOCOL_VERSION, "cluster", 5)
    assert decode_hello(payload_of(ours)) == ours
    for garbage in (b"", b"\x93", msgspec.msgpack.encode([MAGIC, PROTOCOL_VERSION, 3])):
        with pytest.raises(BadMessage):
            decode_hello(garbage)
    with pytest.raises(BadMessage):
        decode_welcome(b"\xc1")


# -- errors --------------------------------------------------------------------------------


class NotEnough(Exception):  # noqa: N818 - a user's own
    """What a machine raises."""


@pytest.mark.parametrize(
    "error",
    [
        ProposalDropped("a"),
        OutcomeUnknown("a"),
        Overloaded("a"),
        NodeDead("a"),
        ServerLeaving("a"),
        SessionExpired("a"),
        ConfigError("a"),
        UnknownCommand("a"),
        NotEnough("a"),
        CommandFailed("Other", "a"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_arrives_as_it_was_raised(error: Exception) -> None:
    arrived = error_of(failure_of(1, error), {"NotEnough": NotEnough})
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)


def test_a_stranger_s_error_keeps_its_name() -> None:
    arrived = error_of(failure_of(1, KeyError("a")), {})
    assert isinstance(arrived, CommandFailed)
    assert arrived.type_name == "KeyError"
    later = error_of(Failure(1, "of a later release", "a"), {})
    assert type(later) is RaftError
    assert "of a later release" in str(later)


def test_a_redirect_bears_the_address_for_clients() -> None:
    error = NotLeader("1", ("peers", 1))
    arrived = error_of(failure_of(1, error, ("clients", 2)), {})
    assert isinstance(arrived, NotLeader)
    assert (arrived.leader_id, arrived.leader_address) == ("1", ("clients", 2))
    without = error_of(failure_of(1, error), {})
    assert isinstance(without, NotLeader)
    assert without.leader_address is None


def test_whoever_catches_unknown_outcomes_catches_that_of_a_deadline() -> None:
    assert issubclass(DeadlineOutcomeUnknown, OutcomeUnknown)
    assert issubclass(DeadlineOutcomeUnknown, DeadlineExceeded)
    assert not issubclass(DeadlineExceeded, OutcomeUnknown)


# -- numbers -------------------------------------------------------------------------------


async def test_numbers_are_acknowledged_without_a_gap() -> None:
    numbering = Numbering(1, anyio.Event)
    assert [await numbering.take() for _ in range(4)] == [1, 2, 3, 4]
    numbering.done(2)
    numbering.done(4)
    assert numbering.acknowledged_below == 1
    numbering.done(1)
    assert numbering.acknowledged_below == 3
    numbering.done(3)
    assert numbering.acknowledged_below == 5


async def test_numbers_on_their_way_spread_only_so_far(autojump_clock: MockClock) -> None:
    """Otherwise the servers would have to refuse one for want of room for its result."""
    numbering = Numbering(1, anyio.Event, spread_max=2)
    await numbering.take()
    await numbering.take()
    with trio.move_on_after(1.0) as full:
        await numbering.take()
    assert full.cancelled_caught
    numbering.done(2)
    with trio.move_on_after(1.0) as still_full:
        await numbering.take()
    assert still_full.cancelled_caught
    numbering.done(1)
    assert await numbering.take() == 3
