"""What happens in a node, for one who watches it from elsewhere: little enough to cost next to
nothing, and the same on all nodes, so that a message that one tells of is told of by the other.

Rules of this file:

* Heartbeats and entries are many. Of each way (from whom, to whom) the first message of a round is
  told, and only of those rounds that a number divides: rounds are numbered by the leader, and
  answers echo them, so nodes need not agree on anything to choose the same ones.
* All else is told, up to a bound a second; what is beyond it is counted.
* What is not told costs a look, and is never put into words.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final, final

import trio

from ..core.errors import NodeDead
from ..core.events import CommitAdvanced, MessageReceived, MessageSent
from ..core.messages import AppendEntries, AppendEntriesReply
from ..logs.event_texts import describe, event_kind
from ..logs.loggers import flatten_trace
from ..node.event_stream import EventStream, NodeEvent
from ..node.node import Node
from ..rpc.protocol import EventNews, EventsNews, Item, WatchStatus, encode_value
from ..tasks.wakeup import Wakeup
from .feed import NewsSink

TOLD_PER_S: Final = 120.0
"""Events that are told in a second, of the many that there may be."""
TOLD_AT_ONCE: Final = 240
"""And at once, after a quiet time: an election among many nodes."""
INTERVAL_S: Final = 0.2
"""Shortest time between two tellings."""
COUNTS_S: Final = 1.0
"""How often counts are told, if nothing else is."""
ENTRIES_SHARE: Final = 4
"""Rounds are so many times denser where there are entries: these are what is looked for."""

Way = tuple[str, bool, bool]
"""The other node, whether this one sends, whether there are entries."""


@final
class EventSampler:
    """Chooses which of a node's events are told.

    Args:
        every: of the rounds of heartbeats, those that this divides.
        now_s: the clock of the events, in seconds.
    """

    def __init__(self, every: int, now_s: float) -> None:
        self.messages: dict[str, int] = {}
        self.left_out: int = 0
        self.commit: CommitAdvanced | None = None
        """The latest, which is not among the others: only the last one matters."""
        self._every = max(1, every)
        self._entries_every = max(1, every // ENTRIES_SHARE)
        self._told_of: dict[Way, tuple[int, int]] = {}
        self._matched: dict[tuple[str, bool], int] = {}
        self._room = float(TOLD_AT_ONCE)
        self._room_at_s = now_s

    def keep(self, event: NodeEvent) -> bool:
        """Whether this one is told."""
        kind = type(event)
        if kind is MessageSent or kind is MessageReceived:
            if not self._keep_message(event.message, kind is MessageSent):  # type: ignore[union-attr] # it is one
                return False
        elif kind is CommitAdvanced:
            self.commit = event  # type: ignore[assignment] # it is one
            return False
        return self._has_room(event.at_s)

    def _keep_message(self, message: Any, is_sent: bool) -> bool:
        kind = type(message)
        name = kind.__name__
        self.messages[name] = self.messages.get(name, 0) + 1
        if kind is AppendEntries:
            if message.round % self._entries_every:
                return False
            other = message.receiver if is_sent else message.sender
            return self._is_first(message, (other, is_sent, bool(message.entries)))
        if kind is AppendEntriesReply and message.success:
            if message.round % self._entries_every:
                return False
            other = message.receiver if is_sent else message.sender
            before = self._matched.get((other, is_sent), 0)
            self._matched[other, is_sent] = message.match_index
            return self._is_first(message, (other, is_sent, message.match_index > before))
        return True

    def _is_first(self, message: AppendEntries | AppendEntriesReply, way: Way) -> bool:
        if not way[2] and message.round % self._every:
            return False
        place = message.term, message.round
        key = way if type(message) is AppendEntries else ("reply to " + way[0], way[1], way[2])
        if self._told_of.get(key) == place:
            return False
        self._told_of[key] = place
        return True

    def _has_room(self, now_s: float) -> bool:
        since_s, self._room_at_s = max(0.0, now_s - self._room_at_s), now_s
        self._room = min(TOLD_AT_ONCE, self._room + since_s * TOLD_PER_S)
        if self._room < 1:
            self.left_out += 1
            return False
        self._room -= 1
        return True


async def tell_events(node: Node, outbox: NewsSink, request: WatchStatus) -> None:
    """Send what happens in a node, some of it, until it is Dead or this is cancelled. A watcher
    that takes nothing misses what happens meanwhile, counted."""
    try:
        async with node.events() as stream:
            sampler = EventSampler(request.events_every, trio.current_time())
            stream.keep = sampler.keep
            await _tell(node.id, stream, sampler, outbox, request.id)
    except NodeDead:
        pass


async def _tell(
    node_id: str, stream: EventStream, sampler: EventSampler, outbox: NewsSink, request_id: int
) -> None:
    clock, told_s, missed = _WallClock(), trio.current_time(), 0
    waiting: list[NodeEvent] = []
    has_come = Wakeup()

    async def collect() -> None:
        async for event in stream:
            waiting.append(event)
            has_come.set()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect)
        while True:
            with trio.move_on_after(COUNTS_S):
                await has_come.wait()
            # What comes together is told together; who tells has a pace.
            await trio.sleep_until(told_s + INTERVAL_S)
            told_s = trio.current_time()
            events, waiting[:] = list(waiting), []
            if sampler.commit is not None:
                events.append(sampler.commit)
            if outbox.is_full:
                missed += len(events)
                continue
            clock.look()
            left_out = sampler.left_out + missed + stream.dropped
            news = EventsNews(
                node_id,
                time.time(),
                tuple(_in_words(event, clock) for event in events),
                dict(sampler.messages),
                left_out,
            )
            sampler.commit, sampler.messages = None, {}
            sampler.left_out = missed = stream.dropped = 0
            outbox.put(Item(request_id, encode_value(news)))


def _in_words(event: NodeEvent, clock: _WallClock) -> EventNews:
    fields: Mapping[str, Any] = flatten_trace(None, "", {"trace": event})
    told = {name: value for name, value in fields.items() if name != "at_s"}
    return EventNews(clock.of(event.at_s), event_kind(type(event)), describe(event), told)


class _WallClock:
    """Trio's clock and the one on the wall. A process that is put to sleep between the two looks
    would take one for the other: of some looks the quickest counts."""

    LOOKS: Final = 3

    def __init__(self) -> None:
        self._offset_s = 0.0
        self._looked_s = float("-inf")

    def look(self) -> None:
        """Compare the two, now and then: one of them may be set."""
        if trio.current_time() - self._looked_s < 10.0:
            return
        least_s = float("inf")
        for _ in range(self.LOOKS):
            before_s = trio.current_time()
            wall_s = time.time()
            after_s = trio.current_time()
            if after_s - before_s < least_s:
                least_s = after_s - before_s
                self._offset_s = wall_s - (before_s + after_s) / 2
        self._looked_s = trio.current_time()

    def of(self, at_s: float) -> float:
        return round(at_s + self._offset_s, 6)
