"""Leadership transfer: a leader makes somebody else lead, in milliseconds (dissertation 3.10).

Rules of this file:

* Whoever is asked to take over holds the whole log of the leader, which takes no command
  meanwhile: so nothing is lost, and the election is won at once.
* A transfer ends, well or not, by its deadline. It is a field of the `Leadership`, and ends with
  it: no flag is left (hazard T1).
* Safety rests on none of this: the request merely starts an election.
"""

from __future__ import annotations

import attrs

from .log import RaftLog
from .progress import Progress
from .types import NodeId


@attrs.define(eq=False)
class Transfer:
    """A transfer on its way; whoever asked for it holds this object too."""

    target: NodeId
    started_s: float
    deadline_s: float
    """When it is given up, and commands are taken again."""
    was_asked: bool = False
    """The target was asked to campaign, and no heartbeat has left since."""
    has_failed: bool = False

    def may_ask(self, progress: Progress | None, log: RaftLog) -> bool:
        """Whether the target should be asked to campaign now: it holds the whole log, and all of
        that is committed, so that nobody is left without an outcome. It is asked again with each
        heartbeat, since the request may be lost."""
        return (
            not self.was_asked
            and progress is not None
            and progress.match_index >= log.last_index == log.commit_index
        )
