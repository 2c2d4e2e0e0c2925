"""The collector of reference cycles, in a program that serves.

Rules of this file:

* A full search looks at everything that lives, and holds up the loop for as long as that takes: 30
  to 50 ms where nothing but modules is loaded, 200 ms with a million keys. So what a full search
  has found alive is set aside (`gc.freeze`), and the next one looks at what has come since.
* What was set aside and becomes a cycle that nobody needs would stay for ever. So when twice as
  much has been set aside as was alive at the last thorough search, there is another one: the larger
  the state, the more seldom.
* The collector belongs to the process, and so to the program: `serve` does this, a library does
  not.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, final

YOUNG_MAX: Final = 2_000
"""Objects that are made before the youngest are searched: often enough that it takes a millisecond
or two. (Python's own number is 700.)"""
OLDER_EVERY: Final = 5
"""So many of those searches, and the next one looks at what they have left, too."""
SOONEST: Final = 100_000
"""A thorough search is not worth its time before so many were set aside."""


@contextmanager
def long_lived_set_aside() -> Iterator[None]:
    """Search thoroughly now, then only what is new, for the length of a block. What was set aside
    is searched as ever after it."""
    aside = _Aside()
    thresholds = gc.get_threshold()
    gc.set_threshold(YOUNG_MAX, OLDER_EVERY, thresholds[2])
    gc.callbacks.append(aside.on_search)
    gc.collect()
    try:
        yield
    finally:
        gc.callbacks.remove(aside.on_search)
        gc.set_threshold(*thresholds)
        gc.unfreeze()


@final
class _Aside:
    def __init__(self) -> None:
        self._alive = 0  # at the last thorough search
        self._since = 0
        self._is_thorough = True

    def on_search(self, phase: str, info: dict[str, int]) -> None:
        """The collector's callback, before and after each search."""
        if info["generation"] < 2:
            return
        if phase == "start":
            self._is_thorough = self._since >= max(self._alive, SOONEST) or self._alive == 0
            if self._is_thorough:
                gc.unfreeze()
            return
        found = len(gc.get_objects(generation=2))
        gc.freeze()
        if self._is_thorough:
            self._alive, self._since = found, 0
        else:
            self._since += found
