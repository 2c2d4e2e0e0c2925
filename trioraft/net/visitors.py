"""Visitors: who is connected to a port, and who has to make room when it is full.

Rules of this file:

* A connection is a stranger until it has said who it is, and then a guest. Each kind has a bound of
  its own: however many strangers keep silent, they take no guest's place, and no member's.
* A full port still lets somebody in, and another goes: those go who fill it, not those who come.
  Of strangers it is the one that has been silent longest, of the host with the most of them, and of
  hosts that were never of use before others: a slow network must cost nobody its connection. Of
  guests it is the first that never asked for anything; else the one that has been idle longest, of
  the host with the most guests.
* A guest with something unanswered is never sent away for another one; if all are busy, the new one
  is refused.
* How many strangers are looked at, the `door` decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from math import inf
from typing import final

from .connection import Connection


@final
class Visitors:
    """Those who are connected to one port.

    Args:
        is_of_use: whether a host's connections were ever of use to it.
        strangers_max: who have not said yet who they are.
        guests_max: who have.
        guests_of_host_max: of them, from one host; None: as many as all.
    """

    def __init__(
        self,
        is_of_use: Callable[[str], bool],
        strangers_max: int,
        guests_max: int,
        guests_of_host_max: int | None = None,
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
        """Connections that were closed for others since the port was opened."""
        self._is_of_use = is_of_use
        self._unproven: dict[Connection, None] = {}  # guests; some may have asked meanwhile
        self._of_host: dict[str, dict[Connection, None]] = {}  # the guests

    def arrive(self, connection: Connection) -> None:
        """Somebody has come; a stranger that kept silent goes if there are too many."""
        if len(self.strangers) >= self.strangers_max:
            self._send_away(self._silent_longest(), "others came, and it kept silent")
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
        self.guests[connection] = self._unproven[connection] = None
        self._of_host.setdefault(host, {})[connection] = None
        return ""

    def make_room(self) -> None:
        """Descriptors are scarce: send away who is least missed, if anybody is."""
        if self.strangers:
            self._send_away(self._silent_longest(), "descriptors are scarce")
            return
        self._idle_of_any_goes("descriptors are scarce, and it was idle longest")

    def leave(self, connection: Connection) -> None:
        """It is over. Idempotent."""
        self.strangers.pop(connection, None)
        self._unproven.pop(connection, None)
        if connection in self.guests:
            del self.guests[connection]
            of_host = self._of_host[connection.remote_host]
            del of_host[connection]
            if not of_host:
                del self._of_host[connection.remote_host]

    def _idle_of_any_goes(self, reason: str) -> bool:
        """As `_idle_goes`, of all who never asked, or of the host with the most guests that has an
        idle one."""
        while self._unproven:
            first = next(iter(self._unproven))
            if not first.has_asked and first.idle_since_s is not None:
                self._send_away(first, reason)
                return True
            del self._unproven[first]
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

    def _silent_longest(self) -> Connection:
        """Of the strangers of the host with the most of them, the one that came first."""
        hosts = Counter(stranger.remote_host for stranger in self.strangers)
        gives = max(hosts, key=lambda host: (not self._is_of_use(host), hosts[host]))
        return next(stranger for stranger in self.strangers if stranger.remote_host == gives)
