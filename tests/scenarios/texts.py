"""Stories that the package ships as texts (`trioraft/scenario/shipped`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from trioraft.testing import play
from trioraft.testing.cluster import Cluster


def played(name: str) -> Callable[[Any], Awaitable[None]]:
    """The one of this name, as a story over whatever cluster the teller opens."""

    async def scenario(open_cluster: Callable[..., AbstractAsyncContextManager[Cluster]]) -> None:
        await play(name, opening=open_cluster)

    return scenario
