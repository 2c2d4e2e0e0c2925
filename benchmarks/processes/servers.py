"""`trioraft serve` in processes of their own: start, wait, pause, kill.

Rules of this file: every process that was started is gone when the `with` is over, and what it
wrote on standard error is in a file that a failure quotes.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import final

from trioraft.core.types import Address

from .process import Process, ProcessError, python


@final
class ServerProcess:
    """One server, over all its incarnations."""

    def __init__(
        self,
        arguments: Sequence[str],
        log: Path,
        name: str = "the server",
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self.name = name
        self._command = (*prefix, *python("trioraft", "serve", *arguments))
        self._environment = dict(environment or {})
        self._log = log
        self._process: Process | None = None

    def start(self) -> None:
        """Start it, or start it again; returns at once."""
        if self._process is not None and self._process.code is None:
            raise ProcessError(f"{self.name} was started, and not ended")
        clean = {k: v for k, v in os.environ.items() if not k.startswith("TRIORAFT_")}
        clean |= {"PYTHONWARNINGS": "error::ResourceWarning"}
        self._process = Process(
            self._command,
            name=self.name,
            environment=clean | self._environment,
            errors=self._log,
            is_guarded=True,
        )

    def wait_ready(self) -> str:
        """Wait for the line that says that it serves."""
        return self.next_line()

    def next_line(self) -> str:
        """Its next line on standard output."""
        return self._started.next_line()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._started.signal(number)

    def wait(self) -> int:
        """Wait until it has ended; returns its exit code."""
        return self._started.wait()

    def kill(self) -> None:
        """SIGKILL; when this returns, it is gone. It may be stopped, or gone already."""
        if self._process is not None:
            self._process.kill()

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._started.pid

    def complaints(self) -> str:
        """The end of what it wrote on standard error."""
        return "" if self._process is None else self._process.complaints()

    @property
    def _started(self) -> Process:
        if self._process is None:
            raise ProcessError(f"{self.name} was not started")
        return self._process


@final
class ServerProcesses:
    """A cluster of servers on the loopback, each with a directory of its own.

    Use it in a `with`; nothing is started before `start`.
    """

    def __init__(self, directory: Path, size: int = 3, options: Sequence[str] = ()) -> None:
        self.ids = [str(number) for number in range(size)]
        with free_ports(2 * size) as ports:
            self.peers = dict(zip(self.ids, ports[:size], strict=True))
            self.clients = dict(zip(self.ids, ports[size:], strict=True))
        self.arguments = {
            node_id: [*self._arguments(node_id, directory), *options] for node_id in self.ids
        }
        """Of `trioraft serve`, for each."""
        self.servers = {
            node_id: ServerProcess(
                self.arguments[node_id],
                directory / f"{node_id}.log",
                name=f"server {node_id}",
            )
            for node_id in self.ids
        }

    def _arguments(self, node_id: str, directory: Path) -> list[str]:
        arguments = ["--id", node_id, "--data", str(directory / node_id), "--create-data"]
        arguments += ["--listen", shown(self.peers[node_id])]
        arguments += ["--client-listen", shown(self.clients[node_id])]
        if len(self.ids) == 1:
            arguments.append("--found-alone")
        for peer in self.ids:
            arguments += ["--peer", f"{peer}={shown(self.peers[peer])}"]
        return arguments

    @property
    def addresses(self) -> list[Address]:
        """Where clients go."""
        return list(self.clients.values())

    def start(self) -> None:
        """Start all, and wait until they serve."""
        for server in self.servers.values():
            server.start()
        for server in self.servers.values():
            server.wait_ready()

    def __enter__(self) -> ServerProcesses:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        for server in self.servers.values():
            server.kill()
            if error is not None:
                error.add_note(f"{server.name} complained last:\n{server.complaints()}")


def shown(address: Address) -> str:
    """As in an option."""
    return f"{address[0]}:{address[1]}"


@contextmanager
def free_ports(count: int) -> Iterator[list[Address]]:
    """Loopback addresses that nobody listens at; held until the `with` is over."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        yield [("127.0.0.1", sock.getsockname()[1]) for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()
