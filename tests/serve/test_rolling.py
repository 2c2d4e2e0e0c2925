"""A cluster is changed member by member, under load: its addresses, its timing, its disks, the
software under it. No call is lost, and none is done twice. (Its certificates:
`test_certificate_rotation`.)

Rules of this file: servers as they ship, in processes of their own; what is done to each is what
docs/moving.md says, with its commands. The next member's turn comes once the last one is ready and
has caught up, as that page asks for.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, final

import attrs
import trio

from benchmarks.processes import ServerProcess, ServerProcesses, free_ports, shown
from tests.serve.commands import lines, run
from tests.serve.load import LOOK_S, PATIENCE_S, Load, under_load
from trioraft import Client
from trioraft.core.types import Address, NodeId
from trioraft.kv import ERROR_TYPES

IDS: Final = ("0", "1", "2")


@final
@attrs.define
class Rolling:
    """Three servers, and a load that knows where they were first."""

    directory: Path
    cluster: ServerProcesses
    client: Client
    load: Load
    clients_at: dict[NodeId, Address]

    async def stop(self, node_id: NodeId) -> None:
        """It leaves, as `systemctl stop` has it do."""
        self.cluster.servers[node_id].signal(signal.SIGTERM)
        assert await trio.to_thread.run_sync(self.cluster.servers[node_id].wait) == 0

    async def start(self, node_id: NodeId, *words: str) -> None:
        """Start it, with these options in the place of what it had, and wait until it serves."""
        self.cluster.arguments[node_id] = with_options(self.cluster.arguments[node_id], words)
        server = self.cluster.servers[node_id] = ServerProcess(
            self.cluster.arguments[node_id], self.directory / f"{node_id}.log", f"server {node_id}"
        )
        server.start()
        await trio.to_thread.run_sync(server.wait_ready)

    async def restart(self, node_id: NodeId, *words: str) -> None:
        """One member's turn, from its end to where the next one may come."""
        await self.stop(node_id)
        await self.load.goes_on()
        await self.start(node_id, *words)
        await self.caught_up(node_id)
        await self.load.goes_on()

    async def caught_up(self, node_id: NodeId) -> None:
        """As docs/moving.md says: it is ready, and has what the leader had committed."""
        address = shown(self.clients_at[node_id])
        check = partial(run, "admin", "status", "--check", "ready", "--address", address)
        with trio.fail_after(PATIENCE_S):
            while (await trio.to_thread.run_sync(check)).exit_code != 0:  # noqa: ASYNC110 - processes
                await trio.sleep(LOOK_S)
            wanted = max(each["commit_index"] for each in (await self.statuses()).values())
            while (await self.status(node_id))["applied_index"] < wanted:  # noqa: ASYNC110 - likewise
                await trio.sleep(LOOK_S)

    async def status(self, node_id: NodeId) -> dict[str, Any]:
        """What it says of itself."""
        status = await self.client.status(self.clients_at[node_id])
        return {
            "applied_index": status.applied_index,
            "commit_index": status.commit_index,
            "leader_id": status.leader_id,
            "incarnation": status.incarnation,
            "voters": status.configuration.voters,
            "addresses": status.configuration.addresses,
        }

    async def statuses(self) -> dict[NodeId, dict[str, Any]]:
        return {node_id: await self.status(node_id) for node_id in IDS}

    async def admin(self, *words: str) -> list[str]:
        """A command, by way of all servers that the operator knows of."""
        at = [word for each in self.clients_at.values() for word in ("--address", shown(each))]
        return lines(await trio.to_thread.run_sync(partial(run, "admin", *words, *at)))

    async def replace(self, node_id: NodeId) -> None:
        """Give it its vote with an empty disk; again, as long as the leader has not met it."""
        at = [word for each in self.clients_at.values() for word in ("--address", shown(each))]
        command = partial(run, "admin", "replace", node_id, *at)
        with trio.fail_after(PATIENCE_S):
            while (done := await trio.to_thread.run_sync(command)).exit_code != 0:
                assert "was not seen" in done.output, done.output
                await trio.sleep(LOOK_S)
        assert lines(done)[0].startswith(f"{node_id} is a voter with its new disk since index ")

    async def order(self) -> list[NodeId]:
        """Whoever leads comes last: so it hands over once."""
        leader = (await self.client.status()).leader_id
        return sorted(IDS, key=lambda node_id: node_id == leader)


def with_options(arguments: Sequence[str], words: Sequence[str]) -> list[str]:
    """The command line with these options instead of those of the same name."""
    given = dict(zip(words[::2], words[1::2], strict=True))
    kept = [*arguments]
    for option in given:
        while option in kept:
            at = kept.index(option)
            del kept[at : at + 2]
    return [*kept, *words]


@asynccontextmanager
async def rolling(directory: Path) -> AsyncIterator[Rolling]:
    with ServerProcesses(directory) as cluster:
        await trio.to_thread.run_sync(cluster.start)
        async with (
            Client(cluster.clients, error_types=ERROR_TYPES) as client,
            under_load(client) as load,
        ):
            yield Rolling(directory, cluster, client, load, dict(cluster.clients))


async def test_all_are_restarted(tmp_path: Path) -> None:
    """For a new kernel, say, or a new release."""
    async with rolling(tmp_path) as servers:
        for node_id in await servers.order():
            await servers.restart(node_id)


async def test_all_get_other_addresses(tmp_path: Path) -> None:
    """The load was told of the first ones only; by the end nobody is there any more."""
    async with rolling(tmp_path) as servers:
        before = dict(servers.clients_at)
        for node_id in await servers.order():
            with free_ports(2) as (peers, clients):
                at = ["--listen", shown(peers), "--client-listen", shown(clients)]
            servers.clients_at[node_id] = clients
            await servers.stop(node_id)
            servers.cluster.arguments[node_id] = without_own_entry(
                servers.cluster.arguments[node_id], node_id
            )
            await servers.start(node_id, *at)
            await servers.caught_up(node_id)
            said = await servers.admin("move", node_id, shown(peers))
            assert said[0].startswith(f"{node_id}, a voter, is reached at {shown(peers)} since ")
            await servers.load.goes_on()
        for status in (await servers.statuses()).values():
            assert set(status["addresses"]) == set(IDS)
        assert not set(before.values()) & set(servers.clients_at.values())


def without_own_entry(arguments: Sequence[str], node_id: NodeId) -> list[str]:
    """A member's own entry among the peers would contradict where it listens now."""
    kept = [*arguments]
    for at, word in enumerate(kept):
        if word == "--peer" and kept[at + 1].startswith(f"{node_id}="):
            return [*kept[:at], *kept[at + 2 :]]
    return kept


async def test_all_get_another_timing(tmp_path: Path) -> None:
    """Up, as for members that move apart, and down again: two timings at once meanwhile."""
    longer = ("--election-timeout", "400ms-800ms", "--heartbeat", "100ms")
    shorter = ("--election-timeout", "150ms-300ms", "--heartbeat", "50ms")
    async with rolling(tmp_path) as servers:
        for timing in (longer, shorter):
            for node_id in await servers.order():
                await servers.restart(node_id, *timing)
                log = (tmp_path / f"{node_id}.log").read_text(encoding="utf-8")
                low, high = timing[1].replace("ms", "").split("-")
                assert f"election timeouts of {low}-{high} ms suit" in log


async def test_all_get_other_disks_with_what_was_on_the_old_ones(tmp_path: Path) -> None:
    """A copy, of a server that was stopped, goes on where that was: the same disk to the others."""
    async with rolling(tmp_path) as servers:
        before = await servers.statuses()
        for node_id in await servers.order():
            old, new = tmp_path / node_id, tmp_path / f"new-{node_id}"
            await servers.stop(node_id)
            await trio.to_thread.run_sync(shutil.copytree, old, new)
            await trio.to_thread.run_sync(shutil.rmtree, old)
            await servers.start(node_id, "--data", str(new))
            await servers.caught_up(node_id)
            await servers.load.goes_on()
        for node_id, status in (await servers.statuses()).items():
            assert status["incarnation"] == before[node_id]["incarnation"]


async def test_all_get_empty_disks(tmp_path: Path) -> None:
    """Where the old one cannot be read: the others send all of it, and then it has its vote."""
    async with rolling(tmp_path) as servers:
        before = await servers.statuses()
        for node_id in await servers.order():
            await servers.stop(node_id)
            await trio.to_thread.run_sync(shutil.rmtree, tmp_path / node_id)
            await servers.start(node_id)
            await servers.replace(node_id)
            await servers.caught_up(node_id)
            await servers.load.goes_on()
        for node_id, status in (await servers.statuses()).items():
            assert status["incarnation"] != before[node_id]["incarnation"]
            assert set(status["voters"]) == set(IDS)
