"""Administration: leadership transfer and reconfiguration, as a caller waits for them.

Rules of this file:

* The core carries a change out; here somebody waits for it. Every wait ends: with the outcome,
  with the leadership, or with the node.
* Whoever stops waiting for a transfer, or for a replacement, does not stop it; any other change of
  members is given up as long as no voter has changed.
"""

from __future__ import annotations

import contextlib
from typing import final

import trio

from ..core.errors import ConfigurationConflict, NodeDead, NotLeader, OutcomeUnknown, TransferFailed
from ..core.leadership import Leadership
from ..core.raft import Raft
from ..core.reconfiguration import (
    AddLearner,
    Change,
    ChangeVoters,
    MembershipChange,
    Replace,
    Stage,
)
from ..core.types import Configuration, LogIndex, NodeId
from .runner import NodeRunner

LEAVING_PATIENCE = 3
"""How many (upper) election timeouts a leader that leaves gives its successors to take over."""


@final
class Administration:
    """What can be asked of a node beside commands and reads."""

    def __init__(self, runner: NodeRunner) -> None:
        self._runner = runner

    # -- leadership transfer --------------------------------------------------------------------

    async def transfer(self, to: NodeId | None, timeout_s: float | None) -> NodeId:
        """See `Node.transfer_leadership`."""
        runner = self._runner
        raft = self._raft("leadership was not transferred")
        if raft.leadership is not None and to == raft.node_id:
            await trio.lowlevel.checkpoint()
            return raft.node_id
        patience_s = raft.pace.timeout_s if timeout_s is None else timeout_s
        transfer = runner.transfer(raft, to, patience_s)
        with trio.move_on_after(patience_s + raft.pace.timeout_s):
            while not transfer.has_failed and raft.leader_id in (None, raft.node_id):
                if runner.is_dead:
                    raise NodeDead(
                        f"node {runner.node_id!r} died while it transferred its leadership: ask "
                        "the others who leads now"
                    )
                await runner.status_changed.park()
        if raft.leader_id is None:
            raise TransferFailed(
                f"node {raft.node_id!r} leads no more, but nobody was heard to lead after "
                f"{transfer.target!r} was asked to take over: look at the others' status"
            )
        if raft.leader_id == raft.node_id:
            raise TransferFailed(
                f"{transfer.target!r} did not take over within {patience_s:g} s: node "
                f"{raft.node_id!r} leads on; see whether {transfer.target!r} is up and how far "
                "behind it is in status.progress"
            )
        return raft.leader_id

    async def leave(self) -> None:
        """What others have asked for before the node leaves, and then the leadership."""
        runner = self._runner
        while runner.before_leaving and not runner.is_dead:
            await runner.before_leaving.pop(0)()
        await self.transfer_before_leaving()

    async def transfer_before_leaving(self) -> None:
        """Before the node leaves: transfer the leadership, if it leads and there is somebody to. A
        successor that is busy for a moment is asked again: whoever waits for a command here gets
        its result."""
        runner = self._runner
        member = runner.member
        if member is None:
            return
        raft = member.raft
        timeout_s = raft.pace.timeout_s
        with trio.move_on_after(LEAVING_PATIENCE * timeout_s, shield=True):
            while raft.leadership is not None and not runner.is_dead:
                if runner.is_transferring:
                    await runner.status_changed.park()
                elif raft.leadership.successor(raft.configuration, trio.current_time()) is None:
                    return
                else:
                    with contextlib.suppress(TransferFailed, NodeDead, NotLeader):
                        await self.transfer(None, timeout_s)
            # What a transfer that was given up brings about after all (hazard E3).
            while member.outcomes.are_open and not runner.is_dead:
                await runner.status_changed.park()

    # -- members ---------------------------------------------------------------------------

    async def change(self, change: Change, expected_index: LogIndex | None) -> LogIndex:
        """Carry out a change of the members; returns the index of the new configuration."""
        raft = self._raft("the members were not changed")
        change = self._with_addresses(change)
        leadership = await self._ready_to_change(raft)
        begun = self._runner.change_members(raft, change, expected_index)
        try:
            while not begun.has_ended and raft.leadership is leadership:
                await self._runner.status_changed.park()
        except trio.Cancelled:
            raft.abandon_change(begun, trio.current_time())
            raise
        if begun.stage is not Stage.DONE:
            raise self._lost(raft, begun)
        return begun.goal.index

    async def replace(self, node_id: NodeId) -> LogIndex:
        """See `Node.replace`."""
        raft = self._raft("nothing was replaced")
        if not _is_on_its_way(raft.configuration, node_id):
            raft.check_replaceable(node_id)  # at once: of two voters the leader soon leads no more
        leadership = await self._ready_to_change(raft)
        if not _is_on_its_way(raft.configuration, node_id):
            self._runner.change_members(raft, Replace(node_id), None)
        while raft.leadership is leadership and not self._runner.is_dead:
            configuration = raft.configuration
            if not _is_on_its_way(configuration, node_id):
                if node_id not in configuration.voters:
                    raise ConfigurationConflict(
                        f"{node_id!r} was to be a voter again, and somebody has changed the "
                        "members meanwhile: look at the status, and decide anew"
                    )
                if not configuration.outgoing and configuration.index <= raft.log.commit_index:
                    return configuration.index
            await self._runner.status_changed.park()
        raise OutcomeUnknown(
            f"leadership was lost, or the node died, while {node_id!r} was being replaced: ask the "
            "new leader for the same; if it has begun, that goes on from where it stands"
        )

    def _with_addresses(self, change: Change) -> Change:
        """Where a node is reached that joins without an address may be known all the same: by
        the transport's own table, or because the node is connected to us."""
        address_of = self._runner.address_of
        match change:
            case AddLearner(node_id, None):
                return AddLearner(node_id, address_of(node_id))
            case ChangeVoters(voters, told):
                known = {voter: address_of(voter) for voter in voters if voter not in told}
                found = {voter: address for voter, address in known.items() if address is not None}
                return ChangeVoters(voters, {**found, **told})
        return change

    async def _ready_to_change(self, raft: Raft) -> Leadership:
        """Wait until an entry of this leader's own term is committed (hazard M1), and a
        configuration that it has appended by itself to name a disk."""
        while True:
            self._raft("the members were not changed")
            leadership = raft.leadership
            if leadership is None:
                raise NotLeader(raft.leader_id, self._runner.address_of(raft.leader_id))
            configuration = raft.configuration
            names_a_disk = (
                configuration.index > raft.log.commit_index
                and leadership.change is None
                and not configuration.outgoing
            )
            if raft.log.term_at(raft.log.commit_index) == raft.term and not names_a_disk:
                return leadership
            await self._runner.status_changed.park()

    def _lost(self, raft: Raft, begun: MembershipChange) -> OutcomeUnknown | ConfigurationConflict:
        if begun.can_be_abandoned and not self._runner.is_dead:
            return ConfigurationConflict(
                f"leadership was lost while the change was {begun.stage.value}: no voter has "
                "changed; ask the new leader"
            )
        return OutcomeUnknown(
            f"leadership was lost while the change was at the stage {begun.stage.value!r}: it may "
            "or may not go through; look at the status of the new leader"
        )

    def _raft(self, what_did_not_happen: str) -> Raft:
        raft = self._runner.raft
        if raft is None or self._runner.is_dead:
            raise NodeDead(f"node {self._runner.node_id!r} is Dead; {what_did_not_happen}")
        return raft


def _is_on_its_way(configuration: Configuration, node_id: NodeId) -> bool:
    """Whether a voter whose disk was lost is none at present, and shall be one again."""
    is_given_its_vote = configuration.outgoing and node_id not in configuration.outgoing
    return node_id in configuration.returning or (
        bool(is_given_its_vote) and node_id in configuration.voters
    )
