"""Forming, replacing, joining and recovering with a crash at every step: what has begun goes on.

Rules of this file: a step is one action of a member (a message that leaves, a write, an entry that
is applied); there is one run for each of them, as long as there are more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from trioraft.core.config import Limits
from trioraft.core.errors import InvariantViolation
from trioraft.core.raft import Raft
from trioraft.core.reconfiguration import AddLearner, ChangeVoters, Membership, Replace
from trioraft.core.types import Configuration, NodeId, Role
from trioraft.sim.disk import Disk

from .disks import Disks

STEPS_MAX = 300


def each_step() -> Iterator[int]:
    """Until the test leaves the loop, as it must some time."""
    yield from range(STEPS_MAX)
    pytest.fail("it takes more steps than were thought of")


def crash_and_come_back(
    disks: Disks, node: NodeId, step: int, done: Callable[[], bool], *, with_all: bool
) -> bool:
    """This node crashes before its action of this number from now on, or all do then; they are
    opened again after a while. False: it was done before."""
    process = disks.nodes[node]
    process.fuse = step
    disks.until(lambda: not process.is_up or done())
    if process.is_up:
        return False
    down = list(disks.nodes) if with_all else [node]
    for each in down:
        disks.stop(each)
    disks.run(0.02)
    disks.open(*down)
    return True


def agreed(disks: Disks) -> Configuration:
    """What whoever leads has committed; nothing, while nobody does."""
    leader = disks.leader()
    core = None if leader is None else disks.nodes[leader].core
    return Configuration(()) if core is None else core.membership.at(core.log.commit_index)


@pytest.mark.parametrize("with_all", [False, True], ids=["one", "all"])
def test_a_cluster_forms_once_whoever_crashes_when(with_all: bool) -> None:
    """Hazard I4."""
    for step in each_step():
        disks = Disks()
        disks.open()
        is_led = disks.is_led
        if not crash_and_come_back(disks, "0", step, is_led, with_all=with_all):
            break
        disks.elect()
        disks.put()
        disks.run(0.3)
        identities = [node.lineage.identity for node in disks.nodes.values() if node.lineage]
        assert len({identity.uuid for identity in identities}) == 1
        assert all(identity.formed for identity in identities)
    assert step > 10


def advice(disks: Disks) -> dict[NodeId, str]:
    """What those that still form say."""
    said = {}
    for node, process in disks.nodes.items():
        lineage = process.lineage
        if lineage is not None and lineage.is_forming:
            said[node] = "; ".join(lineage.problems().values())
    return said


def emptied_at(step: int, emptied: NodeId, away: NodeId | None) -> Disks | None:
    """A disk is emptied before this action of its node, and another node cut off. None: a cluster
    has formed, and elected, before that."""
    disks = Disks()
    disks.open()
    process = disks.nodes[emptied]
    process.setting.odd.update(disks.nodes)  # they may refuse one another
    process.fuse = step
    disks.until(lambda: not process.is_up or disks.is_led())
    if process.is_up:
        return None
    if away is not None:
        disks.cut(away)
    process.change_disk(Disk())
    disks.open(emptied)
    disks.run(3.0)
    return disks


@pytest.mark.parametrize("away", [None, "1"], ids=["all are there", "one is cut off"])
@pytest.mark.parametrize("emptied", ["0", "2"])
def test_nobody_is_told_to_empty_what_may_hold_something(emptied: NodeId, away: str | None) -> None:
    """Hazard I4. Either the cluster has formed, and goes on, or all are told to begin anew, which
    works; whoever is not there is waited for."""
    outcomes = set()
    for step in each_step():
        disks = emptied_at(step, emptied, away)
        if disks is None:
            break
        if away is not None:
            assert not any("empty all" in text for text in advice(disks).values())
            disks.mend(away)
            disks.run(3.0)
        lineages = [process.lineage for process in disks.nodes.values() if process.lineage]
        has_formed = any(lineage.identity.formed for lineage in lineages)
        said = advice(disks)
        is_told = any("empty all" in text for text in said.values())
        assert has_formed is not is_told, said
        outcomes.add(is_told)
        if is_told:
            assert all(re.search("empty all|its own status", text) for text in said.values()), said
            for node in disks.nodes:
                disks.empty(node)
        disks.elect()
        disks.put()
    assert outcomes == {False, True}


CRASHES = pytest.mark.parametrize(
    ("who", "with_all"),
    [("the leader", False), ("the new disk", False), ("the new disk", True)],
    ids=["leader", "new disk", "all"],
)


@CRASHES
def test_a_lost_disk_is_replaced_whoever_crashes_when(who: str, with_all: bool) -> None:
    for step in each_step():
        disks = Disks()
        disks.open()
        leader = disks.elect()
        disks.put(3)
        lost = next(node for node in disks.nodes if node != leader)
        before = agreed(disks).disk_of(lost)
        disks.empty(lost)
        disks.run(0.1)
        disks.change(Replace(lost))

        def is_replaced(disks: Disks = disks, lost: NodeId = lost, before: int = before) -> bool:
            now = agreed(disks)
            return lost in now.voters and not now.outgoing and now.disk_of(lost) != before

        victim = leader if who == "the leader" else lost
        if not crash_and_come_back(disks, victim, step, is_replaced, with_all=with_all):
            break
        disks.elect()
        disks.change(Replace(lost))  # as whoever called it does again
        disks.until(is_replaced)
        disks.stop(next(node for node in disks.nodes if node not in (lost, disks.leader())))
        disks.put()  # the new disk counts
    assert step > 10


@CRASHES
def test_a_node_joins_whoever_crashes_when(who: str, with_all: bool) -> None:
    """`admin add-learner`, then `admin promote`, each of which is asked for again."""
    for step in each_step():
        disks = Disks(3, voters={"0": ("0", "1"), "1": ("0", "1"), "2": ()})
        disks.open()
        leader = disks.elect()
        disks.put(3)

        def is_in(disks: Disks = disks) -> bool:
            now = agreed(disks)
            if "2" not in now.members:
                disks.change(AddLearner("2"))
            elif "2" in now.learners:
                disks.change(ChangeVoters(("0", "1", "2")))
            return now.voters == ("0", "1", "2") and not now.outgoing

        victim = leader if who == "the leader" else "2"
        if not crash_and_come_back(disks, victim, step, is_in, with_all=with_all):
            break
        disks.until(is_in)
        disks.stop(leader)
        disks.put()  # it counts
    assert step > 10


def a_survivor_is_recovered_and_restarts(fed_up_to: int) -> Disks:
    """The others begin empty, and are learners again; one of them has the log's beginning, whose
    newest configuration is the old one, when the survivor restarts."""
    disks = Disks(limits=Limits(append_entries_max=1, inflight_messages_max=1))
    disks.open()
    survivor = disks.elect()
    disks.put(5)
    for node in disks.nodes:
        disks.stop(node)
    disks.run(0.1)  # what they said is gone
    disks.recover(survivor)
    for node, process in disks.nodes.items():
        if node != survivor:
            process.first_voters = ()
            disks.empty(node)
    disks.open(survivor)
    disks.put()
    new = next(node for node in disks.nodes if node != survivor)
    disks.change(AddLearner(new))

    def is_fed() -> bool:
        core = disks.nodes[new].core
        return core is not None and core.log.last_index >= fed_up_to

    disks.until(is_fed)
    disks.stop(survivor)
    disks.run(3.0)
    assert disks.nodes[survivor].core is None
    roles = {process.core.role for process in disks.nodes.values() if process.core}
    assert roles == {Role.FOLLOWER}
    disks.open(survivor)
    assert disks.elect() == survivor
    return disks


@pytest.mark.parametrize("fed_up_to", range(1, 9))
def test_whoever_reads_the_old_configuration_after_a_recovery_does_not_lead(fed_up_to: int) -> None:
    """Hazard I1 (case f00)."""
    disks = a_survivor_is_recovered_and_restarts(fed_up_to)
    disks.put(2)


def test_by_id_it_would_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_voter_by_id(self: Membership, node_id: NodeId, *_: object) -> bool:
        return self.current.is_voter(node_id)

    monkeypatch.setattr(Membership, "may_vote_since", is_voter_by_id)
    monkeypatch.setattr(Raft, "_counts", lambda self, voter, disk: True)
    with pytest.raises((InvariantViolation, AssertionError)):
        a_survivor_is_recovered_and_restarts(3)
