"""The door: how much of the event loop strangers may cost, and who is looked at for that.

Rules of this file:

* What a connection costs until it is of use (or it is over) is measured, in CPU time, and
  has a share of the loop. When that is used up, nobody is looked at: whoever comes is closed as it
  is accepted, which costs a tenth of a look. It has a share of its own, for those that are to be
  looked at stand behind the others in the kernel's queue; when that is used up too, the queue
  waits. So members and clients that are at work never wait for strangers.
* Whatever strangers have used up, hosts that were of use have a reserve that nobody else touches.
* To be looked at costs a host credit. It comes back, and more, when the connection is of use: a
  client asks something, a member says something. By itself it comes back slowly, to hosts that
  were ever of use sooner. The more of the share is used up, the more credit a host needs: hosts
  that were always of use are looked at as long as anybody is, those that never were only while
  there is plenty.
* Whoever shares a host with an attacker is kept out while that attacks, and not for long after:
  half of the reserve is for hosts that were of use and have hardly any credit left.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from time import thread_time
from types import coroutine
from typing import Any, Final, TypeVar, final

from .token_bucket import TokenBucket

T = TypeVar("T")

LOOKS_SHARE: Final = 0.03
"""Of the loop, for all that one port looks at."""
CLOSING_SHARE: Final = 0.05
"""Of the loop, for accepting, and closing those that it does not look at."""
BURST_S: Final = 0.5
"""So much of the first may be kept for when many come at once, in seconds of CPU time."""
CLOSING_BURST_S: Final = 0.1
RESERVE_SHARE: Final = 0.02
"""Of the loop, for hosts that were of use, where strangers have used up the first."""
RESERVE_S: Final = 0.25
"""So much of that may be kept."""
LOOK_S_MAX: Final = 0.1
"""CPU time that one look may cost; then the connection goes. (A handshake of TLS with a key of
4,096 bits takes a tenth of it.)"""
LOOK_S: Final = 0.0005
"""What a look costs, until it is known better."""
LOOK_S_EXPECTED_MAX: Final = 0.005
"""What a look is expected to cost, at most: those that came before must not have made it dear for
those that come later. What one costs beyond that, it is charged for when it has."""
LOOKS_AVERAGED: Final = 50

CREDIT_MAX: Final = 100.0
CREDIT_AT_FIRST: Final = 50.0
"""Of a host that nobody knows."""
CREDIT_PER_S: Final = 0.05
CREDIT_OF_USE_PER_S: Final = 1.0
"""Likewise, to a host that was ever of use."""
CREDIT_FOR_USE: Final = 2.0
"""What comes back for a look that turned out well; it cost 1."""
CREDIT_FOR_FIRST_USE: Final = 25.0
"""Likewise, for the first one: from then on it has more than any host that nobody knows."""
PLENTY: Final = 0.95
"""Where so much of the share is left, no credit is asked for."""
HOSTS_MAX: Final = 1024
"""Hosts that are remembered for having been of use: who was not for longest is forgotten. Likewise,
of all others: who came first is."""


@final
class Door:
    """What one port spends on strangers."""

    def __init__(self) -> None:
        self.closed: int = 0
        """Connections that were closed unlooked at."""
        self._left = TokenBucket(LOOKS_SHARE, BURST_S)
        self._reserve = TokenBucket(RESERVE_SHARE, RESERVE_S)
        self._closing = TokenBucket(CLOSING_SHARE, CLOSING_BURST_S)
        self._look_s = LOOK_S
        self._useful: dict[str, TokenBucket] = {}
        self._others: dict[str, TokenBucket] = {}

    def look(self, host: str, now_s: float) -> Look | None:
        """Somebody from this host is accepted.

        Args:
            host: numeric.
            now_s: by a clock that does not jump.

        Returns:
            To be told what it costs; None: it is to be closed unlooked at.
        """
        left = self._left.left(now_s)
        credit = self._useful.get(host) or self._others.get(host)
        if credit is None:
            credit = self._others[host] = TokenBucket(CREDIT_PER_S, CREDIT_MAX)
            credit.use(credit.left(now_s) - CREDIT_AT_FIRST)
            _forget_oldest(self._others)
        part = credit.left(now_s) / CREDIT_MAX
        if left >= max(0.0, PLENTY * BURST_S * (1 - part)):
            self.spend(self._look_s)
        elif self._may_use_reserve(host, part, now_s):
            self._reserve.use(self._look_s)
        else:
            self.closed += 1
            return None
        credit.use(1)
        return Look(self, host, self._look_s)

    def _may_use_reserve(self, host: str, part: float, now_s: float) -> bool:
        if not self.knows(host) or part * CREDIT_MAX < 1:
            return False
        is_good = part > CREDIT_AT_FIRST / CREDIT_MAX
        kept_s = 0.0 if is_good else RESERVE_S / 2
        return self._reserve.left(now_s) >= kept_s + self._look_s

    def vouch(self, host: str, amount: float = CREDIT_MAX) -> None:
        """This host is of use, as far as that can be known. Empty: it is not known which."""
        if not host:
            return
        credit = self._useful.pop(host, None) or self._others.pop(host, None)
        if credit is None:
            credit = TokenBucket(CREDIT_OF_USE_PER_S, CREDIT_MAX)
        credit.per_s = CREDIT_OF_USE_PER_S
        credit.use(-amount)
        self._useful[host] = credit
        _forget_oldest(self._useful)

    def knows(self, host: str) -> bool:
        """Whether this host was ever of use."""
        return host in self._useful

    def spend(self, for_s: float) -> None:
        """Those that are looked at have kept the loop for so long."""
        self._left.use(for_s, -BURST_S)

    def accepted(self, for_s: float, now_s: float) -> float:
        """Accepting has kept the loop for so long. Returns for how long nobody is to be accepted,
        in seconds."""
        self._closing.left(now_s)
        self._closing.use(for_s, -CLOSING_BURST_S)
        return max(0.0, -self._closing.left(now_s) / CLOSING_SHARE)

    def used_ms(self, now_s: float) -> tuple[int, int]:
        """How much CPU time strangers have used of what may be kept for them, and that."""
        used_s = min(BURST_S, BURST_S - self._left.left(now_s))
        return (round(1000 * used_s), round(1000 * BURST_S))

    def learn(self, spent_s: float) -> None:
        """A look has cost so much in all."""
        self._look_s += (min(spent_s, LOOK_S_EXPECTED_MAX) - self._look_s) / LOOKS_AVERAGED


@final
class Look:
    """What one connection costs until it is of use, or over."""

    __slots__ = ("_charged_s", "_door", "_host", "_spent_s", "is_over", "on_excess")

    def __init__(self, door: Door, host: str, charged_s: float) -> None:
        self.is_over: bool = False
        self.on_excess: Callable[[], None] | None = None
        """Called when it costs more than a look may."""
        self._door = door
        self._host = host
        self._charged_s = charged_s
        self._spent_s = 0.0

    def spend(self, for_s: float) -> None:
        """It has kept the loop for so long. A usual amount was charged when it came: many that
        come at once must not all find the share unused."""
        self._spent_s += for_s
        if self._spent_s > self._charged_s:
            self._door.spend(self._spent_s - self._charged_s)
            self._charged_s = self._spent_s
        if self._spent_s > LOOK_S_MAX and not self.is_over and self.on_excess is not None:
            self.on_excess()

    def end(self) -> None:
        """It is of use, or it is over. Idempotent."""
        if not self.is_over:
            self.is_over = True
            self.on_excess = None  # it refers to the connection, and that to this
            self._door.learn(self._spent_s)

    def was_of_use(self) -> None:
        """It turned out well; to be called once."""
        is_known = self._door.knows(self._host)
        self._door.vouch(self._host, CREDIT_FOR_USE if is_known else CREDIT_FOR_FIRST_USE)


@coroutine
def metered(work: Coroutine[Any, Any, T], look: Look) -> Generator[Any, Any, T]:
    """Do the work, and tell the look how long each of its steps keeps the loop, until that is
    over. Tasks that it starts are not counted."""
    step, value = work.send, None
    try:
        while True:
            began_s = None if look.is_over else thread_time()
            try:
                asked = step(value)
            except StopIteration as done:
                result: T = done.value
                return result
            finally:
                if began_s is not None:
                    look.spend(thread_time() - began_s)
            try:
                value = yield asked
            except GeneratorExit:
                work.close()
                raise
            except BaseException as error:  # noqa: BLE001 - the work's, whatever it is
                step, value = work.throw, error
            else:
                step = work.send
    finally:
        del step, value  # an error refers to this frame: it must not refer to the error


def _forget_oldest(hosts: dict[str, TokenBucket]) -> None:
    if len(hosts) > HOSTS_MAX:
        del hosts[next(iter(hosts))]
