"""Nodes that are broken on purpose, to see that tier 2 of the simulator notices.

Rules of this file: each breaks one thing of the node around the core, and leaves the rest alone.
They are what tier 1 cannot have: it knows no tasks, and has a driver of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from trioraft.core.errors import StorageError
from trioraft.core.raft import Raft
from trioraft.core.reads import ConfirmedRead
from trioraft.core.ready import Ready
from trioraft.core.types import Term
from trioraft.node.administration import Administration
from trioraft.node.driver import Driver
from trioraft.node.persistence import Persistence
from trioraft.node.proposals import Proposal


def keeps_heartbeating(driver: Driver, core: Raft, leading_term: Term | None) -> None:
    """For `Driver._change_leader_task`: the role ends, its tasks do not (hazard L9)."""
    driver._leader_scope = None
    LEADER_TASK(driver, core, leading_term)


async def leaves_a_task_behind(driver: Driver, core: Raft, scope: trio.CancelScope) -> None:
    """For `Driver._lead`: something that no nursery of the node owns."""
    trio.lowlevel.spawn_system_task(trio.sleep_forever, name="forgotten")
    await LEAD(driver, core, scope)


async def says_no_goodbye(administration: Administration) -> None:
    """For `Administration.hand_over_if_leading`: it fails."""
    await trio.lowlevel.checkpoint()
    raise StorageError("the goodbye failed")


def answers_when_proposed(driver: Driver, core: Raft, data: bytes) -> Proposal:
    """For `Driver.propose`: a result before anything is applied."""
    proposal = PROPOSE(driver, core, data)
    proposal.resolve(0)
    return proposal


def reads_without_a_round(driver: Driver, core: Raft) -> None:
    """For `Driver._ask_for_reads`: whatever is committed here must do (hazard R1)."""
    for batch in driver._barriers.take_new():
        number = core.read(trio.current_time(), lease=batch.lease)
        driver._barriers.asked(batch, number)
        read = ConfirmedRead(number, core.log.commit_index)
        driver._barriers.confirmed(read, core.log.applied_index)


def promises_too_soon(driver: Driver, core: Raft, ready: Ready) -> None:
    """For `Driver._carry_out`: what waits for the disk leaves at once (hazard D1)."""
    for message in ready.messages_after_persist:
        driver._transport.send(message)
    CARRY_OUT(driver, core, ready)


async def goes_on_after_eio(persistence: Persistence, group: Sequence[Ready]) -> None:
    """For `Persistence._store`: a failed fsync is believed (hazard D5)."""
    try:
        await STORE(persistence, group)
    except StorageError:
        return


def stays_when_killed(driver: Driver, cause: str) -> None:
    """For `Driver.kill`: Dead, and all its tasks go on (hazard X1)."""
    nursery, driver._nursery = driver._nursery, None
    KILL(driver, cause)
    driver._nursery = nursery


LEAD = Driver._lead
LEADER_TASK = Driver._change_leader_task
PROPOSE = Driver.propose
CARRY_OUT = Driver._carry_out
STORE = Persistence._store
KILL = Driver.kill
