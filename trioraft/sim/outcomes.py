"""What a run of one seed is asked for, and what it gives back, whichever tier ran it.

Values that travel between processes; nothing in them depends on the machine, the process or the
moment, but for `cpu_s`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeAlias, final

import attrs
import msgspec

from ..core.events import TraceEvent
from ..core.types import NodeId
from ..scenario import Scenario
from .agenda import Agenda

OPEN_S: Final = float("inf")
"""When an operation ended whose client never heard of it."""


@attrs.frozen
class ClientCall:
    """One operation of a client, as the client saw it. The values are those of one register."""

    client: int
    key: int
    kind: str
    """"get", "put" or "cas"."""
    argument: int
    """The new value; 0 for a read."""
    expected: int
    """cas: the value that must be there."""
    invoked_s: float
    completed_s: float = OPEN_S
    result: int | None = None
    """get: the value; cas: 1 if it was done; put: nothing that counts. None while it is open."""


@attrs.frozen
class TraceLine:
    """A moment of a traced run: a node's event, or a remark of the simulation."""

    at_s: float
    """Virtual time of the whole cluster, in seconds from the start of the run."""
    node_id: NodeId | None
    what: TraceEvent | str


@attrs.frozen
class Wait:
    """How long something took, and how long it may take, in seconds."""

    took_s: float
    bound_s: float

    @property
    def part(self) -> float:
        """Of its bound."""
        return self.took_s / self.bound_s


@attrs.frozen
class ScheduledFault:
    """One line of a schedule, for people; its number is how it is left out of a replay."""

    number: int
    text: str


HistoryCheck: TypeAlias = Callable[[Sequence[ClientCall]], str | None]
"""Says what is wrong with a history, or None. A function of a module, so that it can travel."""


@attrs.frozen
class RunOptions:
    """What to run with a seed."""

    nodes: int | None = None
    """How many nodes; None: the seed says."""
    only_faults: tuple[int, ...] | None = None
    """Inject these of the seed's schedule, by number, and no others; None: all."""
    traced: bool = False
    """Keep every event, for a raftlog. It does not change what happens."""
    check_history: HistoryCheck | None = None
    """Looks at the clients' history in the end."""
    directed: str | None = None
    """At what the faults are directed, by the names of `directed`; None: a storm of everything."""

    scenario: Scenario | None = None
    """Play this, instead of a storm."""

    def injects(self, number: int) -> bool:
        """Whether the fault of this number in the schedule is to happen."""
        return self.only_faults is None or number in self.only_faults


@attrs.frozen
class RunOutcome:
    """What came of a run."""

    seed: int
    tier: int
    failure: str | None
    """Which rule was broken and how; None: all is well."""
    failure_kind: str
    """The rule's name, by which two failures are the same; empty when all is well."""
    drawn: dict[str, Any]
    """Every option that the seed drew."""
    schedule: tuple[ScheduledFault, ...]
    injected: dict[str, int]
    """How often each kind of fault really happened."""
    delivered: int
    """Messages that reached a living node."""
    commits: int
    elections: int
    """Terms that had a leader."""
    operations: int
    """Operations that were answered to clients."""
    virtual_s: float
    recovery_timeouts: float
    """How long it took after healing until all was well, in election timeouts."""
    digest: str
    """Of everything that happened, in order: equal digests, equal runs."""
    cpu_s: float = attrs.field(eq=False)
    """Processor time that the run took."""
    waits: dict[str, Wait] = attrs.field(factory=dict)
    """Of each trial, how long the cluster took to move on; the longest, if it came twice."""
    trace: tuple[TraceLine, ...] = attrs.field(default=(), repr=False)
    history: tuple[ClientCall, ...] = attrs.field(default=(), repr=False)


def kind_of(error: Exception, teller: str = "") -> str:
    """By which two failures are the same one: the rule that was broken, without its values; from
    whoever tells of it if it was never raised."""
    traceback, place = error.__traceback__, teller
    while traceback is not None:
        place = traceback.tb_frame.f_code.co_name
        traceback = traceback.tb_next
    return f"{type(error).__name__} in {place}"


class RunSeed(Protocol):
    """What a tier is: one seed in, one outcome out. It raises nothing that the run brought."""

    def __call__(self, seed: int, options: RunOptions) -> RunOutcome:
        """Run one seed."""


_FLUSH_BYTES: Final = 65536
TRACE_LINES_MAX: Final = 400_000
"""A trace is for reading: what came first is forgotten beyond this."""


@final
class RunRecording:
    """Everything that is remembered of a run."""

    def __init__(self, agenda: Agenda, *, traced: bool) -> None:
        self.injected: Counter[str] = Counter()
        self.waits: dict[str, Wait] = {}
        self.traced = traced
        self.delivered = 0
        self._agenda = agenda
        self._encode_into = msgspec.msgpack.Encoder().encode_into
        self._hash = hashlib.blake2b(digest_size=16)
        self._buffer = bytearray()
        self._lines: list[TraceLine] = []

    def note(self, what: str, *values: Any) -> None:
        """Something happened now. The values are numbers, text, bytes or messages, never the text
        of an object: a hash seed or an address must not find its way into a digest."""
        buffer = self._buffer
        self._encode_into((self._agenda.now, what, values), buffer, -1)
        if len(buffer) > _FLUSH_BYTES:
            self._hash.update(buffer)
            buffer.clear()

    def count(self, kind: str) -> None:
        """A fault of this kind really happened."""
        self.injected[str(kind)] += 1

    def waited(self, name: str, wait: Wait) -> None:
        """Something under a bound came to pass, or did not."""
        known = self.waits.get(name)
        if known is None or wait.part > known.part:
            self.waits[name] = wait

    def event(self, node_id: NodeId, event: TraceEvent) -> None:
        """A node tells what it does; its own clock does not count here."""
        now = self._agenda.now
        self._keep(TraceLine(now, node_id, attrs.evolve(event, at_s=now)))

    def remark(self, text: str, node_id: NodeId | None = None) -> None:
        """Something that the simulation does, for the reader of a trace."""
        if self.traced:
            self._keep(TraceLine(self._agenda.now, node_id, text))

    def _keep(self, line: TraceLine) -> None:
        self._lines.append(line)
        if len(self._lines) > TRACE_LINES_MAX:
            del self._lines[: TRACE_LINES_MAX // 2]

    @property
    def lines(self) -> tuple[TraceLine, ...]:
        """The trace so far."""
        return tuple(self._lines)

    def digest(self) -> str:
        """Of everything that was noted so far."""
        self._hash.update(self._buffer)
        self._buffer.clear()
        return self._hash.hexdigest()
