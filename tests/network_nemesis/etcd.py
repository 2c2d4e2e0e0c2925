"""etcd in the same lab, with the same load, for comparison.

Rules of this file:

* It is asked by its JSON gateway, with no client library: who calls keeps a pace at each member,
  and waits for no answer before it calls again. So the longest gap between two acknowledged writes
  is etcd's own, and not how a client looks for another member.
* Its answers are not judged: it is measured.
"""

from __future__ import annotations

import base64
import json
import signal
from collections import defaultdict
from pathlib import Path
from typing import Any, Final, final

import trio

from benchmarks.processes import Process

from .lab import Lab, name_of
from .members import STATUS_S, Cluster, View

ETCD: Final = "etcd"
CLIENTS_PORT: Final = 2379
PEERS_PORT: Final = 2380
PACE_S: Final = 0.1
"""Between two calls at one member."""
CALL_S: Final = 5.0
WAITING_MAX: Final = 60
"""Calls that may wait at one member."""
READ_BYTES: Final = 65536


@final
class Etcd(Cluster):
    """Members of etcd.

    Args:
        lab: where.
        directory: for their data and logs.
        size: how many there are.
        timing_ms: heartbeat, and election timeout.
    """

    def __init__(
        self, lab: Lab, directory: Path, size: int, *, timing_ms: tuple[int, int] = (50, 250)
    ) -> None:
        super().__init__(lab, directory, size)
        heartbeat_ms, election_ms = timing_ms
        self.name = f"etcd {heartbeat_ms}/{election_ms}"
        self._timing_ms = timing_ms
        self._processes: dict[int, Process] = {}
        self._ids: dict[str, int] = {}
        """etcd's own ids."""
        self._idle: dict[int, list[trio.SocketStream]] = defaultdict(list)

    def _command(self, member: int) -> list[str]:
        def url(of: str, port: int) -> str:
            return f"http://{of}:{port}"

        heartbeat_ms, election_ms = self._timing_ms
        cluster = ",".join(f"m{each}={url(name_of(each), PEERS_PORT)}" for each in self.members)
        return [
            *(*self.lab.prefix(member), ETCD, "--name", f"m{member}"),
            *("--data-dir", str(self.directory / str(member)), "--logger", "zap"),
            *("--listen-peer-urls", url("0.0.0.0", PEERS_PORT)),
            *("--listen-client-urls", url("0.0.0.0", CLIENTS_PORT)),
            *("--initial-advertise-peer-urls", url(name_of(member), PEERS_PORT)),
            *("--advertise-client-urls", url(name_of(member), CLIENTS_PORT)),
            *("--initial-cluster", cluster),
            *("--heartbeat-interval", str(heartbeat_ms), "--election-timeout", str(election_ms)),
        ]

    def _log(self, member: int) -> Path:
        return self.directory / f"{member}.log"

    def _start(self, member: int) -> None:
        self._processes[member] = Process(
            self._command(member), name=f"etcd {member}", errors=self._log(member), is_guarded=True
        )

    def _kill(self, member: int) -> None:
        if member in self._processes:
            self._processes[member].kill()

    def _signal(self, member: int, number: signal.Signals) -> None:
        self._processes[member].signal(number)

    async def views(self) -> dict[int, View]:
        found: dict[int, dict[str, Any]] = {}
        async with trio.open_nursery() as nursery:
            for member in self.members:
                nursery.start_soon(self._keep_status, member, found)
        for member, said in found.items():
            self._ids[said["header"]["member_id"]] = member
        return {
            member: View(
                int(said.get("raftTerm", 0)),
                self._ids.get(said.get("leader", "0")),
                int(said.get("raftAppliedIndex", 0)),
            )
            for member, said in found.items()
        }

    async def _keep_status(self, member: int, found: dict[int, dict[str, Any]]) -> None:
        said = await self._ask(member, "/v3/maintenance/status", {}, STATUS_S)
        if said is not None:
            found[member] = said

    def elections(self) -> int:
        return sum(
            self._log(member).read_bytes().count(b" became leader at term ")
            for member in self.members
        )

    async def call(self, stop: trio.Event) -> None:
        async with trio.open_nursery() as nursery:
            for member in self.members:
                nursery.start_soon(self._keep_pace, member, nursery)
            await stop.wait()
            nursery.cancel_scope.cancel()

    async def _keep_pace(self, member: int, nursery: trio.Nursery) -> None:
        places = trio.Semaphore(WAITING_MAX)
        number = 0
        while True:
            number += 1
            await places.acquire()
            nursery.start_soon(self._put_small, member, number, places)
            await trio.sleep(PACE_S)

    async def _put_small(self, member: int, number: int, places: trio.Semaphore) -> None:
        try:
            if await self._put(member, f"small/{member}", b"%d" % number, CALL_S):
                self.written_s.append(trio.current_time())
        finally:
            places.release()

    async def write(self, name: str, value: bytes, deadline_s: float) -> bool:
        leader = await self.leader()
        return await self._put(self.members[0] if leader is None else leader,
                               name, value, deadline_s)  # fmt: skip

    async def _put(self, member: int, key: str, value: bytes, deadline_s: float) -> bool:
        body = {"key": _base64(key.encode()), "value": _base64(value)}
        return await self._ask(member, "/v3/kv/put", body, deadline_s) is not None

    async def check(self) -> None:
        """Nobody judges it."""

    # -- HTTP, no more of it than is needed ----------------------------------------------------

    async def _ask(
        self, member: int, path: str, body: dict[str, str], deadline_s: float
    ) -> dict[str, Any] | None:
        """The answer; None: there is none in time, or it is an error."""
        with trio.move_on_after(deadline_s):
            idle = self._idle[member]
            try:
                stream = idle.pop() if idle else await trio.open_tcp_stream(
                    name_of(member), CLIENTS_PORT)  # fmt: skip
            except OSError:
                await trio.sleep(PACE_S)
                return None
            try:
                status, said = await _exchange(stream, path, json.dumps(body).encode())
            except (trio.BrokenResourceError, ValueError):
                await trio.aclose_forcefully(stream)
                return None
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
            idle.append(stream)
            return json.loads(said) if status == 200 else None
        return None


async def _exchange(stream: trio.SocketStream, path: str, body: bytes) -> tuple[int, bytes]:
    head = f"POST {path} HTTP/1.1\r\nHost: nemesis\r\nContent-Length: {len(body)}\r\n\r\n"
    await stream.send_all(head.encode() + body)
    said = b""
    while b"\r\n\r\n" not in said:
        said += await _more(stream)
    headers, _, content = said.partition(b"\r\n\r\n")
    first, *lines = headers.decode().split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in
              (line.partition(":") for line in lines)}  # fmt: skip
    if "content-length" not in fields:
        raise ValueError(f"an answer of unknown length: {headers!r}")
    while len(content) < int(fields["content-length"]):
        content += await _more(stream)
    return int(first.split()[1]), content


async def _more(stream: trio.SocketStream) -> bytes:
    data = bytes(await stream.receive_some(READ_BYTES))
    if not data:
        raise trio.BrokenResourceError("it hung up")
    return data


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
