"""`trioraft cluster`, in real processes: what a person at a terminal gets, and what is left of it.

Rules of this file: a cluster costs seconds, so one is asked as much as it can tell.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.serve import commands
from tests.serve.clusters import PATIENCE_S, READY, started


def members(parent: int) -> list[int]:
    """The processes of a cluster's members."""
    threads = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(child) for path in threads for child in path.read_text("ascii").split()]


def has_gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text("ascii").rpartition(") ")[2][0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until_gone(processes: list[int]) -> None:
    give_up_s = time.monotonic() + PATIENCE_S
    while not all(has_gone(process) for process in processes):
        assert time.monotonic() < give_up_s, "members are left"
        time.sleep(0.02)  # nobody tells when another's child has ended


needs_proc = pytest.mark.skipif(
    not Path(f"/proc/self/task/{os.getpid()}/children").exists(),
    reason="this system does not list children",
)


@needs_proc
def test_three_members_serve_until_ctrl_c_and_nothing_is_left(tmp_path: Path) -> None:
    with started("3", cwd=tmp_path) as cluster:
        cluster.wait_for(READY)
        processes = members(cluster.process.pid)
        assert len(processes) == 3
        env = {"TRIORAFT_ADDRESSES": cluster.addresses}
        assert "index" in commands.lines(commands.run("kv", "put", "greeting", "hello", env=env))[0]
        os.kill(processes[0], signal.SIGKILL)
        said = cluster.wait_for(r"member \d .* ended")
        assert f"(process {processes[0]}) ended (killed by SIGKILL). To start it again:" in said
        assert "trioraft serve --id" in cluster.wait_for("trioraft serve")
        assert commands.lines(commands.run("kv", "get", "greeting", env=env)) == ["hello"]
        assert [path.name[:17] for path in tmp_path.iterdir()] == ["trioraft-cluster-"]
        assert cluster.end(signal.SIGINT) == 130
        assert {line[:4] for line in cluster.said if " node=" in line} == {"[0] ", "[1] ", "[2] "}
        assert any("leaving after SIGINT" in line for line in cluster.said)
        assert "Traceback" not in "\n".join(cluster.said)
    assert all(has_gone(process) for process in processes)
    assert list(tmp_path.iterdir()) == []


@needs_proc
def test_a_cluster_goes_on_where_it_was(tmp_path: Path) -> None:
    with started("1", "--data", "here", cwd=tmp_path) as cluster:
        cluster.wait_for(READY)
        addresses = cluster.addresses
        commands.lines(commands.run("kv", "put", "n", "5", env={"TRIORAFT_ADDRESSES": addresses}))
        assert cluster.end(signal.SIGTERM) == 143
    with started("--data", "here", cwd=tmp_path) as cluster:
        cluster.wait_for(READY)
        assert cluster.addresses == addresses
        env = {"TRIORAFT_ADDRESSES": addresses}
        assert commands.lines(commands.run("kv", "get", "n", env=env)) == ["5"]
        processes = members(cluster.process.pid)
        assert processes
        cluster.process.kill()  # it can tell nobody
        cluster.process.wait()
        wait_until_gone(processes)
    result = commands.run("cluster", "3", "--data", str(tmp_path / "here"))
    assert result.exit_code == 2
    assert "has a cluster of 1, not of 3" in result.stderr


@needs_proc
def test_who_reads_no_longer_ends_it(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "trioraft",
            "cluster",
            "1",
            "--data",
            "here",
            "--log-format",
            "json",
        ],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["node"] == "0", "a log for programs"
        processes = members(process.pid)
        process.stdout.close()
        assert process.wait(PATIENCE_S) == 141
        said = process.stderr.read().decode()
        assert "Traceback" not in said
    assert processes
    assert all(has_gone(each) for each in processes)


def test_a_member_that_cannot_start_ends_all(tmp_path: Path) -> None:
    with started("2", "--data", "here", cwd=tmp_path) as cluster:
        cluster.wait_for(READY)
        cluster.process.send_signal(signal.SIGINT)
        cluster.process.send_signal(signal.SIGINT)  # at once
        assert cluster.process.wait(PATIENCE_S) == 130
    for path in (tmp_path / "here" / "1").iterdir():
        path.write_bytes(b"no database")
    with started("--data", "here", cwd=tmp_path) as cluster:
        cluster.wait_for(
            r"trioraft cluster: member 1 \(process \d+\) did not start \(exit code 2\)"
        )
        assert cluster.process.wait(PATIENCE_S) == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["0"], "0 is not in the range 1<=x<=9"),
        (["10"], "10 is not in the range 1<=x<=9"),
        (["three"], "three"),
        (["--base-port", "0"], "--base-port"),
        (["--base-port", "65535"], "give one of at most 65530"),
        (["--log-format", "xml"], "give one of json, console, raftlog"),
        (["--data", "file"], "give a directory that can be made and written"),
        (["--data", "full"], "is not empty, and no cluster's"),
        (["--data", "odd"], "is not what trioraft cluster has written"),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(
    arguments: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("", encoding="utf-8")
    for name, text in (("full", "{}"), ("odd", '{"clients": [1, 2], "peers": [3]}')):
        (tmp_path / name).mkdir()
        file = "cluster.json" if name == "odd" else "other.json"
        (tmp_path / name / file).write_text(text, encoding="utf-8")
    result = commands.run("cluster", *arguments)
    assert result.exit_code == 2
    assert named in " ".join(result.stderr.split())
    assert len(result.stderr.splitlines()) <= 3
