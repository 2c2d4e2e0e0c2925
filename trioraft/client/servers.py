"""The servers as a client knows them: addresses, connections, and who leads.

Connections are made and live in the client's own tasks: a caller who gives up breaks none of them.
One search at a time, for all that wait, finds out who leads. The given addresses are always tried:
what servers announce is added to them, never instead. A name is looked up again in every search,
and each address that it leads to is a server to be asked. Two addresses of one server share a
connection.

A connection in doubt is not used for anything new. Another one to the same server is made beside
it, and if it was the leader's, the other servers are asked who leads. What answers first stays, and
the others are closed: there is never more than one connection to a server, and one being made.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import final

import anyio
import attrs
import msgspec
from anyio.abc import TaskGroup

from ..core.errors import NotLeader, Overloaded, RaftError, forming_text
from ..core.types import Address, NodeId, Role, Term
from ..net.addresses import host_port, is_loopback, is_well_formed
from ..net.resolving import ResolvedAddress, Resolver, is_literal
from ..rpc.errors import ClientClosed, HandshakeRefused, ServerLost
from ..rpc.protocol import GetStatus, ServerStatus
from .attempts import Backoff, pause
from .connection import Dialer, Reached, ServerConnection, sentence_of

ROUND_S = 0.25
"""How long any other server is waited for before the next one is tried beside it, in seconds."""
GRACE_S = 0.01
"""How long a connection in doubt may take from when another one to its server is answered, in
seconds: a process that goes on after a pause answers both, and calls wait at the older one."""
ANNOUNCED_MAX = 64
"""Servers of which announced addresses are kept."""
ANNOUNCED_OF_ONE_MAX = 4
"""Of one server: the newest ones. It may have moved, and not all know so yet."""
LOOKUP_S = 5.0
"""How long a name may take to be looked up, in seconds."""
LOOKUP_AGAIN_S = (1.0, 10.0)
"""After what time it is looked up again while nobody is found, in seconds: at first and at most."""

_statuses = msgspec.msgpack.Decoder(ServerStatus)


@final
@attrs.define(eq=False)
class _Dial:
    """An attempt to connect, or to look a name up, and who waits for it."""

    done: anyio.Event = attrs.field(factory=anyio.Event)
    scope: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)
    error: RaftError | None = None


@final
@attrs.define(eq=False)
class _Server:
    address: Address
    """As it is dialed."""
    name: str | None
    """What its certificate must bear; None: its host's name."""
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
class _Place:
    """An address as it was given or announced."""

    address: Address
    name: NodeId | None
    """The id that its server's certificate must bear; None: the name of its host."""
    is_given: bool
    must_be_looked_up: bool
    found: tuple[_Server, ...] = ()
    """Where it leads, as far as was looked up."""
    lookup: _Dial | None = None
    looked_up_s: float = -math.inf


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
        resolver: looks names up; None: whoever connects makes of names what it can.
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
        resolver: Resolver | None = None,
        may_leave_machine: bool,
        rng: random.Random,
    ) -> None:
        self._dialer = dialer
        self._connected = connected
        self._may_leave_machine = may_leave_machine
        self._rng = rng
        self._by_id = any(name is not None for name in given.values())
        self._resolver = resolver
        self._servers: dict[Address, _Server] = {}
        self._places: dict[Address, _Place] = {}  # the given ones first
        self._announced: dict[NodeId, list[Address]] = {}  # the newest first
        self._met_at: dict[NodeId, Address] = {}  # where a server was when it was reached last
        self._leader: ServerConnection | None = None
        self._term_seen: Term = 0
        self._search: _Search | None = None
        self._waiting = 0
        self._tasks: TaskGroup | None = None
        self.last_problem: str = "no server was asked yet"
        """Why the last attempt to find a leader, or to reach a server, came to nothing."""
        for address, name in given.items():
            self._add_place(address, name, is_given=True)

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
        """Where servers are: the given addresses, then announced ones. A name that leads to several
        is told as these."""
        told: dict[Address, None] = {}
        covered: set[Address] = set()
        for place in self._places.values():
            leads_to = [server.address for server in place.found]
            if not leads_to or not covered.issuperset(leads_to):
                told.update(dict.fromkeys(leads_to if len(leads_to) > 1 else [place.address]))
            covered.update(leads_to)
        return list(told)

    def given_for(self, address: Address) -> Address | None:
        """Which given address has led to this one, or is it; None: it was only announced."""
        for place in self._places.values():
            if place.is_given and (
                place.address == address or any(server.address == address for server in place.found)
            ):
                return place.address
        return None

    def announced_for(self, address: Address) -> NodeId | None:
        """Which server was announced to be at this address; None: none."""
        for node_id, addresses in self._announced.items():
            for each in addresses:
                place = self._places.get(each)
                leads_to = () if place is None else place.found
                if each == address or any(server.address == address for server in leads_to):
                    return node_id
        return None

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
                    for place in list(self._places.values()):
                        self._keep_up_to_date(place, search)
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
            if self._search is not search or self._servers.get(server.address) is not server:
                return
            if asked is not None and self._leads(*asked):
                self._follow(asked[0])
            elif self._hopeless() is not None or not self._is_wanted():
                self._end_search()
            await pause(backoff)

    def _keep_up_to_date(self, place: _Place, search: _Search) -> None:
        if place.must_be_looked_up and search.tasks is not None:
            search.tasks.start_soon(self._keep_looking_up, place, search)

    async def _keep_looking_up(self, place: _Place, search: _Search) -> None:
        """Look a name up, until the search is over: it may lead elsewhere by now."""
        pause_s, longest_s = LOOKUP_AGAIN_S
        while self._search is search and self._places.get(place.address) is place:
            await self._begin_lookup(place).done.wait()
            if self._search is search and not self._is_wanted():
                self._end_search()
            await anyio.sleep(pause_s * self._rng.uniform(0.75, 1.0))
            pause_s = min(longest_s, 2 * pause_s)

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
        self.learn_from(status)
        return connection, status

    def learn_from(self, status: ServerStatus) -> None:
        """What a server says of where servers take clients."""
        for node_id, others in status.other_client_addresses.items():
            for address in others[:ANNOUNCED_OF_ONE_MAX]:
                self._learn(node_id, address, is_first=False)
        for node_id, address in status.client_addresses.items():
            self._learn(node_id, address)

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
        if any(not place.found for place in self._places.values()):
            return None  # who knows where it leads
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
        for place in self._places.values():
            if place.must_be_looked_up:
                self._begin_lookup(place)
        if not self._servers:
            await self._until_one_is_found()
        shuffled = sorted(self._servers.values(), key=lambda _: self._rng.random())
        found = await self._reached_of(shuffled, is_patient=False)
        if isinstance(found, RaftError):
            self.last_problem = str(found)
            return None
        return found

    async def _until_one_is_found(self) -> None:
        """Wait until a name was looked up that leads somewhere, or all were."""
        async with anyio.create_task_group() as waiting:

            async def wait_for(place: _Place) -> None:
                try:
                    await self._looked_up(place)
                except RaftError as error:
                    self.last_problem = str(error)
                else:
                    waiting.cancel_scope.cancel()

            for place in self._places.values():
                waiting.start_soon(wait_for, place)

    async def _reached_of(
        self,
        servers: Iterable[_Server],
        *,
        node_id: NodeId | None = None,
        is_patient: bool = True,
    ) -> ServerConnection | RaftError | None:
        """A connection to the first of these that answers, the next one tried beside those that
        take long; or why there is none.

        Args:
            servers: in the order in which to try them.
            node_id: who must answer; None: anybody.
            is_patient: whether they may take as long as an attempt may. Otherwise they are left
                after a round, and what is being made goes on and is there next time.
        """
        results: list[ServerConnection | RaftError] = []
        async with anyio.create_task_group() as trying:

            async def reach(server: _Server, failed: anyio.Event) -> None:
                try:
                    connection = await self._connection(server)
                    if node_id is not None and connection.node_id != node_id:
                        where = host_port(server.address)
                        raise ServerLost(f"at {where} is {connection.node_id!r}, not {node_id!r}")
                except RaftError as error:
                    results.append(error)
                    failed.set()
                else:
                    results.append(connection)
                    trying.cancel_scope.cancel()

            for server in servers:
                failed = anyio.Event()
                trying.start_soon(reach, server, failed)
                with anyio.move_on_after(ROUND_S):
                    await failed.wait()
            if not is_patient:
                trying.cancel_scope.cancel()
        connections = [each for each in results if isinstance(each, ServerConnection)]
        return connections[0] if connections else results[-1] if results else None

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
        node_id = where if isinstance(where, str) else None
        known = await self._candidates(where)
        found = await self._reached_of(known, node_id=node_id)
        if node_id is not None and not isinstance(found, ServerConnection):
            await self._ask_all()  # it may have moved
            others = [each for each in await self._servers_of(node_id) if each not in known]
            found = await self._reached_of(others, node_id=node_id) or found
        if isinstance(found, ServerConnection):
            return found
        if found is not None:
            raise _again(found)
        raise ServerLost(f"nobody knows where server {where!r} takes clients; name its address")

    async def ways_to(self, where: NodeId | Address | None) -> list[tuple[Address, str]]:
        """Where this server may be dialed, and what its certificate must bear; None: the leader if
        it is known, else any.

        Raises:
            ServerLost: an address leads nowhere.
            HandshakeRefused, ClientClosed: as `leader`.
        """
        if where is None:
            address = (await self.any()).address
            return [(address, self.name_at(address))]
        servers = await self._candidates(where)
        return [(each.address, self.name_at(each.address)) for each in servers]

    async def _candidates(self, where: NodeId | Address) -> list[_Server]:
        """Who may be this server, as far as is known."""
        self._open_tasks()
        if isinstance(where, str):
            return await self._servers_of(where)
        return await self._looked_up(self._place_at(where))

    async def _servers_of(self, node_id: NodeId) -> list[_Server]:
        """Where a server may be: where it was met, announced, and given, in turn."""
        places = [self._places.get(each) for each in self._announced.get(node_id, ())]
        places += [place for place in self._places.values() if place.name == node_id]
        servers = [self._servers.get(self._met_at[node_id])] if node_id in self._met_at else []
        for place in places:
            if place is not None:
                with suppress(ServerLost):
                    servers += await self._looked_up(place)
        return [server for server in dict.fromkeys(servers) if server is not None]

    async def _ask_all(self) -> None:
        """Hear what all servers say of the others, those that answer soon."""
        with anyio.move_on_after(ROUND_S):
            async with anyio.create_task_group() as asking:
                for server in list(self._servers.values()):
                    asking.start_soon(self._status, server)

    async def look_up(self) -> None:
        """Look all names up, those that were not a moment ago; in vain is no error."""
        async with anyio.create_task_group() as looking:
            for place in self._places.values():
                looking.start_soon(self._try_looking_up, place)

    async def _try_looking_up(self, place: _Place) -> None:
        with suppress(ServerLost):
            await self._looked_up(place)

    def name_at(self, address: Address) -> str:
        """What the certificate of the server at this address must bear."""
        server = self._servers.get(address)
        return address[0] if server is None or server.name is None else server.name

    def _any_open(self) -> ServerConnection | None:
        usable = [each.usable for each in self._servers.values() if each.usable is not None]
        return self._rng.choice(usable) if usable else None

    # -- places ----------------------------------------------------------------------------

    def _place_at(self, address: Address) -> _Place:
        """What is known of an address that somebody names."""
        host, port = address
        place = self._places.get((host, port))
        if place is not None:
            return place
        for known in self._places.values():
            if any(server.address == (host, port) for server in known.found):
                server = self._servers[(host, port)]
                return _Place((host, port), None, False, False, (server,))
        return self._add_place((host, port), None, is_given=False)

    def _add_place(self, address: Address, name: NodeId | None, *, is_given: bool) -> _Place:
        must_be_looked_up = self._resolver is not None and not is_literal(address[0])
        place = self._places[address] = _Place(address, name, is_given, must_be_looked_up)
        if not must_be_looked_up:
            place.found = (self._server_at(address, name),)
        elif self._search is not None:
            self._keep_up_to_date(place, self._search)
        return place

    def _server_at(self, address: Address, name: str | None) -> _Server:
        server = self._servers.get(address)
        if server is None:
            server = self._servers[address] = _Server(address, name)
            search = self._search
            if search is not None and search.tasks is not None:
                search.tasks.start_soon(self._keep_asking, server, search)
        return server

    async def _looked_up(self, place: _Place) -> list[_Server]:
        """Where a place leads.

        Raises:
            ServerLost: nowhere, as far as could be looked up.
        """
        if place.must_be_looked_up:
            lookup = self._begin_lookup(place)
            await lookup.done.wait()
            if lookup.error is not None and not place.found:
                raise _again(lookup.error)
        return list(place.found)

    def _begin_lookup(self, place: _Place) -> _Dial:
        """Have a place looked up, unless that was done a moment ago; shared by all."""
        lookup = place.lookup
        is_over = lookup is None or lookup.done.is_set()
        if lookup is None or (
            is_over and anyio.current_time() - place.looked_up_s >= LOOKUP_AGAIN_S[0] / 2
        ):
            tasks = self._open_tasks()
            lookup = place.lookup = _Dial()
            tasks.start_soon(self._look_up, place, lookup)
        return lookup

    async def _look_up(self, place: _Place, lookup: _Dial) -> None:
        where = host_port(place.address)
        found: tuple[ResolvedAddress, ...] = ()
        try:
            if self._resolver is not None:
                with anyio.fail_after(LOOKUP_S):
                    found = await self._resolver.find(place.address)
        except TimeoutError:
            lookup.error = ServerLost(f"{where}: its name is not answered within {LOOKUP_S:g} s")
        except (OSError, ValueError) as error:
            lookup.error = ServerLost(f"{where}: {sentence_of(error)}")
        except BaseException:
            lookup.error = ClientClosed("the client was closed: open another")
            raise
        finally:
            if found:
                self._lead_to(place, found)
            elif lookup.error is not None:
                self.last_problem = str(lookup.error)
            place.looked_up_s = anyio.current_time()
            lookup.done.set()

    def _lead_to(self, place: _Place, found: tuple[ResolvedAddress, ...]) -> None:
        """This is where a place leads now."""
        allowed = [
            each for each in found if self._may_leave_machine or is_loopback(each.address[0])
        ]
        place.found = tuple(
            self._server_at(each.address, place.name or each.host) for each in allowed
        )
        self._forget_servers()

    def _forget_servers(self) -> None:
        """Those that no place leads to any more; not while they are connected."""
        needed = {server.address for place in self._places.values() for server in place.found}
        for address, server in list(self._servers.items()):
            is_idle = server.dial is None and (
                server.connection is None or not server.connection.is_open
            )
            if address not in needed and is_idle:
                del self._servers[address]

    # -- single connections ----------------------------------------------------------------

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
        same = self._connection_to(reached.welcome.node_id)
        if same is not None and same is not server.connection:  # it has several addresses
            server.connection = same
            await anyio.aclose_forcefully(reached.stream)
            return
        before = server.connection
        if before is not None and before.is_open:
            if not before.is_in_doubt:  # it was heard meanwhile
                await anyio.aclose_forcefully(reached.stream)
                return
            before.close("it was silent, and another connection to it is answered")
        connection = server.connection = self._connected(
            server.address, reached, on_doubt=self._on_doubt
        )
        self._met_at[connection.node_id] = server.address
        await connection.run()
        if self._leader is connection:
            self._leader = None

    def _on_doubt(self, connection: ServerConnection) -> None:
        """A connection is in doubt, or is so no more, because its server was heard."""
        server = self._servers.get(connection.address)
        is_leader = connection is self._leader
        if connection.is_in_doubt:
            if server is not None:
                self._begin_dial(server)
            if is_leader:
                self._begin_search()
            return
        if server is not None and server.dial is not None:
            server.dial.scope.cancel()
        if is_leader:
            self._end_search()

    def _learn(self, node_id: NodeId, address: Address, *, is_first: bool = True) -> None:
        """A server says where another one, or itself, takes clients."""
        known = self._announced.get(node_id, [])
        if address in known[: 1 if is_first else None]:
            return
        if not known and len(self._announced) >= ANNOUNCED_MAX:
            return
        if not (self._may_leave_machine or is_loopback(address[0])) or not is_well_formed(address):
            return
        if address in known:
            known.remove(address)
        known.insert(0 if is_first else len(known), address)
        dropped = known[ANNOUNCED_OF_ONE_MAX:]
        self._announced[node_id] = known[:ANNOUNCED_OF_ONE_MAX]
        for each in dropped:
            place = self._places.get(each)
            if place is not None and not place.is_given and self.announced_for(each) is None:
                del self._places[each]
                self._forget_servers()
        if address not in self._places and address not in dropped:
            self._add_place(address, node_id if self._by_id else None, is_given=False)

    def _open_tasks(self) -> TaskGroup:
        if self._tasks is None:
            raise ClientClosed("the client is not open: use it inside its `async with`")
        return self._tasks


def _again(error: RaftError) -> RaftError:
    """The same error, for one more of those who wait: a traceback belongs to one of them."""
    if isinstance(error, HandshakeRefused):
        return type(error)(error.refusal, str(error))
    return type(error)(str(error))
