"""Agreement: whether all members have computed the same results, compared now and then.

Rules of this file:

* A member notes the running checksum of its results at certain indexes, the same ones everywhere.
  The leader asks for the newest of them with a heartbeat; whoever has that one answers.
* A node stops only where a majority of voters agree on another checksum at the same index. Any
  other difference is told, and nothing more: it is not known who is right (hazard E4).
* Who cannot say (its snapshot has no checksum) takes no part.
"""

from __future__ import annotations

from typing import Final, final

import attrs

from .quorum import Outcome, tally
from .types import Configuration, LogIndex, NodeId

POINTS_EVERY: Final = 16
"""At each index that is a multiple of this the checksum is noted."""
POINTS_KEPT: Final = 256
"""So many of them are remembered: a member that is further behind is asked again later."""
CHECK_BEATS: Final = 10
"""The leader asks with every so many heartbeats, if there is anything new."""


@attrs.frozen
class MajorityChecksum:
    """What the answers about one index say so far."""

    agreed: int | None
    """The checksum of a majority of voters."""
    voters: tuple[NodeId, ...]
    """Who has that one; all who answered, if there is no majority."""
    differing: dict[NodeId, int]
    """Whose is another: than the majority's, or than ours."""


@final
class Agreement:
    """The checksums of one member, and what the others say of theirs while it leads."""

    def __init__(self) -> None:
        self.asked: tuple[NodeId, LogIndex] | None = None
        """A leader wants to know the checksum at this index, and it is not applied yet."""
        self.index: LogIndex = 0
        """What this leader asked about last."""
        self.differing: dict[NodeId, LogIndex] = {}
        """Whose checksum was another than ours when this leader asked, and at which index."""
        self.told: tuple[LogIndex, int | None] | None = None
        """The last difference that was told: at which index, and what a majority has."""
        self._points: dict[LogIndex, int] = {}
        self._answers: dict[NodeId, int] = {}
        self._beats = 0

    def note(self, index: LogIndex, checksum: int) -> None:
        """Ours, at an index."""
        self._points[index] = checksum
        if len(self._points) > POINTS_KEPT:
            del self._points[next(iter(self._points))]

    def at(self, index: LogIndex) -> int | None:
        """Ours; None if it is not known, or not any more."""
        return self._points.get(index)

    def forget(self) -> None:
        """What comes next does not follow from what came before: a snapshot was restored."""
        self._points.clear()

    def on_led(self) -> None:
        """A leadership begins: nobody was asked yet."""
        self.index = 0
        self._answers.clear()
        self.differing = {}
        self._beats = 0

    def next_question(self) -> LogIndex | None:
        """With a heartbeat: the index to ask about now, if there is a new one."""
        self._beats += 1
        newest = next(reversed(self._points), 0)
        if newest <= self.index or self._beats % CHECK_BEATS != 1:
            return None
        self.index = newest
        self._answers.clear()
        return newest

    def answered(
        self, me: NodeId, peer: NodeId, checksum: int, configuration: Configuration
    ) -> MajorityChecksum | None:
        """A member says its checksum at the index that was asked about; None: all is well."""
        ours = self.at(self.index)
        self._answers[peer] = checksum
        if ours is None:
            return None
        self._answers[me] = ours
        if checksum == ours:
            self.differing.pop(peer, None)
        if len(set(self._answers.values())) == 1:
            return None
        for value in set(self._answers.values()):
            votes = {node: has == value for node, has in self._answers.items()}
            if tally(configuration, votes) is Outcome.WON:
                return self._majority_checksum(value, value, configuration)
        return self._majority_checksum(None, ours, configuration)

    def _majority_checksum(
        self, agreed: int | None, right: int, configuration: Configuration
    ) -> MajorityChecksum:
        answers = self._answers
        voters = sorted(n for n, has in answers.items() if configuration.is_voter(n))
        if agreed is not None:
            voters = [node for node in voters if answers[node] == agreed]
        differing = {node: has for node, has in sorted(answers.items()) if has != right}
        return MajorityChecksum(agreed, tuple(voters), differing)
