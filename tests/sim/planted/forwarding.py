"""Commands that are forwarded to the leader, and what goes wrong on the way.

Rules of this file: each breaks one rule of `member.forwarding`, and that alone.
"""

from __future__ import annotations

from trioraft.core.errors import ProposalDropped
from trioraft.core.messages import Forward, Forwarded
from trioraft.member import member as member_module
from trioraft.member.actions import Unawaited
from trioraft.member.forwarding import Answers, Forwards, answer_to
from trioraft.member.member import Member
from trioraft.member.outcomes import Proposed

from .bug import patched


def takes_it_as_often_as_it_comes(answers: Answers, message: Forward, opening: object) -> None:
    """Hazard F1: a leader does not remember what was forwarded to it, and appends it as often as
    it arrives."""


def takes_the_unknown_for_refused(answer: Forwarded) -> Exception:
    """Hazard F1: a leader that does not know what it did with a command is taken for one that did
    not take it."""
    return ProposalDropped("it does not know of it")


def answers_before_it_is_appended(member: Member, message: Forward, now: float) -> Forwarded:
    """Hazard F2: a leader says how long its log is, and appends the command then."""
    index = member.raft.log.last_index
    member.propose(message.data, Unawaited(), now)
    member._has_news = True
    return answer_to(message, index=index)


def takes_answers_in_their_order(forwards: Forwards, answer: Forwarded) -> Proposed | None:
    """Hazard F2: answers are taken for those of the commands in the order in which these left."""
    oldest = min(forwards.open, default=None)
    return None if oldest is None else forwards.open.pop(oldest).proposed


BUGS = (
    patched("F1", Answers, "to", takes_it_as_often_as_it_comes),
    patched("F1", member_module, "refusal_of", takes_the_unknown_for_refused),
    patched("F2", Member, "_taken", answers_before_it_is_appended),
    patched("F2", Forwards, "answered", takes_answers_in_their_order),
)
