"""`trioraft kv txn|incr|list|lease|lock|elect` against a server in a process of its own.

Rules of this file: as in `test_commands`. What holds a lock is a process of its own too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result

from benchmarks.processes import ServerProcesses, shown
from tests.serve.commands import lines, run

Cli = Callable[..., Result]

WAIT_S = 60


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
        return run("kv", *arguments, input=input, env=environment)

    return with_address


@pytest.fixture
def begun(server: ServerProcesses) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """A command in a process of its own; it is gone at the end."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> subprocess.Popen[str]:
        address = shown(server.addresses[0])
        process = subprocess.Popen(
            [sys.executable, "-m", "trioraft", "kv", *arguments],
            env={**os.environ, "TRIORAFT_ADDRESSES": address},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def until_gone(cli: Cli, key: str) -> float:
    """Wait until there is no such key; returns how long that took."""
    begun_s = time.monotonic()
    while cli("get", key).exit_code == 0:
        assert time.monotonic() - begun_s < WAIT_S
    return time.monotonic() - begun_s


# -- transactions --------------------------------------------------------------------------


def test_a_transaction_does_one_branch_or_the_other(cli: Cli) -> None:
    lines(cli("put", "t/stock", "2"))
    buy = ("--if", "t/stock > 0", "--then", "incr t/stock -1", "--then", "put t/order 'one more'")
    assert lines(cli("txn", *buy))[1:] == ["1", "written"]
    assert lines(cli("txn", *buy))[1:] == ["0", "written"]
    refused = cli("txn", *buy, "--else", "get t/stock", "--else", "list t/")
    assert refused.exit_code == 3
    assert refused.stdout.splitlines()[1:] == ["0", "t/order\tone more", "t/stock\t0"]
    told = cli("txn", *buy, "--else", "get t/stock", "--json")
    done, found = [json.loads(line) for line in told.stdout.splitlines()]
    assert (told.exit_code, done["succeeded"], found["value"]) == (3, False, "0")


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("c/a = 1", True),
        ("c/a != 1", False),
        ("c/x absent", True),
        ("c/a present", True),
        ("version(c/a) = 2", True),
        ("created(c/a) > 0", True),
        ("changed(c/a) <= 0", False),
        ("lease(c/a) = 0", True),
        ("count(c/) = 1", True),
    ],
)
def test_conditions(cli: Cli, condition: str, holds: bool) -> None:
    cli("delete", "c/a")
    for _ in range(2):
        lines(cli("put", "c/a", "1"))
    assert cli("txn", "--if", condition).exit_code == (0 if holds else 3)


def test_a_transaction_comes_from_standard_input(cli: Cli) -> None:
    text = (
        b"# said\nif in/a absent\nthen put in/a '\xff' ttl=1h\nthen append in/a x\nelse get in/a\n"
    )
    assert lines(cli("txn", input=text))[1:] == ["written", "written"]
    assert cli("get", "in/a", "--raw").stdout_bytes == b"\xffx"
    assert cli("txn", input=text).exit_code == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--if", "a ~ b"), "is no condition"),
        (("--if", "version(a) = x"), "is no whole number"),
        (("--then", "jump a"), "is nothing to do"),
        (("--then", "put a"), "is nothing to do"),
        (("--then", "put a b when=now"), "means nothing"),
        (("--then", "put a b ttl=soon"), "ttl=soon"),
        (("--then", "put 'a"), "No closing quotation"),
        ((), "nothing to do"),
    ],
)
def test_mistakes_are_told_before_anything_is_done(
    cli: Cli, arguments: tuple[str, ...], said: str
) -> None:
    result = cli("txn", *arguments)
    assert result.exit_code == 2
    assert said in result.output
    assert "perhaps" in cli("txn", input=b"perhaps put a b").output


def test_counting(cli: Cli) -> None:
    assert lines(cli("incr", "n")) == ["1"]
    assert lines(cli("incr", "n", "41")) == ["42"]
    assert lines(cli("incr", "n", "--", "-50")) == ["-8"]
    lines(cli("put", "n", "many"))
    refused = cli("incr", "n")
    assert refused.exit_code == 1
    assert "no decimal number" in refused.output


# -- ranges and deletions ------------------------------------------------------------------


def test_listing_page_by_page(cli: Cli) -> None:
    for number in range(5):
        lines(cli("put", f"l/{number}", str(number)))
    assert lines(cli("list", "l/", "--keys-only")) == [f"l/{number}" for number in range(5)]
    assert lines(cli("list", "l/", "--count")) == ["5"]
    page = cli("list", "l/", "--limit", "2")
    assert page.stdout.splitlines() == ["l/0\t0", "l/1\t1"]
    assert page.stderr == "trioraft: there are more: --after l/1\n"
    assert lines(cli("list", "l/", "--after", "l/1", "--limit", "3", "--keys-only")) == [
        "l/2", "l/3", "l/4"]  # fmt: skip
    assert lines(cli("list", "l/1", "--until", "l/3", "--keys-only")) == ["l/1", "l/2"]
    assert lines(cli("list", "l/", "--reverse", "--limit", "1")) == ["l/4\t4"]
    (line,) = lines(cli("list", "l/4", "--json"))
    assert json.loads(line)["version"] == 1
    assert cli("list", "--count", "--limit", "3").exit_code == 2


def test_deleting_on_a_condition_and_by_prefix(cli: Cli) -> None:
    index = json.loads(lines(cli("put", "d/1", "x", "--json"))[0])["index"]
    assert cli("delete", "d/1", "--if", "y").stdout == "not deleted, found: x\n"
    assert cli("delete", "d/1", "--if-index", str(index + 1)).exit_code == 3
    lines(cli("delete", "d/1", "--if", "x", "--if-index", str(index)))
    assert cli("delete", "d/1", "--if", "x").exit_code == 3
    for number in range(3):
        lines(cli("put", f"d/{number}", ""))
    assert lines(cli("delete", "d/", "--prefix"))[0].startswith("3 deleted")
    assert cli("delete", "d/", "--prefix").exit_code == 3
    assert cli("delete", "d/", "--prefix", "--if", "x").exit_code == 2


# -- leases --------------------------------------------------------------------------------


def test_a_lease_takes_its_keys_with_it(cli: Cli) -> None:
    (lease,) = lines(cli("lease", "grant", "60s", "--prefix", "e/"))
    lines(cli("put", "e/a", "1", "--lease", lease))
    named = (lease, "--prefix", "e/")
    life = json.loads(lines(cli("lease", "ttl", *named, "--json"))[0])
    assert (life["ttl_s"], life["keys"]) == (60.0, ["e/a"])
    assert 0 < life["remaining_s"] <= 60
    assert lines(cli("lease", "keep", *named, "--once"))[0].startswith("renewed")
    assert cli("put", "other", "1", "--lease", lease).exit_code == 1
    assert lines(cli("lease", "revoke", *named))[0].startswith("revoked, 1 keys")
    assert cli("get", "e/a").exit_code == 3
    assert cli("lease", "ttl", *named).exit_code == 3
    assert cli("lease", "revoke", *named).exit_code == 1


def test_a_key_goes_when_its_time_is_over_and_a_watch_says_so(cli: Cli) -> None:
    index = json.loads(lines(cli("put", "brief", "1", "--ttl", "300ms", "--json"))[0])["index"]
    until_gone(cli, "brief")
    watch = ("watch", "brief", "--exact", "--from", str(index), "--count", "2")
    assert [line.split("\t")[1] for line in lines(cli(*watch))] == ["set", "expired"]
    told = [json.loads(line) for line in lines(cli(*watch, "--json", "--previous"))]
    assert (told[1]["kind"], told[1]["previous"]) == ("expired", "1")


# -- locks and elections -------------------------------------------------------------------


def test_a_command_runs_while_the_lock_is_held(begun: Callable[..., subprocess.Popen[str]]) -> None:
    script = "import os; print(os.environ['TRIORAFT_LOCK_NAME'], os.environ['TRIORAFT_LOCK_TOKEN'])"
    process = begun("lock", "job", "--ttl", "5s", "--", sys.executable, "-c", script)
    output, _ = process.communicate(timeout=WAIT_S)
    name, token = output.split()
    assert (name, process.returncode) == ("job", 0)
    again = begun("lock", "job", "--", sys.executable, "-c", f"{script}; raise SystemExit(7)")
    output, _ = again.communicate(timeout=WAIT_S)
    assert int(output.split()[1]) > int(token)
    assert again.returncode == 7


def test_one_holds_it_and_the_other_waits(
    cli: Cli, begun: Callable[..., subprocess.Popen[str]]
) -> None:
    first = begun("lock", "one")
    assert line_of(first).startswith("held, token ")
    second = begun("lock", "one")
    while lines(cli("list", "one/", "--count")) != ["2"]:
        assert second.poll() is None
    first.send_signal(signal.SIGINT)
    assert first.wait(WAIT_S) == 130
    assert line_of(second).startswith("held, token ")
    second.send_signal(signal.SIGINT)
    assert second.wait(WAIT_S) == 130
    assert lines(cli("list", "one/", "--count")) == ["0"]


def test_a_command_whose_lock_is_lost_is_ended(
    cli: Cli, begun: Callable[..., subprocess.Popen[str]]
) -> None:
    script = "print('begun', flush=True); import time; time.sleep(600)"
    process = begun("lock", "lost", "--ttl", "1s", "--", sys.executable, "-c", script)
    assert line_of(process) == "begun"
    (key,) = lines(cli("list", "lost/", "--keys-only"))
    lines(cli("lease", "revoke", str(int(key.removeprefix("lost/"), 16)), "--prefix", "lost/"))
    output, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 1
    assert "is over" in output


def test_what_cannot_be_run(begun: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    process = begun("lock", "none", "--", str(tmp_path / "nothing"))
    output, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 127
    assert "cannot be run" in output


def test_an_election_is_observed(begun: Callable[..., subprocess.Popen[str]]) -> None:
    observer = begun("elect", "chief", "--observe")
    assert line_of(observer) == "nobody"
    elected = begun("elect", "chief", "me")
    (_, _, token) = line_of(elected).partition("elected, token ")
    assert line_of(observer) == f"{token}\tme"
    elected.send_signal(signal.SIGINT)
    assert elected.wait(WAIT_S) == 130
    assert line_of(observer) == "nobody"


def test_an_election_needs_a_value_or_an_observer(cli: Cli) -> None:
    assert cli("elect", "chief").exit_code == 2
    assert cli("elect", "chief", "me", "--observe").exit_code == 2
