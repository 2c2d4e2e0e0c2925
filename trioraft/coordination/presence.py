"""Presence: one process in a waiting line: its lease, renewed by itself, and its places.

Rules of this file:

* The same code on every site: on a node, through a client, under Trio and asyncio.
* All places of a process share one lease, one renewal per `RENEWALS_PER_LEASE`-th of it, and one
  subscription to news, which is opened only if somebody has to wait. Nobody asks for its turn again
  and again; the renewal says which turns there are, so that news that were lost are found.
* No task outlives the `hold`s: each brings one, of which one at a time does the work for all, and
  the others wait to take over.
* What counts here is the monotonic clock of this process, from before the lease was asked for: it
  is over here before it may be over in the log, but for clocks' drift.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Protocol, TypeVar, final

import anyio
import attrs

from ..core.errors import (
    ConfigError,
    NotLeader,
    NotMember,
    OutcomeUnknown,
    Overloaded,
    ProposalDropped,
    RaftError,
    SessionExpired,
)
from ..core.types import LogIndex
from ..rpc.errors import DeadlineExceeded, ServerLeaving, ServerLost
from .answers import LEASE_S_MAX, KeptAlive, LinedUp, News

R = TypeVar("R")

LEASE_S: Final = 10.0
"""How long a process is believed to live without a word of it, if nothing else is said."""
RENEWALS_PER_LEASE: Final = 3
"""A lease is renewed this often within its time."""
LEAVE_PATIENCE_S: Final = 1.0
"""How long giving up a place may take; after that, the next renewal does it, or the lease ends."""
PAUSE_S: Final = 0.05
"""Before trying again what no server could take."""
PASSING = (
    *(DeadlineExceeded, NotLeader, OutcomeUnknown, Overloaded, ProposalDropped, ServerLeaving),
    *(ServerLost, SessionExpired),
)
"""What trying again may help against."""


class LockLost(RaftError):  # noqa: N818 - what happened, as in the other errors of this kind
    """The lease ran out, or was taken away, while its holder was at work; that was cancelled.

    Fault: of the network or the cluster, when it could not be renewed in time; or of whoever took
        it away.
    Remedy: take what was under way for undone, and ask for the lock again.
    """


class LineAccess(Protocol):
    """A waiting line, here or elsewhere."""

    async def line_up(self, host: str, ticket: str, owner: str, lease_s: float) -> LinedUp: ...

    async def leave_line(self, tickets: list[str]) -> int: ...

    async def keep_alive(self, host: str, lease_s: float, gone: list[str]) -> KeptAlive: ...

    def line_news(self, host: str) -> AbstractAsyncContextManager[AsyncIterator[News]]: ...


@final
@attrs.define(eq=False)
class Claim:
    """One place, as its process sees it."""

    owner: str
    ticket: str = attrs.field(factory=lambda: secrets.token_hex(8))
    epoch: LogIndex | None = None
    """None: it has no place in the line, as far as is known here."""
    is_known: bool = False
    """The log may have heard of it."""
    token: LogIndex = 0
    """0: it has no turn yet."""
    failure: Exception | None = None
    """The turn is lost, or will never come."""
    scope: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)
    """Of whoever uses the turn."""
    news: anyio.Event = attrs.field(factory=anyio.Event)

    def fail(self, error: Exception) -> None:
        """There is nothing to wait for any more, and nothing to go on with."""
        if self.failure is None:
            self.failure = error
            self.scope.cancel()
            self.news.set()


@final
class Grant:
    """A turn: a lock that is held, a permit, an office. Handed out for the body of a `with`.

    Attributes:
        token: the index of the log entry that granted it. It rises from holder to holder, so
            whatever is done for the holder outside can carry it: whoever has seen a higher one
            refuses it (*fencing*).
    """

    __slots__ = ("_claim", "_presence", "token")

    def __init__(self, claim: Claim, presence: Presence) -> None:
        self.token: int = claim.token
        self._claim = claim
        self._presence = presence

    def __repr__(self) -> str:
        return f"<Grant {self.token} of {self._claim.owner!r}{', lost' if self.is_lost else ''}>"

    def __index__(self) -> int:
        """The token, where an integer is wanted."""
        return self.token

    @property
    def is_lost(self) -> bool:
        """Whether it is over. May be asked from any thread."""
        return self._claim.failure is not None

    @property
    def ticket(self) -> str:
        """What the place is called in the log."""
        return self._claim.ticket

    def settle(self) -> None:
        """What the turn was for is being finished: whether it was in time, the log says."""
        self._presence.settle(self._claim)

    def settled(self, *, is_over: bool) -> bool:
        """Whether it was finished in time.

        Args:
            is_over: the log says so. If it does not, an answer that was lost may have said so,
                unless the lease can be over.
        """
        is_settled = is_over or (not self.is_lost and self._presence.is_alive)
        if is_settled:
            self._claim.is_known = False  # there is nothing to give back
        return is_settled

    def check(self) -> None:
        """Raise what ended it, if it is over: for bodies that nobody can cancel, as in a thread.

        Raises:
            LockLost: it is lost.
        """
        if self._claim.failure is not None:
            raise self._claim.failure


@final
class Presence:
    """This process in one line, with one length of lease.

    Args:
        line: here or elsewhere.
        lease_s: how long the process is believed to live without a word of it, in seconds.
    """

    def __init__(self, line: LineAccess, lease_s: float) -> None:
        self._line = line
        self._lease_s = lease_s
        self._claims: dict[str, Claim] = {}
        self._held: dict[str, Claim] = {}
        self._attempt: anyio.CancelScope | None = None  # of the renewal that is under way
        self._begin()

    def _begin(self) -> None:
        """Nothing is known of this process in the log."""
        self._duty = anyio.Lock()
        self._host = secrets.token_hex(8)
        self._epoch: LogIndex = 0
        self._until_s = -math.inf  # on the local clock; the lease in the log ends no earlier
        self._gone: dict[str, None] = {}  # places that the log may still have, and we have not
        self._must_renew = False  # there is something to say, or to ask, before it is due
        self._changed = anyio.Event()  # so look again when it is due
        self._wants_news = anyio.Event()
        self._subscription: AbstractAsyncContextManager[AsyncIterator[News]] | None = None
        self._items: AsyncIterator[News] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nobody holds anything, or waits."""
        return not self._claims

    @property
    def is_alive(self) -> bool:
        """Whether the lease cannot be over yet."""
        return anyio.current_time() < self._until_s

    # -- holding ---------------------------------------------------------------------------

    @asynccontextmanager
    async def hold(self, owner: str, *, cancels: bool = True) -> AsyncIterator[Grant]:
        """Line up, wait for the turn, keep it for the body, and give it back.

        Args:
            owner: says who it is, to people.
            cancels: whether the body is cancelled when the turn is lost; else it has to look.

        Raises:
            LockLost: the turn was lost while the body ran.
            Exception: why there is none; or the body's own.
        """
        claim = Claim(owner)
        self._claims[claim.ticket] = claim
        error: BaseException | None = None
        cancelled = anyio.get_cancelled_exc_class()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._attend, name=f"line[{owner}]")
                try:
                    await self._take_turn(claim)
                    if cancels:
                        with claim.scope:
                            yield Grant(claim, self)
                    else:
                        yield Grant(claim, self)
                except cancelled:
                    raise
                except BaseException as raised:  # noqa: BLE001 - raised again below, ungrouped
                    error = raised
                finally:
                    tasks.cancel_scope.cancel()
        except cancelled:
            if error is None:
                raise  # otherwise there is an error to be told, as from any code that is cancelled
        finally:
            await self._give_up(claim)
        if claim.failure is not None and error is not claim.failure:
            raise claim.failure from error
        if error is not None:
            raise error

    async def _take_turn(self, claim: Claim) -> None:
        while not claim.token:
            if claim.epoch is None:
                await self._line_up(claim)
            await claim.news.wait()
            claim.news = anyio.Event()
            if claim.failure is not None:
                raise claim.failure

    async def _line_up(self, claim: Claim) -> None:
        """Get a place, however long that takes."""
        claim.is_known = True
        asked_s = anyio.current_time()
        answer = await persistently(
            lambda: self._line.line_up(self._host, claim.ticket, claim.owner, self._lease_s)
        )
        claim.epoch = answer.epoch
        self._on_alive(asked_s, answer.epoch)
        if claim.epoch is None:
            return  # it is over already, which was heard of before this answer
        if answer.token:
            self._on_turn(claim.ticket, answer.token)
        else:
            self._wants_news.set()
        self._changed.set()

    async def _give_up(self, claim: Claim) -> None:
        """Leave the line, if that can be done soon; otherwise the lease runs out."""
        self._claims.pop(claim.ticket, None)
        self._held.pop(claim.ticket, None)
        with anyio.CancelScope(shield=True):
            if claim.is_known and not await self._leave(claim.ticket):
                self._gone[claim.ticket] = None  # the next renewal says it
            if not self._claims:
                await self._close_subscription()
                if not self._claims:
                    self._begin()  # what the log may still have ends with its lease

    async def _leave(self, ticket: str) -> bool:
        with anyio.move_on_after(min(LEAVE_PATIENCE_S, self._lease_s)):
            try:
                await self._line.leave_line([ticket])
            except RaftError:
                return False
            return True
        return False

    def settle(self, claim: Claim) -> None:
        """Nobody is to be told any more if its turn is lost."""
        self._held.pop(claim.ticket, None)

    # -- what happens to places --------------------------------------------------------------

    def _on_alive(self, asked_s: float, epoch: LogIndex) -> None:
        """The log says that this host lives, since `epoch`; we had asked at `asked_s`."""
        is_same = epoch == self._epoch
        if epoch > self._epoch:
            self._epoch, self._until_s = epoch, -math.inf
        if epoch == self._epoch:
            self._until_s = max(self._until_s, asked_s + self._lease_s)
            if self._attempt is not None:
                self._attempt.deadline = self._until_s
        for claim in () if is_same else list(self._claims.values()):
            if claim.epoch is not None and claim.epoch < self._epoch:
                self._on_lost(claim)

    def _on_turn(self, ticket: str, token: LogIndex) -> None:
        claim = self._claims.get(ticket)
        if claim is None or claim.failure is not None:
            self._gone[ticket] = None  # nobody waits for it any more
            self._renew_now()
        elif self.is_alive:  # else: the renewal will tell
            claim.token = token
            self._held[ticket] = claim
            claim.news.set()

    def _on_lost(self, claim: Claim, why: str = "") -> None:
        """A place is gone: whoever had its turn has to stop, and who waits lines up again."""
        claim.epoch = None
        if self._held.pop(claim.ticket, None) is None:
            claim.news.set()
            return
        self._gone[claim.ticket] = None
        claim.fail(
            LockLost(
                why
                or f"the lease with token {claim.token} is over: it was not renewed in time, by "
                "log time, or was released"
            )
        )

    def _on_time_up(self) -> None:
        for claim in list(self._held.values()):
            self._on_lost(
                claim,
                f"the lease of {self._lease_s:g} s could not be renewed in time (no leader, or no "
                "majority): what was done under it was cancelled",
            )

    def _on_news(self, news: News) -> None:
        for ticket, token in news.items():
            claim = self._claims.get(ticket)
            if token and (claim is None or not claim.token):
                self._on_turn(ticket, token)
            elif not token and claim is not None:
                self._renew_now()  # which says whether that is still so

    # -- the work for all -------------------------------------------------------------------

    async def _attend(self) -> None:
        """Do the work for all, as soon as nobody else does."""
        async with self._duty:
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._follow_news, name="line.news")
                    await self._renew_when_due()
            except* Exception as errors:  # noqa: BLE001 - raised by every `hold` of this process
                for claim in list(self._claims.values()):
                    claim.fail(_first(errors))

    def _renew_now(self) -> None:
        self._must_renew = True
        self._changed.set()

    async def _renew_when_due(self) -> None:
        while True:
            with anyio.CancelScope(deadline=self._due_s()):
                await self._changed.wait()
            self._changed = anyio.Event()
            if anyio.current_time() < self._due_s():
                continue
            now_s, until_s = anyio.current_time(), self._until_s
            deadline_s = until_s if until_s > now_s else math.inf
            try:
                with anyio.CancelScope(deadline=deadline_s) as self._attempt:
                    await self._renew()
            finally:
                self._attempt = None
            if anyio.current_time() >= self._until_s:
                self._on_time_up()

    def _due_s(self) -> float:
        if all(claim.epoch is None for claim in self._claims.values()):
            return math.inf  # nothing is ours, so there is nothing to keep
        if self._must_renew:
            return -math.inf
        return self._until_s - self._lease_s * (1 - 1 / RENEWALS_PER_LEASE)

    async def _renew(self) -> None:
        self._must_renew = False
        gone = list(self._gone)
        asked_s = anyio.current_time()
        answer = await persistently(lambda: self._line.keep_alive(self._host, self._lease_s, gone))
        for ticket in gone:
            self._gone.pop(ticket, None)
        self._on_alive(asked_s, answer.epoch)
        for ticket, token in answer.holding.items():
            claim = self._claims.get(ticket)
            if claim is None or not claim.token:
                self._on_turn(ticket, token)
        for ticket, claim in list(self._held.items()):
            if claim.token < answer.index and ticket not in answer.holding:
                self._on_lost(claim)

    async def _follow_news(self) -> None:
        while True:
            await self._wants_news.wait()
            try:
                if self._items is None:
                    subscription = self._line.line_news(self._host)
                    self._items = await subscription.__aenter__()
                    self._subscription = subscription
                self._on_news(await anext(self._items))
            except (*PASSING, StopAsyncIteration):
                await self._close_subscription()
                await anyio.sleep(PAUSE_S)

    async def _close_subscription(self) -> None:
        subscription, self._subscription, self._items = self._subscription, None, None
        if subscription is not None:
            with anyio.CancelScope(shield=True):
                await subscription.__aexit__(None, None, None)


def presence_of(line: LineAccess, presences: dict[float, Presence], lease_s: float) -> Presence:
    """The one presence of this process in a line with this length of lease.

    Raises:
        ConfigError: `lease_s` is none.
    """
    if not 0 < lease_s <= LEASE_S_MAX:
        raise ConfigError(f"lease_s is {lease_s!r}: give seconds, more than 0")
    for other_s in [known_s for known_s, known in presences.items() if known.is_idle]:
        if other_s != lease_s:
            del presences[other_s]
    if lease_s not in presences:
        presences[lease_s] = Presence(line, lease_s)
    return presences[lease_s]


async def persistently(ask: Callable[[], Awaitable[R]]) -> R:
    """Ask until there is an answer that is not passing. Each time is asked for the same: `asked_s`
    may be that of the first time."""
    while True:
        try:
            return await ask()
        except NotMember:
            raise
        except PASSING:
            await anyio.sleep(PAUSE_S)


def _first(errors: BaseExceptionGroup[Exception]) -> Exception:
    error: Exception | BaseExceptionGroup[Exception] = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
