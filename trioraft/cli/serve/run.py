"""The server: a node, its key-value machine and its client port, until a signal says to leave.

Rules of this file:

* Standard output has one line when it serves and one when it leaves; all else is the log's.
* Until it serves, nobody relies on it: a signal cancels what it has begun, and what cannot be
  cancelled, as a log that is being recovered in a thread, ends with the process soon after. A crash
  may come at any time; this is one.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final, Protocol

import attrs
import trio

from ...core.config import Timing
from ...core.errors import InvariantViolation, RaftError
from ...core.types import NodeId, Role
from ...http.port import HttpPort
from ...http.port import serve as serve_http
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
from ...transport.base import Transport
from ...transport.tcp import TcpTransport
from ..exits import leave_no_zombies, leave_to_system, quit_at_once, silence_stdout
from ..saying import say
from .certificates import LiveCertificates
from .preflight import Preflight
from .settings import Settings
from .supervisor import Supervisor, supervisor_of_this_process

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
"""What makes it leave."""
START_UP_ENDS_S: Final = 1.0
"""How long a start-up that was told to end may take for that, in seconds."""


class NotStarted(RaftError):  # noqa: N818 - what happened
    """It does not serve, and never did; the message says why."""


class Surroundings(Protocol):
    """What a server is put into by who has started it, in its own process: a laboratory."""

    def transport(self, transport: TcpTransport) -> Transport:
        """What stands around the server's transport."""

    def timing(self, timing: Timing) -> Timing:
        """Another timing than the settings'."""


async def run_server(
    settings: Settings,
    ready: Preflight,
    logger: EventLogger,
    surroundings: Surroundings | None = None,
) -> None:
    """Serve until a signal.

    Args:
        settings: what to serve.
        ready: what `preflight.prepare` took for it.
        logger: gets what the node says.
        surroundings: None anywhere but in a laboratory.

    Raises:
        NotStarted: the data directory, or a port, cannot be used.
        RaftError, OSError: it failed while it served, its disk for instance.
    """
    signals, supervisor = _Signals(), supervisor_of_this_process()
    leave_no_zombies()
    async with running_beside(signals.run, stop=signals.stop, name="serve.signals"):
        try:
            with signals.starting:
                await _serve(settings, ready, logger, signals, supervisor, surroundings)
        except InvariantViolation:
            raise
        except (RaftError, OSError) as error:
            if signals.is_serving:
                raise
            raise NotStarted(str(error)) from error
        finally:
            supervisor.close()
        if not signals.is_serving:
            _say(settings.id, f"leaving after {signals.name}, before it served")


async def _serve(
    settings: Settings,
    ready: Preflight,
    logger: EventLogger,
    signals: _Signals,
    supervisor: Supervisor,
    surroundings: Surroundings | None,
) -> None:
    async with (
        open_log(settings, logger) as log,
        _certified(settings, ready, log, signals.hung_up),
        supervisor.told_of_start(),
        _opened(settings, ready, log, surroundings) as (node, service),
        _with_http(settings, ready, log, node, service) as http,
        _with_live_roles(settings, service, log, signals.roles_hung_up),
        supervisor.told_of(node),
    ):
        if signals.first.is_set():
            return  # it came in the very moment
        signals.is_serving = True
        warn_of_mode(settings.data, settings.id, log)
        for warning in ready.warnings:
            log.warning(warning, node=settings.id)
        log.info(who_may_what(settings, ready.roles), node=settings.id)
        log.info(f"its {suited_lines(settings.timing)}", node=settings.id)
        _say(settings.id, _ready_line(settings, service, http))
        with long_lived_set_aside():
            await signals.first.wait()
        _say(settings.id, f"leaving after {signals.name}")
        await _transfer_leadership(node)


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
    settings: Settings, ready: Preflight, logger: EventLogger, around: Surroundings | None
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
            transport=ready.transport if around is None else around.transport(ready.transport),
            cluster_id=settings.cluster_id,
            timing=settings.timing if around is None else around.timing(settings.timing),
            limits=settings.limits,
            logger=logger,
            tracer=ready.tracer,
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
            tracer=ready.tracer,
        ) as service,
    ):
        yield node, service


@asynccontextmanager
async def _with_http(
    settings: Settings, ready: Preflight, log: EventLogger, node: Node, service: Service
) -> AsyncIterator[HttpPort | None]:
    """With an HTTP port, if one is asked for, and the live page at it."""
    if settings.http_listen is None:
        yield None
        return
    from .page import live_page_of  # what it imports is there only with trioraft[http]

    page = live_page_of(settings, service)
    async with serve_http(
        node,
        listen=settings.http_listen,
        service=service,
        routes=page.routes,
        beside=page.hub.open,
        ssl_context=ready.http_tls,
        insecure=settings.insecure or settings.http_insecure,
        logger=log,
    ) as port:
        yield port


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


def _ready_line(settings: Settings, service: Service, http: HttpPort | None) -> str:
    peers = host_port(settings.listen)
    line = f"serves clients at {host_port(service.address)}, peers at {peers}"
    return line if http is None else f"{line}, HTTP at {http.url}"


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
    is_serving: bool = False
    """Clients are taken: from then on it leaves with care."""
    starting: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    """Cancelled by a signal before that."""
    hung_up: Wakeup = attrs.field(factory=Wakeup)
    """Woken by each SIGHUP, for the certificates."""
    roles_hung_up: Wakeup = attrs.field(factory=Wakeup)
    """Likewise, for the clients' roles."""
    _watching: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    def stop(self) -> None:
        self._watching.cancel()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.open_signal_receiver(*SIGNALS, signal.SIGHUP) as received, self._ending_soon():
            task_status.started()
            with self._watching:
                while (number := await anext(received)) == signal.SIGHUP:
                    self.hung_up.set()
                    self.roles_hung_up.set()
                self.name = signal.Signals(number).name
                for each in SIGNALS:
                    leave_to_system(each)
                self.first.set()
                if not self.is_serving:
                    self.starting.cancel()
                async for _ in received:  # a SIGHUP, which must not end it now either
                    pass

    @contextmanager
    def _ending_soon(self) -> Iterator[None]:
        """A signal before it serves has the process end in time, though the event loop is held up,
        by a large snapshot that is restored, or a thread cannot be cancelled."""
        before = signal.getsignal(signal.SIGALRM)
        for each in SIGNALS:
            noted = signal.getsignal(each)  # Trio's, which tells us when the loop comes round
            signal.signal(each, partial(self._note, noted))
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _note(self, noted: Any, number: int, frame: FrameType | None) -> None:
        if not self.is_serving:
            signal.signal(signal.SIGALRM, lambda *_: quit_at_once(number, frame))
            signal.setitimer(signal.ITIMER_REAL, START_UP_ENDS_S)
        noted(number, frame)
