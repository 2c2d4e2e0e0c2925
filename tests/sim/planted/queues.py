"""Members that go wrong between a sound core and the world: writes, applying, outcomes, reads.

Rules of this file: each breaks one rule of a queue of the member and leaves the rest alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trioraft.core.errors import ProposalDropped
from trioraft.core.raft import Raft
from trioraft.core.reads import ConfirmedRead
from trioraft.core.ready import Ready, join_writes
from trioraft.core.types import Entry, LogIndex, SnapshotMeta
from trioraft.member.actions import StorageStep
from trioraft.member.apply_queue import ApplyQueue
from trioraft.member.outcomes import Outcomes, Proposed
from trioraft.member.reads import Reads
from trioraft.member.write_queue import WriteQueue

from .bug import patched

END_GROUP = WriteQueue.end_group
STEP_DONE = WriteQueue.step_done
BEGIN_SAVE = ApplyQueue.begin_save
CONFIRMED = Reads.confirmed
RESTORED = ApplyQueue.restored
SETTLE = Outcomes.settle
LAST: list[Any] = []
"""The result of the last command."""


def promises_what_waits(writes: WriteQueue) -> list[Ready]:
    """Hazard D1: with a write that is durable, the promises of those behind it leave too."""
    behind = list(writes.waiting)
    return END_GROUP(writes) + behind


def writes_the_last_first(writes: WriteQueue, ready: Ready) -> None:
    """Hazard D2: what comes last is written first."""
    writes.waiting.insert(0, ready)


def forgets_the_rest_of_a_group(writes: WriteQueue) -> StorageStep:
    """Hazard D1: of a snapshot and the entries after it only the first is stored."""
    done = STEP_DONE(writes)
    writes.steps.clear()
    return done


def joins_across_a_snapshot(writes: WriteQueue) -> bool:
    """Hazard S1: what is to be installed is lost among the writes that it waits with."""
    group, writes.waiting = writes.waiting, []
    write = join_writes(group)
    writes.group = group
    if write is not None:
        writes.steps.append(write)
    return bool(group)


def saves_a_view_that_moves(applies: ApplyQueue) -> Iterable[bytes]:
    """Hazard S1: a snapshot is written from the state as it is by then."""
    BEGIN_SAVE(applies)

    def later() -> Iterable[bytes]:
        content = applies._machine.snapshot()
        yield content if isinstance(content, bytes) else b"".join(content)

    return later()


def gives_what_the_one_before_got(
    outcomes: Outcomes, proposed: Proposed, entry: Entry, value: Any, error: Exception | None
) -> None:
    """Hazard X3: a proposal gets the result of the command before it."""
    before, LAST[:] = list(LAST), [value]
    SETTLE(outcomes, proposed, entry, before[0] if before else value, error)


def forgets_what_waits_behind_a_snapshot(applies: ApplyQueue, meta: SnapshotMeta) -> None:
    """Hazard S1: with a snapshot that is restored, the entries that wait behind it are gone."""
    RESTORED(applies, meta)
    applies.queue.clear()


def tells_nobody_of_lost_leadership(
    outcomes: Outcomes, commit_index: LogIndex, deadline_s: float
) -> None:
    """Hazard X3: whoever proposed to a leader that is one no more waits on."""


def calls_the_unknown_dropped(
    outcomes: Outcomes, commit_index: LogIndex, deadline_s: float
) -> None:
    """Hazard X3: with its leadership a node takes its entries for gone."""
    for index in [waiting for waiting in outcomes.waiting if waiting > commit_index]:
        outcomes.waiting.pop(index).fail(ProposalDropped("leadership is lost"))


def calls_the_unknown_applied(
    outcomes: Outcomes, commit_index: LogIndex, deadline_s: float
) -> None:
    """Hazard X3: with its leadership a node takes its entries for applied."""
    for index in [waiting for waiting in outcomes.waiting if waiting > commit_index]:
        outcomes.waiting.pop(index).resolve(0)


def reads_without_a_round(reads: Reads, raft: Raft, now: float) -> None:
    """Hazard R1: whatever is committed here must do."""
    new = list(reads.new.values())
    reads.new.clear()
    for batch in new:
        batch.number = raft.read(now, lease=batch.lease)
        reads._asked[batch.number] = batch
        read = ConfirmedRead(batch.number, raft.log.commit_index)
        reads.confirmed(read, raft.log.applied_index)


def reads_before_it_has_applied(reads: Reads, read: ConfirmedRead, applied_index: LogIndex) -> None:
    """Hazard R1: a read that is confirmed is answered, whatever is applied here."""
    CONFIRMED(reads, read, max(applied_index, read.index))


BUGS = (
    patched("D1", WriteQueue, "end_group", promises_what_waits),
    patched("D2", WriteQueue, "put", writes_the_last_first),
    patched("D1", WriteQueue, "step_done", forgets_the_rest_of_a_group),
    patched("S1", WriteQueue, "begin_group", joins_across_a_snapshot),
    patched("S1", ApplyQueue, "begin_save", saves_a_view_that_moves),
    patched("S1", ApplyQueue, "restored", forgets_what_waits_behind_a_snapshot),
    patched("X3", Outcomes, "settle", gives_what_the_one_before_got),
    patched("X3", Outcomes, "leadership_lost", tells_nobody_of_lost_leadership),
    patched("X3", Outcomes, "leadership_lost", calls_the_unknown_dropped),
    patched("X3", Outcomes, "leadership_lost", calls_the_unknown_applied),
    patched("R1", Reads, "ask", reads_without_a_round),
    patched("R1", Reads, "confirmed", reads_before_it_has_applied),
)
