"""The leak check under trioraft's names, and with its check of a node's roles.

Rules of this file:

* The check itself is the plugin of trioleaks; this one asks it, through its hooks. trioraft's check
  is strict: what a test has started is gone when its body ends, before its nursery is cancelled.
* It is imported at every start of pytest: it imports nothing of trioraft, nor Trio. A test that has
  no Raft node never loads the check of nodes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from trioleaks.settings import Settings

    from trioleaks import Check, Leak

_FIXTURE = "leak_check"
_OFF = "no_leak_check"
_INI = "raft_leak_check"
_INI_ALLOW = "raft_leak_check_allow"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the two ini options."""
    parser.addini(_INI, "check every Trio test for leaks", type="bool", default=False)
    parser.addini(
        _INI_ALLOW, "names of tasks, threads, … that tests may leave", type="linelist", default=[]
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the two markers."""
    config.addinivalue_line(
        "markers",
        "leak_check(allow=[]): check this Trio test for leaks, but for those names",
    )
    config.addinivalue_line("markers", "no_leak_check: do not check this test for leaks")


@pytest.fixture
def leak_check() -> None:
    """Fail the Trio test that uses this if anything it started is there when its body ends."""


@pytest.hookimpl(optionalhook=True)
def pytest_leaks_settings(item: pytest.Item, settings: Settings) -> Settings | None:
    """Check strictly what trioraft's names ask for."""
    if item.get_closest_marker(_OFF) is not None:
        return settings._replace(mode="off", off_by=f"the marker {_OFF}")
    wanted = (
        bool(item.config.getini(_INI))
        or item.get_closest_marker(_FIXTURE) is not None
        or _FIXTURE in getattr(item, "fixturenames", ())
    )
    if not wanted or settings.off_by:
        return None
    allow = (*settings.allow, *item.config.getini(_INI_ALLOW), *_allowed(item))
    return settings._replace(mode="error", is_strict=True, allow=allow)


@pytest.hookimpl(optionalhook=True)
def pytest_leaks_checks() -> Iterable[Check]:
    """Look for two tasks of one role in a live node."""
    return (_role_leaks,)


def _role_leaks() -> Iterable[Leak]:
    if "trioraft" not in sys.modules:
        return ()  # so there is no node
    from trioraft.testing.leaks import role_leaks  # here: see the rules

    return role_leaks()


def _allowed(item: pytest.Item) -> list[str]:
    allowed: list[str] = []
    for marker in item.iter_markers(_FIXTURE):
        if marker.args or marker.kwargs.keys() - {"allow"}:
            raise pytest.UsageError(
                f"{item.nodeid}: write leak_check(allow=[...]), not {marker.args} {marker.kwargs}"
            )
        allowed += marker.kwargs.get("allow", [])
    return allowed
