"""Clients: sessions that ask, wait, and ask again, and what they saw of it.

* A client has one operation open at a time. It asks until it is answered, or the run ends: so an
  operation without an answer may or may not have been carried out, and the history says so.
* Asking again is the same command of the same session: it must be carried out once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, Final

import attrs

from ..core.errors import (
    InvariantViolation,
    NotLeader,
    ProposalDropped,
    RaftError,
    SessionExpired,
)
from ..core.types import LogIndex, NodeId, Term
from ..machines.sessions import CLIENT_ID_BYTES, encode_command, encode_open
from .agenda import Agenda
from .checks import Checks
from .draw import Draw, Kind
from .machine import CAS, GET, PUT, RegisterOperation, encode_operation
from .network import LinkFault
from .outcomes import ClientCall, RunRecording


@attrs.frozen
class Request:
    """What a client asks of a node."""

    operation: int
    """The client's operation that it is for; an answer to another is stale."""
    command: bytes | None
    """To propose; None: a read by barrier."""
    key: int = 0
    lease: bool = False
    forward: bool = False
    """Whether a node that does not lead shall have whoever leads take the command."""
    reply: Callable[[Request, Reply], None] = attrs.field(eq=False, repr=False, kw_only=True)


@attrs.frozen
class Reply:
    """What it gets back."""

    result: Any = None
    """What the state machine returned; an error of the session, if there was one."""
    is_refused: bool = False
    """The node does not lead, takes nothing now, or lost track of it: ask another."""
    leader_id: NodeId | None = None
    """Refused: who leads, as far as this node knows."""


class Asked:
    """A proposal, as the member knows it; its outcome goes to the client, and to the checks."""

    def __init__(
        self, node_id: NodeId, request: Request, checks: Checks, is_early: Callable[[Asked], bool]
    ) -> None:
        self.index: LogIndex = 0
        self.term: Term = 0
        self.is_repeatable = False
        self.trace: None = None
        self._node_id = node_id
        self._request = request
        self._checks = checks
        self._is_early = is_early  # whether nobody can say yet that its outcome is unknown
        self._is_told = False

    def resolve(self, value: Any) -> None:
        """It was applied, with this result."""
        self._settle(was_applied=True)
        self._request.reply(self._request, Reply(value))

    def reject(self, error: Exception) -> None:
        """It was applied, and raised this."""
        self.resolve(error)

    def fail(self, error: Exception) -> None:
        """Dropped, or unknown: the same command of the same session may be sent again."""
        if isinstance(error, ProposalDropped | NotLeader):
            self._checks.on_not_taken(self._request.command)
            if self.index:
                self._settle(was_applied=False)
            else:
                self._tell_once()  # it was refused by whoever leads
        else:
            self._tell_once()
            if self._is_early(self):
                raise InvariantViolation(
                    f"{self._node_id!r} says that the outcome of entry {self.index} of term "
                    f"{self.term} is unknown, and could still learn it (hazard E3): {error}"
                )
        self._request.reply(self._request, Reply(is_refused=True))

    def will_be_forwarded(self) -> None:
        """By a node that does not lead: what is not known there need not be known early."""
        self._is_early = lambda _asked: False

    def _tell_once(self) -> None:
        if self._is_told:
            raise InvariantViolation(
                f"{self._node_id!r} gives entry {self.index} of term {self.term} two outcomes"
            )
        self._is_told = True

    def _settle(self, *, was_applied: bool) -> None:
        self._tell_once()
        self._checks.on_outcome(self._node_id, self, (self.index, self.term), was_applied)


ROUND_S: Final = (0.0005, 0.003)
"""One way between a client and a node."""
REFUSED_PAUSE_S: Final = 0.02
"""After a refusal that named nobody."""

Ask = Callable[[NodeId, Request], None]


@attrs.define(eq=False)
class ClientPool:
    """What all clients share: what they may ask for, and whom."""

    agenda: Agenda
    recording: RunRecording
    draw: Draw
    ask: Ask
    """Hand a request to a node, if it lives."""
    link_faults: list[LinkFault] = attrs.field(factory=list)
    """Faults on the way between clients and nodes."""
    history: list[ClientCall] = attrs.field(factory=list)
    completed: int = 0
    numbers: count[int] = attrs.field(factory=lambda: count(1))

    def history_of(self, client: int) -> list[ClientCall]:
        """What one client saw."""
        return [call for call in self.history if call.client == client]

    def is_lost(self) -> bool:
        """Whether what is said now gets lost on the way."""
        for fault in self.link_faults:
            if fault.rng.random() < fault.level:
                self.recording.count(Kind.CLIENT_LOSS)
                return True
        return False


def choose(
    rng: random.Random, draw: Draw, numbers: Iterator[int], barrier_reads: float
) -> tuple[RegisterOperation, bool]:
    """What a client does next, and whether by a read barrier."""
    number, key = next(numbers), rng.randrange(draw.keys)
    if rng.random() < draw.reads:
        return RegisterOperation(number, GET, key), rng.random() < barrier_reads
    if rng.random() < 0.7:
        return RegisterOperation(number, PUT, key, argument=number), False
    # Some of these meet their value: the last ones written are not far back.
    expected = max(0, number - rng.randint(1, 2 * draw.clients))
    return RegisterOperation(number, CAS, key, argument=number, expected=expected), False


def begun_call(client: int, operation: RegisterOperation, now_s: float) -> ClientCall:
    """An operation that a client begins at this moment."""
    return ClientCall(
        client, operation.key, operation.kind, operation.argument, operation.expected, now_s
    )


class SimulatedClient:
    """One of them."""

    def __init__(
        self,
        number: int,
        pool: ClientPool,
        seed: int,
        nodes: Sequence[NodeId],
        *,
        patience_s: float | None = None,
        command_bytes: int = 0,
    ) -> None:
        self._number = number
        self._pool = pool
        self._patience_s = pool.draw.patience_s if patience_s is None else patience_s
        self._command_bytes = command_bytes
        self._rng = random.Random(f"{seed} client {number}")
        chance = random.Random(f"{seed} client {number} forwards").random()
        self._forwards = chance < pool.draw.forwards
        self._nodes = tuple(nodes)
        self._target = self._rng.choice(self._nodes)
        self._session: int | None = None
        self._sequence = 0
        self._request: Request | None = None
        self._call: int | None = None  # its place in the history
        self._attempts = 0
        self._queue: list[RegisterOperation] = []
        self._is_retired = False

    # -- what it wants ---------------------------------------------------------------------

    def begin(self) -> None:
        """Open a session, and then go on asking for something."""
        identity = self._rng.randbytes(CLIENT_ID_BYTES)
        self._open(Request(next(self._pool.numbers), encode_open(identity), reply=self._on_reply))

    def will(self, *operations: RegisterOperation) -> None:
        """Do these next, before anything else."""
        self._queue.extend(operations)

    def retire(self) -> None:
        """Ask for nothing more once the present operation is answered."""
        self._is_retired = True

    @property
    def is_idle(self) -> bool:
        """Whether it waits for nothing and wants nothing."""
        return self._request is None and not self._queue

    def _next(self) -> None:
        if self._queue:
            self._invoke(self._queue.pop(0), barrier=False)
        elif not self._is_retired:
            draw = self._pool.draw
            operation, barrier = choose(self._rng, draw, self._pool.numbers, draw.barrier_reads)
            self._invoke(operation, barrier=barrier)

    def _invoke(self, operation: RegisterOperation, *, barrier: bool) -> None:
        pool = self._pool
        self._call = len(pool.history)
        pool.history.append(begun_call(self._number, operation, pool.agenda.now))
        command = None
        if not barrier:
            self._sequence += 1
            command = encode_command(
                self._session or 0,
                self._sequence,
                encode_operation(operation, self._command_bytes),
                self._sequence,
            )
        is_lease = barrier and self._rng.random() < pool.draw.lease_reads
        request = Request(
            operation.number,
            command,
            operation.key,
            is_lease,
            self._forwards,
            reply=self._on_reply,
        )
        self._open(request)

    # -- asking ----------------------------------------------------------------------------

    def _open(self, request: Request) -> None:
        self._request = request
        self._ask()

    def _ask(self) -> None:
        request, pool = self._request, self._pool
        if request is None:
            return
        self._attempts += 1
        pool.agenda.after(self._patience_s, self._lose_patience, self._attempts)
        if not pool.is_lost():
            pool.agenda.after(self._rng.uniform(*ROUND_S), pool.ask, self._target, request)

    def _lose_patience(self, attempt: int) -> None:
        if attempt == self._attempts and self._request is not None:
            self._target = self._rng.choice(self._nodes)
            self._ask()

    def _ask_again(self, attempt: int) -> None:
        if attempt == self._attempts:
            self._ask()

    def _on_reply(self, request: Request, reply: Reply) -> None:
        """The node answers: it takes a while, and may be lost."""
        pool = self._pool
        if not pool.is_lost():
            pool.agenda.after(self._rng.uniform(*ROUND_S), self._hear, request, reply)

    def _hear(self, request: Request, reply: Reply) -> None:
        current, pool = self._request, self._pool
        if current is None or request.operation != current.operation:
            return  # the answer to another attempt came first
        if reply.is_refused:
            self._attempts += 1
            is_known = reply.leader_id in self._nodes
            self._target = (reply.leader_id or "") if is_known else self._rng.choice(self._nodes)
            pause_s = 0.0 if is_known else REFUSED_PAUSE_S
            pool.agenda.after(pause_s, self._ask_again, self._attempts)
            return
        if isinstance(reply.result, SessionExpired):
            raise InvariantViolation(f"client {self._number}: {reply.result}")
        if isinstance(reply.result, RaftError):
            raise reply.result
        self._request = None
        if self._session is None:
            self._session = reply.result
        else:
            self._complete(reply.result)
        pool.agenda.after(self._rng.uniform(0.0, 2 * pool.draw.think_s), self._next)

    def _complete(self, result: int) -> None:
        pool, place = self._pool, self._call
        if place is None:
            return
        now = pool.agenda.now
        pool.history[place] = attrs.evolve(pool.history[place], completed_s=now, result=result)
        pool.completed += 1
        pool.recording.note("answer", self._number, result)
