"""Alive and ready: what is wrong, in words; on clusters in virtual time where one can be brought to
it, and on figures where it is a matter of numbers."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from tests.support import open_single
from trioraft import MemoryStorage, Node, Role, Timing
from trioraft.http.health import (
    SILENT_S_MAX,
    UNAPPLIED_MAX,
    checks,
    problems,
    why_not_alive,
)
from trioraft.node.figures import Figures, figures_of
from trioraft.testing import open_cluster
from trioraft.testing.faulty_storage import FaultyStorage


def why_not_ready(node: Node) -> str:
    return "; ".join(problems(checks(figures_of(node), 0.0)))


async def test_a_cluster_is_ready_once_it_leads_and_its_members_as_soon_as_they_know(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(3) as cluster:
        assert "it knows no leader (Follower, term 0)" in why_not_ready(cluster.nodes["0"])
        await cluster.check_single_leader()
        await cluster.propose(b"x")
        await trio.sleep(1.0)
        assert {why_not_ready(node) for node in cluster.nodes.values()} == {""}
        cluster.partition({"0"}, {"1"}, {"2"})
        await trio.sleep(5.0)
        for node in cluster.nodes.values():
            assert why_not_ready(node).startswith("it knows no leader (")
            assert why_not_alive(figures_of(node), 0.0) == "", "a restart would help nobody"


async def test_who_waits_for_others_says_for_whom(autojump_clock: MockClock) -> None:
    async with open_single(voters=("0", "1")) as node:
        await trio.sleep(1.0)
        assert "the cluster is forming: waiting for 1 (" in why_not_ready(node)


async def test_who_was_not_added_yet_or_was_removed_says_so(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        leader, _ = await cluster.check_single_leader()
        await cluster.join("3")
        assert "it was not added to the cluster yet" in why_not_ready(cluster.nodes["3"])
        other = next(node_id for node_id in cluster.ids if node_id not in (leader, "3"))
        await cluster.nodes[leader].remove(other)
        await trio.sleep(5.0)
        assert "it was removed from the cluster" in why_not_ready(cluster.nodes[other])


async def test_a_disk_that_takes_no_writes(autojump_clock: MockClock) -> None:
    storage = FaultyStorage(MemoryStorage())
    async with open_single(storage=storage) as node:
        await node.wait(lambda status: status.role is Role.LEADER)
        await node.propose(b"x")
        storage.disk_full = True
        proposal = node.submit(b"x")
        await trio.sleep(0.05)
        assert "its disk takes no writes: no room is left" in why_not_ready(node)
        assert why_not_alive(figures_of(node), 0.0) == ""
        storage.disk_full = False
        await proposal.settled()
        await node.wait(lambda status: status.role is Role.LEADER)
        await trio.sleep(0.05)
        assert why_not_ready(node) == ""


@pytest.fixture
async def figures(autojump_clock: MockClock) -> Figures:
    async with open_single() as node:
        await node.wait(lambda status: status.role is Role.LEADER)
        await node.propose(b"x")
        return figures_of(node)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, ""),
        ({"unapplied": UNAPPLIED_MAX}, ""),
        ({"unapplied": UNAPPLIED_MAX + 1}, "it has applied 2 of 2 committed entries"),
        ({"is_restoring": True}, "it restores a snapshot from its leader"),
        ({"disk_waits_s": 0.2}, ""),
        ({"disk_waits_s": 0.4}, "a write has waited for its disk for 0.4 s"),
    ],
)
async def test_numbers_that_are_too_large(
    figures: Figures, changes: dict[str, Any], problem: str
) -> None:
    assert figures.patience_s == Timing().election_timeout_s[1]
    assert "; ".join(problems(checks(attrs.evolve(figures, **changes), 0.0))) == problem


async def test_a_loop_that_is_silent_is_not_ready_at_once_and_not_alive_after_a_while() -> None:
    assert [*problems(checks(None, 2.0))] == ["the node's event loop has not answered for 2.0 s"]
    assert why_not_alive(None, SILENT_S_MAX - 0.1) == ""
    assert why_not_alive(None, SILENT_S_MAX) == "the node's event loop has not answered for 10 s"


async def test_a_dead_node_is_neither() -> None:
    async with open_single() as node:
        node.kill()
        assert why_not_alive(figures_of(node), 0.0) == "the node is Dead: killed"
        assert why_not_ready(node).startswith("the node is Dead: killed")
