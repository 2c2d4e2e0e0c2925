"""The client port against whoever knocks: what one connection does is its own end, and what all of
them make the server keep has a bound."""

from __future__ import annotations

import gc
import math
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from time import thread_time
from typing import Any, Final

import attrs
import msgspec
import pytest
import trio
import trio.testing

from tests.client.service_support import (
    LOOPBACK,
    Appends,
    RawClient,
    client_of,
    raw_client,
    serving,
    until,
)
from tests.client.support import PATIENCE_S, ends
from tests.support import open_single
from trioraft import Service, open_service
from trioraft.core.config import Timing
from trioraft.core.errors import InvariantViolation
from trioraft.core.events import TraceEvent
from trioraft.machines.sessions import (
    CLIENT_ID_BYTES,
    encode_close,
    encode_command,
    encode_open,
    encode_plain,
)
from trioraft.net.connection import Connection
from trioraft.net.events import ConnectionRejected
from trioraft.net.framing import LENGTH_BYTES
from trioraft.node.proposal import Proposal
from trioraft.rpc.protocol import (
    MAGIC,
    PROTOCOL_VERSION,
    Cancel,
    ClientHello,
    Failure,
    GetStatus,
    GoingAway,
    Item,
    NodeNews,
    Ping,
    Propose,
    Query,
    Result,
    ServerStatus,
    StatusNews,
    TakeSnapshot,
    Watch,
    WatchStatus,
    decode_request,
    frame,
)
from trioraft.service import conversation
from trioraft.service.context import ServiceLimits
from trioraft.tasks.slices import Slices

CLOSING_AT_ONCE: Final = 250


@attrs.define
class Told:
    """A logger that keeps why connections were closed."""

    reasons: list[str] = attrs.field(factory=list)

    def _keep(self, *_: Any, trace: TraceEvent | ConnectionRejected, **__: Any) -> None:
        if isinstance(trace, ConnectionRejected):
            self.reasons.append(trace.reason)

    debug = info = warning = error = _keep


def make_slices_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one step each."""
    defaults = Slices.__init__.__defaults__
    assert defaults is not None
    monkeypatch.setattr(Slices.__init__, "__defaults__", (0.0, 0.0, *defaults[2:]))


async def serves(service: Service) -> None:
    """Somebody else is served."""
    async with raw_client(service.address) as other:
        await other.send(Ping(1))
        assert isinstance(await ends(other.answer()), Result)


# -- the wall --------------------------------------------------------------------------------


class OddError(Exception):
    """What nobody expects."""


@pytest.mark.parametrize(
    "error",
    [
        OddError("odd"),
        ExceptionGroup("several", [OddError("odd"), ExceptionGroup("", [OddError()])]),
    ],
)
async def test_g8_whatever_goes_wrong_in_a_connection_ends_it_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:

    def failing(payload: bytes) -> Any:
        request = decode_request(payload)
        if request.id == 13:
            raise error
        return request

    monkeypatch.setattr(conversation, "decode_request", failing)
    log = Told()
    async with serving(logger=log) as (_, service), raw_client(service.address) as raw:
        await raw.send(Ping(13))
        assert await ends(raw.is_closed())
        await until(lambda: log.reasons != [])
        await serves(service)
    (reason,) = log.reasons
    assert reason.startswith("client: serving it failed: odd (")


async def test_g8_a_broken_invariant_is_not_the_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(payload: bytes) -> Any:
        raise InvariantViolation("the node's own")

    monkeypatch.setattr(conversation, "decode_request", failing)

    async def meet_it() -> None:
        async with serving() as (_, service), raw_client(service.address) as raw:
            await raw.send(Ping(1))
            await raw.is_closed()

    with pytest.raises(InvariantViolation, match="the node's own"):
        await meet_it()


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf, -1.0, 1e30])
async def test_g8_times_are_finite_and_not_negative(seconds: float) -> None:
    log = Told()
    async with serving(logger=log) as (_, service), raw_client(service.address) as raw:
        payload = msgspec.msgpack.encode([9, 1, seconds])
        await raw.stream.send_all(len(payload).to_bytes(LENGTH_BYTES, "big") + payload)
        assert await ends(raw.is_closed())
        await serves(service)
    assert "is not a request" in log.reasons[0]


async def test_who_only_looks_whether_somebody_listens_is_nobodys_business() -> None:
    log = Told()
    async with serving(logger=log) as (_, service):
        for _ in range(5):
            (await trio.open_tcp_stream(*service.address)).socket.close()
        await serves(service)
        async with await trio.open_tcp_stream(*service.address) as stream:
            await stream.send_all(b"GET")  # this one did say something
        await until(lambda: log.reasons != [])
    assert log.reasons == ["client: it closed the connection without saying who it is"]


# -- budgets ---------------------------------------------------------------------------------


@asynccontextmanager
async def several(service: Service, count: int) -> AsyncIterator[list[RawClient]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(raw_client(service.address)) for _ in range(count)]


async def becomes(service: Service, name: str, wanted: int) -> None:
    """Wait until so much of a budget is used."""
    with trio.fail_after(PATIENCE_S):
        while await used(service, name) != wanted:  # noqa: ASYNC110 - nothing tells when
            await trio.sleep(0.002)


async def used(service: Service, name: str) -> int:
    async with raw_client(service.address) as raw:
        await raw.send(GetStatus(1))
        answer = await ends(raw.answer())
        assert isinstance(answer, Result)
        status = msgspec.msgpack.decode(answer.value, type=ServerStatus)
        return status.budgets[name][0]


async def test_g3_half_frames_of_all_connections_have_one_bound() -> None:
    limits = ServiceLimits(half_frames_bytes_max=300_000)
    half = (1_000_000).to_bytes(LENGTH_BYTES, "big") + bytes(99_000)
    async with serving(limits=limits) as (_, service), several(service, 5) as raws:
        for raw in raws:
            await raw.stream.send_all(half)
            await raw.stream.send_all(b"x")
        assert await ends(raws[0].is_closed())
        assert await ends(raws[1].is_closed())
        assert 0 < await used(service, "half_frames_bytes") <= 300_000
        for raw in raws:
            await raw.stream.aclose()
        await becomes(service, "half_frames_bytes", 0)


async def test_g3_answers_that_nobody_takes_have_one_bound_too() -> None:
    limits = ServiceLimits(unsent_total_bytes_max=20_000_000)
    log = Told()
    async with (
        serving(Appends(), limits=limits, logger=log) as (_, service),
        several(service, 6) as raws,
    ):
        for raw in raws:
            await raw.send(*(Query(number, b"12000000", "stale") for number in range(5)))
        await until(lambda: log.reasons != [])
        await serves(service)
        assert await used(service, "unsent_bytes") <= 20_000_000
    assert "answers that wait to be taken together pass 20000000 bytes" in log.reasons[0]


async def test_g3_questions_that_wait_have_one_bound_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a voter were away: nothing is answered."""
    limits = ServiceLimits(waiting_bytes_max=3_000_000, unsent_bytes_max=1_000_000)
    log = Told()
    async with (
        serving(Appends(), limits=limits, logger=log) as (node, service),
        several(service, 4) as raws,
    ):
        monkeypatch.setattr(node._runner, "begin_read", lambda *_, **__: lambda: None)
        for raw in raws:
            await raw.send(*(Query(number, bytes(400_000)) for number in range(3)))
        await until(lambda: log.reasons != [])
        assert 0 < await used(service, "waiting_bytes") <= 3_000_000
    assert "all requests that wait together pass 3000000 bytes" in log.reasons[0]


async def until_item(raw: RawClient, request_id: int) -> None:
    """Wait for an item of this subscription."""
    while True:
        answer = await ends(raw.answer())
        if isinstance(answer, Item) and answer.id == request_id:
            return


async def test_g3_subscriptions_have_a_bound_and_the_next_is_told_so() -> None:
    limits = ServiceLimits(subscriptions_max=3, status_watches_max=2)
    async with (
        serving(Appends(), limits=limits) as (_, service),
        raw_client(service.address) as raw,
    ):
        await raw.send(
            *(WatchStatus(number) for number in range(3)), Watch(7, b"0"), Watch(8, b"0")
        )
        refused: dict[int, str] = {}
        while len(refused) < 2:
            answer = await ends(raw.answer())
            if isinstance(answer, Failure):
                refused[answer.id] = answer.message
        assert "2 watch the status of this server already" in refused[2]
        assert "this server has 3 subscriptions already" in refused[8]
        assert await used(service, "subscriptions") == 3
        await raw.send(Cancel(0))
        await becomes(service, "status_watches", 1)
        await raw.send(WatchStatus(9))
        await until_item(raw, 9)


async def test_g3_subscriptions_take_no_room_from_the_requests_of_their_connection() -> None:
    """More than a connection may have requests that are unanswered, and all get what is told."""
    limits = ServiceLimits(requests_max=4)
    async with (
        serving(Appends(), limits=limits) as (_, service),
        raw_client(service.address) as raw,
    ):
        await raw.send(*(Watch(number, b"0") for number in range(6)), Ping(6))
        assert isinstance(await ends(raw.answer()), Result)
        await raw.send(Propose(7, b"one"))
        told = [await ends(raw.answer()) for _ in range(7)]
        assert {answer.id for answer in told if isinstance(answer, Item)} == {*range(6)}


async def test_g3_changes_of_the_cluster_have_a_bound() -> None:
    limits = ServiceLimits(changes_max=1)
    async with serving(Appends(), limits=limits) as (node, service), client_of(service) as client:
        asked, go_on = trio.Event(), trio.Event()

        async def slow() -> int:
            asked.set()
            await go_on.wait()
            return 5

        node.take_snapshot = slow  # type: ignore[method-assign] # it takes as long as the test says
        async with raw_client(service.address) as raw, trio.open_nursery() as nursery:
            nursery.start_soon(client.take_snapshot)
            await asked.wait()
            await raw.send(TakeSnapshot(1))
            answer = await ends(raw.answer())
            assert isinstance(answer, Failure)
            assert answer.kind == "overloaded"
            go_on.set()
        assert await used(service, "changes") == 0


async def test_g3_a_request_is_no_place_to_keep_bytes_in() -> None:
    log = Told()
    async with serving(Appends(), logger=log) as (_, service), raw_client(service.address) as raw:
        await raw.send(Propose(1, bytes(20_000)), Query(2, b"1", "stale"))
        answers = [await ends(raw.answer()) for _ in range(2)]
        assert {answer.id for answer in answers if isinstance(answer, Result)} == {1, 2}
        await raw.send(Watch(3, bytes(20_000)))
        assert await ends(raw.is_closed())
    assert "at most 16384 are accepted" in log.reasons[0]


async def test_g4_a_thousand_questions_in_one_frame_leave_the_loop_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While they are answered, another connection's are too, many times in between. (The slice is
    one question long, so that the machine's speed does not count.)"""
    make_slices_short(monkeypatch)
    async with serving(Appends()) as (_, service), several(service, 2) as (flood, other):
        await flood.send(*(GetStatus(number) for number in range(1, 5001)))
        between = 0
        answered = 0

        async def take() -> None:
            nonlocal answered
            while answered < 5000:
                assert isinstance(await ends(flood.answer()), Result)
                answered += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            while answered < 5000:
                between += 1
                await other.send(Ping(between))
                assert isinstance(await ends(other.answer()), Result)
        assert between > 20


async def test_g4_slices_are_shorter_while_the_cluster_commits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []
    begin = Slices.__init__

    def beginning(self: Slices, **options: Any) -> None:
        asked.append(options["is_pressed"])
        begin(self, **options)

    monkeypatch.setattr(Slices, "__init__", beginning)
    async with serving() as (node, _):
        (is_pressed,) = asked
        is_pressed()
        await until(lambda: not is_pressed())
        await node.propose(encode_plain(b"x"))
        assert is_pressed()


async def test_g4_bytes_one_at_a_time_take_turns_like_questions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_slices_short(monkeypatch)
    wait, waits = Slices.wait, 0

    async def counted(self: Slices, used_s: float, expected_s: float) -> None:
        nonlocal waits
        waits += 1
        await wait(self, used_s, expected_s)

    monkeypatch.setattr(Slices, "wait", counted)
    async with serving() as (_, service), raw_client(service.address) as raw:
        for number, byte in enumerate(frame(Ping(1))[:-1]):
            await raw.stream.send_all(bytes([byte]))
            await until(lambda number=number: waits > number)  # type: ignore[misc] # bound now


class Passes(trio.abc.Instrument):
    """How long each pass of the scheduler keeps the loop, in CPU time."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._began_s = math.inf

    def after_io_wait(self, timeout: float) -> None:
        self._began_s = thread_time()

    def before_io_wait(self, timeout: float) -> None:
        self.longest_s = max(self.longest_s, thread_time() - self._began_s)


async def test_g4_many_that_close_at_once_keep_the_loop_for_less_than_an_election_timeout() -> None:
    hello = frame(ClientHello(MAGIC, PROTOCOL_VERSION, "trioraft"))
    async with serving() as (_, service):
        with ExitStack() as stack:

            def dial() -> None:
                for _ in range(CLOSING_AT_ONCE):
                    sock = stack.enter_context(socket.create_connection(service.address))
                    sock.sendall(hello + frame(Ping(1)))
                    while not sock.recv(4096):
                        pass

            await trio.to_thread.run_sync(dial)
            passes = Passes()
            gc.collect()
            gc.freeze()  # what other tests have left is not this loop's to search
            trio.lowlevel.add_instrument(passes)
            await trio.to_thread.run_sync(stack.close)
        await until(lambda: service.connections == 0)
        trio.lowlevel.remove_instrument(passes)
        gc.unfreeze()
    assert passes.longest_s < Timing().election_timeout_s[0]


async def test_all_who_watch_a_status_get_the_same_and_later_ones_too() -> None:
    async with serving() as (node, service), several(service, 3) as raws:
        for raw in raws:
            await raw.send(*(WatchStatus(number, 0.0) for number in range(20)))
        await node.propose(encode_plain(b"x"))
        for raw in raws:
            seen: dict[int, int] = {}
            while len(seen) < 20 or min(seen.values()) < node.status.commit_index:
                answer = await ends(raw.answer())
                assert isinstance(answer, Item)
                news = msgspec.msgpack.decode(answer.value, type=NodeNews)
                if isinstance(news, StatusNews):
                    seen[answer.id] = news.status.commit_index


@pytest.mark.parametrize("kind", ["status", "change"])
async def test_g3_a_request_id_that_is_in_use_counts_against_no_bound(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """It ends its connection, and what it would have begun is not counted for ever."""
    machine = Appends()
    async with (
        open_single(machine=machine, voters=("0", "1")) as node,  # nothing is ever committed
        open_service(node, machine, LOOPBACK) as service,
    ):
        for _ in range(3):
            async with raw_client(service.address) as raw:
                if kind == "status":
                    await raw.send(WatchStatus(7, 0.0), WatchStatus(7, 0.0))
                else:
                    monkeypatch.setattr(conversation, "administer", forever)
                    await raw.send(TakeSnapshot(7), TakeSnapshot(7))
                assert await ends(raw.is_closed())
        await until(lambda: service.connections == 0)
        budgets = service._context.budgets()
        assert {budgets[name][0] for name in ("changes", "status_watches", "subscriptions")} == {0}


async def forever(*_args: object) -> None:
    await trio.sleep_forever()


async def test_who_was_idle_longest_is_told_why_it_goes_and_may_come_again() -> None:
    limits = ServiceLimits(connections_max=1)
    async with serving(limits=limits) as (_, service), raw_client(service.address) as first:
        await first.send(Ping(1))
        assert isinstance(await ends(first.answer()), Result)
        async with raw_client(service.address):
            farewell = await ends(first.answer())
            assert isinstance(farewell, GoingAway)
            assert farewell.reason == "there are 1 connections, and it was idle longest"
            assert await ends(first.is_closed())
        await serves(service)


async def test_who_never_asked_goes_without_a_word() -> None:
    limits = ServiceLimits(connections_max=1)
    async with (
        serving(limits=limits) as (_, service),
        raw_client(service.address) as first,
        raw_client(service.address),
    ):
        assert await ends(first.is_closed())


async def test_who_only_listens_is_told_too_and_its_subscription_ends() -> None:
    limits = ServiceLimits(connections_max=1)
    async with serving(limits=limits) as (_, service), raw_client(service.address) as first:
        await first.send(WatchStatus(1, 0.0))
        assert isinstance(await ends(first.answer()), Item)
        async with raw_client(service.address):
            while isinstance(farewell := await ends(first.answer()), Item):
                pass
            assert isinstance(farewell, GoingAway)
            assert farewell.reason
            assert await ends(first.is_closed())


async def test_a_client_that_went_for_another_one_comes_again_unnoticed() -> None:
    limits = ServiceLimits(connections_max=1)
    async with serving(limits=limits) as (_, service), client_of(service) as client:
        assert await ends(client.call(b"x")) is not None
        for number in range(3):
            async with raw_client(service.address):
                await until(lambda number=number: service._context.visitors.turned_away > number)  # type: ignore[misc] # bound now
            assert await ends(client.call(b"x")) is not None


async def test_g3_one_client_does_not_open_all_sessions_there_are() -> None:
    limits = ServiceLimits(sessions_of_client_max=3)
    async with serving(limits=limits) as (_, service), several(service, 2) as (greedy, other):
        opened = []
        for number in range(3):
            await greedy.send(Propose(number, encode_open(bytes([number]) * CLIENT_ID_BYTES)))
            answer = await ends(greedy.answer())
            assert isinstance(answer, Result)
            opened.append(msgspec.msgpack.decode(answer.value))
        for raw in (greedy, other):  # of the same host
            await raw.send(Propose(10, encode_open(b"z" * CLIENT_ID_BYTES)))
            answer = await ends(raw.answer())
            assert isinstance(answer, Failure)
            assert (answer.kind, "sessions_of_client_max" in answer.message) == ("overloaded", True)
        await other.send(GetStatus(11), Propose(12, encode_close(opened[0])))
        status = await ends(other.answer())
        assert isinstance(status, Result)
        decoded = msgspec.msgpack.decode(status.value, type=ServerStatus)
        assert decoded.budgets["sessions_of_client"] == (3, 3)
        assert isinstance(await ends(other.answer()), Result)
        await other.send(Propose(13, encode_open(b"y" * CLIENT_ID_BYTES)))
        assert isinstance(await ends(other.answer()), Result)


@pytest.mark.parametrize(
    "kind", ["silent", "gone", "garbage", "evicted", "idle", "asked", "broken", "refused command"]
)
async def test_g3_a_connection_that_is_over_leaves_nothing_for_the_collector(kind: str) -> None:
    """Ten thousand of them would be searched for cycles with all else that lives, again and again,
    and keep meanwhile what they had read and not sent."""
    limits = ServiceLimits(strangers_max=1, connections_max=2)
    async with serving(limits=limits) as (_, service):
        gc.collect()
        gc.disable()
        gc.freeze()  # what others have left
        try:
            for _ in range(3):
                await over_soon(kind, service)
            await until(lambda: service._listener.connections == 0)
            await trio.testing.wait_all_tasks_blocked()
            kinds = Connection | conversation.Conversation | Proposal
            assert not [each for each in gc.get_objects() if isinstance(each, kinds)]
        finally:
            gc.unfreeze()
            gc.enable()


async def over_soon(kind: str, service: Service) -> None:
    """Somebody comes, does this, and is gone."""
    if kind == "evicted":
        async with raw_client(service.address, hello=False) as one:
            await until(lambda: len(service._context.visitors.strangers) == 1)
            async with raw_client(service.address, hello=False):
                await ends(one.is_closed())
        return
    async with raw_client(service.address, hello=kind not in ("silent", "gone", "garbage")) as one:
        match kind:
            case "silent":
                await until(lambda: len(service._context.visitors.strangers) == 1)
            case "garbage":
                await one.stream.send_all(b"\xff" * 64)
                await ends(one.is_closed())
            case "asked":
                await one.send(Ping(1), GetStatus(2), Query(3, b"", "stale"), Query(4, b""))
                for _ in range(4):
                    await ends(one.answer())
            case "broken":
                await one.send(Ping(1))
                await ends(one.answer())
                one.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            case "refused command":
                await one.send(Propose(1, encode_command(4711, 1, b"x")))
                assert isinstance(await ends(one.answer()), Failure)
