"""Recording: a digest of all that happens, counts of what went wrong, and a trace if wanted."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any, Final, final

import attrs
import msgspec

from ..core.events import TraceEvent
from ..core.types import NodeId
from .agenda import Agenda
from .outcomes import TraceLine

_FLUSH_BYTES: Final = 65536
TRACE_LINES_MAX: Final = 400_000
"""A trace is for reading: what came first is forgotten beyond this."""


@final
class RunRecording:
    """Everything that is remembered of a run."""

    def __init__(self, agenda: Agenda, *, traced: bool) -> None:
        self.injected: Counter[str] = Counter()
        self.traced = traced
        self.delivered = 0
        self._agenda = agenda
        self._encode_into = msgspec.msgpack.Encoder().encode_into
        self._hash = hashlib.blake2b(digest_size=16)
        self._buffer = bytearray()
        self._lines: list[TraceLine] = []

    def note(self, what: str, *values: Any) -> None:
        """Something happened now. The values are numbers, text, bytes or messages, never the text of
        an object: a hash seed or an address must not find its way into a digest."""
        buffer = self._buffer
        self._encode_into((self._agenda.now, what, values), buffer, -1)
        if len(buffer) > _FLUSH_BYTES:
            self._hash.update(buffer)
            buffer.clear()

    def count(self, kind: str) -> None:
        """A fault of this kind really happened."""
        self.injected[str(kind)] += 1

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
