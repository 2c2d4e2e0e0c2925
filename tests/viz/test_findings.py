"""Each finding, on a story that has it and on one that looks like it but has not.

Rules of this file: a wrong finding is worse than none, so every kind has both tests; a detail
must name the values that the story was told with.
"""

from __future__ import annotations

import io
import random
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from tests.scenarios import elections
from tests.viz.script import Script, three_nodes
from trioraft import MemoryNetwork, MemoryStorage, Node, open_node
from trioraft.logs.loggers import EventLogger, Raftlog, configure, sink_logger, use_sink
from trioraft.testing.cluster import CommandLog, open_cluster
from trioraft.viz.analysis import analyse_lines
from trioraft.viz.findings import EXPLANATIONS
from trioraft.viz.model import FINDING_KINDS


def test_every_kind_is_explained() -> None:
    assert set(EXPLANATIONS) == set(FINDING_KINDS)
    for explanation in EXPLANATIONS.values():
        assert explanation.title
        assert explanation.meaning.endswith(".")
        assert explanation.advice.endswith(".")


def test_a_calm_reign_has_no_findings() -> None:
    script = three_nodes()
    script.reigns(202, 2000, 0, 1, followers=(1, 2))
    assert script.run().findings == ()


@pytest.mark.parametrize(
    "scenario",
    [
        "election_basic",
        "leader_disconnect",
        "follower_comes_back",
        "disconnect_all_then_restore",
    ],
)
async def test_healthy_clusters_of_ours_have_no_errors(
    scenario: str, autojump_clock: MockClock
) -> None:
    written = io.StringIO()
    with use_sink(Raftlog(written)):
        await elections.SCENARIOS[scenario](partial(open_cluster, seed=3))
    (run,) = analyse_lines(written.getvalue().splitlines(), "story.log")
    assert len(run.nodes) == 3
    assert any(term.leader is not None for term in run.terms)
    assert [finding for finding in run.findings if finding.severity == "error"] == []
    kinds = {finding.kind for finding in run.findings}
    explained = {"quorum-lost", "vote-refused", "older-term-commit"}
    assert kinds <= {"split-vote", "stale-leader", "no-leader"} | explained


# --- votes ----------------------------------------------------------------------------------


def test_two_leaders() -> None:
    script = three_nodes()
    script.leader(220, 2, 1)
    (finding,) = script.findings("two-leaders")
    assert finding.severity == "error"
    assert (finding.terms, set(finding.nodes)) == ((1,), {"0", "2"})
    assert "18 ms" in finding.detail
    lines = [f"=== RUN   {script.name}", *script.lines]
    assert all("becomes Leader" in lines[line - 1] for line in finding.lines)
    assert len(finding.lines) == 2


def test_two_leaders_of_different_terms_are_not_two_leaders() -> None:
    script = three_nodes()
    script.elected(500, 2, 2)
    assert script.findings("two-leaders") == []


def test_double_vote_for_two_others() -> None:
    script = three_nodes()
    script.candidate(203, 2, 1)
    script.asks(203, 2, 1, 1)
    script.answers(204, 1, 2, 1)
    of_2, of_1 = script.findings("double-vote")
    assert (of_1.severity, of_2.severity) == ("error", "error")
    assert (of_1.terms, of_1.nodes) == ((1,), ("1", "0", "2"))
    assert "0 and 2" in of_1.detail
    assert of_2.nodes == ("2", "0")  # it had voted for 0, and asked for itself then


def test_double_vote_for_itself_and_another() -> None:
    script = three_nodes()
    script.candidate(300, 1, 2)
    script.follower(310, 1, 2)
    script.answers(311, 1, 2, 2)
    (finding,) = script.findings("double-vote")
    assert "itself and 2" in finding.detail


def test_the_same_vote_twice_a_refusal_and_a_vote_in_the_next_term_are_no_double_vote() -> None:
    script = three_nodes()
    script.answers(203, 1, 0, 1)
    script.answers(204, 1, 2, 1, granted=False)
    script.answers(205, 1, 2, 2)
    assert script.findings("double-vote") == []


def test_a_vote_that_died_with_its_voter_is_no_vote() -> None:
    script = three_nodes()
    script.candidate(300, 1, 2)  # on its way to the disk, when
    script.test(301, "1 crashes: in the middle of a write")
    script.timer(350, 1, 200, 1)
    script.answers(400, 1, 2, 2)
    assert script.findings("double-vote") == []


def test_an_answer_that_may_be_anothers_is_no_evidence_after_a_crash() -> None:
    script = three_nodes()
    script.candidate(300, 2, 2)
    script.answers(301, 1, 2, 2)  # never leaves
    script.test(301, "1 crashes: in the middle of a write")
    script.answers(301.5, 0, 2, 2)
    script.hears_vote(302, 2, 2)
    script.timer(350, 1, 200, 1)
    script.candidate(560, 1, 2)
    assert script.findings("double-vote") == []


def test_a_vote_that_was_heard_of_outlives_its_voter() -> None:
    script = three_nodes()
    script.candidate(300, 1, 2)
    script.asks(300, 1, 0, 2)
    script.answers(301, 0, 1, 2)
    script.test(302, "Crash 1")
    script.timer(350, 1, 200, 1)
    script.answers(400, 1, 2, 2)
    (finding,) = script.findings("double-vote")
    assert finding.nodes == ("1", "2")


def test_a_vote_whose_request_is_broken_is_no_evidence() -> None:
    script = three_nodes()
    script.say(300, 1, "RequestVote: {Term:1 CandidateId:0 LastLogIndex:0 LastLogTerm:0}")
    script.answers(310, 1, 2, 2)
    script.say(320, 1, "RequestVote: {Term:2 Candid")
    script.say(320, 1, "... RequestVote reply: &{Term:2 VoteGranted:true}")
    assert script.findings("double-vote") == []


# --- elections ------------------------------------------------------------------------------


def split(script: Script, at_ms: float, term: int) -> None:
    """Nodes 0 and 1 ask at once; node 2 votes for 0, which does not hear it."""
    for node, other in ((0, 1), (1, 0)):
        script.candidate(at_ms, node, term)
        script.timer(at_ms, node, 20, term)
        script.asks(at_ms, node, other, term)
        script.asks(at_ms, node, 2, term)
    for node, other in ((0, 1), (1, 0)):
        script.answers(at_ms + 12, node, other, term, granted=False)
        script.hears_vote(at_ms + 24, other, term, granted=False)


def test_split_vote() -> None:
    script = three_nodes()
    split(script, 300, 2)
    script.elected(500, 1, 3)
    (finding,) = script.findings("split-vote")
    assert finding.severity == "info"
    assert finding.terms == (2,)
    assert set(finding.nodes) == {"0", "1"}
    assert "node 0 got 1, node 1 got 1" in finding.detail
    assert "2 of 3" in finding.detail


def test_a_won_election_is_no_split_vote() -> None:
    script = three_nodes()
    script.elected(500, 1, 2)
    assert script.findings("split-vote") == []


def test_an_election_under_way_when_the_log_ends_is_no_split_vote() -> None:
    script = three_nodes()
    script.candidate(500, 1, 2)
    script.asks(501, 1, 2, 2)
    assert script.findings("split-vote") == []


def test_a_candidate_without_majority_is_explained() -> None:
    script = three_nodes()
    script.test(250, "Disconnect 1")
    for term, at_ms in ((2, 500), (3, 750), (4, 1000)):
        script.candidate(at_ms, 1, term)
    script.say(1600, 0, "listening")
    (finding,) = script.findings("split-vote")
    assert finding.severity == "info"
    assert finding.terms == (2, 3, 4)
    assert "cut off" in finding.detail


def test_election_livelock() -> None:
    script = three_nodes()
    for term in range(2, 8):
        split(script, 300 + 30 * term, term)
    script.say(900, 2, "listening at nowhere")
    (finding,) = script.findings("election-livelock")
    assert finding.severity == "error"
    assert finding.terms == (2, 3, 4, 5, 6, 7)
    assert "timeouts 20 ms against a vote round trip of 24 ms" in finding.detail


def test_a_livelock_that_the_network_makes() -> None:
    script = three_nodes()
    for term in range(2, 8):
        for node in (0, 1):
            script.candidate(300 + 30 * term, node, term)
            script.asks(300 + 30 * term, node, 2, term)
    script.answers(530, 2, 0, 7, granted=False)
    script.hears_vote(531, 0, 7, granted=False)
    script.say(900, 2, "listening at nowhere")
    (finding,) = script.findings("election-livelock")
    assert finding.severity == "warning"
    assert "11 of 13 requests for votes and answers got lost" in finding.detail


def test_four_failed_elections_are_no_livelock() -> None:
    script = three_nodes()
    for term in range(2, 6):
        split(script, 300 + 30 * term, term)
    script.elected(700, 1, 6)
    assert script.findings("election-livelock") == []
    assert [finding.severity for finding in script.findings("split-vote")] == ["warning"]


def test_a_node_that_asks_while_cut_off_is_no_livelock() -> None:
    script = three_nodes()
    script.test(250, "Disconnect 1")
    for term in range(2, 12):
        script.candidate(300 + 250 * term, 1, term)
    assert script.findings("election-livelock") == []


def test_no_leader_ever() -> None:
    script = Script()
    for node in range(3):
        script.timer(0, node, 200, 0)
    script.candidate(201, 0, 1)
    script.timer(1500, 2, 200, 0)
    (finding,) = script.findings("no-leader")
    assert finding.severity == "error"
    assert "1500 ms" in finding.detail


def test_no_leader_at_the_end() -> None:
    script = three_nodes()
    script.say(300, 0, "becomes Dead")
    script.timer(2000, 2, 290, 1)
    (finding,) = script.findings("no-leader")
    assert finding.severity == "warning"
    assert finding.start_s == pytest.approx(0.3)


def test_without_a_majority_nobody_can_lead() -> None:
    script = three_nodes()
    script.test(300, "Disconnect 0")
    script.test(300, "Disconnect 1")
    script.timer(2000, 2, 290, 1)
    (finding,) = script.findings("no-leader")
    assert finding.severity == "info"
    assert "2 of 3" in finding.detail


def test_a_short_time_without_a_leader_is_normal() -> None:
    script = three_nodes()
    script.say(300, 0, "becomes Dead")
    script.timer(900, 2, 290, 1)
    assert script.findings("no-leader") == []


# --- a cluster that forms ---------------------------------------------------------------------


async def forms(logger: EventLogger, late_s: float) -> None:
    """Two nodes wait for a third, and lead on for a moment."""
    network = MemoryNetwork(random.Random(1))

    def opened(node_id: str) -> AbstractAsyncContextManager[Node]:
        return open_node(
            node_id,
            voters=("0", "1", "2"),
            machine=CommandLog(),
            storage=MemoryStorage(),
            transport=network.transport(node_id),
            rng=random.Random(node_id),
            logger=logger,
        )

    async with AsyncExitStack() as nodes:
        first = await nodes.enter_async_context(opened("0"))
        await nodes.enter_async_context(opened("1"))
        await trio.sleep(late_s)
        await nodes.enter_async_context(opened("2"))
        await first.wait(lambda status: status.leader_id is not None)
        await trio.sleep(0.3)


@pytest.mark.parametrize("logs", ["raftlog", "json"])
async def test_waiting_for_the_first_voters_is_no_election_problem(
    logs: str, autojump_clock: MockClock
) -> None:
    stream = io.StringIO()
    written = Raftlog(stream)
    logger = sink_logger(written) if logs == "raftlog" else configure("json", stream=stream)
    await forms(logger, 5.0)
    (run,) = analyse_lines(stream.getvalue().splitlines(), "story.log")
    finding, *others = run.findings
    # The nodes end one after the other, and their leader loses its quorum thereby.
    assert {other.kind for other in others} <= {"quorum-lost"}
    assert (finding.kind, finding.severity, finding.start_s) == ("no-leader", "info", 0.0)
    assert finding.end_s == pytest.approx(5.1, abs=0.2)
    assert "voters have met, and it waited for " in finding.detail
    assert finding.detail.endswith("2.")


def forming(script: Script, until_ms: float) -> None:
    """Its first node waits for another one."""
    script.follower(0, 0, 0)
    for at_ms in range(0, int(until_ms), 200):
        script.timer(at_ms, 0, 200, 0)
    script.say(300, 0, "the cluster is forming: waiting for 1 (it was not heard of yet)")
    script.timer(until_ms, 0, 200, 0)


def test_a_cluster_that_never_forms_has_no_election_problem() -> None:
    script = Script()
    forming(script, 5000)
    (finding,) = script.findings("no-leader")
    assert finding.severity == "info"
    assert "it waited for 1." in finding.detail


def test_what_comes_after_forming_is_one() -> None:
    script = Script()
    forming(script, 2000)
    script.candidate(2200, 0, 1)
    script.timer(5000, 0, 200, 1)
    found = script.findings("no-leader")
    assert sorted(finding.severity for finding in found) == ["error", "info"]
    assert max(finding.start_s for finding in found) == pytest.approx(2.2)


def test_an_emptied_node_of_a_cluster_that_exists_does_not_excuse_the_others() -> None:
    script = Script()
    script.follower(0, 1, 5)
    script.follower(0, 2, 5)
    forming(script, 5000)
    severities = {finding.severity for finding in script.findings("no-leader")}
    assert severities == {"error"}


# --- heartbeats and timers --------------------------------------------------------------------


def test_missed_heartbeats_with_their_interval() -> None:
    script = three_nodes()
    for at_ms in (202, 402, 602):
        script.heartbeat(at_ms, 0, 1, 1)
    script.timer(203, 1, 180, 1)
    script.candidate(783, 1, 2)
    (finding,) = script.findings("missed-heartbeats")
    assert finding.severity == "warning"
    assert (finding.terms, finding.nodes) == ((1,), ("1", "0"))
    assert "after 180 ms of silence" in finding.detail
    assert "every 200 ms" in finding.detail


def test_an_entry_and_its_commit_are_no_heartbeat_interval() -> None:
    script = three_nodes()
    for at_ms in (202, 210):
        script.heartbeat(at_ms, 0, 1, 1)
    script.timer(211, 1, 180, 1)
    script.candidate(391, 1, 2)
    (finding,) = script.findings("missed-heartbeats")
    assert "2 messages, 8.0 ms apart at most, and then nothing for 181 ms" in finding.detail
    assert "every" not in finding.detail


def test_missed_heartbeats_when_there_was_only_one() -> None:
    script = three_nodes()
    script.heartbeat(202, 0, 1, 1)
    script.candidate(383, 1, 2)
    (finding,) = script.findings("missed-heartbeats")
    assert "only once" in finding.detail
    assert "longer than 181 ms" in finding.detail


def test_heartbeats_that_all_got_lost_are_the_networks_fault() -> None:
    script = three_nodes()
    script.heartbeat(202, 0, 1, 1)
    for at_ms in (250, 300, 350):
        script.heartbeat(at_ms, 0, 1, 1, arrives=False)
    script.candidate(390, 1, 2)
    script.heartbeat(420, 0, 2, 1)
    (finding,) = script.findings("missed-heartbeats")
    assert finding.severity == "info"
    assert "nothing of what it sent arrived" in finding.detail
    assert "3 sent in that time got lost" in finding.detail


@pytest.mark.parametrize(
    "done",
    [
        "Disconnect 1",
        "0 is paused",
        "Disconnect 0",
        "Crash 0",
        "Partition 0 | 1 2",
        "Mute 0 after 3",
    ],
)
def test_heartbeats_that_cannot_arrive_are_not_missed(done: str) -> None:
    script = three_nodes()
    script.heartbeat(202, 0, 1, 1)
    script.test(210, done)
    script.candidate(383, 1, 2)
    assert script.findings("missed-heartbeats") == []


@pytest.mark.parametrize("node", [0, 1])
def test_who_has_just_come_back_has_missed_nothing(node: int) -> None:
    script = three_nodes()
    script.heartbeat(202, 0, 1, 1)
    script.test(210, f"Disconnect {node}")
    script.test(380, f"Reconnect {node}")
    script.candidate(383, 1, 2)
    assert script.findings("missed-heartbeats") == []


def test_an_election_beside_another_one_has_missed_no_heartbeats() -> None:
    script = three_nodes()
    script.candidate(203, 1, 2)  # its timer expired as the leader took office
    assert script.findings("missed-heartbeats") == []


def test_an_election_that_was_ordered_has_missed_no_heartbeats() -> None:
    script = three_nodes()
    script.heartbeat(202, 0, 1, 1)
    script.candidate(383, 1, 2)
    script.say(383, 1, "... because transfer from 0")
    assert script.findings("missed-heartbeats") == []


def test_orphan_timers_that_bail_out_together() -> None:
    script = three_nodes()
    for at_ms, timeout_ms in ((203, 150), (210, 200), (220, 180)):
        script.timer(at_ms, 1, timeout_ms, 1)
    script.follower(300, 1, 2)
    for at_ms in (305, 306, 307):
        script.bails(at_ms, 1, 1)
    (finding,) = script.findings("orphan-timer")
    assert finding.severity == "warning"
    assert finding.nodes == ("1",)
    assert "3 election timers" in finding.detail
    assert "3 bailed out" in finding.detail


def test_orphan_timers_whose_start_is_not_in_the_log() -> None:
    script = Script()
    script.bails(305, 1, 1)
    script.bails(306, 1, 1)
    (finding,) = script.findings("orphan-timer")
    assert "2 election timers" in finding.detail


def test_an_orphan_that_expires_beside_another_timer() -> None:
    script = three_nodes()
    script.timer(203, 1, 290, 1)
    script.timer(210, 1, 150, 1)
    script.candidate(360, 1, 2)
    script.bails(366, 1, 1)
    (finding,) = script.findings("orphan-timer")
    assert "1 bailed out and 1 expired" in finding.detail
    assert finding.end_s - finding.start_s == pytest.approx(0.15)


def test_orphan_timers_that_expire_together() -> None:
    script = three_nodes()
    script.timer(203, 1, 150, 1)
    script.timer(204, 1, 151, 1)
    script.candidate(354, 1, 2)
    script.timer(354, 1, 180, 2)
    script.candidate(356, 1, 3)
    (finding,) = script.findings("orphan-timer")
    assert finding.nodes == ("1",)


def test_a_timer_of_an_old_term_that_notices_in_time_is_no_orphan() -> None:
    script = three_nodes()
    script.timer(201, 1, 290, 1)
    script.bails(209, 1, 0)
    script.follower(300, 1, 2)
    script.timer(300, 1, 200, 2)
    script.bails(309, 1, 1)
    assert script.findings("orphan-timer") == []


def test_timers_of_ours_that_replace_each_other_are_no_orphans() -> None:
    script = three_nodes()
    for at_ms in (203, 204, 205, 300):
        script.timer(at_ms, 1, 150, 1)
    script.candidate(450, 1, 2)
    assert script.findings("orphan-timer") == []
    (node,) = [node for node in script.run().nodes if node.name == "1"]
    assert [timer.end for timer in node.timers] == [*["replaced"] * 4, "expired"]


def test_leak_of_ours() -> None:
    script = three_nodes()
    report = """\
    1 leak: started in here, and still there at the end
      1. task: raft.heartbeats
        it is        a task in the nursery of node 0
        started at   node.py:31 in run_leader
        waits in     beat node.py:40
    what to do:
      task: cancel its nursery and leave the `async with` before the test ends"""
    script.lines += [*report.splitlines(), "--- FAIL: TestStory (0.08s)"]
    (finding,) = script.findings("leak")
    assert finding.severity == "error"
    assert "task: raft.heartbeats" in finding.detail
    assert "node.py:31 in run_leader" in finding.detail
    assert script.run().unparsed == 0


def test_words_about_leaks_are_no_leak() -> None:
    script = three_nodes()
    script.lines += ["leaktest: timed out checking goroutines", "    no leaks were found"]
    script.test(400, "1. task: leak nothing")
    assert script.findings("leak") == []


# --- leaders --------------------------------------------------------------------------------


def deposed(script: Script, at_ms: float) -> None:
    """Node 1 and 2 elect node 1 for term 2; the leader of term 1 does not know."""
    script.candidate(at_ms, 1, 2)
    script.follower(at_ms + 1, 2, 2)
    script.answers(at_ms + 1, 2, 1, 2)
    script.leader(at_ms + 2, 1, 2)


def test_a_stale_leader_that_was_cut_off() -> None:
    script = three_nodes()
    script.test(250, "Disconnect 0")
    deposed(script, 500)
    script.test(700, "Reconnect 0")
    script.follower(702, 0, 2)
    (finding,) = script.findings("stale-leader")
    assert finding.severity == "info"
    assert (finding.terms, finding.nodes) == ((1, 2), ("0", "1"))
    assert "200 ms" in finding.detail


def test_a_stale_leader_that_was_connected() -> None:
    script = three_nodes()
    deposed(script, 500)
    script.follower(702, 0, 2)
    (finding,) = script.findings("stale-leader")
    assert finding.severity == "warning"


def test_a_leader_that_steps_down_at_once_is_not_stale() -> None:
    script = three_nodes()
    deposed(script, 500)
    script.follower(505, 0, 2)
    assert script.findings("stale-leader") == []


def test_disruptive_rejoin() -> None:
    script = three_nodes()
    script.reigns(202, 900, 0, 1, followers=(2,))
    script.test(250, "Disconnect 1")
    script.candidate(500, 1, 2)
    script.candidate(750, 1, 3)
    script.test(900, "Reconnect 1")
    script.elected(920, 1, 4)
    (finding,) = script.findings("disruptive-rejoin")
    assert finding.severity == "warning"
    assert (finding.terms, finding.nodes) == ((1, 4), ("1", "0"))
    assert "650 ms" in finding.detail
    assert "twice" in finding.detail


def test_a_node_that_comes_back_and_hears_the_leader_does_not_disrupt() -> None:
    script = three_nodes()
    script.test(250, "Disconnect 1")
    script.test(300, "Reconnect 1")
    script.heartbeat(310, 0, 1, 1)
    script.elected(600, 1, 2)  # for another reason
    assert script.findings("disruptive-rejoin") == []


def test_the_leader_that_comes_back_itself_does_not_disrupt() -> None:
    script = three_nodes()
    script.test(250, "Disconnect 0")
    deposed(script, 500)
    script.test(700, "Reconnect 0")
    script.follower(702, 0, 2)
    assert script.findings("disruptive-rejoin") == []


def test_slow_failover() -> None:
    script = three_nodes()
    script.say(300, 0, "becomes Dead")
    script.elected(2000, 1, 2)
    (finding,) = script.findings("slow-failover")
    assert finding.severity == "warning"
    assert (finding.terms, finding.nodes) == ((1, 2), ("0", "1"))
    assert "1702 ms" in finding.detail
    assert script.run().statistics.failovers_ms == pytest.approx((1702,))


def test_time_without_a_majority_does_not_count_for_a_failover() -> None:
    script = three_nodes()
    script.test(300, "Disconnect 0")
    script.test(300, "Disconnect 1")
    script.test(1900, "Reconnect 1")
    deposed(script, 2000)
    assert script.findings("slow-failover") == []
    assert script.run().statistics.failovers_ms == pytest.approx((102,))
