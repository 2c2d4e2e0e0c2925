"""`trioraft serve --tracing`, in processes that were set up as `opentelemetry-instrument` does; and
what it says where nobody has."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from benchmarks.processes import ServerProcess, ServerProcesses
from tests.serve.test_startup import Complaints, complaints, sound  # noqa: F401 - fixtures
from tests.tracing.support import Traces
from trioraft import Client
from trioraft.cli.serve import command
from trioraft.kv import ERROR_TYPES, KvClient

SET_UP = """\
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

provider = TracerProvider()
to = ConsoleSpanExporter(out=open({path!r}, "a"), formatter=lambda span: span.to_json(None) + "\\n")
provider.add_span_processor(SimpleSpanProcessor(to))
trace.set_tracer_provider(provider)
"""


def servers_that_trace(directory: Path) -> ServerProcesses:
    """Each with a `sitecustomize` of its own, which writes its spans into a file."""
    cluster = ServerProcesses(directory)
    for node_id in cluster.ids:
        site = directory / f"site-{node_id}"
        site.mkdir()
        text = SET_UP.format(path=str(directory / f"{node_id}.spans"))
        (site / "sitecustomize.py").write_text(text, encoding="utf-8")
        cluster.servers[node_id] = ServerProcess(
            [*cluster.arguments[node_id], "--tracing"],
            directory / f"{node_id}.log",
            name=f"server {node_id}",
            environment={"PYTHONPATH": str(site)},
        )
    return cluster


def spans_of(directory: Path, node_id: str) -> list[dict[str, Any]]:
    path = directory / f"{node_id}.spans"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


async def test_one_trace_goes_through_all_processes(tmp_path: Path) -> None:
    traces = Traces()
    with servers_that_trace(tmp_path) as cluster:
        await trio.to_thread.run_sync(cluster.start)
        async with Client(
            cluster.clients, error_types=ERROR_TYPES, tracer=traces.tracer()
        ) as client:
            kv = KvClient(client)
            await kv.put("opens", "a session")
            traces.clear()
            await kv.put("lamp", "sold")
            leader = (await client.status()).leader_id
        (call,) = traces.named("trioraft.call")
        context = call.get_span_context()
        assert context is not None
        trace_id, call_id = f"0x{context.trace_id:032x}", f"0x{context.span_id:016x}"
        assert leader is not None
        found = {
            span["name"]: span
            for span in spans_of(tmp_path, leader)
            if span["context"]["trace_id"] == trace_id
        }
    names = {"trioraft.propose", "trioraft.commit", "trioraft.write", "trioraft.apply"}
    assert set(found) == names
    served = found["trioraft.propose"]
    assert (served["parent_id"], served["kind"]) == (call_id, "SpanKind.SERVER")
    for name in ("trioraft.commit", "trioraft.apply"):
        assert found[name]["parent_id"] == served["context"]["span_id"]
        assert found[name]["attributes"]["trioraft.node"] == leader


def test_without_opentelemetry_it_says_what_to_install(
    sound: dict[str, Any],  # noqa: F811 - the fixture
    complaints: Complaints,  # noqa: F811 - the fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [*sys.modules]:
        if name.startswith(("opentelemetry", "trioraft.tracing.spans")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    (said,) = complaints(sound | {"tracing": True})
    assert said == "--tracing needs opentelemetry; install it with: pip install 'trioraft[otel]'"


def test_where_nobody_takes_the_spans_it_says_so(
    sound: dict[str, Any],  # noqa: F811 - the fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warned: list[str] = []

    async def run_server(settings: object, ready: Any, *_: object) -> None:
        ready.transport.close()
        warned.extend(ready.warnings)

    monkeypatch.setattr(command, "run_server", run_server)
    assert command._serve(sound | {"tracing": True}) == 0
    assert len(warned) == 1
    assert "opentelemetry-instrument trioraft serve" in warned[0]
    warned.clear()
    assert command._serve(sound) == 0
    assert warned == []
