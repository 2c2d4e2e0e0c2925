"""What does a watch cost those who write other keys? `python -m benchmarks.watches`

One machine, and watches of other keys than those that are put, ten times as many each time: by
prefix, by key, and by range.

Rules of this file: puts are applied as a node applies them; all measurements are of one run, in
turns, and the best of several counts, so that they can be compared.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Final

import attrs
import trio

from trioraft.kv.commands import Changes, Put, encode
from trioraft.kv.machine import KvMachine

WATCHES: Final = (0, 1, 10, 100, 1000, 10_000)
PUTS: Final = 5_000
ROUNDS: Final = 7
KINDS: Final[dict[str, Callable[[int], Changes]]] = {
    "prefix": lambda number: Changes(1, b"others/%d/" % number),
    "key": lambda number: Changes(1, b"others/%d" % number, until=b"others/%d\0" % number),
    "range": lambda number: Changes(1, b"others/%08d/b" % number, until=b"others/%08d/y" % number),
}


@attrs.frozen
class Measured:
    """One number of watches of one kind."""

    kind: str
    watches: int
    put_us: float
    """CPU time of one put, in microseconds."""

    def __str__(self) -> str:
        return f"{self.watches:6} watches by {self.kind:6} {self.put_us:6.2f} us a put"


async def run(counts: Sequence[int], puts: int) -> list[Measured]:
    """All measurements."""
    best: dict[tuple[str, int], float] = {}
    machines: dict[tuple[str, int], KvMachine] = {}
    commands = [encode(Put(b"mine/%d" % (number % 1000), bytes(100))) for number in range(puts)]
    async with AsyncExitStack() as stack:
        for kind, wanted in KINDS.items():
            for count in counts:
                machine = machines[kind, count] = KvMachine()
                for number in range(count):
                    await stack.enter_async_context(machine.watch(encode(wanted(number))))
        for _ in range(ROUNDS):
            for which, machine in machines.items():
                took_s = _put_all(machine, commands)
                best[which] = min(best.get(which, took_s), took_s)
    return [Measured(*which, took_s / puts * 1e6) for which, took_s in best.items()]


def _put_all(machine: KvMachine, commands: Sequence[bytes]) -> float:
    begun_s = time.process_time()
    for index, command in enumerate(commands, machine.index + 1):
        machine.apply(index, command)
    return time.process_time() - begun_s


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watches")
    parser.add_argument("--watches", type=int, action="append", metavar="N", help="0, 1 … 10000")
    parser.add_argument("--puts", type=int, default=PUTS, help="in each round")
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    options = parser.parse_args(argv)
    counts = options.watches or WATCHES
    if min(counts) < 0 or options.puts < 1:
        parser.error("give no negative number of watches, and at least one put")
    for measured in trio.run(run, counts, options.puts):
        print(json.dumps(attrs.asdict(measured)) if options.json else measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
