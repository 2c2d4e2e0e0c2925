"""What the tests of recovery share: directories as a lost cluster leaves them."""

from __future__ import annotations

from pathlib import Path

from tests.storage.support import entries
from trioraft.core.reconfiguration import configuration_entry
from trioraft.core.types import Configuration, HardState
from trioraft.storage.sqlite import SQLiteStorage

CLUSTER = "orders"
THREE = Configuration(("0", "1", "2"), addresses={"0": ("10.0.0.1", 7000), "2": ("10.0.0.3", 7000)})
JOINT = Configuration(("2", "3"), outgoing=("0", "1", "2"), learners=("4",))


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
    storage.append(HardState(7, "1"), log, 1)
    if snapshot:
        storage.write_snapshot(snapshot, log[snapshot - 1].term, THREE, [b"state"])
        storage.compact(snapshot, log[snapshot - 1].term)
    storage.close()
    return directory
