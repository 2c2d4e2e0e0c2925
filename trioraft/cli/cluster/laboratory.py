"""The laboratory beside a cluster's members: their page, its buttons, and where that is served."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, final

import msgspec
import trio

from ...client.client import Client
from ...core.errors import RaftError
from ...core.types import Address, NodeId
from ...kv import ERROR_TYPES
from ...kv.client import KvClient
from ...live.app import live_app
from ...live.hub import Hub
from ...live.scene import latest_leader
from ...live.serving import open_page
from ...net.addresses import host_port
from ...tasks.background import running_beside
from .lab import Lab
from .layout import Layout
from .run import RunningCluster

FILE: Final = "lab.json"
"""In the cluster's directory: where the laboratory is, and its token, for scripts."""
EVERY: Final = 2
"""A learner wants to see heartbeats; a few a second are enough, of all members together: of so many
rounds for each follower one is drawn."""
PAUSES_S: Final = (0.05,)
"""Before a member that was ended is tried again: its first election is to be seen."""
PUT_S: Final = 10.0
"""How long a value may take to be written; a cluster without a leader takes none."""
PUTS_MAX: Final = 100
"""Values that may be on their way."""


@final
class Laboratory:
    """Opens the laboratory of a cluster (see `RunningCluster`).

    Args:
        layout: where its members are.
        directory: the cluster's, for `lab.json`.
        listen: where the page is served.
    """

    def __init__(self, layout: Layout, directory: Path, listen: Address) -> None:
        self._layout = layout
        self._path = directory / FILE
        self._listen = listen

    @asynccontextmanager
    async def open(self, running: RunningCluster) -> AsyncIterator[None]:
        """Serve page and buttons, for the body of the `async with`.

        Raises:
            ConfigError, OSError: the page cannot be served there.
        """
        watched = _WatchedCluster(self._layout)
        lab = Lab(running, watched)
        every = max(1, EVERY * (len(self._layout.members) - 1))
        watched.hub = hub = Hub(
            watched.client, every=every, keeps_on=True, pauses_s=PAUSES_S, lab=lab
        )
        async with (
            hub.open(),
            running_beside(watched.put_all, stop=watched.stop, name="lab.puts"),
            open_page(self._listen, lambda hosts: live_app(hub, hosts, lab)) as address,
        ):
            url = f"http://{host_port(address)}"
            self._write(url, lab.token)
            running.tell(f"The lab is at {url}/#token={lab.token}")
            try:
                yield
            finally:
                self._path.unlink(missing_ok=True)

    def _write(self, url: str, token: str) -> None:
        """For nobody but who runs the cluster."""
        self._path.unlink(missing_ok=True)
        told = msgspec.json.encode({"url": url, "token": token, "pid": os.getpid()})
        with open(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(told)


class _WatchedCluster:
    """The cluster as its hub and a client know it."""

    hub: Hub

    def __init__(self, layout: Layout) -> None:
        self._addresses = {member.id: member.clients for member in layout.members}
        self._scope = trio.CancelScope()
        self._send, self._receive = trio.open_memory_channel[tuple[str, str]](PUTS_MAX)

    def client(self) -> Client:
        return Client(self._addresses, error_types=ERROR_TYPES)

    def remark(self, text: str) -> None:
        self.hub.remark(text)

    def leader(self) -> NodeId | None:
        leader = latest_leader(self.hub.scene.statuses())
        return None if leader is None else leader.node_id

    def put(self, key: str, value: str) -> bool:
        """Have it written in the background: nobody waits for a cluster without a leader."""
        try:
            self._send.send_nowait((key, value))
        except trio.WouldBlock:
            return False
        return True

    def stop(self) -> None:
        self._scope.cancel()

    async def put_all(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Write what is to be put, one after the other, until `stop`."""
        task_status.started()
        with self._scope:
            async with self.client() as client:
                async for key, value in self._receive:
                    try:
                        await KvClient(client).put(key, value, timeout_s=PUT_S)
                    except RaftError as error:
                        self.remark(f"{key} = {value} is not known to be written: {error}")
