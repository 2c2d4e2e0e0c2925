"""Openings: how many sessions each client of a port has opened, so that none uses up all of them.

Rules of this file: it is a matter of this port, and of the time since it was opened: the log knows
no clients, only sessions. What counts is refused before it is proposed.
"""

from __future__ import annotations

from typing import Final, final

from ..net.token_bucket import TokenBucket

BACK_S: Final = 600.0
"""In this time all that a client has opened is forgotten."""
CLIENTS_MAX: Final = 1024
"""Clients that are remembered; who has opened none for longest is forgotten."""


@final
class Openings:
    """What all clients of one port have opened.

    Args:
        of_client_max: sessions of one client.
    """

    def __init__(self, of_client_max: int) -> None:
        self.of_client_max = of_client_max
        self._left: dict[object, TokenBucket] = {}

    def may_open(self, client: object, now_s: float) -> bool:
        """Whether this client may open one more."""
        left = self._left.get(client)
        return left is None or left.left(now_s) >= 1

    def on_opened(self, client: object, now_s: float) -> None:
        """It has opened one."""
        left = self._left.pop(client, None)
        if left is None:
            left = TokenBucket(self.of_client_max / BACK_S, self.of_client_max)
        self._left[client] = left
        left.take(now_s)
        if len(self._left) > CLIENTS_MAX:
            del self._left[next(iter(self._left))]

    def on_closed(self, client: object) -> None:
        """It has closed one."""
        left = self._left.get(client)
        if left is not None:
            left.use(-1)

    def used(self, now_s: float) -> tuple[int, int]:
        """What the client has open that has most, and the bound."""
        least = min((left.left(now_s) for left in self._left.values()), default=self.of_client_max)
        return round(self.of_client_max - least), self.of_client_max
