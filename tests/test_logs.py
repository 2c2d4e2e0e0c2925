"""What trioraft writes into logs: every text, and that every reader can read it.

Rules of this file: the regular expressions that stand here are the ones of the Go project's
reader, written anew rather than imported, so that ours cannot drift along with the code.
"""

from __future__ import annotations

import contextvars
import io
import itertools
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, cast

import attrs
import msgspec
import pytest
import structlog
import trio
from trio.testing import MockClock

from trioraft.core.errors import ConfigError
from trioraft.core.events import (
    AcknowledgedLost,
    CommitAdvanced,
    ConfigurationChanged,
    DiskIsFull,
    ElectionTimerStarted,
    ElectionWonEvent,
    ForeignDisk,
    Forming,
    LogSummary,
    MessageReceived,
    MessageSent,
    ResultsDiffer,
    RoleChanged,
    SnapshotDamaged,
    SnapshotInstalled,
    SnapshotRotten,
    SnapshotSaved,
    StaleReply,
    StorageNotice,
    StorageWaits,
    TermJumped,
    TermOutOfDate,
    TimeoutsWidened,
    TimingTooShort,
    TraceEvent,
    TransferGivenUp,
    TransferStarted,
)
from trioraft.core.messages import (
    AppendEntries,
    AppendEntriesReply,
    InstallSnapshot,
    InstallSnapshotReply,
    RequestPreVote,
    RequestPreVoteReply,
    RequestReadIndex,
    RequestReadIndexReply,
    RequestVote,
    RequestVoteReply,
    ResultsCheck,
    TimeoutNow,
)
from trioraft.core.reasons import ElectionWon, HigherTerm, NoContact, PreVoteWon, Started, Stopped
from trioraft.core.types import Configuration, Entry, Role, SnapshotMeta
from trioraft.logs.event_texts import Traced, defuse, describe, event_kind, has_own_text
from trioraft.logs.loggers import (
    Format,
    Level,
    Raftlog,
    TraceLogger,
    configure,
    current_sink,
    flatten_trace,
    log_event,
    open_raftlog,
    sink_logger,
    use_sink,
)
from trioraft.logs.raftlog import NodeNumbers, WallClock, run_name
from trioraft.transport.base import (
    AddressUnusable,
    CertificateExpires,
    CertificatesReloaded,
    CertificatesUnusable,
    ConnectionRejected,
    LinkDown,
    LinkReplaced,
    LinkUp,
    Listening,
    MessagesDropped,
    TransportEvent,
)

EMPTY = LogSummary(1, 0, 0)
VOTE = RequestVote("0", "2", 1, 0, 0)
VOTE_REPLY = RequestVoteReply("2", "0", 1, vote_granted=True)
PRE_VOTE = RequestPreVote("0", "2", 1, 2, 0, 0)
PRE_VOTE_REPLY = RequestPreVoteReply("2", "0", 1, 2, vote_granted=False)
HEARTBEAT = AppendEntries("2", "0", 1, 0, 0, (), 0)
META = SnapshotMeta(9, 2, Configuration(("0", "1", "2")), size_bytes=100, checksum=7)
FULL = AppendEntries(
    "2", "0", 3, 4, 1, tuple(Entry(index, 2, b"secret" * 999) for index in range(5, 126)), 4
)
APPEND_REPLY = AppendEntriesReply("0", "2", 1, success=True, match_index=0)
CONFLICT = AppendEntriesReply(
    "0", "2", 3, success=False, match_index=0, rejected_index=9, conflict_index=5, conflict_term=2
)


def became(role: Role, reason: Any, *, term: int = 1, log: LogSummary = EMPTY) -> RoleChanged:
    return RoleChanged(0.0, role, Role.FOLLOWER, term, log, reason)


def received(message: Any, voted_for: str | None = None) -> MessageReceived:
    return MessageReceived(0.0, message, 0, voted_for, Role.FOLLOWER)


GOLDEN: list[tuple[Traced, tuple[str, ...]]] = [
    (Listening(0.0, "127.0.0.1:49678"), ("listening at 127.0.0.1:49678",)),
    (ElectionTimerStarted(0.0, 0.1952, 0), ("election timer started (195ms), term=0",)),
    (
        became(Role.FOLLOWER, HigherTerm(1, "2")),
        ("becomes Follower with term=1; log=[]", "... because higher term 1 from 2"),
    ),
    (
        became(Role.PRE_CANDIDATE, NoContact(0.231)),
        ("becomes PreCandidate (currentTerm=1); log=[]", "... because no contact for 231 ms"),
    ),
    (
        became(Role.CANDIDATE, PreVoteWon(2)),
        ("becomes Candidate (currentTerm=1); log=[]", "... because pre-vote won with 2 votes"),
    ),
    (
        became(Role.LEADER, ElectionWon(2), term=4, log=LogSummary(1, 7, 3)),
        ("becomes Leader; term=4, log=[1..7 term 3]", "... because election won with 2 votes"),
    ),
    (became(Role.DEAD, Stopped()), ("becomes Dead", "... because killed")),
    (ElectionWonEvent(0.0, 1, 2), ("wins election with 2 votes",)),
    (
        TermJumped(0.0, "2", 7, 5_000_007),
        (
            "2 says that the term is 5000007, 5000000 later than ours: elections hardly explain "
            "that. Look at that node",
        ),
    ),
    (
        TimingTooShort(0.0, 0.4, 0.002, (0.15, 0.3)),
        (
            "a round trip takes 400 ms and a durable write 2 ms: too long for election timeouts of "
            "150-300 ms. Give every member --election-timeout 1608ms-3216ms --heartbeat 400ms, or "
            "Timing.for_round_trip(0.400, write_s=0.002)",
        ),
    ),
    (
        MessageSent(0.0, VOTE),
        ("sending RequestVote to 2: {Term:1 CandidateId:0 LastLogIndex:0 LastLogTerm:0}",),
    ),
    (
        received(VOTE),
        (
            "RequestVote: {Term:1 CandidateId:0 LastLogIndex:0 LastLogTerm:0} "
            "[currentTerm=0, votedFor=-1]",
        ),
    ),
    (
        received(VOTE, voted_for="2"),
        (
            "RequestVote: {Term:1 CandidateId:0 LastLogIndex:0 LastLogTerm:0} "
            "[currentTerm=0, votedFor=2]",
        ),
    ),
    (
        MessageSent(0.0, msgspec.structs.replace(VOTE, leadership_transfer=True)),
        (
            "sending RequestVote to 2: {Term:1 CandidateId:0 LastLogIndex:0 LastLogTerm:0 "
            "LeadershipTransfer:true}",
        ),
    ),
    (TermOutOfDate(0.0, VOTE), ("... term out of date in RequestVote",)),
    (MessageSent(0.0, VOTE_REPLY), ("... RequestVote reply: &{Term:1 VoteGranted:true}",)),
    (received(VOTE_REPLY), ("received RequestVoteReply {Term:1 VoteGranted:true}",)),
    (StaleReply(0.0, VOTE_REPLY, Role.LEADER), ("while waiting for reply, state = Leader",)),
    (
        MessageSent(0.0, PRE_VOTE),
        (
            "sending RequestPreVote to 2: "
            "{Term:1 NextTerm:2 CandidateId:0 LastLogIndex:0 LastLogTerm:0}",
        ),
    ),
    (
        received(PRE_VOTE),
        (
            "RequestPreVote: {Term:1 NextTerm:2 CandidateId:0 LastLogIndex:0 LastLogTerm:0} "
            "[currentTerm=0, votedFor=-1]",
        ),
    ),
    (
        MessageSent(0.0, PRE_VOTE_REPLY),
        ("... RequestPreVote reply: &{Term:1 NextTerm:2 VoteGranted:false}",),
    ),
    (
        received(PRE_VOTE_REPLY),
        ("received RequestPreVoteReply {Term:1 NextTerm:2 VoteGranted:false}",),
    ),
    (
        MessageSent(0.0, HEARTBEAT),
        (
            "sending AppendEntries to 0: ni=0, args={Term:1 LeaderId:2 PrevLogIndex:0 "
            "PrevLogTerm:0 Entries:[] LeaderCommit:0}",
        ),
    ),
    (
        received(HEARTBEAT),
        (
            "AppendEntries: {Term:1 LeaderId:2 PrevLogIndex:0 PrevLogTerm:0 Entries:[] "
            "LeaderCommit:0}",
        ),
    ),
    (
        MessageSent(0.0, FULL, next_index=5),
        (
            "sending AppendEntries to 0: ni=5, args={Term:3 LeaderId:2 PrevLogIndex:4 "
            "PrevLogTerm:1 Entries:[{Term:2 Index:5} {Term:2 Index:6} {Term:2 Index:7} …+118] "
            "LeaderCommit:4}",
        ),
    ),
    (MessageSent(0.0, APPEND_REPLY), ("AppendEntries reply: {Term:1 Success:true}",)),
    (received(APPEND_REPLY), ("received AppendEntriesReply {Term:1 Success:true}",)),
    (
        received(CONFLICT),
        ("received AppendEntriesReply {Term:3 Success:false ConflictIndex:5 ConflictTerm:2}",),
    ),
    (CommitAdvanced(0.0, 7), ("commit index advances to 7",)),
    (TimeoutsWidened(0.0, 4), ("election timeouts widened by 4",)),
    (TimeoutsWidened(0.0, 1), ("election timeouts back to normal",)),
    (
        SnapshotSaved(0.0, 9, 100, 4),
        ("snapshot of 100 bytes saved up to 9; the log begins after 4",),
    ),
    (SnapshotInstalled(0.0, 9, 100, "1"), ("snapshot of 100 bytes from 1 installed up to 9",)),
    (StorageNotice(0.0, "a snapshot is damaged"), ("storage: a snapshot is damaged",)),
    (
        ForeignDisk(0.0, "1", 7, 8),
        (
            "node 1 is there with disk 8, and disk 7 counts: nothing of it is counted until it is "
            "replaced",
        ),
    ),
    (
        AcknowledgedLost(0.0, "1", 9),
        ("node 1 has lost entries up to 9 that it had acknowledged: it is not counted meanwhile",),
    ),
    (
        Forming(0.0, ("1", "2"), ("it was not heard of yet", "no")),
        ("the cluster is forming: waiting for 1 (it was not heard of yet), 2 (no)",),
    ),
    (
        ResultsDiffer(0.0, 16, 0xA, ("0", "1"), {"2": 0xB}, is_agreed=True),
        (
            "results up to entry 16 differ: a majority of voters (0, 1) has 0000000a; 2 has "
            "0000000b, and is told to stop",
        ),
    ),
    (
        ResultsDiffer(0.0, 16, 0xA, ("0", "1"), {"1": 0xB}, is_agreed=False),
        (
            "results up to entry 16 differ: here 0000000a; 1 has 0000000b; no majority of voters "
            "agrees on one",
        ),
    ),
    (
        SnapshotDamaged(0.0, 9, 500, "0", "1"),
        (
            "snapshot of 500 bytes up to 9 came to 1 from 0 damaged: its checksum is wrong; it is "
            "sent again",
        ),
    ),
    (
        SnapshotRotten(0.0, 9, 500),
        (
            "the stored snapshot of 500 bytes up to 9 is damaged: its checksum is wrong; nobody is "
            "sent it, and another is taken. Check this disk",
        ),
    ),
    (
        StorageWaits(0.0, "descriptors"),
        (
            "no descriptors are left for the storage: the disk has not failed, and it is tried "
            "again",
        ),
    ),
    (DiskIsFull(0.0), ("disk is full; the write is tried again",)),
    (
        ConfigurationChanged(0.0, Configuration(("0", "3"), ("0", "1"), ("2",), index=7)),
        ("configuration 7: voters 0 3, outgoing 0 1, learners 2",),
    ),
    (TransferStarted(0.0, "2"), ("hands leadership over to 2",)),
    (TransferGivenUp(0.0, "2", 0.3), ("transfer to 2 given up after 300 ms",)),
    (
        MessageSent(0.0, TimeoutNow("0", "2", 3)),
        ("sending TimeoutNow to 2: {Term:3 LeaderId:0}",),
    ),
    (
        received(RequestReadIndexReply("1", "0", 3, 17, 9)),
        ("received RequestReadIndexReply {Term:3 Number:17 ReadIndex:9}",),
    ),
    (
        received(ResultsCheck("1", "0", 3, 16, 10)),
        ("ResultsCheck: {Term:3 Index:16 Checksum:10}",),
    ),
    (
        MessageSent(0.0, RequestReadIndex("0", "1", 3, 17)),
        ("sending RequestReadIndex to 1: {Term:3 Number:17}",),
    ),
    (
        MessageSent(0.0, InstallSnapshot("2", "0", 3, META, 10, b"x" * 20)),
        (
            "sending InstallSnapshot to 0: {Term:3 LeaderId:2 Snapshot:{Index:9 Term:2 Bytes:100} "
            "Offset:10 Data:<20 bytes>}",
        ),
    ),
    (
        received(InstallSnapshotReply("1", "0", 3, META, 30)),
        (
            "received InstallSnapshotReply {Term:3 Snapshot:{Index:9 Term:2 Bytes:100} "
            "NextOffset:30 Installed:false}",
        ),
    ),
    (LinkUp(0.0, "1"), ("link to 1 up",)),
    (LinkReplaced(0.0, "1"), ("link to 1 goes on over another connection: it was silent",)),
    (LinkDown(0.0, "1", "refused"), ("link to 1 down: refused",)),
    (
        ConnectionRejected(0.0, "127.0.0.1:9", None, "not a handshake"),
        ("rejected connection from 127.0.0.1:9: not a handshake",),
    ),
    (
        ConnectionRejected(0.0, "127.0.0.1:9", "1", "a frame of 9 GB"),
        ("rejected connection from 127.0.0.1:9 (node 1): a frame of 9 GB",),
    ),
    (
        AddressUnusable(0.0, "1", "it has the port 0"),
        ("node 1 cannot be reached: it has the port 0",),
    ),
    (
        CertificatesReloaded(0.0, "peers", ("0.pem", "0.key"), "2027-01-02T03:04:05Z"),
        (
            "certificates for peers read again: new connections use them, until "
            "2027-01-02T03:04:05Z",
        ),
    ),
    (
        CertificatesUnusable(0.0, "clients", "certificate '0.pem' cannot be read: no such file"),
        (
            "certificates for clients changed and are not used, the old ones are: certificate "
            "'0.pem' cannot be read: no such file",
        ),
    ),
    *(
        (CertificateExpires(0.0, "peers", "0.pem", "2027-01-02T03:04:05Z", days), (text,))
        for days, text in (
            (
                30,
                "certificate for peers 0.pem expires in 30 days, 2027-01-02T03:04:05Z; renew it: "
                "it is read again as soon as the file changes",
            ),
            (
                0,
                "certificate for peers 0.pem expires within a day, 2027-01-02T03:04:05Z; renew it: "
                "it is read again as soon as the file changes",
            ),
            (
                -1,
                "certificate for peers 0.pem has expired, 2027-01-02T03:04:05Z: new connections "
                "fail; renew it: it is read again as soon as the file changes",
            ),
        )
    ),
    (MessagesDropped(0.0, "1", 3), ("dropped 3 messages to 1: its queue is full",)),
]


def our_event_types(base: type[Any]) -> Iterator[type[Any]]:
    for event_type in base.__subclasses__():
        module = sys.modules[event_type.__module__]
        # attrs makes a class with slots of another one, which is there until it is collected.
        is_the_one = getattr(module, event_type.__qualname__, None) is event_type
        if event_type.__module__.startswith("trioraft.") and is_the_one:
            yield event_type
            yield from our_event_types(event_type)


# --- texts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "texts"),
    GOLDEN,
    ids=[f"{type(event).__name__}{n}" for n, (event, _) in enumerate(GOLDEN)],
)
def test_every_event_has_its_text(event: Traced, texts: tuple[str, ...]) -> None:
    assert describe(event) == texts


def test_no_event_type_is_forgotten() -> None:
    all_types = {*our_event_types(TraceEvent), *our_event_types(TransportEvent)}
    without_text = {event_type.__name__ for event_type in all_types if not has_own_text(event_type)}
    without_golden = {t.__name__ for t in all_types - {type(event) for event, _ in GOLDEN}}
    assert (without_text, without_golden) == (set(), set())


def test_an_unknown_event_is_shown_by_its_fields_without_any_command() -> None:
    @attrs.frozen
    class ShinyThingHappened(TraceEvent):
        count: int
        chunk: bytes
        entry: Entry

    text = describe(ShinyThingHappened(0.0, 3, b"secret", Entry(1, 1, b"secret")))
    assert text == (
        "shiny_thing_happened count=3 chunk=<6 bytes> entry={Index:1 Term:1 Data:<6 bytes> Kind:0}",
    )


def test_an_unknown_message_is_shown_by_its_fields() -> None:
    class TimeoutNow(msgspec.Struct, frozen=True):
        sender: str
        receiver: str
        term: int
        is_urgent: bool

    class TimeoutNowReply(TimeoutNow, frozen=True):
        pass

    message: Any = TimeoutNow("0", "2", 7, True)
    reply: Any = TimeoutNowReply("2", "0", 7, False)
    assert describe(MessageSent(0.0, message)) == (
        "sending TimeoutNow to 2: {Term:7 IsUrgent:true}",
    )
    assert describe(received(message)) == ("TimeoutNow: {Term:7 IsUrgent:true}",)
    assert describe(MessageSent(0.0, reply)) == ("... TimeoutNow reply: &{Term:7 IsUrgent:false}",)
    assert describe(received(reply)) == ("received TimeoutNowReply {Term:7 IsUrgent:false}",)


def test_event_kinds_are_snake_case() -> None:
    assert event_kind(ElectionTimerStarted) == "election_timer_started"
    assert event_kind(ElectionWonEvent) == "election_won"


def test_a_text_is_bounded_whatever_its_event_holds() -> None:
    (text,) = describe(ConnectionRejected(0.0, "h" * 10_000, None, "r" * 1_000_000))
    assert len(text) < 1100
    assert text.endswith("…")


# --- the Go project's reader ----------------------------------------------------------------


@attrs.define
class ReadRun:
    name: str
    status: str = ""
    entries: list[tuple[str, str, str]] = attrs.Factory(list)


def read_as_the_go_project_does(raftlog: str) -> list[ReadRun]:
    """Parse, and die (assert) where the Go reader does: before a header, at a status that names
    another run, at an id that is neither TEST nor an index below the number of ids."""
    runs: list[ReadRun] = []
    for line in raftlog.split("\n"):
        if line.startswith("=== RUN"):
            runs.append(ReadRun(line[7:].strip()))
        elif runs or line:
            assert runs, f"a line before the first header: {line!r}"
            run = runs[-1]
            if status := re.search(r"--- (\w+):\s+(\w+)", line, re.ASCII):
                assert status[2] == run.name
                run.status = status[1]
            elif entry := re.search(r"([0-9:.]+) \[(\w+)\] (.*)", line, re.ASCII):
                run.entries.append((entry[1], entry[2], entry[3]))
    for run in runs:
        ids = {who for _, who, _ in run.entries} - {"TEST"}
        assert all(who.isdecimal() and int(who) < len(ids) for who in ids), (run.name, ids)
    return runs


def write(story: Callable[[Raftlog], object]) -> str:
    stream = io.StringIO()
    story(Raftlog(stream))
    return stream.getvalue()


def test_the_go_reader_finds_every_line_of_ours() -> None:
    def story(raftlog: Raftlog) -> None:
        with raftlog.run("test_all[memory-3]"):
            for event, _ in GOLDEN:
                raftlog.event("0", event)
            raftlog.test_line("Disconnect 0")

    (run,) = read_as_the_go_project_does(write(story))
    texts = [text for _, texts in GOLDEN for text in texts]
    assert (run.name, run.status) == ("test_all_memory_3", "PASS")
    assert [text for _, _, text in run.entries] == [*texts, "Disconnect 0"]
    assert [who for _, who, _ in run.entries] == ["0"] * len(texts) + ["TEST"]
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d\.\d{6}", at) for at, _, _ in run.entries)


def test_the_go_reader_sees_the_roles_we_mean() -> None:
    known = ("becomes Follower", "becomes Candidate", "becomes Leader", "becomes Dead")

    def seen(role: Role) -> list[str]:
        said = " ".join(describe(became(role, Started())))
        return [sentence for sentence in known if sentence in said]

    assert [seen(role) for role in Role] == [
        ["becomes Follower"],
        [],  # a pre-candidate has not left the follower's term: no state of the Go project's
        ["becomes Candidate"],
        ["becomes Leader"],
        ["becomes Dead"],
    ]


HOSTILE = [
    "--- PASS: another_test",
    "---\nPASS: another_test",
    "10:00 [9] becomes Leader",
    "12:00:00.000000 [eve] x",
    "=== RUN   forged",
    "line\r\n=== RUN   forged\u2028--- FAIL: it",
    "becomes Leader; created in state Follower",
    "\x1b[31mred\x00",
    "turned \u202e round \u200b\u2066",
    "x" * 100_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_nobody_can_forge_a_line(text: str) -> None:
    def story(raftlog: Raftlog) -> None:
        with raftlog.run("honest"):
            raftlog.event("0", LinkDown(0.0, text, text))
            raftlog.event("0", ConnectionRejected(0.0, text, text, text))
            raftlog.event("0", became(Role.DEAD, Stopped(text)))
            raftlog.test_line(text)
            raftlog.note(text)
            sink_logger(raftlog).info(text, node="0", why=text)

    (run,) = read_as_the_go_project_does(write(story))
    assert (run.name, run.status) == ("honest", "PASS")
    assert {who for _, who, _ in run.entries} == {"0", "TEST"}
    assert not any("becomes Leader" in said or "in state F" in said for _, _, said in run.entries)
    assert all(said.isprintable() for _, _, said in run.entries)
    assert max(len(said) for _, _, said in run.entries) < 2000  # its line buffer holds 64 KiB


@pytest.mark.parametrize("text", HOSTILE[:-1], ids=range(len(HOSTILE) - 1))
def test_nobody_speaks_to_the_terminal_through_the_console(text: str) -> None:
    stream = io.StringIO()
    logger = configure("console", stream=stream)
    log_event(logger, text, LinkDown(0.0, text, text))
    logger.info(text, node=text, why=text, names=(text,))
    assert len(stream.getvalue().splitlines()) == 2, "a line each"
    logger.error("failed", why=text, exc_info=ValueError(text))
    logger.info("failed", exception=text)
    assert {c for c in stream.getvalue() if not c.isprintable()} <= {"\n"}


def test_defuse_leaves_plain_text_alone() -> None:
    assert defuse("cannot reach [::1]:4711: refused") == "cannot reach [::1]:4711: refused"


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("test_x[memory-3]", "test_x_memory_3"),
        ("test_grün[a/b::c]", "test_gr_n_a_b_c"),
        ("TestLeader", "TestLeader"),
        ("[…]", "run"),
        ("t" * 300, "t" * 200),
    ],
)
def test_a_run_name_is_a_word(name: str, word: str) -> None:
    assert run_name(name) == word


def test_run_names_are_unique() -> None:
    def story(raftlog: Raftlog) -> None:
        for name in ("test_x[1]", "test_x_1", "test_x[1]", "test_x_1_2"):
            with raftlog.run(name):
                pass

    names = [run.name for run in read_as_the_go_project_does(write(story))]
    assert names == ["test_x_1", "test_x_1_2", "test_x_1_3", "test_x_1_2_2"]


def test_a_run_that_raises_has_failed_and_its_duration_is_given() -> None:
    def story(raftlog: Raftlog) -> None:
        with pytest.raises(ZeroDivisionError), raftlog.run("boom"):
            raise ZeroDivisionError

    written = write(story)
    assert re.search(r"^--- FAIL: boom \(\d+\.\d\ds\)$", written, re.MULTILINE)


def test_runs_do_not_nest() -> None:
    raftlog = Raftlog(io.StringIO())
    with (
        raftlog.run("outer"),
        pytest.raises(RuntimeError, match="inside run 'outer'"),
        raftlog.run("inner"),
    ):
        pass


def test_what_is_said_outside_a_run_gets_one() -> None:
    def story(raftlog: Raftlog) -> None:
        raftlog.event("0", LinkUp(0.0, "1"))
        with raftlog.run("test_x"):
            raftlog.event("0", LinkUp(0.0, "1"))
        raftlog.event("0", LinkUp(0.0, "1"))
        raftlog.end()
        raftlog.event("0", LinkUp(0.0, "2"))  # a node may outlive its raftlog

    runs = read_as_the_go_project_does(write(story))
    assert [(run.name, run.status, len(run.entries)) for run in runs] == [
        ("trioraft", "PASS", 1),
        ("test_x", "PASS", 1),
        ("trioraft_2", "PASS", 1),
    ]


def test_a_raftlog_is_readable_after_every_single_line() -> None:
    def story(raftlog: Raftlog) -> None:
        with raftlog.run("crash"):
            for node_id in ("2", "alpha", "0", "7", "1", "17"):
                raftlog.event(node_id, Listening(0.0, "here"))

    lines = write(story).splitlines()
    for count in range(1, len(lines) + 1):
        # A crash between two lines of one event may show; nothing else does, as each is written
        # in one piece: cut where an event ends.
        if count == len(lines) or lines[count - 1].endswith("listening at here"):
            read_as_the_go_project_does("\n".join(lines[:count]))


def test_names_become_columns() -> None:
    def story(raftlog: Raftlog) -> None:
        with raftlog.run("names"):
            raftlog.event("alpha", MessageSent(0.0, RequestVote("alpha", "TEST", 1, 0, 0)))
            raftlog.event("alpha", received(VOTE_REPLY, voted_for="alpha"))
            raftlog.event("TEST", received(RequestVote("alpha", "TEST", 1, 0, 0), "alpha"))
        with raftlog.run("afresh"):
            raftlog.event("beta", LinkUp(0.0, "alpha"))

    first, second = read_as_the_go_project_does(write(story))
    assert [(who, text) for _, who, text in first.entries] == [
        ("TEST", 'node "alpha" is 0'),
        ("TEST", 'node "TEST" is 1'),
        ("0", "sending RequestVote to 1: {Term:1 CandidateId:0 LastLogIndex:0 LastLogTerm:0}"),
        ("0", "received RequestVoteReply {Term:1 VoteGranted:true}"),
        (
            "1",
            "RequestVote: {Term:1 CandidateId:0 LastLogIndex:0 LastLogTerm:0} "
            "[currentTerm=0, votedFor=0]",
        ),
    ]
    assert [text for _, _, text in second.entries] == [
        'node "beta" is 0',
        'node "alpha" is 1',
        "link to 1 up",
    ]


def test_a_small_number_keeps_its_column_unless_it_is_taken() -> None:
    numbers = NodeNumbers()
    ids = ("2", "alpha", "0", "1", "15", "16", "01", "beta")
    labels = [numbers.label(node_id) for node_id in ids]
    assert labels == ["2", "0", "1", "3", "15", "4", "5", "6"]
    assert [numbers.label(node_id) for node_id in ids] == labels
    assert numbers.take_announcements() == [
        'node "alpha" is 0',
        'node "0" is 1',
        'node "1" is 3',
        'node "16" is 4',
        'node "01" is 5',
        'node "beta" is 6',
    ]
    assert numbers.take_announcements() == []


def test_a_node_that_wrote_nothing_leaves_no_gap_in_the_columns() -> None:
    def story(raftlog: Raftlog) -> None:
        with raftlog.run("gap"):
            raftlog.event("2", LinkUp(0.0, "0"))

    (run,) = read_as_the_go_project_does(write(story))
    assert [(who, text) for _, who, text in run.entries] == [
        ("0", "has not logged anything yet"),
        ("1", "has not logged anything yet"),
        ("2", "link to 0 up"),
    ]


# --- time -----------------------------------------------------------------------------------

NOON = datetime(2024, 5, 17, 12, 0, 0, tzinfo=timezone(timedelta(hours=2)))


@attrs.define
class Wall:
    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now


def seconds(clock: WallClock, *at_s: float) -> list[float]:
    return [(clock.stamp(each) - NOON).total_seconds() for each in at_s]


def test_the_first_event_anchors_and_durations_are_kept() -> None:
    assert seconds(WallClock(Wall()), 40.0, 40.25, 100.25) == [0.0, 0.25, 60.25]


def test_time_going_back_is_another_clock_and_stamps_do_not_follow() -> None:
    wall = Wall()
    clock = WallClock(wall)
    assert seconds(clock, 40.0, 3640.0) == [0.0, 3600.0]  # an hour of virtual time
    wall.now += timedelta(seconds=1)
    assert seconds(clock, 0.0, 0.5) == [3600.0, 3600.5]
    wall.now += timedelta(hours=2)
    assert seconds(clock, 0.1) == [7201.0]


def test_another_trio_run_is_another_clock_even_if_its_time_is_later() -> None:
    wall = Wall()
    clock = WallClock(wall)

    async def stamps(*offsets_s: float) -> list[float]:
        start_s = trio.current_time()
        return seconds(clock, *(start_s + offset_s for offset_s in offsets_s))

    def later() -> MockClock:
        mock = MockClock()
        mock.jump(1e6)
        return mock

    assert trio.run(stamps, 0, 5, clock=MockClock()) == [0.0, 5.0]
    wall.now += timedelta(seconds=7)
    assert trio.run(stamps, 0, 5, clock=later()) == [7.0, 12.0]


async def test_without_a_time_a_stamp_is_now_by_trios_clock(autojump_clock: MockClock) -> None:
    clock = WallClock(Wall())
    first = clock.stamp()
    await trio.sleep(3600)
    assert clock.stamp() - first == timedelta(hours=1)


def test_outside_of_trio_a_stamp_is_the_walls_but_never_goes_back() -> None:
    wall = Wall()
    clock = WallClock(wall)
    assert clock.stamp() == NOON
    assert seconds(clock, 5.0, 15.0) == [0.0, 10.0]
    wall.now += timedelta(seconds=1)
    assert clock.stamp() == NOON + timedelta(seconds=10)


async def test_a_raftlog_shows_virtual_durations(autojump_clock: MockClock) -> None:
    stream = io.StringIO()
    raftlog = Raftlog(stream)
    with raftlog.run("virtual"):
        raftlog.event("0", LinkUp(trio.current_time(), "1"))
        await trio.sleep(0.195)
        raftlog.event("1", LinkUp(trio.current_time(), "0"))
        raftlog.test_line("Disconnect 0")
        await trio.sleep(3600)
        raftlog.event("1", LinkUp(trio.current_time(), "0"))
    (run,) = read_as_the_go_project_does(stream.getvalue())
    at = [datetime.strptime(stamp, "%H:%M:%S.%f") for stamp, _, _ in run.entries]
    gaps_s = [(later - sooner).total_seconds() % 86400 for sooner, later in itertools.pairwise(at)]
    assert gaps_s == pytest.approx([0.195, 0.0, 3600.0], abs=2e-6)


# --- JSON, console, and loggers of one's own ------------------------------------------------


def as_json(*events: Traced) -> list[dict[str, Any]]:
    stream = io.StringIO()
    logger = configure("json", stream=stream, level="debug")
    for event in events:
        log_event(logger, "0", event)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_hold_one_typed_object_each() -> None:
    objects = as_json(*(event for event, _ in GOLDEN))
    assert [each["event"] for each in objects] == [event_kind(type(e)) for e, _ in GOLDEN]
    assert {each["node"] for each in objects} == {"0"}
    assert all(datetime.fromisoformat(each["timestamp"]).tzinfo for each in objects)
    assert list(objects[0])[:4] == ["timestamp", "level", "node", "event"]


def test_json_of_a_role_change() -> None:
    (line,) = as_json(became(Role.CANDIDATE, NoContact(0.231), log=LogSummary(1, 7, 3)))
    del line["timestamp"]
    assert line == {
        "level": "info",
        "node": "0",
        "event": "role_changed",
        "at_s": 0.0,
        "role": "Candidate",
        "previous": "Follower",
        "term": 1,
        "log": {"type": "LogSummary", "first_index": 1, "last_index": 7, "last_term": 3},
        "reason": {"type": "NoContact", "silent_s": 0.231, "text": "no contact for 231 ms"},
    }


def test_json_of_messages_is_nested_and_holds_no_command() -> None:
    full, empty = as_json(MessageSent(1.5, FULL, next_index=5), MessageSent(1.5, HEARTBEAT))
    assert full["level"] == "debug"
    assert full["at_s"] == 1.5
    assert full["next_index"] == 5
    assert full["message"] == {
        "type": "AppendEntries",
        "sender": "2",
        "receiver": "0",
        "term": 3,
        "prev_log_index": 4,
        "prev_log_term": 1,
        "entries": {"count": 121, "first_index": 5, "last_index": 125, "data_bytes": 121 * 5994},
        "leader_commit": 4,
        "round": 0,
        "round_trip_ms": 0,
    }
    assert empty["message"]["entries"]["count"] == 0


def test_levels_tell_the_story_at_info() -> None:
    stream = io.StringIO()
    logger = configure("json", stream=stream)
    for event, _ in GOLDEN:
        log_event(logger, "0", event)
    levels = {
        each["event"]: each["level"] for each in map(json.loads, stream.getvalue().splitlines())
    }
    assert levels == {
        "listening": "info",
        "role_changed": "info",
        "election_won": "info",
        "timeouts_widened": "info",
        "link_up": "info",
        "link_down": "info",
        "link_replaced": "info",
        "address_unusable": "warning",
        "connection_rejected": "warning",
        "certificates_reloaded": "info",
        "certificates_unusable": "warning",
        "certificate_expires": "warning",
        "messages_dropped": "warning",
        "snapshot_saved": "info",
        "snapshot_installed": "info",
        "disk_is_full": "warning",
        "storage_waits": "warning",
        "acknowledged_lost": "warning",
        "foreign_disk": "warning",
        "forming": "warning",
        "results_differ": "error",
        "snapshot_damaged": "warning",
        "snapshot_rotten": "error",
        "timing_too_short": "warning",
        "term_jumped": "warning",
        "storage_notice": "warning",
        "configuration_changed": "info",
        "transfer_started": "info",
        "transfer_given_up": "warning",
    }


def test_the_console_speaks_in_sentences() -> None:
    stream = io.StringIO()
    log_event(configure("console", stream=stream), "alpha", GOLDEN[2][0])
    line = stream.getvalue()
    assert "becomes Follower with term=1; log=[] ... because higher term 1 from 2" in line
    assert "node=alpha" in line
    assert "\x1b" not in line  # no colours: this is not a terminal


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_colours() -> None:
    stream = Terminal()
    log_event(configure("console", stream=stream), "0", GOLDEN[2][0])
    assert "\x1b[" in stream.getvalue()


def test_the_raftlog_format_has_messages_unless_told_otherwise() -> None:
    everything, story = io.StringIO(), io.StringIO()
    for logger in (
        configure("raftlog", stream=everything),
        configure("raftlog", stream=story, level="info"),
    ):
        log_event(logger, "0", MessageSent(0.0, VOTE))
        log_event(logger, "0", became(Role.DEAD, Stopped()))
    (all_of_it,) = read_as_the_go_project_does(everything.getvalue())
    (some_of_it,) = read_as_the_go_project_does(story.getvalue())
    assert (len(all_of_it.entries), len(some_of_it.entries)) == (3, 2)


def test_a_raftlog_takes_plain_log_calls_and_tracebacks_too() -> None:
    stream = io.StringIO()
    logger = configure("raftlog", stream=stream)
    try:
        int("many")
    except ValueError:
        logger.exception("cannot count", node="0", tries=1)
    logger.info("bye")
    (run,) = read_as_the_go_project_does(stream.getvalue())
    assert [(who, text) for _, who, text in run.entries] == [
        ("0", "cannot count tries=1"),
        ("TEST", "bye"),
    ]
    assert "    ValueError: invalid literal for int() with base 10: 'many'\n" in stream.getvalue()


def test_an_unknown_format_or_level_is_refused() -> None:
    wrong = cast("Format", "xml")
    with pytest.raises(ConfigError, match="'xml': give 'json', 'console' or 'raftlog'"):
        configure(wrong)
    with pytest.raises(ConfigError, match="'loud': give one of debug, info, warning"):
        configure("json", level=cast("Level", "loud"))


@pytest.fixture
def own_structlog() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("own_structlog")
def test_the_users_structlog_stays_as_it_is_and_can_be_used() -> None:
    taken = structlog.testing.LogCapture()
    structlog.configure(processors=[flatten_trace, taken])
    before = structlog.get_config()

    for format_name in ("json", "console", "raftlog"):
        log_event(configure(format_name, stream=io.StringIO()), "0", Listening(0.0, "here"))
    assert structlog.get_config() == before
    assert taken.entries == []

    TraceLogger(structlog.get_logger(), "0").event(Listening(2.0, "here"))
    assert taken.entries == [
        {"event": "listening", "node": "0", "log_level": "info", "at_s": 2.0, "address": "here"}
    ]


def test_importing_trioraft_configures_nothing() -> None:
    assert not structlog.is_configured()


def test_nobody_listens_without_a_logger_or_above_its_level() -> None:
    silent = structlog.wrap_logger(
        structlog.ReturnLogger(),
        processors=[],
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
    )
    assert not TraceLogger(None, "0").enabled
    assert not TraceLogger(silent, "0").enabled
    TraceLogger(None, "0").event(Listening(0.0, "here"))


def test_somebody_listens_to_a_logger_that_lets_warnings_pass_or_cannot_say() -> None:
    stream = io.StringIO()
    assert TraceLogger(configure("json", stream=stream, level="warning"), "0").enabled
    answers_to_any_name = structlog.wrap_logger(
        logging.getLogger("trioraft.tests"), wrapper_class=structlog.BoundLogger
    )
    assert TraceLogger(answers_to_any_name, "0").enabled
    standard = structlog.wrap_logger(
        logging.getLogger("trioraft.tests"), wrapper_class=structlog.stdlib.BoundLogger
    )
    assert TraceLogger(standard, "0").enabled


# --- the current sink -----------------------------------------------------------------------


def test_there_is_no_sink_unless_somebody_sets_one() -> None:
    assert contextvars.Context().run(current_sink) is None


def test_tasks_of_a_trio_run_inherit_the_sink() -> None:
    raftlog = Raftlog(io.StringIO())
    seen: list[Raftlog | None] = []

    async def child() -> None:
        seen.append(current_sink())

    async def main() -> None:
        await child()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)

    outer = current_sink()
    with use_sink(raftlog):
        trio.run(main)
    assert seen == [raftlog, raftlog]
    assert current_sink() is outer


def test_a_raftlog_file_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "raft.log"
    with open_raftlog(path) as raftlog:
        raftlog.test_line("surrogate \udcff")
        assert path.read_text(encoding="utf-8").endswith("[TEST] surrogate \\udcff\n")
    (run,) = read_as_the_go_project_does(path.read_text(encoding="utf-8"))
    assert (run.name, run.status) == ("trioraft", "PASS")


def test_a_raftlog_that_cannot_be_written_says_so_at_once(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError), open_raftlog(tmp_path):
        pass


def test_the_go_reader_of_this_file_dies_where_it_should() -> None:
    header = "=== RUN   a\n"
    for bad in (
        "10:00:00.1 [0] early\n" + header,
        header + "--- PASS: b (0.1s)",
        header + "10:00:00.1 [1] x",
        header + "10:00:00.1 [alpha] x",
    ):
        with pytest.raises(AssertionError):
            read_as_the_go_project_does(bad)
