"""untracked: large containers that the collector of reference cycles need not look into.

A search looks at each item of each container that it is to search, 50 ms for a dict of a million
entries, and holds up all threads meanwhile. Python spares itself that for a `dict` of texts, but
not for a class derived from it, nor for a list. What has no references to what could lead back to
it can be in no cycle, so nothing is lost if it is left out: it goes with the last reference to it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

C = TypeVar("C", bound="dict[Any, Any] | list[Any]")
is_tracked = gc.is_tracked
"""Whether the collector looks into this."""


def untracked(container: C) -> C:
    """The container, which the collector does not look into from here on.

    Args:
        container: what it holds, now and later, must not refer to it. (A dict is looked into again
            once a value is set that the collector knows: see `is_tracked`.)
    """
    _untrack()(container)
    return container


@cache
def _untrack() -> Callable[[object], object]:
    """Python's own function, for whoever writes containers in C."""
    try:
        import ctypes  # takes some milliseconds, and is not there on each system

        prototype = ctypes.PYFUNCTYPE(None, ctypes.py_object)
        return prototype(("PyObject_GC_UnTrack", ctypes.pythonapi))
    except (ImportError, AttributeError):  # of another kind of Python: then it is looked into
        return _nothing


def _nothing(container: object) -> None:
    pass
