"""The live page of real servers: at their own HTTP port, and by `trioraft dashboard`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.processes import free_ports
from tests.serve import commands
from tests.serve.clusters import PATIENCE_S, READY, started


def first_cluster(url: str) -> dict[str, Any]:
    """What a page is told first of a cluster that has a leader."""
    with urllib.request.urlopen(f"{url}/live", timeout=PATIENCE_S) as stream:  # noqa: S310 - ours
        while True:
            line = stream.readline().decode()
            assert line, "the stream has ended"
            if not line.startswith("data: "):
                continue
            told = json.loads(line.removeprefix("data: "))
            cluster: dict[str, Any] = told.get("cluster", {})
            if cluster.get("leader") is not None:
                return cluster


def test_a_dashboard_shows_a_cluster_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    with started("1", cwd=tmp_path) as cluster:
        cluster.wait_for(READY)
        dashboard = subprocess.Popen(
            [sys.executable, "-m", "trioraft", "dashboard", "--listen", "127.0.0.1:0"],
            env={**os.environ, "TRIORAFT_ADDRESSES": cluster.addresses},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with dashboard:
            assert dashboard.stdout is not None
            assert dashboard.stderr is not None
            said = dashboard.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+", said)
            assert found, said
            told = first_cluster(found[0])
            assert [member["role"] for member in told["members"]] == ["Leader"]
            dashboard.send_signal(signal.SIGINT)
            assert dashboard.wait(PATIENCE_S) == 0
            assert dashboard.stderr.read() == ""


def test_a_server_shows_its_own_cluster(tmp_path: Path) -> None:
    with free_ports(3) as addresses:
        listen, clients, http = (port for _, port in addresses)
    words = ["serve", "--id", "0", "--data", "d", "--create-data", "--found-alone"]
    words += ["--listen", f"127.0.0.1:{listen}", "--client-listen", f"127.0.0.1:{clients}"]
    server = subprocess.Popen(
        [sys.executable, "-m", "trioraft", *words, "--http-listen", f"127.0.0.1:{http}"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        assert server.stdout is not None
        assert "serves clients at" in server.stdout.readline()
        told = first_cluster(f"http://127.0.0.1:{http}")
        assert (told["leader"], told["problem"]) == ("0", None)
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE_S) == 0


def test_what_a_dashboard_cannot_do_is_said() -> None:
    result = commands.run("dashboard", env={"TRIORAFT_ADDRESSES": ""})
    assert result.exit_code == 2
    assert "name at least one server" in result.stderr
    result = commands.run("dashboard", "127.0.0.1:1", "--listen", "10.0.0.1:80")
    assert result.exit_code == 2
    assert "is not this machine alone" in result.stderr
