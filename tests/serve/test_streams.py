"""How commands end where something around them ends first: the reader of their output, a disk, a
stream, a server, the user's patience. In processes of their own, as that is the subject.

Rules of this file: no traceback, ever.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import Result

from tests.serve import commands
from tests.serve.clusters import PATIENCE_S, READY, started
from tests.test_cli import LEAVES, run_here

TRIORAFT = (sys.executable, "-m", "trioraft")


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of one, that serves."""
    with started("1", cwd=tmp_path_factory.mktemp("cluster")) as cluster:
        cluster.wait_for(READY)
        yield cluster.addresses
        assert cluster.end(signal.SIGINT) == 130


@contextmanager
def black_hole() -> Iterator[str]:
    """A server that takes every connection, and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def without_traceback(ended: subprocess.CompletedProcess[str]) -> int:
    for text in (ended.stdout or "", ended.stderr or ""):
        assert "Traceback" not in text
        assert "Exception ignored" not in text
    return ended.returncode


def run_closed(*arguments: str, address: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command, with a standard output that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return subprocess.run(
            [*TRIORAFT, *arguments],
            cwd=cwd,
            env={**os.environ, "TRIORAFT_ADDRESSES": address},
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    finally:
        os.close(writing)


def run_in_shell(
    redirected: str, *arguments: str, address: str, cwd: Path
) -> subprocess.CompletedProcess[str]:
    """The command, with its streams redirected as a shell does it, as in ">&-"."""
    return subprocess.run(
        ["sh", "-c", f'"$@" {redirected}', "sh", *TRIORAFT, *arguments],
        cwd=cwd,
        env={**os.environ, "TRIORAFT_ADDRESSES": address},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["kv", "--help"],
        ["kv", "put", "k", "v"],
        ["kv", "put", "k", "v", "--json"],
        ["kv", "get", "k"],
        ["kv", "get", "k", "--raw"],
        ["kv", "range"],
        ["kv", "watch", "--from", "1"],
        ["admin", "status"],
        ["admin", "status", "--json"],
        ["admin", "new-token", "x"],
        ["backup", "-o", "-"],
        ["watch", "--json"],
        ["watch", "--once"],
        ["completion", "bash"],
        ["sim", "--seeds", "1", "--jobs", "1"],
        ["certs", "pki"],
    ],
    ids=" ".join,
)
def test_a_reader_that_has_gone_is_141(
    arguments: list[str], addresses: str, tmp_path: Path
) -> None:
    run_here("kv", "put", "k", "v", "--address", addresses)
    ended = run_closed(*arguments, address=addresses, cwd=tmp_path)
    assert without_traceback(ended) == 141
    assert ended.stderr == ""


def test_what_was_done_is_done_though_nobody_reads_that(addresses: str, tmp_path: Path) -> None:
    assert run_closed("kv", "put", "done", "yes", address=addresses, cwd=tmp_path).returncode == 141
    assert run_here("kv", "get", "done", "--address", addresses).stdout == "yes\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
@pytest.mark.parametrize(
    "arguments", [["--help"], ["kv", "put", "k", "v"], ["kv", "get", "k"], ["admin", "status"]]
)
def test_output_that_a_disk_does_not_take_is_74(
    arguments: list[str], addresses: str, tmp_path: Path
) -> None:
    run_here("kv", "put", "k", "v", "--address", addresses)
    ended = run_in_shell(">/dev/full", *arguments, address=addresses, cwd=tmp_path)
    assert without_traceback(ended) == 74
    assert ended.stderr == "trioraft: standard output: No space left on device\n"


@pytest.mark.parametrize(
    ("redirected", "code"),
    [("<&-", 0), (">&-", 0), ("2>&-", 0), ("<&- >&- 2>&-", 0), ("2>/dev/full", 0)],
)
def test_a_command_may_lack_any_stream(
    redirected: str, code: int, addresses: str, tmp_path: Path
) -> None:
    put = run_in_shell(redirected, "kv", "put", "k", "v", address=addresses, cwd=tmp_path)
    assert without_traceback(put) == code
    wrong = run_in_shell(redirected, "kv", "put", "k", address=addresses, cwd=tmp_path)
    assert without_traceback(wrong) == 2


def test_standard_input_that_is_not_there_is_said(addresses: str, tmp_path: Path) -> None:
    ended = run_in_shell("<&-", "kv", "put", "k", "-", address=addresses, cwd=tmp_path)
    assert without_traceback(ended) == 1
    assert "standard input" in ended.stderr


def test_a_watch_whose_servers_vanish_says_so_once_and_ends(tmp_path: Path) -> None:
    with started("1", cwd=tmp_path) as cluster:
        cluster.wait_for(READY)
        watching = subprocess.Popen(
            [*TRIORAFT, "kv", "watch", "--from", "1", "--timeout", "1s"],
            env={**os.environ, "TRIORAFT_ADDRESSES": cluster.addresses},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with watching:
            assert watching.stdout is not None
            assert watching.stderr is not None
            run_here("kv", "put", "k", "v", "--address", cluster.addresses)
            assert watching.stdout.readline().endswith("set\tk\tv\n")
            assert cluster.end(signal.SIGINT) == 130
            assert watching.wait(PATIENCE_S) == 1
            said = watching.stderr.read().splitlines()
    assert "going on at another server" in said[0]
    assert said[-1].startswith("trioraft: no server was reached within 1 s: ")
    assert len(said) <= 4


# -- a user's patience -----------------------------------------------------------------------

GO = """\
import trioraft.cli.application as application

def open_streams(open=application.open_streams):
    open()
    print("go", flush=True)  # what comes before is the interpreter's own beginning

application.open_streams = open_streams
application.main()
"""


@pytest.mark.parametrize(
    ("arguments", "after"),
    [
        (["kv", "get", "k"], 130),
        (["kv", "put", "k", "-"], 130),
        (["kv", "watch"], 130),
        (["admin", "replace", "0"], 130),
        (["admin", "status", "--json"], 130),
        (["backup", "-o", "-"], 130),
        (["watch"], 0),  # its usual end
        (["sim", "--seeds", "100000", "--jobs", "1"], 130),
        (["demo"], 0),  # it is over by then, or nearly
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_ctrl_c_ends_it_at_any_time(arguments: list[str], after: int, tmp_path: Path) -> None:
    with black_hole() as address:
        for wait_s in (0.0, 0.03, 0.1, 0.3, 1.5):
            process = subprocess.Popen(
                [sys.executable, "-c", GO, *arguments],
                cwd=tmp_path,
                env={**os.environ, "TRIORAFT_ADDRESSES": address, "TRIORAFT_TIMEOUT": "60s"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            with process:
                assert process.stdout is not None
                assert process.stderr is not None
                assert process.stdout.readline() == "go\n"
                time.sleep(wait_s)  # anywhere on its way: that is the subject
                process.send_signal(signal.SIGINT)
                code = process.wait(PATIENCE_S)
                said = process.stdout.read() + process.stderr.read()
            assert "Traceback" not in said
            assert "Exception ignored" not in said
            # Of a process that was going already, a shell says 130 as well.
            assert code in (130, -signal.SIGINT, after), f"{code} after {wait_s} s: {said}"


def test_ctrl_c_ends_a_command_that_waits_for_its_input(tmp_path: Path) -> None:
    """asyncio's own handler would have the read go on, until somebody pressed it twice."""
    with black_hole() as address:
        process = subprocess.Popen(
            [*TRIORAFT, "kv", "put", "k", "-", "--address", address],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with process:
            assert process.stdin is not None
            assert process.stderr is not None
            process.stdin.write(b"half a value")
            process.stdin.flush()
            give_up_s = time.monotonic() + PATIENCE_S
            left = bytearray(4)
            while fcntl.ioctl(process.stdin, termios.FIONREAD, left) or any(left):
                assert time.monotonic() < give_up_s, "it did not read its input"
                time.sleep(0.02)  # a pipe does not tell when it was emptied
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE_S) == 130
            assert process.stderr.read() == b""


ENDLESS = {("dashboard",)}
"""What shows that nobody answers, and goes on: tests/live."""
TIMED = [
    leaf
    for leaf in LEAVES
    if leaf not in ENDLESS and "--timeout" in run_here(*leaf, "--help").stdout
]
GIVEN = {
    "KEY": "k",
    "VALUE": "v",
    "ID": "0",
    "NAME": "n",
    "TIME": "10s",
    "HOST:PORT": "127.0.0.1:1",
}
BESIDES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("kv", "cas"): ("--expect", "v"),
    ("kv", "txn"): ("--then", "put k v"),
    ("kv", "elect"): ("v",),
    ("backup",): ("-o", "-"),
}
"""What else a command cannot do without."""


def asked(leaf: tuple[str, ...]) -> list[str]:
    """The command with what it cannot do without."""
    usage = run_here(*leaf, "--help").stdout.splitlines()[0]
    given = {**GIVEN, "ID": "1"} if leaf[:2] == ("kv", "lease") else GIVEN
    required = [given[word] for word in usage.split() if word in given]
    return [*leaf, *required, *BESIDES.get(leaf, ())]


def test_commands_that_ask_a_cluster_take_a_timeout() -> None:
    assert {leaf[0] for leaf in TIMED} == {"kv", "admin", "watch", "backup"}
    assert len(TIMED) >= 15


def run_at(*arguments: str, address: str) -> Result:
    return commands.run(
        *arguments, env={"TRIORAFT_ADDRESSES": address, "TRIORAFT_TIMEOUT": "300ms"}
    )


@pytest.mark.parametrize("leaf", TIMED, ids=" ".join)
def test_a_timeout_is_kept_where_no_server_answers(leaf: tuple[str, ...]) -> None:
    options = ["--once"] if leaf == ("watch",) else []
    with black_hole() as address:
        began_s = time.monotonic()
        result = run_at(*asked(leaf), *options, address=address)
        assert time.monotonic() - began_s < 5.0
    assert result.exit_code in (1, 3, 4)
    assert result.output
    assert "Traceback" not in result.output


AS_JSON = [leaf for leaf in LEAVES if "--json " in run_here(*leaf, "--help").stdout]
UNTRIED = {
    ("admin", "replace"),  # it waits for a disk that was lost: tests/identity
    ("admin", "invite"),  # and that for certificates: test_credentials
    ("watch",),  # it has no end: tests/watch
    ("sim",),  # into a file: tests/sim
    ("viz",),  # tests/viz
    ("recover",),  # tests/recover
    *((name,) for name in ("backup", "restore", "inspect")),  # tests/backups
    *(("kv", name) for name in ("elect", "lock", "incr")),  # tests/serve/test_kv_commands
    *(("kv", "lease", name) for name in ("keep", "revoke", "ttl")),
    ("admin", "move"),  # of a member that answers elsewhere: tests/serve/test_moving
}


def test_commands_with_something_to_say_to_programs_say_it_in_json() -> None:
    kinds = {leaf[0] for leaf in AS_JSON}
    assert {"kv", "admin", "watch", "recover", "viz", "sim"} <= kinds
    asking = {leaf for leaf in LEAVES if leaf[0] in ("kv", "admin", "watch")}
    assert asking <= {*AS_JSON}


@pytest.mark.parametrize("leaf", [each for each in AS_JSON if each not in UNTRIED], ids=" ".join)
def test_json_is_json_and_nothing_else(leaf: tuple[str, ...], addresses: str) -> None:
    run_here("kv", "put", "k", "v", "--address", addresses)
    more = ["--from", "1", "--count", "1"] if leaf == ("kv", "watch") else []
    result = commands.run(*asked(leaf), *more, "--json", env={"TRIORAFT_ADDRESSES": addresses})
    if leaf in (("admin", "remove"), ("admin", "transfer")):
        assert result.exit_code in (1, 2), "there is one member"
        assert result.stdout == ""
        return
    assert result.exit_code == 0, result.output
    content = (
        [json.loads(line) for line in result.stdout.splitlines()]
        if leaf[0] == "kv"
        else [json.loads(result.stdout)]
    )
    assert content
    assert all(isinstance(each, dict) for each in content)


def test_what_contradicts_json_is_refused() -> None:
    for arguments in (["admin", "status", "--check", "live"], ["watch", "--once"]):
        env = {"TRIORAFT_ADDRESSES": "127.0.0.1:1"}
        result = commands.run(*arguments, "--json", env=env)
        assert result.exit_code == 2
        assert "json" in result.stderr
