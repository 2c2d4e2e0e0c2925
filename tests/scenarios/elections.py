"""The eight election scenarios, which the package ships as texts, and what the other stories of
this folder share; `tests/test_elections.py` and `python -m tests.many_seeds` tell them.

Rules of this folder:

* What a text can say stands in a text; here stands what needs code.
* A scenario opens its cluster through the `Open` it is given, so that it can be told in virtual
  time or over TCP, calm or under stress.
* Where messages get lost (`cluster.loses_messages`), three heartbeats in a row may be, and an
  election is then right: "nothing changes" is asked for where nothing is wrong, but what a node
  does while it is away is asked for in any.
* A pause (`let_pass`) is part of the story, as "the follower is away for 650 ms"; whatever must
  *become* true is waited for by its condition.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol, TypeAlias

import trio

from tests.scenarios.texts import played
from trioraft import Timing
from trioraft.testing.cluster import Cluster


class Open(Protocol):
    """Opens a cluster; what the scenario does not say is the teller's choice."""

    def __call__(
        self, size: int, *, timing: Timing | None = None
    ) -> AbstractAsyncContextManager[Cluster]: ...


Scenario: TypeAlias = Callable[[Open], Awaitable[None]]


async def let_pass(seconds: float) -> None:
    """A stretch of time in the story."""
    await trio.sleep(seconds)


NAMES: Final = (
    "election_basic",
    "leader_disconnect",
    "leader_and_another_disconnect",
    "disconnect_all_then_restore",
    "leader_disconnect_then_reconnect",
    "leader_disconnect_then_reconnect_5",
    "follower_comes_back",
    "follower_comes_back_without_pre_vote",
    "disconnect_loop",
)
SCENARIOS: Final[dict[str, Scenario]] = {name: played(name) for name in NAMES}
"""By name. The seeds' FollowerComesBack is told twice: with and without pre-vote."""
