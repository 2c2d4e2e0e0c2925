"""Outbox: what the next Ready will carry, and which promises still wait for the disk.

Rules of this file:

* A message that promises something leaves only after the write it promises (hazards V1, D1);
  a message that merely bears our term waits only for the term.
* A write vouches for the log up to the index that it ended with; after a truncation, for less
  (hazard D2).
"""

from __future__ import annotations

from collections import deque
from typing import Final

from .events import TraceEvent
from .log import RaftLog
from .messages import Message
from .reads import ConfirmedRead
from .ready import ChunkRequest, Ready, SnapshotChunk
from .types import Entry, HardState, LogIndex, SnapshotMeta, Term

TURN_TIMEOUTS: Final = 8
"""For so many election timeouts a write may wait for other work of its own disk."""
SLOWEST_DISK_BYTES_PER_S: Final = 8 * 1024 * 1024
"""A disk that writes more slowly is as good as one that hangs."""


class Outbox:
    """Collects effects between two calls of `Raft.ready`."""

    __slots__ = (
        "_begun",
        "_durable_number",
        "_events",
        "_hard_state_number",
        "_install_number",
        "_messages",
        "_messages_after_persist",
        "_number",
        "_saved",
        "_writes",
        "chunk_requests",
        "chunks",
        "compact",
        "install",
        "reads",
    )

    def __init__(self, saved: HardState) -> None:
        """Start with what the storage holds already."""
        self.install: SnapshotMeta | None = None
        self.chunks: list[SnapshotChunk] = []
        self.chunk_requests: list[ChunkRequest] = []
        self.compact: tuple[LogIndex, Term] | None = None
        self.reads: list[ConfirmedRead] = []
        self._saved = saved  # the hard state that was last handed out to be stored
        self._number = 0
        self._durable_number = 0
        self._hard_state_number = 0  # the last Ready that carried a hard state
        self._install_number = 0  # the last Ready that carried a snapshot to install
        # Writes under way: (number, last index of the log then, did it carry a vote for us, when
        # it was handed out).
        self._writes: deque[tuple[int, LogIndex, Term | None, float]] = deque()
        # The last Ready of the write under way; since when; how long it may take for its size.
        self._begun: tuple[int, float, float] | None = None
        self._messages: list[Message] = []
        self._messages_after_persist: list[Message] = []
        self._events: list[TraceEvent] = []

    def send(self, message: Message) -> None:
        """It may leave at once."""
        self._messages.append(message)

    def send_after_persist(self, message: Message) -> None:
        """It leaves once everything up to now is durable."""
        self._messages_after_persist.append(message)

    def send_once_durable(self, message: Message, hard_state: HardState) -> None:
        """It promises nothing, but bears our term: it waits for the hard state alone."""
        if self._durable_number >= self._hard_state_number and self._saved == hard_state:
            self._messages.append(message)
        else:
            self._messages_after_persist.append(message)

    def trace(self, event: TraceEvent) -> None:
        """For whoever listens."""
        self._events.append(event)

    def clear_messages(self) -> None:
        """The node is Dead: it says nothing any more."""
        self._messages.clear()
        self._messages_after_persist.clear()
        self.chunk_requests.clear()

    # -- the disk --------------------------------------------------------------------------

    @property
    def is_installing(self) -> bool:
        """Whether a snapshot is to be installed and is not durable yet: nothing is applied."""
        return self.install is not None or self._durable_number < self._install_number

    @property
    def begun_s(self) -> float | None:
        """Since when the disk is busy with a write."""
        return None if self._begun is None else self._begun[1]

    def on_write_begun(self, number: int, now: float, size_bytes: int) -> None:
        """The disk is busy with writes of this Ready, and of all before it; again for each part."""
        self._begun = number, now, size_bytes / SLOWEST_DISK_BYTES_PER_S

    def on_disk_full(self) -> None:
        """How long the write takes now says nothing of the disk."""
        self._begun = None

    def stalled_s(self, patience_s: float) -> float:
        """When the disk has to be taken for stalled, unless it finishes a write before; never, if
        none waits. One that has not had its turn yet waits for something else, for a while."""
        if not self._writes:
            return float("inf")
        number, _, _, handed_s = self._writes[0]
        if self._begun is not None and number <= self._begun[0]:
            _, begun_s, for_size_s = self._begun
            return begun_s + for_size_s + patience_s
        return handed_s + TURN_TIMEOUTS * patience_s

    @property
    def waits_since_s(self) -> float:
        """Since when what waits longest for the disk does so; infinity: nothing does."""
        if not self._writes:
            return float("inf")
        return self._writes[0][3] if self._begun is None else self._begun[1]

    def on_persisted(self, number: int, log: RaftLog) -> Term | None:
        """All Readys up to this number are durable: mark the log as far as they vouch for it.

        Returns:
            The term of our own vote, if what is durable now holds one.
        """
        self._durable_number = max(self._durable_number, number)
        if self._begun is not None and self._begun[0] <= number:
            self._begun = None
        vote_term: Term | None = None
        while self._writes and self._writes[0][0] <= number:
            _, last_index, vote_term, _ = self._writes.popleft()
            log.stable_index = max(log.stable_index, last_index)
        return vote_term

    def clip_writes(self, last_index: LogIndex) -> None:
        """What was cut after `last_index` is vouched for no longer."""
        self._writes = deque(
            (number, min(end, last_index), vote, handed_s)
            for number, end, vote, handed_s in self._writes
        )

    # -- Ready -----------------------------------------------------------------------------

    def take(
        self,
        log: RaftLog,
        hard_state: HardState,
        vote_term: Term | None,
        committed: tuple[Entry, ...],
        now: float,
    ) -> Ready | None:
        """Everything since the last call as one Ready; None if there is nothing."""
        replace_from = log.handed_index + 1 if log.handed_index < log.last_index else None
        to_save = None if hard_state == self._saved else hard_state
        if not (
            committed
            or replace_from is not None
            or to_save is not None
            or self._messages
            or self._messages_after_persist
            or self._events
            or self.reads
            or self._has_snapshot_work()
        ):
            return None
        self._number += 1
        ready = Ready(
            number=self._number,
            hard_state=to_save,
            append=log.entries(replace_from, log.last_index) if replace_from is not None else (),
            replace_from=replace_from,
            install=self.install,
            chunks=tuple(self.chunks),
            compact=self.compact,
            messages=tuple(self._messages),
            chunk_requests=tuple(self.chunk_requests),
            messages_after_persist=tuple(self._messages_after_persist),
            committed=committed,
            reads=tuple(self.reads),
            events=tuple(self._events),
        )
        if to_save is not None or replace_from is not None or self.install is not None:
            log.handed_index = log.last_index
            self._writes.append((self._number, log.last_index, vote_term, now))
        if to_save is not None:
            self._saved = to_save
            self._hard_state_number = self._number
        if self.install is not None:
            self._install_number = self._number
        self._reset()
        return ready

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to hand out but what the log and the hard state say."""
        waiting = self._messages or self._messages_after_persist or self._events or self.reads
        return not (waiting or self._has_snapshot_work())

    def _has_snapshot_work(self) -> bool:
        return bool(self.chunks or self.chunk_requests or self.install is not None or self.compact)

    def _reset(self) -> None:
        self._messages.clear()
        self._messages_after_persist.clear()
        self._events.clear()
        self.chunks.clear()
        self.chunk_requests.clear()
        self.reads.clear()
        self.install = None
        self.compact = None
