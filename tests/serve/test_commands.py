"""`trioraft kv` and `trioraft admin` against servers in processes of their own.

Rules of this file: one server for all tests of the module, for a process takes a second to start;
each test has keys of its own.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result

from benchmarks.processes import ServerProcess, ServerProcesses, free_ports, shown
from tests.serve.commands import lines, run

Cli = Callable[..., Result]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcesses]:
    with ServerProcesses(tmp_path_factory.mktemp("server"), size=1) as servers:
        servers.start()
        yield servers


@pytest.fixture
def cli(server: ServerProcesses) -> Cli:
    """A command that finds the server in its environment."""

    def with_address(*arguments: str, input: bytes | None = None) -> Result:
        environment = {"TRIORAFT_ADDRESSES": shown(server.addresses[0])}
        return run(*arguments, input=input, env=environment)

    return with_address


def answer_of(result: Result) -> dict[str, object]:
    (line,) = result.stdout.splitlines()
    answer = json.loads(line)
    assert isinstance(answer, dict)
    return answer


# -- kv ------------------------------------------------------------------------------------


def test_put_get_and_delete(cli: Cli) -> None:
    assert lines(cli("kv", "put", "pgd", "1"))[0].endswith(", was absent")
    assert lines(cli("kv", "put", "pgd", "2", "--previous"))[1] == "previous: 1"
    assert lines(cli("kv", "get", "pgd")) == ["2"]
    assert lines(cli("kv", "get", "pgd", "--stale")) == ["2"]
    lines(cli("kv", "delete", "pgd"))
    assert cli("kv", "delete", "pgd").exit_code == 3
    absent = cli("kv", "get", "pgd")
    assert (absent.exit_code, absent.output) == (3, "")
    told = cli("kv", "get", "pgd", "--json")
    assert told.exit_code == 3
    assert answer_of(told)["value"] is None


def test_values_are_bytes(cli: Cli) -> None:
    value = b"\x00\xff\n\x1b[31m"
    lines(cli("kv", "put", "bytes", "-", input=value))
    lines(cli("kv", "append", "bytes", "-", input=b"!"))
    assert cli("kv", "get", "bytes", "--raw").stdout_bytes == value + b"!"
    assert answer_of(cli("kv", "get", "bytes", "--json"))["value_base64"] == "AP8KG1szMW0h"
    assert lines(cli("kv", "range", "bytes")) == ["bytes\t\\x00\\xff\\n\\x1b[31m!"]


def test_compare_and_set(cli: Cli) -> None:
    lines(cli("kv", "cas", "cas", "1", "--expect-absent"))
    lines(cli("kv", "cas", "cas", "2", "--expect", "1"))
    refused = cli("kv", "cas", "cas", "3", "--expect", "1")
    assert (refused.exit_code, refused.stdout) == (3, "not set, found: 2\n")
    assert answer_of(cli("kv", "cas", "cas", "3", "--expect-absent", "--json"))["found"] == "2"
    assert cli("kv", "cas", "cas", "3").exit_code == 2
    assert cli("kv", "cas", "cas", "3", "--expect", "2", "--expect-absent").exit_code == 2


def test_range(cli: Cli) -> None:
    for number in range(3):
        lines(cli("kv", "put", f"range/{number}", str(number)))
    assert lines(cli("kv", "range", "range/")) == ["range/0\t0", "range/1\t1", "range/2\t2"]
    assert lines(cli("kv", "range", "range/", "--limit", "2")) == ["range/0\t0", "range/1\t1"]


def test_watch_from_an_index_misses_nothing(cli: Cli) -> None:
    index = answer_of(cli("kv", "put", "watch/a", "1", "--json"))["index"]
    lines(cli("kv", "append", "watch/b", "2"))
    lines(cli("kv", "delete", "watch/a"))
    found = lines(cli("kv", "watch", "watch/", "--from", str(index), "--count", "3"))
    assert [line.split("\t")[1:] for line in found] == [
        ["set", "watch/a", "1"],
        ["set", "watch/b", "2"],
        ["deleted", "watch/a"],
    ]


# -- admin ---------------------------------------------------------------------------------


def test_status(cli: Cli, server: ServerProcesses) -> None:
    table = lines(cli("admin", "status"))
    assert table[0].split()[:2] == ["node", "clients"]
    assert table[1].split()[:4] == ["0", shown(server.addresses[0]), "Leader", "voter"]
    told = json.loads(cli("admin", "status", "--json").stdout)
    assert told["servers"][shown(server.addresses[0])]["configuration"]["voters"] == ["0"]


def test_probes(cli: Cli) -> None:
    lines(cli("kv", "put", "probed", "yes"))  # there is a leader
    for check in ("live", "ready"):
        assert lines(cli("admin", "status", "--check", check))[0].startswith(f"{check}: node 0")
    with free_ports(1) as (nobody,):
        address = shown(nobody)
    silent = cli("admin", "status", "--check", "live", "--address", address, "--timeout", "200ms")
    assert silent.exit_code == 3
    assert "not live: " in silent.stderr
    table = cli("admin", "status", "--address", address, "--timeout", "200ms")
    assert table.exit_code == 3
    assert "no answer" in table.stdout


def test_snapshot_and_transfer(cli: Cli) -> None:
    assert lines(cli("admin", "snapshot"))[0].startswith("snapshot taken, up to index ")
    nobody = cli("admin", "transfer", "--to", "7")
    assert nobody.exit_code == 2
    assert "'7'" in nobody.stderr


def test_a_node_joins_and_leaves(cli: Cli, server: ServerProcesses, tmp_path: Path) -> None:
    with free_ports(2) as (peers_at, clients_at):
        pass
    newcomer = ServerProcess(
        ["--id", "new", "--join", "--data", str(tmp_path / "new"), "--create-data", "--listen",
         shown(peers_at), "--client-listen", shown(clients_at)],
        tmp_path / "new.log", "newcomer",
    )  # fmt: skip
    try:
        newcomer.start()
        newcomer.wait_ready()
        at_newcomer = ("admin", "status", "--check", "ready", "--address", shown(clients_at))
        assert cli(*at_newcomer).exit_code == 3
        assert cli("admin", "promote", "new").exit_code == 2
        add = ("admin", "add-learner", "new", shown(peers_at))
        assert lines(cli(*add))[0].startswith("new is a learner since index ")
        assert lines(cli(*add)) == ["new is a learner already: nothing was changed"]
        assert "new is a voter" in lines(cli("admin", "promote", "new"))[0]
        assert lines(cli("admin", "promote", "new")) == [
            "new is a voter already: nothing was changed"
        ]
        assert lines(cli(*add)) == ["new is a voter already: nothing was changed"]
        assert lines(cli(*add[:3])) == ["new is a voter already: nothing was changed"]
        told = answer_of(cli(*add, "--json"))
        assert told == {"node": "new", "part": "voter", "index": None}
        other = shown((peers_at[0], 1))
        moved = lines(cli(*add[:3], other))[0]
        assert moved.startswith(f"new is a voter already: its address is {other} since index ")
        assert "voter already: its address is" in lines(cli(*add))[0], "and back"
        assert "is Follower in term" in lines(cli(*at_newcomer))[0]
        lines(cli("kv", "put", "joined", "yes"))
        assert "no member since" in lines(cli("admin", "remove", "new"))[0]
        assert cli("admin", "remove", "new").exit_code == 2
        newcomer.signal(signal.SIGTERM)
        assert newcomer.next_line() == "trioraft serve: node new leaving after SIGTERM"
        assert newcomer.wait() == 0
    finally:
        newcomer.kill()


# -- mistakes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["kv", "get", "k"], "name at least one server's client port"),
        (["dashboard"], "Invalid value for '[ID=]HOST:PORT': name at least one"),
        (["dashboard", "nowhere"], "Invalid value for '[ID=]HOST:PORT': 'nowhere'"),
        (["kv", "get", "k", "--address", "nowhere"], "'--address': 'nowhere': give HOST:PORT"),
        (["kv", "get", "k", "--address", "127.0.0.1:1", "--timeout", "1"], "give a time with its"),
        (["kv", "get", "k", "--address", "10.0.0.1:1"], "is on another machine"),
        (["kv", "get", "k", "--address", "a=127.0.0.1:1", "--address", "127.0.0.1:2"], "for none"),
        (["kv", "get", "k", "--address", "127.0.0.1:1", "--ca", "missing.pem"], "cannot be read"),
        (["kv", "get", "k", "--address", "127.0.0.1:1", "--cert", "x.pem"], "needs --ca"),
        (["admin", "add-learner", "n", "nowhere", "--address", "127.0.0.1:1"], "give HOST:PORT"),
        (["admin", "status", "--check", "happy", "--address", "127.0.0.1:1"], "--check"),
    ],
)
def test_a_mistake_in_the_command_line(arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert result.stdout == ""


def test_nobody_there() -> None:
    with free_ports(1) as (nobody,):
        address = shown(nobody)
    result = run("kv", "put", "k", "v", "--address", address, "--timeout", "300ms")
    assert result.exit_code == 1
    assert "not done within 0.3 s" in result.stderr
