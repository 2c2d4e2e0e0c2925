"""What is seen of the servers from outside: /proc, their disks, and what they say of themselves."""

from __future__ import annotations

import itertools
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final, final

import attrs
import trio

from benchmarks.processes import ServerProcesses
from benchmarks.processes.process import ROOT
from trioraft.client.client import Client
from trioraft.rpc.protocol import ServerStatus

SAMPLE_S: Final = 1.0
ASK_S: Final = 10.0
"""How long an answer is waited for: it may be late, and then that is told."""
TICK_S: Final = 1.0 / os.sysconf("SC_CLK_TCK")
MB: Final = 1e6


@attrs.frozen
class Sample:
    """One server at one moment."""

    at_s: float
    phase: str
    node_id: str
    rss_mb: float
    fds: int
    threads: int
    cpu_s: float
    disk_mb: float
    turned_away: int
    rejected: int
    has_said: bool
    """Whether it answered in time; the counters are 0 otherwise."""
    idle_s: float = 0.0
    """How long the cores that servers may use have been idle, since the machine started."""


@attrs.define
class Watcher:
    """Looks at all servers, each second.

    Args:
        servers: which.
        directory: where their data is.
    """

    servers: ServerProcesses
    directory: Path
    phase: str = "start"
    samples: list[Sample] = attrs.Factory(list)
    asked_s: dict[str, list[float]] = attrs.Factory(dict)
    """By phase: how long `statuses()` of a client in this process took."""
    commands_s: dict[str, list[tuple[str, float, float]]] = attrs.Factory(dict)
    """By phase: a command, how long it took, and of that, the interpreter's start."""
    failures: list[str] = attrs.Factory(list)
    begun_s: float = attrs.Factory(trio.current_time)

    async def run(self) -> None:
        """Until cancelled."""
        async with Client(self.servers.addresses) as client:
            while True:
                begun_s = trio.current_time()
                answers = await client.statuses(timeout_s=ASK_S)
                self.asked_s.setdefault(self.phase, []).append(trio.current_time() - begun_s)
                said = [status for status in answers.values() if isinstance(status, ServerStatus)]
                by_id = {str(status.node_id): status for status in said}
                for node_id in self.servers.ids:
                    self._look_at(node_id, by_id.get(node_id))
                await trio.sleep_until(begun_s + SAMPLE_S)

    def _look_at(self, node_id: str, status: ServerStatus | None) -> None:
        pid = self.pid(node_id)
        if pid is None:
            return
        try:
            told = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
            fields = dict(line.split(":", 1) for line in told.splitlines())
            rss_mb = int(fields["VmRSS"].split()[0]) * 1024 / MB
            fds = len(os.listdir(f"/proc/{pid}/fd"))
            cpu_s = cpu_s_of(pid)
        except (OSError, KeyError):
            return  # it was killed meanwhile
        at_s = trio.current_time() - self.begun_s
        disk_mb = _size_bytes(self.directory / node_id) / MB
        turned_away, rejected = (0, 0) if status is None else (status.turned_away, status.rejected)
        self.samples.append(
            Sample(at_s, self.phase, node_id, rss_mb, fds, int(fields["Threads"]), cpu_s, disk_mb,
                   turned_away, rejected, status is not None, idle_s())
        )  # fmt: skip

    def pid(self, node_id: str) -> int | None:
        """Its process; None: it does not run."""
        process = self.servers.servers[node_id]._process
        return None if process is None or process.code is not None else process.pid

    async def probe(self) -> None:
        """The commands that people and probes use, one after the other, until cancelled."""
        places = ",".join(f"{host}:{port}" for host, port in self.servers.addresses)
        while True:
            for words in ([], ["--check", "live"], ["--check", "ready"]):
                begin_s = await self._time_of(["--help"])
                took_s = await self._time_of(["--address", places, *words])
                name = " ".join(["admin status", *words])
                self.commands_s.setdefault(self.phase, []).append((name, took_s, begin_s))
                await trio.sleep(0.5)

    async def _time_of(self, words: list[str]) -> float:
        begun_s = trio.current_time()
        command = [sys.executable, "-m", "trioraft", "admin", "status", *words]
        done = await trio.run_process(
            command, capture_stdout=True, capture_stderr=True, check=False, cwd=ROOT
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()[-200:]
            self.failures.append(f"{self.phase}: {' '.join(words)}: {said or done.stdout!r}")
        return trio.current_time() - begun_s

    def elections(self) -> int:
        """How often a member became leader so far."""
        logs = (self.directory / f"{node_id}.log" for node_id in self.servers.ids)
        return sum(_has_won(line) for log in logs if log.exists()
                   for line in log.read_bytes().splitlines())  # fmt: skip

    def of(self, phase: str, node_id: str) -> list[Sample]:
        """What was seen of a server in a phase."""
        return [each for each in self.samples if (each.phase, each.node_id) == (phase, node_id)]


@final
@attrs.frozen
class Change:
    """What a phase did to one server: the sum over its processes."""

    cpu_s: float
    lasted_s: float
    turned_away: int
    rejected: int

    @classmethod
    def of(cls, samples: list[Sample]) -> Change:
        """From the samples of one server; a counter that shrinks begins anew."""
        cpu_s, turned_away, rejected = 0.0, 0, 0
        lasted_s = samples[-1].at_s - samples[0].at_s if samples else 0.0
        for before, after in itertools.pairwise(samples):
            cpu_s += _grown(before.cpu_s, after.cpu_s)
        said = [each for each in samples if each.has_said]
        for before, after in itertools.pairwise(said):
            turned_away += int(_grown(before.turned_away, after.turned_away))
            rejected += int(_grown(before.rejected, after.rejected))
        return cls(cpu_s, lasted_s, turned_away, rejected)


def cpu_s_of(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def idle_s() -> float:
    """Seconds that the cores this process may use have been idle since the machine started, or
    busy with what gives way to us."""
    ours = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    lines = [line.split() for line in Path("/proc/stat").read_text(encoding="utf-8").splitlines()]
    return (
        sum(int(words[2]) + int(words[4]) + int(words[5]) for words in lines if words[0] in ours)
        * TICK_S
    )


def _grown(before: float, after: float) -> float:
    return after - before if after >= before else after


def _size_bytes(directory: Path) -> int:
    size_bytes = 0
    for path in directory.rglob("*"):
        with suppress(OSError):  # it was removed meanwhile
            size_bytes += path.stat().st_blocks * 512
    return size_bytes


def _has_won(line: bytes) -> bool:
    if b'"role_changed"' not in line:
        return False
    said = json.loads(line)
    return bool(said["event"] == "role_changed" and said["role"] == "Leader")
