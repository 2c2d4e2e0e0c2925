"""Everything of Trio that the leak check uses and Trio does not promise.

Rules of this file:

* Nothing else of the leak check touches a private name of Trio. `changes()` says in words what
  a new Trio no longer has, and a test calls it.
* Each use says why the public face does not do.
"""

from __future__ import annotations

import inspect

import trio
from trio._core import _entry_queue, _run, _thread_cache
from trio.lowlevel import Task

# A channel's constructor is made by attrs and calls this at its end; there is no public hook,
# and searching all objects of the process would cost milliseconds a test.
CHANNEL_OPENED = "__attrs_post_init__"
CHANNEL_TYPES = (trio.MemorySendChannel, trio.MemoryReceiveChannel)

# The worker threads are cached, so a thread says nothing about whether it works. Every job goes
# through this method; `trio.lowlevel.start_thread_soon` cannot be listened to, for it is a
# function that other modules have imported by name.
THREAD_CACHE_TYPE = _thread_cache.ThreadCache
THREAD_JOB = "start_thread_soon"
THREAD_CACHE_MODULE = _thread_cache.__name__


def is_cancelled(task: Task) -> bool:
    """Whether a cancel scope around this task was cancelled, shielded from it or not.

    `Nursery.cancel_scope` is public, but a plain `with CancelScope()` around a nursery cannot
    be found from a task, and a task in a shielded clean-up is on its way out all the same.
    """
    status: _run.CancelStatus | None = task._cancel_status
    while status is not None:
        if status._scope.cancel_called:
            return True
        status = status.parent
    return False


def is_users_function(task: Task) -> bool:
    """Whether this task, started by Trio itself, runs a function that the user handed over.

    `trio.from_thread.run` from a thread that Trio did not start does: it uses a system task.
    """
    frame = task.coro.cr_frame
    return frame is not None and frame.f_globals.get("__name__") == "trio._threads"


def runs_callbacks(task: Task) -> bool:
    """Whether this is Trio's task that runs what `run_sync_soon` was given, for whoever asked."""
    frame = task.coro.cr_frame
    return frame is not None and frame.f_globals.get("__name__") == _entry_queue.__name__


def changes() -> list[str]:
    """What this Trio has no longer, one sentence each; empty for a Trio that we know."""
    found = [
        f"{each.__name__}.{name} is gone: how is a memory channel seen to open or close now?"
        for each in CHANNEL_TYPES
        for name in (CHANNEL_OPENED, "close")
        if name not in each.__dict__
    ]
    job = THREAD_CACHE_TYPE.__dict__.get(THREAD_JOB)
    if job is None or list(inspect.signature(job).parameters)[:2] != ["self", "fn"]:
        found.append("ThreadCache.start_thread_soon(self, fn, ...) is gone: who starts threads?")
    if not hasattr(_run, "unrolled_run"):
        found.append("unrolled_run is gone: sites must know where Trio's run loop begins")
    if not hasattr(_run.Task, "_cancel_status") or not hasattr(_run.CancelStatus, "parent"):
        found.append("Task._cancel_status.parent is gone: how is a task seen to be cancelled?")
    return found
