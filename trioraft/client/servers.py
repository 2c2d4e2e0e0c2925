"""The servers as a client knows them: addresses, connections, and who leads.

Connections are made and live in the client's own tasks: a caller who gives up breaks none of them.
One search at a time, for all that wait, finds out who leads. The given addresses are always tried:
what servers announce is added to them, never instead.

A connection in doubt is not used for anything new. Another one to the same server is made beside
it, and if it was the leader's, the other servers are asked who leads. What answers first stays, and
the others are closed: there is never more than one connection to a server, and one being made.
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
from .attempts import Backoff, pause
from .connection import Dialer, Reached, ServerConnection

ROUND_S = 0.25
"""How long any other server is waited for before the next one is tried beside it, in seconds."""
GRACE_S = 0.01
"""How long a connection in doubt may take from when another one to its server is answered, in
seconds: a process that goes on after a pause answers both, and calls wait at the older one."""
ANNOUNCED_MAX = 64
"""Addresses taken from what servers announce."""

_statuses = msgspec.msgpack.Decoder(ServerStatus)


@final
@attrs.define(eq=False)
class _Dial:
    """An attempt to connect, and who waits for it."""

    done: anyio.Event = attrs.field(factory=anyio.Event)
    scope: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)
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
    forming: str = ""
    """For whom its cluster waits, if it has not formed."""

    @property
    def usable(self) -> ServerConnection | None:
        """The connection to it, if there is one that new requests may take."""
        connection = self.connection
        return connection if connection is not None and connection.is_usable else None


@final
@attrs.define(eq=False)
class _Search:
    """Asking who leads, and who waits for it."""

    over: anyio.Event = attrs.field(factory=anyio.Event)
    scope: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)
    tasks: TaskGroup | None = None


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
        self._search: _Search | None = None
        self._waiting = 0
        self._tasks: TaskGroup | None = None
        self.last_problem: str = "no server was asked yet"
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
            leader = self.known_leader()
            if leader is not None:
                return leader
            search = self._begin_search()
            self._waiting += 1
            try:
                await search.over.wait()
            finally:
                self._waiting -= 1
            if self.known_leader() is None:
                self._raise_if_hopeless()

    def known_leader(self) -> ServerConnection | None:
        """The connection to the leader, if there is one now that is not in doubt."""
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
                self._follow(new)

    def _follow(self, leader: ServerConnection) -> None:
        """From now on this one leads; whoever waits at one in doubt goes there."""
        before, self._leader = self._leader, leader
        self._end_search()
        if before is not None and before.is_in_doubt:
            before.close(f"it was silent, and {host_port(leader.address)} leads")

    def _begin_search(self) -> _Search:
        if self._search is None:
            tasks = self._open_tasks()
            self._search = _Search()
            tasks.start_soon(self._find_leader, self._search)
        return self._search

    def _end_search(self) -> None:
        search, self._search = self._search, None
        if search is not None:
            search.over.set()
            search.scope.cancel()

    def _is_wanted(self) -> bool:
        """Whether anybody would go to a leader that is found."""
        return bool(self._waiting) or self._is_leader_in_doubt()

    def _is_leader_in_doubt(self) -> bool:
        leader = self._leader
        return leader is not None and leader.is_open and leader.is_in_doubt

    async def _find_leader(self, search: _Search) -> None:
        try:
            with search.scope:
                async with anyio.create_task_group() as search.tasks:
                    for server in list(self._servers.values()):
                        search.tasks.start_soon(self._keep_asking, server, search)
        finally:
            search.tasks = None
            search.over.set()
            if self._search is search:
                self._search = None

    async def _keep_asking(self, server: _Server, search: _Search) -> None:
        """Ask a server whether it leads, until the search is over. A silent one holds up none."""
        backoff = Backoff(self._rng)
        while True:
            asked = await self._status(server)
            if self._search is not search:
                return
            if asked is not None and self._leads(*asked):
                self._follow(asked[0])
            elif self._hopeless() is not None or not self._is_wanted():
                self._end_search()
            await pause(backoff)

    def _leads(self, connection: ServerConnection, status: ServerStatus) -> bool:
        """Whether this server is the leader that we look for, as far as it knows."""
        is_leader = status.role == Role.LEADER.value and connection.is_usable
        if not is_leader or status.term < self._term_seen:
            self._note_problem("no server says that it leads")
            return False
        self._term_seen = status.term
        return True

    async def _status(self, server: _Server) -> tuple[ServerConnection, ServerStatus] | None:
        """What a server says of itself, over which connection, and learn from it."""
        try:
            connection = await self._connection(server)
            status = _statuses.decode(await connection.request(GetStatus))
        except (RaftError, msgspec.MsgspecError) as error:
            server.forming = ""
            self._note_problem(str(error))
            return None
        server.forming = forming_text(status.waiting_for) if status.waiting_for else ""
        for node_id, address in status.client_addresses.items():
            self._learn(node_id, address)
        return connection, status

    def _note_problem(self, problem: str) -> None:
        forming = (server.forming for server in self._servers.values() if server.forming)
        # That a cluster has not formed says more than that one of it cannot be reached.
        self.last_problem = next(forming, problem)

    def _connection_to(self, node_id: NodeId) -> ServerConnection | None:
        for server in self._servers.values():
            connection = server.usable
            if connection is not None and connection.node_id == node_id:
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
            known = await self._first_to_answer()
            if known is not None:
                return known
            self._raise_if_hopeless()
            await pause(backoff)

    async def _first_to_answer(self) -> ServerConnection | None:
        """Try all servers once, in any order, the next one beside those that take long."""
        first: list[ServerConnection] = []
        async with anyio.create_task_group() as trying:

            async def reach(server: _Server, failed: anyio.Event) -> None:
                try:
                    first.append(await self._connection(server))
                except RaftError as error:
                    self.last_problem = str(error)
                    failed.set()
                else:
                    trying.cancel_scope.cancel()

            for server in sorted(self._servers.values(), key=lambda _: self._rng.random()):
                failed = anyio.Event()
                trying.start_soon(reach, server, failed)
                with anyio.move_on_after(ROUND_S):
                    await failed.wait()
            trying.cancel_scope.cancel()  # what is being made goes on, and is there next time
        return first[0] if first else None

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
            async with anyio.create_task_group() as asking:
                for server in list(self._servers.values()):
                    asking.start_soon(self._status, server)
        address = self._addresses.get(where) or self._announced.get(where)
        if address is None:
            raise ServerLost(f"nobody knows where server {where!r} takes clients; name its address")
        return address

    def name_at(self, address: Address) -> str:
        """What the certificate of the server at this address must bear."""
        server = self._servers.get(address)
        return address[0] if server is None or server.name is None else server.name

    def _any_open(self) -> ServerConnection | None:
        usable = [each.usable for each in self._servers.values() if each.usable is not None]
        return self._rng.choice(usable) if usable else None

    def _server_at(self, address: Address) -> _Server:
        host, port = address
        server = self._servers.get((host, port))
        if server is None:
            server = _Server((host, port), None)
            self._add(server)
        return server

    async def _connection(self, server: _Server) -> ServerConnection:
        """The connection to this server, made if there is none that is not in doubt; one attempt,
        shared by all."""
        while True:
            connection = server.connection
            if connection is not None and connection.is_open and not connection.is_in_doubt:
                return connection
            dial = self._begin_dial(server)
            await dial.done.wait()
            if dial.error is not None:
                raise _again(dial.error)

    def _begin_dial(self, server: _Server) -> _Dial:
        if server.dial is None:
            tasks = self._open_tasks()
            server.dial = _Dial()
            tasks.start_soon(self._dial, server, server.dial)
        return server.dial

    async def _dial(self, server: _Server, dial: _Dial) -> None:
        """Connect, and then be the connection."""
        reached: Reached | None = None
        try:
            with dial.scope:
                reached = await self._dialer.dial(server.address, self.name_at(server.address))
                if server.connection is not None and server.connection.is_open:
                    await anyio.sleep(GRACE_S)
        except (ServerLost, HandshakeRefused) as error:
            dial.error = server.last_error = error
        except BaseException:
            dial.error = ClientClosed("the client was closed: open another one")
            if reached is not None:
                await anyio.aclose_forcefully(reached.stream)
            raise
        finally:
            server.dial = None
            dial.done.set()
        if reached is None:
            return
        server.last_error = None
        before = server.connection
        if before is not None and before.is_open:
            if not before.is_in_doubt:  # it was heard meanwhile
                await anyio.aclose_forcefully(reached.stream)
                return
            before.close("it was silent, and another connection to it is answered")
        connection = server.connection = self._connected(
            server.address, reached, on_doubt=self._on_doubt
        )
        self._addresses[connection.node_id] = server.address
        await connection.run()
        if self._leader is connection:
            self._leader = None

    def _on_doubt(self, connection: ServerConnection) -> None:
        """A connection is in doubt, or is so no more, because its server was heard."""
        server = self._servers[connection.address]
        is_leader = connection is self._leader
        if connection.is_in_doubt:
            self._begin_dial(server)
            if is_leader:
                self._begin_search()
            return
        if server.dial is not None:
            server.dial.scope.cancel()
        if is_leader:
            self._end_search()

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
        self._add(_Server(address, node_id if self._by_id else None))

    def _add(self, server: _Server) -> None:
        self._servers[server.address] = server
        search = self._search
        if search is not None and search.tasks is not None:
            search.tasks.start_soon(self._keep_asking, server, search)

    def _open_tasks(self) -> TaskGroup:
        if self._tasks is None:
            raise ClientClosed("the client is not open: use it inside its `async with`")
        return self._tasks


def _again(error: RaftError) -> RaftError:
    """The same error, for one more of those who wait: a traceback belongs to one of them."""
    if isinstance(error, HandshakeRefused):
        return type(error)(error.refusal, str(error))
    return type(error)(str(error))
