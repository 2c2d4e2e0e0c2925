"""Answers that are none: an outcome that is not true, told too early, twice, or never.

Rules of this file: each breaks one rule of what a member tells of a command, and that alone.
"""

from __future__ import annotations

import msgspec

from trioraft.core.errors import OutcomeUnknown, ProposalDropped
from trioraft.core.types import Entry, LogIndex, SnapshotMeta
from trioraft.machines.sessions import OpenSession, SessionMachine
from trioraft.member import apply_queue
from trioraft.member.apply_queue import ApplyQueue
from trioraft.member.outcomes import Outcomes, Proposed
from trioraft.member.results import RunningChecksum
from trioraft.member.state_machine import StateMachine

from .bug import patched

OPEN = SessionMachine._open
HEAD = RunningChecksum.head


def gives_up_with_its_leadership(
    outcomes: Outcomes, commit_index: LogIndex, deadline_s: float
) -> None:
    """Hazard E3: with its leadership a node takes the outcome of its entries for unknown."""
    for index in [waiting for waiting in outcomes.waiting if waiting > commit_index]:
        outcomes.waiting.pop(index).fail(OutcomeUnknown("leadership is lost"))


def never_gives_up(outcomes: Outcomes, now: float) -> None:
    """Hazard E3: a deposed leader waits for ever for what becomes of its entries."""


def tells_the_overdue_dropped(outcomes: Outcomes, now: float) -> None:
    """Hazard E3: what nobody has told of in time is taken for dropped."""
    for proposed in outcomes._pop_deposed(lambda _, deadline_s: deadline_s <= now):
        proposed.fail(ProposalDropped("nobody has told of it"))


def looks_at_the_index_alone(outcomes: Outcomes, entry: Entry) -> Proposed | None:
    """Hazard E3: a deposed leader takes whatever is committed at the index of its entry for that
    entry."""
    for proposed, _ in outcomes.deposed.pop(entry.index, {}).values():
        proposed.resolve(0)
    return None


def forgets_the_term(outcomes: Outcomes, index: LogIndex, term: int) -> None:
    """Hazard E3: when the first entry of a term is committed, all that was proposed behind it is
    taken for replaced, in whatever term."""
    for proposed in outcomes._pop_deposed(lambda proposed, _: proposed.index >= index):
        proposed.fail(ProposalDropped("another term has begun"))


def tells_it_again(outcomes: Outcomes, entry: Entry) -> Proposed | None:
    """Hazard E3: what a deposed leader has told is not forgotten, and told once more."""
    found = outcomes.deposed.get(entry.index, {}).get(entry.term)
    return None if found is None else found[0]


def takes_a_snapshot_for_a_drop(outcomes: Outcomes, meta: SnapshotMeta) -> None:
    """Hazard E3: what a snapshot covers is taken for dropped."""
    for index in [index for index in outcomes.waiting if index <= meta.index]:
        outcomes.waiting.pop(index).fail(ProposalDropped("a snapshot covers it"))
    for proposed in outcomes._pop_deposed(lambda proposed, _: proposed.index <= meta.index):
        proposed.fail(ProposalDropped("a snapshot covers it"))


def goes_by_its_own_settings(machine: SessionMachine, index: int, opening: OpenSession) -> int:
    """Hazard E2: the bounds of sessions are those of each node's own settings."""
    own = msgspec.structs.replace(opening, bounds=machine._settings)
    return OPEN(machine, index, own)


def takes_any_error_for_a_result(machine: StateMachine, error: BaseException) -> bool:
    """Hazard E1: whatever a command raises is its result, want of memory too."""
    return True


def skips_what_it_cannot_apply(
    applies: ApplyQueue, entry: Entry, error: BaseException
) -> Exception:
    """Hazard E1: an entry that cannot be applied on this machine counts as applied, and its
    proposer is told that it failed."""
    return ProposalDropped("it could not be applied")


def begins_again_after_a_snapshot(checksum: RunningChecksum) -> bytes:
    """Hazard E4: the running checksum is not in the snapshot, and begins anew after it."""
    return HEAD(RunningChecksum(0, lambda index, value: None))


def keeps_its_own_checksum(checksum: RunningChecksum, restored: int | None) -> None:
    """Hazard E4: the running checksum of a snapshot that is restored is left aside."""


BUGS = (
    patched("E1", apply_queue, "is_result", takes_any_error_for_a_result),
    patched("E1", ApplyQueue, "_judged", skips_what_it_cannot_apply),
    patched("E4", RunningChecksum, "head", begins_again_after_a_snapshot),
    patched("E4", RunningChecksum, "restart", keeps_its_own_checksum),
    patched("E2", SessionMachine, "_open", goes_by_its_own_settings),
    patched("E3", Outcomes, "leadership_lost", gives_up_with_its_leadership),
    patched("E3", Outcomes, "expire", never_gives_up),
    patched("E3", Outcomes, "expire", tells_the_overdue_dropped),
    patched("E3", Outcomes, "take_deposed", looks_at_the_index_alone),
    patched("E3", Outcomes, "_drop_deposed", forgets_the_term),
    patched("E3", Outcomes, "take_deposed", tells_it_again),
    patched("E3", Outcomes, "covered", takes_a_snapshot_for_a_drop),
)
