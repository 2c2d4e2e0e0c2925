"""etcd's concurrency recipes on the key-value service: mutex, election, STM, leases; as stories.

Rules of this file: as in `kv`. What two could do at once is looked at where it would show: in what
they read and write through the same cluster, with the token of whoever holds the lock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from tests.scenarios.kv import Scenario, everywhere, followers
from trioraft.core.errors import RaftError
from trioraft.kv import Do, Elected, Found, If, KvClient, KvGrant, Lease, Stm
from trioraft.structures import LockLost
from trioraft.testing import History, Transactions, check_linearizable
from trioraft.testing.kv_cluster import KvCluster, Open, open_kv

CONTENDERS: Final = 6
TTL_S: Final = 5.0
ACCOUNTS: Final = ("alice", "bob", "carol")


async def _contend(
    kv: KvCluster, body: Callable[[KvClient, KvGrant], Awaitable[None]], rounds: int = 1
) -> list[int]:
    """All take the lock, one after the other; returns the tokens in the order of the holders."""
    tokens: list[int] = []
    inside = 0

    async def contender() -> None:
        nonlocal inside
        async with kv.client() as client:
            for _ in range(rounds):
                async with client.lock("mutex", ttl_s=60) as grant:
                    inside += 1
                    assert inside == 1, "two hold the lock"
                    tokens.append(grant.token)
                    await body(client, grant)
                    inside -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(CONTENDERS):
            nursery.start_soon(contender)
    return tokens


async def mutex_has_one_holder(open_cluster: Open) -> None:
    """One after the other, in the order in which they came; nothing that they count is lost."""
    async with open_kv(open_cluster, 3) as kv:

        async def read_and_write(client: KvClient, grant: KvGrant) -> None:
            number = int(await client.get("number") or 0)
            await trio.sleep(0.1)
            await client.put("number", str(number + 1))

        tokens = await _contend(kv, read_and_write, rounds=2)
        assert tokens == sorted(tokens), "somebody was overtaken"
        async with kv.client() as client:
            assert await client.get("number") == str(2 * CONTENDERS).encode()
            assert await client.count("mutex/") == 0


async def mutex_over_a_change_of_leaders(open_cluster: Open) -> None:
    """The holder keeps the lock while the leader goes, and who waits gets it."""
    async with open_kv(open_cluster, 3) as kv:
        crashed: list[str] = []

        async def outlive(client: KvClient, grant: KvGrant) -> None:
            if not crashed:
                leader, _ = await followers(kv)
                crashed.append(leader)
                await kv.crash(leader)
            await client.put("last", str(grant.token))

        tokens = await _contend(kv, outlive)
        assert len(set(tokens)) == CONTENDERS
        await kv.restart(crashed[0])


async def mutex_of_a_client_that_vanishes(open_cluster: Open) -> None:
    """Its lease is over after a while, never before, and the next one gets the lock."""
    async with open_kv(open_cluster, 3) as kv, kv.client() as client:
        lease = await client.grant(TTL_S, prefix="mutex/")  # as one that never renews it
        await client.put(f"mutex/{lease.lease_id:016x}", "gone", lease=lease)
        begun_s = trio.current_time()
        async with client.lock("mutex", ttl_s=60) as grant:
            waited_s = trio.current_time() - begun_s
            assert grant.token > lease.lease_id
        assert TTL_S - 1 <= waited_s <= TTL_S + 15, waited_s


async def mutex_whose_lease_is_revoked(open_cluster: Open) -> None:
    """Its holder is cancelled, and told why."""
    async with open_kv(open_cluster, 3) as kv, kv.client() as client:
        lost = False
        try:
            async with client.lock("mutex", ttl_s=6) as grant:
                await client.delete_range("mutex/")  # this alone it does not notice
                await client.txn(then=[Do.put("x", "")])
                async with kv.client() as other:
                    await other.revoke(Lease(grant.lease_id, 6, b"mutex/"))
                await trio.sleep(60)
        except LockLost:
            lost = True
        assert lost
        assert grant.is_lost


async def election_of_one(open_cluster: Open) -> None:
    """One leads; who observes sees each in turn, and what they proclaim."""
    async with open_kv(open_cluster, 3) as kv, kv.client() as client, kv.client() as observer:
        seen = observer.observe("chief")

        async def until_seen(wanted: Elected | None) -> None:
            with trio.fail_after(120):
                async for elected in seen:
                    if elected == wanted:
                        return

        async with client.elect("chief", value="one", ttl_s=60) as first:
            await until_seen(Elected(b"one", first.token))
            await first.proclaim("one, still")
            await until_seen(Elected(b"one, still", first.token))
        await until_seen(None)
        async with client.elect("chief", value="two", ttl_s=60) as second:
            await until_seen(Elected(b"two", second.token))
        assert second.token > first.token
        try:
            await first.proclaim("not any more")
        except LockLost:
            return
        raise AssertionError("who resigned can still proclaim")


async def leases_over_a_change_of_leaders(open_cluster: Open) -> None:
    """A key lasts as long as its lease is renewed, whoever leads, and goes when it is not."""
    async with open_kv(open_cluster, 3) as kv, kv.client() as client:
        async with client.lease(TTL_S) as lease:
            await client.put("here", "yes", lease=lease)
            for _ in range(2):
                leader, _ = await followers(kv)
                await kv.crash(leader)
                await trio.sleep(TTL_S * 1.5)
                assert await client.get("here") == b"yes"
                await kv.restart(leader)
        assert await client.get("here") is None
        brief = await client.grant(TTL_S)
        put_s = trio.current_time()
        await client.put("brief", "1", lease=brief)
        await client.put("short", "1", ttl_s=TTL_S)
        leader, _ = await followers(kv)
        await kv.crash(leader)
        for key in ("brief", "short"):
            await everywhere(kv, key, None)
        gone_s = trio.current_time() - put_s
        assert gone_s >= TTL_S - 0.01, f"gone after {gone_s} s"
        await kv.restart(leader)


async def stm_keeps_the_sum(open_cluster: Open) -> None:
    """Whoever pays whom: nothing is lost, nothing is made, and nobody sees it half done."""
    async with open_kv(open_cluster, 3) as kv, kv.client() as teller:
        await teller.txn(then=[Do.put(account, "100") for account in ACCOUNTS])

        async def pay(keys: Stm, payer: str, payee: str) -> None:
            paid = int(await keys.get(payer) or 0) - 10
            received = int(await keys.get(payee) or 0) + 10
            keys.put(payer, str(paid))
            keys.put(payee, str(received))

        async def customer(number: int) -> None:
            payer, payee = ACCOUNTS[number % 3], ACCOUNTS[(number + 1) % 3]
            async with kv.client() as client:
                for _ in range(3):
                    await client.stm(lambda keys: pay(keys, payer, payee), attempts_max=100)

        async with trio.open_nursery() as nursery:
            for number in range(CONTENDERS):
                nursery.start_soon(customer, number)
            for _ in range(5):
                done = await teller.txn(then=[Do.get(account) for account in ACCOUNTS])
                found = [each.value for each in done.results if isinstance(each, Found)]
                assert sum(int(value or b"0") for value in found) == 300
                await trio.sleep(0.2)
        total = sum([int(await teller.get(account) or 0) for account in ACCOUNTS])
        assert total == 300


async def transactions_are_linearizable(open_cluster: Open) -> None:
    """Of transactions over the same keys, while leaders come and go: as if one did them all."""
    history = History()
    async with open_kv(open_cluster, 3) as kv:
        stop = trio.Event()

        async def caller(number: int) -> None:
            name = f"c{number}"
            async with kv.client() as client:
                for turn in range(12):
                    await _transact(history, client, name, turn)
                    await trio.sleep(0.05)

        async def trouble() -> None:
            while not stop.is_set():
                await trio.sleep(0.4)
                leader, _ = await followers(kv)
                await kv.crash(leader)
                await trio.sleep(0.4)
                await kv.restart(leader)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trouble)
            async with trio.open_nursery() as callers:
                for number in range(4):
                    callers.start_soon(caller, number)
            stop.set()
    assert check_linearizable(history, Transactions(), 60)


async def _transact(history: History, client: KvClient, name: str, turn: int) -> None:
    first, second = ("x", "y") if turn % 2 else ("y", "x")
    word = f"{name}.{turn}"
    seen = ((await client.get(first)) or b"").decode() or None
    call = Transactions.Do(
        compares={first: seen}, writes={first: word, second: word}, reads=(first, second)
    )
    condition = If.absent(first) if seen is None else If.equals(first, seen)
    reads = [Do.get(first), Do.get(second)]
    try:
        with history.operation(name, call) as operation:
            done = await client.txn(
                if_=[condition],
                then=[Do.put(first, word), Do.put(second, word), *reads],
                else_=reads,
            )
            values = [found.value for found in done.results[-2:]]  # type: ignore[union-attr] # of gets
            texts = tuple(None if value is None else value.decode() for value in values)
            operation.ok((done.succeeded, texts))
    except RaftError:
        return


SCENARIOS: Final[dict[str, Scenario]] = {
    "kv_mutex_has_one_holder": mutex_has_one_holder,
    "kv_mutex_over_a_change_of_leaders": mutex_over_a_change_of_leaders,
    "kv_mutex_of_a_client_that_vanishes": mutex_of_a_client_that_vanishes,
    "kv_mutex_whose_lease_is_revoked": mutex_whose_lease_is_revoked,
    "kv_election_of_one": election_of_one,
    "kv_leases_over_a_change_of_leaders": leases_over_a_change_of_leaders,
    "kv_stm_keeps_the_sum": stm_keeps_the_sum,
    "kv_transactions_are_linearizable": transactions_are_linearizable,
}
