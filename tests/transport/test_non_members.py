"""Non-members: who connects without being a member, is answered while it is there.

Rules of this file: real sockets on the loopback; "0" is the node, "9" calls without being a member.
"""

from __future__ import annotations

import pytest
import trio
import trio.testing
import trustme

from trioraft.core.config import Limits
from trioraft.core.errors import BadMessage
from trioraft.core.types import Address
from trioraft.net.framing import LENGTH_BYTES
from trioraft.testing import no_leaks
from trioraft.transport import links
from trioraft.transport.base import AddressUnusable, ConnectionRejected, LinkDown, LinkUp
from trioraft.transport.codec import encode_frame
from trioraft.transport.tcp import TcpTransport

from .support import (
    LOOPBACK,
    PATIENCE_S,
    all_tasks,
    connected,
    free_port,
    heartbeat,
    hello_of,
    open_sockets,
    running,
    take_reply,
)
from .test_tls import contexts_for

EAGER = Limits(reconnect_backoff_s=(0.001, 0.005))


def links_of(node_id: str) -> set[str]:
    """The links that this node has, up or not."""
    prefix = f"raft[{node_id}].link["
    names = {task.name for task in all_tasks() if task.name.startswith(prefix)}
    return {name.removeprefix(prefix).split("]")[0] for name in names}


async def introduce(
    stream: trio.SocketStream, sender: str = "9", address: Address | None = None
) -> None:
    """Be admitted as this node."""
    await stream.send_all(hello_of(sender, address=address))
    with trio.fail_after(PATIENCE_S):
        take_reply((await stream.receive_some())[LENGTH_BYTES:], receiver=sender)


async def test_a_node_that_knows_nobody_hears_a_member_and_answers() -> None:
    async with no_leaks():
        joining, member = TcpTransport("9", LOOPBACK, {}), TcpTransport("0", LOOPBACK, {})
        joining.bind()
        async with (
            running(joining, limits=EAGER) as owner_9,
            running(member, limits=EAGER) as owner_0,
        ):
            member.set_peer("9", joining.address_of("9"))
            await owner_0.until_up("9")
            member.send(heartbeat("0", "9", 1))
            await owner_9.until_rounds([1])
            await owner_9.until_up("0")  # the way back, learnt from the handshake
            assert joining.address_of("0") == member.address
            joining.send(heartbeat("9", "0", 2))
            await owner_0.until_rounds([2])
            assert links_of("9") == {"0"}
            assert links_of("0") == {"9"}


async def test_the_way_back_ends_with_the_non_member() -> None:
    sockets = open_sockets()
    zero = TcpTransport("0", LOOPBACK, {})
    caller = TcpTransport("9", LOOPBACK, {"0": zero.bind()})
    async with running(zero, limits=EAGER) as owner:
        for number in (1, 2):
            async with running(caller, limits=EAGER):
                await owner.until_up("9", times=number)
                assert zero.address_of("9") == caller.address
            await owner.until(lambda r: zero.address_of("9") is None)
            await trio.testing.wait_all_tasks_blocked()
            assert links_of("0") == set()
            zero.send(heartbeat("0", "9"))
    assert open_sockets() == sockets


async def test_a_non_member_that_becomes_a_member_keeps_its_connection() -> None:
    zero = TcpTransport("0", LOOPBACK, {})
    caller = TcpTransport("9", LOOPBACK, {"0": zero.bind()})
    async with running(zero, limits=EAGER) as owner:
        async with running(caller, limits=EAGER):
            await owner.until_up("9")
            zero.set_peer("9", caller.address)
            zero.send(heartbeat("0", "9"))
            assert owner.all(LinkDown) == []
        await owner.until_lost("9", 2)
        await trio.testing.wait_all_tasks_blocked()
        assert links_of("0") == {"9"}  # a member is dialed whether it is there or not
        async with running(caller, limits=EAGER):
            await owner.until_up("9", times=2)


async def test_who_is_taken_out_is_disconnected_and_may_come_as_a_non_member() -> None:
    zero = TcpTransport("0", LOOPBACK, {})
    one = TcpTransport("9", LOOPBACK, {"0": zero.bind()})
    zero.add_peer("9", one.bind())
    async with running(zero, limits=EAGER) as owner_0, running(one, limits=EAGER) as owner_1:
        await owner_0.until_up("9")
        await owner_1.until_up("0")
        one.send(heartbeat("9", "0", 1))
        await owner_0.until_rounds([1])  # it is in: else this connection becomes a non-member's
        zero.set_peer("9", None)
        await owner_1.until_lost("0", 2)  # its connection to us, and ours to it
        await owner_0.until_up("9", times=2)  # it has come again, and is told what it must know
        zero.send(heartbeat("0", "9", 5))
        await owner_1.until_rounds([5])
        zero.set_peer("9", None)  # of a non-member it says nothing
        zero.send(heartbeat("0", "9", 6))
        await owner_1.until_rounds([5, 6])


async def test_two_nodes_that_let_each_other_go_do_not_stay_each_others_non_members() -> None:
    zero, nine = TcpTransport("0", LOOPBACK, {}), TcpTransport("9", LOOPBACK, {})
    zero.bind()
    zero.set_peer("9", nine.bind())
    async with running(zero, limits=EAGER) as owner_0, running(nine, limits=EAGER) as owner_9:
        await owner_0.until_up("9")
        await owner_9.until_up("0")  # as the answer to a non-member
        zero.set_peer("9", None)
        await owner_9.until(lambda r: nine.address_of("0") is None)
        await owner_0.until(lambda r: zero.address_of("9") is None)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert links_of("0") == links_of("9") == set()


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::"])
async def test_a_non_member_that_does_not_know_its_host_is_where_we_see_it(host: str) -> None:
    zero = TcpTransport("0", LOOPBACK, {})
    port = free_port()
    async with running(zero, limits=EAGER) as owner, connected(zero) as stream:
        await introduce(stream, address=(host, port))
        await owner.until_down("9")
        assert zero.address_of("9") == ("127.0.0.1", port)


async def test_a_node_that_listens_everywhere_is_found_by_its_port() -> None:
    zero = TcpTransport("0", LOOPBACK, {})
    caller = TcpTransport("9", ("0.0.0.0", 0), {"0": zero.bind()}, insecure=True)
    async with running(zero, limits=EAGER) as owner, running(caller, limits=EAGER) as owner_9:
        await owner.until_up("9")
        zero.send(heartbeat("0", "9", 3))
        await owner_9.until_rounds([3])


async def test_a_non_member_without_a_usable_address_is_heard_but_not_answered() -> None:
    zero = TcpTransport("0", LOOPBACK, {})
    async with running(zero, limits=EAGER) as owner:
        for number, address in enumerate([None, ("10.1.2.3", 4000), ("127.0.0.1", 0)]):
            async with connected(zero) as stream:
                await introduce(stream, address=address)
                await stream.send_all(encode_frame(heartbeat("9", "0", number)))
                await owner.until_count(number + 1)
                assert zero.address_of("9") is None
                zero.send(heartbeat("0", "9"))
            await owner.until_lost("9", number + 1)
    reasons = [event.reason for event in owner.all(AddressUnusable)]
    assert len(reasons) == 2  # an old version, which tells none, does not deserve a warning
    assert "the address in its handshake is 10.1.2.3:4000, and there is no ssl" in reasons[0]
    assert "the address in its handshake has the port 0" in reasons[1]


async def test_where_a_member_says_it_is_does_not_matter() -> None:
    zero = TcpTransport("0", LOOPBACK, {"9": ("127.0.0.1", free_port())})
    given = zero.address_of("9")
    async with running(zero, limits=EAGER) as owner, connected(zero) as stream:
        await introduce(stream, address=("10.1.2.3", 4000))
        await stream.send_all(encode_frame(heartbeat("9", "0", 1)))
        await owner.until_rounds([1])
        assert owner.all(AddressUnusable) == []
        assert zero.address_of("9") == given


async def test_non_members_are_bounded_and_neither_members_nor_new_ones_are_kept_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last to come may be our leader, of whom our configuration does not know."""
    monkeypatch.setattr(links, "NON_MEMBERS_MAX", 2)
    zero = TcpTransport("0", LOOPBACK, {"1": ("127.0.0.1", free_port())})
    async with (
        running(zero, limits=EAGER) as owner,
        connected(zero) as first,
        connected(zero) as second,
        connected(zero) as third,
        connected(zero) as member,
        connected(zero) as again,
    ):
        await introduce(first, "7")
        await introduce(second, "8")
        await introduce(member, "1")
        await introduce(again, "8")  # beside its earlier connection: nobody gives way
        await again.send_all(encode_frame(heartbeat("8", "0", 4)))
        await owner.until_rounds([4])
        assert owner.all(ConnectionRejected) == []
        await introduce(third, "9")
        rejected = await owner.until_rejected()
        assert (rejected.peer, rejected.reason) == (
            "7",
            "node '9' takes its place: there are too many",
        )
        with trio.fail_after(PATIENCE_S):
            assert await first.receive_some() == b""
        assert owner.lost == []
        await third.send_all(encode_frame(heartbeat("9", "0", 5)))
        await owner.until_rounds([4, 5])


async def test_over_tls_a_non_member_is_who_its_certificate_says() -> None:
    authority = trustme.CA()
    zero = TcpTransport("0", LOOPBACK, {}, contexts_for(authority, "0"))
    true = TcpTransport("9", LOOPBACK, {"0": zero.bind()}, contexts_for(authority, "9"))
    false = TcpTransport("8", LOOPBACK, {"0": zero.address}, contexts_for(authority, "9"))
    async with running(zero, limits=EAGER) as owner:
        async with running(true, limits=EAGER) as owner_9:
            await owner.until_up("9")
            zero.send(heartbeat("0", "9", 4))
            await owner_9.until_rounds([4])
        async with running(false, limits=Limits(reconnect_backoff_s=(60.0, 60.0))):
            rejected = await owner.until_rejected()
            assert "the certificate is for ['9'], not for node '8'" in rejected.reason
        assert {event.peer for event in owner.all(LinkUp)} == {"9"}
    assert owner.messages == []


async def test_a_second_node_of_our_name_is_refused() -> None:
    zero = TcpTransport("0", LOOPBACK, {})
    double = TcpTransport("0", LOOPBACK, {"1": zero.bind()})
    async with running(zero, limits=EAGER) as owner, running(double, limits=EAGER):
        rejected = await owner.until_rejected()
        assert rejected.reason.startswith("the connection is for node '1'")
    async with running(zero, limits=EAGER) as owner, connected(zero) as stream:
        with pytest.raises(BadMessage, match="which is this node"):
            await introduce(stream, "0")
        assert (await owner.until_rejected()).peer is None
        assert len(owner.all(ConnectionRejected)) == 1
