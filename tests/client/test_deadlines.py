"""Each call has its own deadline, and one sleeper minds those of a connection; in virtual time."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import MockClock

from tests.client.support import FakeServer, Hang, echo, open_client, result
from trioraft import Client, DeadlineExceeded
from trioraft.core.errors import OutcomeUnknown
from trioraft.rpc.protocol import Answer, Cancel, Propose, Query, Request

SEED = 5


def holds(server: FakeServer, request: Request) -> Answer:
    """Answers what begins with "now"; commands otherwise hang, and so do questions."""
    if isinstance(request, Query):
        if request.data.startswith(b"now"):
            return result(request, request.data)
        raise Hang
    if isinstance(request, Propose) and b"hang" in request.data:
        raise Hang
    return echo(server, request)


def leader() -> FakeServer:
    return FakeServer("0", "Leader", handler=holds)


async def test_each_call_is_given_up_at_its_own_time(autojump_clock: MockClock) -> None:
    """Later calls may have less time than earlier ones."""
    print(f"seed {SEED}")
    timeouts_s = [0.05 * number for number in range(1, 41)]
    random.Random(SEED).shuffle(timeouts_s)
    took_s: dict[float, float] = {}

    async def call(client: Client, timeout_s: float, number: int) -> None:
        begun_s = trio.current_time()
        ask = client.query if number % 2 else client.call
        with pytest.raises((OutcomeUnknown, DeadlineExceeded)):
            await ask(b"hang", timeout_s=timeout_s)
        took_s[timeout_s] = trio.current_time() - begun_s

    server = leader()
    async with open_client(server, silence_s=1000.0, read_patience_s=1000.0) as client:
        await client.call(b"one")
        async with trio.open_nursery() as nursery:
            for number, timeout_s in enumerate(timeouts_s):
                nursery.start_soon(call, client, timeout_s, number)
        assert await client.call(b"two") == b"two"
    assert len(took_s) == len(timeouts_s)
    for timeout_s, after_s in took_s.items():
        assert after_s == pytest.approx(timeout_s, abs=0.001)
    called_back = [request for request in server.requests if isinstance(request, Cancel)]
    assert len(called_back) == len(timeouts_s) // 2  # the questions; a command cannot be


async def test_a_deadline_that_is_over_at_once(autojump_clock: MockClock) -> None:
    async with open_client(leader()) as client:
        await client.call(b"one")
        for timeout_s in (0.0, -1.0):
            with pytest.raises(DeadlineExceeded):
                await client.query(b"hang", timeout_s=timeout_s)
            with pytest.raises(OutcomeUnknown):
                await client.call(b"hang", timeout_s=timeout_s)
        assert await client.query(b"now") == b"now"


async def test_a_call_that_was_answered_is_not_given_up_later(autojump_clock: MockClock) -> None:
    async with open_client(leader(), silence_s=1000.0, read_patience_s=1000.0) as client:
        for number in range(100):
            assert await client.query(b"now", timeout_s=0.1 + number) == b"now"
            await trio.sleep(0.05)
        begun_s = trio.current_time()
        with pytest.raises(DeadlineExceeded):
            await client.query(b"hang", timeout_s=3.0)
        assert trio.current_time() - begun_s == pytest.approx(3.0, abs=0.001)


async def test_a_question_is_asked_again_within_its_deadline(autojump_clock: MockClock) -> None:
    server = leader()
    async with open_client(server, silence_s=1000.0, read_patience_s=0.5) as client:
        begun_s = trio.current_time()
        with pytest.raises(DeadlineExceeded):
            await client.query(b"hang", timeout_s=4.0)
        assert trio.current_time() - begun_s == pytest.approx(4.0, abs=0.001)
    asked = [request for request in server.requests if isinstance(request, Query)]
    assert len(asked) == 4  # after 0.5, 1 and 2 seconds more, and pauses
