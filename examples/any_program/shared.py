"""What the three services have in common: their state, and their arguments.

Each of them (`with_aiohttp.py`, `with_trio.py`, `with_threads.py`) is started three times:

    python with_aiohttp.py a 8001 data a=127.0.0.1:7001 b=127.0.0.1:7002 c=127.0.0.1:7003
    python with_aiohttp.py b 8002 data a=127.0.0.1:7001 b=127.0.0.1:7002 c=127.0.0.1:7003
    python with_aiohttp.py c 8003 data a=127.0.0.1:7001 b=127.0.0.1:7002 c=127.0.0.1:7003

    curl -X POST localhost:8002/count      # one more, on whichever of them
    curl -X POST localhost:8003/guarded    # something that only one does at a time
    curl localhost:8001/leader             # who leads, and does the leader's job
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trioraft import (
    OutcomeUnknown,
    RaftError,
    Replicas,
    SQLiteStorage,
    TcpTransport,
)
from trioraft.structures import Counter, Lock

LEASE_S = 5.0
"""How long the lock stays taken when its holder vanishes, in seconds."""
REPORT_S = 0.1
"""Between two reports of the leader, in seconds."""


@dataclass
class Options:
    """One process of the three."""

    name: str
    http_port: int
    directory: Path
    members: dict[str, tuple[str, int]]

    def __post_init__(self) -> None:
        self.count, self.reports, self.lock = Counter(), Counter(), Lock()
        self.machine = Replicas(count=self.count, reports=self.reports, lock=self.lock)

    @classmethod
    def from_command_line(cls) -> Options:
        """NAME HTTP_PORT DIRECTORY MEMBER=HOST:PORT…"""
        name, http_port, directory, *members = sys.argv[1:]
        addresses = {}
        for member in members:
            member_name, _, address = member.partition("=")
            host, _, port = address.rpartition(":")
            addresses[member_name] = (host, int(port))
        return cls(name, int(http_port), Path(directory), addresses)

    def for_open_node(self) -> dict[str, Any]:
        """What `open_node` takes, wherever it comes from."""
        others = {name: address for name, address in self.members.items() if name != self.name}
        return {
            "node_id": self.name,
            "voters": sorted(self.members),
            "machine": self.machine,
            "storage": SQLiteStorage(self.directory / self.name),
            "transport": TcpTransport(self.name, listen=self.members[self.name], peers=others),
        }


class Refused(Exception):  # noqa: N818 - what happened
    """Somebody with a higher token was here."""


class Ledger:
    """Something outside of the cluster that one holder at a time writes to: a file.

    A process may be stopped for longer than its lease lasts, and go on as if nothing had happened.
    So whoever writes shows the token of the lock, and a token that is lower than one that was seen
    is refused (*fencing*).
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self, token: int, name: str) -> None:
        """Write that work began under this token.

        Raises:
            Refused: a later holder was here.
        """
        self._write(f"+{token} {name}", token)

    def end(self, token: int, name: str) -> None:
        """Write that it ended."""
        self._write(f"-{token} {name}", token)

    def _write(self, line: str, token: int) -> None:
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            written = os.pread(file, 2**30, 0).decode().splitlines()
            highest = max((int(each.split()[0][1:]) for each in written), default=0)
            if token < highest:
                raise Refused(f"token {token} is older than {highest}")
            os.write(file, f"{line}\n".encode())
        finally:
            os.close(file)


TOLD = (RaftError, Refused)
"""What is for whoever asked to know."""


def status_of(error: Exception) -> int:
    """The HTTP status that tells a caller whether it may ask again."""
    if isinstance(error, Refused):
        return 409
    return 504 if isinstance(error, OutcomeUnknown) else 503  # perhaps done; certainly not
