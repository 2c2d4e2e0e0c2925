"""Who belongs to the cluster, who can talk, and who hands over: findings must follow.

Rules of this file: lines as the harness, the simulator and the nodes write them.
"""

from __future__ import annotations

from tests.viz.script import Script, three_nodes
from trioraft.viz.cluster import ClusterView
from trioraft.viz.model import Members


def five_nodes() -> Script:
    """Node 0 of five leads term 1 since 202 ms."""
    script = Script()
    for node in range(5):
        script.timer(0, node, 200 + 20 * node, 0)
    script.elected(200, 0, 1, size=5)
    return script


def test_a_majority_is_one_of_the_voters() -> None:
    script = five_nodes()
    script.say(300, 0, "configuration 7: voters 0 1 2")
    script.test(400, "Partition 0 1 | 2 3 4")
    script.say(900, 4, "listening")
    cluster = ClusterView(script.run())
    assert cluster.members(0.35) == Members(("0", "1", "2"))
    assert not cluster.is_cut_off("0", 0.5), "two of three voters are a majority"
    assert cluster.is_cut_off("3", 0.5), "it is no member any more"


def test_a_joint_configuration_needs_both_majorities() -> None:
    script = five_nodes()
    script.say(300, 0, "configuration 7: voters 0 1 2, outgoing 2 3 4")
    script.test(400, "Partition 0 1 | 2 3 4")
    script.say(900, 4, "listening")
    cluster = ClusterView(script.run())
    assert cluster.is_cut_off("0", 0.5)
    assert cluster.is_cut_off("2", 0.5)


def test_a_follower_that_reads_an_old_configuration_changes_nothing() -> None:
    script = five_nodes()
    script.say(300, 0, "configuration 7: voters 0 1 2")
    script.say(310, 1, "configuration 4: voters 0 1 2 3 4")
    script.say(320, 1, "configuration 7: voters 0 1 2")
    run = script.run()
    assert [point.members.voters for point in run.configurations] == [("0", "1", "2")]
    assert [mark.kind for mark in run.marks] == ["configuration"]


def test_a_truncated_configuration_counts_no_more() -> None:
    script = five_nodes()
    script.say(300, 0, "configuration 4: voters 0 1 2 3 4")
    script.say(310, 0, "configuration 7: voters 0 1 2")
    script.say(320, 0, "configuration 4: voters 0 1 2 3 4")
    sizes = [len(point.members.voters) for point in script.run().configurations]
    assert sizes == [5, 3, 5]


def test_a_node_that_joins_is_no_voter_before() -> None:
    script = three_nodes()
    script.test(300, "Join 3")
    script.say(310, 3, "listening at memory:3")
    cluster = ClusterView(script.run())
    assert cluster.members(0.305).voters == ("0", "1", "2")


def test_the_harness_s_words_are_read() -> None:
    script = three_nodes()
    script.test(300, "Drop connection 0 1")
    script.test(310, "Leave 2")
    script.test(320, "Cancel 1")
    marks = [(mark.kind, mark.nodes) for mark in script.run().marks]
    assert marks == [("drop", ("0", "1")), ("leave", ("2",)), ("leave", ("1",))]


def test_the_test_may_use_the_names_that_numbers_stand_for() -> None:
    script = three_nodes()
    script.test(0, 'node "alpha" is 0')
    script.test(300, "Disconnect alpha")
    (mark,) = script.run().marks
    assert (mark.kind, mark.nodes) == ("disconnect", ("0",))


def test_a_way_that_is_cut_twice_is_mended_twice() -> None:
    script = three_nodes()
    script.test(300, "Cut 0>1 0>2")
    script.test(310, "Cut 0>1 0>2 1>0")
    script.test(400, "Mend 0>1 0>2")
    script.test(500, "Mend 0>1 0>2 1>0")
    script.test(600, "Cut 0>1 0>2")
    script.test(700, "Heal")
    script.say(900, 2, "listening")
    cluster = ClusterView(script.run())
    moments_s = (0.25, 0.45, 0.55, 0.65, 0.75)
    assert [cluster.can_talk("0", "2", at_s) for at_s in moments_s] == [
        *(True, False, True, False, True)
    ]


def test_a_cut_one_is_not_blamed_for_silence() -> None:
    script = three_nodes()
    script.reigns(202, 400, 0, 1, followers=(1, 2))
    script.test(400, "Cut 0>1")
    script.timer(352, 1, 250, 1)
    script.candidate(700, 1, 2)
    assert script.findings("missed-heartbeats") == []


def test_a_hand_over_is_a_mark_and_no_fault() -> None:
    script = three_nodes()
    script.reigns(202, 400, 0, 1, followers=(1, 2))
    script.say(401, 0, "hands leadership over to 1")
    script.candidate(403, 1, 2)
    script.say(403, 1, "... because transfer from 0")
    script.follower(404, 0, 2)
    script.leader(405, 1, 2)
    run = script.run()
    assert [(mark.kind, mark.nodes) for mark in run.marks] == [("transfer", ("0", "1"))]
    assert run.findings == ()


def test_a_candidate_of_a_past_term_did_not_divide_its_votes() -> None:
    script = three_nodes()
    script.test(250, "Disconnect 1")
    script.candidate(500, 1, 2)
    script.candidate(750, 1, 3)
    script.candidate(900, 2, 2)
    script.follower(905, 2, 3)
    script.say(1600, 0, "listening")
    first = script.findings("split-vote")[0]
    assert (first.severity, first.terms) == ("info", (2,))
    assert "node 2 asked 400 ms later, when term 3 had already begun elsewhere" in first.detail


def test_a_livelock_that_ended_is_no_error() -> None:
    script = three_nodes()
    for term in range(2, 8):
        for node in (0, 1):
            script.candidate(300 + 30 * term, node, term)
    script.elected(700, 2, 8)
    (finding,) = script.findings("election-livelock")
    assert finding.severity == "warning"
    assert "In the end somebody was elected" in finding.detail
