"""Sockets, files and other descriptors that were opened and not closed.

Rules of this file:

* The system is asked (`/proc/self/fd`, or `/dev/fd`), so that no way of opening escapes. A
  descriptor is known by device and inode: its number is used again, a file's name changes.
* Sockets are listened to as well: that tells where one was opened, whose it is, and that one
  was dropped without being closed.
"""

from __future__ import annotations

import os
import socket
import stat
import sys
from typing import TypeAlias, final

from .channels import Ledger, Opened
from .report import Leak, LeakKind
from .tasks import Ownership

Identity: TypeAlias = tuple[int, int, int]

# Python opens these by itself, when it first needs them, and keeps them.
_KEPT_BY_PYTHON = frozenset({"/dev/urandom", "/dev/random"})


def list_descriptors() -> dict[int, Identity]:
    """Every open descriptor of this process, and what it refers to. Empty where unknown."""
    found: dict[int, Identity] = {}
    for number in _numbers():
        try:
            status = os.fstat(number)
        except OSError:  # the listing's own descriptor, closed by now
            continue
        found[number] = (status.st_dev, status.st_ino, stat.S_IFMT(status.st_mode))
    return found


def _numbers() -> list[int]:
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return [int(name) for name in os.listdir(folder)]
        except OSError:
            continue
    return []


@final
class DescriptorProbe:
    """What was open before, and every socket that was opened since."""

    def __init__(self, ownership: Ownership) -> None:
        self._before = list_descriptors()
        self.sockets: Ledger[socket.socket] = Ledger(ownership)

    def leaks(self) -> list[Leak]:
        """What is open now and was not before, and the sockets that were dropped open."""
        known: dict[int, Opened[socket.socket]] = {}
        dropped: list[Leak] = []
        for opened in self.sockets.left():
            thing = opened.thing
            if thing is not None:
                known[thing.fileno()] = opened
            elif opened.is_ours:
                detail = "dropped without being closed: the garbage collector closed it"
                dropped.append(Leak(LeakKind.DESCRIPTOR, "socket", opened.opened_at, (), detail))
        alive = [
            _as_leak(number, known.get(number))
            for number, identity in list_descriptors().items()
            if self._before.get(number) != identity and self._is_reported(number, known)
        ]
        return alive + dropped

    def _is_reported(self, number: int, known: dict[int, Opened[socket.socket]]) -> bool:
        if number in known:
            return known[number].is_ours
        return _target(number) not in _KEPT_BY_PYTHON and number != _resource_tracker()


def _as_leak(number: int, opened: Opened[socket.socket] | None) -> Leak:
    return Leak(
        kind=LeakKind.DESCRIPTOR,
        name=_socket_name(number) or _target(number),
        spawned_at=None if opened is None else opened.opened_at,
        detail=f"descriptor {number} is still open",
    )


def _target(number: int) -> str:
    """What the system calls it: a path, `pipe:[7]`, … or just its number."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return os.readlink(f"{folder}/{number}")
        except OSError:
            continue
    return f"descriptor {number}"


def _socket_name(number: int) -> str | None:
    """A socket's addresses, or None if it is not a socket (any more)."""
    try:
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            return None
        probe = socket.socket(fileno=os.dup(number))
    except OSError:
        return None
    with probe:
        local, remote = _address(probe, "getsockname"), _address(probe, "getpeername")
        if remote:
            return f"socket {local} -> {remote}"
        try:
            listening = bool(probe.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        except OSError:
            listening = False
        return f"{'listening ' if listening else ''}socket {local}"


def _address(probe: socket.socket, which: str) -> str:
    try:
        address = getattr(probe, which)()
    except OSError:
        return ""
    if isinstance(address, tuple):
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    if isinstance(address, bytes):
        address = address.decode(errors="replace")
    return str(address) or "(unnamed)"


def _resource_tracker() -> int | None:
    """The pipe that multiprocessing keeps to its helper, once it has one."""
    module = sys.modules.get("multiprocessing.resource_tracker")
    number: int | None = getattr(getattr(module, "_resource_tracker", None), "_fd", None)
    return number
