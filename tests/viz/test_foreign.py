"""Logs of etcd and of hashicorp/raft, as people paste them: what they tell is read, and what they
do not tell is said.

Rules of this file: the samples were retyped from public issues, shortened, and given other names.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trioraft.viz.analysis import analyse_lines, analyse_log, analyse_logs
from trioraft.viz.model import Message, Run
from trioraft.viz.page.data import page_data

DATA = Path(__file__).parent / "data" / "foreign"


def only(name: str) -> Run:
    (run,) = analyse_log(DATA / name)
    return run


def roles(run: Run, name: str) -> list[tuple[str, int]]:
    (node,) = (node for node in run.nodes if node.name == name)
    return [(span.role, span.term) for span in node.roles if span.entry is not None]


def told(message: Message) -> tuple[str, str | None, str | None, str]:
    return message.kind, message.sender, message.receiver, message.fate


# --- etcd -----------------------------------------------------------------------------------


def test_one_log_of_three_members_of_etcd() -> None:
    run = only("etcd_three_members.txt")
    first, second, third = "1a00000000000000", "2b00000000000001", "3c00000000000002"
    assert run.node_names == (first, second, third)
    assert (len(run.entries), run.unparsed) == (28, 0)
    assert [(term.number, term.leader, term.candidates) for term in run.terms] == [
        (6, None, (third, second)),
        (7, third, (third,)),
    ]
    assert roles(run, second) == [("Candidate", 6), ("Follower", 7)]
    node = next(node for node in run.nodes if node.name == second)
    assert node.full_name == "member-1"
    assert node.roles[-1].reason == f"MsgVote of the later term 7 from {third}"
    votes = [told(message) for message in run.messages if message.is_reply]
    assert ("RequestVoteReply", second, third, "delivered") in votes
    assert {finding.kind for finding in run.findings} == {"split-vote"}


def test_the_json_of_a_newer_etcd_of_one_member_only() -> None:
    run = only("etcd_zap.jsonl")
    assert run.terms[-1].leader == "c100000000000001"
    # Those that it asks have lanes, too: without them, one of one would be a majority.
    assert run.node_names == ("c100000000000001", "c200000000000002", "c300000000000003")
    assert run.entries[6].text.startswith("apply request took too long: took=2.000055631s")
    assert run.entries[6].node == "c100000000000001"
    assert run.entries[-1].at_s == pytest.approx(1.943)


def test_nothing_is_called_lost_that_went_to_a_node_whose_log_was_not_given() -> None:
    run = only("etcd_zap.jsonl")
    requests = [told(message)[2:] for message in run.messages if not message.is_reply]
    assert requests == [("c200000000000002", "unknown"), ("c300000000000003", "unknown")] * 2
    assert run.statistics.messages_lost == 0


def test_etcd_of_a_journal_has_hosts_and_seconds() -> None:
    lines = [
        "Apr 29 16:39:37 host-2 etcd[11]: 91d25 is starting a new election at term 89",
        "Apr 29 16:39:38 host-2 etcd[11]: 91d25 became candidate at term 90",
        "Apr 29 16:39:38 host-2 etcd[11]: 91d25 received vote from 134af at term 90",
        "Apr 29 16:39:38 host-2 etcd[11]: 91d25 became leader at term 90",
        "Apr 29 16:39:39 host-2 etcd[11]: 91d25 [term: 90] ignored a MsgHeartbeat message with "
        "lower term from 2a096 [term: 89]",
    ]
    (run,) = analyse_lines(lines, "journal.txt")
    assert roles(run, "91d25") == [("Candidate", 90), ("Leader", 90)]
    assert run.nodes[1].full_name == "host-2"
    assert any("to the second" in unknown for unknown in run.unknowns)


# --- hashicorp/raft -------------------------------------------------------------------------


def test_nomad_says_whose_a_line_is_by_a_prefix() -> None:
    run = only("nomad_flapping.txt")
    assert run.node_names == ("127.0.0.1:9901", "127.0.0.1:9903")
    assert [node.full_name for node in run.nodes] == ["nomad-001", "nomad-002"]
    assert run.terms[0].leader == "127.0.0.1:9901"
    assert [told(message) for message in run.messages] == [
        ("RequestVoteReply", "127.0.0.1:9903", "127.0.0.1:9901", "delivered")
    ]
    (span,) = run.nodes[1].roles
    assert (span.role, span.reason) == ("Follower", "it reached no majority")


def test_an_old_consul_has_no_terms_and_the_page_says_so() -> None:
    run = only("consul_old.txt")
    assert roles(run, "10.0.0.2:8300") == [
        ("Candidate", 1),
        ("Follower", 1),
        ("Candidate", 2),
        ("Follower", 2),
    ]
    assert {message.fate for message in run.messages} == {"lost"}
    assert any("This log has no terms" in unknown for unknown in run.unknowns)
    assert page_data(run)["unknowns"] == run.unknowns


def test_consuls_of_several_hosts_in_one_journal() -> None:
    run = only("consul_journal.txt")
    assert roles(run, "10.0.0.182:8300") == [("Candidate", 2172), ("Candidate", 2173)]
    refused = [message for message in run.messages if message.is_positive is False]
    assert [(message.sender, message.receiver) for message in refused] == [
        ("consul15", "10.0.0.182:8300"),
        ("consul19", "10.0.0.182:8300"),
    ]
    assert "consul28" in run.node_names
    assert any("never said their address" in unknown for unknown in run.unknowns)


def test_hclog_as_json() -> None:
    lines = [
        '{"@level":"warn","@message":"heartbeat timeout reached, starting election",'
        '"@module":"agent.server.raft","@timestamp":"2023-05-01T10:00:00.000000Z"}',
        '{"@level":"info","@message":"entering candidate state","@module":"agent.server.raft",'
        '"@timestamp":"2023-05-01T10:00:00.250000Z","node":"Node at 10.0.0.1:8300 [Candidate]",'
        '"term":4}',
    ]
    (run,) = analyse_lines(lines, "consul.json")
    assert roles(run, "10.0.0.1:8300") == [("Candidate", 4)]
    assert run.nodes[0].roles[-1].start_s == pytest.approx(0.25)


def test_a_clock_before_a_level_is_no_entry_of_a_node_called_info() -> None:
    lines = [
        "14:03:00.104428 [INFO] raft: Node at 5547e43d [Follower] entering Follower state",
        "14:03:00.104526 [INFO] raft: Node at bc57f297 [Follower] entering Follower state",
        "14:03:00.177835 [WARN] raft: Heartbeat timeout reached, starting election",
        "14:03:00.177888 [INFO] raft: Node at bc57f297 [Candidate] entering Candidate state",
    ]
    (run,) = analyse_lines(lines, "tests.txt")
    assert run.node_names == ("5547e43d", "bc57f297")
    assert run.entries[2].node is None  # it does not say whose timeout it was


# --- several logs ---------------------------------------------------------------------------


def test_logs_of_one_node_each_are_one_run_in_the_order_of_their_clocks() -> None:
    (run,) = analyse_logs([DATA / "etcd_quorum_lost_1.log", DATA / "etcd_quorum_lost_3.log"])
    assert run.node_names == ("e100000000000001", "e200000000000002", "e300000000000003")
    assert [entry.at_s for entry in run.entries] == sorted(entry.at_s for entry in run.entries)
    assert {(entry.node, entry.source) for entry in run.entries} == {
        ("e100000000000001", 0),
        ("e300000000000003", 1),
    }
    asked = [message for message in run.messages if message.kind == "RequestVote"]
    assert any(message.sent_s is not None and message.received_s is not None for message in asked)
    assert any("clock of its own machine" in unknown for unknown in run.unknowns)
    data = page_data(run)
    assert data["sources"] == ["etcd_quorum_lost_1.log", "etcd_quorum_lost_3.log"]
    assert len(data["sourceOf"]) == len(run.entries)


def test_logs_of_several_nodes_each_stay_apart() -> None:
    runs = analyse_logs([DATA / "vault_0.log", DATA / "nomad_flapping.txt"])
    assert [run.name for run in runs] == ["vault_0", "nomad_flapping"]


def test_two_logs_of_the_same_node_stay_apart() -> None:
    assert len(analyse_logs([DATA / "vault_0.log", DATA / "vault_0.log"])) == 2


def test_our_own_json_lines_of_one_node_each_are_one_run(tmp_path: Path) -> None:
    for number in range(2):
        line = (
            f'{{"timestamp":"2026-01-01T10:00:0{number}.5Z","level":"info","node":"n{number}",'
            f'"event":"role_changed","role":"Follower","term":1,"at_s":{100 - number}.0}}'
        )
        (tmp_path / f"n{number}.jsonl").write_text(line + "\n", encoding="utf-8")
    (run,) = analyse_logs([tmp_path / "n0.jsonl", tmp_path / "n1.jsonl"])
    assert [(entry.node, entry.at_s) for entry in run.entries] == [("n0", 0.0), ("n1", 1.0)]
    assert run.name == "n0, n1"


# --- what cannot be known -------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(path.name for path in DATA.iterdir()))
def test_no_such_log_is_blamed_for_what_it_does_not_show(name: str) -> None:
    run = only(name)
    assert run.unknowns
    assert run.unparsed == 0
    assert "error" not in {finding.severity for finding in run.findings}
    for finding in run.findings:
        if finding.kind in ("split-vote", "no-leader"):
            assert "as far as these logs tell" in finding.detail or "divided" in finding.detail


PIECES = st.sampled_from(
    [
        *("2021-09-11 14:46:23.606939 I | ", "Apr 29 16:39:38 host etcd[1]: ", "99:99:99.999 "),
        *("raft: ", "storage.raft: ", "Node at a:1 [Candidate] ", "entering candidate state"),
        *("305e became leader at term 3", " at term 99999999999999999999", "term=", "{Voter a b}"),
        *("vote granted: from=x", "[term: 1] received a ", "switched to configuration voters=("),
        *('{"ts":', '{"@message":"entering leader state","@timestamp":1e300}', '"msg":"x"}', "\n"),
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(PIECES | st.text(max_size=12), max_size=30))
def test_whatever_such_a_log_holds_reading_it_ends_well(pieces: list[str]) -> None:
    for run in analyse_lines("".join(pieces).split("\n"), "odd.log"):
        page_data(run)
