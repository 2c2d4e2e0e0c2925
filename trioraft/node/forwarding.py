"""A command on its way to whoever leads, sent again for as long as it certainly was not taken."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import trio

from ..core.errors import (
    ConfigError,
    NodeDead,
    NotLeader,
    NotMember,
    OutcomeUnknown,
    Overloaded,
    ProposalDropped,
    RaftError,
)
from ..member.attempts import Attempt, Backoff
from ..member.member import Member
from .arguments import check_size
from .proposal import Proposal
from .runner import NodeRunner

WithRoom: TypeAlias = Callable[[bytes, Callable[[bytes], Member]], Awaitable[Member]]
"""Waits until a command's share of the node's budget is taken."""


async def forward(runner: NodeRunner, data: bytes, attempt: Attempt, with_room: WithRoom) -> Any:
    """See `Node.forward`."""
    check_size(data, runner.limits)
    backoff: Backoff | None = None
    while True:
        proposal: Proposal | None = None
        try:
            proposal = await _sent(runner, data, attempt, with_room)
            return await _result(runner, proposal, attempt)
        except RaftError as error:
            if proposal is None:
                runner.note_refused(error)
            elif proposal.was_applied:
                raise
            attempt.failed(error, maybe_taken=isinstance(error, OutcomeUnknown))
            if not _may_go_on(error, attempt, runner):
                if attempt.maybe_applied and isinstance(error, NodeDead | NotMember | ConfigError):
                    raise OutcomeUnknown(
                        f"{error}; it was sent before: it may or may not be applied"
                    ) from error
                raise
        backoff = backoff or Backoff(random.Random(runner.node_id), skip_first=True)
        await trio.sleep(backoff.next_s())


def _may_go_on(error: RaftError, attempt: Attempt, runner: NodeRunner) -> bool:
    """Whether the command may be sent once more, and there is any sense in it."""
    if isinstance(error, OutcomeUnknown):
        return attempt.is_repeatable and not runner.is_dead
    if attempt.is_local or isinstance(error, NotMember):
        return False
    return isinstance(error, NotLeader | ProposalDropped | Overloaded)


async def _sent(runner: NodeRunner, data: bytes, attempt: Attempt, with_room: WithRoom) -> Proposal:
    """The command, once it is in the leader's log or on its way there."""

    def alive(_data: bytes) -> Member:
        member = runner.member
        if member is None or runner.is_dead:
            raise NodeDead(f"node {runner.node_id!r} is Dead; the command was not taken")
        if member.raft.removed_index is not None:
            raise NotMember(runner.node_id, member.raft.removed_index)
        return member

    def leads(_data: bytes) -> Member:
        member = alive(data)
        if member.raft.leadership is None:
            raise NotLeader(member.raft.leader_id)
        return member

    if attempt.is_local:
        member = await with_room(data, leads)
    else:
        while alive(data).raft.leader_id is None:
            await runner.status_changed.park()
        member = await with_room(data, alive)
    attempt.is_refused = False
    attempt.is_underway = True
    try:
        return runner.forward(member, data, is_repeatable=attempt.is_repeatable)
    except RaftError:
        attempt.is_underway = False
        raise


async def _result(runner: NodeRunner, proposal: Proposal, attempt: Attempt) -> Any:
    try:
        value = await proposal.result()
    except trio.Cancelled:
        if runner.member is not None and runner.member.forget_forward(proposal):
            attempt.is_underway = False
            proposal.fail(ProposalDropped("it was not sent: nobody waits for it any more"))
        raise
    finally:
        if proposal.is_done:
            attempt.is_underway = False
    return value
