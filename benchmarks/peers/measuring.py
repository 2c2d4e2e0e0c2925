"""How one load is put on one peer, on a cluster of its own.

Rules of this file:

* Every measurement has fresh processes and an empty directory: nothing is left over from another.
* The peer's own processes are counted, and the load only where it runs in one of them.
* Nothing is done beside what is measured.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Final, TypeAlias

import attrs
import trio

from trioraft import NodeId, Timing

from .. import procfs
from ..election import cases as election
from ..election.measuring import measure as measure_elections
from ..processes import (
    Listener,
    NodeProcess,
    NodeProcesses,
    ProcessError,
    ServerProcesses,
    open_nodes,
    patience,
)
from ..processes import shown as shown_address
from ..throughput import measuring as throughput
from ..throughput import pipe
from ..throughput.cases import NODES, Case, Storage, System
from .cases import ETCD_CONNECTIONS, ETCD_KILL_MS, HASHICORP_KILL_MS, Level, Load, Peer
from .etcd import EtcdProcesses
from .pipe import ClientSetup, Look, Seek
from .results import Sample

LIBRARIES: Final = {
    Peer.TRIORAFT: (System.TRIORAFT, Storage.SQLITE),
    Peer.HASHICORP: (System.HASHICORP, Storage.BOLT),
    Peer.PYSYNCOBJ: (System.PYSYNCOBJ, Storage.JOURNAL),
}
PHASE_S: Final = (0.3, 0.6)
"""How long a cluster is left alone before its leader is killed: within this, by chance."""
CLIENT: Final = "load"
"""What the process that puts load on a service is called."""

Servers: TypeAlias = ServerProcesses | EtcdProcesses


@attrs.frozen
class Settings:
    """What is the same for all measurements of a run."""

    seconds: float
    trials: int
    """Kills in each round."""
    directory: Path
    programs: Mapping[Peer, Path]
    """What was built."""

    @property
    def warm_up_s(self) -> float:
        """Before the measured interval."""
        return min(1.0, self.seconds / 3)


async def measure(load: Load, peer: Peer, number: int, settings: Settings) -> Sample:
    """Measure one load on one peer.

    Args:
        load: what is put on it.
        peer: that which is measured.
        number: of the round.
        settings: of the run.

    Raises:
        ProcessError: a process failed, or ended.
        OSError: there is no room, or no port.
    """
    if load.level is Level.LIBRARY:
        return await _library(load, peer, number, settings)
    if load.level is Level.SERVICE:
        return await _service(load, peer, number, settings)
    load_average = os.getloadavg()[0]
    trials_ms = tuple(await TRIALS[peer](number, settings))
    return Sample(
        number,
        load.key,
        peer,
        trials_ms=trials_ms,
        ops=len(trials_ms),
        load_average=load_average,
    )


# -- libraries ---------------------------------------------------------------------------------


def _programs(settings: Settings) -> dict[System, Path]:
    return {
        system: settings.programs[peer]
        for peer, (system, _) in LIBRARIES.items()
        if peer in settings.programs
    }


async def _library(load: Load, peer: Peer, number: int, settings: Settings) -> Sample:
    system, storage = LIBRARIES[peer]
    case = Case(system, storage, load.mode, load.concurrency, load.command_bytes)
    own = throughput.Settings(settings.seconds, settings.directory, programs=_programs(settings))
    result = await throughput.measure(case, own)
    return Sample(
        number,
        load.key,
        peer,
        ops_per_s=result.ops_per_s,
        p50_ms=result.p50_ms,
        p99_ms=result.p99_ms,
        p999_ms=result.p999_ms,
        cpu_us_per_op=result.cpu_us_per_op,
        rss_mb=result.rss_mb,
        failed=result.failed,
        terms=result.terms,
        ops=result.ops,
        load_average=result.load_average,
    )


# -- services ----------------------------------------------------------------------------------


@contextmanager
def _servers(
    peer: Peer, settings: Settings, timing_ms: tuple[int, int] | None
) -> Iterator[Servers]:
    with tempfile.TemporaryDirectory(prefix="peers-", dir=settings.directory) as name:
        directory = Path(name)
        servers: Servers = (
            EtcdProcesses(directory, timing_ms)
            if peer is Peer.ETCD
            else ServerProcesses(directory, options=["--log-level", "warning"])
        )
        with servers:
            servers.start()
            yield servers


def _client_setup(peer: Peer, servers: Servers, callers: int) -> ClientSetup:
    if isinstance(servers, EtcdProcesses):
        return ClientSetup(servers.endpoints, min(callers, ETCD_CONNECTIONS))
    return ClientSetup(tuple(shown_address(address) for address in servers.addresses))


def _pids(servers: Servers) -> list[int]:
    if isinstance(servers, EtcdProcesses):
        return servers.pids
    return [server.pid for server in servers.servers.values()]


def _open_client(
    peer: Peer, setup: ClientSetup, settings: Settings
) -> AbstractAsyncContextManager[NodeProcesses]:
    """The process that puts load on servers; it has no port of its own."""
    built = settings.programs.get(peer)
    program = "benchmarks.peers.client" if built is None else [str(built)]

    def setup_of(node_id: NodeId, *, port: int) -> ClientSetup:
        del node_id, port
        return setup

    return open_nodes(program, (CLIENT,), setup_of, pipe.decode_answer)


async def _service(load: Load, peer: Peer, number: int, settings: Settings) -> Sample:
    with _servers(peer, settings, None) as servers:
        setup = _client_setup(peer, servers, load.concurrency)
        async with _open_client(peer, setup, settings) as processes:
            await processes.open(pipe.Opened)
            with trio.move_on_after(settings.seconds + throughput.SLACK_S):
                return await _under_load(
                    load, peer, number, settings, processes.nodes[CLIENT], servers
                )
    raise ProcessError(f"{load.key}, {peer}: no result in time")


async def _under_load(
    load: Load,
    peer: Peer,
    number: int,
    settings: Settings,
    client: NodeProcess,
    servers: Servers,
) -> Sample:
    order = pipe.Load(
        load.mode,
        load.concurrency,
        settings.warm_up_s,
        settings.seconds,
        throughput.OPS_MIN,
        command_bytes=load.command_bytes,
        goes_on=load.is_big,
        call=load.call,
    )
    pids = _pids(servers)
    await client.ask(order, pipe.Began)
    load_average, began_s = os.getloadavg()[0], sum(map(procfs.cpu_s, pids))
    loaded = await client.answer(pipe.Loaded)
    cpu_s = sum(map(procfs.cpu_s, pids)) - began_s
    if not loaded.ops and not load.is_big:
        raise ProcessError(f"{load.key}, {peer}: nothing was done in {loaded.elapsed_s:.1f} s")
    return Sample(
        number,
        load.key,
        peer,
        ops_per_s=loaded.ops / loaded.elapsed_s,
        p50_ms=loaded.p50_ms,
        p99_ms=loaded.p99_ms,
        p999_ms=loaded.p999_ms,
        cpu_us_per_op=cpu_s / max(1, loaded.ops) * 1e6,
        rss_mb=max(map(procfs.rss_bytes, pids)) / 1e6,
        failed=loaded.failed,
        terms=loaded.terms,
        ops=loaded.ops,
        load_average=load_average,
    )


# -- kill -9 -----------------------------------------------------------------------------------


class _News(Listener):
    """Hears of leaders whose first command has succeeded."""

    def __init__(self) -> None:
        self.latest: pipe.Led | None = None
        self._news = trio.Event()

    def heard(self, _node: NodeProcess, answer: object) -> bool:
        """Take what is said of a new leader."""
        if not isinstance(answer, pipe.Led):
            return False
        if self.latest is None or answer.term > self.latest.term:
            self.latest = answer
            self._news.set()
            self._news = trio.Event()
        return True

    async def after(self, term: int) -> pipe.Led:
        """The latest leader of a term after this one."""
        with patience("a leader that takes commands"):
            while self.latest is None or self.latest.term <= term:
                await self._news.wait()
            return self.latest


async def _ours(number: int, settings: Settings) -> list[float]:
    trials: list[election.Trial] = []
    setup = election.Setup(election.Case.KILL, NODES, Timing(), number)
    await measure_elections(setup, settings.trials, trials.append, settings.directory)
    return [trial.took_s * 1000 for trial in trials]


async def _of_library(peer: Peer, number: int, settings: Settings) -> list[float]:
    system, storage = LIBRARIES[peer]
    phases, news, took_ms = random.Random(f"{number}/{peer}"), _News(), list[float]()
    timeout_s = HASHICORP_KILL_MS / 1000 if peer is Peer.HASHICORP else 0.0
    with tempfile.TemporaryDirectory(prefix="peers-", dir=settings.directory) as directory:
        setup = pipe.Setup(
            system, storage, "", (), directory, election_timeout_s=timeout_s, is_watched=True
        )
        async with throughput.open_cluster(setup, _programs(settings), news) as cluster:
            await cluster.open(pipe.Opened)
            for _ in range(settings.trials):
                await trio.sleep(phases.uniform(*PHASE_S))
                leader = await news.after(0)
                began_s = trio.current_time()
                cluster.kill(leader.node_id)
                await news.after(leader.term)
                took_ms.append((trio.current_time() - began_s) * 1000)
                await cluster.restart(leader.node_id, pipe.Opened)
    return took_ms


async def _of_hashicorp(number: int, settings: Settings) -> list[float]:
    return await _of_library(Peer.HASHICORP, number, settings)


async def _of_pysyncobj(number: int, settings: Settings) -> list[float]:
    return await _of_library(Peer.PYSYNCOBJ, number, settings)


async def _of_etcd(number: int, settings: Settings) -> list[float]:
    phases, took_ms = random.Random(f"{number}/etcd"), list[float]()
    with _servers(Peer.ETCD, settings, ETCD_KILL_MS) as servers:
        if not isinstance(servers, EtcdProcesses):
            raise TypeError(f"{servers!r} is no etcd")
        setup = _client_setup(Peer.ETCD, servers, 1)
        async with _open_client(Peer.ETCD, setup, settings) as processes:
            await processes.open(pipe.Opened)
            client = processes.nodes[CLIENT]
            for _ in range(settings.trials):
                await trio.sleep(phases.uniform(*PHASE_S))
                leader = await client.ask(Look(), pipe.Led)
                began_s = trio.current_time()
                servers.kill(int(leader.node_id))
                await client.ask(Seek(leader.node_id), pipe.Led)
                took_ms.append((trio.current_time() - began_s) * 1000)
                servers.bury(int(leader.node_id))
                servers.start_one(int(leader.node_id))
    return took_ms


TRIALS: Final[Mapping[Peer, Callable[[int, Settings], Awaitable[list[float]]]]] = {
    Peer.TRIORAFT: _ours,
    Peer.HASHICORP: _of_hashicorp,
    Peer.PYSYNCOBJ: _of_pysyncobj,
    Peer.ETCD: _of_etcd,
}
