"""How the suite is run: whole, on all cores; a part of it, here and at once.

Rules of this file: `pytest -n0` keeps everything in one process, whatever stands here.
"""

from __future__ import annotations

import pytest


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """None for as many workers as there are cores, 0 for none.

    Who names files, or selects tests, wants few of them soon, in the process that a debugger sees
    and that writes one raftlog.
    """
    chosen = ("keyword", "markexpr", "lf", "failedfirst", "raftlog", "collectonly")
    is_whole = config.args_source is not pytest.Config.ArgsSource.ARGS
    return None if is_whole and not any(config.getoption(name) for name in chosen) else 0
