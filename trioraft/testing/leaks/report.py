"""What a leak is, and how it is told.

Rules of this file:

* A `Leak` is text only: it keeps nothing alive that leaked.
* The report teaches: what leaked, where it was started, what it waits for, what to do about it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from typing import final

import attrs

SHOWN_MAX = 20  # a test that leaks a thousand tasks has one mistake, not a thousand


@final
class LeakKind(enum.Enum):
    """What sort of thing was left behind. The value is the word used in reports."""

    TASK = "task"
    THREAD = "thread"
    DESCRIPTOR = "descriptor"
    CHANNEL = "memory channel"
    ASYNC_GENERATOR = "async generator"
    ROLE = "role"


_ADVICE = {
    LeakKind.TASK: "cancel its nursery and leave the `async with` before the test ends",
    LeakKind.THREAD: "tell it to stop and join it, or await the to_thread call it serves",
    LeakKind.DESCRIPTOR: "close it: `async with` or `with` around its whole life",
    LeakKind.CHANNEL: "close both ends: `async with send, receive:`, in the task that uses each",
    LeakKind.ASYNC_GENERATOR: "iterate it to its end, or use `async with aclosing(...)`",
    LeakKind.ROLE: "cancel a role's tasks with the role, before the next role starts its own",
}


@final
@attrs.frozen
class Leak:
    """One thing that was left behind.

    Attributes:
        kind: what sort of thing it is.
        name: the task's or thread's name, the address or path, the generator's function.
            `no_leaks(allow=...)` matches against it.
        spawned_at: "file:line in function" of the user's code that started it, or None where
            that cannot be known.
        await_chain: where it is now, outermost first, each as "function file:line".
        detail: one sentence on why this is a leak.
    """

    kind: LeakKind
    name: str
    spawned_at: str | None = None
    await_chain: tuple[str, ...] = ()
    detail: str = ""

    def __str__(self) -> str:
        lines = [f"{self.kind.value}: {self.name}"]
        if self.detail:
            lines.append(f"    it is        {self.detail}")
        lines.append(f"    started at   {self.spawned_at or 'unknown'}")
        for number, step in enumerate(self.await_chain):
            lines.append(f"    {'' if number else 'waits in':12} {step}")
        return "\n".join(lines)


@final
class LeakError(AssertionError):
    """Something that the code started was still there when it ended. Yours to fix.

    Attributes:
        leaks: what was left behind, tasks first.
    """

    def __init__(self, leaks: Iterable[Leak]) -> None:
        self.leaks = tuple(leaks)
        super().__init__(render(self.leaks))

    def __reduce__(self) -> tuple[type[LeakError], tuple[tuple[Leak, ...]]]:
        return LeakError, (self.leaks,)


def render(leaks: tuple[Leak, ...]) -> str:
    """The whole report. Advice stands once a kind, after the leaks."""
    count = "1 leak" if len(leaks) == 1 else f"{len(leaks)} leaks"
    lines = [f"{count}: started in here, and still there at the end"]
    lines += [f"  {number}. {leak}" for number, leak in enumerate(leaks[:SHOWN_MAX], start=1)]
    if len(leaks) > SHOWN_MAX:
        lines.append(f"  … and {len(leaks) - SHOWN_MAX} more")
    lines.append("what to do:")
    kinds = [kind for kind in LeakKind if any(leak.kind is kind for leak in leaks)]
    lines += [f"  {kind.value}: {_ADVICE[kind]}" for kind in kinds]
    lines.append('  meant to stay? no_leaks(allow=["its name"]), `*` and `?` are wildcards')
    return "\n".join(lines)


@final
class Allowed:
    """Names that may stay. `*` and `?` are wildcards; brackets are not: names have them."""

    def __init__(self, patterns: Iterable[str]) -> None:
        if isinstance(patterns, str):
            raise TypeError(f"allow must be a list of names, not one string: [{patterns!r}]")
        alternatives = [
            re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".") for pattern in patterns
        ]
        self._pattern = re.compile("|".join(alternatives), re.DOTALL) if alternatives else None

    def __contains__(self, name: object) -> bool:
        if self._pattern is None or not isinstance(name, str):
            return False
        return self._pattern.fullmatch(name) is not None
