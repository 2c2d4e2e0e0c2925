"""InlineWrites: whether the next durable write is made in the node's own thread.

A thread of its own costs a write two changes of threads, about as much as a quick disk takes for
it, and keeps the event loop free meanwhile. So which is better is a matter of the disk, and of the
moment: it is measured.

Rules of this file:

* Only what is short by nature is written inline: few commands, and small ones, of a storage that
  says so. Where many wait, the loop has other work while the disk is busy, and the turn is paid by
  all of them together.
* Only where a turn of the loop is quick: a loop that is busy, or does not get its processor, loses
  by every write what it would have done meanwhile. That is seen by how late the thread's word is
  heard, so now and then a write goes to the thread for that alone.
* Inline writes may cost the loop a little more than quick ones take, on the average. Beyond that
  the next ones go to the thread, and twice as many each time. So a disk that is slow now and then
  holds up the loop now and then, no more.
* A disk that hangs in such a write holds up this node with all that it does. The others notice it
  as they notice a node that is gone, and elect another leader; nothing was promised.
"""

from __future__ import annotations

import time
from typing import Final, final

from ..core.ready import Write
from ..member.actions import StorageStep
from ..storage.base import Storage

QUICK_S: Final = 0.002
"""A write that took no longer is quick."""
OWED_S: Final = 0.010
"""So much longer may inline writes have held up the loop, beside what was paid back, …"""
PAID_S: Final = 0.0001
"""… which is so much by each of them."""
TRIED_MIN: Final = 32
"""So many quick writes in a row are seen in the thread before any is made inline."""
TRIED_MAX: Final = 8192
"""After many slow ones, so many."""
FORGIVEN: Final = 16
"""After so many times the writes that were asked for, all of them quick, fewer are asked for."""
SMALL_BYTES: Final = 256 * 1024
"""Bytes of commands in a write that may be made inline: a quick disk takes about a millisecond."""
FEW: Final = 4
"""Commands in such a write."""
NEAR_S: Final = 0.0007
"""How late the thread's word may be heard lately, in seconds."""
LATELY: Final = 1 / 8
"""What each word that is heard sooner than those before counts for in that; one that is heard later
counts for all."""
LATE_MAX: Final = 10
"""So many times that late, and it makes no difference any more how late."""
LOOKED_AT: Final = 32
"""Of so many writes that could be made inline one is not, to see how late that is by now."""


@final
class InlineWrites:
    """Judges one storage by how long its writes take, and the event loop by how late it hears.

    Args:
        storage: which.
        is_allowed: whether time is what it seems; a simulation's is not.
    """

    def __init__(self, storage: Storage, *, is_allowed: bool) -> None:
        self._storage = storage
        self._is_allowed = is_allowed and hasattr(storage, "append_is_short")
        self._tried = TRIED_MIN
        self._quick = 0  # in a row
        self._owed_s = 0.0
        self._wrote_s = 0.0  # the last one
        self._late_s = 2 * NEAR_S
        self._since_look = 0
        self._is_inline = False  # the one under way

    def may(self, step: StorageStep) -> bool:
        """Whether this step, which is to be made now, is to be made in the node's own thread."""
        self._is_inline = False
        if (
            not self._is_allowed
            or self._quick < self._tried
            or self._late_s > NEAR_S
            or not isinstance(step, Write)
            or len(step.entries) > FEW
            or step.size_bytes > SMALL_BYTES
            or getattr(self._storage, "append_is_short", False) is not True
        ):
            return False
        self._since_look += 1
        if self._since_look >= LOOKED_AT:
            self._since_look = 0
            return False
        self._is_inline = True
        return True

    def took(self, step: StorageStep, begun_s: float) -> None:
        """A step was made, wherever.

        Args:
            step: which.
            begun_s: when it began, as `time.perf_counter` says.
        """
        took_s = self._wrote_s = time.perf_counter() - begun_s
        if not isinstance(step, Write) or step.size_bytes > SMALL_BYTES:
            return
        if self._is_inline:
            self._owed_s = max(0.0, self._owed_s + max(0.0, took_s - QUICK_S) - PAID_S)
            if self._owed_s > OWED_S:
                self._tried = min(2 * self._tried, TRIED_MAX)
                self._quick, self._owed_s = 0, 0.0
                return
        elif took_s > QUICK_S and self._quick < self._tried:
            self._quick = 0
            return
        self._quick += 1
        if self._quick >= FORGIVEN * self._tried and self._tried > TRIED_MIN:
            self._tried //= 2
            self._quick = self._tried

    def came_back(self, begun_s: float) -> None:
        """The thread's word that it has made a step is heard.

        Args:
            begun_s: when the step was given to it, as `time.perf_counter` says.
        """
        late_s = min(time.perf_counter() - begun_s - self._wrote_s, LATE_MAX * NEAR_S)
        self._late_s = max(late_s, self._late_s + LATELY * (late_s - self._late_s))
