"""Ready: what the caller of a core must now do, and in which order.

Rules of this file: the fields stand in the order in which they must be honoured. A caller that
crashes between any two of them has broken no promise.
"""

from __future__ import annotations

from collections.abc import Sequence

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


@attrs.frozen
class Write:
    """One durable write: what a storage's `append` is called with."""

    hard_state: HardState | None
    entries: tuple[Entry, ...]
    replace_from: LogIndex | None


def join_writes(readies: Sequence[Ready]) -> Write | None:
    """The writes of several consecutive Readys as one, or None if there is nothing to write.

    What arrives while a write is under way joins the next one: that is where group commit
    comes from.
    """
    hard_state: HardState | None = None
    replace_from: LogIndex | None = None
    entries: list[Entry] = []
    for ready in readies:
        if ready.hard_state is not None:
            hard_state = ready.hard_state
        if ready.replace_from is None:
            continue
        if replace_from is None or ready.replace_from <= replace_from:
            replace_from = ready.replace_from
            entries = list(ready.append)
        else:
            del entries[ready.replace_from - replace_from :]
            entries.extend(ready.append)
    if hard_state is None and replace_from is None:
        return None
    return Write(hard_state, tuple(entries), replace_from)
