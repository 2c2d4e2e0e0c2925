"""The scenarios of the replicated log, as stories over a cluster; `tests/test_replication.py` and
`python -m tests.many_seeds` tell them.

Rules of this file: as in `elections`. What a client was told must be true in the end: a result
means applied, once and everywhere; `OutcomeUnknown` means either, but the same on all nodes.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest
import trio

from tests.scenarios.elections import Open, Scenario, let_pass
from trioraft import NotLeader, OutcomeUnknown, ProposalDropped
from trioraft.testing.cluster import Cluster

_settlements = itertools.count()


async def followers(cluster: Cluster) -> tuple[str, list[str]]:
    """The leader, and the others."""
    leader, _ = await cluster.check_single_leader()
    return leader, [node_id for node_id in cluster.ids if node_id != leader]


async def commit(cluster: Cluster, data: bytes) -> bytes:
    """Have a command committed. One try is enough, except where messages get lost: there a leader
    may lose its quorum meanwhile. Then a later command settles whether this one is in the log."""
    while True:
        try:
            return await cluster.propose(data)  # type: ignore[no-any-return] # a CommandLog's
        except OutcomeUnknown:
            if not cluster.loses_messages:
                raise
        settled = b"settle %d" % next(_settlements)
        await commit(cluster, settled)
        await cluster.check_committed(settled)
        if any(data == command for m in cluster.machines.values() for _, command in m.commands):
            return data


async def outcome(wait: Callable[[], Awaitable[Any]]) -> str:
    """How a command ended: applied, dropped, or unknown."""
    try:
        await wait()
    except OutcomeUnknown:
        return "unknown"
    except (NotLeader, ProposalDropped):
        return "dropped"
    return "applied"


async def commit_one_command(open_cluster: Open) -> None:
    """One command, applied everywhere."""
    async with open_cluster(3) as cluster:
        assert await commit(cluster, b"42") == b"42"
        assert (await cluster.check_committed(b"42"))[0] == 3


async def submit_non_leader_fails(open_cluster: Open) -> None:
    """A follower takes no command, and says who leads."""
    async with open_cluster(3) as cluster:
        leader, others = await followers(cluster)
        with pytest.raises(NotLeader) as caught:
            cluster.nodes[others[0]].submit(b"42")
        assert caught.value.leader_id == leader
        await let_pass(0.01)
        cluster.check_not_committed(b"42")


async def commit_multiple_commands(open_cluster: Open) -> None:
    """Several commands, in the order in which they were submitted."""
    async with open_cluster(3) as cluster:
        leader, _ = await cluster.check_single_leader()
        proposals = [cluster.nodes[leader].submit(data) for data in (b"42", b"55", b"81")]
        for proposal in proposals:
            await proposal.result()
        found = [await cluster.check_committed(data) for data in (b"42", b"55", b"81")]
        assert [count for count, _ in found] == [3, 3, 3]
        indexes = [index for _, index in found]
        assert indexes == sorted(indexes)


async def commit_with_disconnection_and_recover(open_cluster: Open) -> None:
    """Two of three go on; the third catches up when it is back."""
    async with open_cluster(3) as cluster:
        for data in (b"5", b"6"):
            await commit(cluster, data)
        await cluster.check_committed(b"6")
        leader, others = await followers(cluster)
        cluster.disconnect(others[0])
        await commit(cluster, b"7")
        assert (await cluster.check_committed(b"7"))[0] == 2
        cluster.reconnect(others[0])
        await commit(cluster, b"8")
        assert (await cluster.check_committed(b"7"))[0] == 3
        assert (await cluster.check_committed(b"8"))[0] == 3
        assert cluster.nodes[leader].status.last_index >= 4


async def no_commit_with_no_quorum(open_cluster: Open) -> None:
    """Without a quorum nothing is committed, and whoever waits is told."""
    async with open_cluster(3) as cluster:
        await commit(cluster, b"5")
        await cluster.check_committed(b"5")
        leader, others = await followers(cluster)
        for node_id in others:
            cluster.disconnect(node_id)
        assert await outcome(cluster.nodes[leader].submit(b"8").result) == "unknown"
        cluster.check_not_committed(b"8")
        for node_id in others:
            cluster.reconnect(node_id)
        for data in (b"9", b"10", b"11"):
            await commit(cluster, data)
            assert (await cluster.check_committed(data))[0] == 3
        cluster.check_logs_agree()


async def disconnect_leader_briefly(open_cluster: Open) -> None:
    """A leader that is away for less than a timeout goes on as if nothing had been."""
    async with open_cluster(3) as cluster:
        for data in (b"5", b"6"):
            await commit(cluster, data)
        leader, _ = await cluster.check_single_leader()
        cluster.disconnect(leader)
        await let_pass(0.060)
        cluster.reconnect(leader)
        await let_pass(0.200)
        await commit(cluster, b"7")
        assert (await cluster.check_committed(b"7"))[0] == 3


async def commits_with_leader_disconnects(open_cluster: Open) -> None:
    """What a cut-off leader took is not committed; what its successor takes is."""
    async with open_cluster(5) as cluster:
        for data in (b"5", b"6"):
            await commit(cluster, data)
        await cluster.check_committed(b"6")
        old, _ = await cluster.check_single_leader()
        cluster.disconnect(old)
        lost = cluster.nodes[old].submit(b"7")
        new, _ = await cluster.check_single_leader()
        assert new != old
        await commit(cluster, b"8")
        assert (await cluster.check_committed(b"8"))[0] == 4
        cluster.check_not_committed(b"7")
        cluster.reconnect(old)
        assert await outcome(lost.result) in ("unknown", "dropped")
        await commit(cluster, b"9")
        assert (await cluster.check_committed(b"9"))[0] == 5
        assert (await cluster.check_committed(b"8"))[0] == 5
        cluster.check_not_committed(b"7")


async def commit_after_call_drops(open_cluster: Open) -> None:
    """A leader whose messages get lost after a while commits once they arrive again."""
    async with open_cluster(3) as cluster:
        leader, _ = await cluster.check_single_leader()
        cluster.mute_after(leader, 2)
        proposal = cluster.nodes[leader].submit(b"99")
        await let_pass(0.030)
        cluster.heal()
        if await outcome(proposal.result) != "applied":
            await commit(cluster, b"99 again")
        await commit(cluster, b"100")
        assert (await cluster.check_committed(b"100"))[0] == 3
        cluster.check_logs_agree()


async def crash_follower(open_cluster: Open) -> None:
    """A crashed follower is not needed."""
    async with open_cluster(3) as cluster:
        await commit(cluster, b"5")
        await cluster.check_committed(b"5")
        _, others = await followers(cluster)
        await cluster.crash(others[0])
        await commit(cluster, b"6")
        await cluster.check_committed(b"6")


async def crash_then_restart_follower(open_cluster: Open) -> None:
    """A restarted follower has everything again, and what it missed."""
    async with open_cluster(3) as cluster:
        for data in (b"5", b"6"):
            await commit(cluster, data)
        await cluster.check_committed(b"6")
        _, others = await followers(cluster)
        await cluster.crash(others[0])
        await commit(cluster, b"7")
        await cluster.restart(others[0])
        for data in (b"5", b"6", b"7"):
            assert (await cluster.check_committed(data))[0] == 3


async def crash_then_restart_leader(open_cluster: Open) -> None:
    """The same with the leader."""
    async with open_cluster(3) as cluster:
        for data in (b"5", b"6", b"7"):
            await commit(cluster, data)
        await cluster.check_committed(b"7")
        leader, _ = await cluster.check_single_leader()
        await cluster.crash(leader)
        await commit(cluster, b"8")
        await cluster.restart(leader)
        for data in (b"5", b"6", b"7", b"8"):
            assert (await cluster.check_committed(data))[0] == 3


async def crash_then_restart_all(open_cluster: Open) -> None:
    """Everyone crashes; what was acknowledged is there when they are back."""
    async with open_cluster(3) as cluster:
        for data in (b"5", b"6", b"7"):
            await commit(cluster, data)
        for node_id in cluster.ids:
            await cluster.crash(node_id)
        for node_id in cluster.ids:
            await cluster.restart(node_id)
        await commit(cluster, b"8")
        for data in (b"5", b"6", b"7", b"8"):
            assert (await cluster.check_committed(data))[0] == 3


async def replace_multiple_log_entries(open_cluster: Open) -> None:
    """A cut-off leader's entries give way to those of its successor."""
    async with open_cluster(3) as cluster:
        for data in (b"5", b"6"):
            await commit(cluster, data)
        await cluster.check_committed(b"6")
        old, _ = await cluster.check_single_leader()
        cluster.disconnect(old)
        doomed = (b"21", b"22", b"23", b"24")
        proposals = [cluster.nodes[old].submit(data) for data in doomed]
        new, _ = await cluster.check_single_leader()
        for data in (b"8", b"9", b"10"):
            await commit(cluster, data)
        assert (await cluster.check_committed(b"10"))[0] == 2
        await cluster.crash(new)
        await let_pass(0.060)
        await cluster.restart(new)
        await cluster.check_single_leader()
        cluster.reconnect(old)
        for proposal in proposals:
            assert await outcome(proposal.result) in ("unknown", "dropped")
        await commit(cluster, b"11")
        for data in (b"8", b"9", b"10", b"11"):
            assert (await cluster.check_committed(data))[0] == 3
        for data in doomed:
            cluster.check_not_committed(data)


async def crash_after_submit(open_cluster: Open) -> None:
    """A leader crashes right after it took a command: whoever waits learns that it is unknown."""
    async with open_cluster(3) as cluster:
        leader, _ = await cluster.check_single_leader()
        proposal = cluster.nodes[leader].submit(b"5")
        await let_pass(0.0005)
        await cluster.crash(leader)
        assert await outcome(proposal.result) in ("unknown", "applied")
        await let_pass(0.010)
        await cluster.restart(leader)
        await commit(cluster, b"6")
        assert (await cluster.check_committed(b"6"))[0] == 3
        cluster.check_logs_agree()


async def disconnect_after_submit(open_cluster: Open) -> None:
    """The same with a leader that is cut off for a while."""
    async with open_cluster(3) as cluster:
        leader, _ = await cluster.check_single_leader()
        proposal = cluster.nodes[leader].submit(b"5")
        await let_pass(0.0005)
        cluster.disconnect(leader)
        await commit(cluster, b"6")
        assert await outcome(proposal.result) in ("unknown", "applied")
        cluster.reconnect(leader)
        await commit(cluster, b"7")
        for data in (b"6", b"7"):
            assert (await cluster.check_committed(data))[0] == 3


async def many_clients(open_cluster: Open) -> None:
    """Twenty tasks propose at once, while the leader is cut off and comes back: what was
    acknowledged is there, once, on all nodes."""
    async with open_cluster(3) as cluster:
        applied: list[bytes] = []

        async def client(number: int) -> None:
            for count in range(5):
                data = b"%d/%d" % (number, count)
                try:
                    await cluster.propose(data)
                except OutcomeUnknown:
                    continue
                applied.append(data)

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(client, number)
            leader, _ = await cluster.check_single_leader()
            await let_pass(0.005)
            cluster.disconnect(leader)
            await cluster.check_single_leader()
            cluster.reconnect(leader)
        await commit(cluster, b"last")
        await cluster.check_committed(b"last")
        assert len(applied) >= 50
        for data in applied:
            assert (await cluster.check_committed(data))[0] == 3


SCENARIOS: Final[dict[str, Scenario]] = {
    scenario.__name__: scenario
    for scenario in (
        commit_one_command,
        submit_non_leader_fails,
        commit_multiple_commands,
        commit_with_disconnection_and_recover,
        no_commit_with_no_quorum,
        disconnect_leader_briefly,
        commits_with_leader_disconnects,
        commit_after_call_drops,
        crash_follower,
        crash_then_restart_follower,
        crash_then_restart_leader,
        crash_then_restart_all,
        replace_multiple_log_entries,
        crash_after_submit,
        disconnect_after_submit,
        many_clients,
    )
}
"""By name."""
