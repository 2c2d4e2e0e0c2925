"""Commands that are forwarded to the leader, and what goes wrong on the way.

Rules of this file: each breaks one rule of `member.forwarding`, and that alone.
"""

from __future__ import annotations

import contextlib
from typing import Any

from trioraft.core.errors import ProposalDropped, RaftError
from trioraft.core.messages import Forward, Forwarded
from trioraft.core.types import Entry
from trioraft.member import member as member_module
from trioraft.member.actions import Unawaited
from trioraft.member.forwarding import Answers, Forwards, answer_to
from trioraft.member.member import Member
from trioraft.member.outcomes import Outcomes, Proposed

from .bug import patched


def takes_it_as_often_as_it_comes(answers: Answers, message: Forward, opening: object) -> None:
    """Hazard F1: a leader does not remember what was forwarded to it, and appends it as often as
    it arrives."""


def takes_the_unknown_for_refused(answer: Forwarded) -> Exception:
    """Hazard F1: a leader that does not know what it did with a command is taken for one that did
    not take it."""
    return ProposalDropped("it does not know of it")


def answers_before_it_is_appended(member: Member, message: Forward, now: float) -> Forwarded:
    """Hazard F2: a leader says where a command will stand, and then does not append it while its
    leadership is being transferred."""
    index = member.raft.log.last_index + 1
    with contextlib.suppress(RaftError):
        member.propose(message.data, Unawaited(), now)
    member._has_news = True
    return answer_to(message, index=index)


def looks_at_the_place_alone(
    outcomes: Outcomes, proposed: Proposed, entry: Entry, value: Any, error: Exception | None
) -> None:
    """Hazard F2: whatever is applied at the index that the leader has named is the command, of
    whatever term it is."""
    if error is None:
        proposed.resolve(value)
    else:
        proposed.reject(error)


def begins_with_one(forwards: Forwards) -> int:
    """Hazard F2: each life of a member numbers its commands from 1."""
    forwards._last_number = (forwards._last_number or 0) + 1
    return forwards._last_number


BUGS = (
    patched("F1", Answers, "to", takes_it_as_often_as_it_comes),
    patched("F1", member_module, "refusal_of", takes_the_unknown_for_refused),
    patched("F2", Member, "_taken", answers_before_it_is_appended),
    patched("F2", Outcomes, "settle", looks_at_the_place_alone),
    patched("F2", Forwards, "_new_number", begins_with_one),
)
