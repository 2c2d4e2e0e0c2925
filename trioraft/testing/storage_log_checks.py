"""Checks of a storage's log and hard state, one for each rule of the protocol.

Rules of this file: a check needs nothing but the protocol, takes milliseconds, and leaves the
storage open; `StorageBench` makes and reopens it.
"""

from __future__ import annotations

from ..core.types import Entry, EntryKind, HardState, Recovered
from .storage_rules import CLUSTER, NODE, StorageBench, configuration, entries, expect
from .storage_rules import expect_refusal as refused


def a_storage_is_new_once(bench: StorageBench) -> None:
    """A new storage says so; one that was opened is not new, whatever was appended (V7)."""
    expect("a new storage gives None", bench.open(), None)
    expect("an opened storage is not new any more", bench.reopen(), Recovered())


def a_storage_has_one_user(bench: StorageBench) -> None:
    """Opening an open storage is refused, and does not disturb its user."""
    bench.open()
    refused("a storage in use is refused", bench.open)
    bench.append(1, 1)
    bench.holds("the first user may go on", entries(1, 1))


def a_storage_belongs_to_one_node(bench: StorageBench) -> None:
    """Another node's or cluster's storage is refused, and stays as it is."""
    bench.open()
    bench.append(1, 1)
    bench.storage.close()
    for cluster_id, node_id in (("another", NODE), (CLUSTER, "another"), (NODE, CLUSTER)):
        refused(
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
    refused("append before open is refused", lambda: bench.append(1, 1))
    bench.open()
    bench.append(1, 1)
    bench.storage.close()
    bench.storage.close()
    refused("append after close is refused", lambda: bench.append(2, 1))
    refused("compact after close is refused", lambda: bench.storage.compact(1, 1))
    refused(
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
        refused(rule, lambda e=log, r=replace_from: storage.append(vote, e, r))  # type: ignore[misc] # - binds now
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
    refused("an entry under the base is refused", lambda: bench.append(7, 4))
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
    refused("compact without a snapshot is refused", lambda: bench.storage.compact(1, 1))
    bench.storage.write_snapshot(2, 1, configuration("a"), [b"state"])
    refused("compact beyond the snapshot is refused", lambda: bench.storage.compact(3, 2))
    refused("compact with a wrong term is refused", lambda: bench.storage.compact(2, 2))
    bench.holds("a refused compaction forgets nothing", entries(1, 1, 1, 2))


LOG_CHECKS = (
    a_storage_is_new_once,
    a_storage_has_one_user,
    a_storage_belongs_to_one_node,
    a_closed_storage_is_not_used,
    an_append_survives,
    hard_state_and_entries_are_apart,
    what_was_cut_stays_cut,
    a_misfit_is_refused,
    compaction_forgets_a_prefix,
    compaction_does_not_bring_back,
    compaction_needs_a_snapshot,
)
