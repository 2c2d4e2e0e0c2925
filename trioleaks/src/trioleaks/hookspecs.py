"""Hooks of this plugin that other plugins and `conftest.py` may implement.

They are called once for each test, when all tests are collected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .checks import Check
    from .settings import Settings


@pytest.hookspec(firstresult=True)
def pytest_leaks_settings(item: pytest.Item, settings: Settings) -> Settings | None:
    """Change how this test is checked.

    Args:
        item: the test.
        settings: what the ini file, the command line and the test's markers ask for.

    Returns: other settings (`settings._replace(mode="error")`), or None to leave them.
    """


@pytest.hookspec
def pytest_leaks_checks(item: pytest.Item) -> Iterable[Check]:  # type: ignore[empty-body]  # see above
    """Give checks of your own for this test.

    Args:
        item: a test that is checked for leaks.

    Returns: functions that are called in the test's Trio run when its body ends (`strict`) and
    when its main task ends, and return the leaks they find. They must not wait.
    """
