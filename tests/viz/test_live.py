"""A run while it happens (`viz.live`): what several nodes say, in whatever order it comes."""

from __future__ import annotations

from typing import Any

import trioraft.viz.live as live
from trioraft.viz import facts
from trioraft.viz.live import LiveRun
from trioraft.viz.model import Finding

SENT, RECEIVED, FATE, PARTNER = 7, 8, 9, 12
HEARTBEAT = facts.Packet("AppendEntries", "0", "1", 1, "round=8")
ANSWER = facts.Packet("AppendEntriesReply", "1", "0", 1, "round=8", is_positive=True)


def run_with(*names: str) -> LiveRun:
    """A run that began at 0 s, of nodes that are heard since then."""
    run = LiveRun(0.0)
    for name in names:
        run.is_heard(name, 0.0)
    return run


def messages(run: LiveRun) -> list[list[Any]]:
    rows: list[list[Any]] = run.everything()["messages"]
    return rows


def test_a_message_is_one_whichever_end_is_told_first() -> None:
    run = run_with("0", "1")
    run.add(1.0, "0", "sends", facts.Sent(HEARTBEAT))
    run.add(1.002, "1", "receives", facts.Received(HEARTBEAT))
    run.add(1.004, "0", "hears", facts.Received(ANSWER))  # before it is told that it was sent
    run.add(1.003, "1", "answers", facts.Sent(ANSWER))
    request, answer = messages(run)
    assert (request[SENT], request[RECEIVED], request[FATE]) == (1_000_000, 1_002_000, "delivered")
    assert (answer[SENT], answer[RECEIVED], answer[FATE]) == (1_003_000, 1_004_000, "delivered")
    assert (request[PARTNER], answer[PARTNER]) == (answer[0], request[0])


def test_what_does_not_arrive_is_lost_if_the_other_would_have_said_so() -> None:
    run = run_with("0", "1")
    run.add(1.0, "0", "sends", facts.Sent(HEARTBEAT))
    run.tick(1.1)
    assert messages(run)[0][FATE] == "unknown", "it may still come"
    run.tick(4.0)
    assert messages(run)[0][FATE] == "lost"
    run.add(5.0, "1", "receives", facts.Received(HEARTBEAT))  # a process that was paused
    assert messages(run)[0][FATE] == "delivered"


def test_of_a_node_that_is_not_heard_nobody_knows_what_it_got() -> None:
    run = run_with("0", "1")
    run.is_silent("1", 0.5)
    run.add(1.0, "0", "sends", facts.Sent(HEARTBEAT))
    run.add(1.0, "0", "sends", facts.Sent(facts.Packet("AppendEntries", "0", "2", 1, "round=8")))
    run.is_heard("1", 2.0)
    run.add(2.0, "2", "is there", None)
    run.tick(9.0)
    assert [row[FATE] for row in messages(run)] == ["unknown", "unknown"]


def test_what_some_of_was_left_out_is_not_called_lost() -> None:
    run = run_with("0", "1")
    run.add(1.0, "0", "sends", facts.Sent(HEARTBEAT))
    run.has_gap("1", 1.2)
    run.tick(9.0)
    assert messages(run)[0][FATE] == "unknown"


def test_roles_follow_each_other_and_end_with_silence_or_a_crash() -> None:
    run = run_with()
    run.is_in_role("0", "Follower", 1, "start", 0.0)
    run.is_in_role("0", "Follower", 1, "start", 0.5)  # no news
    run.add(1.0, "0", "becomes Candidate", facts.Became("Candidate", 2, "no contact"))
    run.add(1.1, "0", "becomes Leader", facts.Became("Leader", 2, "elected"))
    run.is_silent("0", 2.0)
    run.is_in_role("0", "Leader", 2, "elected", 3.0)
    run.add(4.0, None, "Crash 0", facts.Marked("crash", ("0",)))
    roles = [(row[2], row[4], row[5]) for row in run.everything()["roles"]]
    assert roles == [
        ("Follower", 0, 1_000_000),
        ("Candidate", 1_000_000, 1_100_000),
        ("Leader", 1_100_000, 2_000_000),
        ("Leader", 3_000_000, 4_000_000),
        ("Dead", 4_000_000, -1),
    ]
    (term,) = run.everything()["terms"]
    assert (term["number"], term["leader"], term["candidates"]) == (2, "0", ["0"])


def test_timers_end_as_they_did() -> None:
    run = run_with()
    run.add(0.1, "0", "timer", facts.TimerStarted(0.2, 1))
    run.add(0.2, "0", "timer", facts.TimerStarted(0.3, 1))
    run.add(0.5, "0", "asks", facts.Became("PreCandidate", 1))
    ends = [(row[6], row[4]) for row in run.everything()["timers"]]
    assert ends == [("replaced", 200_000), ("expired", 500_000)]


def test_who_is_cut_off_or_silent_is_shown_so() -> None:
    run = run_with("0", "1", "2")
    run.add(1.0, None, "Disconnect 0", facts.Marked("disconnect", ("0",)))
    run.add(2.0, None, "Heal", facts.Marked("heal"))
    run.is_silent("2", 3.0)
    outages = [(row[1], row[2], row[3], row[4]) for row in run.everything()["outages"]]
    assert outages == [("0", 1_000_000, 2_000_000, "alone"), ("2", 3_000_000, -1, "off")]


def test_only_what_has_changed_is_told_again() -> None:
    run = run_with("0", "1")
    run.add(1.0, "0", "sends", facts.Sent(HEARTBEAT))
    first = run.take_changes()
    assert [row[0] for row in first["entries"]] == [0]
    run.add(1.001, "1", "receives", facts.Received(HEARTBEAT))
    second = run.take_changes()
    assert [row[0] for row in second["entries"]] == [1]
    assert [row[0] for row in second["messages"]] == [0], "the same one, which has arrived"
    assert not {"entries", "messages"} & run.take_changes().keys()


def test_findings_are_told_once_and_in_its_own_time() -> None:
    run = LiveRun(10.0)
    found = [Finding("split-vote", "info", (2,), ("0",), 1.0, 2.0, "nobody won")]
    run.find(found, 15.0)
    (finding,) = run.take_changes()["findings"]
    assert (finding["start"], finding["end"]) == (6_000_000, 7_000_000)
    run.find(found, 15.0)
    assert "findings" not in run.take_changes()


def test_however_long_it_goes_on_it_grows_no_further() -> None:
    run = run_with("0", "1")
    for number in range(3 * live.ENTRIES_MAX // 2):
        at_s = number / 50
        packet = facts.Packet("AppendEntries", "0", "1", 1, f"round={number}")
        run.add(at_s, "0", "sends", facts.Sent(packet))
        run.add(at_s, "1", "receives", facts.Received(packet))
        run.add(at_s, "1", "timer", facts.TimerStarted(0.2, 1))
        run.add(at_s, "0", "commits", facts.Committed(number))
        if number % 500 == 0:
            run.tick(at_s)
    run.tick(at_s)
    rows = {name: len(column.rows) for name, column in run.columns.items()}
    assert rows["entries"] == live.ENTRIES_MAX
    assert all(count <= live.ROWS_MAX for count in rows.values())
    assert len(run._unsettled) < 5000
    assert not run._sent
    assert not run._received
    whole = run.everything()
    assert whole["first"]["entries"] == whole["entries"][0][0] > 0
    assert min(max(row[SENT], row[RECEIVED]) for row in whole["messages"]) >= whole["before"]


def test_what_is_old_is_forgotten_though_it_is_little() -> None:
    run = run_with("0", "1")
    run.add(1.0, "0", "becomes Candidate", facts.Became("Candidate", 2))
    run.add(1.0, "0", "sends", facts.Sent(HEARTBEAT))
    run.add(2.0, "0", "becomes Leader", facts.Became("Leader", 2))
    run.tick(2.0 + live.WINDOW_S + 1.0)
    whole = run.everything()
    assert whole["entries"] == whole["messages"] == []
    assert [row[2] for row in whole["roles"]] == ["Leader"], "it still is"
    assert [term["number"] for term in whole["terms"]] == [2], "and its term lasts"
