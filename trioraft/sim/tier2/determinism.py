"""Determinism: everything of Trio that a repeatable run needs and Trio does not promise.

Rules of this file:

* Nothing else of tier 2 touches a private name of Trio. `changes()` says in words what a new Trio
  no longer has, and a test calls it; another test sees that the names still have their effect.
* Trio is left as it was found: importing hypothesis, for one, switches the first name on for the
  rest of the process, and pytest-trio's tests rely on whatever they found.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from trio._core import _run

# Trio shuffles the tasks that can run, so that nobody comes to rely on their order. What it
# shuffles is a set, unless this switch (made for hypothesis) has it sorted first …
_SWITCH: Final = "_ALLOW_DETERMINISTIC_SCHEDULING"
# … and what it shuffles with is this source of chance.
_CHANCE: Final = "_r"

_ALONE: Final = threading.Lock()
"""Both belong to the whole process: of several threads (of a Dask worker, say) one has them."""


@contextmanager
def deterministic(seed: object) -> Iterator[None]:
    """Have every `trio.run` of the block schedule its tasks as this seed says, and no other way.

    Different seeds give different orders: each is one more way in which tasks may interleave.
    Does not nest, and waits for other threads that are in such a block.
    """
    with _ALONE:
        chance: random.Random = getattr(_run, _CHANCE)
        was_on, state = getattr(_run, _SWITCH), chance.getstate()
        setattr(_run, _SWITCH, True)
        chance.seed(str(seed))
        try:
            yield
        finally:
            setattr(_run, _SWITCH, was_on)
            chance.setstate(state)


def changes() -> list[str]:
    """What this Trio has no longer, one sentence each; empty for a Trio that we know."""
    found = []
    if not isinstance(getattr(_run, _SWITCH, None), bool):
        found.append(f"trio._core._run.{_SWITCH} is gone: how are tasks put into an order now?")
    if not isinstance(getattr(_run, _CHANCE, None), random.Random):
        found.append(f"trio._core._run.{_CHANCE} is gone: what are tasks shuffled with now?")
    return found
