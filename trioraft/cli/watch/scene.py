"""Scene: what is known of a cluster at this moment, as its servers tell it.

Rules of this file:

* It is told news and asked for rows; it draws nothing and talks to nobody.
* A role that is taken again, as by one that finds no winner for minutes, is no news.
* A server that does not answer keeps its last known row, marked, with the reason and since when.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import attrs

from ...core.types import Address, LogIndex, NodeId
from ...net.addresses import host_port
from ...rpc.protocol import NodeNews, RoleNews, ServerStatus, StatusNews

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
        leaders = [status for status in self.statuses() if status.role == "Leader"]
        return max(leaders, key=lambda status: status.term, default=None)

    def lag_of(self, status: ServerStatus) -> LogIndex | None:
        """Entries that this node has not applied yet, of those its leader has committed."""
        leader = self.leader
        return None if leader is None else max(0, leader.commit_index - status.applied_index)


def links_of(status: ServerStatus) -> list[tuple[NodeId, bool]]:
    """Which of its peers a node reaches, by name."""
    return sorted(status.links.items())
