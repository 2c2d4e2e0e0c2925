"""Decoders: whatever makes values of somebody's bytes, and which errors each may raise.

Rules of this file:

* A target takes bytes and returns; what it raises beyond its `allowed` errors is a fault. Those are
  the errors that the decoder's docstring names.
* A checksum before a decoder is made right again: a disk that rots is one thing, what somebody
  wrote there on purpose, or an older program, is another.
* What could be decoded is used a little, as its owner would: what cannot be used is no
  value.
"""

from __future__ import annotations

import io
import sqlite3
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

import attrs
import msgspec

from tests.golden import examples
from trioraft.backups.format import BackupReader, UnusableBackup
from trioraft.cli.serve.options import OPTIONS
from trioraft.cli.serve.settings import SettingsReader, gather
from trioraft.core.decoding import UNREADABLE
from trioraft.core.errors import BadMessage, ConfigError, RaftError, StorageError
from trioraft.core.reconfiguration import configuration_of
from trioraft.core.types import Address, Entry, EntryKind
from trioraft.kv import commands as kv
from trioraft.kv.machine import KvMachine
from trioraft.machines.replicated import Replicas, replica
from trioraft.machines.sessions import (
    SessionMachine,
    UnknownCommand,
    encode_command,
    encode_open,
    encode_plain,
)
from trioraft.member import identity
from trioraft.net.framing import LENGTH_BYTES, Deframer
from trioraft.rpc import failures, protocol
from trioraft.storage import log_database, records, snapshot_files
from trioraft.testing.linearizability import (
    HistoryError,
    Operation,
    OperationOutcome,
    Register,
    load_history,
    save_history,
)
from trioraft.transport import codec, handshake
from trioraft.viz.analysis import analyse_log
from trioraft.viz.page.data import page_json
from trioraft.viz.reading import LogError
from trioraft.viz.report import report, runs_json

Kind: TypeAlias = Literal["packed", "text", "bytes"]
"""How its inputs are best changed: as msgpack, as lines, or as mere bytes."""

FRAME_BYTES_MAX: Final = 1 << 20
OWNER: Final = log_database.Owner("blue", "1")


@attrs.frozen
class Target:
    """One decoder, or a few that are always used one after the other."""

    name: str
    what: str
    kind: Kind
    seeds: Callable[[], Iterable[bytes]]
    """Inputs that are right."""
    run: Callable[[bytes], object]
    """What it returns, if that is text, says what was special: see `decoders`."""
    allowed: tuple[type[Exception], ...] = ()
    """What it may raise."""
    words: tuple[str | bytes, ...] = ()
    """What means something to it."""


def _payloads(frames: Iterable[bytes]) -> list[bytes]:
    return [frame[LENGTH_BYTES:] for frame in frames]


# -- the wire ------------------------------------------------------------------------------


def _peer_hellos() -> list[bytes]:
    return _payloads([next(iter(examples.peer_frames())).data])


def _check_hello(data: bytes) -> None:
    hello = handshake.decode_hello(data)
    handshake.check_hello(hello, cluster_id="blue", node_id="2")
    handshake.check_said_again(hello.introduction, hello.introduction)


def _peer_replies() -> list[bytes]:
    replies = (handshake.encode_reply(examples.FOUNDER), handshake.encode_reply(None, "not today"))
    return _payloads(replies)


def _check_reply(data: bytes) -> None:
    handshake.check_reply(data, sender="1", receiver="2")


def _peer_messages() -> list[bytes]:
    return _payloads(codec.encode_frame(message) for message in examples.PEER_MESSAGES)


def _take_message(data: bytes) -> None:
    message = codec.decode_message(data)
    assert codec.encode_frame(message)


def _streams() -> list[bytes]:
    frames = [example.data for example in examples.peer_frames()]
    return [*frames, b"".join(frames), b"\0\0\0\0" + frames[-1] + frames[0]]


def _deframe(data: bytes) -> None:
    """Fed in pieces whose sizes the data itself says; nothing may be kept beyond the bound."""
    deframer = Deframer(FRAME_BYTES_MAX)
    deframer.takes_pieces = True
    place = 0
    while place < len(data):
        size_bytes = 1 + (data[place] * 7 + place) % 300
        deframer.feed(data[place : place + size_bytes])
        place += size_bytes
        while (payload := deframer.next_payload()) is not None:
            assert len(payload) <= FRAME_BYTES_MAX


def _client_hellos() -> list[bytes]:
    return [protocol.frame(protocol.ClientHello(protocol.MAGIC, 1, "blue"))[LENGTH_BYTES:]]


def _requests() -> list[bytes]:
    return _payloads(protocol.frame(request) for request in examples.REQUESTS)


def _take_request(data: bytes) -> None:
    protocol.id_of_unknown(data)
    protocol.frame(protocol.decode_request(data))


def _answers() -> list[bytes]:
    found = [
        example for example in examples.client_frames() if not example.name.startswith("Hello")
    ]
    requests = {type(request).__name__ for request in examples.REQUESTS}
    return _payloads(example.data for example in found if example.name not in requests)


def _take_answer(data: bytes) -> None:
    """As a client does: a first frame, or an answer, and what is in it."""
    with suppress(BadMessage):
        protocol.decode_welcome(data)
    answer = protocol.decode_answer(data)
    if isinstance(answer, protocol.Failure):
        str(failures.error_of(answer, {"ValueError": ValueError}))


# -- the disk ------------------------------------------------------------------------------


def _record_payloads() -> list[bytes]:
    writes = (
        records.StoredWrite(1, examples.HARD_STATE, None, ()),
        records.StoredWrite(7, examples.HARD_STATE, 1, examples.LOG),
    )
    return [row[4] for write in writes for row in records.to_rows(write, 0)]


def _take_record(data: bytes) -> None:
    """With a checksum that is right, and columns that say what the payload says."""
    number, first, last = 1, None, 0
    with suppress(*UNREADABLE, TypeError, IndexError, KeyError):
        said = msgspec.msgpack.decode(data)
        number, first = said[0], said[2]
        last = said[3][-1][0] if said[3] else 0
    row: Any = (number, first, last, zlib.crc32(data), data)
    record = records.from_row(row, "log", 0)
    for entry in record.entries:
        if entry.kind == EntryKind.CONFIGURATION:
            with suppress(BadMessage):
                configuration_of(entry)


def _configurations() -> list[bytes]:
    return [entry.data for entry in examples.LOG if entry.kind == EntryKind.CONFIGURATION]


def _take_configuration(data: bytes) -> None:
    configuration = configuration_of(Entry(3, 1, data, EntryKind.CONFIGURATION))
    assert all(configuration.disk_of(member) >= 0 for member in configuration.members)


def _identities() -> list[bytes]:
    known = identity.Identity(
        5,
        {"1": 5, "2": 6},
        "0a" * 16,
        True,
        3,
        (7, 8, 9),
        {6: (2, 77)},
        (identity.Ancestor("0b" * 16, 9, 2),),
    )
    return [identity.encode_identity(each) for each in (known, identity.Identity(5))]


def _take_identity(data: bytes) -> None:
    found = identity.decode_identity(data)
    found.contradicts(found.opening)
    addresses: Mapping[str, Address] = {"1": ("127.0.0.1", 1)}
    found.base(addresses)
    identity.encode_identity(found)


@cache
def _scratch() -> Path:
    """A directory of this process, for decoders that take a file."""
    folder = tempfile.TemporaryDirectory(prefix="trioraft-fuzz-")
    _KEPT.append(folder)
    return Path(folder.name)


_KEPT: Final[list[tempfile.TemporaryDirectory[str]]] = []


@cache
def _database() -> bytes:
    directory = _scratch() / "whole"
    examples.fill_directory(directory)
    database = directory / "log.sqlite3"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("PRAGMA journal_mode=WAL")
    return database.read_bytes()


@cache
def _rows() -> tuple[list[Any], list[Any]]:
    _database()
    with closing(sqlite3.connect(_scratch() / "whole" / "log.sqlite3")) as connection:
        meta = [list(row) for row in connection.execute("SELECT key, payload FROM meta")]
        columns = "number, first_index, last_index, payload"
        stored = [list(row) for row in connection.execute(f"SELECT {columns} FROM records")]  # noqa: S608 - ours
    return meta, stored


def _row_values() -> list[bytes]:
    return [msgspec.msgpack.encode(_rows())]


def _take_rows(data: bytes) -> None:
    """Rows of any values and types in a database that is sound, their checksums made right."""
    try:
        meta, stored = msgspec.msgpack.decode(data, type=tuple[list[Any], list[Any]])
    except (*UNREADABLE, TypeError):
        return
    path = _scratch() / "rows.sqlite3"
    if not path.exists():
        path.write_bytes(_database())
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("BEGIN")
        connection.execute("DELETE FROM meta")
        connection.execute("DELETE FROM records")
        for row in meta:
            with suppress(sqlite3.Error, TypeError, ValueError, OverflowError):
                key, payload = row
                is_whole = isinstance(key, str) and isinstance(payload, bytes)
                crc = zlib.crc32(payload, zlib.crc32(key.encode())) if is_whole else 1
                connection.execute(
                    "INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (key, crc, payload)
                )
        for row in stored:
            with suppress(sqlite3.Error, TypeError, ValueError, OverflowError):
                number, first, last, payload = row
                crc = zlib.crc32(payload) if type(payload) is bytes else 1
                columns = (number, first, last, crc, payload)
                connection.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?)", columns)
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with suppress(StorageError):
        log_database.read_owner(path)
    with suppress(StorageError):
        log_database.read_identity(path)
    log_database.load(path, OWNER)


def _take_database(data: bytes) -> None:
    path = _scratch() / "file.sqlite3"
    path.write_bytes(data)
    log_database.load(path, OWNER)


_FIXED: Final = struct.Struct(">16sHIII")
_BACKUP_FIXED: Final = struct.Struct(">16sHII")


@cache
def _snapshot_file() -> bytes:
    _database()
    found = sorted((_scratch() / "whole").glob(f"{snapshot_files.PREFIX}*"))
    return found[-1].read_bytes()


def _take_snapshot_file(data: bytes) -> None:
    """As it is, and with the checksum of its header made right."""
    for content in (data, _with_right_checksum(data)):
        file = io.BytesIO(content)
        with suppress(StorageError):
            meta = snapshot_files.read_header(file, "snapshot").description.meta
            snapshot_files.file_name(meta)
            for _ in snapshot_files.content_chunks(file, meta, "snapshot"):
                pass


def _with_right_checksum(data: bytes) -> bytes:
    if len(data) < _FIXED.size:
        return data
    magic, version, total, length, _ = _FIXED.unpack_from(data)
    body = data[_FIXED.size :][:length]
    return _FIXED.pack(magic, version, total, length, zlib.crc32(body)) + data[_FIXED.size :]


def _backup_files() -> list[bytes]:
    return [example.data for example in examples.backup_file()]


def _take_backup_file(data: bytes) -> None:
    """As it is, and with the checksum of its head made right; with what a restore makes of it."""
    for content in (data, _with_right_head(data)):
        with suppress(UnusableBackup):
            reader = BackupReader(io.BytesIO(content), "backup")
            amount = sum(map(len, reader.chunks()))
            if reader.is_whole and amount != reader.head.snapshot.size_bytes:
                raise AssertionError("what is whole is not what was announced")


def _with_right_head(data: bytes) -> bytes:
    if len(data) < _BACKUP_FIXED.size:
        return data
    magic, version, length, _ = _BACKUP_FIXED.unpack_from(data)
    body = data[_BACKUP_FIXED.size :][:length]
    right = _BACKUP_FIXED.pack(magic, version, length, zlib.crc32(body))
    return right + data[_BACKUP_FIXED.size :]


def _snapshot_headers() -> list[bytes]:
    description = snapshot_files.Description("blue", examples.META)
    return [msgspec.msgpack.encode(description)]


def _take_snapshot_header(data: bytes) -> None:
    """The description alone, in a header that is right."""
    fixed = _FIXED.pack(
        b"trioraft snapsh\n", 1, _FIXED.size + len(data), len(data), zlib.crc32(data)
    )
    found = snapshot_files.read_header(io.BytesIO(fixed + data), "snapshot")
    snapshot_files.file_name(found.description.meta)


# -- state machines ------------------------------------------------------------------------

_DATA: Final = {example.name: example.data for example in examples.snapshots()}
_REQUESTS: Final = tuple(examples.kv_requests())
_QUERIES: Final = tuple(
    example.data for example in _REQUESTS if isinstance(example.value, get_args(kv.Query))
)
_COMMANDS: Final = tuple(
    example.data for example in _REQUESTS if isinstance(example.value, get_args(kv.Command))
)


def _use(machine: Any, index: int, commands: Iterable[bytes]) -> None:
    """What a node does with commands: prepared, and then applied; a result may be an error."""
    for at, data in enumerate(commands, index):
        with suppress(RaftError):
            machine.apply(at, machine.prepare_command(data))


def _restore_kv(data: bytes) -> None:
    machine = KvMachine()
    machine.restore([data[:10], data[10:]])
    for question in _QUERIES:
        with suppress(RaftError):
            machine.query(question)
    _use(machine, machine.index + 1, _COMMANDS)
    b"".join(machine.snapshot())


def _session_machine() -> SessionMachine:
    return SessionMachine(KvMachine(), sessions_max=3, results_max=4, results_bytes_max=5000)


def _session_commands() -> list[bytes]:
    return [
        *[example.data for example in examples.log_commands()][:4],
        encode_plain(_COMMANDS[0]),
        encode_open(examples.CLIENT_ID),
        encode_command(20, 1, _COMMANDS[0]),
        encode_command(20, 2, _COMMANDS[2], 1),
    ]


def _restore_sessions(data: bytes) -> None:
    machine = _session_machine()
    machine.restore([data])
    _use(machine, 2**40, _session_commands())
    b"".join(machine.snapshot())


def _restore_object(data: bytes) -> None:
    notes = examples.Notes()
    notes.restore([data])
    b"".join(notes.snapshot())


def _take_command(data: bytes) -> None:
    machine = _session_machine()
    _use(machine, 20, (encode_open(examples.CLIENT_ID), data, data))
    b"".join(machine.snapshot())


def _take_kv(data: bytes) -> None:
    machine = KvMachine()
    _use(machine, 1, (*_COMMANDS[:2], data))
    machine.query(data)


def _object_commands() -> list[bytes]:
    return [example.data for example in examples.log_commands()][4:]


def _take_object_command(data: bytes) -> None:
    """A command or a question, for one object and for one among others."""
    notes = examples.Notes()
    _use(notes, 1, (data, data))
    _use(Replicas(notes=examples.Notes()), 1, (data, msgspec.msgpack.encode(("notes", data))))
    with suppress(*UNREADABLE):
        if msgspec.msgpack.decode(data, type=replica.Question).name == replica.LOG_NOW:
            return  # it asks the clock of a node that runs
    notes.query(data)


# -- files of people -----------------------------------------------------------------------


def _write(name: str, data: bytes) -> Path:
    path = _scratch() / name
    path.write_bytes(data)
    return path


def _look_at_log(data: bytes) -> str:
    runs = analyse_log(_write("run.log", data))
    report(runs)
    runs_json(runs)
    for run in runs:
        page_json(run)
    return " ".join(sorted({finding.kind for run in runs for finding in run.findings}))


def _json_lines() -> list[bytes]:
    lines = (
        b'{"event":"role_changed","node":"1","at_s":1.5,"timestamp":"2026-01-02T03:04:05Z",'
        b'"level":"info","role":"Leader","previous":"Candidate","term":7,'
        b'"reason":{"type":"Won","text":"won with 2 votes"}}',
        b'{"event":"message_received","node":"2","at_s":1.6,"term":7,"voted_for":"1","message":'
        b'{"type":"AppendEntries","sender":"1","receiver":"2","term":7,"entries":{"count":2}}}',
        b'{"event":"message_sent","node":"1","at_s":1.7,"message":{"type":"RequestVoteReply",'
        b'"sender":"1","receiver":"2","term":7,"vote_granted":true}}',
        b'{"event":"configuration_changed","node":"1","at_s":1.8,"configuration":'
        b'{"index":3,"voters":["1","2"],"outgoing":[],"learners":["3"]}}',
        b'{"event":"forming","node":"1","at_s":1.9,"waiting_for":["2"]}',
        b'{"event":"election_timer_started","node":"1","at_s":2.0,"timeout_s":0.2,"term":7}',
        b'{"event":"commit_advanced","node":"1","at_s":2.1,"commit_index":4}',
        b'{"event":"link_up","node":"1","at_s":2.2,"peer":"2"}',
        b'{"event":"2 tasks are left","timestamp":"2026-01-02T03:04:06Z","report":"a leak"}',
    )
    return [b"\n".join(lines), *lines[:4]]


def _toml_files() -> list[bytes]:
    whole = (
        'id = "1"\nlisten = "127.0.0.1:7001"\nclient-listen = "127.0.0.1:8001"\n'
        'data = "/tmp/data"\npeer = { 2 = "127.0.0.1:7002" }\n'
        'client-peer = ["2=127.0.0.1:8002"]\n'
    )
    given = {"id", "listen", "client-listen", "data", "peer", "client-peer"}
    others = [
        f"{option.key} = {'true' if option.kind == 'flag' else repr(option.default or 'x')}\n"
        for name, option in OPTIONS.items()
        if name not in given
    ]
    return [whole.encode(), (whole + "".join(others)).encode()]


def _take_toml(data: bytes) -> str:
    """Everything that is wrong is a sentence among the problems; nothing is raised."""
    problems: list[str] = []
    given = gather({"config": str(_write("node.toml", data))}, {}, problems)
    settings = SettingsReader(given, problems).settings()
    assert (settings is None) == bool(problems), problems
    return "\n".join(problems)


def _histories() -> list[bytes]:
    path = _scratch() / "history.jsonl"
    operations = (
        Operation("a", Register.Write(1), 0.0, 1.0, OperationOutcome.OK),
        Operation("b", Register.Read(), 0.5, 1.5, OperationOutcome.OK, 1),
        Operation("a", Register.Write(2), 2, None, OperationOutcome.UNKNOWN),
        Operation("b", Register.Write(3), 2.5, 3, OperationOutcome.FAILED),
    )
    save_history(path, operations, Register())
    return [path.read_bytes()]


def _take_history(data: bytes) -> None:
    load_history(_write("history.jsonl", data))


TARGETS: Final = (
    Target(
        "peer-hello",
        "the first frame at the peers' port",
        "packed",
        _peer_hellos,
        _check_hello,
        (BadMessage,),
        ("trioraft", "blue"),
    ),
    Target(
        "peer-reply",
        "a peer's answer to it",
        "packed",
        _peer_replies,
        _check_reply,
        (BadMessage,),
        ("trioraft",),
    ),
    Target(
        "peer-message",
        "what members say to each other",
        "packed",
        _peer_messages,
        _take_message,
        (BadMessage,),
    ),
    Target(
        "frames",
        "a stream cut into frames and pieces",
        "bytes",
        _streams,
        _deframe,
        (BadMessage,),
        (b"\x80\0\0\1", b"\xc0\0\0\2"),
    ),
    Target(
        "client-hello",
        "the first frame at the clients' port",
        "packed",
        _client_hellos,
        protocol.decode_hello,
        (BadMessage,),
        ("trioraft-client",),
    ),
    Target(
        "client-request",
        "what clients ask",
        "packed",
        _requests,
        _take_request,
        (BadMessage,),
        ("stale", "lease", "linearizable"),
    ),
    Target(
        "client-answer",
        "what servers answer",
        "packed",
        _answers,
        _take_answer,
        (BadMessage,),
        ("command", "not-leader", "ValueError"),
    ),
    Target(
        "log-record",
        "a record of the log, as its row holds it",
        "packed",
        _record_payloads,
        _take_record,
        (StorageError,),
    ),
    Target(
        "log-rows",
        "values in the rows of the log's database",
        "packed",
        _row_values,
        _take_rows,
        (StorageError,),
        ("meta", "base", "owner", "identity", "format"),
    ),
    Target(
        "log-file",
        "the file of that database",
        "bytes",
        lambda: [_database()],
        _take_database,
        (StorageError,),
    ),
    Target(
        "configuration",
        "a configuration in the log",
        "packed",
        _configurations,
        _take_configuration,
        (BadMessage,),
    ),
    Target("identity", "whose disk it is", "packed", _identities, _take_identity, (StorageError,)),
    Target(
        "snapshot-file",
        "a snapshot's file",
        "bytes",
        lambda: [_snapshot_file()],
        _take_snapshot_file,
    ),
    Target("backup-file", "a backup", "bytes", _backup_files, _take_backup_file),
    Target(
        "snapshot-header",
        "what its header says",
        "packed",
        _snapshot_headers,
        _take_snapshot_header,
        (StorageError,),
    ),
    Target(
        "kv-snapshot",
        "the content of a key-value snapshot",
        "bytes",
        lambda: [_DATA["KvMachine"]],
        _restore_kv,
        (ConfigError,),
    ),
    Target(
        "session-snapshot",
        "that of a machine with sessions",
        "bytes",
        lambda: [_DATA["SessionMachine"]],
        _restore_sessions,
        (ConfigError,),
    ),
    Target(
        "object-snapshot",
        "that of a replicated object",
        "bytes",
        lambda: [_DATA["ReplicatedObject"]],
        _restore_object,
        (ConfigError,),
    ),
    Target("command", "commands of sessions", "packed", _session_commands, _take_command),
    Target(
        "kv-request",
        "commands and questions of the key-value service",
        "packed",
        lambda: [*_COMMANDS, *_QUERIES],
        _take_kv,
        (RaftError,),
    ),
    Target(
        "object-command",
        "commands and questions of replicated objects",
        "packed",
        _object_commands,
        _take_object_command,
        (UnknownCommand,),
        ("note", "notes", "get"),
    ),
    Target(
        "raftlog",
        "a raftlog, into a picture",
        "text",
        lambda: [examples.raftlog().encode()],
        _look_at_log,
        (LogError,),
        ("becomes Leader", "10:02:26.890095 [0] ", "AppendEntries", "[TEST]"),
    ),
    Target(
        "json-lines",
        "JSON lines, into a picture",
        "text",
        _json_lines,
        _look_at_log,
        (LogError,),
        ('"at_s":', '"node":', '"timestamp":'),
    ),
    Target(
        "settings",
        "the file of `trioraft serve`",
        "text",
        _toml_files,
        _take_toml,
        (),
        tuple(option.key for option in OPTIONS.values()),
    ),
    Target(
        "history",
        "the file of a history",
        "text",
        _histories,
        _take_history,
        (HistoryError,),
        ("ok", "failed", "unknown", '"result":'),
    ),
)
BY_NAME: Final = {target.name: target for target in TARGETS}
