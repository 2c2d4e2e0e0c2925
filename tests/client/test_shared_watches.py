"""Subscriptions of one client that share a connection: each has its own pace, and its own end."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any

import anyio
import pytest
import trio
from trio.testing import MockClock

from tests.client.service_support import Appends, client_of, raw_client, serving, until
from tests.client.support import (
    FakeServer,
    Hang,
    address_of,
    echo,
    ends,
    failure,
    open_client,
    open_network,
)
from tests.client.test_asyncio import on_asyncio
from trioraft import BlockingClient, Client, Service, ServiceLimits
from trioraft.client import watches
from trioraft.client.watches import SUBSCRIPTION_SILENCE_S, WATCHES_MAX, WINDOW_BYTES
from trioraft.machines.sessions import CommandFailed
from trioraft.rpc.errors import ClientClosed, HandshakeRefused, ServerLeaving, ServerLost
from trioraft.rpc.protocol import (
    ITEM_BYTES,
    MAGIC,
    PROTOCOL,
    WINDOWS,
    Answer,
    Cancel,
    GoingAway,
    Item,
    Ping,
    Propose,
    Request,
    Result,
    Take,
    Watch,
    Welcome,
    encode_value,
)

ITEM = 1000
"""Bytes of an item of which there are many."""
WEIGHT = ITEM + 3 + ITEM_BYTES
"""What one of them counts in a window."""


def tells_what_is_watched(server: FakeServer, request: Request) -> Answer:
    """The first item says what was asked for."""
    if isinstance(request, Watch):
        return Item(request.id, encode_value(request.data))
    return echo(server, request)


def tells_nothing(server: FakeServer, request: Request) -> Answer:
    if isinstance(request, Watch):
        raise Hang
    return echo(server, request)


def a_server(**options: Any) -> FakeServer:
    return FakeServer("0", "Leader", handler=tells_what_is_watched, **options)


def requests_of(server: FakeServer, kind: type[Any]) -> list[Any]:
    return [request for request in server.requests if isinstance(request, kind)]


def one(server: FakeServer) -> Any:
    """Where to watch: by address, so that nothing but subscriptions is connected."""
    return address_of(server)


@asynccontextmanager
async def several(
    client: Client, server: FakeServer, count: int
) -> AsyncIterator[list[AsyncIterator[Any]]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(client.watch(b"%d" % number, at=one(server)))
            for number in range(count)
        ]


# -- one connection ------------------------------------------------------------------------


async def test_they_share_one_which_is_there_from_the_first_to_the_last(
    autojump_clock: MockClock,
) -> None:
    server = a_server()
    async with open_network(server) as (client, network):
        async with several(client, server, 3) as all_items:
            assert [await ends(anext(items)) for items in all_items] == [b"0", b"1", b"2"]
            async with client.watch(b"3", at=one(server)) as items:
                assert await ends(anext(items)) == b"3"
            assert [stream.is_closed for stream in network.made] == [False]
        await trio.testing.wait_all_tasks_blocked()
        assert [stream.is_closed for stream in network.made] == [True]
        async with client.watch(b"4", at=one(server)) as items:
            assert await ends(anext(items)) == b"4"
        assert len(network.made) == 2
    assert {request.window_bytes for request in requests_of(server, Watch)} == {WINDOW_BYTES}


async def test_all_that_begin_at_once_wait_for_the_same_attempt(autojump_clock: MockClock) -> None:
    server = a_server(round_trip_s=0.1)
    told: list[bytes] = []
    together = trio.Event()

    async def watch(client: Client, number: int) -> None:
        async with client.watch(b"%d" % number, at=one(server)) as items:
            told.append(await anext(items))
            if len(told) == 20:
                together.set()
            await together.wait()

    async with open_network(server) as (client, network), trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(watch, client, number)
        nursery.start_soon(ends, together.wait())
    assert sorted(told) == sorted(b"%d" % number for number in range(20))
    assert len(network.made) == 1


@pytest.mark.parametrize("seed", range(4))
async def test_whoever_gives_up_while_it_is_made_takes_it_from_nobody(
    seed: int, autojump_clock: MockClock
) -> None:
    """And if all do, it is closed."""
    rng = random.Random(seed)
    server = a_server(round_trip_s=0.1)

    async def watch(client: Client, patience_s: float, held_s: float) -> None:
        with trio.move_on_after(patience_s) as waiting:
            async with client.watch(b"x", at=one(server)) as items:
                waiting.deadline = float("inf")
                assert await ends(anext(items)) == b"x"
                await trio.sleep(held_s)

    async with open_network(server) as (client, network):
        for stays in (True, False):
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    patience_s = rng.choice([0.02, 0.0999, 0.1, 0.1001, *([1.0] if stays else [])])
                    nursery.start_soon(watch, client, patience_s, rng.uniform(0, 0.2))
            await trio.sleep(0.5)
            assert all(stream.is_closed for stream in network.made), f"seed {seed}"


async def test_an_attempt_that_fails_fails_for_all(autojump_clock: MockClock) -> None:
    server = a_server()
    server.is_unreachable = True
    failed: list[BaseException] = []

    async def watch(client: Client) -> None:
        with pytest.raises(ServerLost, match="no answer within 2 s") as caught:
            async with client.watch(b"x", at=one(server)):
                pass
        failed.append(caught.value)

    async with open_network(server) as (client, network):
        begun_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(watch, client)
        assert trio.current_time() - begun_s == pytest.approx(2.0)
        assert len(network.names) == 1
        assert len({id(error) for error in failed}) == 10  # a traceback belongs to one of them


async def test_a_refusal_is_told_as_it_is(autojump_clock: MockClock) -> None:
    server = a_server(welcome=Welcome(MAGIC, PROTOCOL[1], "cluster", "this is blue"))
    async with open_client(server) as client:
        with pytest.raises(HandshakeRefused, match="this is blue"):
            async with client.watch(b"x", at=one(server)):
                pass


async def test_beyond_so_many_there_is_another(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "WATCHES_MAX", 3)
    server = a_server()
    async with open_network(server) as (client, network), several(client, server, 7) as all_items:
        assert [await ends(anext(items)) for items in all_items] == [b"%d" % n for n in range(7)]
        assert len(network.made) == 3


async def test_another_server_than_was_meant_is_left(autojump_clock: MockClock) -> None:
    server = a_server(welcome=Welcome(MAGIC, PROTOCOL[1], node_id="7"))
    async with open_network(server, given=(server,)) as (client, network):
        client._servers._met_at["0"] = address_of(server)  # where it was once
        with pytest.raises(ServerLost, match=r"is '7', not '0'|nobody knows where"):
            async with client.watch(b"x", at="0"):
                pass
        await trio.sleep(1.0)
        streams = [stream for stream in network.made if not stream.is_closed]
        assert len(streams) <= 1  # the one for calls


async def test_what_a_server_would_not_read_costs_the_others_nothing(
    autojump_clock: MockClock,
) -> None:
    server = a_server()
    async with (
        open_network(server) as (client, network),
        client.watch(b"x", at=one(server)),
        client.watch(bytes(20_000), at=one(server)),
    ):
        await trio.testing.wait_all_tasks_blocked()
        assert len(network.made) == 2
    assert [(r.id, r.window_bytes) for r in requests_of(server, Watch)] == [
        (1, WINDOW_BYTES),
        (1, 0),
    ]


async def test_a_client_that_is_not_open_watches_nothing(autojump_clock: MockClock) -> None:
    server = a_server()
    async with open_client(server) as client, client.watch(b"x", at=one(server)) as items:
        await anext(items)
    with pytest.raises(ClientClosed):
        async with client.watch(b"x", at=one(server)):
            pass


# -- each its own end ----------------------------------------------------------------------


async def test_the_end_of_one_is_not_the_others(autojump_clock: MockClock) -> None:
    """Its owner's, the server's, or an error; what is late for it is dropped."""
    server = a_server()
    async with open_network(server) as (client, network), several(client, server, 3) as all_items:
        for items in all_items:
            await ends(anext(items))
        async with client.watch(b"3", at=one(server)) as items:
            await ends(anext(items))
        await trio.testing.wait_all_tasks_blocked()
        assert requests_of(server, Cancel) == [Cancel(4)]
        await server.tell(Item(4, encode_value("late")))
        await server.tell(Item(1, encode_value("last")))
        await server.tell(Result(1, encode_value(None)))
        await server.tell(failure(Ping(2), "command", "as told", type_name="X"))
        await server.tell(Item(3, encode_value("news")))
        assert [item async for item in all_items[0]] == ["last"]
        with pytest.raises(StopAsyncIteration):
            await anext(all_items[0])
        with pytest.raises(CommandFailed, match="as told"):
            await ends(anext(all_items[1]))
        assert await ends(anext(all_items[2])) == "news"
        assert len(network.made) == 1


@pytest.mark.parametrize(
    ("farewell", "error", "words"),
    [
        (None, ServerLost, "127.0.0.1:4000: it closed the connection"),
        (GoingAway(), ServerLeaving, "127.0.0.1:4000 is shutting down: subscribe elsewhere"),
        (GoingAway("too many"), ServerLost, "4000 ended it: 'too many'; subscribe again"),
        (Item(9, encode_value(1)), ServerLost, "a piece of a subscription that nobody has"),
        (Result(9, encode_value(1)), ServerLost, "a piece of a subscription that nobody has"),
    ],
)
async def test_the_end_of_the_connection_is_the_end_of_all(
    farewell: Answer | None, error: type[Exception], words: str, autojump_clock: MockClock
) -> None:
    """After what had come before it; and it is the same when they are asked again."""
    server = a_server()
    async with open_network(server) as (client, network):
        async with several(client, server, 3) as all_items:
            await trio.testing.wait_all_tasks_blocked()
            if farewell is None:
                server.hang_up()
            else:
                await server.tell(farewell)
            for number, items in enumerate(all_items):
                assert await ends(anext(items)) == b"%d" % number
                for _ in range(2):
                    with pytest.raises(error, match=words):
                        await ends(anext(items))
            await trio.testing.wait_all_tasks_blocked()
            assert network.made[0].is_closed
            server.streams.clear()
            async with client.watch(b"again", at=one(server)) as items:
                assert await ends(anext(items)) == b"again"
        assert len(network.made) == 2


async def test_a_server_that_is_silent_is_asked_once_for_all(autojump_clock: MockClock) -> None:
    server = a_server()
    async with open_client(server) as client, several(client, server, 3) as all_items:
        for items in all_items:
            await ends(anext(items))
        await trio.sleep(3.5 * SUBSCRIPTION_SILENCE_S)
        assert len(requests_of(server, Ping)) == 3
        server.freeze()
        begun_s = trio.current_time()
        for items in all_items:
            with trio.fail_after(3 * SUBSCRIPTION_SILENCE_S):
                with pytest.raises(ServerLost, match="silent for 10 s"):
                    await anext(items)
        assert trio.current_time() - begun_s <= 2 * SUBSCRIPTION_SILENCE_S


async def test_a_client_that_is_closed_ends_them(autojump_clock: MockClock) -> None:
    server = FakeServer("0", "Leader", handler=tells_nothing)
    async with AsyncExitStack() as watching:
        async with open_client(server) as client:
            items = await watching.enter_async_context(client.watch(b"x", at=one(server)))
        with pytest.raises(ServerLost, match="the client was closed"):
            await ends(anext(items))


# -- earlier releases, and servers that mean harm ------------------------------------------


async def test_servers_of_an_earlier_release_get_connections_for_each(
    autojump_clock: MockClock,
) -> None:
    server = a_server(welcome=Welcome(MAGIC, WINDOWS - 1, node_id="0"))
    async with open_network(server) as (client, network), several(client, server, 3) as all_items:
        assert [await ends(anext(items)) for items in all_items] == [b"0", b"1", b"2"]
        # The first one was made to be shared, before it was known.
        assert [stream.is_closed for stream in network.made] == [True, False, False, False]
        assert {(r.id, r.window_bytes) for r in requests_of(server, Watch)} == {(1, 0)}
        assert not requests_of(server, Take)
        server.welcome = None  # it is upgraded
        async with several(client, server, 3) as more:
            assert [await ends(anext(items)) for items in more] == [b"0", b"1", b"2"]
            assert len(network.made) == 6


async def test_a_server_that_heeds_no_window_fills_no_memory(autojump_clock: MockClock) -> None:
    server = FakeServer("0", "Leader", handler=tells_nothing)
    async with (
        open_client(server) as client,
        several(client, server, 2) as (items, others),
    ):
        await trio.testing.wait_all_tasks_blocked()
        sent = 0
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            while sent < 10_000:
                await server.tell(Item(1, encode_value(bytes(ITEM))))
                await trio.lowlevel.checkpoint()
                sent += 1
        assert sent < 10_000
        for _ in range(-(-WINDOW_BYTES // WEIGHT)):
            await ends(anext(items))
        with pytest.raises(ServerLost, match="sent more than 65536 bytes"):
            await ends(anext(items))
        with pytest.raises(ServerLost, match="sent more than 65536 bytes"):
            await ends(anext(others))


# -- windows, as a server heeds them -------------------------------------------------------


async def test_a_slow_reader_holds_up_nobody_and_loses_nothing() -> None:
    machine = Appends()
    count = 3 * WINDOW_BYTES // ITEM
    async with (
        serving(machine) as (_, service),
        client_of(service, sessions=False) as client,
        client.watch(b"0") as slow,
        client.watch(b"0") as quick,
    ):
        for _ in range(count):
            await ends(client.call(bytes(ITEM)))
            assert len(await ends(anext(quick))) == ITEM
        told_to_slow = machine.told - count
        assert told_to_slow == -(-WINDOW_BYTES // WEIGHT)  # the machine was asked for no more
        assert service.connections == 2  # that of calls, and one for both
        assert [await ends(anext(slow)) for _ in range(count)] == machine.items


async def test_a_reader_that_comes_back_is_told_all_in_order() -> None:
    machine = Appends()
    machine.items = [b"%d " % number + bytes(ITEM) for number in range(1000)]
    async with (
        serving(machine) as (_, service),
        client_of(service, sessions=False) as client,
        client.watch(b"0", item_type=bytes) as items,
    ):
        await until(lambda: machine.told >= WINDOW_BYTES // (WEIGHT + 10))
        numbers = [int((await ends(anext(items))).split()[0]) for _ in range(1000)]
        assert numbers == [*range(1000)]


async def test_items_larger_than_a_window_come_one_by_one() -> None:
    machine = Appends()
    machine.items = [bytes([number]) * (2 * WINDOW_BYTES) for number in range(5)]
    async with (
        serving(machine) as (_, service),
        client_of(service, sessions=False) as client,
        client.watch(b"0") as items,
    ):
        for number in range(5):
            await until(lambda told=number + 1: machine.told == told)  # type: ignore[misc]
            assert (await ends(anext(items)))[0] == number


async def test_a_thousand_and_more_need_few_connections_and_each_gets_its_news() -> None:
    machine = Appends()
    count = WATCHES_MAX + 100
    told = 0

    async def watch(client: Client, *, task_status: trio.TaskStatus[None]) -> None:
        nonlocal told
        async with client.watch(b"0") as items:
            task_status.started()
            assert await anext(items) == b"news"
            told += 1
            await trio.sleep_forever()

    async with serving(machine) as (_, service), client_of(service, sessions=False) as client:
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                await nursery.start(watch, client)
            await ends(client.call(b"news"))
            await until(lambda: told == count)
            assert service.connections == 3
            nursery.cancel_scope.cancel()
        await until(lambda: machine.watchers == 0)
        await until(lambda: service.connections == 1)


async def test_nothing_comes_beyond_the_window_until_it_is_taken() -> None:
    machine = Appends()
    machine.items = [b"x"] * 100
    weight = len(encode_value(b"x")) + ITEM_BYTES
    async with serving(machine) as (_, service), raw_client(service.address) as raw:
        await raw.send(Watch(1, b"0", 2 * weight))
        for _ in range(2):
            assert isinstance(await ends(raw.answer()), Item)
        # More than there was is not saved up; and what nobody subscribed to is no error.
        await raw.send(Take(1, 2**60), Take(7, weight), Take(1, 0))
        for _ in range(2):
            assert isinstance(await ends(raw.answer()), Item)
        await raw.send(Ping(2))
        assert isinstance(await ends(raw.answer()), Result)
        await raw.send(Take(1, 1), Ping(3))  # one byte of room is enough for one more
        assert {type(await ends(raw.answer())) for _ in range(2)} == {Item, Result}
        assert machine.told == 5
        await raw.send(Cancel(1))  # while it waits for room
        await until(lambda: machine.watchers == 0)
        await raw.send(Watch(1, b"0", 1))  # and its name is free again
        assert isinstance(await ends(raw.answer()), Item)


async def test_whoever_takes_often_has_room_for_other_requests() -> None:
    """Takes are no requests that wait for an answer."""
    limits = ServiceLimits(requests_max=2)
    async with (
        serving(Appends(), limits=limits) as (_, service),
        raw_client(service.address) as raw,
    ):
        await raw.send(Watch(1, b"0", 100), *(Take(1, 10) for _ in range(100)), Ping(2))
        assert isinstance(await ends(raw.answer()), Result)
        await raw.send(Propose(3, b"x"))
        assert {type(await ends(raw.answer())) for _ in range(2)} == {Item, Result}


@pytest.mark.parametrize(
    "request_", [(8, 1, b"0", -1), (21, 1, -1), (21, 1, 2**64 - 1), (21, 1, "x")]
)
async def test_numbers_that_are_none_end_the_connection(request_: tuple[Any, ...]) -> None:
    payload = bytes(encode_value(request_))
    async with serving(Appends()) as (_, service), raw_client(service.address) as raw:
        await raw.send(Ping(1))
        await ends(raw.answer())
        await raw.stream.send_all(len(payload).to_bytes(4, "big") + payload)
        assert await ends(raw.is_closed())


# -- other event loops ---------------------------------------------------------------------


async def test_under_asyncio_it_is_the_same() -> None:
    machine = Appends()
    machine.items = [bytes(ITEM)] * 200

    async def use(service: Service) -> None:
        async with (
            client_of(service, sessions=False) as client,
            client.watch(b"0") as slow,
            client.watch(b"200") as quick,
        ):
            assert await client.call(b"news") == 201
            assert await anext(quick) == b"news"
            with anyio.move_on_after(0.01):
                await anext(quick)
            for _ in range(200):
                assert len(await anext(slow)) == ITEM
            assert await anext(slow) == b"news"

    async with serving(machine) as (_, service):
        await on_asyncio(partial(use, service))
        await until(lambda: machine.watchers == 0)


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
async def test_from_threads_it_is_the_same(backend: Any) -> None:
    machine = Appends()
    machine.items = [bytes(ITEM)] * 200

    def use(address: Any) -> int:
        with (
            BlockingClient([address], sessions=False, backend=backend) as client,
            client.watch(b"0") as slow,
            client.watch(b"200") as quick,
        ):
            client.call(b"news")
            assert next(quick) == b"news"
            return sum(len(next(slow)) == ITEM for _ in range(200))

    async with serving(machine) as (_, service):
        assert await ends(trio.to_thread.run_sync(use, service.address)) == 200
        await until(lambda: machine.watchers == 0)
