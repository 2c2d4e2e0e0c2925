"""CoreCluster: several members in one event heap, in virtual time. No Trio, no sockets, no disk.

Rules of this file:

* The heap is the only clock. Equal moments are taken in the order in which they were scheduled,
  so one seed gives one run, on any machine and in any process.
* Each runs the very `Member` that a node runs, on a heap that knows what things take.
* The single liberty is `Costs.vote_requests_overlap_write`, and it has to be asked for.
* `run_until_leader` has a bound in virtual time: an election that never ends ends there.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import attrs

from trioraft.core.config import Limits, Timing
from trioraft.core.errors import InvariantViolation
from trioraft.core.messages import AppendEntries, Message, RequestVote
from trioraft.core.raft import Raft
from trioraft.core.ready import Ready
from trioraft.core.types import LogIndex, NodeId, Recovered
from trioraft.member.actions import Apply, Runner
from trioraft.member.member import Member


@attrs.frozen
class Costs:
    """What things take in this world. All zero: everything happens at once."""

    one_way_s: float = 0.0
    """From one core's message to the moment the other core handles it, in seconds."""
    one_way_jitter: float = 0.0
    """Each message takes uniformly (1 - jitter) … (1 + jitter) times `one_way_s`."""
    disk_write_mean_s: float = 0.0
    """One durable write, in seconds, exponentially distributed: most are short, some are not.
    A write covers everything that was waiting for the disk."""
    timer_lateness_s: float = 0.0
    """A due timer is noticed uniformly 0 … this late, in seconds: no clock wakes on the dot."""
    vote_requests_overlap_write: bool = False
    """Let RequestVote leave while the candidate's own vote is still being written, instead of
    after it (dissertation 9.3). The candidate's own vote still counts only once it is durable.
    Harmless only where nobody ever comes back from a crash, as here."""

    def draw_one_way_s(self, rng: random.Random) -> float:
        """How long one message takes, in seconds."""
        return self.one_way_s * (1.0 + self.one_way_jitter * rng.uniform(-1.0, 1.0))

    def draw_write_s(self, rng: random.Random) -> float:
        """How long one write takes, in seconds."""
        return rng.expovariate(1.0) * self.disk_write_mean_s

    def broadcast_s(self, peers: int) -> float:
        """The mean broadcast time, in seconds, as the paper defines it (section 5.6): until the
        last of `peers` servers, asked in parallel, has written and answered."""
        slowest = sum(1.0 / k for k in range(1, peers + 1))  # mean maximum of exponentials
        return 2.0 * self.one_way_s + slowest * self.disk_write_mean_s


FREE: Final = Costs()
"""A world in which nothing takes time: for reaching the state that a measurement starts from."""


class _OverlappingRaft(Raft):
    """Its requests for votes do not wait for the disk (`Costs.vote_requests_overlap_write`)."""

    def ready(self) -> Ready | None:
        ready = super().ready()
        if ready is None or not ready.messages_after_persist:
            return ready
        early = tuple(m for m in ready.messages_after_persist if isinstance(m, RequestVote))
        late = tuple(m for m in ready.messages_after_persist if not isinstance(m, RequestVote))
        return attrs.evolve(ready, messages=ready.messages + early, messages_after_persist=late)


class _NoMachine:
    """Elections apply nothing."""

    def apply(self, index: LogIndex, data: bytes) -> None:
        """Nothing."""

    def snapshot(self) -> bytes:
        """Of nothing."""
        return b""

    def restore(self, chunks: Iterable[bytes]) -> None:
        """To nothing."""


@attrs.define(eq=False)
class _Server:
    """One member with its alarm clock."""

    member: Member
    timer_set_for: float | None = None
    heartbeat_set_for: float | None = None
    is_up: bool = True


class CoreCluster:
    """Cores that talk to each other through a heap of events.

    Args:
        recovered: each server and what its disk holds at the start.
        timing: the same for all.
        costs: what messages, writes and timers take; `costs` may be changed between runs.
        rng: the only source of chance, the cores' too.
    """

    def __init__(
        self,
        recovered: Mapping[NodeId, Recovered],
        timing: Timing,
        costs: Costs,
        rng: random.Random,
    ) -> None:
        self.now = 0.0
        """Virtual time, in seconds."""
        self.costs = costs
        self.deliver: Callable[[Message], bool] = _deliver_all
        """Whether the network carries this message; may be replaced at any time."""
        self._rng = rng
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._servers: dict[NodeId, _Server] = {}
        make_raft = _OverlappingRaft if costs.vote_requests_overlap_write else Raft
        limits = Limits()
        for node_id, state in recovered.items():
            raft = make_raft(node_id, state, timing, limits, random.Random(rng.random()))
            self._servers[node_id] = _Server(self._member(raft, limits))

    def _member(self, raft: Raft, limits: Limits) -> Member:
        def apply(_: Apply) -> None:
            while member.apply_next():
                pass

        runner = Runner(
            send=self._send,
            store=lambda _: self._write(raft.node_id),
            apply=apply,
            save_snapshot=_never,
            read_chunk=_never,
            admit_clients=lambda _: member.go_on(),
            tell=_never,
        )
        member = Member(raft, _NoMachine(), limits, runner)
        return member

    def core(self, node_id: NodeId) -> Raft:
        """The core of this server, to look at."""
        return self._servers[node_id].member.raft

    @property
    def leader_id(self) -> NodeId | None:
        """Who leads the latest term among those that are up, or None."""
        up = [server.member for server in self._servers.values() if server.is_up]
        leaders = [member.raft for member in up if member.leading_term is not None]
        return max(leaders, key=lambda raft: raft.term).node_id if leaders else None

    # -- what an experiment does -----------------------------------------------------------

    def start(self, node_id: NodeId) -> None:
        """Begin as a follower, now."""
        server = self._servers[node_id]
        server.member.start(self.now)
        self._after_input(server)

    def start_under(self, leader_id: NodeId) -> None:
        """Start everyone, with this server as their leader, in no time.

        Its patience ends at the very moment at which the others begin. Costs are put aside
        meanwhile; what `deliver` holds back stays held back.

        Raises:
            InvariantViolation: it was not elected at once, though nothing stood in its way.
        """
        costs, self.costs = self.costs, FREE
        self.start(leader_id)
        deadline = self.core(leader_id).deadline
        if deadline is None:
            raise InvariantViolation(f"{leader_id!r} has started, but its timer does not run")
        self.run_until(math.nextafter(deadline, -math.inf))
        for node_id in self._servers:
            if node_id != leader_id:
                self.start(node_id)
        self.run_until(deadline)
        if self.leader_id != leader_id:
            raise InvariantViolation(f"{leader_id!r} was the only candidate and was not elected")
        self.costs = costs

    def crash(self, node_id: NodeId) -> None:
        """Fall silent, now and for good. What it sent before still arrives."""
        self._servers[node_id].is_up = False

    def run_until(self, at_s: float) -> None:
        """Let everything happen that is due before or at this virtual time."""
        while self._heap and self._heap[0][0] <= at_s:
            self._next_event()
        self.now = at_s

    def run_until_leader(self, at_most_s: float) -> NodeId | None:
        """Let things happen until some server leads.

        Args:
            at_most_s: the virtual time at which to give up.

        Returns:
            the leader, `now` being the moment it won; or None, `now` being `at_most_s`.
        """
        while (leader_id := self.leader_id) is None:
            if not self._heap or self._heap[0][0] > at_most_s:
                self.now = at_most_s
                return None
            self._next_event()
        return leader_id

    # -- events ----------------------------------------------------------------------------

    def _next_event(self) -> None:
        self.now, _, action = heapq.heappop(self._heap)
        action()

    def _at(self, at_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (at_s, next(self._order), action))

    def _after_input(self, server: _Server) -> None:
        """Do what the member now wants done, and set its alarms."""
        server.member.run(self.now)
        self._set_alarms(server)

    # -- network ---------------------------------------------------------------------------

    def _send(self, message: Message) -> None:
        if self.deliver(message):
            arrival = self.now + self.costs.draw_one_way_s(self._rng)
            self._at(arrival, lambda: self._arrive(message))

    def _arrive(self, message: Message) -> None:
        server = self._servers[message.receiver]
        if server.is_up:
            server.member.receive(message, self.now)
            self._after_input(server)

    # -- disk ------------------------------------------------------------------------------

    def _write(self, node_id: NodeId) -> None:
        self._at(self.now + self.costs.draw_write_s(self._rng), lambda: self._written(node_id))

    def _written(self, node_id: NodeId) -> None:
        server = self._servers[node_id]
        if server.is_up:
            server.member.on_stored(self.now)
            self._after_input(server)

    # -- timers ----------------------------------------------------------------------------

    def _set_alarms(self, server: _Server) -> None:
        deadline = server.member.raft.deadline
        if deadline is not None and deadline != server.timer_set_for:
            server.timer_set_for = deadline
            self._at(self._noticed(deadline), lambda: self._on_timer(server, deadline))
        heartbeat = server.member.raft.heartbeat_deadline
        if heartbeat is not None and heartbeat != server.heartbeat_set_for:
            server.heartbeat_set_for = heartbeat
            self._at(self._noticed(heartbeat), lambda: self._on_heartbeat(server, heartbeat))

    def _noticed(self, deadline: float) -> float:
        lateness_s = self._rng.uniform(0.0, self.costs.timer_lateness_s)
        return max(self.now, deadline) + lateness_s

    def _on_timer(self, server: _Server, deadline: float) -> None:
        if server.is_up and server.member.raft.deadline == deadline:  # else it has moved since
            server.timer_set_for = None
            server.member.on_timeout(self.now)
            self._after_input(server)

    def _on_heartbeat(self, server: _Server, deadline: float) -> None:
        if server.is_up and server.member.raft.heartbeat_deadline == deadline:
            server.heartbeat_set_for = None
            server.member.on_heartbeat_due(self.now)
            self._after_input(server)


def _never(action: object) -> None:
    raise InvariantViolation(f"an election asks for {action}")


def _deliver_all(_message: Message) -> bool:
    return True


def carries_no_entries(message: Message) -> bool:
    """A `CoreCluster.deliver` that holds back replication but lets heartbeats through."""
    return not (isinstance(message, AppendEntries) and message.entries)
