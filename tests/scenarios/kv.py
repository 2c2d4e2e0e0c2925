"""The scenarios of the key-value service, as stories over a cluster and its clients;
`tests/test_kv_scenarios.py` and `python -m tests.many_seeds --group kv` tell them.

Rules of this file: as in `elections`; here stands what needs code. Clients have sessions:
what they ask for happens once, however often they have to ask.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import trio

from tests.scenarios.texts import played
from trioraft.kv import Swapped
from trioraft.testing.kv_cluster import KvCluster, Open, open_kv

Scenario: TypeAlias = Callable[[Open], Awaitable[None]]

CLIENTS: Final = 9


async def followers(kv: KvCluster) -> tuple[str, list[str]]:
    """The leader, and the others."""
    leader, _ = await kv.cluster.check_single_leader()
    return leader, [node_id for node_id in kv.cluster.ids if node_id != leader]


async def everywhere(kv: KvCluster, key: str, value: bytes | None) -> None:
    """Wait until every connected node has this value; None: until none has any."""
    cluster = kv.cluster
    await cluster.wait(
        lambda: all(kv.value_at(node_id, key) == value for node_id in cluster.nodes),
        f"{key!r} to be {value!r} on all nodes",
    )


async def cas_concurrent(open_cluster: Open) -> None:
    """Of many that expect the same, one gets its way."""
    async with open_kv(open_cluster, 3) as kv, kv.client() as first:
        await first.put("lock", "free")
        won: list[int] = []

        async def contender(number: int) -> None:
            async with kv.client() as client:
                swapped: Swapped = await client.cas("lock", "free", str(number))
                if swapped.swapped:
                    won.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(CLIENTS):
                nursery.start_soon(contender, number)
        assert len(won) == 1
        assert await first.get("lock") == str(won[0]).encode()


async def _concurrent_clients(open_cluster: Open, size: int) -> None:
    async with open_kv(open_cluster, size) as kv:

        async def writer_and_reader(number: int) -> None:
            async with kv.client() as client:
                await client.put(f"key {number}", f"value {number}")
                assert await client.get(f"key {number}") == f"value {number}".encode()

        async with trio.open_nursery() as nursery:
            for number in range(CLIENTS):
                nursery.start_soon(writer_and_reader, number)
        async with kv.client() as client:
            pairs = [(pair.key, pair.value) async for pair in client.range("key ")]
        assert pairs == [
            (f"key {number}".encode(), f"value {number}".encode()) for number in range(CLIENTS)
        ]


async def concurrent_clients_of_three(open_cluster: Open) -> None:
    """Many clients write and read at the same time."""
    await _concurrent_clients(open_cluster, 3)


async def concurrent_clients_of_five(open_cluster: Open) -> None:
    """The same with five servers."""
    await _concurrent_clients(open_cluster, 5)


PLAYED: Final = (
    "kv_request_before_consensus",
    "kv_put_and_get_of_one_client",
    "kv_put_tells_the_previous_value",
    "kv_put_and_get_of_different_clients",
    "kv_cas_basic",
    "kv_leader_disconnected_after_puts",
    "kv_leader_and_follower_disconnected",
    "kv_crash_follower",
    "kv_crash_leader",
    "kv_crash_then_restart_leader",
    "kv_append_basic",
    "kv_append_after_delay",
    "kv_append_after_crash",
    "kv_append_through_different_leaders",
)
"""Those that the package ships as texts."""
SCENARIOS: Final[dict[str, Scenario]] = {
    **{name: played(name) for name in PLAYED},
    "kv_cas_concurrent": cas_concurrent,
    "kv_concurrent_clients_of_three": concurrent_clients_of_three,
    "kv_concurrent_clients_of_five": concurrent_clients_of_five,
}
