"""The apply queue: committed entries into the state machine, snapshots out of it and into it.

* Entries are applied in order, a slice at a time, so that a slow state machine does not keep timers
  and heartbeats waiting. A snapshot is taken and restored between two entries (hazard S1).
* An exception out of `apply` that every replica raises alike is the command's result. One that
  may be this machine's alone ends the node before the entry counts as applied: `ApplyFailed`. One
  out of `snapshot` or `restore`, and an `InvariantViolation` wherever it comes from, end it as
  they are.
* Each command runs in a context of its own, empty at first: what somebody around the node has put
  into context variables (the precision of `decimal`, say) decides nothing (hazard E1).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import Any, Final, Protocol, TypeAlias, final

from ..core.agreement import POINTS_EVERY
from ..core.config import Limits
from ..core.errors import ApplyFailed, InvariantViolation, ResourceExhausted
from ..core.features import check_intact, command_of
from ..core.log import RaftLog
from ..core.types import Entry, EntryKind, LogIndex, SnapshotMeta
from .outcomes import Outcomes
from .results import PLAIN, RunningChecksum
from .state_machine import StateMachine, chained, is_result

CAUSE_CHARS_MAX = 500
"""What is told of the message of an exception that ends the node."""

SLICE_ENTRIES = 512
"""Entries that are applied in one go; between two slices everything else has its turn."""

RETRY_PARTS: Final = 8
"""Into so many parts is divided what is applied between two snapshots; after each of them one that
lacked descriptors is tried again."""

_COMMAND = int(EntryKind.COMMAND)  # comparing with an enum costs more than a trivial command
Work: TypeAlias = tuple[Entry, ...] | SnapshotMeta
Applies: TypeAlias = Callable[[LogIndex, bytes], Any]


class WantsSnapshot(Protocol):
    """Somebody who wants a snapshot of at least this index."""

    wanted_index: LogIndex

    def resolve(self, index: LogIndex) -> None:
        """A durable snapshot stands here."""

    def fail(self, error: ResourceExhausted | None) -> None:
        """None could be written; None: the member died."""


@final
class ApplyQueue:
    """What waits to be applied, the machine, and when it is time for a snapshot of it.

    Args:
        machine: what commands are applied to.
        outcomes: of proposals.
        limits: when a snapshot is due.
        checksum: of all results.
        phase: by which part of the time between two snapshots this member takes its own sooner
            than the first of the members.
    """

    def __init__(
        self,
        machine: StateMachine,
        outcomes: Outcomes,
        limits: Limits,
        checksum: RunningChecksum,
        phase: float = 0.0,
    ) -> None:
        self.checksum: Final = checksum
        """Of all results."""
        self.applied_index: LogIndex = 0
        self.snapshot_index: LogIndex = 0
        """Of the newest snapshot that is durable here."""
        self.is_busy = False
        """Whether the runner was asked to apply, and has not come to the end."""
        self.around: Callable[[Applies], Applies] | None = None
        """Puts something around the state machine's `apply`, for whoever traces what is applied;
        it must change nothing."""
        self.is_saving: bool = False
        """Whether a snapshot is being written."""
        self.is_distrusted: bool = False
        self.is_pressed: bool = False  # the log is too long
        """Whether the newest one is damaged."""
        self.has_failed: bool = False
        """A command ended half-way: the state is nobody's, and is neither saved nor applied to."""
        self._machine = machine
        self._outcomes = outcomes
        self._limits = limits
        self.queue: Final[deque[Work]] = deque()
        """What waits, in its order."""
        self._phase = phase
        self._entries_since, self._bytes_since = self._counted_at(0)
        self._wanted: list[WantsSnapshot] = []

    @property
    def head(self) -> Work | None:
        """What comes next. Of several snapshots that wait the last one counts, with what comes
        after
        it: older ones may be gone already."""
        queue = self.queue
        if len(queue) == 1:
            return queue[0]
        snapshots = (i for i, work in enumerate(queue) if isinstance(work, SnapshotMeta))
        for _ in range(max(snapshots, default=0)):
            queue.popleft()
        return queue[0] if queue else None

    def put(self, entries: tuple[Entry, ...]) -> None:
        """Entries that are committed, and durable here."""
        if len(entries) <= SLICE_ENTRIES:
            self.queue.append(entries)
            return
        for start in range(0, len(entries), SLICE_ENTRIES):
            self.queue.append(entries[start : start + SLICE_ENTRIES])

    def put_snapshot(self, meta: SnapshotMeta) -> None:
        """The stored log stands at this snapshot: the state machine is to be brought there."""
        self.queue.append(meta)

    def apply(self) -> LogIndex:
        """Apply the slice of entries at the head. Returns the last index.

        Raises:
            ApplyFailed: an entry could not be applied on this machine; nothing after it was.
            EntryAltered: an entry is not what its leader took; nothing from it on was applied.
            InvariantViolation: a bug.
        """
        if self.has_failed:
            raise InvariantViolation("a command ended half-way, and another is to be applied")
        entries = self.queue.popleft()
        if isinstance(entries, SnapshotMeta) or entries[0].index != self.applied_index + 1:
            raise InvariantViolation(
                f"{entries if isinstance(entries, SnapshotMeta) else entries[0]} is to be applied "
                f"after entry {self.applied_index}"
            )
        apply, outcomes = self._applies(), self._outcomes
        checksum = self.checksum
        plain = checksum.plain  # most results go there from here: a call for each is not nothing
        take, settle, deposed = outcomes.waiting.pop, outcomes.settle, outcomes.deposed
        kept = outcomes.kept
        for entry in entries:
            index, data = entry.index, entry.data
            if entry.kind != _COMMAND:
                check_intact(entry)
                command = command_of(entry)
                if command is None:
                    outcomes.passed(entry)
                    if not index % POINTS_EVERY:
                        checksum.point(index)
                    continue
                data = command
            value: Any = None
            failure: Exception | None = None
            try:
                value = Context().run(apply, index, data)
            except BaseException as error:  # noqa: BLE001 - judged: a result, or the end
                failure = self._judged(entry, error)
            if failure is not None:
                checksum.add_error(index, failure)
            elif type(value) in PLAIN:
                plain += (index, value)
            else:
                checksum.add(index, value)
            if not index % POINTS_EVERY:
                checksum.point(index)
            self._bytes_since += len(data)
            proposed = take(index, None)
            if deposed:
                proposed = outcomes.take_deposed(entry) or proposed
            if proposed is not None:
                settle(proposed, entry, value, failure)
            elif kept is not None:
                kept[index] = (entry.term, value, failure)
        failure = proposed = None  # an error refers to the frames above it, this one too
        if kept is not None:
            outcomes.forget_oldest()
        self._entries_since += len(entries)
        self.applied_index = entries[-1].index
        return self.applied_index

    def _applies(self) -> Applies:
        """The state machine's `apply`, with what is around it."""
        apply = self._machine.apply
        return apply if self.around is None else self.around(apply)

    def _judged(self, entry: Entry, error: BaseException) -> Exception:
        """The error as the command's result; otherwise it ends the node (hazard E1)."""
        if isinstance(error, Exception) and is_result(self._machine, error):
            # Where it was raised is the machine's; our frame would keep what is applied with it.
            here = error.__traceback__
            return error.with_traceback(None if here is None else here.tb_next)
        self.has_failed = True
        if isinstance(error, InvariantViolation):
            raise error
        try:
            message = str(error)[:CAUSE_CHARS_MAX]
        except Exception:  # noqa: BLE001 - an exception's own code; its type is enough
            message = ""
        cause = f"{type(error).__name__}: {message}".rstrip(": ")
        raise ApplyFailed(entry.index, entry.term, len(entry.data), cause) from error

    def restored(self, meta: SnapshotMeta) -> None:
        """The state machine stands where this snapshot does."""
        if self.queue and self.queue[0] is meta:
            self.queue.popleft()
        self.applied_index = self.snapshot_index = meta.index
        self._entries_since, self._bytes_since = self._counted_at(meta.index)
        self._outcomes.covered(meta)
        self._tell_wanted()

    def resumed(self, log: RaftLog) -> None:
        """The state machine is in memory since an earlier life, and further than the newest
        snapshot: until the next one it is as far as if all had been applied again."""
        if log.applied_index <= self.applied_index:
            return
        first = max(self.snapshot_index, log.base_index) + 1
        self._entries_since = log.applied_index - first + 1
        self._bytes_since = log.size_bytes(first, log.applied_index)
        self.applied_index = log.applied_index

    # -- snapshots of our own --------------------------------------------------------------

    def _counted_at(self, index: LogIndex) -> tuple[int, int]:
        """What counts as applied since the last snapshot, in entries and in bytes, where a member
        begins at this index: one that takes its snapshots at other indexes than the others takes
        its first one the sooner, and none the later."""
        every = self._limits.snapshot_entries
        entries = (index + int(self._phase * every)) % every
        return entries, entries * self._limits.snapshot_bytes // every

    def should_save(self) -> bool:
        """Whether it is time for a snapshot."""
        is_restoring = bool(self.queue) and isinstance(self.queue[0], SnapshotMeta)
        if self.is_saving or is_restoring or self.applied_index <= self.snapshot_index:
            return False
        if self.has_failed:
            return False
        limits = self._limits
        return (
            self.is_distrusted
            or self.is_pressed
            or bool(self._wanted)
            or self._entries_since >= limits.snapshot_entries
            or self._bytes_since >= limits.snapshot_bytes
        )

    def begin_save(self) -> Iterable[bytes]:
        """A view of the state as it is now; entries go on being applied while it is written."""
        self.is_saving, self.is_pressed = True, False
        self._entries_since = self._bytes_since = 0
        head = self.checksum.head()
        return chained(head, self._machine.snapshot())

    def saved(self, index: LogIndex) -> None:
        """The view is durable."""
        self.is_saving = False
        if index > self.snapshot_index:
            self.is_distrusted = False
        self.snapshot_index = max(self.snapshot_index, index)
        self._tell_wanted()

    def unsaved(self, error: ResourceExhausted) -> None:
        """There was no room for it: another is tried when as much again was applied. Descriptors
        and threads come back sooner than room does, and the log grows meanwhile: then it is a
        fraction of that (hazard G5)."""
        self.is_saving = False
        if error.lacking is not None:
            limits = self._limits
            self._entries_since += limits.snapshot_entries - limits.snapshot_entries // RETRY_PARTS
            self._bytes_since += limits.snapshot_bytes - limits.snapshot_bytes // RETRY_PARTS
        wanted, self._wanted = self._wanted, []
        for each in wanted:
            each.fail(error)

    @property
    def is_wanted(self) -> bool:
        """Whether anybody waits for a snapshot."""
        return bool(self._wanted)

    def want_snapshot(self, wanted: WantsSnapshot) -> None:
        """Take a snapshot of at least what is applied now, whatever the thresholds say."""
        wanted.wanted_index = self.applied_index
        self._wanted.append(wanted)
        self._tell_wanted()

    def forget_wanted(self, wanted: WantsSnapshot) -> None:
        """Nobody waits for it any more."""
        if wanted in self._wanted:
            self._wanted.remove(wanted)

    def member_died(self) -> None:
        """No snapshot will ever be taken."""
        wanted, self._wanted = self._wanted, []
        for each in wanted:
            each.fail(None)

    def _tell_wanted(self) -> None:
        satisfied = [each for each in self._wanted if each.wanted_index <= self.snapshot_index]
        if satisfied:
            self._wanted = [each for each in self._wanted if each not in satisfied]
            for each in satisfied:
                each.resolve(self.snapshot_index)
