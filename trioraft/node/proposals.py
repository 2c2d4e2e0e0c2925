"""Proposals: commands on their way, and who waits for them.

Rules of this file:

* Every proposal gets exactly one outcome: a result, the command's own exception,
  `ProposalDropped` (another entry took its place) or `OutcomeUnknown`. Nobody waits for ever.
* What is committed will be applied here, whoever leads: losing leadership tells only those whose
  entries are not committed yet (hazards X3, X4).
* A proposal's room is given back with its outcome.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import trio

from ..core.errors import OutcomeUnknown, Overloaded, ProposalDropped
from ..core.types import Entry, LogIndex, Term
from ..tasks.byte_budget import ByteBudget


@final
class Proposal:
    """A command that is in the leader's log. Its `index` is known, its outcome comes later."""

    __slots__ = (
        "_done",
        "_error",
        "_event",
        "_value",
        "_waiter",
        "index",
        "size_bytes",
        "term",
        "was_applied",
    )

    def __init__(self, index: LogIndex, term: Term, size_bytes: int) -> None:
        self.index = index
        """Where in the log it stands, if it stays there."""
        self.term = term
        """The term in which it was proposed."""
        self.size_bytes = size_bytes
        self.was_applied = False
        """Whether the command is applied here: an error as its outcome is the machine's then."""
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._waiter: trio.lowlevel.Task | None = None  # the common case: just one
        self._event: trio.Event | None = None  # further ones

    @property
    def is_done(self) -> bool:
        """Whether the outcome is known."""
        return self._done

    async def result(self) -> Any:
        """Wait for the outcome. It can be asked for again, by any number of tasks.

        Returns:
            What the state machine's `apply` returned.

        Raises:
            ProposalDropped: certainly not in the log.
            OutcomeUnknown: leadership was lost or the node died; it may or may not be applied.
            Exception: whatever `apply` raised for this command.

        Cancelling the wait does not undo the command.
        """
        if self._done:
            await trio.lowlevel.checkpoint_if_cancelled()
        elif self._waiter is None:
            self._waiter = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._give_up)
        else:
            if self._event is None:
                self._event = trio.Event()
            await self._event.wait()
        if self._error is not None:
            raise self._error
        return self._value

    def resolve(self, value: Any) -> None:
        """It was applied, with this result."""
        self._value = value
        self._finish()

    def fail(self, error: BaseException) -> None:
        """It has this error as its outcome."""
        self._error = error
        self._finish()

    def _give_up(self, _: object) -> trio.lowlevel.Abort:
        self._waiter = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _finish(self) -> None:
        self._done = True
        if self._waiter is not None:
            trio.lowlevel.reschedule(self._waiter)
            self._waiter = None
        if self._event is not None:
            self._event.set()


@final
class ProposalTable:
    """The proposals of one node that wait for an outcome."""

    def __init__(self, bytes_max: int) -> None:
        self.room = ByteBudget(bytes_max)
        self._waiting: dict[LogIndex, Proposal] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def take_room(self, size_bytes: int) -> None:
        """Take room for a command of this size, or raise `Overloaded`."""
        if not self.room.take(size_bytes):
            raise Overloaded(
                f"commands that wait to be applied take {self.room.taken_bytes} bytes; with "
                f"{size_bytes} more they would exceed Limits.proposals_bytes_max "
                f"({self.room.bytes_max}): slow down, or await node.propose()"
            )

    def add(self, proposal: Proposal) -> None:
        """A command was appended to the log; its room is taken already."""
        self._waiting[proposal.index] = proposal

    def applied(self, entry: Entry, apply: Callable[[LogIndex, bytes], Any]) -> None:
        """Apply one entry, and tell its proposer, if there is one here."""
        value, failure = None, None
        try:
            value = apply(entry.index, entry.data)
        except Exception as error:  # noqa: BLE001 - it is the command's result, on every node alike
            failure = error
        proposal = self._take(entry.index)
        if proposal is None:
            return
        if proposal.term != entry.term:
            proposal.fail(_dropped(proposal, entry.term))
            return
        proposal.was_applied = True
        if failure is not None:
            proposal.fail(failure)
        else:
            proposal.resolve(value)

    def passed(self, entry: Entry) -> None:
        """An entry of the protocol's own was committed where a command may have stood."""
        proposal = self._take(entry.index)
        if proposal is not None:
            proposal.fail(_dropped(proposal, entry.term))

    def covered(self, index: LogIndex) -> None:
        """A snapshot took the place of the entries up to `index`: their results are not known
        here, though they may well be applied."""
        for covered in [waiting for waiting in self._waiting if waiting <= index]:
            proposal = self._take(covered)
            if proposal is not None:
                proposal.fail(
                    OutcomeUnknown(
                        f"entry {covered} is covered by a snapshot from the leader: whether it is "
                        "your command is not known here; ask the state machine"
                    )
                )

    def leadership_lost(self, commit_index: LogIndex) -> None:
        """Whatever is not committed has an unknown outcome from here on."""
        lost = [index for index in self._waiting if index > commit_index]
        for index in lost:
            proposal = self._take(index)
            if proposal is not None:
                proposal.fail(
                    OutcomeUnknown(
                        f"leadership of term {proposal.term} was lost before entry {index} was "
                        "committed: it may or may not be applied; ask the new leader"
                    )
                )
        self.room.turn_away()  # they are told who leads now

    def node_died(self) -> None:
        """Nobody here will ever know more."""
        for proposal in list(self._waiting.values()):
            self._take(proposal.index)
            proposal.fail(
                OutcomeUnknown(
                    f"the node died while entry {proposal.index} was on its way: it may or may "
                    "not be applied; ask another node"
                )
            )
        self.room.turn_away()

    def _take(self, index: LogIndex) -> Proposal | None:
        proposal = self._waiting.pop(index, None)
        if proposal is not None:
            self.room.give_back(proposal.size_bytes)
        return proposal


def _dropped(proposal: Proposal, term: Term) -> ProposalDropped:
    return ProposalDropped(
        f"entry {proposal.index} of term {proposal.term} was replaced by one of term {term}: the "
        "command is certainly not applied; propose it again"
    )
