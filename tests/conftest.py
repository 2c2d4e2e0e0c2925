"""How the suite is run: whole, on all cores; a part of it, in this process and at once.

Rules of this file: `pytest -n0` keeps everything in one process, `pytest -n4` in four others,
whatever stands here.
"""

from __future__ import annotations

import pytest

CHOSEN = ("keyword", "markexpr", "lf", "failedfirst", "stepwise", "trace", "raftlog", "collectonly")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """None for as many workers as there are cores, 0 for none.

    Who names files, or selects tests, wants few of them soon, in the process that a debugger sees,
    that prints what it prints, and that writes one raftlog.
    """
    is_whole = config.args_source is not pytest.Config.ArgsSource.ARGS
    is_seen = config.getoption("capture", None) == "no"
    is_chosen = any(config.getoption(name, None) for name in CHOSEN)
    return None if is_whole and not is_seen and not is_chosen else 0
