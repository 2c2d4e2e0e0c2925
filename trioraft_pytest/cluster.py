"""The fixture `raft_cluster`: several nodes in the test's process, for Trio, asyncio and threads.

Rules of this file:

* It is imported at every start of pytest: it imports nothing of trioraft, nor Trio, until a test
  asks for a cluster.
* The test says what it gets by what it is: one that runs under Trio has a `Cluster` in its own
  run, in virtual time; an asyncio test an `AsyncCluster`, a plain one a `BlockingCluster`, whose
  nodes have a thread of their own. So one fixture does for all plugins that run async tests.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from trioraft.testing import Cluster

_MARKER = "raft_cluster"


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line(
        "markers",
        'raft_cluster(nodes=3, network="memory", **options): what the fixture raft_cluster opens; '
        "options as of trioraft.testing.open_cluster",
    )


@pytest.fixture
def raft_cluster(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Three nodes, or what the marker `raft_cluster` says: a `Cluster` for a test that runs under
    Trio, an `AsyncCluster` for an asyncio test, a `BlockingCluster` for a plain one."""
    options = _options(request.node)
    if _runs_trio(request):
        _in_virtual_time(request, options)
        yield request.getfixturevalue("_raft_cluster_in_trio")
        return
    from trioraft.testing import clusters_elsewhere  # here: see the rules

    with ExitStack() as stack:
        if inspect.iscoroutinefunction(request.function):
            yield stack.enter_context(clusters_elsewhere.beside_asyncio(**options))
        else:
            yield stack.enter_context(clusters_elsewhere.open_blocking_cluster(**options))


@pytest.fixture
async def _raft_cluster_in_trio(request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    from trioraft.testing import open_cluster  # here: see the rules

    async with open_cluster(**_options(request.node)) as cluster:
        yield cluster


def _options(item: pytest.Item) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for marker in reversed([*item.iter_markers(_MARKER)]):  # the closest one has the last word
        if marker.args:
            raise pytest.UsageError(
                f"{item.nodeid}: write raft_cluster(nodes=3, …), not {marker.args}"
            )
        options |= marker.kwargs
    if "nodes" in options:
        options["size"] = options.pop("nodes")
    return options


def _runs_trio(request: pytest.FixtureRequest) -> bool:
    if request.node.get_closest_marker("trio") is not None:
        return True
    return (
        "anyio_backend" in request.fixturenames
        and request.getfixturevalue("anyio_backend_name") == "trio"
    )


def _in_virtual_time(request: pytest.FixtureRequest, options: dict[str, Any]) -> None:
    """Let pytest-trio run the test by a clock that jumps, unless the test brings a clock itself, or
    has real sockets or disks in it."""
    if options.get("network", "memory") != "memory" or options.get("storage") == "sqlite":
        return
    marker = request.node.get_closest_marker("trio")
    if marker is None:
        return
    import trio
    from trio.testing import MockClock

    def run(main: Callable[..., Any], *, clock: Any = None, **rest: Any) -> Any:
        jumping = MockClock(autojump_threshold=0) if clock is None else clock
        return trio.run(main, clock=jumping, **rest)

    if marker.kwargs.get("run", trio.run) is trio.run:  # nobody has asked for another one
        request.node.add_marker(pytest.mark.trio(run=run), append=False)
