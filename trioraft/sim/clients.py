"""Clients: sessions that ask, wait, and ask again, and what they saw of it.

Rules of this file:

* A client has one operation open at a time. It asks until it is answered, or the run ends: so an
  operation without an answer may or may not have been carried out, and the history says so.
* Asking again is the same command of the same session: it must be carried out once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import count
from typing import Final

import attrs

from ..core.errors import InvariantViolation, RaftError, SessionExpired
from ..core.types import NodeId
from ..machines.sessions import CLIENT_ID_BYTES, encode_command, encode_open
from .agenda import Agenda
from .draw import Draw
from .faults import Kind
from .machine import CAS, GET, PUT, RegisterOperation, encode_operation
from .network import LinkFault
from .outcomes import ClientCall
from .recording import RunRecording
from .request import Reply, Request

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


class SimulatedClient:
    """One of them."""

    def __init__(self, number: int, pool: ClientPool, seed: int, nodes: Sequence[NodeId]) -> None:
        self._number = number
        self._pool = pool
        self._rng = random.Random(f"{seed} client {number}")
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
            operation, barrier = self._choose()
            self._invoke(operation, barrier=barrier)

    def _choose(self) -> tuple[RegisterOperation, bool]:
        rng, draw = self._rng, self._pool.draw
        number, key = next(self._pool.numbers), rng.randrange(draw.keys)
        if rng.random() < draw.reads:
            return RegisterOperation(number, GET, key), rng.random() < draw.barrier_reads
        if rng.random() < 0.7:
            return RegisterOperation(number, PUT, key, argument=number), False
        # Some of these meet their value: the last ones written are not far back.
        expected = max(0, number - rng.randint(1, 2 * draw.clients))
        return RegisterOperation(number, CAS, key, argument=number, expected=expected), False

    def _invoke(self, operation: RegisterOperation, *, barrier: bool) -> None:
        pool = self._pool
        self._call = len(pool.history)
        pool.history.append(
            ClientCall(
                self._number,
                operation.key,
                operation.kind,
                operation.argument,
                operation.expected,
                pool.agenda.now,
            )
        )
        command = None
        if not barrier:
            self._sequence += 1
            command = encode_command(
                self._session or 0, self._sequence, encode_operation(operation), self._sequence
            )
        is_lease = barrier and self._rng.random() < pool.draw.lease_reads
        request = Request(operation.number, command, operation.key, is_lease, reply=self._on_reply)
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
        pool.agenda.after(pool.draw.patience_s, self._lose_patience, self._attempts)
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
