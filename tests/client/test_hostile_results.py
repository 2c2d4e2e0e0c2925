"""What state machines may raise and return, and what that must not do to service and client.

Rules of this file: every machine here is legal Python, and unkind; after its answer the next call
works.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from trio.testing import MockClock

from tests.client.service_support import Appends, client_of, serving
from tests.client.support import FakeServer, echo, ends, failure, open_client
from trioraft import (
    Client,
    CommandFailed,
    ConfigError,
    NotLeader,
    OutcomeUnknown,
    Overloaded,
    ProposalDropped,
)
from trioraft.core.types import LogIndex
from trioraft.machines.sessions import (
    MESSAGE_CHARS_MAX,
    SessionMachine,
    encode_command,
    encode_open,
)
from trioraft.rpc.protocol import Answer, Propose, Request


class Odd(Exception):  # noqa: N818 - not an error of ours
    """Its constructor takes something else than a message."""

    def __init__(self, code: int, *, text: str) -> None:
        super().__init__(f"{code}: {text}")


class Mute(Exception):  # noqa: N818 - not an error of ours
    """It cannot even be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class Raises(Appends):
    """Counts how often it was applied, then raises what it was made with."""

    def __init__(self, error: Callable[[], Exception]) -> None:
        super().__init__()
        self.error = error
        self.applied = 0

    def apply(self, index: int, data: bytes) -> int:
        if data == b"fine":
            return 0
        self.applied += 1
        raise self.error()


UNKIND: list[tuple[str, Callable[[], Exception], str]] = [
    ("odd", lambda: Odd(3, text="x"), "3: x"),
    ("mute", Mute, "cannot be shown"),
    ("surrogates", lambda: ValueError("bad \ud800 name"), r"bad \\ud800 name"),
    ("endless", lambda: ValueError("x" * 30_000_000), "xxx…"),
]


@pytest.mark.parametrize(("_name", "error", "words"), UNKIND, ids=[each[0] for each in UNKIND])
@pytest.mark.parametrize("sessions", [True, False])
async def test_an_error_that_cannot_travel_as_it_is_travels_as_words(
    _name: str, error: Callable[[], Exception], words: str, sessions: bool
) -> None:
    inner = Raises(error)
    machine: Any = SessionMachine(inner) if sessions else inner
    async with (
        serving(machine) as (_, service),
        client_of(service, sessions=sessions, error_types=[Odd]) as client,
    ):
        with pytest.raises(CommandFailed, match=words) as raised:
            await ends(client.call(b"x"))
        assert raised.value.type_name == type(error()).__qualname__
        assert len(str(raised.value)) <= MESSAGE_CHARS_MAX + 100
        assert await ends(client.call(b"fine")) == 0
        assert inner.applied == 1


@pytest.mark.parametrize("error", [each[1] for each in UNKIND], ids=[each[0] for each in UNKIND])
def test_what_raised_is_not_applied_again_and_can_be_saved(error: Callable[[], Exception]) -> None:
    inner = Raises(error)
    machine = SessionMachine(inner, error_types=[Odd])
    session = machine.apply(1, encode_open(bytes(16)))
    command = encode_command(session, 1, b"x")
    with pytest.raises(type(error())):
        machine.apply(2, command)
    with pytest.raises(CommandFailed):
        machine.apply(3, command)
    assert inner.applied == 1
    content = b"".join(machine.snapshot())
    assert len(content) < 2 * MESSAGE_CHARS_MAX
    SessionMachine(Raises(error)).restore((content,))


@pytest.mark.parametrize(
    "error",
    [
        lambda: Overloaded("my queue is full"),
        lambda: ProposalDropped("I dropped it"),
        lambda: NotLeader("0"),
    ],
    ids=["overloaded", "dropped", "not-leader"],
)
@pytest.mark.parametrize("sessions", [True, False])
async def test_a_machine_that_raises_one_of_our_errors_is_not_asked_again(
    error: Callable[[], Exception], sessions: bool
) -> None:
    """For the client they would mean that nothing was applied: it would send the command again."""
    inner = Raises(error)
    machine: Any = SessionMachine(inner) if sessions else inner
    async with (
        serving(machine) as (_, service),
        client_of(service, sessions=sessions) as client,
    ):
        with pytest.raises(CommandFailed) as raised:
            await ends(client.call(b"x", timeout_s=1.0))
        assert raised.value.type_name == type(error()).__name__
        assert inner.applied == 1


def test_error_types_that_mean_something_to_the_client_are_refused() -> None:
    class Full(Overloaded):
        pass

    for error_type in (Overloaded, NotLeader, OutcomeUnknown, Full):
        with pytest.raises(ConfigError, match=error_type.__name__):
            Client([("127.0.0.1", 1)], error_types=[error_type])


async def test_a_session_that_is_full_is_tried_again(autojump_clock: MockClock) -> None:
    """The session machine refuses before it applies: that is another thing than a full queue."""
    refused: list[Request] = []

    def handler(server: FakeServer, request: Request) -> Answer:
        if server.session_commands() and isinstance(request, Propose) and not refused:
            refused.append(request)
            return failure(request, "session-full")
        return echo(server, request)

    async with open_client(FakeServer("0", "Leader", handler=handler)) as client:
        assert await ends(client.call(b"one")) == b"one"
    assert refused


class Nested(Appends):
    """Returns what no encoder takes to the end."""

    def apply(self, index: LogIndex, data: bytes) -> Any:
        if data == b"fine":
            return 0
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        return deep

    def query(self, data: bytes) -> Any:
        return self.apply(1, data)


@pytest.mark.parametrize("sessions", [True, False])
async def test_a_result_without_end_is_an_error_of_its_call_alone(sessions: bool) -> None:
    machine: Any = SessionMachine(Nested()) if sessions else Nested()
    async with serving(machine) as (_, service), client_of(service, sessions=sessions) as client:
        with pytest.raises((ConfigError, CommandFailed)):
            await ends(client.call(b"deep"))
        with pytest.raises((ConfigError, CommandFailed)):
            await ends(client.query(b"deep"))
        assert await ends(client.call(b"fine")) == 0
