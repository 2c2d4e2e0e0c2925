"""A backup on its way to a client: piece after piece, each when the one before is with the kernel.

So it takes the memory of one piece, whatever it is of, and a slow client makes nobody wait but
itself: the file that is read from is the snapshot's, which nobody changes. A quick one gets it no
faster than leaves the others their room.
"""

from __future__ import annotations

from typing import Final, Protocol

import trio

from ..backups.format import encode_head
from ..core.errors import Overloaded
from ..rpc.protocol import Item, ReadBackup
from .context import ServiceContext

CREDIT_S: Final = 0.1
"""So much of a pause may be made up for: a server that has much to do wakes up late, in seconds."""


class Outbox(Protocol):
    """Where answers of one connection go."""

    def put_value(self, request_id: int, value: object, kind: type[Item], /) -> None:
        """Put it down."""

    async def drained(self) -> None:
        """Wait until all that was put down is with the kernel."""


async def send_backup(context: ServiceContext, outbox: Outbox, request: ReadBackup) -> None:
    """Send what the request asks for; whoever called counts it (`ServiceContext.backups`).

    Raises:
        Overloaded: no majority has said in time what is committed.
        Exception: as `Node.open_backup`.
    """
    rate = context.limits.backup_bytes_per_s_max
    try:
        async with context.node.open_backup(
            stale=request.is_stale, patience_s=request.patience_s
        ) as backup:
            outbox.put_value(request.id, encode_head(backup.head), Item)
            due_s = trio.current_time()
            async for piece in backup:
                outbox.put_value(request.id, piece, Item)
                await outbox.drained()
                due_s = max(due_s, trio.current_time() - CREDIT_S) + len(piece) / rate
                await trio.sleep_until(due_s)
    except trio.TooSlowError:
        raise Overloaded(
            f"no leader has said within {request.patience_s:g} s what is committed: wait until "
            "there is one, or take a stale backup of what this server has (trioraft backup --stale)"
        ) from None
    finally:
        context.backups -= 1
