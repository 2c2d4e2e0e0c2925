"""A link whose connection is silent: another one beside it, and what becomes of both.

Rules of this file: virtual time. The peer is the test, as in `test_link`; what the kernel says of a
connection the test says too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from trioraft.core.config import Limits
from trioraft.core.messages import AppendEntries, Message, RequestPreVote, RequestVote
from trioraft.net.connection import Connection
from trioraft.net.framing import Deframer
from trioraft.net.sockets import Acknowledged
from trioraft.transport import link as link_module
from trioraft.transport import writing
from trioraft.transport.base import LinkDown, LinkReplaced, LinkUp
from trioraft.transport.codec import decode_message
from trioraft.transport.link import (
    ATTEMPTS_MAX,
    CAMPAIGN_KEPT,
    IN_USE,
    PATIENT,
    REPLACED_MAX,
    REPLACED_S,
)

from .support import PATIENCE_S, heartbeat, replication, rounds
from .test_link import ADDRESS, Peer, linked

LOW_S, HIGH_S = 0.150, 0.300
DOUBT_S = LOW_S / 2
ELSEWHERE = ("127.0.0.1", 4001)
ALL_HEARD = Acknowledged(1000, 1000, 0.0)


@attrs.define
class Kernel:
    """What it says of all connections."""

    silent_since_s: float | None = None
    acknowledged_bytes: int = 0
    round_trip_s: float = 0.0

    def fall_silent(self) -> None:
        self.silent_since_s = trio.current_time()

    def acknowledge(self) -> None:
        """Some of it arrives, but not all."""
        self.acknowledged_bytes += 1
        self.silent_since_s = trio.current_time()

    def says(self, sock: object) -> Acknowledged:
        if self.silent_since_s is None:
            return ALL_HEARD
        heard_s = trio.current_time() - self.silent_since_s
        return Acknowledged(1000, self.acknowledged_bytes, heard_s)


@asynccontextmanager
async def watched(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Peer, Kernel]]:
    kernel = Kernel()
    monkeypatch.setattr(link_module, "acknowledged", kernel.says)
    for module in (link_module, writing):
        monkeypatch.setattr(module, "round_trip_s", lambda sock: kernel.round_trip_s)
    async with linked(monkeypatch) as peer:
        yield peer, kernel


async def replaced(peer: Peer, kernel: Kernel) -> trio.SocketStream:
    """Answer the next connection, and wait until it has taken the place of the silent one."""
    new = await peer.welcome()
    kernel.silent_since_s = None
    await peer.owner.until(lambda r: bool(r.all(LinkReplaced)))
    return new


async def first_bytes(stream: trio.SocketStream) -> bytes:
    with trio.fail_after(PATIENCE_S):
        return bytes(await stream.receive_some(len(IN_USE)))


async def read(stream: trio.SocketStream, count: int) -> list[Message]:
    """Read so many messages."""
    deframer = Deframer(10_000_000)
    deframer.takes_pieces = True
    found: list[Message] = []
    with trio.fail_after(PATIENCE_S):
        while len(found) < count:
            data = bytes(await stream.receive_some())
            assert data, f"it closed after {found}"
            deframer.feed(data)
            while (payload := deframer.next_payload()) is not None:
                found.append(decode_message(payload))
    return found


def pre_vote(term: int) -> RequestPreVote:
    return RequestPreVote("0", "1", term, term + 1, 5, 1)


async def test_another_connection_takes_the_place_of_a_silent_one(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async with watched(monkeypatch) as (peer, kernel):
        old = await peer.admit()
        kernel.fall_silent()
        peer.link.offer(heartbeat("0", "1", 1))
        said_s = trio.current_time()
        new = await peer.welcome()
        assert peer.dials[1] - said_s == pytest.approx(DOUBT_S, abs=0.001)
        assert await first_bytes(new) == IN_USE
        kernel.silent_since_s = None
        peer.link.offer(heartbeat("0", "1", 2))
        assert rounds(await read(new, 1)) == [2]
        assert rounds(await read(old, 1)) == [1]
        assert await old.receive_some() == b""
        assert peer.owner.lost == []
        kinds = [type(event) for event in peer.owner.events]
        assert kinds == [LinkUp, LinkReplaced]


async def test_what_waits_goes_over_the_new_connection(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async with watched(monkeypatch) as (peer, kernel):
        await peer.admit()
        kernel.fall_silent()
        for number in range(3):
            peer.link.offer(replication("0", "1", 600_000, number))  # more than the kernel takes
        new = await replaced(peer, kernel)
        found = rounds(await read(new, 2))
        assert found == [1, 2]  # the first was under way


async def test_a_campaign_is_said_again(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async with watched(monkeypatch) as (peer, kernel):
        await peer.admit()
        peer.link.offer(pre_vote(1))
        await trio.sleep(10)
        kernel.fall_silent()
        vote = RequestVote("0", "1", 9, 5, 1)
        for message in (pre_vote(7), heartbeat("0", "1", 1), vote):
            peer.link.offer(message)
        new = await replaced(peer, kernel)
        peer.link.offer(heartbeat("0", "1", 2))
        assert await read(new, 3) == [pre_vote(7), vote, heartbeat("0", "1", 2)]


async def test_over_a_long_line_a_campaign_is_said_again_from_where_the_silence_began(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async with watched(monkeypatch) as (peer, kernel):
        await peer.admit()
        kernel.round_trip_s = 0.4  # what is not heard in twice that, and more than an election
        kernel.fall_silent()
        peer.link.offer(pre_vote(7))
        new = await replaced(peer, kernel)
        assert await read(new, 1) == [pre_vote(7)]


async def test_no_more_of_a_campaign_is_kept_than_one_needs(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async with watched(monkeypatch) as (peer, kernel):
        await peer.admit()
        kernel.fall_silent()
        for term in range(1, 100):
            peer.link.offer(pre_vote(term))
        new = await replaced(peer, kernel)
        terms = [message.term for message in await read(new, CAMPAIGN_KEPT)]
        assert terms == list(range(100 - CAMPAIGN_KEPT, 100))


async def test_a_connection_that_is_heard_after_all_stays(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """As over a line that loses one packet of ten."""
    async with watched(monkeypatch) as (peer, kernel):
        old = await peer.admit()
        kernel.fall_silent()
        peer.link.offer(heartbeat("0", "1", 1))
        new = await peer.next_connection()  # it is never answered
        kernel.acknowledge()
        heard_s = trio.current_time()
        assert await new.receive_some()  # the handshake
        assert await new.receive_some() == b""
        assert trio.current_time() - heard_s < DOUBT_S
        kernel.silent_since_s = None
        peer.link.offer(heartbeat("0", "1", 2))
        assert rounds(await read(old, 2)) == [1, 2]
        assert peer.owner.all(LinkReplaced) == []
        assert peer.owner.lost == []


@pytest.mark.parametrize("every_s", [0.03, 0.07])
async def test_slow_progress_is_no_silence(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, every_s: float
) -> None:
    async with watched(monkeypatch) as (peer, kernel):
        await peer.admit()
        kernel.fall_silent()
        peer.link.offer(heartbeat("0", "1", 1))
        for _ in range(100):
            await trio.sleep(every_s)
            kernel.acknowledge()
        assert len(peer.dials) == 1


async def test_where_nothing_was_said_nothing_is_missed(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async with watched(monkeypatch) as (peer, kernel):
        await peer.admit()
        kernel.fall_silent()
        await trio.sleep(100)
        assert len(peer.dials) == 1


async def test_a_long_line_has_its_time(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async with watched(monkeypatch) as (peer, kernel):
        await peer.admit()
        kernel.round_trip_s = 0.4
        kernel.fall_silent()
        peer.link.offer(heartbeat("0", "1", 1))
        said_s = trio.current_time()
        await peer.next_connection()
        assert peer.dials[1] - said_s == pytest.approx(DOUBT_S + 0.8, abs=0.001)


async def test_nobody_is_there_any_more(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """The peer died, and a firewall kept that from us: the refusal is the news."""
    async with watched(monkeypatch) as (peer, kernel):
        await peer.admit()
        kernel.fall_silent()

        async def refuse(address: object) -> trio.SocketStream:
            await trio.lowlevel.checkpoint()
            raise ConnectionRefusedError(111, "nobody there")

        monkeypatch.setattr(link_module, "dial", refuse)
        peer.link.offer(heartbeat("0", "1", 1))
        await peer.owner.until_lost("1", 1)
        assert "Connection refused" in await peer.owner.until_down("1")


async def test_a_refusal_elsewhere_is_no_news_of_a_connection(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """It may be at another address as well, where nobody is; and its own does not answer now."""
    async with linked(monkeypatch) as peer:
        dial_test, dials = link_module.dial, []

        async def dial(address: tuple[str, int]) -> trio.SocketStream:
            dials.append(address)
            await trio.lowlevel.checkpoint()
            if len(dials) == 2:
                return await dial_test(address)
            raise ConnectionRefusedError(111, "nobody there")

        monkeypatch.setattr(link_module, "dial", dial)
        await peer.admit()
        peer.link._elsewhere = lambda: [ELSEWHERE]
        await trio.sleep(10)
        peer.link.peer_doubts()
        await trio.sleep(1)
        assert dials[2] == ELSEWHERE
        assert peer.owner.lost == []


async def test_a_refusal_elsewhere_does_not_end_an_attempt_that_takes_its_time(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async with linked(monkeypatch) as peer:
        dial_test = link_module.dial

        async def dial(address: tuple[str, int]) -> trio.SocketStream:
            if address == ELSEWHERE:
                await trio.lowlevel.checkpoint()
                raise ConnectionRefusedError(111, "nobody there")
            await trio.sleep(4 * HIGH_S)  # a long line
            return await dial_test(address)

        monkeypatch.setattr(link_module, "dial", dial)
        peer.link._elsewhere = lambda: [ELSEWHERE]
        await peer.admit()
        assert peer.owner.all(LinkDown) == []


async def test_an_address_that_swallows_attempts_keeps_no_other_untried(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """The peer comes up elsewhere when all attempts that there may be have begun; and each that
    hangs is given longer than a minute."""
    begins_s = 2 * ATTEMPTS_MAX * HIGH_S
    limits = Limits(connect_timeout_s=100.0)
    async with linked(monkeypatch, limits) as peer:
        dial_test = link_module.dial

        async def dial(address: tuple[str, int]) -> trio.SocketStream:
            if address != ELSEWHERE:
                await trio.sleep_forever()
            if trio.current_time() - began_s < begins_s:
                await trio.lowlevel.checkpoint()
                raise ConnectionRefusedError(111, "nobody there")
            return await dial_test(ADDRESS)

        began_s = trio.current_time()
        monkeypatch.setattr(link_module, "dial", dial)
        peer.link._elsewhere = lambda: [ELSEWHERE]
        await peer.admit()
        assert trio.current_time() - began_s < begins_s + 3 * HIGH_S
        assert peer.owner.all(LinkDown) == []


async def test_where_every_address_swallows_attempts_that_is_told(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async with linked(monkeypatch) as peer:
        begun = hang_attempts(monkeypatch)
        peer.link._elsewhere = lambda: [ELSEWHERE]
        reason = await peer.owner.until_down("1")
        assert reason == "cannot connect to 127.0.0.1:4001: no answer within 5 s"
        assert trio.current_time() - begun[0] < 5.0 + 2 * HIGH_S


async def test_where_every_connection_falls_silent_they_are_not_replaced_for_ever(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """As over a line that lets only small packets pass."""
    async with watched(monkeypatch) as (peer, kernel):
        await peer.admit()
        kernel.fall_silent()
        with trio.move_on_after(60.0):
            while True:
                peer.link.offer(heartbeat("0", "1", 1))
                await peer.welcome()
        in_a_while = REPLACED_MAX + REPLACED_S / (PATIENT * DOUBT_S)
        assert REPLACED_MAX < len(peer.dials) <= 1 + 60.0 / REPLACED_S * in_a_while


async def test_a_peer_that_doubts_its_connection_makes_us_doubt_ours(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async with watched(monkeypatch) as (peer, _):
        old = await peer.admit()
        await trio.sleep(10)
        doubted_s = trio.current_time()
        peer.link.peer_doubts()
        new = await peer.welcome()
        assert peer.dials[1] == doubted_s
        assert await first_bytes(new) == IN_USE
        assert await old.receive_some() == b""
        peer.link.peer_doubts()  # that one was made since
        await trio.sleep(10)
        assert len(peer.dials) == 2


async def test_two_nodes_do_not_doubt_each_other_for_ever(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Over a long line the one's new connection comes when the other's is no longer quite new."""
    async with watched(monkeypatch) as (peer, kernel):
        kernel.round_trip_s = 0.4
        await peer.admit()
        await trio.sleep(10)
        peer.link.peer_doubts()
        await peer.welcome()
        await trio.sleep(4 * kernel.round_trip_s)
        peer.link.peer_doubts()
        await trio.sleep(10)
        assert len(peer.dials) == 2


async def test_where_the_kernel_says_nothing_only_the_peers_doubt_counts(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(link_module, "acknowledged", lambda sock: None)
    async with linked(monkeypatch) as peer:
        old = await peer.admit()
        for number in range(10):
            peer.link.offer(heartbeat("0", "1", number))
            await trio.sleep(1.0)
        assert len(peer.dials) == 1
        peer.link.peer_doubts()
        new = await peer.welcome()
        assert await first_bytes(new) == IN_USE
        assert rounds(await read(old, 10)) == list(range(10))
        assert await old.receive_some() == b""


async def test_an_attempt_that_hangs_gets_others_beside_it(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    begun: list[float] = []
    async with linked(monkeypatch) as peer:
        dial_test = link_module.dial

        async def hang(address: tuple[str, int]) -> trio.SocketStream:
            begun.append(trio.current_time())
            if len(begun) == 3:
                return await dial_test(address)
            await trio.sleep_forever()
            raise AssertionError("unreachable")

        monkeypatch.setattr(link_module, "dial", hang)
        await peer.admit()
        pauses_s = [later - begun[0] for later in begun]
        assert pauses_s == pytest.approx([0.0, HIGH_S, 3 * HIGH_S])
        assert peer.owner.all(LinkDown) == []


async def test_attempts_beside_each_other_are_bounded_and_end_together(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    under_way: list[object] = []
    most: list[int] = []

    async def hang(address: tuple[str, int]) -> trio.SocketStream:
        under_way.append(address)
        most.append(len(under_way))
        try:
            await trio.sleep_forever()
        finally:
            under_way.remove(address)
        raise AssertionError("unreachable")

    async with linked(monkeypatch) as peer:
        monkeypatch.setattr(link_module, "dial", hang)
        await peer.owner.until_down("1")
        await trio.sleep(100)
        peer.link.close()
        await trio.testing.wait_all_tasks_blocked()
        assert under_way == []
    assert max(most) == ATTEMPTS_MAX


def hang_attempts(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let nobody answer from now on; when each attempt begins, as they do."""
    begun: list[float] = []

    async def hang(address: tuple[str, int]) -> trio.SocketStream:
        begun.append(trio.current_time())
        await trio.sleep_forever()
        raise AssertionError("unreachable")

    monkeypatch.setattr(link_module, "dial", hang)
    return begun


async def test_the_peers_return_begins_an_attempt_at_once(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async with linked(monkeypatch) as peer:
        begun = hang_attempts(monkeypatch)
        await trio.sleep(0.1)
        peer.link.peer_is_back()
        await trio.sleep(0.05)
        assert [later - begun[0] for later in begun] == pytest.approx([0.0, 0.1])


async def test_a_peer_that_returns_more_often_than_there_may_be_attempts(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async with linked(monkeypatch) as peer:
        begun = hang_attempts(monkeypatch)
        for _ in range(2 * ATTEMPTS_MAX):
            await trio.sleep(0.01)
            peer.link.peer_is_back()
        assert len(begun) == ATTEMPTS_MAX
        reason = await peer.owner.until_down("1")
        assert reason == "cannot connect to 127.0.0.1:4000: no answer within 5 s"
        await trio.sleep(1.0)  # the longest pause
        assert len(begun) > ATTEMPTS_MAX


async def test_a_link_that_is_closed_while_it_doubts_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    for wait_s in (DOUBT_S / 2, DOUBT_S, 2 * DOUBT_S):
        async with watched(monkeypatch) as (peer, kernel):  # it counts the sockets
            await peer.admit()
            kernel.fall_silent()
            peer.link.offer(heartbeat("0", "1", 1))
            await trio.sleep(wait_s)
            peer.link.close()


# -- endings that coincide -------------------------------------------------------------------------


@attrs.define
class Ended:
    """A connection that nobody needs."""

    hung_up: bool = False

    def connection(self) -> Connection:
        ours, _ = trio.testing.memory_stream_pair()
        return Connection(ours, "somewhere", self.hang_up)

    def hang_up(self) -> None:
        self.hung_up = True


async def test_a_successor_that_comes_with_another_ending_is_closed(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    ended, moment, next_moment = Ended(), trio.Event(), trio.Event()
    async with linked(monkeypatch) as peer:

        async def end(_: trio.abc.Stream) -> str:
            await moment.wait()
            next_moment.set()  # the other one's turn has come before it can be cancelled
            return "it closed"

        async def successor(_: trio.abc.Stream) -> Connection:
            await next_moment.wait()
            return ended.connection()

        monkeypatch.setattr(peer.link, "_await_end", end)
        monkeypatch.setattr(peer.link, "_await_successor", successor)
        await peer.admit()
        await trio.testing.wait_all_tasks_blocked()
        moment.set()
        assert await peer.owner.until_down("1") == "it closed"
    assert ended.hung_up


async def test_a_successor_that_comes_when_the_link_ends_is_closed(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    ended, moment = Ended(), trio.Event()
    async with linked(monkeypatch) as peer:

        async def successor(_: trio.abc.Stream) -> Connection:
            await moment.wait()
            peer.link.close()
            return ended.connection()

        monkeypatch.setattr(peer.link, "_await_successor", successor)
        await peer.admit()
        await trio.testing.wait_all_tasks_blocked()
        moment.set()
        await trio.testing.wait_all_tasks_blocked()
    assert ended.hung_up


@pytest.mark.parametrize("step", ["_reach", "_attempt"])
async def test_what_is_made_in_the_moment_of_the_end_is_closed(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, step: str
) -> None:
    ended = Ended()
    async with watched(monkeypatch) as (peer, kernel):
        await peer.admit()

        async def make(*_: object) -> Connection:
            await trio.lowlevel.checkpoint()
            peer.link.close()
            return ended.connection()

        monkeypatch.setattr(peer.link, step, make)
        kernel.fall_silent()
        peer.link.offer(heartbeat("0", "1", 1))
        await trio.sleep(1.0)
    assert ended.hung_up


async def test_an_owner_that_fails_does_not_keep_a_connection_open(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """`linked` counts the sockets."""
    with pytest.RaisesGroup(KeyError, flatten_subgroups=True):
        async with linked(monkeypatch) as peer:

            def fail(*_: object) -> None:
                raise KeyError("the owner")

            monkeypatch.setattr(type(peer.owner), "on_transport_event", fail)
            await peer.welcome()
            await trio.sleep_forever()


def test_a_frame_that_has_left_in_part_begins_again() -> None:
    from .test_outgoing import Line, entries

    line = Line(entries(5, 10_000), entries(6))
    line.leave(4000)
    line.outgoing.put_rest(b"0123456789", 4)
    line.outgoing.on_other_connection()
    line.deframer = Deframer(10**9)
    assert line.leave_all() == [entries(5, 10_000), entries(6)]
    assert isinstance(line.arrived[0], AppendEntries)
