"""The client, and a node in memory, need nothing that only POSIX systems have.

Rules of this file: a fresh interpreter does without those modules, signals and functions. What the
event loops of this platform need for themselves stays: they have others on Windows. (Windows itself
is tried by nobody.)
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import trio

from tests.client.service_support import Appends, serving
from trioraft.machines.sessions import SessionMachine

WITHOUT_POSIX = """
import asyncio, os, signal, socket, sys

MODULES = {
    "crypt", "curses", "fcntl", "grp", "nis", "posix_ipc", "pty", "pwd", "readline", "resource",
    "spwd", "syslog", "termios", "tty",
}
SIGNALS = ("SIGALRM", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGTSTP", "SIGUSR1", "SIGUSR2")
OF_OS = (
    "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "chown", "fchmod", "fchown", "fork",
    "forkpty", "getegid", "geteuid", "getgid", "getpgid", "getuid", "killpg", "mkfifo", "setsid",
    "sysconf", "uname",
)
OF_SOCKETS = ("SO_REUSEPORT", "SCM_RIGHTS")  # AF_UNIX is what socketpair() makes here

class NotOnWindows:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

for name in MODULES:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, NotOnWindows())
import trio, anyio  # before the rest is gone: they look at what this platform has
for module, names in ((signal, SIGNALS), (os, OF_OS), (socket, OF_SOCKETS)):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
"""
USES_A_CLIENT = """
import trioraft
from trioraft import BlockingClient, Client

address = ("127.0.0.1", int(sys.argv[1]))

async def use():
    async with Client([address]) as client:
        await client.call(b"x", result_type=int)
        assert (await client.status()).role == "Leader"

anyio.run(use, backend="trio")
anyio.run(use, backend="asyncio")
with BlockingClient([address]) as client:
    print(client.call(b"x", result_type=int), len(client.query(b"all", result_type=list[bytes])))
"""
OPENS_A_NODE = """
import random
from trioraft import MemoryNetwork, MemoryStorage, open_node, structures

async def main():
    counter = structures.Counter()
    transport, storage = MemoryNetwork(random.Random(1)).transport("0"), MemoryStorage()
    async with open_node(
        "0", voters=["0"], machine=counter, storage=storage, transport=transport
    ) as node:
        counter.attach(node)
        await node.wait(lambda status: status.role.value == "Leader")
        print(await counter.add(42))

trio.run(main)
"""
NEEDS_FILES = """
try:
    from trioraft import SQLiteStorage
except ImportError as error:
    print(error)
"""


def said_without_posix(program: str, *args: object) -> str:
    """What a program prints where all that is missing."""
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_POSIX + program, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


async def test_a_client_asks_a_server() -> None:
    async with serving(SessionMachine(Appends())) as (_, service):
        said = partial(said_without_posix, USES_A_CLIENT, service.address[1])
        assert await trio.to_thread.run_sync(said) == "3 3\n"


def test_a_node_in_memory_runs() -> None:
    assert said_without_posix(OPENS_A_NODE) == "42\n"


def test_a_storage_on_disk_says_what_it_needs() -> None:
    said = said_without_posix(NEEDS_FILES)
    assert "POSIX" in said
    assert "MemoryStorage" in said


def test_what_is_missing_is_missing() -> None:
    program = "import fcntl"
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_POSIX + program], capture_output=True, text=True, check=False
    )
    assert "No module named 'fcntl'" in ended.stderr
    assert said_without_posix("print(hasattr(os, 'fork'), hasattr(signal, 'SIGHUP'))") == (
        "False False\n"
    )
