"""For checks of your own: what a project's own check of its tasks needs to know.

A check is a function without arguments that returns leaks. `no_leaks(checks=[...])` calls it at the
end of its block, the plugin at the end of each Trio test, both in the Trio run that is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from trio.lowlevel import Task

from .privates import is_cancelled as is_cancelled
from .report import Leak
from .sites import describe_frames
from .tasks import started_at as started_at
from .tasks import walk_tasks as walk_tasks

Check: TypeAlias = Callable[[], Iterable[Leak]]
"""Looks at the current Trio run and returns what should not be there. Must not wait."""


def describe_task(task: Task) -> tuple[str, ...]:
    """Where this task waits, outermost first, each as "function file:line"."""
    return describe_frames(task.iter_await_frames())
