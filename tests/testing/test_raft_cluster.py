"""The fixture `raft_cluster`: in this suite, which runs Trio, and in a project of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio

from trioraft import Role
from trioraft.testing import BlockingCluster, Cluster

pytest_plugins = ["pytester"]

SAMPLE = Path(__file__).parents[2] / "examples" / "testing_a_service"


async def test_time_is_virtual_under_trio(raft_cluster: Cluster) -> None:
    began_s = time.monotonic()
    leader, _ = await raft_cluster.check_single_leader()
    raft_cluster.disconnect(leader)
    await trio.sleep(60)
    raft_cluster.heal()
    await raft_cluster.check_single_leader()
    assert time.monotonic() - began_s < 30


@pytest.mark.raft_cluster(nodes=1, machine=lambda: 1 / 0)
@pytest.mark.raft_cluster(machine=lambda: None, seed=7)
class TestMarkers:
    @pytest.mark.raft_cluster(nodes=5)
    def test_the_closest_marker_has_the_last_word(self, request: pytest.FixtureRequest) -> None:
        from trioraft_pytest.cluster import _options

        options = _options(request.node)
        assert options["size"] == 5
        assert options["seed"] == 7


@pytest.mark.raft_cluster(nodes=1)
async def test_a_clock_of_the_test_s_own_is_taken(
    raft_cluster: Cluster, mock_clock: trio.testing.MockClock
) -> None:
    assert trio.current_time() == mock_clock.current_time()
    mock_clock.jump(10.0)
    await raft_cluster.wait(lambda: _leads(raft_cluster), "a leader, by a clock that is pushed")


def _leads(cluster: Cluster) -> bool:
    return any(node.status.role is Role.LEADER for node in cluster.nodes.values())


@pytest.mark.raft_cluster(network="tcp", storage="sqlite")
async def test_tcp_on_request(raft_cluster: Cluster) -> None:
    began_s = time.monotonic()
    await raft_cluster.check_single_leader()
    await trio.sleep(0.05)  # of real time, which a virtual clock would jump over
    assert time.monotonic() - began_s >= 0.05


def test_time_is_virtual_for_a_plain_test_while_it_waits(raft_cluster: BlockingCluster) -> None:
    leader = raft_cluster.leader()
    began_s = time.monotonic()
    raft_cluster.sleep(60)
    assert time.monotonic() - began_s < 30
    assert len(raft_cluster.nodes) == 3
    raft_cluster.partition({leader.id}, set(raft_cluster.ids) - {leader.id})
    leader.wait(lambda status: status.role is not Role.LEADER)
    raft_cluster.heal()
    raft_cluster.propose(b"x")
    nodes, index = raft_cluster.check_committed(b"x")
    assert nodes == 3
    assert index > 1
    raft_cluster.check_logs_agree()


def test_a_marker_that_is_written_wrongly_says_so(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.raft_cluster(3)
        def test_it(raft_cluster): ...
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["*write raft_cluster(nodes=3, …)*"])


def test_the_sample_project_s_tests_pass() -> None:
    for name in ("pytest_asyncio", "anyio", "pytest_trio"):
        pytest.importorskip(name)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=SAMPLE,
        env={name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.search(r"^8 passed", ended.stdout, re.MULTILINE), ended.stdout
    assert "0 leak" in ended.stdout
