"""Reads: what a leader keeps of reads that wait for it to be confirmed (dissertation 6.4).

Rules of this file:

* A read's index is the commit index when its round begins, never before the leader has committed
  an entry of its own term (hazard R1).
* A round is confirmed by a quorum's answers to it or to a later one. Round numbers rise within a
  term and are never used twice, and answers of other terms do not count (hazard R2).
* One round is on its way at a time: whoever comes meanwhile shares the next, which begins with the
  last one's confirmation or with the next heartbeat.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import attrs

from .types import LogIndex, NodeId, Term

REQUESTS_MAX: Final = 65_536
"""Most reads that wait before those of other nodes are not taken any more: a follower asks once
for all of its callers that come together."""


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
