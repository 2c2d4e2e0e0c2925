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

    Cancelling a method ends its wait and undoes nothing.
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

        Args:
            holds: reads the cluster; changes nothing.
            limit_s: how long to wait, in seconds.

        Returns:
            Whether it came to hold in time.
        """

    async def while_holds(self, holds: Callable[[], bool], duration_s: float) -> bool:
        """Wait for so long, or until this does not hold any more.

        Args:
            holds: reads the cluster; changes nothing.
            duration_s: how long, in seconds.

        Returns:
            Whether it held all the time.
        """

    def views(self) -> Mapping[NodeId, NodeView]:
        """All nodes that there are."""

    # -- what is done to it ----------------------------------------------------------------

    async def disconnect(self, node_id: NodeId) -> None:
        """Let a node hear nobody, and nobody hear it."""

    async def reconnect(self, node_id: NodeId) -> None:
        """Undo `disconnect`."""

    async def cut(self, one: NodeId, other: NodeId) -> None:
        """Let two nodes not hear each other.

        Args:
            one: a node.
            other: another.
        """

    async def heal(self) -> None:
        """Undo every cut."""

    async def crash(self, node_id: NodeId) -> None:
        """Kill a node: nothing of it is left but its storage."""

    async def restart(self, node_id: NodeId) -> None:
        """Open a crashed node again, on what it has stored."""

    async def pause(self, node_id: NodeId) -> None:
        """Let a node stand still."""

    async def resume(self, node_id: NodeId) -> None:
        """Let a paused node go on."""

    async def set_network(self, delay_s: tuple[float, float] | None, loss: float | None) -> None:
        """How messages fare from now on; None: as it is.

        Args:
            delay_s: least and greatest delay of a message, in seconds.
            loss: the share of messages that are lost, from 0 to 1.
        """

    async def transfer(self, leader: NodeId, target: NodeId) -> None:
        """Have the leader hand its leadership over.

        Args:
            leader: who leads now.
            target: who shall.
        """

    async def add(self, node_id: NodeId) -> None:
        """It is a voter when this returns."""

    async def remove(self, node_id: NodeId) -> None:
        """It is no member when this returns."""

    # -- commands ------------------------------------------------------------------------------

    async def propose(self, data: str, at: NodeId | None) -> Answer:
        """Begin to bring a command to whoever leads, until it is taken; or to this node, once.

        Args:
            data: the command.
            at: this node, or None.
        """

    def applied(self) -> Mapping[NodeId, list[tuple[LogIndex, str]]]:
        """What each node that runs has applied, and where."""

    # -- keys and values -------------------------------------------------------------------

    async def ask(
        self, client: str, through: NodeId | None, call: str, key: str, *values: str | None
    ) -> Answer:
        """Have a client ask for "put", "append", "delete", "swap" or "get", after what it has asked
        for before.

        Args:
            client: its name.
            through: the node that it asks; None: any.
            call: one of these five words.
            key: of which key.
            values: what the call needs besides: the new value; for "swap" the expected one before.
        """

    def value_at(self, node_id: NodeId, key: str) -> str | None:
        """What this node has applied.

        Args:
            node_id: which one.
            key: of which key; None comes back where it has none.
        """

    async def hold_answers(self, node_id: NodeId) -> None:
        """Keep the answers that clients are to have through a node, until `release_answers`."""

    async def release_answers(self, node_id: NodeId) -> None:
        """Let the answers go that were held."""
