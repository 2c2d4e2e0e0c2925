"""Rejections: what is told of connections that were refused, however many come.

Rules of this file: a few at once are told one by one, then one every few seconds, which says how
many were not. Each told one costs an event, a line of somebody's log, and its disk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias, final

import attrs
import trio

from ..core.types import NodeId
from .visitors import Looks

TOLD_AT_ONCE: Final = 20
"""How many are told one by one after a quiet time."""
TOLD_EACH_S: Final = 3.0
"""And then one in so many seconds."""


SENDERS_MAX: Final = 64
"""Peers that are counted apart. All further ones count as strangers."""

Tell: TypeAlias = Callable[[str, NodeId | None, str], None]
"""Called with the remote address (empty: none yet), who it said it was (None: a stranger), and the
reason."""


@final
class Rejections:
    """What a port tells of connections that it refused or ended.

    Args:
        tell: tells of one.
    """

    def __init__(self, tell: Tell) -> None:
        self.count: int = 0
        """All, since the port was opened."""
        self._tell = tell
        self._senders: dict[NodeId | None, _Sender] = {None: _Sender()}

    def add(self, remote: str, peer: NodeId | None, reason: str) -> None:
        """A connection was refused or ended."""
        self.count += 1
        sender = self._senders.get(peer)
        if sender is None:
            known = self._senders
            sender = known[None] if len(known) > SENDERS_MAX else known.setdefault(peer, _Sender())
        if not sender.may_tell.take(trio.current_time()):
            sender.untold += 1
            return
        if sender.untold:
            reason = f"{reason} ({sender.untold} others since the last one were not told)"
            sender.untold = 0
        self._tell(remote, peer, reason)


@attrs.define
class _Sender:
    may_tell: Looks = attrs.Factory(lambda: Looks(1 / TOLD_EACH_S, TOLD_AT_ONCE))
    untold: int = 0
