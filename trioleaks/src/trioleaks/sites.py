"""Where a thing came from: the first line of the project's own code in a stack.

Rules of this file:

* Finding an origin is cheap, for it happens at every spawn: it walks frames and keeps a code
  object and the place in it; the line's number, and text, are made only for a report.
* Trio, the standard library and the leak check are never the place. An installed library is, if
  nothing of the project stands above it; else it is what the project went through.
* No frame is kept: a frame would keep its variables alive, and hide the leak it should show.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from types import CodeType, FrameType
from typing import Final, NamedTuple, TypeAlias

from trio.lowlevel import Task

_GO_BETWEENS = ("trio._core.", "trio._channel", "trio._util", "trioleaks.", "outcome")
"""What stands between a call and what it does: not even Trio's own doing."""

# Whose code a frame runs.
_GO_BETWEEN: Final = 0
_END: Final = 1
"""Above it nothing is the project's doing: see `_ENDS`."""
_RUN: Final = 2
"""Trio's loop is in it, and its nurseries."""
_TRIO: Final = 3
_STDLIB: Final = 4
_LIBRARY: Final = 5
_PROJECT: Final = 6

_ENDS = frozenset({"_pytest.runner", "_pytest.python"})
"""Modules of which every function ends a walk: above stand fifty frames of pytest."""
_RUN_MODULE = "trio._core._run"
_RUN_LOOP = "unrolled_run"
"""Trio's loop ends a walk, too: above it stands who began the run."""

_STDLIB_FOLDER = os.path.join(os.path.dirname(threading.__file__), "")
_PACKAGES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


Site: TypeAlias = tuple[CodeType, int]
"""A place in the code: a function's code object and the instruction, as `frame.f_lasti` counts."""


def _text(site: Site) -> str:
    code, instruction = site
    line = next(
        (line for start, end, line in code.co_lines() if line and start <= instruction < end),
        code.co_firstlineno,
    )
    return f"{short_path(code.co_filename)}:{line} in {code.co_qualname}"


class Origin(NamedTuple):
    """Who did something.

    Attributes:
        site: the innermost line of the project's code up the stack; a library's if there is
            none; None if Trio's run loop did it.
        by_trio: the code that asked for it directly is Trio's own.
        through: the innermost line of a library, where the site is the project's.
        is_project: whether the site is the project's.
    """

    site: Site | None
    by_trio: bool
    through: Site | None = None
    is_project: bool = False

    @property
    def text(self) -> str | None:
        """As a report says it: "file:line in function", or None."""
        return None if self.site is None else _text(self.site)

    @property
    def through_text(self) -> str | None:
        """The library's line, likewise."""
        return None if self.through is None else _text(self.through)

    def beneath(self, above: Origin) -> Origin:
        """This origin, seen from a task that was started at `above`."""
        if self.is_project or above.site is None or (self.site and not above.is_project):
            return self
        return Origin(above.site, self.by_trio, self.site or above.through, above.is_project)


UNKNOWN = Origin(None, by_trio=False)
"""Nobody saw who did it."""


def _classify(module: str, path: str) -> int:
    if module in _ENDS:
        return _END
    if module == _RUN_MODULE:
        return _RUN
    if module == "" or module.startswith(_GO_BETWEENS) or module == "trioleaks":
        return _GO_BETWEEN  # what attrs has made has no module name at all
    if is_trio(module):
        return _TRIO
    if any(marker in path for marker in _PACKAGES):
        return _LIBRARY
    if path.startswith(("<frozen", _STDLIB_FOLDER)):
        return _STDLIB
    return _PROJECT


_BY_MODULE: dict[str, int] = {}
"""Whose code is in a module: asked once. To ask a frame for its code, and with it for the file,
is an audit event, which costs more than all the rest of a step up the stack."""


def _whose(frame: FrameType, module: str) -> int:
    path = frame.f_globals.get("__file__") or frame.f_code.co_filename
    found = _BY_MODULE[module] = _classify(module, path)
    return found


def find_origin(frame: FrameType | None) -> Origin:
    """Walk from `frame` up to the project's code, or to where the walk ends (`_ENDS`)."""
    by_trio: bool | None = None
    library: Site | None = None
    while frame is not None:
        module: str = frame.f_globals.get("__name__", "")
        found = _BY_MODULE.get(module)
        if found is None:
            found = _whose(frame, module)
        if found == _PROJECT:
            return Origin((frame.f_code, frame.f_lasti), by_trio is True, library, True)
        if found == _RUN:
            if frame.f_code.co_name == _RUN_LOOP:
                break
        elif found == _END:
            break
        elif found == _TRIO:
            by_trio = True if by_trio is None else by_trio
        elif found == _LIBRARY:
            by_trio = False if by_trio is None else by_trio
            if library is None:
                library = (frame.f_code, frame.f_lasti)
        frame = frame.f_back
    return Origin(library, by_trio is not False)


def find_origin_of_task(task: Task | None) -> Origin:
    """The project's innermost function that a task runs, or the one that waits for it.

    For tasks that nobody saw start: the place is the function's first line.
    """
    while task is not None:
        for frame, _ in reversed(list(task.iter_await_frames())):
            if _whose(frame, frame.f_globals.get("__name__", "")) == _PROJECT:
                return Origin((frame.f_code, 0), by_trio=False, is_project=True)
        task = None if task.parent_nursery is None else task.parent_nursery.parent_task
    return UNKNOWN


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
    if module == threading.__name__:
        return frame.f_code.co_name in ("_bootstrap", "_bootstrap_inner", "run")
    go_between = module in {"outcome", "outcome._impl", "contextlib"}
    return go_between or is_trio(module) or module.startswith("trioleaks.")


def _is_plumbing(frame: FrameType) -> bool:
    # The last step of every wait in Trio; it says nothing.
    return frame.f_globals.get("__name__") == "trio._core._traps"


def short_path(path: str) -> str:
    """A path as a person wants it: relative to the working directory, or to site-packages."""
    for marker in _PACKAGES:
        if marker in path:
            return path.rpartition(marker)[2]
    here = os.getcwd() + os.sep
    if path.startswith(here):
        return path[len(here) :]
    return path.removeprefix(_STDLIB_FOLDER)
