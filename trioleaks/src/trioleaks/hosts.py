"""Tasks of asyncio: a guest run's host has them, and so has a plain loop beside Trio.

Rules of this file:

* Who asked the loop for a task owns it: in a guest run that may be a Trio task, or its host.
* One that was cancelled is on its way out; the host gives it its turns, and nobody here can.
* Nothing is listened to where asyncio was not imported before: there can be no host of it.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, final

from .probe import Left, Maker, Owner, Owners, Ownership
from .report import Leak, LeakKind
from .sites import Origin, describe_frames
from .taps import Tap

if TYPE_CHECKING:
    import asyncio


class _Created(NamedTuple):
    """A task that somebody has asked a loop for."""

    ref: weakref.ref[asyncio.Task[Any]]
    maker: Maker


@final
class AsyncioTaskProbe:
    """Which tasks of asyncio were started."""

    def __init__(self, ownership: Ownership) -> None:
        self._ownership = ownership
        self._created: dict[int, _Created] = {}

    def taps(self) -> Iterable[Tap]:
        """The method that makes every task, of the loops that are written in Python."""
        loops = sys.modules.get("asyncio.base_events")
        if loops is not None:
            yield Tap(loops.BaseEventLoop, "create_task", self._around_create)

    def note(self, owner: Owner) -> None:
        """Nothing: what was started before was not listened to."""

    def forget(self, owners: Owners) -> None:
        """See `Probe`."""
        self._created = {
            key: each
            for key, each in self._created.items()
            if each.maker.owner not in owners and each.ref() is not None
        }

    def prune(self) -> None:
        """Nothing: what has ended is not kept."""

    def _around_create(
        self, call: Callable[..., asyncio.Task[Any]], *args: Any, **kwargs: Any
    ) -> asyncio.Task[Any]:
        __tracebackhide__ = True
        task = call(*args, **kwargs)
        key = id(task)

        def ended(_: object) -> None:
            self._created.pop(key, None)

        task.add_done_callback(ended)
        self._created[key] = _Created(
            weakref.ref(task, ended),
            self._ownership.maker(1),
        )
        return task

    def left(self, owners: Owners) -> list[Left]:
        """Tasks that go on, and that nobody has cancelled."""
        return [
            Left(_leak(task, each.maker.origin), ("asyncio task", id(task)), task)
            for each in tuple(self._created.values())
            if each.maker.owner in owners
            and (task := each.ref()) is not None
            and not task.done()
            and not task.cancelling()
            and not _is_meant_to_stay(task)
        ]


def _is_meant_to_stay(task: asyncio.Task[Any]) -> bool:
    """Whether asyncio itself was told not to mind that this one never ends."""
    return task.get_loop().is_closed() and not getattr(task, "_log_destroy_pending", True)


def _leak(task: asyncio.Task[Any], origin: Origin) -> Leak:
    frames = [(frame, frame.f_lineno) for frame in task.get_stack()]
    coro: Any = task.get_coro()
    if task.get_loop().is_closed():
        detail = "its loop was closed, and it had not ended"
    else:
        detail = "still running on its loop, and nobody has cancelled it"
    return Leak(
        LeakKind.ASYNCIO_TASK,
        f"{task.get_name()} of {getattr(coro, '__qualname__', repr(coro))}",
        origin.text,
        await_chain=describe_frames(frames),
        detail=detail,
        through=origin.through_text,
    )
