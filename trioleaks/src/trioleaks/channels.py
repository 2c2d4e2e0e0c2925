"""Memory channels of which one end was forgotten while somebody can wait at the other.

Rules of this file:

* Trio says that closing a channel is good practice, not a duty, and so it is here: an end that is
  open or was dropped matters only if the other end is open and alive.
* Whether somebody *can* wait is for the caller to know: in a run that is over nobody can, unless
  a task waits right now.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, final

from . import privates
from .ledger import Ledger, Opened
from .probe import Left, Owner, Owners, Ownership
from .report import Leak, LeakKind
from .taps import Tap


@final
class ChannelProbe:
    """Which ends of memory channels are open."""

    def __init__(self, ownership: Ownership) -> None:
        self._ends: Ledger[Any] = Ledger(ownership, privates.channel_state)

    def taps(self) -> Iterable[Tap]:
        """The ends' constructors and `close`."""
        for end in privates.CHANNEL_TYPES:
            yield Tap(end, privates.CHANNEL_OPENED, self._ends.around_open)
            yield Tap(end, "close", self._ends.around_close)

    def note(self, owner: Owner) -> None:
        """Nothing: what was opened before was not listened to."""

    def left(self, owners: Owners, *, is_over: bool = False) -> list[Left]:
        """Ends that their owners forgot. Trio's own channels are its affair.

        Args:
            owners: whose.
            is_over: the run is over but for its system tasks: only who waits now can wait.
        """
        ends = self._ends.all()
        living: dict[tuple[int, bool], bool] = {}
        for end in ends:
            state = None if end.state is None else end.state()
            if state is not None and end.thing is not None:
                living[id(state), _is_send(end)] = True
        found = []
        for end in ends:
            state = None if end.state is None else end.state()
            if end.maker.owner not in owners or end.maker.origin.by_trio or state is None:
                continue
            now = state.statistics()
            others = now.open_receive_channels if _is_send(end) else now.open_send_channels
            waiting = now.tasks_waiting_receive if _is_send(end) else now.tasks_waiting_send
            can_wait = not is_over and others > 0 and (id(state), not _is_send(end)) in living
            if waiting or can_wait:
                found.append(Left(_leak(end, now, waiting), ("channel", end.number), end.thing))
        return found

    def prune(self) -> None:
        """See `Probe`."""
        self._ends.prune()

    def forget(self, owners: Owners) -> None:
        """See `Probe`."""
        self._ends.forget(owners)


def _is_send(end: Opened[Any]) -> bool:
    return issubclass(end.kind, privates.CHANNEL_TYPES[0])


def _leak(end: Opened[Any], now: Any, waiting: int) -> Leak:
    side, other = ("send", "receive") if _is_send(end) else ("receive", "send")
    how = "never closed" if end.thing is not None else "dropped without being closed"
    who = f"tasks that wait there: {waiting}" if waiting else "whoever comes to wait there waits on"
    return Leak(
        LeakKind.CHANNEL,
        f"memory {side} channel",
        end.maker.origin.text,
        detail=f"{how} while its {other} end is open; "
        f"items in it: {now.current_buffer_used}, {who}",
        through=end.maker.origin.through_text,
    )
