"""What a backup costs a cluster that serves: commits' latency with one being taken and without, in
turn; memory of the servers; and whether the restored state is the same to the last byte.

    python -m benchmarks.backup --gib 1 --rounds 3
    chrt -f 5 python -m benchmarks.backup     # where others use the processors too

Rules of this file: three servers on the loopback, filled by a restore (so nothing has to be
replicated first); clients that wait for each answer; windows in turn, so that what else the machine
does hits both kinds.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import trio

from benchmarks.processes import ServerProcesses, shown
from benchmarks.stats import percentile
from trioraft import BackupHead, BackupReader, BackupWriter, Client, Configuration, restore_backup
from trioraft.core.types import SnapshotMeta
from trioraft.kv import ERROR_TYPES, KvClient
from trioraft.kv.commands import Put, Result, encode
from trioraft.kv.machine import KvMachine
from trioraft.machines.sessions import SessionMachine, encode_plain
from trioraft.member.results import RunningChecksum

VALUE_BYTES = 4096
CALLERS = 8
PAUSE_S = 0.04
"""Of each caller between two commands: a cluster with something to do, and processors with time."""
QUIET_S = 12.0
SETTLE_S = 3.0


class Crc:
    """Counts what a backup's content amounts to."""

    def __init__(self) -> None:
        self.crc = self.size_bytes = 0

    def add(self, piece: bytes) -> None:
        self.crc = zlib.crc32(piece, self.crc)
        self.size_bytes += len(piece)


def make_backup(path: Path, gib: float) -> None:
    """A backup of so many keys, as a server would have written it."""
    machine = SessionMachine(KvMachine(), result_type=Result)
    rng = random.Random(1)
    count = int(gib * 2**30 / VALUE_BYTES)
    for index in range(1, count + 1):
        command = encode(Put(b"key/%08d" % index, rng.randbytes(VALUE_BYTES)))
        machine.apply(index, encode_plain(command))

    def content() -> Iterator[bytes]:
        yield RunningChecksum(0, lambda *_: None).head()
        yield from machine.snapshot()

    amount = Crc()
    for piece in content():
        amount.add(piece)
    meta = SnapshotMeta(count, 1, Configuration(("0",)), amount.size_bytes, amount.crc)
    head = BackupHead("trioraft", "0", "0" * 32, meta, 1, time.time(), "kv in sessions")
    with path.open("wb") as file:
        writer = BackupWriter(file, head)
        for piece in content():
            writer.add(piece)
        writer.end()


def digest(path: Path) -> str:
    """Of all that is in a backup."""
    found = hashlib.blake2b()
    with path.open("rb") as file:
        for piece in BackupReader(file, str(path)).chunks():
            found.update(piece)
    return found.hexdigest()


@attrs.define
class Load:
    """Callers that put keys of their own, each after the other; and what each put took."""

    addresses: list[tuple[str, int]]
    kind: str = "settling"
    took_s: dict[str, list[float]] = attrs.field(factory=dict)
    stop: bool = False

    def run(self) -> None:
        trio.run(self._main)

    async def _main(self) -> None:
        async with Client(self.addresses, error_types=ERROR_TYPES, timeout_s=60.0) as client:
            kv = KvClient(client)
            async with trio.open_nursery() as nursery:
                for number in range(CALLERS):
                    nursery.start_soon(self._call, kv, number)

    async def _call(self, kv: KvClient, number: int) -> None:
        value, turn = bytes(100), 0
        while not self.stop:
            turn += 1
            kind, begun_s = self.kind, time.perf_counter()
            await kv.put(f"load/{number}/{turn % 1000}", value)
            self.took_s.setdefault(kind, []).append(time.perf_counter() - begun_s)
            await trio.sleep(PAUSE_S)


@attrs.define
class Memory:
    """The resident memory of the servers, looked at now and then."""

    pids: dict[str, int]
    peak_bytes: dict[str, int] = attrs.field(factory=dict)
    stop: bool = False

    def run(self) -> None:
        while not self.stop:
            for name, size_bytes in self.now().items():
                self.peak_bytes[name] = max(self.peak_bytes.get(name, 0), size_bytes)
            time.sleep(0.1)

    def now(self) -> dict[str, int]:
        return {name: rss(pid) for name, pid in self.pids.items()}


def rss(pid: int) -> int:
    """In bytes; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    except OSError:
        return 0
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def pids_of_servers(directory: Path) -> dict[str, int]:
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"serve" in words and words[0].endswith((b"python", b"python3", b"python3.11")):
            data = words[words.index(b"--data") + 1].decode()
            if data.startswith(str(directory)):
                found[Path(data).name] = int(process.name)
    return found


def back_up(
    addresses: str, path: Path, on_sending: Callable[[], object] = lambda: None
) -> tuple[float, int]:
    """Take a backup in a process of its own: how long it took, in seconds, and the most memory it
    had."""
    command = [sys.executable, "-m", "trioraft", "backup", "-o", str(path), "--timeout", "60s"]
    begun_s = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 - our own command
        command, env={**os.environ, "TRIORAFT_ADDRESSES": addresses}
    )
    most, part = 0, path.with_name(f"{path.name}.part")
    while process.poll() is None:
        if part.exists():
            on_sending()
        most = max(most, rss(process.pid))
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"the backup failed with {process.returncode}")
    return time.perf_counter() - begun_s, most


def measure(directory: Path, gib: float, rounds: int) -> None:
    first = directory / "first.backup"
    make_backup(first, gib)
    print(f"{first.stat().st_size / 2**20:.0f} MiB in {first}", flush=True)
    options = ("--snapshot-bytes", "4GiB", "--snapshot-entries", "100000000")
    with ServerProcesses(directory, options=options) as servers:
        restore_backup(first, {name: directory / name for name in servers.ids})
        servers.start()
        load = Load(servers.addresses)
        calling = threading.Thread(target=load.run)
        calling.start()
        memory = Memory(pids_of_servers(directory))
        looking = threading.Thread(target=memory.run)
        addresses = ",".join(map(shown, servers.addresses))
        time.sleep(SETTLE_S)
        before = memory.now()
        looking.start()
        for number in range(rounds):
            load.kind = f"quiet {number}"
            time.sleep(QUIET_S)
            load.kind = f"snapshot {number}"

            def sends(number: int = number) -> None:
                load.kind = f"sending {number}"

            took_s, client_bytes = back_up(addresses, directory / "under-load.backup", sends)
            load.kind = "settling"
            print(
                f"backup {number}: {took_s:.1f} s, its process {client_bytes / 2**20:.0f} MiB",
                flush=True,
            )
            time.sleep(SETTLE_S)
        load.stop = memory.stop = True
        calling.join()
        looking.join()
        for number in range(rounds):
            quiet = sorted(load.took_s[f"quiet {number}"])
            parts = [load.took_s.get(f"{kind} {number}", []) for kind in ("snapshot", "sending")]
            backup = sorted([*parts[0], *parts[1]])
            phases = [percentile(part, 99) * 1000 if part else 0 for part in parts]
            line = f"round {number}:"
            for share in (50, 99, 99.9):
                a, b = (percentile(each, share) * 1000 for each in (quiet, backup))
                line += f"  p{share:g} {a:.1f} -> {b:.1f} ms ({b / a:.2f})"
            print(
                line,
                f" max {quiet[-1] * 1000:.0f} -> {backup[-1] * 1000:.0f} ms",
                f" commits {len(quiet) / QUIET_S:.0f}/s; p99 while it takes the snapshot, sends: "
                f"{phases[0]:.1f} ms of {len(parts[0])}, {phases[1]:.1f} ms of {len(parts[1])}",
            )
        for name in sorted(before):
            print(
                f"server {name}: {before[name] / 2**20:.0f} MiB before, at most "
                f"{memory.peak_bytes[name] / 2**20:.0f}"
            )
        last = directory / "last.backup"
        back_up(addresses, last)
    with ServerProcesses(directory / "restored", size=1, options=options) as restored:
        (directory / "restored").mkdir()
        restore_backup(last, {"0": directory / "restored" / "0"})
        restored.start()
        again = directory / "again.backup"
        back_up(",".join(map(shown, restored.addresses)), again)
    print("restored and equal:", digest(last) == digest(again))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gib", type=float, default=1.0, help="size of the state")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of windows")
    parser.add_argument("--directory", type=Path, help="where (default: a temporary one)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.directory) as name:
        measure(Path(name), given.gib, given.rounds)


if __name__ == "__main__":
    main()
