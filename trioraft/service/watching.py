"""Subscriptions: what a client is told without asking again. A slow client is told less often, or
later; it never slows the node, and what waits for it is bounded.
"""

from __future__ import annotations

from functools import partial

import trio

from ..core.errors import ConfigError, NodeDead
from ..core.events import RoleChanged
from ..member.status import Status
from ..node.event_stream import EventStream
from ..rpc.protocol import Item, RoleNews, StatusNews, Watch, WatchStatus
from .context import ServiceContext
from .outbox import ReplyQueue
from .queries import Watchable


async def watch_machine(context: ServiceContext, outbox: ReplyQueue, request: Watch) -> None:
    """Send what the state machine's subscription yields, until it ends.

    Raises:
        ConfigError: the machine cannot be watched.
        Exception: what the subscription raised.
    """
    machine = context.machine
    if not isinstance(machine, Watchable):
        raise ConfigError(f"{type(machine).__name__} has no method 'watch': it cannot be watched")
    async with machine.watch(request.data) as items:
        async for item in items:
            outbox.put_value(request.id, item, Item)
            await outbox.room()


async def watch_node(context: ServiceContext, outbox: ReplyQueue, request: WatchStatus) -> None:
    """Send the node's status whenever it changed, and its role changes at once, until it dies."""
    interval_s = max(request.interval_s, context.limits.watch_interval_min_s)
    async with context.node.events() as stream, trio.open_nursery() as nursery:
        nursery.start_soon(partial(_send_statuses, context, outbox, request.id, interval_s))
        await _send_roles(context, stream, outbox, request.id)
        nursery.cancel_scope.cancel()


async def _send_statuses(
    context: ServiceContext, outbox: ReplyQueue, request_id: int, interval_s: float
) -> None:
    """The present status, then each that differs from the last one sent; not too often."""
    last: Status | None = None
    try:
        while True:
            last = await context.node.wait(partial(_is_news, last))
            outbox.put_value(request_id, StatusNews(context.server_status(last)), Item)
            await outbox.room()
            await trio.sleep(interval_s)
    except NodeDead:
        return  # the stream of events ends too, after the last role change


def _is_news(last: Status | None, status: Status) -> bool:
    return status != last


async def _send_roles(
    context: ServiceContext, stream: EventStream, outbox: ReplyQueue, request_id: int
) -> None:
    async for event in stream:
        if isinstance(event, RoleChanged):
            outbox.put_value(
                request_id,
                RoleNews(
                    context.node.id,
                    event.role.value,
                    event.previous.value,
                    event.term,
                    str(event.reason),
                    stream.dropped,
                ),
                Item,
            )
            await outbox.room()
