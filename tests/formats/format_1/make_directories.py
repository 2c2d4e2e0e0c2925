"""Write the sample directories. It was run once, by the code whose formats they are.

    python -m tests.formats.format_1.make_directories

A later format gets a folder, and directories, of its own.

* `member`: a node with a key-value machine and sessions, which has changed its members, taken a
  snapshot, cut its log and gone on; closed in order.
* `killed`: a storage that nobody has closed: a write-ahead log, a record that cuts another, two
  snapshots, a compacted log, and half of a snapshot on its way in.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path
from typing import Final

import msgspec
import trio
import trio.testing

from trioraft import Limits, LocalClient, MemoryNetwork, SQLiteStorage, open_node
from trioraft.core.reconfiguration import configuration_entry
from trioraft.core.types import Configuration, Entry, EntryKind, HardState, SnapshotMeta
from trioraft.kv import KvClient, KvMachine
from trioraft.machines.sessions import SessionMachine
from trioraft.storage.directory import LockNote

FOLDER: Final = Path(__file__).parent / "directories"
NOTE_BYTES: Final = 256
JOINT: Final = Configuration(
    ("1", "2", "3"),
    ("1", "2", "9"),
    ("4",),
    {"1": ("10.0.0.1", 7000)},
    3,
    {"1": 2**61, "4": 8},
    ("4",),
)
RECEIVED: Final = SnapshotMeta(90, 7, JOINT, 10, 0xA684C7C6)


async def member(directory: Path) -> None:
    """A life of a node, from its first start to an orderly end."""
    machine = SessionMachine(KvMachine(), sessions_max=8)
    network = MemoryNetwork(random.Random(1))
    async with open_node(
        "1",
        voters=["1"],
        machine=machine,
        storage=SQLiteStorage(directory),
        transport=network.transport("1"),
        cluster_id="blue",
        limits=Limits(snapshot_tail_entries=2),
        rng=random.Random(2),
    ) as node:
        await node.wait(lambda status: status.leader_id == "1")
        kv = KvClient(LocalClient(node, machine))
        await kv.put(b"before", b"the snapshot")
        await kv.increment(b"counted", 41)
        await kv.cas(b"before", b"the snapshot", b"a snapshot")
        await node.add_learner("2", ("10.0.0.2", 7000))
        lease = await kv.grant(3600.0)
        await kv.put(b"leased", b"for an hour", lease=lease)
        await node.take_snapshot()
        await kv.increment(b"counted", 1)
        await node.remove("2")
        await node.add_learner("3", ("node-3", 7003))
        await kv.put(b"after", b"the snapshot")


def killed(directory: Path) -> None:
    """A storage, copied while it is open: as after a power failure."""
    with tempfile.TemporaryDirectory() as folder:
        alive = Path(folder) / "alive"
        storage = SQLiteStorage(alive)
        storage.open(cluster_id="blue", node_id="4")
        first = (
            Entry(1, 1, b"", EntryKind.NOOP),
            Entry(2, 1, b"command"),
            configuration_entry(JOINT, 3, 1),
        )
        storage.append(
            HardState(1, "1", 300), (*first, Entry(4, 1, b"to be cut")), 1, b"whose disk this is"
        )
        storage.append(
            HardState(8, None, 300), (Entry(4, 2, b"in place of another"), Entry(5, 8, b"last")), 4
        )
        storage.write_snapshot(2, 1, Configuration(("1", "2", "3")), [b"an older ", b"snapshot"])
        storage.write_snapshot(3, 1, JOINT, [b"a newer snapshot"])
        storage.compact(2, 1)
        storage.append(HardState(9, "4", 450), (), None)
        storage.receive_chunk(RECEIVED, 0, b"01234")
        directory.mkdir(parents=True)
        for path in alive.iterdir():
            if not path.name.endswith("-shm"):
                shutil.copyfile(path, directory / path.name)
        storage.close()


def _say_nothing_of_this_machine(directory: Path) -> None:
    lock = directory / "trioraft.lock"
    note = msgspec.structs.replace(
        msgspec.json.decode(lock.read_bytes(), type=LockNote), pid=1, host="somewhere"
    )
    lock.write_bytes(msgspec.json.encode(note).ljust(NOTE_BYTES - 1) + b"\n")


def main() -> None:
    """Write all of them anew."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    trio.run(member, FOLDER / "member", clock=trio.testing.MockClock(autojump_threshold=0.01))
    killed(FOLDER / "killed")
    for directory in FOLDER.iterdir():
        _say_nothing_of_this_machine(directory)


if __name__ == "__main__":
    main()
