"""The parent: starts the nodes, kills them, and checks what is left."""

from __future__ import annotations

import argparse
import json
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

IDS: Final = ("0", "1", "2")
PATIENCE_S: Final = 30.0


class Process:
    """One incarnation of a node, and what it has said."""

    def __init__(self, node_id: str, ports: dict[str, int], directory: Path, number: int) -> None:
        self.node_id = node_id
        config = {
            "id": node_id,
            "ports": ports,
            "directory": str(directory / node_id),
            "name": f"{node_id}#{number}",
        }
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "tests.kill_nine.node", json.dumps(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.acknowledged: list[str] = []
        self.answers: list[str] = []
        self._heard = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            if not line.endswith("\n"):
                break  # killed in the middle of a word
            word, _, rest = line.rstrip("\n").partition(" ")
            with self._heard:
                if word == "ack":
                    self.acknowledged.append(rest)
                elif word != "up":
                    self.answers.append(line.rstrip("\n"))
                self._heard.notify_all()

    def say(self, line: str) -> None:
        """One line to the node."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(line + "\n")
        self.popen.stdin.flush()

    def answer(self) -> str:
        """The node's next line that is no acknowledgement."""
        with self._heard:
            if not self._heard.wait_for(lambda: self.answers, PATIENCE_S):
                raise AssertionError(f"node {self.node_id} says nothing:\n{self.last_words()}")
            return self.answers.pop(0)

    def last_words(self) -> str:
        """End it, and return what it wrote on standard error."""
        self.popen.kill()
        return self.popen.communicate()[1]

    def kill(self) -> str:
        """SIGKILL; returns what it had complained about, which should be nothing."""
        assert self.popen.stdin is not None
        assert self.popen.stdout is not None
        assert self.popen.stderr is not None
        self.popen.kill()
        self.popen.wait()
        self._reader.join()
        complaints = self.popen.stderr.read()
        for pipe in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            pipe.close()
        return complaints


class Trial:
    """A cluster of processes, and everything that any of them acknowledged."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ports = free_ports()
        self.acknowledged: list[str] = []
        self.processes: dict[str, Process] = {}
        self._started = 0

    def start(self, node_id: str) -> None:
        """Start a node, or start it again."""
        self._started += 1
        self.processes[node_id] = Process(node_id, self.ports, self.directory, self._started)

    def kill(self, node_id: str) -> None:
        """Kill a node and note what it acknowledged."""
        process = self.processes.pop(node_id)
        complaints = process.kill()
        self.acknowledged += process.acknowledged
        if complaints:
            raise AssertionError(f"node {node_id} complained:\n{complaints}")

    def wait_for_acknowledgements(self, count: int) -> None:
        """Let the cluster get some work done, so that a kill hits it in the middle."""
        wanted = self._count() + count
        deadline = time.monotonic() + PATIENCE_S
        while self._count() < wanted:
            if time.monotonic() > deadline:
                raise AssertionError("two of three nodes acknowledge nothing")
            time.sleep(0.005)

    def _count(self) -> int:
        running = sum(len(process.acknowledged) for process in self.processes.values())
        return len(self.acknowledged) + running

    def finish(self) -> dict[str, list[str]]:
        """Have one last command committed; return each node's commands."""
        for process in self.processes.values():
            process.say("quiet")
        deadline = time.monotonic() + PATIENCE_S
        while not self._propose("the end"):
            if time.monotonic() > deadline:
                raise AssertionError("nobody leads in the end")
            time.sleep(0.05)
        logs: dict[str, list[str]] = {}
        while set(logs) != set(self.processes):
            if time.monotonic() > deadline:
                raise AssertionError("the nodes do not come to agree")
            for node_id, process in self.processes.items():
                process.say("dump")
                commands = json.loads(process.answer().partition(" ")[2])
                if "the end" in commands[-3:]:
                    logs[node_id] = [command for command in commands if command != "the end"]
            time.sleep(0.05)
        return logs

    def _propose(self, text: str) -> bool:
        for process in self.processes.values():
            process.say(f"propose {text}")
            if process.answer().startswith("yes"):
                return True
        return False


def free_ports() -> dict[str, int]:
    """A free loopback port for each node."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in IDS]
    ports = {node_id: sock.getsockname()[1] for node_id, sock in zip(IDS, sockets, strict=True)}
    for sock in sockets:
        sock.close()
    return ports


def check(acknowledged: list[str], logs: dict[str, list[str]]) -> None:
    """Every acknowledged command is there, once, and all nodes agree."""
    first = logs[IDS[0]]
    for node_id, log in logs.items():
        if log != first:
            at = next(
                (i for i, (a, b) in enumerate(zip(log, first, strict=False)) if a != b),
                min(len(log), len(first)),
            )
            raise AssertionError(f"nodes {IDS[0]} and {node_id} differ from command {at} on")
    if len(set(first)) != len(first):
        twice = sorted({command for command in first if first.count(command) > 1})
        raise AssertionError(f"applied twice: {twice[:5]}")
    missing = set(acknowledged) - set(first)
    if missing:
        raise AssertionError(f"{len(missing)} acknowledged and lost: {sorted(missing)[:5]}")
    place = {command: index for index, command in enumerate(first)}
    by_client: dict[str, int] = {}
    for command in acknowledged:
        client = command.partition("/")[0]
        if place[command] < by_client.get(client, -1):
            raise AssertionError(f"{command} stands before an earlier command of its client")
        by_client[client] = place[command]


def run(rounds: int, seed: int, *, directory: Path, progress: bool = False) -> tuple[int, int]:
    """Kill nodes at random; returns how many commands were acknowledged, and how many applied."""
    rng = random.Random(seed)
    trial = Trial(directory)
    try:
        for node_id in IDS:
            trial.start(node_id)
        for number in range(rounds):
            trial.wait_for_acknowledgements(rng.randrange(1, 400))
            victim = rng.choice(IDS)
            trial.kill(victim)
            time.sleep(rng.choice((0.0, 0.0, 0.2)))
            trial.start(victim)
            if progress:
                print(f"\r{number + 1}/{rounds} killed", end="", flush=True)
        logs = trial.finish()
    finally:
        for node_id in list(trial.processes):
            trial.kill(node_id)
    check(trial.acknowledged, logs)
    if len(trial.acknowledged) < rounds:
        raise AssertionError(f"only {len(trial.acknowledged)} were acknowledged: no test")
    return len(trial.acknowledged), len(logs[IDS[0]])


def main() -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.kill_nine", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="kill-nine-", dir=".") as directory:
        acknowledged, applied = run(
            options.rounds, options.seed, directory=Path(directory), progress=True
        )
    print(f"\n{acknowledged} acknowledged, {applied} applied: none lost, none twice, one order")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
