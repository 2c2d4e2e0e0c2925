"""Features that go wrong: switched on too early, off again, or by what one node alone knows.

Rules of this file: each breaks one rule of `docs/upgrading.md` and leaves the rest alone.
"""

from __future__ import annotations

from typing import Final

import msgspec

from trioraft.core import reconfiguration
from trioraft.core.features import ENTRY_CHECKSUMS
from trioraft.core.leadership import Leadership
from trioraft.core.raft import Raft
from trioraft.core.reconfiguration import Change, SwitchOn, goal_of
from trioraft.core.types import Configuration
from trioraft.sim.directed import UPGRADES

from .bug import broken_core, patched

_GOAL: Final = goal_of


class SwitchesOnUnasked(Raft):
    """Hazard U1: a feature is switched on before every member can."""

    def _check_switchable(self, change: SwitchOn, leadership: Leadership) -> None:
        """Nobody is asked."""


class ChecksWhatItCan(Raft):
    """Hazard U2: a leader does what its own release can, and not what the log has switched on."""

    def propose(self, data: bytes, now: float) -> int:
        self._checks_entries = ENTRY_CHECKSUMS in self.features
        return super().propose(data, now)


class KeepsWhatWasCut(Raft):
    """Hazard U2: a feature stays on although the entry that switched it on was cut."""

    def _configuration_changed(self) -> None:
        was_on = self._checks_entries
        super()._configuration_changed()
        self._checks_entries |= was_on


def forgets_features(change: Change, current: Configuration) -> Configuration:
    """Hazard U3: a change of the members switches off what was on."""
    goal = _GOAL(change, current)
    return goal if isinstance(change, SwitchOn) else msgspec.structs.replace(goal, features=())


BUGS = (
    broken_core("U1", SwitchesOnUnasked, directed=UPGRADES),
    broken_core("U2", ChecksWhatItCan, directed=UPGRADES),
    broken_core("U2", KeepsWhatWasCut, directed=UPGRADES),
    patched("U3", reconfiguration, "goal_of", forgets_features, directed=UPGRADES),
)
