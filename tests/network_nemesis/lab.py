"""The lab: namespaces for the members and their clients, on one switch.

Rules of this file:

* `why_not` says whether it can be had here, by trying.
* `command` is what runs another command in namespaces of mounts, processes and networks of its own.
  They end with its first process, and that ends if whoever started it is killed. Everything below
  is for the inside, where names are ours alone, and nothing needs to be cleaned up.
* The inside's own network is the clients'. Each member has one more, named `m0`, `m1`, …
* Neighbours are known, and not asked for: a cut between two machines is one between two sites.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, final

import msgspec

from benchmarks.processes import Process, python

from .switch import MAC_PREFIX, Forget, Heal, Line, Order, SetLine, SetRate

PROGRAMS: Final = {"ip": "iproute2", "unshare": "util-linux", "mount": "util-linux"}
"""What is needed, and the package that usually has it."""
_TUN: Final = "/dev/net/tun"
_TRIAL: Final = "mount -t tmpfs none /run && ip tuntap add dev tap0 mode tap && ip netns add m0"
TRIAL_S: Final = 20.0
CLIENTS_HOST: Final = "10.77.0.200"


def command(words: Sequence[str]) -> list[str]:
    """The command that runs this one inside."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return [
        *("unshare", *user, "--mount", "--net", "--pid", "--fork", "--kill-child"),
        *words,
    ]


def why_not() -> str | None:
    """Why there can be no lab here; None: there can."""
    if sys.platform != "linux":
        return f"network namespaces are Linux's, and this is {sys.platform}"
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            return f"there is no `{program}` here: install {package}"
    if not os.access(_TUN, os.R_OK | os.W_OK):
        return f"{_TUN} cannot be opened"
    tried = subprocess.run(
        command(["sh", "-c", _TRIAL]),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TRIAL_S,
        check=False,
        text=True,
    )
    if tried.returncode != 0:
        said = " ".join(tried.stderr.split()) or f"exit code {tried.returncode}"
        return f"namespaces are not allowed here ({said})"
    return None


def host_of(member: int, *, moved: bool = False) -> str:
    """The address of a member, or the one that it may move to."""
    return f"10.77.0.{(20 if moved else 10) + member}"


def name_of(member: int) -> str:
    """The name that stands for its address, in everybody's table of hosts."""
    return f"m{member}.nemesis"


@final
class Lab:
    """A network of members and one more port, the clients'.

    Use it in a `with`, inside.

    Args:
        directory: for its files.
        size: number of members.
        seed: of the switch.
    """

    def __init__(self, directory: Path, size: int, seed: str) -> None:
        self.members = tuple(range(size))
        self.clients = size
        """The clients' port."""
        self._hosts = directory / "hosts"
        self._moved: set[int] = set()
        _run("mount", "-t", "tmpfs", "none", "/run")
        self._write_hosts()
        _run("mount", "--bind", str(self._hosts), "/etc/hosts")
        self._switch = Process(
            python("tests.network_nemesis.switch", seed, str(size + 1)),
            name="the switch",
            errors=directory / "switch.log",
        )
        try:
            self._switch.next_line()
            self._lay()
        except BaseException:
            self._switch.kill()
            raise

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self._switch.kill()

    def prefix(self, member: int) -> list[str]:
        """What makes a command one that runs on this member's machine."""
        return ["ip", "netns", "exec", f"m{member}"]

    # -- the network ---------------------------------------------------------------------------

    def cut(self, some: Iterable[int], others: Iterable[int]) -> None:
        """Both directions between any of some and any of others."""
        some, others = tuple(some), tuple(others)
        self.set_lines(Line(is_cut=True), some, others)
        self.set_lines(Line(is_cut=True), others, some)

    def set_lines(
        self, line: Line, sources: Iterable[int] | None = None, targets: Iterable[int] | None = None
    ) -> None:
        """One direction, from any of these to any of those; of None: all members."""
        sources = self.members if sources is None else tuple(sources)
        targets = self.members if targets is None else tuple(targets)
        self._order(SetLine(sources, targets, line))

    def set_rate(self, bits_s: float) -> None:
        """Of what leaves each member, whoever it is for."""
        self._order(SetRate(self.members, bits_s))

    def forget_connections(self, members: Iterable[int] | None = None) -> None:
        """A firewall between these members loses its table."""
        self._order(Forget(self.members if members is None else tuple(members)))

    def heal(self) -> None:
        """Nothing is wrong with the network any more."""
        self._order(Heal())

    def move(self, member: int) -> None:
        """Give the member its other address; its name follows."""
        old = host_of(member, moved=self._is_moved(member))
        self._moved ^= {member}
        new = host_of(member, moved=self._is_moved(member))
        device = f"tap{member}"
        _ip([f"addr del {old}/24 dev {device}", f"addr add {new}/24 dev {device}"], f"m{member}")
        _ip(self._neighbours(member), f"m{member}")
        self._write_hosts()

    def _is_moved(self, member: int) -> bool:
        return member in self._moved

    def _order(self, order: Order) -> None:
        self._switch.say(msgspec.json.encode(order) + b"\n")
        self._switch.next_line()

    # -- laying it -----------------------------------------------------------------------------

    def _write_hosts(self) -> None:
        """In place: the file is mounted over the table of hosts."""
        lines = ["127.0.0.1 localhost"]
        lines += [
            f"{host_of(member, moved=self._is_moved(member))} {name_of(member)}"
            for member in self.members
        ]
        self._hosts.write_text("\n".join([*lines, ""]), encoding="ascii")

    def _lay(self) -> None:
        for member in self.members:
            _ip([f"netns add m{member}", f"link set tap{member} netns m{member}"])
            self._raise(member, host_of(member), f"m{member}")
        self._raise(self.clients, CLIENTS_HOST, None)

    def _raise(self, port: int, host: str, namespace: str | None) -> None:
        device = f"tap{port}"
        _ip(
            [
                "link set lo up",
                f"link set {device} address {_mac(port)} addrgenmode none mtu 1500",
                f"addr add {host}/24 dev {device}",
                f"link set {device} up",
                *self._neighbours(port),
            ],
            namespace,
        )

    def _neighbours(self, port: int) -> list[str]:
        known = [(self.clients, CLIENTS_HOST)]
        for member in self.members:
            known += [(member, host_of(member, moved=moved)) for moved in (False, True)]
        return [
            f"neigh replace {host} lladdr {_mac(other)} dev tap{port} nud permanent"
            for other, host in known
            if other != port
        ]


def _mac(port: int) -> str:
    return (MAC_PREFIX + bytes((port,))).hex(":")


def _ip(lines: Iterable[str], namespace: str | None = None) -> None:
    words = ["ip", *(() if namespace is None else ("-netns", namespace)), "-batch", "-"]
    _run(*words, said="\n".join([*lines, ""]))


def _run(*words: str, said: str = "") -> None:
    done = subprocess.run(words, input=said, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"`{' '.join(words)}` failed: {done.stderr.strip()} (of {said!r})")
