"""Handing over: a leader makes somebody else lead, in milliseconds (dissertation 3.10).

Rules of this file:

* Whoever is asked to take over holds the whole log of the leader, which takes no command
  meanwhile: so nothing is lost, and the election is won at once.
* It ends, well or not, by its deadline; and it ends with the leadership (hazard T1).
* Safety rests on none of this: the request merely starts an election.
"""

from __future__ import annotations

from . import events
from .change import Transfer
from .errors import ConfigError, NotLeader, TransferFailed
from .leadership import Leadership
from .reasons import Reason
from .state import State
from .types import NodeId


class HandingOver(State):
    """The leader's side of a transfer."""

    def transfer(self, to: NodeId | None, now: float, *, patience_s: float) -> Transfer:
        """Begin to hand over. The outcome shows in what is returned, and in who leads.

        Args:
            to: who shall lead; None for the voter that can take over soonest.
            now: the time.
            patience_s: after that long it is given up.

        Raises:
            NotLeader: this node does not lead.
            ConfigError: `to` is no voter, or this node itself.
            TransferFailed: another one is under way, or no other voter was heard of lately.
        """
        leadership = self._leadership
        if leadership is None:
            raise NotLeader(self.leader_id)
        if leadership.transfer is not None:
            raise TransferFailed(
                f"leadership is being handed over to {leadership.transfer.target!r} already"
            )
        self._now = now
        if to is None:
            to = leadership.successor(self.configuration, now)
            if to is None:
                raise TransferFailed("no other voter was heard of lately; nobody can take over")
        elif to == self.node_id or to not in self.configuration.voters:
            raise ConfigError(
                f"cannot hand over to {to!r}: give one of the other voters, {self._other_voters()}"
            )
        leadership.transfer = Transfer(to, now, now + patience_s)
        if self.tracing:
            self._out.trace(events.TransferStarted(now, to))
        self._advance_transfer(leadership)
        self._timer.hurry_to(leadership.transfer.deadline_s)
        return leadership.transfer

    def _advance_transfer(self, leadership: Leadership) -> None:
        """Ask the target to campaign, once it holds the whole log. Asked again with each
        heartbeat: the request may be lost."""
        transfer = leadership.transfer
        if transfer is None or transfer.was_asked:
            return
        progress = leadership.progress.get(transfer.target)
        last_index = self.log.last_index
        if progress is None or progress.match_index < last_index:
            return
        if self.log.commit_index == last_index:  # so that nobody is left without an outcome
            transfer.was_asked = True
            self._send(leadership.timeout_now(transfer.target))

    def _maybe_give_up_transfer(self, leadership: Leadership) -> None:
        transfer = leadership.transfer
        if transfer is None or self._now < transfer.deadline_s:
            return
        transfer.has_failed = True
        leadership.transfer = None
        if self.tracing:
            waited_s = self._now - transfer.started_s
            self._out.trace(events.TransferGivenUp(self._now, transfer.target, waited_s))

    def _resign(self, leadership: Leadership, reason: Reason) -> None:
        """Lead no more, and let the best successor know at once: it need not wait for a
        timeout."""
        successor = leadership.successor(self.configuration, self._now)
        if successor is not None:
            self._send(leadership.timeout_now(successor))
        self._become_follower(self.term, None, reason)
