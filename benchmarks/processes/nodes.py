"""Node processes that are told what to do, line by line, and the cluster that they are.

Rules of this file:

* A process that ends while it is wanted ends whatever is done with it, with what it said last.
* All listen before any is opened, so that no port is a guess.
* What a node says unasked goes to whoever started it; all else is the answer to an order.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol, TypeVar, final

import msgspec
import trio

from trioraft import NodeId
from trioraft.tasks.background import running_beside

from .pipe import Bound, Failed, Peers, line_of
from .process import Process, ProcessError, patience, python

T = TypeVar("T")

ANSWERS_MAX: Final = 16
"""Answers that may wait."""


class Listener:
    """Hears what nodes say unasked, and of their end. This one heeds nothing."""

    def heard(self, _node: NodeProcess, _answer: Any) -> bool:
        """Whether nobody ordered this answer; it is taken then."""
        return False

    def ended(self, node: NodeProcess) -> None:
        """It says nothing any more."""


@final
class NodeProcess:
    """One process of a node."""

    def __init__(
        self,
        node_id: NodeId,
        command: Sequence[str],
        decode: Callable[[bytes], Any],
        listener: Listener,
    ) -> None:
        self.node_id = node_id
        self.ended = trio.Event()
        self.is_to_end = False
        """Whether its end is what we want."""
        self._decode = decode
        self._listener = listener
        self._send, self._answers = trio.open_memory_channel[Any](ANSWERS_MAX)
        self._process = Process(command, name=f"the process of node {node_id}")

    async def run(self) -> None:
        """Take what it says until it ends.

        Raises:
            ProcessError: it failed, or ended although that was not wanted.
        """
        process = self._process
        try:
            while lines := await process.lines():
                for line in lines:
                    await self._take(line)
            code = await process.ended()
        finally:
            process.kill()
            self.ended.set()
            self._send.close()
            self._listener.ended(self)
        if not self.is_to_end:
            complaints = process.complaints() or "it complained of nothing"
            raise ProcessError(f"{process.name} ended with exit code {code}:\n{complaints}")

    async def _take(self, line: bytes) -> None:
        try:
            answer = self._decode(line)
        except msgspec.DecodeError as error:
            raise ProcessError(f"{self._process.name} said {line!r}: {error}") from error
        if isinstance(answer, Failed):
            raise ProcessError(f"{self._process.name} failed: {answer.reason}")
        if not self._listener.heard(self, answer):
            await self._send.send(answer)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal that ends it, or stops it."""
        self.is_to_end = True
        self._process.signal(number)

    def complaints(self) -> str:
        """The end of what it wrote on standard error."""
        return self._process.complaints()

    def forget(self) -> None:
        """Nobody asks it any more."""
        self._answers.close()

    def order(self, order: msgspec.Struct) -> None:
        """Tell it to do something; nothing happens if it has ended."""
        self._process.say(line_of(order))

    async def answer(self, kind: type[T]) -> T:
        """Its next answer, which must be one of this kind.

        Raises:
            ProcessError: it said something else, or was made to end.
        """
        try:
            answer = await self._answers.receive()
        except trio.EndOfChannel:
            if not self.is_to_end:
                await trio.sleep_forever()  # `run` says how it ended, and ends this
            raise ProcessError(
                f"{self._process.name} was asked for {kind.__name__} and ended"
            ) from None
        if not isinstance(answer, kind):
            raise ProcessError(
                f"{self._process.name} answered {answer!r}; {kind.__name__} was expected"
            )
        return answer

    async def ask(self, order: msgspec.Struct, kind: type[T]) -> T:
        """Order something, and wait for the answer."""
        self.order(order)
        return await self.answer(kind)


class SetupOf(Protocol):
    """What a node is to be: the only argument of its process."""

    def __call__(self, node_id: NodeId, *, port: int) -> msgspec.Struct: ...


@final
class NodeProcesses:
    """The processes of one cluster; made by `open_nodes`."""

    def __init__(
        self,
        program: Sequence[str],
        ids: tuple[NodeId, ...],
        setup_of: SetupOf,
        decode: Callable[[bytes], Any],
        listener: Listener,
    ) -> None:
        self.ids = ids
        self.nodes: dict[NodeId, NodeProcess] = {}
        self.ports: dict[NodeId, int] = {}
        self._program = tuple(program)
        self._setup_of = setup_of
        self._decode = decode
        self._listener = listener
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._failure: ProcessError | None = None

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Keep the processes until `stop`; `started()` once all listen.

        Raises:
            ProcessError: one of them ended, or failed.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as self._nursery:
                    for node_id in self.ids:
                        self._start(node_id)
                    with patience("the node processes to start"):
                        for node_id, node in self.nodes.items():
                            self.ports[node_id] = (await node.answer(Bound)).port
                    task_status.started()
                    await trio.sleep_forever()
        finally:
            for node in self.nodes.values():
                node.forget()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End `run`."""
        self._scope.cancel()

    async def open(self, opened: type[T]) -> dict[NodeId, T]:
        """Have all open their nodes; returns what each says to it."""
        for node in self.nodes.values():
            node.order(Peers(self.ports))
        with patience("the nodes to open"):
            return {node_id: await node.answer(opened) for node_id, node in self.nodes.items()}

    async def start_again(self, node_id: NodeId) -> NodeProcess:
        """Start a process again that has ended or is about to, on the same port; its answers to
        that are still to come."""
        with patience(f"node {node_id} to end"):
            await self.nodes[node_id].ended.wait()
        self.nodes[node_id].forget()
        node = self._start(node_id)
        node.order(Peers(self.ports))
        return node

    async def restart(self, node_id: NodeId, opened: type[T]) -> T:
        """The same; returns what it says when its node is open."""
        node = await self.start_again(node_id)
        with patience(f"node {node_id} to start again"):
            await node.answer(Bound)
            return await node.answer(opened)

    def kill(self, node_id: NodeId) -> None:
        """kill -9, now."""
        self.nodes[node_id].signal(signal.SIGKILL)

    async def terminate(self, node_id: NodeId) -> None:
        """SIGTERM, and wait until the process is gone."""
        self.nodes[node_id].signal(signal.SIGTERM)
        with patience(f"node {node_id} to leave"):
            await self.nodes[node_id].ended.wait()

    def _start(self, node_id: NodeId) -> NodeProcess:
        if self._nursery is None:
            raise ProcessError("the cluster does not run; use `async with open_nodes(…)`")
        setup = self._setup_of(node_id, port=self.ports.get(node_id, 0))
        command = (*self._program, line_of(setup).decode().strip())
        node = NodeProcess(node_id, command, self._decode, self._listener)
        self.nodes[node_id] = node
        self._nursery.start_soon(self._keep, node)
        return node

    async def _keep(self, node: NodeProcess) -> None:
        """Run a process; the first that fails ends them all."""
        try:
            await node.run()
        except ProcessError as error:
            self._failure = self._failure or error
            self._scope.cancel()


@asynccontextmanager
async def open_nodes(
    program: str | Sequence[str],
    ids: tuple[NodeId, ...],
    setup_of: SetupOf,
    decode: Callable[[bytes], Any],
    listener: Listener | None = None,
) -> AsyncIterator[NodeProcesses]:
    """Start a cluster of node processes, all of which listen, and kill them all on leaving.

    Args:
        program: what each process runs: a module of ours that begins with `child.main`, or the
            command of a program that does the same. Its last argument is what it is to be.
        ids: of the nodes.
        setup_of: called whenever one is started.
        decode: what they say.
        listener: takes what they say unasked.

    Raises:
        ProcessError: one of them ended, or failed, by itself.
    """
    command = python(program) if isinstance(program, str) else program
    cluster = NodeProcesses(command, ids, setup_of, decode, listener or Listener())
    async with running_beside(cluster.run, stop=cluster.stop, name="processes"):
        yield cluster
