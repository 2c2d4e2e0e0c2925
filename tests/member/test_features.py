"""Features, as a member has them: whom it meets, what it applies, what it says of itself."""

from __future__ import annotations

import random

import msgspec
import pytest

from tests.support import introduction
from trioraft.core.errors import EntryAltered, PeerRefused
from trioraft.core.features import ENTRY_CHECKSUMS, checked_command
from trioraft.core.types import Configuration, Entry, EntryKind, Recovered, SnapshotMeta
from trioraft.member.identity import opened
from trioraft.member.lineage import Lineage
from trioraft.member.status import status_of

from .by_hand import ByHand

ON = (ENTRY_CHECKSUMS,)


def lineage(*, features: tuple[str, ...] = ON) -> Lineage:
    identity = opened(
        None, cluster_id="c", node_id="0", voters=("0",), others=("1",), rng=random.Random(1)
    )
    return Lineage(
        "0",
        cluster_id="c",
        identity=identity,
        voters=("0",),
        others=("1",),
        addresses={},
        features=features,
    )


def test_a_member_says_what_it_can_and_remembers_what_others_can() -> None:
    by_hand = ByHand(("0", "1"), lineage=lineage())
    own = by_hand.member.lineage
    assert own is not None
    assert own.introduction("1").features == ON
    assert lineage(features=()).introduction("1").features == ()
    by_hand.member.meet(introduction("1", "0", features=ON), 0.0, is_live=True)
    assert by_hand.member.raft.can == {"1": ON}
    by_hand.member.meet(introduction("1", "0", opening=(2, 2)), 0.0, is_live=True)
    assert by_hand.member.raft.can == {"1": ()}  # it runs an earlier release now


def recovered() -> Recovered:
    """A log in which it is on, and committed."""
    configuration = Configuration(("0", "1"), index=3, features=ON)
    meta = SnapshotMeta(3, 1, configuration, 0, 0)
    return Recovered(
        base_index=3, base_term=1, configuration=configuration, snapshot=meta, incarnation=5
    )


def test_whoever_cannot_is_refused_and_nothing_it_says_is_heeded() -> None:
    by_hand = ByHand(("0", "1"), lineage=lineage(), recovered=recovered())
    raft = by_hand.member.raft
    old = introduction("1", "0")
    for _ in range(2):  # with each message, where there are no connections
        with pytest.raises(PeerRefused, match="which node '1' cannot do"):
            by_hand.member.meet(old, 0.0, is_live=True)
    assert by_hand.member.lineage is not None
    assert "1" not in by_hand.member.lineage.met
    assert by_hand.member.meet(introduction("1", "0", features=ON), 0.0, is_live=True)
    status = status_of(raft, {})
    assert status.can == {"0": ON, "1": ON}
    assert status.configuration.features == ON


def test_commands_reach_the_machine_without_their_checksums() -> None:
    by_hand = ByHand()
    by_hand.member.applies.put((checked_command(1, 1, b"one"), Entry(2, 1, b"two")))
    assert by_hand.member.applies.apply() == 2
    assert by_hand.machine.commands == [b"one", b"two"]


def test_what_this_memory_has_altered_is_not_applied_nor_anything_behind_it() -> None:
    by_hand = ByHand()
    entry = checked_command(2, 1, b"two")
    entry = msgspec.structs.replace(entry, data=entry.data[:-1] + b"0")
    entries = (Entry(1, 1, b"", EntryKind.NOOP), entry, checked_command(3, 1, b"three"))
    by_hand.member.applies.put(entries)
    with pytest.raises(EntryAltered, match="entry 2 of term 1"):
        by_hand.member.applies.apply()
    assert by_hand.machine.commands == []
    assert by_hand.member.applies.applied_index == 0
