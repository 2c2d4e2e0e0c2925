"""What the commands of the benchmarks have in common: how they end, and where they may write.

Rules of this file:

* What cannot work is found out before anything is measured, and said in one line.
* Ctrl-C ends a measurement between two events, tidily; what was measured so far is delivered.
"""

from __future__ import annotations

import os
import platform
import signal
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final

import trio
from rich.console import Console

from trioraft.tasks.background import running_beside

from . import plots

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130

TABLE_WIDTH: Final = 100
"""Columns of a table where there is no terminal to ask."""


def why_not_writable(path: Path) -> str | None:
    """What is wrong with this name for a file; None if it will do."""
    folder = path.absolute().parent
    if not folder.is_dir():
        return f"cannot write {str(path)!r}: there is no directory {str(folder)!r}"
    if path.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        return f"cannot write {str(path)!r}: it is a directory, or not writable"
    return None


def why_no_plot(path: Path) -> str | None:
    """Why there would be no picture in this file; None if there would."""
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        return f"--plot is {str(path)!r}: give a file that ends in .png"
    try:
        plots.check_available()
    except plots.PlotsUnavailable as error:
        return str(error)
    return why_not_writable(path)


def ending_on_interrupt(scope: trio.CancelScope) -> AbstractAsyncContextManager[None]:
    """Cancel this scope at Ctrl-C, as long as the block takes."""
    watching = trio.CancelScope()

    async def watch(*, task_status: trio.TaskStatus[None]) -> None:
        with watching, trio.open_signal_receiver(signal.SIGINT) as signals:
            task_status.started()
            async for _ in signals:
                scope.cancel()

    return running_beside(watch, stop=watching.cancel, name="interrupt")


def table_console() -> Console:
    """Where tables are printed."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = TABLE_WIDTH
    return console


def machine() -> dict[str, Any]:
    """Where it was measured, for a file."""
    return {
        "python": platform.python_version(),
        "trio": trio.__version__,
        "system": platform.platform(),
        "cpus": os.cpu_count(),
    }
