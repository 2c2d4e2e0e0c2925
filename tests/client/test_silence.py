"""What a client does when a server that owes an answer says nothing; in virtual time."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from tests.client.support import (
    FakeNetwork,
    FakeServer,
    Hang,
    address_of,
    echo,
    ends,
    open_client,
    open_network,
    result,
)
from trioraft import Client, DeadlineExceeded, OutcomeUnknown
from trioraft.machines.sessions import PlainCommand, SessionCommand, decode_envelope
from trioraft.rpc.protocol import Answer, Ping, Propose, Query, RemoveNode, Request, frame

SILENCE_S = 0.5
"""The client's, unless a test says otherwise."""
DOUBT_S = 0.3125
"""When a connection over which nothing comes is in doubt."""
A_LITTLE_S = 0.02


def three() -> list[FakeServer]:
    """Number 0 leads."""
    return [FakeServer(str(number), "Follower" if number else "Leader") for number in range(3)]


def depose(servers: list[FakeServer]) -> None:
    """The others elect number 1."""
    servers[1].role, servers[1].term = "Leader", 2


def sent(server: FakeServer) -> list[bytes]:
    """The commands that have reached it."""
    envelopes = [decode_envelope(r.data) for r in server.requests if isinstance(r, Propose)]
    return [e.data for e in envelopes if isinstance(e, SessionCommand | PlainCommand)]


@attrs.define
class Timed:
    """What came of something, and how long that took."""

    value: Any = None
    took_s: float = math.nan


async def timed(awaitable: Awaitable[Any]) -> Timed:
    begun_s = trio.current_time()
    try:
        value = await ends(awaitable)
    except (OutcomeUnknown, DeadlineExceeded) as error:
        value = error
    return Timed(value, trio.current_time() - begun_s)


async def keep(timing: Timed, awaitable: Awaitable[Any]) -> None:
    """As `timed`, for a task."""
    done = await timed(awaitable)
    timing.value, timing.took_s = done.value, done.took_s


# -- a leader falls silent -----------------------------------------------------------------


async def test_calls_go_to_the_new_leader_once_the_old_one_is_in_doubt(
    autojump_clock: MockClock,
) -> None:
    servers = three()
    async with open_client(*servers) as client:
        await ends(client.call(b"one"))
        servers[0].freeze()
        depose(servers)
        two = await timed(client.call(b"two"))
    assert two.value == b"two"
    assert two.took_s == pytest.approx(DOUBT_S, abs=A_LITTLE_S)
    assert sent(servers[1]) == [b"two"]


@pytest.mark.parametrize("elected_s", [0.2, 0.33, 0.6, 3.0])
async def test_a_leader_that_is_elected_later_is_found_when_it_is_there(
    elected_s: float, autojump_clock: MockClock
) -> None:
    """However silent the old one is, the others are asked again and again."""
    servers = three()
    async with open_client(*servers) as client, trio.open_nursery() as nursery:
        await ends(client.call(b"one"))
        servers[0].freeze()
        two = Timed()
        nursery.start_soon(keep, two, client.call(b"two"))
        await trio.sleep(elected_s)
        depose(servers)
    assert two.value == b"two"
    longest_pause_s = 0.25
    assert two.took_s <= max(DOUBT_S, elected_s + longest_pause_s) + A_LITTLE_S


async def test_a_command_whose_outcome_is_unknown_keeps_its_number(
    autojump_clock: MockClock,
) -> None:
    servers = three()
    async with open_client(*servers) as client, trio.open_nursery() as nursery:
        await ends(client.call(b"one"))
        one = servers[0].session_commands()[0]
        servers[0].freeze()
        depose(servers)
        nursery.start_soon(client.call, b"two")
        await trio.sleep(DOUBT_S + A_LITTLE_S)
        servers[0].thaw()  # what it has not read yet is too late
    (two,) = servers[1].session_commands()
    assert (two.data, two.session_id, two.sequence) == (b"two", one.session_id, one.sequence + 1)


async def test_without_a_session_the_outcome_is_unknown_and_nothing_is_sent_again(
    autojump_clock: MockClock,
) -> None:
    servers = three()
    async with open_client(*servers) as client:
        await ends(client.call(b"one"))
        servers[0].freeze()
        depose(servers)
        two = await timed(client.call(b"two", exactly_once=False))
        assert isinstance(two.value, OutcomeUnknown)
        assert not isinstance(two.value, DeadlineExceeded)
        assert two.took_s <= SILENCE_S
        assert await ends(client.call(b"three", exactly_once=False)) == b"three"
    assert sent(servers[1]) == [b"three"]


async def test_nothing_new_is_sent_over_a_connection_in_doubt(autojump_clock: MockClock) -> None:
    """So that it needs no unknown outcome."""
    servers = three()
    async with open_client(*servers) as client, trio.open_nursery() as nursery:
        await ends(client.call(b"one"))
        servers[0].freeze()
        two, three_ = Timed(), Timed()
        nursery.start_soon(keep, two, client.call(b"two", exactly_once=False))
        await trio.sleep(DOUBT_S + A_LITTLE_S)
        nursery.start_soon(keep, three_, client.call(b"three", exactly_once=False))
        await trio.sleep(A_LITTLE_S)
        depose(servers)
        await trio.sleep(1.0)
        servers[0].thaw()
    assert isinstance(two.value, OutcomeUnknown)
    assert three_.value == b"three"
    assert b"three" not in sent(servers[0])


async def test_a_call_that_was_never_sent_was_not_applied(autojump_clock: MockClock) -> None:
    servers = three()
    async with open_client(*servers) as client, trio.open_nursery() as nursery:
        await ends(client.call(b"one"))
        servers[0].freeze()
        nursery.start_soon(keep, Timed(), client.call(b"two", timeout_s=1.0))
        await trio.sleep(DOUBT_S + A_LITTLE_S)
        late = await timed(client.call(b"three", timeout_s=0.5))
    assert isinstance(late.value, DeadlineExceeded)
    assert not isinstance(late.value, OutcomeUnknown)


async def test_a_server_that_nobody_replaces_is_given_up_after_one_silence(
    autojump_clock: MockClock,
) -> None:
    server = FakeServer("0", "Leader")
    async with open_network(server) as (client, network):
        await ends(client.call(b"one"))
        server.freeze()
        lost = await timed(client.call(b"two", exactly_once=False))
        await trio.testing.wait_all_tasks_blocked()
        assert network.made[0].is_closed
    assert isinstance(lost.value, OutcomeUnknown)
    assert "silent for 0.5 s" in str(lost.value)
    assert lost.took_s == pytest.approx(SILENCE_S, abs=A_LITTLE_S)


async def test_a_change_of_the_cluster_is_not_asked_for_twice(autojump_clock: MockClock) -> None:
    servers = three()
    async with open_client(*servers) as client:
        await ends(client.call(b"one"))
        servers[0].freeze()
        depose(servers)
        change = await timed(client.remove("2"))
    assert isinstance(change.value, OutcomeUnknown)
    assert change.took_s <= SILENCE_S
    assert not any(isinstance(request, RemoveNode) for request in servers[1].requests)


# -- connections that are dead, or never there ---------------------------------------------


async def test_a_dead_connection_is_replaced_by_one_that_is_answered(
    autojump_clock: MockClock,
) -> None:
    """The leader still leads; what is between has forgotten the connection."""
    servers = three()
    async with open_network(*servers) as (client, network):
        await ends(client.call(b"one"))
        servers[0].forget_connections()
        two = await timed(client.call(b"two"))
        assert Counter(stream.is_closed for stream in network.made) == {False: 3, True: 1}
    assert two.value == b"two"
    assert two.took_s == pytest.approx(DOUBT_S, abs=A_LITTLE_S)


async def test_a_dead_connection_to_a_certain_server_is_replaced_too(
    autojump_clock: MockClock,
) -> None:
    servers = three()
    for server in servers:
        server.handler = lambda server, request: (
            result(request, server.node_id) if isinstance(request, Query) else echo(server, request)
        )
    async with open_client(*servers) as client:
        assert await ends(client.query(b"?", at="2")) == "2"
        servers[2].forget_connections()
        again = await timed(client.query(b"?", at="2"))
    assert again.value == "2"
    assert again.took_s == pytest.approx(DOUBT_S, abs=A_LITTLE_S)


async def test_what_is_asked_of_a_certain_server_waits_for_a_connection_that_is_answered(
    autojump_clock: MockClock,
) -> None:
    """Instead of being lost with one that is in doubt."""
    server = FakeServer("0", "Leader", round_trip_s=0.1)
    async with open_client(server) as client:
        await ends(client.status())
        server.forget_connections()
        with trio.move_on_after(DOUBT_S + server.round_trip_s + A_LITTLE_S):
            await client.status("0")
        assert (await ends(client.status(address_of(server)))).node_id == "0"


def lose_syn(server: FakeServer) -> None:
    server.is_unreachable = True


@pytest.mark.parametrize("befall", [lose_syn, FakeServer.freeze])
async def test_a_leader_that_is_silent_from_the_start_holds_up_nobody(
    befall: Callable[[FakeServer], None], autojump_clock: MockClock
) -> None:
    servers = three()
    befall(servers[0])
    async with open_client(*servers) as client, trio.open_nursery() as nursery:
        one = Timed()
        nursery.start_soon(keep, one, client.call(b"one"))
        await trio.sleep(0.3)
        depose(servers)
    assert one.value == b"one"
    assert one.took_s <= 0.3 + 0.25 + A_LITTLE_S


@pytest.mark.parametrize("seed", range(6))  # of the order
@pytest.mark.parametrize("befall", [lose_syn, FakeServer.freeze])
async def test_where_any_server_will_do_another_is_tried_beside_a_silent_one(
    befall: Callable[[FakeServer], None], seed: int, autojump_clock: MockClock
) -> None:
    """Two of three say nothing."""
    servers = three()
    servers[2].handler = lambda _, request: result(request, "here")
    befall(servers[0])
    befall(servers[1])
    async with open_client(*servers, rng=random.Random(seed)) as client:
        found = await timed(client.query(b"?", consistency="stale"))
    assert found.value == "here"
    assert found.took_s <= 0.5 + A_LITTLE_S


# -- living servers are not left -----------------------------------------------------------


def hang_on_commands(server: FakeServer, request: Request) -> Answer:
    if isinstance(request, Propose) and server.session_commands():
        raise Hang
    return echo(server, request)


@pytest.mark.parametrize("round_trip_s", [0.0, 0.1, 0.3, 0.6, 1.5])
async def test_a_slow_answer_is_waited_for_while_the_server_says_that_it_is_there(
    round_trip_s: float, autojump_clock: MockClock
) -> None:
    """The command waits for a slow disk, say, at whatever distance."""
    server = FakeServer("0", "Leader", handler=hang_on_commands, round_trip_s=round_trip_s)
    async with open_network(server, connect_timeout_s=5.0) as (client, network):
        with pytest.raises(OutcomeUnknown):
            await client.call(b"one", timeout_s=20.0)
        assert len(network.names) == 1
    assert len(sent(server)) == 1
    assert any(isinstance(request, Ping) for request in server.requests)


async def test_a_large_answer_that_arrives_slowly_is_waited_for(autojump_clock: MockClock) -> None:
    """Each piece of it is a sign of life; the server is busy with it, and answers no ping."""
    server = FakeServer("0", "Leader")

    def answers_in_pieces(server: FakeServer, request: Request) -> Answer:
        if not isinstance(request, Query):
            return echo(server, request)
        assert server.later is not None
        server.later.start_soon(in_pieces, server, frame(result(request, bytes(1000))))
        server.freeze()
        raise Hang

    server.handler = answers_in_pieces
    async with open_network(server, read_patience_s=100.0) as (client, network):
        answer = await timed(client.query(b"?"))
        assert len(network.names) == 1
    assert answer.value == bytes(1000)
    assert answer.took_s > 2 * SILENCE_S


async def in_pieces(server: FakeServer, data: bytes) -> None:
    for start in range(0, len(data), 100):
        await trio.sleep(0.2)
        await server.streams[0].send(data[start : start + 100])
    server.thaw()


@pytest.mark.parametrize("frozen_s", [0.2, 0.28, 0.35, 0.45])
async def test_a_server_that_was_away_for_less_than_a_silence_keeps_its_connection(
    frozen_s: float, autojump_clock: MockClock
) -> None:
    """Also when it was in doubt: what is made beside is closed."""
    servers = three()
    async with open_network(*servers) as (client, network), trio.open_nursery() as nursery:
        await ends(client.call(b"one"))
        servers[0].freeze()
        two = Timed()
        nursery.start_soon(keep, two, client.call(b"two", exactly_once=False))
        await trio.sleep(frozen_s)
        servers[0].thaw()
        await trio.sleep(A_LITTLE_S)
        assert [stream.is_closed for stream in network.made[:3]] == [False] * 3
        assert all(stream.is_closed for stream in network.made[3:])
        assert len(network.made) == (4 if frozen_s > DOUBT_S else 3)
        asked = len(servers[1].requests)
        assert await ends(client.call(b"three")) == b"three"
        await trio.sleep(1.0)
        assert len(servers[1].requests) == asked  # nobody searches any more
    assert two.value == b"two"
    assert sent(servers[0]) == [b"one", b"two", b"three"]


@pytest.mark.parametrize("befall", ["connecting is lost", "connecting is refused"])
async def test_calls_wait_no_longer_once_a_server_in_doubt_is_heard(
    befall: str, autojump_clock: MockClock
) -> None:
    """Whatever became of the attempt to connect to it again; that ends too."""
    servers = three()
    async with (
        open_network(*servers, silence_s=4.0, connect_timeout_s=60.0) as (client, network),
        trio.open_nursery() as nursery,
    ):
        await ends(client.call(b"one"))
        servers[0].freeze()
        servers[0].is_unreachable = befall == "connecting is lost"
        servers[0].is_down = not servers[0].is_unreachable
        two, three_ = Timed(), Timed()
        nursery.start_soon(keep, two, client.call(b"two"))
        await trio.sleep(3.8)
        nursery.start_soon(keep, three_, client.call(b"three"))
        await trio.sleep(0.1)
        assert network.connecting == servers[0].is_unreachable
        servers[0].thaw()
        await trio.sleep(0.001)
        assert network.connecting == 0
    assert (two.value, three_.value) == (b"two", b"three")
    assert three_.took_s == pytest.approx(0.1)


async def test_a_leader_that_is_leaving_answers_what_is_under_way(
    autojump_clock: MockClock,
) -> None:
    """It is not silent: the next leader takes only what is new."""
    servers = three()
    servers[0].handler = hang_on_commands
    async with open_client(*servers) as client, trio.open_nursery() as nursery:
        one = Timed()
        nursery.start_soon(keep, one, client.call(b"one"))
        await trio.sleep(0.1)
        await servers[0].tell()
        await trio.testing.wait_all_tasks_blocked()
        depose(servers)
        assert await ends(client.call(b"two")) == b"two"
        (asked,) = [r for r in servers[0].requests if isinstance(r, Propose) and b"one" in r.data]
        await servers[0].tell(result(asked, b"one"))
    assert one.value == b"one"
    assert sent(servers[1]) == [b"two"]


async def test_a_client_that_was_away_itself_takes_no_server_for_silent(
    autojump_clock: MockClock,
) -> None:
    """Stopped for ten seconds, just when the server's answer is on its way: it is read first."""
    server = FakeServer("0", "Leader", handler=hang_on_commands, round_trip_s=0.05)
    async with open_network(server, timeout_s=60.0) as (client, network):
        with trio.move_on_after(20.0):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.call, b"one")
                await server.pinged.wait()
                autojump_clock.jump(10.0)
        assert sent(server) == [b"one"]
        assert not network.made[0].is_closed
        assert all(stream.is_closed for stream in network.made[1:])


@pytest.mark.parametrize("round_trip_s", [0.2, 0.6, 1.5])
async def test_a_leader_far_away_is_found(round_trip_s: float, autojump_clock: MockClock) -> None:
    servers = three()
    for server in servers:
        server.round_trip_s = round_trip_s
    async with open_client(*servers, connect_timeout_s=5.0) as client:
        assert (await timed(client.call(b"one"))).took_s == pytest.approx(4 * round_trip_s, rel=0.3)


# -- bounds, and cancelling ----------------------------------------------------------------


async def test_a_thousand_calls_at_a_silent_leader_make_few_connections(
    autojump_clock: MockClock,
) -> None:
    servers = three()
    calls = [Timed() for _ in range(1000)]
    async with open_network(*servers) as (client, network):
        await ends(client.call(b"first"))
        servers[0].freeze()
        async with trio.open_nursery() as nursery:
            for number, call in enumerate(calls):
                nursery.start_soon(keep, call, client.call(b"%d" % number))
            await trio.sleep(2.0)
            assert Counter(stream.is_closed for stream in network.made)[False] <= 4
            depose(servers)
        assert Counter(address for address, _ in network.names) == {
            address_of(servers[0]): 2,
            address_of(servers[1]): 1,
            address_of(servers[2]): 1,
        }
    assert [call.value for call in calls] == [b"%d" % number for number in range(1000)]
    assert len(servers[1].requests) < 1000 + 60


class CancelAt(trio.abc.Instrument):
    """Cancels something before the n-th step that any task takes from now on."""

    def __init__(self, step: int, scope: trio.CancelScope) -> None:
        self._left = step
        self._scope = scope

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._left -= 1
        if self._left == 0:
            self._scope.cancel()


@contextmanager
def cancelling(step: int, scope: trio.CancelScope) -> Iterator[None]:
    """Do so, unless this ends before."""
    instrument = CancelAt(step, scope)
    trio.lowlevel.add_instrument(instrument)
    try:
        yield
    finally:
        trio.lowlevel.remove_instrument(instrument)


@pytest.mark.parametrize("outcome", ["another leads", "answered anew", "heard again", "given up"])
@pytest.mark.parametrize("whose", ["the client", "a call"])
def test_whenever_it_is_cancelled_nothing_is_left(outcome: str, whose: str) -> None:
    """At each step of what begins when a leader falls silent, one after the other."""

    async def befall(servers: list[FakeServer]) -> None:
        if outcome == "answered anew":
            servers[0].forget_connections()
        else:
            servers[0].freeze()
        if outcome == "another leads":
            depose(servers)
        if outcome == "heard again":
            await trio.sleep(DOUBT_S + 0.05)
            servers[0].thaw()

    async def scenario(servers: list[FakeServer], client: Client) -> None:
        await client.call(b"one")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(befall, servers)
            await client.call(b"two", timeout_s=1.0)

    async def use(step: int) -> bool:
        """Returns whether it was cancelled."""
        servers = three()
        addresses = [address_of(server) for server in servers]
        async with trio.open_nursery() as nursery:
            network = FakeNetwork(dict(zip(addresses, servers, strict=True)), nursery)
            outer, inner = trio.CancelScope(), trio.CancelScope()
            with outer:
                async with Client(addresses, connect=network.connect) as client:
                    with inner, cancelling(step, outer if whose == "the client" else inner):
                        try:
                            await scenario(servers, client)
                        except* DeadlineExceeded:
                            assert outcome == "given up"
                    if whose == "a call" and outcome != "given up":
                        servers[0].thaw()
                        assert await ends(client.call(b"three")) == b"three"
            assert all(stream.is_closed for stream in network.made)
            nursery.cancel_scope.cancel()
            return outer.cancelled_caught or inner.cancelled_caught
        raise AssertionError("the nursery swallowed its end")

    step = 0
    was_cancelled = True
    while was_cancelled:
        step += 1
        was_cancelled = trio.run(use, step, clock=MockClock(autojump_threshold=0))
    assert step > 50
