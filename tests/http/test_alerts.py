"""Alerts: each fires by what a cluster exports that deserves it, and none by what a healthy one
does. Prometheus' own tool evaluates them."""

from __future__ import annotations

import ast
import os
import re
import resource
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import attrs
import pytest
import trio
import trustme
from trio.testing import MockClock

import trioraft.http
from tests.http.recording import RULES, STEP_S, Recording, Watched, check, for_s, rules
from tests.http.scraping import Scraper
from tests.http.support import HERE, PATIENCE_S, ask, ask_now, open_leader
from tests.support import open_single
from tests.test_agreement import commands, differing, when_compared
from trioraft import (
    Client,
    Limits,
    LocalClient,
    MemoryNetwork,
    MemoryStorage,
    NodeId,
    OutcomeUnknown,
    Overloaded,
    Role,
    ServerTls,
    ServiceLimits,
    SessionMachine,
    SQLiteStorage,
    Timing,
    open_service,
)
from trioraft.core.agreement import POINTS_EVERY
from trioraft.http.reach import ANSWER_S, LOOK_EVERY_S
from trioraft.node.storage_calls import RUN_BLOCKING
from trioraft.testing import CommandLog, open_cluster
from trioraft.testing.faulty_storage import FaultyStorage
from trioraft.transport.memory import NetworkFaults

T = TypeVar("T")

SLOWLY = Timing(election_timeout_s=(6.0, 12.0), heartbeat_interval_s=2.0)
"""Minutes of it take a moment."""
MINUTE = 60 // STEP_S
QUIET = 4 * MINUTE
"""Steps at first in which nothing is wrong."""
RATES = 5 * MINUTE + 1
"""Steps over which rates are taken."""


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed: it comes with Prometheus")
    return found


@pytest.fixture
def alerts(promtool: str, tmp_path: Path) -> Callable[..., None]:
    """Sees that no alert fires for so many steps, and that these do in the end."""

    def judge(recording: Recording, quiet_steps: int, *fire: str) -> None:
        check(promtool, tmp_path, recording, f"{(quiet_steps - 1) * STEP_S}s", *fire)

    return judge


Alerts = Callable[..., None]


def steps_of(*names: str) -> int:
    """How many steps it takes until these have held for long enough."""
    known = rules()
    return max(for_s(known[name]) for name in names) // STEP_S + 2


# -- what the rules are --------------------------------------------------------------------


def test_prometheus_own_tool_finds_nothing_wrong(promtool: str) -> None:
    for command in (["check", "rules", str(RULES)], _check_config()):
        done = subprocess.run([promtool, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def _check_config() -> list[str]:
    return ["check", "config", str(RULES.parent / "prometheus.yaml")]


def test_every_rule_says_what_and_how_bad_and_where_to_read_on() -> None:
    for name, rule in rules().items():
        assert re.fullmatch(r"Trioraft[A-Za-z]+", name)
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "description", "runbook"}
        assert rule["annotations"]["runbook"] == f"docs/operating.md#{name.lower()}"


def test_every_alert_is_seen_to_fire() -> None:
    tree = ast.parse(Path(__file__).read_text(encoding="utf-8"))
    seen = {
        each.value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "alerts"
        for each in ast.walk(call)
        if isinstance(each, ast.Constant) and isinstance(each.value, str)
    }
    assert rules().keys() - seen == set()


# -- members and leaders, in virtual time --------------------------------------------------


async def test_a_member_that_is_down_and_lags(autojump_clock: MockClock, alerts: Alerts) -> None:
    async with open_cluster(3, timing=SLOWLY) as cluster:
        leader, _ = await cluster.check_single_leader()
        watched = Watched(cluster)
        await watched.go_on(QUIET)
        down = next(node_id for node_id in cluster.ids if node_id != leader)
        await cluster.crash(down)
        proposals = [cluster.nodes[leader].submit(b"") for _ in range(5001)]
        await proposals[-1].result()
        await watched.go_on(steps_of("TrioraftFollowerLags"))
    alerts(
        watched.recording,
        QUIET,
        *("TrioraftMemberDown", "TrioraftQuorumAtRisk", "TrioraftFollowerLags"),
    )


async def test_members_that_do_not_hear_each_other(
    autojump_clock: MockClock, alerts: Alerts
) -> None:
    async with open_cluster(3, timing=SLOWLY) as cluster:
        await cluster.check_single_leader()
        watched = Watched(cluster)
        await watched.go_on(QUIET)
        cluster.partition({"0"}, {"1"}, {"2"})
        await watched.go_on(steps_of("TrioraftNotReady") + 1)
    alerts(
        watched.recording,
        QUIET,
        *("TrioraftNoLeader", "TrioraftMemberWithoutLeader", "TrioraftNotReady"),
    )


async def test_leaders_that_change_all_the_time(autojump_clock: MockClock, alerts: Alerts) -> None:
    async with open_cluster(3, timing=SLOWLY) as cluster:
        await cluster.check_single_leader()
        watched = Watched(cluster)
        await watched.go_on(QUIET)
        for _ in range(8):
            leader, _ = await cluster.check_single_leader()
            await cluster.propose(b"x")
            await cluster.nodes[leader].transfer_leadership()
            await watched.go_on(MINUTE)
    alerts(watched.recording, QUIET, "TrioraftLeaderChanges")


async def test_two_clusters_that_are_taken_for_one(
    autojump_clock: MockClock, alerts: Alerts
) -> None:
    async with (
        open_cluster(3, timing=SLOWLY) as one,
        open_cluster(1, timing=SLOWLY, seed=1) as other,
    ):
        await one.check_single_leader()
        await other.check_single_leader()
        first, second = Watched(one), Watched(other, "other-")
        await first.go_on(QUIET)
        for _ in range(steps_of("TrioraftTwoLeaders")):
            await trio.sleep(STEP_S)
            first.recording.add({**first.texts(), **second.texts()})
    alerts(first.recording, QUIET, "TrioraftTwoLeaders", "TrioraftTwoHistories")


async def test_results_that_differ(autojump_clock: MockClock, alerts: Alerts) -> None:
    async with open_cluster(3, timing=SLOWLY, machine=differing(1, 2), seed=2) as cluster:
        await cluster.propose(b"even")
        leader, _ = await cluster.check_single_leader()
        watched = Watched(cluster)
        await watched.go_on(QUIET)
        await cluster.propose(b"odd")
        await commands(cluster, POINTS_EVERY)
        await when_compared(cluster.nodes[leader], POINTS_EVERY, cluster.ids)
        await watched.go_on(2)
    alerts(watched.recording, QUIET, "TrioraftResultsDiffer")


async def test_a_disk_that_has_lost_what_it_had_acknowledged(
    autojump_clock: MockClock, alerts: Alerts
) -> None:
    storages = {str(number): MemoryStorage() for number in range(3)}
    async with open_cluster(3, timing=SLOWLY, storage=storages.__getitem__) as cluster:
        leader, _ = await cluster.check_single_leader()
        await commands(cluster, 10)
        watched = Watched(cluster)
        await watched.go_on(QUIET)
        other = next(node_id for node_id in cluster.ids if node_id != leader)
        await cluster.crash(other)
        del storages[other]._entries[-3:]
        await cluster.restart(other)
        await commands(cluster, 1)
        await watched.go_on(2)
    alerts(watched.recording, QUIET, "TrioraftDamage")


# -- commands, in virtual time -------------------------------------------------------------


async def test_commands_that_are_refused(autojump_clock: MockClock, alerts: Alerts) -> None:
    limits = Limits(proposals_bytes_max=2000, command_bytes_max=1000)
    async with open_cluster(1, timing=SLOWLY, limits=limits) as cluster:
        leader, _ = await cluster.check_single_leader()
        watched, node = Watched(cluster), cluster.nodes[leader]
        for _ in range(QUIET):
            await node.propose(b"x")
            await watched.go_on(1)
        for _ in range(RATES + steps_of("TrioraftProposalsFail")):
            taken = node.submit(b"x" * 900)
            with pytest.raises(Overloaded):
                node.submit(b"x" * 1000)
            await taken.result()
            await watched.go_on(1)
    alerts(watched.recording, QUIET, "TrioraftProposalsFail")


async def test_commands_of_which_nobody_knows(autojump_clock: MockClock, alerts: Alerts) -> None:
    async with open_cluster(3, timing=SLOWLY, limits=Limits(outcome_wait_s=10.0)) as cluster:
        leader, _ = await cluster.check_single_leader()
        watched, node = Watched(cluster), cluster.nodes[leader]
        await watched.go_on(QUIET)
        cluster.disconnect(leader)
        lost = [node.submit(b"x") for _ in range(30)]
        with pytest.raises(OutcomeUnknown):
            await lost[-1].result()
        cluster.heal()
        await watched.go_on(2)
    alerts(watched.recording, QUIET, "TrioraftOutcomesUnknown")


async def test_a_line_that_becomes_long(autojump_clock: MockClock, alerts: Alerts) -> None:
    """Longer than the timing is made for."""
    async with open_cluster(3, timing=SLOWLY) as cluster:
        await cluster.check_single_leader()
        watched = Watched(cluster)
        for _ in range(QUIET):
            await cluster.propose(b"x")
            await watched.go_on(1)
        network = cluster.network._carrier
        assert isinstance(network, MemoryNetwork)
        network.faults = NetworkFaults((1.7, 1.8), 0.0, 0.0)
        for _ in range(RATES + steps_of("TrioraftCommitSlow")):
            await cluster.propose(b"x", timeout_s=60.0)
            await watched.go_on(1)
    alerts(watched.recording, QUIET, "TrioraftCommitSlow", "TrioraftTimingTooShort")


async def test_a_log_of_which_no_snapshot_can_be_taken(
    autojump_clock: MockClock, alerts: Alerts
) -> None:
    storage = FaultyStorage(MemoryStorage())
    limits = Limits(snapshot_bytes=10_000, log_memory_bytes_max=1_000_000)
    async with open_cluster(1, timing=SLOWLY, limits=limits, storage=lambda _: storage) as cluster:
        await cluster.check_single_leader()
        watched = Watched(cluster)
        await watched.go_on(QUIET)
        storage.no_descriptors = True
        for _ in range(85):
            await cluster.propose(b"x" * 10_000)
        await watched.go_on(steps_of("TrioraftQueueFills"))
    alerts(watched.recording, QUIET, "TrioraftQueueFills")


async def test_sessions_that_nobody_closes(autojump_clock: MockClock, alerts: Alerts) -> None:
    machines: list[SessionMachine] = []

    def machine() -> SessionMachine:
        machines.append(SessionMachine(CommandLog(), sessions_max=10))
        return machines[-1]

    async with open_cluster(1, timing=SLOWLY, machine=machine) as cluster:
        leader, _ = await cluster.check_single_leader()
        watched, node = Watched(cluster), cluster.nodes[leader]
        await watched.go_on(QUIET)
        for _ in range(12):
            await LocalClient(node, machines[0]).call(b"x")
        await watched.go_on(steps_of("TrioraftBudgetUsedUp"))
    alerts(watched.recording, QUIET, "TrioraftBudgetUsedUp")


# -- disks ---------------------------------------------------------------------------------


async def test_a_disk_that_is_full(autojump_clock: MockClock, alerts: Alerts) -> None:
    storage = FaultyStorage(MemoryStorage())
    async with open_cluster(1, timing=SLOWLY, storage=lambda _: storage) as cluster:
        leader, _ = await cluster.check_single_leader()
        watched = Watched(cluster)
        await watched.go_on(QUIET)
        storage.disk_full = True
        cluster.nodes[leader].submit(b"x")
        await watched.go_on(steps_of("TrioraftDiskFull"))
        storage.disk_full = False
    alerts(watched.recording, QUIET, "TrioraftDiskFull")


@contextmanager
def disks_taking(took_s: list[float]) -> Iterator[None]:
    """Blocking calls of storages take so long, in virtual time."""

    async def run_blocking(call: Callable[[], T], /, *, limiter: trio.CapacityLimiter) -> T:
        async with limiter:
            await trio.sleep(took_s[0])
            return call()

    token = RUN_BLOCKING.set(run_blocking)
    try:
        yield
    finally:
        RUN_BLOCKING.reset(token)


async def test_a_disk_that_hangs(autojump_clock: MockClock, alerts: Alerts) -> None:
    took_s = [0.001]

    def storage(_: NodeId) -> FaultyStorage:
        return FaultyStorage(MemoryStorage(), blocking=True)

    with disks_taking(took_s):
        async with open_cluster(3, timing=SLOWLY, storage=storage) as cluster:
            leader, _ = await cluster.check_single_leader()
            watched = Watched(cluster)
            await watched.go_on(QUIET)
            took_s[0] = 120.0
            cluster.nodes[leader].submit(b"x")
            await watched.go_on(steps_of("TrioraftDiskStalled"))
            took_s[0] = 0.001
            await trio.sleep(120.0)
    alerts(watched.recording, QUIET, "TrioraftDiskStalled")


async def test_a_disk_that_is_slow(autojump_clock: MockClock, alerts: Alerts) -> None:
    """In real time, and in the node's own thread."""
    storage = FaultyStorage(MemoryStorage(), blocking=True)
    took_s = [0.0]
    with disks_taking(took_s):
        async with open_cluster(1, timing=SLOWLY, storage=lambda _: storage) as cluster:
            await cluster.check_single_leader()
            watched = Watched(cluster)
            for _ in range(QUIET):
                await cluster.propose(b"x")
                await watched.go_on(1)
            storage.delay_s = 0.11
            for _ in range(steps_of("TrioraftDiskSlow") + MINUTE):
                await cluster.propose(b"x")
                await watched.go_on(1)
    alerts(watched.recording, QUIET, "TrioraftDiskSlow")


async def test_a_disk_that_fills_up(
    tmp_path: Path, alerts: Alerts, monkeypatch: pytest.MonkeyPatch
) -> None:
    @attrs.frozen
    class Space:
        f_bavail: int
        f_frsize: int = 4096

    async with open_single(storage=SQLiteStorage(tmp_path / "node")) as node:
        await node.wait(lambda status: status.role is Role.LEADER)
        scraper, recording = Scraper(node), Recording()
        monkeypatch.setattr(os, "statvfs", lambda _: Space(1 << 24))
        recording.add({"0": scraper.text()}, times=QUIET)
        await node.propose(b"x" * 3_000_000)
        await node.take_snapshot()
        monkeypatch.setattr(os, "statvfs", lambda _: Space(1 << 10))
        recording.add({"0": scraper.text()}, times=steps_of("TrioraftDiskFillsUp"))
    alerts(recording, QUIET, "TrioraftDiskFillsUp")


# -- the process, in real time -------------------------------------------------------------


async def test_a_member_that_is_gone_from_the_network(alerts: Alerts) -> None:
    async with open_cluster(3, network="tcp") as cluster:
        leader, _ = await cluster.check_single_leader()
        await cluster.propose(b"x")
        with trio.fail_after(PATIENCE_S):
            for node in cluster.nodes.values():
                await node.wait(lambda status: list(status.links.values()) == [True, True])
            watched = Watched(cluster)
            watched.recording.add(watched.texts(), times=QUIET)
            other = next(node_id for node_id in cluster.ids if node_id != leader)
            await cluster.crash(other)
            await cluster.nodes[leader].wait(lambda status: not status.links[other])
        watched.recording.add(watched.texts(), times=steps_of("TrioraftPeerDisconnected"))
    alerts(watched.recording, QUIET, "TrioraftPeerDisconnected")


async def test_clients_that_are_too_many(alerts: Alerts) -> None:
    machine = SessionMachine(CommandLog())
    limits = ServiceLimits(strangers_max=2)
    async with (
        open_single(machine=machine) as node,
        open_service(node, machine, HERE, limits=limits) as service,
    ):
        await node.wait(lambda status: status.role is Role.LEADER)
        async with Client([service.address]) as client:
            await client.call(b"x")
        scraper, recording = Scraper(node, service), Recording()
        recording.add({"0": scraper.text()}, times=QUIET)
        for _ in range(RATES + steps_of("TrioraftClientsTurnedAway")):
            before = service.status()
            streams = [await trio.open_tcp_stream(*service.address) for _ in range(30)]
            with trio.fail_after(PATIENCE_S):
                while service.status().turned_away < before.turned_away + 20:  # noqa: ASYNC110 - nobody tells
                    await trio.sleep(0.001)
            for stream in streams:
                await stream.aclose()
            recording.add({"0": scraper.text()})
    alerts(recording, QUIET, "TrioraftClientsTurnedAway")


async def test_certificates_that_expire(tmp_path: Path, alerts: Alerts) -> None:
    authority, files = trustme.CA(), (tmp_path / "a.pem", tmp_path / "a.key")
    now = datetime.now(UTC)
    recording = Recording(now.timestamp())
    async with open_leader() as node:
        scraper = Scraper(node)
        for days, steps in ((300, QUIET), (1, 2)):
            issued = authority.issue_cert("127.0.0.1", not_after=now + timedelta(days=days))
            issued.private_key_pem.write_to_path(files[1])
            files[0].write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
            tls = ServerTls.from_files(certificate=files[0], key=files[1], authority=None)
            assert tls.expires_s is not None
            scene = attrs.evolve(scraper.scene(), certificates_s={"http": tls.expires_s})
            recording.add({"0": scraper.text(scene=scene)}, times=steps)
    alerts(recording, QUIET, "TrioraftCertificateExpires", "TrioraftCertificateExpiresSoon")


async def test_descriptors_that_are_scarce(alerts: Alerts) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    recording = Recording()
    async with open_leader() as node:
        scraper = Scraper(node)
        recording.add({"0": scraper.text()}, times=QUIET)
        used = len(os.listdir("/proc/self/fd"))
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + used // 10, hard))
            text = scraper.text()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        recording.add({"0": text}, times=steps_of("TrioraftDescriptorsScarce"))
    alerts(recording, QUIET, "TrioraftDescriptorsScarce")


def _hold_up(port: trioraft.http.HttpPort, held_s: float, asked_after_s: float) -> str:
    """Do nothing in the node's own thread, and meanwhile ask in another one."""
    found: list[str] = []

    def ask() -> None:
        time.sleep(asked_after_s)
        found.append(ask_now(port, "/metrics").text)

    asker = threading.Thread(target=ask)
    asker.start()
    time.sleep(held_s)
    asker.join(PATIENCE_S if held_s > asked_after_s + ANSWER_S else 0.0)
    return found[0] if found else ""


async def test_a_loop_that_is_late(alerts: Alerts) -> None:
    """By a fifth of a second, each time that it is asked."""
    recording = Recording()
    async with open_leader() as node, trioraft.http.serve(node, listen=HERE) as port:
        recording.add({"0": (await ask(port, "/metrics")).text}, times=QUIET)
        for _ in range(5):
            for _ in range(4):
                await trio.sleep(LOOK_EVERY_S)  # so that it has to look anew
                _hold_up(port, 0.2, 0.0)
            recording.add({"0": (await ask(port, "/metrics")).text}, times=2 * MINUTE)
    alerts(recording, QUIET, "TrioraftEventLoopLags")


async def test_a_loop_that_does_not_come_back(alerts: Alerts) -> None:
    recording = Recording()
    async with open_leader() as node, trioraft.http.serve(node, listen=HERE) as port:
        recording.add({"0": (await ask(port, "/metrics")).text}, times=QUIET)
        text = _hold_up(port, 6.0, 3.5)
        assert text
        recording.add({"0": text}, times=steps_of("TrioraftEventLoopSilent"))
    alerts(recording, QUIET, "TrioraftEventLoopSilent")
