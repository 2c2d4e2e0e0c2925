"""Scene: what is known of a cluster at this moment, as its servers tell those who listen.

Rules of this file:

* One task a server; none that fails disturbs another. A server that is gone is tried again, less
  and less often. Servers that others name are listened to as well.
* A role that is taken again, as by one that finds no winner for minutes, is no news.
* A server that does not answer keeps its last known row, marked, with the reason and since when.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

import anyio
import attrs

from ...client.client import Client
from ...core.errors import RaftError
from ...core.types import Address, LogIndex, NodeId
from ...net.addresses import host_port
from ...rpc.protocol import NodeNews, RoleNews, ServerStatus, StatusNews
from ..connecting import latest_leader

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

    def tell(self, address: Address, news: NodeNews, at_s: float) -> None:
        """A server said something."""
        server = self.servers[address]
        if server.problem is not None and server.silent_since_s is not None:
            self._note(at_s, server.name, "answers again")
        server.problem = server.silent_since_s = None
        match news:
            case StatusNews(status):
                server.status = status
            case RoleNews(role=role, previous=previous) if role != previous:
                text = f"{news.previous} → {news.role}, term {news.term}: {news.reason}"
                self._note(at_s, news.node_id, text)

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


def links_of(status: ServerStatus) -> list[tuple[NodeId, bool]]:
    """Which of its peers a node reaches, by name."""
    return sorted(status.links.items())


Changed: TypeAlias = Callable[[Address, NodeNews | None], None]

PAUSES_S: Final = (0.2, 0.5, 1.0, 2.0)
"""Before each further attempt to reach a server; the last one for all that follow."""


async def listen(client: Client, scene: Scene, interval_s: float, changed: Changed) -> None:
    """Keep the scene up to date until cancelled.

    Args:
        client: open; it knows at least one address.
        scene: is told everything.
        interval_s: shortest time between two statuses of one server, in seconds.
        changed: called after each change of the scene, with whom it came from and what was said;
            None when a server was lost.
    """
    async with anyio.create_task_group() as listening:

        def follow(address: Address) -> None:
            if scene.expect(address):
                listening.start_soon(_listen_to, address, name=f"watch[{address[0]}:{address[1]}]")

        async def _listen_to(address: Address) -> None:
            attempt = 0
            while True:
                try:
                    async with client.watch_status(address, interval_s=interval_s) as stream:
                        async for news in stream:
                            attempt = 0
                            scene.tell(address, news, anyio.current_time())
                            _named_in(news, follow)
                            changed(address, news)
                    problem = "the node is Dead"
                except RaftError as error:
                    problem = str(error)
                scene.lost(address, problem, anyio.current_time())
                changed(address, None)
                await anyio.sleep(PAUSES_S[min(attempt, len(PAUSES_S) - 1)])
                attempt += 1

        for address in client.addresses:
            follow(address)
        await anyio.sleep_forever()


def _named_in(news: NodeNews, follow: Callable[[Address], None]) -> None:
    if isinstance(news, StatusNews):
        for address in news.status.client_addresses.values():
            follow(address)
