"""The outgoing side: a connection to one peer, made again whenever it ends, and beside one that is
silent.

Rules of this file:

* A link only writes; a reader stands by to notice the end, since the peer never writes back.
* The queue belongs to a connection, or to the attempt to make one. When that fails, what waited
  is discarded: Raft repeats what still matters, and old messages are only in the way.
* What leaves first, and how much of it, `outgoing`, `drain` and `writing` decide.
* A link is judged by Raft's timing. Where what was written is not acknowledged in a part of an
  election timeout, the connection is in doubt: another one is made beside it, and takes its place
  if it answers first. That is no loss: what waits goes over the new one, and what a campaign has
  said meanwhile goes again.
* An attempt that takes longer than an election may gets another one beside it. One that fails
  ends the others only if they lead to the same address, or where an attempt has been silent.
* On a line that swallows what is large each new connection carries heartbeats for a moment, so they
  are worth their price; but there is a bound to how often.
"""

from __future__ import annotations

import math
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, TypeAlias, final

import trio

from ..core.errors import BadMessage, InvariantViolation
from ..core.messages import (
    Message,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from ..core.types import Address, NodeId
from ..net.addresses import host_port, numeric_host
from ..net.connection import BROKEN, Connection, socket_under
from ..net.credentials import certificate_of
from ..net.framing import LENGTH_BYTES, frame_of
from ..net.resolving import ResolvedAddress
from ..net.sentences import sentence_of
from ..net.sockets import Acknowledged, acknowledged, check_not_itself, round_trip_s
from .base import LinkDown, LinkReplaced, LinkUp, MessagesDropped
from .codec import encode_frame
from .context import TransportContext
from .drain import Drain
from .handshake import (
    HANDSHAKE_BYTES_MAX,
    check_reply,
    encode_hello,
    this_very_node,
    versions_of,
)
from .outgoing import Outgoing
from .writing import LOOK_FIRST_S, Writer

ROUND_PER_HEARTBEAT = 1 / 4
"""What a line is to drain at once takes it so much of a heartbeat interval: the links of one node
may share it, and their heartbeats wait behind all that is on its way."""

LOOK_PER_ROUND: Final = 1 / 4
"""A connection that holds bulk back is looked at again after such a part of a round at the latest:
whoever has the next turn must not let a narrow line idle."""

REASONS_TOLD_MAX = 8
"""Different reasons told in one outage: a peer that makes up new ones does not fill the log."""

ASK_S: Final = 3.0
"""How long it may take to find out whether a peer is at an address, in seconds."""

DOUBT_PER_TIMEOUT: Final = 1 / 2
"""After so much of the lower election timeout without an acknowledgement, and two round trips, a
connection is in doubt: there is time left to make another before anybody has to be elected."""

LOOKS_IN_DOUBT: Final = 4
"""How often it is looked at again in such a time while another one is being made."""

ATTEMPTS_MAX: Final = 8
"""Attempts to reach a peer that may be under way at the same time."""

IN_USE: Final = frame_of(b"")
"""Opens a connection that takes the place of another."""

REPLACED_MAX: Final = 40
REPLACED_S: Final = 10.0
"""After so many replacements in so many seconds, twice what such a line was seen to take, the next
connection has more time, …"""
PATIENT: Final = 16
"""… so many times as much."""

CAMPAIGN: Final = (RequestPreVote, RequestPreVoteReply, RequestVote, RequestVoteReply, TimeoutNow)
"""What is said again over a connection that takes another's place: nobody else would repeat it
before the next election timeout."""

CAMPAIGN_KEPT: Final = 8
"""So many of them, the newest."""

_DOUBLINGS_MAX = 30

_Ending: TypeAlias = str | Connection
"""Why a connection ended, or which one takes its place."""

_Carrier: TypeAlias = Callable[[trio.abc.Stream], Awaitable[_Ending]]


class _Down(Exception):  # noqa: N818 - an ending, not an error: every connection has one
    """Why a connection ended, or was not made."""

    def __init__(
        self, reason: str, *, was_up: bool = False, refused: bool = False, silent: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.was_up = was_up
        self.refused = refused  # where the last connection led
        self.silent = silent  # nobody answered in time


@final
class Link:
    """The link to one peer.

    Args:
        context: the run it belongs to.
        peer: whom it leads to.
        address: where that is.
        is_answer: whether it is there only because the peer has connected to us. Then it does not
            tell where we are: two non-members that answered each other would never part.
        elsewhere: where it may be as well, asked at each attempt: these are tried in turn once
            the address did not lead to it (it has moved), and the one that does is kept to.
    """

    def __init__(
        self,
        context: TransportContext,
        peer: NodeId,
        address: Address,
        *,
        is_answer: bool = False,
        elsewhere: Callable[[], Iterable[Address]] = tuple,
    ) -> None:
        self.is_answer = is_answer  # may change; counts when it connects
        self._context = context
        self._peer = peer
        self._address = address
        self._elsewhere = elsewhere
        self._in_vain = 0  # attempts that did not reach it: they choose the address
        self._round_s = context.timing.heartbeat_interval_s * ROUND_PER_HEARTBEAT
        self._drain = Drain(self._round_s, context.share)
        self._outgoing = Outgoing(context.limits)
        self._writer: Writer | None = None  # of the connection, while there is one
        low_s, self._attempt_s = context.timing.election_timeout_s
        self._doubt_s = low_s * DOUBT_PER_TIMEOUT
        self._campaign: deque[tuple[float, bytes]] = deque(maxlen=CAMPAIGN_KEPT)  # when, and what
        self._wrote = trio.Event()  # something was written that the kernel has to say of
        self._hint = trio.Event()
        self._is_hinted = False  # the peer does not trust its connection to us
        self._replaced_s: deque[float] = deque(maxlen=REPLACED_MAX)  # when, the latest ones
        self._unheard_s = math.inf  # what was said since then may not have been heard
        self._reached_at: Address | None = None  # where the last connection led
        self._next_attempt = trio.CancelScope()  # the wait for it
        self._accepting = False
        self._dropped = 0  # in the present episode of a full queue
        self._peer_back = trio.Event()
        self._tried: dict[Address, int] = {}  # how often each known address was
        self._failures = 0  # in a row
        self._up_s = math.inf  # since when the connection is ready, if there is one
        self._told_reasons: set[str] = set()  # in the present outage
        self._refusal_is_news = False  # it was up, so a refused attempt says the peer is gone
        self._scope = trio.CancelScope()

    @property
    def address(self) -> Address:
        return self._address

    def offer(self, message: Message) -> None:
        """Queue a message, or drop it. Never blocks, never raises."""
        if not self._accepting:
            return
        frame = encode_frame(message)
        outgoing, writer = self._outgoing, self._writer
        is_too_large = len(frame) - LENGTH_BYTES > self._context.limits.frame_bytes_max
        if is_too_large or not outgoing.has_room_for(frame):  # too large: the peer would hang up
            self._dropped += 1
            return
        if self._dropped:
            self._tell_dropped()  # there is room again
        if isinstance(message, CAMPAIGN):
            self._campaign.append((trio.current_time(), frame))
        if not self._wrote.is_set():
            self._wrote.set()
        left = 0 if writer is None else writer.write_at_once(frame)
        if left == len(frame):
            return
        if left:
            outgoing.put_rest(frame, left)
        else:
            outgoing.put(message, frame)
        if writer is not None:
            writer.wake()

    def peer_is_back(self) -> None:
        """The peer has just connected to us: if this link is pausing, try again now."""
        self._failures = self._in_vain = 0
        self._peer_back.set()
        self._next_attempt.cancel()

    def peer_doubts(self) -> None:
        """The peer has made a connection to us beside one that it had: ours may be as dead. One
        that was made since is not meant."""
        writer = self._writer
        if writer is None:
            return
        old_enough_s = self._patient * (self._attempt_s + 4 * writer.round_trip_s)
        if trio.current_time() - self._up_s > old_enough_s:
            self._is_hinted = True
            self._wrote.set()
            self._hint.set()

    def close(self) -> None:
        """End `run`. Idempotent."""
        self._scope.cancel()

    async def run(self) -> None:
        """Keep the link up until cancelled or closed."""
        with self._scope:
            while True:
                self._accepting = True
                try:
                    await self._connect_and_carry()
                except _Down as down:
                    self._note_end(down)
                await self._pause()

    # -- one connection -----------------------------------------------------------------------

    async def _connect_and_carry(self) -> None:
        """Make a connection and use it up, and those that take its place. Always raises `_Down`,
        unless cancelled."""
        connection = await self._reach()
        begin = self._note_up
        while True:
            try:
                begin()
                ending = await self._carry(connection)
            finally:
                connection.hang_up()
            if isinstance(ending, str):
                raise _Down(ending, was_up=True)
            connection, begin = ending, self._take_over

    async def _reach(self) -> Connection:
        """A connection that the peer has answered. Another attempt begins beside the others
        whenever that takes too long, or the peer is seen to be there; where fewest are under way,
        so that an address that swallows them keeps no other untried.

        Raises:
            _Down: an attempt failed, and nobody tries another address that may yet answer.
        """
        give, take = trio.open_memory_channel[Connection | _Down](ATTEMPTS_MAX)
        under_way: list[Address] = []
        silent: set[Address] = set()

        async def attempt(address: Address, number: int) -> None:
            try:
                result: Connection | _Down = await self._attempt(address, number)
            except _Down as down:
                result = down
                if down.silent:
                    silent.add(address)
            under_way.remove(address)
            if isinstance(result, Connection) or silent.union((address,)).issuperset(under_way):
                give.send_nowait(result)

        result: Connection | _Down | None = None
        is_over = False
        try:
            async with trio.open_nursery() as nursery:
                pause_s = self._attempt_s
                while result is None:
                    if len(under_way) < ATTEMPTS_MAX:
                        address, number = self._next_address(under_way)
                        under_way.append(address)
                        nursery.start_soon(attempt, address, number)
                    with trio.move_on_after(pause_s) as self._next_attempt:
                        result = await take.receive()
                    pause_s = 2 * self._attempt_s
                nursery.cancel_scope.cancel()
            is_over = True
        finally:
            late = [] if is_over else [result]
            while take.statistics().current_buffer_used:
                late.append(take.receive_nowait())
            take.close()
            _hang_up(late)
        if isinstance(result, Connection):
            return result
        raise result

    def _next_address(self, under_way: Sequence[Address]) -> tuple[Address, int]:
        """Where to try beside attempts that have not failed yet, and which of the addresses that
        its host has, one after the other."""
        known = tuple(dict.fromkeys((self._address, *self._elsewhere())))
        first = self._in_vain % len(known)
        address = min(known[first:] + known[:first], key=under_way.count)
        self._tried = {each: self._tried.get(each, 0) for each in known}
        self._tried[address] += 1
        return address, self._tried[address] - 1

    async def ask_whether_there(self) -> str | None:
        """Connect and shake hands at the address only, and hang up: for a link that does not run.

        Returns:
            Why the peer is not there; None: it is.
        """
        reason = f"cannot connect to {host_port(self._address)}: no answer within {ASK_S:g} s"
        found: tuple[ResolvedAddress, ...] = ()
        with trio.move_on_after(ASK_S):
            try:
                found = await self._context.resolver.find(self._address)
            except (OSError, ValueError) as error:
                return f"cannot connect to {host_port(self._address)}: {sentence_of(error)}"
            reasons: list[str | None] = []

            async def attempt(number: int, over: trio.Event) -> None:
                try:
                    (await self._attempt(self._address, number)).hang_up()
                    reasons.append(None)
                except _Down as down:
                    reasons.append(None if self._is_ourselves(down.reason) else down.reason)
                over.set()
                if reasons[-1] is None:
                    nursery.cancel_scope.cancel()

            async with trio.open_nursery() as nursery:
                for number in range(len(found[:ATTEMPTS_MAX])):
                    over = trio.Event()
                    nursery.start_soon(attempt, number, over)
                    with trio.move_on_after(self._attempt_s):
                        await over.wait()
            return None if None in reasons else reasons[-1]
        return reason

    def _is_ourselves(self, reason: str) -> bool:
        node_id = self._context.node_id
        return self._peer == node_id and reason.endswith(this_very_node(node_id))

    async def _attempt(self, address: Address, number: int) -> Connection:
        """Try once."""
        stream, where = await self._dial(address, number)
        timeout_s = self._context.limits.frame_timeout_s
        connection = Connection.over(stream, timeout_s, host_port(address))
        connection.deframer.frame_bytes_max = HANDSHAKE_BYTES_MAX
        try:
            await self._introduce(connection)
        except BaseException:
            connection.hang_up()
            raise
        self._reached_at = where
        if not self.is_answer:  # where we know it to be, it may come from too
            self._context.door.vouch(connection.remote_host)
        return connection

    async def _dial(self, address: Address, attempt: int) -> tuple[trio.SocketStream, Address]:
        """Connect to the next of the addresses that this one leads to; return which it was."""
        timeout_s = self._context.limits.connect_timeout_s
        where = None
        with trio.move_on_after(timeout_s):
            try:
                found = await self._context.resolver.find(address)
                where = found[attempt % len(found)].address
                return await dial(where), where
            except (OSError, ValueError) as error:  # ValueError: no resolver would take that name
                refused = isinstance(error, ConnectionRefusedError) and where == self._reached_at
                raise _Down(
                    f"cannot connect to {_shown(address, where)}: {sentence_of(error)}",
                    refused=refused,
                ) from error
        shown = _shown(address, where)
        raise _Down(f"cannot connect to {shown}: no answer within {timeout_s:g} s", silent=True)

    async def _introduce(self, connection: Connection) -> None:
        timeout_s = self._context.limits.handshake_timeout_s
        where = connection.remote
        with trio.move_on_after(timeout_s):
            try:
                return await self._handshake(connection)
            except BadMessage as error:
                raise _Down(f"handshake with {where} failed: {error}") from error
            except BROKEN as error:
                raise _Down(f"handshake with {where} failed: {sentence_of(error)}") from error
        raise _Down(f"handshake with {where} failed: no answer within {timeout_s:g} s", silent=True)

    async def _handshake(self, connection: Connection) -> None:
        context = self._context
        certificate = None
        if context.tls is not None:
            await connection.secure(context.tls.client, server_hostname=self._peer)
            certificate = certificate_of(connection.stream)
            context.check_certificate(self._peer, certificate)
        own = context.owner.introduction(self._peer)
        hello = encode_hello(
            cluster_id=context.cluster_id,
            introduction=own,
            address=None if self.is_answer else context.advertised,
            invitation=context.invitation,
        )
        await connection.stream.send_all(hello)
        payload = await connection.first_payload()
        if payload is None:
            hint = "" if context.tls is None else " (perhaps it does not trust our certificate)"
            raise BadMessage(f"it closed the connection without an answer{hint}")
        said, invitation = check_reply(
            payload, sender=self._peer, receiver=context.node_id, ours=versions_of(own)
        )
        context.check_credentials(said, certificate, invitation)
        context.owner.on_introduction(said)

    async def _carry(self, connection: Connection) -> _Ending:
        """Write until the connection ends, which the writer or the reader notices, or until another
        one takes its place."""
        endings: list[_Ending] = []
        stream = connection.stream
        self._writer = writer = Writer(
            stream, self._outgoing, self._drain, self._round_s * LOOK_PER_ROUND
        )
        is_over = False
        try:
            async with trio.open_nursery() as nursery:

                async def note_ending_of(carrier: _Carrier) -> None:
                    endings.append(await carrier(stream))
                    nursery.cancel_scope.cancel()

                name = f"raft[{self._context.node_id}].link[{self._peer}]"
                nursery.start_soon(note_ending_of, self._await_end, name=f"{name}.reader")
                nursery.start_soon(note_ending_of, self._await_successor, name=f"{name}.doubt")
                await note_ending_of(self._write)
            is_over = True
        finally:
            self._writer = None
            writer.close()
            _hang_up(endings[1:] if is_over else endings)
        return endings[0]

    async def _write(self, stream: trio.abc.Stream) -> str:
        if self._writer is None:
            raise InvariantViolation("there is no writer")
        return await self._writer.run(self._context.limits.frame_timeout_s)

    async def _await_end(self, stream: trio.abc.Stream) -> str:
        try:
            data = await stream.receive_some(1)
        except BROKEN as error:
            return f"connection lost: {sentence_of(error)}"
        return "it sent data on a connection that is ours to write" if data else "it closed"

    # -- a connection in doubt -----------------------------------------------------------------

    async def _await_successor(self, stream: trio.abc.Stream) -> _Ending:
        """Watch a connection, and return another one once it has to take its place; or why there is
        none."""
        sock = socket_under(stream)
        while True:
            before = await self._until_in_doubt(sock)
            try:
                successor = await self._beside(sock, before)
            except _Down as down:
                return down.reason
            finally:
                self._is_hinted = False
            if successor is not None:
                return successor

    async def _until_in_doubt(self, sock: trio.socket.SocketType | None) -> Acknowledged | None:
        """Wait until something that was written has not been acknowledged in time, or the peer says
        that something is wrong. Return how far the peer had got."""
        now: Acknowledged | None = None
        while True:
            if now is None or now.acknowledged_bytes >= now.written_bytes:
                await self._wrote.wait()
                self._wrote = trio.Event()
            at_first = now = acknowledged(sock)
            began_s = trio.current_time()
            self._unheard_s = began_s - self._patience_s(sock) - self._attempt_s
            while not self._is_hinted and at_first is not None and now is not None:
                silent_s = min(now.heard_s, trio.current_time() - began_s)
                left_s = self._patience_s(sock) - silent_s
                if left_s < LOOK_FIRST_S:  # a clock may round
                    return now
                self._hint = trio.Event()
                with trio.move_on_after(left_s):
                    await self._hint.wait()
                now = acknowledged(sock)
                if now is None or now.acknowledged_bytes >= at_first.written_bytes:
                    break
            if self._is_hinted:
                return now

    def _patience_s(self, sock: trio.socket.SocketType | None) -> float:
        return self._patient * (self._doubt_s + 2 * round_trip_s(sock))

    @property
    def _patient(self) -> int:
        replaced_s = self._replaced_s
        is_full = len(replaced_s) == REPLACED_MAX
        is_storm = is_full and trio.current_time() - replaced_s[0] < REPLACED_S
        return PATIENT if is_storm else 1

    async def _beside(
        self, sock: trio.socket.SocketType | None, before: Acknowledged | None
    ) -> Connection | None:
        """Make a connection beside one that is in doubt. None: the peer was heard over that one.

        Raises:
            _Down: nobody is there any more.
        """
        found: Connection | None = None
        down: _Down | None = None
        is_over = False
        try:
            async with trio.open_nursery() as nursery:

                async def watch() -> None:
                    while not _has_got_on(sock, before):  # noqa: ASYNC110 - no event tells of it
                        await trio.sleep(self._patience_s(sock) / LOOKS_IN_DOUBT)
                    nursery.cancel_scope.cancel()

                nursery.start_soon(watch)
                while found is None:
                    self._peer_back = trio.Event()
                    try:
                        found = await self._reach()
                    except _Down as failed:
                        if failed.refused:
                            down = failed
                            break
                        with trio.move_on_after(
                            self._attempt_s * self._context.rng.uniform(0.5, 1.0)
                        ):
                            await self._peer_back.wait()
                nursery.cancel_scope.cancel()
            is_over = True
        finally:
            if not is_over:
                _hang_up([found])
        if down is not None:
            raise down
        return found

    def _take_over(self) -> None:
        """Go on over another connection: what waits, and what a campaign has said since the last
        one fell silent."""
        self._up_s = now = trio.current_time()
        self._replaced_s.append(now)
        self._outgoing.on_other_connection()
        again = [frame for said_s, frame in self._campaign if said_s >= self._unheard_s]
        self._outgoing.put_first([IN_USE, *again])
        self._context.tell(LinkReplaced(now, self._peer))

    # -- beginnings and ends -------------------------------------------------------------------

    def _note_up(self) -> None:
        self._up_s = trio.current_time()
        self._told_reasons.clear()
        self._refusal_is_news = True
        self._context.tell(LinkUp(trio.current_time(), self._peer))

    def _note_end(self, down: _Down) -> None:
        """Discard the queue and tell the owner: each reason once, however often it recurs."""
        self._accepting = False
        self._tell_dropped()
        self._outgoing = Outgoing(self._context.limits)
        self._in_vain += not down.was_up
        told = self._told_reasons
        if down.reason not in told and len(told) < REASONS_TOLD_MAX:
            told.add(down.reason)
            self._context.tell(LinkDown(trio.current_time(), self._peer, down.reason))
        if down.was_up:
            self._context.owner.on_peer_lost(self._peer)
        elif down.refused and self._refusal_is_news:
            self._refusal_is_news = False  # the other attempts of this outage say nothing new
            self._context.owner.on_peer_lost(self._peer)

    def _tell_dropped(self) -> None:
        if self._dropped:
            count, self._dropped = self._dropped, 0
            self._context.tell(MessagesDropped(trio.current_time(), self._peer, count))

    async def _pause(self) -> None:
        """Back off: doubling, with jitter, cut short when the peer itself connects to us."""
        first_s, longest_s = self._context.limits.reconnect_backoff_s
        if self._has_lasted(longest_s):
            self._failures = 0
        pause_s: float = min(longest_s, first_s * 2 ** min(self._failures, _DOUBLINGS_MAX))
        self._failures += 1
        self._peer_back = trio.Event()
        with trio.move_on_after(pause_s * self._context.rng.uniform(0.5, 1.0)):
            await self._peer_back.wait()

    def _has_lasted(self, enough_s: float) -> bool:
        """Whether what has just ended was a connection that lasted: one that is taken and dropped
        at once, again and again, is a failure like any other."""
        up_s, self._up_s = self._up_s, math.inf
        return trio.current_time() - up_s >= enough_s


def _shown(address: Address, where: Address | None) -> str:
    """An address, and what it led to if that looks otherwise."""
    if where is None or where == (numeric_host(address[0]), address[1]):
        return host_port(address)
    return f"{host_port(address)} ({host_port(where)})"


def _has_got_on(sock: trio.socket.SocketType | None, before: Acknowledged | None) -> bool:
    """Whether the peer's kernel has acknowledged more than before."""
    now = None if before is None else acknowledged(sock)
    if now is None or before is None:
        return False
    return now.acknowledged_bytes > before.acknowledged_bytes


def _hang_up(endings: Iterable[object]) -> None:
    for ending in endings:
        if isinstance(ending, Connection):
            ending.hang_up()


async def dial(address: Address) -> trio.SocketStream:
    """Connect a socket to an address whose host is written out in full, which takes no thread.

    Raises:
        OSError: the address cannot be reached.
    """
    host, port = address
    found = await trio.socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
    )
    family, kind, protocol, _, where = found[0]
    sock = trio.socket.socket(family, kind, protocol)
    try:
        # Our own port, should it hit the one of a node that is down, must not keep that node from
        # binding it again.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        await sock.connect(where)
        check_not_itself(sock)
    except BaseException:
        sock.close()
        raise
    return trio.SocketStream(sock)
