"""What one line of a log says, whatever format it is written in.

A fact is what stands in the line, and nothing that had to be guessed: a raftlog does not say whom a
reply goes to, so `receiver` is None there.
"""

from __future__ import annotations

from typing import TypeAlias

import attrs

from .model import LogEnd, MarkKind, Members, NodeName, Role


@attrs.frozen
class Packet:
    """A message as a line shows it."""

    kind: str
    sender: NodeName | None
    receiver: NodeName | None
    term: int | None
    body: str = ""
    """What tells it from others of its kind: the fields as they are written."""
    is_positive: bool | None = None
    entries_count: int = 0
    log_end: LogEnd | None = None
    """See `Message.log_end`."""

    @property
    def is_reply(self) -> bool:
        """Whether it answers another one."""
        return self.kind.endswith("Reply")


@attrs.frozen
class Sent:
    """The node sent this."""

    packet: Packet
    is_lost: bool = False
    """The line says that it failed."""


@attrs.frozen
class Received:
    """The node received this."""

    packet: Packet
    term: int | None = None
    """The receiver's own term before, if the line has it."""
    voted_for: NodeName | None = None
    """Whom the receiver had voted for in its own term."""


@attrs.frozen
class Became:
    """The node took a role."""

    role: Role
    term: int | None
    """None: as before."""
    reason: str | None = None
    log_end: LogEnd | None = None


@attrs.frozen
class Because:
    """The reason for the role the node has just taken."""

    reason: str


@attrs.frozen
class TimerStarted:
    """An election timer started."""

    timeout_s: float
    term: int


@attrs.frozen
class TimerBailed:
    """An election timer noticed that it was of no use any more."""

    from_term: int | None
    """The term it was started in; None if it noticed a change of role."""


@attrs.frozen
class Committed:
    """The node knows the log to be committed up to here."""

    commit_index: int


@attrs.frozen
class Appeared:
    """The node is there: it listens."""


@attrs.frozen
class Marked:
    """The test did something to these nodes."""

    kind: MarkKind
    nodes: tuple[NodeName, ...] = ()
    groups: tuple[tuple[NodeName, ...], ...] = ()


@attrs.frozen
class LinkChanged:
    """The node's connection to this peer came up or went down."""

    peer: NodeName
    is_up: bool


@attrs.frozen
class Named:
    """The test says which node a number stands for."""

    number: NodeName
    full_name: str


@attrs.frozen
class Configured:
    """Another configuration counts for the node now."""

    index: int
    """Of the log, where it stands."""
    members: Members


@attrs.frozen
class Forming:
    """The node belongs to a new cluster, and has to hear of these before anybody is elected."""

    waiting_for: tuple[NodeName, ...]


@attrs.frozen
class TransferStarted:
    """The leader transfers its leadership to this peer."""

    peer: NodeName


@attrs.frozen
class LeaderKnown:
    """The node says who leads."""

    leader: NodeName
    term: int | None
    """None: the node's own."""


Fact: TypeAlias = (
    Sent
    | Received
    | Became
    | Because
    | TimerStarted
    | TimerBailed
    | Committed
    | Appeared
    | Marked
    | LinkChanged
    | Named
    | Configured
    | Forming
    | TransferStarted
    | LeaderKnown
)
