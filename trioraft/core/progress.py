"""What a leader knows of one follower (dissertation 10.2; paper, figure 2: nextIndex, matchIndex).

Rules of this file:

* `match_index` only rises: it is what the follower has said it holds durably.
* `next_index` > `match_index`, always (hazard A6).
* PROBE sends one message and waits; REPLICATE sends ahead, within a window of messages and bytes;
  SNAPSHOT sends one chunk at a time, and entries only when the snapshot is installed.
* What is on its way is not sent again because its answer takes long: it is asked about first, and
  less often each time.
"""

from __future__ import annotations

import enum
import zlib
from collections import deque

import attrs

from .config import Limits
from .types import Incarnation, LogIndex, SnapshotMeta
from .window import LEAST_BYTES, Window

ANSWERS_PER_CHUNK = 4
"""A chunk is asked for again after so many times what the last answer took."""
ASKED_AGAIN_DOUBLINGS_MAX = 3
"""How often that pause is doubled."""


class ProgressState(enum.Enum):
    """How a leader feeds one follower."""

    PROBE = "probe"
    """Where the logs agree is not known yet: one message at a time."""
    REPLICATE = "replicate"
    """The logs agree up to next_index - 1 if nothing was lost: send ahead."""
    SNAPSHOT = "snapshot"
    """The follower lacks entries that are compacted away: it gets a snapshot first."""


@attrs.define
class Progress:
    """One follower, as its leader sees it."""

    next_index: LogIndex
    last_contact_s: float
    """When this follower last answered, on the caller's clock."""
    window: Window
    match_index: LogIndex = 0
    state: ProgressState = ProgressState.PROBE
    probe_sent: bool = False
    """PROBE: the one message is on its way."""
    answered_round: int = 0
    """The last heartbeat round of this term that the follower has answered."""
    round_trip_s: float = 0.0
    """From a round's leaving to this follower's answer, as lately measured; 0: not yet."""
    newest_round_trip_s: float = 0.0
    """Likewise, of the round that it has answered last."""
    promised_until_s: float = float("-inf")
    """Until then the follower lets nobody else lead, by the leader's clock."""
    sent_commit_index: LogIndex = 0
    """The commit index that this follower was last told."""
    match_at_heartbeat: LogIndex = -1
    """match_index when a heartbeat last saw it, or asked: no progress since means something may be
    lost."""
    quiet_since_s: float = float("-inf")
    """Since when it is `match_at_heartbeat`, or when it was asked about what is missing."""
    quiet_patience_s: float = 0.0
    """After so long without progress it is asked (again)."""
    snapshot: SnapshotMeta | None = None
    """SNAPSHOT: which one is being sent."""
    snapshot_offset: int = 0
    """SNAPSHOT: bytes of it that the follower is known to hold."""
    disk: Incarnation = 0
    """The disk that the configuration names: only what comes from it counts."""
    foreign_disk: Incarnation = 0
    """Another disk that was seen under this follower's id since, and is not fed; 0: none."""
    matched_round: int = 0
    """The heartbeat round in which `match_index` was last heard to rise."""
    lost_index: LogIndex = 0
    """It has lost entries up to here that it had acknowledged: until it holds them again it counts
    for nothing. 0: it has lost none."""
    chunk_asked_s: float | None = None
    """SNAPSHOT: when the chunk at `snapshot_offset` was asked for last; None: not yet."""
    chunks_unanswered: int = 0
    """SNAPSHOT: how often a chunk was asked for in vain, since one was answered at once."""
    sent_checksum: tuple[int, int] = (0, 0)
    """SNAPSHOT: of the first so many bytes that were sent, in one go from the start: this."""
    moved_s: float = float("-inf")
    """SNAPSHOT: when it was begun, or when the follower has last stored more of it."""
    chunk_is_repeated: bool = False
    """SNAPSHOT: the chunk at `snapshot_offset` was asked for more than once, so its answer does not
    tell how long answers take."""
    is_cut_off: bool = False
    """SNAPSHOT: its connection closed, and it was not heard since: no chunk would reach it."""
    _inflight: deque[tuple[LogIndex, int, float]] = attrs.field(factory=deque)
    """(last index, bytes, when it left) of each AppendEntries on its way."""
    _inflight_bytes: int = 0

    def has_room(self, limits: Limits) -> bool:
        """Whether one more AppendEntries may leave now."""
        if self.state is not ProgressState.REPLICATE:
            return self.state is ProgressState.PROBE and not self.probe_sent
        return (
            len(self._inflight) < limits.inflight_messages_max
            and self._inflight_bytes < self.window.size_bytes
        )

    def on_sent(self, last_index: LogIndex, size_bytes: int, now: float) -> None:
        """An AppendEntries with entries up to `last_index` was built."""
        if self.state is ProgressState.PROBE:
            self.probe_sent = True
        else:
            self.next_index = last_index + 1
        self._inflight.append((last_index, size_bytes, now))
        self._inflight_bytes += size_bytes

    def on_matched(self, match_index: LogIndex, now: float) -> bool:
        """The follower holds everything up to `match_index`. True if that is news."""
        if (self.state is ProgressState.PROBE and match_index >= self.match_index) or (
            self.snapshot is not None and match_index >= self.snapshot.index
        ):
            self._replicate_after(match_index)
        advanced = match_index > self.match_index
        if advanced:
            self.match_index = match_index
        self.next_index = max(self.next_index, self.match_index + 1)
        if self._inflight and self._inflight[0][0] <= self.match_index:
            self._arrived(now)
        return advanced

    def _replicate_after(self, match_index: LogIndex) -> None:
        """The logs agree up to here. A heartbeat's answer may say so before the entries that follow
        have arrived: what takes the line long is not sent again. (What is small was rather lost.)
        """
        follows = self.state is ProgressState.PROBE and match_index >= self.next_index - 1
        is_large = self._inflight_bytes > LEAST_BYTES
        under_way = tuple(self._inflight) if follows and is_large else ()
        self._become(ProgressState.REPLICATE)
        self.next_index = match_index + 1
        for last_index, size_bytes, left_s in under_way:
            self.on_sent(last_index, size_bytes, left_s)

    def _arrived(self, now: float) -> None:
        used_bytes, answered_bytes, left_s = self._inflight_bytes, 0, now
        while self._inflight and self._inflight[0][0] <= self.match_index:
            _, size_bytes, left_s = self._inflight.popleft()
            answered_bytes += size_bytes
        self._inflight_bytes -= answered_bytes
        self.window.on_answered(now - left_s, used_bytes, answered_bytes)

    def must_ask(self, now: float, patience_s: float, patience_max_s: float) -> bool:
        """Whether what is on its way may be lost: call it with each regular heartbeat. Then the
        follower is asked what it holds, less often each time.

        Args:
            now: the time.
            patience_s: how long an answer may take at first.
            patience_max_s: and at last.
        """
        if self.match_index != self.match_at_heartbeat or self.next_index == self.match_index + 1:
            self.match_at_heartbeat = self.match_index
            self.quiet_since_s, self.quiet_patience_s = now, patience_s
            return False
        left_s = self._inflight[0][2] if self._inflight else self.quiet_since_s
        if now - left_s < patience_s or now - self.quiet_since_s < self.quiet_patience_s:
            return False
        self.quiet_since_s = now
        self.quiet_patience_s = min(2 * self.quiet_patience_s, patience_max_s)
        return True

    def is_stale_rejection(self, rejected_index: LogIndex) -> bool:
        """Whether a rejection answers a question that is no longer open (hazard A6)."""
        if rejected_index <= self.match_index or self.state is ProgressState.SNAPSHOT:
            return True
        if self.state is ProgressState.PROBE:
            return rejected_index != self.next_index - 1
        return rejected_index >= self.next_index

    def on_rejected(self, next_index: LogIndex) -> None:
        """The logs do not agree where we thought: look earlier, one message at a time."""
        self._become(ProgressState.PROBE)
        self.next_index = max(next_index, self.match_index + 1)

    def proves_loss(self, rejected_index: LogIndex, answered_round: int) -> bool:
        """Whether this rejection shows that acknowledged entries are gone: it answers a message
        that left after they were acknowledged, and asked for no more than that."""
        return rejected_index <= self.match_index and answered_round > self.matched_round

    def on_lost(self, next_index: LogIndex) -> None:
        """What it had acknowledged is gone: begin again, and do not count it meanwhile."""
        self.lost_index = max(self.lost_index, self.match_index)
        self.match_index = 0
        self.on_rejected(next_index)

    @property
    def counted_index(self) -> LogIndex:
        """How far it counts towards a commit."""
        return self.match_index if self.match_index >= self.lost_index else 0

    def on_behind(self, snapshot: SnapshotMeta, now: float) -> None:
        """The follower lacks what is compacted away: send it this snapshot, once it is heard if it
        is cut off."""
        is_cut_off = self.is_cut_off
        self._become(ProgressState.SNAPSHOT)
        self.is_cut_off = is_cut_off
        self.snapshot = snapshot
        self.next_index = snapshot.index + 1
        self.moved_s = now

    def is_as_stored(self, offset: int, data: bytes) -> bool:
        """Call it with each chunk before it is sent. False: all of the snapshot is read by now, and
        it is not what its checksum says. (Where a transfer goes on that another leader has begun,
        only the next pass can tell.)"""
        checked_bytes, checksum = self.sent_checksum
        if offset == 0:
            checked_bytes, checksum = 0, 0
        if offset == checked_bytes:
            checked_bytes, checksum = offset + len(data), zlib.crc32(data, checksum)
            self.sent_checksum = checked_bytes, checksum
        meta = self.snapshot
        return meta is None or checked_bytes < meta.size_bytes or checksum == meta.checksum

    def on_damaged(self, now: float) -> None:
        """All of it came damaged: again, from the start, and less soon each time."""
        self.snapshot_offset = 0
        self.chunk_asked_s = now
        self.chunks_unanswered += 1

    def wants_chunk(self, now: float, patience_s: float) -> bool:
        """Whether the chunk at `snapshot_offset` should be sent (again) now.

        Args:
            now: the time.
            patience_s: how long an answer may take at least.
        """
        if self.state is not ProgressState.SNAPSHOT or self.is_cut_off:
            return False
        if self.chunk_asked_s is None:
            return True
        patience_s = max(patience_s, ANSWERS_PER_CHUNK * self.window.answer_s)
        doublings = min(self.chunks_unanswered, ASKED_AGAIN_DOUBLINGS_MAX)
        return now - self.chunk_asked_s >= patience_s * (1 << doublings)

    def on_chunk_asked(self, now: float) -> None:
        """The chunk at `snapshot_offset` is about to be sent."""
        self.chunk_is_repeated = self.chunk_asked_s is not None
        self.chunks_unanswered += self.chunk_is_repeated
        self.chunk_asked_s = now

    def on_chunk_stored(self, snapshot: SnapshotMeta, next_offset: int, now: float) -> None:
        """The follower holds this much of the snapshot; a reply about another one is stale, and one
        about what it was known to hold says nothing new."""
        if self.snapshot != snapshot or next_offset == self.snapshot_offset:
            return
        answered_bytes = next_offset - self.snapshot_offset
        if self.chunk_asked_s is not None and not self.chunk_is_repeated and answered_bytes > 0:
            self.window.on_answered(now - self.chunk_asked_s, answered_bytes, answered_bytes)
            self.chunks_unanswered = 0
        if answered_bytes > 0:
            self.moved_s = now
        self.snapshot_offset = next_offset
        self.chunk_asked_s = None
        self.chunk_is_repeated = False

    def on_contact(self, now: float) -> None:
        """It has answered."""
        self.last_contact_s = now
        if self.is_cut_off:
            self.is_cut_off = False
            self.chunk_asked_s = None

    def on_link_lost(self) -> None:
        """What was on its way is lost: start again after the last known match. A snapshot goes on
        where it was, as soon as the follower is heard again (hazard P3)."""
        if self.state is ProgressState.SNAPSHOT:
            self.is_cut_off = True
            return
        self._become(ProgressState.PROBE)
        self.next_index = self.match_index + 1

    def _become(self, state: ProgressState) -> None:
        self.state = state
        self.probe_sent = False
        self.snapshot = None
        self.snapshot_offset = 0
        self.chunk_asked_s = None
        self.chunks_unanswered = 0
        self.chunk_is_repeated = False
        self.is_cut_off = False
        self.sent_checksum = (0, 0)
        self._inflight.clear()
        self._inflight_bytes = 0
