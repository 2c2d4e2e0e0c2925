"""Ready: what the caller of a core must now do, and in which order.

Rules of this file: the fields stand in the order in which they must be honoured. A caller that
crashes between any two of them has broken no promise.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from .events import TraceEvent
from .messages import Message
from .reads import ConfirmedRead
from .types import Entry, HardState, LogIndex, NodeId, SnapshotMeta, Term


@attrs.frozen
class SnapshotChunk:
    """Part of a snapshot that another node sends."""

    sender: NodeId
    meta: SnapshotMeta
    offset: int
    data: bytes


@attrs.frozen
class ChunkRequest:
    """Part of a snapshot that a follower is to get next."""

    receiver: NodeId
    meta: SnapshotMeta
    offset: int
    size_bytes: int
    """At most so much of it."""


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
    install: SnapshotMeta | None = None
    """1. Install this snapshot, all of which was received, before `append`; once it is durable,
    restore the state machine from it, after whatever `committed` brought before."""
    chunks: tuple[SnapshotChunk, ...] = ()
    """1. Store these, and answer each with `Raft.on_chunk_stored`."""
    compact: tuple[LogIndex, Term] | None = None
    """1. Forget the entries up to this index, which has this term."""
    messages: tuple[Message, ...] = ()
    """2. May leave at once."""
    chunk_requests: tuple[ChunkRequest, ...] = ()
    """2. Read these from the storage and pass them to `Raft.send_chunk`."""
    messages_after_persist: tuple[Message, ...] = ()
    """3. Only once this Ready and all before it are durable."""
    committed: tuple[Entry, ...] = ()
    """4. Apply, in order; all are durable here. Answer with `Raft.on_applied`."""
    reads: tuple[ConfirmedRead, ...] = ()
    """5. These reads may be answered once the state machine stands at their index."""
    events: tuple[TraceEvent, ...] = ()
    """5. What happened, if anyone listens."""

    @property
    def must_persist(self) -> bool:
        """Whether there is anything to write."""
        return (
            self.hard_state is not None or self.replace_from is not None or self.install is not None
        )

    @property
    def is_plain_write(self) -> bool:
        """Whether nothing but hard state and entries is to be written: then it may be joined."""
        return self.install is None and not self.chunks and self.compact is None

    @property
    def awaits_persist(self) -> bool:
        """Whether the storage must see this Ready: to write it, or to release its messages."""
        return (
            self.must_persist
            or bool(self.messages_after_persist)
            or bool(self.chunks)
            or self.compact is not None
        )


@attrs.frozen
class Write:
    """One durable write: what a storage's `append` is called with."""

    hard_state: HardState | None
    entries: tuple[Entry, ...]
    replace_from: LogIndex | None
    identity: bytes | None = None
    """Opaque record of whose disk this is; None leaves what is stored."""
    size_bytes: int = 0
    """Of the commands in it."""


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
