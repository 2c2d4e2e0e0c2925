"""Where a thing came from: the first line of the project's own code in a stack.

Rules of this file:

* Finding an origin is cheap, for it happens at every spawn: it walks frames and keeps a code
  object and a line number; text is made only for a report.
* Trio, the standard library and the leak check are never the place. An installed library is, if
  nothing of the project stands above it; else it is what the project went through.
* No frame is kept: a frame would keep its variables alive, and hide the leak it should show.
"""

from __future__ import annotations

import enum
import os
import sysconfig
import threading
from collections.abc import Iterable
from types import CodeType, FrameType

import attrs

_GO_BETWEENS = ("trio._core.", "trio._channel", "trio._util", "trioleaks.", "outcome")
"""What stands between a call and what it does: not even Trio's own doing."""
_RUN_LOOP = ("trio._core._run", "unrolled_run")
_OUT_OF_LOOP = "trio._core._run"


class _Code(enum.Enum):
    """Whose code a frame runs."""

    GO_BETWEEN = enum.auto()
    TRIO = enum.auto()
    STDLIB = enum.auto()
    LIBRARY = enum.auto()
    PROJECT = enum.auto()


def _stdlib_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple({os.path.join(paths[name], "") for name in ("stdlib", "platstdlib")})


_STDLIB = _stdlib_folders()
_PACKAGES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


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
        return None if self.site is None else str(self.site)

    @property
    def through_text(self) -> str | None:
        """The library's line, likewise."""
        return None if self.through is None else str(self.through)

    def beneath(self, above: Origin) -> Origin:
        """This origin, seen from a task that was started at `above`."""
        if self.is_project or above.site is None or (self.site and not above.is_project):
            return self
        return Origin(above.site, self.by_trio, self.site or above.through, above.is_project)


class _Classes(dict[tuple[str, str], _Code]):
    """Whose code it is, by module and file: asked once each."""

    def __missing__(self, key: tuple[str, str]) -> _Code:
        code = self[key] = _classify(*key)
        return code


def _classify(module: str, path: str) -> _Code:
    if module == "" or module.startswith(_GO_BETWEENS) or module == "trioleaks":
        return _Code.GO_BETWEEN  # what attrs has made has no module name at all
    if is_trio(module):
        return _Code.TRIO
    if any(marker in path for marker in _PACKAGES):
        return _Code.LIBRARY
    if path.startswith(("<frozen", *_STDLIB)):
        return _Code.STDLIB
    return _Code.PROJECT


_CLASSES = _Classes()


def find_origin(frame: FrameType | None) -> Origin:
    """Walk from `frame` up to the project's code, or to Trio's run loop, whichever comes first."""
    by_trio: bool | None = None
    library: Site | None = None
    while frame is not None:
        module: str = frame.f_globals.get("__name__", "")
        code = frame.f_code
        found = _CLASSES[module, code.co_filename]
        if found is _Code.PROJECT:
            return Origin(Site(code, frame.f_lineno), by_trio is True, library, is_project=True)
        if found is _Code.GO_BETWEEN:
            if code.co_name == "unrolled_run" and module == _OUT_OF_LOOP:
                break
        elif found is _Code.TRIO:
            by_trio = True if by_trio is None else by_trio
        elif found is _Code.LIBRARY:
            by_trio = False if by_trio is None else by_trio
            if library is None:
                library = Site(code, frame.f_lineno)
        frame = frame.f_back
    return Origin(library, by_trio is not False)


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
    for folder in _STDLIB:
        if path.startswith(folder):
            return path[len(folder) :]
    return path
