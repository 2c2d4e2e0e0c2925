"""How a server leaves: gracefully after one signal, at once after a second one; and over TLS.

Rules of this file: the server runs in this process where that is possible, for a process costs half
a second; its signals are then told to it directly.
"""

from __future__ import annotations

import io
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from benchmarks.processes import free_ports, shown
from tests.serve.commands import lines, run
from trioraft.cli.serve import run as serve_run
from trioraft.cli.serve.preflight import Preflight, prepare
from trioraft.cli.serve.run import SIGNALS, _Signals, run_server
from trioraft.cli.serve.settings import Settings, SettingsReader, gather
from trioraft.core.types import Address
from trioraft.logs import loggers as logs

Flags = dict[str, Any]


def sound(directory: Path, **more: Any) -> tuple[Settings, Preflight, Address]:
    """A single server's settings, ready to run, and where its clients go."""
    with free_ports(2) as (peers_at, clients_at):
        pass
    flags: Flags = {
        "id": "a",
        "listen": shown(peers_at),
        "client-listen": shown(clients_at),
        "data": str(directory),
        "found-alone": True,
    }
    problems: list[str] = []
    settings = SettingsReader(gather({**flags, **more}, {}, problems), problems).settings()
    assert settings is not None, problems
    ready = prepare(settings, problems)
    assert ready is not None, problems
    return settings, ready, clients_at


async def serve_until(settings: Settings, ready: Preflight, use: Callable[[], object]) -> None:
    """Serve, use it from another thread (which waits until it serves), and send the signal."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            run_server, settings, ready, logs.configure("json", stream=io.StringIO())
        )
        await trio.to_thread.run_sync(use)
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What servers say; the commands, in their thread, take standard output for themselves."""
    said: list[str] = []
    monkeypatch.setattr(serve_run, "_say", lambda node_id, text: said.append(text))
    return said


async def test_one_signal_and_it_leaves(tmp_path: Path, said: list[str]) -> None:
    settings, ready, clients_at = sound(tmp_path)
    put = ("kv", "put", "k", "v", "--address", shown(clients_at))
    with trio.fail_after(20):
        await serve_until(settings, ready, lambda: lines(run(*put)))
    assert said == [
        f"serves clients at {shown(clients_at)}, peers at {shown(settings.listen)}",
        "leaving after SIGTERM",
    ]


async def test_tls_from_end_to_end(tmp_path: Path, said: list[str]) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("a")
    names = {name: str(tmp_path / f"{name}.pem") for name in ("cert", "key", "ca")}
    issued.cert_chain_pems[0].write_to_path(names["cert"])
    issued.private_key_pem.write_to_path(names["key"])
    authority.cert_pem.write_to_path(names["ca"])
    data = tmp_path / "data"
    data.mkdir()
    tls = {f"{prefix}-{name}": path for prefix in ("tls", "client-tls") for name, path in
           names.items()}  # fmt: skip
    settings, ready, clients_at = sound(data, **tls)
    address = ["--address", f"a={shown(clients_at)}"]
    ours = [word for name, path in names.items() for word in (f"--{name}", path)]

    def use() -> None:
        lines(run("kv", "put", "k", "v", *address, *ours))
        assert lines(run("kv", "get", "k", *address, *ours)) == ["v"]
        status = lines(run("admin", "status", *address, *ours))
        (until,) = (line for line in status if "certificates are good until" in line)
        assert re.fullmatch(r"a: .* until \S+Z \(for peers\), \S+Z \(for clients\)", until)
        stranger = run("kv", "get", "k", *address, "--ca", names["ca"], "--timeout", "300ms")
        assert stranger.exit_code == 1
        plain = run("kv", "get", "k", *address, "--timeout", "300ms")
        assert plain.exit_code == 1

    with trio.fail_after(20):
        await serve_until(settings, ready, use)


async def test_a_second_signal_is_the_operating_systems() -> None:
    """So it ends the process, whatever the server is busy with."""
    signals = _Signals()
    async with trio.open_nursery() as nursery:
        await nursery.start(signals.run)
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        os.kill(os.getpid(), signal.SIGTERM)
        with trio.fail_after(5):
            await signals.first.wait()
        assert signals.name == "SIGTERM"
        assert [signal.getsignal(each) for each in SIGNALS] == [signal.SIG_DFL] * 2
        signals.stop()
