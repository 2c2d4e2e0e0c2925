"""The pytest plugin: Trio tests fail when they leave something behind.

Rules of this file:

* The check wraps the test's own function, inside whatever pytest-trio wraps around it: it is
  made when the body ends, before fixtures are torn down and pytest-trio cancels its nursery.
* pytest-trio need not be there: without it there are no Trio tests, and this does nothing.
* A test function is as it was after its run: it may be run again, or shared by parameters.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, TypeAlias

import pluggy
import pytest

from .leaks import LeakError, no_leaks

_Body: TypeAlias = Callable[..., Coroutine[Any, Any, object]]

_FIXTURE = "leak_check"
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
def leak_check(request: pytest.FixtureRequest) -> None:
    """Fail the Trio test that uses this if anything it started is there when its body ends."""
    if request.node.get_closest_marker("trio") is None:
        pytest.fail(
            "leak_check is for Trio tests; in a synchronous test use "
            "`async with no_leaks()` in the function that is given to trio.run()",
            pytrace=False,
        )


# The older kind of wrapper: the newer kind adds a line to the traceback of every failing test.
@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, pluggy.Result[None], None]:
    """Wrap the body before pytest-trio, which wraps it later, makes it synchronous."""
    if not _is_wanted(item):
        yield
        return
    with _wrapped_body(item, _allowed(item)):
        outcome = yield
    leak_error = _only_leak_error(outcome.exception)
    if leak_error is not None:
        outcome.force_exception(leak_error.with_traceback(None))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show a leak report as it is: a traceback through Trio's run loop would bury it."""
    report = yield
    if report.failed and call.excinfo is not None and isinstance(call.excinfo.value, LeakError):
        report.longrepr = call.excinfo.getrepr(style="value")
    return report


def _is_wanted(item: pytest.Item) -> bool:
    if item.get_closest_marker("trio") is None or item.get_closest_marker("no_leak_check"):
        return False
    return (
        bool(item.config.getini(_INI))
        or item.get_closest_marker(_FIXTURE) is not None
        or _FIXTURE in getattr(item, "fixturenames", ())
    )


def _allowed(item: pytest.Item) -> list[str]:
    allowed: list[str] = list(item.config.getini(_INI_ALLOW))
    for marker in item.iter_markers(_FIXTURE):
        if marker.args or marker.kwargs.keys() - {"allow"}:
            raise pytest.UsageError(
                f"{item.nodeid}: write leak_check(allow=[...]), not {marker.args} {marker.kwargs}"
            )
        allowed += marker.kwargs.get("allow", [])
    return allowed


@contextmanager
def _wrapped_body(item: pytest.Item, allowed: list[str]) -> Generator[None]:
    """Put the check around the test's function, for as long as the test runs."""
    # Hypothesis runs an inner function once an example; each has a Trio run of its own.
    hypothesis = getattr(getattr(item, "obj", None), "hypothesis", None)
    owner, name = (item, "obj") if hypothesis is None else (hypothesis, "inner_test")
    body = getattr(owner, name, None)
    if not inspect.iscoroutinefunction(body):
        yield  # pytest-trio says what is wrong with it
        return
    setattr(owner, name, _checked(body, allowed))
    try:
        yield
    finally:
        setattr(owner, name, body)


def _checked(body: _Body, allowed: list[str]) -> _Body:
    @functools.wraps(body)
    async def checked(*args: object, **kwargs: object) -> None:
        __tracebackhide__ = True
        async with no_leaks(allow=allowed):
            await body(*args, **kwargs)

    return checked


def _only_leak_error(error: BaseException | None) -> LeakError | None:
    """The leak report, if there is nothing else in this error: nurseries wrap it in groups."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, LeakError) else None
