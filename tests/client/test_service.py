"""The client port: a real node, real sockets, and clients of all kinds."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.client.service_support import (
    HELLO,
    LOOPBACK,
    Appends,
    client_of,
    raw_client,
    serving,
    until,
)
from tests.client.support import decoded, ends
from tests.support import introduction, open_single
from trioraft import (
    Client,
    ConfigError,
    Limits,
    MemoryStorage,
    ServerLeaving,
    Service,
    ServiceLimits,
    open_service,
)
from trioraft.machines.sessions import CommandFailed, SessionMachine
from trioraft.net.connection import Connection
from trioraft.rpc.protocol import (
    MAGIC,
    PROTOCOL_VERSION,
    Cancel,
    ClientHello,
    Failure,
    GetStatus,
    GoingAway,
    Ping,
    Propose,
    Query,
    Result,
    RoleNews,
    StatusNews,
    Watch,
    decode_welcome,
)
from trioraft.service.conversation import ReplyQueue
from trioraft.testing.faulty_storage import FaultyStorage
from trioraft.transport.handshake import PeerHello as PeerHello

# -- what clients ask ----------------------------------------------------------------------


async def test_commands_results_and_questions() -> None:
    async with serving() as (_, service), client_of(service, error_types=[KeyError]) as client:
        assert await ends(client.call(b"one", result_type=int)) == 1
        assert await ends(client.call(b"two", exactly_once=False)) == 2
        with pytest.raises(KeyError, match="as told"):
            await ends(client.call(b"raise"))
        for consistency in ("linearizable", "stale"):
            answer = client.query(b"all", consistency=consistency, result_type=list[bytes])
            assert await ends(answer) == [b"one", b"two"]
        with pytest.raises(KeyError, match="as told"):
            await ends(client.query(b"raise"))
        with pytest.raises(ConfigError, match="lease_clock_drift_max"):
            await ends(client.query(b"all", consistency="lease"))
        with pytest.raises(ConfigError, match="which cannot be sent"):
            await ends(client.query(b"unsendable"))


async def test_a_machine_without_sessions_gets_commands_as_they_are() -> None:
    machine = Appends()
    async with serving(machine) as (_, service), client_of(service, sessions=False) as client:
        assert await ends(client.call(b"one")) == 1
        with pytest.raises(CommandFailed, match="KeyError: 'as told'"):
            await ends(client.call(b"raise"))
    assert machine.items == [b"one"]


async def test_a_client_with_or_without_sessions_is_told_if_the_server_is_not() -> None:
    async with serving(Appends()) as (_, service), client_of(service) as client:
        with pytest.raises(ConfigError, match="SessionMachine around it"):
            await ends(client.call(b"x"))
    async with serving() as (_, service), client_of(service, sessions=False) as client:
        with pytest.raises(ConfigError, match="leave sessions=False out"):
            await ends(client.call(b"x"))
    async with (
        serving(Appends(), has_sessions=True) as (_, service),
        client_of(service) as client,
    ):
        assert await ends(client.call(b"an envelope to this machine")) == 2


async def test_a_machine_that_answers_nothing_says_so() -> None:
    class Mute:
        def apply(self, index: int, data: bytes) -> object:
            return object()

        def snapshot(self) -> bytes:
            return b""

        def restore(self, chunks: Any) -> None:
            list(chunks)

    async with serving(Mute()) as (_, service), client_of(service, sessions=False) as client:
        with pytest.raises(ConfigError, match="Mute has no method 'query'"):
            await ends(client.query(b""))
        with pytest.raises(ConfigError, match="Mute has no method 'watch'"):
            async with client.watch(b"") as items:
                await ends(anext(items))
        with pytest.raises(ConfigError, match="a object, which cannot be sent"):
            await ends(client.call(b""))


async def test_many_calls_of_many_tasks_are_each_applied_once() -> None:
    machine = SessionMachine(Appends())
    results: list[int] = []

    async def call(number: int) -> None:
        results.append(await client.call(b"%d" % number))

    async with serving(machine) as (_, service), client_of(service) as client:
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                for number in range(600):  # more than a session may have on its way
                    nursery.start_soon(call, number)
        assert isinstance(machine.machine, Appends)
        assert sorted(map(int, machine.machine.items)) == list(range(600))
        assert sorted(results) == list(range(1, 601))
        assert len(machine) == 1
    assert len(machine) == 0  # the session is closed with its client


async def test_what_a_server_is() -> None:
    elsewhere = {"1": ("127.0.0.1", 9)}
    async with (
        serving(client_addresses=elsewhere) as (node, service),
        client_of(service) as client,
    ):
        status = await ends(client.status())
        assert (status.node_id, status.role, status.leader_id) == ("0", "Leader", "0")
        assert status.client_addresses == {**elsewhere, "0": service.address}
        assert status.configuration == node.status.configuration
        assert status.last_role_change == str(node.status.last_role_change)
        assert status.connections == service.connections == 1
        service.set_client_address("1", None)
        service.set_client_address("2", ("127.0.0.1", 8))
        assert (await ends(client.status())).client_addresses["2"] == ("127.0.0.1", 8)
        with pytest.raises(ConfigError, match="port 0"):
            service.set_client_address("2", ("127.0.0.1", 0))
        assert msgspec.json.decode(msgspec.json.encode(status))["role"] == "Leader"
        assert await ends(client.take_snapshot()) == node.status.applied_index
        with pytest.raises(ConfigError):
            await ends(client.transfer_leadership("nobody"))


# -- subscriptions -------------------------------------------------------------------------


async def test_a_watched_machine_tells_what_comes() -> None:
    machine = Appends()
    async with serving(machine) as (node, service), client_of(service) as client:
        await node.propose(b"one")
        async with client.watch(b"0", item_type=bytes) as items:
            assert await ends(anext(items)) == b"one"
            await node.propose(b"two")
            assert await ends(anext(items)) == b"two"
            await node.propose(b"end")
            with pytest.raises(StopAsyncIteration):
                await ends(anext(items))
        async with client.watch(b"3") as items:
            await node.propose(b"four")
            assert await ends(anext(items)) == b"four"
            assert machine.watchers == 1
        with pytest.raises(CommandFailed, match="KeyError"):
            async with client.watch(b"raise") as items:
                await ends(anext(items))
        await until(lambda: machine.watchers == 0)  # the server notices by itself


async def test_a_reader_that_is_slow_is_waited_for() -> None:
    """What waits for it is bounded, and nothing is lost."""
    machine = Appends()
    limits = ServiceLimits(unsent_bytes_max=100_000)
    async with serving(machine, limits=limits) as (node, service), client_of(service) as client:
        big = bytes(100_000)
        async with client.watch(b"0", item_type=bytes) as items:
            for _ in range(200):
                await node.propose(big)
            await trio.sleep(0.1)
            assert 0 < machine.told < 200
            got = 0
            while got < 200:
                assert await ends(anext(items)) == big
                got += 1


async def test_a_watched_node_tells_its_status_and_its_roles() -> None:
    async with serving() as (node, service), client_of(service) as client:
        async with client.watch_status(interval_s=0.01) as news:
            first = await ends(anext(news))
            assert isinstance(first, StatusNews)
            assert first.status.role == "Leader"
            await node.propose(b"\x01\x92\x00\xc4\x01x")
            second = await ends(anext(news))
            assert isinstance(second, StatusNews)
            assert second.status.last_index > first.status.last_index
            node.kill()
            rest = await ends(_all(news))
        assert any(isinstance(item, RoleNews) and item.role == "Dead" for item in rest)


async def test_a_watched_node_tells_no_more_often_than_it_was_asked_to() -> None:
    async with (
        serving(Appends()) as (node, service),
        client_of(service) as client,
        client.watch_status(interval_s=60.0) as news,
    ):
        await ends(anext(news))
        await node.propose(b"x")
        with trio.move_on_after(0.1) as quiet:
            await anext(news)
        assert quiet.cancelled_caught


async def _all(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


# -- strangers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hello", "refused", "reason"),
    [
        (
            PeerHello("trioraft", 2, "trioraft", "1", "0", introduction("1", "0")),
            "not-a-client",
            "ports of their own",
        ),
        (ClientHello(MAGIC, 99, "trioraft"), "version", "client protocol 99"),
        (ClientHello(MAGIC, PROTOCOL_VERSION, "another"), "cluster", "'another'"),
    ],
)
async def test_who_is_no_client_of_ours_is_told_why(hello: Any, refused: str, reason: str) -> None:
    async with serving() as (_, service), raw_client(service.address, hello=False) as raw:
        await raw.send(hello)
        payload = await ends(raw.payload())
        assert payload is not None
        welcome = decode_welcome(payload)
        assert welcome.refused == refused
        assert reason in welcome.reason
        assert await ends(raw.is_closed())


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00\x03abc", b"\xff\xff\xff\xff"]
)
@pytest.mark.parametrize("hello", [True, False])
async def test_garbage_costs_its_sender_the_connection_and_nobody_else_anything(
    garbage: bytes, hello: bool
) -> None:
    async with serving() as (_, service), client_of(service) as client:
        async with raw_client(service.address, hello=hello) as raw:
            await raw.stream.send_all(garbage)
            assert await ends(raw.is_closed())
        assert await ends(client.call(b"x")) == 1


async def test_who_says_nothing_or_half_of_it_is_closed() -> None:
    limits = ServiceLimits(handshake_timeout_s=0.05, frame_timeout_s=0.05)
    async with serving(limits=limits) as (_, service):
        async with raw_client(service.address, hello=False) as raw:
            assert await ends(raw.is_closed())
        async with raw_client(service.address) as raw:
            await raw.stream.send_all(b"\x00\x00")
            assert await ends(raw.is_closed())
        async with raw_client(service.address) as raw:
            with trio.move_on_after(0.2) as patience:  # between requests there is no deadline
                await raw.is_closed()
            assert patience.cancelled_caught


async def test_who_takes_no_answers_is_closed() -> None:
    limits = ServiceLimits(frame_timeout_s=0.05, unsent_bytes_max=1000)
    async with serving(limits=limits) as (_, service), raw_client(service.address) as raw:
        await raw.send(*(Query(number, b"1000000", "stale") for number in range(1, 50)))
        await until(lambda: service.connections == 0)


async def test_answers_that_nobody_takes_do_not_pile_up() -> None:
    machine = Appends()
    limits = ServiceLimits(unsent_bytes_max=1000)
    async with serving(machine, limits=limits) as (_, service), raw_client(service.address) as raw:
        await raw.send(*(Query(number, b"1000000") for number in range(50)))
        await until(lambda: machine.asked > 0)
        await trio.sleep(0.1)
        assert machine.asked < 40  # a few are with the kernel
        for _ in range(50):
            assert isinstance(await ends(raw.answer()), Result)


async def test_a_client_that_takes_nothing_is_given_up_also_without_the_kernel_s_help(
    autojump_clock: MockClock,
) -> None:
    ours, _ = trio.testing.lockstep_stream_pair()
    connection = Connection(ours, "memory", lambda: None)
    outbox = ReplyQueue(connection, ServiceLimits(frame_timeout_s=3.0))
    outbox.frame_bytes_max = 1000
    outbox.put_value(1, None)
    with pytest.raises(trio.TooSlowError):
        await outbox.send_forever()
    assert trio.current_time() == pytest.approx(3.0, abs=0.1)


async def test_too_many_clients_are_told_so_if_all_are_busy() -> None:
    """Two voters, one of them away: a question keeps its client busy."""
    limits = ServiceLimits(connections_max=1)
    machine = Appends()
    async with (
        open_single(machine=machine, voters=("0", "1")) as node,
        open_service(node, machine, LOOPBACK, limits=limits) as service,
        raw_client(service.address) as busy,
    ):
        await busy.send(Query(1, b"all"), Ping(2))
        assert isinstance(await ends(busy.answer()), Result)  # to the ping: both were read
        async with raw_client(service.address, hello=False) as raw:
            await raw.send(HELLO)
            payload = await ends(raw.payload())
            assert payload is not None
            welcome = decode_welcome(payload)
            assert welcome.refused == "too-many"
            assert welcome.reason == "there are 1 connections, and all of them are busy"


async def test_for_one_client_too_many_the_one_that_was_idle_longest_goes() -> None:
    limits = ServiceLimits(connections_max=2)
    async with (
        serving(limits=limits) as (_, service),
        raw_client(service.address) as first,
        raw_client(service.address) as second,
    ):
        await first.send(Ping(1))
        assert isinstance(await ends(first.answer()), Result)
        async with raw_client(service.address) as third:
            await third.send(Ping(1))
            assert isinstance(await ends(third.answer()), Result)
            assert await ends(second.payload()) is None
            await first.send(Ping(2))
            assert isinstance(await ends(first.answer()), Result)


async def test_a_request_of_a_later_release_is_answered() -> None:
    async with serving() as (_, service), raw_client(service.address) as raw:
        payload = msgspec.msgpack.encode([77, 1, "new"])
        await raw.stream.send_all(len(payload).to_bytes(4, "big") + payload)
        answer = await ends(raw.answer())
        assert isinstance(answer, Failure)
        assert "does not know such a request" in answer.message
        await raw.send(Ping(2))
        assert isinstance(await ends(raw.answer()), Result)


# -- bounds --------------------------------------------------------------------------------


async def test_no_more_is_read_than_may_be_unanswered() -> None:
    """The rest waits in the kernel, and is served in its turn."""
    limits = ServiceLimits(requests_max=4)
    machine = Appends()
    async with serving(machine, limits=limits) as (_, service), raw_client(service.address) as raw:
        await raw.send(*(Propose(number, b"x") for number in range(1, 101)))
        answers = [await ends(raw.answer()) for _ in range(100)]
    assert [decoded(answer) for answer in answers if isinstance(answer, Result)] == list(
        range(1, 101)
    )
    # Two voters, one of them away: questions cannot be answered, and fill it.
    async with (
        open_single(machine=machine, voters=("0", "1")) as node,
        open_service(node, machine, LOOPBACK, limits=limits) as service,
        raw_client(service.address) as raw,
    ):
        await raw.send(*(Query(number, b"all") for number in range(4)), Ping(5))
        with trio.move_on_after(0.1) as not_read:
            await raw.answer()
        assert not_read.cancelled_caught
        service.leave()  # which answers the questions
        answers = [await ends(raw.answer()) for _ in range(6)]
    assert isinstance(answers[-1], Result)


async def test_a_full_room_for_proposals_makes_the_client_wait() -> None:
    machine = Appends()
    options = {"limits": Limits(proposals_bytes_max=4000)}
    async with (
        serving(machine, node_options=options) as (_, service),
        raw_client(service.address) as raw,
    ):
        await raw.send(*(Propose(number, bytes(500)) for number in range(1, 101)))
        answers = [await ends(raw.answer()) for _ in range(100)]
    assert all(isinstance(answer, Result) for answer in answers)
    assert len(machine.items) == 100


async def test_a_question_is_called_back() -> None:
    """Nobody leads, so it waits; and its room is given back."""
    limits = ServiceLimits(requests_max=2)
    machine = Appends()
    async with (
        open_single(machine=machine, voters=("0", "1")) as node,
        open_service(node, machine, LOOPBACK, limits=limits) as service,
        raw_client(service.address) as raw,
    ):
        for number in range(1, 10):
            await raw.send(Query(number, b"all"), Cancel(number))
        await raw.send(GetStatus(10), Propose(11, b"x"))
        status, proposed = await ends(raw.answer()), await ends(raw.answer())
        assert isinstance(status, Result)
        assert status.id == 10
        assert isinstance(proposed, Failure)
        assert proposed.kind == "not-leader"


async def test_a_subscription_is_called_back() -> None:
    """And its room is given back."""
    machine = Appends()
    limits = ServiceLimits(requests_max=2)
    async with serving(machine, limits=limits) as (_, service), raw_client(service.address) as raw:
        await raw.send(Watch(0, b"0"), Propose(1, b"x"))
        for _ in range(2):
            await ends(raw.answer())
        assert machine.watchers == 1
        await raw.send(Cancel(0))
        for number in range(2, 10):
            await raw.send(Watch(number, b"1"), Cancel(number))
        await raw.send(Ping(10))
        assert isinstance(await ends(raw.answer()), Result)
        await until(lambda: machine.watchers == 0)


async def test_an_id_that_is_in_use_is_an_error() -> None:
    async with serving(Appends()) as (_, service), raw_client(service.address) as raw:
        await raw.send(Watch(1, b"0"), Watch(1, b"0"))
        assert await ends(raw.is_closed())


async def test_an_answer_larger_than_the_client_reads_is_an_error() -> None:
    async with serving() as (_, service), client_of(service, frame_bytes_max=1000) as client:
        with pytest.raises(ConfigError, match="this client reads at most 1000"):
            await ends(client.query(b"2000"))
        assert len(await ends(client.query(b"500"))) == 500


# -- the end -------------------------------------------------------------------------------


async def test_leaving_answers_what_is_under_way_and_refuses_what_is_new() -> None:
    machine = Appends()
    # Two voters, one of them away: a question cannot be answered.
    async with (
        open_single(machine=machine, voters=("0", "1")) as node,
        open_service(node, machine, LOOPBACK, limits=ServiceLimits(leave_timeout_s=60)) as service,
        raw_client(service.address) as raw,
    ):
        await raw.send(Query(1, b"all"), Watch(2, b"0"), Ping(3))
        await ends(raw.answer())
        service.leave()
        assert isinstance(await ends(raw.answer()), GoingAway)
        refused = await ends(raw.answer())
        assert isinstance(refused, Failure)
        assert (refused.id, refused.kind) == (1, "leaving")
        assert await ends(raw.is_closed())


async def test_leaving_waits_until_answers_are_taken() -> None:
    async with serving() as (_, service), raw_client(service.address) as raw:
        await raw.send(Query(1, b"20000000", "stale"))
        await until(lambda: service.connections == 1)
        await raw.send(Ping(2))
        await trio.sleep(0.05)
        service.leave()
        answer = await ends(raw.answer())
        assert isinstance(answer, Result)
        assert len(decoded(answer)) == 20_000_000


async def test_leaving_waits_until_a_command_is_answered() -> None:
    storage = FaultyStorage(MemoryStorage(), blocking=True)
    machine = Appends()
    options = {"storage": storage}
    async with (
        serving(machine, node_options=options) as (_, service),
        raw_client(service.address) as raw,
    ):
        with storage.held():
            await raw.send(Propose(1, b"x"))
            await trio.to_thread.run_sync(storage.wait_until_held, 5.0)
            service.leave()
            assert isinstance(await ends(raw.answer()), GoingAway)
        answer = await ends(raw.answer())
        assert isinstance(answer, Result)
        assert decoded(answer) == 1
        assert await ends(raw.is_closed())


async def test_leaving_waits_only_so_long() -> None:
    storage = FaultyStorage(MemoryStorage(), blocking=True)
    limits = ServiceLimits(leave_timeout_s=0.05)
    options = {"storage": storage}
    async with (
        serving(Appends(), node_options=options, limits=limits) as (_, service),
        raw_client(service.address) as raw,
    ):
        with storage.held():
            await raw.send(Propose(1, b"x"))
            await trio.to_thread.run_sync(storage.wait_until_held, 5.0)
            service.leave()
            assert await ends(raw.is_closed())


async def test_a_client_goes_elsewhere_when_its_server_leaves() -> None:
    machine = Appends()
    left = trio.Event()

    async def serve(*, task_status: trio.TaskStatus[Service]) -> None:
        async with open_service(node, machine, LOOPBACK) as service:
            task_status.started(service)
            await left.wait()

    async with serving(machine) as (node, other), trio.open_nursery() as nursery:
        service = await nursery.start(serve)
        async with Client([service.address, other.address], sessions=False) as client:
            assert await ends(client.call(b"one")) == 1
            async with client.watch(b"1", at=service.address) as items:
                left.set()
                with pytest.raises(ServerLeaving):
                    await ends(anext(items))
            assert await ends(client.call(b"two")) == 2


async def test_a_node_that_dies_under_its_clients_tells_them() -> None:
    async with serving() as (node, service), raw_client(service.address) as raw:
        node.kill()
        await raw.send(Propose(1, b"x"), Query(2, b"x"))
        kinds = {getattr(await ends(raw.answer()), "kind", "") for _ in range(2)}
        assert kinds == {"dead"}


async def test_being_cancelled_ends_the_service_at_once() -> None:
    with trio.move_on_after(0.2) as scope:
        async with serving() as (_, service), raw_client(service.address) as raw:
            await raw.send(Watch(1, b"0"))
            await trio.sleep_forever()
    assert scope.cancelled_caught


# -- arguments -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listen", "options", "message"),
    [
        (("0.0.0.0", 0), {}, "insecure=True"),
        (("example.org", 0), {}, "insecure=True"),
        (("127.0.0.1", 70000), {}, "port 70000"),
        (("127.0.0.1", 0), {"client_addresses": {"1": ("", 1)}}, "host ''"),
        (("127.0.0.1", 0), {"advertise": ("a", 0)}, "port 0"),
    ],
)
async def test_what_cannot_work_is_refused(
    listen: Any, options: dict[str, Any], message: str
) -> None:
    async with open_single() as node:
        with pytest.raises(ConfigError, match=message):
            async with open_service(node, Appends(), listen, **options):
                pass


async def test_a_port_in_use_is_one_clear_error() -> None:
    with socket.socket() as taken:
        taken.bind(LOOPBACK)
        taken.listen()
        async with open_single() as node:
            with pytest.raises(OSError, match=r"cannot take clients at 127.0.0.1:\d+: Address"):
                async with open_service(node, Appends(), taken.getsockname()):
                    pass


@pytest.mark.parametrize("name", ["connections_max", "frame_timeout_s"])
def test_a_bound_is_positive(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        ServiceLimits(**{name: 0})
