"""What travels where somebody traces, and that nothing does elsewhere: releases that know nothing
of it read what these write, and the other way round."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tests.tracing.support import IDS, Traces, traced_nodes
from trioraft.core.messages import Forward, Message
from trioraft.core.types import TRACESTATE_CHARS_MAX, TraceContext
from trioraft.net.framing import LENGTH_BYTES
from trioraft.rpc.protocol import Propose, Query, Request, frame
from trioraft.transport.codec import decode_message, encode_frame

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CONTEXT = TraceContext(PARENT, "shop=7")


class OldPropose(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """As releases have it that know nothing of tracing."""

    id: int
    data: bytes


class OldQuery(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Likewise."""

    id: int
    data: bytes
    consistency: str = "linearizable"


class OldForward(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """Likewise."""

    sender: str
    receiver: str
    term: int
    number: int
    data: bytes


def payload(message: Any) -> bytes:
    framed = encode_frame(message) if isinstance(message, Forward) else frame(message)
    return framed[LENGTH_BYTES:]


PAIRS: list[tuple[Any, Any]] = [
    (Propose(7, b"x=1"), OldPropose(7, b"x=1")),
    (Query(7, b"x", "lease"), OldQuery(7, b"x", "lease")),
    (Forward("0", "1", 3, 7, b"x=1"), OldForward("0", "1", 3, 7, b"x=1")),
]


@pytest.mark.parametrize(("new", "old"), PAIRS, ids=lambda each: type(each).__name__)
def test_where_nobody_traces_not_one_byte_is_added(new: Any, old: Any) -> None:
    assert payload(new) == msgspec.msgpack.encode(old)


@pytest.mark.parametrize(("new", "old"), PAIRS, ids=lambda each: type(each).__name__)
def test_old_and_new_read_each_other(new: Any, old: Any) -> None:
    traced = msgspec.structs.replace(new, trace=CONTEXT)
    assert len(payload(traced)) > len(payload(new)) + len(PARENT)
    assert msgspec.msgpack.decode(payload(traced), type=type(old)) == old
    reader: Any = Message if isinstance(new, Forward) else Request
    assert msgspec.msgpack.decode(payload(traced), type=reader) == traced
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(old), type=reader) == new


def test_what_is_too_long_to_be_a_context_is_refused() -> None:
    long = TraceContext(PARENT, "x" * (TRACESTATE_CHARS_MAX + 1))
    with pytest.raises(Exception, match="not a message"):
        decode_message(payload(Forward("0", "1", 3, 7, b"", long)))


@pytest.mark.parametrize(
    "parent",
    ["", "nonsense", "00-" + "0" * 32 + "-b7ad6b7169203331-01", PARENT[:-2] + "00", "99" + PARENT],
)
async def test_nonsense_and_what_is_not_sampled_is_not_traced(
    parent: str, autojump_clock: MockClock
) -> None:
    traces = Traces()
    async with traced_nodes(traces.tracer) as nodes:
        leader = await nodes.leader()
        other = next(each for each in IDS if each != leader.id)
        member = leader._runner.member
        assert member is not None
        message = Forward(other, leader.id, leader.status.term, 7, b"one", TraceContext(parent))
        member.receive(message, trio.current_time())
        leader._runner._act()
        await leader.wait(lambda status: status.applied_index == 2)
    assert traces.spans == []
