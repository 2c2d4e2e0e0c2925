"""Descriptors: how many this process may have, and how near it is to the end of them.

Rules of this file:

* The kernel hands out the lowest number that is free, so the number of a new socket says how many
  are in use, give or take what was closed below it: no counting, no files of /proc.
* Ports stop below the end: what is left is for the disk, and for members before clients.
"""

from __future__ import annotations

from typing import Final

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment] # it is looked at before it is used

UNBOUNDED: Final = 1 << 30
"""Said where this platform has no bound, or none worth the name."""


def descriptors_max() -> int:
    """How many descriptors this process may have open at present (its soft limit)."""
    if resource is None:
        return UNBOUNDED
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return UNBOUNDED if soft == resource.RLIM_INFINITY else min(soft, UNBOUNDED)


def raise_descriptors_max(wanted: int) -> int:
    """Raise this process's soft limit towards `wanted`, as far as its hard limit goes.

    Returns:
        What the limit is now.
    """
    present = descriptors_max()
    if resource is None or present >= wanted:
        return present
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    except (OSError, ValueError):  # a sandbox may refuse what the limits allow
        return present
    return descriptors_max()
