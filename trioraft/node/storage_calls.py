"""Storage calls: where a node's calls of its storage run, and how a full disk is waited out."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from copy import copy
from functools import partial
from operator import attrgetter
from typing import Final, Protocol, TypeVar, final
from weakref import WeakKeyDictionary, ref

import attrs
import trio

from ..core.errors import InvariantViolation, StorageError, ThreadsExhausted
from ..storage.base import Storage, Together
from .disk_thread import DiskThread, Done

T = TypeVar("T")


class RunBlocking(Protocol):
    """Runs a call that may wait for a disk, once, and returns what it returned."""

    async def __call__(self, call: Callable[[], T], /, *, limiter: trio.CapacityLimiter) -> T: ...


async def _in_a_thread(call: Callable[[], T], /, *, limiter: trio.CapacityLimiter) -> T:
    return await trio.to_thread.run_sync(call, limiter=limiter)


RUN_BLOCKING: ContextVar[RunBlocking] = ContextVar("trioraft run_blocking", default=_in_a_thread)
"""How the nodes that are opened in this context call a storage that blocks: in worker threads.
Threads are never twice the same; a simulation puts a disk in virtual time in their place."""


DISK_NUMBERS: ContextVar[random.Random] = ContextVar(
    "trioraft disk_numbers",
    default=random.SystemRandom(),  # noqa: B039 - it holds no state
)
"""Where the nodes that are opened in this context draw the numbers of their disks. Not the `rng` of
`open_node`: whoever gives that the same seed twice would take two disks for one. A simulation puts
numbers that can be repeated in its place."""


@final
class StorageCalls:
    """Runs storage calls where they belong: in threads of this node's own, or inline.

    Args:
        storage: whose calls.
        name: of the thread that writes.
    """

    def __init__(self, storage: Storage, name: str) -> None:
        self.storage = storage
        self._run_blocking = RUN_BLOCKING.get()
        self._writer = DiskThread(name)
        self._writes = trio.CapacityLimiter(1)  # no other code can hold these up
        self._snapshots = trio.CapacityLimiter(1)
        together: Together | None = getattr(storage, "together", None)
        self._joint = None if together is None or not storage.blocking else _joint_of(together)

    @property
    def in_threads(self) -> bool:
        """Whether calls that block run in threads, in the time of this machine."""
        return self._run_blocking is _in_a_thread

    @property
    def has_own_thread(self) -> bool:
        """Whether there is a thread for this storage's writes alone. Where many share a log there
        is none: nobody needs a thread for each group."""
        return self.storage.blocking and self.in_threads and self._joint is None

    def begin_write(self, call: Callable[[], object], done: Done) -> None:
        """As `write`, for who does not wait, of a storage that blocks: `done` is told, in the Trio
        thread, what became of it. Only where it `has_own_thread`.

        Args:
            call: one of the calls that the storage wants one at a time.
            done: what is told of it; it must not raise.

        Raises:
            ThreadsExhausted: it was not called.
        """
        try:
            self._writer.begin(call, done)
        except (RuntimeError, MemoryError) as error:
            raise _no_thread(error) from error

    async def write(self, call: Callable[[], T]) -> T:
        """One of the calls that the storage wants one at a time. Cannot be cancelled: half a write
        is nobody's friend.

        Raises:
            ThreadsExhausted: it was not called.
        """
        if self.has_own_thread:
            return await _called(self._writer.run, call)
        return await self._run(call, self._writes)

    @property
    def is_joint(self) -> bool:
        """Whether appends are made with those of other nodes."""
        return self._joint is not None

    async def append(
        self,
        call: Callable[[], None],
        size_bytes: int = 0,
        works: Callable[[int], object] | None = None,
    ) -> None:
        """A call of the storage's `append`, with those that other nodes of this process make to the
        same log meanwhile. Otherwise as `write`.

        Args:
            call: it.
            size_bytes: what it writes, about.
            works: told, for as long as this waits, with how many bytes of all of them the disk is
                busy from now on.

        Raises:
            ThreadsExhausted: it was not called.
        """
        if self._joint is None:
            await self.write(call)
        else:
            with trio.CancelScope(shield=True):
                await self._joint.append(_Waiting(call, size_bytes, works))

    async def beside(self, call: Callable[[], T]) -> T:
        """A snapshot call that may run beside the writes. Cannot be cancelled.

        Raises:
            ThreadsExhausted: it was not called.
        """
        return await self._run(call, self._snapshots)

    async def close(self) -> None:
        """Close the storage, in this very thread if there is no other, after all that was begun;
        and end the thread."""
        try:
            await self.write(self.storage.close)
        except ThreadsExhausted:
            self.storage.close()
        finally:
            self.end()

    def end(self) -> None:
        """End the thread; there is nothing to close. Idempotent."""
        self._writer.end()

    async def _run(self, call: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
        if not self.storage.blocking:
            return call()
        with trio.CancelScope(shield=True):
            return await _called(partial(self._run_blocking, limiter=limiter), call)
        raise InvariantViolation("a shielded storage call was cancelled")


async def _called(how: Callable[[Callable[[], T]], Awaitable[T]], call: Callable[[], T]) -> T:
    """Have it called by a thread, or know that it was not called.

    Raises:
        ThreadsExhausted: it was not called.
    """
    has_begun = False

    def begun() -> T:
        nonlocal has_begun
        has_begun = True
        return call()

    try:
        return await how(begun)
    except (RuntimeError, MemoryError) as error:
        if has_begun:
            raise
        raise _no_thread(error) from error


def _no_thread(error: BaseException) -> ThreadsExhausted:
    return ThreadsExhausted(
        f"no thread can be started to call the storage: {error}. Raise the number of threads that "
        "this process, its user or its container may have (ulimit -u, pids.max), or its memory"
    )


JOINT_BYTES_MAX: Final = 8 * 1024 * 1024
"""So many bytes are written together, or one append: with more, whoever waits would hear nothing of
the disk for long."""


@attrs.define(eq=False)
class _Waiting:
    """A node whose append waits."""

    call: Callable[[], None]
    size_bytes: int = 0
    works: Callable[[int], object] | None = None
    has_turn: trio.Event = attrs.field(factory=trio.Event)
    """It is made; or it is this node's turn to have what waits made."""
    is_made: bool = False
    error: BaseException | None = None

    def disk_works(self, size_bytes: int) -> None:
        if self.works is not None:
            self.works(size_bytes)


@final
class _JointAppends:
    """Appends of several nodes to one log: one thread at a time makes all that wait.

    (A thread for each node, each of which waits for the same fsync, costs each of them two changes
    of threads, and wakes them one after the other.)

    What others have brought is no fault of the disk: whoever waits hears of each step that it does,
    and takes only one that does none for one that hangs.
    """

    def __init__(self, together: Together) -> None:
        self._together = ref(together)  # or it would live as long as what it is kept for
        self._run_blocking = RUN_BLOCKING.get()
        self._limiter = trio.CapacityLimiter(1)
        self._waiting: list[_Waiting] = []
        self._has_leader = False
        self._busy_bytes = 0  # with what is being made

    async def append(self, own: _Waiting) -> None:
        self._waiting.append(own)
        if self._has_leader:
            own.disk_works(self._busy_bytes)
            await own.has_turn.wait()
        if not own.is_made:
            await self._make_all()
        if own.error is not None:
            raise own.error

    def _take(self) -> list[_Waiting]:
        """Those whose turn it is: whoever waits longest, and of the others the small ones before
        the large ones. (A vote would wait for whatever all other groups have to write.)"""
        oldest, *others = self._waiting
        taken, self._busy_bytes = [oldest], oldest.size_bytes
        for each in sorted(others, key=attrgetter("size_bytes")):
            if self._busy_bytes + each.size_bytes > JOINT_BYTES_MAX:
                break
            self._busy_bytes += each.size_bytes
            taken.append(each)
        for each in self._waiting:
            each.disk_works(self._busy_bytes)
        are_taken = frozenset(taken)
        self._waiting = [each for each in self._waiting if each not in are_taken]
        return taken

    async def _make_all(self) -> None:
        """Have made what waits; then the first of those that came meanwhile has the turn."""
        self._has_leader = True
        all_waiting = self._take()
        calls = [each.call for each in all_waiting]
        broken_off = StorageError("a write was broken off; what of it is stored is unknown")
        errors: list[BaseException | None] = [copy(broken_off) for _ in calls]
        try:
            how = partial(self._run_blocking, limiter=self._limiter)
            errors = await _called(how, partial(self._make, calls))
        except Exception as error:  # noqa: BLE001 - it is told to each of them
            errors = [copy(error) for _ in calls]
        finally:  # whatever came, nobody goes on waiting
            for each, outcome in zip(all_waiting, errors, strict=True):
                each.is_made, each.error = True, outcome
                each.has_turn.set()
            self._has_leader = bool(self._waiting)
            if self._waiting:
                self._waiting[0].has_turn.set()

    def _make(self, calls: Sequence[Callable[[], object]]) -> list[BaseException | None]:
        together = self._together()
        if together is None:
            raise InvariantViolation("a log is gone, and a node still writes to it")
        return together.write_together(calls)


_JOINT: trio.lowlevel.RunVar[WeakKeyDictionary[Together, _JointAppends]] = trio.lowlevel.RunVar(
    "trioraft joint appends"
)


def _joint_of(together: Together) -> _JointAppends:
    """That of this event loop for this log."""
    try:
        all_joint = _JOINT.get()
    except LookupError:
        all_joint = WeakKeyDictionary()
        _JOINT.set(all_joint)
    joint = all_joint.get(together)
    if joint is None:
        joint = all_joint[together] = _JointAppends(together)
    return joint
