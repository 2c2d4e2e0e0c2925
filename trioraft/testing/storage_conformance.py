"""A conformance suite for storages: run it against your own.

The checks know nothing of any implementation, and each needs nothing but the protocol, takes
milliseconds and leaves the storage open; a failure is a `StorageRuleBroken` whose message names the
rule of the protocol.

```python
MyStorage = SQLiteStorage  # yours

@pytest.mark.parametrize("check", STORAGE_CHECKS, ids=lambda check: check.__name__)
def test_my_storage(check, tmp_path):
    check_storage(lambda: MyStorage(tmp_path), reborn=lambda s: MyStorage(tmp_path), checks=[check])
```
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias, final

import msgspec

from ..core.errors import ConfigError, SnapshotGone, StorageError
from ..core.types import (
    Configuration,
    Entry,
    EntryKind,
    HardState,
    LogIndex,
    Recovered,
    SnapshotMeta,
    Term,
)
from ..node.arguments import check_storage_methods
from ..storage.base import Storage

StorageFactory: TypeAlias = Callable[[], Storage]
"""Gives a new, empty storage that was never opened."""

StorageReborn: TypeAlias = Callable[[Storage], Storage]
"""Gives a storage over what a closed one held, as a new process would; or the same object."""

CLUSTER = "conformance"
NODE = "0"


class StorageRuleBroken(AssertionError):  # noqa: N818 - reads as what it says
    """A storage does not keep the protocol; the message begins with the rule.

    Fault: of the storage that is tested.
    Remedy: keep the rule, as docs/architecture.md explains it.
    """


def expect(rule: str, actual: object, expected: object) -> None:
    if actual != expected:
        raise StorageRuleBroken(f"{rule}: expected {expected!r}, got {actual!r}")


def expect_refusal(
    rule: str, call: Callable[[], object], kind: type[StorageError] = StorageError
) -> None:
    """The call must raise this kind of error."""
    try:
        result = call()
    except kind:
        return
    except StorageError as error:
        result = error
    raise StorageRuleBroken(f"{rule}: expected {kind.__name__}, got {result!r}")


@final
class StorageBench:
    """A storage under test, and how to have it anew.

    Args:
        factory: makes an empty storage.
        reborn: makes a storage anew of one that was closed, with what it holds.
    """

    def __init__(self, factory: StorageFactory, reborn: StorageReborn) -> None:
        self._reborn = reborn
        self.storage: Storage = factory()

    def open(self) -> Recovered | None:
        """Open it as the node it belongs to."""
        return self.storage.open(cluster_id=CLUSTER, node_id=NODE)

    def reopen(self) -> Recovered:
        """Close it, open it anew, and return what it holds.

        Raises:
            StorageRuleBroken: it calls itself new.
        """
        self.storage.close()
        self.storage = self._reborn(self.storage)
        recovered = self.open()
        if recovered is None:
            raise StorageRuleBroken("a storage that was opened once is not new any more: got None")
        return recovered

    def append(self, first: LogIndex, *terms: Term) -> None:
        """Append one entry for each term, from `first` on.

        Args:
            first: the index of the first.
            terms: the term of each.
        """
        self.storage.append(None, entries(first, *terms), first)

    def holds(
        self,
        rule: str,
        log: Sequence[Entry],
        hard_state: HardState | None = None,
        base: tuple[LogIndex, Term] = (0, 0),
    ) -> Recovered:
        """Reopen it, and compare; returns what it held.

        Args:
            rule: what is looked at, for the error.
            log: the entries that must be there.
            hard_state: what must be there; None: is not looked at.
            base: index and term of what was compacted last.
        """
        recovered = self.reopen()
        expect(rule, recovered.entries, tuple(log))
        expect(f"{rule} (base)", (recovered.base_index, recovered.base_term), base)
        if hard_state is not None:
            expect(f"{rule} (hard state)", recovered.hard_state, hard_state)
        return recovered


def entries(first: LogIndex, *terms: Term) -> list[Entry]:
    """One entry for each term; the data says which, so that no other can stand for it."""
    return [
        Entry(index, term, f"entry {index} of term {term}".encode(), EntryKind.COMMAND.value)
        for index, term in enumerate(terms, first)
    ]


def configuration(*voters: str) -> Configuration:
    """A configuration with addresses, because those must survive too."""
    return Configuration(voters, (), ("learner",), {voters[0]: ("127.0.0.1", 4000)})


def a_storage_is_new_once(bench: StorageBench) -> None:
    """A new storage says so; one that was opened is not new, whatever was appended (V7)."""
    expect("a new storage gives None", bench.open(), None)
    expect("an opened storage is not new any more", bench.reopen(), Recovered())


def a_storage_has_one_user(bench: StorageBench) -> None:
    """Opening an open storage is refused, and does not disturb its user."""
    bench.open()
    expect_refusal("a storage in use is refused", bench.open)
    bench.append(1, 1)
    bench.holds("the first user may go on", entries(1, 1))


def a_storage_belongs_to_one_node(bench: StorageBench) -> None:
    """Another node's or cluster's storage is refused, and stays as it is."""
    bench.open()
    bench.append(1, 1)
    bench.storage.close()
    for cluster_id, node_id in (("another", NODE), (CLUSTER, "another"), (NODE, CLUSTER)):
        expect_refusal(
            f"a storage of {CLUSTER!r}, {NODE!r} is refused to {cluster_id!r}, {node_id!r}",
            lambda c=cluster_id, n=node_id: bench.storage.open(  # type: ignore[misc] # - binds now
                cluster_id=c, node_id=n
            ),
        )
    bench.open()
    bench.holds("a refusal changes nothing", entries(1, 1))


def a_closed_storage_is_not_used(bench: StorageBench) -> None:
    """Closing is idempotent; a closed storage takes nothing."""
    bench.storage.close()
    expect_refusal("append before open is refused", lambda: bench.append(1, 1))
    bench.open()
    bench.append(1, 1)
    bench.storage.close()
    bench.storage.close()
    expect_refusal("append after close is refused", lambda: bench.append(2, 1))
    expect_refusal("compact after close is refused", lambda: bench.storage.compact(1, 1))
    expect_refusal(
        "write_snapshot after close is refused",
        lambda: bench.storage.write_snapshot(1, 1, configuration("a"), [b"x"]),
    )
    bench.open()
    bench.holds("what was appended stays", entries(1, 1))


def an_append_survives(bench: StorageBench) -> None:
    """Entries and hard state are there after reopening, with everything in them."""
    bench.open()
    log = [
        Entry(1, 1, b"", EntryKind.NOOP.value),
        Entry(2, 1, bytes(range(256)), EntryKind.CONFIGURATION.value),
        Entry(3, 2**40, b"x" * 3_000_000, EntryKind.COMMAND.value),
    ]
    vote = HardState(2**40, "node \N{SNOWMAN} 1")
    bench.storage.append(vote, log, 1)
    bench.holds("an append survives whole, however large (hazard D6)", log, vote)
    bench.storage.append(None, entries(4, 2**40), 4)
    bench.holds("the next append follows", [*log, *entries(4, 2**40)], vote)


def hard_state_and_entries_are_apart(bench: StorageBench) -> None:
    """Each survives the other being appended; a vote is neither lost nor invented."""
    bench.open()
    bench.storage.append(HardState(3, "2"), (), None)
    bench.holds("a hard state alone survives", (), HardState(3, "2"))
    bench.append(1, 3, 3)
    bench.holds("entries leave the hard state", entries(1, 3, 3), HardState(3, "2"))
    bench.storage.append(HardState(4, None), (), None)
    bench.holds("a hard state leaves the log", entries(1, 3, 3), HardState(4, None))
    bench.storage.append(HardState(5, "1"), entries(2, 5), 2)
    bench.holds("both at once", [*entries(1, 3), *entries(2, 5)], HardState(5, "1"))


def an_older_interface_is_noticed(bench: StorageBench) -> None:
    """Its methods take all that a node calls them with."""
    try:
        check_storage_methods(bench.storage)
    except ConfigError as error:
        raise StorageRuleBroken(str(error)) from error


def an_identity_survives(bench: StorageBench) -> None:
    """Whose disk it is: any bytes, kept until others are stored; alone it makes a storage, too."""
    bench.open()
    append = bench.storage.append
    append(None, (), None, identity=_IDENTITY)
    expect("an identity alone survives", bench.reopen(), Recovered(identity=_IDENTITY))
    bench.storage.append(HardState(1, "1"), entries(1, 1, 1), 1, identity=b"second")
    recovered = bench.holds("with hard state and entries", entries(1, 1, 1), HardState(1, "1"))
    expect("an identity is stored with entries", recovered.identity, b"second")
    bench.append(2, 2)
    bench.storage.append(HardState(2, None), (), None)
    expect("an append without one leaves it", bench.reopen().identity, b"second")
    expect_refusal(
        "entries that do not fit are refused",
        lambda: bench.storage.append(HardState(9, "9"), entries(7, 1), 7, identity=b"third"),
    )
    recovered = bench.holds("nothing of it is stored", [*entries(1, 1), *entries(2, 2)])
    expect("a refused append stores no identity", recovered.identity, b"second")
    bench.storage.append(None, (), 1, identity=b"")
    recovered = bench.holds("with a cut", (), HardState(2, None))
    expect("an empty identity is one", recovered.identity, b"")


def an_identity_outlives_the_log(bench: StorageBench) -> None:
    """It stays when the log is compacted or starts over; a snapshot may bring another."""
    _prepared(bench)
    bench.storage.append(None, (), None, identity=_IDENTITY)
    bench.storage.write_snapshot(4, 2, configuration("a"), [b"state"])
    bench.storage.compact(4, 2)
    expect("compacting leaves the identity", bench.reopen().identity, _IDENTITY)
    _install(bench, _meta(5, 2))
    expect("a snapshot without one leaves it", bench.reopen().identity, _IDENTITY)
    _receive(bench, _meta(5, 2))
    bench.storage.install_snapshot(_meta(5, 2), identity=b"second")
    expect("a snapshot of what is stored brings one", bench.reopen().identity, b"second")
    incomplete, meta = _meta(8, 3), _meta(9, 3)
    bench.storage.receive_chunk(incomplete, 0, _CONTENT[:100])
    expect_refusal(
        "an incomplete snapshot is not installed",
        lambda: bench.storage.install_snapshot(incomplete, identity=b"third"),
    )
    expect("and brings no identity", bench.reopen().identity, b"second")
    _receive(bench, meta)
    bench.storage.install_snapshot(meta, identity=b"third")
    recovered = bench.holds("a log that is behind starts over", (), _VOTE, (9, 3))
    expect("with the identity that came with it", recovered.identity, b"third")
    _install(bench, _meta(12, 3))
    expect("and leaves it if none came", bench.reopen().identity, b"third")


def what_was_cut_stays_cut(bench: StorageBench) -> None:
    """`replace_from` cuts wherever it is, and nothing comes back (hazards D2, D3)."""
    bench.open()
    bench.append(1, 1, 1, 1, 1)
    bench.append(5, 1, 1)
    bench.append(3, 2)
    bench.holds("cut inside an earlier append", [*entries(1, 1, 1), *entries(3, 2)])
    bench.append(4, 2, 2)
    bench.append(4, 3)
    bench.holds("cut at an append", [*entries(1, 1, 1), *entries(3, 2, 3)])
    bench.storage.append(None, (), 3)
    bench.holds("cut without entries", entries(1, 1, 1))
    bench.append(3, 4)
    bench.append(1, 5, 5)
    bench.holds("replace everything", entries(1, 5, 5))
    bench.storage.append(None, (), 1)
    bench.holds("cut everything", ())
    bench.append(1, 6)
    bench.holds("and begin again", entries(1, 6))


def a_misfit_is_refused(bench: StorageBench) -> None:
    """Entries that leave a gap, or are not where they say, are refused as a whole."""
    bench.open()
    bench.storage.append(HardState(1, "0"), entries(1, 1, 1), 1)
    storage = bench.storage
    vote = HardState(9, "9")
    gap = [*entries(3, 1), *entries(5, 1)]
    for rule, log, replace_from in (
        ("a gap is refused", entries(4, 1), 4),
        ("a cut beyond the end is refused", [], 5),
        ("entries that start elsewhere are refused", entries(2, 1), 3),
        ("entries with a gap are refused", gap, 3),
        ("entries without a place are refused", entries(3, 1), None),
        ("a place before the log is refused", entries(0, 1), 0),
    ):
        expect_refusal(rule, lambda e=log, r=replace_from: storage.append(vote, e, r))  # type: ignore[misc] # - binds now
    bench.holds("a refused append stores nothing", entries(1, 1, 1), HardState(1, "0"))


def compaction_forgets_a_prefix(bench: StorageBench) -> None:
    """Entries up to the base go, what follows stays, and so does the hard state."""
    bench.open()
    vote = HardState(3, "1")
    bench.storage.append(vote, entries(1, 1, 1, 2, 2, 3), 1)
    bench.append(6, 3)
    bench.storage.write_snapshot(5, 3, configuration("a"), [b"state"])
    bench.storage.compact(3, 2)
    bench.holds("compacted inside an append", entries(4, 2, 3, 3), vote, (3, 2))
    bench.storage.compact(2, 1)
    bench.holds("the base never goes back", entries(4, 2, 3, 3), vote, (3, 2))
    bench.storage.compact(5, 3)
    bench.append(7, 3)
    bench.holds("compacted at an append's end", entries(6, 3, 3), vote, (5, 3))
    bench.storage.write_snapshot(7, 3, configuration("a"), [b"state"])
    bench.storage.compact(7, 3)
    bench.holds("compacted to the end", (), vote, (7, 3))
    expect_refusal("an entry under the base is refused", lambda: bench.append(7, 4))
    bench.append(8, 4)
    bench.holds("the log goes on", entries(8, 4), vote, (7, 3))


def compaction_does_not_bring_back(bench: StorageBench) -> None:
    """What was cut before compaction stays cut after it (hazard D3)."""
    bench.open()
    bench.append(1, 1, 1, 1, 1, 1, 1)
    bench.append(3, 2)
    bench.append(4, 2, 2)
    bench.append(5, 3)
    log = [*entries(1, 1, 1), *entries(3, 2, 2, 3)]
    bench.holds("before", log)
    bench.storage.write_snapshot(5, 3, configuration("a"), [b"state"])
    for base_index in (1, 2, 3, 4, 5):
        base_term = log[base_index - 1].term
        bench.storage.compact(base_index, base_term)
        rule = f"compacted to {base_index}"
        bench.holds(rule, log[base_index:], None, (base_index, base_term))


def compaction_needs_a_snapshot(bench: StorageBench) -> None:
    """Entries that no snapshot stands for are not forgotten."""
    bench.open()
    bench.append(1, 1, 1, 2)
    expect_refusal("compact without a snapshot is refused", lambda: bench.storage.compact(1, 1))
    bench.storage.write_snapshot(2, 1, configuration("a"), [b"state"])
    expect_refusal("compact beyond the snapshot is refused", lambda: bench.storage.compact(3, 2))
    expect_refusal("compact with a wrong term is refused", lambda: bench.storage.compact(2, 2))
    bench.holds("a refused compaction forgets nothing", entries(1, 1, 1, 2))


_CONTENT = bytes(range(256)) * 5000
"""More than a chunk."""

_VOTE = HardState(2, "1")

_IDENTITY = bytes(range(256)) * 20
"""Longer than what is usual."""


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
    expect_refusal(
        "a snapshot of entries that are not stored is refused",
        lambda: write(7, 2, configuration("a"), [b"x"]),
    )


def what_a_snapshot_stands_for_stays(bench: StorageBench) -> None:
    """Its entries are committed: replacing them is refused, what follows may be replaced."""
    _prepared(bench)
    bench.storage.write_snapshot(4, 2, configuration("a", "b"), [b"state"])
    expect_refusal("entries under a snapshot are not replaced", lambda: bench.append(4, 9))
    expect_refusal(
        "entries under a snapshot are not cut", lambda: bench.storage.append(None, (), 1)
    )
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
        expect_refusal(
            f"older ones are gone{when}",
            lambda read=read: read(metas[0], 0, 1),  # type: ignore[misc] # - binds now
            SnapshotGone,
        )
        expect_refusal(
            f"older ones are gone{when} (read at once)",
            lambda: list(_read(bench, metas[0])),
            SnapshotGone,
        )
        newest = bench.reopen().snapshot
        expect("the newest is recovered", newest, metas[2])
    other = msgspec.structs.replace(metas[2], checksum=metas[2].checksum ^ 1)
    rule = "another snapshot of the same entry is not it"
    expect_refusal(rule, lambda: list(_read(bench, other)), SnapshotGone)


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
    expect_refusal(
        "an incomplete snapshot is not installed", lambda: bench.storage.install_snapshot(meta)
    )
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
    expect_refusal("an entry under it is refused", lambda: bench.append(9, 3))
    bench.append(10, 3, 3)
    bench.holds("the log goes on after it", entries(10, 3, 3), _VOTE, (9, 3))
    expect_refusal("an older snapshot moves nothing back", lambda: _install(bench, _meta(8, 3)))
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
        expect_refusal("and it is not installed", lambda: bench.storage.install_snapshot(meta))
    empty = msgspec.structs.replace(meta, size_bytes=0)
    bench.storage.receive_chunk(empty, 0, b"")
    expect_refusal("an empty one is checked, too", lambda: bench.storage.install_snapshot(empty))
    recovered = bench.holds("and nothing changed", entries(1, 1, 1, 1, 2, 2), _VOTE)
    expect("the snapshot before is the newest", recovered.snapshot, own)
    _install(bench, meta)
    bench.holds("it can be sent again", (), _VOTE, (9, 3))


StorageCheck: TypeAlias = Callable[[StorageBench], None]
"""Checks one rule; its name and docstring say which."""

STORAGE_CHECKS: tuple[StorageCheck, ...] = (
    an_older_interface_is_noticed,
    a_storage_is_new_once,
    a_storage_has_one_user,
    a_storage_belongs_to_one_node,
    a_closed_storage_is_not_used,
    an_append_survives,
    hard_state_and_entries_are_apart,
    what_was_cut_stays_cut,
    a_misfit_is_refused,
    an_identity_survives,
    compaction_forgets_a_prefix,
    compaction_does_not_bring_back,
    compaction_needs_a_snapshot,
    a_snapshot_survives,
    an_empty_snapshot_is_one,
    a_snapshot_that_fails_is_not_there,
    what_a_snapshot_stands_for_stays,
    the_last_two_are_kept,
    a_transfer_keeps_what_continues,
    an_installed_snapshot_is_the_base,
    an_installed_snapshot_keeps_what_follows,
    an_identity_outlives_the_log,
    a_broken_transfer_is_thrown_away,
)
"""Every rule of the protocol that can be checked from outside."""


def check_storage(
    factory: StorageFactory,
    *,
    reborn: StorageReborn = lambda storage: storage,
    checks: Iterable[StorageCheck] = STORAGE_CHECKS,
) -> None:
    """Check that a storage keeps the protocol (`trioraft.storage.base.Storage`).

    Calls block if the storage does: run it in a thread beside Trio, or in a plain test.

    Args:
        factory: gives a new, empty storage for each check.
        reborn: gives a storage over what a closed one held, as a new process would. Without it
            the same object is opened again.
        checks: which rules; all of them if not given.

    Raises:
        StorageRuleBroken: the first rule that is not kept, with the values.
    """
    for check in checks:
        bench = StorageBench(factory, reborn)
        try:
            check(bench)
        finally:
            bench.storage.close()
