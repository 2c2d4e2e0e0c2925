"""Replicated objects for the tests, and a cluster whose nodes have them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar, final

import attrs
import msgspec

from trioraft import Role, Status
from trioraft.machines.replicated import ReplicatedObject, command, query
from trioraft.testing.cluster import Cluster, open_cluster

M = TypeVar("M", bound=ReplicatedObject)


class Point(msgspec.Struct, frozen=True):
    """A value of one's own."""

    x: int
    y: int = 0


class Board(ReplicatedObject):
    """A bit of everything."""

    total: int = 0
    points: dict[str, Point] = msgspec.field(default_factory=dict)
    _calls: int = 0  # not replicated

    @command
    def add(self, n: int, *, twice: bool = False) -> int:
        """Add to the total."""
        self.total += 2 * n if twice else n
        return self.total

    @command
    def place(self, name: str, point: Point) -> None:
        """Remember a point."""
        self.points[name] = point

    @command
    def fail(self, text: str) -> None:
        """Count, then raise."""
        self.total += 1
        raise LookupError(text)

    @command
    def now(self) -> float:
        """The log time at which this is applied."""
        return self.log_time_s

    @query
    def get(self) -> int:
        """The total."""
        return self.total

    @query
    def where(self) -> dict[str, Point]:
        """All points."""
        return self.points


@final
@attrs.frozen
class Objects(Generic[M]):
    """A cluster, each of whose nodes has an object."""

    cluster: Cluster

    def at(self, node_id: str) -> M:
        """The object of a node; attached, also after a restart."""
        instance: M = self.cluster.machines[node_id]
        instance.attach(self.cluster.nodes[node_id])
        return instance

    async def leading(self) -> M:
        """The leader's object."""
        leader, _ = await self.cluster.check_single_leader()
        return self.at(leader)

    async def following(self) -> M:
        """The object of a node that does not lead."""
        leader, _ = await self.cluster.check_single_leader()
        return self.at(next(node_id for node_id in self.cluster.ids if node_id != leader))

    async def replaced_leader(self) -> tuple[M, M]:
        """Crash the leader; its object, and that of the next one."""
        leader, _ = await self.cluster.check_single_leader()
        old = self.at(leader)
        await self.cluster.crash(leader)
        return old, await self.leading()


@asynccontextmanager
async def open_objects(factory: Callable[[], M], **options: Any) -> AsyncIterator[Objects[M]]:
    """Three nodes with an object each."""
    async with open_cluster(3, machine=factory, **options) as cluster:
        objects = Objects[M](cluster)
        await objects.leading()
        yield objects


def leads(status: Status) -> bool:
    """The node leads."""
    return status.role is Role.LEADER
