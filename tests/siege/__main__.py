"""The command: three servers, a load, attackers; figures, and bounds."""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import msgspec
import trio

from benchmarks.processes import ServerProcesses
from benchmarks.processes.process import Process, python
from tests.siege import attacks, load
from tests.siege.plot import plot
from tests.siege.watching import Change, Sample, Watcher
from trioraft.client.client import Client
from trioraft.kv import ERROR_TYPES, KvClient
from trioraft.rpc.protocol import ServerStatus

SERVER_OPTIONS: Final = ("--log-format", "json", "--snapshot-entries", "20000")
BIG_BYTES: Final = 4 * 1024 * 1024
HOSTS: Final = 1000
"""Addresses that attackers come from."""
RESTARTS: Final = 3
"""Members that are killed and started again, one after the other, without an attack and with."""
ELECTED_S: Final = 60.0
END_S: Final = 10.0
"""How long attackers may take to end when they are told to."""
JOIN_TRIES_S: Final = 60.0
SIEGES: Final = ("siege", "siege, commands", "siege, restarts")
RATIO_MAX: Final = 3.0
ANSWER_S_MAX: Final = 1.0
JOIN_S_MAX: Final = 2.0
RSS_MB_MAX: Final = 300.0
FDS_OVER_MAX: Final = 16
"""Descriptors that a server may have more in the end than before the siege."""
GROWTH_MAX: Final = 1.3
"""Soak: the last quarter's RSS and disk, at most so many times the second quarter's."""
REFUSED_MS_MAX: Final = 1.0
"""CPU of a server for each connection that it turned away or rejected."""


@attrs.define
class Siege:
    """One run.

    Args:
        options: of the command.
        directory: for the servers' data and logs.
        servers: the cluster.
    """

    options: argparse.Namespace
    directory: Path
    servers: ServerProcesses
    watcher: Watcher
    rng: random.Random
    joined_s: list[tuple[str, float, float]] = attrs.Factory(list)
    """For each member that was killed: the phase; from its start to its word that it serves; from
    that until it follows and has applied what was applied when it came."""
    elections: dict[str, int] = attrs.Factory(dict)
    figures: Counter[str] = attrs.Factory(Counter)
    """The attackers' own."""
    faults: Counter[str] = attrs.Factory(Counter)
    report: load.Report | None = None
    errors: list[str] = attrs.Factory(list)

    # -- parts ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """All servers serve, there is a leader, and what attackers ask for is there."""
        await trio.to_thread.run_sync(self.servers.start)
        async with Client(
            self.servers.addresses, timeout_s=ELECTED_S, error_types=ERROR_TYPES
        ) as client:
            await KvClient(client).put(attacks.BIG_KEY, bytes(BIG_BYTES))

    @asynccontextmanager
    async def attackers(self, kinds: list[str]) -> AsyncIterator[None]:
        """In the block, they attack."""
        options = self.options
        counts = attacks.counts(options.connections, kinds)
        # Who is quick must not wait for those that are many.
        loud = {kind: n for kind, n in counts.items() if kind in ("storm", "garbage", "flood")}
        still = {kind: n for kind, n in counts.items() if kind not in loud}
        processes = []
        for group in filter(None, (loud, still)):
            setup = attacks.Setup(
                self.rng.randrange(1 << 30), "trioraft", self.servers.addresses,
                [*self.servers.peers.items()], group, HOSTS, options.core, options.ramp,
            )  # fmt: skip
            processes.append(self._process("tests.siege.attacks", setup))
        last: list[dict[str, float]] = [{} for _ in processes]
        try:
            async with trio.open_nursery() as nursery:
                for number, process in enumerate(processes):
                    nursery.start_soon(self._hear, process, last[number])
                yield
                for process in processes:
                    process.end_input()
                nursery.cancel_scope.deadline = trio.current_time() + END_S
        finally:
            for process, said in zip(processes, last, strict=True):
                self._note_end(process)
                for name, value in said.items():
                    self.figures[name] += round(value)

    @asynccontextmanager
    async def spinning(self) -> AsyncIterator[None]:
        """In the block, the attackers' core is busy, with nothing."""
        core = "any" if self.options.core is None else str(self.options.core)
        with Process(python("tests.siege.attacks", "spin", core), name="the spinner"):
            yield

    @asynccontextmanager
    async def load(self) -> AsyncIterator[Process]:
        """In the block, the load is there; afterwards there is a report."""
        options = self.options
        setup = load.Setup(
            options.seed, self.servers.addresses, options.clients, options.puts,
            options.callers, str(Path.cwd()),
        )  # fmt: skip
        with self._process("tests.siege.load", setup) as process:
            yield process
            process.say(b"end\n")
            process.end_input()
            said: list[bytes] = []
            while lines := await process.lines():
                said += lines
            if not said:
                code = process.wait()
                raise AssertionError(f"the load ended with {code}:\n{process.complaints()}")
            self.report = msgspec.json.decode(said[-1], type=load.Report)

    def _process(self, module: str, setup: msgspec.Struct) -> Process:
        words = msgspec.json.encode(setup).decode()
        return Process(python(module, words), name=module)

    async def _hear(self, process: Process, last: dict[str, float]) -> None:
        while lines := await process.lines():
            last.update(msgspec.json.decode(lines[-1], type=dict[str, float]))

    def _note_end(self, process: Process) -> None:
        has_ended = not process.is_running
        if process.kill() and has_ended:
            self.errors.append(f"{process.name} ended with {process.code}: {process.complaints()}")

    def enter(self, process: Process, name: str) -> None:
        """A phase begins."""
        self.watcher.phase = name
        self.elections[name] = self.watcher.elections()
        process.say(f"{name}\n".encode())
        print(f"{name} …", flush=True)

    # -- a member that is killed ---------------------------------------------------------------

    async def restart_one(self, node_id: str | None = None) -> None:
        """Kill a member, start it again, and see how long it takes to be one of them. Without a
        name, it is one that does not lead: nobody else is to be elected."""
        async with Client(self.servers.addresses) as client:
            if node_id is None:
                node_id = await self._follower(client)
            if node_id is None:
                self.errors.append(f"{self.watcher.phase}: nobody said that it leads, and nobody "
                                   f"that it follows, for {JOIN_TRIES_S:g} s")  # fmt: skip
                return
            server = self.servers.servers[node_id]
            await trio.to_thread.run_sync(server.kill)
            begun_s = trio.current_time()
            server.start()
            await trio.to_thread.run_sync(server.wait_ready)
            ready_s = trio.current_time()
            wanted = 0
            with trio.move_on_after(JOIN_TRIES_S):
                while True:
                    said = await self._statuses(client)
                    wanted = wanted or max(
                        (each.applied_index for name, each in said.items() if name != node_id),
                        default=0,
                    )
                    own = said.get(node_id)
                    follows = own is not None and own.leader_id is not None
                    if own is not None and follows and own.applied_index >= wanted > 0:
                        break
                    await trio.sleep(0.02)
            joined = (self.watcher.phase, ready_s - begun_s, trio.current_time() - ready_s)
            self.joined_s.append(joined)

    async def _follower(self, client: Client) -> str | None:
        """Some member that follows, while another one leads; None: there is none for long."""
        with trio.move_on_after(JOIN_TRIES_S):
            while True:
                known = await self._statuses(client)
                followers = [each for each, said in known.items() if said.role == "Follower"]
                if followers and any(said.role == "Leader" for said in known.values()):
                    return self.rng.choice(followers)
                await trio.sleep(0.05)
        return None

    async def _statuses(self, client: Client) -> dict[str, ServerStatus]:
        answers = await client.statuses(timeout_s=2.0)
        return {str(said.node_id): said for said in answers.values()
                if isinstance(said, ServerStatus)}  # fmt: skip

    # -- runs ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Start, and then one of both."""
        await self.start()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.watcher.run)
            async with self.load() as process:
                await (self._soak(process) if self.options.soak else self._besiege(process))
            nursery.cancel_scope.cancel()

    async def _besiege(self, process: Process) -> None:
        async with self.spinning():
            await trio.sleep(3.0)  # the load has its sessions, and everybody has learnt who leads
            await self._phase(process, "baseline")
            await self._commands(process, "baseline, commands")
            await self._restarts(process, "baseline, restarts")
            self.enter(process, "pause")
        async with self.attackers(self.options.attack):
            await trio.sleep(self.options.ramp)
            await self._phase(process, "siege")
            await self._commands(process, "siege, commands")
            await self._restarts(process, "siege, restarts")
            self.enter(process, "after")
        await trio.sleep(2.0)
        async with self.spinning():
            await self._phase(process, "quiet")
            self.enter(process, "over")

    async def _phase(self, process: Process, name: str) -> None:
        self.enter(process, name)
        await trio.sleep(self.options.seconds)

    async def _commands(self, process: Process, name: str) -> None:
        """Starting an interpreter takes a core for a while, so puts are compared without."""
        if not self.options.no_commands:
            self.enter(process, name)
            with trio.move_on_after(self.options.seconds):
                await self.watcher.probe()

    async def _restarts(self, process: Process, name: str) -> None:
        if not self.options.no_restarts:
            self.enter(process, name)
            for _ in range(RESTARTS):
                await self.restart_one()
                await trio.sleep(2.0)

    async def _soak(self, process: Process) -> None:
        self.enter(process, "soak")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._break_members)
            with trio.move_on_after(60 * self.options.minutes):
                while True:
                    kinds = self.options.attack
                    some = sorted(self.rng.sample(kinds, min(len(kinds), 4)))
                    print(f"  {', '.join(some)}", flush=True)
                    async with self.attackers(some):
                        await trio.sleep(self.rng.uniform(20, 40))
            nursery.cancel_scope.cancel()
        self.enter(process, "over")

    async def _break_members(self) -> None:
        while True:
            await trio.sleep(self.rng.uniform(5, 20))
            victim = self.rng.choice(self.servers.ids)
            with trio.CancelScope(shield=True):  # whatever is broken is mended again
                if self.rng.random() < 0.5:
                    self.faults["killed"] += 1
                    await self.restart_one(victim)
                else:
                    self.faults["paused"] += 1
                    server = self.servers.servers[victim]
                    server.signal(signal.SIGSTOP)
                    await trio.sleep(self.rng.choice((0.1, 0.6, 1.5, 3.0)))
                    server.signal(signal.SIGCONT)

    # -- judging -------------------------------------------------------------------------------

    def missed(self) -> list[str]:
        """The bounds that were missed, one line each."""
        found = [*self.errors]
        assert self.report is not None
        found += self.report.lost
        found += self._missed_in_soak() if self.options.soak else self._missed_in_siege()
        for sample in self._largest():
            if sample.rss_mb > RSS_MB_MAX:
                found.append(f"server {sample.node_id} had {sample.rss_mb:.0f} MB of RSS, at most "
                             f"{RSS_MB_MAX:g} are wanted")  # fmt: skip
        return found

    def _largest(self) -> list[Sample]:
        return [
            max(mine, key=lambda each: each.rss_mb)
            for node_id in self.servers.ids
            if (mine := [each for each in self.watcher.samples if each.node_id == node_id])
        ]

    def _missed_in_siege(self) -> list[str]:
        found: list[str] = []
        assert self.report is not None
        phases = {phase.name: phase for phase in self.report.phases}
        ratio = phases["siege"].p99_ms / max(phases["baseline"].p99_ms, 0.1)
        if ratio > RATIO_MAX:
            found.append(f"put p99 was {ratio:.1f} times the baseline's, at most {RATIO_MAX:g}")
        changes = self.elections["after"] - self.elections["siege"]
        if changes:
            found.append(f"{changes} changes of leader during the siege, 0 are wanted")
        for phase, _, joined_s in self.joined_s:
            if joined_s > JOIN_S_MAX and phase in SIEGES:
                found.append(f"a member took {joined_s:.1f} s to join, at most {JOIN_S_MAX:g}")
        asked_s = max(max(self.watcher.asked_s.get(phase, [0.0])) for phase in SIEGES)
        if asked_s > ANSWER_S_MAX:
            found.append(f"a client's statuses() took {asked_s:.2f} s, at most {ANSWER_S_MAX:g}")
        for name, took_s, begin_s in self.watcher.commands_s.get("siege, commands", []):
            if took_s - begin_s > ANSWER_S_MAX:
                found.append(f"{name!r} took {took_s - begin_s:.2f} s beyond the interpreter's "
                             f"{begin_s:.2f}, at most {ANSWER_S_MAX:g}")  # fmt: skip
        found += self.watcher.failures
        for node_id in self.servers.ids:
            before, after = self.watcher.of("baseline", node_id), self.watcher.of("quiet", node_id)
            if before and after and after[-1].fds > before[-1].fds + FDS_OVER_MAX:
                found.append(f"server {node_id} has {after[-1].fds} descriptors after the siege, "
                             f"{before[-1].fds} before")  # fmt: skip
            used_ms = self._refused_ms(node_id)
            if used_ms is not None and used_ms > REFUSED_MS_MAX:
                found.append(f"server {node_id} used {used_ms:.2f} ms of CPU for each refused "
                             f"connection, at most {REFUSED_MS_MAX:g}")  # fmt: skip
        return found

    def _refused_ms(self, node_id: str) -> float | None:
        """CPU beyond the baseline's, for each connection that was refused."""
        before = Change.of(self.watcher.of("baseline", node_id))
        siege = Change.of(self.watcher.of("siege", node_id))
        refused = siege.turned_away + siege.rejected
        if not refused or not before.lasted_s:
            return None
        usual_s = before.cpu_s / before.lasted_s * siege.lasted_s
        return 1000 * (siege.cpu_s - usual_s) / refused

    def _missed_in_soak(self) -> list[str]:
        found: list[str] = []
        for node_id in self.servers.ids:
            samples = self.watcher.of("soak", node_id)
            quarter = len(samples) // 4
            if not quarter:
                continue
            early, late = samples[quarter : 2 * quarter], samples[-quarter:]
            for figure in ("rss_mb", "fds", "threads", "disk_mb"):
                before = max(float(getattr(each, figure)) for each in early)
                after = max(float(getattr(each, figure)) for each in late)
                if after > GROWTH_MAX * before + 10:
                    found.append(f"server {node_id}: {figure} grew from {before:.0f} in the second "
                                 f"quarter to {after:.0f} in the last")  # fmt: skip
        return found

    def _phases_seen(self) -> dict[str, list[Sample]]:
        seen: dict[str, list[Sample]] = {}
        for sample in self.watcher.samples:
            seen.setdefault(sample.phase, []).append(sample)
        return seen

    def told(self) -> str:
        """The figures, as Markdown."""
        assert self.report is not None
        lines = ["| phase | puts | failed | p50 ms | p99 ms | max ms | statuses() max |",
                 "|---|---|---|---|---|---|---|"]  # fmt: skip
        for phase in self.report.phases:
            asked_ms = 1000 * max(self.watcher.asked_s.get(phase.name, [0.0]))
            lines.append(f"| {phase.name} | {phase.puts} | {phase.failed} | {phase.p50_ms} | "
                         f"{phase.p99_ms} | {phase.max_ms} | {asked_ms:.0f} ms |")  # fmt: skip
        lines.append("")
        for name, seen in self._phases_seen().items():
            lasted_s = seen[-1].at_s - seen[0].at_s
            if lasted_s:
                idle = (seen[-1].idle_s - seen[0].idle_s) / lasted_s
                lines.append(f"{name}: the servers' core was idle for {100 * idle:.0f} %")
        lines += ["", "| server, phase | CPU s/s | RSS max MB | fds max | threads max | disk MB | "
                  "turned away | rejected |", "|---|---|---|---|---|---|---|---|"]  # fmt: skip
        names = ("soak",) if self.options.soak else ("baseline", "siege", "quiet")
        for node_id in self.servers.ids:
            for name in names:
                if samples := self.watcher.of(name, node_id):
                    lines.append(_row(node_id, name, samples))
        lines.append("")
        for node_id in self.servers.ids:
            used_ms = self._refused_ms(node_id)
            if used_ms is not None:
                lines.append(f"server {node_id}: {used_ms:.3f} ms of CPU a refused connection")
        for phase_name, commands in self.watcher.commands_s.items():
            most = max(took_s - begin_s for _, took_s, begin_s in commands)
            lines.append(f"{phase_name}: {len(commands)} commands of `admin status`, the slowest "
                         f"{most:.2f} s beyond the interpreter's start")  # fmt: skip
        for phase_name, up_s, joined_s in self.joined_s:
            lines.append(f"{phase_name}: a member that was killed was up after {up_s:.1f} s, and "
                         f"had joined {joined_s:.2f} s later")  # fmt: skip
        lines.append(f"elections so far at each phase: {self.elections}; faults {self.faults}")
        lines.append(f"attackers: {dict(sorted(self.figures.items()))}")
        report = self.report
        lines.append(f"{report.acknowledged} calls acknowledged, {len(report.lost)} faults in what "
                     f"is there; {report.checked} operations linearizable; "
                     f"errors {report.errors}")  # fmt: skip
        return "\n".join(lines)


def _row(node_id: str, name: str, samples: list[Sample]) -> str:
    change = Change.of(samples)
    return (
        f"| {node_id}, {name} | {change.cpu_s / max(change.lasted_s, 1.0):.2f} | "
        f"{max(each.rss_mb for each in samples):.0f} | {max(each.fds for each in samples)} | "
        f"{max(each.threads for each in samples)} | {samples[-1].disk_mb:.0f} | "
        f"{change.turned_away} | {change.rejected} |"
    )


def parse(words: list[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m tests.siege")
    parser.add_argument("--connections", type=int, default=10_000, help="attackers', in sum")
    parser.add_argument("--attack", default=",".join(attacks.KINDS), metavar="KIND,KIND",
                        help=f"of {', '.join(attacks.KINDS)}")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=30.0, help="of each phase")
    parser.add_argument("--ramp", type=float, default=5.0, help="until all attackers are there")
    parser.add_argument("--puts", type=float, default=200.0, help="a second")
    parser.add_argument("--clients", type=int, default=4, help="that put")
    parser.add_argument("--callers", type=int, default=4, help="that do anything, and record it")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--soak", action="store_true", help="kills, pauses and changing attacks")
    parser.add_argument("--minutes", type=float, default=30.0, help="of the soak")
    parser.add_argument("--no-commands", action="store_true", help="run no `admin status`")
    parser.add_argument("--no-restarts", action="store_true", help="kill no member in the siege")
    parser.add_argument("--markdown", metavar="FILE", help="write the figures there, too")
    parser.add_argument("--plot", metavar="FILE", help="write an SVG there")
    parser.add_argument("--keep", metavar="DIR", help="leave the servers' data and logs there")
    options = parser.parse_args(words)
    options.attack = options.attack.split(",")
    if strange := set(options.attack) - set(attacks.KINDS):
        parser.error(f"--attack: {', '.join(strange)}: choose of {', '.join(attacks.KINDS)}")
    return options


async def run(options: argparse.Namespace, directory: Path) -> Siege:
    """Everything, until the servers are gone."""
    with ServerProcesses(directory, options=SERVER_OPTIONS) as servers:
        watcher = Watcher(servers, directory)
        siege = Siege(options, directory, servers, watcher, random.Random(options.seed))
        await siege.run()
    return siege


def main(words: list[str]) -> int:
    """Run the command; its exit code."""
    options = parse(words)
    cores = sorted(os.sched_getaffinity(0))
    options.core = cores[-1] if len(cores) > 1 else None
    if options.core is not None:
        os.sched_setaffinity(0, {cores[0]})  # and all that we start, unless it says otherwise
    print(f"seed {options.seed}, {options.connections} connections: {', '.join(options.attack)}",
          flush=True)  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="siege-") as name:
        directory = Path(options.keep or name)
        directory.mkdir(parents=True, exist_ok=True)
        siege = trio.run(partial(run, options, directory))
    told, missed = siege.told(), siege.missed()
    print(told)
    if options.markdown:
        Path(options.markdown).write_text(told + "\n", encoding="utf-8")
    if options.plot:
        Path(options.plot).write_text(plot(siege.watcher.samples), encoding="utf-8")
    print("NOT AS IT SHOULD BE" if missed else "all is well", *missed, sep="\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
