"""How the suite is run: whole, by a worker more than there are cores; a part of it, in this process
and at once. And one terminal for it, whatever the one is like in which it runs.

Rules of this file:

* `pytest -n0` keeps everything in one process, `pytest -n4` in four others, whatever stands here.
* What commands print is wrapped at a width and coloured as variables of whoever runs the tests say,
  and a path in the text is as long as the temporary directory. So typer's width is larger than any
  text, and nothing is coloured, here and in every process that a test starts.
* A test of something narrow, coloured or interactive says so itself, in what it starts.
* A shell starts what it puts into the background with SIGINT ignored, and everything below inherits
  that: here it is an interrupt again, or what tests end by it would go on.
* Nothing else of the environment is changed: what must not matter, must not matter
  (`python -m tests.odd_environments`).
"""

from __future__ import annotations

import os
import signal
from typing import Final

import pytest

TERMINAL: Final = {"TERMINAL_WIDTH": "1000", "NO_COLOR": "1", "TERM": "xterm"}
OTHER_TERMINALS: Final = (
    *("COLUMNS", "LINES", "FORCE_COLOR", "CLICOLOR_FORCE", "PY_COLORS", "COLORTERM"),
    *("GITHUB_ACTIONS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"),
)
"""What rich, typer and pytest take for an order to colour or to wrap; some read it only once, when
they are imported."""
WITHOUT_ASYNCIO: Final = "-p no:asyncio"
"""For each pytest that a test starts: pytest-asyncio is there for examples/testing_a_service alone,
and warns where nobody has chosen how it runs fixtures."""
OURS: Final = "TRIORAFT_"
"""Settings of a server that the person at this machine may run."""


@pytest.hookimpl(trylast=True)  # pytest has looked at its own terminal by then
def pytest_configure() -> None:
    """Before any test is imported."""
    for name in [name for name in os.environ if name.startswith(OURS) or name in OTHER_TERMINALS]:
        del os.environ[name]
    os.environ.update(TERMINAL)
    os.environ["PYTEST_ADDOPTS"] = WITHOUT_ASYNCIO
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


CHOSEN = ("keyword", "markexpr", "lf", "failedfirst", "stepwise", "trace", "raftlog", "collectonly")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are cores, since tests wait for other processes; 0 for none.

    Who names files, or selects tests, wants few of them soon, in the process that a debugger sees,
    that prints what it prints, and that writes one raftlog.
    """
    is_whole = config.args_source is not pytest.Config.ArgsSource.ARGS
    is_seen = config.getoption("capture", None) == "no"
    is_chosen = any(config.getoption(name, None) for name in CHOSEN)
    return (os.cpu_count() or 1) + 1 if is_whole and not is_seen and not is_chosen else 0
