"""Which receipt belongs to which sending: the log names neither.

Of equal messages on the same way, the one that was sent first arrives first; but one that is older
than messages on this way ever take was lost, or every loss would shift all that follow. A cut loses
what is on its way; if it arrives after all, it is found again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

import attrs

from .facts import Packet
from .model import Family, Fate, Message, NodeName

PATIENCE: Final = 4.0
"""So many times the usual time on the way: what is older was lost, if something newer is there."""
RESOLUTION_S: Final = 0.001
"""Differences below this are not worth a thought: clocks and schedulers are not better."""
WAITING_MAX: Final = 256
"""Sendings that may wait for their receipt on one way; older ones were lost."""
LOST_MAX: Final = 64
"""Sendings taken for lost that may still be found on one way."""
LEARNING: Final = 0.2
"""How much the last message counts for what is usual."""

Way: TypeAlias = tuple[str, NodeName | None, NodeName | None]
"""Kind, sender, receiver; of replies without the sender, whom their receipts do not tell."""

SENDERS_UNTOLD: Final = frozenset({"RequestReadIndex", "ResultsCheck"})
"""Requests whose arrival, in a raftlog, does not say who asked."""


@attrs.define(eq=False)
class Draft:
    """A message as far as it is known yet."""

    index: int
    packet: Packet
    sender: NodeName | None
    receiver: NodeName | None
    sent_s: float | None = None
    received_s: float | None = None
    sent_entry: int | None = None
    received_entry: int | None = None
    request: Draft | None = None
    reply: Draft | None = None
    receiver_vote: NodeName | None = None
    is_cut: bool = False
    """There was no way from its sender to its receiver when it was sent."""

    def finished(self, fate: Fate) -> Message:
        """The message as it is told to others."""
        packet = self.packet
        request = self.request.packet if self.request is not None else None
        return Message(
            kind=packet.kind,
            family=family_of(packet, request),
            sender=self.sender,
            receiver=self.receiver,
            term=packet.term,
            sent_s=self.sent_s,
            received_s=self.received_s,
            fate=fate,
            is_reply=packet.is_reply,
            request=None if self.request is None else self.request.index,
            reply=None if self.reply is None else self.reply.index,
            is_positive=packet.is_positive,
            entries_count=packet.entries_count,
            sent_entry=self.sent_entry,
            received_entry=self.received_entry,
            log_end=packet.log_end,
            receiver_vote=self.receiver_vote,
        )


def family_of(packet: Packet, request: Packet | None) -> Family:
    """What a message is about; an answer is about what its request is."""
    kind = packet.kind
    if kind.startswith("AppendEntries"):
        carrier = packet if request is None else request
        return "entries" if carrier.entries_count else "heartbeat"
    if kind.startswith("RequestVote"):
        return "vote"
    if kind.startswith("RequestPreVote"):
        return "pre-vote"
    return "snapshot" if kind.startswith("InstallSnapshot") else "other"


@attrs.define
class _Queue:
    waiting: list[Draft] = attrs.Factory(list)
    lost: deque[Draft] = attrs.Factory(lambda: deque(maxlen=LOST_MAX))
    usual_s: float | None = None

    def lose(self, count: int) -> None:
        self.lost.extend(self.waiting[:count])
        del self.waiting[:count]

    def find(self, packet: Packet, at_s: float) -> Draft | None:
        """The oldest that fits and is not too old, else the newest that fits."""
        patience_s = 0.0 if self.usual_s is None else PATIENCE * self.usual_s + RESOLUTION_S
        found: int | None = None
        too_old = 0
        for position, draft in enumerate(self.waiting):
            is_too_old = at_s - (draft.sent_s or 0.0) > patience_s
            too_old += is_too_old
            if _fits(draft, packet):
                found = position
                if not is_too_old:
                    break
        if found is None:
            return next((draft for draft in reversed(self.lost) if _fits(draft, packet)), None)
        draft = self.waiting.pop(found)
        self.lose(min(too_old, found))
        return draft


@attrs.define
class Mailbox:
    """Messages on their way."""

    _queues: dict[Way, _Queue] = attrs.Factory(dict)

    def put(self, draft: Draft) -> None:
        """It was sent, and may arrive, unless there is no way: then only against expectation."""
        queue = self._queues.setdefault(_way(draft.packet, draft.sender, draft.receiver), _Queue())
        if draft.is_cut:
            queue.lost.append(draft)
            return
        queue.waiting.append(draft)
        if len(queue.waiting) > WAITING_MAX:
            queue.lose(1)

    def take(self, packet: Packet, at_s: float) -> Draft | None:
        """The sending of what arrives now; None if the log does not have it."""
        queue = self._queues.get(_way(packet, packet.sender, packet.receiver))
        draft = None if queue is None else queue.find(packet, at_s)
        if queue is None or draft is None or draft.sent_s is None:
            return None
        if draft in queue.lost:
            queue.lost.remove(draft)
            return draft
        age_s = max(0.0, at_s - draft.sent_s)
        usual_s = age_s if queue.usual_s is None else queue.usual_s
        queue.usual_s = usual_s + LEARNING * (age_s - usual_s)
        return draft

    def cut(self, is_cut: Callable[[NodeName, NodeName], bool]) -> None:
        """What is on its way between these nodes is lost.

        Args:
            is_cut: whether there is no way from the first node to the second.
        """
        for queue in self._queues.values():
            cut = [draft for draft in queue.waiting if _is_cut(draft, is_cut)]
            if cut:
                queue.lost.extend(cut)
                queue.waiting = [draft for draft in queue.waiting if draft not in cut]

    def usual_s(self) -> float:
        """The longest usual time on any way, in seconds; 0 if nothing arrived yet."""
        return max((queue.usual_s or 0.0 for queue in self._queues.values()), default=0.0)


def _is_cut(draft: Draft, is_cut: Callable[[NodeName, NodeName], bool]) -> bool:
    if draft.sender is None or draft.receiver is None:
        return False
    return is_cut(draft.sender, draft.receiver)


def _way(packet: Packet, sender: NodeName | None, receiver: NodeName | None) -> Way:
    is_told = not packet.is_reply and packet.kind not in SENDERS_UNTOLD
    return packet.kind, sender if is_told else None, receiver


def _fits(draft: Draft, packet: Packet) -> bool:
    if packet.body and draft.packet.body and packet.body != draft.packet.body:
        return False
    return packet.sender is None or draft.sender == packet.sender
