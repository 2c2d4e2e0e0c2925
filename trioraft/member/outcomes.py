"""Outcomes: what becomes of each command that was proposed here.

Every proposal gets exactly one: a result, the command's own exception, `ProposalDropped` (another
entry took its place) or `OutcomeUnknown`. Nobody waits for ever (hazards X3, X4). A leader that is
deposed waits, as a follower, for what becomes of its entries: most are committed by the next leader
(hazard E3). So does a member whose leader is deposed, for the commands that it has forwarded to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias, final

from ..core.errors import OutcomeUnknown, ProposalDropped
from ..core.types import Entry, LogIndex, SnapshotMeta, Term, TraceContext

KEPT_MAX: Final = 4096
"""Outcomes that are kept for proposals whose place is not known yet; the oldest goes."""

Kept: TypeAlias = tuple[Term, Any, Exception | None]
"""The term of an entry that was applied, and its result or the exception that it raised."""


class Proposed(Protocol):
    """A command on its way, as whoever waits for it holds it."""

    index: LogIndex
    """Where in the log it stands, if it stays there."""
    term: Term
    """The term in which it was proposed."""
    is_repeatable: bool
    """Whoever proposed it can send it again without harm, and does not want to wait for its
    outcome here once another leads."""

    @property
    def trace(self) -> TraceContext | None:
        """Travels with it to the leader, where somebody traces."""

    def resolve(self, value: Any) -> None:
        """It was applied, with this result."""

    def reject(self, error: Exception) -> None:
        """It was applied, and raised this."""

    def fail(self, error: Exception) -> None:
        """It was not applied here, and never will be."""


@final
class Outcomes:
    """The proposals of one member that wait for theirs."""

    __slots__ = ("deposed", "kept", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[LogIndex, Proposed] = {}
        """By the index at which each stands in the log: of this leadership, or committed."""
        self.deposed: dict[LogIndex, dict[Term, tuple[Proposed, float]]] = {}
        """Those of leaderships that were lost before they were committed, with the time at which
        nobody waits for them any more; the oldest leadership first."""

        self.kept: dict[LogIndex, Kept] | None = None
        """What came of the latest commands that nobody here waited for, while somebody waits to
        hear where his own stands: he may hear it late. None: nobody does."""

    @property
    def deadline_s(self) -> float | None:
        """When `expire` wants to be called; None: nobody waits for that."""
        for by_term in self.deposed.values():
            return next(deadline_s for _, deadline_s in by_term.values())
        return None

    @property
    def are_open(self) -> bool:
        """Whether anybody waits."""
        return bool(self.waiting or self.deposed)

    def settle(self, proposed: Proposed, entry: Entry, value: Any, error: Exception | None) -> None:
        """This entry, at the proposal's index, was applied with a result or an exception."""
        if proposed.term != entry.term:
            proposed.fail(_dropped(proposed, entry.term))
        elif error is None:
            proposed.resolve(value)
        else:
            proposed.reject(error)

    def take_deposed(self, entry: Entry) -> Proposed | None:
        """The proposal of a lost leadership that this very entry is, if there is one. All others
        that were to stand in its place are dropped, of later terms, too."""
        by_term = self.deposed.pop(entry.index, None)
        if by_term is None:
            return None
        found, _ = by_term.pop(entry.term, (None, 0.0))
        for proposed, _ in by_term.values():
            proposed.fail(_dropped(proposed, entry.term))
        return found

    def wait_for(self, proposed: Proposed) -> None:
        """The leader has put this proposal where it says. What an earlier leader had put there
        certainly is not committed: otherwise this one would have it."""
        before = self.waiting.get(proposed.index)
        self.waiting[proposed.index] = proposed
        if before is not None:
            before.fail(_dropped(before, proposed.term))

    def keep(self, *, is_asked: bool) -> None:
        """From here on keep what comes of each command, or do not any more."""
        if not is_asked:
            self.kept = None
        elif self.kept is None:
            self.kept = {}

    def forget_oldest(self) -> None:
        """Keep no more than `KEPT_MAX`."""
        kept = self.kept
        while kept is not None and len(kept) > KEPT_MAX:
            del kept[next(iter(kept))]

    def told_late(self, proposed: Proposed, stands: Term | None) -> None:
        """The place of this proposal became known only now that an entry there is applied.

        Args:
            proposed: which.
            stands: the term of that entry, if it is known.
        """
        term, value, error = (self.kept or {}).get(proposed.index, (stands, None, None))
        if term is not None and term != proposed.term:
            proposed.fail(_dropped(proposed, term))
        elif proposed.index not in (self.kept or {}):
            proposed.fail(
                OutcomeUnknown(
                    f"entry {proposed.index} of term {proposed.term} was applied here before it "
                    "was known to be your command: what it returned is not known any more; ask the "
                    "state machine"
                )
            )
        elif error is None:
            proposed.resolve(value)
        else:
            proposed.reject(error)

    def passed(self, entry: Entry) -> None:
        """An entry of the protocol's own was committed. A term begins with one: what was proposed
        in an earlier term, and would stand here or behind it, will never be committed."""
        proposed = self.waiting.pop(entry.index, None)
        if proposed is not None:
            proposed.fail(_dropped(proposed, entry.term))
        if self.deposed:
            self.take_deposed(entry)
            self._drop_deposed(entry.index, entry.term)

    def _drop_deposed(self, index: LogIndex, term: Term) -> None:
        """An entry with this place is committed: terms only rise along a log."""
        for proposed in self._pop_deposed(
            lambda it, _: (
                (it.index >= index and it.term < term) or (it.index <= index and it.term > term)
            )
        ):
            proposed.fail(_dropped(proposed, term))

    def _pop_deposed(self, is_meant: Callable[[Proposed, float], bool]) -> list[Proposed]:
        """By proposal and deadline."""
        found: list[Proposed] = []
        for index, by_term in [*self.deposed.items()]:
            for term, (proposed, deadline_s) in [*by_term.items()]:
                if is_meant(proposed, deadline_s):
                    found.append(proposed)
                    del by_term[term]
            if not by_term:
                del self.deposed[index]
        return found

    def covered(self, meta: SnapshotMeta) -> None:
        """A snapshot took the place of the entries up to its index: their results are not known
        here, though they may well be applied."""
        self._drop_deposed(meta.index, meta.term)
        covered = [self.waiting.pop(index) for index in [*self.waiting] if index <= meta.index]
        covered += self._pop_deposed(lambda proposed, _: proposed.index <= meta.index)
        for proposed in covered:
            proposed.fail(
                OutcomeUnknown(
                    f"entry {proposed.index} is covered by a snapshot from the leader: whether it "
                    "is your command is not known here; ask the state machine"
                )
            )

    def leadership_lost(self, commit_index: LogIndex, deadline_s: float) -> None:
        """What is committed will be applied here, whoever leads. The rest stays in the log until
        it is committed after all, or replaced; then, or at the deadline, its outcome is told.

        Args:
            commit_index: what is committed.
            deadline_s: how long to wait for that.
        """
        for index in [waiting for waiting in self.waiting if waiting > commit_index]:
            proposed = self.waiting.pop(index)
            if proposed.is_repeatable:
                proposed.fail(_unknown(proposed, "; it may be sent again to the new leader"))
            else:
                self.deposed.setdefault(index, {})[proposed.term] = proposed, deadline_s

    def expire(self, now: float) -> None:
        """Nobody has told in time what became of these."""
        for proposed in self._pop_deposed(lambda _, deadline_s: deadline_s <= now):
            proposed.fail(_unknown(proposed, ", nor has anything in Limits.outcome_wait_s since"))

    def member_died(self) -> None:
        """Nobody here will ever know more."""
        lost = [*self.waiting.values(), *self._pop_deposed(lambda proposed, deadline_s: True)]
        self.waiting.clear()  # the very object: a slice may be in the middle of being applied
        for proposed in lost:
            proposed.fail(
                OutcomeUnknown(
                    f"the node died while entry {proposed.index} was on its way: it may or may "
                    "not be applied; ask another node"
                )
            )


def _unknown(proposed: Proposed, more: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"leadership of term {proposed.term} was lost before entry {proposed.index} was known to "
        f"be committed{more}: it may or may not be applied; ask the new leader"
    )


def _dropped(proposed: Proposed, term: Term) -> ProposalDropped:
    return ProposalDropped(
        f"entry {proposed.index} of term {proposed.term} was replaced by one of term {term}: the "
        "command is certainly not applied; propose it again"
    )
