"""Findings that answer a learner's why, and what a moment is known by: states, outages, weather."""

from __future__ import annotations

import attrs
import pytest

from tests.viz.page_runs import ELECTION, run_of
from tests.viz.script import Script, three_nodes
from trioraft.viz.states import state_changes
from trioraft.viz.trouble import outages, weather


def asks(script: Script, at_ms: float, candidate: int, voter: int, term: int, log: str) -> None:
    body = f"{{Term:{term} CandidateId:{candidate} {log}}}"
    script.say(at_ms, candidate, f"sending RequestVote to {voter}: {body}")
    script.say(at_ms + 1, voter, f"RequestVote: {body} [currentTerm={term}, votedFor=-1]")
    script.say(at_ms + 1, voter, f"... RequestVote reply: &{{Term:{term} VoteGranted:false}}")


# --- votes ----------------------------------------------------------------------------------


def test_a_vote_that_was_given_already_is_refused_for_that() -> None:
    script = three_nodes()
    script.candidate(201, 2, 1)
    body = "{Term:1 CandidateId:2 LastLogIndex:0 LastLogTerm:0}"
    script.say(201, 2, f"sending RequestVote to 1: {body}")
    script.say(202.5, 1, f"RequestVote: {body} [currentTerm=1, votedFor=0]")
    script.say(202.6, 1, "... RequestVote reply: &{Term:1 VoteGranted:false}")
    (finding,) = script.findings("vote-refused")
    assert (finding.severity, finding.terms, finding.nodes) == ("info", (1,), ("2", "1"))
    assert "had given its vote of this term to node 0" in finding.detail


def test_a_candidate_whose_log_is_behind_is_refused_for_that() -> None:
    script = three_nodes()
    script.say(210, 1, "becomes Follower with term=1; log=[1..5 term 1]")
    script.test(220, "Crash 0")
    script.candidate(400, 2, 2)
    asks(script, 400, 2, 1, 2, "LastLogIndex:3 LastLogTerm:1")
    script.test(600, "done")
    (finding,) = script.findings("vote-refused")
    assert "has a log that is further (entry 5 of term 1" in finding.detail
    assert "ends with 3 of term 1" in finding.detail


def test_of_many_refusals_the_first_of_each_reason_is_told_and_the_others_are_counted() -> None:
    script = three_nodes()
    script.say(210, 1, "becomes Follower with term=1; log=[1..5 term 1]")
    script.test(220, "Crash 0")
    for number in range(4):
        script.candidate(400 + 300 * number, 2, 2 + number)
        log = "LastLogIndex:3 LastLogTerm:1"
        asks(script, 400 + 300 * number, 2, 1, 2 + number, log)
    script.test(2000, "done")
    (finding,) = script.findings("vote-refused")
    assert finding.terms == (2,)
    assert finding.detail.endswith("For the same reason 3 more were refused in this run.")


def test_a_vote_of_an_older_term_is_no_reason() -> None:
    script = three_nodes()
    script.say(210, 1, "becomes Follower with term=1; log=[1..5 term 1]")
    script.test(220, "Crash 0")
    script.candidate(400, 2, 2)
    body = "{Term:2 CandidateId:2 LastLogIndex:3 LastLogTerm:1}"
    script.say(400, 2, f"sending RequestVote to 1: {body}")
    script.say(401, 1, f"RequestVote: {body} [currentTerm=1, votedFor=0]")
    script.say(401, 1, "becomes Follower with term=2; log=[1..5 term 1]")
    script.say(401, 1, "... RequestVote reply: &{Term:2 VoteGranted:false}")
    script.test(600, "done")
    (finding,) = script.findings("vote-refused")
    assert "has a log that is further" in finding.detail


def test_who_does_not_even_go_along_to_the_term_protects_a_leader() -> None:
    script = three_nodes()
    script.say(210, 1, "becomes Follower with term=1; log=[1..5 term 1]")
    script.candidate(400, 2, 2)
    body = "{Term:2 CandidateId:2 LastLogIndex:3 LastLogTerm:1}"
    script.say(400, 2, f"sending RequestVote to 1: {body}")
    script.say(401, 1, f"RequestVote: {body} [currentTerm=1, votedFor=0]")
    script.say(401, 1, "... RequestVote reply: &{Term:1 VoteGranted:false}")
    script.test(600, "done")
    (finding,) = script.findings("vote-refused")
    assert "had heard a leader lately, and protects it" in finding.detail


def test_a_refusal_without_a_known_reason_is_no_finding() -> None:
    script = three_nodes()
    script.test(220, "Crash 0")
    script.candidate(400, 2, 2)
    asks(script, 400, 2, 1, 2, "LastLogIndex:0 LastLogTerm:0")
    script.test(600, "done")
    assert script.findings("vote-refused") == []


# --- leaders --------------------------------------------------------------------------------


def test_a_leader_that_nobody_answers_says_why_it_steps_down() -> None:
    script = three_nodes()
    script.reigns(202, 400, 0, 1, followers=(1, 2))
    script.test(400, "Disconnect 0")
    script.follower(675, 0, 1)
    script.say(675, 0, "... because quorum lost for 275 ms")
    (finding,) = script.findings("quorum-lost")
    assert finding.start_s == pytest.approx(0.4)
    assert finding.end_s == pytest.approx(0.675)
    assert "quorum lost for 275 ms" in finding.detail
    assert "It could talk to nobody then." in finding.detail


def test_an_older_entry_counts_only_with_one_of_the_leaders_own_term() -> None:
    script = three_nodes()
    script.test(300, "Crash 0")
    script.candidate(500, 1, 3)
    script.say(502, 1, "becomes Leader; term=3, log=[1..1 term 1]")
    script.say(514, 1, "commit index advances to 2")
    (finding,) = script.findings("older-term-commit")
    assert finding.terms == (1, 3)
    assert "entry 1 of term 1 stood in its log and was not committed" in finding.detail
    assert "That happened 12 ms later, with entry 2." in finding.detail


def test_what_was_committed_before_waits_for_nothing() -> None:
    script = three_nodes()
    script.say(290, 0, "commit index advances to 1")
    script.test(300, "Crash 0")
    script.candidate(500, 1, 3)
    script.say(502, 1, "becomes Leader; term=3, log=[1..1 term 1]")
    assert script.findings("older-term-commit") == []


def test_a_log_that_begins_in_the_middle_does_not_say_what_was_committed_before_it() -> None:
    script = Script()
    for node in (0, 1, 2):
        script.say(0, node, "election timer started (200ms), term=1")
    script.test(300, "Crash 0")
    script.candidate(500, 1, 3)
    script.say(502, 1, "becomes Leader; term=3, log=[1..5 term 1]")
    script.say(514, 1, "commit index advances to 6")
    assert script.findings("older-term-commit") == []


def test_a_time_without_a_majority_between_two_leaders_is_explained() -> None:
    script = three_nodes()
    script.reigns(202, 400, 0, 1, followers=(1, 2))
    script.test(400, "Crash 1")
    script.test(400, "Crash 0")
    script.test(5400, "Restart 1")
    script.timer(5400, 1, 200, 1)
    script.elected(5600, 2, 2)
    (finding,) = script.findings("no-leader")
    assert finding.severity == "info"
    assert finding.start_s == pytest.approx(0.4)
    assert "no majority could talk for 5000 ms of it: 2 of 3 nodes are needed" in finding.detail


def test_silence_counts_from_what_had_arrived() -> None:
    """A message on its way is not heard: the network was slower than the follower was patient."""
    script = three_nodes()
    script.reigns(202, 260, 0, 1, followers=(1, 2))
    body = "{Term:1 LeaderId:0 PrevLogIndex:0 PrevLogTerm:0 Entries:[] LeaderCommit:0}"
    for at_ms in (300, 350, 400, 450):
        script.say(at_ms, 0, f"sending AppendEntries to 1: ni=0, args={body}")
    script.timer(254, 1, 230, 1)
    script.candidate(484, 1, 2)
    for at_ms in (550, 600, 650, 700):
        script.say(at_ms, 1, f"AppendEntries: {body}")
    (finding,) = script.findings("missed-heartbeats")
    assert "after 231 ms of silence" in finding.detail
    assert "4 of its messages were on their way by then, and took" in finding.detail
    assert "the network is slower than the follower is patient" in finding.detail


# --- states ---------------------------------------------------------------------------------


def test_what_a_node_knows_changes_where_its_lines_say_so() -> None:
    run = run_of(ELECTION)
    changes = [
        (change.node, run.entries[change.entry].text.partition(":")[0], change.field, change.value)
        for change in state_changes(run)
        if change.node == "1"
    ]
    assert changes == [
        ("1", "becomes Follower with term=1; log=[]", "vote", ""),
        ("1", "becomes Follower with term=1; log=[]", "leader", ""),
        ("1", "becomes Follower with term=1; log=[]", "lastIndex", 0),
        ("1", "becomes Follower with term=1; log=[]", "lastTerm", 0),
        ("1", "... RequestVote reply", "vote", "0"),
        ("1", "AppendEntries", "leader", "0"),
        ("1", "AppendEntries reply", "lastIndex", 1),
        ("1", "AppendEntries reply", "lastTerm", 1),
    ]


def test_a_leader_that_steps_down_follows_nobody_yet() -> None:
    script = three_nodes()
    script.follower(300, 0, 1)
    last = {
        change.field: change.value for change in state_changes(script.run()) if change.node == "0"
    }
    assert last["leader"] == ""
    assert last["vote"] == "0"


# --- trouble --------------------------------------------------------------------------------


def test_ways_to_a_node_that_is_alone_are_that_nodes_affair() -> None:
    script = three_nodes()
    script.test(300, "Disconnect 0")
    script.test(400, "Reconnect 0")
    script.test(500, "done")
    found = [attrs.astuple(outage) for outage in outages(script.run())]
    assert found == [("0", 0.3, 0.4, "alone", "it reaches nobody, and nobody reaches it")]


def test_one_way_that_is_cut_is_part_of_two_nodes_trouble() -> None:
    script = three_nodes()
    script.test(300, "Cut 0>1")
    script.test(400, "Mend 0>1")
    found = [(outage.node, outage.level, outage.text) for outage in outages(script.run())]
    assert found == [("0", "partly", "no way 0→1"), ("1", "partly", "no way 0→1")]


def test_a_node_that_does_not_run_is_off_until_it_says_something() -> None:
    script = three_nodes()
    script.test(300, "Crash 2")
    script.timer(450, 2, 200, 1)
    (found,) = outages(script.run())
    assert (found.node, found.level, found.start_s, found.end_s) == ("2", "off", 0.3, 0.45)


def test_weather_lasts_as_long_as_it_was_announced_for() -> None:
    script = three_nodes()
    script.test(300, "fault 0: at 0.3 s: slow_disk 1 for 0.100 s (0.250)")
    script.test(320, "fault 1: at 0.3 s: drop * for 9.000 s (0.100)")
    script.test(330, "fault 2: at 0.3 s: crash 1 for 0.500 s (0.100)")
    script.test(340, "fault 3: at 0.3 s: link_lost 1 (0.100)")
    script.test(900, "done")
    assert [
        (one.label, one.start_s, round(one.end_s, 6), one.row) for one in weather(script.run())
    ] == [
        ("the disk is slow, 250 ms, at 1", 0.3, 0.4, 0),
        ("messages get lost, 10%, everywhere", 0.32, 0.9, 1),
    ]


def test_who_is_left_alone_by_all_others_is_not_cut_off_itself() -> None:
    script = three_nodes()
    script.test(300, "Disconnect 0")
    script.test(310, "Disconnect 1")
    script.test(400, "done")
    assert [(outage.node, outage.level) for outage in outages(script.run())] == [
        ("0", "alone"),
        ("1", "alone"),
    ]
