"""InlineWrites: whether the next durable write is made in the node's own thread.

A worker thread costs a write two changes of threads, about as much as a quick disk takes for it,
and keeps the event loop free while the disk takes long. So which is better is a matter of the disk,
and of the moment: it is measured.

Rules of this file:

* Only what is short by nature is written inline: a small write of a storage that says so.
* One write that took long sends the next ones to the thread, and twice as many each time, until all
  of those were quick. So a disk that is slow now and then holds up the loop now and then, no more.
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
SLOW_S: Final = 0.005
"""One inline that took longer was one too many."""
TRIED_MIN: Final = 32
"""So many quick writes in a row are seen in the thread before any is made inline."""
TRIED_MAX: Final = 8192
"""After many slow ones, so many."""
FORGIVEN: Final = 16
"""After so many times the writes that were asked for, all of them quick, fewer are asked for."""
SMALL_BYTES: Final = 256 * 1024
"""Bytes of commands in a write that may be made inline: a quick disk takes about a millisecond."""


@final
class InlineWrites:
    """Judges one storage by how long its writes take."""

    def __init__(self, storage: Storage, *, is_allowed: bool) -> None:
        """
        Args:
            storage: which.
            is_allowed: whether time is what it seems; a simulation's is not.
        """
        self._storage = storage
        self._is_allowed = is_allowed and hasattr(storage, "append_is_short")
        self._tried = TRIED_MIN
        self._quick = 0  # in a row

    def may(self, step: StorageStep) -> bool:
        """Whether this step is to be made in the node's own thread."""
        return (
            self._is_allowed
            and self._quick >= self._tried
            and isinstance(step, Write)
            and step.size_bytes <= SMALL_BYTES
            and getattr(self._storage, "append_is_short", False) is True
        )

    def took(self, step: StorageStep, begun_s: float) -> None:
        """A step was made, wherever.

        Args:
            step: which.
            begun_s: when it began, as `time.perf_counter` says.
        """
        if not isinstance(step, Write) or step.size_bytes > SMALL_BYTES:
            return
        took_s = time.perf_counter() - begun_s
        was_inline = self._quick >= self._tried
        if took_s > SLOW_S and was_inline:
            self._tried = min(2 * self._tried, TRIED_MAX)
            self._quick = 0
        elif took_s > QUICK_S and not was_inline:
            self._quick = 0
        else:
            self._quick += 1
            if self._quick >= FORGIVEN * self._tried and self._tried > TRIED_MIN:
                self._tried //= 2
                self._quick = self._tried
