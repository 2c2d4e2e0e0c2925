"""Sockets, files, pipes and other descriptors that were opened and not closed.

Rules of this file:

* The system is asked (`/proc/self/fd`, or `/dev/fd`), so that no way of opening escapes. A
  descriptor is known by device and inode: its number is used again, a file's name changes.
* Where one was opened, and by whom, is listened to: sockets by their class, files by the audit
  event (which knows the path, not the number), pipes and their like by the functions that make
  them. What was opened in another way belongs to whoever's time it appeared in.
"""

from __future__ import annotations

import functools
import os
import select
import selectors
import socket
import stat
import sys
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeAlias, final

from . import privates
from .ledger import Ledger, Opened
from .probe import OTHERS, Left, Maker, Owner, Owners, Ownership
from .report import Leak, LeakKind
from .sites import UNKNOWN, Origin
from .taps import Audit, Tap

Identity: TypeAlias = tuple[int, ...]
"""Inode and device."""

_FOLDERS = ("/proc/self/fd", "/dev/fd")
"""Where the system lists this process's descriptors."""

# The standard streams are pytest's, which puts them elsewhere while tests run.
_STANDARD = frozenset("012")
PATHS_MAX = 1_000  # opened files of which the place is remembered, the newest

# Python opens these by itself, when it first needs them, and keeps them.
_KEPT_BY_PYTHON = frozenset({"/dev/urandom", "/dev/random"})

# These close at once what they open: a test may import hundreds of modules, and a look for children
# opens a file for each thread.
_CLOSE_AT_ONCE = frozenset(("importlib._bootstrap_external", f"{__package__}.processes", __name__))

# Functions that return one number, or a pair of them.
_MAKERS = ("pipe", "pipe2", "openpty", "memfd_create", "eventfd", "dup", "pidfd_open")


def list_descriptors() -> dict[int, Identity]:
    """Every open descriptor of this process, and what it refers to. Empty where unknown."""
    found: dict[int, Identity] = {}
    for number in _numbers():
        try:
            found[number] = os.fstat(number)[1:3]
        except OSError:  # closed by now, like the listing's own descriptor
            continue
    return found


def _count() -> int:
    """How many descriptors are open beside the standard streams, with those that nobody else sees
    (a debugger's); less than 0 where the system does not say.
    """
    if not _is_counted():
        return -1
    standard = sum(_are_open((number,)) for number in range(3))
    return os.stat(_FOLDERS[0]).st_size - standard


@functools.cache
def _is_counted() -> bool:
    """Whether the size of the folder is the number of open descriptors: since Linux 6.2 it is."""
    try:
        before = os.stat(_FOLDERS[0]).st_size
        number = os.open(_FOLDERS[0], os.O_RDONLY)
        try:
            return os.stat(_FOLDERS[0]).st_size == before + 1
        finally:
            os.close(number)
    except OSError:
        return False


def _are_open(numbers: Iterable[int]) -> bool:
    """Whether all of these are open. What they refer to is not asked."""
    is_open = os.get_inheritable  # the cheapest question
    try:
        for number in numbers:
            is_open(number)
    except OSError:
        return False
    return True


def _identity(number: int) -> Identity | None:
    try:
        return os.fstat(number)[1:3]
    except OSError:
        return None


def _numbers() -> list[int]:
    for folder in _FOLDERS:
        try:
            return [int(name) for name in os.listdir(folder) if name not in _STANDARD]
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
        self._listed: dict[int, Identity] = {}
        """The last listing; no listing is ever changed."""
        self._heard = 0
        """How often anything was heard to be opened that may be open yet."""
        self._when_listed = (-1, -1)
        """How much had been heard by then, and how many were open."""
        self._made: dict[tuple[int, Identity], Maker] = {}
        self._paths: dict[str, Maker] = {}

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

    def listed(self) -> dict[int, Identity]:
        """See `list_descriptors`. Not to be changed.

        Where nothing was heard to be opened since the last time, it is enough to count: to ask of
        each what it is takes as long as all else that is asked of a test.
        """
        heard, count = self._heard + self._sockets.count_opened, _count()
        is_same = (heard, count) == self._when_listed and count >= 0
        if not is_same or not _are_open(self._listed):
            self._listed, self._when_listed = list_descriptors(), (heard, count)
        return self._listed

    def note(self, owner: Owner) -> None:
        """See `Probe`."""
        self._before[owner] = self.listed()

    def claim(self, owner: Owner, before: dict[int, Identity] | None = None) -> None:
        """Whatever is open now and was not in `before` is this owner's, however it came.

        Args:
            owner: whose.
            before: None: what was noted for this owner.
        """
        if before is None:
            before = self._before.get(owner, {})
        for number, identity in self.listed().items():
            if before.get(number) != identity and (number, identity) not in self._made:
                place = self._maker_of(number, identity, {})
                origin = UNKNOWN if place is None else place.origin
                self._made[number, identity] = Maker(origin, owner)

    def forget(self, owners: Owners) -> None:
        """See `Probe`."""
        for owner in owners:
            self._before.pop(owner, None)
        self._sockets.forget(owners)
        self._prune([key for key, made in self._made.items() if made.owner in owners])

    def prune(self) -> None:
        """See `Probe`."""
        self._prune(list(self._made))

    def _prune(self, made: list[tuple[int, Identity]]) -> None:
        now = self.listed() if made else {}
        for key in made:
            if now.get(key[0]) != key[1]:
                del self._made[key]

    # Hearing of it

    def _hear_open(self, args: tuple[Any, ...]) -> None:
        if not isinstance(args[0], str | bytes | os.PathLike):
            return  # a number: nothing new is opened
        caller = sys._getframe(2)
        if caller.f_globals.get("__name__") in _CLOSE_AT_ONCE:
            return
        path = os.fsdecode(args[0])
        if len(self._paths) >= PATHS_MAX:
            del self._paths[next(iter(self._paths))]
        # As it was given: nothing blocking is called in the midst of somebody's open().
        self._heard += 1
        self._paths.pop(path, None)
        self._paths[path] = self._ownership.maker(2)

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
            self._made[number, identity] = opened.maker
            self._heard += 1
        return number

    def _around_selector(
        self, call: Callable[..., Any], selector: Any, *args: Any, **kwargs: Any
    ) -> None:
        __tracebackhide__ = True
        call(selector, *args, **kwargs)
        if hasattr(selector, "fileno"):
            self._note_made((selector,))

    def _note_made(self, made: Iterable[Any]) -> None:
        maker = self._ownership.maker(2)
        if maker.owner is not OTHERS:
            self._heard += 1
        for each in made:
            number = each if isinstance(each, int) else each.fileno()
            identity = _identity(number)
            if identity is not None:
                self._made[number, identity] = maker

    # Looking

    def left(self, owners: Owners) -> list[Left]:
        """What is open now and was not before, and the sockets that were dropped open."""
        now = self.listed()
        befores = [before for each in owners if (before := self._before.get(each)) is not None]
        is_new = len(befores) < len(owners) or any(before != now for before in befores)
        known: dict[int, Opened[socket.socket]] = {}
        dropped: list[Left] = []
        for opened in self._sockets.all():
            thing = opened.thing
            # The warning that it was dropped keeps it, when the garbage collector has closed it.
            number = -1 if thing is None else thing.fileno()
            if number >= 0:
                known[number] = opened
            elif opened.maker.owner in owners:
                dropped.append(Left(_dropped(opened), ("socket", opened.number)))
        kept = _multiprocessings() if is_new else set()
        found = []
        for number, identity in now.items() if is_new else ():
            if self._is_ancient(number, identity):
                continue
            maker = self._maker_of(number, identity, known)
            # Known to be theirs, it was there before only if it was before its own maker began: a
            # test finds what a fixture of its module has opened.
            asked = befores if maker is None else [self._before.get(maker.owner, {})]
            if any(before.get(number) == identity for before in asked):
                continue
            if maker is None and any(number in before for before in befores):
                continue  # nobody heard of it, so it may have been put there at any time since
            if (maker is None or maker.owner in owners) and self._is_reported(number, kept):
                thing = known[number].thing if number in known else None
                leak = _as_leak(number, None if maker is None else maker.origin)
                found.append(Left(leak, ("descriptor", number, identity), thing))
        return found + dropped

    def _is_ancient(self, number: int, identity: Identity) -> bool:
        """Whether it was there before any owner began: most are, and no more is asked of them."""
        befores = self._before.values()
        return bool(befores) and all(before.get(number) == identity for before in befores)

    def _maker_of(
        self, number: int, identity: Identity, known: dict[int, Opened[socket.socket]]
    ) -> Maker | None:
        opened = known.get(number)
        if opened is not None:
            return opened.maker
        made = self._made.get((number, identity))
        if made is not None:
            return made
        target = _target(number).removesuffix(" (deleted)")
        made = self._paths.get(target)
        if made is None and os.path.isabs(target):  # else it is no file: `pipe:[7]`, …
            for path, each in self._paths.items():
                if path.endswith(os.path.basename(target)) and os.path.realpath(path) == target:
                    made = each
        return made

    def _is_reported(self, number: int, kept: set[int]) -> bool:
        if number in kept or _target(number) in _KEPT_BY_PYTHON:
            return False
        managers = _managers()
        return not managers or _peer(number) not in managers


def _dropped(opened: Opened[socket.socket]) -> Leak:
    return Leak(
        LeakKind.SOCKET,
        "socket",
        opened.maker.origin.text,
        detail="dropped without being closed: the garbage collector closed it",
        through=opened.maker.origin.through_text,
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
    for folder in _FOLDERS:
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


def _managers() -> Collection[object]:
    """The addresses of multiprocessing's managers whose proxies were used here.

    It keeps a connection to each in every thread that has used one, for as long as that thread is
    there: Trio's worker threads idle for a while, and are used again.
    """
    module: Any = sys.modules.get("multiprocessing.managers")
    found: Collection[object] = getattr(getattr(module, "BaseProxy", None), "_address_to_local", ())
    return found


def _peer(number: int) -> object:
    """The address at the other end, or None. Makes no descriptor of its own."""
    try:
        borrowed = socket.SocketType(fileno=number)
    except OSError:  # it is no socket
        return None
    try:
        return borrowed.getpeername()
    except OSError:
        return None
    finally:
        borrowed.detach()


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
