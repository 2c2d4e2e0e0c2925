"""Election: one of those who want it leads, with a value that everybody can see."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from typing import Annotated, Any, Protocol, Self, TypeAlias, final

import anyio
import msgspec

from ..core.errors import RaftError
from ..machines.replicated import WithHandles, command, query
from .answers import News
from .elsewhere import BlockingLineHandle, LineHandle
from .line import EVERYBODY, Place, WaitingLine
from .presence import LEASE_S, PASSING, PAUSE_S, Grant, Presence, persistently

VALUE_LENGTH_MAX = 64 * 1024
"""Longest value of a leader, in characters."""

Value: TypeAlias = Annotated[str, msgspec.Meta(max_length=VALUE_LENGTH_MAX)]


class Leader(msgspec.Struct, frozen=True):
    """Who leads."""

    name: str
    value: str
    """What it lets everybody know: its address, say."""
    token: int
    """The index of the log entry that elected it; it rises from leader to leader."""


class ElectionAccess(Protocol):
    """An election, here or elsewhere."""

    async def proclaim(self, token: int, value: str) -> bool: ...

    async def leader(self) -> Leader | None: ...

    def line_news(self, host: str) -> AbstractAsyncContextManager[AsyncIterator[News]]: ...


@asynccontextmanager
async def campaigning(
    election: ElectionAccess, presence: Presence, name: str, value: str, *, cancels: bool = True
) -> AsyncIterator[Grant]:
    """As `Election.campaign`."""
    async with presence.hold(name, cancels=cancels) as grant:
        if value:
            await persistently(lambda: election.proclaim(grant.token, value))
        yield grant


@final
class Observed:
    """The leaders of an election, as they change: an async iterator. Made by `Election.observe`.

    It tells who leads, then whoever leads next, or None for nobody. Of those that led only while
    nobody asked, it tells nothing.
    """

    def __init__(self, election: ElectionAccess) -> None:
        self._election = election
        self._subscription: AbstractAsyncContextManager[AsyncIterator[News]] | None = None
        self._items: AsyncIterator[News] | None = None
        self._has_told = False
        self._told: Leader | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Leader | None:
        while True:
            try:
                if self._items is None:
                    subscription = self._election.line_news(EVERYBODY)
                    self._items = await subscription.__aenter__()
                    self._subscription = subscription
                await anext(self._items)
                leader = await self._election.leader()
            except (*PASSING, StopAsyncIteration):
                await self.aclose()
                await anyio.sleep(PAUSE_S)
                continue
            if not self._has_told or leader != self._told:
                self._has_told, self._told = True, leader
                return leader

    async def aclose(self) -> None:
        """End the subscription. It begins again with the next question.

        Cancelling does not hinder it: the subscription is ended first.
        """
        subscription, self._subscription, self._items = self._subscription, None, None
        if subscription is not None:
            with anyio.CancelScope(shield=True):
                await subscription.__aexit__(None, None, None)


@asynccontextmanager
async def observing(election: ElectionAccess) -> AsyncIterator[Observed]:
    """As `Election.observe`."""
    observed = Observed(election)
    try:
        yield observed
    finally:
        await observed.aclose()


class CampaignHandle(LineHandle["Election"]):
    """What an election's handle does by itself."""

    async def proclaim(self, token: int, value: str) -> bool:
        """`Election.proclaim`."""
        return await self(Election.proclaim, token, value)

    async def leader(self) -> Leader | None:
        """`Election.leader`."""
        return await self(Election.leader)

    def campaign(
        self, name: str, *, value: str = "", lease_s: float = LEASE_S
    ) -> AbstractAsyncContextManager[Grant]:
        """`Election.campaign`."""
        return campaigning(self, self._presence(lease_s), name, value)

    def observe(self) -> AbstractAsyncContextManager[Observed]:
        """`Election.observe`."""
        return observing(self)


class BlockingCampaignHandle(BlockingLineHandle["Election"]):
    """What an election's handle for threads does by itself."""

    def campaign(
        self, name: str, *, value: str = "", lease_s: float = LEASE_S
    ) -> AbstractContextManager[Grant]:
        """As `Election.campaign`; but a thread cannot be cancelled, so look at `grant.is_lost`."""
        return self._held(
            lambda handle: campaigning(
                handle, handle._presence(lease_s), name, value, cancels=False
            )
        )

    @contextmanager
    def observe(self) -> Iterator[Iterator[Leader | None]]:
        """As `Election.observe`, for a plain `for`."""

        async def begin(handle: Any) -> Observed:
            return Observed(handle)

        observed = self._run(begin)
        try:
            yield self._each(observed)
        finally:
            with suppress(RaftError):  # the client was closed, and the subscription with it
                self._run(lambda _handle: observed.aclose())

    def _each(self, observed: Observed) -> Iterator[Leader | None]:
        while True:
            yield self._run(lambda _handle: anext(observed))


class Election(WaitingLine, WithHandles["ElectionHandle", "BlockingElectionHandle"]):
    """An election among whoever wants to lead, by a lease that is renewed by itself.

    It has nothing to do with which node leads the cluster: any process may campaign, through any
    node or client. For work that belongs to the node that leads, see `LeaderLatch`.

    ```python
    async with election.campaign("worker-1", value="10.0.0.1:8080") as office:
        print("whoever acts for us is told", office.token)
    ```

    Candidates stand in a line; leaving the body resigns. What was said of a `Lock`'s token and
    lease holds here too.
    """

    _handle_base = CampaignHandle

    value: str = ""
    """Of whoever leads."""

    def campaign(
        self, name: str, *, value: str = "", lease_s: float = LEASE_S
    ) -> AbstractAsyncContextManager[Grant]:
        """Wait until elected, lead for the body, and resign.

        Args:
            name: of the candidate, for all to see.
            value: what it lets everybody know while it leads.
            lease_s: how long it leads on, in seconds, if this process vanishes.

        Returns:
            What yields the `Grant`, with the token.

        Raises:
            LockLost: the body was cancelled, because the lease could not be renewed.
            LineFull, NodeDead: as `Lock.hold`.
            Exception: the body's own.
        """
        return campaigning(self, self._presence(lease_s), name, value)

    def observe(self) -> AbstractAsyncContextManager[Observed]:
        """Who leads, and whoever leads next, from here on; by news, not by asking again and again.

        ```python
        async with election.observe() as leaders:
            async for leader in leaders:
                print("nobody leads" if leader is None else leader.value)
                break
        ```
        """
        return observing(self)

    @command(since=2)
    def proclaim(self, token: int, value: Value) -> bool:
        """Let everybody know another value; returns False if whoever has this token leads no
        more.

        Args:
            token: of the office, which is held.
            value: what to say to all who watch.
        """
        for ticket, place in self.holding.items():
            if place.token == token:
                self.value = value
                self._tell(EVERYBODY, {ticket: token})
                return True
        return False

    @query
    def leader(self) -> Leader | None:
        """Who leads, as of the latest command; its lease may be over by now."""
        for place in self.holding.values():
            return Leader(place.owner, self.value, place.token)
        return None

    def _has_turn(self) -> bool:
        return not self.holding

    def _on_turn(self, ticket: str, place: Place) -> None:
        self.value = ""


# -- handles: written by `python -m tests.handles --update` ----------------------------------------


class ElectionHandle(CampaignHandle):
    """A `Election` on other machines, for Trio and asyncio."""


class BlockingElectionHandle(BlockingCampaignHandle):
    """A `Election` on other machines, for threads."""

    def proclaim(self, token: int, value: Value) -> bool:
        """`Election.proclaim`."""
        return self(Election.proclaim, token, value)

    def leader(self) -> Leader | None:
        """`Election.leader`."""
        return self(Election.leader)


Election._handle_type = ElectionHandle
Election._blocking_handle_type = BlockingElectionHandle
