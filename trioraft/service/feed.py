"""StatusFeed: what a node becomes, for all who watch it, at the price of one.

Rules of this file:

* However many watch, the node is looked at by one task, and each status is written down once.
* The more there are, the seldomer each gets one: what all of them get together is bounded.
* A slow watcher misses statuses in between, and role changes are counted that it misses; nobody
  waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, final

import attrs
import msgspec
import trio

from ..core.errors import NodeDead
from ..core.events import RoleChanged
from ..member.status import Status
from ..node.event_stream import EventStream, NodeEvent
from ..node.node import Node
from ..rpc.protocol import Item, RoleNews, ServerStatus, StatusNews, encode_value

EACH_S: Final = 0.001
"""Time between two statuses for each who watches: a thousand get one a second."""


class NewsSink(Protocol):
    """Where the news of one watcher go."""

    @property
    def is_full(self) -> bool: ...

    def put(self, answer: Item) -> None: ...


@final
@attrs.define(eq=False)
class Watcher:
    """One subscription to the node."""

    request_id: int
    outbox: NewsSink
    interval_s: float
    """Shortest time between two statuses."""
    over: trio.Event = attrs.Factory(trio.Event)
    """The node is Dead, and everything was sent."""
    due_s: float = 0.0
    """When the next status may be sent."""
    version: int = -1
    """Which one was sent last."""
    missed: int = 0
    """Role changes that found no room."""


def _is_role_change(event: NodeEvent) -> bool:
    """What is told of events, of which there may be thousands in a second."""
    return isinstance(event, RoleChanged)


@final
class StatusFeed:
    """Everybody who watches the node of one port.

    Args:
        node: which is watched.
        interval_min_s: shortest time between two statuses, in seconds.
        told_as: a status as clients see it.
    """

    def __init__(
        self, node: Node, interval_min_s: float, told_as: Callable[[Status], ServerStatus]
    ) -> None:
        self.nursery: trio.Nursery | None = None
        """Of the port, while it is open."""
        self._node = node
        self._interval_min_s = interval_min_s
        self._told_as = told_as
        self._watchers: dict[Watcher, None] = {}
        self._life: trio.CancelScope | None = None  # of the task, while anybody watches
        self._pause = trio.CancelScope()
        self._shown: Status | None = None
        self._version = 0

    async def watch(self, watcher: Watcher) -> None:
        """Have the watcher sent the node's status whenever it changed, and its role changes at
        once, until the node is Dead or this is cancelled.

        Raises:
            NodeDead: it is so already.
        """
        if self.nursery is None:
            raise NodeDead(f"node {self._node.id!r} takes no clients any more: ask another")
        self._watchers[watcher] = None
        if self._life is None:
            self._life = trio.CancelScope()
            name = f"clients[{self._node.id}].feed"
            self.nursery.start_soon(self._run, self._life, name=name)
        self._pause.cancel()  # there is somebody who knows nothing yet
        try:
            await watcher.over.wait()
        finally:
            self._watchers.pop(watcher, None)
            if not self._watchers and self._life is not None:
                self._life.cancel()
                self._life = None

    async def _run(self, life: trio.CancelScope) -> None:
        try:
            with life:
                async with self._node.events() as stream, trio.open_nursery() as nursery:
                    stream.keep = _is_role_change
                    nursery.start_soon(self._send_statuses)
                    await self._send_roles(stream)
                    nursery.cancel_scope.cancel()
        except* NodeDead:
            pass  # it died before it was looked at
        if self._life is life:  # nobody left: the node is Dead
            self._life = None
            for watcher in self._watchers:
                watcher.over.set()

    async def _send_roles(self, stream: EventStream) -> None:
        node_id = self._node.id
        async for event in stream:
            if isinstance(event, RoleChanged):
                reason, previous = str(event.reason), event.previous.value
                news = RoleNews(node_id, event.role.value, previous, event.term, reason)
                self._tell(news, stream.dropped)

    def _tell(self, news: RoleNews, dropped: int) -> None:
        values: dict[int, msgspec.Raw] = {}  # by how many were missed: the same for nearly all
        for watcher in self._watchers:
            missed = watcher.missed + dropped
            if watcher.outbox.is_full:
                watcher.missed += 1
                continue
            value = values.get(missed)
            if value is None:
                value = values[missed] = encode_value(msgspec.structs.replace(news, missed=missed))
            watcher.outbox.put(Item(watcher.request_id, value))

    async def _send_statuses(self) -> None:
        while True:
            status = self._node.status
            if status != self._shown:
                self._shown, self._version = status, self._version + 1
            again_s = self._send_to_those_due(status)
            with trio.CancelScope() as self._pause:
                if again_s is not None:
                    await trio.sleep_until(again_s)
                    continue
                try:
                    await self._node.wait(self._is_news)
                except NodeDead:
                    return  # the stream of events ends too, after the last role change

    def _send_to_those_due(self, status: Status) -> float | None:
        """Send this status to whom it is news and due; return when to look again, if anybody is
        left who must wait for it."""
        now_s, version, value = trio.current_time(), self._version, None
        pause_s = max(self._interval_min_s, EACH_S * len(self._watchers))
        again_s: float | None = None
        for watcher in self._watchers:
            if watcher.version == version:
                continue
            if watcher.due_s > now_s or watcher.outbox.is_full:
                due_s = max(watcher.due_s, now_s + pause_s)
                again_s = due_s if again_s is None else min(again_s, due_s)
                continue
            if value is None:
                value = encode_value(StatusNews(self._told_as(status)))
            watcher.outbox.put(Item(watcher.request_id, value))
            watcher.version = version
            watcher.due_s = now_s + max(watcher.interval_s, pause_s)
        return again_s

    def _is_news(self, status: Status) -> bool:
        return status != self._shown
