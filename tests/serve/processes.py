"""`trioraft serve` in processes of their own: start, wait, pause, kill.

Rules of this file: every process that was started is gone when the `with` is over, and what it
wrote on standard error is in a file that a failure quotes.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final

from trioraft.core.types import Address

PATIENCE_S: Final = 30.0
COMMAND: Final = (sys.executable, "-m", "trioraft")


class ServerProcess:
    """One server, over all its incarnations."""

    def __init__(
        self,
        arguments: Sequence[str],
        log: Path,
        name: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.arguments = list(arguments)
        self.environment = dict(environment or {})
        self.log = log
        self.name = name
        self._popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, or start it again; returns at once."""
        assert self._popen is None
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TRIORAFT_")}
        environment |= {"PYTHONWARNINGS": "error::ResourceWarning"} | self.environment
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                [*COMMAND, "serve", *self.arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
            )

    def wait_ready(self) -> str:
        """Wait for the line that says that it serves."""
        return self.next_line()

    def next_line(self) -> str:
        """Its next line on standard output."""
        assert self._popen is not None
        stdout = self._popen.stdout
        assert stdout is not None
        line = b""
        deadline = time.monotonic() + PATIENCE_S
        while not line.endswith(b"\n"):
            patience_s = max(0.0, deadline - time.monotonic())
            readable, _, _ = select.select([stdout], [], [], patience_s)
            byte = os.read(stdout.fileno(), 1) if readable else b""
            if not byte:
                raise AssertionError(f"{self.name} said only {line!r}:\n{self.words()}")
            line += byte
        return line.decode().rstrip()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._popen is not None
        self._popen.send_signal(number)

    def wait(self) -> int:
        """Wait until it has ended; returns its exit code."""
        assert self._popen is not None
        assert self._popen.stdout is not None
        code = self._popen.wait(PATIENCE_S)
        self._popen.stdout.close()
        self._popen = None
        return code

    def kill(self) -> None:
        """SIGKILL; when this returns, it is gone. It may be paused, or gone already."""
        if self._popen is not None:
            self._popen.kill()
            self.wait()

    @property
    def is_running(self) -> bool:
        """Whether the process is there, if only paused."""
        return self._popen is not None and self._popen.poll() is None

    def words(self) -> str:
        """The end of what it wrote on standard error."""
        return self.log.read_text(errors="replace", encoding="utf-8")[-4000:]


class ServerProcesses:
    """A cluster of servers on the loopback, each with a directory of its own.

    Use it in a `with`; nothing is started before `start`.
    """

    def __init__(self, directory: Path, size: int = 3, options: Sequence[str] = ()) -> None:
        self.ids = [str(number) for number in range(size)]
        with free_ports(2 * size) as ports:
            self.peers = dict(zip(self.ids, ports[:size], strict=True))
            self.clients = dict(zip(self.ids, ports[size:], strict=True))
        self.servers = {
            node_id: ServerProcess(
                [*self._arguments(node_id, directory), *options],
                directory / f"{node_id}.log",
                name=f"server {node_id}",
            )
            for node_id in self.ids
        }

    def _arguments(self, node_id: str, directory: Path) -> list[str]:
        arguments = ["--id", node_id, "--data", str(directory / node_id), "--create-data"]
        arguments += ["--listen", shown(self.peers[node_id])]
        arguments += ["--client-listen", shown(self.clients[node_id])]
        for peer in self.ids:
            arguments += ["--peer", f"{peer}={shown(self.peers[peer])}"]
            arguments += ["--client-peer", f"{peer}={shown(self.clients[peer])}"]
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
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for server in self.servers.values():
            server.kill()
        if error is not None:
            for server in self.servers.values():
                if server.log.exists():
                    error.add_note(f"{server.name} said last:\n{server.words()[-1500:]}")


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
