"""Metrics: every one of them is seen to move by what it stands for, and Prometheus' own tool finds
nothing wrong with them.

Rules of this file: a name in `moving` or `saw_move` is a metric that the test there sees move; the
last test compares these names with the table.
"""

from __future__ import annotations

import ast
import os
import shutil
import ssl
import threading
from datetime import UTC, datetime
from pathlib import Path

import attrs
import pytest
import trio
import trustme
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from trio.testing import MockClock

import trioraft.http
from tests.http.scraping import Scraper, own_scene, saw_move
from tests.http.support import HERE, PATIENCE_S, Endless, ask, ask_now, open_leader, values
from tests.support import open_single
from tests.test_agreement import commands, differing, when_compared
from trioraft import (
    Client,
    Limits,
    MemoryStorage,
    NotLeader,
    OutcomeUnknown,
    Overloaded,
    Role,
    ServerTls,
    ServiceLimits,
    SessionMachine,
    SQLiteStorage,
    open_service,
)
from trioraft.core.agreement import POINTS_EVERY
from trioraft.http import HttpLimits, disk
from trioraft.http.metrics import METRICS
from trioraft.http.reach import ANSWER_S, LOOK_EVERY_S
from trioraft.node.meter import BUCKETS_S, Distribution
from trioraft.node.proposal import Proposal
from trioraft.testing import CommandLog, open_cluster
from trioraft.testing.faulty_storage import FaultyStorage

# -- elections -----------------------------------------------------------------------------


async def test_an_election(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        scrapers = {node_id: Scraper(node) for node_id, node in cluster.nodes.items()}
        before = {node_id: scraper.values() for node_id, scraper in scrapers.items()}
        leader, _ = await cluster.check_single_leader()
        await cluster.propose(b"x")
        after = scrapers[leader].values()
        saw_move(
            before[leader],
            after,
            *("trioraft", "trioraft_server_ready", "trioraft_server_check_ok"),
            *("trioraft_server_has_leader", "trioraft_server_is_leader", "trioraft_server_role"),
            *("trioraft_server_term", "trioraft_server_role_changes_total"),
            *("trioraft_server_elections_started_total", "trioraft_server_elections_won_total"),
            "trioraft_server_leader_changes_seen_total",
        )
        assert after["trioraft_server_elections_won_total"] == 1
        assert after['trioraft_server_elections_started_total{reason="no_contact"}'] == 1
        assert after['trioraft_server_role_changes_total{reason="election_won",role="leader"}'] == 1
        others = [node_id for node_id in cluster.ids if node_id != leader]
        for other in others:
            saw_move(
                before[other],
                scrapers[other].values(),
                *("trioraft_server_has_leader", "trioraft_server_leader_changes_seen_total"),
            )
            assert scrapers[other].values()["trioraft_server_elections_won_total"] == 0
        with scrapers[leader].moving("trioraft_server_leaderships_lost_total"):
            await cluster.nodes[leader].transfer_leadership(others[0])
        lost = scrapers[leader].values()
        assert lost['trioraft_server_leaderships_lost_total{reason="transfer_to"}'] == 1
        won = scrapers[others[0]].values()
        assert won['trioraft_server_elections_started_total{reason="transfer_from"}'] == 1


async def test_a_leader_that_is_lost(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        leader, _ = await cluster.check_single_leader()
        await cluster.propose(b"x")
        scrapers = {node_id: Scraper(node) for node_id, node in cluster.nodes.items()}
        await cluster.crash(leader)
        new, _ = await cluster.check_single_leader()
        after = scrapers[new].values()
        assert after['trioraft_server_elections_started_total{reason="peer_lost"}'] >= 1
        assert after["trioraft_server_leader_changes_seen_total"] == 2, "both are known here"


async def test_members_that_come(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        leader, _ = await cluster.check_single_leader()
        await cluster.propose(b"x")
        scraper = Scraper(cluster.nodes[leader])
        await cluster.join("3")
        with scraper.moving(
            *("trioraft_server_members", "trioraft_server_events_total"),
            "trioraft_network_peer_state",
        ):
            await cluster.nodes[leader].add_learner("3")
        after = scraper.values()
        assert after['trioraft_server_members{kind="learner"}'] == 1
        assert after['trioraft_server_events_total{event="configuration_changed"}'] == 1


async def test_results_that_differ(autojump_clock: MockClock) -> None:
    async with open_cluster(3, machine=differing(1, 2), seed=2) as cluster:
        await cluster.propose(b"odd")
        leader, _ = await cluster.check_single_leader()
        scraper = Scraper(cluster.nodes[leader])
        with scraper.moving("trioraft_server_differing_members"):
            await commands(cluster, POINTS_EVERY)
            await when_compared(cluster.nodes[leader], POINTS_EVERY, cluster.ids)
        assert scraper.values()["trioraft_server_differing_members"] == 2


# -- commands and reads --------------------------------------------------------------------


async def test_commands_and_reads(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        leader, _ = await cluster.check_single_leader()
        await cluster.propose(b"x")
        scraper = Scraper(cluster.nodes[leader])
        with scraper.moving(
            *("trioraft_server_last_index", "trioraft_server_commit_index"),
            *("trioraft_server_applied_index", "trioraft_server_log_entries"),
            *("trioraft_server_proposals_taken_total", "trioraft_server_proposals_applied_total"),
            *("trioraft_server_proposal_duration_seconds", "trioraft_server_queue_bytes"),
            *("trioraft_server_commit_duration_seconds", "trioraft_server_apply_duration_seconds"),
            "trioraft_disk_wal_fsync_duration_seconds",
        ):
            for _ in range(20):
                await cluster.nodes[leader].propose(b"x")
        after = scraper.values()
        assert after["trioraft_server_proposals_taken_total"] == 20
        assert after["trioraft_server_proposals_applied_total"] == 20
        assert after["trioraft_server_proposal_duration_seconds_count"] == 20
        assert after["trioraft_server_commit_duration_seconds_count"] == 20
        assert after["trioraft_server_commit_duration_seconds_sum"] > 20 * 2 * 0.001, "both ways"
        with scraper.moving("trioraft_server_read_barrier_duration_seconds"):
            await cluster.nodes[leader].read_barrier()
        assert scraper.values()["trioraft_server_read_barrier_duration_seconds_count"] == 1


async def test_commands_that_come_together_are_each_counted(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        leader, _ = await cluster.check_single_leader()
        await cluster.propose(b"x")
        scraper = Scraper(cluster.nodes[leader])
        proposals = [cluster.nodes[leader].submit(b"x") for _ in range(100)]
        pending = scraper.values()
        assert pending["trioraft_server_proposals_pending"] == 100
        for proposal in proposals:
            await proposal.result()
        after = scraper.values()
        saw_move(pending, after, "trioraft_server_proposals_pending")
        assert after["trioraft_server_commit_duration_seconds_count"] == 100
        assert after["trioraft_disk_wal_fsync_duration_seconds_count"] < 100


async def test_forwarded_commands_count_where_they_were_brought(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        leader, _ = await cluster.check_single_leader()
        await cluster.propose(b"x")
        scrapers = {node_id: Scraper(node) for node_id, node in cluster.nodes.items()}
        other = next(node_id for node_id in cluster.ids if node_id != leader)
        await cluster.nodes[other].forward(b"x")
        assert scrapers[other].values()["trioraft_server_proposals_applied_total"] == 1
        led = scrapers[leader].values()
        assert led["trioraft_server_proposals_taken_total"] == 0
        assert led["trioraft_server_commit_duration_seconds_count"] == 1


async def test_commands_that_fail_and_those_of_which_nobody_knows(
    autojump_clock: MockClock,
) -> None:
    limits = Limits(outcome_wait_s=1.0, proposals_bytes_max=2000, command_bytes_max=1000)
    async with open_cluster(3, limits=limits) as cluster:
        leader, _ = await cluster.check_single_leader()
        await cluster.propose(b"x")
        scrapers = {node_id: Scraper(node) for node_id, node in cluster.nodes.items()}
        other = next(node_id for node_id in cluster.ids if node_id != leader)
        with scrapers[other].moving("trioraft_server_proposals_failed_total"):
            with pytest.raises(NotLeader):
                await cluster.nodes[other].propose(b"x")
            with pytest.raises(NotLeader):
                cluster.nodes[other].submit(b"x")
        failed = scrapers[other].values()
        assert failed['trioraft_server_proposals_failed_total{reason="not_leader"}'] == 2
        assert failed["trioraft_server_proposals_taken_total"] == 0
        node, scraper = cluster.nodes[leader], scrapers[leader]
        cluster.disconnect(leader)
        proposal = node.submit(b"x" * 900)
        with pytest.raises(Overloaded):
            node.submit(b"x" * 1000)
        with (
            scraper.moving("trioraft_server_proposals_unknown_total"),
            pytest.raises(OutcomeUnknown),
        ):
            await proposal.result()
        after = scraper.values()
        assert after['trioraft_server_proposals_failed_total{reason="overloaded"}'] == 1
        assert after["trioraft_server_proposals_unknown_total"] == 1


async def test_round_trips_and_how_far_others_are() -> None:
    async with open_cluster(3, network="tcp") as cluster:
        leader, _ = await cluster.check_single_leader()
        await cluster.propose(b"x")
        scraper, node = Scraper(cluster.nodes[leader]), cluster.nodes[leader]
        with trio.fail_after(PATIENCE_S):
            with scraper.moving("trioraft_network_peer_round_trip_duration_seconds"):
                await trio.sleep(1.0)
            other = next(node_id for node_id in cluster.ids if node_id != leader)
            with scraper.moving(
                *("trioraft_network_peer_lag_entries", "trioraft_network_peer_connected"),
                "trioraft_network_peer_contact_age_seconds",
            ):
                await cluster.crash(other)
                await node.propose(b"x")
                await node.wait(lambda status: not status.links[other])
        after = scraper.values()
        assert after[f'trioraft_network_peer_connected{{peer="{other}"}}'] == 0
        assert after[f'trioraft_network_peer_lag_entries{{peer="{other}"}}'] == 1


# -- the disk ------------------------------------------------------------------------------


async def test_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_single(storage=SQLiteStorage(tmp_path / "node")) as node:
        await node.wait(lambda status: status.role is Role.LEADER)
        scraper = Scraper(node)
        with scraper.moving("trioraft_disk_database_size_bytes"):
            await node.propose(b"x" * 1_000_000)
        with scraper.moving(
            *("trioraft_disk_snapshots_size_bytes", "trioraft_disk_snapshot_size_bytes"),
            *("trioraft_disk_snapshot_saved_timestamp_seconds",),
            "trioraft_disk_snapshot_duration_seconds",
        ):
            await node.take_snapshot()
        before = scraper.values()
        found = os.statvfs(tmp_path)

        @attrs.frozen
        class Fuller:
            f_bavail: int = found.f_bavail // 2
            f_frsize: int = found.f_frsize

        monkeypatch.setattr(os, "statvfs", lambda _: Fuller())
        saw_move(before, scraper.values(), "trioraft_disk_free_bytes")


def test_a_directory_that_cannot_be_read_is_not_told(tmp_path: Path) -> None:
    assert disk.read(tmp_path / "gone") is None


async def test_a_disk_that_is_full_and_one_that_hangs() -> None:
    storage = FaultyStorage(MemoryStorage(), blocking=True)
    async with open_single(storage=storage) as node:
        await node.wait(lambda status: status.role is Role.LEADER)
        scraper = Scraper(node)
        with trio.fail_after(PATIENCE_S):
            with storage.held():
                idle = scraper.values()
                proposal = node.submit(b"x")
                await trio.to_thread.run_sync(storage.wait_until_held, PATIENCE_S)
                await trio.sleep(0.01)
                saw_move(idle, scraper.values(), "trioraft_disk_write_waiting_seconds")
                storage.disk_full = True
            before = scraper.values()
            after = await _until(scraper, "trioraft_disk_full")
            saw_move(before | {"trioraft_disk_full": 0.0}, after, "trioraft_disk_full")
            storage.disk_full = False
            await proposal.settled()


# -- the port for clients, and bounds ------------------------------------------------------


async def test_clients_sessions_and_bounds(tmp_path: Path) -> None:
    machine = SessionMachine(CommandLog())
    limits = ServiceLimits(strangers_max=2, handshake_timeout_s=0.2)
    async with (
        open_single(machine=machine) as node,
        open_service(node, machine, HERE, limits=limits) as service,
    ):
        await node.wait(lambda status: status.role is Role.LEADER)
        scraper = Scraper(node, service)
        before = scraper.values()
        async with Client([service.address]) as client:
            await client.call(b"x")
            during = scraper.values()
            assert during['trioraft_network_client_connections{state="admitted"}'] == 1
            saw_move(
                before,
                during,
                *("trioraft_server_sessions", "trioraft_network_client_connections"),
                "trioraft_server_budget_used",
            )
            streams = [await trio.open_tcp_stream(*service.address) for _ in range(20)]
            with trio.fail_after(PATIENCE_S):
                after = await _until(scraper, "trioraft_network_clients_turned_away_total")
                saw_move(during, after, "trioraft_network_clients_turned_away_total")
                cost = 'trioraft_server_strangers_cpu_seconds{port="strangers"}'
                saw_move(
                    during | {cost: 0.0},
                    await _until(scraper, cost),
                    "trioraft_server_strangers_cpu_seconds",
                )
                await streams[-1].send_all(b"x" * 100)
                after = await _until(scraper, "trioraft_network_clients_rejected_total")
                saw_move(during, after, "trioraft_network_clients_rejected_total")
            for stream in streams:
                await stream.aclose()


async def _until(scraper: Scraper, name: str) -> dict[str, float]:
    """Until a metric is not 0: what moves it need not tell anybody."""
    while not (found := scraper.values())[name]:  # noqa: ASYNC110 - see there
        await trio.sleep(0.01)
    return found


async def test_other_bounds_are_other_limits(autojump_clock: MockClock) -> None:
    async def told(limits: Limits, service_limits: ServiceLimits) -> dict[str, float]:
        machine = CommandLog()
        async with (
            open_single(machine=machine, limits=limits) as node,
            open_service(node, machine, HERE, limits=service_limits) as service,
        ):
            return Scraper(node, service).values()

    usual = await told(Limits(), ServiceLimits())
    other = await told(
        Limits(proposals_bytes_max=10_000_000), ServiceLimits(connections_max=7, changes_max=5)
    )
    saw_move(usual, other, "trioraft_server_queue_limit_bytes", "trioraft_server_budget_limit")
    assert other['trioraft_server_budget_limit{budget="connections"}'] == 7
    async with open_single() as node:
        alone = Scraper(node).values()
    saw_move(alone, usual, "trioraft_server_strangers_cpu_limit_seconds")


async def test_certificates(tmp_path: Path) -> None:
    authority, files = trustme.CA(), (tmp_path / "a.pem", tmp_path / "a.key")

    def issue(year: int) -> None:
        issued = authority.issue_cert("127.0.0.1", not_after=datetime(year, 1, 1, tzinfo=UTC))
        issued.private_key_pem.write_to_path(files[1])
        files[0].write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))

    issue(2050)
    tls = ServerTls.from_files(certificate=files[0], key=files[1], authority=None)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    async with (
        open_leader() as node,
        trioraft.http.serve(node, listen=HERE, ssl_context=tls) as port,
    ):
        before = values((await ask(port, "/metrics", tls=client)).text)
        sample = 'trioraft_network_certificate_expiry_timestamp_seconds{port="http"}'
        assert before[sample] == datetime(2050, 1, 1, tzinfo=UTC).timestamp()
        issue(2051)
        tls.reload()
        after = values((await ask(port, "/metrics", tls=client)).text)
        saw_move(before, after, "trioraft_network_certificate_expiry_timestamp_seconds")


# -- the HTTP port itself, and the loop as seen from there ---------------------------------


async def _busy(_: Request) -> Response:
    return StreamingResponse(Endless(b"x", 3600.0))


ROUTES = [Route("/busy", _busy)]


async def _metrics(port: trioraft.http.HttpPort) -> dict[str, float]:
    return values((await ask(port, "/metrics")).text)


async def test_the_port_tells_of_itself() -> None:
    limits = HttpLimits(connections_max=3, connections_of_host_max=3)
    async with (
        open_leader() as node,
        trioraft.http.serve(node, listen=HERE, routes=ROUTES, limits=limits) as port,
    ):
        before = await _metrics(port)
        streams = [await trio.open_tcp_stream(*port.address) for _ in range(2)]
        for stream in streams:
            await stream.send_all(b"GET /busy HTTP/1.1\r\nhost: a\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
        after = await _metrics(port)
        saw_move(before, after, "trioraft_http_connections", "trioraft_http_answers_total")
        assert after["trioraft_http_connections"] == 3
        assert after['trioraft_http_answers_total{code="200",path="/metrics"}'] == 1
        # A fourth, while three are busy; it learns so when it writes or when it reads.
        with pytest.raises((OSError, trio.BrokenResourceError), match=r"."):
            await _fourth(port)
        for stream in streams:
            await stream.aclose()
        with trio.fail_after(PATIENCE_S):
            while (last := await _metrics_if_let_in(port)) is None:
                pass  # it has not noticed yet that they have gone
        saw_move(before, last, "trioraft_http_connections_refused_total")


async def _metrics_if_let_in(port: trioraft.http.HttpPort) -> dict[str, float] | None:
    try:
        return await _metrics(port)
    except (OSError, trio.BrokenResourceError):
        return None


async def test_the_port_is_held_to_its_share() -> None:
    """It uses it up by answering."""
    limits = HttpLimits(cpu_share=0.01)
    async with (
        open_leader() as node,
        trioraft.http.serve(node, listen=HERE, limits=limits) as port,
    ):
        before = await _metrics(port)
        with trio.fail_after(PATIENCE_S):
            while not (after := await _metrics(port))["trioraft_http_paused_seconds_total"]:
                pass
        saw_move(before, after, "trioraft_http_paused_seconds_total")


async def _fourth(port: trioraft.http.HttpPort) -> None:
    """Take the third place, and knock once more."""
    async with await trio.open_tcp_stream(*port.address) as third:
        await third.send_all(b"GET /busy HTTP/1.1\r\nhost: a\r\n\r\n")
        assert (await third.receive_some()).startswith(b"HTTP/1.1 200")
        await ask(port, "/livez")


async def test_the_loop_is_watched_from_outside() -> None:
    async with open_leader() as node, trioraft.http.serve(node, listen=HERE) as port:
        before = await _metrics(port)
        found: list[dict[str, float]] = []

        def meanwhile() -> None:
            found.append(values(ask_now(port, "/metrics").text))

        thread = threading.Thread(target=meanwhile)
        await trio.sleep(LOOK_EVERY_S)  # so that it has to look anew
        thread.start()
        thread.join()  # in the loop's own thread: it stands still until the answer is there
        after = await _metrics(port)
        (silent,) = found
        assert "trioraft_server_term" not in silent, "nothing is told of what is not known"
        saw_move(before, silent, "trioraft_server_event_loop_silent_seconds")
        assert silent["trioraft_server_event_loop_silent_seconds"] >= ANSWER_S
        saw_move(before, after, "trioraft_server_event_loop_lag_seconds")
        assert _longer_than_a_second(after) > _longer_than_a_second(before)


def _longer_than_a_second(samples: dict[str, float]) -> float:
    name = "trioraft_server_event_loop_lag_seconds"
    return samples[f"{name}_count"] - samples[f'{name}_bucket{{le="1.0"}}']


async def test_nothing_is_measured_where_nobody_asks() -> None:
    async with open_leader() as node:
        assert node._runner.meter is None
        assert node._runner.raft is not None
        assert not node._runner.raft.tracing
        async with trioraft.http.serve(node, listen=HERE):
            assert node._runner.meter is not None
            assert node._runner.raft.is_sparing
            await node.propose(b"x")
        assert node._runner.meter is None
        assert not node._runner.raft.tracing
        assert type(node.submit(b"x")) is Proposal


# -- the table -----------------------------------------------------------------------------


def test_a_distribution_is_cumulated() -> None:
    found = Distribution()
    found.add(0.0001, 2)
    found.add(0.3)
    found.add(1e9)
    assert found.count == 4
    cumulated = dict(found.cumulated())
    assert [cumulated[str(bound_s)] for bound_s in BUCKETS_S] == [2.0] * 11 + [3.0] * 5
    assert cumulated["+Inf"] == 4.0


def test_every_metric_has_a_test_that_moves_it() -> None:
    tree = ast.parse(Path(__file__).read_text(encoding="utf-8"))
    named = {
        each.value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(("moving", "saw_move"))
        for each in ast.walk(call)
        if isinstance(each, ast.Constant) and isinstance(each.value, str)
    }
    known = {metric.name for metric in METRICS}
    assert known - named == set()
    assert len(known) == len(METRICS)


async def test_prometheus_own_tool_finds_nothing_wrong(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: it comes with Prometheus")
    machine = SessionMachine(CommandLog())
    async with (
        open_single(machine=machine, storage=SQLiteStorage(tmp_path / "node")) as node,
        open_service(node, machine, HERE) as service,
    ):
        text = Scraper(node, service).text(own_scene(answers={("/livez", 200): 1}))
    checked = await trio.run_process(
        [promtool, "check", "metrics"],
        stdin=text.encode(),
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
    for metric in METRICS:
        assert f"# HELP {metric.exposed} {metric.help}\n" in text
