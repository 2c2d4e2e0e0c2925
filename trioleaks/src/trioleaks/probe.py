"""What one kind's probe looks like, and whose a thing is.

Rules of this file:

* A thing is known by its owner, noted when it is made: the code that runs then decides it, as
  whoever watches sees it (`Ownership`). An owner is any hashable value.
* A probe keeps nothing alive that it watches.
* What is kept of each thing is a named tuple: a class of attrs costs a millisecond to load, and
  three times as much to make an instance of.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from typing import NamedTuple, Protocol, TypeAlias, final

from .report import Leak
from .sites import Origin
from .taps import Audit, Tap

Owner: TypeAlias = Hashable
Owners: TypeAlias = Collection[Owner]

OURS: Owner = "ours"
"""The owner of what the watched task makes."""
OTHERS: Owner = "others"
"""The owner of what is nobody's business here."""


class Maker(NamedTuple):
    """Where in the project's code a thing was made, and whose it is."""

    origin: Origin
    owner: Owner


@final
class Job:
    """A function that a cached worker thread runs for somebody."""

    def __init__(self, name: str, maker: Maker) -> None:
        self.name = name
        self.maker = maker
        self.thread: int | None = None
        """The thread's identity, once it runs."""


class Ownership(Protocol):
    """Whose doing it is, and where."""

    jobs: dict[int, Job]
    """What worker threads do for a task now, by the threads' identities."""

    def maker(self, depth: int) -> Maker:
        """Whose code runs right now, in whichever thread, and where it was called from.

        Args:
            depth: of the frame where to begin to look, as `sys._getframe` would count it in the
                caller. Each look at a frame is an audit event, for which there may be no need.
        """


class Left(NamedTuple):
    """A thing that is there and should not be."""

    leak: Leak
    key: Hashable
    """The same for the same thing, whenever it is asked for."""
    thing: object = None
    """The object itself, where one is known."""


class Probe(Protocol):
    """Watches one kind of thing."""

    def taps(self) -> Iterable[Tap | Audit]:
        """What it wants to hear of."""

    def note(self, owner: Owner) -> None:
        """What is there now was there before this owner began."""

    def left(self, owners: Owners) -> list[Left]:
        """What these owners have made and is still there."""

    def forget(self, owners: Owners) -> None:
        """These owners are done; what they left was told."""

    def prune(self) -> None:
        """Keep nothing of what is gone: these owners are never done, in a program that runs on."""
