"""Watch: what a node's timers and round trips were, told from outside.

Rules of this file:

* Nothing private of a node is read. What it does is known from the typed events that it logs,
  and what it drew after a hint from the source of chance that it was given.
* Watching costs well below a millisecond an election with three nodes, about one with seven.
* Every time is `trio.current_time()`, in seconds.
"""

from __future__ import annotations

import random
from typing import Any, Final, final

import attrs
import trio

from trioraft import NodeId
from trioraft.core.events import ElectionTimerStarted, MessageReceived, MessageSent
from trioraft.core.messages import AppendEntries, AppendEntriesReply


class NoElectionError(Exception):
    """What was waited for did not happen; the message says what and for how long."""


@attrs.frozen
class Deadline:
    """A node's election timer, from one moment on."""

    since_s: float
    until_s: float


@final
class WatchedRandom(random.Random):
    """A seeded source of chance that remembers the starts drawn after fast failover's hint."""

    def __init__(self, seed: str) -> None:
        super().__init__(seed)
        self.hints: list[Deadline] = []
        """When a hint came, and when the node would campaign because of it."""

    def uniform(self, a: float, b: float) -> float:
        """As `random.Random.uniform`."""
        value = super().uniform(a, b)
        if a == 0.0:  # an election timeout is drawn from a range above 0
            now = trio.current_time()
            self.hints.append(Deadline(now, now + value))
        return value


@final
class Watch:
    """What one node's timer and messages did since `forget`. It is the node's logger."""

    def __init__(self, rng: WatchedRandom) -> None:
        self.rng: Final = rng
        self.round_trips_s: list[float] = []
        """From a heartbeat of this node to its answer."""
        self._deadlines: list[Deadline] = []
        self._timeout_s = 0.0
        self._sent_s: dict[tuple[NodeId, int], float] = {}

    def debug(self, event: str, *args: Any, **kw: Any) -> None:
        """Take one typed event, as `trioraft.logs.log_event` gives it."""
        match kw["trace"]:
            case ElectionTimerStarted(at_s=at_s, timeout_s=timeout_s):
                self._timeout_s = timeout_s
                self._deadlines.append(Deadline(at_s, at_s + timeout_s))
            case MessageReceived(at_s=at_s, message=AppendEntries() as heard, term=term):
                if heard.term >= term:  # the leader was heard: the same timeout runs again
                    self._deadlines.append(Deadline(at_s, at_s + self._timeout_s))
            case MessageSent(at_s=at_s, message=AppendEntries(entries=()) as heartbeat):
                self._sent_s.setdefault((heartbeat.receiver, heartbeat.round), at_s)
            case MessageReceived(at_s=at_s, message=AppendEntriesReply() as reply):
                sent_s = self._sent_s.pop((reply.sender, reply.round), None)
                if sent_s is not None:
                    self.round_trips_s.append(at_s - sent_s)

    info = warning = debug

    def forget(self) -> None:
        """Begin anew, from the timer as it runs now."""
        del self._deadlines[:-1]
        self.rng.hints.clear()
        self.round_trips_s.clear()
        self._sent_s.clear()

    def due_s(self, from_s: float, to_s: float) -> float:
        """When this node would campaign if nothing but a hint came between these moments.

        Args:
            from_s: the timer counts as it stood then.
            to_s: hints count up to here.
        """
        standing = [timer for timer in self._deadlines if timer.since_s <= from_s]
        hints = [hint.until_s for hint in self.rng.hints if from_s <= hint.since_s <= to_s]
        return min([standing[-1].until_s, *hints])
