"""Three node processes, seen from the process that controls them.

Rules of this file:

* A process that ends while it is wanted ends the measurement, with what it said last.
* Each runs in a session of its own, so that Ctrl-C is ours to answer. Leaving the `async with`
  kills and awaits them all; if we are killed ourselves, their input ends, and so do they.
* Whoever wins the election leads; the load goes there. Nothing is rigged.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, Final, TypeVar, final

import msgspec
import trio

from trioraft.background import running_beside

from .cases import NODES
from .pipe import (
    Answer,
    Bound,
    Failed,
    Opened,
    Order,
    Peers,
    Setup,
    decode_answer,
    line_of,
)

T = TypeVar("T", bound=Answer)

OPEN_TIMEOUT_S: Final = 60.0
"""How long the nodes may take to open and to have a leader."""
STDERR_LINES: Final = 12
"""How much of what a dead process said last is repeated."""
ANSWERS_MAX: Final = 16

_ROOT: Final = Path(__file__).parents[2]


class ClusterError(Exception):
    """A node process failed, or ended; the message says which and how."""


@final
class NodeProcess:
    """One node."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._send, self._answers = trio.open_memory_channel[Answer](ANSWERS_MAX)
        self._process: trio.Process | None = None
        self._errors: IO[bytes] | None = None

    async def start(self) -> None:
        """Start the process; `read_answers` must follow."""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `read_answers`
        path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
        argument = line_of(self.setup).decode().strip()
        self._process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "benchmarks.throughput.node", argument],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": path},
        )

    async def read_answers(self) -> None:
        """Take what it says until it ends, which it is not to do.

        Raises:
            ClusterError: always.
        """
        process, errors = self._process, self._errors
        if process is None or process.stdout is None or errors is None:
            raise ClusterError(f"{self._name} was not started")
        pending = b""
        with errors, self._send, self._answers:
            async with process.stdout:
                async for data in process.stdout:
                    *lines, pending = (pending + data).split(b"\n")
                    for line in lines:
                        await self._take(line)
            code = await process.wait()
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()
        tail = "\n".join(said[-STDERR_LINES:]) or "it said nothing"
        raise ClusterError(f"{self._name} ended with exit code {code}:\n{tail}")

    async def _take(self, line: bytes) -> None:
        try:
            answer = decode_answer.decode(line)
        except msgspec.DecodeError as error:
            raise ClusterError(f"{self._name} said {line!r}: {error}") from error
        if isinstance(answer, Failed):
            raise ClusterError(f"{self._name} failed: {answer.reason}")
        await self._send.send(answer)

    async def order(self, order: Order) -> None:
        """Tell it to do something."""
        if self._process is None or self._process.stdin is None:
            raise ClusterError(f"{self._name} was not started")
        try:
            await self._process.stdin.send_all(line_of(order))
        except trio.BrokenResourceError:
            await trio.sleep_forever()  # it ended: `read_answers` says so, and ends this

    async def answer(self, kind: type[T]) -> T:
        """Its next answer, which must be one of this kind."""
        answer = await self._answers.receive()
        if not isinstance(answer, kind):
            raise ClusterError(f"{self._name} answered {answer!r}; {kind.__name__} was expected")
        return answer

    async def kill(self) -> None:
        """End it and whatever it started, now; returns once it is gone. Idempotent."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            with trio.CancelScope(shield=True):
                await self._process.wait()
                if self._process.stdin is not None:
                    await self._process.stdin.aclose()

    @property
    def _name(self) -> str:
        return f"node {self.setup.node_id} ({self.setup.system})"


@final
class Cluster:
    """The processes of one cluster; made by `open_processes`."""

    def __init__(self, setups: list[Setup]) -> None:
        self.nodes = {setup.node_id: NodeProcess(setup) for setup in setups}
        self.ports: dict[str, int] = {}
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._failure: ClusterError | None = None

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Keep the processes until `stop`; `started()` once all were started.

        Raises:
            ClusterError: one of them ended, or failed.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as self._nursery:
                    for node in self.nodes.values():
                        await self.start(node)
                    task_status.started()
                    await trio.sleep_forever()
        finally:
            for node in self.nodes.values():
                await node.kill()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End `run`."""
        self._scope.cancel()

    async def start(self, node: NodeProcess) -> None:
        """Start one process, and from now on mind its end."""
        await node.start()
        if self._nursery is not None:
            self._nursery.start_soon(self._watch, node)

    async def restart(self, node_id: str) -> NodeProcess:
        """Kill one node and start it again, on the same port and directory."""
        old = self.nodes[node_id]
        setup = msgspec.structs.replace(old.setup, port=self.ports[node_id])
        new = self.nodes[node_id] = NodeProcess(setup)
        await old.kill()
        await self.start(new)
        await new.answer(Bound)
        await new.order(Peers(self.ports))
        return new

    async def _watch(self, node: NodeProcess) -> None:
        try:
            await node.read_answers()
        except ClusterError as error:
            if self.nodes.get(node.setup.node_id) is node and self._failure is None:
                self._failure = error
                self._scope.cancel()

    async def open(self) -> tuple[NodeProcess, list[NodeProcess]]:
        """Let the nodes find each other and elect; returns the leader and the others."""
        nodes = list(self.nodes.values())
        with trio.move_on_after(OPEN_TIMEOUT_S):
            for node in nodes:
                self.ports[node.setup.node_id] = (await node.answer(Bound)).port
            for node in nodes:
                await node.order(Peers(self.ports))
            said = Counter([(await node.answer(Opened)).leader_id for node in nodes])
            # Not all need to have heard the last election; who leads will know.
            leader = self.nodes[said.most_common(1)[0][0]]
            return leader, [node for node in nodes if node is not leader]
        raise ClusterError(f"there was no leader within {OPEN_TIMEOUT_S:g} s")


@asynccontextmanager
async def open_processes(setup: Setup) -> AsyncIterator[Cluster]:
    """Start a cluster of node processes, and kill them all on leaving.

    Args:
        setup: of each; node id and voters are filled in.

    Raises:
        ClusterError: one of them ended, or failed, by itself.
    """
    voters = tuple(str(number) for number in range(NODES))
    cluster = Cluster(
        [msgspec.structs.replace(setup, node_id=voter, voters=voters) for voter in voters]
    )
    async with running_beside(cluster.run, stop=cluster.stop, name="processes"):
        yield cluster
