"""A cluster that is watched once for all who look at its page, and the page's server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import h11
import trio

import trioraft.live.hub as hub_module
from tests.client.service_support import client_of, serving, until
from tests.client.support import PATIENCE_S
from trioraft import Service
from trioraft.core.types import Address
from trioraft.live.app import live_app
from trioraft.live.hub import FRAMES_MAX, Hub
from trioraft.live.serving import open_page
from trioraft.viz.analysis import analyse_lines


@attrs.define
class FakeLab:
    """A laboratory that only writes down what it is told."""

    token: str = "secret"  # noqa: S105 - of a test
    told: list[str] = attrs.field(factory=list)
    status: int = 200
    done: list[str] = attrs.field(factory=lambda: ["Heal"])
    problem: str | None = None

    def state(self) -> dict[str, Any]:
        return {"members": [], "told": len(self.told)}

    async def do(self, text: str) -> FakeLab:
        self.told.append(text)
        return self


@asynccontextmanager
async def watched(service: Service, **options: Any) -> AsyncIterator[Hub]:
    hub = Hub(lambda: client_of(service), every=1, **options)
    async with hub.open():
        yield hub


def told(frame: bytes) -> tuple[str, dict[str, Any]]:
    """A server-sent event: its name, and what it says."""
    first, second = frame.decode().strip().split("\n")
    return first.removeprefix("event: "), json.loads(second.removeprefix("data: "))


async def request(
    address: Address, method: str, target: str, body: bytes = b"", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """An answer: status, headers, body."""
    host = headers.pop("host", f"{address[0]}:{address[1]}")
    more = [(name.replace("_", "-"), value) for name, value in headers.items()]
    connection = h11.Connection(h11.CLIENT)
    async with await trio.open_tcp_stream(*address) as stream:
        asked = h11.Request(
            method=method,
            target=target,
            headers=[("host", host), ("content-length", str(len(body))), *more],
        )
        await stream.send_all(connection.send(asked) or b"")
        if body:
            await stream.send_all(connection.send(h11.Data(data=body)) or b"")
        await stream.send_all(connection.send(h11.EndOfMessage()) or b"")
        status, found, content = 0, {}, b""
        with trio.fail_after(PATIENCE_S):
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    connection.receive_data(bytes(await stream.receive_some()))
                elif isinstance(event, h11.Response):
                    status = event.status_code
                    found = {name.decode(): value.decode() for name, value in event.headers}
                elif isinstance(event, h11.Data):
                    content += bytes(event.data)
                else:
                    return status, found, content


async def test_who_looks_is_told_everything_and_then_what_has_changed() -> None:
    async with (
        serving() as (node, service),
        client_of(service) as client,
        watched(service) as hub,
        hub.viewer() as viewer,
    ):
        with trio.fail_after(PATIENCE_S):
            kind, first = told(await viewer.frames.receive())
            assert kind == "all"
            assert set(first["run"]) >= {"entries", "messages", "roles", "terms", "findings"}
            led = first
            while led.get("cluster", {}).get("leader") != node.id:
                kind, led = told(await viewer.frames.receive())
                assert kind == "more"
            (member,) = led["cluster"]["members"]
            assert (member["id"], member["role"], member["problem"]) == (node.id, "Leader", None)
            await client.call(b"a")
            committed: list[Any] = []
            while not committed:
                _, news = told(await viewer.frames.receive())
                committed = news["run"].get("commits", [])


async def test_a_page_that_was_closed_costs_nothing() -> None:
    async with serving() as (node, service), watched(service) as hub:
        raft = node._runner.raft
        assert raft is not None
        assert not raft.tracing, "nobody has looked yet"
        with trio.fail_after(PATIENCE_S):
            async with hub.viewer() as viewer:
                while not raft.tracing:
                    await viewer.frames.receive()
        hub_module_linger_s = hub_module.LINGER_S
        assert hub_module_linger_s < PATIENCE_S
        await until(lambda: not raft.tracing)
        await until(lambda: service.connections == 0)


async def test_who_takes_too_little_is_told_everything_anew(autojump_clock: object) -> None:
    hub = Hub(lambda: None)  # type: ignore[arg-type,return-value] # it is not run
    async with hub.viewer() as viewer:
        for number in range(FRAMES_MAX + 3):
            viewer.offer(b"more %d" % number, lambda: b"all")
        taken = [viewer.frames.receive_nowait() for _ in range(FRAMES_MAX)]
        assert taken[:2] == [b"all", b"more 1"]
        viewer.offer(b"more", lambda: b"all again")
        assert viewer.frames.receive_nowait() == b"all again"


async def test_a_cluster_that_is_not_there_is_said_and_looked_for() -> None:
    async with serving() as (_, service), client_of(service):
        address = service.address
    hub = Hub(lambda: client_of(service), pauses_s=(0.02,))
    async with hub.open(), hub.viewer() as viewer:
        with trio.fail_after(PATIENCE_S):
            problem = "not reached yet"
            while problem == "not reached yet":
                _, news = told(await viewer.frames.receive())
                if "cluster" in news and news["cluster"]["members"]:
                    (member,) = news["cluster"]["members"]
                    problem = member["problem"]
        assert member["address"] == f"127.0.0.1:{address[1]}"
        assert "id" not in member


async def test_what_happened_can_be_taken_home_as_a_log_and_as_a_picture() -> None:
    async with (
        serving() as (_, service),
        client_of(service) as client,
        watched(service, keeps_on=True) as hub,
        open_page(("127.0.0.1", 0), lambda hosts: live_app(hub, hosts)) as address,
    ):
        await until(lambda: bool(hub.scene.statuses()))
        hub.remark("Disconnect 0")
        await client.call(b"a")
        await until(lambda: any(line.node for line in hub.record.lines()))
        status, headers, log = await request(address, "GET", "/log")
        assert (status, headers["content-disposition"]) == (
            200,
            'attachment; filename="live.raftlog"',
        )
        (run,) = analyse_lines(log.decode().splitlines(), "live.raftlog")
        assert [mark.text for mark in run.marks] == ["Disconnect 0"]
        assert run.status == "PASS"
        status, headers, page = await request(address, "GET", "/picture")
        assert status == 200
        assert b"Disconnect 0" in page
        assert b"<script" in page


async def test_the_page_needs_nothing_from_anywhere() -> None:
    async with (
        serving() as (_, service),
        watched(service) as hub,
        open_page(("127.0.0.1", 0), lambda hosts: live_app(hub, hosts)) as address,
    ):
        status, headers, page = await request(address, "GET", "/")
        assert status == 200
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "connect-src 'self'" in policy
        assert headers["cache-control"] == "no-store"
        assert b"http://" not in page.replace(b"http://www.w3.org", b"")
        assert b'id="lab"' not in page
        assert (await request(address, "POST", "/lab", b"heal"))[0] == 404, "no laboratory"
        for name in ("evil.example:80", "", "127.0.0.1"):
            for target in ("/", "/live", "/log", "/picture"):
                status, _, said = await request(address, "GET", target, host=name)
                assert (status, b"this is not" in said) == (403, True)


async def test_a_laboratory_obeys_who_has_its_token_and_nobody_else() -> None:
    lab = FakeLab()
    async with (
        serving() as (_, service),
        watched(service, lab=lab) as hub,
        open_page(("127.0.0.1", 0), lambda hosts: live_app(hub, hosts, lab)) as address,
    ):
        assert b'id="lab"' in (await request(address, "GET", "/"))[2]
        own = f"http://{address[0]}:{address[1]}"
        good = {"authorization": "Bearer secret"}
        for wrong in ({}, {"authorization": "Bearer other"}, {"authorization": "secret"}):
            assert (await request(address, "POST", "/lab", b"heal", **wrong))[0] == 401
        for origin in ("http://evil.example", "null", f"https://{address[0]}:{address[1]}"):
            assert (await request(address, "POST", "/lab", b"heal", origin=origin, **good))[
                0
            ] == 403
        assert (await request(address, "POST", "/lab", b"heal", host="evil.example", **good))[
            0
        ] == 403
        assert (await request(address, "POST", "/lab", b"x" * 20_000, **good))[0] == 413
        assert (await request(address, "POST", "/lab", b"\xff", **good))[0] == 400
        assert lab.told == []
        status, _, said = await request(address, "POST", "/lab", b"heal", origin=own, **good)
        assert (status, lab.told) == (200, ["heal"])
        assert json.loads(said) == {"done": ["Heal"], "lab": {"members": [], "told": 1}}
        lab.status, lab.problem = 409, "nobody leads now"
        status, _, said = await request(address, "POST", "/lab", b"kill leader", **good)
        assert (status, json.loads(said)["problem"]) == (409, "nobody leads now")
