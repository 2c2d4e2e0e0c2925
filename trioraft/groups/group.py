"""Group: one group's member in this process. While it is awake it has a node, as ever; while it
hibernates it has none.

Rules of this file:

* To hibernate is a clean end of the node, at a moment when all that it knows is durable, committed
  and applied; the state machine stays in memory. To wake is to open a node again from its storage:
  votes, terms and log are what a crash would have left, and so every rule of safety holds.
* The life of a node runs in the host's nursery, one after the other, never two at a time. Whoever
  calls holds the group awake for as long as the call takes. Once it is being left, nobody wakes it.
* What is kept of a group that hibernates is this object, its machine and its closed storage: no
  task, no file, no timer.
"""

from __future__ import annotations

import enum
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol, final

import attrs
import trio

from ..core.errors import InvariantViolation, NodeDead, NotLeader
from ..core.types import LogIndex, NodeId, Term
from ..node.administration import Administration
from ..node.hosting import MachineAt
from ..node.node import Node
from ..node.runner import NodeRunner
from ..tasks.background import root_cause, uncancelled
from ..tasks.event_loop import require_event_loop


class GroupPhase(enum.Enum):
    """What a group is at the moment, in this process."""

    WAKING = "waking"
    """Its node is being opened."""
    AWAKE = "awake"
    FALLING = "falling asleep"
    """Its node is on its way out."""
    ASLEEP = "asleep"
    OVER = "over"
    """It was left, or its node has failed or was killed."""


@attrs.frozen
class GroupStatus:
    """A group in this process at one moment."""

    name: str
    phase: GroupPhase
    leader_id: NodeId | None
    """Whose process leads it, as far as this one knows; of one that hibernates, who led it last."""
    term: Term
    applied_index: LogIndex
    awake_for: str | None
    """Why it cannot hibernate at this moment, in a word or two; None: it can, or it does."""


@attrs.frozen
class Slept:
    """How a group stood when its node ended."""

    leader_id: NodeId | None
    term: Term
    last_index: LogIndex
    since_s: float


class GroupHost(Protocol):
    """The process, as a group in it sees it."""

    node_id: NodeId

    def new_runner(self, group: Group) -> NodeRunner:
        """Of the next life of its node."""

    def start(self, group: Group) -> None:
        """Run `group.live` in a task of its own."""

    def on_awake(self, group: Group) -> None:
        """Its node is there."""

    def on_falling(self, group: Group) -> None:
        """Its node takes part no more, and is about to end."""

    def on_asleep(self, group: Group) -> None:
        """Its node has ended, and it hibernates."""

    def on_over(self, group: Group) -> None:
        """There will be no node of it any more."""

    def wants_awake(self, group: Group) -> bool:
        """A call has woken it. Returns whether it is this process that is to lead it."""


@final
class Group:
    """One Raft group, as its process sees it. Made by `open_group`.

    Each call wakes the group if it hibernates, and keeps it awake until it returns.
    """

    __slots__ = (
        "_ended",
        "_failure",
        "_goes_first",
        "_holds",
        "_host",
        "_is_left",
        "_is_wanted",
        "_life",
        "_node",
        "_opened",
        "asked_sleep",
        "body_scope",
        "hosting_at",
        "machine",
        "moved_s",
        "name",
        "phase",
        "quiet_at",
        "quiet_since_s",
        "runner",
        "slept",
        "voters",
    )

    def __init__(
        self, host: GroupHost, name: str, voters: tuple[NodeId, ...], machine: Any
    ) -> None:
        self.name: Final = name
        self.voters: Final = voters
        self.machine: Final = machine
        self.phase: GroupPhase = GroupPhase.ASLEEP
        self.runner: NodeRunner | None = None
        self.slept: Slept | None = None
        """How it stood when it fell asleep last; None: it never did."""
        self.hosting_at: MachineAt | None = None
        """Where the machine stands, between two lives."""
        self.quiet_at: tuple[Term, LogIndex, NodeId | None] | None = None
        self.quiet_since_s: float = math.inf
        """Since when nothing was appended, and nobody has called."""
        self.asked_sleep: Any = None
        """What the others were asked by this leader, if it wants to hibernate."""
        self.moved_s: float = -math.inf
        """When this process gave its leadership away last."""
        self.body_scope: trio.CancelScope = trio.CancelScope()
        self._host = host
        self._node: Node | None = None
        self._holds = 0
        self._is_wanted = self._goes_first = self._is_left = False
        self._life: trio.CancelScope | None = None  # of its node, while there is one
        self._opened: trio.Event | None = None
        self._ended: trio.Event | None = None
        self._failure: Exception | None = None

    def __repr__(self) -> str:
        return f"<Group {self.name!r} {self.phase.value} in {self._host.node_id!r}>"

    # -- for its users ---------------------------------------------------------------------

    @property
    def status(self) -> GroupStatus:
        """What the group is at this moment, awake or not; wakes nobody."""
        runner, slept = self.runner, self.slept
        raft = None if runner is None else runner.raft
        if raft is not None and self.phase is not GroupPhase.FALLING:
            leader_id, term, applied = raft.leader_id, raft.term, raft.log.applied_index
        elif slept is not None:
            leader_id, term, applied = slept.leader_id, slept.term, slept.last_index
        else:
            leader_id, term, applied = None, 0, 0
        why = self.awake_for() if self.phase is GroupPhase.AWAKE else None
        return GroupStatus(self.name, self.phase, leader_id, term, applied, why)

    async def forward(self, data: bytes) -> Any:
        """As `Node.forward`: have the group agree on a command, from any of its processes.

        Args, result, errors and cancellation: as of `Node.forward`, which this calls.
        """
        async with self.awake() as node:
            return await node.forward(data)

    async def propose(self, data: bytes) -> Any:
        """As `Node.propose`, once somebody leads: only the leader's process takes the command.

        Args, result, errors and cancellation: as of `Node.propose`, which this calls. Waits for as
        long as no leader is known: put it under `trio.fail_after`.
        """
        async with self.awake() as node:
            while True:
                await node.wait(lambda status: status.leader_id is not None)
                try:
                    return await node.propose(data)
                except NotLeader as error:
                    if error.leader_id is not None:
                        raise

    async def read_barrier(self, *, lease: bool = False) -> LogIndex:
        """As `Node.read_barrier`; a lease never outlasts a hibernation.

        Args:
            lease: as of `Node.read_barrier`.

        Result, errors and cancellation: as of `Node.read_barrier`, which this calls.
        """
        async with self.awake() as node:
            return await node.read_barrier(lease=lease)

    @asynccontextmanager
    async def awake(self) -> AsyncIterator[Node]:
        """Wake the group, if it hibernates, and keep it awake for the body.

        Yields:
            Its node in this process; that one, and no later one, for the body.

        Raises:
            NodeDead: the group was left, or its node was killed.
            Exception: what its node has failed with.

        Cancelling the wait leaves the group waking, or awake until it is quiet again.
        """
        require_event_loop("Group.awake", "trio")
        self._holds += 1
        try:
            yield await self._awakened()
        finally:
            self._holds -= 1
            self.touch()

    async def _awakened(self) -> Node:
        while True:
            if self._failure is not None:
                raise self._failure
            if self.phase is GroupPhase.OVER or (
                self._is_left and self.phase is not GroupPhase.AWAKE
            ):
                raise NodeDead(f"group {self.name!r} is over in process {self._host.node_id!r}")
            if self.phase is GroupPhase.AWAKE and self._node is not None:
                await trio.lowlevel.checkpoint_if_cancelled()
                return self._node
            if self.phase is not GroupPhase.WAKING:
                self.wake(goes_first=self._host.wants_awake(self))
            if self._opened is None:
                raise InvariantViolation(
                    f"group {self.name!r} is {self.phase}, and nobody opens it"
                )
            await self._opened.wait()

    # -- for the host ----------------------------------------------------------------------

    @property
    def is_led_here(self) -> bool:
        """Whether this process leads it, or did when it fell asleep."""
        if self.runner is not None and self.phase is not GroupPhase.FALLING:
            raft = self.runner.raft
            return raft is not None and raft.leadership is not None
        return self.slept is not None and self.slept.leader_id == self._host.node_id

    @property
    def goes_first(self) -> bool:
        """Whether the life that begins now campaigns at once."""
        return self._goes_first

    def awake_for(self) -> str | None:
        """Why it may not hibernate now, as far as this process knows. Never raises what its machine
        does when it is asked: that ends this group, and not whoever looks at all of them."""
        if self._is_left:
            return "who leaves it"
        if self._holds or self._is_wanted:
            return "a caller"
        try:
            return "no node" if self.runner is None else self.runner.unfinished()
        except Exception as error:  # noqa: BLE001 - a user's code may raise anything
            self.fail(error)
            return "no node"

    def touch(self) -> None:
        """It was used just now."""
        self.quiet_at = None

    def wake(self, *, goes_first: bool) -> None:
        """Have a node opened, unless there is one, or it is being left; after the present one has
        ended, if need be.

        Args:
            goes_first: it campaigns as soon as it is there.
        """
        if self._is_left:
            return
        if self.phase is GroupPhase.ASLEEP:
            self._goes_first = goes_first
            self._begin()
            self._host.start(self)
        elif self.phase is GroupPhase.FALLING:
            self._is_wanted = True
            self._goes_first = self._goes_first or goes_first
            if self._opened is None:
                self._opened = trio.Event()

    def _begin(self) -> None:
        self.phase = GroupPhase.WAKING
        self._is_wanted = False
        if self._opened is None:
            self._opened = trio.Event()
        if self._ended is None:
            self._ended = trio.Event()

    def fall_asleep(self) -> None:
        """End the node; whoever has said that it may has looked at this very moment."""
        runner = self.runner
        if self.phase is GroupPhase.AWAKE and runner is not None and runner.raft is not None:
            raft = runner.raft
            now = trio.current_time()
            self.slept = Slept(raft.leader_id, raft.term, raft.log.last_index, now)
            self.phase, self._goes_first = GroupPhase.FALLING, False
            self._node = self.asked_sleep = None
            runner.kill("hibernates")
            self._host.on_falling(self)

    def started(self, _value: None = None) -> None:
        """Its node has been opened: what a `trio.TaskStatus` is told."""
        runner = self.runner
        if runner is None or self.phase is not GroupPhase.WAKING:
            return
        self._node = Node(runner, Administration(runner))
        self.phase = GroupPhase.AWAKE
        self._goes_first = False
        self._tell_opened()
        self.touch()
        self._host.on_awake(self)

    async def live(self) -> None:
        """The lives of its node, for as long as it is to be awake; never raises what one raises.

        Cancelling ends the group.
        """
        with trio.CancelScope() as self._life:
            try:
                await self._live()
            except BaseException as error:
                self._be_over()
                failure = uncancelled(error)
                if not isinstance(failure, Exception):
                    raise
                self.fail(root_cause(failure))
            finally:
                self._life = None
                if self._ended is not None:
                    self._ended.set()
                    self._ended = None

    async def _live(self) -> None:
        while True:
            runner = self.runner = self._host.new_runner(self)
            await runner.run(task_status=self)
            if self.phase is not GroupPhase.FALLING:  # killed by its user, or left
                self._be_over()
                return
            self.hosting_at = runner.machine_at()
            self.runner = None
            if not self._is_wanted or self._is_left:
                break
            self._begin()
        self.phase = GroupPhase.ASLEEP
        self._tell_opened()  # whoever waits for it while it is left
        self._host.on_asleep(self)

    def fail(self, error: Exception) -> None:
        """Its node has failed: so do those who call, and whoever has opened the group."""
        if self._failure is None:
            self._failure = error
            self.body_scope.cancel()
        if self.runner is not None:
            self.runner.kill("failed")
        self._be_over()

    def _be_over(self) -> None:
        self.phase, self._node = GroupPhase.OVER, None
        self._tell_opened()
        self._host.on_over(self)

    def _tell_opened(self) -> None:
        if self._opened is not None:
            self._opened.set()
            self._opened = None

    @property
    def failure(self) -> Exception | None:
        """What its node has failed with."""
        return self._failure

    async def close(self) -> None:
        """Hand the leadership over and end.

        Cancelling would leave half of that: call it shielded, it ends soon by itself.
        """
        self._is_left = True
        if self.phase is GroupPhase.AWAKE and self.runner is not None:
            await Administration(self.runner).leave()
        elif self.phase is GroupPhase.WAKING and self._life is not None:
            self._life.cancel()  # it has nothing to hand over, and may wait for room on its disk
        ended = self._ended
        if self.runner is not None and self.phase is not GroupPhase.FALLING:
            self.phase = GroupPhase.OVER
            self.runner.kill("left")
        if ended is not None:
            await ended.wait()
        self._be_over()
