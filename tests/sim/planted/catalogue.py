"""Catalogue: every planted bug, by its name.

Rules of this file: the order is that of the table in `docs/planted-bugs.md`.
"""

from __future__ import annotations

from typing import Final

from . import (
    answers,
    appending,
    durability,
    forwarding,
    identity,
    leases,
    lines,
    liveness,
    membership,
    nodes,
    queues,
    reading,
    snapshots,
    upgrading,
    voting,
)
from .bug import Bug

BUGS: Final = (
    *voting.BUGS,
    *appending.BUGS,
    *durability.BUGS,
    *membership.BUGS,
    *identity.BUGS,
    *reading.BUGS,
    *leases.BUGS,
    *snapshots.BUGS,
    *liveness.BUGS,
    *lines.BUGS,
    *queues.BUGS,
    *answers.BUGS,
    *forwarding.BUGS,
    *upgrading.BUGS,
    *nodes.BUGS,
)
RARE: Final = frozenset(
    {
        "CountsReadsAnew",
        "LeadsOnWithoutADisk",
        "both_parts_must_do",
        "goes_back_to_the_first",
    }
)
"""Found in fewer than one seed of a hundred: not for a slice that must be quick."""
BY_NAME: Final[dict[str, Bug]] = {bug.name: bug for bug in BUGS}
