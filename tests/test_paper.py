"""The Raft paper (Ongaro, Ousterhout 2014) and dissertation, rule by rule.

Rules of this file: every test names its section first. `test_5_…` is the paper, `test_d4_…` the
dissertation. Figures 7 and 8 are played as conversations.
"""

from __future__ import annotations

import pytest

from trioraft.core.config import Limits, Timing
from trioraft.core.errors import ConfigError, NotLeader
from trioraft.core.messages import Message
from trioraft.core.reconfiguration import configuration_of
from trioraft.core.types import EntryKind, HardState, Role

from .core.conversation import (
    FIVE,
    THREE,
    Actor,
    Conversation,
    between,
    entries_of,
    terms_of,
    text,
)
from .core.messages_by_hand import (
    append,
    matched,
    rejected,
    request_pre_vote,
    request_vote,
    vote,
)

PLAIN = Timing(pre_vote=False, check_quorum=False)
"""The paper alone, without what the dissertation adds."""


def candidate(voters: tuple[str, ...] = THREE) -> Actor:
    """Node "1" in its first campaign."""
    one = Actor("1", voters, timing=PLAIN)
    one.times_out()
    one.says()
    return one


def leader(voters: tuple[str, ...] = THREE) -> Actor:
    """Node "1" as leader of term 1."""
    one = candidate(voters)
    one.hears(*(vote(voter, 1) for voter in voters[1 : len(voters) // 2 + 1]))
    assert one.is_now(Role.LEADER)
    one.says()
    return one


# -- 5.1 Terms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["follower", "candidate", "leader"])
def test_5_1_a_later_term_is_adopted_and_makes_a_follower(state: str) -> None:
    one = {"follower": Actor("1", timing=PLAIN), "candidate": candidate(), "leader": leader()}[
        state
    ]
    one.hears(append("2", 2))
    assert (one.raft.role, one.raft.term, one.raft.leader_id) == (Role.FOLLOWER, 2, "2")


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(request_vote("2", 7, (0, 0)), id="request"),
        pytest.param(vote("2", 7, granted=False), id="vote"),
        pytest.param(rejected("2", 7, 0), id="append reply"),
    ],
)
def test_5_1_every_message_carries_the_term(message: Message) -> None:
    one = leader()
    one.hears(message)
    assert (one.raft.role, one.raft.term) == (Role.FOLLOWER, 7)


def test_5_1_a_request_of_a_stale_term_is_rejected_with_the_current_one() -> None:
    one = Actor("1", term=5)
    one.hears(append("2", 4), request_vote("2", 4, (9, 9)))
    assert one.says() == text("""
        1->2 AppendEntriesReply term=5 rejected=0 conflict=(0,0)
        1->2 RequestVoteReply term=5 refused
    """)
    assert one.raft.leader_id is None


def test_5_1_the_term_is_durable_before_it_is_spoken_of() -> None:
    one = Actor("1")
    one.hears(request_vote("2", 9))
    assert one.disk.hard_state == HardState(9, "2")


# -- 5.2 Leader election -----------------------------------------------------------------------


def test_5_2_a_node_starts_as_a_follower() -> None:
    assert Actor("1", term=9, voted_for="1").raft.role is Role.FOLLOWER


def test_5_2_a_follower_that_hears_nothing_starts_an_election() -> None:
    one = Actor("1", timing=PLAIN)
    one.times_out()
    assert (one.raft.role, one.raft.term, one.raft.voted_for) == (Role.CANDIDATE, 1, "1")
    assert one.says() == text("""
        1->2 RequestVote term=1 log=(0,0)
        1->3 RequestVote term=1 log=(0,0)
    """)


def test_5_2_a_follower_stays_one_while_it_hears_a_leader() -> None:
    one = Actor("1", timing=PLAIN)
    for _ in range(20):
        one.now += PLAIN.heartbeat_interval_s
        one.hears(append("2", 1))
        one.does(lambda: one.raft.on_timeout(one.now))
    assert one.is_now(Role.FOLLOWER)


@pytest.mark.parametrize(("voters", "needed"), [(("1",), 0), (THREE, 1), (FIVE, 2)])
def test_5_2_a_majority_wins(voters: tuple[str, ...], needed: int) -> None:
    one = candidate(voters)
    for granted, voter in enumerate(voters[1:], 1):
        if one.is_now(Role.LEADER):
            break
        one.hears(vote(voter, 1))
        assert (one.raft.role is Role.LEADER) == (granted >= needed)
    assert one.is_now(Role.LEADER)


def test_5_2_a_majority_of_refusals_elects_nobody() -> None:
    one = candidate(FIVE)
    one.hears(*(vote(voter, 1, granted=False) for voter in FIVE[1:]))
    assert one.is_now(Role.CANDIDATE)


def test_5_2_a_server_votes_once_in_a_term_first_come_first_served() -> None:
    one = Actor("1")
    one.hears(request_vote("2", 1), request_vote("3", 1), request_vote("2", 1))
    assert one.says() == text("""
        1->2 RequestVoteReply term=1 granted
        1->3 RequestVoteReply term=1 refused
        1->2 RequestVoteReply term=1 granted
    """)


def test_5_2_granting_a_vote_starts_the_timer_anew() -> None:
    one = Actor("1")
    one.now = (one.raft.deadline or 0.0) - 0.001
    one.hears(request_vote("2", 1))
    assert (one.raft.deadline or 0.0) >= one.now + PLAIN.election_timeout_s[0]


def test_5_2_refusing_a_vote_leaves_the_timer_alone() -> None:
    one = Actor("1", term=1, log=entries_of(1))
    deadline = one.raft.deadline
    one.now += 0.1
    one.hears(request_vote("2", 2))
    assert one.raft.deadline == deadline


def test_5_2_a_new_leader_is_heard_at_once() -> None:
    one = candidate()
    one.hears(vote("2", 1))
    assert one.says() == text("""
        1->2 AppendEntries term=1 prev=(0,0) entries=[1] commit=0
        1->3 AppendEntries term=1 prev=(0,0) entries=[1] commit=0
    """)


def test_5_2_a_leader_beats() -> None:
    one = leader()
    start = one.now
    one.beats()
    assert one.now == start + PLAIN.heartbeat_interval_s
    assert one.says() == text("""
        1->2 AppendEntries term=1 prev=(0,0) entries=[] commit=0
        1->3 AppendEntries term=1 prev=(0,0) entries=[] commit=0
    """)


def test_5_2_a_candidate_yields_to_a_leader_of_its_own_term() -> None:
    one = candidate()
    one.hears(append("2", 1))
    assert (one.raft.role, one.raft.leader_id, one.raft.term) == (Role.FOLLOWER, "2", 1)


def test_5_2_a_candidate_does_not_yield_to_a_leader_of_an_earlier_term() -> None:
    one = candidate()
    one.times_out()  # term 2
    one.says()
    one.hears(append("2", 1))
    assert one.is_now(Role.CANDIDATE)
    assert one.says() == "1->2 AppendEntriesReply term=2 rejected=0 conflict=(0,0)"


def test_5_2_after_a_split_vote_each_tries_again_in_a_new_term() -> None:
    talk = Conversation(*(Actor(node, timing=PLAIN) for node in THREE))
    for node in THREE:
        talk[node].times_out()
    talk.talk()
    assert [talk[node].raft.role for node in THREE] == [Role.CANDIDATE] * 3
    talk["2"].times_out()
    talk.talk()
    assert (talk["2"].raft.role, talk["2"].raft.term) == (Role.LEADER, 2)


def test_5_2_timeouts_are_drawn_anew_for_each_election_from_the_whole_range() -> None:
    low, high = PLAIN.election_timeout_s
    one = Actor("1", timing=PLAIN)
    timeouts = []
    for _ in range(200):
        start = one.now
        one.times_out()
        timeouts.append(one.now - start)
    assert all(low <= timeout_s <= high + 1e-9 for timeout_s in timeouts)
    assert len(set(timeouts)) == 200
    fifth = (high - low) / 5
    assert {int((timeout_s - low) / fifth) for timeout_s in timeouts} >= {0, 1, 2, 3, 4}


def test_5_2_different_nodes_draw_different_timeouts() -> None:
    assert len({Actor(node, seed=1).raft.deadline for node in FIVE}) == 5


# -- 5.3 Log replication -----------------------------------------------------------------------


def test_5_3_a_command_is_replicated_committed_and_applied_everywhere() -> None:
    talk = Conversation.of(*THREE)
    one = talk.elect("1")
    talk.transcript()
    one.proposes(b"x")
    talk.talk()
    one.beats()
    talk.talk()
    assert talk.transcript() == text("""
        1->2 AppendEntries term=1 prev=(1,1) entries=[1] commit=1
        1->3 AppendEntries term=1 prev=(1,1) entries=[1] commit=1
        2->1 AppendEntriesReply term=1 match=2
        3->1 AppendEntriesReply term=1 match=2
        1->2 AppendEntries term=1 prev=(1,2) entries=[] commit=2
        1->3 AppendEntries term=1 prev=(1,2) entries=[] commit=2
        2->1 AppendEntriesReply term=1 match=2
        3->1 AppendEntriesReply term=1 match=2
    """)
    assert [talk[node].applied_commands() for node in THREE] == [[b"x"]] * 3


def test_5_3_only_the_leader_takes_commands() -> None:
    one = Actor("1")
    one.hears(append("2", 1))
    with pytest.raises(NotLeader, match="the leader is '2'"):
        one.proposes(b"x")
    assert one.raft.log.last_index == 0


def test_5_3_entries_are_applied_in_the_order_of_the_log() -> None:
    one = Actor("1", term=2, log=entries_of(1, 1, 2))
    one.hears(append("2", 2, (2, 3), commit=2), append("2", 2, (2, 3), commit=3))
    assert [entry.index for entry in one.applied] == [1, 2, 3]


@pytest.mark.parametrize(
    ("prev", "answer"),
    [
        ((1, 1), "match=1"),
        ((2, 3), "match=3"),
        ((2, 4), "rejected=4 conflict=(0,4)"),  # nothing there: go back to the end
        ((3, 3), "rejected=3 conflict=(2,2)"),  # another term there: go back before all of it
    ],
)
def test_5_3_the_consistency_check(prev: tuple[int, int], answer: str) -> None:
    one = Actor("1", term=3, log=entries_of(1, 2, 2))
    one.hears(append("2", 3, prev))
    assert one.says() == f"1->2 AppendEntriesReply term=3 {answer}"


# Figure 7: the leader of term 8, and what can be the matter with its followers.
FIGURE_7_LEADER = (1, 1, 1, 4, 4, 5, 5, 6, 6, 6)
FIGURE_7 = {
    "a": (1, 1, 1, 4, 4, 5, 5, 6, 6),
    "b": (1, 1, 1, 4),
    "c": (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6),
    "d": (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7),
    "e": (1, 1, 1, 4, 4, 4, 4),
    "f": (1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3),
}
FIGURE_7_CONVERSATION = {
    "a": """
        L->a AppendEntries term=8 prev=(6,10) entries=[8] commit=0
        a->L AppendEntriesReply term=8 rejected=10 conflict=(0,10)
        L->a AppendEntries term=8 prev=(6,9) entries=[6,8] commit=0
        a->L AppendEntriesReply term=8 match=11
    """,
    "b": """
        L->b AppendEntries term=8 prev=(6,10) entries=[8] commit=0
        b->L AppendEntriesReply term=8 rejected=10 conflict=(0,5)
        L->b AppendEntries term=8 prev=(4,4) entries=[4,5,5,6,6,6,8] commit=0
        b->L AppendEntriesReply term=8 match=11
    """,
    "c": """
        L->c AppendEntries term=8 prev=(6,10) entries=[8] commit=0
        c->L AppendEntriesReply term=8 match=11
    """,
    "d": """
        L->d AppendEntries term=8 prev=(6,10) entries=[8] commit=0
        d->L AppendEntriesReply term=8 match=11
    """,
    "e": """
        L->e AppendEntries term=8 prev=(6,10) entries=[8] commit=0
        e->L AppendEntriesReply term=8 rejected=10 conflict=(0,8)
        L->e AppendEntries term=8 prev=(5,7) entries=[6,6,6,8] commit=0
        e->L AppendEntriesReply term=8 rejected=7 conflict=(4,4)
        L->e AppendEntries term=8 prev=(4,5) entries=[5,5,6,6,6,8] commit=0
        e->L AppendEntriesReply term=8 match=11
    """,
    "f": """
        L->f AppendEntries term=8 prev=(6,10) entries=[8] commit=0
        f->L AppendEntriesReply term=8 rejected=10 conflict=(3,7)
        L->f AppendEntries term=8 prev=(5,6) entries=[5,6,6,6,8] commit=0
        f->L AppendEntriesReply term=8 rejected=6 conflict=(2,4)
        L->f AppendEntries term=8 prev=(1,3) entries=[4,4,5,5,6,6,6,8] commit=0
        f->L AppendEntriesReply term=8 match=11
    """,
}


@pytest.mark.parametrize("name", list(FIGURE_7))
def test_5_3_figure_7_each_follower_converges(name: str) -> None:
    """The third server has the leader's log, elects it, and is gone."""
    nodes = ("L", name, "x")
    logs = {"L": FIGURE_7_LEADER, "x": FIGURE_7_LEADER, **FIGURE_7}
    talk = Conversation(
        *(Actor(n, nodes, term=7, log=entries_of(*logs[n]), timing=PLAIN) for n in nodes)
    )
    talk["L"].times_out()
    talk.talk(2)
    talk.transcript()
    talk.lost.add(("L", "x"))
    talk.talk()
    assert between(talk.transcript(), "L", name) == text(FIGURE_7_CONVERSATION[name])
    assert terms_of(talk[name].raft) == (*FIGURE_7_LEADER, 8)
    assert talk["L"].raft.log.commit_index == 11


def test_5_3_figure_7_all_at_once() -> None:
    """Seven servers; a, b, e and f elect the leader, c and d have longer logs and refuse."""
    nodes = ("L", *FIGURE_7)
    logs = {"L": FIGURE_7_LEADER, **FIGURE_7}
    talk = Conversation(
        *(Actor(n, nodes, term=7, log=entries_of(*logs[n]), timing=PLAIN) for n in nodes)
    )
    talk["L"].times_out()
    talk.talk()
    lines = talk.transcript().splitlines()
    assert "\n".join(line for line in lines if "RequestVoteReply" in line) == text("""
        a->L RequestVoteReply term=8 granted
        b->L RequestVoteReply term=8 granted
        c->L RequestVoteReply term=8 refused
        d->L RequestVoteReply term=8 refused
        e->L RequestVoteReply term=8 granted
        f->L RequestVoteReply term=8 granted
    """)
    assert {terms_of(talk[node].raft) for node in nodes} == {(*FIGURE_7_LEADER, 8)}
    assert talk["L"].raft.log.commit_index == 11


# -- 5.4 Safety --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("voter", "asking", "granted"),
    [
        ((1, 1, 2), (1, 1, 2), True),
        ((1, 1, 2), (1, 1, 2, 2), True),
        ((1, 1, 2), (1, 1, 1, 1, 1), False),
        ((1, 1, 2), (1, 3), True),
        ((1, 1, 2), (1, 2), False),
    ],
)
def test_5_4_1_a_vote_goes_only_to_a_log_at_least_as_up_to_date(
    voter: tuple[int, ...], asking: tuple[int, ...], granted: bool
) -> None:
    one = Actor("1", term=3, log=entries_of(*voter))
    one.hears(request_vote("2", 4, (asking[-1], len(asking))))
    verdict = "granted" if granted else "refused"
    assert one.says() == f"1->2 RequestVoteReply term=4 {verdict}"


def campaign(talk: Conversation, node: str, *, elections: int, rounds: int | None = None) -> bool:
    """Let one server campaign so often; whether it is elected."""
    for _ in range(elections):
        talk[node].times_out()
        talk.talk(rounds)
        if talk[node].raft.role is Role.LEADER:
            return True
    return False


def figure_8() -> Conversation:
    """Figure 8 up to (c): S1 leads term 4, and entry 2 of its term 2 stands on a majority.

    A leader's no-op is the entry of its term; entry 1 is of term 1, on all five.
    """
    limits = Limits(append_entries_max=1)
    talk = Conversation(
        *(Actor(n, FIVE, term=1, log=entries_of(1), timing=PLAIN, limits=limits) for n in FIVE)
    )
    # (a) S1 leads term 2; its entry reaches S2 alone.
    assert campaign(talk, "1", elections=1, rounds=2)
    talk.lost = {("1", "3"), ("1", "4"), ("1", "5")}
    talk.talk()
    # (b) S1 crashes; S5 leads term 3 with the votes of S3 and S4, and keeps its entry to itself.
    talk["1"].crash_and_restart()
    talk.cut_off("3", "4", "5")
    assert campaign(talk, "5", elections=1, rounds=2)
    assert talk["5"].raft.term == 3
    talk.cut_off("5")
    talk.talk()
    # (c) S5 crashes; S1 leads term 4 with S2, S3 and S4, and entry 2 reaches S3.
    talk["5"].crash_and_restart()
    assert terms_of(talk["5"].raft) == (1, 3)
    talk.lost = {(a, b) for a in FIVE for b in FIVE if "5" in (a, b)}
    assert campaign(talk, "1", elections=2, rounds=2)
    assert talk["1"].raft.term == 4
    return talk


def test_5_4_2_figure_8_an_entry_of_an_earlier_term_may_yet_be_lost() -> None:
    talk = figure_8()
    talk.transcript()
    talk.lost |= {("1", "4"), ("1", "2")}
    talk.talk(2)  # the no-op of term 4 does not fit S3's log: it needs entry 2 first
    talk.talk(2)
    assert talk.transcript() == text("""
        1->2 AppendEntries term=4 prev=(2,2) entries=[4] commit=0 (lost)
        1->3 AppendEntries term=4 prev=(2,2) entries=[4] commit=0
        1->4 AppendEntries term=4 prev=(2,2) entries=[4] commit=0 (lost)
        1->5 AppendEntries term=4 prev=(2,2) entries=[4] commit=0 (lost)
        3->1 AppendEntriesReply term=4 rejected=2 conflict=(0,2)
        1->3 AppendEntries term=4 prev=(1,1) entries=[2] commit=0
        3->1 AppendEntriesReply term=4 match=2
    """)
    assert [terms_of(talk[n].raft) for n in FIVE] == [(1, 2, 4), (1, 2), (1, 2), (1,), (1, 3)]
    assert talk["1"].raft.log.commit_index == 0  # a majority holds entry 2, and it is not safe
    # (d) S1 crashes; S5 leads with the votes of S2, S3 and S4, and overwrites entry 2.
    talk["1"].crash_and_restart()
    talk.heal()
    talk.cut_off("2", "3", "4", "5")
    assert campaign(talk, "5", elections=3)
    assert {terms_of(talk[n].raft)[:2] for n in FIVE[1:]} == {(1, 3)}


def test_5_4_2_figure_8_an_entry_of_its_own_term_makes_the_earlier_ones_safe() -> None:
    talk = figure_8()
    talk.talk()  # (e) the no-op of term 4 reaches S2, S3 and S4
    assert talk["1"].raft.log.commit_index == 3
    talk["1"].crash_and_restart()
    talk.heal()
    talk.cut_off("2", "3", "4", "5")
    assert not campaign(talk, "5", elections=4)  # 5.4.1 keeps it out
    assert campaign(talk, "2", elections=2)
    assert terms_of(talk["5"].raft)[:3] == (1, 2, 4)


# -- 5.5 Crashes, 5.6 timing, 8 clients --------------------------------------------------------


def test_5_5_a_request_that_comes_twice_is_answered_twice_and_done_once() -> None:
    one = Actor("1")
    entries = append("2", 1, entries=entries_of(1, 1), commit=1)
    one.hears(entries, entries)
    assert one.says() == text("""
        1->2 AppendEntriesReply term=1 match=2
        1->2 AppendEntriesReply term=1 match=2
    """)
    assert terms_of(one.raft) == (1, 1)
    assert len(one.applied) == 1


def test_5_5_a_leader_tries_for_ever() -> None:
    one = leader()
    for _ in range(50):
        one.beats()
    assert one.says().count("1->2 AppendEntries") == 50
    one.hears(matched("2", 1, 0))  # it is back, with an empty log
    assert one.says() == "1->2 AppendEntries term=1 prev=(0,0) entries=[1] commit=0"


def test_5_5_a_node_comes_back_with_what_was_durable() -> None:
    one = Actor("1")
    one.hears(request_vote("2", 3), append("2", 3, entries=entries_of(1, 2)))
    one.crash_and_restart()
    assert (one.raft.term, one.raft.voted_for, terms_of(one.raft)) == (3, "2", (1, 2))
    assert (one.raft.role, one.raft.log.commit_index) == (Role.FOLLOWER, 0)


def test_5_6_broadcast_time_is_well_below_the_election_timeout() -> None:
    with pytest.raises(ConfigError, match=r"is 3 s, but .*\(0\.15 s, 0\.3 s\).*Rule: heartbeat"):
        Timing(election_timeout_s=(0.150, 0.300), heartbeat_interval_s=3.0)


def test_8_a_leader_begins_its_term_with_an_entry_that_does_nothing() -> None:
    one = leader()
    one.hears(append("2", 2))  # another leader
    one.times_out()
    one.hears(vote("2", 3))
    first, noop = one.disk.entries
    assert (noop.index, noop.term, noop.data, noop.kind) == (2, 3, b"", EntryKind.NOOP)
    one.hears(matched("2", 3, 2))
    assert one.raft.log.commit_index == 2
    assert one.applied_commands() == []
    # The very first entry of a cluster says who is in it, instead of nothing.
    assert configuration_of(first).voters == ("1", "2", "3")


# -- The dissertation --------------------------------------------------------------------------


@pytest.mark.parametrize("check_quorum", [True, False])
def test_d4_2_3_a_node_that_hears_its_leader_ignores_who_would_replace_it(
    check_quorum: bool,
) -> None:
    one = Actor("1", timing=Timing(check_quorum=check_quorum))
    one.hears(append("2", 1))
    one.says()
    one.hears(request_vote("3", 9, (9, 9)))
    verdict = "term=1 refused" if check_quorum else "term=9 granted"
    assert one.says() == f"1->3 RequestVoteReply {verdict}"


def test_d4_2_3_a_leader_ignores_who_would_replace_it() -> None:
    one = Actor("1", timing=Timing(pre_vote=False))
    one.times_out()
    one.hears(vote("2", 1))
    one.says()
    one.hears(request_vote("3", 9, (9, 9)))
    assert one.says() == "1->3 RequestVoteReply term=1 refused"
    assert (one.raft.role, one.raft.term) == (Role.LEADER, 1)


def test_d4_2_3_a_leader_that_hands_over_is_not_protected() -> None:
    one = Actor("1")
    one.hears(append("2", 1))
    one.says()
    one.hears(request_vote("3", 2, (9, 9), transfer=True))
    assert one.says() == "1->3 RequestVoteReply term=2 granted"


def test_d4_2_3_after_an_election_timeout_of_silence_it_is_not_protected() -> None:
    one = Actor("1")
    one.hears(append("2", 1))
    one.says()
    one.now += one.timing.election_timeout_s[0]
    one.hears(request_vote("3", 2, (9, 9)))
    assert one.says() == "1->3 RequestVoteReply term=2 granted"


def test_d6_2_a_leader_that_no_quorum_answers_steps_down() -> None:
    one = Actor("1", FIVE, timing=Timing(pre_vote=False))
    one.times_out()
    one.hears(vote("2", 1), vote("3", 1))
    low, high = one.timing.election_timeout_s
    since = one.now
    one.now += 0.1
    one.hears(matched("2", 1, 1))  # with the leader itself two of five: no quorum
    one.times_out()
    assert low <= one.now - since <= high
    assert (one.raft.role, one.raft.term, one.raft.leader_id) == (Role.FOLLOWER, 1, None)
    assert str(one.raft.last_reason).startswith("quorum lost for")


def test_d6_2_a_leader_that_a_quorum_answers_leads_on() -> None:
    one = Actor("1", timing=Timing(pre_vote=False))
    one.times_out()
    one.hears(vote("2", 1))
    for _ in range(40):
        one.beats()
        one.hears(matched("3", 1, 1))
        one.does(lambda: one.raft.on_timeout(one.now))
    assert one.is_now(Role.LEADER)


def test_d6_2_without_check_quorum_a_leader_leads_on_alone() -> None:
    one = leader()
    assert one.raft.deadline is None
    for _ in range(40):
        one.beats()
    assert one.is_now(Role.LEADER)


def test_d9_6_a_node_that_could_not_win_disturbs_nobody() -> None:
    talk = Conversation.of(*THREE)
    talk.elect("1")
    talk.cut_off("3")
    for _ in range(10):
        talk["3"].times_out()
        talk.talk()
    assert talk["3"].raft.term == 1
    talk.heal()
    talk["1"].now = talk["2"].now = talk["3"].now
    talk["1"].beats()
    talk.talk()
    assert (talk["1"].raft.role, talk["1"].raft.term) == (Role.LEADER, 1)
    assert talk["3"].raft.leader_id == "1"


def test_d9_6_a_pre_vote_asks_for_the_next_term_and_takes_none() -> None:
    one = Actor("1", term=4, log=entries_of(2, 4))
    one.times_out()
    assert one.says() == text("""
        1->2 RequestPreVote term=4 next=5 log=(4,2)
        1->3 RequestPreVote term=4 next=5 log=(4,2)
    """)
    assert (one.raft.role, one.raft.term) == (Role.PRE_CANDIDATE, 4)
    assert one.disk.hard_state == HardState(4, None)


def test_d9_6_a_pre_vote_is_granted_by_the_rules_of_a_vote() -> None:
    one = Actor("1", term=4, log=entries_of(2, 4))
    one.hears(
        request_pre_vote("2", 4, 5, (4, 2)),
        request_pre_vote("3", 4, 5, (4, 1)),
        request_pre_vote("2", 3, 4, (4, 2)),
    )
    assert one.says() == text("""
        1->2 RequestPreVoteReply term=4 next=5 granted
        1->3 RequestPreVoteReply term=4 next=5 refused
        1->2 RequestPreVoteReply term=4 next=4 refused
    """)


def test_d10_2_1_a_leader_writes_its_disk_while_its_followers_write_theirs() -> None:
    one = leader()
    one.hears(matched("2", 1, 1), matched("3", 1, 1))
    one.disk_waits = True
    one.says()
    one.proposes(b"x")
    assert one.says() == text("""
        1->2 AppendEntries term=1 prev=(1,1) entries=[1] commit=1
        1->3 AppendEntries term=1 prev=(1,1) entries=[1] commit=1
    """)
    one.hears(matched("2", 1, 2))
    assert one.raft.log.commit_index == 1  # one follower, and the leader not yet
    one.persist()
    assert one.raft.log.commit_index == 2


def test_d10_2_2_entries_are_sent_ahead_of_their_acknowledgements() -> None:
    one = leader()
    one.hears(matched("2", 1, 1))
    one.says()
    for command in (b"a", b"b", b"c"):
        one.proposes(command)
    assert between(one.says(), "1", "2") == text("""
        1->2 AppendEntries term=1 prev=(1,1) entries=[1] commit=1
        1->2 AppendEntries term=1 prev=(1,2) entries=[1] commit=1
        1->2 AppendEntries term=1 prev=(1,3) entries=[1] commit=1
    """)
