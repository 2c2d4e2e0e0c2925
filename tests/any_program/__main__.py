"""The parent: starts the services, loads them, kills them, and checks what is left."""

from __future__ import annotations

import argparse
import http.client
import json
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Final, final

import attrs

from benchmarks.processes import PATIENCE_S, Process, ProcessError, free_ports, shown

EXAMPLES: Final = Path(__file__).parents[2] / "examples" / "any_program"
PROGRAMS: Final = ("aiohttp", "trio", "threads")
NAMES: Final = ("a", "b", "c")
PAUSE_S: Final = 0.005
"""Between two requests of one worker: two cores have three services and us."""
TAKEOVER_S_MAX: Final = 0.05
"""What the median is to stay below, on a machine that does nothing else."""

Answer = tuple[int, dict[str, Any]]


class Unanswered(Exception):  # noqa: N818 - what happened
    """The process was gone, or went: what it was asked may be done or not."""


@final
class Caller:
    """Asks one service over a connection that is kept."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str) -> Answer:
        """One request.

        Raises:
            Unanswered: nobody knows what became of it.
        """
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            self._connection.request(method, path)
            response = self._connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unanswered(str(error)) from error

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@final
class Services:
    """The three processes."""

    def __init__(self, program: str, directory: Path) -> None:
        with free_ports(2 * len(NAMES)) as ports:
            raft, web = ports[: len(NAMES)], ports[len(NAMES) :]
        self.ports = {name: port for name, (_, port) in zip(NAMES, web, strict=True)}
        members = [f"{name}={shown(address)}" for name, address in zip(NAMES, raft, strict=True)]
        self._commands = {
            name: (
                *(sys.executable, str(EXAMPLES / f"with_{program}.py")),
                *(name, str(self.ports[name]), str(directory), *members),
            )
            for name in NAMES
        }
        self._directory = directory
        self.running: dict[str, Process] = {}

    def start(self, name: str) -> None:
        """Start one; returns at once."""
        self.running[name] = Process(
            self._commands[name],
            name=name,
            errors=self._directory / f"{name}.errors.txt",
            is_guarded=True,
        )

    def wait_ready(self, name: str) -> None:
        """Wait until it serves."""
        said = self.running[name].next_line()
        if said != "serving":
            raise ProcessError(f"{name} said {said!r}")

    def kill(self, name: str) -> None:
        """SIGKILL, and bury it."""
        self.running.pop(name).kill()

    def end(self) -> None:
        """SIGTERM to all: each must end by itself, without a complaint."""
        for process in self.running.values():
            process.signal(signal.SIGTERM)
        for process in self.running.values():
            process.wait()
        complaints = [(self._directory / f"{name}.errors.txt").read_text() for name in NAMES]
        if any(complaints):
            raise AssertionError("\n".join(complaints))

    @contextmanager
    def all_killed(self) -> Iterator[None]:
        """Nothing is left of them."""
        try:
            yield
        finally:
            for name in [*self.running]:
                self.kill(name)


@attrs.define
class Load:
    """Workers that count, and work under the lock, on every service."""

    ports: dict[str, int]
    acknowledged: list[int] = attrs.field(factory=list)
    maybe: int = 0
    tokens: list[int] = attrs.field(factory=list)
    fenced: int = 0
    """Holders that had been stopped for longer than their lease, and were refused then."""
    problems: list[str] = attrs.field(factory=list)
    is_over: threading.Event = attrs.field(factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Load them for the body of the `with`."""
        threads = [
            threading.Thread(target=work, args=(Caller(port),))
            for port in self.ports.values()
            for work in (self._count, self._guard)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.is_over.set()
            for thread in threads:
                thread.join(PATIENCE_S)
        if self.problems:
            raise AssertionError("; ".join(self.problems[:5]))

    def _count(self, caller: Caller) -> None:
        with closing(caller):
            while not self.is_over.wait(PAUSE_S):
                self.count_once(caller)

    def count_once(self, caller: Caller) -> bool:
        """Count one up; whether that was acknowledged."""
        try:
            status, said = caller.ask("POST", "/count")
        except Unanswered:
            self.maybe += 1
            return False
        if status == 200:
            self.acknowledged.append(said["count"])
        elif status == 504:
            self.maybe += 1
        elif status != 503:
            self.problems.append(f"counting was answered {status}: {said}")
        return status == 200

    def _guard(self, caller: Caller) -> None:
        with closing(caller):
            while not self.is_over.wait(PAUSE_S):
                self._guard_once(caller)

    def _guard_once(self, caller: Caller) -> None:
        try:
            status, said = caller.ask("POST", "/guarded")
        except Unanswered:
            return
        if status == 200:
            self.tokens.append(said["token"])
        elif status == 409:
            self.fenced += 1
        elif status not in (503, 504):
            self.problems.append(f"the lock was answered {status}: {said}")


def check_count(load: Load, count: int) -> None:
    """Acknowledged increments are there, once each; of the others, at most all."""
    acknowledged = load.acknowledged
    if len(set(acknowledged)) != len(acknowledged):
        raise AssertionError("two increments were answered with the same count")
    if not len(acknowledged) <= count <= len(acknowledged) + load.maybe:
        raise AssertionError(
            f"the count is {count}, and {len(acknowledged)} increments were acknowledged, "
            f"{load.maybe} more may be made"
        )
    if max(acknowledged) > count:
        raise AssertionError(f"{max(acknowledged)} was acknowledged, and the count is {count}")


def check_ledger(lines: list[str], tokens: list[int]) -> None:
    """One holder at a time, by token, and every acknowledged one is in the book."""
    holder: dict[int, str] = {}
    highest = 0
    for line in lines:
        sign, token, name = line[0], int(line.split()[0][1:]), line.split()[1]
        if holder.setdefault(token, name) != name:
            raise AssertionError(f"{holder[token]} and {name} both held token {token}")
        if token < highest or (sign == "+" and token == highest):
            raise AssertionError(f"{line!r} stands after token {highest}")
        highest = token
    missing = {*tokens} - {int(line.split()[0][1:]) for line in lines if line[0] == "-"}
    if missing:
        raise AssertionError(f"answered, and not in the ledger: {sorted(missing)[:5]}")


def check_reports(lines: list[str]) -> int:
    """Each term has one doer, and no report is numbered twice; returns how many terms had one."""
    doers: dict[int, set[str]] = {}
    numbers = [int(line.split()[2]) for line in lines]
    for line in lines:
        term, name, _ = line.split()
        doers.setdefault(int(term), set()).add(name)
    shared = {term: names for term, names in doers.items() if len(names) > 1}
    if shared:
        raise AssertionError(f"terms with two leaders at work: {shared}")
    if len(set(numbers)) != len(numbers):
        raise AssertionError("two reports have the same number")
    return len(doers)


@attrs.frozen
class Outcome:
    """What came of it."""

    acknowledged: int
    maybe: int
    tokens: int
    fenced: int
    terms: int
    takeovers_s: list[float]
    """After kills of the leader."""

    def __str__(self) -> str:
        median_ms = 1000 * statistics.median(self.takeovers_s)
        return (
            f"{self.acknowledged} increments acknowledged and none lost ({self.maybe} unknown), "
            f"{self.tokens} holders of the lock and never two ({self.fenced} refused, for they had "
            f"been stopped for longer than their lease), {self.terms} terms with a leader's "
            f"job; {len(self.takeovers_s)} takeovers, median {median_ms:.0f} ms, longest "
            f"{1000 * max(self.takeovers_s):.0f} ms"
        )


def leader_by(services: Services, among: list[str]) -> str:
    """Who leads, as one of these says."""
    with closing(Caller(services.ports[among[0]])) as caller:
        _, said = caller.ask("GET", "/leader")
    return str(said["leader"])


def kill_and_take_over(services: Services, load: Load, victim: str) -> float:
    """Kill one; returns how long it took until another one had taken an increment, in seconds."""
    other = next(name for name in NAMES if name != victim)
    with closing(Caller(services.ports[other])) as caller:
        caller.ask("GET", "/leader")  # the connection is there
        services.kill(victim)
        killed_s = time.perf_counter()
        while not load.count_once(caller):
            if time.perf_counter() - killed_s > PATIENCE_S:
                raise AssertionError(f"nobody took over from {victim}")
        return time.perf_counter() - killed_s


def run(
    program: str, rounds: int, seed: int, *, directory: Path, progress: bool = False
) -> Outcome:
    """Start the three, kill one after the other under load, and check."""
    rng = random.Random(seed)
    services = Services(program, directory)
    takeovers_s: list[float] = []
    with ExitStack() as stack:
        stack.enter_context(services.all_killed())
        for name in NAMES:
            services.start(name)
        for name in NAMES:
            services.wait_ready(name)
        load = Load(services.ports)
        with load.running():
            for number in range(rounds):
                wanted = len(load.acknowledged) + rng.randrange(5, 100)
                deadline_s = time.monotonic() + PATIENCE_S
                while len(load.acknowledged) < wanted:
                    if time.monotonic() > deadline_s:
                        raise AssertionError(f"round {number}: nothing is acknowledged any more")
                    load.is_over.wait(PAUSE_S)
                leader = leader_by(services, [*services.running])
                victim = leader if number % 2 == 0 else rng.choice(NAMES)
                took_s = kill_and_take_over(services, load, victim)
                if victim == leader:
                    takeovers_s.append(took_s)
                services.start(victim)
                services.wait_ready(victim)
                if progress:
                    print(f"\r{number + 1}/{rounds} killed", end="", flush=True)
        with closing(Caller(services.ports["a"])) as caller:
            status, said = caller.ask("GET", "/count")
        services.end()
    if status != 200:
        raise AssertionError(f"the count was answered {status}: {said}")
    check_count(load, said["count"])
    check_ledger((directory / "ledger.txt").read_text().splitlines(), load.tokens)
    terms = check_reports((directory / "reports.txt").read_text().splitlines())
    return Outcome(
        len(load.acknowledged), load.maybe, len(load.tokens), load.fenced, terms, takeovers_s
    )


def main() -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.any_program", description=__doc__)
    parser.add_argument("program", choices=PROGRAMS)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="any-program-") as directory:
        outcome = run(
            options.program, options.rounds, options.seed, directory=Path(directory), progress=True
        )
    print(f"\n{options.program}, seed {options.seed}: {outcome}")
    return int(statistics.median(outcome.takeovers_s) > TAKEOVER_S_MAX)


if __name__ == "__main__":
    raise SystemExit(main())
