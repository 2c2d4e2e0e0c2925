"""Visitors: who is connected to a port, and who has to make room when it is full.

Rules of this file:

* A connection is a stranger until it has said who it is, and then a guest. Each kind has a bound of
  its own: however many strangers keep silent, they take no guest's place, and no member's.
* A full port still lets somebody in: the host with the most of the kind makes room, with the
  connection that has been silent longest, and first with one that never asked for anything. So
  those go who fill it, not those who come.
* A guest with something unanswered is never sent away for another one; if all are busy, the new one
  is refused.
* How many strangers are looked at in a second is bounded too, and a host that got in before has a
  share that others cannot use up. Beyond it connections are closed as they are accepted, which
  costs a tenth of a look.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import inf
from typing import Final, final

import attrs

from .connection import Connection

LOOKS_PER_S: Final = 300.0
"""Strangers looked at in a second, from all hosts that never got in, on the average."""
LOOKS_OF_KNOWN_PER_S: Final = 600.0
"""Likewise, from all hosts that did: a sixth of a core at the most."""
LOOKS_AT_ONCE: Final = 1000.0
"""How many may come at once after a quiet time, of either kind."""
OWN_LOOKS_PER_S: Final = 1.0
"""What each host that got in has for itself, whatever others use up."""
OWN_LOOKS_AT_ONCE: Final = 20.0
"""How many it may have kept of these."""
KNOWN_HOSTS_MAX: Final = 1024
"""Hosts that are remembered for having got in; the one that was longest away is forgotten."""


@attrs.define(eq=False)
class Looks:
    """A bound on how often something happens: so often at once, and then so often in a second."""

    per_s: float
    at_once: float
    _left: float = attrs.field(init=False)
    _at_s: float = attrs.field(init=False, default=0.0)

    def __attrs_post_init__(self) -> None:
        self._left = self.at_once

    def take(self, now_s: float) -> bool:
        """Whether it may happen once more now."""
        self._left = min(self.at_once, self._left + (now_s - self._at_s) * self.per_s)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


@final
class Visitors:
    """Those who are connected to one port.

    Args:
        strangers_max: who have not said yet who they are.
        guests_max: who have.
        guests_of_host_max: of them, from one host; None: as many as all.
    """

    def __init__(
        self, strangers_max: int, guests_max: int, guests_of_host_max: int | None = None
    ) -> None:
        self.strangers_max = strangers_max
        self.guests_max = guests_max
        self.guests_of_host_max: int = (
            guests_max if guests_of_host_max is None else guests_of_host_max
        )
        self.strangers: dict[Connection, None] = {}
        """In the order in which they came."""
        self.guests: dict[Connection, None] = {}
        self.turned_away: int = 0
        """Connections that were closed for others since the port was opened, or unlooked at."""
        self._of_host: dict[str, dict[Connection, None]] = {}  # the guests
        self._known: dict[str, Looks] = {}
        self._unknown = Looks(LOOKS_PER_S, LOOKS_AT_ONCE)
        self._all_known = Looks(LOOKS_OF_KNOWN_PER_S, LOOKS_AT_ONCE)

    def may_look(self, host: str, now_s: float) -> bool:
        """Whether a connection from this host is to be looked at, or closed unlooked at."""
        own = self._known.get(host)
        if own is None:
            is_looked_at = self._unknown.take(now_s)
        else:
            is_looked_at = self._all_known.take(now_s) or own.take(now_s)
        if is_looked_at:
            return True
        self.turned_away += 1
        return False

    def arrive(self, connection: Connection) -> None:
        """Somebody has come; a stranger that kept silent goes if there are too many."""
        if len(self.strangers) >= self.strangers_max:
            self._send_away(_silent_longest(self.strangers), "others came, and it kept silent")
        self.strangers[connection] = None

    def admit(self, connection: Connection) -> str:
        """A stranger has said who it is, and is a guest now.

        Returns:
            Why it cannot be one; empty: it is.
        """
        host = connection.remote_host
        told, room = "", True
        of_host = self._of_host.get(host, {})
        if len(of_host) >= self.guests_of_host_max:
            told = f"there are {self.guests_of_host_max} connections from {host}"
            room = self._idle_goes(of_host, f"{told}, and it was idle longest")
        elif len(self.guests) >= self.guests_max:
            told = f"there are {self.guests_max} connections"
            room = self._idle_of_any_goes(f"{told}, and it was idle longest")
        if not room:
            return f"{told}, and all of them are busy"
        self.strangers.pop(connection, None)
        self.guests[connection] = None
        self._of_host.setdefault(host, {})[connection] = None
        self._remember(host)
        return ""

    def make_room(self) -> None:
        """Descriptors are scarce: send away who is least missed, if anybody is."""
        if self.strangers:
            self._send_away(_silent_longest(self.strangers), "descriptors are scarce")
            return
        self._idle_of_any_goes("descriptors are scarce, and it was idle longest")

    def leave(self, connection: Connection) -> None:
        """It is over. Idempotent."""
        self.strangers.pop(connection, None)
        if connection in self.guests:
            del self.guests[connection]
            of_host = self._of_host[connection.remote_host]
            del of_host[connection]
            if not of_host:
                del self._of_host[connection.remote_host]

    def _idle_of_any_goes(self, reason: str) -> bool:
        """As `_idle_goes`, of the host with the most guests that has an idle one."""
        hosts = sorted(self._of_host.values(), key=len, reverse=True)
        return any(self._idle_goes(of_host, reason) for of_host in hosts)

    def _idle_goes(self, guests: Iterable[Connection], reason: str) -> bool:
        """Send away the one of them that is missed least. False: all are busy."""
        least, least_s = None, (True, inf)
        for guest in guests:
            if guest.idle_since_s is not None:
                missed = (guest.has_asked, guest.idle_since_s)
                if missed < least_s:
                    least, least_s = guest, missed
        if least is not None:
            self._send_away(least, reason)
        return least is not None

    def _send_away(self, connection: Connection, reason: str) -> None:
        self.leave(connection)
        self.turned_away += 1
        connection.end(reason)

    def _remember(self, host: str) -> None:
        looks = self._known.pop(host, None) or Looks(OWN_LOOKS_PER_S, OWN_LOOKS_AT_ONCE)
        self._known[host] = looks
        if len(self._known) > KNOWN_HOSTS_MAX:
            del self._known[next(iter(self._known))]


def _silent_longest(strangers: dict[Connection, None]) -> Connection:
    """Of the host with the most of them, the one that came first."""
    hosts = Counter(stranger.remote_host for stranger in strangers)
    most = max(hosts.values())
    return next(stranger for stranger in strangers if hosts[stranger.remote_host] == most)
