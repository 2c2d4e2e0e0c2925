"""A scenario on servers: those that `trioraft cluster N --lab` has started. Its text API is told
what to do, and the servers are asked at their own ports what became of it.

Rules of this file:

* What is done to servers the laboratory does; who leads, and what is stored, the servers say.
* The servers go on from one scenario to the next: each begins with all of them healed, and with
  keys of its own.
"""

from __future__ import annotations

import math
import secrets
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, final

import msgspec
import trio

from ...client.client import Client
from ...core.errors import ConfigError, RaftError
from ...core.types import Address, LogIndex, NodeId, Role
from ...kv import ERROR_TYPES, KvClient
from ...rpc.protocol import ServerStatus
from ...scenario import Answer, Needs, NodeView, Scenario, Step, check_playable, play
from ...testing.scenario_calls import KV_CALLS, Calls, text_of
from ..files import read_small

LAB_FILE: Final = "lab.json"
PORTS_FILE: Final = "cluster.json"
POLL_S: Final = 0.02
"""So long between two looks at all servers: none of them tells what a scenario wants to know of all
at one moment."""
STATUS_S: Final = 2.0
"""A server that runs and says nothing for so long is busy: it is as it was."""
PATIENCE_S: Final = 15.0
CALL_S: Final = 60.0
"""A client's patience: a scenario with faults takes some elections."""
NAME: Final = "a laboratory of servers"
KEYS_INSTEAD: Final = "servers keep keys and values: `put`"
MISSING: Final[Mapping[Needs, str]] = {
    Needs.COMMANDS: KEYS_INSTEAD,
    Needs.NETWORK: "its messages travel as the machine lets them",
    Needs.MEMBERS: "its members are those that were started; trioraft admin changes them",
    Needs.ANSWERS: "it has no hold of what servers say to clients",
    Needs.TIMING: "its servers have the usual timing",
}


class _Kept(msgspec.Struct, frozen=True):
    url: str
    token: str


class _Ports(msgspec.Struct, frozen=True):
    clients: list[int]


def read_lab(directory: Path) -> tuple[_Kept, dict[NodeId, Address]]:
    """Where the laboratory of the cluster in this directory is, and its members.

    Raises:
        ConfigError: there is none.
    """
    try:
        kept = msgspec.json.decode(read_small(directory / LAB_FILE), type=_Kept)
        ports = msgspec.json.decode(read_small(directory / PORTS_FILE), type=_Ports)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        why = str(error)
        if isinstance(error, FileNotFoundError):
            why = f"{Path(error.filename).name} is missing"
        raise ConfigError(
            f"{str(directory)!r} has no laboratory ({why}): start one with `trioraft cluster 3 "
            f"--lab --data {directory}`, and leave it running"
        ) from error
    if not kept.url.startswith("http://"):
        raise ConfigError(f"{directory / LAB_FILE} names {kept.url!r}: no laboratory answers there")
    addresses = {str(number): ("127.0.0.1", port) for number, port in enumerate(ports.clients)}
    return kept, addresses


def check(scenario: Scenario, directory: Path) -> None:
    """Whether it can be played there.

    Raises:
        ScenarioError: it asks for something else.
        ConfigError: there is no laboratory, or one of another size.
    """
    check_playable(scenario, MISSING, NAME)
    _, addresses = read_lab(directory)
    if len(addresses) != scenario.settings.nodes:
        raise ConfigError(
            f"{scenario.name} is about {scenario.settings.nodes} nodes, and the laboratory in "
            f"{directory} has {len(addresses)}: start one of that size"
        )


async def play_in_lab(
    scenario: Scenario, directory: Path, on_step: Callable[[Step, float], None]
) -> None:
    """Play it there.

    Args:
        scenario: one that `check` has passed.
        directory: of the cluster.
        on_step: told each step, and when it began, in seconds since the beginning.

    Raises:
        ScenarioFailed: an expectation did not come true.
        OSError: the laboratory does not answer.
    """
    async with open_lab(scenario, directory) as backend:

        async def tell(step: Step) -> None:
            on_step(step, backend.now_s())
            await trio.lowlevel.checkpoint()

        await play(scenario, backend, on_step=tell)


@asynccontextmanager
async def open_lab(scenario: Scenario, directory: Path) -> AsyncIterator[LabBackend]:
    """The laboratory, with all its servers healed, for the player.

    A body that fails raises its own error, ungrouped.
    """
    kept, addresses = read_lab(directory)
    async with Client([*addresses.values()], timeout_s=CALL_S) as watcher:
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            backend = LabBackend(kept, addresses, watcher, nursery)
            try:
                await backend.begin(scenario)
                yield backend
            except Exception as error:  # noqa: BLE001 - raised below, outside of the nursery
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure


@final
class LabBackend:
    """A laboratory, for the player. Made by `open_lab`."""

    name: Final = NAME
    missing: Mapping[Needs, str] = MISSING
    patience_s: Final = PATIENCE_S
    loses_messages: Final = False

    def __init__(
        self,
        kept: _Kept,
        addresses: Mapping[NodeId, Address],
        watcher: Client,
        nursery: trio.Nursery,
    ) -> None:
        self.picture: str = f"the laboratory's page, at {kept.url}/"
        self._kept = kept
        self._addresses = addresses
        self._watcher = watcher
        self._nursery = nursery
        self._began_s = trio.current_time()
        self._down: set[NodeId] = set()
        self._paused: set[NodeId] = set()
        self._views = {node_id: NodeView(node_id, None) for node_id in addresses}
        self._callers: dict[tuple[str, NodeId | None], Calls] = {}
        self._own = secrets.token_hex(4)  # of the keys: servers still have those of last time
        self._looked_at: dict[tuple[NodeId, str], str | None] = {}

    async def begin(self, scenario: Scenario) -> None:
        """All servers up, healed, and with the pre-vote that the scenario wants; all know who leads
        in the end, or that nobody does."""
        state = msgspec.json.decode(await self._ask("GET", ""))
        wants_pre_vote = scenario.settings.timing.pre_vote
        orders = ["heal"]
        for verb, wrong in (("restart", "dead"), ("resume", "paused")):
            ids = [each["id"] for each in state["members"] if each["state"] == wrong]
            if ids:
                orders.append(f"{verb} {' '.join(ids)}")
        if state["pre_vote"] != wants_pre_vote:
            orders.append(f"pre-vote {'on' if wants_pre_vote else 'off'}")
        await self._order(*orders)
        self._began_s = trio.current_time()
        await self._look()

    # -- the laboratory ------------------------------------------------------------------------

    async def _order(self, *lines: str) -> None:
        await self._ask("POST", "\n".join(lines))
        await self._look()

    async def _ask(self, method: str, text: str) -> bytes:
        return await trio.to_thread.run_sync(partial(self._request, method, text))

    def _request(self, method: str, text: str) -> bytes:
        headers = {"Authorization": f"Bearer {self._kept.token}", "Content-Type": "text/plain"}
        data = text.encode() if method == "POST" else None
        request = urllib.request.Request(  # noqa: S310 - `read_lab` has seen that it is http
            f"{self._kept.url}/lab", data=data, headers=headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=CALL_S) as answer:  # noqa: S310 - as above
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            said = error.read().decode("utf-8", errors="backslashreplace")[:500]
            raise OSError(f"the laboratory refuses {text!r} ({error.code}): {said}") from error
        except urllib.error.URLError as error:
            raise OSError(
                f"the laboratory at {self._kept.url} does not answer ({error.reason}): is "
                "`trioraft cluster --lab` still running?"
            ) from error

    # -- time and looking ----------------------------------------------------------------------

    def now_s(self) -> float:
        return trio.current_time() - self._began_s

    async def sleep(self, duration_s: float) -> None:
        await trio.sleep(duration_s)
        await self._look()

    async def until(self, holds: Callable[[], bool], limit_s: float) -> bool:
        with trio.move_on_after(limit_s):
            while not holds():
                await trio.sleep(POLL_S)
                await self._look()
            return True
        return holds()

    async def while_holds(self, holds: Callable[[], bool], duration_s: float) -> bool:
        with trio.move_on_after(duration_s):
            await self.until(lambda: not holds(), math.inf)
            return False
        return True

    async def _look(self) -> None:
        """Ask all servers that run, at the same time."""
        async with trio.open_nursery() as nursery:
            for node_id in self._addresses:
                nursery.start_soon(self._look_at, node_id)

    async def _look_at(self, node_id: NodeId) -> None:
        if node_id in self._paused:
            return  # as it was: whoever stands still says nothing
        if node_id in self._down:
            self._views[node_id] = NodeView(node_id, None)
            return
        address = self._addresses[node_id]
        try:
            status = await self._watcher.status(address, timeout_s=STATUS_S)
            for key in [key for at, key in self._looked_at if at == node_id]:
                self._looked_at[node_id, key] = await self._stored(node_id, key)
        except RaftError:
            return  # busy, or on its way up: as it was
        self._views[node_id] = _view(status)

    async def _stored(self, node_id: NodeId, key: str) -> str | None:
        reader = Client([self._addresses[node_id]], sessions=False, error_types=ERROR_TYPES)
        async with reader:
            value = await KvClient(reader).get(
                self._key(key), consistency="stale", timeout_s=STATUS_S
            )
        return text_of(value)

    def views(self) -> Mapping[NodeId, NodeView]:
        return self._views

    # -- what is done to it --------------------------------------------------------------------

    async def disconnect(self, node_id: NodeId) -> None:
        await self._order(f"disconnect {node_id}")

    async def reconnect(self, node_id: NodeId) -> None:
        await self._order(f"reconnect {node_id}")

    async def cut(self, one: NodeId, other: NodeId) -> None:
        await self._order(f"cut {one}>{other} {other}>{one}")

    async def heal(self) -> None:
        await self._order("heal")

    async def crash(self, node_id: NodeId) -> None:
        self._down.add(node_id)
        await self._order(f"kill {node_id}")

    async def restart(self, node_id: NodeId) -> None:
        self._down.discard(node_id)
        await self._order(f"restart {node_id}")

    async def pause(self, node_id: NodeId) -> None:
        self._paused.add(node_id)
        await self._order(f"pause {node_id}")

    async def resume(self, node_id: NodeId) -> None:
        self._paused.discard(node_id)
        await self._order(f"resume {node_id}")

    async def transfer(self, leader: NodeId, target: NodeId) -> None:
        try:
            await self._watcher.transfer_leadership(target)
        except RaftError:
            return  # what comes of it is for an expectation
        await self._look()

    # -- keys and values -----------------------------------------------------------------------

    async def ask(
        self, client: str, through: NodeId | None, call: str, key: str, *values: str | None
    ) -> Answer:
        calls = self._callers.get((client, through))
        if calls is None:
            calls = self._callers[client, through] = Calls()
            self._nursery.start_soon(self._call_one_by_one, through, calls)
        answer = Answer()
        calls.add(answer, partial(KV_CALLS[call], key=self._key(key), values=values))
        return answer

    async def _call_one_by_one(self, through: NodeId | None, calls: Calls) -> None:
        known = [*self._addresses.values()] if through is None else [self._addresses[through]]
        async with Client(known, timeout_s=CALL_S, error_types=ERROR_TYPES) as client:
            await calls.carry_out(KvClient(client))

    def _key(self, key: str) -> str:
        return f"{self._own}/{key}"

    def value_at(self, node_id: NodeId, key: str) -> str | None:
        """As it was when the servers were looked at last; nobody has the value that stands for a
        key which was never looked at."""
        return self._looked_at.setdefault((node_id, key), UNSEEN)

    # -- what a laboratory has not: the player never asks --------------------------------------

    async def set_network(self, delay_s: tuple[float, float] | None, loss: float | None) -> None:
        raise NotImplementedError(MISSING[Needs.NETWORK])

    async def add(self, node_id: NodeId) -> None:
        raise NotImplementedError(MISSING[Needs.MEMBERS])

    async def remove(self, node_id: NodeId) -> None:
        raise NotImplementedError(MISSING[Needs.MEMBERS])

    async def propose(self, data: str, at: NodeId | None) -> Answer:
        raise NotImplementedError(KEYS_INSTEAD)

    def applied(self) -> Mapping[NodeId, list[tuple[LogIndex, str]]]:
        return {}

    async def hold_answers(self, node_id: NodeId) -> None:
        raise NotImplementedError(MISSING[Needs.ANSWERS])

    async def release_answers(self, node_id: NodeId) -> None:
        raise NotImplementedError(MISSING[Needs.ANSWERS])


UNSEEN: Final = "\N{REPLACEMENT CHARACTER}"


def _view(status: ServerStatus) -> NodeView:
    return NodeView(
        status.node_id,
        Role(status.role),
        status.term,
        status.leader_id,
        status.last_index,
        status.commit_index,
        status.is_removed,
        status.configuration.voters,
        status.configuration_index,
    )
