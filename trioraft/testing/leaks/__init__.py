"""The leak check, with what only a Raft node has: two tasks of one role.

The check itself is trioleaks, a distribution of its own.
"""

from collections.abc import Collection, Iterable
from contextlib import AbstractAsyncContextManager

import trioleaks
from trioleaks import Leak as Leak
from trioleaks import LeakError as LeakError
from trioleaks import LeakKind as LeakKind

from .roles import ROLE as ROLE
from .roles import check_roles as check_roles
from .roles import role_leaks as role_leaks


def no_leaks(
    *,
    allow: Iterable[str] = (),
    grace_s: float = 0.1,
    kinds: Collection[LeakKind] | None = None,
    checks: Iterable[trioleaks.Check] = (),
) -> AbstractAsyncContextManager[None]:
    """`trioleaks.no_leaks`, which see, and two tasks of one role in a live node besides."""
    return trioleaks.no_leaks(
        allow=allow, grace_s=grace_s, kinds=kinds, checks=(role_leaks, *checks)
    )
