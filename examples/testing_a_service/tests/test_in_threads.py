"""Plain tests: the fixture's methods block."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from votes import Votes

import trioraft.testing
from trioraft import SessionMachine


@pytest.mark.raft_cluster(machine=lambda: SessionMachine(Votes()))
def test_votes_from_many_threads(raft_cluster: trioraft.testing.BlockingCluster) -> None:
    leader = raft_cluster.leader()

    def vote(number: int) -> None:
        leader.run(lambda local: Votes.through(local).vote(f"voter {number}", "tea"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(vote, range(20)))
    assert leader.run(lambda local: Votes.through(local).result()) == {"tea": 20}
    raft_cluster.crash(leader.id)
    assert raft_cluster.leader().id != leader.id
