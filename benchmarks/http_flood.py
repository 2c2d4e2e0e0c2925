"""What a flood at the HTTP port costs a node: `python -m benchmarks.http_flood`.

Three members, each a process of its own on the loopback with its log on disk; the leader's callers
propose, one command after the other, and time it. Meanwhile another process asks the leader's HTTP
port for `/metrics` as fast as it can, over as many connections as are let in. In turn, with and
without the flood, for each way of having a port.

Where the real-time scheduler may be used (`chrt`), the members run in it, so that what is measured
is the members and not what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import trio

import trioraft.http
from trioraft import Node, RaftError, Role, SQLiteStorage, TcpTransport, open_node
from trioraft.http import HttpLimits
from trioraft.http.app import Pages
from trioraft.http.metrics import OwnScene
from trioraft.http.reach import NodeReach
from trioraft.http.server import Server
from trioraft.node.figures import begin_measuring
from trioraft.node.meter import Distribution
from trioraft.testing import CommandLog

WAYS = {
    "none": "no port",
    "bounded": "a thread of its own, a tenth of a processor",
    "unbounded": "a thread of its own, without a bound",
    "inside": "in the node's own event loop, without a bound",
}
CALLERS = 4
FLOODERS = 48
REQUEST = b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n"


# -- a member ------------------------------------------------------------------------------


@asynccontextmanager
async def _inside(node: Node, listen: tuple[str, int]) -> AsyncIterator[None]:
    """A port in this very loop."""
    begin_measuring(node)
    reach = NodeReach(node, trio.lowlevel.current_trio_token())
    nothing = OwnScene(Distribution(), 0.0, 0, {}, 0, 0.0)
    app = Pages(reach, lambda: nothing, lambda: None).application(())
    sock = socket.create_server(listen, backlog=1024)
    server = Server(app, sock, HttpLimits(), None, print)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        yield
        server.stop()


async def _member(name: str, ports: list[int], way: str, directory: str) -> None:
    """Serve until standard input says `run S`: then, if it leads, propose for so many seconds, and
    print how long each command took."""
    number = int(name)
    peers = {str(each): ("127.0.0.1", port) for each, port in enumerate(ports[:3])}
    async with open_node(
        name,
        voters=sorted(peers),
        machine=CommandLog(),
        storage=SQLiteStorage(Path(directory, name)),
        transport=TcpTransport(name, peers[name], peers),
        rng=random.Random(number),
    ) as node:
        listen = ("127.0.0.1", ports[3 + number])
        limits = HttpLimits(cpu_share=0.1 if way == "bounded" else 100.0)
        port: Any = nullcontext()
        if way == "inside":
            port = _inside(node, listen)
        elif way != "none":
            port = trioraft.http.serve(node, listen=listen, limits=limits)
        async with port:
            await node.wait(lambda status: status.leader_id is not None)
            print(json.dumps({"leads": node.status.role is Role.LEADER}), flush=True)
            while line := await trio.to_thread.run_sync(sys.stdin.readline):
                took_s, failed = await _propose(node, float(line))
                answer = {"took_s": took_s, "failed": failed, "term": node.status.term}
                print(json.dumps(answer), flush=True)


async def _propose(node: Node, for_s: float) -> tuple[list[float], int]:
    took_s: list[float] = []
    failed = [0]

    async def caller() -> None:
        while True:
            begun_s = time.perf_counter()
            try:
                await node.forward(b"x" * 100)
            except RaftError:
                failed[0] += 1
                continue
            took_s.append(time.perf_counter() - begun_s)

    with trio.move_on_after(for_s):
        async with trio.open_nursery() as nursery:
            for _ in range(CALLERS):
                nursery.start_soon(caller)
    return took_s, failed[0]


# -- the flood -----------------------------------------------------------------------------


def _flood(port: int) -> None:
    """Ask until killed; says on standard output, each second, how many answers came."""
    answers = [0]

    def ask() -> None:
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port)) as sock:
                    sock.settimeout(30)
                    while True:
                        sock.sendall(REQUEST)
                        head = sock.recv(65536)
                        if not head:
                            break
                        wanted = int(head.lower().partition(b"content-length: ")[2].split()[0])
                        wanted -= len(head.partition(b"\r\n\r\n")[2])
                        while wanted > 0:
                            wanted -= len(sock.recv(65536))
                        answers[0] += 1
            except OSError:
                time.sleep(0.001)

    for _ in range(FLOODERS):
        threading.Thread(target=ask, daemon=True).start()
    while True:
        before = answers[0]
        time.sleep(1.0)
        print(answers[0] - before, flush=True)


# -- all of it -----------------------------------------------------------------------------


def _prefix(priority: int) -> list[str]:
    """Before a command, so that it runs in the real-time scheduler, if that may be used."""
    chrt = shutil.which("chrt")
    if chrt is None:
        return []
    tried = subprocess.run(  # noqa: S603 - a tool of the system
        [chrt, "-f", str(priority), "true"], check=False, capture_output=True
    )
    return [] if tried.returncode else [chrt, "-f", str(priority)]


def _started(words: list[str], priority: int) -> subprocess.Popen[str]:
    command = [*_prefix(priority), sys.executable, "-m", "benchmarks.http_flood", *words]
    return subprocess.Popen(  # noqa: S603 - this very file
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _line(process: subprocess.Popen[str]) -> str:
    if process.stdout is None:
        raise RuntimeError("its output is read here")
    return process.stdout.readline()


def _asked(member: subprocess.Popen[str], line: str) -> Any:
    if member.stdin is None:
        raise RuntimeError("its input is written here")
    member.stdin.write(f"{line}\n")
    member.stdin.flush()
    return json.loads(_line(member))


@contextmanager
def _processes(way: str) -> Iterator[tuple[list[subprocess.Popen[str]], list[int]]]:
    with tempfile.TemporaryDirectory() as directory:
        socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(6)]
        ports = [sock.getsockname()[1] for sock in socks]
        for sock in socks:
            sock.close()
        words = ["--way", way, "--directory", directory, "--ports", *map(str, ports), "--member"]
        members = [_started([*words, str(each)], 5) for each in range(3)]
        try:
            yield members, ports
        finally:
            for member in members:
                member.kill()
                member.communicate()


def _shown(took_s: list[float]) -> str:
    ordered = sorted(took_s)
    p50, p99 = (1000 * ordered[int(len(ordered) * part)] for part in (0.5, 0.99))
    return f"{len(ordered):6} commands, p50 {p50:6.2f} ms, p99 {p99:6.2f} ms"


def _measure(way: str, rounds: int, for_s: float) -> None:
    with _processes(way) as (members, ports):
        leads = [json.loads(_line(member))["leads"] for member in members]
        leader = leads.index(True)
        _asked(members[leader], "1")
        for _ in range(rounds):
            for is_flooded in (False, True) if way != "none" else (False,):
                flood = None
                if is_flooded:
                    flood = _started(["--flood", str(ports[3 + leader])], 4)
                    _line(flood)
                told = _asked(members[leader], str(for_s))
                answers = ""
                if flood is not None:
                    flood.kill()
                    counts = [int(line) for line in flood.communicate()[0].split()]
                    answers = f", {sum(counts) / max(1, len(counts)):5.0f} answers/s"
                what = "flood" if is_flooded else "quiet"
                print(
                    f"{way:10} {what}: {_shown(told['took_s'])}, failed {told['failed']}, "
                    f"term {told['term']}{answers}",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=WAYS)
    for name in ("--way", "--directory", "--member"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--ports", type=int, nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--flood", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.flood is not None:
        _flood(given.flood)
    elif given.member is not None:
        trio.run(_member, given.member, given.ports, given.way, given.directory)
    else:
        for way in given.ways:
            _measure(way, given.rounds, given.seconds)


if __name__ == "__main__":
    main()
