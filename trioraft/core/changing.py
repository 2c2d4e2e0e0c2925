"""Changing the members, through a joint configuration (paper, section 6).

Rules of this file:

* One change at a time, and none before an entry of the leader's own term is committed: otherwise
  two leaders' changes could give two disjoint majorities (Ongaro 2015; hazard M1).
* A joining voter is a learner until it has caught up.
* A joint configuration is left once it is committed (hazard M4), by whoever leads then (hazard
  M3).
* A leader that is taken out leads until that is committed; then it hands over.
"""

from __future__ import annotations

from . import reasons
from .change import CatchUp, MembershipChange, Stage
from .errors import ConfigurationConflict, NotLeader
from .handing_over import HandingOver
from .leadership import Leadership
from .membership import (
    Change,
    configuration_entry,
    goal_of,
    next_step,
    without_outgoing,
)
from .types import Configuration, LogIndex, NodeId


class Changing(HandingOver):
    """The leader's side of configuration changes."""

    def change_members(
        self, change: Change, now: float, *, expected_index: LogIndex | None = None
    ) -> MembershipChange:
        """Begin to change the members.

        Args:
            change: what to do.
            now: the time.
            expected_index: refuse unless the configuration stands at this index: whoever decided
                on the change had looked at that one.

        Returns:
            An object that shows how far the change has come. Losing the leadership leaves it as
            it is: then a later leader finishes what is joint, and nothing else.

        Raises:
            NotLeader: this node does not lead.
            ConfigurationConflict: another change is under way, the configuration is another, or
                nothing of this leader's term is committed yet.
            ConfigError: the change asks for what cannot be.
        """
        leadership = self._leadership
        if leadership is None:
            raise NotLeader(self.leader_id)
        self._check_no_conflict(leadership, expected_index)
        self._now = now
        goal = goal_of(change, self.configuration)
        begun = MembershipChange(goal)
        if _are_same(goal, self.configuration):
            begun.goal = self.configuration
            begun.stage = Stage.DONE
            return begun
        leadership.change = begun
        step = next_step(goal, self.configuration)
        if step.outgoing and self._joining(begun):
            self._begin_catching_up(leadership, begun)  # they are learners already
        else:
            self._continue_change(leadership, begun)
        return begun

    def _check_no_conflict(self, leadership: Leadership, expected_index: LogIndex | None) -> None:
        index = self.configuration.index
        if leadership.change is not None or self.configuration.outgoing:
            raise ConfigurationConflict(
                "another change of the members is under way: wait for it to end"
            )
        if leadership.transfer is not None:
            raise ConfigurationConflict(
                f"leadership is being handed over to {leadership.transfer.target!r}: ask there"
            )
        if index > self.log.commit_index or not self._has_committed_own_term():
            raise ConfigurationConflict(
                f"entry {max(index, self.log.commit_index + 1)} of this leader's term has to be "
                "committed first: try again in a moment (Ongaro 2015)"
            )
        if expected_index not in (None, index):
            raise ConfigurationConflict(
                f"the configuration stands at index {index}, not at {expected_index}: it was "
                "changed meanwhile; look at it, and decide again"
            )

    def abandon_change(self, change: MembershipChange, now: float) -> bool:
        """Give up a change, if no voter has changed yet; learners that joined for it stay.

        Returns:
            True if it is given up, or had ended anyway; False if it goes on to its end.
        """
        if not change.has_ended and change.can_be_abandoned:
            self._now = now
            change.stage = Stage.ABANDONED
            if self._leadership is not None and self._leadership.change is change:
                self._leadership.change = None
        return change.has_ended

    # -- step by step ----------------------------------------------------------------------

    def _continue_change(self, leadership: Leadership, change: MembershipChange) -> None:
        """Append the next configuration on the way to the goal."""
        step = next_step(change.goal, self.configuration)
        if step is change.goal:
            change.stage = Stage.FINAL
        elif step.outgoing:
            change.stage = Stage.JOINT
        else:
            change.stage = Stage.ADDING
        appended = self._append_configuration(leadership, step)
        if change.stage is Stage.FINAL:
            change.goal = appended

    def _append_configuration(
        self, leadership: Leadership, configuration: Configuration
    ) -> Configuration:
        entry = configuration_entry(configuration, self.log.last_index + 1, self.term)
        self.log.append_one(entry)
        self._track_configurations(None, (entry,))
        leadership.follow(self.configuration, self._now)
        return self.configuration

    def _after_commit(self, leadership: Leadership) -> None:
        """The commit index has moved: go on with whatever waited for a configuration."""
        configuration = self.configuration
        if configuration.index > self.log.commit_index:
            return
        change = leadership.change
        if configuration.outgoing:
            if change is not None:
                self._continue_change(leadership, change)
            else:  # an earlier leader's change (hazard M3)
                self._append_configuration(leadership, without_outgoing(configuration))
        elif change is not None and change.stage is Stage.ADDING:
            self._begin_catching_up(leadership, change)
        elif change is not None and change.stage is Stage.FINAL:
            change.stage = Stage.DONE
            leadership.change = None
        if not configuration.outgoing and self.node_id not in configuration.voters:
            self._resign_as_removed(leadership, configuration)

    def _joining(self, change: MembershipChange) -> list[NodeId]:
        """The nodes that are to vote and do not yet."""
        return [node for node in change.goal.voters if node not in self.configuration.voters]

    def _begin_catching_up(self, leadership: Leadership, change: MembershipChange) -> None:
        change.stage = Stage.CATCHING_UP
        for node in self._joining(change):
            change.joining[node] = CatchUp(self.log.last_index, self._now)
        for node in change.joining:
            self._on_joining_heard(leadership, node)

    def _on_joining_heard(self, leadership: Leadership, node: NodeId) -> None:
        """A joining node may have answered: has it caught up, and with it all?

        A node that holds everything and does not answer any more gets no vote: it would be one of
        those that the next commit waits for. While the leadership is being handed over nothing is
        appended: whoever takes over could not be elected with a shorter log.
        """
        change = leadership.change
        if change is None or change.stage is not Stage.CATCHING_UP or node not in change.joining:
            return
        change.joining[node].on_matched(
            leadership.progress[node].match_index,
            self.log.last_index,
            self._now,
            self.timing.election_timeout_s[0],
        )
        is_ready = leadership.transfer is None and all(
            catch_up.is_done and leadership.has_heard_lately(other, self._now)
            for other, catch_up in change.joining.items()
        )
        if is_ready:
            self._continue_change(leadership, change)

    def _resign_as_removed(self, leadership: Leadership, configuration: Configuration) -> None:
        self._resign(leadership, reasons.Removed(configuration.index))
        if self.node_id not in configuration.members:
            self.removed_index = configuration.index


def _are_same(one: Configuration, other: Configuration) -> bool:
    return (one.voters, one.outgoing, one.learners, one.addresses) == (
        other.voters,
        other.outgoing,
        other.learners,
        other.addresses,
    )
