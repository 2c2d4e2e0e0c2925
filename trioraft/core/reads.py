"""Reads: those of this node, whoever leads, and those that a leader confirms (dissertation 6.4).

Rules of this file:

* A read's index is the commit index when its round begins, never before the leader has committed
  an entry of its own term (hazard R1).
* A round is confirmed by a quorum's answers to it or to a later one. Round numbers rise within a
  term and are never used twice, and answers of other terms do not count (hazard R2).
* One round is on its way at a time: whoever comes meanwhile shares the next, which begins with the
  last one's confirmation or with the next heartbeat.
* A read that was asked here is answered here, whoever leads: when the leader changes, or does not
  answer, it is asked again. It waits for as long as there is no leader.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from typing import Final

import attrs

from .types import LogIndex, NodeId, Term

REQUESTS_MAX: Final = 65_536
"""Most reads that wait before those of other nodes are not taken any more: a follower asks once
for all of its callers that come together."""


FIRST_NUMBER_BITS: Final = 60
"""Width of the range from which a life's first number is drawn."""


@attrs.define
class OpenRead:
    """A read of this node that is not confirmed yet."""

    asked: NodeId | None = None
    """Who was asked; None: nobody yet."""
    asked_term: Term = 0
    asked_s: float = 0.0


@attrs.frozen
class ReadRequest:
    """A read that was asked for, here or by a follower."""

    origin: NodeId
    number: int


@attrs.frozen
class ConfirmedRead:
    """A read that may be answered once everything up to `index` is applied."""

    number: int
    index: LogIndex


class OpenReads:
    """The reads of this node that are not confirmed yet.

    Args:
        rng: the only source of chance.
        patience_s: how long another node may take to answer, in seconds.
    """

    __slots__ = ("_last_number", "_patience_s", "_rng", "unconfirmed")

    def __init__(self, rng: random.Random, patience_s: float) -> None:
        self._rng = rng
        self._patience_s = patience_s
        self.unconfirmed: dict[int, OpenRead] = {}
        """By number; not to be changed from outside."""
        self._last_number: int | None = None  # None: no read was asked in this life

    def __len__(self) -> int:
        return len(self.unconfirmed)

    def new_number(self) -> int:
        """A number that this node has never used, not even in an earlier life: the first one is
        drawn at random from a wide range (hazard R2)."""
        if self._last_number is None:
            self._last_number = self._rng.getrandbits(FIRST_NUMBER_BITS)
        self._last_number += 1
        return self._last_number

    def open(self, number: int) -> None:
        """It waits to be confirmed."""
        self.unconfirmed[number] = OpenRead()

    def close(self, number: int) -> bool:
        """It is confirmed, or nobody wants it any more. True if it was open."""
        return self.unconfirmed.pop(number, None) is not None

    def to_ask(self, leader_id: NodeId, term: Term, now: float, *, is_own: bool) -> Iterator[int]:
        """The numbers of those to be passed to this leader now; `is_own`: it is this node."""
        for number, read in self.unconfirmed.items():
            is_patient = is_own or now - read.asked_s < self._patience_s
            if read.asked == leader_id and read.asked_term == term and is_patient:
                continue
            read.asked, read.asked_term, read.asked_s = leader_id, term, now
            yield number


@attrs.frozen
class _Round:
    number: int
    index: LogIndex
    requests: tuple[ReadRequest, ...]


@attrs.define
class PendingReads:
    """The reads of one leadership."""

    _waiting: list[ReadRequest] = attrs.field(factory=list)
    _rounds: deque[_Round] = attrs.field(factory=deque)
    _known: set[ReadRequest] = attrs.field(factory=set)  # all that wait, in a round or for one

    def add(self, request: ReadRequest) -> None:
        """A read that is asked for; one that is asked for again has its place already."""
        if request not in self._known:
            self._known.add(request)
            self._waiting.append(request)

    @property
    def has_room(self) -> bool:
        """Whether another node's read may wait too; who is refused asks again."""
        return len(self._known) < REQUESTS_MAX

    @property
    def want_round(self) -> bool:
        """Whether a round should begin now."""
        return bool(self._waiting) and not self._rounds

    @property
    def await_confirmation(self) -> bool:
        """Whether answers are waited for."""
        return bool(self._rounds)

    def begin_round(self, number: int, commit_index: LogIndex) -> None:
        """All that wait share the heartbeat round that leaves now."""
        if self._waiting:
            self._rounds.append(_Round(number, commit_index, tuple(self._waiting)))
            self._waiting.clear()

    def confirm(self, number: int) -> list[tuple[ReadRequest, LogIndex]]:
        """A quorum has answered this round: the reads of it and of all before are good."""
        confirmed: list[tuple[ReadRequest, LogIndex]] = []
        while self._rounds and self._rounds[0].number <= number:
            done = self._rounds.popleft()
            confirmed.extend((request, done.index) for request in done.requests)
            self._known.difference_update(done.requests)
        return confirmed
