"""`trioraft admin add-learner|promote|remove` where something else is written at the same time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import attrs
import msgspec
import pytest
import trio

from trioraft import Client, ConfigurationConflict
from trioraft.cli.admin import _changed
from trioraft.cli.connecting import ReachedCluster
from trioraft.core.types import Configuration, LogIndex
from trioraft.rpc.protocol import ChangeStatus, ServerStatus

FOUR = Configuration(("0", "1", "2"), learners=("3",), disks={"0": 1, "1": 2, "2": 3}, index=7)
NAMED = msgspec.structs.replace(FOUR, disks={**FOUR.disks, "3": 4}, index=8)
PATIENCE_S = 5.0


def leader(configuration: Configuration, commit_index: LogIndex, **more: Any) -> ServerStatus:
    """What the leader says of itself."""
    last = configuration.index
    return ServerStatus(
        "0", "c", "Leader", 1, "0", last, commit_index, 0, configuration, last, {}, "", **more
    )


@attrs.define
class Cluster:
    """Its leader is looked at again and again, and takes a change if `is_taken`."""

    looks: Sequence[ServerStatus]
    is_taken: Callable[[ServerStatus], bool]
    tried: list[LogIndex] = attrs.field(factory=list)
    looked: int = 0

    async def status(self) -> ServerStatus:
        """The next look; the last one stays."""
        self.looked += 1
        return self.looks[min(self.looked, len(self.looks)) - 1]

    async def change(self, seen: ServerStatus) -> LogIndex:
        """As `client.change_voters` of what was seen."""
        self.tried.append(seen.configuration_index)
        if not self.is_taken(seen):
            raise ConfigurationConflict("another one")
        return 9

    async def changed(self) -> LogIndex:
        """As the command does it."""
        return await _changed(ReachedCluster(cast(Client, self), PATIENCE_S), self.change)


@pytest.mark.parametrize(
    "looks",
    [
        [leader(FOUR, 7), leader(NAMED, 8)],
        [leader(FOUR, 7), leader(NAMED, 7), leader(NAMED, 8)],
        [leader(NAMED, 7), leader(NAMED, 8)],
    ],
    ids=["named", "being named", "being named when first looked at"],
)
async def test_a_disk_that_is_named_in_between_is_no_conflict(
    looks: list[ServerStatus], autojump_clock: object
) -> None:
    """Found by promoting a learner right after it was added: its disk was named just then."""
    cluster = Cluster(looks, lambda seen: (seen.configuration_index, seen.commit_index) == (8, 8))
    assert await cluster.changed() == 9
    assert cluster.tried[-1] == 8


@pytest.mark.parametrize(
    "now",
    [
        leader(FOUR, 7),
        leader(msgspec.structs.replace(NAMED, voters=("0", "1")), 8),
        leader(msgspec.structs.replace(NAMED, outgoing=("0", "1", "2")), 8),
        leader(NAMED, 8, change=ChangeStatus("catching up", ("0", "1", "2", "3"))),
    ],
    ids=["nothing is new", "other voters", "joint", "another change"],
)
async def test_what_others_change_is_one(now: ServerStatus, autojump_clock: object) -> None:
    cluster = Cluster([leader(FOUR, 7), now], lambda _: False)
    with pytest.raises(ConfigurationConflict):
        await cluster.changed()
    assert cluster.tried == [7]


async def test_it_ends_with_the_users_patience(autojump_clock: object) -> None:
    cluster = Cluster([leader(NAMED, 7)], lambda _: False)
    began_s = trio.current_time()
    with pytest.raises(ConfigurationConflict):
        await cluster.changed()
    assert PATIENCE_S <= trio.current_time() - began_s < PATIENCE_S + 1
