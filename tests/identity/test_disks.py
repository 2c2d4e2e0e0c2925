"""Disks that are emptied, copied, exchanged: what each rule of docs/identity.md is for.

Rules of this file: every scenario is run as it is, and with the rule left out that forbids it: then
the simulator's checks, or the test, must see the harm.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.sim.planted import identity as planted
from trioraft.core.errors import InvariantViolation, PeerRefused
from trioraft.core.leadership import Leadership
from trioraft.core.types import NodeId, Role
from trioraft.member.lineage import Lineage

from .disks import Disks, propose, shrink_to_itself


def without(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, broken: Any) -> None:
    """Leave one rule out."""
    monkeypatch.setattr(owner, name, broken)


# -- counting disks (R1) ---------------------------------------------------------------------


def an_emptied_voter_acknowledges_what_the_leader_holds() -> Disks:
    """One follower is cut off, the other one is emptied: the leader must not take its new disk for
    the old one, and commit with it."""
    disks = Disks()
    disks.open()
    leader = disks.elect()
    disks.put()
    follower, away = [node for node in disks.nodes if node != leader]
    disks.cut(away)
    disks.put(3)
    disks.empty(follower)
    disks.nodes[leader].ask(propose)
    disks.run(3.0)
    return disks


def test_an_emptied_voter_counts_for_nothing() -> None:
    """Hazard I2."""
    disks = an_emptied_voter_acknowledges_what_the_leader_holds()
    assert disks.leader() is None  # it has no quorum, and steps down
    assert disks.sim.checks.commit_index == 5
    away = next(node for node, p in disks.nodes.items() if p.core and p.core.log.last_index == 2)
    disks.mend(away)
    disks.until(lambda: disks.leader() is not None)
    disks.put(2)  # with the one that was away: the committed entries are all there


def test_with_votes_and_matches_counted_by_id_it_would_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without(monkeypatch, Leadership, "names", planted.feeds_and_counts_by_id)
    monkeypatch.setattr(
        Leadership, "on_seen", lambda self, peer, disk: None
    )  # and feeds whoever is there
    with pytest.raises(InvariantViolation):
        an_emptied_voter_acknowledges_what_the_leader_holds()


def test_an_emptied_voter_that_is_replaced_is_one_again() -> None:
    """Hazard I2."""
    disks = Disks(replaces=True)
    disks.open()
    leader = disks.elect()
    disks.put(5)
    lost = next(node for node in disks.nodes if node != leader)
    disks.empty(lost)

    def is_back() -> bool:
        now = disks.leader()
        core = None if now is None else disks.nodes[now].core
        if core is None or core.configuration.outgoing:
            return False
        named = core.configuration.disk_of(lost)
        own = disks.nodes[lost].core
        return lost in core.configuration.voters and own is not None and named == own.disk

    disks.until(is_back)
    disks.stop(next(node for node in disks.nodes if node not in (lost, disks.leader())))
    disks.put(3)  # with the new disk alone


def test_the_leaders_own_disk_is_replaced_too() -> None:
    disks = Disks(replaces=True)
    disks.open()
    first = disks.elect()
    disks.put(5)
    disks.empty(first)
    disks.until(lambda: disks.leader() not in (None, first))
    disks.put(2)

    def is_voter() -> bool:
        core = disks.nodes[first].core
        return core is not None and core.configuration.disk_of(first) == core.disk != 0

    disks.until(is_voter)


def test_two_voters_cannot_replace_one_another() -> None:
    disks = Disks(2, replaces=True)
    disks.open()
    leader = disks.elect()
    disks.put(2)
    other = next(node for node in disks.nodes if node != leader)
    disks.empty(other)
    disks.run(5.0)
    assert disks.leader() is None
    assert disks.sim.checks.commit_index == 3


# -- a voter of yesterday (hazard I1, case 01) ----------------------------------------------------


def a_reader_of_old_configurations() -> Disks:
    """The cluster shrinks to its leader; "1" is emptied, comes back and reads the log's beginning,
    by which it is a voter; "2", emptied as well, would vote for it."""
    disks = Disks()
    disks.open()
    leader = disks.elect()
    disks.put()
    others = [node for node in disks.nodes if node != leader]
    disks.nodes[leader].ask(shrink_to_itself)
    core = disks.nodes[leader].core
    assert core is not None
    disks.until(lambda: core.membership.at(core.log.commit_index).members == (leader,))
    for node in others:
        disks.nodes[node].first_voters = ()
        disks.empty(node)
    # As a leader that does not know better would feed them: the first entries only.
    disks.run(1.0)
    disks.cut(leader)
    disks.run(5.0)
    return disks


def test_an_old_configuration_names_old_disks() -> None:
    """Hazard I1."""
    disks = a_reader_of_old_configurations()
    assert disks.sim.checks.leaders.keys() == {1} or disks.leader() is not None
    roles = [p.core.role for p in disks.nodes.values() if p.core is not None]
    assert Role.CANDIDATE not in roles


def leads_another(disks: Disks, than: NodeId) -> bool:
    """Whether somebody else leads."""
    return disks.leader() not in (None, than)


# -- one history (R3) --------------------------------------------------------------------------


def another_clusters_directory() -> Disks:
    """A node comes back with the directory of another cluster: longer, and of a later term."""
    other = Disks(seed=2)
    other.open()
    for _ in range(3):
        leader = other.elect()
        other.put(8)
        other.stop(leader)
        other.until(partial(leads_another, other, leader))
        other.open(leader)
    other.run(1.0)
    disks = Disks()
    disks.open()
    leader = disks.elect()
    disks.put(4)
    victim = next(node for node in disks.nodes if node != leader)
    disks.give(victim, other.nodes[victim].disk.copy())
    disks.cut(leader)
    disks.run(3.0)
    disks.mend(leader)
    disks.run(3.0)
    disks.put(2)
    return disks


def test_the_directory_of_another_cluster_is_refused() -> None:
    """Hazard I3."""
    disks = another_clusters_directory()
    assert disks.sim.recording.injected["refused"] > 0


def test_without_a_uuid_it_would_be_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, Lineage, "_check_history", planted.speaks_with_any_history)
    with pytest.raises((InvariantViolation, AssertionError)):
        another_clusters_directory()


# -- an older copy (detection) -------------------------------------------------------------------


def an_older_copy_votes() -> Disks:
    """A copy of a follower's disk is made; it restarts and acknowledges more; then its directory is
    restored from the copy, while the leader is away: with the third, which was cut off, the copy
    could elect a leader that lacks what was acknowledged."""
    disks = Disks()
    disks.open()
    leader = disks.elect()
    disks.put()
    follower, third = [node for node in disks.nodes if node != leader]
    copied = disks.copy(follower)
    disks.stop(follower)
    disks.open(follower)
    disks.run(1.0)  # all others see this opening
    assert disks.elect() == leader
    disks.cut(third)
    disks.put(3)  # on the leader and the follower
    disks.stop(leader)
    disks.restore(follower, copied)
    disks.mend(third)
    disks.run(3.0)
    return disks


def test_an_older_copy_is_found_out() -> None:
    """Hazard I5."""
    disks = an_older_copy_votes()
    assert disks.leader() is None
    assert disks.sim.recording.injected["refused"] > 0


def test_without_openings_an_older_copy_elects_a_leader_that_lacks_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without(monkeypatch, Lineage, "_remember", planted.remembers_nobody)
    without(monkeypatch, Lineage, "_check_own_opening", lambda self, said: None)
    with pytest.raises(InvariantViolation):
        an_older_copy_votes()


# -- forming (R2) --------------------------------------------------------------------------------


def test_first_voters_that_differ_form_nothing_and_say_so() -> None:
    """Hazard I4 (case f06)."""
    named: dict[NodeId, tuple[NodeId, ...]] = {
        "0": ("0", "1"),
        "1": ("0", "1", "2"),
        "2": ("0", "1", "2"),
    }
    disks = Disks(voters=named)
    disks.open()
    disks.run(5.0)
    assert disks.leader() is None
    problems = disks.nodes["1"].problems()
    assert "it was told that the first voters are 0, 1" in problems["0"]


def test_nobody_campaigns_before_all_first_voters_have_met() -> None:
    disks = Disks()
    disks.open("0", "1")
    disks.run(5.0)
    assert disks.leader() is None
    assert disks.nodes["0"].problems().keys() == {"2"}
    disks.open("2")
    disks.elect()
    disks.put()
    disks.stop("2")
    for node in ("0", "1"):
        disks.stop(node)
    disks.open("0", "1")  # from now on a majority is enough, after restarts too
    disks.elect()
    disks.put()


def a_cluster_forms_twice() -> Disks:
    """ "0" and "1" form while "2" is late; "0" is emptied, and meets "2"."""
    disks = Disks()
    disks.open("0", "1")
    disks.run(2.0)
    if disks.leader() is not None:
        disks.put(2)
    disks.stop("1")
    disks.empty("0")
    disks.open("2")
    disks.run(5.0)
    return disks


def test_a_majority_does_not_form_twice() -> None:
    """Hazard I4."""
    disks = a_cluster_forms_twice()
    assert disks.leader() is None
    disks.open("1")
    disks.elect()
    disks.put()


def test_formed_by_a_majority_there_would_be_two(monkeypatch: pytest.MonkeyPatch) -> None:
    def met_by_a_majority(self: Lineage) -> tuple[NodeId, ...]:
        there = [peer for peer in self._voters if peer in self.met or peer == self._node_id]
        return () if self.is_forming and 2 * len(there) > len(self._voters) else ("?",)

    def majority_record(self: Lineage) -> dict[NodeId, int]:
        met = {peer: said.incarnation for peer, said in self.met.items()}
        record = {self._node_id: self.identity.incarnation, **met}
        return {voter: record.get(voter, 1) for voter in self._voters}

    monkeypatch.setattr(Lineage, "waiting_for", property(met_by_a_majority))
    monkeypatch.setattr(Lineage, "_would_be", majority_record)
    with pytest.raises((InvariantViolation, PeerRefused)):
        test_a_majority_does_not_form_twice()


def test_an_emptied_first_voter_waits_for_its_replacement() -> None:
    disks = Disks()
    disks.open()
    disks.elect()
    disks.put(2)
    victim = next(node for node in disks.nodes if node != disks.leader())
    disks.empty(victim)
    disks.run(1.0)
    problems = disks.nodes[victim].problems()
    assert all("of a cluster that exists" in problem for problem in problems.values())
    core = disks.nodes[disks.elect()].core
    emptied = disks.nodes[victim].core
    assert core is not None
    assert emptied is not None
    assert core.leadership is not None
    assert core.leadership.progress[victim].foreign_disk == emptied.disk


def test_an_older_copy_that_was_opened_twice_is_found_out_as_well() -> None:
    """Its count has passed what others remember by then: found by the simulator (hazard I5)."""
    disks = Disks()
    disks.open()
    leader = disks.elect()
    disks.put()
    follower, third = [node for node in disks.nodes if node != leader]
    copied = disks.copy(follower)
    disks.stop(follower)
    disks.open(follower)
    disks.run(1.0)
    disks.cut(third)
    disks.put(3)
    disks.stop(leader)
    disks.cut(follower)  # nobody tells it
    disks.restore(follower, copied)
    disks.run(0.05)
    disks.stop(follower)
    disks.open(follower)
    disks.mend(third, follower)
    disks.run(3.0)
    assert disks.leader() is None


def test_whom_an_empty_disk_met_is_met_again_once_it_has_a_history() -> None:
    """An emptied node had heard another cluster's node before it was fed: it went on listening to
    it, and took its term. Found by the simulator (hazard I3; directed at disks, seed 12)."""
    other = Disks(5, seed=2)
    other.open()
    other.elect()
    other.put(8)
    other.run(0.5)
    disks = Disks(5, replaces=True)
    disks.open()
    leader = disks.elect()
    disks.put()
    foreign, emptied = [node for node in disks.nodes if node != leader][:2]
    for node in disks.nodes:
        if node != emptied:
            disks.sim.network.cut([(node, emptied), (emptied, node)])
    disks.empty(emptied)
    disks.give(foreign, other.nodes[foreign].disk.copy())
    disks.sim.network.mend_all([(foreign, emptied), (emptied, foreign)])
    disks.run(1.0)  # they meet, and neither has a reason to refuse the other
    heard = disks.nodes[emptied].lineage
    assert heard is not None
    assert foreign in heard.met
    disks.mend(emptied)
    disks.until(lambda: heard.identity.uuid is not None)
    assert foreign not in heard.met
