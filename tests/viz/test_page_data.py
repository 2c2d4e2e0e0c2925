"""The JSON of a page: what the reader of a log found must be in it, and safe in a document."""

from __future__ import annotations

import json
from typing import Any

import attrs

from trioraft.viz.model import Message, Run
from trioraft.viz.page.data import ENTRY_KINDS, entry_kinds, message_kind, page_data, page_json

from .page_runs import ELECTION, run_of


def decoded(run: Run) -> dict[str, Any]:
    """The JSON as the page sees it."""
    data: dict[str, Any] = json.loads(page_json(run))
    return data


def kinds_by_text(run: Run) -> dict[str, str]:
    return {entry.text: kind for entry, kind in zip(run.entries, entry_kinds(run), strict=True)}


def test_every_entry_is_a_row_with_its_line_and_text() -> None:
    run = run_of(ELECTION)
    entries = decoded(run)["entries"]
    rows = [
        (line, time / 1e6, run.node_names[node] if node >= 0 else None, entries["texts"][text])
        for line, time, node, text in zip(
            entries["line"], entries["time"], entries["node"], entries["text"], strict=True
        )
    ]
    assert rows == [(entry.line, entry.at_s, entry.node, entry.text) for entry in run.entries]


def test_an_entry_has_the_kind_of_what_it_tells() -> None:
    kinds = kinds_by_text(run_of(ELECTION))
    assert kinds["election timer started (150ms), term=0"] == "timer"
    assert kinds["becomes Candidate (currentTerm=1); log=[]"] == "role"
    assert kinds["... RequestVote reply: &{Term:1 VoteGranted:true}"] == "vote"
    assert kinds["received AppendEntriesReply {Term:1 Success:true}"] == "entries"
    assert kinds["commit index advances to 1"] == "commit"
    assert kinds["Disconnect 0"] == "test"
    assert kinds["wins election with 2 votes"] == "other"


def test_a_line_that_goes_on_has_the_kind_of_the_line_before() -> None:
    kinds = kinds_by_text(run_of(ELECTION))
    assert kinds["... term out of date in RequestVote"] == "vote"


def test_transfers_and_reads_are_not_just_other_messages() -> None:
    def kind(message_type: str, family: Any = "other") -> str:
        return message_kind(Message(message_type, family, "0", "1", 1, 0.0, 0.1, "delivered"))

    assert kind("TimeoutNow") == "transfer"
    assert kind("RequestReadIndex") == kind("RequestReadIndexReply") == "read"
    assert kind("RequestPreVoteReply", "pre-vote") == "prevote"
    assert kind("Gossip") == "message"


def test_a_message_has_both_ends_and_its_reply() -> None:
    run = run_of(ELECTION)
    messages = decoded(run)["messages"]
    vote = messages["types"].index("RequestVote")
    at = next(i for i, kind in enumerate(messages["type"]) if kind == vote)
    assert (messages["from"][at], messages["to"][at]) == (0, 1)
    assert (messages["sent"][at], messages["received"][at]) == (150_100, 153_000)
    assert ENTRY_KINDS[messages["kind"][at]] == "vote"
    reply = messages["partner"][at]
    assert messages["reply"][reply] == 1
    assert messages["positive"][reply] == 1
    assert messages["partner"][reply] == at


def test_what_is_not_known_is_minus_one() -> None:
    messages = decoded(run_of(ELECTION))["messages"]
    lost = messages["fate"].index(messages["fates"].index("lost"))
    assert messages["received"][lost] == messages["receivedEntry"][lost] == -1


def test_roles_timers_commits_and_marks_are_there() -> None:
    data = decoded(run_of(ELECTION))
    names = [data["roles"]["names"][role] for role in data["roles"]["role"]]
    assert {"Follower", "Candidate", "Leader"} <= set(names)
    assert data["timers"]["timeout"] == [150_000, 250_000, 280_000]
    assert data["commits"]["index"] == [1]
    assert [(mark["kind"], mark["nodes"]) for mark in data["marks"]] == [
        ("disconnect", [0]),
        ("reconnect", [0]),
    ]


def test_every_column_of_a_table_has_the_same_length() -> None:
    data = decoded(run_of(ELECTION))
    for table in ("entries", "roles", "messages", "timers", "commits"):
        tables_of_names = ("texts", "names", "types", "fates")
        columns = {k: len(v) for k, v in data[table].items() if k not in tables_of_names}
        assert len(set(columns.values())) == 1, (table, columns)


def test_columns_hold_numbers_where_the_page_compares_numbers() -> None:
    messages = decoded(run_of(ELECTION))["messages"]
    for name in ("positive", "reply", "partner", "sent"):
        assert {type(value) for value in messages[name]} == {int}, name


def test_a_mark_on_a_node_that_never_wrote_has_a_name_but_no_lane() -> None:
    run = run_of("=== RUN   T\n10:00:00.000000 [0] listening\n10:00:01.000000 [TEST] Crash 7\n")
    (mark,) = page_data(run)["marks"]
    assert (mark["names"], mark["nodes"]) == ("7", [])


def test_no_text_can_end_the_script_element() -> None:
    run = run_of(ELECTION)
    evil = "</script><script>alert(1)</script><!--"
    entry = attrs.evolve(run.entries[0], text=evil)
    text = page_json(attrs.evolve(run, name=evil, entries=(entry, *run.entries[1:])))
    assert "<" not in text
    data = json.loads(text)
    assert data["name"] == data["entries"]["texts"][0] == evil


def test_an_empty_run_has_empty_columns() -> None:
    data = decoded(Run(name="none", status=None, source="x", start_line=1, duration_s=0.0))
    assert data["entries"]["time"] == data["messages"]["sent"] == data["roles"]["start"] == []
