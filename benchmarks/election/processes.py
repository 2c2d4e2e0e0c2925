"""Node processes, seen from the process that controls them.

Rules of this file:

* A process that ends while it is wanted ends the measurement, with what it said last.
* Each runs in a session of its own, so that Ctrl-C is ours to answer. Leaving the `async with`
  kills and awaits them all; if we are killed ourselves, their input ends, and so do they.
* A call that a process took and did not answer before it ended is a call of unknown outcome,
  unless it said goodbye.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar, final

import attrs
import msgspec
import trio

from trioraft import NodeId
from trioraft.tasks.background import running_beside

from . import pipe
from .pipe import Answer, Answered, NodeSetup, Outcome
from .watch import NoElectionError

T = TypeVar("T", bound=Answer)

PATIENCE_S: Final = 60.0
"""How long anything may take, the start of a process on a busy machine included."""
STDERR_LINES: Final = 12
"""How much of what a dead process said last is repeated."""
ANSWERS_MAX: Final = 16

_ROOT: Final = Path(__file__).parents[2]


class ClusterError(Exception):
    """A node process failed, or ended; the message says which and how."""


@final
@attrs.define(eq=False)
class _Call:
    """A client's call on its way."""

    answered: trio.Event = attrs.field(factory=trio.Event)
    answer: Answered | None = None


@final
class NodeProcess:
    """One node."""

    def __init__(self, setup: NodeSetup, led: trio.MemorySendChannel[pipe.Led]) -> None:
        self.setup = setup
        self.ended = trio.Event()
        self.is_to_end = False
        """Whether its end is what we want."""
        self._is_open = False
        self._led = led
        self._send, self._answers = trio.open_memory_channel[Answer](ANSWERS_MAX)
        self._process: trio.Process | None = None
        self._input = trio.Lock()
        self._calls: dict[int, _Call] = {}
        self._calls_made = 0
        self._said_goodbye = False

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Start the process, and take what it says until it ends; `started()` once it runs.

        Raises:
            ClusterError: it failed, or ended although that was not wanted.
        """
        path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
        argument = pipe.line_of(self.setup).decode().strip()
        with tempfile.TemporaryFile() as errors:
            process = self._process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "benchmarks.election.node", argument],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": path},
            )
            try:
                task_status.started()
                await self._read_answers(process)
                code = await process.wait()
            finally:
                await self._bury(process)
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()
        if not self.is_to_end:
            tail = "\n".join(said[-STDERR_LINES:]) or "it said nothing"
            raise ClusterError(f"{self._name} ended with exit code {code}:\n{tail}")

    async def _read_answers(self, process: trio.Process) -> None:
        stdout = process.stdout
        if stdout is None:
            raise ClusterError(f"{self._name} has no output")
        pending = b""
        async for data in stdout:
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                await self._take(line)

    async def _take(self, line: bytes) -> None:
        try:
            answer = pipe.decode_answer.decode(line)
        except msgspec.DecodeError as error:
            raise ClusterError(f"{self._name} said {line!r}: {error}") from error
        match answer:
            case Answered(number):
                call = self._calls.pop(number)
                call.answer = answer
                call.answered.set()
            case pipe.Led():
                await self._led.send(answer)
            case pipe.Goodbye():
                self._said_goodbye = True
            case pipe.Failed(reason):
                raise ClusterError(f"{self._name} failed: {reason}")
            case _:
                self._is_open = self._is_open or isinstance(answer, pipe.Opened)
                await self._send.send(answer)

    async def _bury(self, process: trio.Process) -> None:
        """Nothing of it is left, and nobody waits for it any more."""
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with trio.CancelScope(shield=True):
            await process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    await stream.aclose()
        self.ended.set()
        self._send.close()
        for call in self._calls.values():
            call.answered.set()

    def forget(self) -> None:
        """Nobody asks it any more."""
        self._answers.close()

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal that ends it."""
        if self._process is None:
            raise ClusterError(f"{self._name} was not started")
        self.is_to_end = True
        os.kill(self._process.pid, number)

    # -- talking ---------------------------------------------------------------------------

    async def order(self, order: pipe.Order) -> None:
        """Tell it to do something; nothing happens if it has ended."""
        if self._process is None or self._process.stdin is None:
            raise ClusterError(f"{self._name} was not started")
        async with self._input:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._process.stdin.send_all(pipe.line_of(order))

    async def answer(self, kind: type[T]) -> T:
        """Its next answer, which must be one of this kind.

        Raises:
            ClusterError: it said something else, or was made to end.
        """
        try:
            answer = await self._answers.receive()
        except trio.EndOfChannel:
            if not self.is_to_end:
                await trio.sleep_forever()  # `run` says how it ended, and ends this
            raise ClusterError(f"{self._name} was asked for {kind.__name__} and ended") from None
        if not isinstance(answer, kind):
            raise ClusterError(f"{self._name} answered {answer!r}; {kind.__name__} was expected")
        return answer

    async def ask(self, order: pipe.Order, kind: type[T]) -> T:
        """Order something, and wait for the answer."""
        await self.order(order)
        return await self.answer(kind)

    async def call(self) -> Answered:
        """A client's call: propose once."""
        self._calls_made = number = self._calls_made + 1
        if not self._is_open or self.ended.is_set():
            return Answered(number, Outcome.ELSEWHERE)
        call = self._calls[number] = _Call()
        await self.order(pipe.Propose(number))
        await call.answered.wait()
        if call.answer is not None:
            return call.answer
        return Answered(number, Outcome.ELSEWHERE if self._said_goodbye else Outcome.UNKNOWN)

    @property
    def _name(self) -> str:
        return f"the process of node {self.setup.node_id}"


@final
class ProcessCluster:
    """The processes of one cluster; made by `process_cluster`."""

    def __init__(self, setup: NodeSetup) -> None:
        self.ids = setup.voters
        self.nodes: dict[NodeId, NodeProcess] = {}
        self.ports: dict[NodeId, int] = {}
        self._setup = setup
        self._starts = 0
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._send_led, self._receive_led = trio.open_memory_channel[pipe.Led](ANSWERS_MAX)
        self._latest: pipe.Led | None = None
        self._failure: ClusterError | None = None

    # -- life ------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Keep the processes until `stop`; `started()` once all are open.

        Raises:
            ClusterError: one of them ended, or failed.
            NoElectionError: it took too long.
        """
        with self._scope, self._send_led, self._receive_led, self._forgetting():
            async with trio.open_nursery() as self._nursery:
                with _patience("the node processes to start"):
                    for node_id in self.ids:
                        await self._start(node_id)
                    for node_id, node in self.nodes.items():
                        self.ports[node_id] = (await node.answer(pipe.Bound)).port
                    for node in self.nodes.values():
                        await node.ask(pipe.Peers(self.ports), pipe.Opened)
                task_status.started()
                await trio.sleep_forever()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End `run`."""
        self._scope.cancel()

    @contextmanager
    def _forgetting(self) -> Iterator[None]:
        try:
            yield
        finally:
            for node in self.nodes.values():
                node.forget()

    async def _start(self, node_id: NodeId) -> NodeProcess:
        if self._nursery is None:
            raise ClusterError("the cluster does not run; use `async with process_cluster(…)`")
        self._starts += 1
        setup = msgspec.structs.replace(
            self._setup,
            node_id=node_id,
            directory=str(Path(self._setup.directory) / node_id),
            seed=f"{self._setup.seed}/{node_id}/{self._starts}",
            port=self.ports.get(node_id, 0),
        )
        if node_id in self.nodes:
            self.nodes[node_id].forget()
        node = self.nodes[node_id] = NodeProcess(setup, self._send_led)
        await self._nursery.start(self._keep, node)
        return node

    async def _keep(self, node: NodeProcess, *, task_status: trio.TaskStatus[None]) -> None:
        """Run a process; the first that fails ends them all."""
        try:
            await node.run(task_status=task_status)
        except ClusterError as error:
            self._failure = self._failure or error
            self._scope.cancel()

    def kill(self, node_id: NodeId) -> None:
        """kill -9, now."""
        self.nodes[node_id].send_signal(signal.SIGKILL)

    async def terminate(self, node_id: NodeId) -> None:
        """SIGTERM, and wait until the process is gone."""
        node = self.nodes[node_id]
        node.send_signal(signal.SIGTERM)
        with _patience(f"node {node_id} to leave"):
            await node.ended.wait()

    async def restart(self, node_id: NodeId) -> None:
        """Start a process again that has ended or is about to; returns when its node is open."""
        with _patience(f"node {node_id} to start"):
            await self.nodes[node_id].ended.wait()
            node = await self._start(node_id)
            await node.answer(pipe.Bound)
            await node.ask(pipe.Peers(self.ports), pipe.Opened)

    # -- leaders ---------------------------------------------------------------------------

    async def leader_after(self, term: int) -> pipe.Led:
        """The latest leader of a term after this one whose first proposal has succeeded.

        Raises:
            NoElectionError: it took too long.
        """
        with _patience("a leader that takes proposals"):
            while True:
                with suppress(trio.WouldBlock):
                    while True:
                        self._note(self._receive_led.receive_nowait())
                if self._latest is not None and self._latest.term > term:
                    return self._latest
                self._note(await self._receive_led.receive())

    def _note(self, led: pipe.Led) -> None:
        if self._latest is None or led.term > self._latest.term:
            self._latest = led

    async def settle(self) -> pipe.Led:
        """Wait until all nodes follow one leader and have applied what it has; returns it.

        Raises:
            NoElectionError: it took too long.
        """
        term = 0
        with _patience("all nodes to follow one leader"):
            while True:
                leader = await self.leader_after(term)
                order = pipe.Settle(leader.term, leader.index)
                first = await self.nodes[leader.node_id].ask(order, pipe.Settled)
                order = pipe.Settle(leader.term, first.applied_index)
                said = [await node.ask(order, pipe.Settled) for node in self.nodes.values()]
                if all(settled.leader_id == leader.node_id for settled in said):
                    return leader
                term = leader.term


@contextmanager
def _patience(what: str) -> Iterator[None]:
    with trio.move_on_after(PATIENCE_S):
        yield
        return
    raise NoElectionError(f"waited {PATIENCE_S:g} s for {what}; is the machine overloaded?")


@asynccontextmanager
async def process_cluster(setup: NodeSetup) -> AsyncIterator[ProcessCluster]:
    """Start a cluster of node processes, and kill them all on leaving.

    Args:
        setup: of each; what is each one's own is filled in. `directory` holds their directories.

    Raises:
        ClusterError: one of them ended, or failed, by itself.
        NoElectionError: they did not start in time.
    """
    cluster = ProcessCluster(setup)
    async with running_beside(cluster.run, stop=cluster.stop, name="processes"):
        yield cluster
