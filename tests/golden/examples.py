"""What is encoded: of every kind of message, row and snapshot at least one, with every field set.

Rules of this file:

* Nothing here is drawn, measured or taken from this machine: the same bytes everywhere.
* A kind that is added to one of the unions needs an example; `tests/test_golden.py` asks for it.
"""

from __future__ import annotations

import io
import sqlite3
import tempfile
import zlib
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from trioraft import SQLiteStorage
from trioraft.backups.format import BackupHead, BackupReader, BackupWriter, EndedHistory
from trioraft.core import messages
from trioraft.core.events import ElectionTimerStarted, LogSummary, MessageSent, RoleChanged
from trioraft.core.features import ENTRY_CHECKSUMS, checked_command
from trioraft.core.reasons import NoContact
from trioraft.core.reconfiguration import configuration_entry
from trioraft.core.types import (
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Role,
    SnapshotMeta,
    TraceContext,
)
from trioraft.kv import commands as kv
from trioraft.kv.machine import KvMachine
from trioraft.logs.raftlog import RaftlogRun, WallClock
from trioraft.machines.replicated import ReplicatedObject, command, replica
from trioraft.machines.sessions import (
    CLIENT_ID_BYTES,
    CloseSession,
    OpenSession,
    PlainCommand,
    SessionCommand,
    SessionMachine,
    decode_envelope,
    encode_close,
    encode_command,
    encode_open,
    encode_plain,
)
from trioraft.net.framing import LENGTH_BYTES, Deframer, piece_length
from trioraft.rpc import protocol
from trioraft.storage.snapshot_files import read_header
from trioraft.transport import handshake
from trioraft.transport.codec import decode_message, encode_frame

from .files import Example

JOINT: Final = Configuration(
    ("1", "2", "3"),
    ("1", "2", "9"),
    ("4",),
    {"1": ("10.0.0.1", 7000), "4": ("node-4", 7004)},
    6,
    {"1": 2**61, "2": 5, "3": 6, "9": 7, "4": 8},
    ("4",),
)
ENTRIES: Final = (
    Entry(5, 2, b"command"),
    Entry(6, 3, b"", EntryKind.NOOP),
    Entry(7, 3, b"\x00\xff", EntryKind.COMMAND),
)
META: Final = SnapshotMeta(300, 4, JOINT, 70_000, 0xDEADBEEF)


def _after_length(decode: Callable[[bytes], object]) -> Callable[[bytes], object]:
    return lambda data: decode(data[LENGTH_BYTES:])


# -- members among themselves --------------------------------------------------------------

FOUNDER: Final = messages.Introduction(
    "1",
    "2",
    0,
    2**61,
    ("1", "2"),
    {"1": 2**61, "2": 5},
    "0a" * 16,
    True,
    (3, 99),
    (5, 2, 77),
    True,
    (97, 98),
    ("10.0.0.1", 8000),
    {"3": ("10.0.0.3", 7000)},
)
TRACE: Final = TraceContext("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "shop=7")
CHUNK: Final = messages.InstallSnapshot("1", "2", 7, META, 65_536, b"content", 11)
WITH_FEATURES: Final = msgspec.structs.replace(JOINT, features=(ENTRY_CHECKSUMS,))
OF_FEATURES: Final = (
    msgspec.structs.replace(FOUNDER, features=(ENTRY_CHECKSUMS,)),
    messages.AppendEntries(
        "1",
        "2",
        7,
        4,
        2,
        (configuration_entry(WITH_FEATURES, 5, 2), checked_command(6, 2, b"command")),
        3,
        11,
    ),
    messages.InstallSnapshot(
        "1", "2", 7, msgspec.structs.replace(META, configuration=WITH_FEATURES), 0, b"content"
    ),
)
"""What no member of format 1 is sent."""
PEER_MESSAGES: Final[tuple[messages.Message, ...]] = (
    messages.RequestVote("1", "2", 7, 300, 6, True),
    messages.RequestVoteReply("2", "1", 7, True, 12),
    messages.RequestPreVote("1", "2", 7, 8, 300, 6),
    messages.RequestPreVoteReply("2", "1", 7, 8, False, 12),
    messages.AppendEntries("1", "2", 7, 4, 2, ENTRIES, 3, 11),
    messages.AppendEntriesReply("2", "1", 7, False, 0, 300, 250, 6, 11),
    CHUNK,
    messages.InstallSnapshotReply("2", "1", 7, META, 65_543, True, 11),
    messages.TimeoutNow("1", "2", 7),
    messages.RequestReadIndex("2", "1", 7, 2**60 + 1),
    messages.RequestReadIndexReply("1", "2", 7, 2**60 + 1, 299),
    FOUNDER,
    messages.ResultsCheck("1", "2", 7, 288, 0xDEADBEEF, ("1", "3")),
    messages.Forward("2", "1", 7, 2**60 + 2, b"x=1"),
    messages.Forwarded("1", "2", 7, 2**60 + 3, 300, "why it did not take it", True),
    messages.GroupsFrame(
        "1",
        "2",
        0,
        (messages.GroupMessage("orders/7", 2**60 + 3, b"a message"),),
        (messages.GroupNote("orders/8", 1, 7, 300),),
        11,
        True,
    ),
)


def peer_frames() -> Iterable[Example]:
    """The handshake, and each message as a frame."""
    address = ("10.0.0.1", 7000)
    hello = handshake.PeerHello(
        "trioraft", handshake.WITHOUT_FEATURES[0], "blue", "1", "2", FOUNDER, address
    )
    yield Example(
        "Hello",
        hello,
        handshake.encode_hello(cluster_id="blue", introduction=FOUNDER, address=address),
        _after_length(handshake.decode_hello),
    )
    yield Example("HelloReply, welcome", FOUNDER, handshake.encode_reply(FOUNDER))
    yield Example("HelloReply, refused", "not today", handshake.encode_reply(None, "not today"))
    for message in PEER_MESSAGES:
        yield Example(
            type(message).__name__, message, encode_frame(message), _after_length(decode_message)
        )
    later = handshake.encode_hello(cluster_id="blue", introduction=OF_FEATURES[0])
    yield Example(
        "Hello, of versions 3 to 4",
        handshake.PeerHello("trioraft", 3, "blue", "1", "2", OF_FEATURES[0], version_max=4),
        later,
        _after_length(handshake.decode_hello),
    )
    for message in OF_FEATURES:
        name = f"{type(message).__name__}, with features"
        yield Example(name, message, encode_frame(message), _after_length(decode_message))
    traced = messages.Forward("2", "1", 7, 2**60 + 2, b"x=1", TRACE)
    frame = encode_frame(traced)
    yield Example("Forward, traced", traced, frame, _after_length(decode_message))
    yield Example("in two pieces", CHUNK, _in_pieces(encode_frame(CHUNK)), _joined)


def _in_pieces(frame: bytes) -> bytes:
    first, last = frame[LENGTH_BYTES:40], frame[40:]
    return (
        piece_length(len(first), is_last=False)
        + first
        + piece_length(len(last), is_last=True)
        + last
    )


def _joined(data: bytes) -> object:
    deframer = Deframer(1000)
    deframer.takes_pieces = True
    deframer.feed(data)
    return decode_message(deframer.next_payload() or b"")


# -- clients and servers -------------------------------------------------------------------

STATUS: Final = protocol.ServerStatus(
    node_id="1",
    cluster_id="blue",
    role="Leader",
    term=7,
    leader_id="1",
    last_index=302,
    commit_index=301,
    applied_index=300,
    configuration=JOINT,
    configuration_index=6,
    progress={"2": protocol.PeerStatus(300, 303, "replicate")},
    last_role_change="election won with 2 votes",
    is_removed=False,
    change=protocol.ChangeStatus("joint", ("1", "2", "3"), ("4",)),
    client_addresses={"1": ("10.0.0.1", 8000)},
    other_client_addresses={"1": (("::1", 8000),)},
    connections=3,
    links={"2": True},
)
NEWS: Final[tuple[protocol.NodeNews, ...]] = (
    protocol.RoleNews("1", "Leader", "Candidate", 7, "election won with 2 votes", 1),
    protocol.EventsNews(
        "1",
        1.5,
        (
            protocol.EventNews(
                1.25, "commit_advanced", ("commit index advances to 7",), {"commit_index": 7}
            ),
        ),
        {"AppendEntries": 120},
        2,
    ),
    protocol.StatusNews(STATUS),
)
REQUESTS: Final[tuple[protocol.Request, ...]] = (
    protocol.Propose(1, b"command"),
    protocol.Query(2, b"question", "lease"),
    protocol.GetStatus(3),
    protocol.TransferLeadership(4, "2", 1.5),
    protocol.AddLearnerRequest(5, "4", ("node-4", 7004), 6),
    protocol.ChangeVotersRequest(6, ("1", "2"), {"2": ("10.0.0.2", 7000)}, 6),
    protocol.RemoveNode(7, "4", 6),
    protocol.ReplaceNode(7, "4"),
    protocol.MoveNode(7, "4", ("::1", 7000), True),
    protocol.InviteNode(7, "4", 3600.0),
    protocol.SwitchOnRequest(7, (ENTRY_CHECKSUMS,), 6),
    protocol.ReadBackup(7, True, 10.0),
    protocol.TakeSnapshot(8),
    protocol.Watch(9, b"watched"),
    protocol.WatchStatus(10, 0.25),
    protocol.Cancel(9),
    protocol.Take(9, 32768),
    protocol.Ping(11),
)


def _answers() -> Iterable[tuple[str, protocol.Answer]]:
    yield "Result", protocol.Result(1, protocol.encode_value({"answer": [1, 2.5, b"x", None]}))
    yield "Result of GetStatus", protocol.Result(3, protocol.encode_value(STATUS))
    yield (
        "Failure",
        protocol.Failure(1, "command", "too many", "ValueError", "2", ("10.0.0.2", 8000)),
    )
    for news in NEWS:
        yield f"Item, {type(news).__name__}", protocol.Item(10, protocol.encode_value(news))
    yield "GoingAway", protocol.GoingAway()
    yield "GoingAway, for others", protocol.GoingAway("there are 1024 connections")


def client_frames() -> Iterable[Example]:
    """The handshake, each request, each answer and what answers hold."""
    hello = protocol.ClientHello(protocol.MAGIC, 1, "blue", 1_000_000)
    yield Example("Hello", hello, protocol.frame(hello), _after_length(protocol.decode_hello))
    later = protocol.ClientHello(protocol.MAGIC, 1, "blue", 1_000_000, "", 2)
    decode = _after_length(protocol.decode_hello)
    yield Example("Hello, of versions 1 to 2", later, protocol.frame(later), decode)
    for name, welcome in (
        ("Welcome", protocol.Welcome(protocol.MAGIC, 1, "", "", "1", "blue", 64, 1_000_000, True)),
        ("Welcome, refused", protocol.Welcome(protocol.MAGIC, 1, "cluster", "this is blue")),
    ):
        decode = _after_length(protocol.decode_welcome)
        yield Example(name, welcome, protocol.frame(welcome), decode)
    for request in REQUESTS:
        decode = _after_length(protocol.decode_request)
        yield Example(type(request).__name__, request, protocol.frame(request), decode)
    watching = protocol.WatchStatus(10, 0.25, 16)
    decode = _after_length(protocol.decode_request)
    yield Example("WatchStatus, with events", watching, protocol.frame(watching), decode)
    shared = protocol.Watch(9, b"watched", 65536)
    yield Example("Watch, with a window", shared, protocol.frame(shared), decode)
    for traced in (
        protocol.Propose(1, b"command", TRACE),
        protocol.Query(2, b"question", "lease", TRACE),
    ):
        decode = _after_length(protocol.decode_request)
        yield Example(f"{type(traced).__name__}, traced", traced, protocol.frame(traced), decode)
    for name, answer in _answers():
        decode = _after_length(protocol.decode_answer)
        yield Example(name, answer, protocol.frame(answer), decode)


# -- what stands in the log, and on the disk -----------------------------------------------

KV_COMMANDS: Final[tuple[kv.Command, ...]] = (
    kv.Put(b"key", b"value", True),
    kv.Append(b"key", b"more", True),
    kv.Cas(b"key", b"value", b"other"),
    kv.Cas(b"new", None, b"value"),
    kv.Delete(b"key", True),
    kv.GrantLease(30_000, b"k", b"mine", 1.5),
    kv.Put(b"key", b"value", False, 15, 60_000, 2.5),
    kv.Increment(b"number", -7),
    kv.Txn(
        (
            kv.Compare(b"key", kv.CompareBy.VALUE, kv.CompareHow.EQUAL, b"value"),
            kv.Compare(b"n", kv.CompareBy.COUNT, kv.CompareHow.LESS, 9, True),
            kv.Compare(b"k", kv.CompareBy.VERSION, kv.CompareHow.GREATER, 0, until=b"l"),
        ),
        (
            kv.Put(b"kept", b"1", ttl_ms=10),
            kv.Append(b"kept", b"2"),
            kv.Increment(b"kept", 3),
            kv.Look(kv.Get(b"kept")),
        ),
        (kv.DeleteRange(b"k", b"l", 10), kv.Delete(b"n"), kv.Look(kv.Range())),
        3.5,
    ),
    kv.KeepAlive(15, b"k", 4.5),
    kv.Expire(4.5),
    kv.DeleteRange(b"new", None, None),
    kv.Revoke(15, b"k"),
)
KV_QUERIES: Final[tuple[kv.Query, ...]] = (
    kv.Get(b"key"),
    kv.Range(b"k", b"key", 10),
    kv.Changes(5, b"k", 10),
    kv.Range(b"a", None, 5, b"c", True, kv.RangeShows.KEYS, 7),
    kv.Changes(5, b"a", 10, b"c", True),
    kv.TimeToLive(15, b"k"),
)
KV_RESULTS: Final[tuple[kv.Result, ...]] = (
    kv.Written(7, True, b"value", 5, 2),
    kv.Swapped(7, False, b"value", 6, 5, 2),
    kv.Incremented(7, -5, 5, 2),
    kv.Deleted(7, 3, True),
    kv.TxnDone(7, True, (kv.Written(7, False), kv.Looked(kv.Found(7, None)))),
    kv.Granted(7, 5, 30_000),
)
KV_ANSWERS: Final[tuple[kv.Answer, ...]] = (
    kv.Found(7, b"value", 5, 4, 2, 3),
    kv.Page(7, (kv.Pair(b"key", b"value", 5, 4, 2, 3),), True, 9, True),
    kv.Changed(
        (
            kv.Change(5, b"key", b"value", b"before", 4, 2, 3),
            kv.Change(6, b"key", None, None, 4, 0, 3, True),
        ),
        7,
    ),
    kv.Compacted(5),
    kv.LeaseLife(7, 30_000, 12_345, (b"key",)),
)


def kv_requests() -> Iterable[Example]:
    """What a key-value machine is told and answers."""
    for request in KV_COMMANDS:
        yield Example(_kv_name(request), request, kv.encode(request), kv.decode_command)
    for query in KV_QUERIES:
        yield Example(_kv_name(query), query, kv.encode(query), kv.decode_query)
    for answers, union in ((KV_RESULTS, kv.Result), (KV_ANSWERS, kv.Answer)):
        decode = msgspec.msgpack.Decoder[Any](union).decode
        for answer in answers:
            yield Example(_kv_name(answer), answer, msgspec.msgpack.encode(answer), decode)


def _kv_name(request: msgspec.Struct) -> str:
    name = type(request).__name__
    match request:
        case kv.Cas(expected=None):
            return f"{name}, of a key that is new"
        case kv.Put(lease_id=int()):
            return f"{name}, with an end"
        case kv.Range(until=bytes()) | kv.Changes(until=bytes()):
            return f"{name}, between two keys"
    return name


class Notes(ReplicatedObject):
    """A replicated object with a field of each sort."""

    total: int = 0
    texts: dict[str, list[str]] = msgspec.field(default_factory=dict)
    factor: float | None = None

    @command
    def note(self, topic: str, text: str) -> int:
        """Write something down."""
        self.texts.setdefault(topic, []).append(text)
        self.total += 1
        return self.total


CLIENT_ID: Final = bytes(range(CLIENT_ID_BYTES))
ENVELOPES: Final = (PlainCommand, OpenSession, SessionCommand, CloseSession)


def log_commands() -> Iterable[Example]:
    """Commands as they stand in the log: of sessions, and of replicated objects."""
    for value, data in (
        (PlainCommand(b"command"), encode_plain(b"command")),
        (OpenSession(CLIENT_ID), encode_open(CLIENT_ID)),
        (SessionCommand(5, 3, 2, b"command"), encode_command(5, 3, b"command", 2)),
        (CloseSession(5), encode_close(5)),
    ):
        yield Example(type(value).__name__, value, data, decode_envelope)
    decode = msgspec.msgpack.Decoder[Any](replica.MethodCall | replica.Activate).decode
    for called in (_call("note", "topic", "text"), replica.Activate(2, 1.5)):
        yield Example(type(called).__name__, called, msgspec.msgpack.encode(called), decode)
    question = replica.Question("get", msgspec.Raw(b"\x90"))
    ask = msgspec.msgpack.Decoder(replica.Question).decode
    yield Example("Question", question, msgspec.msgpack.encode(question), ask)


def _call(name: str, *arguments: str) -> replica.MethodCall:
    return replica.MethodCall(name, 1, 12.5, msgspec.Raw(msgspec.msgpack.encode(arguments)))


def snapshots() -> Iterable[Example]:
    """What state machines put into a snapshot."""
    machine = KvMachine()
    for index, request in enumerate((*KV_COMMANDS[:-1], kv.Put(b"last", b"one")), 10):
        machine.apply(index, kv.encode(request))
    yield Example("KvMachine", _kv_state(machine), b"".join(machine.snapshot()), _restored_kv)
    sessions = _sessions(KvMachine())
    sessions.apply(20, encode_open(CLIENT_ID))
    sessions.apply(21, encode_command(20, 1, kv.encode(kv.Put(b"key", b"value"))))
    sessions.apply(22, encode_command(20, 2, kv.encode(kv.Cas(b"key", b"value", b"other")), 1))
    yield Example(
        "SessionMachine", len(sessions), b"".join(sessions.snapshot()), _restored_sessions
    )
    notes = Notes()
    for index, text in enumerate(("one", "two"), 30):
        notes.apply(index, msgspec.msgpack.encode(_call("note", "numbers", text)))
    yield Example("ReplicatedObject", _notes_state(notes), b"".join(notes.snapshot()), _renoted)


def _sessions(inner: KvMachine) -> SessionMachine:
    return SessionMachine(inner, sessions_max=3, results_max=4, results_bytes_max=5000)


def _kv_state(machine: KvMachine) -> object:
    ask = (kv.Range(), kv.Changes(10, wants_previous=True))
    return machine.index, [machine.query(kv.encode(question)) for question in ask]


def _restored_kv(data: bytes) -> object:
    machine = KvMachine()
    machine.restore([data])
    return _kv_state(machine)


def _restored_sessions(data: bytes) -> object:
    machine = _sessions(KvMachine())
    machine.restore([data])
    return len(machine)


def _notes_state(notes: Notes) -> object:
    return notes.total, notes.texts, notes.factor, notes.log_time_s, notes.active_version


def _renoted(data: bytes) -> object:
    notes = Notes()
    notes.restore([data])
    return _notes_state(notes)


# -- a directory of SQLiteStorage ----------------------------------------------------------

HARD_STATE: Final = HardState(8, "2")
LOG: Final = (
    Entry(1, 1, b"", EntryKind.NOOP),
    Entry(2, 1, b"command"),
    configuration_entry(JOINT, 3, 1),
    Entry(4, 2, b"in place of another"),
)
CONTENT: Final = b"the content of a snapshot"


def fill_directory(directory: Path) -> None:
    """A log of some records, one of which cuts another; a base, and a snapshot."""
    storage = SQLiteStorage(directory)
    storage.open(cluster_id="blue", node_id="1")
    storage.append(HardState(1, "1"), (*LOG[:3], Entry(4, 1, b"to be cut")), 1)
    storage.append(HARD_STATE, (), None, b"whose disk this is")
    storage.append(None, LOG[3:], 4)
    storage.write_snapshot(3, 1, JOINT, [CONTENT[:5], CONTENT[5:]])
    storage.compact(2, 1)
    storage.close()


def sqlite_rows() -> Iterable[Example]:
    """The schema, and each row: its columns, and its payload as bytes."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "node"
        fill_directory(directory)
        yield from rows_of(directory / "log.sqlite3")


def rows_of(database: Path) -> Iterable[Example]:
    """What stands in a log's database."""
    with closing(sqlite3.connect(database)) as connection:
        for name, sql in connection.execute("SELECT name, sql FROM sqlite_master WHERE sql > ''"):
            yield Example(f"table {name}", sql, b"")
        for key, crc, payload in connection.execute("SELECT * FROM meta ORDER BY key"):
            yield Example(f"meta {key}", [key, crc], payload)
        for *columns, payload in connection.execute("SELECT * FROM records ORDER BY number"):
            yield Example(f"record {columns[0]}", columns, payload)


def snapshot_file() -> Iterable[Example]:
    """A snapshot as a file beside the log."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "node"
        fill_directory(directory)
        (path,) = directory.glob("snapshot*")
        data = path.read_bytes()
        yield Example(path.name, _described(data), data, _described)


def _described(data: bytes) -> object:
    header = read_header(io.BytesIO(data), "a golden file")
    return header.description, data[header.header_bytes :]


def backup_file() -> Iterable[Example]:
    """A backup, in two blocks."""
    pieces = (b"the content of a snapshot, ", b"in pieces")
    content = b"".join(pieces)
    head = BackupHead(
        "blue",
        "2",
        "0123456789abcdef0123456789abcdef",
        SnapshotMeta(3, 1, JOINT, len(content), zlib.crc32(content)),
        4,
        1_700_000_000.5,
        "kv in sessions",
        True,
        (EndedHistory("fedcba9876543210fedcba9876543210", 2, 1),),
        "0.1.0",
    )
    sink = io.BytesIO()
    writer = BackupWriter(sink, head)
    for piece in pieces:
        writer.add(piece)
    writer.end()
    data = sink.getvalue()
    yield Example("backup", _backed_up(data), data, _backed_up)


def _backed_up(data: bytes) -> object:
    reader = BackupReader(io.BytesIO(data), "a golden file")
    return reader.head, list(reader.chunks())


# -- raftlog -------------------------------------------------------------------------------


def raftlog() -> str:
    """A short run as text: header, stamps, columns, announcements, a remark, the last line."""
    moment = datetime(2024, 5, 6, 23, 59, 59, 900_000, UTC)
    run = RaftlogRun("test_golden", clock=WallClock(now=lambda: moment))
    role = RoleChanged(
        5.231, Role.PRE_CANDIDATE, Role.FOLLOWER, 6, LogSummary(3, 7, 2), NoContact(0.231)
    )
    lines = [
        run.header(),
        *run.event_lines("1", ElectionTimerStarted(5.0, 0.231, 6)),
        *run.event_lines("1", role),
        *run.event_lines("1", MessageSent(5.2315, PEER_MESSAGES[2])),
        *run.event_lines("node-x", ElectionTimerStarted(5.25, 0.3, 6)),
        *run.remark_lines("1", "a remark\nin two lines", 5.26),
        *run.remark_lines(None, "Disconnect 1", 5.3),
        run.status_line().rpartition(" ")[0],  # the seconds that follow are those of today
    ]
    return "\n".join(lines) + "\n"


EXAMPLES: Final[dict[str, Callable[[], Iterable[Example]]]] = {
    "peer_frames.txt": peer_frames,
    "client_frames.txt": client_frames,
    "kv_requests.txt": kv_requests,
    "log_commands.txt": log_commands,
    "snapshots.txt": snapshots,
    "sqlite_rows.txt": sqlite_rows,
    "snapshot_file.txt": snapshot_file,
    "backup_file.txt": backup_file,
}
RAFTLOG: Final = "run.raftlog.txt"
