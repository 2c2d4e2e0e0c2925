"""What the live page costs the members of a busy cluster: CPU time of each, with a page open and
without, in turns.

Rules of this file:

* `python -m benchmarks.live [--nodes 7] [--rate 5000]` prints the figures; exit code 1 if the page
  takes more than CORE_SHARE_MAX of a core from any member.
* Rounds with and without a page alternate, so that what else the machine does falls on both.
* The page is at a member's own HTTP port (`--at 0`), or that of `trioraft dashboard` (`--outside`).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import trio

from benchmarks.processes import free_ports
from trioraft import Client
from trioraft.cli.cluster.layout import Layout, laid_out
from trioraft.core.errors import RaftError
from trioraft.kv import ERROR_TYPES
from trioraft.kv.client import KvClient
from trioraft.live.scene import latest_leader
from trioraft.net.addresses import host_port

CORE_SHARE_MAX: Final = 0.05
WRITERS: Final = 1000
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@attrs.frozen
class Round:
    """Some seconds."""

    has_page: bool
    writes_per_s: float
    cpu: dict[str, float]
    """Of each member, in cores."""


def cpu_s(process: int) -> float:
    """CPU time that a process has taken."""
    fields = Path(f"/proc/{process}/stat").read_text("ascii").rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


@contextmanager
def members(layout: Layout, http_ports: dict[str, int]) -> Iterator[dict[str, int]]:
    """Servers that run, by their processes."""
    with ExitStack() as stack:
        processes: dict[str, int] = {}
        for member in layout.members:
            words = [sys.executable, "-m", "trioraft", "serve", *layout.arguments(member)]
            words += ["--http-listen", f"127.0.0.1:{http_ports[member.id]}", "--log-level", "error"]
            started = subprocess.Popen(words, stdout=subprocess.DEVNULL)  # noqa: S603 - our own
            stack.callback(started.wait)
            stack.callback(started.terminate)
            processes[member.id] = started.pid
        yield processes


async def load(layout: Layout, rate: float, counted: list[int]) -> None:
    """Write at this rate, as far as the cluster follows."""
    addresses = {member.id: member.clients for member in layout.members}
    async with Client(addresses, error_types=ERROR_TYPES, timeout_s=30) as client:
        kv = KvClient(client)

        async def write(number: int) -> None:
            due_s = trio.current_time()
            while True:
                with suppress(RaftError):  # a machine that is too busy for this rate: see what is
                    await kv.put(f"key-{number}", b"x" * 64)
                    counted[0] += 1
                due_s = max(due_s + WRITERS / rate, trio.current_time() - 0.5)
                await trio.sleep_until(due_s)

        async with trio.open_nursery() as nursery:
            for number in range(WRITERS):
                nursery.start_soon(write, number)


async def look(address: tuple[str, int]) -> None:
    """A page that is open."""
    async with await trio.open_tcp_stream(*address) as stream:
        host = host_port(address)
        await stream.send_all(f"GET /live HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
        async for _ in stream:
            pass


async def measure(
    layout: Layout,
    processes: dict[str, int],
    page: tuple[str, int],
    rate: float,
    rounds: int,
    round_s: float,
) -> list[Round]:
    """The rounds, without a page and with one by turns."""
    counted, found = [0], []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(load, layout, rate, counted)
        await trio.sleep(5)
        for number in range(2 * rounds):
            has_page = number % 2 == 1
            async with trio.open_nursery() as looking:
                if has_page:
                    looking.start_soon(look, page)
                await trio.sleep(6.5)  # what watched before has stopped, or what begins has begun
                before = {name: cpu_s(pid) for name, pid in processes.items()}
                written, began_s = counted[0], time.monotonic()
                await trio.sleep(round_s)
                took_s = time.monotonic() - began_s
                cpu = {n: (cpu_s(pid) - before[n]) / took_s for n, pid in processes.items()}
                found.append(Round(has_page, (counted[0] - written) / took_s, cpu))
                told = ", ".join(f"{n} {share:.1%}" for n, share in cpu.items())
                print(f"{'page' if has_page else '    '} {found[-1].writes_per_s:6.0f}/s  {told}")
                looking.cancel_scope.cancel()
        nursery.cancel_scope.cancel()
    return found


async def leader_of(layout: Layout) -> str:
    """Who leads, once somebody does."""
    addresses = {member.id: member.clients for member in layout.members}
    async with Client(addresses, timeout_s=60) as client:
        while True:
            with suppress(RaftError):  # not all are there yet
                statuses = [await client.status(member.id) for member in layout.members]
                leader = latest_leader(statuses)
                if leader is not None:
                    return leader.node_id
            await trio.sleep(0.2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=7)
    parser.add_argument("--rate", type=float, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--outside", action="store_true", help="by trioraft dashboard")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        layout = laid_out(Path(directory) / "c", options.nodes, None)
        own = {port for each in layout.members for port in (each.clients[1], each.peers[1])}
        with free_ports(3 * options.nodes + 1) as free:
            others = [port for _, port in free if port not in own]
        ports = {member.id: others.pop() for member in layout.members}
        processes = stack.enter_context(members(layout, ports))
        time.sleep(6)
        leader = trio.run(leader_of, layout)
        host = next(each for each in ports if each != leader)
        page = ("127.0.0.1", ports[host])
        print(f"{leader} leads; the page is at {'dashboard' if options.outside else host}")
        if options.outside:
            page = ("127.0.0.1", others.pop())
            words = [
                sys.executable,
                "-m",
                "trioraft",
                "dashboard",
                host_port(layout.members[0].clients),
            ]
            words += ["--listen", host_port(page)]
            outside = subprocess.Popen(words, stdout=subprocess.DEVNULL)  # noqa: S603 - our own
            stack.callback(outside.wait)
            stack.callback(outside.terminate)
            processes = {**processes, "dashboard": outside.pid}
            time.sleep(3)
        run = partial(
            measure, layout, processes, page, options.rate, options.rounds, options.seconds
        )
        found = trio.run(run)
    worst = 0.0
    for name in processes:
        of = {
            page: statistics.median(each.cpu[name] for each in found if each.has_page is page)
            for page in (False, True)
        }
        what = "leader" if name == leader else "page" if name == host else ""
        more = of[True] - of[False]
        print(f"{name:9} {of[False]:6.1%} without, {of[True]:6.1%} with: {more:+.1%} {what}")
        if name != "dashboard":
            worst = max(worst, more)
    print(f"at most {worst:.1%} of a core more; {CORE_SHARE_MAX:.0%} are allowed")
    return worst > CORE_SHARE_MAX


if __name__ == "__main__":
    sys.exit(main())
