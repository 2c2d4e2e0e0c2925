"""Forks: a child process must not use, and not even close, what its parent has open (hazard D8).

Rules of this file:

* A fork has the parent's descriptors and a copy of its memory: two writers in one log, which know
  nothing of each other, and one lock that both hold. SQLite forbids it.
* There is one hook for the whole process, because Python can only add hooks. It is added when the
  first storage opens, and knows the storages that are open.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Final, Protocol
from weakref import WeakSet


class Forked(Protocol):
    """What wants to know that it is a copy."""

    def on_forked(self) -> None:
        """This process is a child, and the original belongs to its parent."""


_OPEN: Final[WeakSet[Forked]] = WeakSet()


def tell_when_forked(storage: Forked) -> None:
    """Call `on_forked` in each process that is forked from this one while `storage` lives."""
    _add_hook()
    _OPEN.add(storage)


@cache
def _add_hook() -> None:
    os.register_at_fork(after_in_child=_on_forked)


def _on_forked() -> None:
    for storage in list(_OPEN):
        storage.on_forked()
