"""play: a scenario's text on a cluster in this process, in virtual time or over sockets.

Rules of this file:

* Nothing here decides what a scenario means: `trioraft.scenario` does. Here stands only how a
  `Cluster` does it.
* What is asked for goes on beside the scenario, and ends with it: an answer that no line waits
  for is not waited for.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

import trio

from ..core.errors import (
    ConfigurationConflict,
    NodeDead,
    NotLeader,
    OutcomeUnknown,
    ProposalDropped,
    TransferFailed,
)
from ..core.types import LogIndex, NodeId
from ..node.node import Node
from ..scenario import Scenario as Scenario
from ..scenario import ScenarioError as ScenarioError
from ..scenario import ScenarioFailed as ScenarioFailed
from ..scenario import load
from ..scenario import play as play_on
from ..scenario.backend import Answer, NodeView
from ..scenario.grammar import Needs
from ..scenario.model import DELAY_S, PATIENCE_S_MIN
from ..scenario.playing import check_playable
from .cluster import WAIT_ROUNDS, Cluster, open_cluster
from .scenario_calls import KV_CALLS, Calls, text_of

if TYPE_CHECKING:
    from .kv_cluster import KvCluster

NO_PAUSE: Final = (
    "in one process no node stands still alone; `trioraft sim --tier 1` can have it so"
)
NO_WEATHER: Final = "it has real sockets; virtual time has a network of its own"

Opening = Callable[..., AbstractAsyncContextManager[Cluster]]
"""`open_cluster`, with what the teller has chosen."""


async def play(
    scenario: str | Path | Scenario,
    *,
    seed: int | None = None,
    opening: Opening | None = None,
    picture: str = "",
) -> None:
    """Play a scenario on nodes in this process: under a `MockClock` that jumps, in virtual time.

    Args:
        scenario: the name of a shipped one, a file's path, or one that was read already.
        seed: of all chance; by default the scenario's, or 0.
        opening: opens the cluster: `open_cluster`, or a `partial` of it with what should be
            otherwise (`network="tcp"`, `storage="sqlite"`, `unreliable=True`, `seed=7`).
        picture: how to get a picture, said where one fails; by default as under pytest.

    Raises:
        ConfigError: there is no such scenario.
        ScenarioError: it has a mistake, or asks for what this cluster cannot do; nothing was done.
        ScenarioFailed: an expectation did not come true; the message says which line, and what was
            seen.

    Cancelling it ends all nodes.
    """
    read = scenario if isinstance(scenario, Scenario) else load(scenario)
    if opening is None:
        chosen = read.settings.seed or 0 if seed is None else seed
        opening = partial(open_cluster, seed=chosen)
    async with open_backend(read, opening, picture=picture) as backend:
        await play_on(read, backend)


@asynccontextmanager
async def open_backend(
    scenario: Scenario, opening: Opening, *, picture: str = ""
) -> AsyncIterator[ClusterBackend]:
    """A cluster with the scenario's settings, for the player.

    A body that fails raises its own error, ungrouped.
    """
    settings, options = scenario.settings, dict[str, Any]()
    is_tcp = isinstance(opening, partial) and opening.keywords.get("network") == "tcp"
    name, missing = missing_on(is_tcp=is_tcp)
    check_playable(scenario, missing, name)
    if scenario.has_keys:
        from .kv_cluster import new_machine  # here: clients and services are much to import

        options["machine"] = new_machine
    if settings.delay_s != DELAY_S:
        options["delay_s"] = settings.delay_s
    if settings.loss:
        options["loss"] = settings.loss
    options["timing"] = settings.timing
    async with opening(settings.nodes, **options) as cluster:
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            backend = ClusterBackend(
                cluster,
                nursery,
                missing=missing,
                name=name,
                picture=picture,
                keys=scenario.has_keys,
            )
            try:
                yield backend
            except Exception as error:  # noqa: BLE001 - raised below, outside of the nursery
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure


def missing_on(*, is_tcp: bool) -> tuple[str, Mapping[Needs, str]]:
    """What such a cluster is called, and what it cannot do."""
    if is_tcp:
        return "a cluster over TCP", {Needs.PAUSE: NO_PAUSE, Needs.NETWORK: NO_WEATHER}
    return "a cluster in one process", {Needs.PAUSE: NO_PAUSE}


UNDER_PYTEST: Final = "run the test again with --raftlog run.raftlog --raftviz pages"


@final
class ClusterBackend:
    """A `Cluster`, for the player. Made by `open_backend`."""

    loses_messages: bool

    def __init__(
        self,
        cluster: Cluster,
        nursery: trio.Nursery,
        *,
        missing: Mapping[Needs, str],
        name: str,
        picture: str,
        keys: bool,
    ) -> None:
        self.cluster = cluster
        self.name: str = name
        self.missing: Mapping[Needs, str] = missing
        rounds_s = WAIT_ROUNDS * cluster.timing.election_timeout_s[1]
        self.patience_s: float = max(PATIENCE_S_MIN, rounds_s)
        self.loses_messages = cluster.loses_messages
        self.picture: str = picture or UNDER_PYTEST
        self._nursery = nursery
        self._answered = trio.lowlevel.ParkingLot()
        self._began_s = trio.current_time()
        self._callers: dict[tuple[str, NodeId | None], Calls] = {}
        self._kv: KvCluster | None = None
        if keys:
            from .kv_cluster import KvCluster  # here: clients and services are much to import

            self._kv = KvCluster(cluster, nursery)

    # -- time ----------------------------------------------------------------------------------

    def now_s(self) -> float:
        return trio.current_time() - self._began_s

    async def sleep(self, duration_s: float) -> None:
        await trio.sleep(duration_s)

    async def until(self, holds: Callable[[], bool], limit_s: float) -> bool:
        with trio.move_on_after(limit_s):
            while not holds():
                async with trio.open_nursery() as nursery:
                    done = nursery.cancel_scope.cancel
                    for node in self.cluster.nodes.values():
                        nursery.start_soon(_when_a_node_says_so, node, holds, done)
                    nursery.start_soon(self._when_answered, holds, done)
            return True
        return False

    async def _when_answered(self, holds: Callable[[], bool], done: Callable[[], None]) -> None:
        while not holds():
            await self._answered.park()
        done()

    async def while_holds(self, holds: Callable[[], bool], duration_s: float) -> bool:
        with trio.move_on_after(duration_s):
            await self.until(lambda: not holds(), math.inf)
            return False
        return True

    def views(self) -> Mapping[NodeId, NodeView]:
        nodes = self.cluster.nodes
        return {
            node_id: _view(nodes[node_id]) if node_id in nodes else NodeView(node_id, None)
            for node_id in self.cluster.ids
        }

    # -- what is done to it --------------------------------------------------------------------

    async def disconnect(self, node_id: NodeId) -> None:
        self.cluster.disconnect(node_id)

    async def reconnect(self, node_id: NodeId) -> None:
        self.cluster.reconnect(node_id)

    async def cut(self, one: NodeId, other: NodeId) -> None:
        self.cluster.cut(one, other)

    async def heal(self) -> None:
        self.cluster.heal()

    async def crash(self, node_id: NodeId) -> None:
        await (self._kv or self.cluster).crash(node_id)

    async def restart(self, node_id: NodeId) -> None:
        await self.cluster.restart(node_id)

    async def pause(self, node_id: NodeId) -> None:
        raise NotImplementedError(NO_PAUSE)

    async def resume(self, node_id: NodeId) -> None:
        raise NotImplementedError(NO_PAUSE)

    async def set_network(self, delay_s: tuple[float, float] | None, loss: float | None) -> None:
        self.cluster.set_network(delay_s=delay_s, loss=loss)

    async def transfer(self, leader: NodeId, target: NodeId) -> None:
        try:
            await self.cluster.nodes[leader].transfer_leadership(target)
        except (TransferFailed, NotLeader):
            return  # what comes of it is for an expectation

    async def add(self, node_id: NodeId) -> None:
        address = await self.cluster.join(node_id)
        addresses = None if address is None else {node_id: address}
        await self._change(lambda voters: {*voters, node_id}, addresses)

    async def remove(self, node_id: NodeId) -> None:
        await self._change(lambda voters: {*voters} - {node_id}, None)

    async def _change(
        self, change: Callable[[tuple[NodeId, ...]], set[NodeId]], addresses: Any
    ) -> None:
        """Through whoever leads, until it is so."""
        while True:
            leader, _ = await self.cluster.check_single_leader(timeout_s=self.patience_s)
            node = self.cluster.nodes[leader]
            voters = sorted(change(node.status.configuration.voters))
            try:
                await node.change_voters(voters, addresses=addresses)
            except (NotLeader, NodeDead, ProposalDropped, OutcomeUnknown, ConfigurationConflict):
                await trio.sleep(self.cluster.timing.heartbeat_interval_s)  # another may be ending
            else:
                return

    # -- commands --------------------------------------------------------------------------------

    async def propose(self, data: str, at: NodeId | None) -> Answer:
        answer = Answer()
        wait = self._handed_in(data, self._led_by() if at is None else at)
        if at is None:
            again = partial(self._take_anywhere, data)
            self._nursery.start_soon(self._settle, answer, wait or again, again)
        elif wait is None:
            answer.outcome = "refused"
        else:
            self._nursery.start_soon(self._settle, answer, wait, None)
        return answer

    def _led_by(self) -> NodeId | None:
        leaders = [
            node.id for node in self.cluster.nodes.values() if node.status.leader_id == node.id
        ]
        return leaders[0] if len(leaders) == 1 else None

    def _handed_in(self, data: str, at: NodeId | None) -> Callable[[], Awaitable[Any]] | None:
        """To this node, at this moment; what waits for the result, or None: it was not taken."""
        node = None if at is None else self.cluster.nodes.get(at)
        if node is None:
            return None
        try:
            return node.submit(data.encode()).result
        except (NotLeader, NodeDead, ProposalDropped):
            return None

    async def _take_anywhere(self, data: str) -> Any:
        return await self.cluster.propose(data.encode(), timeout_s=self.patience_s)

    async def _settle(
        self,
        answer: Answer,
        wait: Callable[[], Awaitable[Any]],
        again: Callable[[], Awaitable[Any]] | None,
    ) -> None:
        outcome = await _outcome(wait)
        if again is not None and outcome == "refused":  # certainly not in the log
            outcome = await _outcome(again)
        answer.outcome = outcome
        self._answered.unpark_all()

    def applied(self) -> Mapping[NodeId, list[tuple[LogIndex, str]]]:
        machines = self.cluster.machines
        return {
            node_id: [(index, data.decode()) for index, data in machines[node_id].commands]
            for node_id in self.cluster.nodes
        }

    # -- keys and values -------------------------------------------------------------------------

    async def ask(
        self, client: str, through: NodeId | None, call: str, key: str, *values: str | None
    ) -> Answer:
        caller = self._callers.get((client, through))
        if caller is None:
            caller = self._callers[client, through] = Calls()
            self._nursery.start_soon(self._call_one_by_one, through, caller)
        answer = Answer()
        caller.add(answer, partial(KV_CALLS[call], key=key, values=values))
        return answer

    async def _call_one_by_one(self, through: NodeId | None, caller: Calls) -> None:
        async with self._keys.client(*([] if through is None else [through])) as client:
            await caller.carry_out(client, self._answered.unpark_all)

    @property
    def _keys(self) -> KvCluster:
        if self._kv is None:
            raise RuntimeError("this cluster keeps no keys")  # the player has seen to that
        return self._kv

    def value_at(self, node_id: NodeId, key: str) -> str | None:
        return text_of(self._keys.value_at(node_id, key))

    async def hold_answers(self, node_id: NodeId) -> None:
        self._keys.hold_answers(node_id)

    async def release_answers(self, node_id: NodeId) -> None:
        self._keys.release_answers(node_id)


def _view(node: Node) -> NodeView:
    status = node.status
    return NodeView(
        node.id,
        status.role,
        status.term,
        status.leader_id,
        status.last_index,
        status.commit_index,
        status.is_removed,
        status.configuration.voters,
        status.configuration.index,
    )


async def _when_a_node_says_so(
    node: Node, holds: Callable[[], bool], done: Callable[[], None]
) -> None:
    try:
        await node.wait(lambda _status: holds())
    except NodeDead:
        return
    done()


async def _outcome(wait: Callable[[], Awaitable[Any]]) -> str:
    try:
        await wait()
    except OutcomeUnknown:
        return "unknown"
    except (NotLeader, ProposalDropped, NodeDead):
        return "refused"
    except ScenarioFailed:
        raise
    except AssertionError:  # the harness: nobody took it for so long
        return "refused"
    return "applied"
