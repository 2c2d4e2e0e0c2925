"""Checks of a storage's snapshots, one for each rule of the protocol.

Rules of this file: as in `storage_log_checks`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import msgspec

from ..core.errors import SnapshotGone
from ..core.types import HardState, SnapshotMeta
from .storage_rules import (
    StorageBench,
    StorageRuleBroken,
    configuration,
    entries,
    expect,
)
from .storage_rules import expect_refusal as refused

_CONTENT = bytes(range(256)) * 5000
"""More than a chunk."""

_VOTE = HardState(2, "1")


def _chunks() -> Iterator[bytes]:
    yield b""
    yield _CONTENT[:1]
    yield _CONTENT[1:1_000_000]
    yield _CONTENT[1_000_000:]


def _meta(index: int, term: int, content: bytes = _CONTENT) -> SnapshotMeta:
    """The meta of a snapshot that another node sends."""
    voters = configuration("a", "b")
    return SnapshotMeta(index, term, voters, len(content), zlib.crc32(content))


def _prepared(bench: StorageBench) -> None:
    bench.open()
    bench.storage.append(_VOTE, entries(1, 1, 1, 1, 2, 2), 1)


def _receive(bench: StorageBench, meta: SnapshotMeta, content: bytes = _CONTENT) -> None:
    step = 500_000
    for offset in range(0, max(1, len(content)), step):
        data = content[offset : offset + step]
        wanted = bench.storage.receive_chunk(meta, offset, data)
        expect("a chunk in its place is kept", wanted, offset + len(data))


def _reads(bench: StorageBench, rule: str, meta: SnapshotMeta, content: bytes = _CONTENT) -> None:
    expect(f"{rule} (read)", b"".join(bench.storage.read_snapshot(meta)) == content, True)
    parts: list[bytes] = []
    offset = 0
    while part := bench.storage.read_chunk(meta, offset, 333_333):
        parts.append(part)
        offset += len(part)
    expect(f"{rule} (read in parts)", b"".join(parts) == content, True)


def a_snapshot_survives(bench: StorageBench) -> None:
    """Its meta describes it, and it is there after reopening, with its configuration."""
    _prepared(bench)
    meta = bench.storage.write_snapshot(4, 2, configuration("a", "b"), _chunks())
    expect("the meta describes the snapshot (CRC-32)", meta, _meta(4, 2))
    _reads(bench, "a snapshot can be read at once", meta)
    rule = "a snapshot leaves the log"
    recovered = bench.holds(rule, entries(1, 1, 1, 1, 2, 2), _VOTE)
    expect("the newest snapshot is recovered", recovered.snapshot, meta)
    rule = "its configuration is recovered"
    expect(rule, recovered.configuration, meta.configuration)
    _reads(bench, "a snapshot survives", meta)


def an_empty_snapshot_is_one(bench: StorageBench) -> None:
    """A state machine may have nothing to say."""
    _prepared(bench)
    meta = bench.storage.write_snapshot(1, 1, configuration("a", "b"), ())
    expect("the meta of an empty snapshot", meta, _meta(1, 1, b""))
    expect("an empty snapshot is recovered", bench.reopen().snapshot, meta)
    _reads(bench, "an empty snapshot", meta, b"")
    sent = _meta(3, 1, b"")
    _receive(bench, sent, b"")
    bench.storage.install_snapshot(sent)
    expect("an empty snapshot can be installed", bench.reopen().snapshot, sent)


def a_snapshot_that_fails_is_not_there(bench: StorageBench) -> None:
    """What the state machine raises comes through, and nothing is stored."""

    def breaking() -> Iterator[bytes]:
        yield _CONTENT
        raise LookupError

    _prepared(bench)
    first = bench.storage.write_snapshot(1, 1, configuration("a", "b"), [b"first"])
    try:
        bench.storage.write_snapshot(2, 1, configuration("a", "b"), breaking())
    except LookupError:
        pass
    else:
        raise StorageRuleBroken("an error of the chunks comes through: nothing was raised")
    _reads(bench, "the snapshot before stays", first, b"first")
    expect("what was not finished is not there", bench.reopen().snapshot, first)
    bench.append(6, 2)
    bench.holds("the log is unharmed", entries(1, 1, 1, 1, 2, 2, 2), _VOTE)
    write = bench.storage.write_snapshot
    refused(
        "a snapshot of entries that are not stored is refused",
        lambda: write(7, 2, configuration("a"), [b"x"]),
    )


def what_a_snapshot_stands_for_stays(bench: StorageBench) -> None:
    """Its entries are committed: replacing them is refused, what follows may be replaced."""
    _prepared(bench)
    bench.storage.write_snapshot(4, 2, configuration("a", "b"), [b"state"])
    refused("entries under a snapshot are not replaced", lambda: bench.append(4, 9))
    refused("entries under a snapshot are not cut", lambda: bench.storage.append(None, (), 1))
    bench.append(5, 9)
    bench.holds("what follows may be replaced", [*entries(1, 1, 1, 1, 2), *entries(5, 9)], _VOTE)


def the_last_two_are_kept(bench: StorageBench) -> None:
    """A third one pushes the first out; asking for that is an error, not other data."""
    _prepared(bench)
    metas = [
        bench.storage.write_snapshot(index, term, configuration("a", "b"), [b"%d" % index])
        for index, term in ((1, 1), (3, 1), (5, 2))
    ]
    bench.storage.compact(1, 1)
    for when in ("", " after reopening"):
        for meta in metas[1:]:
            _reads(bench, f"the last two are kept{when}", meta, b"%d" % meta.index)
        read = bench.storage.read_chunk
        refused(
            f"older ones are gone{when}",
            lambda read=read: read(metas[0], 0, 1),  # type: ignore[misc] # - binds now
            SnapshotGone,
        )
        refused(
            f"older ones are gone{when} (read at once)",
            lambda: list(_read(bench, metas[0])),
            SnapshotGone,
        )
        newest = bench.reopen().snapshot
        expect("the newest is recovered", newest, metas[2])
    other = msgspec.structs.replace(metas[2], checksum=metas[2].checksum ^ 1)
    rule = "another snapshot of the same entry is not it"
    refused(rule, lambda: list(_read(bench, other)), SnapshotGone)


def _read(bench: StorageBench, meta: SnapshotMeta) -> Iterator[bytes]:
    return bench.storage.read_snapshot(meta)


def a_transfer_keeps_what_continues(bench: StorageBench) -> None:
    """Out of place, repeated or too long chunks are not kept; a restart resumes (S2, S4)."""
    _prepared(bench)
    meta, other = _meta(9, 3), _meta(8, 3)
    receive = bench.storage.receive_chunk
    expect("a transfer begins at 0", receive(meta, 100, _CONTENT[100:200]), 0)
    expect("the first chunk is kept", receive(meta, 0, _CONTENT[:100]), 100)
    expect("a repeated chunk is not kept twice", receive(meta, 0, _CONTENT[:100]), 100)
    expect("a gap is not kept", receive(meta, 200, _CONTENT[200:300]), 100)
    expect("an overlap is not kept", receive(meta, 50, _CONTENT[50:300]), 100)
    expect("another one's later chunk is not kept", receive(other, 100, _CONTENT[:1]), 0)
    expect("and disturbs nothing", receive(meta, 100, _CONTENT[100:1000]), 1000)
    expect("nothing beyond the end is kept", receive(meta, 1000, _CONTENT), 1000)
    refused("an incomplete snapshot is not installed", lambda: bench.storage.install_snapshot(meta))
    bench.holds("a transfer leaves the log", entries(1, 1, 1, 1, 2, 2), _VOTE)
    receive = bench.storage.receive_chunk
    expect("a restart resumes the transfer", receive(meta, 0, b""), 1000)
    expect("the rest is kept", receive(meta, 1000, _CONTENT[1000:]), len(_CONTENT))
    expect("another transfer begins at its offset 0", receive(other, 0, _CONTENT[:7]), 7)
    expect("and replaces the one before", receive(meta, 1000, _CONTENT[1000:1001]), 0)


def an_installed_snapshot_is_the_base(bench: StorageBench) -> None:
    """A log without the snapshot's last entry is empty after it; the vote stays."""
    _prepared(bench)
    bench.storage.write_snapshot(1, 1, configuration("a"), [b"own"])
    meta = _meta(9, 3)
    _receive(bench, meta)
    bench.storage.install_snapshot(meta)
    _reads(bench, "an installed snapshot can be read", meta)
    recovered = bench.holds("a log that is behind starts over", (), _VOTE, (9, 3))
    expect("the installed snapshot is the newest", recovered.snapshot, meta)
    expect("its configuration is in force", recovered.configuration, meta.configuration)
    refused("an entry under it is refused", lambda: bench.append(9, 3))
    bench.append(10, 3, 3)
    bench.holds("the log goes on after it", entries(10, 3, 3), _VOTE, (9, 3))
    refused("an older snapshot moves nothing back", lambda: _install(bench, _meta(8, 3)))
    bench.holds("and changes nothing", entries(10, 3, 3), _VOTE, (9, 3))


def an_installed_snapshot_keeps_what_follows(bench: StorageBench) -> None:
    """If the log holds the snapshot's last entry, what follows stays; otherwise it goes."""
    _prepared(bench)
    _install(bench, _meta(3, 1))
    bench.holds("what follows the entry stays", entries(4, 2, 2), _VOTE, (3, 1))
    _install(bench, _meta(4, 3))
    bench.holds("an entry of another term is not it", (), _VOTE, (4, 3))
    bench.append(5, 3)
    _install(bench, _meta(5, 3))
    bench.holds("the last entry may be it", (), _VOTE, (5, 3))


def _install(bench: StorageBench, meta: SnapshotMeta) -> None:
    _receive(bench, meta)
    bench.storage.install_snapshot(meta)


def a_broken_transfer_is_thrown_away(bench: StorageBench) -> None:
    """Content that is not the snapshot goes with its last chunk; the storage is as before."""
    _prepared(bench)
    own = bench.storage.write_snapshot(2, 1, configuration("a", "b"), [b"own"])
    meta = _meta(9, 3)
    half = len(_CONTENT) // 2
    for is_resumed in (False, True):
        bench.storage.receive_chunk(meta, 0, b"!" + _CONTENT[1:half])
        if is_resumed:
            bench.reopen()
        wanted = bench.storage.receive_chunk(meta, half, _CONTENT[half:])
        expect("wrong content is thrown away with its last chunk", wanted, 0)
        expect("nothing of it stays", bench.storage.receive_chunk(meta, half, b"x"), 0)
        refused("and it is not installed", lambda: bench.storage.install_snapshot(meta))
    empty = msgspec.structs.replace(meta, size_bytes=0)
    bench.storage.receive_chunk(empty, 0, b"")
    refused("an empty one is checked, too", lambda: bench.storage.install_snapshot(empty))
    recovered = bench.holds("and nothing changed", entries(1, 1, 1, 1, 2, 2), _VOTE)
    expect("the snapshot before is the newest", recovered.snapshot, own)
    _install(bench, meta)
    bench.holds("it can be sent again", (), _VOTE, (9, 3))


SNAPSHOT_CHECKS = (
    a_snapshot_survives,
    an_empty_snapshot_is_one,
    a_snapshot_that_fails_is_not_there,
    what_a_snapshot_stands_for_stays,
    the_last_two_are_kept,
    a_transfer_keeps_what_continues,
    an_installed_snapshot_is_the_base,
    an_installed_snapshot_keeps_what_follows,
    a_broken_transfer_is_thrown_away,
)
