"""How long does a snapshot stop the loop? `python -m benchmarks.stalls`

Rules of this file: three nodes, a process each, SQLite, TCP over the loopback; so many callers in
the leader's process. Each node has a task that sleeps a millisecond and notes by how much it is
late: that is what a heartbeat waits for. Where others use the processors too, a process is also
late because it does not run: so what it worked itself in that time is told beside it, as far as it
was late; no stall of its own making is longer. *Quiet* is the same load without a snapshot, in the
same run. Each process ends with its node opened again from the snapshot, timed.

`--pieces` needs no quiet machine: CPU time of one thread, which goes through a snapshot and
restores it. What it does between two rests is what others can have to wait for.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from trioraft import Limits, Node, RaftError, SQLiteStorage, TcpTransport, open_node
from trioraft.kv.commands import Put, encode
from trioraft.kv.machine import KvMachine
from trioraft.machines.sessions import SessionMachine, encode_command, encode_open, encode_plain
from trioraft.member.state_machine import hosted
from trioraft.structures import Dict

KINDS: Final = ("object", "kv", "sessions")
SIZES: Final = (1_000, 10_000, 100_000, 1_000_000)
IDS: Final = ("0", "1", "2")
VALUE: Final = "x" * 100
CALLERS: Final = 64
SLEEP_S: Final = 0.001
CHUNK_BYTES: Final = 256 * 1024
"""As a storage hands them out."""


class Big(Dict[str, str]):
    """A dict, as people have it."""


class Nothing:
    """What is within the sessions, where they are what is measured."""

    def apply(self, index: int, data: bytes) -> int:
        """Answer."""
        return len(data)

    def snapshot(self) -> bytes:
        """There is no state."""
        return b""

    def restore(self, chunks: Iterable[bytes]) -> None:
        """There is none."""
        for _ in chunks:
            pass


@attrs.frozen
class Subject:
    """A machine of some kind and size, and what to propose to it."""

    machine: Any
    command: Callable[[int], bytes] | None
    """The number of a call gives its command; None: the machine's own `put`."""


def resident_bytes() -> int:
    """What this process takes now."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def built(kind: str, size: int, *, empty: bool = False) -> Subject:
    """The machine, with so many entries."""
    entries = 0 if empty else size
    if kind == "object":
        machine = Big()
        machine.entries = {f"key/{number:08d}": f"{VALUE}{number}" for number in range(entries)}
        return Subject(machine, None)
    if kind == "kv":
        kv = KvMachine()

        def put(number: int) -> bytes:
            key = b"key/%08d" % (number * 7919 % size)
            return encode(Put(key, b"%s%d" % (VALUE.encode(), number)))

        for number in range(entries):
            kv.apply(number + 1, put(number))
        return Subject(SessionMachine(kv), lambda number: encode_plain(put(number)))
    sessions = SessionMachine(Nothing(), sessions_max=size, results_total_bytes_max=2**40)
    rng = random.Random(1)
    ids = []
    for number in range(entries):
        opening = sessions.prepare_command(encode_open(rng.randbytes(16)))
        ids.append(sessions.apply(number + 1, opening))
        sessions.apply(size + number + 1, encode_command(ids[-1], 1, b"x"))

    def command(number: int) -> bytes:
        place = number * 7919 % size
        return encode_command(ids[place], 2 + number // size, b"x", 1 + number // size)

    return Subject(sessions, command)


class Lateness:
    """The longest that the loop kept a task waiting, and the longest of it that it worked."""

    def __init__(self) -> None:
        self.worst_s = self.worst_own_s = 0.0

    async def run(self) -> None:
        """Sleep, and see how late it is."""
        while True:
            begun_s, worked_s = time.perf_counter(), time.process_time()
            await trio.sleep(SLEEP_S)
            late_s = time.perf_counter() - begun_s - SLEEP_S
            own_s = min(late_s, time.process_time() - worked_s)
            self.worst_s, self.worst_own_s = max(self.worst_s, late_s), max(self.worst_own_s, own_s)


def percentile_ms(latencies_s: list[float], part: float) -> float:
    """Of latencies in seconds."""
    ordered = sorted(latencies_s)
    return 1000 * ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else math.nan


async def load(node: Node, subject: Subject, numbers: Iterable[int], until: Any) -> list[float]:
    """Many callers, each with one call after the other, until something is over."""
    latencies_s: list[float] = []
    counted = iter(numbers)

    async def call() -> None:
        for number in counted:
            if until():
                return
            begun_s = time.perf_counter()
            try:
                if subject.command is None:
                    key = f"key/{number * 7919 % 1_000_003:08d}"
                    await subject.machine.put(key, f"{VALUE}{number}")
                else:
                    await node.propose(subject.command(number))
            except RaftError:
                await trio.sleep(0.01)
                continue
            latencies_s.append(time.perf_counter() - begun_s)

    async with trio.open_nursery() as nursery:
        for _ in range(CALLERS):
            nursery.start_soon(call)
    return latencies_s


def opened(me: str, subject: Subject, directory: str, port: int) -> Any:
    """The node of this process."""
    address = {each: ("127.0.0.1", port + int(each)) for each in IDS}
    peers = {each: address[each] for each in IDS if each != me}
    return open_node(
        me,
        voters=IDS,
        machine=subject.machine,
        storage=SQLiteStorage(f"{directory}/{me}"),
        transport=TcpTransport(me, listen=address[me], peers=peers),
        limits=Limits(snapshot_entries=10**7, snapshot_bytes=2**40, log_memory_bytes_max=2**42),
    )


async def snapshotting(node: Node, rounds: int, taken_s: list[float]) -> None:
    """Take some snapshots, one after the other."""
    for _ in range(rounds):
        begun_s = time.perf_counter()
        await node.take_snapshot()
        taken_s.append(time.perf_counter() - begun_s)


async def one(kind: str, size: int, me: str, directory: str, port: int, rounds: int) -> None:
    """A node's process: quiet, then with snapshots on all members at once, then anew."""
    before = resident_bytes()
    subject = built(kind, size)
    gc.collect()
    gc.freeze()
    each = (resident_bytes() - before) / size
    found: dict[str, Any] = {"kind": kind, "size": size, "bytes_each": round(each)}
    async with opened(me, subject, directory, port) as node:
        if subject.command is None:
            subject.machine.attach(node)
        lateness = Lateness()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lateness.run)
            await node.wait(lambda status: status.leader_id is not None)
            await trio.sleep(1.0)
            leads = node.status.leader_id == me
            numbers = iter(range(10**9))
            term, taken_s = node.status.term, list[float]()
            for name in ("quiet", "snapshots"):
                lateness.worst_s = lateness.worst_own_s = 0.0
                begun_s = time.perf_counter()
                over = trio.Event()
                latencies_s: list[float] = []

                async def work(over: trio.Event = over, found_s: list[float] = latencies_s) -> None:
                    found_s += await load(node, subject, numbers, over.is_set)

                async with trio.open_nursery() as loading:
                    if leads:
                        loading.start_soon(work)
                    if name == "snapshots":
                        await snapshotting(node, rounds, taken_s)
                    await trio.sleep(max(0.0, 3.0 + begun_s - time.perf_counter()))
                    found[f"{name}_s"] = time.perf_counter() - begun_s
                    over.set()
                found[f"{name}_stall_ms"] = 1000 * lateness.worst_s
                found[f"{name}_own_ms"] = 1000 * lateness.worst_own_s
                if leads:
                    found[f"{name}_p50_ms"] = percentile_ms(latencies_s, 0.5)
                    found[f"{name}_p99_ms"] = percentile_ms(latencies_s, 0.99)
                    found[f"{name}_ops_s"] = len(latencies_s) / found[f"{name}_s"]
            found |= {"taken_s": max(taken_s), "terms": node.status.term - term, "leads": leads}
            print(json.dumps(found), flush=True)
            with trio.move_on_after(60.0):
                await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
            nursery.cancel_scope.cancel()
    gc.unfreeze()
    anew = built(kind, size, empty=True)
    begun_s = time.perf_counter()
    async with opened(me, anew, directory, port):
        found["open_s"] = time.perf_counter() - begun_s
    print(json.dumps(found), flush=True)
    os._exit(0)


def longest_ms(pieces: Iterator[bytes]) -> tuple[list[bytes], float]:
    """All of them, and how long the one took that took longest, in ms of CPU time."""
    found: list[bytes] = []
    worst_s = 0.0
    while True:
        begun_s = time.thread_time()
        piece = next(pieces, None)
        worst_s = max(worst_s, time.thread_time() - begun_s)
        if piece is None:
            return found, 1000 * worst_s
        found.append(piece)


def in_pieces(kind: str, size: int) -> str:
    """A row of the table of `--pieces`."""
    machine, anew = hosted(built(kind, size).machine), hosted(built(kind, size, empty=True).machine)
    list(machine.snapshot())  # as there has been one before
    gc.collect()
    gc.freeze()
    begun_s = time.thread_time()
    content = machine.snapshot()
    viewed_s = time.thread_time() - begun_s
    pieces, worst_ms = longest_ms(iter((content,) if isinstance(content, bytes) else content))
    written_s = time.thread_time() - begun_s
    whole = b"".join(pieces)
    chunks = [whole[at : at + CHUNK_BYTES] for at in range(0, len(whole), CHUNK_BYTES)]
    begun_s = time.thread_time()
    anew.restore(chunks)
    restored_s = time.thread_time() - begun_s
    gc.unfreeze()
    return (
        f"| {kind} | {size:,} | {1000 * viewed_s:.2f} | {worst_ms:.1f} | {written_s:.2f} | "
        f"{restored_s:.2f} | {len(whole) / size:.0f} |"
    )


def run(kind: str, size: int, rounds: int) -> list[dict[str, Any]]:
    """Three processes; what each has found."""
    port = random.randrange(26_000, 30_000)
    with tempfile.TemporaryDirectory() as directory:
        words = [sys.executable, "-m", "benchmarks.stalls", "--kind", kind, "--sizes", str(size)]
        words += ["--rounds", str(rounds), "--at", directory, str(port)]
        processes = [
            subprocess.Popen(  # noqa: S603 - this very program
                [*words, me], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for me in IDS
        ]
        pipes = [(process, process.stdin, process.stdout) for process in processes]
        lines = [json.loads(out.readline()) for _, _, out in pipes if out is not None]
        for _, into, _ in pipes:
            if into is not None:
                into.write("\n")
                into.flush()
        anew = [json.loads(out.readline()) for _, _, out in pipes if out is not None]
        for process in processes:
            process.wait()
    return [line | {"open_s": later["open_s"]} for line, later in zip(lines, anew, strict=True)]


def row(found: list[dict[str, Any]]) -> str:
    """A row of the table: the worst of three for stalls, the leader's for commits."""
    leader = next(each for each in found if each["leads"])
    worst = {
        name: max(each[f"{name}_ms"] for each in found)
        for name in ("quiet_stall", "quiet_own", "snapshots_stall", "snapshots_own")
    }
    return (
        f"| {leader['kind']} | {leader['size']:,} | "
        f"{worst['quiet_stall']:.1f} ({worst['quiet_own']:.1f}) | "
        f"{worst['snapshots_stall']:.1f} ({worst['snapshots_own']:.1f}) | "
        f"{leader['quiet_p50_ms']:.1f} / {leader['quiet_p99_ms']:.1f} | "
        f"{leader['snapshots_p50_ms']:.1f} / {leader['snapshots_p99_ms']:.1f} | "
        f"{max(each['taken_s'] for each in found):.2f} | "
        f"{sorted(each['open_s'] for each in found)[1]:.2f} | {leader['bytes_each']:,} | "
        f"{leader['terms']} |"
    )


def main(words: Sequence[str]) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--rounds", type=int, default=2, help="snapshots, one after the other")
    parser.add_argument("--pieces", action="store_true", help="CPU time of one thread alone")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--at", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.at is not None:
        directory, port, me = options.at
        [kind], [size] = options.kind, options.sizes
        trio.run(one, kind, size, me, directory, int(port), options.rounds)
        return
    if options.pieces:
        print(
            "| state | entries | view ms | longest piece ms | written CPU s | restored CPU s | "
            "bytes an entry |\n|---|---|---|---|---|---|---|"
        )
        for kind in options.kind or KINDS:
            for size in options.sizes:
                print(in_pieces(kind, size), flush=True)
        return
    print(
        "| state | entries | stall ms (own work), quiet | with snapshots | p50 / p99 ms, quiet | "
        "with snapshots | written in s | opened in s | bytes an entry | terms |\n"
        "|---|---|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    results = []
    for kind in options.kind or KINDS:
        for size in options.sizes:
            results.append(run(kind, size, options.rounds))
            print(row(results[-1]), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
