"""Servers that are started again at other addresses, and found there: by each other, by clients who
know one of them, and by those who were told of the old ones only.

Rules of this file: the servers' `--peer` stay as they were at first, as unit files do.
"""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.processes import ServerProcess
from tests.serve.commands import lines, run
from trioraft.core.types import Address
from trioraft.net.addresses import host_port

IDS = ("0", "1", "2")
PATIENCE_S = 20.0


class Servers:
    """Three servers that move; each with the first addresses of the others."""

    def __init__(self, directory: Path, host: str) -> None:
        self.directory = directory
        self.host = host
        self.first = {node_id: self.port() for node_id in IDS}
        self.clients_at: dict[str, Address] = {}
        self.peers_at: dict[str, Address] = {}
        self.processes: dict[str, ServerProcess] = {}

    def port(self) -> Address:
        """An address where nobody is."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        with socket.create_server((self.host, 0), family=family) as sock:
            return (self.host, sock.getsockname()[1])

    def start(self, node_id: str, listen: Address, clients: Address) -> None:
        """Start one there, without waiting."""
        words = ["--id", node_id, "--data", str(self.directory / node_id), "--create-data"]
        words += ["--listen", host_port(listen), "--client-listen", host_port(clients)]
        for peer in IDS:
            if peer != node_id:
                words += ["--peer", f"{peer}={host_port(self.first[peer])}"]
        self.peers_at[node_id], self.clients_at[node_id] = listen, clients
        process = ServerProcess(words, self.directory / f"{node_id}.log", name=f"server {node_id}")
        self.processes[node_id] = process
        process.start()

    def start_all(self) -> None:
        for node_id in IDS:
            self.start(node_id, self.first[node_id], self.port())
        self.wait_ready(*IDS)

    def wait_ready(self, *ids: str) -> None:
        for node_id in ids:
            said = self.processes[node_id].wait_ready()
            assert host_port(self.clients_at[node_id]) in said

    def stop(self, *ids: str) -> None:
        for node_id in ids:
            self.processes[node_id].signal(signal.SIGTERM)
        for node_id in ids:
            assert self.processes[node_id].wait() == 0

    def move(self, node_id: str) -> None:
        """Restart one at other ports."""
        self.stop(node_id)
        self.start(node_id, self.port(), self.port())
        self.wait_ready(node_id)

    def cli(self, at: str, *words: str, exit_code: int = 0) -> list[str]:
        """What a command says that knows one server only."""
        result = run(*words, "--address", host_port(self.clients_at[at]))
        assert result.exit_code == exit_code, result.output
        return lines(result) if exit_code == 0 else result.output.splitlines()

    def statuses(self, at: str) -> dict[str, dict[str, Any]]:
        """By name, as found through one server."""
        told = json.loads("\n".join(self.cli(at, "admin", "status", "--json")))["servers"]
        assert all("error" not in each for each in told.values()), told
        return {each["node_id"]: each for each in told.values()}

    def until_linked(self, at: str) -> None:
        """Wait until every server reaches every other."""
        end_s = time.monotonic() + PATIENCE_S
        while True:
            links = [status["links"] for status in self.statuses(at).values()]
            if all(len(each) == len(IDS) - 1 and all(each.values()) for each in links):
                return
            assert time.monotonic() < end_s, links

    def leader(self, at: str) -> str:
        """Who leads, as one server has it, once somebody does."""
        self.cli(at, "kv", "put", "leader", "?")
        return str(self.statuses(at)[at]["leader_id"])


@contextmanager
def servers_in(directory: Path, host: str) -> Iterator[Servers]:
    servers = Servers(directory, host)
    try:
        servers.start_all()
        yield servers
    except BaseException as error:
        for process in servers.processes.values():
            error.add_note(f"{process.name} complained last:\n{process.complaints()}")
        raise
    finally:
        for process in servers.processes.values():
            process.kill()


def test_all_move_one_after_the_other_and_one_follower_is_enough(tmp_path: Path) -> None:
    with servers_in(tmp_path, "::1") as servers:
        first = servers.leader("0")
        order = [*(node_id for node_id in IDS if node_id != first), first]
        for number, node_id in enumerate(order):
            old = servers.peers_at[node_id]
            servers.move(node_id)
            asked = next(each for each in IDS if each not in (node_id, servers.leader(node_id)))
            servers.cli(asked, "kv", "put", f"key-{number}", "x")
            said = servers.cli(
                asked, "admin", "move", node_id, host_port(servers.peers_at[node_id])
            )
            new, clients = servers.peers_at[node_id], servers.clients_at[node_id]
            assert said[0].startswith(f"{node_id}, a voter, is reached at {host_port(new)} since ")
            assert said[0].endswith(f"; before: {host_port(old)}")
            assert said[1].startswith("it answers there")
            assert said[2] == f"clients reach it at {host_port(clients)}, as it said last"
        everywhere = {each: host_port(at) for each, at in servers.clients_at.items()}
        for at in IDS:
            told = servers.statuses(at)
            assert set(told) == set(IDS)
            for each in told.values():
                assert each["client_addresses"] == everywhere
                assert each["configuration"]["addresses"] == {
                    node_id: host_port(address) for node_id, address in servers.peers_at.items()
                }
        # Nobody is where any --peer says: the log knows better, also when all begin anew.
        servers.stop(*IDS)
        for node_id in IDS:
            servers.start(node_id, servers.peers_at[node_id], servers.clients_at[node_id])
        servers.wait_ready(*IDS)
        assert servers.cli("1", "kv", "get", "key-0") == ["x"]
        servers.until_linked("2")


def check_refusals(servers: Servers, leader: str) -> None:
    """What cannot be is said, and changes nothing."""
    index = servers.statuses("0")["0"]["configuration_index"]
    refused: Sequence[tuple[Sequence[str], int, str]] = (
        (("7", "127.0.0.1:7"), 2, "'7' is no member: 0, 1, 2 are"),
        (("1", "127.0.0.1"), 2, "give HOST:PORT"),
        (("1", "::1:7000"), 2, "in brackets"),
        (("1", "srv+_x._tcp.example"), 2, "give HOST:PORT"),
        (("1", host_port(servers.first["2"])), 1, "this is node '2'"),
        ((leader, host_port(servers.clients_at[leader])), 1, "does not answer at"),
    )
    for words, exit_code, why in refused:
        said = " ".join(servers.cli("0", "admin", "move", *words, exit_code=exit_code))
        assert why in said
    assert servers.statuses("0")["0"]["configuration_index"] == index


def test_a_member_is_moved_to_where_it_does_not_answer_only_by_force(tmp_path: Path) -> None:
    with servers_in(tmp_path, "127.0.0.1") as servers:
        leader = servers.leader("0")
        check_refusals(servers, leader)
        gone, asked = (node_id for node_id in IDS if node_id != leader)
        servers.stop(gone)
        later = servers.port()
        (refusal,) = servers.cli(asked, "admin", "move", gone, host_port(later), exit_code=1)
        assert "Connection refused" in refusal
        assert "nothing was changed" in refusal
        assert "--force" in refusal
        said = servers.cli(asked, "admin", "move", gone, host_port(later), "--force")
        assert f"is reached at {host_port(later)} since index" in said[0]
        assert said[1] == "whether it answers there was not asked"
        servers.start(gone, later, servers.port())
        servers.wait_ready(gone)
        servers.cli(gone, "kv", "put", "key", "x")
        assert set(servers.statuses(gone)) == set(IDS)
