"""A server that is told to end before it serves ends, also as the first process of a container, to
which the kernel gives no signal that it does not handle; and none of its children is left.

Rules of this file: the signal comes from outside of the container, as `docker stop` sends it.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from benchmarks.processes import PATIENCE_S, Process, free_ports, python, shown

NAMESPACES = (
    ("unshare", "--pid", "--fork", "--kill-child"),
    ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"),
)
STARTS = ("importing", "recovering", "restoring")


@cache
def namespace() -> tuple[str, ...]:
    """What makes a command the first process of a space of its own; nothing where that may not
    be."""
    if sys.platform == "linux" and shutil.which("unshare"):
        for prefix in NAMESPACES:
            done = subprocess.run([*prefix, "true"], capture_output=True, check=False)
            if done.returncode == 0:
                return prefix
    return ()


def children_of(pid: int) -> list[int]:
    """Its processes, zombies included."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in path.read_text(encoding="ascii").split()]


class Container:
    """`python -m MODULE …` as a first process, or, where that may not be, as any."""

    def __init__(self, process: Process, *, is_first: bool) -> None:
        self.process = process
        self.is_first = is_first

    @property
    def pid(self) -> int:
        if not self.is_first:
            return self.process.pid
        (pid,) = children_of(self.process.pid)
        return pid

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """The exit code after this signal, as a shell would say it."""
        os.kill(self.pid, number)
        code = self.process.wait()
        return 128 - code if code < 0 else code


@contextmanager
def container(module: str, *words: str, is_first: bool) -> Iterator[Container]:
    if is_first and not namespace():
        pytest.skip("no process may have a space of its own here")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TRIORAFT_")}
    command = (*(namespace() if is_first else ()), *python(module, *words))
    with Process(command, name="the server", environment=environment) as process:
        yield Container(process, is_first=is_first)


def serve(directory: Path, *more: str) -> list[str]:
    with free_ports(2) as (peers, clients):
        at = ["--listen", shown(peers), "--client-listen", shown(clients)]
    return ["serve", "--id", "0", *at, "--data", str(directory / "0"), "--create-data", *more]


@pytest.mark.parametrize("is_first", [True, False], ids=["first", "any"])
@pytest.mark.parametrize("where", STARTS)
def test_sigterm_ends_a_start_wherever_it_is(where: str, is_first: bool, tmp_path: Path) -> None:
    words = serve(tmp_path, "--found-alone")
    with container("tests.serve.slow_start", where, *words, is_first=is_first) as server:
        assert server.process.next_line() == where
        assert server.end() == 128 + signal.SIGTERM


@pytest.mark.parametrize("is_first", [True, False], ids=["first", "any"])
def test_while_a_cluster_forms_sigterm_has_it_leave(is_first: bool, tmp_path: Path) -> None:
    with free_ports(1) as (nobody,):
        words = serve(tmp_path, "--peer", f"1={shown(nobody)}")
    with container("trioraft", *words, is_first=is_first) as server:
        assert "serves clients" in server.process.next_line()
        assert children_of(server.pid) == []
        os.kill(server.pid, signal.SIGTERM)
        assert server.process.next_line() == "trioraft serve: node 0 leaving after SIGTERM"
        assert server.process.wait() == 0


def test_what_others_leave_behind_in_its_container_is_no_zombie(tmp_path: Path) -> None:
    """As a probe that is killed in the middle: its children become those of the first process."""
    if not shutil.which("nsenter"):
        pytest.skip("there is no nsenter")
    with container("trioraft", *serve(tmp_path, "--found-alone"), is_first=True) as server:
        server.process.next_line()
        enter = ["nsenter", "--target", str(server.pid), "--pid"]
        enter += ["--user", "--preserve-credentials"] if "--user" in namespace() else []
        waits = ["sh", "-c", "exec 3<&0; cat <&3 >/dev/null 2>&1 &"]
        reading, writing = os.pipe()
        subprocess.run([*enter, *waits], stdin=reading, check=True)
        os.close(reading)
        (orphan,) = children_of(server.pid)  # since the shell that has started it has ended
        ended = os.pidfd_open(orphan)
        os.close(writing)
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        assert poll.poll(PATIENCE_S * 1000)
        os.close(ended)
        assert children_of(server.pid) == []
        assert server.end() == 0
