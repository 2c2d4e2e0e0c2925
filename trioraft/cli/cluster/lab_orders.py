"""What a laboratory says to its members' processes: when it starts them, and over their pipes."""

from __future__ import annotations

from typing import Final

import msgspec

from ...core.types import NodeId

NO_PRE_VOTE: Final = "--lab-no-pre-vote"
"""What stands before all else where a member is to do without."""


class MemberOrder(msgspec.Struct, frozen=True):
    """Which ways are cut from now on; all others are open. A line of JSON."""

    to: tuple[NodeId, ...] = ()
    """What it sends to these does not leave."""
    come_from: tuple[NodeId, ...] = ()
    """What these send does not get to it."""
