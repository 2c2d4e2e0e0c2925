"""Sockets, files, pipes and other descriptors that were opened and not closed.

Rules of this file:

* The system is asked (`/proc/self/fd`, or `/dev/fd`), so that no way of opening escapes. A
  descriptor is known by device and inode: its number is used again, a file's name changes.
* Where one was opened, and by whom, is listened to: sockets by their class, files by the audit
  event (which knows the path, not the number), pipes and their like by the functions that make
  them. What was opened in another way belongs to whoever's time it appeared in.
"""

from __future__ import annotations

import os
import select
import selectors
import socket
import stat
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, final

import attrs

from . import privates
from .ledger import Ledger, Opened
from .probe import Left, Owner, Owners, Ownership
from .report import Leak, LeakKind
from .sites import Origin
from .taps import Audit, Tap

Identity: TypeAlias = tuple[int, int, int]

_STANDARD_MAX = 2  # the standard streams are pytest's, which puts them elsewhere while tests run
PATHS_MAX = 1_000  # opened files of which the place is remembered, the newest

# Python opens these by itself, when it first needs them, and keeps them.
_KEPT_BY_PYTHON = frozenset({"/dev/urandom", "/dev/random"})

# Functions that return one number, or a pair of them.
_MAKERS = ("pipe", "pipe2", "openpty", "memfd_create", "eventfd", "dup", "pidfd_open")


@final
@attrs.frozen
class _Made:
    """Who made a descriptor, and where."""

    origin: Origin
    owner: Owner


def list_descriptors() -> dict[int, Identity]:
    """Every open descriptor of this process, and what it refers to. Empty where unknown."""
    found: dict[int, Identity] = {}
    for number in _numbers():
        identity = _identity(number)
        if identity is not None:
            found[number] = identity
    return found


def _identity(number: int) -> Identity | None:
    try:
        status = os.fstat(number)
    except OSError:  # closed by now, like the listing's own descriptor
        return None
    return status.st_dev, status.st_ino, stat.S_IFMT(status.st_mode)


def _numbers() -> list[int]:
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return [number for name in os.listdir(folder) if (number := int(name)) > _STANDARD_MAX]
        except OSError:
            continue
    return []


@final
class DescriptorProbe:
    """What was open before, and who opened what since."""

    def __init__(self, ownership: Ownership) -> None:
        self._ownership = ownership
        self._sockets: Ledger[socket.socket] = Ledger(ownership)
        self._before: dict[Owner, dict[int, Identity]] = {}
        self._made: dict[tuple[int, Identity], _Made] = {}
        self._paths: dict[str, _Made] = {}

    def taps(self) -> Iterable[Tap | Audit]:
        """Sockets, opened files, and what makes descriptors of other kinds."""
        yield Tap(socket.socket, "__init__", self._sockets.around_open)
        yield Tap(socket.socket, "close", self._sockets.around_close)
        yield Tap(socket.socket, "detach", self._around_detach)
        yield Audit("open", self._hear_open)
        yield Audit("sqlite3.connect", self._hear_open)
        for name in _MAKERS:
            if hasattr(os, name):
                yield Tap(os, name, self._around_make)
        for module, name in privates.pidfd_makers():
            yield Tap(module, name, self._around_make)
        for selector in selectors.DefaultSelector.__mro__:
            if "__init__" in selector.__dict__ and selector is not object:
                yield Tap(selector, "__init__", self._around_selector)
                break
        if hasattr(select, "epoll"):
            yield Tap(select, "epoll", self._around_make)

    def note(self, owner: Owner) -> None:
        """See `Probe`."""
        self._before[owner] = list_descriptors()

    def claim(self, owner: Owner, before: dict[int, Identity] | None = None) -> None:
        """Whatever is open now and was not in `before` is this owner's, however it came.

        Args:
            owner: whose.
            before: None: what was noted for this owner.
        """
        if before is None:
            before = self._before.get(owner, {})
        for number, identity in list_descriptors().items():
            if before.get(number) != identity and (number, identity) not in self._made:
                place = self._maker_of(number, identity, {})
                origin = Origin(None, by_trio=False) if place is None else place.origin
                self._made[number, identity] = _Made(origin, owner)

    def forget(self, owners: Owners) -> None:
        """See `Probe`."""
        for owner in owners:
            self._before.pop(owner, None)
        self._sockets.forget(owners)
        now = list_descriptors()
        self._made = {
            key: made
            for key, made in self._made.items()
            if made.owner not in owners or now.get(key[0]) == key[1]
        }

    # Hearing of it

    def _hear_open(self, args: tuple[Any, ...]) -> None:
        if not isinstance(args[0], str | bytes | os.PathLike):
            return  # a number: nothing new is opened
        path = os.fsdecode(args[0])
        if len(self._paths) >= PATHS_MAX:
            del self._paths[next(iter(self._paths))]
        # As it was given: nothing blocking is called in the midst of somebody's open().
        self._paths.pop(path, None)
        self._paths[path] = self._maker()

    def _around_make(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        made = call(*args, **kwargs)
        self._note_made(made if isinstance(made, tuple) else (made,))
        return made

    def _around_detach(self, call: Callable[..., int], made: socket.socket) -> int:
        """The descriptor lives on without its socket, and was opened where the socket was."""
        __tracebackhide__ = True
        opened = self._sockets.get(made)
        number: int = self._sockets.around_close(call, made)
        identity = _identity(number)
        if opened is not None and identity is not None:
            self._made[number, identity] = _Made(opened.origin, opened.owner)
        return number

    def _around_selector(
        self, call: Callable[..., Any], selector: Any, *args: Any, **kwargs: Any
    ) -> None:
        __tracebackhide__ = True
        call(selector, *args, **kwargs)
        if hasattr(selector, "fileno"):
            self._note_made((selector,))

    def _note_made(self, made: Iterable[Any]) -> None:
        maker = self._maker()
        for each in made:
            number = each if isinstance(each, int) else each.fileno()
            identity = _identity(number)
            if identity is not None:
                self._made[number, identity] = maker

    def _maker(self) -> _Made:
        return _Made(self._ownership.origin(sys._getframe(2)), self._ownership.owner())

    # Looking

    def left(self, owners: Owners) -> list[Left]:
        """What is open now and was not before, and the sockets that were dropped open."""
        known: dict[int, Opened[socket.socket]] = {}
        dropped: list[Left] = []
        for opened in self._sockets.all():
            thing = opened.thing
            if thing is not None:
                known[thing.fileno()] = opened
            elif opened.owner in owners:
                dropped.append(Left(_dropped(opened), ("socket", opened.number)))
        befores = [before for each in owners if (before := self._before.get(each)) is not None]
        found = []
        for number, identity in list_descriptors().items():
            maker = self._maker_of(number, identity, known)
            # Known to be theirs, it was there before only if it was before its own maker began: a
            # test finds what a fixture of its module has opened.
            asked = befores if maker is None else [self._before.get(maker.owner, {})]
            if any(before.get(number) == identity for before in asked):
                continue
            if (maker is None and self._is_reported(number)) or (
                maker is not None and maker.owner in owners and self._is_reported(number)
            ):
                thing = known[number].thing if number in known else None
                leak = _as_leak(number, None if maker is None else maker.origin)
                found.append(Left(leak, ("descriptor", number, identity), thing))
        return found + dropped

    def _maker_of(
        self, number: int, identity: Identity, known: dict[int, Opened[socket.socket]]
    ) -> _Made | None:
        opened = known.get(number)
        if opened is not None:
            return _Made(opened.origin, opened.owner)
        made = self._made.get((number, identity))
        if made is not None:
            return made
        target = _target(number).removesuffix(" (deleted)")
        made = self._paths.get(target)
        if made is None:
            for path, each in self._paths.items():
                if path.endswith(os.path.basename(target)) and os.path.realpath(path) == target:
                    made = each
        return made

    def _is_reported(self, number: int) -> bool:
        return _target(number) not in _KEPT_BY_PYTHON and number not in _multiprocessings()


def _dropped(opened: Opened[socket.socket]) -> Leak:
    return Leak(
        LeakKind.SOCKET,
        "socket",
        opened.origin.text,
        detail="dropped without being closed: the garbage collector closed it",
        through=opened.origin.through_text,
    )


def _as_leak(number: int, origin: Origin | None) -> Leak:
    kind, name = _kind_and_name(number)
    end = _end_of_pipe(number) if kind is LeakKind.PIPE else ""
    return Leak(
        kind=kind,
        name=name,
        spawned_at=None if origin is None else origin.text,
        detail=f"descriptor {number} is still open{end}",
        through=None if origin is None else origin.through_text,
    )


def _end_of_pipe(number: int) -> str:
    try:
        import fcntl  # here: not every system has it

        access = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
    except (ImportError, OSError):  # or it is closed by now
        return ""
    ends = {os.O_RDONLY: ": the end to read from", os.O_WRONLY: ": the end to write to"}
    return ends.get(access, "")


def _kind_and_name(number: int) -> tuple[LeakKind, str]:
    try:
        mode = os.fstat(number).st_mode
    except OSError:
        return LeakKind.DESCRIPTOR, f"descriptor {number}"
    target = _target(number)
    if stat.S_ISSOCK(mode):
        return LeakKind.SOCKET, _socket_name(number) or target
    if stat.S_ISFIFO(mode):
        return LeakKind.PIPE, target
    if "memfd:" in target:
        return LeakKind.DESCRIPTOR, target.lstrip("/").removesuffix(" (deleted)")
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        return LeakKind.FILE, target
    return LeakKind.DESCRIPTOR, target.removeprefix("anon_inode:").strip("[]")


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
        copy = socket.SocketType(fileno=socket.dup(number))
    except OSError:
        return None
    with_listening = ""
    try:
        local, remote = _address(copy, "getsockname"), _address(copy, "getpeername")
        if remote:
            return f"socket {local} -> {remote}"
        try:
            if copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                with_listening = "listening "
        except OSError:
            pass  # not every system answers this question: then it is just a socket
        return f"{with_listening}socket {local}"
    finally:
        copy.close()


def _address(probe: Any, which: str) -> str:
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


def _multiprocessings() -> set[int]:
    """The pipes that multiprocessing keeps to its helpers, once it has them."""
    found = set()
    for module, keeper, names in (
        ("multiprocessing.resource_tracker", "_resource_tracker", ("_fd",)),
        ("multiprocessing.forkserver", "_forkserver", ("_forkserver_alive_fd",)),
    ):
        kept = getattr(sys.modules.get(module), keeper, None)
        for name in names:
            number = getattr(kept, name, None)
            if isinstance(number, int):
                found.add(number)
    return found
