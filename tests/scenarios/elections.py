"""The eight election scenarios, as stories over a cluster; `tests/test_elections.py` and
`python -m tests.many_seeds` tell them.

Rules of this file:

* A scenario opens its cluster through the `Open` it is given, so that it can be told in virtual
  time or over TCP, calm or under stress.
* Where messages get lost (`cluster.loses_messages`), three heartbeats in a row may be, and an
  election is then right: "nothing changes" is asked for where nothing is wrong, but what a node
  does while it is away is asked for in any.
* A pause (`let_pass`) is part of the story, as "the follower is away for 650 ms"; whatever must
  *become* true is waited for by its condition.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol, TypeAlias

import trio

from trioraft import Timing
from trioraft.testing.cluster import Cluster


class Open(Protocol):
    """Opens a cluster; what the scenario does not say is the teller's choice."""

    def __call__(
        self, size: int, *, timing: Timing | None = None
    ) -> AbstractAsyncContextManager[Cluster]: ...


Scenario: TypeAlias = Callable[[Open], Awaitable[None]]


async def let_pass(seconds: float) -> None:
    """A stretch of time in the story."""
    await trio.sleep(seconds)


def another(cluster: Cluster, node_id: str) -> str:
    """The node after this one."""
    return cluster.ids[(cluster.ids.index(node_id) + 1) % len(cluster.ids)]


async def election_basic(open_cluster: Open) -> None:
    """A new cluster elects one leader."""
    async with open_cluster(3) as cluster:
        await cluster.check_single_leader()


async def leader_disconnect(open_cluster: Open) -> None:
    """The leader vanishes; another takes over in a later term."""
    async with open_cluster(3) as cluster:
        old, old_term = await cluster.check_single_leader()
        cluster.disconnect(old)
        new, new_term = await cluster.check_single_leader()
        assert new != old
        assert new_term > old_term


async def leader_and_another_disconnect(open_cluster: Open) -> None:
    """Without a quorum nobody leads; with it again, somebody does."""
    async with open_cluster(3) as cluster:
        leader, _ = await cluster.check_single_leader()
        other = another(cluster, leader)
        cluster.disconnect(leader)
        cluster.disconnect(other)
        await let_pass(0.450)
        cluster.check_no_leader()
        cluster.reconnect(other)
        await cluster.check_single_leader()


async def disconnect_all_then_restore(open_cluster: Open) -> None:
    """Nobody hears anybody; once they do, one leads."""
    async with open_cluster(3) as cluster:
        await let_pass(0.100)
        for node_id in cluster.ids:
            cluster.disconnect(node_id)
        await let_pass(0.450)
        # None is connected; one that still led would have to have noticed by now.
        for node_id in cluster.ids:
            assert cluster.nodes[node_id].status.role.value != "Leader"
        for node_id in cluster.ids:
            cluster.reconnect(node_id)
        await cluster.check_single_leader()


async def _leader_reconnects(open_cluster: Open, size: int) -> None:
    async with open_cluster(size) as cluster:
        old, _ = await cluster.check_single_leader()
        cluster.disconnect(old)
        new, new_term = await cluster.check_single_leader()
        cluster.reconnect(old)
        await let_pass(0.150)
        again = await cluster.check_single_leader()
        assert again == (new, new_term) or cluster.loses_messages


async def leader_disconnect_then_reconnect(open_cluster: Open) -> None:
    """The old leader comes back and follows the new one; nothing else changes."""
    await _leader_reconnects(open_cluster, 3)


async def leader_disconnect_then_reconnect_5(open_cluster: Open) -> None:
    """The same with five nodes."""
    await _leader_reconnects(open_cluster, 5)


async def follower_comes_back(open_cluster: Open) -> None:
    """A follower is away for a while. With pre-vote, its return changes nothing."""
    async with open_cluster(3) as cluster:
        leader, term = await cluster.check_single_leader()
        other = another(cluster, leader)
        cluster.disconnect(other)
        term_at_cut = cluster.nodes[other].status.term
        await let_pass(0.650)
        assert cluster.nodes[other].status.term == term_at_cut
        cluster.reconnect(other)
        await let_pass(0.150)
        again = await cluster.check_single_leader()
        assert again == (leader, term) or cluster.loses_messages


async def follower_comes_back_without_pre_vote(open_cluster: Open) -> None:
    """Without pre-vote the follower comes back with a higher term, and forces an election."""
    async with open_cluster(3, timing=Timing(pre_vote=False)) as cluster:
        leader, term = await cluster.check_single_leader()
        other = another(cluster, leader)
        cluster.disconnect(other)
        await let_pass(0.650)
        away_term = cluster.nodes[other].status.term
        assert away_term > term
        cluster.reconnect(other)
        _, new_term = await cluster.check_single_leader()
        assert new_term >= away_term


async def disconnect_loop(open_cluster: Open) -> None:
    """Five times: no quorum, no leader; quorum, leader."""
    async with open_cluster(3) as cluster:
        for _ in range(5):
            leader, _ = await cluster.check_single_leader()
            other = another(cluster, leader)
            cluster.disconnect(leader)
            cluster.disconnect(other)
            await let_pass(0.310)
            cluster.check_no_leader()
            cluster.reconnect(other)
            cluster.reconnect(leader)
            await let_pass(0.150)
        await cluster.check_single_leader()


SCENARIOS: Final[dict[str, Scenario]] = {
    scenario.__name__: scenario
    for scenario in (
        election_basic,
        leader_disconnect,
        leader_and_another_disconnect,
        disconnect_all_then_restore,
        leader_disconnect_then_reconnect,
        leader_disconnect_then_reconnect_5,
        follower_comes_back,
        follower_comes_back_without_pre_vote,
        disconnect_loop,
    )
}
"""By name. The seeds' FollowerComesBack is told twice: with and without pre-vote."""
