"""Scene: what is known of a cluster at this moment, as its servers tell those who listen.

Rules of this file:

* One task a server; none that fails disturbs another. A server that is gone is tried again, less
  and less often. Servers that others name are listened to as well.
* A role that is taken again, as by one that finds no winner for minutes, is no news.
* A server that does not answer keeps its last known row, marked, with the reason and since when;
  unless it answers elsewhere: a server has one row, at whichever of its addresses it was heard.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

import anyio
import attrs

from ..client.client import Client
from ..core.errors import RaftError
from ..core.types import Address, LogIndex, NodeId
from ..net.addresses import host_port
from ..rpc.protocol import NodeNews, RoleNews, ServerStatus, StatusNews

HAPPENED_MAX: Final = 200
"""Role changes that are remembered."""


@attrs.define
class ServerView:
    """One server, as far as it is known."""

    address: Address
    status: ServerStatus | None = None
    problem: str | None = "not reached yet"
    """Why nothing is heard from it; None while all is well."""
    silent_since_s: float | None = None

    @property
    def is_known(self) -> bool:
        """Whether it has answered, or is known not to."""
        return self.status is not None or self.silent_since_s is not None

    @property
    def name(self) -> str:
        """Its id, or its address until that is known."""
        return host_port(self.address) if self.status is None else self.status.node_id


@attrs.frozen
class Happened:
    """A role change, or a server that went or came."""

    at_s: float
    node: str
    text: str


@attrs.define
class Scene:
    """All servers, by address, in the order in which they were named or found."""

    servers: dict[Address, ServerView] = attrs.field(factory=dict)
    happened: deque[Happened] = attrs.field(factory=lambda: deque(maxlen=HAPPENED_MAX))
    _untold: deque[Happened] = attrs.field(factory=lambda: deque(maxlen=HAPPENED_MAX))

    def expect(self, address: Address) -> bool:
        """A server should be there. True if that is news."""
        if address in self.servers:
            return False
        self.servers[address] = ServerView(address)
        return True

    def answers(self, node_id: NodeId, *, but_at: Address | None = None) -> bool:
        """Whether this server is heard, at another address than this one."""
        return any(
            server.status is not None
            and server.status.node_id == node_id
            and server.problem is None
            and server.address != but_at
            for server in self.servers.values()
        )

    def tell(self, address: Address, news: NodeNews, at_s: float) -> bool:
        """A server said something. False if it has a row already, at another address: then the
        one at this address is gone, and what it says is told there."""
        node_id = news.status.node_id if isinstance(news, StatusNews) else news.node_id
        if self.answers(node_id, but_at=address):
            del self.servers[address]
            return False
        server = self.servers[address]
        for other in list(self.servers.values()):  # where it was before it moved
            is_same = other.status is not None and other.status.node_id == node_id
            if is_same and other is not server:
                del self.servers[other.address]
        if server.problem is not None and server.silent_since_s is not None:
            self._note(at_s, server.name, "answers again")
        server.problem = server.silent_since_s = None
        match news:
            case StatusNews(status):
                server.status = status
            case RoleNews(role=role, previous=previous) if role != previous:
                text = f"{news.previous} → {news.role}, term {news.term}: {news.reason}"
                self._note(at_s, news.node_id, text)
        return True

    def lost(self, address: Address, problem: str, at_s: float) -> None:
        """A server is not heard from any more, or never was."""
        server = self.servers[address]
        if server.silent_since_s is None:
            server.silent_since_s = at_s
            self._note(at_s, server.name, f"does not answer: {problem}")
        server.problem = problem

    def _note(self, at_s: float, node: str, text: str) -> None:
        happened = Happened(at_s, node, text)
        self.happened.append(happened)
        self._untold.append(happened)

    def take_untold(self) -> list[Happened]:
        """What happened since the last call."""
        untold = list(self._untold)
        self._untold.clear()
        return untold

    def statuses(self) -> list[ServerStatus]:
        """Of all servers that answer."""
        known = (server for server in self.servers.values() if server.problem is None)
        return [server.status for server in known if server.status is not None]

    @property
    def leader(self) -> ServerStatus | None:
        """Who leads the latest term, of those that answer."""
        return latest_leader(self.statuses())

    def lag_of(self, status: ServerStatus) -> LogIndex | None:
        """Entries that this node has not applied yet, of those its leader has committed."""
        leader = self.leader
        return None if leader is None else max(0, leader.commit_index - status.applied_index)


def latest_leader(statuses: Iterable[ServerStatus]) -> ServerStatus | None:
    """Who leads the latest term, of these servers."""
    leaders = [status for status in statuses if status.role == "Leader"]
    return max(leaders, key=lambda status: status.term, default=None)


def links_of(status: ServerStatus) -> list[tuple[NodeId, bool]]:
    """Which of its peers a node reaches, by name."""
    return sorted(status.links.items())


Changed: TypeAlias = Callable[[Address, NodeNews | None], None]

PAUSES_S: Final = (0.2, 0.5, 1.0, 2.0)
"""Before each further attempt to reach a server; the last one for all that follow."""


async def listen(
    client: Client,
    scene: Scene,
    interval_s: float,
    changed: Changed,
    *,
    events_every: int = 0,
    pauses_s: Sequence[float] = PAUSES_S,
) -> None:
    """Keep the scene up to date until cancelled.

    Args:
        client: open; it knows at least one address.
        scene: is told everything.
        interval_s: shortest time between two statuses of one server, in seconds.
        changed: called after each change of the scene, with whom it came from and what was said;
            None when a server was lost.
        events_every: not 0: what happens in the servers is listened to as well; see
            `Client.watch_status`.
        pauses_s: before each further attempt to reach a server, in seconds.
    """
    async with anyio.create_task_group() as listening:

        def follow(address: Address) -> None:
            if scene.expect(address):
                listening.start_soon(_listen_to, address, name=f"watch[{host_port(address)}]")

        async def _listen_to(address: Address) -> None:
            attempt = 0
            while address in scene.servers:
                try:
                    async with client.watch_status(
                        address, interval_s=interval_s, events_every=events_every
                    ) as stream:
                        async for news in stream:
                            attempt = 0
                            if not scene.tell(address, news, anyio.current_time()):
                                return
                            _named_in(news, scene, follow)
                            changed(address, news)
                    problem = "the node is Dead"
                except RaftError as error:
                    problem = str(error)
                if address not in scene.servers:
                    return
                scene.lost(address, problem, anyio.current_time())
                changed(address, None)
                await anyio.sleep(pauses_s[min(attempt, len(pauses_s) - 1)])
                attempt += 1

        for address in client.addresses:
            follow(address)
        await anyio.sleep_forever()


def _named_in(news: NodeNews, scene: Scene, follow: Callable[[Address], None]) -> None:
    """Listen to the servers that this one names, and that are not heard yet."""
    if isinstance(news, StatusNews):
        for node_id, address in news.status.client_addresses.items():
            if not scene.answers(node_id):
                follow(address)
