"""The server: a node, its key-value machine and its client port, until a signal says to leave.

Standard output has one line when it serves and one when it leaves; all else is the log's.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import attrs
import trio

from ...core.config import Timing
from ...core.errors import InvariantViolation, RaftError
from ...core.types import NodeId, Role
from ...kv import ERROR_TYPES, KvMachine
from ...kv.commands import Result
from ...logs.loggers import EventLogger
from ...logs.repeats import RepeatFilter
from ...machines.sessions import SessionMachine
from ...net.addresses import host_port, is_loopback
from ...net.sentences import printable
from ...node.node import Node, open_node
from ...service.port import Service, open_service
from ...service.roles import Roles
from ...storage.directory import wider_mode
from ...storage.sqlite import SQLiteStorage
from ...tasks.background import running_beside
from ...tasks.collector import long_lived_set_aside
from ...tasks.wakeup import Wakeup
from ..exits import silence_stdout
from ..saying import say
from .certificates import LiveCertificates
from .preflight import Preflight
from .settings import Settings

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
"""What makes it leave."""


class NotStarted(RaftError):  # noqa: N818 - what happened
    """It does not serve, and never did; the message says why."""


async def run_server(settings: Settings, ready: Preflight, logger: EventLogger) -> None:
    """Serve until a signal.

    Args:
        settings: what to serve.
        ready: what `preflight.prepare` took for it.
        logger: gets what the node says.

    Raises:
        NotStarted: the data directory, or a port, cannot be used.
        RaftError, OSError: it failed while it served, its disk for instance.
    """
    signals = _Signals()
    is_serving = False
    async with running_beside(signals.run, stop=signals.stop, name="serve.signals"):
        try:
            async with (
                open_log(settings, logger) as log,
                _certified(settings, ready, log, signals.hung_up),
                _opened(settings, ready, log) as (node, service),
                _with_live_roles(settings, service, log, signals.roles_hung_up),
            ):
                with long_lived_set_aside():
                    is_serving = True
                    warn_of_mode(settings.data, settings.id, log)
                    for warning in ready.warnings:
                        log.warning(warning, node=settings.id)
                    log.info(who_may_what(settings, ready.roles), node=settings.id)
                    log.info(f"its {suited_lines(settings.timing)}", node=settings.id)
                    _say(settings.id, _ready_line(settings, service))
                    await signals.first.wait()
                    _say(settings.id, f"leaving after {signals.name}")
                    await _transfer_leadership(node)
        except InvariantViolation:
            raise
        except (RaftError, OSError) as error:
            if is_serving:
                raise
            raise NotStarted(str(error)) from error


@asynccontextmanager
async def open_log(settings: Settings, logger: EventLogger) -> AsyncIterator[EventLogger]:
    """A log that people keep is spared repeats. A raftlog is for programs, which want every event,
    and `debug` is for who wants everything."""
    if settings.log_format == "raftlog" or settings.log_level == "debug":
        yield logger
        return
    repeats = RepeatFilter(logger)
    async with running_beside(repeats.run, stop=repeats.stop, name="serve.log"):
        yield repeats


@asynccontextmanager
async def _certified(
    settings: Settings, ready: Preflight, log: EventLogger, hung_up: Wakeup
) -> AsyncIterator[None]:
    """With certificates that are read again when they change."""
    live = LiveCertificates(settings, ready, log, hung_up)
    async with running_beside(live.run, stop=live.stop, name="serve.certificates"):
        yield


@asynccontextmanager
async def _with_live_roles(
    settings: Settings, service: Service, log: EventLogger, hung_up: Wakeup
) -> AsyncIterator[None]:
    """With the clients' roles read again at SIGHUP, if there are any."""
    if settings.client_roles is None:
        yield
        return
    live = _LiveRoles(settings.id, service, log, hung_up)
    async with running_beside(live.run, stop=live.stop, name="serve.roles"):
        yield


@attrs.define(eq=False)
class _LiveRoles:
    node_id: NodeId
    service: Service
    log: EventLogger
    hung_up: Wakeup
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    def stop(self) -> None:
        self._scope.cancel()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        with self._scope:
            while True:
                await self.hung_up.wait()
                try:
                    parted = await self.service.reload_roles()
                except (RaftError, OSError) as error:
                    said = f"SIGHUP: clients keep the roles that they had: {error}"
                    self.log.warning(said, node=self.node_id)
                else:
                    said = f"SIGHUP: clients' roles were read; {parted} connections lost theirs"
                    self.log.info(said, node=self.node_id)


@asynccontextmanager
async def _opened(
    settings: Settings, ready: Preflight, logger: EventLogger
) -> AsyncIterator[tuple[Node, Service]]:
    machine = SessionMachine(
        KvMachine(changes_max=settings.watch_changes),
        result_type=Result,
        error_types=ERROR_TYPES,
    )
    async with (
        open_node(
            settings.id,
            voters=settings.voters,
            machine=machine,
            storage=SQLiteStorage(settings.data, log_bytes_max=settings.log_bytes_max),
            transport=ready.transport,
            cluster_id=settings.cluster_id,
            timing=settings.timing,
            limits=settings.limits,
            logger=logger,
        ) as node,
        open_service(
            node,
            machine,
            settings.client_listen,
            cluster_id=settings.cluster_id,
            ssl_context=ready.client_tls,
            insecure=settings.insecure,
            advertise=settings.client_advertise,
            client_addresses=settings.client_peers,
            roles=ready.roles,
            limits=ready.client_limits,
            logger=logger,
        ) as service,
    ):
        yield node, service


def warn_of_mode(data: Path, node_id: NodeId, log: EventLogger) -> None:
    """What somebody else has made is left as it is: a group may be meant to read it."""
    mode = wider_mode(data)
    if mode is not None:
        log.warning(
            f"--data {printable(str(data))} has mode {mode:04o}: others than its owner may read "
            "what is stored, or change it. Unless that is meant, chmod -R go= it",
            node=node_id,
        )


def suited_lines(timing: Timing) -> str:
    """For which lines this timing is good, in words; docs/networks.md has others."""
    low_s, high_s = timing.election_timeout_s
    return (
        f"election timeouts of {low_s * 1000:.0f}-{high_s * 1000:.0f} ms suit round trips of up to "
        f"{int(timing.round_trip_s_max * 1000)} ms, where nothing is lost"
    )


def who_may_what(settings: Settings, roles: Roles | None) -> str:
    """Which clients may do what, in a sentence."""
    if roles is not None:
        return f"clients may do what their roles say: {roles}"
    way_out = "may read, write and change the cluster; give --client-roles to part them"
    files = settings.client_tls
    if files is not None and files.authority is not None:
        return f"every certificate of --client-tls-ca {str(files.authority)!r} {way_out}"
    if is_loopback(settings.client_listen[0]):
        return f"everybody on this machine {way_out}"
    return f"everybody who reaches {host_port(settings.client_listen)} {way_out}"


async def _transfer_leadership(node: Node) -> None:
    """Let another lead before our clients are told to go: they need not wait for an election."""
    if node.status.role is Role.LEADER and len(node.status.configuration.voters) > 1:
        with suppress(RaftError):  # nobody could take over: they will elect
            await node.transfer_leadership()


def _ready_line(settings: Settings, service: Service) -> str:
    peers = host_port(settings.listen)
    return f"serves clients at {host_port(service.address)}, peers at {peers}"


def _say(node_id: NodeId, text: str) -> None:
    """One line on standard output; nobody need read it."""
    try:
        say(f"trioraft serve: node {node_id} {text}", flush=True)
    except OSError:  # the reader went away, or the disk under it is full: we serve all the same
        silence_stdout()


@attrs.define(eq=False)
class _Signals:
    """Waits for the first signal that ends it, and leaves the second one to the operating system.
    SIGHUP ends nothing."""

    first: trio.Event = attrs.field(factory=trio.Event)
    name: str = ""
    hung_up: Wakeup = attrs.field(factory=Wakeup)
    """Woken by each SIGHUP, for the certificates."""
    roles_hung_up: Wakeup = attrs.field(factory=Wakeup)
    """Likewise, for the clients' roles."""
    _watching: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    def stop(self) -> None:
        self._watching.cancel()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.open_signal_receiver(*SIGNALS, signal.SIGHUP) as received:
            task_status.started()
            with self._watching:
                while (number := await anext(received)) == signal.SIGHUP:
                    self.hung_up.set()
                    self.roles_hung_up.set()
                self.name = signal.Signals(number).name
                for each in SIGNALS:
                    signal.signal(each, signal.SIG_DFL)
                self.first.set()
                async for _ in received:  # a SIGHUP, which must not end it now either
                    pass
