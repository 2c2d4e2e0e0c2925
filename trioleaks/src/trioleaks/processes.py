"""Child processes that run on, or have ended and nobody has waited for them.

Rules of this file:

* The system is asked first whether there is any child at all: that costs a microsecond.
* Nothing is waited for, and no child's status is taken from whoever will wait for it.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, final

from .probe import OTHERS, Left, Maker, Owner, Owners, Ownership
from .report import Leak, LeakKind
from .sites import UNKNOWN
from .taps import Tap

_TASKS = "/proc/self/task"  # the threads; the kernel lists the children of each
ARGUMENTS_CHARS_MAX = 120  # of a command line that a report shows


class _Child(NamedTuple):
    """A child process that was seen to start."""

    arguments: str
    maker: Maker


@final
class ProcessProbe:
    """Which children there were, and who started which since."""

    def __init__(self, ownership: Ownership) -> None:
        self._ownership = ownership
        self._before: dict[Owner, frozenset[int]] = {}
        self._children: dict[int, _Child] = {}

    def taps(self) -> Iterable[Tap]:
        """`subprocess`, which all but `fork` goes through, and `fork`."""
        yield Tap(subprocess.Popen, "__init__", self._around_popen)
        for name in ("fork", "forkpty", "posix_spawn", "posix_spawnp"):
            if hasattr(os, name):
                yield Tap(os, name, self._around_fork)
        # `multiprocessing` calls it where it spawns; `subprocess` has imported it by name.
        native = sys.modules.get("_posixsubprocess")
        if native is not None:
            yield Tap(native, "fork_exec", self._around_fork_exec)

    def note(self, owner: Owner) -> None:
        """See `Probe`."""
        self._before[owner] = frozenset(list_children())

    def claim(self, owner: Owner, before: frozenset[int] | None = None) -> None:
        """Children that are new and that nobody saw start are this owner's.

        Args:
            owner: whose.
            before: None: what was noted for this owner.
        """
        if before is None:
            before = self._before.get(owner, frozenset())
        for pid in list_children():
            if pid not in before and pid not in self._children:
                self._children[pid] = _Child(_command_line(pid), Maker(UNKNOWN, owner))

    def forget(self, owners: Owners) -> None:
        """See `Probe`."""
        for owner in owners:
            self._before.pop(owner, None)
        self.prune()

    def prune(self) -> None:
        """See `Probe`."""
        if self._children:
            living = set(list_children())
            self._children = {pid: each for pid, each in self._children.items() if pid in living}

    def _around_popen(
        self, call: Callable[..., Any], popen: Any, *args: Any, **kwargs: Any
    ) -> None:
        __tracebackhide__ = True
        call(popen, *args, **kwargs)
        self._note(popen.pid, _as_text(popen.args))

    def _around_fork(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        made = call(*args, **kwargs)
        pid = made[0] if isinstance(made, tuple) else made
        if pid:
            self._note(pid, _as_text(args[1]) if len(args) > 1 else "a fork of this program")
        return made

    def _around_fork_exec(self, call: Callable[..., int], *args: Any) -> int:
        __tracebackhide__ = True
        pid = call(*args)
        self._note(pid, _as_text(args[0]))
        return pid

    def _note(self, pid: int, arguments: str) -> None:
        self._children[pid] = _Child(arguments, self._ownership.maker(2))

    def let_go(self) -> None:
        """Have multiprocessing drop the children that have ended and were waited for.

        It does so itself, but only when it is used again; each of them keeps pipes open.
        """
        module: Any = sys.modules.get("multiprocessing.process")
        for child in tuple(getattr(module, "_children", ())):
            if getattr(child._popen, "returncode", None) is not None:
                module._children.discard(child)

    def left(self, owners: Owners) -> list[Left]:
        """Children of these owners that run, or that nobody has waited for."""
        found = []
        befores = [before for each in owners if (before := self._before.get(each)) is not None]
        helpers = _multiprocessings()
        for pid in list_children():
            child = self._children.get(pid)
            asked = befores if child is None else [self._before.get(child.maker.owner, frozenset())]
            if pid in helpers or any(pid in before for before in asked):
                continue
            if child is None:
                child = _Child(_command_line(pid), Maker(UNKNOWN, _anybody(owners)))
            state = _state(pid)
            if child.maker.owner in owners and state is not None:
                leak = Leak(
                    LeakKind.PROCESS,
                    child.arguments,
                    child.maker.origin.text,
                    detail=f"process {pid} {state}",
                    through=child.maker.origin.through_text,
                )
                found.append(Left(leak, ("process", pid)))
        return found


def _anybody(owners: Owners) -> Owner:
    return next(iter(owners), OTHERS)


def _as_text(arguments: Any) -> str:
    if isinstance(arguments, str | bytes | os.PathLike):
        text = os.fsdecode(arguments)
    else:
        text = shlex.join(os.fsdecode(each) for each in arguments)
    return text if len(text) <= ARGUMENTS_CHARS_MAX else f"{text[:ARGUMENTS_CHARS_MAX]}…"


def list_children() -> list[int]:
    """The children of this process, those that have ended and wait for a parent's word too."""
    if not hasattr(os, "waitid"):
        return []
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return []
    found: set[int] = set()
    listed = 0
    try:
        threads = os.listdir(_TASKS)
    except OSError:
        threads = []
    for thread in threads:
        try:
            found.update(map(int, _read(f"{_TASKS}/{thread}/children").split()))
            listed += 1
        except OSError:  # it has just ended, or the kernel lists no children
            continue
    return sorted(found) if listed else _search_children()


def _read(path: str) -> bytes:
    """A file of the kernel's, without the layers that `open` puts on it."""
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(number, 1 << 20)
    finally:
        os.close(number)


def _search_children() -> list[int]:
    """The same where the kernel does not list children: every process is asked for its parent."""
    own, found = os.getpid(), []
    try:
        names = os.listdir("/proc")
    except OSError:
        return []
    for name in names:
        if name.isdigit():
            fields = _stat(int(name))
            if fields and int(fields[1]) == own:
                found.append(int(name))
    return sorted(found)


def _stat(pid: int) -> list[str]:
    """State, parent, … of a process, as the kernel gives them; empty if it is gone."""
    try:
        text = _read(f"/proc/{pid}/stat").decode(errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _state(pid: int) -> str | None:
    """What it is, in words; None if it was waited for."""
    try:
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    if ended is None:
        return "is still running"
    how = "with" if ended.si_code == os.CLD_EXITED else "by signal"
    return f"ended {how} {ended.si_status}, and nobody has waited for it: a zombie"


def _command_line(pid: int) -> str:
    try:
        words = _read(f"/proc/{pid}/cmdline").split(b"\0")
    except OSError:
        words = []
    return _as_text([word for word in words if word]) or f"process {pid}"


def _multiprocessings() -> set[int]:
    """The helpers that multiprocessing keeps, once it has them."""
    found = set()
    for module, keeper, name in (
        ("multiprocessing.resource_tracker", "_resource_tracker", "_pid"),
        ("multiprocessing.forkserver", "_forkserver", "_forkserver_pid"),
    ):
        pid = getattr(getattr(sys.modules.get(module), keeper, None), name, None)
        if isinstance(pid, int):
            found.add(pid)
    return found
