"""TracedCommands: the commands of one node that somebody traces, and where they are.

Nothing here decides anything: a node does the same whether it is traced or not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, final

from ..core.ready import Write
from ..core.types import LogIndex, NodeId, TraceContext
from ..member.actions import StorageStep
from ..member.member import Member
from ..tracing.optional import Tracer, spans_of
from .proposal import Proposal

if TYPE_CHECKING:
    from ..tracing.spans import CommandSpans, Span, Spans

Applies: TypeAlias = Callable[[LogIndex, bytes], Any]


@final
class TracedCommands:
    """Those that are on their way.

    Args:
        spans: makes their spans.
    """

    def __init__(self, spans: Spans) -> None:
        self.spans = spans
        self.uncommitted: deque[Proposal] = deque()
        """In the log of this leader, in order."""
        self._write: Span | None = None  # the one on its way, if it has any of them

    def begin(self, proposal: Proposal, *, is_forwarded: bool = False) -> None:
        """A command is brought here: it is traced if its caller is.

        Args:
            proposal: the command, not in the log yet.
            is_forwarded: it goes to another node, which leads.
        """
        self._begin(proposal, self.spans.command(is_forwarded=is_forwarded))

    def begin_taken(self, proposal: Proposal, context: TraceContext | None) -> None:
        """A command that another node has forwarded here."""
        if context is not None:
            self._begin(proposal, self.spans.taken(context))

    def _begin(self, proposal: Proposal, spans: CommandSpans | None) -> None:
        proposal.spans = spans
        if spans is not None and spans.is_uncommitted:
            self.uncommitted.append(proposal)

    def refused(self, proposal: Proposal, error: BaseException) -> None:
        """It was not taken."""
        if proposal in self.uncommitted:
            self.uncommitted.remove(proposal)
        if proposal.spans is not None:
            proposal.spans.finished(error)

    def on_write(self, step: StorageStep) -> None:
        """A storage step is about to begin."""
        if not self.uncommitted or not isinstance(step, Write) or not step.entries:
            return
        first, last = step.entries[0].index, step.entries[-1].index
        there = [each.spans for each in self.uncommitted if first <= each.index <= last]
        written = [spans for spans in there if spans is not None and spans.is_uncommitted]
        if written:
            self._write = self.spans.write(written, len(step.entries))

    def on_written(self) -> None:
        """It is done."""
        span, self._write = self._write, None
        if span is not None:
            span.end()

    def on_committed(self, commit_index: LogIndex) -> None:
        """Everything up to there is."""
        uncommitted = self.uncommitted
        while uncommitted and (uncommitted[0].is_done or uncommitted[0].index <= commit_index):
            proposal = uncommitted.popleft()
            if proposal.spans is not None:
                proposal.spans.committed(proposal.index, proposal.term)

    def on_applying(self, member: Member) -> None:
        """A slice of commands is about to be applied."""
        self.on_committed(member.raft.log.commit_index)
        around = member.outcomes.waiting if self.spans.open else None
        member.applies.around = None if around is None else _applying(around)


def _applying(waiting: Mapping[LogIndex, object]) -> Callable[[Applies], Applies]:
    """What puts spans around the state machine's `apply`, for those who wait and are traced."""

    def around(apply: Applies) -> Applies:
        def apply_in_span(index: LogIndex, data: bytes) -> Any:
            proposal = waiting.get(index)
            if not isinstance(proposal, Proposal) or proposal.spans is None:
                return apply(index, data)
            return proposal.spans.apply(apply, index, data)

        return apply_in_span

    return around


def traced_commands(tracer: Tracer | None, node_id: NodeId) -> TracedCommands | None:
    """Those of a node; None: nobody traces."""
    spans = spans_of(tracer, node=node_id)
    return None if spans is None else TracedCommands(spans)
