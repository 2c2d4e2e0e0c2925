"""Election timers: how long each one lived, and how it ended.

* There are two kinds of implementation. In ours a node has one timer: a new one takes the place
  of the old. In the Go project each timer is a goroutine that lives until it expires or notices
  that it is of no use; such logs say "bailing out", ours never do. That tells them apart.
* Of several goroutines the one that expires is the one that is due: its timeout has passed since
  it started or was restarted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import attrs

from .model import NodeName, Timer, TimerEnd


@attrs.frozen
class Start:
    """A timer started."""

    at_s: float
    entry: int
    timeout_s: float
    term: int


@attrs.frozen
class Bail:
    """A timer noticed that it is of no use."""

    at_s: float
    entry: int
    from_term: int | None


@attrs.frozen
class Expiry:
    """An election began."""

    at_s: float
    entry: int


@attrs.frozen
class Stop:
    """The node became leader, or died."""

    at_s: float
    entry: int


@attrs.frozen
class Restart:
    """Something was heard that restarts timers: a leader, a candidate that got the vote."""

    at_s: float


TimerEvent: TypeAlias = Start | Bail | Expiry | Stop | Restart


@attrs.define(eq=False)
class _Running:
    start: Start
    base_s: float

    @property
    def due_s(self) -> float:
        return self.base_s + self.start.timeout_s

    def ended(self, node: NodeName, at_s: float, entry: int | None, end: TimerEnd) -> Timer:
        start = self.start
        return Timer(
            node,
            start.term,
            start.at_s,
            max(at_s, start.at_s),
            start.timeout_s,
            end,
            start.entry,
            entry,
        )


def single_timers(node: NodeName, events: Iterable[TimerEvent], end_s: float) -> list[Timer]:
    """The timers of a node that has one at a time."""
    timers: list[Timer] = []
    running: _Running | None = None
    for event in events:
        if running is not None and isinstance(event, Start | Expiry | Stop):
            how: TimerEnd = "replaced"
            if isinstance(event, Expiry):
                how = "expired"
            elif isinstance(event, Stop):
                how = "stopped"
            timers.append(running.ended(node, event.at_s, event.entry, how))
            running = None
        if isinstance(event, Start):
            running = _Running(event, event.at_s)
    if running is not None:
        timers.append(running.ended(node, end_s, None, "open"))
    return timers


def goroutine_timers(node: NodeName, events: Iterable[TimerEvent], end_s: float) -> list[Timer]:
    """The timers of a node where each is on its own."""
    timers: list[Timer] = []
    running: list[_Running] = []
    stopped: Stop | None = None
    for event in events:
        match event:
            case Start():
                running.append(_Running(event, event.at_s))
                stopped = None
            case Restart():
                for timer in running:
                    timer.base_s = max(timer.base_s, event.at_s)
            case Bail() if (bailed := _who_bails(running, event)) is not None:
                running.remove(bailed)
                timers.append(bailed.ended(node, event.at_s, event.entry, "bailed out"))
            case Expiry() if running:
                expired = min(running, key=lambda timer: abs(timer.due_s - event.at_s))
                running.remove(expired)
                timers.append(expired.ended(node, event.at_s, event.entry, "expired"))
            case Stop():
                stopped = event
            case _:
                pass
    for timer in running:
        if stopped is None:
            timers.append(timer.ended(node, end_s, None, "open"))
        else:
            timers.append(timer.ended(node, stopped.at_s, stopped.entry, "stopped"))
    return sorted(timers, key=lambda timer: (timer.start_s, timer.start_entry))


def _who_bails(running: list[_Running], bail: Bail) -> _Running | None:
    if bail.from_term is None:
        return running[0] if running else None
    return next((timer for timer in running if timer.start.term == bail.from_term), None)
