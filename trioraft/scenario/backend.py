"""What the player needs of whoever has a cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, final

import attrs

from ..core.types import LogIndex, NodeId, Role, Term
from .grammar import Needs


@final
@attrs.frozen
class NodeView:
    """What is to be seen of one node."""

    node_id: NodeId
    role: Role | None
    """None: it is down."""
    term: Term = 0
    leader_id: NodeId | None = None
    last_index: LogIndex = 0
    commit_index: LogIndex = 0
    is_removed: bool = False
    voters: tuple[NodeId, ...] = ()
    """Of the configuration that it goes by; empty: it has none yet."""
    configuration_index: LogIndex = 0

    def __str__(self) -> str:
        if self.role is None:
            return f"{self.node_id}: down"
        return (
            f"{self.node_id}: {self.role.value} term={self.term} leader={self.leader_id} "
            f"last={self.last_index} commit={self.commit_index}"
        )


@final
@attrs.define
class Answer:
    """What came, or will come, of something that was asked for."""

    outcome: str | None = None
    """Of a command: "applied", "refused" or "unknown". Of a client's call: "done", or what went
    wrong. None: nothing has come yet."""
    value: str | None = None
    """What a client was told: a value, or what a write replaced."""


class Backend(Protocol):
    """A cluster that a scenario is played on. Times are in seconds, from the beginning.

    What it cannot do it says in `missing`, and is then never asked for.
    """

    @property
    def name(self) -> str:
        """What it is, for people: "virtual time"."""

    @property
    def missing(self) -> Mapping[Needs, str]:
        """What it cannot do, and why, or what can."""

    @property
    def patience_s(self) -> float:
        """How long is waited for what has no `within`."""

    @property
    def loses_messages(self) -> bool:
        """Whether messages get lost though the scenario does not say so: then leaders may change at
        any time, and "the same leader" is not asked for."""

    @property
    def picture(self) -> str:
        """How to get the picture; empty: there is none."""

    def now_s(self) -> float:
        """How long ago the beginning was."""

    async def sleep(self, duration_s: float) -> None:
        """Let time pass."""

    async def until(self, holds: Callable[[], bool], limit_s: float) -> bool:
        """Wait until this holds; looked at when anything changes.

        Returns:
            Whether it came to hold in time.
        """

    async def while_holds(self, holds: Callable[[], bool], duration_s: float) -> bool:
        """Wait for so long, or until this does not hold any more.

        Returns:
            Whether it held all the time.
        """

    def views(self) -> Mapping[NodeId, NodeView]:
        """All nodes that there are."""

    # -- what is done to it ----------------------------------------------------------------

    async def disconnect(self, node_id: NodeId) -> None: ...
    async def reconnect(self, node_id: NodeId) -> None: ...
    async def cut(self, one: NodeId, other: NodeId) -> None: ...
    async def heal(self) -> None: ...
    async def crash(self, node_id: NodeId) -> None: ...
    async def restart(self, node_id: NodeId) -> None: ...
    async def pause(self, node_id: NodeId) -> None: ...
    async def resume(self, node_id: NodeId) -> None: ...
    async def set_network(self, delay_s: tuple[float, float] | None, loss: float | None) -> None:
        """None: as it is."""

    async def transfer(self, leader: NodeId, target: NodeId) -> None: ...
    async def add(self, node_id: NodeId) -> None:
        """It is a voter when this returns."""

    async def remove(self, node_id: NodeId) -> None:
        """It is no member when this returns."""

    # -- commands ------------------------------------------------------------------------------

    async def propose(self, data: str, at: NodeId | None) -> Answer:
        """Begin to bring a command to whoever leads, until it is taken; or to this node, once."""

    def applied(self) -> Mapping[NodeId, list[tuple[LogIndex, str]]]:
        """What each node that runs has applied, and where."""

    # -- keys and values -------------------------------------------------------------------

    async def ask(
        self, client: str, through: NodeId | None, call: str, key: str, *values: str | None
    ) -> Answer:
        """Have a client ask for "put", "append", "delete", "swap" or "get", after what it has asked
        for before."""

    def value_at(self, node_id: NodeId, key: str) -> str | None:
        """What this node has applied."""

    async def hold_answers(self, node_id: NodeId) -> None: ...
    async def release_answers(self, node_id: NodeId) -> None: ...
