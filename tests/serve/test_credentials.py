"""Who may speak for what, with whole nodes over TLS: nodes that form, join, are moved and removed,
and a client that tries to be a peer.

Rules of this file: real sockets on the loopback and real time, for they are the subject; a wait
names its condition.
"""

from __future__ import annotations

import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import final

import attrs
import pytest
import trio

from benchmarks.processes import ServerProcesses, shown
from tests.certificates import CLIENT, Authority
from tests.serve.commands import run
from tests.support import introduction
from trioraft import Client, open_node, open_service
from trioraft.core.errors import BadMessage, ConfigError
from trioraft.core.messages import AppendEntries, InstallSnapshot, Message
from trioraft.core.types import Configuration, SnapshotMeta, Term
from trioraft.member.status import Status
from trioraft.net.framing import LENGTH_BYTES
from trioraft.node.node import Node
from trioraft.storage.memory import MemoryStorage
from trioraft.testing.cluster import CommandLog
from trioraft.transport.codec import encode_frame
from trioraft.transport.handshake import check_reply, encode_hello
from trioraft.transport.memory import MemoryNetwork
from trioraft.transport.tcp import TcpTransport

LOOPBACK = ("127.0.0.1", 0)
KEY = b"nobody guesses this key"
PATIENCE_S = 20.0
FOUNDERS = ("0", "1", "2")


@final
@attrs.define
class Tls:
    """A cluster over TLS; a node that is opened again is at another port."""

    authority: Authority
    stack: AsyncExitStack
    peer_names: tuple[str, ...] | None = None
    transports: dict[str, TcpTransport] = attrs.Factory(dict)
    storages: dict[str, MemoryStorage] = attrs.Factory(dict)
    machines: dict[str, CommandLog] = attrs.Factory(dict)
    nodes: dict[str, Node] = attrs.Factory(dict)

    def listen(self, node_id: str, invitation: str = "") -> None:
        """Take a port for a node that is to be opened."""
        contexts = self.authority.contexts(node_id, peer_names=self.peer_names)
        self.transports[node_id] = TcpTransport(
            node_id, LOOPBACK, {}, contexts, invite_key=KEY, invitation=invitation
        )
        self.transports[node_id].bind()

    async def open(self, node_id: str, *, joins: bool = False) -> None:
        transport = self.transports[node_id]
        for peer in () if joins else FOUNDERS:
            transport.add_peer(peer, self.transports[peer].address)
        self.machines[node_id] = CommandLog()
        self.nodes[node_id] = await self.stack.enter_async_context(
            open_node(
                node_id,
                voters=() if joins else FOUNDERS,
                machine=self.machines[node_id],
                storage=self.storages.setdefault(node_id, MemoryStorage()),
                transport=transport,
                auto_replace=False,
            )
        )

    async def form(self) -> None:
        for node_id in FOUNDERS:
            self.listen(node_id)
        for node_id in FOUNDERS:
            await self.open(node_id)

    async def until(self, node_id: str, holds: Callable[[Status], bool]) -> Status:
        with trio.fail_after(PATIENCE_S):
            return await self.nodes[node_id].wait(holds)

    async def leader(self) -> Node:
        """Whoever leads."""
        status = await self.until("0", lambda s: s.leader_id is not None and s.commit_index > 0)
        assert status.leader_id is not None
        return self.nodes[status.leader_id]


@asynccontextmanager
async def formed(directory: Path, peer_names: tuple[str, ...] | None = None) -> AsyncIterator[Tls]:
    """Three nodes that have formed."""
    async with AsyncExitStack() as stack:
        cluster = Tls(Authority(directory), stack, peer_names)
        await cluster.form()
        yield cluster


async def refusal_of(cluster: Tls, receiver: str, messages: list[Message], uuid: str) -> str:
    """What a client's certificate is told, that says to be of the cluster's history."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cluster.authority.file)
    context.load_cert_chain(*cluster.authority.issue("alice", CLIENT))
    said = introduction("alice", receiver, uuid=uuid, formed=True)
    hello = encode_hello(cluster_id="trioraft", introduction=said)
    stream = trio.SSLStream(
        await trio.open_tcp_stream(*cluster.transports[receiver].address),
        context,
        server_hostname=receiver,
    )
    with trio.fail_after(PATIENCE_S):
        await stream.send_all(hello + b"".join(map(encode_frame, messages)))
        payload = (await stream.receive_some())[LENGTH_BYTES:]
    await trio.aclose_forcefully(stream)
    with pytest.raises(BadMessage) as refusal:
        check_reply(payload, sender=receiver, receiver="alice")
    return str(refusal.value)


def wipe(receiver: str, term: Term) -> list[Message]:
    """An empty snapshot of a later term."""
    meta = SnapshotMeta(1000, term, Configuration(FOUNDERS), 0, 0)
    return [InstallSnapshot("alice", receiver, term, meta, 0, b"", False)]


def wedge(receiver: str, term: Term) -> list[Message]:
    """A heartbeat of a leader of a later term."""
    return [AppendEntries("alice", receiver, term, 0, 0, (), 0, 0)]


@pytest.mark.parametrize("attack", [wipe, wedge])
async def test_g1_a_clients_certificate_moves_nothing(
    tmp_path: Path, attack: Callable[[str, Term], list[Message]]
) -> None:
    """No term, log, snapshot or leader: all that was acknowledged is there."""
    async with formed(tmp_path) as cluster:
        leader = await cluster.leader()
        await leader.propose(b"account")
        for node_id in FOUNDERS:
            await cluster.until(node_id, lambda s: s.applied_index >= leader.status.commit_index)
        before = {node_id: node.status for node_id, node in cluster.nodes.items()}
        for node_id in FOUNDERS:
            uuid = before[node_id].uuid
            assert uuid is not None
            attacking = attack(node_id, before[node_id].term + 5)
            told = await refusal_of(cluster, node_id, attacking, uuid)
            assert "'alice' is not made for a peer" in told
        await leader.propose(b"more")
        for node_id, status in before.items():
            now = await cluster.until(
                node_id, lambda s: s.applied_index == leader.status.commit_index
            )
            assert (now.term, now.leader_id) == (status.term, status.leader_id)
            assert [data for _, data in cluster.machines[node_id].commands] == [b"account", b"more"]


@pytest.mark.parametrize("peer_names", [None, FOUNDERS], ids=["any name", "names"])
async def test_a_node_whose_configuration_is_old_is_fed_by_a_leader_that_it_does_not_know(
    tmp_path: Path, peer_names: tuple[str, ...] | None
) -> None:
    """It was away while "3" joined, by its certificate or by an invitation, and came to lead; and
    it comes back at another port."""
    async with formed(tmp_path, peer_names) as cluster:
        leader = await cluster.leader()
        away = next(node_id for node_id in ("1", "2") if node_id != leader.id)
        cluster.nodes[away].kill()
        invitation = "" if peer_names is None else await leader.invite("3")
        cluster.listen("3", invitation)
        await cluster.open("3", joins=True)
        with trio.fail_after(PATIENCE_S):
            await leader.add_learner("3", cluster.transports["3"].address)
            await leader.change_voters([*FOUNDERS, "3"])
            await leader.transfer_leadership("3")
        await cluster.until("3", lambda s: s.leader_id == "3")
        await cluster.nodes["3"].propose(b"x")
        cluster.listen(away)
        await cluster.open(away)
        with trio.fail_after(PATIENCE_S):  # where it is now
            await cluster.nodes["3"].add_learner(away, cluster.transports[away].address)
        status = await cluster.until(away, lambda s: s.leader_id == "3" and s.applied_index > 0)
        assert "3" in status.configuration.voters
        with trio.fail_after(PATIENCE_S):
            await cluster.nodes["3"].propose(b"y")
        await cluster.until(
            away, lambda s: s.applied_index >= cluster.nodes["3"].status.commit_index
        )
        assert [data for _, data in cluster.machines[away].commands] == [b"x", b"y"]


async def test_a_node_that_is_removed_is_told(tmp_path: Path) -> None:
    async with formed(tmp_path) as cluster:
        leader = await cluster.leader()
        removed = next(node_id for node_id in FOUNDERS if node_id != leader.id)
        with trio.fail_after(PATIENCE_S):
            await leader.remove(removed)
        await cluster.until(removed, lambda s: s.is_removed)


# -- who writes invitations ----------------------------------------------------------------


async def test_a_client_has_an_invitation_written(tmp_path: Path) -> None:
    async with formed(tmp_path) as cluster:
        leader = await cluster.leader()
        machine = cluster.machines[leader.id]
        async with (
            open_service(leader, machine, LOOPBACK) as service,
            Client([service.address]) as client,
        ):
            written = await client.invite("3", 60.0)
            assert written.startswith("trioraft-invite-1.")
            with pytest.raises(ConfigError, match="one is valid for 1 s to"):
                await client.invite("3", 0.0)
            with pytest.raises(ConfigError, match="cannot be a DNS name"):
                await client.invite("a b")


async def test_a_network_within_the_process_asks_nobody() -> None:
    async with open_node(
        "0",
        voters=["0"],
        machine=CommandLog(),
        storage=MemoryStorage(),
        transport=MemoryNetwork(random.Random(1)).transport("0"),
    ) as node:
        with pytest.raises(ConfigError, match="asks nobody for an invitation"):
            await node.invite("1")


def test_over_plain_tcp_the_command_says_that_no_invitation_is_needed(tmp_path: Path) -> None:
    with ServerProcesses(tmp_path, size=1) as servers:
        servers.start()
        result = run("admin", "invite", "3", "--address", shown(servers.addresses[0]))
        assert result.exit_code == 2
        assert "plain TCP here, and nobody asks for an invitation" in result.output
        wrong = run("admin", "invite", "3", "--valid", "1d", "--address", "127.0.0.1:1")
        assert wrong.exit_code == 2
        assert "give a time with its unit" in wrong.output
