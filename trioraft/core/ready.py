"""Ready: what the caller of a core must now do, and in which order.

Rules of this file: the fields stand in the order in which they must be honoured. A caller that
crashes between any two of them has broken no promise.
"""

from __future__ import annotations

import attrs

from .events import TraceEvent
from .messages import Message
from .types import Entry, HardState, LogIndex


@attrs.frozen
class Ready:
    """Everything to do since the last Ready (dissertation 10.2.1 for the parallel disk write)."""

    number: int
    """Rises by one with each Ready. `Raft.on_persisted(number)` says this one is durable."""
    hard_state: HardState | None = None
    """1. Store it, in one durable write with `append`."""
    append: tuple[Entry, ...] = ()
    """1. Store these; they replace everything from `replace_from` on."""
    replace_from: LogIndex | None = None
    """Index of the first entry of `append`, or None when the log stays as it is."""
    messages: tuple[Message, ...] = ()
    """2. May leave at once."""
    messages_after_persist: tuple[Message, ...] = ()
    """3. Only once this Ready and all before it are durable."""
    committed: tuple[Entry, ...] = ()
    """4. Apply, in order; all are durable here. Answer with `Raft.on_applied`."""
    events: tuple[TraceEvent, ...] = ()
    """5. What happened, if anyone listens."""

    @property
    def must_persist(self) -> bool:
        """Whether there is anything to write."""
        return self.hard_state is not None or self.replace_from is not None

    @property
    def awaits_persist(self) -> bool:
        """Whether the storage must see this Ready: to write it, or to release its messages."""
        return self.must_persist or bool(self.messages_after_persist)
