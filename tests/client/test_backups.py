"""A backup over the clients' port, on real sockets: what arrives, who may have one, and what does
not arrive whole."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.client.service_support import (
    Appends,
    client_of,
    raw_client,
    serving,
    until,
)
from tests.client.support import PATIENCE_S
from trioraft import (
    BackupReader,
    BlockingClient,
    Client,
    ConfigError,
    Configuration,
    MemoryNetwork,
    Overloaded,
    PermissionDenied,
    RaftError,
    Roles,
    ServerLeaving,
    ServerLost,
    ServiceLimits,
    SessionMachine,
    SQLiteStorage,
    Timing,
    UnusableBackup,
    open_node,
    open_service,
)
from trioraft.client.backups import in_order
from trioraft.rpc.protocol import Cancel, Failure, Item, Ping, ReadBackup, Result, ServerStatus

LARGE = 20 * 1024 * 1024


class Large(Appends):
    """Its state has some megabytes."""

    def snapshot(self) -> bytes:
        return b"".join(self.items).ljust(LARGE, b".")

    def restore(self, chunks: Any) -> None:
        self.items = [b"".join(chunks).rstrip(b".")]


def content_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return b"".join(BackupReader(file, str(path)).chunks())


async def test_a_backup_has_what_was_acknowledged(tmp_path: Path) -> None:
    path, told = tmp_path / "backup", []
    with trio.fail_after(PATIENCE_S):
        async with serving() as (node, service), client_of(service) as client:
            for number in range(10):
                await client.call(b"%d" % number)
            head = await client.backup(path, on_progress=lambda _, bytes_: told.append(bytes_))
            assert head.snapshot.index == node.status.applied_index
            assert head.machine == "Appends in sessions"
    assert content_of(path).endswith(b"\n".join(b"%d" % number for number in range(10)))
    assert told[-1] == head.snapshot.size_bytes


async def test_a_large_one_arrives_whole_and_takes_a_piece_of_memory(tmp_path: Path) -> None:
    machine = SessionMachine(Large())
    options: Any = {"node_options": {"storage": SQLiteStorage(tmp_path / "node")}}
    with trio.fail_after(PATIENCE_S):
        async with serving(machine, **options) as (_, service), client_of(service) as client:
            await client.call(b"state")
            most = 0
            async with client.open_backup() as backup:
                got = bytearray()
                async for piece in backup:
                    got += piece
                    most = max(most, service._context.unsent.bytes)
            assert most <= 2 * 256 * 1024 + 1024
            assert service._context.budgets()["backups"] == (0, 2)
    assert got.endswith(b"state".ljust(LARGE, b"."))


async def test_a_slow_client_waits_for_itself_alone(tmp_path: Path) -> None:
    """Meanwhile commands go on, and newer snapshots take the place of the one that is read."""
    machine = SessionMachine(Large())
    options: Any = {"node_options": {"storage": SQLiteStorage(tmp_path / "node")}}
    with trio.fail_after(PATIENCE_S):
        async with serving(machine, **options) as (node, service), client_of(service) as client:
            await client.call(b"state")
            async with client.open_backup() as backup:
                got = bytearray(await anext(backup))
                for _ in range(3):
                    await client.call(b"more")
                    await node.take_snapshot()
                async for piece in backup:
                    got += piece
    assert got.endswith(b"state".ljust(LARGE, b"."))


async def test_a_quick_client_gets_it_no_faster_than_leaves_others_room(tmp_path: Path) -> None:
    options: Any = {
        "node_options": {"storage": SQLiteStorage(tmp_path / "node")},
        "limits": ServiceLimits(backup_bytes_per_s_max=LARGE),
    }
    with trio.fail_after(PATIENCE_S):
        async with (
            serving(SessionMachine(Large()), **options) as (_, service),
            client_of(service) as client,
            client.open_backup() as backup,
        ):
            begun_s = trio.current_time()
            async for _ in backup:
                pass
            assert trio.current_time() - begun_s > 0.8


async def test_one_more_than_there_may_be_is_refused_and_later_ones_are_not(tmp_path: Path) -> None:
    machine = SessionMachine(Large())
    options: Any = {
        "node_options": {"storage": SQLiteStorage(tmp_path / "node")},
        "limits": ServiceLimits(backups_max=1),
    }
    with trio.fail_after(PATIENCE_S):
        async with serving(machine, **options) as (_, service), client_of(service) as client:
            await client.call(b"state")
            async with client.open_backup():
                with pytest.raises(Overloaded, match=r"ServiceLimits\.backups_max"):
                    await client.backup(tmp_path / "second")
            await until(lambda: service._context.backups == 0)
            await client.backup(tmp_path / "second")
    assert (tmp_path / "second").exists()
    assert not (tmp_path / "second.part").exists()


async def test_who_gives_one_up_leaves_nothing_here_or_there(tmp_path: Path) -> None:
    machine = SessionMachine(Large())
    options: Any = {"node_options": {"storage": SQLiteStorage(tmp_path / "node")}}
    with trio.fail_after(PATIENCE_S):
        async with serving(machine, **options) as (_, service), client_of(service) as client:
            await client.call(b"state")
            with trio.CancelScope() as scope:

                def stop(_: object, size_bytes: int) -> None:
                    if size_bytes > LARGE // 2:
                        scope.cancel()

                await client.backup(tmp_path / "backup", on_progress=stop)
            assert scope.cancelled_caught
            assert set(os.listdir(tmp_path)) == {"node"}
            await until(lambda: service._context.backups == 0)
            async with raw_client(service.address) as raw:  # one that says so
                await raw.send(ReadBackup(1))
                assert isinstance(await raw.answer(), Item)
                await raw.send(Cancel(1), Ping(2))
                while not isinstance(await raw.answer(), Result):
                    pass
                await until(lambda: service._context.backups == 0)


async def test_a_server_that_leaves_ends_it(tmp_path: Path) -> None:
    machine = SessionMachine(Large())
    storage = SQLiteStorage(tmp_path / "node")
    path = tmp_path / "backup"
    path.write_bytes(b"the one before")
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            left = trio.Event()

            async def take(client: Client) -> None:
                def leave(_: object, size_bytes: int) -> None:
                    left.set()

                async with client:
                    with pytest.raises((ServerLeaving, ServerLost), match="is not whole: take"):
                        await client.backup(path, on_progress=leave)

            async with serving(machine, node_options={"storage": storage}) as (node, service):
                await node.propose(b"\x01\x92\x00\xc4\x05state")
                nursery.start_soon(take, client_of(service))
                await left.wait()
    assert path.read_bytes() == b"the one before"
    assert not path.with_name("backup.part").exists()


async def test_without_a_majority_only_a_stale_one_can_be_had(tmp_path: Path) -> None:
    machine = SessionMachine(Appends())
    network = MemoryNetwork(random.Random(1))
    with trio.fail_after(PATIENCE_S):
        async with (
            open_node(
                "0",
                voters=["0", "1"],
                machine=machine,
                storage=SQLiteStorage(tmp_path / "0"),
                transport=network.transport("0"),
                timing=Timing(election_timeout_s=(0.05, 0.1), heartbeat_interval_s=0.01),
            ) as node,
            open_service(node, machine, ("127.0.0.1", 0)) as service,
            client_of(service) as client,
        ):
            with pytest.raises(Overloaded, match=r"within 0\.3 s what is committed.*--stale"):
                await client.backup(tmp_path / "backup", timeout_s=0.3)
            with pytest.raises(ConfigError, match="has applied nothing yet"):
                await client.backup(tmp_path / "backup", stale=True)
    assert not (tmp_path / "backup").exists()


async def test_no_server_is_said(tmp_path: Path) -> None:
    async with Client([("127.0.0.1", 1)]) as client:
        with pytest.raises(ServerLost, match=r"no server to take a backup from answers: .*:1"):
            await client.backup(tmp_path / "backup", timeout_s=1.0)


async def test_what_cannot_be_written_is_said_before_much_has_come(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE_S):
        async with serving() as (_, service), client_of(service) as client:
            await client.call(b"x")
            with pytest.raises(ConfigError, match="is a directory"):
                await client.backup(tmp_path)
            with pytest.raises(FileNotFoundError):
                await client.backup(tmp_path / "nowhere" / "backup")


def test_threads_have_it_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving() as (_, service):

            def take() -> None:
                with BlockingClient([service.address]) as client:
                    client.call(b"x")
                    client.backup(tmp_path / "backup")

            await trio.to_thread.run_sync(take)

    trio.run(main)
    assert content_of(tmp_path / "backup").endswith(b"x")


# -- on a bad line -----------------------------------------------------------------------------


@asynccontextmanager
async def cutting(address: tuple[str, int]) -> AsyncIterator[tuple[tuple[str, int], list[int]]]:
    """A line to a server that is cut after so many bytes from it, as many as the list's last."""
    cuts: list[int] = []

    async def handle(client: trio.SocketStream) -> None:
        left = cuts[-1]
        server = await trio.open_tcp_stream(*address)
        async with client, server, trio.open_nursery() as both:

            async def there() -> None:
                async for data in client:
                    await server.send_all(data)

            both.start_soon(there)
            async for data in server:
                await client.send_all(data[:left])
                left -= len(data)
                if left <= 0:
                    break
            both.cancel_scope.cancel()

    async def serve(listener: trio.SocketListener) -> None:
        while True:
            with trio.CancelScope():
                try:
                    stream = await listener.accept()
                    nursery.start_soon(quietly, stream)
                except trio.ClosedResourceError:
                    return

    async def quietly(stream: trio.SocketStream) -> None:
        try:
            await handle(stream)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(serve, listener)
        host, port = listener.socket.getsockname()[:2]
        yield (host, port), cuts
        nursery.cancel_scope.cancel()
        await listener.aclose()


async def test_wherever_the_line_is_cut_nothing_looks_whole(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    path.write_bytes(b"the one before")
    with trio.fail_after(PATIENCE_S):
        async with serving() as (_, service), client_of(service) as direct:
            for number in range(200):
                await direct.call(b"%03d" % number)
            await direct.backup(tmp_path / "whole")
            whole_bytes = len((tmp_path / "whole").read_bytes())
            async with cutting(service.address) as (address, cuts):
                for left in range(0, whole_bytes + 600, 23):
                    cuts.append(left)
                    async with Client([address]) as client:
                        try:
                            await client.backup(path, at=address, timeout_s=2.0)
                        except ServerLost:
                            assert path.read_bytes() == b"the one before"
                        else:
                            assert content_of(path) == content_of(tmp_path / "whole")
                            break
                assert 100 < left < whole_bytes + 500
    assert not path.with_name("backup.part").exists()


async def test_a_server_that_sends_something_else_is_not_believed(tmp_path: Path) -> None:
    """It says what the content amounts to before it sends it."""
    with trio.fail_after(PATIENCE_S):
        async with serving() as (node, service), client_of(service) as client:
            await client.call(b"x")
            opened = node.open_backup

            @asynccontextmanager
            async def lying(**options: Any) -> AsyncIterator[Any]:
                async with opened(**options) as backup:

                    class Other:
                        head = backup.head

                        async def __aiter__(self) -> AsyncIterator[bytes]:
                            async for piece in backup:
                                yield piece.replace(b"x", b"y")

                    yield Other()

            node.open_backup = lying  # type: ignore[method-assign] # the subject
            with pytest.raises(UnusableBackup, match="not the backup that was announced"):
                await client.backup(tmp_path / "backup")
    assert os.listdir(tmp_path) == []


# -- whom it is asked of -----------------------------------------------------------------------


def status(role: str, applied: int, leader: str | None = "0") -> ServerStatus:
    return ServerStatus(
        "0", "c", role, 1, leader, 0, 0, applied, Configuration(()), 0, {}, "for a test"
    )


def test_a_follower_that_is_far_is_asked_before_the_leader() -> None:
    statuses: dict[tuple[str, int], ServerStatus | RaftError] = {
        ("leader", 1): status("Leader", 100),
        ("far", 1): status("Follower", 99),
        ("behind", 1): status("Follower", 5),
        ("alone", 1): status("PreCandidate", 100, None),
        ("away", 1): ServerLost("away"),
    }
    order = [host for host, _ in in_order(statuses, stale=False)]
    assert order == ["far", "behind", "leader", "alone"]
    assert [host for host, _ in in_order(statuses, stale=True)][:2] == ["leader", "alone"]


# -- who may have one --------------------------------------------------------------------------

ROLES = """
[tokens.reader]
sha256 = "{reader}"
role = "read"
[tokens.backup]
sha256 = "{backup}"
role = "read"
prefixes = []
backup = true
[tokens.admin]
sha256 = "{admin}"
role = "admin"
[tokens.bounded]
sha256 = "{bounded}"
role = "admin"
prefixes = ["app/"]
"""


class Keyed(Appends):
    def keys_written(self, data: bytes) -> list[bytes]:
        return [data]

    def keys_read(self, data: bytes) -> list[bytes]:
        return [data]


async def test_a_backup_needs_a_role_that_says_so(tmp_path: Path) -> None:
    names = ("reader", "backup", "admin", "bounded")
    path = tmp_path / "roles.toml"
    path.write_text(
        ROLES.format(**{name: hashlib.sha256(name.encode()).hexdigest() for name in names}),
        encoding="utf-8",
    )
    with trio.fail_after(PATIENCE_S):
        async with serving(SessionMachine(Keyed()), roles=Roles(path)) as (_, service):
            for name in names:
                async with client_of(service, token=name) as client:
                    if name in ("backup", "admin"):
                        await client.backup(tmp_path / name)
                        continue
                    with pytest.raises(
                        PermissionDenied, match="needs backup = true, or role admin"
                    ):
                        await client.backup(tmp_path / name)
            async with client_of(service, token=names[1]) as client:
                with pytest.raises(PermissionDenied):
                    await client.call(b"app/x")
                with pytest.raises(PermissionDenied):
                    await client.take_snapshot()
    assert set(os.listdir(tmp_path)) == {"roles.toml", "backup", "admin"}


async def test_no_patience_at_all_is_answered_too() -> None:
    with trio.fail_after(PATIENCE_S):
        async with serving() as (_, service), raw_client(service.address) as raw:
            await raw.send(ReadBackup(1, False, 0.0))
            answer = await raw.answer()
            assert isinstance(answer, Failure | Item)
