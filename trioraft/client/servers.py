"""The servers as a client knows them: addresses, connections, and who leads.

Connections are made and live in the client's own tasks: a caller who gives up breaks none of them.
One search at a time, for all that wait, finds out who leads. The given addresses are always tried:
what servers announce is added to them, never instead.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import final

import anyio
import attrs
import msgspec
from anyio.abc import TaskGroup

from ..core.errors import NotLeader, Overloaded, RaftError, forming_text
from ..core.types import Address, NodeId, Role, Term
from ..net.addresses import host_port, is_loopback
from ..rpc.errors import ClientClosed, HandshakeRefused, ServerLost
from ..rpc.protocol import GetStatus, ServerStatus
from .attempts import Backoff
from .connection import Dialer, ServerConnection

ROUND_S = 0.25
"""How long one round of asking waits for slow servers, in seconds; their connections go on."""
ANNOUNCED_MAX = 64
"""Addresses taken from what servers announce."""

_statuses = msgspec.msgpack.Decoder(ServerStatus)


@final
@attrs.define(eq=False)
class _Dial:
    """An attempt to connect, and who waits for it."""

    done: anyio.Event = attrs.field(factory=anyio.Event)
    error: RaftError | None = None


@final
@attrs.define(eq=False)
class _Server:
    address: Address
    name: NodeId | None
    """The id that its certificate must bear; None: its host's name."""
    connection: ServerConnection | None = None
    dial: _Dial | None = None
    last_error: RaftError | None = None


@final
class Servers:
    """All servers of one client.

    Args:
        given: addresses, with the ids they were given for, if any.
        dialer: how to reach them.
        connected: makes a `ServerConnection` of what the dialer reached.
        may_leave_machine: whether announced addresses beyond this machine may be used.
        rng: jitter.
    """

    def __init__(
        self,
        given: dict[Address, NodeId | None],
        dialer: Dialer,
        connected: Callable[..., ServerConnection],
        *,
        may_leave_machine: bool,
        rng: random.Random,
    ) -> None:
        self._dialer = dialer
        self._connected = connected
        self._may_leave_machine = may_leave_machine
        self._rng = rng
        self._by_id = any(name is not None for name in given.values())
        self._servers = {address: _Server(address, name) for address, name in given.items()}
        self._announced: dict[NodeId, Address] = {}
        self._announced_count = 0
        self._addresses = {name: address for address, name in given.items() if name is not None}
        self._leader: ServerConnection | None = None
        self._term_seen: Term = 0
        self._search: anyio.Event | None = None
        self._waiting = 0
        self._forming = ""
        self._tasks: TaskGroup | None = None
        self.last_problem = "no server was asked yet"
        """Why the last attempt to find a leader, or to reach a server, came to nothing."""

    def open(self, tasks: TaskGroup) -> None:
        """From here on there are connections, in this task group."""
        self._tasks = tasks

    def close(self) -> None:
        """End all connections: whoever waits for an answer gets `ServerLost`."""
        self._tasks = None
        for server in self._servers.values():
            if server.connection is not None:
                server.connection.close()

    @property
    def addresses(self) -> list[Address]:
        """Where servers are: the given addresses, then announced ones."""
        return list(self._servers)

    # -- who leads -------------------------------------------------------------------------

    async def leader(self) -> ServerConnection:
        """A connection to the leader; waits until there is one.

        Raises:
            HandshakeRefused: every server refuses this client for good.
            ClientClosed: the client is not open.
        """
        while True:
            leader = self._leader
            if leader is not None and leader.is_usable:
                return leader
            tasks = self._open_tasks()
            if self._search is None:
                self._search = anyio.Event()
                tasks.start_soon(self._find_leader, self._search)
            self._waiting += 1
            try:
                await self._search.wait()
            finally:
                self._waiting -= 1
            if self._leader is None:
                self._raise_if_hopeless()

    def known_leader(self) -> ServerConnection | None:
        """The connection to the leader, if there is one now."""
        leader = self._leader
        return leader if leader is not None and leader.is_usable else None

    def forget(self, server: ServerConnection, why: Exception) -> None:
        """This server does not lead, or does not answer as a leader should. (One that is merely
        overloaded still leads.)"""
        self.last_problem = f"{host_port(server.address)}: {why}"
        if self._leader is not server or isinstance(why, Overloaded):
            return
        self._leader = None
        if isinstance(why, NotLeader) and why.leader_id is not None:
            if why.leader_address is not None:
                self._learn(why.leader_id, why.leader_address)
            new = self._connection_to(why.leader_id)
            if new is not None and new is not server:
                self._leader = new

    async def _find_leader(self, search: anyio.Event) -> None:
        backoff = Backoff(self._rng)
        try:
            while self._waiting:
                self._leader = None
                await self._ask_everyone()
                if self._leader is not None or self._hopeless() is not None:
                    return
                await backoff.pause()
        finally:
            self._search = None
            search.set()

    async def _ask_everyone(self) -> None:
        """One round: take the first one that says that it leads."""
        self._forming = ""
        with anyio.move_on_after(ROUND_S):
            async with anyio.create_task_group() as round_:
                for server in list(self._servers.values()):
                    round_.start_soon(self._ask, server, round_.cancel_scope)

    async def _ask(self, server: _Server, round_: anyio.CancelScope) -> None:
        try:
            connection = await self._connection(server)
            status = _statuses.decode(await connection.request(GetStatus))
        except (RaftError, msgspec.MsgspecError) as error:
            self.last_problem = self._forming or str(error)
            return
        for node_id, address in status.client_addresses.items():
            self._learn(node_id, address)
        is_leader = status.role == Role.LEADER.value and connection.is_usable
        if is_leader and status.term >= self._term_seen:
            self._term_seen = status.term
            self._leader = connection
            round_.cancel()
        elif self._leader is None:
            if status.waiting_for:  # says more than that one of them cannot be reached
                self._forming = forming_text(status.waiting_for)
            self.last_problem = self._forming or "no server says that it leads"

    def _connection_to(self, node_id: NodeId) -> ServerConnection | None:
        for server in self._servers.values():
            connection = server.connection
            if connection is not None and connection.node_id == node_id and connection.is_usable:
                return connection
        return None

    def _hopeless(self) -> HandshakeRefused | None:
        """Why no server will ever talk to us, if that is so."""
        error: HandshakeRefused | None = None
        for server in self._servers.values():
            if not isinstance(server.last_error, HandshakeRefused):
                return None
            error = server.last_error
        return error

    def _raise_if_hopeless(self) -> None:
        error = self._hopeless()
        if error is not None:
            raise _again(error)

    # -- connections -----------------------------------------------------------------------

    async def any(self) -> ServerConnection:
        """A connection to any server, the leader's if it is known; waits until there is one.

        Raises:
            HandshakeRefused, ClientClosed: as `leader`.
        """
        backoff = Backoff(self._rng)
        while True:
            self._open_tasks()
            known = self.known_leader() or self._any_open()
            if known is not None:
                return known
            for server in sorted(self._servers.values(), key=lambda _: self._rng.random()):
                try:
                    with anyio.move_on_after(ROUND_S):
                        return await self._connection(server)
                except ServerLost as error:
                    self.last_problem = str(error)
                except HandshakeRefused as error:
                    self.last_problem = str(error)
                    self._raise_if_hopeless()
            await backoff.pause()

    async def at(self, where: NodeId | Address) -> ServerConnection:
        """A connection to this server.

        Raises:
            ServerLost: it cannot be reached now, or nobody knows where it is.
            HandshakeRefused, ClientClosed: as `leader`.
        """
        if isinstance(where, str):
            connection = self._connection_to(where)
            if connection is not None:
                return connection
            return await self._connection(self._server_at(await self.address_of(where)))
        return await self._connection(self._server_at(where))

    async def address_of(self, where: NodeId | Address) -> Address:
        """Where this server takes clients.

        Raises:
            ServerLost: nobody knows.
        """
        if not isinstance(where, str):
            return where
        for known in (self._addresses, self._announced):
            if where in known:
                return known[where]
        with anyio.move_on_after(ROUND_S):
            async with anyio.create_task_group() as round_:
                for server in list(self._servers.values()):
                    round_.start_soon(self._ask, server, anyio.CancelScope())
        address = self._addresses.get(where) or self._announced.get(where)
        if address is None:
            raise ServerLost(f"nobody knows where server {where!r} takes clients; name its address")
        return address

    def name_at(self, address: Address) -> str:
        """What the certificate of the server at this address must bear."""
        server = self._servers.get(address)
        return address[0] if server is None or server.name is None else server.name

    def _any_open(self) -> ServerConnection | None:
        usable = [
            server.connection
            for server in self._servers.values()
            if server.connection is not None and server.connection.is_usable
        ]
        return self._rng.choice(usable) if usable else None

    def _server_at(self, address: Address) -> _Server:
        host, port = address
        server = self._servers.get((host, port))
        if server is None:
            server = self._servers[(host, port)] = _Server((host, port), None)
        return server

    async def _connection(self, server: _Server) -> ServerConnection:
        """The connection to this server, made if there is none; one attempt, shared by all."""
        while True:
            if server.connection is not None and server.connection.is_open:
                return server.connection
            tasks = self._open_tasks()
            if server.dial is None:
                server.dial = _Dial()
                tasks.start_soon(self._dial, server, server.dial)
            dial = server.dial
            await dial.done.wait()
            if dial.error is not None:
                raise _again(dial.error)

    async def _dial(self, server: _Server, dial: _Dial) -> None:
        """Connect, and then be the connection."""
        try:
            reached = await self._dialer.dial(server.address, self.name_at(server.address))
        except (ServerLost, HandshakeRefused) as error:
            dial.error = server.last_error = error
            server.dial = None
            dial.done.set()
            return
        except BaseException:
            dial.error = ClientClosed("the client was closed")
            dial.done.set()
            raise
        server.last_error = None
        connection = server.connection = self._connected(server.address, reached)
        self._addresses[connection.node_id] = server.address
        server.dial = None
        dial.done.set()
        await connection.run()
        if self._leader is connection:
            self._leader = None

    def _learn(self, node_id: NodeId, address: Address) -> None:
        """A server says where another one takes clients."""
        if node_id in self._addresses or self._announced.get(node_id) == address:
            return
        if address in self._servers or self._announced_count >= ANNOUNCED_MAX:
            return
        if not (self._may_leave_machine or is_loopback(address[0])):
            return
        self._announced_count += 1
        self._announced[node_id] = address
        self._servers[address] = _Server(address, node_id if self._by_id else None)

    def _open_tasks(self) -> TaskGroup:
        if self._tasks is None:
            raise ClientClosed("the client is not open: use it inside its `async with`")
        return self._tasks


def _again(error: RaftError) -> RaftError:
    """The same error, for one more of those who wait: a traceback belongs to one of them."""
    if isinstance(error, HandshakeRefused):
        return HandshakeRefused(error.refusal, str(error))
    return type(error)(str(error))
