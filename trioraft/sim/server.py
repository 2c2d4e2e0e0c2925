"""Server: what a process owes its clients: the results of commands, and reads.

Rules of this file:

* A result goes to whoever proposed the very entry that was applied: the same index of another term
  is somebody else's.
* A read is answered once the state machine stands at the index that the core confirmed for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs

from ..core.errors import NotLeader, ProposalDropped
from ..core.raft import Raft
from ..core.ready import Ready
from ..core.types import Entry, LogIndex, NodeId, Term
from .applier import Applier
from .checks import Checks

READS_MAX: Final = 32
"""Reads that wait for their confirmation; beyond it the oldest are forgotten."""


@attrs.frozen
class Request:
    """What a client asks of a node."""

    operation: int
    """The client's operation that it is for; an answer to another is stale."""
    command: bytes | None
    """To propose; None: a read by barrier."""
    key: int = 0
    lease: bool = False
    reply: Callable[[Request, Reply], None] = attrs.field(eq=False, repr=False, kw_only=True)


@attrs.frozen
class Reply:
    """What it gets back."""

    result: Any = None
    """What the state machine returned; an error of the session, if there was one."""
    is_refused: bool = False
    """The node does not lead, or takes nothing now: ask another."""
    leader_id: NodeId | None = None
    """Refused: who leads, as far as this node knows."""


@attrs.define(eq=False)
class _Read:
    request: Request
    committed_when_asked: LogIndex
    index: LogIndex | None = None


class Server:
    """The clients of one life of a process."""

    def __init__(self, node_id: NodeId, checks: Checks) -> None:
        self._node_id = node_id
        self._checks = checks
        self._proposed: dict[LogIndex, tuple[Term, Request]] = {}
        self._reads: dict[int, _Read] = {}

    def take(self, request: Request, core: Raft, now: float) -> None:
        """A client asks."""
        if request.command is None:
            committed = self._checks.commit_index
            number = core.read(now, lease=request.lease)
            self._reads[number] = _Read(request, committed)
            if len(self._reads) > READS_MAX:
                oldest = next(iter(self._reads))
                del self._reads[oldest]
                core.forget_read(oldest)
            return
        try:
            index = core.propose(request.command, now)
        except NotLeader as error:
            request.reply(request, Reply(is_refused=True, leader_id=error.leader_id))
        except ProposalDropped:
            request.reply(request, Reply(is_refused=True))
        else:
            self._proposed[index] = (core.term, request)

    def on_ready(self, ready: Ready, applier: Applier) -> None:
        """Reads may have been confirmed."""
        for confirmed in ready.reads:
            read = self._reads.get(confirmed.number)
            if read is not None:
                self._checks.on_read(self._node_id, confirmed.index, read.committed_when_asked)
                read.index = confirmed.index
        if ready.reads:
            self.on_applied(applier)

    def on_applied(self, applier: Applier) -> None:
        """The state machine has moved: reads may be answered."""
        if not self._reads:
            return
        index, registers = applier.applied_index, applier.machine.registers
        done = [n for n, r in self._reads.items() if r.index is not None and r.index <= index]
        for number in done:
            request = self._reads.pop(number).request
            request.reply(request, Reply(registers.get(request.key)))

    def on_result(self, entry: Entry, result: Any) -> None:
        """An entry was applied."""
        term, request = self._proposed.pop(entry.index, (None, None))
        if request is not None and term == entry.term:
            request.reply(request, Reply(result))
