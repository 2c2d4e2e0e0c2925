"""Nodes that are broken on purpose, to see that tier 2 of the simulator notices.

Rules of this file: each breaks one thing of what runs a member under Trio, and leaves the rest
alone. They are what tier 1 cannot have: it knows no tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

from trioraft.core.errors import StorageError
from trioraft.core.ready import Ready
from trioraft.member.member import Member
from trioraft.node.administration import Administration
from trioraft.node.proposal import Proposal
from trioraft.node.runner import NodeRunner

T = TypeVar("T")


def keeps_heartbeating(runner: NodeRunner, member: Member) -> None:
    """For `NodeRunner._change_leader_tasks`: the role ends, its tasks do not (hazard L9)."""
    runner._leader_scope = None
    LEADER_TASKS(runner, member)


async def leaves_a_task_behind(runner: NodeRunner, member: Member, scope: trio.CancelScope) -> None:
    """For `NodeRunner._lead`: something that no nursery of the node owns."""
    trio.lowlevel.spawn_system_task(trio.sleep_forever, name="forgotten")
    await LEAD(runner, member, scope)


async def says_no_goodbye(administration: Administration) -> None:
    """For `Administration.transfer_before_leaving`: it fails."""
    await trio.lowlevel.checkpoint()
    raise StorageError("the goodbye failed")


def answers_when_proposed(runner: NodeRunner, member: Member, data: bytes) -> Proposal:
    """For `NodeRunner.propose`: a result before anything is applied."""
    proposal = PROPOSE(runner, member, data)
    proposal.resolve(1)
    return proposal


def promises_too_soon(member: Member, ready: Ready, now: float) -> None:
    """For `Member._take`: what waits for the disk leaves at once (hazard D1)."""
    member._actions.extend(ready.messages_after_persist)
    TAKE(member, ready, now)


async def goes_on_after_eio(runner: NodeRunner, call: Callable[[], T]) -> T | None:
    """For `NodeRunner._until_there_is_room`: a failed fsync is believed (hazard D5)."""
    try:
        return await STORE(runner, call)
    except StorageError:
        return None


def stays_when_killed(runner: NodeRunner, cause: str) -> None:
    """For `NodeRunner.kill`: Dead, and all its tasks go on (hazard X1)."""
    nursery, runner._nursery = runner._nursery, None
    KILL(runner, cause)
    runner._nursery = nursery


LEAD = NodeRunner._lead
LEADER_TASKS = NodeRunner._change_leader_tasks
PROPOSE = NodeRunner.propose
TAKE = Member._take
STORE = NodeRunner._until_there_is_room
KILL = NodeRunner.kill
