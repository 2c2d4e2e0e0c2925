"""What a leader knows of a change of members that it carries out, and of one handing-over.

Rules of this file:

* Both exist within a leadership only: losing it ends them, and no flag is left (hazard T1).
* A joining node has caught up once it takes a whole election timeout's worth of entries in less
  than an election timeout (dissertation 4.2.1): only then does it get a vote.
"""

from __future__ import annotations

import enum

import attrs

from .types import Configuration, LogIndex, NodeId


class Stage(enum.Enum):
    """How far a change has come."""

    ADDING = "adding learners"
    CATCHING_UP = "catching up"
    JOINT = "joint"
    FINAL = "final"
    DONE = "done"
    ABANDONED = "abandoned"


@attrs.define
class CatchUp:
    """One joining node's way to the end of the log, in rounds."""

    target_index: LogIndex
    """The end of the log when the round began."""
    started_s: float
    is_done: bool = False

    def on_matched(
        self, match_index: LogIndex, last_index: LogIndex, now: float, patience_s: float
    ) -> None:
        """The node holds everything up to `match_index`."""
        if self.is_done or match_index < self.target_index:
            return
        if match_index >= last_index or now - self.started_s <= patience_s:
            self.is_done = True
        else:
            self.target_index, self.started_s = last_index, now


@attrs.define(eq=False)
class MembershipChange:
    """A change on its way; whoever asked for it holds this object too, and sees its end."""

    goal: Configuration
    """What the cluster shall be; its `index` is set when it is appended."""
    stage: Stage = Stage.ADDING
    joining: dict[NodeId, CatchUp] = attrs.field(factory=dict)
    """The future voters that have to catch up first."""

    @property
    def has_ended(self) -> bool:
        """Whether its outcome is known."""
        return self.stage in (Stage.DONE, Stage.ABANDONED)

    @property
    def can_be_abandoned(self) -> bool:
        """Whether no voter has changed yet."""
        return self.stage in (Stage.ADDING, Stage.CATCHING_UP)


@attrs.define(eq=False)
class Transfer:
    """A handing-over on its way; whoever asked for it holds this object too."""

    target: NodeId
    started_s: float
    deadline_s: float
    """When it is given up, and commands are taken again."""
    was_asked: bool = False
    """The target was asked to campaign, and no heartbeat has left since."""
    has_failed: bool = False
