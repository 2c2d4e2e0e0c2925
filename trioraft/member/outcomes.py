"""Outcomes: what becomes of each command that was proposed here.

Every proposal gets exactly one: a result, the command's own exception, `ProposalDropped` (another
entry took its place) or `OutcomeUnknown`. Nobody waits for ever (hazards X3, X4).
"""

from __future__ import annotations

from typing import Any, Protocol, final

from ..core.errors import OutcomeUnknown, ProposalDropped
from ..core.types import Entry, LogIndex, Term


class Proposed(Protocol):
    """A command on its way, as whoever waits for it holds it."""

    index: LogIndex
    """Where in the log it stands, if it stays there."""
    term: Term
    """The term in which it was proposed."""

    def resolve(self, value: Any) -> None:
        """It was applied, with this result."""

    def reject(self, error: Exception) -> None:
        """It was applied, and raised this."""

    def fail(self, error: Exception) -> None:
        """It was not applied here, and never will be."""


@final
class Outcomes:
    """The proposals of one member that wait for theirs."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting: dict[LogIndex, Proposed] = {}
        """By the index at which each stands in the log, if it stays there."""

    def settle(self, proposed: Proposed, entry: Entry, value: Any, error: Exception | None) -> None:
        """This entry, at the proposal's index, was applied with a result or an exception."""
        if proposed.term != entry.term:
            proposed.fail(_dropped(proposed, entry.term))
        elif error is None:
            proposed.resolve(value)
        else:
            proposed.reject(error)

    def passed(self, entry: Entry) -> None:
        """An entry of the protocol's own was committed where a command may have stood."""
        proposed = self.waiting.pop(entry.index, None)
        if proposed is not None:
            proposed.fail(_dropped(proposed, entry.term))

    def covered(self, index: LogIndex) -> None:
        """A snapshot took the place of the entries up to `index`: their results are not known
        here, though they may well be applied."""
        for covered in [waiting for waiting in self.waiting if waiting <= index]:
            self.waiting.pop(covered).fail(
                OutcomeUnknown(
                    f"entry {covered} is covered by a snapshot from the leader: whether it is "
                    "your command is not known here; ask the state machine"
                )
            )

    def leadership_lost(self, commit_index: LogIndex) -> None:
        """What is committed will be applied here, whoever leads; of the rest nothing is known."""
        for index in [waiting for waiting in self.waiting if waiting > commit_index]:
            proposed = self.waiting.pop(index)
            proposed.fail(
                OutcomeUnknown(
                    f"leadership of term {proposed.term} was lost before entry {index} was "
                    "committed: it may or may not be applied; ask the new leader"
                )
            )

    def member_died(self) -> None:
        """Nobody here will ever know more."""
        lost = list(self.waiting.values())
        self.waiting.clear()  # the very object: a slice may be in the middle of being applied
        for proposed in lost:
            proposed.fail(
                OutcomeUnknown(
                    f"the node died while entry {proposed.index} was on its way: it may or may "
                    "not be applied; ask another node"
                )
            )


def _dropped(proposed: Proposed, term: Term) -> ProposalDropped:
    return ProposalDropped(
        f"entry {proposed.index} of term {proposed.term} was replaced by one of term {term}: the "
        "command is certainly not applied; propose it again"
    )
