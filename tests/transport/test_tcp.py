"""TCP on real sockets: addresses, restarts, lost peers, refused and crowding connections."""

from __future__ import annotations

import errno
import socket

import msgspec
import pytest
import trio
import trio.testing

from trioraft.core.config import Limits
from trioraft.core.errors import ConfigError
from trioraft.core.messages import Introduction
from trioraft.core.types import NodeId
from trioraft.net.framing import LENGTH_BYTES
from trioraft.transport import link
from trioraft.transport.base import AddressUnusable, ConnectionRejected, LinkDown, Listening
from trioraft.transport.codec import encode_frame
from trioraft.transport.link import dial
from trioraft.transport.tcp import TcpTransport

from .support import (
    CLUSTER,
    LONGEST,
    LOOPBACK,
    PATIENCE_S,
    HangingResolver,
    Recorder,
    all_tasks,
    connected,
    free_port,
    heartbeat,
    hello_of,
    linked_pair,
    open_sockets,
    rounds,
    running,
    take_reply,
)

EAGER = Limits(reconnect_backoff_s=(0.001, 0.005))
PATIENT = Limits(reconnect_backoff_s=(60.0, 60.0))
"""Whoever gets through within a test did not wait for the pause to end."""


class Dialing:
    """Counts attempts to connect, so that a test can let some pass."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = trio.Semaphore(0)
        monkeypatch.setattr(link, "dial", self.dial)
        self._dial = dial

    async def dial(self, address: tuple[str, int]) -> trio.SocketStream:
        self.left.release()
        return await self._dial(address)

    async def until_more(self, attempts: int) -> None:
        """Wait until so many more attempts have begun."""
        with trio.fail_after(PATIENCE_S):
            for _ in range(self.left.value + attempts):
                await self.left.acquire()


# -- what is given -------------------------------------------------------------------------------


BAD_ADDRESSES = [
    ("127.0.0.1", -1),
    ("127.0.0.1", 65536),
    ("127.0.0.1", "80"),
    ("127.0.0.1", True),
    ("", 4000),
    (" 127.0.0.1", 4000),
    (None, 4000),
    "127.0.0.1",
    ("127.0.0.1", 1, 2),
    None,
]


@pytest.mark.parametrize("address", BAD_ADDRESSES, ids=repr)
def test_unusable_addresses_are_refused(address: tuple[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"listen .*give"):
        TcpTransport("0", address, {})
    with pytest.raises(ConfigError, match=r"peers\['1'\] .*give"):
        TcpTransport("0", LOOPBACK, {"1": address})


def test_a_peer_needs_a_port() -> None:
    with pytest.raises(ConfigError, match=r"has the port 0: give one of 1..65535"):
        TcpTransport("0", LOOPBACK, {"1": ("127.0.0.1", 0)})


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "::", "node-1.example"])
def test_plain_tcp_stays_on_this_machine(host: str) -> None:
    advice = "Give ssl_context=.* or say insecure=True"
    with pytest.raises(ConfigError, match=advice):
        TcpTransport("0", (host, 4000), {})
    with pytest.raises(ConfigError, match=advice):
        TcpTransport("0", LOOPBACK, {"1": (host, 4000)})
    with pytest.raises(ConfigError, match=advice):
        TcpTransport("0", LOOPBACK, {}).add_peer("1", (host, 4000))
    with pytest.raises(ConfigError, match=advice):
        TcpTransport("0", LOOPBACK, {}, advertise=(host, 4000))
    TcpTransport("0", (host, 4000), {"1": (host, 4001)}, insecure=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_this_machine_has_several_names(host: str) -> None:
    TcpTransport("0", (host, 4000), {"1": (host, 4001)})


def test_all_nodes_may_share_one_table() -> None:
    table = {"0": ("127.0.0.1", 4000), "1": ("127.0.0.1", 4001)}
    transport = TcpTransport("0", ("127.0.0.1", 5000), table)
    assert transport.address_of("0") == ("127.0.0.1", 5000)
    assert transport.address_of("1") == ("127.0.0.1", 4001)
    assert transport.address_of("2") is None


# -- listening -----------------------------------------------------------------------------------


async def test_the_port_can_be_known_before_it_runs() -> None:
    transport = TcpTransport("0", LOOPBACK, {})
    address = transport.bind()
    assert address[1] != 0
    assert transport.bind() == address == transport.address
    async with running(transport) as owner:
        (event,) = owner.all(Listening)
        assert event.address == f"127.0.0.1:{address[1]}"
        async with connected(transport):
            pass


async def test_a_bound_port_can_be_given_back() -> None:
    sockets = open_sockets()
    transport = TcpTransport("0", LOOPBACK, {})
    transport.bind()
    assert open_sockets() == sockets + 1
    transport.close()
    transport.close()
    assert open_sockets() == sockets
    async with running(transport), connected(transport):  # and taken again
        pass
    assert open_sockets() == sockets


async def test_a_port_in_use_is_an_error_that_names_it() -> None:
    with socket.socket() as taken:
        taken.bind(LOOPBACK)
        taken.listen()
        port = taken.getsockname()[1]
        transport = TcpTransport("0", ("127.0.0.1", port), {})
        message = rf"node '0' cannot listen at \('127.0.0.1', {port}\): Address already in use"
        with pytest.raises(OSError, match=message) as error:
            await transport.run(Recorder(), cluster_id=CLUSTER, limits=Limits())
        assert error.value.errno == errno.EADDRINUSE
        with pytest.raises(OSError, match=message):
            transport.bind()
    async with running(transport):
        pass


@pytest.mark.parametrize("host", ["localhost", "::1"])
async def test_other_ways_to_say_loopback(host: str) -> None:
    transport = TcpTransport("0", (host, 0), {})
    other = TcpTransport("1", LOOPBACK, {"0": transport.bind()})
    transport.set_peer("1", other.bind())
    async with running(transport), running(other) as owner:
        await owner.until_up("0")


async def test_no_thread_is_used_for_literal_addresses() -> None:
    resolver = HangingResolver()
    trio.socket.set_custom_hostname_resolver(resolver)
    zero = TcpTransport("0", ("localhost", 0), {})
    one = TcpTransport("1", LOOPBACK, {"0": zero.bind()})
    zero.set_peer("1", ("localhost", one.bind()[1]))
    async with running(zero) as owner, running(one):
        await owner.until_up("1")
    assert not resolver.asked.is_set()


async def test_running_out_of_descriptors_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    accept = socket.socket.accept
    failures = [errno.EMFILE, errno.EMFILE, errno.ENOBUFS]

    def failing(self: socket.socket) -> tuple[socket.socket, object]:
        if failures:
            raise OSError(failures.pop(), "scarce")
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", failing)
    transport = TcpTransport("0", LOOPBACK, {})
    async with running(transport) as owner, connected(transport) as stream:
        with trio.fail_after(PATIENCE_S):
            await stream.send_all(hello_of("0", "0"))
            assert await stream.receive_some() != b""
        await owner.until(lambda r: len(r.all(ConnectionRejected)) >= 2)
        first, second = owner.all(ConnectionRejected)  # once, not for each attempt
        assert first.reason == "cannot accept: No buffer space available"
        assert second.reason == "the dialer says that it is node '0', which is this node"
    assert failures == []


async def test_too_many_strangers() -> None:
    """For one more, the one goes that kept silent longest; who says who it is, stays."""
    transport = TcpTransport("0", LOOPBACK, {})
    async with (
        running(transport, limits=Limits(inbound_connections_max=2)) as owner,
        connected(transport) as member,
    ):
        await member.send_all(hello_of("9", "0"))
        assert await member.receive_some() != b""
        async with (
            connected(transport) as first,
            connected(transport),
            connected(transport) as last,
        ):
            assert await first.receive_some() == b""
            reason = (await owner.until_rejected()).reason
            assert reason == "others came, and it kept silent"
            await last.send_all(hello_of("8", "0"))
            assert await last.receive_some() != b""
            with trio.move_on_after(0.05) as member_stays:
                await member.receive_some()
            assert member_stays.cancelled_caught


# -- peers ---------------------------------------------------------------------------------------


async def test_the_dialer_learns_why_it_was_refused() -> None:
    zero = TcpTransport("0", LOOPBACK, {})
    one = TcpTransport("1", LOOPBACK, {"2": zero.bind()})
    async with running(zero) as owner_0, running(one, limits=PATIENT) as owner_1:
        reason = await owner_1.until_down("2")
        assert "it refused the connection: the connection is for node '2'" in reason
        rejected = await owner_0.until_rejected()
        assert rejected.reason == "the connection is for node '2', this is node '0'"
        assert rejected.remote.startswith("127.0.0.1:")


async def test_a_node_at_anothers_address() -> None:
    zero = TcpTransport("0", LOOPBACK, {"1": ("127.0.0.1", free_port())})
    one = TcpTransport("1", LOOPBACK, {"2": zero.bind()})
    async with running(zero), running(one, limits=PATIENT) as owner:
        reason = await owner.until_down("2")
        assert "the connection is for node '2', this is node '0'" in reason


async def test_a_peer_that_ends_is_lost_once_for_each_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dialing = Dialing(monkeypatch)
    zero, one = linked_pair()
    async with running(zero, limits=EAGER) as owner:
        async with running(one, limits=EAGER) as owner_1:
            await owner.until_up("1")
            await owner_1.until_up("0")
        # Its connection to us, ours to it, and then once that nobody listens there any more.
        await owner.until(lambda r: len(r.lost) == 3)
        refused = f"cannot connect to 127.0.0.1:{one.address[1]}: Connection refused"
        await owner.until(lambda r: r.all(LinkDown)[-1].reason == refused)
        await dialing.until_more(attempts=5)
        assert owner.lost == ["1", "1", "1"]
        assert len(owner.all(LinkDown)) == 2  # each reason once
        assert owner_1.lost == []


async def test_a_peer_that_restarts_is_linked_again() -> None:
    zero, one = linked_pair()
    async with running(zero, limits=EAGER) as owner:
        for number in range(1, 4):
            async with running(one, limits=EAGER) as owner_1:
                await owner.until_up("1", times=number)
                zero.send(heartbeat("0", "1", number))
                await owner_1.until_rounds([number])
            await owner.until_lost("1", times=2 * number)


async def test_a_peer_that_never_was_there_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    dialing = Dialing(monkeypatch)
    transport = TcpTransport("0", LOOPBACK, {"1": ("127.0.0.1", free_port())})
    async with running(transport, limits=EAGER) as owner:
        await owner.until_down("1")
        await dialing.until_more(attempts=5)
        assert owner.lost == []


async def test_a_peer_that_comes_back_cuts_the_pause_short() -> None:
    zero, one = linked_pair()
    one.close()
    async with running(zero, limits=PATIENT) as owner:
        await owner.until_down("1")
        async with running(one):
            await owner.until_up("1")


async def test_what_waited_for_a_dead_connection_is_not_sent_later() -> None:
    zero, one = linked_pair()
    one.close()
    async with running(zero, limits=PATIENT) as owner:
        zero.send(heartbeat("0", "1", 1))  # while it dials
        await owner.until_down("1")
        zero.send(heartbeat("0", "1", 2))  # while it pauses
        async with running(one) as owner_1:
            await owner.until_up("1")
            zero.send(heartbeat("0", "1", 3))
            await owner_1.until(lambda r: bool(r.messages))
            assert rounds(owner_1.messages) == [3]


async def test_messages_sent_while_the_link_is_made_arrive() -> None:
    zero, one = linked_pair()
    async with running(one) as owner_1, running(zero):
        await trio.lowlevel.checkpoint()  # the link's task has begun, no more
        zero.send(heartbeat("0", "1", 1))
        await owner_1.until(lambda r: rounds(r.messages) == [1])


async def test_peers_can_be_added_moved_and_forgotten_while_it_runs() -> None:
    zero = TcpTransport("0", LOOPBACK, {})
    one = TcpTransport("1", LOOPBACK, {"0": zero.bind()})
    async with running(zero, limits=EAGER) as owner:
        async with running(one, limits=EAGER) as owner_1:
            zero.set_peer("1", ("127.0.0.1", free_port()))
            await owner.until_down("1")
            zero.set_peer("1", one.address)
            await owner.until_up("1")
            await owner_1.until_up("0")
            zero.send(heartbeat("0", "1", 1))
            await owner_1.until(lambda r: rounds(r.messages) == [1])
            zero.set_peer("1", None)
            zero.send(heartbeat("0", "1", 2))
            await owner_1.until(lambda r: r.lost == ["0", "0"])
        assert rounds(owner_1.messages) == [1]


async def test_a_breach_over_a_real_socket() -> None:
    transport = TcpTransport("0", LOOPBACK, {"1": ("127.0.0.1", free_port())})
    async with running(transport, limits=PATIENT) as owner, connected(transport) as stream:
        await stream.send_all(hello_of("1", "0"))
        take_reply((await stream.receive_some())[LENGTH_BYTES:])
        await stream.send_all(encode_frame(heartbeat("1", "0")) + b"\xff" * 1000)
        event = await owner.until_rejected()
        host, port = stream.socket.getsockname()
        assert (event.remote, event.peer) == (f"{host}:{port}", "1")
        assert rounds(owner.messages) == [1]


async def test_tasks_have_names() -> None:
    zero, one = linked_pair()
    async with running(zero) as owner, running(one) as owner_1:
        await owner.until_up("1")
        await owner_1.until_up("0")
        async with connected(zero) as stranger:
            await trio.testing.wait_all_tasks_blocked(0.02)
            host, port = stranger.socket.getsockname()
            names = {task.name for task in all_tasks() if task.name.startswith("raft[0]")}
            assert names == {
                "raft[0].listener",
                "raft[0].link[1]",
                "raft[0].link[1].reader",
                "raft[0].link[1].doubt",
                "raft[0].inbound[1]",
                f"raft[0].inbound[{host}:{port}]",
            }


async def test_a_member_without_an_address_is_told_of_once() -> None:
    zero = TcpTransport("0", LOOPBACK, {})
    async with running(zero) as owner:
        for _ in range(3):
            zero.send(heartbeat("0", "1"))
    (event,) = owner.all(AddressUnusable)
    assert (event.peer, event.reason.split(":")[0]) == ("1", "no address is known")


@pytest.mark.parametrize("says", ["it itself", "the configuration"])
async def test_a_member_that_has_moved_is_found(says: str) -> None:
    """Found by a case after rqlite #818: one member came back at another address, which the others
    were told, and heard; they went on dialling the one that they had been started with."""
    zero = TcpTransport("0", LOOPBACK, {"1": ("127.0.0.1", free_port())})
    one = TcpTransport("1", LOOPBACK, {"0": zero.bind()} if says == "it itself" else {})
    if says == "the configuration":
        zero.set_peer("1", one.bind())
    async with running(zero, limits=EAGER) as owner:
        for lives in (1, 2):
            async with running(one, limits=EAGER) as moved:
                await owner.until_up("1", times=lives)
                assert "cannot connect to" in owner.all(LinkDown)[0].reason
                zero.send(heartbeat("0", "1", lives))
                await moved.until_rounds([lives])


class LongWinded(Recorder):
    """Node 0 or 1, which has more to say of itself than usual."""

    def introduction(self, peer: NodeId) -> Introduction:
        return msgspec.structs.replace(LONGEST, sender=self.node_id, receiver=peer)


async def test_the_longest_introductions_pass_both_ways() -> None:
    zero, one = linked_pair()
    async with running(zero, LongWinded()) as owner, running(one, LongWinded()):
        await owner.until_up("1")
        await owner.until(lambda r: len(r.introduced) == 2)  # as a dialer, and as a listener
