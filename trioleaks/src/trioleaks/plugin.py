"""The pytest plugin's front: options, and nothing else until a test asks to be checked.

Rules of this file:

* It is imported at every start of pytest in every environment that has it: it imports neither
  Trio nor attrs, and does nothing while `leaks` is off.
* What does the work (`session`) is loaded when all tests are collected and one wants it.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder

import pytest


class _PlainFinder:
    """Finds this package's modules as Python does.

    pytest has a finder of its own for all modules of a plugin's distribution: it rewrites what
    they assert, and reads what was compiled at a fifth of the speed.
    """

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None, target: object = None
    ) -> ModuleSpec | None:
        if not name.startswith(f"{__package__}."):
            return None
        return PathFinder.find_spec(name, path)


@contextmanager
def _plain_imports() -> Generator[None]:
    sys.meta_path.insert(0, _PlainFinder)
    try:
        yield
    finally:
        sys.meta_path.remove(_PlainFinder)


with _plain_imports():
    from . import hookspecs, settings, summary


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    settings.add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks."""
    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker; see that the options go together.

    Raises:
        pytest.UsageError: they do not.
    """
    config.addinivalue_line(
        "markers",
        "leaks(mode, strict=False, allow=[], kinds=[], grace_s=0.5): how this Trio test is "
        "checked for leaks; mode is 'off', 'warn' or 'error'",
    )
    config.pluginmanager.register(summary.Summary(config), "trioleaks-summary")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Load what checks, if there is a test that wants to be checked."""
    config = session.config
    common = settings.of_config(config)
    wanted = {}
    for item in session.items:
        asked = settings.of_item(item, common)
        hook = item.ihook.pytest_leaks_settings
        if hook.get_hookimpls():
            asked = hook(item=item, settings=asked) or asked
        wanted[item] = asked
    if all(each.mode == "off" for each in wanted.values()):
        return
    with _plain_imports():
        from .session import LeakSession  # here: it imports Trio, which many projects do without

    config.pluginmanager.register(LeakSession(config, wanted), "trioleaks-session")
