"""What a measured node is told and what it answers, beside what every node process is told.

Rules of this file: nothing is said while a load is measured but `Began` and one `Begin` to each
follower.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from ..processes.pipe import Bound, Failed, Peers
from .cases import COMMAND_BYTES, Call, Collector, Mode, Storage, System


class Setup(msgspec.Struct, frozen=True):
    """What a node process is to be: its only argument."""

    system: System
    storage: Storage
    node_id: str
    voters: tuple[str, ...]
    directory: str
    """For what is durable; it exists."""
    port: int = 0
    """Where to listen on the loopback; 0: anywhere."""
    collector: Collector = Collector.DEFAULT
    snapshots: bool = True
    """False: keep the whole log, however long."""
    patience: int = 1
    """How many times the default election timeouts to use."""
    election_timeout_s: float = 0.0
    """hashicorp/raft's; 0: its default."""
    is_watched: bool = False
    """Say `Led` whenever this node has come to lead and a command of its has succeeded."""


# -- orders ------------------------------------------------------------------------------------


class Load(msgspec.Struct, frozen=True, tag=True):
    """To the leader: put load on yourself and measure it."""

    mode: Mode
    concurrency: int
    warm_up_s: float
    seconds: float
    ops_min: int
    """Go on until there were so many."""
    profile: str | None = None
    """File for a profile of the measured interval."""
    command_bytes: int = COMMAND_BYTES
    goes_on: bool = False
    """Count commands that fail, and go on as soon as that makes sense; else the first ends it."""
    call: Call = Call.PROPOSE


class Fill(msgspec.Struct, frozen=True, tag=True):
    """To the leader: take so many commands through a window, and measure each part of the way."""

    ops: int
    concurrency: int
    marks: int


class Begin(msgspec.Struct, frozen=True, tag=True):
    """To a follower: the measured interval begins."""

    profile: str | None = None
    """File for a profile of it."""


class End(msgspec.Struct, frozen=True, tag=True):
    """To a follower: it is over; answer with `Usage`."""


class AwaitApplied(msgspec.Struct, frozen=True, tag=True):
    """Answer with `Applied` once the state machine stands at this index."""

    index: int


Order: TypeAlias = Peers | Load | Fill | Begin | End | AwaitApplied


# -- answers -----------------------------------------------------------------------------------


class Opened(msgspec.Struct, frozen=True, tag=True):
    """The node is open and knows a leader."""

    leader_id: str
    open_s: float
    """From the call to open it until it could be reached: the log is loaded then."""


class Began(msgspec.Struct, frozen=True, tag=True):
    """Warm enough: the measured interval begins."""


class Usage(msgspec.Struct, frozen=True, tag=True):
    """What the measured interval took in this process."""

    cpu_s: float
    rss_mb: float
    """The most memory this process ever had resident, in 10⁶ bytes."""


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """What the leader measured."""

    ops: int
    elapsed_s: float
    p50_ms: float
    p99_ms: float
    usage: Usage
    p999_ms: float = 0.0
    failed: int = 0
    """Commands that failed, if they were to be counted."""
    terms: int = 0
    """How much higher the term was at the end."""


class Led(msgspec.Struct, frozen=True, tag=True):
    """This node leads, and a command of its has succeeded; nobody asked."""

    node_id: str
    term: int


class Mark(msgspec.Struct, frozen=True):
    """Where a `Fill` stood at one moment."""

    ops: int
    elapsed_s: float
    cpu_s: float
    rss_mb: float
    """Resident now, in 10⁶ bytes."""


class Filled(msgspec.Struct, frozen=True, tag=True):
    """All commands of a `Fill` are applied on the leader."""

    marks: tuple[Mark, ...]
    """The first is the start, the last the end."""
    last_index: int


class Applied(msgspec.Struct, frozen=True, tag=True):
    """The state machine stands where it was to stand."""

    since_opening_s: float
    """Since the call to open the node."""
    rss_mb: float


Answer: TypeAlias = Bound | Opened | Began | Usage | Loaded | Filled | Applied | Led | Failed

decode_setup = msgspec.json.Decoder(Setup).decode
decode_order = msgspec.json.Decoder[Order](Order).decode
decode_answer = msgspec.json.Decoder[Answer](Answer).decode
