"""Listening: a subscription to each server, for as long as anybody watches.

Rules of this file:

* One task a server; none that fails disturbs another. A server that is gone is tried again, less
  and less often.
* Servers that others name are listened to as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import trio

from ...client.client import Client
from ...core.errors import RaftError
from ...core.types import Address
from ...rpc.protocol import NodeNews, StatusNews, printable
from .scene import Scene

Changed: TypeAlias = Callable[[Address, NodeNews | None], None]

PAUSES_S: Final = (0.2, 0.5, 1.0, 2.0)
"""Before each further attempt to reach a server; the last one for all that follow."""


async def listen(client: Client, scene: Scene, interval_s: float, changed: Changed) -> None:
    """Keep the scene up to date until cancelled.

    Args:
        client: open; it knows at least one address.
        scene: is told everything.
        interval_s: shortest time between two statuses of one server, in seconds.
        changed: called after each change of the scene, with whom it came from and what was said;
            None when a server was lost.
    """
    async with trio.open_nursery() as nursery:

        def follow(address: Address) -> None:
            if scene.expect(address):
                nursery.start_soon(_listen_to, address, name=f"watch[{address[0]}:{address[1]}]")

        async def _listen_to(address: Address) -> None:
            attempt = 0
            while True:
                try:
                    async with client.watch_status(address, interval_s=interval_s) as stream:
                        async for news in stream:
                            attempt = 0
                            scene.tell(address, news, trio.current_time())
                            _named_in(news, follow)
                            changed(address, news)
                    problem = "the node is Dead"
                except RaftError as error:
                    problem = printable(str(error))
                scene.lost(address, problem, trio.current_time())
                changed(address, None)
                await trio.sleep(PAUSES_S[min(attempt, len(PAUSES_S) - 1)])
                attempt += 1

        for address in client.addresses:
            follow(address)
        await trio.sleep_forever()


def _named_in(news: NodeNews, follow: Callable[[Address], None]) -> None:
    if isinstance(news, StatusNews):
        for address in news.status.client_addresses.values():
            follow(address)
