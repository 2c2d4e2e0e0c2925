"""Bootstrap: what a node starts from, of what its storage holds and what its caller names.

Rules of this file: what is stored counts. Voters that are named are those of a new cluster.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from ..core.raft import Raft
from ..core.types import Recovered


def voters_ignored(core: Raft, bootstrap: Recovered) -> Iterator[str]:
    """The log knows the members; the caller names those of a new cluster."""
    named, stored = bootstrap.configuration.voters, core.configuration
    if stored.index and named and set(named) != set(stored.voters):
        yield (
            f"the voters named to open_node are {', '.join(named)}, but the log says "
            f"{', '.join(stored.voters)} (configuration {stored.index}): the log counts; to "
            "change them, use node.change_voters"
        )


def bootstrapped(recovered: Recovered | None, bootstrap: Recovered) -> Recovered:
    """What the storage holds, with the configuration that the caller named for a new cluster."""
    if recovered is None:
        return bootstrap
    return attrs.evolve(recovered, configuration=bootstrap.configuration)
