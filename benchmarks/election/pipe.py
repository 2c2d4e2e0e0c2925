"""What a node in a trial is told and what it answers, beside what every node process is told.

Rules of this file: moments are of `time.monotonic()`, which is one clock for all processes of a
machine.
"""

from __future__ import annotations

import enum
from typing import TypeAlias

import msgspec

from trioraft import NodeId

from ..processes.pipe import Bound, Failed, Peers


class NodeSetup(msgspec.Struct, frozen=True):
    """What a node process is to be: its only argument."""

    node_id: NodeId
    voters: tuple[NodeId, ...]
    directory: str
    """Of its storage; made if it is missing."""
    seed: str
    election_timeout_s: tuple[float, float]
    heartbeat_interval_s: float
    fast_failover: bool
    is_watched: bool
    """Whether timers and round trips are wanted."""
    port: int = 0
    """Where to listen on the loopback; 0: anywhere."""


# -- orders ------------------------------------------------------------------------------------


class Settle(msgspec.Struct, frozen=True, tag=True):
    """Answer once a leader of this term or a later one is known, and this much is applied; what
    was watched until then is forgotten."""

    term: int
    index: int


class Look(msgspec.Struct, frozen=True, tag=True):
    """Answer with the round trips since the last `Settle`."""


class When(msgspec.Struct, frozen=True, tag=True):
    """Answer when the node would have campaigned if nothing but a hint had come in between."""

    from_s: float
    to_s: float


class HandOver(msgspec.Struct, frozen=True, tag=True):
    """Transfer the leadership to whoever is ready first."""


class Load(msgspec.Struct, frozen=True, tag=True):
    """From now on have so many tasks propose whenever this node leads."""

    tasks: int


class Count(msgspec.Struct, frozen=True, tag=True):
    """Answer with what became of the load's proposals since the last time."""


class Propose(msgspec.Struct, frozen=True, tag=True):
    """A client's call."""

    number: int


Order: TypeAlias = Peers | Settle | Look | When | HandOver | Load | Count | Propose


# -- answers -----------------------------------------------------------------------------------


class Opened(msgspec.Struct, frozen=True, tag=True):
    """The node is open."""


class Led(msgspec.Struct, frozen=True, tag=True):
    """Unasked: this node leads, and its first proposal has succeeded."""

    node_id: NodeId
    term: int
    index: int
    """Applied here by then."""
    led_s: float
    """When a task that waited for its leadership knew of it."""
    done_s: float
    """When the proposal had succeeded."""


class Settled(msgspec.Struct, frozen=True, tag=True):
    """It is so."""

    leader_id: NodeId
    term: int
    applied_index: int


class RoundTrips(msgspec.Struct, frozen=True, tag=True):
    """From heartbeats to their answers."""

    took_s: tuple[float, ...]


class Due(msgspec.Struct, frozen=True, tag=True):
    """When the node would have campaigned."""

    at_s: float


class HandedOver(msgspec.Struct, frozen=True, tag=True):
    """Somebody else leads."""

    called_s: float
    """When that was asked for."""


class Counted(msgspec.Struct, frozen=True, tag=True):
    """Outcomes of the load's proposals."""

    done: int
    failed: int
    """Of which nobody knows what became; not those that were certainly not taken."""


class Outcome(enum.Enum):
    """What became of a client's call."""

    DONE = "done"
    ELSEWHERE = "elsewhere"
    """Certainly not taken: ask somebody else."""
    UNKNOWN = "unknown"


class Answered(msgspec.Struct, frozen=True, tag=True):
    """To a client's call."""

    number: int
    outcome: Outcome
    leader_id: NodeId | None = None
    """Whom to ask, if that is known."""


class Goodbye(msgspec.Struct, frozen=True, tag=True):
    """The node has left on purpose. Calls that it has not answered were not taken."""


Answer: TypeAlias = (
    Bound
    | Opened
    | Led
    | Settled
    | RoundTrips
    | Due
    | HandedOver
    | Counted
    | Answered
    | Goodbye
    | Failed
)

decode_setup = msgspec.json.Decoder(NodeSetup).decode
decode_order = msgspec.json.Decoder[Order](Order).decode
decode_answer = msgspec.json.Decoder[Answer](Answer).decode
