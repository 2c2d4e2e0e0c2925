"""What one kind's probe looks like, and whose a thing is.

Rules of this file:

* A thing is known by its owner, noted when it is made: the code that runs then decides it, as
  whoever watches sees it (`Ownership`). An owner is any hashable value.
* A probe keeps nothing alive that it watches.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from types import FrameType
from typing import Protocol, TypeAlias, final

import attrs

from .report import Leak
from .sites import Origin
from .taps import Audit, Tap

Owner: TypeAlias = Hashable
Owners: TypeAlias = Collection[Owner]

OURS: Owner = "ours"
"""The owner of what the watched task makes."""
OTHERS: Owner = "others"
"""The owner of what is nobody's business here."""


@final
@attrs.define(eq=False)
class Job:
    """A function that a cached worker thread runs for somebody."""

    name: str
    origin: Origin
    owner: Owner
    thread: int | None = None
    """The thread's identity, once it runs."""


class Ownership(Protocol):
    """Whose doing it is, and where."""

    jobs: dict[int, Job]
    """What worker threads do for a task now, by the threads' identities."""

    def owner(self) -> Owner:
        """Whose code runs right now, in whichever thread."""

    def origin(self, frame: FrameType) -> Origin:
        """Where in the project's code the call with this frame comes from."""


@final
@attrs.frozen
class Left:
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
