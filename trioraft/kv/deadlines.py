"""Deadlines: what ends when, by log time; the first of them at a glance."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Final, Generic, TypeVar, final

S = TypeVar("S", bound=int | bytes)

_SLACK: Final = 64
"""So many entries that count no more cost nothing worth mentioning."""


@final
class Deadlines(Generic[S]):
    """When each subject ends. The order of equal ones is that of the subjects, on every node alike.

    Args:
        deadlines: at first, in seconds of log time.
    """

    def __init__(self, deadlines: Iterable[tuple[S, float]] = ()) -> None:
        self._at_s: dict[S, float] = dict(deadlines)
        self._heap: list[tuple[float, S]] = []  # with some that were moved or removed since
        self._build()

    def __len__(self) -> int:
        return len(self._at_s)

    def set(self, subject: S, at_s: float) -> None:
        """It ends then, whatever was said before."""
        self._at_s[subject] = at_s
        heapq.heappush(self._heap, (at_s, subject))
        if len(self._heap) > 2 * len(self._at_s) + _SLACK:
            self._build()

    def remove(self, subject: S) -> None:
        """It does not end by itself (any more)."""
        self._at_s.pop(subject, None)

    def at_s(self, subject: S) -> float | None:
        """When it ends."""
        return self._at_s.get(subject)

    def first_s(self) -> float | None:
        """When the first one ends."""
        heap = self._heap
        while heap:
            at_s, subject = heap[0]
            if self._at_s.get(subject) == at_s:
                return at_s
            heapq.heappop(heap)
        return None

    def first_due(self, now_s: float) -> S | None:
        """The one that ended first, if any has by now. It stays until it is removed."""
        at_s = self.first_s()
        return self._heap[0][1] if at_s is not None and at_s <= now_s else None

    def _build(self) -> None:
        self._heap = [(at_s, subject) for subject, at_s in self._at_s.items()]
        heapq.heapify(self._heap)
