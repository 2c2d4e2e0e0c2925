"""The end of a TCP transport, in each phase of its connections: nothing of it is left."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from trioraft.core.config import Limits
from trioraft.transport.tcp import TcpTransport

from .support import (
    LOOPBACK,
    PATIENCE_S,
    HangingResolver,
    Recorder,
    all_tasks,
    connected,
    free_port,
    heartbeat,
    linked_pair,
    open_sockets,
    running,
)

PATIENT = Limits(reconnect_backoff_s=(60.0, 60.0))


@asynccontextmanager
async def full_backlog() -> AsyncIterator[int]:
    """A port at which connecting hangs, since its owner accepts nobody."""
    with socket.socket() as sock:
        sock.bind(LOOPBACK)
        sock.listen(0)
        port: int = sock.getsockname()[1]
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        try:
            yield port
        finally:
            for filler in fillers:
                filler.close()


@asynccontextmanager
async def ends_at_once(
    transport: TcpTransport, *, limits: Limits | None = None
) -> AsyncIterator[Recorder]:
    """Cancel the transport after the block: it must be gone at once, with all its sockets."""
    transport.close()
    sockets = open_sockets()
    async with running(transport, limits=limits) as owner:
        yield owner
        lost = list(owner.lost)
        assert open_sockets() > sockets
        start_s = trio.current_time()
    took_s = trio.current_time() - start_s
    assert open_sockets() == sockets
    assert took_s < 0.1  # 0.3 ms; the rest is for a busy machine
    assert owner.lost == lost
    assert len([task for task in all_tasks() if task.name.startswith("raft[")]) == 0


async def test_ending_with_links_up_and_a_stranger_at_the_door() -> None:
    zero, one = linked_pair()
    async with running(one) as owner_1:
        sockets = open_sockets()
        async with running(zero) as owner:
            await owner.until_up("1")
            await owner_1.until_up("0")
            async with connected(zero):
                await trio.testing.wait_all_tasks_blocked()
        await owner_1.until(lambda r: len(r.lost) == 2)
        assert open_sockets() == sockets - 1  # the one that was bound before


async def test_ending_while_connecting() -> None:
    async with full_backlog() as port:
        transport = TcpTransport("0", LOOPBACK, {"1": ("127.0.0.1", port)})
        async with ends_at_once(transport):
            await trio.testing.wait_all_tasks_blocked(0.02)


async def test_connecting_has_a_deadline() -> None:
    async with full_backlog() as port:
        transport = TcpTransport("0", LOOPBACK, {"1": ("127.0.0.1", port)})
        async with running(transport, limits=Limits(connect_timeout_s=0.05)) as owner:
            reason = await owner.until_down("1")
            assert reason == f"cannot connect to 127.0.0.1:{port}: no answer within 0.05 s"


async def test_ending_while_a_name_is_looked_up() -> None:
    resolver = HangingResolver()
    trio.socket.set_custom_hostname_resolver(resolver)
    peers = {"1": ("node-1.example", 4000)}
    async with ends_at_once(TcpTransport("0", LOOPBACK, peers, insecure=True)):
        await resolver.asked.wait()


async def test_ending_while_the_peer_does_not_answer_the_handshake() -> None:
    with socket.socket() as silent:
        silent.bind(LOOPBACK)
        silent.listen()
        transport = TcpTransport("0", LOOPBACK, {"1": silent.getsockname()})
        async with ends_at_once(transport):
            await trio.testing.wait_all_tasks_blocked(0.02)
        limits = Limits(handshake_timeout_s=0.05)
        async with ends_at_once(transport, limits=limits) as owner:
            reason = await owner.until_down("1")
            assert reason.endswith("failed: no answer within 0.05 s")


async def test_ending_in_a_pause() -> None:
    transport = TcpTransport("0", LOOPBACK, {"1": ("127.0.0.1", free_port())})
    async with ends_at_once(transport, limits=PATIENT) as owner:
        await owner.until_down("1")


async def test_an_error_of_the_owner_ends_it_and_is_not_swallowed() -> None:
    class Broken(Recorder):
        def on_message(self, message: object, origin: object) -> None:
            raise RuntimeError("a bug")

    sockets = open_sockets()
    zero, one = linked_pair()
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="a bug"), flatten_subgroups=True):
        async with running(one, Broken()), running(zero) as owner:
            await owner.until_up("1")
            zero.send(heartbeat("0", "1"))
            with trio.fail_after(PATIENCE_S):
                await trio.sleep_forever()
    assert open_sockets() == sockets


def test_this_machine_can_count_descriptors() -> None:
    before = open_sockets()
    with socket.socket():
        assert open_sockets() == before + 1
    assert os.path.isdir("/proc/self/fd")
