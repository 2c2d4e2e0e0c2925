"""docs/identity.md, told with processes that are killed between its steps.

Rules of this file: one cluster for the whole story, for a process takes a second to start.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.processes import ServerProcess, ServerProcesses, free_ports, shown
from tests.serve.commands import lines, run

PATIENCE_S = 30


def until(what: Callable[[], bool]) -> None:
    """Ask other processes until it is so."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < give_up_s
        time.sleep(0.05)


def test_a_cluster_forms_loses_disks_and_is_recovered(tmp_path: Path) -> None:
    with ServerProcesses(tmp_path) as cluster:
        environment = {"TRIORAFT_ADDRESSES": ",".join(map(shown, cluster.addresses))}
        first, second, third = cluster.servers.values()

        def cli(*words: str) -> list[str]:
            return lines(run(*words, "--timeout", "30s", env=environment))

        # Forming: killed while it waits, and at once after the third has come.
        for server in (first, second):
            server.start()
            server.wait_ready()
        waiting = run("kv", "put", "a", "1", "--timeout", "1s", env=environment)
        assert waiting.exit_code == 1
        assert "the cluster is forming: waiting for 2" in waiting.output
        probe = ("admin", "status", "--check", "ready", "--address", shown(cluster.addresses[0]))
        assert "waiting for 2 (it was not heard of yet" in run(*probe).output
        first.kill()
        third.start()
        third.wait_ready()
        third.kill()
        for server in (first, third):
            server.start()
            server.wait_ready()
        cli("kv", "put", "a", "1")

        # Replacing: the disk is lost, and whoever is killed meanwhile comes back.
        refused = run("admin", "replace", "2", env=environment)
        assert (refused.exit_code, "nothing to replace" in refused.output) == (2, True)
        third.kill()
        shutil.rmtree(tmp_path / "2")
        third.start()
        third.wait_ready()
        gives_up = run("admin", "replace", "2", "--timeout", "1ms", env=environment)
        assert gives_up.exit_code in (0, 1, 4)
        for server in (third, first, second):
            server.kill()
            server.start()
            server.wait_ready()

        def is_replaced() -> bool:
            """It went on by itself, or is asked for now."""
            again = run("admin", "replace", "2", env=environment)
            return again.exit_code == 0 or "nothing any more" in again.output

        until(is_replaced)
        second.kill()  # the new disk counts
        cli("kv", "put", "b", "2")

        # Recovering: only the first is left.
        third.kill()
        first.kill()
        for name in ("1", "2"):
            shutil.rmtree(tmp_path / name)
        copy = tmp_path / "copy"
        shutil.copytree(tmp_path / "0", copy)
        before = shown_of(tmp_path / "0")
        refused = run("recover", str(tmp_path / "0"), "--voters", "0,1", "--yes")
        assert refused.exit_code == 2
        for directory in (tmp_path / "0", copy):
            assert run("recover", str(directory), "--voters", "0", "--yes").exit_code == 0
        uuids = {before, shown_of(tmp_path / "0"), shown_of(copy)}
        assert len(uuids) == 3  # the backup is a cluster of its own
        first.start()
        first.wait_ready()
        alone = {"TRIORAFT_ADDRESSES": shown(cluster.addresses[0])}
        for key, value in (("a", "1"), ("b", "2")):
            assert lines(run("kv", "get", key, env=alone)) == [value]
        first.kill()

        # Moving: the same directory at other ports is the same voter.
        (tmp_path / "0").rename(tmp_path / "moved")
        with free_ports(2) as (peers_at, clients_at):
            pass
        words = ["--id", "0", "--data", str(tmp_path / "moved"), "--listen", shown(peers_at)]
        moved = ServerProcess([*words, "--client-listen", shown(clients_at)], tmp_path / "m.log")
        moved.start()
        try:
            moved.wait_ready()
            there = {"TRIORAFT_ADDRESSES": shown(clients_at)}
            assert lines(run("kv", "get", "b", env=there)) == ["2"]
            lines(run("admin", "add-learner", "0", shown(peers_at), env=there))
        finally:
            moved.kill()


def shown_of(directory: Path) -> object:
    """The history that a stopped node's log belongs to."""
    told = json.loads(lines_of("recover", str(directory), "--json"))
    return told["identity"]["uuid"]


def lines_of(*words: str) -> str:
    return "\n".join(lines(run(*words)))
