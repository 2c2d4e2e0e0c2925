"""Authorities and certificates are exchanged, member by member, under load: no call is lost.

Rules of this file: three servers as they ship, in processes of their own, with TLS at both ports;
their files come from `trioraft certs`. Files that were brought to a server are in use once its log
says so. Connections outlive an exchange: members are started anew, so that new ones are made.
"""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final, final

import attrs
import trio

from benchmarks.processes import ServerProcess, ServerProcesses, shown
from tests.serve.commands import lines, run
from trioraft import Client, TlsContexts
from trioraft.core.types import NodeId
from trioraft.kv import ERROR_TYPES, KvClient

PATIENCE_S: Final = 60.0
LOOK_S: Final = 0.02
WORKERS: Final = 4
PAUSE_S: Final = 0.01
"""Between two calls of a worker: the exchange is the subject, not the throughput."""


async def until(holds: Callable[[], bool]) -> None:
    """Ask other processes until it is so."""
    with trio.fail_after(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - other processes set no event of ours
            await trio.sleep(LOOK_S)


def bring(source: Path, target: Path) -> None:
    """Copy what changed, each file as a whole, keys first, as a careful person would."""
    target.mkdir(exist_ok=True)
    for path in sorted(source.iterdir(), key=lambda path: path.suffix != ".key"):
        there = target / path.name
        if there.exists() and there.read_bytes() == path.read_bytes():
            continue
        beside = there.with_suffix(".new")
        shutil.copy(path, beside)
        beside.replace(there)


@final
@attrs.define
class Machines:
    """Three machines with a server each, one with a client, and one that keeps the authorities."""

    directory: Path
    cluster: ServerProcesses

    @property
    def pki(self) -> Path:
        return self.directory / "pki"

    def certs(self, *words: str) -> None:
        """The command on the machine that keeps the authorities."""
        lines(run("certs", str(self.pki), *words))

    def on(self, node_id: NodeId) -> Path:
        """Where a machine has its files."""
        return self.directory / f"machine-{node_id}"

    def install(self) -> None:
        """Bring all machines their first files, and have their servers use them."""
        for node_id in self.cluster.ids:
            at = self.on(node_id)
            bring(self.pki / node_id, at)
            tls = []
            for option, name in (("tls", "peer"), ("client-tls", "client-port")):
                authority = "peers-ca.pem" if name == "peer" else "clients-ca.pem"
                tls += [f"--{option}-cert", str(at / f"{name}.pem")]
                tls += [f"--{option}-key", str(at / f"{name}.key")]
                tls += [f"--{option}-ca", str(at / authority)]
            self.cluster.servers[node_id] = ServerProcess(
                [*self.cluster.arguments[node_id], *tls, "--log-format", "json"],
                self.directory / f"{node_id}.log",
                name=f"server {node_id}",
            )
        self.bring_to_client()

    def bring_to_client(self) -> None:
        at = self.on("client")
        bring(self.pki / "clients", at)
        shutil.copy(self.pki / "clients-ca.pem", at)

    def client_tls(self) -> TlsContexts:
        at = self.on("client")
        return TlsContexts.from_files(
            certificate=at / "app.pem", key=at / "app.key", authority=at / "clients-ca.pem"
        )

    def client(self, tls: TlsContexts) -> Client:
        return Client(self.cluster.clients, ssl_context=tls, error_types=ERROR_TYPES)

    async def bring_to(self, node_id: NodeId, *, hang_up: bool) -> None:
        """Bring a machine its new files, and wait until its server uses them at both ports."""
        before = self._reloads(node_id)
        bring(self.pki / node_id, self.on(node_id))
        if hang_up:
            self.cluster.servers[node_id].signal(signal.SIGHUP)
        wanted = {port: count + 1 for port, count in before.items()}
        await until(lambda: all(self._reloads(node_id)[port] >= wanted[port] for port in wanted))

    def _reloads(self, node_id: NodeId) -> dict[str, int]:
        log = (self.directory / f"{node_id}.log").read_text(encoding="utf-8")
        told = [json.loads(line) for line in log.splitlines() if line.endswith("}")]
        ports = [each["port"] for each in told if each["event"] == "certificates_reloaded"]
        return {port: ports.count(port) for port in ("peers", "clients")}

    async def start_anew(self, node_id: NodeId) -> None:
        """It leaves, and comes back: every connection to and from it is a new one."""
        server = self.cluster.servers[node_id]
        server.signal(signal.SIGTERM)
        assert await trio.to_thread.run_sync(server.wait) == 0
        server.start()
        await trio.to_thread.run_sync(server.wait_ready)
        await self.linked(node_id)

    async def linked(self, node_id: NodeId) -> None:
        """Until its own connections reach all others, and theirs reach it."""
        async with self.client(self.client_tls()) as client:
            with trio.fail_after(PATIENCE_S):
                while True:
                    statuses = [await client.status(at) for at in self.cluster.addresses]
                    (own,) = (s.links for s in statuses if s.node_id == node_id)
                    theirs = [s.links.get(node_id) for s in statuses if s.node_id != node_id]
                    if all((*theirs, len(own) == 2, *own.values())):
                        return
                    await trio.sleep(LOOK_S)


@attrs.define
class Load:
    """Calls, all the time; the first that fails ends the test."""

    kv: KvClient
    done: dict[str, int] = attrs.field(factory=dict)

    async def put(self, key: str) -> None:
        while True:
            await self.kv.put(key, str(self.done.get(key, 0) + 1))
            self.done[key] = self.done.get(key, 0) + 1
            await trio.sleep(PAUSE_S)

    async def goes_on(self) -> None:
        """Until each worker has had another call answered."""
        before = dict(self.done)
        await until(lambda: all(self.done[key] > count for key, count in before.items()))


async def test_g9_authorities_and_certificates_are_exchanged_under_load(tmp_path: Path) -> None:
    with ServerProcesses(tmp_path) as cluster:
        machines = Machines(tmp_path, cluster)
        machines.certs("--client", "app")
        machines.install()
        await trio.to_thread.run_sync(cluster.start)
        tls = machines.client_tls()
        async with machines.client(tls) as client, trio.open_nursery() as nursery:
            load = Load(KvClient(client))
            for worker in range(WORKERS):
                nursery.start_soon(load.put, str(worker))
            await until(lambda: len(load.done) == WORKERS)
            await exchange(machines, tls, load)
            nursery.cancel_scope.cancel()
        async with machines.client(machines.client_tls()) as client:
            for key, count in load.done.items():
                found = await KvClient(client).get(key)
                assert found is not None
                assert count <= int(found) <= count + 1  # the last one was cancelled
            for at in cluster.addresses:
                status = await client.status(at)
                assert status.peer_certificate_expires_s is not None
                assert status.client_certificate_expires_s is not None


async def exchange(machines: Machines, tls: TlsContexts, load: Load) -> None:
    """Both authorities, and all that they signed, in three steps."""
    old = machines.directory / "old"
    shutil.copytree(machines.on("client"), old)
    ids = machines.cluster.ids
    for restarted, step in zip(ids, ("--renew-ca", "--renew", "--retire-ca"), strict=True):
        machines.certs(step)
        if step != "--retire-ca":  # clients trust the new before they meet it
            machines.bring_to_client()
            tls.reload()
        for node_id in ids:
            is_asked = node_id != ids[0] or step != "--renew-ca"  # once it finds them by itself
            await machines.bring_to(node_id, hang_up=is_asked)
            await load.goes_on()
        await machines.start_anew(restarted)
        await load.goes_on()
    machines.bring_to_client()
    tls.reload()
    for node_id in ids[:-1]:
        await machines.start_anew(node_id)
        await load.goes_on()
    address = f"0={shown(machines.cluster.clients['0'])}"
    words = ("kv", "get", "0", "--address", address, "--timeout", "500ms")
    files = ("--ca", str(machines.pki / "clients-ca.pem"))
    with_old = (*files, "--cert", str(old / "app.pem"), "--key", str(old / "app.key"))
    refused = await trio.to_thread.run_sync(lambda: run(*words, *with_old))
    assert refused.exit_code == 1
