"""What members and clients really say: recorded between them, from a cluster in this process.

Rules of this file: the cluster runs as it would anywhere, on TCP; taps stand at the addresses that
everybody was told, and pass on what they hear. So what is recorded is what this release says,
whatever is appended to its messages later. Examples fill in the kinds that were not said.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import msgspec
import trio

from tests.golden import examples
from trioraft import Client, SQLiteStorage, TcpTransport, open_node, open_service
from trioraft.core.config import Limits
from trioraft.core.errors import BadMessage
from trioraft.core.types import Address, NodeId
from trioraft.kv import Do, If, KvClient, KvMachine
from trioraft.kv.commands import Append, Cas, Delete, Put, encode
from trioraft.machines.sessions import SessionMachine
from trioraft.net.framing import LENGTH_BYTES, RECEIVE_BYTES_MAX, Deframer
from trioraft.rpc import protocol
from trioraft.transport import codec

from .servers import free_ports

VOTERS: Final = ("0", "1", "2")
JOINS: Final = "3"
FRAME_BYTES_MAX: Final = 64 * 1024 * 1024
KEPT_OF_A_KIND: Final = 40
SECONDS_MAX: Final = 60.0


@attrs.frozen
class Recording:
    """Payloads, the first frame of each connection apart."""

    peers: tuple[bytes, ...]
    """What members say to each other."""
    clients: tuple[bytes, ...]
    """What clients ask."""


@attrs.define
class _Tap:
    """Stands before one port."""

    target: Address
    heard: list[bytes]

    async def serve(self, stream: trio.SocketStream) -> None:
        try:
            async with (
                await trio.open_tcp_stream(*self.target) as target,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(self._pass_on, target, stream, None, nursery.cancel_scope)
                deframer = Deframer(FRAME_BYTES_MAX)
                deframer.takes_pieces = True
                await self._pass_on(stream, target, deframer, nursery.cancel_scope)
        except* (OSError, trio.BrokenResourceError):
            pass  # one end is gone

    async def _pass_on(
        self,
        source: trio.SocketStream,
        sink: trio.SocketStream,
        deframer: Deframer | None,
        scope: trio.CancelScope,
    ) -> None:
        is_first = True
        while data := await source.receive_some(RECEIVE_BYTES_MAX):
            await sink.send_all(data)
            if deframer is None:
                continue
            deframer.feed(bytes(data))
            while (payload := deframer.next_payload()) is not None:
                if not is_first:
                    self.heard.append(bytes(payload))
                is_first = False
        scope.cancel()


def record() -> Recording:
    """Run a small cluster for some seconds, and return what was said."""
    peers: list[bytes] = []
    clients: list[bytes] = []
    with tempfile.TemporaryDirectory(prefix="trioraft-fuzz-") as folder:
        trio.run(_run, Path(folder), peers, clients)
    peers += [codec.encode_frame(each)[LENGTH_BYTES:] for each in examples.PEER_MESSAGES]
    clients += [protocol.frame(each)[LENGTH_BYTES:] for each in examples.REQUESTS]
    return Recording(_some_of_each(peers), _some_of_each(clients))


def _some_of_each(payloads: Iterable[bytes]) -> tuple[bytes, ...]:
    """Of each kind (the tag, and about how long it is) some, spread over all of the run."""
    kinds: dict[tuple[int, int], list[bytes]] = {}
    for payload in dict.fromkeys(payloads):
        tag: int = msgspec.msgpack.decode(payload)[0]
        kinds.setdefault((tag, len(payload).bit_length()), []).append(payload)
    chosen: list[bytes] = []
    for kind in sorted(kinds):
        found = kinds[kind]
        chosen += found[:: max(1, len(found) // KEPT_OF_A_KIND)][:KEPT_OF_A_KIND]
    return tuple(chosen)


async def _run(folder: Path, peers: list[bytes], clients: list[bytes]) -> None:
    ids = (*VOTERS, JOINS)
    ports = [("127.0.0.1", port) for port in free_ports(2 * len(ids))]
    with trio.fail_after(SECONDS_MAX):
        async with trio.open_nursery() as nursery:
            lab = _Lab(
                folder,
                dict(zip(ids, ports[: len(ids)], strict=True)),
                dict(zip(ids, ports[len(ids) :], strict=True)),
            )
            lab.peer_taps = await _tapped(nursery, lab.peer_ports, peers)
            lab.client_taps = await _tapped(nursery, lab.client_ports, clients)
            for voter in VOTERS:
                await nursery.start(lab.live, voter, VOTERS)
            addresses = {voter: lab.client_taps[voter] for voter in VOTERS}
            async with Client(addresses, timeout_s=20.0) as client:
                await _talk(client)
                await nursery.start(lab.live, JOINS, ())
                await _change(client, lab.peer_taps[JOINS])
            nursery.cancel_scope.cancel()


@attrs.define
class _Lab:
    """Where the nodes are, and where everybody is told that they are."""

    folder: Path
    peer_ports: dict[NodeId, Address]
    client_ports: dict[NodeId, Address]
    peer_taps: dict[NodeId, Address] = attrs.Factory(dict)
    client_taps: dict[NodeId, Address] = attrs.Factory(dict)

    async def live(
        self,
        node_id: NodeId,
        voters: tuple[NodeId, ...],
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """One node, with its port for clients."""
        machine = SessionMachine(KvMachine())
        transport = TcpTransport(
            node_id,
            self.peer_ports[node_id],
            {voter: self.peer_taps[voter] for voter in voters if voter != node_id},
            advertise=self.peer_taps[node_id],
        )
        async with (
            open_node(
                node_id,
                voters=voters,
                machine=machine,
                storage=SQLiteStorage(self.folder / node_id),
                transport=transport,
                limits=Limits(snapshot_entries=30, snapshot_tail_entries=5),
                rng=random.Random(int(node_id)),
            ) as node,
            open_service(
                node,
                machine,
                self.client_ports[node_id],
                advertise=self.client_taps[node_id],
                client_addresses=self.client_taps,
            ),
        ):
            task_status.started()
            await trio.sleep_forever()


async def _tapped(
    nursery: trio.Nursery, ports: Mapping[NodeId, Address], heard: list[bytes]
) -> dict[NodeId, Address]:
    """A tap before each port; where it listens."""
    taps: dict[NodeId, Address] = {}
    for node_id, target in ports.items():
        tap = _Tap(target, heard)
        listeners = await nursery.start(partial(trio.serve_tcp, host="127.0.0.1"), tap.serve, 0)
        host, port = listeners[0].socket.getsockname()[:2]
        taps[node_id] = (host, port)
    return taps


async def _talk(client: Client) -> None:
    """What applications do."""
    kv = KvClient(client)
    for number in range(80):
        await kv.put(f"key-{number}", "x" * (number * 7 % 200), wants_previous=number % 2 == 0)
    written = await kv.append("key-1", "more")
    await kv.cas("key-2", None, "other")
    await kv.cas("new", None, "value")
    await kv.delete("key-3")
    await kv.increment("number")
    await kv.txn(if_=[If.absent("new")], then=[Do.put("a", "b")], else_=[Do.get("new")])
    async with kv.lock("lock") as grant:
        await kv.put("lock/leased", "x", lease=grant.lease_id, ttl_s=60)
    for number in range(20):  # without a session: these are applied in any other cluster as well
        key = b"plain-%d" % (number % 4)
        for command in (Put(key, b"v"), Append(key, b"w"), Cas(key, b"vw", b"x"), Delete(key)):
            await client.call(encode(command), exactly_once=False)
    await kv.get("key-1")
    await kv.get("key-1", consistency="stale")
    await kv.page("key-", items_max=10)
    async with kv.watch("key-", from_index=1) as changes:
        await anext(aiter(changes))
    async with client.watch_status() as news:
        await anext(news)
    assert written.index


async def _change(client: Client, address: Address) -> None:
    """What operators do."""
    await client.transfer_leadership()
    await client.add_learner(JOINS, address)
    await client.change_voters([*VOTERS, JOINS])
    await client.statuses()
    await client.take_snapshot()
    await client.remove(JOINS)


def is_right(payload: bytes) -> bool:
    """Whether a member would read this message."""
    try:
        codec.decode_message(payload)
    except BadMessage:
        return False
    return True
