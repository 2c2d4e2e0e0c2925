"""What a leak is, and how it is told.

Rules of this file:

* A `Leak` is text only: it keeps nothing alive that leaked.
* The report teaches: what leaked, where it was started, what it waits for, what to do about it.
* A kind is a value, not a member of a closed list: a project may bring checks of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, ClassVar, final

import attrs

SHOWN_MAX = 20  # a test that leaks a thousand tasks has one mistake, not a thousand


@final
@attrs.frozen
class LeakKind:
    """What sort of thing was left behind.

    Attributes:
        value: the word used in reports, in `allow` and in the baseline.
        advice: what to do about it, as a report says it.
    """

    value: str
    advice: str = attrs.field(default="", eq=False)

    TASK: ClassVar[LeakKind]
    SYSTEM_TASK: ClassVar[LeakKind]
    RUN: ClassVar[LeakKind]
    ASYNCIO_TASK: ClassVar[LeakKind]
    THREAD: ClassVar[LeakKind]
    PROCESS: ClassVar[LeakKind]
    SOCKET: ClassVar[LeakKind]
    FILE: ClassVar[LeakKind]
    PIPE: ClassVar[LeakKind]
    DESCRIPTOR: ClassVar[LeakKind]
    CHANNEL: ClassVar[LeakKind]
    ASYNC_GENERATOR: ClassVar[LeakKind]
    SIGNAL_HANDLER: ClassVar[LeakKind]
    LIMITER: ClassVar[LeakKind]
    TEMPORARY_DIRECTORY: ClassVar[LeakKind]

    def __str__(self) -> str:
        return self.value


LeakKind.TASK = LeakKind(
    "task",
    "cancel its nursery and leave the `async with` before the test ends; if that does not end it, "
    "let `Cancelled` through, and give each shield a deadline",
)
LeakKind.SYSTEM_TASK = LeakKind(
    "system task", "start it in a nursery of yours; nobody awaits or ends a system task"
)
LeakKind.RUN = LeakKind("run", "let the host loop go on until `done_callback` was called")
LeakKind.ASYNCIO_TASK = LeakKind(
    "asyncio task", "cancel it and await it, or start it in an `asyncio.TaskGroup`"
)
LeakKind.THREAD = LeakKind(
    "thread", "tell it to stop and join it, or await the to_thread call it serves"
)
LeakKind.PROCESS = LeakKind(
    "process", "`async with` a nursery around `trio.run_process`, or terminate it and wait for it"
)
LeakKind.SOCKET = LeakKind("socket", "close it: `async with` or `with` around its whole life")
LeakKind.FILE = LeakKind("file", "close it: `with open(...)` or `async with await trio.open_file`")
LeakKind.PIPE = LeakKind("pipe", "close both ends: each in the process and the task that uses it")
LeakKind.DESCRIPTOR = LeakKind("descriptor", "close it: `with`, or `os.close` in a `finally`")
LeakKind.CHANNEL = LeakKind(
    "memory channel", "close both ends: `async with send, receive:`, in the task that uses each"
)
LeakKind.ASYNC_GENERATOR = LeakKind(
    "async generator", "iterate it to its end, or use `async with aclosing(...)`"
)
LeakKind.SIGNAL_HANDLER = LeakKind(
    "signal handler", "`with trio.open_signal_receiver(...)`, or put the former handler back"
)
LeakKind.LIMITER = LeakKind(
    "limiter token", "`async with limiter:`, which gives the token back whatever happens"
)
LeakKind.TEMPORARY_DIRECTORY = LeakKind(
    "temporary directory", "`with tempfile.TemporaryDirectory()`, or pytest's `tmp_path`"
)

KINDS = (
    LeakKind.TASK,
    LeakKind.SYSTEM_TASK,
    LeakKind.RUN,
    LeakKind.ASYNCIO_TASK,
    LeakKind.THREAD,
    LeakKind.PROCESS,
    LeakKind.SOCKET,
    LeakKind.FILE,
    LeakKind.PIPE,
    LeakKind.DESCRIPTOR,
    LeakKind.CHANNEL,
    LeakKind.ASYNC_GENERATOR,
    LeakKind.SIGNAL_HANDLER,
    LeakKind.LIMITER,
    LeakKind.TEMPORARY_DIRECTORY,
)
"""The kinds that are looked for without being asked, in the order of a report."""


@final
@attrs.frozen
class Leak:
    """One thing that was left behind.

    Attributes:
        kind: what sort of thing it is.
        name: the task's or thread's name, the address or path, the generator's function.
            `allow` matches against it.
        spawned_at: "file:line in function" of the project's code that started it, or None where
            that cannot be known.
        await_chain: where it is now, outermost first, each as "function file:line".
        detail: one sentence on why this is a leak.
        through: "file:line in function" of the library through which it was started, if any.
    """

    kind: LeakKind
    name: str
    spawned_at: str | None = None
    await_chain: tuple[str, ...] = ()
    detail: str = ""
    through: str | None = None

    def __str__(self) -> str:
        lines = [f"{self.kind.value}: {self.name}"]
        if self.detail:
            lines.append(f"    it is        {self.detail}")
        lines.append(f"    started at   {self.spawned_at or 'unknown'}")
        if self.through is not None:
            lines.append(f"    through      {self.through}")
        for number, step in enumerate(self.await_chain):
            lines.append(f"    {'' if number else 'waits in':12} {step}")
        return "\n".join(lines)


@final
class LeakError(AssertionError):
    """Something that the code started was still there when it ended.

    Fault: of the code that started it.
    Remedy: each leak in the message says where it was started, and how such things are ended.

    Attributes:
        leaks: what was left behind, tasks first.
    """

    def __init__(self, leaks: Iterable[Leak], *, heading: str | None = None) -> None:
        self.leaks: tuple[Leak, ...] = tuple(leaks)
        self._heading = heading
        super().__init__(render(self.leaks, heading=heading))

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(LeakError, heading=self._heading), (self.leaks,), self.__dict__


def render(leaks: tuple[Leak, ...], *, heading: str | None = None) -> str:
    """The whole report. Advice stands once a kind, after the leaks.

    Args:
        leaks: what was left behind.
        heading: what the first line says after the count, if not the usual.
    """
    count = "1 leak" if len(leaks) == 1 else f"{len(leaks)} leaks"
    lines = [f"{count}: {heading or 'started in here, and still there at the end'}"]
    lines += [f"  {number}. {leak}" for number, leak in enumerate(leaks[:SHOWN_MAX], start=1)]
    if len(leaks) > SHOWN_MAX:
        lines.append(f"  … and {len(leaks) - SHOWN_MAX} more")
    lines.append("what to do:")
    for kind in dict.fromkeys(leak.kind for leak in leaks):
        if kind.advice:  # a project's own kind may come without
            lines.append(f"  {kind.value}: {kind.advice}")
    if leaks:
        lines.append(f'  meant to stay? allow=["{_entry(leaks[0])}"], here or in the settings')
    return "\n".join(lines)


def _entry(leak: Leak) -> str:
    """What allows this leak, wherever its line moves to."""
    if leak.spawned_at is None:
        return leak.name
    *folders, name = leak.spawned_at.partition(" in ")[0].rpartition(":")[0].split("/")
    if name in _EVERYWHERE and folders:
        name = f"{folders[-1]}/{name}"
    return f"kind={leak.kind.value} at={name}:*"


_EVERYWHERE = ("__init__.py", "__main__.py", "conftest.py")
"""Names of files that say nothing without their folder."""
