"""Who may speak at the peers' port, over real TLS: whoever has no credential leaves no trace.

Rules of this file: real sockets on the loopback; "0" and "1" are members; "alice" has a client's
certificate of the same authority.
"""

from __future__ import annotations

import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.certificates import CLIENT, PEER, UNSAID, Authority
from tests.support import introduction
from trioraft.core.config import Limits
from trioraft.core.errors import BadMessage, ConfigError
from trioraft.net.framing import LENGTH_BYTES
from trioraft.net.tls import TlsContexts
from trioraft.transport.base import ConnectionRejected, LinkDown, LinkUp
from trioraft.transport.codec import encode_frame
from trioraft.transport.handshake import encode_hello
from trioraft.transport.tcp import TcpTransport

from .support import CLUSTER, LOOPBACK, PATIENCE_S, Recorder, heartbeat, running, take_reply
from .test_non_members import links_of

SLOW = Limits(reconnect_backoff_s=(5.0, 5.0))
"""One attempt is enough to see it refused."""
EAGER = Limits(reconnect_backoff_s=(0.001, 0.005))
KEY = b"nobody guesses this key"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def node(node_id: str, tls: TlsContexts, *known: TcpTransport, **more: Any) -> TcpTransport:
    """A node that knows these others; they need not know it."""
    peers = {other.node_id: other.bind() for other in known}
    return TcpTransport(node_id, LOOPBACK, peers, tls, rng=random.Random(1), **more)


@asynccontextmanager
async def dialed(
    transport: TcpTransport, authority: Authority, files: tuple[Path, Path]
) -> AsyncIterator[trio.SSLStream[trio.SocketStream]]:
    """A TLS connection to a node with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority.file)
    context.load_cert_chain(*files)
    stream = await trio.open_tcp_stream(*transport.address)
    secured = trio.SSLStream(stream, context, server_hostname=transport.node_id)
    try:
        await secured.do_handshake()
        yield secured
    finally:
        await trio.aclose_forcefully(secured)


async def says(
    stream: trio.SSLStream[trio.SocketStream], sender: str, *, invitation: str = "", disk: int = 1
) -> None:
    """Say hello as this node, tell an address, and send a message at once.

    Raises:
        BadMessage: it was refused.
    """
    hello = encode_hello(
        cluster_id=CLUSTER,
        introduction=introduction(sender, "0", incarnation=disk),
        address=("127.0.0.1", 1),
        invitation=invitation,
    )
    await stream.send_all(hello + encode_frame(heartbeat(sender, "0", 9)))
    with trio.fail_after(PATIENCE_S):
        take_reply((await stream.receive_some())[LENGTH_BYTES:], receiver=sender)


def assert_no_trace(owner: Recorder, transport: TcpTransport, *strangers: str) -> None:
    """Nothing but the log knows that anybody was there."""
    assert (owner.messages, owner.introduced, owner.lost) == ([], [], [])
    assert not any(isinstance(event, LinkUp | LinkDown) for event in owner.events)
    assert links_of("0").isdisjoint(strangers)
    assert all(transport.address_of(stranger) is None for stranger in strangers)


@pytest.mark.parametrize("peer_names", [None, ("0", "1", "alice")])
async def test_g1_a_client_of_the_same_authority_is_no_peer(
    authority: Authority, peer_names: tuple[str, ...] | None
) -> None:
    """One such certificate, and 63 bytes to each node, had emptied a cluster."""
    zero = node("0", authority.contexts("0", peer_names=peer_names), invite_key=KEY)
    invitation = zero.invite("alice", 3600.0, cluster_id=CLUSTER)
    alice = authority.issue("alice", CLIENT)
    async with running(zero) as owner:
        for shows in ("", invitation):
            async with dialed(zero, authority, alice) as stream:
                with pytest.raises(BadMessage, match="'alice' is not made for a peer"):
                    await says(stream, "alice", invitation=shows)
        await owner.until(lambda r: len(r.all(ConnectionRejected)) == 2)
        assert_no_trace(owner, zero, "alice")


async def test_nobody_speaks_for_a_member_with_a_client_certificate_of_its_name(
    authority: Authority,
) -> None:
    """A connection beside those of a real member ends none of them."""
    zero = node("0", authority.contexts("0"))
    one = node("1", authority.contexts("1"), zero)
    thief = authority.issue("1", CLIENT, file="thief")
    async with running(zero) as owner, running(one, limits=EAGER) as owner_1:
        await owner_1.until_up("0")
        for _ in range(8):  # more than a peer may have
            async with dialed(zero, authority, thief) as stream:
                with pytest.raises(BadMessage, match="not made for a peer"):
                    await says(stream, "1")
        one.send(heartbeat("1", "0", 3))
        await owner.until_rounds([3])
        assert owner.lost == owner_1.lost == []


async def test_a_listener_with_a_client_certificate_is_not_spoken_with(
    authority: Authority,
) -> None:
    """OpenSSL refuses a listener that is not made for servers; a context may be told not to."""
    false = node("1", authority.contexts("1", CLIENT))
    zero = node("0", authority.contexts("0"), false)
    async with running(false) as owner_1, running(zero, limits=SLOW) as owner_0:
        assert "unsuitable certificate purpose" in await owner_0.until_down("1")
        assert owner_0.introduced == owner_1.introduced == owner_1.messages == []
        assert owner_0.lost == []


async def test_a_certificate_without_a_purpose_passes_by_name_only(authority: Authority) -> None:
    zero = node("0", authority.contexts("0"))
    stranger, named = authority.issue("8", UNSAID), authority.issue("9", UNSAID)
    zero.add_peer("9", ("127.0.0.1", 1))
    async with running(zero, limits=SLOW) as owner:
        async with dialed(zero, authority, stranger) as stream:
            with pytest.raises(BadMessage, match="'8' does not say what it is made for"):
                await says(stream, "8")
        assert owner.messages == owner.introduced == []
        async with dialed(zero, authority, named) as stream:
            await says(stream, "9")
            await owner.until_rounds([9])


async def test_names_hold_on_both_sides(authority: Authority) -> None:
    """Whom a node would not listen to it does not speak with either."""
    other = node("9", authority.contexts("9"))
    zero = node("0", authority.contexts("0", peer_names=("0", "1")), other)
    async with running(other, limits=SLOW) as owner_9, running(zero, limits=SLOW) as owner_0:
        reason = await owner_0.until_down("9")
        assert "'9' is not among the names of peers" in reason
        assert owner_0.introduced == owner_0.messages == []
        assert owner_9.messages == []
        assert owner_0.all(LinkUp) == []


async def test_whoever_our_configuration_does_not_know_is_admitted_by_its_certificate(
    authority: Authority,
) -> None:
    """A new leader feeds a node that lags behind, knows nobody of its name, and answers."""
    zero = node("0", authority.contexts("0"))
    leader = node("7", authority.contexts("7"), zero)
    async with running(zero, limits=EAGER) as owner_0, running(leader, limits=EAGER) as owner_7:
        await owner_7.until_up("0")
        leader.send(heartbeat("7", "0", 4))
        await owner_0.until_rounds([4])
        await owner_0.until_up("7")
        zero.send(heartbeat("0", "7", 5))
        await owner_7.until_rounds([5])


async def test_an_invited_node_speaks_and_is_spoken_with(authority: Authority) -> None:
    names = ("0", "1")
    zero = node("0", authority.contexts("0", peer_names=names), invite_key=KEY)
    invitation = zero.invite("9", 3600.0, cluster_id=CLUSTER) + "\n"
    nine = node("9", authority.contexts("9"), zero, invitation=invitation)
    async with running(zero, limits=EAGER) as owner_0, running(nine, limits=EAGER) as owner_9:
        await owner_9.until_up("0")
        await owner_0.until_up("9")  # the way back, to who shows it in its answer
        zero.send(heartbeat("0", "9", 1))
        await owner_9.until_rounds([1])
        nine.send(heartbeat("9", "0", 2))
        await owner_0.until_rounds([2])


INVITATIONS = {
    "none": ("", 1, "give its name to this node"),
    "of another id": ("8", 1, "its invitation is for node '8'"),
    "of a second disk": ("9", 2, "is used up, by another disk"),
    "altered": ("altered", 1, "was altered, or was written with another"),
    "of another key": ("other key", 1, "was altered, or was written with another"),
    "over": ("over", 1, "its invitation has expired"),
}


@pytest.mark.parametrize(("kind", "disk", "reason"), INVITATIONS.values(), ids=INVITATIONS)
async def test_an_invitation_that_does_not_hold(
    kind: str, disk: int, reason: str, authority: Authority
) -> None:
    tls = authority.contexts("0", peer_names=("0",))
    zero = node("0", tls, invite_key=KEY)
    good = zero.invite("9", 3600.0, cluster_id=CLUSTER)
    nine = authority.issue("9")
    text = good
    if kind == "8":
        text = zero.invite("8", 3600.0, cluster_id=CLUSTER)
    elif kind == "altered":
        text = good[:-2] + ("AA" if good[-2:] != "AA" else "BA")
        text = good[: len(good) // 2] + "x" + good[len(good) // 2 + 1 :] if text == good else text
    elif kind == "other key":
        text = node("0", tls, invite_key=b"x" * 16).invite("9", 3600.0, cluster_id=CLUSTER)
    elif kind == "":
        text = ""
    async with running(zero, limits=EAGER) as owner:
        if kind == "9":
            async with dialed(zero, authority, nine) as stream:
                await says(stream, "9", invitation=good, disk=1)
                await owner.until_rounds([9])
            await owner.until_lost("9", 1)
        if kind == "over":
            assert zero._credentials is not None
            zero._credentials._now_s = lambda: 2.0**40
        before = len(owner.messages), len(owner.introduced)
        async with dialed(zero, authority, nine) as stream:
            with pytest.raises(BadMessage, match=reason):
                await says(stream, "9", invitation=text, disk=disk)
        assert (len(owner.messages), len(owner.introduced)) == before
        assert "9" not in links_of("0")
        if kind == "over":  # but for who has joined with it
            owner.named["9"] = 1
            async with dialed(zero, authority, nine) as stream:
                await says(stream, "9", invitation=text, disk=1)


async def test_without_a_key_it_is_said_what_to_do(authority: Authority) -> None:
    zero = node("0", authority.contexts("0", peer_names=("0",)))
    text = node("1", authority.contexts("1"), invite_key=KEY).invite("9", 60.0, cluster_id=CLUSTER)
    async with running(zero), dialed(zero, authority, authority.issue("9", PEER)) as stream:
        with pytest.raises(BadMessage, match="has no invitation key by which to read"):
            await says(stream, "9", invitation=text)


def test_over_plain_tcp_nobody_is_asked_for_an_invitation() -> None:
    zero = TcpTransport("0", LOOPBACK, {}, invite_key=KEY)
    with pytest.raises(ConfigError, match="plain TCP here, and nobody asks for an invitation"):
        zero.invite("9", 60.0, cluster_id=CLUSTER)


def test_what_is_no_invitation_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="the invitation is none"):
        TcpTransport("0", LOOPBACK, {}, invitation="hello")
