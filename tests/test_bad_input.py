"""Whatever reaches a node's listening port: a typed event, that connection closed, the term
unchanged, and the node serving on."""

from __future__ import annotations

import os

import pytest
import trio

from tests.support import introduction, open_single
from trioraft import Limits, Node, Role, TcpTransport
from trioraft.core.messages import RequestVote
from trioraft.transport.base import ConnectionRejected
from trioraft.transport.codec import encode_frame
from trioraft.transport.handshake import encode_hello

LIMITS = Limits(handshake_timeout_s=0.3, frame_timeout_s=0.3)


def hello(*, cluster_id: str = "trioraft", sender: str = "1", receiver: str = "0") -> bytes:
    """A handshake, with something wrong in it if so wanted."""
    return encode_hello(cluster_id=cluster_id, introduction=introduction(sender, receiver))


VOTE = encode_frame(RequestVote("1", "0", 99, 50, 50))
FORGED = encode_frame(RequestVote("2", "0", 99, 50, 50))

BAD = {
    "garbage": os.urandom(200),
    "text": b"GET / HTTP/1.1\r\n\r\n",
    "half a handshake": hello()[:-3],
    "nothing": b"",
    "an oversized length": b"\xff\xff\xff\xff",
    "another cluster": hello(cluster_id="another") + VOTE,
    "another node": hello(receiver="7") + VOTE,
    "a stranger": hello(sender="9") + VOTE,
    "a vote without a handshake": VOTE,
    "a handshake, then garbage": hello() + b"\x00\x00\x00\x10" + bytes(16),
    "a handshake, then an oversized frame": hello() + b"\x7f\xff\xff\xff",
    "a handshake, then half a frame": hello() + VOTE[:-2],
    "a handshake, then somebody else's message": hello() + FORGED,
}


async def leads(node: Node) -> None:
    await node.wait(lambda status: status.role is Role.LEADER)


@pytest.mark.parametrize("what", BAD)
async def test_bad_input_costs_its_connection_and_nothing_else(what: str) -> None:
    # "1" is a peer that the transport knows and the cluster does not need: "0" leads alone. It is
    # told of it only then: a first node waits for everybody whose address it was given.
    transport = TcpTransport("0", ("127.0.0.1", 0), {})
    host, port = transport.bind()
    async with open_single(transport=transport, limits=LIMITS) as node:
        await leads(node)
        transport.add_peer("1", ("127.0.0.1", 1))
        term = node.status.term
        async with node.events() as stream:
            connection = await trio.open_tcp_stream(host, port)
            async with connection:
                await connection.send_all(BAD[what])
                with trio.fail_after(5):
                    async for event in stream:
                        if isinstance(event, ConnectionRejected):
                            rejected = event
                            break
                    while True:  # whatever it answers, it hangs up
                        try:
                            if not await connection.receive_some(4096):
                                break
                        except trio.BrokenResourceError:
                            break
        assert len(rejected.reason) > 10
        assert node.status.term == term
        assert node.status.role is Role.LEADER
        assert await node.propose(b"serving on") == b"serving on"
