"""Forwarding: commands that are brought to a member which does not lead, and go to the leader.

* A leader answers at once, with the place of the command in its log. Its outcome each member learns
  from its own log, where the command is applied before the caller hears of it.
* A command is for one leadership: that of the term in it. Whoever led that term says the same of it
  whenever it is asked again: where it stands, or that it certainly was not taken (hazard F1).
* What an earlier life asked is answered to nobody: numbers begin anywhere (hazard F2).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from typing import Final, final

import attrs

from ..core.errors import ConfigError, NotLeader, OutcomeUnknown, ProposalDropped
from ..core.messages import Forward, Forwarded
from ..core.reads import FIRST_NUMBER_BITS
from ..core.types import NodeId, Term
from .outcomes import Proposed

FORWARDS_MAX: Final = 1024
"""Commands of one member that wait for the leader's answer; further ones wait here."""
ANSWERS_MAX: Final = 2 * FORWARDS_MAX
"""Of so many numbers of one member a leader knows what it said. A member asks again only for those
that wait for an answer, so what is older is asked by duplicates alone."""
ASK_AGAIN_GROWTH: Final = 2.0
"""How much longer each wait for an answer is than the one before."""
ASK_AGAIN_MAX: Final = 8.0
"""How much longer it is at most than the first one."""


@attrs.define(eq=False)
class OpenForward:
    """A command that waits for the leader's answer."""

    message: Forward
    proposed: Proposed
    due_s: float
    """When it is asked for again."""
    wait_s: float
    """How long it is waited for an answer."""
    give_up_s: float | None = None
    """Another leads: when nobody waits any more for what the old leader did with it."""


@final
class Forwards:
    """The commands of one member that are on their way to whoever leads.

    Args:
        node_id: this member.
        rng: the only source of chance; not touched before the first command.
    """

    def __init__(self, node_id: NodeId, rng: random.Random) -> None:
        self.open: Final[dict[int, OpenForward]] = {}
        """By number."""
        self._node_id = node_id
        self._rng = rng
        self._last_number: int | None = None
        self.queue: Final[deque[tuple[bytes, Proposed]]] = deque()
        """What waits to be sent."""
        self._leader: tuple[NodeId, Term] | None = None
        self.deadline_s: float | None = None
        """When `due` and `expire` want to be called, or earlier; None: nothing waits."""

    def __bool__(self) -> bool:
        """Whether any of them waits."""
        return bool(self.open or self.queue)

    def put(self, data: bytes, proposed: Proposed) -> None:
        """A command that the next `take` may send."""
        self.queue.append((data, proposed))

    def forget(self, proposed: Proposed) -> bool:
        """Nobody waits for it any more. Returns whether it had not been sent, and never will be."""
        for waiting in self.queue:
            if waiting[1] is proposed:
                self.queue.remove(waiting)
                return True
        return False

    def take(self, leader: tuple[NodeId, Term], now: float, wait_s: float) -> list[Forward]:
        """What is to be sent to this leader, as far as there is room.

        Args:
            leader: who leads, and its term.
            now: the time.
            wait_s: when to ask again, in seconds from now.
        """
        messages = []
        while self.queue and len(self.open) < FORWARDS_MAX:
            data, proposed = self.queue.popleft()
            number = self._new_number()
            message = Forward(self._node_id, leader[0], leader[1], number, data, proposed.trace)
            self.open[number] = OpenForward(message, proposed, now + wait_s, wait_s)
            messages.append(message)
        if messages:
            self._look_at(now + wait_s)
        return messages

    @property
    def pending(self) -> int:
        """How many commands wait to be sent, or for an answer."""
        return len(self.open) + len(self.queue)

    def _new_number(self) -> int:
        if self._last_number is None:
            self._last_number = self._rng.getrandbits(FIRST_NUMBER_BITS)
        self._last_number += 1
        return self._last_number

    def due(self, now: float, wait_s: float) -> list[Forward]:
        """What is to be sent again: it, or its answer, may be lost.

        Args:
            now: the time.
            wait_s: how long an answer is waited for at first.
        """
        messages = []
        for each in self.open.values():
            if each.due_s <= now:
                each.due_s = now + each.wait_s
                each.wait_s = min(ASK_AGAIN_GROWTH * each.wait_s, ASK_AGAIN_MAX * wait_s)
                messages.append(each.message)
        self.deadline_s = min(map(_when, self.open.values()), default=None)
        return messages

    def _look_at(self, when_s: float) -> None:
        self.deadline_s = when_s if self.deadline_s is None else min(self.deadline_s, when_s)

    def answered(self, answer: Forwarded) -> Proposed | None:
        """The command that this answers, if it waits for that; it waits no more."""
        asked = self.open.get(answer.number)
        if asked is None:
            return None
        message = asked.message
        if (message.receiver, message.term) != (answer.sender, answer.term):
            return None
        del self.open[answer.number]
        if not self.open:
            self.deadline_s = None
        return asked.proposed

    def leader_is(self, leader: tuple[NodeId, Term] | None, give_up_s: float) -> None:
        """Who leads, as far as is known. Where it is another one than before: what waits to be sent
        certainly was not, and of what was sent the old leader alone knows what it did.

        Args:
            leader: who, and its term.
            give_up_s: until when to ask it.
        """
        if leader == self._leader:
            return
        self._leader = leader
        queue = [*self.queue]
        self.queue.clear()
        for _, proposed in queue:
            proposed.fail(NotLeader(None if leader is None else leader[0]))
        for number, each in [*self.open.items()]:
            if (each.message.receiver, each.message.term) == leader:
                each.give_up_s = None
            elif each.proposed.is_repeatable:
                del self.open[number]
                each.proposed.fail(_unknown(each.message, "; it may be sent again to the new one"))
            elif each.give_up_s is None:
                each.give_up_s = give_up_s
                self._look_at(give_up_s)

    def expire(self, now: float) -> None:
        """Nobody has told in time what became of these."""
        if self.deadline_s is None or now < self.deadline_s:
            return
        for number, each in [*self.open.items()]:
            if each.give_up_s is not None and each.give_up_s <= now:
                del self.open[number]
                why = ", nor has it said so in Limits.outcome_wait_s since"
                each.proposed.fail(_unknown(each.message, why))

    def member_died(self) -> None:
        """Nobody here will ever know more."""
        for each in self._pop_all():
            each.fail(
                OutcomeUnknown(
                    "the node died while a command was on its way to the leader: it may or may not "
                    "be applied; ask another node"
                )
            )

    def _pop_all(self) -> Iterator[Proposed]:
        everybody = [each.proposed for each in self.open.values()]
        everybody += [proposed for _, proposed in self.queue]
        self.open.clear()
        self.queue.clear()
        yield from everybody


def _when(each: OpenForward) -> float:
    return each.due_s if each.give_up_s is None else min(each.due_s, each.give_up_s)


def _unknown(message: Forward, more: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"{message.receiver!r}, which led term {message.term}, does not lead any more, and has not "
        f"said whether it took a command{more}: it may or may not be applied"
    )


def refusal_of(answer: Forwarded) -> Exception:
    """What whoever waits is told by an answer without an index."""
    if not answer.refusal:
        return OutcomeUnknown(
            f"{answer.sender!r} does not know any more whether it took a command in term "
            f"{answer.term}: it may or may not be applied; ask the state machine"
        )
    if answer.is_final:
        return ConfigError(f"the leader {answer.sender!r} refuses the command: {answer.refusal}")
    return ProposalDropped(
        f"{answer.sender!r} did not take the command: {answer.refusal}. It is certainly not in the "
        "log; propose it again"
    )


@attrs.define(eq=False)
class _Asker:
    """One life of a member that forwards commands."""

    opening: object
    highest: int = 0
    answers: dict[int, Forwarded] = attrs.field(factory=dict)


@final
class Answers:
    """What the leader of one term has answered to those who forward commands to it."""

    def __init__(self, term: Term) -> None:
        self.term: Final = term
        self._askers: dict[NodeId, _Asker] = {}

    def to(self, message: Forward, opening: object) -> Forwarded | None:
        """What was said before of this very command; None: it was never heard of.

        Args:
            message: the command.
            opening: which life of its sender it comes from.
        """
        asker = self._askers.get(message.sender)
        if asker is None or asker.opening != opening:
            return None
        known = asker.answers.get(message.number)
        if known is None and message.number <= asker.highest - ANSWERS_MAX:
            return answer_to(message)
        return known

    def remember(self, message: Forward, opening: object, answer: Forwarded) -> None:
        """This was said of it, and will be again."""
        asker = self._askers.get(message.sender)
        if asker is None or asker.opening != opening:
            asker = self._askers[message.sender] = _Asker(opening)
        asker.highest = max(asker.highest, message.number)
        asker.answers[message.number] = answer
        if len(asker.answers) > 2 * ANSWERS_MAX:
            first = asker.highest - ANSWERS_MAX
            for number in [number for number in asker.answers if number <= first]:
                del asker.answers[number]


def answer_to(
    message: Forward, *, index: int = 0, refusal: str = "", is_final: bool = False
) -> Forwarded:
    """The answer to this command; as it is given here: nobody knows any more."""
    return Forwarded(
        message.receiver, message.sender, message.term, message.number, index, refusal, is_final
    )
