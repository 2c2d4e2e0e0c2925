"""The scenarios of the key-value service, as stories over a cluster and its clients;
`tests/test_kv_scenarios.py` and `python -m tests.many_seeds --group kv` tell them.

Rules of this file: as in `elections`. Clients have sessions: what they ask for happens once,
however often they have to ask.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import trio

from tests.scenarios.kv_cluster import KvCluster, Open, open_kv
from trioraft.kv import KvClient, Swapped

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


async def request_before_consensus(open_cluster: Open) -> None:
    """A client that comes before there is a leader waits for one."""
    async with open_kv(open_cluster, 3) as kv, kv.client() as client:
        assert not any(node.status.leader_id for node in kv.cluster.nodes.values())
        await client.put("x", "1")
        assert await client.get("x") == b"1"


async def put_and_get_of_one_client(open_cluster: Open) -> None:
    """What was put is what is read, and only that."""
    async with open_kv(open_cluster, 3) as kv, kv.client() as client:
        await client.put("city", "Turin")
        assert await client.get("city") == b"Turin"
        assert await client.get("town") is None
        await everywhere(kv, "city", b"Turin")


async def put_tells_the_previous_value(open_cluster: Open) -> None:
    """Every write can say what it replaced."""
    async with open_kv(open_cluster, 3) as kv, kv.client() as client:
        first = await client.put("x", "1", wants_previous=True)
        second = await client.put("x", "2", wants_previous=True)
        third = await client.delete("x", wants_previous=True)
        assert (first.existed, first.previous) == (False, None)
        assert (second.existed, second.previous) == (True, b"1")
        assert (third.existed, third.previous) == (True, b"2")


async def put_and_get_of_different_clients(open_cluster: Open) -> None:
    """One writes, another reads at once, whichever server it knows."""
    async with open_kv(open_cluster, 3) as kv:
        leader, others = await followers(kv)
        async with kv.client(others[0]) as one, kv.client(others[1], leader) as other:
            await one.put("k", "v")
            assert await other.get("k") == b"v"
            await other.put("k", "w")
            assert await one.get("k") == b"w"


async def cas_basic(open_cluster: Open) -> None:
    """Compare-and-set writes only over what it expects."""
    async with open_kv(open_cluster, 3) as kv, kv.client() as client:
        assert (await client.cas("k", "v", "w")).found is None
        assert (await client.cas("k", None, "v")).swapped
        refused = await client.cas("k", "x", "w")
        assert (refused.swapped, refused.found) == (False, b"v")
        assert (await client.cas("k", "v", "w")).swapped
        assert await client.get("k") == b"w"


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


async def leader_disconnected_after_puts(open_cluster: Open) -> None:
    """What was put is there under the next leader, and when the old one is back."""
    async with open_kv(open_cluster, 5) as kv, kv.client() as client:
        for number in range(5):
            await client.put(f"key {number}", str(number))
        leader, _ = await kv.cluster.check_single_leader()
        kv.cluster.disconnect(leader)
        await kv.cluster.check_single_leader()
        for number in range(5):
            assert await client.get(f"key {number}") == str(number).encode()
        kv.cluster.reconnect(leader)
        await client.put("after", "all")
        await everywhere(kv, "after", b"all")
        assert kv.value_at(leader, "key 4") == b"4"


async def leader_and_follower_disconnected(open_cluster: Open) -> None:
    """Two of five may be away; with a third one gone calls wait, and go on when it is back."""
    async with open_kv(open_cluster, 5) as kv, kv.client() as client:
        await client.put("k", "1")
        leader, others = await followers(kv)
        kv.cluster.disconnect(leader)
        kv.cluster.disconnect(others[0])
        await client.put("k", "2")
        assert await client.get("k") == b"2"
        kv.cluster.disconnect(others[1])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_put, client, "k", "3")
            await trio.sleep(1)
            assert b"3" not in [kv.value_at(node_id, "k") for node_id in kv.cluster.ids]
            kv.cluster.reconnect(others[1])
        assert await client.get("k") == b"3"


async def crash_follower(open_cluster: Open) -> None:
    """A crashed follower is not needed; clients that knew only it find no one, others go on."""
    async with open_kv(open_cluster, 3) as kv, kv.client() as client:
        await client.put("k", "1")
        _, others = await followers(kv)
        await kv.crash(others[0])
        assert await client.get("k") == b"1"
        await client.put("k", "2")
        async with kv.client(others[1]) as newcomer:
            assert await newcomer.get("k") == b"2"


async def crash_leader(open_cluster: Open) -> None:
    """Another takes over with all that was acknowledged."""
    async with open_kv(open_cluster, 3) as kv, kv.client() as client:
        for number in range(3):
            await client.put(f"key {number}", str(number))
        leader, _ = await kv.cluster.check_single_leader()
        await kv.crash(leader)
        for number in range(3):
            assert await client.get(f"key {number}") == str(number).encode()
        await client.put("key 3", "3")
        assert await client.get("key 3") == b"3"


async def crash_then_restart_leader(open_cluster: Open) -> None:
    """The old leader comes back, and knows what it missed."""
    async with open_kv(open_cluster, 3) as kv, kv.client() as client:
        await client.put("k", "1")
        leader, _ = await kv.cluster.check_single_leader()
        await kv.crash(leader)
        await client.put("k", "2")
        await kv.restart(leader)
        await everywhere(kv, "k", b"2")
        assert await client.get("k") == b"2"


async def append_basic(open_cluster: Open) -> None:
    """Appending continues what is there, and begins what is not."""
    async with open_kv(open_cluster, 3) as kv, kv.client() as client:
        await client.put("x", "1")
        assert (await client.append("x", "2", wants_previous=True)).previous == b"1"
        assert not (await client.append("y", "a")).existed
        await client.append("y", "b")
        assert await client.get("x") == b"12"
        assert await client.get("y") == b"ab"


async def append_after_delay(open_cluster: Open) -> None:
    """The answer is late: the client asks again, others see one append and never a second."""
    async with open_kv(open_cluster, 3) as kv, kv.client() as client, kv.client() as other:
        await client.put("k", "a")
        leader, _ = await kv.cluster.check_single_leader()
        kv.hold_answers(leader)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_append, client, "k", "b")
            await kv.cluster.wait(
                lambda: kv.value_at(leader, "k") == b"ab", "the append to be applied"
            )
            await trio.sleep(5)  # long enough for several attempts
            kv.release_answers(leader)
        await other.append("k", "c")
        assert await client.get("k") == b"abc"
        await everywhere(kv, "k", b"abc")


async def append_after_crash(open_cluster: Open) -> None:
    """The leader crashes between doing it and saying so; asked again, its successor does not do it
    a second time."""
    async with open_kv(open_cluster, 3) as kv, kv.client() as client:
        await client.put("k", "a")
        leader, others = await followers(kv)
        kv.hold_answers(leader)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_append, client, "k", "b")
            await kv.cluster.wait(
                lambda: any(kv.value_at(node_id, "k") == b"ab" for node_id in others),
                "the append to be applied by a follower",
            )
            await kv.crash(leader)
        assert await client.get("k") == b"ab"
        await kv.restart(leader)
        await everywhere(kv, "k", b"ab")


async def append_through_different_leaders(open_cluster: Open) -> None:
    """Leader after leader is cut off from the others while a client appends through it; every
    append is there once, in order."""
    async with open_kv(open_cluster, 5) as kv, kv.client() as client:
        expected = b""
        for number in range(3):
            leader, _ = await kv.cluster.check_single_leader()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_append, client, "k", str(number))
                kv.cluster.disconnect(leader)
            expected += str(number).encode()
            assert await client.get("k") == expected
            kv.cluster.reconnect(leader)
            await everywhere(kv, "k", expected)


async def _put(client: KvClient, key: str, value: str) -> None:
    await client.put(key, value)


async def _append(client: KvClient, key: str, value: str) -> None:
    await client.append(key, value)


SCENARIOS: Final[dict[str, Scenario]] = {
    "kv_request_before_consensus": request_before_consensus,
    "kv_put_and_get_of_one_client": put_and_get_of_one_client,
    "kv_put_tells_the_previous_value": put_tells_the_previous_value,
    "kv_put_and_get_of_different_clients": put_and_get_of_different_clients,
    "kv_cas_basic": cas_basic,
    "kv_cas_concurrent": cas_concurrent,
    "kv_concurrent_clients_of_three": concurrent_clients_of_three,
    "kv_concurrent_clients_of_five": concurrent_clients_of_five,
    "kv_leader_disconnected_after_puts": leader_disconnected_after_puts,
    "kv_leader_and_follower_disconnected": leader_and_follower_disconnected,
    "kv_crash_follower": crash_follower,
    "kv_crash_leader": crash_leader,
    "kv_crash_then_restart_leader": crash_then_restart_leader,
    "kv_append_basic": append_basic,
    "kv_append_after_delay": append_after_delay,
    "kv_append_after_crash": append_after_crash,
    "kv_append_through_different_leaders": append_through_different_leaders,
}
