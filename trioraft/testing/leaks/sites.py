"""Where a thing came from: the first line of the user's own code in a stack.

Rules of this file:

* Finding an origin is cheap, for it happens at every spawn: it walks frames and keeps a code
  object and a line number; text is made only for a report.
* Trio, the standard library's go-betweens and the leak check itself are not the user's code.
* No frame is kept: a frame would keep its variables alive, and hide the leak it should show.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from types import CodeType, FrameType

import attrs

# What stands between a call and what it does, and opens nothing of its own accord. Frames of
# attrs-made methods have no module name at all.
_GO_BETWEENS = (
    "trio._core.",
    "trio._channel",
    "trio._util",
    "trioraft.testing.leak",
    "contextlib",
    "functools",
    "outcome",
    "socket",
    "threading",
    "typing",
)
_RUN_LOOP = ("trio._core._run", "unrolled_run")


@attrs.frozen
class Site:
    """A line of code: the function's code object and the line number."""

    code: CodeType
    line: int

    def __str__(self) -> str:
        return f"{short_path(self.code.co_filename)}:{self.line} in {self.code.co_qualname}"


@attrs.frozen
class Origin:
    """Who did something.

    Attributes:
        site: the first line of the user's code up the stack, or None (Trio's run loop did it).
        by_trio: the code that asked for it directly is Trio's own.
    """

    site: Site | None
    by_trio: bool

    @property
    def text(self) -> str | None:
        """As a report says it: "file:line in function", or None."""
        return None if self.site is None else str(self.site)


def find_origin(frame: FrameType | None) -> Origin:
    """Walk from `frame` up to the user's code, or to Trio's run loop, whichever comes first."""
    by_trio: bool | None = None
    while frame is not None:
        module: str = frame.f_globals.get("__name__", "")
        if module == "" or module.startswith(_GO_BETWEENS):
            if (module, frame.f_code.co_name) == _RUN_LOOP:
                break
        elif is_trio(module):
            by_trio = True
        else:
            return Origin(Site(frame.f_code, frame.f_lineno), by_trio is True)
        frame = frame.f_back
    return Origin(None, by_trio=True)


def is_trio(module: str) -> bool:
    """Whether the module of this name is part of Trio."""
    return module == "trio" or module.startswith("trio.")


def describe_frames(frames: Iterable[tuple[FrameType, int]]) -> tuple[str, ...]:
    """Render a stack, outermost first, as "function file:line"."""
    return tuple(
        f"{frame.f_code.co_qualname} {short_path(frame.f_code.co_filename)}:{line}"
        for frame, line in frames
        if not _is_plumbing(frame)
    )


def describe_thread(frame: FrameType | None) -> tuple[str, ...]:
    """Render the stack whose innermost frame is `frame`, without what only starts a thread."""
    frames: list[tuple[FrameType, int]] = []
    while frame is not None:
        frames.append((frame, frame.f_lineno))
        frame = frame.f_back
    frames.reverse()
    while frames and _starts_threads(frames[0][0]):
        del frames[0]
    return describe_frames(frames)


def _starts_threads(frame: FrameType) -> bool:
    module: str = frame.f_globals.get("__name__", "")
    go_between = module in {threading.__name__, "outcome", "outcome._impl", "contextlib"}
    return go_between or is_trio(module) or module.startswith("trioraft.testing.leak")


def _is_plumbing(frame: FrameType) -> bool:
    # The last step of every wait in Trio; it says nothing.
    return frame.f_globals.get("__name__") == "trio._core._traps"


def short_path(path: str) -> str:
    """A path as a person wants it: relative to the working directory, or to site-packages."""
    here = os.getcwd() + os.sep
    if path.startswith(here):
        return path[len(here) :]
    for folder in ("site-packages", "dist-packages"):
        marker = f"{os.sep}{folder}{os.sep}"
        if marker in path:
            return path.rpartition(marker)[2]
    return path
