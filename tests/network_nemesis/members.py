"""The members that a lab has: what a row may do to them, and how they are asked; and ours.

Rules of this file:

* A row sees a `Cluster`: ours or somebody else's. It knows members by their numbers.
* Clients are told of all members. They sit at a port of their own, which few rows cut.
"""

from __future__ import annotations

import abc
import json
import random
import signal
from pathlib import Path
from typing import Final, final

import attrs
import trio

from benchmarks.processes import ServerProcess
from tests.kv_nemesis.__main__ import check_history, check_logs
from tests.kv_nemesis.clients import Caller, Record
from trioraft.client.client import Client
from trioraft.core.errors import RaftError
from trioraft.core.types import Address
from trioraft.kv import ERROR_TYPES, KvClient
from trioraft.rpc.protocol import ServerStatus

from .lab import Lab, name_of

CALLERS: Final = 8
THINK_S: Final = 0.06
"""A caller's longest pause between two calls: the machine has to carry the servers as well."""
STATUS_S: Final = 1.0
POLL_S: Final = 0.2
ELECTED_S: Final = 30.0
"""How long a new cluster may take to have a leader."""
PEERS_PORT: Final = 7000
CLIENTS_PORT: Final = 8000


@attrs.frozen
class View:
    """What a member says of itself."""

    term: int
    leader: int | None
    applied: int


class Cluster(abc.ABC):
    """Servers in a lab, and clients that call them.

    Args:
        lab: where.
        directory: for their data and logs.
        size: how many there are; the lab may have room for more.
    """

    name: str

    def __init__(self, lab: Lab, directory: Path, size: int) -> None:
        self.lab = lab
        self.members = lab.members[:size]
        self.directory = directory
        self.written_s: list[float] = []
        """When small writes were acknowledged, by Trio's clock."""
        self.paused: set[int] = set()
        self.killed: set[int] = set()

    # -- what is done to them ------------------------------------------------------------------

    async def start(self) -> None:
        """Start all, and wait for a leader.

        Raises:
            AssertionError: there is none in time.
        """
        for member in self.members:
            self._start(member)
        with trio.move_on_after(ELECTED_S):
            while await self.leader() is None:  # noqa: ASYNC110 - other processes: there is no event
                await trio.sleep(POLL_S)
            return
        raise AssertionError(f"{self.name}: no leader after {ELECTED_S:g} s")

    def kill(self, member: int) -> None:
        """SIGKILL. Its machine stays, and says for it that nobody is there, if asked."""
        self._kill(member)
        self.killed.add(member)

    def start_again(self, member: int) -> None:
        """What was killed."""
        self._start(member)
        self.killed.discard(member)

    def pause(self, member: int) -> None:
        """SIGSTOP: the kernel still takes what comes for it."""
        self._signal(member, signal.SIGSTOP)
        self.paused.add(member)

    def go_on(self, member: int) -> None:
        """SIGCONT."""
        self._signal(member, signal.SIGCONT)
        self.paused.discard(member)

    def mend(self) -> None:
        """All members run again."""
        for member in [*self.paused]:
            self.go_on(member)
        for member in [*self.killed]:
            self.start_again(member)

    def end(self) -> None:
        """Kill all."""
        for member in self.members:
            self._kill(member)

    # -- what they say -------------------------------------------------------------------------

    @abc.abstractmethod
    async def views(self) -> dict[int, View]:
        """Of those that answer."""

    async def leader(self) -> int | None:
        """Who leads, as the latest term has it."""
        views = (await self.views()).values()
        latest = max(views, key=lambda view: (view.term, view.leader is not None), default=None)
        return None if latest is None else latest.leader

    @abc.abstractmethod
    def elections(self) -> int:
        """How often a member became leader, so far."""

    # -- calling them --------------------------------------------------------------------------

    @abc.abstractmethod
    async def call(self, stop: trio.Event) -> None:
        """Call with small values until told to stop; fills `written_s`."""

    @abc.abstractmethod
    async def write(self, name: str, value: bytes, deadline_s: float) -> bool:
        """Write one large value; returns whether it was acknowledged in time."""

    @abc.abstractmethod
    async def check(self) -> None:
        """Whether what clients were told is true.

        Raises:
            AssertionError: something was lost, or late, or cannot be.
        """

    # -- processes -----------------------------------------------------------------------------

    @abc.abstractmethod
    def _start(self, member: int) -> None: ...
    @abc.abstractmethod
    def _kill(self, member: int) -> None: ...
    @abc.abstractmethod
    def _signal(self, member: int, number: signal.Signals) -> None: ...


@final
class Ours(Cluster):
    """`trioraft serve`.

    Args:
        lab: where.
        directory: for their data and logs.
        size: how many there are.
        options: further ones, for each.
        seed: of the callers.
    """

    def __init__(
        self,
        lab: Lab,
        directory: Path,
        size: int,
        *,
        options: tuple[str, ...] = (),
        seed: str = "0",
    ) -> None:
        super().__init__(lab, directory, size)
        self.name = "trioraft"
        self.record = Record()
        self.written_s = self.record.written_s
        self._seed = seed
        self._logs = {member: directory / f"{member}.log" for member in self.members}
        self._servers = {
            member: ServerProcess(
                [*self._arguments(member), *options],
                self._logs[member],
                name=f"server {member}",
                prefix=lab.prefix(member),
            )
            for member in self.members
        }

    def _arguments(self, member: int) -> list[str]:
        words = ["--id", str(member), "--insecure", "--log-format", "json"]
        words += ["--data", str(self.directory / str(member)), "--create-data"]
        words += ["--listen", f"0.0.0.0:{PEERS_PORT}", "--client-listen", f"0.0.0.0:{CLIENTS_PORT}"]
        for other in self.members:
            words += ["--peer", f"{other}={name_of(other)}:{PEERS_PORT}"]
            words += ["--client-peer", f"{other}={name_of(other)}:{CLIENTS_PORT}"]
        return words

    @property
    def addresses(self) -> list[Address]:
        """Where clients go."""
        return [(name_of(member), CLIENTS_PORT) for member in self.members]

    def _start(self, member: int) -> None:
        self._servers[member].start()

    def _kill(self, member: int) -> None:
        self._servers[member].kill()

    def _signal(self, member: int, number: signal.Signals) -> None:
        self._servers[member].signal(number)

    async def views(self) -> dict[int, View]:
        async with Client(self.addresses, insecure=True) as client:
            statuses = await client.statuses(timeout_s=STATUS_S)
        return {int(status.node_id): _view(status) for status in statuses.values()
                if isinstance(status, ServerStatus)}  # fmt: skip

    def elections(self) -> int:
        return sum(_has_won(line) for log in self._logs.values() if log.exists()
                   for line in log.read_bytes().splitlines())  # fmt: skip

    async def call(self, stop: trio.Event) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(CALLERS):
                rng = random.Random(f"{self._seed}/{number}")
                caller = Caller(f"c{number}", self.record, rng, think_s=THINK_S)
                nursery.start_soon(caller.run, self.addresses, stop, True)

    async def write(self, name: str, value: bytes, deadline_s: float) -> bool:
        async with Client(
            self.addresses, timeout_s=deadline_s, error_types=ERROR_TYPES, insecure=True
        ) as client:
            try:
                await KvClient(client).put(name, value)
            except RaftError:
                return False
        return True

    async def check(self) -> None:
        if self.record.late:
            raise AssertionError("\n".join(self.record.late))
        await check_logs(self.addresses, self.record, insecure=True)
        await trio.to_thread.run_sync(check_history, self.record, Path.cwd())


def _view(status: ServerStatus) -> View:
    leader = None if status.leader_id is None else int(status.leader_id)
    return View(status.term, leader, status.applied_index)


def _has_won(line: bytes) -> bool:
    if b'"role_changed"' not in line:
        return False
    said = json.loads(line)
    return bool(said["event"] == "role_changed" and said["role"] == "Leader")
