"""TLS between nodes: who gets in, who does not, and what each side is told."""

from __future__ import annotations

import random
import socket
import ssl
import sys
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme

from trioraft.core.config import Limits
from trioraft.core.errors import ConfigError
from trioraft.net.connection import socket_under
from trioraft.net.sockets import Acknowledged, acknowledged
from trioraft.net.tls import TlsContexts
from trioraft.transport import link as link_module
from trioraft.transport.base import ConnectionRejected, LinkReplaced, LinkUp
from trioraft.transport.tcp import TcpTransport

from .support import heartbeat, open_sockets, rounds, running

SLOW = Limits(reconnect_backoff_s=(5.0, 5.0))
"""One attempt is enough to see it refused."""


def contexts_for(
    authority: trustme.CA, name: str, *, trusted: trustme.CA | None = None
) -> TlsContexts:
    """A node's contexts: a certificate of this name, and whom it trusts."""
    certificate = authority.issue_cert(name)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.verify_mode = ssl.CERT_REQUIRED
    for context in (server, client):
        certificate.configure_cert(context)
        (trusted or authority).configure_trust(context)
    return TlsContexts(server, client)


def pair(zero: TlsContexts | None, one: TlsContexts | None) -> tuple[TcpTransport, TcpTransport]:
    """Two nodes that know each other's address; None is plain TCP."""
    transports = (
        TcpTransport("0", ("127.0.0.1", 0), {}, zero, rng=random.Random(1)),
        TcpTransport("1", ("127.0.0.1", 0), {}, one, rng=random.Random(2)),
    )
    table = {transport.node_id: transport.bind() for transport in transports}
    for transport in transports:
        for peer, address in table.items():
            transport.set_peer(peer, address)
    return transports


async def test_nodes_with_certificates_of_one_authority_talk() -> None:
    authority = trustme.CA()
    zero, one = pair(contexts_for(authority, "0"), contexts_for(authority, "1"))
    async with running(zero) as owner_0, running(one) as owner_1:
        await owner_0.until_up("1")
        zero.send(heartbeat("0", "1", 4))
        await owner_1.until(lambda r: rounds(r.messages) == [4])
        assert owner_1.all(ConnectionRejected) == []


@pytest.mark.skipif(sys.platform != "linux", reason="this kernel does not say")
async def test_what_the_kernel_says_is_seen_through_tls() -> None:
    authority = trustme.CA()
    zero, one = pair(contexts_for(authority, "0"), contexts_for(authority, "1"))
    async with running(zero) as owner_0, running(one) as owner_1:
        await owner_0.until_up("1")
        zero.send(heartbeat("0", "1", 4))
        await owner_1.until_rounds([4])
        links = zero._active.links  # type: ignore[union-attr] # it runs
        writer = links.by_peer["1"]._writer
        assert writer is not None
        found = acknowledged(socket_under(writer._stream))
        assert found is not None
        assert found.acknowledged_bytes > 1000  # the handshake and more


async def test_a_silent_connection_is_replaced_over_tls_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authority = trustme.CA()
    zero, one = pair(contexts_for(authority, "0"), contexts_for(authority, "1"))
    silent: list[object] = []

    def says(sock: object) -> Acknowledged:
        """The first connection that is asked about is never heard; the others are."""
        if not silent:
            silent.append(sock)
        return Acknowledged(1000, 0 if sock is silent[0] else 1000, trio.current_time())

    async with running(zero) as owner_0, running(one) as owner_1:
        await owner_0.until_up("1")
        await owner_1.until_up("0")
        monkeypatch.setattr(link_module, "acknowledged", says)
        zero.send(heartbeat("0", "1", 4))
        await owner_0.until(lambda r: bool(r.all(LinkReplaced)))
        zero.send(heartbeat("0", "1", 5))
        await owner_1.until(lambda r: rounds(r.messages)[-1:] == [5])
        assert owner_0.lost == owner_1.lost == []
        assert owner_1.all(ConnectionRejected) == []


async def told(
    zero: TlsContexts | None, one: TlsContexts | None, limits: Limits = SLOW
) -> tuple[str, str, str]:
    """Let node 0 be right and node 1 wrong: what 0 says of 1's connection, what 0 says of its own
    link to 1, and what 1 says of its link to 0."""
    transports = pair(zero, one)
    async with (
        running(transports[0], limits=limits) as owner_0,
        running(transports[1], limits=limits) as owner_1,
    ):
        rejected = (await owner_0.until_rejected()).reason
        link_0 = await owner_0.until_down("1")
        link_1 = await owner_1.until_down("0")
        assert owner_0.messages == owner_1.messages == []
        assert owner_0.lost == owner_1.lost == []
        assert owner_0.all(LinkUp) == owner_1.all(LinkUp) == []
        return rejected, link_0, link_1


async def test_a_certificate_of_another_name() -> None:
    authority = trustme.CA()
    rejected, link_0, link_1 = await told(
        contexts_for(authority, "0"), contexts_for(authority, "7")
    )
    assert "the certificate is for ['7'], not for node '1'" in rejected
    assert "Hostname mismatch" in link_0
    assert "refused the connection: the certificate is for ['7'], not for node '1'" in link_1


async def test_without_hostname_check_the_name_is_checked_all_the_same() -> None:
    authority = trustme.CA()
    contexts = contexts_for(authority, "0")
    contexts.client.check_hostname = False
    _, link_0, _ = await told(contexts, contexts_for(authority, "7"))
    assert "the certificate is for ['7'], not for node '1'" in link_0


async def test_a_wildcard_certificate_is_no_node() -> None:
    authority = trustme.CA()
    contexts = contexts_for(authority, "*.raft.example")
    transport = TcpTransport("a.raft.example", ("127.0.0.1", 0), {}, contexts, rng=random.Random(1))
    other = TcpTransport(
        "b.raft.example",
        ("127.0.0.1", 0),
        {"a.raft.example": transport.bind()},
        contexts_for(authority, "b.raft.example"),
        rng=random.Random(1),
    )
    async with running(transport, limits=SLOW), running(other, limits=SLOW) as owner:
        reason = await owner.until_down("a.raft.example")
        assert "the certificate is for ['*.raft.example'], not for node 'a.raft.example'" in reason


async def test_an_authority_that_is_not_trusted() -> None:
    ours, theirs = trustme.CA(), trustme.CA()
    rejected, link_0, link_1 = await told(
        contexts_for(ours, "0"), contexts_for(theirs, "1", trusted=ours)
    )
    # In TLS 1.3 the client is done before the server has looked at its certificate, so it may
    # hear of it only by the end of the connection.
    assert "certificate not accepted" in rejected
    assert "certificate not accepted" in link_0
    assert "handshake with 127.0.0.1:" in link_1


async def test_plain_tcp_meets_tls() -> None:
    limits = Limits(reconnect_backoff_s=(5.0, 5.0), handshake_timeout_s=0.3)
    rejected, link_0, link_1 = await told(contexts_for(trustme.CA(), "0"), None, limits)
    assert "TLS failed" in rejected
    assert "handshake with" in link_0
    assert "handshake with" in link_1


async def test_contexts_from_files(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))

    def contexts(name: str) -> TlsContexts:
        certificate = authority.issue_cert(name)
        chain, key = tmp_path / f"{name}.pem", tmp_path / f"{name}.key"
        certificate.private_key_pem.write_to_path(str(key))
        for blob in certificate.cert_chain_pems:
            blob.write_to_path(str(chain), append=True)
        return TlsContexts.from_files(
            certificate=chain, key=key, authority=tmp_path / "authority.pem"
        )

    zero, one = pair(contexts("0"), contexts("1"))
    async with running(zero) as owner, running(one):
        await owner.until_up("1")


async def test_a_client_without_certificate_is_not_let_in() -> None:
    authority = trustme.CA()
    zero = TcpTransport("0", ("127.0.0.1", 0), {}, contexts_for(authority, "0"))
    address = zero.bind()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    async with running(zero) as owner:
        stream = await trio.open_tcp_stream(*address)
        secured = trio.SSLStream(stream, context, server_hostname="0")
        await secured.do_handshake()
        reason = (await owner.until_rejected()).reason
        assert "TLS failed: PEER_DID_NOT_RETURN_A_CERTIFICATE" in reason
        await trio.aclose_forcefully(secured)


async def test_ending_in_the_middle_of_tls_handshakes_leaves_no_socket() -> None:
    sockets = open_sockets()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        transport = TcpTransport(
            "0",
            ("127.0.0.1", 0),
            {"1": silent.getsockname()},
            contexts_for(trustme.CA(), "0"),
        )
        async with running(transport):
            stream = await trio.open_tcp_stream(*transport.address)
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert open_sockets() == sockets + 5  # two listen, two of the stranger, our link's
        assert await stream.receive_some() == b""
        stream.socket.close()
    assert open_sockets() == sockets


def test_contexts_that_would_let_strangers_in_are_refused() -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with pytest.raises(ConfigError, match=r"server has verify_mode CERT_NONE: anyone could pose"):
        TlsContexts(server, client)
    with pytest.raises(ConfigError, match=r"TlsContexts.server was made with PROTOCOL_TLS_CLIENT"):
        TlsContexts(client, client)
    server.verify_mode = ssl.CERT_REQUIRED
    with pytest.raises(ConfigError, match=r"TlsContexts.client was made with PROTOCOL_TLS_SERVER"):
        TlsContexts(server, server)
    with pytest.raises(ConfigError, match=r"TlsContexts.client is None: give an ssl.SSLContext"):
        TlsContexts(server, None)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ConfigError, match=r"serves one side; give TlsContexts"):
        TcpTransport("0", ("127.0.0.1", 0), {}, ssl_context=client)


def test_one_context_for_both_sides_is_taken_though_python_deprecates_it() -> None:
    with pytest.warns(DeprecationWarning, match="PROTOCOL_TLS"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS)
    context.verify_mode = ssl.CERT_REQUIRED
    TcpTransport("0", ("127.0.0.1", 0), {}, ssl_context=context)


@pytest.mark.parametrize("node_id", ["", "a b", "10.0.0.1", "a..b", "é", "*", "-a", "x" * 64])
def test_ids_that_cannot_stand_in_a_certificate_are_refused(node_id: str) -> None:
    contexts = contexts_for(trustme.CA(), "0")
    with pytest.raises(ConfigError, match="cannot be a DNS name in a certificate"):
        TcpTransport(node_id, ("127.0.0.1", 0), {}, contexts)
    with pytest.raises(ConfigError, match="cannot be a DNS name in a certificate"):
        TcpTransport("0", ("127.0.0.1", 0), {node_id: ("127.0.0.1", 1)}, contexts)
