"""Scenarios of a cluster whose members, and whose leader, change on purpose.

Rules of this file: as in `elections`: written in the harness' verbs, the same on every network and
storage; what is acknowledged is looked for at the end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import pytest
import trio

from tests.scenarios.elections import Open, Scenario
from trioraft.core.config import Timing
from trioraft.core.errors import (
    ConfigurationConflict,
    NodeDead,
    NotLeader,
    OutcomeUnknown,
    ProposalDropped,
    TransferFailed,
)
from trioraft.core.types import NodeId, Role
from trioraft.testing.cluster import Cluster

CLIENTS: Final = 4
"""That propose all the time."""


async def transfer_to_each_in_turn(cluster: Cluster) -> None:
    """Leadership goes where it is sent, a term at a time, and nothing is lost."""
    for number, target in enumerate(cluster.ids):
        await cluster.propose(b"%d" % number)
        old, term_before = await cluster.check_single_leader()
        await _transfer(cluster, target)
        leader, term = await cluster.check_single_leader()
        if not cluster.loses_messages:
            assert (leader, term) == (target, term_before + (target != old))
    for number in range(len(cluster.ids)):
        await cluster.check_committed(b"%d" % number)


async def _transfer(cluster: Cluster, target: NodeId) -> None:
    """Hand over, again if messages were lost."""
    while True:
        leader, _ = await cluster.check_single_leader()
        try:
            assert await cluster.nodes[leader].transfer_leadership(target) == target
        except (TransferFailed, NotLeader):
            assert cluster.loses_messages
        else:
            return


async def transfer_to_one_that_is_away_is_given_up(cluster: Cluster) -> None:
    """The leader leads on, and takes commands again (hazard T1)."""
    leader, term = await cluster.check_single_leader()
    away = next(node_id for node_id in cluster.ids if node_id != leader)
    cluster.disconnect(away)
    await cluster.propose(b"it cannot have this")
    with pytest.raises((TransferFailed, NotLeader) if cluster.loses_messages else TransferFailed):
        await cluster.nodes[leader].transfer_leadership(away)
    if not cluster.loses_messages:
        assert await cluster.check_single_leader() == (leader, term)
    await cluster.propose(b"after")
    cluster.reconnect(away)
    await cluster.check_committed(b"after")


async def leader_leaves(cluster: Cluster) -> None:
    """A leader that stops on purpose hands over: the next one is there when it is gone."""
    leader, term = await cluster.check_single_leader()
    await cluster.propose(b"before")
    began_s = trio.current_time()
    await cluster.leave(leader)
    successor, next_term = await cluster.check_single_leader()
    assert successor != leader
    if not cluster.loses_messages:
        assert next_term == term + 1
        assert trio.current_time() - began_s < cluster.timing.election_timeout_s[0] / 2
    await cluster.restart(leader)
    await cluster.propose(b"after")
    assert (await cluster.check_committed(b"after"))[0] == len(cluster.ids)


async def reads_see_what_was_written(cluster: Cluster) -> None:
    """After a barrier on any node, its state machine has every command acknowledged before."""
    for number in range(5):
        data = b"%d" % number
        await cluster.propose(data)
        for node_id, node in cluster.nodes.items():
            await node.read_barrier()
            assert data in [command for _, command in cluster.machines[node_id].commands]


async def a_deposed_leader_answers_no_read(cluster: Cluster) -> None:
    """Cut off with its barrier, it waits; back again, it sees what others wrote meanwhile."""
    leader, _ = await cluster.check_single_leader()
    await cluster.propose(b"before")
    cluster.disconnect(leader)
    answered = False

    async def read() -> None:
        nonlocal answered
        await cluster.nodes[leader].read_barrier()
        answered = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await cluster.propose(b"meanwhile")
        assert not answered
        cluster.reconnect(leader)
    commands = [command for _, command in cluster.machines[leader].commands]
    assert b"meanwhile" in commands


async def a_node_joins_and_leaves(cluster: Cluster) -> None:
    """As a learner, as a voter, and out again; it learns that it is out."""
    await cluster.propose(b"before")
    newcomer = str(len(cluster.ids))
    address = await cluster.join(newcomer)
    leader, _ = await cluster.check_single_leader()
    voters = cluster.nodes[leader].status.configuration.voters
    await cluster.nodes[leader].add_learner(newcomer, address)
    learner = cluster.nodes[newcomer]
    await learner.wait(lambda status: newcomer in status.configuration.learners)
    await cluster.nodes[leader].change_voters([*voters, newcomer])
    await cluster.propose(b"with it")
    await cluster.check_committed(b"with it")
    await cluster.nodes[leader].remove(newcomer)
    await learner.wait(lambda status: status.is_removed)
    await cluster.propose(b"without it")
    assert cluster.nodes[leader].status.configuration.voters == voters
    assert newcomer not in cluster.nodes[leader].status.configuration.addresses


async def the_leader_removes_itself(cluster: Cluster) -> None:
    """It leads until it is out, hands over, and does not come back."""
    leader, term = await cluster.check_single_leader()
    await cluster.propose(b"before")
    old = cluster.nodes[leader]
    await old.remove(leader)
    successor, next_term = await cluster.check_single_leader()
    assert successor != leader
    await cluster.propose(b"after")
    await old.wait(lambda status: status.is_removed)
    await trio.sleep(4 * cluster.timing.election_timeout_s[1])  # its turn to be a nuisance
    assert old.status.role is Role.FOLLOWER
    if not cluster.loses_messages:
        assert await cluster.check_single_leader() == (successor, next_term)
        assert next_term == term + 1


async def grow_and_shrink_under_load(cluster: Cluster) -> None:
    """1 → 3 → 5 → 3 → 1, every member replaced once, with commands all the while."""
    acknowledged: list[bytes] = []
    async with trio.open_nursery() as nursery:
        for client in range(CLIENTS):
            nursery.start_soon(_keep_proposing, cluster, client, acknowledged)
        for members in (("1", "2"), ("3", "4")):
            addresses = {node_id: await cluster.join(node_id) for node_id in members}
            await _change(cluster, addresses={k: v for k, v in addresses.items() if v}, add=members)
        replacements = {"0": "5", "1": "6", "2": "7", "3": "8", "4": "9"}
        for old, new in replacements.items():
            address = await cluster.join(new)
            known = {} if address is None else {new: address}
            await _change(cluster, addresses=known, add=(new,), drop=(old,))
            await cluster.leave(old)
        await _change(cluster, drop=("5", "6"))
        await _change(cluster, drop=("7", "8"))
        nursery.cancel_scope.cancel()
    assert cluster.nodes["9"].status.configuration.voters == ("9",)
    applied = [command for _, command in cluster.machines["9"].commands]
    assert len(acknowledged) > 20
    assert [data for data in acknowledged if applied.count(data) != 1] == []


async def _keep_proposing(cluster: Cluster, client: int, acknowledged: list[bytes]) -> None:
    number = 0
    while True:
        number += 1
        data = b"%d/%d" % (client, number)
        try:
            await cluster.propose(data, timeout_s=20.0)
        except OutcomeUnknown:
            continue
        acknowledged.append(data)
        await trio.sleep(0.005)  # a client's own work


async def _change(
    cluster: Cluster,
    *,
    addresses: dict[NodeId, tuple[str, int]] | None = None,
    add: tuple[NodeId, ...] = (),
    drop: tuple[NodeId, ...] = (),
) -> None:
    """Change the voters through whoever leads, until it is so."""
    while True:
        leader, _ = await cluster.check_single_leader(timeout_s=20.0)
        node = cluster.nodes[leader]
        voters = sorted({*node.status.configuration.voters, *add} - set(drop))
        try:
            await node.change_voters(voters, addresses=addresses)
        except (NotLeader, NodeDead, ProposalDropped, OutcomeUnknown, ConfigurationConflict):
            await trio.sleep(cluster.timing.heartbeat_interval_s)  # another change may be ending
        else:
            return


def _with(size: int, story: Callable[[Cluster], Awaitable[None]]) -> Scenario:
    async def scenario(opening: Open) -> None:
        # A closed connection must not be what makes these fast.
        async with opening(size, timing=Timing(fast_failover=False)) as cluster:
            await story(cluster)

    return scenario


SCENARIOS: Final[dict[str, Scenario]] = {
    story.__name__: _with(size, story)
    for size, story in (
        (3, transfer_to_each_in_turn),
        (3, transfer_to_one_that_is_away_is_given_up),
        (3, leader_leaves),
        (3, reads_see_what_was_written),
        (3, a_deposed_leader_answers_no_read),
        (3, a_node_joins_and_leaves),
        (3, the_leader_removes_itself),
        (1, grow_and_shrink_under_load),
    )
}
"""By name."""
