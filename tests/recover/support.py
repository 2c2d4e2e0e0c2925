"""What the tests of recovery share: directories as a lost cluster leaves them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.storage.support import entries
from trioraft.core.reconfiguration import configuration_entry
from trioraft.core.types import Address, Configuration, HardState, LogIndex, NodeId
from trioraft.member.identity import (
    Identity,
    encode_identity,
    recovered_by_force,
    uuid_of,
)
from trioraft.storage import recovery
from trioraft.storage.sqlite import SQLiteStorage

CLUSTER = "orders"
DISKS = {"0": 100, "1": 101, "2": 102}
ALONE = Configuration(("2",), disks={"2": 102})
THREE = Configuration(
    ("0", "1", "2"),
    addresses={"0": ("10.0.0.1", 7000), "2": ("10.0.0.3", 7000)},
    disks=DISKS,
)
JOINT = Configuration(
    ("2", "3"), outgoing=("0", "1", "2"), learners=("4",), disks={**DISKS, "3": 103, "4": 104}
)
IDENTITY = Identity(102, DISKS, uuid_of(CLUSTER, DISKS), formed=True, openings=1, nonces=(7,))


def stopped_node(
    directory: Path, *configurations: Configuration, commands: int = 5, snapshot: int = 0
) -> Path:
    """The directory of node 2, term 7, voted for 1: configurations first, then commands."""
    storage = SQLiteStorage(directory)
    storage.open(cluster_id=CLUSTER, node_id="2")
    placed = [
        configuration_entry(configuration, index, 3)
        for index, configuration in enumerate(configurations or (THREE,), 1)
    ]
    log = [*placed, *entries(len(placed) + 1, commands, term=6)]
    storage.append(HardState(7, "1"), log, 1, encode_identity(IDENTITY))
    if snapshot:
        storage.write_snapshot(snapshot, log[snapshot - 1].term, THREE, [b"state"])
        storage.compact(snapshot, log[snapshot - 1].term)
    storage.close()
    return directory


def plan(
    found: recovery.StoppedNode,
    voters: Sequence[NodeId],
    addresses: Mapping[NodeId, Address] | None = None,
    skip: LogIndex | None = None,
) -> recovery.Plan:
    """As the command plans it."""
    identity = recovered_by_force(
        found.stored.recovered.identity,
        last_index=found.last_index,
        last_term=found.last_term,
        rng=random.Random(1),
    )
    encoded = encode_identity(identity)
    return recovery.plan(
        found, voters, addresses, disk=identity.incarnation, identity=encoded, skip=skip
    )
