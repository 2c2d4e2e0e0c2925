"""Accepting: what is refused, what is survived, and what is given back."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from trioraft.net.connection import Connection
from trioraft.net.door import CREDIT_AT_FIRST, Door, Look
from trioraft.net.holdings import Holdings
from trioraft.net.listening import Listener, listen, listen_now
from trioraft.net.rejections import Rejections
from trioraft.net.visitors import Visitors

PATIENCE_S = 10.0
"""Only reached by a test that fails."""
ANY_PORT = ("127.0.0.1", 0)


@attrs.define(eq=False)
class Port:
    """A port that greets whoever comes and waits for the end."""

    listener: Listener
    address: tuple[str, int]
    told: list[tuple[str, str]] = attrs.field(factory=list)

    async def greet(self, connection: Connection) -> None:
        try:
            await connection.stream.send_all(b"!")
            await connection.stream.receive_some()
        finally:
            connection.hang_up()

    async def is_greeted(self, stream: trio.abc.ReceiveStream) -> bool:
        with trio.fail_after(PATIENCE_S):
            return await stream.receive_some() == b"!"


@asynccontextmanager
async def open_port(*, strangers_max: int = 9) -> AsyncIterator[Port]:
    sock = await listen(ANY_PORT, "the test cannot listen")
    listener = Listener(
        sock,
        door=Door(),
        visitors=Visitors(lambda _host: False, strangers_max, 9),
        half_frames=Holdings("half frames", 1000),
        descriptors_reserved=0,
        silence_s=10.0,
        serve=lambda connection: port.greet(connection),
        rejections=Rejections(lambda remote, _peer, reason: port.told.append((remote, reason))),
        task_name=lambda remote: f"port[{remote}]",
    )
    port: Port = Port(listener, sock.getsockname())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.run, nursery)
        yield port
        nursery.cancel_scope.cancel()
    assert sock.fileno() == -1
    assert listener.connections == 0


async def test_for_one_too_many_the_one_that_kept_silent_longest_goes() -> None:
    async with (
        open_port(strangers_max=1) as port,
        await trio.open_tcp_stream(*port.address) as first,
    ):
        assert await port.is_greeted(first)
        async with await trio.open_tcp_stream(*port.address) as second:
            assert await port.is_greeted(second)
            with trio.fail_after(PATIENCE_S):
                assert await first.receive_some() == b""
            ((remote, reason),) = port.told
            assert remote == "{}:{}".format(*first.socket.getsockname())
            assert reason == "others came, and it kept silent"


async def test_g5_some_descriptors_are_never_given_to_whoever_knocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the next descriptor is among those reserved, a stranger goes, and the new one too."""
    async with open_port() as port:
        async with await trio.open_tcp_stream(*port.address) as first:
            assert await port.is_greeted(first)
            monkeypatch.setattr("trioraft.net.listening.descriptors_max", lambda: 3)
            async with await trio.open_tcp_stream(*port.address) as second:
                assert not await port.is_greeted(second)
            with trio.fail_after(PATIENCE_S):
                assert await first.receive_some() == b""
            monkeypatch.undo()
        async with await trio.open_tcp_stream(*port.address) as third:
            assert await port.is_greeted(third)
        assert port.told[0][1].startswith("descriptors are scarce")


def failing_to_accept(monkeypatch: pytest.MonkeyPatch, *codes: int) -> None:
    """The next connections are not accepted, but fail so."""
    accept, failures = socket.socket.accept, list(codes)

    def failing(self: socket.socket) -> tuple[socket.socket, tuple[str, int]]:
        if failures:
            raise OSError(failures.pop(), "it failed")
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", failing)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
async def test_running_out_of_something_is_survived_and_told_once(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    failing_to_accept(monkeypatch, code, code)
    async with open_port() as port, await trio.open_tcp_stream(*port.address) as stream:
        assert await port.is_greeted(stream)
        assert port.told == [("", f"cannot accept: {os.strerror(code)}")]


@pytest.mark.parametrize("code", [errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN])
async def test_a_connection_that_failed_before_it_was_accepted_is_nobodys_business(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    failing_to_accept(monkeypatch, code)
    async with open_port() as port, await trio.open_tcp_stream(*port.address) as stream:
        assert await port.is_greeted(stream)
        assert port.told == []


async def test_any_other_failure_to_accept_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    failing_to_accept(monkeypatch, errno.EINVAL)
    with pytest.raises(ExceptionGroup) as group:
        async with open_port() as port, await trio.open_tcp_stream(*port.address):
            await trio.sleep_forever()
    (error,) = group.value.exceptions
    assert isinstance(error, OSError)
    assert error.errno == errno.EINVAL


async def test_g10_who_is_not_looked_at_is_closed_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_port() as port:
        monkeypatch.setattr(port.listener.door, "look", lambda _host, _now_s: None)
        async with await trio.open_tcp_stream(*port.address) as stream:
            assert not await port.is_greeted(stream)
        assert port.listener.connections == 0
        assert port.told == []


async def test_g10_what_a_connection_costs_is_measured_until_it_is_over() -> None:
    spent: list[Look] = []
    async with open_port() as port:
        look = port.listener.door.look

        def looking(host: str, now_s: float) -> Look | None:
            found = look(host, now_s)
            assert found is not None
            spent.append(found)
            return found

        port.listener.door.look = looking  # type: ignore[method-assign] # to see what it returns
        async with await trio.open_tcp_stream(*port.address) as stream:
            assert await port.is_greeted(stream)
            assert spent[0]._spent_s > 0
            assert not spent[0].is_over
        with trio.fail_after(PATIENCE_S):
            while not spent[0].is_over:
                await trio.lowlevel.checkpoint()
        assert not port.listener.door.knows("127.0.0.1")
        left = port.listener.door._others["127.0.0.1"].left(trio.current_time())
        assert left == pytest.approx(CREDIT_AT_FIRST - 1, abs=0.9)


async def test_an_address_that_cannot_be_used_says_why() -> None:
    with listen_now(ANY_PORT, "") as taken:
        message = "the test cannot listen: Address already in use"
        with pytest.raises(OSError, match=message) as error:
            listen_now(taken.getsockname(), "the test cannot listen")
        assert error.value.errno == errno.EADDRINUSE
        with pytest.raises(OSError, match=message):
            await listen(taken.getsockname(), "the test cannot listen")


async def test_a_name_that_nobody_knows_says_whose_port_it_was() -> None:
    with pytest.raises(OSError, match="the test cannot listen: ") as error:
        await listen(("nowhere.invalid", 0), "the test cannot listen")
    assert not isinstance(error.value, socket.gaierror)


def test_all_interfaces_are_those_of_both_families() -> None:
    with listen_now(("::", 0), "") as sock:
        assert not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
