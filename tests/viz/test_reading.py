"""Reading logs: the two samples people sent, every line of ours, and whatever else there may be.

Rules of this file: what a broken file still says must be found in it; what it does not say must
not be made up; nothing may raise.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_logs import GOLDEN
from tests.viz.script import Script, three_nodes
from trioraft.core.events import MessageReceived, MessageSent, RoleChanged
from trioraft.core.messages import RequestReadIndex, ResultsCheck
from trioraft.core.types import Role
from trioraft.logs.loggers import Raftlog, configure, log_event
from trioraft.viz.analysis import analyse_lines, analyse_log
from trioraft.viz.model import Run
from trioraft.viz.reading import LogError, read_lines

DATA = Path(__file__).parent / "data"
ENTRY = "10:02:26.890095 [0] becomes Candidate (currentTerm=1); log=[]"


def leaders(run: Run) -> dict[int, str | None]:
    return {term.number: term.leader for term in run.terms}


def only(lines: list[str], source: str = "story.log") -> Run:
    (run,) = analyse_lines(lines, source)
    return run


# --- the samples ----------------------------------------------------------------------------


def test_a_follower_comes_back_twice_in_one_file() -> None:
    runs = analyse_log(DATA / "follower_comes_back.txt")
    assert len(runs) == 2
    for run in runs:
        assert (run.name, run.status) == ("TestElectionFollowerComesBack", "PASS")
        assert run.node_names == ("0", "1", "2")
        assert (len(run.entries), run.unparsed) == (152, 0)
        assert leaders(run) == {1: "0", 2: None, 3: None, 4: "1"}
        kinds = {finding.kind: finding for finding in run.findings}
        assert set(kinds) == {"disruptive-rejoin", "split-vote"}
        assert kinds["split-vote"].terms == (2, 3)
        assert "cut off" in kinds["split-vote"].detail
        assert kinds["disruptive-rejoin"].nodes == ("1", "0")
        interval = run.statistics.heartbeat_interval
        assert interval is not None
        assert interval.median_ms == pytest.approx(50, abs=1)
        assert [round(value, 1) for value in run.statistics.failovers_ms] == [0.7]


def test_a_heartbeat_of_three_seconds() -> None:
    (run,) = analyse_log(DATA / "heartbeat_of_3_s.txt")
    assert run.status is None
    assert (len(run.entries), run.unparsed) == (139, 0)
    assert leaders(run) == {1: "2", 2: "1", 3: "2", 4: "1", 5: "0"}
    found = [finding.kind for finding in run.findings]
    assert found.count("leak") == 2
    assert found.count("missed-heartbeats") == 3
    assert set(found) - {"vote-refused"} == {
        *("leak", "missed-heartbeats", "orphan-timer", "disruptive-rejoin")
    }
    first, second = run.leaks
    assert (first.what, first.line) == ("goroutine 46 [chan receive]", 155)
    assert "startLeader" in str(first.place)
    assert "raft.go:343" in str(first.place)
    assert "raft.go:336" in str(first.started_at)
    assert (second.what, second.line) == ("goroutine 89 [chan receive]", 160)


# --- our own lines --------------------------------------------------------------------------


def test_every_text_of_ours_is_an_entry() -> None:
    for event, texts in GOLDEN:
        run = only([f"10:00:00.000000 [0] {text}" for text in texts])
        assert [entry.text for entry in run.entries] == list(texts), event
        assert run.unparsed == 0


def test_every_role_and_message_of_ours_is_understood_in_both_formats() -> None:
    for event, _ in GOLDEN:
        text, lines = io.StringIO(), io.StringIO()
        Raftlog(text).event("0", event)
        log_event(configure("json", stream=lines, level="debug"), "0", event)
        runs = [only(log.getvalue().splitlines()) for log in (text, lines)]
        for run in runs:
            assert run.unparsed == 0
            if isinstance(event, RoleChanged):
                assert run.nodes[0].roles[-1].role == event.role.value
                assert run.nodes[0].roles[-1].reason == str(event.reason)
            if isinstance(event, MessageSent):
                (message,) = run.messages
                assert message.kind == type(event.message).__name__
                assert message.term == event.message.term
                assert message.entries_count == len(getattr(event.message, "entries", ()))
        assert len(runs[0].messages) == len(runs[1].messages), event


def test_a_renamed_node_has_its_name() -> None:
    written = io.StringIO()
    Raftlog(written).event("alpha", GOLDEN[1][0])
    run = only(written.getvalue().splitlines())
    assert [(node.name, node.full_name) for node in run.nodes] == [("0", "alpha")]


# --- runs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        "=== RUN   TestIt",
        "== RUN    TestIt",
        "==== RUN TestIt",
        "=== RN   TestIt",
        "=== RUUN   TestIt",
        "===RUN   TestIt",
        "> === RUN   TestIt",
        "=== RUN   TestIt \r",
    ],
)
@pytest.mark.parametrize(
    "verdict",
    [
        "--- FAIL: TestIt (1.18s)",
        "---- FAIL: TestIt (1.18s)",
        "-- FAIL: TestIt",
        "--- FAL: TestIt (1.18s)",
        "--- FAIL TestIt (1.18s)",
        "---FAIL: TestIt (1.18s)",
        "--- FAIL:TestIt(1.18s)",
        "    --- FAIL: TestIt (1.18s)",
        "--- FAIL: TestI (1.18s)",
    ],
)
def test_headers_and_verdicts_may_have_lost_or_gained_a_character(
    header: str, verdict: str
) -> None:
    run = only([header, ENTRY, verdict])
    assert (run.name, run.status, run.unparsed) == ("TestIt", "FAIL", 0)


@pytest.mark.parametrize(
    "line",
    [
        "=== NAME  TestOther",
        "=======",
        "--- a/raft.go",
        "- PASS the salt",
        "we RUN   TestOther now",
        "= RUN   TestOther",
        "    === RUN   TestOther",
        "    ---  PASS: TestIt",
    ],
)
def test_prose_and_notes_are_no_headers_and_no_verdicts(line: str) -> None:
    run = only(["=== RUN   TestIt", ENTRY, line, ENTRY])
    assert (run.name, run.status, len(run.entries)) == ("TestIt", None, 2)


def test_entries_before_any_header_are_a_run_named_after_the_file() -> None:
    first, second = analyse_lines([ENTRY, "=== RUN   TestIt", ENTRY], "some/where.log")
    assert (first.name, len(first.entries)) == ("where", 1)
    assert (second.name, len(second.entries)) == ("TestIt", 1)


def test_a_header_without_anything_is_no_run() -> None:
    runs = read_lines(["=== RUN   TestDocs", "=== RUN   TestIt", ENTRY], "a.log")
    assert [run.name for run in runs] == ["TestIt"]


def test_parallel_tests_take_turns() -> None:
    lines = ["=== RUN   TestA", ENTRY, "=== RUN   TestB", ENTRY, "=== CONT  TestA", ENTRY, ENTRY]
    lines += ["--- PASS: TestB (0.1s)", "--- FAIL: TestA (0.1s)"]
    runs = {run.name: (run.status, len(run.entries)) for run in analyse_lines(lines, "a.log")}
    assert runs == {"TestA": ("FAIL", 3), "TestB": ("PASS", 1)}


def test_a_skipped_run_has_its_status() -> None:
    assert only(["=== RUN   TestIt", ENTRY, "--- SKIP: TestIt (0.0s)"]).status == "SKIP"


def test_the_last_words_after_a_verdict_belong_to_the_run() -> None:
    run = only(["=== RUN   TestIt", ENTRY, "--- PASS: TestIt (0.0s)", ENTRY])
    assert len(run.entries) == 2


def test_entries_long_after_a_verdict_lost_their_header() -> None:
    later = ENTRY.replace("10:02", "10:40")
    runs = analyse_lines(["=== RUN   TestIt", ENTRY, "--- PASS: TestIt (0s)", later], "b.log")
    assert [run.name for run in runs] == ["TestIt", "b"]


def test_clients_and_services_that_log_beside_the_nodes_are_no_nodes() -> None:
    script = three_nodes()
    script.say(300, "client007", "sending PUT to 0")
    script.say(301, "kv 0", "GET done")
    run = script.run()
    assert run.node_names == ("0", "1", "2")
    assert (len(run.entries), run.unparsed) == (len(script.lines), 0)
    assert [entry.text for entry in run.entries if entry.node is None] == [
        "[client007] sending PUT to 0",
        "[kv 0] GET done",
    ]


# --- broken lines -----------------------------------------------------------------------------


def test_leading_noise_and_page_breaks_do_not_matter() -> None:
    lines = [
        "=== RUN   TestIt",
        f"2020/02/07 {ENTRY}",
        f"    raft_test.go:12: {ENTRY}",
        "```",
        "",
        "\f",
        "```",
        f"\ufeff{ENTRY}",
    ]
    run = only(lines)
    assert (len(run.entries), run.unparsed) == (3, 0)
    assert {entry.text for entry in run.entries} == {ENTRY.partition("] ")[2]}


def test_broken_lines_are_counted_and_kept() -> None:
    broken = [
        "10:02:26.89009 0] becomes Leader; term=1, log=[]",
        "10:02:26.890095 [0",
        "99:02:26.890095 [0] becomes Leader; term=1, log=[]",
        "10:02:99.890095 [0] becomes Leader; term=1, log=[]",
        "@@ something else @@",
    ]
    run = only(["=== RUN   TestIt", ENTRY, *broken, ENTRY, "--- PASS: TestIt (0s)"])
    assert run.unparsed == len(broken)
    assert [line.text for line in run.broken] == broken
    assert [line.line for line in run.broken] == [3, 4, 5, 6, 7]
    assert len(run.entries) == 2
    assert leaders(run) == {1: None}


def test_prose_around_a_run_is_not_broken() -> None:
    prose = ["I ran it.", "It went well, at 10 o'clock."]
    run = only([*prose, "=== RUN   TestIt", ENTRY, *prose])
    assert run.unparsed == 0
    run = only([*prose, "=== RUN   TestIt", ENTRY, "--- PASS: TestIt (0s)", "PASS", *prose])
    assert run.unparsed == 0


def test_an_indented_note_is_not_broken() -> None:
    note = "    raft_test.go:31: expected a leader"
    assert only(["=== RUN   TestIt", ENTRY, note, ENTRY]).unparsed == 0


def test_a_broken_entry_is_broken_also_at_the_end() -> None:
    assert only(["=== RUN   TestIt", ENTRY, "prose", "10:02:26.890095 [0"]).unparsed == 1


def test_what_is_printed_over_the_end_of_a_line_does_not_matter() -> None:
    script = three_nodes()
    clean = script.run()
    script.lines = [f'{line} le) {{ return "x", }}' for line in script.lines]
    overprinted = script.run()
    assert overprinted.terms == clean.terms
    assert [message.kind for message in overprinted.messages] == [
        message.kind for message in clean.messages
    ]
    assert [message.fate for message in overprinted.messages] == [
        message.fate for message in clean.messages
    ]


def test_a_very_long_line_is_cut() -> None:
    run = only([f"{ENTRY}{'x' * 100_000}", "y" * 100_000, ENTRY])
    assert max(len(entry.text) for entry in run.entries) < 3000
    assert run.unparsed == 1
    assert len(run.broken[0].text) < 1000


LINE = st.one_of(
    st.text(max_size=80),
    st.sampled_from(three_nodes().lines),
    st.builds(
        lambda line, start, end: line[start:end],
        st.sampled_from([ENTRY, "=== RUN   TestIt", "--- PASS: TestIt (1s)", '{"event": "x"}']),
        st.integers(0, 12),
        st.integers(12, 60),
    ),
    st.builds(
        lambda time, who, text: f"{time} [{who}] {text}",
        st.from_regex(r"[0-9:.]{1,16}", fullmatch=True),
        st.sampled_from(["0", "1", "TEST", "x"]),
        st.sampled_from([text for _, texts in GOLDEN for text in texts]),
    ),
    st.dictionaries(
        st.sampled_from(["event", "node", "at_s", "timestamp", "message", "role", "term"]),
        st.one_of(
            st.none(),
            st.integers(),
            st.floats(),
            st.sampled_from(["role_changed", "message_sent", "Leader", "0"]),
            st.just({"type": "AppendEntries", "term": "x", "entries": 3}),
        ),
    ).map(json.dumps),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(LINE, max_size=30))
def test_whatever_a_file_holds_it_is_read(lines: list[str]) -> None:
    for run in analyse_lines(lines, "any.log"):
        assert run.duration_s >= 0
        assert all(0 <= entry.at_s <= run.duration_s for entry in run.entries)
        for node in run.nodes:
            spans = node.roles
            assert all(span.start_s <= span.end_s for span in spans)
            assert [span.start_s for span in spans[1:]] == [span.end_s for span in spans[:-1]]


# --- time -----------------------------------------------------------------------------------


def test_midnight_comes_and_time_goes_on() -> None:
    times = ["23:59:59.900000", "00:00:00.100000", "23:59:59.999000", "00:00:01.000000"]
    run = only([f"{time} [0] listening at [::]:1" for time in times])
    assert [entry.at_s for entry in run.entries] == pytest.approx([0, 0.2, 0.099, 1.1])


def test_lines_that_are_out_of_order_by_a_little_keep_their_times() -> None:
    times = ["10:00:00.000100", "10:00:00.000050", "10:00:00.000200"]
    run = only([f"{time} [0] listening at [::]:1" for time in times])
    assert [entry.at_s for entry in run.entries] == [0, 0, 0.0001]


# --- JSON lines -------------------------------------------------------------------------------


def test_json_lines_of_several_processes_are_put_together_by_the_wall_clock() -> None:
    def line(node: str, second: int, at_s: float, role: str) -> str:
        fields = {
            "timestamp": f"2026-11-21T11:14:{second:02d}.000000Z",
            "level": "info",
            "node": node,
            "event": "role_changed",
            "at_s": at_s,
            "role": role,
            "term": 1,
        }
        return json.dumps(fields)

    run = only(
        [
            line("a", 1, 500.0, "Candidate"),
            line("b", 2, 7.0, "Follower"),
            line("a", 3, 502.0, "Leader"),
        ]
    )
    assert [entry.at_s for entry in run.entries] == [0.0, 1.0, 2.0]
    assert leaders(run) == {1: "a"}
    assert run.node_names == ("a", "b")


def test_a_remark_without_a_clock_stands_where_the_wall_clock_puts_it() -> None:
    def line(at_s: float | None, milliseconds: int, **more: object) -> str:
        fields: dict[str, object] = {"timestamp": f"2026-11-21T11:14:00.{milliseconds:03d}Z"}
        return json.dumps(fields | ({} if at_s is None else {"at_s": at_s}) | more)

    listening = {"node": "0", "event": "listening"}
    run = only(
        [
            line(10.0, 0, **listening),
            line(None, 300, event="Disconnect 0"),
            line(10.5, 500, **listening),
            line(None, 900, event="Reconnect 0"),
            line(10.6, 999, **listening),
        ]
    )
    assert [mark.at_s for mark in run.marks] == pytest.approx([0.3, 0.6])


def test_a_leak_report_in_json_is_a_leak() -> None:
    report = (
        "1 leak: started in here, and still there at the end\n  1. task: x\n    started at   a.py:3"
    )
    stamp = "2026-11-21T11:14:01Z"
    run = only([json.dumps({"timestamp": stamp, "event": "Leaks", "report": report})])
    assert [(leak.what, leak.place, leak.line) for leak in run.leaks] == [("task: x", "a.py:3", 1)]


# --- files ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b"\x7fELF\x00\x01", "is a binary file"),
        (b"only prose\n", "has no log entry"),
        (b"=== RUN   TestIt\n--- PASS: TestIt (0s)\n", "has no log entry"),
    ],
)
def test_a_file_without_a_log_is_refused(content: bytes, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(content)
    with pytest.raises(LogError, match=complaint):
        analyse_log(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="No such file"):
        analyse_log(tmp_path / "missing.log")
    with pytest.raises(LogError, match="Is a directory"):
        analyse_log(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_encodings(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(f"=== RUN   Test\r\n{ENTRY} é\r\n".encode(encoding))
    (run,) = analyse_log(path)
    assert (run.name, len(run.entries)) == ("Test", 1)


def test_a_log_in_the_making_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(f"{ENTRY}\n10:02:26.8900".encode())
    (run,) = analyse_log(path)
    assert (len(run.entries), run.unparsed) == (1, 1)


# --- messages -------------------------------------------------------------------------------


def test_requests_and_replies_find_each_other() -> None:
    run = three_nodes().run()
    requests = [message for message in run.messages if message.kind == "RequestVote"]
    assert [message.fate for message in requests] == ["delivered", "delivered"]
    for request in requests:
        assert request.reply is not None
        reply = run.messages[request.reply]
        assert (reply.sender, reply.receiver) == (request.receiver, request.sender)
        assert reply.is_positive
        assert reply.received_s == pytest.approx(0.202)
        assert run.messages[reply.request or 0] is request
    trip = run.statistics.vote_round_trip
    assert trip is not None
    assert trip.count == 2
    assert trip.median_ms == pytest.approx(2)


def test_what_is_cut_is_lost_and_what_comes_later_is_not_taken_for_it() -> None:
    script = three_nodes()
    script.heartbeat(250, 0, 1, 1)
    script.test(290, "Disconnect 1")
    for at_ms in (300, 350, 400):
        script.heartbeat(at_ms, 0, 1, 1, arrives=False)
    script.test(440, "Reconnect 1")
    for at_ms in (450, 500):
        script.heartbeat(at_ms, 0, 1, 1)
    sent = [message for message in script.run().messages if message.kind == "AppendEntries"]
    assert [message.fate for message in sent] == ["delivered", *["lost"] * 3, *["delivered"] * 2]
    assert [message.received_s for message in sent][-2:] == pytest.approx([0.451, 0.501])


def test_a_cut_loses_what_is_on_its_way() -> None:
    script = three_nodes()
    body = "{Term:1 LeaderId:0 PrevLogIndex:0 PrevLogTerm:0 Entries:[] LeaderCommit:0}"

    def sent(at_ms: float) -> None:
        script.say(at_ms, 0, f"sending AppendEntries to 1: ni=0, args={body}")

    def received(at_ms: float) -> None:
        script.say(at_ms, 1, f"AppendEntries: {body}")

    sent(220)
    received(260)
    sent(280)
    script.test(290, "Disconnect 1")
    script.test(300, "Reconnect 1")
    sent(310)
    received(350)
    script.say(900, 0, "listening at nowhere")
    messages = [message for message in script.run().messages if message.kind == "AppendEntries"]
    assert [message.received_s for message in messages] == pytest.approx([0.26, None, 0.35])
    assert messages[1].fate == "lost"


def test_a_reply_goes_to_the_request_before_it() -> None:
    script = three_nodes()
    ignored = "{Term:2 NextTerm:3 CandidateId:2 LastLogIndex:0 LastLogTerm:0}"
    script.say(300, 1, f"RequestPreVote: {ignored} [currentTerm=1, votedFor=0]")
    answered = ignored.replace("CandidateId:2", "CandidateId:0")
    script.say(310, 1, f"RequestPreVote: {answered} [currentTerm=1, votedFor=0]")
    script.say(310, 1, "... RequestPreVote reply: &{Term:1 NextTerm:3 VoteGranted:true}")
    (reply,) = [message for message in script.run().messages if "PreVoteReply" in message.kind]
    assert reply.receiver == "0"


def test_losses_do_not_shift_what_follows() -> None:
    script = three_nodes()
    for position in range(40):
        script.heartbeat(250 + 50 * position, 0, 1, 1, arrives=position % 3 != 1)
    sent = [message for message in script.run().messages if message.kind == "AppendEntries"]
    assert [message.fate for message in sent[:39]] == [
        "lost" if position % 3 == 1 else "delivered" for position in range(39)
    ]
    delays = [
        message.received_s - message.sent_s
        for message in sent
        if message.received_s is not None and message.sent_s is not None
    ]
    assert delays == pytest.approx([0.001] * len(delays))


def test_messages_that_overtake_nobody_arrive_in_order() -> None:
    body = "{Term:1 LeaderId:0 PrevLogIndex:0 PrevLogTerm:0 Entries:[] LeaderCommit:0}"
    script = three_nodes()
    for at_ms in (300.0, 301.0, 302.0, 303.0):
        script.say(at_ms, 0, f"sending AppendEntries to 1: ni=0, args={body}")
        script.say(at_ms + 0.5, 1, f"AppendEntries: {body}")
    for at_ms in (400, 400.2, 400.4):
        script.say(at_ms, 0, f"sending AppendEntries to 1: ni=0, args={body}")
    for at_ms in (400.7, 400.9, 401.1):
        script.say(at_ms, 1, f"AppendEntries: {body}")
    sent = [message for message in script.run().messages if message.kind == "AppendEntries"]
    delays = [(message.received_s or 0) - (message.sent_s or 0) for message in sent[-3:]]
    assert delays == pytest.approx([0.0007] * 3)


def test_entries_are_told_from_heartbeats() -> None:
    script = Script()
    body = "{Term:1 LeaderId:0 PrevLogIndex:0 PrevLogTerm:0 Entries:[%s] LeaderCommit:0}"
    listed = "{Term:1 Index:1} {Term:1 Index:2} …+7"
    for entries in ("", listed, "{Command:42 Term:1}"):
        script.say(0, 0, f"sending AppendEntries to 1: ni=0, args={body % entries}")
    run = script.run()
    assert [message.entries_count for message in run.messages] == [0, 9, 1]
    assert [message.family for message in run.messages] == ["heartbeat", "entries", "entries"]
    assert leaders(run) == {1: "0"}  # only a leader sends them


def test_a_question_whose_arrival_does_not_say_who_asked_has_arrived() -> None:
    """A raftlog tells of these without the sender: they were drawn as lost."""
    written = io.StringIO()
    log = Raftlog(written)
    for message in (RequestReadIndex("1", "0", 3, 17), ResultsCheck("1", "0", 3, 64, 5)):
        log.event("1", MessageSent(1.0, message, 0))
        log.event("0", MessageReceived(1.1, message, 3, None, Role.LEADER))
    run = only(written.getvalue().splitlines())
    assert [message.fate for message in run.messages] == ["delivered", "delivered"]
