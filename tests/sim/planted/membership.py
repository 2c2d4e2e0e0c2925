"""Changes of members that go wrong: two majorities, a configuration that is kept or missed.

Rules of this file: each breaks one rule of section 6 of the paper and leaves the rest alone.
"""

from __future__ import annotations

from trioraft.core.errors import ConfigurationConflict
from trioraft.core.leadership import Leadership
from trioraft.core.raft import Raft, Transition
from trioraft.core.reasons import Reason
from trioraft.core.reconfiguration import Membership, without_outgoing
from trioraft.core.types import Configuration, LogIndex

from .bug import broken_core, patched


class ChangesBeforeItHasCommitted(Raft):
    """Hazard M1: a leader changes the members before an entry of its own term is committed."""

    def _check_no_conflict(self, leadership: Leadership, expected_index: LogIndex | None) -> None:
        if leadership.change is not None or self.configuration.outgoing:
            raise ConfigurationConflict("another change is under way")


class NeverLeavesJoint(Raft):
    """Hazard M3: a joint configuration is left only by the leader that began it."""

    def _after_commit(self, leadership: Leadership) -> Transition | None:
        if leadership.change is not None or not self.configuration.outgoing:
            return super()._after_commit(leadership)
        return None


class LeavesJointAtOnce(Raft):
    """Hazard M4: a joint configuration is left before it is committed."""

    def _append_configuration(
        self, leadership: Leadership, configuration: Configuration
    ) -> Configuration:
        appended = super()._append_configuration(leadership, configuration)
        if appended.outgoing:
            return super()._append_configuration(leadership, without_outgoing(appended))
        return appended


def keeps_what_was_cut(membership: Membership, first_removed: LogIndex) -> bool:
    """Hazard M5: a configuration counts although its entry was cut."""
    return False


def goes_back_to_the_first(membership: Membership, first_removed: LogIndex) -> bool:
    """Hazard M5: when a configuration is cut, the one in force is that of the last snapshot."""
    is_cut = any(known.index >= first_removed for known in membership._later)
    if is_cut:
        membership._later.clear()
    return is_cut


class IgnoresWhatIsNotCommitted(Raft):
    """Hazard M6: a new leader goes by the last configuration that it knows to be committed."""

    def _become_leader(self, reason: Reason) -> Transition | None:
        self.configuration = self._membership.at(self.log.commit_index)
        return super()._become_leader(reason)


BUGS = (
    broken_core("M1", ChangesBeforeItHasCommitted),
    broken_core("M3", NeverLeavesJoint),
    broken_core("M4", LeavesJointAtOnce),
    patched("M5", Membership, "on_truncated", keeps_what_was_cut),
    patched("M5", Membership, "on_truncated", goes_back_to_the_first),
    broken_core("M6", IgnoresWhatIsNotCommitted),
)
