"""What a server tells the systemd that has started it: that it is ready, how it is, that it lives.

Rules of this file:

* Ready is a server that takes clients. Whether it has a leader is its status, and no reason to have
  it started again: that would help nobody.
* Keep-alives come from the event loop. Who holds that up for longer than WatchdogSec= is of no use
  to anybody, and is started again.
* A socket that nobody reads, or that is gone, is nobody's trouble but systemd's: nothing waits.

The protocol is sd_notify(3): datagrams of NAME=VALUE lines to the socket in NOTIFY_SOCKET.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final, final

import attrs
import trio

from ...core.errors import NodeDead
from ...core.escaping import escaped
from ...core.types import Role
from ...member.status import Status
from ...node.node import Node
from ...tasks.background import running_beside

STARTING_EVERY_S: Final = 10.0
"""How often it is told that the start goes on, in seconds."""
STARTING_ALLOWED_S: Final = 30.0
"""How long it may then go on without being told again, in seconds."""
KEEP_ALIVES: Final = 3
"""Keep-alives in the time after which systemd would give it up."""
STATUS_CHARS_MAX: Final = 500


@final
class Supervisor:
    """The systemd that has started this process, if one has.

    Args:
        environment: has NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, where systemd set them.
        pid: of this process.
    """

    def __init__(self, environment: Mapping[str, str], pid: int) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        self._starting: _Repeated | None = None
        self.watchdog_s: float | None = _watchdog_s(environment, pid)
        """A process that says nothing for so long is killed, in seconds; None: none is."""
        if self._address[:1] in ("/", "@"):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    def tell(self, **said: object) -> None:
        """Send these, each name in capitals. Never waits, and never fails."""
        if self._socket is None:
            return
        text = "\n".join(f"{name.upper()}={value}" for name, value in said.items())
        address = self._address
        address = f"\0{address[1:]}" if address.startswith("@") else address
        with suppress(OSError):
            self._socket.sendto(text.encode(), address)

    def close(self) -> None:
        """Tell nothing more. Idempotent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    @asynccontextmanager
    async def told_of_start(self) -> AsyncIterator[None]:
        """A start that takes long, as where a large log is read, is not given up as long as the
        event loop runs; until `told_of` begins."""
        goes_on = {"extend_timeout_usec": int(STARTING_ALLOWED_S * 1e6)}
        self._starting = _Repeated(self, STARTING_EVERY_S, goes_on)
        async with self._beside(self._starting, "starting"):
            yield

    @asynccontextmanager
    async def told_of(self, node: Node) -> AsyncIterator[None]:
        """For the body: this process is ready, lives, and says how its node is. At the end it is
        told that it stops."""
        if self._starting is not None:
            self._starting.stop()
        self.tell(ready=1, status=standing(node.status))
        try:
            async with (
                self._beside(_Statuses(self, node), "status"),
                self._beside(self._keep_alive(), "watchdog"),
            ):
                yield
        finally:
            self.tell(stopping=1, status="leaving")

    def _keep_alive(self) -> _Repeated | None:
        if self.watchdog_s is None:
            return None
        return _Repeated(self, self.watchdog_s / KEEP_ALIVES, {"watchdog": 1})

    @asynccontextmanager
    async def _beside(self, told: _Repeated | _Statuses | None, name: str) -> AsyncIterator[None]:
        if self._socket is None or told is None:
            yield
            return
        async with running_beside(told.run, stop=told.stop, name=f"serve.supervisor.{name}"):
            yield


def _watchdog_s(environment: Mapping[str, str], pid: int) -> float | None:
    text = environment.get("WATCHDOG_USEC", "")
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        return None
    meant = environment.get("WATCHDOG_PID", "")
    return None if meant and meant != str(pid) else int(text) / 1e6


@attrs.define(eq=False)
class _Repeated:
    """Says the same again and again."""

    supervisor: Supervisor
    every_s: float
    said: Mapping[str, object]
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    def stop(self) -> None:
        self._scope.cancel()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        with self._scope:
            while True:
                self.supervisor.tell(**self.said)
                await trio.sleep(self.every_s)


@attrs.define(eq=False)
class _Statuses:
    """Says how the node is, whenever that is news."""

    supervisor: Supervisor
    node: Node
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    def stop(self) -> None:
        self._scope.cancel()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        said = standing(self.node.status)
        with self._scope, suppress(NodeDead):
            while True:
                status = await self.node.wait(lambda status, said=said: standing(status) != said)  # type: ignore[misc] # mypy cannot infer it
                said = standing(status)
                self.supervisor.tell(status=said)


def standing(status: Status) -> str:
    """How a node is, in a line; why it cannot do its work, if it cannot."""
    return escaped(_standing(status))[:STATUS_CHARS_MAX]


def _standing(status: Status) -> str:
    if status.waiting_for:
        return f"the cluster is forming: waiting for {', '.join(status.waiting_for)}"
    if status.is_removed:
        return "not ready: it was removed from the cluster, and can be stopped"
    if status.role is Role.LEADER:
        return f"leads term {status.term}"
    if status.leader_id is not None:
        return f"follows {status.leader_id} in term {status.term}"
    if status.node_id not in status.configuration.members:
        return "not ready: it waits to be added (trioraft admin add-learner)"
    away = [peer for peer, is_up in status.links.items() if not is_up]
    unreached = f"; it does not reach {', '.join(away)}" if away else ""
    return f"not ready: no leader is known in term {status.term}{unreached}"


def supervisor_of_this_process() -> Supervisor:
    """As the environment of this process says."""
    return Supervisor(os.environ, os.getpid())
