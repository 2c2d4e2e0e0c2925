"""What a server tells systemd, by a socket that stands for systemd's."""

from __future__ import annotations

import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from benchmarks.processes import PATIENCE_S, ServerProcess, free_ports, shown
from trioraft.cli.serve.supervisor import Supervisor, standing
from trioraft.testing import open_cluster

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")

UNIT = Path(__file__).parents[2] / "deploy" / "trioraft.service"


class Systemd:
    """The other end."""

    def __init__(self) -> None:
        self.name = f"@trioraft-test-{secrets.token_hex(8)}"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{self.name[1:]}")

    def next(self) -> dict[str, str]:
        """What is said next, by name."""
        assert self._is_told(PATIENCE_S), "it says nothing more"
        lines = self.socket.recv(4096).decode().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def until(self, name: str, value: str | None = None) -> list[dict[str, str]]:
        """All that is said, up to this."""
        said = [self.next()]
        while said[-1].get(name) is None or value not in (None, said[-1][name]):
            said.append(self.next())
        return said

    def drain(self) -> None:
        """Forget what was said and not read."""
        while self._is_told(0):
            self.socket.recv(4096)

    def is_silent(self, for_s: float) -> bool:
        return not self._is_told(for_s)

    def _is_told(self, patience_s: float) -> bool:
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return bool(poll.poll(patience_s * 1000))


@pytest.fixture
def systemd() -> Iterator[Systemd]:
    there = Systemd()
    with there.socket:
        yield there


@contextmanager
def server(directory: Path, *words: str, **environment: str) -> Iterator[ServerProcess]:
    with free_ports(2) as (peers, clients):
        at = ["--listen", shown(peers), "--client-listen", shown(clients)]
    words = ("--id", "0", *at, "--data", str(directory / "0"), "--create-data", *words)
    process = ServerProcess(words, directory / "log", environment=environment)
    process.start()
    try:
        yield process
    finally:
        process.kill()


def test_it_says_that_it_starts_is_ready_lives_and_leaves(systemd: Systemd, tmp_path: Path) -> None:
    given = {"NOTIFY_SOCKET": systemd.name, "WATCHDOG_USEC": "200000"}
    with server(tmp_path, "--found-alone", **given) as process:
        starting = systemd.until("READY")
        assert starting[-1]["READY"] == "1"
        assert [each["EXTEND_TIMEOUT_USEC"] for each in starting[:-1]] == ["30000000"]
        assert "serves clients" in process.next_line(), "ready means that clients are taken"
        systemd.until("STATUS", "leads term 1")
        for _ in range(3):
            systemd.until("WATCHDOG", "1")
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        last = systemd.until("STOPPING", "1")[-1]
        assert last["STATUS"] == "leaving"
        systemd.drain()


def test_who_waits_for_others_is_ready_and_says_for_whom(systemd: Systemd, tmp_path: Path) -> None:
    with free_ports(1) as (nobody,):
        peer = ("--peer", f"1={shown(nobody)}")
    with server(tmp_path, *peer, NOTIFY_SOCKET=systemd.name) as process:
        (ready,) = (each for each in systemd.until("READY") if "READY" in each)
        assert ready["STATUS"] == "the cluster is forming: waiting for 1"
        process.next_line()
        process.signal(signal.SIGTERM)
        said = systemd.until("STOPPING")
        assert not any("WATCHDOG" in each for each in said), "nobody has asked for it"


def test_a_loop_that_is_held_up_keeps_no_watchdog_quiet(systemd: Systemd, tmp_path: Path) -> None:
    given = {"NOTIFY_SOCKET": systemd.name, "WATCHDOG_USEC": "200000"}
    with server(tmp_path, "--found-alone", **given) as process:
        systemd.until("WATCHDOG")
        process.signal(signal.SIGSTOP)
        os.sched_yield()
        while not systemd.is_silent(0.5):
            systemd.drain()
        assert systemd.is_silent(0.5)
        process.signal(signal.SIGCONT)
        systemd.until("WATCHDOG")


async def test_its_status_says_whom_it_follows_or_why_it_is_of_no_use(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster(3) as cluster:
        leader, term = await cluster.check_single_leader()
        follower = next(each for each in cluster.ids if each != leader)
        node = cluster.nodes[follower]
        assert standing(cluster.nodes[leader].status) == f"leads term {term}"
        assert standing(node.status) == f"follows {leader} in term {term}"
        cluster.disconnect(follower)
        status = await node.wait(lambda status: status.leader_id is None)
        assert standing(status).startswith(f"not ready: no leader is known in term {status.term}")
        cluster.reconnect(follower)
        await cluster.check_single_leader()
        leader, _ = await cluster.check_single_leader()
        gone = next(each for each in cluster.ids if each != leader)
        await cluster.nodes[leader].remove(gone)
        status = await cluster.nodes[gone].wait(lambda status: status.is_removed)
        assert standing(status) == "not ready: it was removed from the cluster, and can be stopped"


def test_a_socket_that_nobody_reads_holds_nobody_up(systemd: Systemd) -> None:
    supervisor = Supervisor({"NOTIFY_SOCKET": systemd.name}, pid=7)
    for _ in range(10_000):
        supervisor.tell(watchdog=1)
    systemd.socket.close()
    supervisor.tell(watchdog=1)
    supervisor.close()
    supervisor.tell(watchdog=1)


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_for_whom_it_names(
    environment: dict[str, str], watchdog_s: float | None
) -> None:
    supervisor = Supervisor(environment, pid=7)
    assert supervisor.watchdog_s == watchdog_s
    supervisor.tell(ready=1)  # there is nobody
    supervisor.close()


# -- the unit ------------------------------------------------------------------------------


def directives() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_the_unit_waits_for_readiness_and_gives_no_privileges() -> None:
    unit = directives()
    assert unit["Type"] == ["notify"]
    assert unit["NotifyAccess"] == ["main"]
    assert unit["RestartPreventExitStatus"] == ["2"], "settings that cannot work stay so"
    assert unit["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert "WatchdogSec" in unit
    assert unit["User"] == ["trioraft"]
    assert unit["NoNewPrivileges"] == ["yes"]
    assert unit["CapabilityBoundingSet"] == [""]
    assert unit["ProtectSystem"] == ["strict"]
    assert unit["StateDirectory"] == ["trioraft"]
    (command,) = unit["ExecStart"]
    assert command.split()[1:] == ["serve", "--config", "/etc/trioraft/node.toml"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_unit_and_little_exposed(tmp_path: Path) -> None:
    text = UNIT.read_text(encoding="utf-8")
    here = tmp_path / UNIT.name
    here.write_text(text.replace("/opt/trioraft/bin/trioraft", sys.executable), encoding="utf-8")
    verify = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", str(here)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (verify.returncode, verify.stderr) == (0, "")
    exposed = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=15", str(here)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert exposed.returncode == 0, exposed.stdout
