"""What commands show of a server, and of keys and values, that want to take over the terminal.

Rules of this file: the server says `EVIL` wherever a text can stand, over a real socket; whatever a
command writes then must be harmless, and its JSON must still mean the same.
"""

from __future__ import annotations

import json
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import Result as Ran

from benchmarks.processes import PATIENCE_S, Process, python, shown
from tests.serve.commands import run
from trioraft.core.escaping import json_escaped
from trioraft.core.types import Address, Configuration, Entry, EntryKind, HardState
from trioraft.kv import commands as kv
from trioraft.machines.sessions import OpenSession, SessionCommand, decode_envelope
from trioraft.member.identity import Identity, encode_identity
from trioraft.net.framing import Deframer
from trioraft.rpc.protocol import (
    FRAME_BYTES_MAX,
    MAGIC,
    PROTOCOL_VERSION,
    Answer,
    Cancel,
    ChangeStatus,
    Failure,
    GetStatus,
    Item,
    PeerStatus,
    Propose,
    Query,
    Request,
    Result,
    RoleNews,
    ServerStatus,
    StatusNews,
    TransferLeadership,
    Watch,
    WatchStatus,
    Welcome,
    decode_hello,
    decode_request,
    encode_value,
    frame,
)
from trioraft.storage.sqlite import SQLiteStorage

EVIL = "a\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\u200b\x00\x7f\r\nforged: all is well\x1b[8m"
"""Clears the screen, names the window, colours and hides text, turns it round, forges a line."""
EVIL_BYTES = EVIL.encode() + b"\xff\xc2"


def assert_harmless(output: str) -> None:
    """Nothing but printable characters, in lines that are the command's own."""
    raw = {c for c in output if not c.isprintable() and c not in "\n\t"}
    assert raw == set(), ascii(output)
    assert not any(line.startswith("forged") for line in output.splitlines()), output


def evil_status(address: Address, role: str) -> ServerStatus:
    return ServerStatus(
        EVIL,
        EVIL,
        role,
        term=3,
        leader_id=EVIL,
        last_index=9,
        commit_index=9,
        applied_index=7,
        configuration=Configuration((EVIL, "0"), (EVIL,), (EVIL + "2",), {EVIL: (EVIL, 1)}),
        configuration_index=1,
        progress={EVIL: PeerStatus(1, 2, EVIL)},
        last_role_change=EVIL,
        change=ChangeStatus(EVIL, (EVIL,), (EVIL,)),
        client_addresses={EVIL: address},
        links={EVIL: True},
        waiting_for=(EVIL,),
        problems={EVIL: EVIL},
        uuid=EVIL,
        differing={EVIL: 1},
    )


class EvilServer:
    """A client port on the loopback, in threads of its own: it answers everything with `EVIL`."""

    def __init__(self) -> None:
        self.fails = False
        """Whether it fails whatever it is asked, with texts as evil."""
        self.refuses = False
        """Whether it refuses connections, with such a reason."""
        self.role = "Leader"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    @property
    def address(self) -> Address:
        host, port = self._listener.getsockname()
        return host, port

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in self._threads:
            thread.join()

    def _start(self, work: Callable[..., None], *given: Any) -> None:
        thread = threading.Thread(target=work, args=given)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                connection, _ = self._listener.accept()
                self._connections.append(connection)
                self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        deframer, is_known = Deframer(FRAME_BYTES_MAX), False
        with suppress(OSError):  # closed
            while data := connection.recv(65536):
                deframer.feed(data)
                while (payload := deframer.next_payload()) is not None:
                    if is_known:
                        for answer in self._answers(decode_request(payload)):
                            connection.sendall(frame(answer))
                        continue
                    is_known = True
                    connection.sendall(frame(self._welcome(decode_hello(payload).cluster_id)))

    def _welcome(self, cluster_id: str) -> Welcome:
        if self.refuses:
            return Welcome(MAGIC, PROTOCOL_VERSION, "too-many", EVIL)
        return Welcome(MAGIC, PROTOCOL_VERSION, node_id=EVIL, cluster_id=cluster_id)

    def _answers(self, request: Request) -> Iterator[Answer]:
        status = evil_status(self.address, self.role)
        match request:
            case Cancel():
                return
            case _ if self.fails:
                yield Failure(request.id, EVIL, EVIL, EVIL, EVIL)
            case GetStatus():
                yield Result(request.id, encode_value(status))
            case TransferLeadership():
                yield Result(request.id, encode_value(EVIL))
            case Propose(data=data):
                yield Result(request.id, encode_value(_done(data)))
            case Query(data=data):
                yield Result(request.id, encode_value(_found(data)))
            case Watch():
                change = kv.Change(5, EVIL_BYTES, EVIL_BYTES)
                gone = kv.Change(6, EVIL_BYTES, None)
                yield Item(request.id, encode_value(kv.Changed((change, gone), 7)))
            case WatchStatus():
                role = RoleNews(EVIL, EVIL, EVIL + "2", 3, EVIL)
                yield Item(request.id, encode_value(role))
                yield Item(request.id, encode_value(StatusNews(status)))
            case _:
                yield Result(request.id, encode_value(5))


def _done(data: bytes) -> Any:
    envelope = decode_envelope(data)
    match envelope:
        case OpenSession():
            return 1
        case SessionCommand():
            command = kv.decode_command(envelope.data)
            if isinstance(command, kv.Cas):
                return kv.Swapped(5, False, EVIL_BYTES)
            return kv.Written(5, True, EVIL_BYTES)
        case _:
            return None


def _found(data: bytes) -> Any:
    match kv.decode_query(data):
        case kv.Get():
            return kv.Found(5, EVIL_BYTES, 4)
        case _:
            return kv.Page(5, (kv.Pair(EVIL_BYTES, EVIL_BYTES, 4),), False)


@pytest.fixture
def server() -> Iterator[EvilServer]:
    server = EvilServer()
    try:
        yield server
    finally:
        server.close()


def ask(server: EvilServer, *words: str) -> Ran:
    environment = {"TRIORAFT_ADDRESSES": shown(server.address), "TRIORAFT_TIMEOUT": "500ms"}
    return run(*words, env=environment)


COMMANDS: Mapping[str, tuple[str, ...]] = {
    "put": ("kv", "put", "k", "v", "--previous"),
    "append": ("kv", "append", "k", "v", "--previous"),
    "delete": ("kv", "delete", "k", "--previous"),
    "cas": ("kv", "cas", "k", "v", "--expect", "w"),
    "range": ("kv", "range"),
    "kv watch": ("kv", "watch", "--count", "2"),
    "status": ("admin", "status"),
    "live": ("admin", "status", "--check", "live"),
    "ready": ("admin", "status", "--check", "ready"),
    "transfer": ("admin", "transfer"),
    "add-learner": ("admin", "add-learner", "x"),
    "promote": ("admin", "promote", "x"),
    "remove": ("admin", "remove", "x"),
    "replace": ("admin", "replace", "x"),
    "snapshot": ("admin", "snapshot"),
    "watch": ("watch", "--once"),
}
JSON = ("put", "append", "delete", "cas", "range", "kv watch", "status")


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_no_command_lets_a_server_speak_to_the_terminal(
    words: tuple[str, ...], server: EvilServer
) -> None:
    done = ask(server, *words)
    assert done.output
    assert_harmless(done.output)
    server.fails = True
    failed = ask(server, *words)
    assert failed.exit_code != 0
    assert r"\x1b[2J" in failed.output, "it says what the server said"
    assert_harmless(failed.output)


@pytest.mark.parametrize("words", [COMMANDS["put"], COMMANDS["status"], COMMANDS["watch"]])
def test_nor_one_that_refuses_the_connection(words: tuple[str, ...], server: EvilServer) -> None:
    server.refuses = True
    refused = ask(server, *words)
    assert r"\x1b[2J" in refused.output
    assert_harmless(refused.output)


@pytest.mark.parametrize("words", [COMMANDS[name] for name in JSON], ids=JSON)
def test_json_is_harmless_and_exact(words: tuple[str, ...], server: EvilServer) -> None:
    answered = ask(server, *words, "--json")
    assert_harmless(answered.stdout)
    if words[1] == "status":
        assert json.loads(answered.stdout)["servers"][shown(server.address)]["node_id"] == EVIL


def test_json_of_text_means_that_text() -> None:
    for text in (EVIL, "😀\U000e0001\ue000", "\udc80"):
        written = json_escaped(json.dumps({"a": text}, ensure_ascii=False))
        assert json.loads(written) == {"a": text}
        assert_harmless(written)


def test_who_is_not_watched_is_named_harmlessly(server: EvilServer) -> None:
    """The headline of a picture without its leader."""
    server.role = "Follower"
    output = ask(server, "watch", "--once").output
    assert "leads, and is not watched" in output
    assert_harmless(output)


# -- a terminal, and a pipe ------------------------------------------------------------------


def on_a_terminal(server: EvilServer, *words: str, until: bytes) -> bytes:
    """What a command writes to a terminal, up to this."""
    controller, terminal = os.openpty()
    environment = {**os.environ, "TRIORAFT_ADDRESSES": shown(server.address), "TERM": "xterm"}
    process = Process(python("trioraft", *words), environment=environment, terminal=terminal)
    written = b""
    try:
        with suppress(OSError):  # EIO: it has ended
            while until not in written and select.select([controller], [], [], PATIENCE_S)[0]:
                written += os.read(controller, 65536)
    finally:
        process.kill()
        os.close(controller)
    return written


def test_a_value_on_a_terminal_is_escaped(server: EvilServer) -> None:
    written = on_a_terminal(server, "kv", "get", "k", until=b"\\xc2\r\n")
    text = written.decode().replace("\r\n", "\n")
    assert text.endswith("\\xff\\xc2\n")
    assert {c for c in text if not c.isprintable()} == {"\n"}, "a value keeps its lines"


def test_unless_its_bytes_are_asked_for(server: EvilServer) -> None:
    written = on_a_terminal(server, "kv", "get", "k", "--raw", until=b"\xff\xc2")
    assert written == EVIL_BYTES.replace(b"\n", b"\r\n")  # the terminal's own doing


def test_into_a_pipe_a_value_is_exact(server: EvilServer) -> None:
    assert ask(server, "kv", "get", "k").stdout_bytes == EVIL_BYTES + b"\n"
    assert ask(server, "kv", "get", "k", "--raw").stdout_bytes == EVIL_BYTES


@pytest.mark.parametrize(
    ("words", "until"),
    [(("watch",), b"\\x1b[2J"), (("admin", "status"), b"sees the cluster")],
    ids=["watch", "status"],
)
def test_pictures_on_a_terminal_are_ours_alone(
    words: tuple[str, ...], until: bytes, server: EvilServer
) -> None:
    written = on_a_terminal(server, *words, until=until)
    assert until in written
    for evil in (b"\x1b[2J", b"\x1b]0;", b"\x07", b"\x1b[8m", *map(str.encode, "\u202e\u200b\x9b")):
        assert evil not in written, evil


def test_news_of_others_are_lines_of_ours(server: EvilServer) -> None:
    for words in (("watch",), ("watch", "--json")):
        environment = {**os.environ, "TRIORAFT_ADDRESSES": shown(server.address)}
        process = Process(python("trioraft", *words), environment=environment)
        try:
            line = process.next_line()
        finally:
            process.kill()
        assert_harmless(line)
        if "--json" in words:
            news = msgspec.json.decode(line)["news"]
            assert news["reason"] == EVIL


# -- files -----------------------------------------------------------------------------------


def test_a_log_cannot_speak_to_the_terminal(tmp_path: Path) -> None:
    log, text = tmp_path / "evil.log", EVIL.replace("\x00", "")  # which no log has
    event = {"event": EVIL, "node": EVIL, "timestamp": EVIL, "at_s": 1.0, "level": EVIL}
    log.write_text(
        f"=== RUN   {text}\n10:02:26.890095 [0] becomes Candidate (currentTerm=1); log=[]\n"
        f"10:02:27.890095 [0] {text}\n--- FAIL: {text} (0.31s)\n" + json.dumps(event) + "\n",
        encoding="utf-8",
    )
    for words in ((), ("--json",)):
        done = run("viz", str(log), "--out", str(tmp_path / "pages"), *words)
        assert done.exit_code == 0
        assert_harmless(done.output)


def test_a_data_directory_cannot_either(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    storage = SQLiteStorage(data)
    storage.open(cluster_id=EVIL, node_id=EVIL)
    identity = encode_identity(Identity(incarnation=1))
    storage.append(HardState(1, EVIL), (Entry(1, 1, b"", EntryKind.NOOP),), 1, identity)
    storage.close()
    assert json.loads(run("recover", str(data), "--json").stdout)["node_id"] == EVIL
    for words in ((), ("--json",), ("--voters", EVIL)):
        done = run("recover", str(data), *words, input="no\n")
        assert_harmless(done.output)
