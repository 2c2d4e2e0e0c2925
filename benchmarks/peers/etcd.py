"""Three etcd servers on the loopback, each in a process of its own with a directory of its own.

Rules of this file: etcd does not read its input, so each is guarded: it ends if we are killed.
"""

from __future__ import annotations

import signal
from pathlib import Path
from types import TracebackType
from typing import Final, final

from ..processes import Process, free_ports, shown
from ..throughput.cases import NODES

LOG_LEVEL: Final = "error"


@final
class EtcdProcesses:
    """A cluster of servers. Use it in a `with`; nothing is started before `start`."""

    def __init__(self, directory: Path, timing_ms: tuple[int, int] | None = None) -> None:
        self._directory = directory
        with free_ports(2 * NODES) as ports:
            self._peers, self._clients = ports[:NODES], ports[NODES:]
        self._timing_ms = timing_ms
        self._processes: dict[int, Process] = {}

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where clients go."""
        return tuple(shown(address) for address in self._clients)

    @property
    def pids(self) -> list[int]:
        """Their processes."""
        return [process.pid for process in self._processes.values()]

    def start(self) -> None:
        """Start all; whoever connects waits until they serve."""
        for number in range(NODES):
            self.start_one(number)

    def start_one(self, number: int) -> None:
        """Start one, or start it again after its end."""
        self._processes[number] = Process(
            self.command(number),
            name=f"etcd {number}",
            errors=self._directory / f"{number}.log",
            is_guarded=True,
        )

    def kill(self, number: int) -> None:
        """kill -9, now; it is there for a moment yet."""
        self._processes[number].signal(signal.SIGKILL)

    def bury(self, number: int) -> None:
        """Wait until it is gone."""
        self._processes[number].kill()

    def command(self, number: int) -> tuple[str, ...]:
        """What each is started with."""
        members = ",".join(f"{n}=http://{shown(peer)}" for n, peer in enumerate(self._peers))
        peer, client = (f"http://{shown(at[number])}" for at in (self._peers, self._clients))
        options = {
            "--name": f"{number}",
            "--data-dir": str(self._directory / f"etcd-{number}"),
            "--listen-peer-urls": peer,
            "--initial-advertise-peer-urls": peer,
            "--listen-client-urls": client,
            "--advertise-client-urls": client,
            "--initial-cluster": members,
            "--initial-cluster-state": "new",
            "--logger": "zap",
            "--log-level": LOG_LEVEL,
        }
        if self._timing_ms is not None:
            heartbeat_ms, election_ms = self._timing_ms
            options |= {
                "--heartbeat-interval": f"{heartbeat_ms}",
                "--election-timeout": f"{election_ms}",
            }
        return ("etcd", *(part for option in options.items() for part in option))

    def __enter__(self) -> EtcdProcesses:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        for process in self._processes.values():
            process.kill()
            if error is not None:
                error.add_note(f"{process.name} complained last:\n{process.complaints()}")
