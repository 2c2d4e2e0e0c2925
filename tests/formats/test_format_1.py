"""Today's code reads all of format 1, and format 1 reads what today's code writes.

The second holds as long as no feature is switched on, which is when members of both may be in one
cluster (docs/upgrading.md). The reader of format 1 is made of its own structs, as they were.
"""

from __future__ import annotations

import io
import random
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
import pytest

from tests.formats.format_1 import clients, disk, kv, objects, peers, sessions
from tests.formats.format_1.make_directories import JOINT, RECEIVED
from tests.golden import examples
from tests.golden.files import Section, sections_of
from trioraft import Limits, LocalClient, MemoryNetwork, SQLiteStorage, open_node
from trioraft.core.types import Entry, EntryKind, HardState
from trioraft.kv import KvClient, KvMachine
from trioraft.machines.sessions import SessionMachine
from trioraft.net.framing import LENGTH_BYTES
from trioraft.rpc import protocol
from trioraft.storage.snapshot_files import read_header

FOLDER: Final = Path(__file__).parent / "format_1"
NEWS: Final = msgspec.msgpack.Decoder[Any](protocol.NodeNews).decode
WITHIN: Final = {
    "Result of GetStatus": msgspec.msgpack.Decoder(protocol.ServerStatus).decode,
    "Item, RoleNews": NEWS,
    "Item, StatusNews": NEWS,
}


def sections(name: str) -> dict[str, Section]:
    """What was recorded; nothing of a file that came later."""
    if not (FOLDER / "frames" / name).exists():
        return {}
    return dict(sections_of((FOLDER / "frames" / name).read_text(encoding="utf-8")))


# -- today's code reads format 1 ---------------------------------------------------------------


@pytest.mark.parametrize("name", examples.EXAMPLES)
def test_today_reads_every_frame_of_format_1(name: str) -> None:
    """What is read is, shown, what was recorded: with the defaults of whatever was added since."""
    recorded = sections(name)
    for example in examples.EXAMPLES[name]():
        if example.decode is not None and example.name in recorded:
            read: Any = example.decode(recorded[example.name].data)
            within = WITHIN.get(example.name)
            if within is not None:  # a value that is opaque there: read it, too
                value: Any = example.value
                assert within(read.value) == within(value.value), example.name
            else:
                assert read == example.value, example.name


@pytest.mark.parametrize("name", examples.EXAMPLES)
def test_no_frame_of_format_1_goes_untried(name: str) -> None:
    now = {example.name for example in examples.EXAMPLES[name]()}
    assert sections(name).keys() <= now


def test_today_encodes_commands_byte_for_byte_as_format_1() -> None:
    """They are hashed, compared and stored for years: here nothing may be added silently."""
    for name in ("kv_requests.txt", "log_commands.txt"):
        recorded = sections(name)
        for example in examples.EXAMPLES[name]():
            if example.name in recorded:
                assert example.data == recorded[example.name].data, example.name


# -- format 1 reads today's --------------------------------------------------------------------


def reader(kind: Any) -> Any:
    return msgspec.msgpack.Decoder(kind).decode


def as_format_1(value: object, kind: Any) -> None:
    """What today's code encodes is read by a struct of format 1, field for field."""
    decoded = reader(kind)(msgspec.msgpack.encode(value))
    assert_is_same(decoded, value)


def assert_is_same(decoded: Any, value: Any) -> None:
    if isinstance(decoded, msgspec.Struct):
        assert type(decoded).__name__ == type(value).__name__
        for field in msgspec.structs.fields(type(decoded)):
            assert_is_same(getattr(decoded, field.name), getattr(value, field.name))
    elif isinstance(decoded, list | tuple):
        assert len(decoded) == len(value)
        for one, other in zip(decoded, value, strict=True):
            assert_is_same(one, other)
    elif isinstance(decoded, dict):
        assert_is_same(sorted(decoded.items()), sorted(value.items()))
    elif not isinstance(decoded, msgspec.Raw):
        assert decoded == value


def known_to(union: Any, values: Iterable[object]) -> list[object]:
    """Those of a kind that format 1 has: it is never sent another."""
    names = {kind.__name__ for kind in get_args(union)}
    return [value for value in values if type(value).__name__ in names]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (peers.Message, examples.PEER_MESSAGES),
        (clients.Request, examples.REQUESTS),
        (clients.Answer, [answer for _, answer in examples._answers()]),
        (clients.NodeNews, examples.NEWS),
        (kv.Command, examples.KV_COMMANDS),
        (kv.Query, examples.KV_QUERIES),
        (kv.Result, examples.KV_RESULTS),
        (kv.Answer, examples.KV_ANSWERS),
    ],
    ids=["messages", "requests", "answers", "news", "commands", "queries", "results", "found"],
)
def test_format_1_reads_what_today_sends(kind: Any, values: Iterable[object]) -> None:
    known = known_to(kind, values)
    assert len({type(value) for value in known}) == len(get_args(kind))
    for value in known:
        as_format_1(value, kind)


def test_format_1_reads_todays_handshakes() -> None:
    frames = {example.name: example for example in examples.peer_frames()}
    hello = reader(peers.PeerHello)(frames["Hello"].data[LENGTH_BYTES:])
    assert (hello.magic, hello.version, hello.sender) == ("trioraft", 3, "1")
    for name in ("HelloReply, welcome", "HelloReply, refused"):
        reply = reader(peers.HelloReply)(frames[name].data[LENGTH_BYTES:])
        assert (reply.magic, reply.version) == ("trioraft", 3)
    told = {example.name: example for example in examples.client_frames()}
    asked = reader(clients.ClientHello)(told["Hello"].data[LENGTH_BYTES:])
    assert (asked.magic, asked.version) == ("trioraft-client", 1)
    for name in ("Welcome", "Welcome, refused"):
        welcome = reader(clients.Welcome)(told[name].data[LENGTH_BYTES:])
        assert (welcome.magic, welcome.version) == ("trioraft-client", 1)


def test_format_1_reads_what_today_puts_into_the_log() -> None:
    commands = {example.name: example.data for example in examples.log_commands()}
    for name in ("PlainCommand", "OpenSession", "SessionCommand", "CloseSession"):
        assert commands[name][:1] == b"\x01"
        assert type(reader(sessions.Envelope)(commands[name][1:])).__name__ == name
    called = reader(objects.MethodCall | objects.Activate)
    for name in ("MethodCall", "Activate"):
        assert type(called(commands[name])).__name__ == name


def test_format_1_reads_what_today_puts_on_a_disk() -> None:
    rows = {example.name: example for example in examples.sqlite_rows()}
    kinds = {"meta owner": disk.Owner, "meta base": disk.Base, "meta identity": disk.StoredIdentity}
    for name, kind in kinds.items():
        reader(kind)(rows[name].data)
    assert reader(int)(rows["meta format"].data) == 2
    records = [example for name, example in rows.items() if name.startswith("record ")]
    for example in records:
        write = reader(disk.StoredWrite)(example.data)
        for entry in write.entries:
            if entry.kind == peers.EntryKind.CONFIGURATION:
                configuration = reader(peers.Configuration)(entry.data)
                assert configuration.voters == examples.JOINT.voters
    assert len(records) == 3


# -- directories -------------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A copy of a sample; a test must not change the sample itself."""
    path = tmp_path / "node"
    shutil.copytree(FOLDER / "directories" / request.param, path)
    return path


@pytest.mark.parametrize("directory", ["member"], indirect=True)
async def test_a_member_of_format_1_goes_on(directory: Path) -> None:
    """Its log, its snapshot, its configurations, its sessions and its keys are all there."""
    machine = SessionMachine(KvMachine(), sessions_max=8)
    async with open_node(
        "1",
        voters=["1"],
        machine=machine,
        storage=SQLiteStorage(directory),
        transport=MemoryNetwork(random.Random(1)).transport("1"),
        cluster_id="blue",
        limits=Limits(snapshot_tail_entries=2),
        rng=random.Random(2),
    ) as node:
        status = await node.wait(lambda status: status.leader_id == "1")
        assert status.configuration.voters == ("1",)
        assert status.configuration.learners == ("3",)
        assert status.configuration.addresses == {"3": ("node-3", 7003)}
        assert status.uuid is not None
        local = KvClient(LocalClient(node, machine))
        assert await local.get(b"before") == b"a snapshot"
        assert (await local.increment(b"counted", 0)).number == 42
        assert await local.get(b"after") == b"the snapshot"
        assert await local.get(b"leased") == b"for an hour"
        await node.take_snapshot()
    again = SQLiteStorage(directory)
    recovered = again.open(cluster_id="blue", node_id="1")
    again.close()
    assert recovered is not None
    assert recovered.snapshot is not None


@pytest.mark.parametrize("directory", ["killed"], indirect=True)
def test_a_storage_that_format_1_left_open_is_read(directory: Path) -> None:
    storage = SQLiteStorage(directory)
    recovered = storage.open(cluster_id="blue", node_id="4")
    try:
        assert recovered is not None
        assert recovered.hard_state == HardState(9, "4", 450)
        assert (recovered.base_index, recovered.base_term) == (2, 1)
        assert recovered.entries[1:] == (
            Entry(4, 2, b"in place of another"),
            Entry(5, 8, b"last"),
        )
        assert recovered.entries[0].kind == EntryKind.CONFIGURATION
        assert recovered.identity == b"whose disk this is"
        assert recovered.configuration == JOINT
        meta = recovered.snapshot
        assert meta is not None
        assert (meta.index, meta.term) == (3, 1)
        assert b"".join(storage.read_snapshot(meta)) == b"a newer snapshot"
        # A snapshot that was half here is gone on with from where it stopped.
        assert storage.receive_chunk(RECEIVED, 5, b"56789") == RECEIVED.size_bytes
        storage.install_snapshot(RECEIVED)
        assert b"".join(storage.read_snapshot(RECEIVED)) == b"0123456789"
    finally:
        storage.close()


def test_format_1_reads_the_head_of_a_snapshot_of_today() -> None:
    (example,) = examples.snapshot_file()
    header = read_header(io.BytesIO(example.data), "a golden file")
    body = msgspec.msgpack.encode(header.description)
    assert reader(disk.Description)(body).meta.index == header.description.meta.index
