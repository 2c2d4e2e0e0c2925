"""The sentences of etcd's raft, of all its years: `8e9e05c52164694d became candidate at term 2`.

Each names the node that writes it. Ids are hexadecimal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias, final

import attrs

from . import facts
from .model import LogEnd, Members, NodeName, Role

UNKNOWNS: Final = (
    "etcd's raft does not log its heartbeats, its entries or its election timers: there are no "
    "arrows for them, and a failover counts from when the old leader is known to be gone.",
    "Of a node whose log was not given, only that is shown which the others say of it.",
)


@attrs.frozen
class Parsed:
    """A sentence, taken apart."""

    node: NodeName
    rule: str
    values: tuple[str | None, ...]


_ID: Final = r"([0-9a-f]{1,16})"
_LOG: Final = r"\[logterm: (\d{1,18}), index: (\d{1,18})(?:, vote: [0-9a-f]{1,16})?\]"
_KIND: Final = r"(MsgPreVote|MsgVote|vote)"
_RULES: Final[Mapping[str, re.Pattern[str]]] = {
    "became": re.compile(
        rf"{_ID} became (pre-candidate|candidate|leader|follower) at term (\d{{1,18}})"
    ),
    "starts": re.compile(rf"{_ID} is starting a new election at term (\d{{1,18}})"),
    "asked": re.compile(rf"{_ID} {_LOG} sent {_KIND} request to {_ID} at term (\d{{1,18}})"),
    "gave": re.compile(
        rf"{_ID} {_LOG} (?:cast {_KIND} for|voted for) {_ID} .{{0,60}}at term (\d{{1,18}})"
    ),
    "refused": re.compile(
        rf"{_ID} {_LOG} rejected {_KIND} from {_ID} .{{0,60}}at term (\d{{1,18}})"
    ),
    "ignored": re.compile(rf"{_ID} {_LOG} ignored {_KIND} from {_ID} "),
    "got": re.compile(
        rf"{_ID} received (?:(MsgPreVote|MsgVote)Resp|vote)( rejection)? from {_ID} "
        r"at term (\d{1,18})"
    ),
    "leader": re.compile(
        rf"raft\.node: {_ID} (?:elected leader|changed leader from [0-9a-f]+ to) {_ID} "
        r"at term (\d{1,18})"
    ),
    "lost": re.compile(rf"raft\.node: {_ID} lost leader {_ID} at term (\d{{1,18}})"),
    "higher": re.compile(
        rf"{_ID} \[term: \d+\] received a (\w+) message with higher term from {_ID} "
        r"\[term: (\d{1,18})\]"
    ),
    "inactive": re.compile(rf"{_ID} stepped down to follower since quorum is not active"),
    "members": re.compile(rf"{_ID} switched to configuration voters=\(([\d ]{{1,400}})\)"),
    "other": re.compile(rf"{_ID} (?:\[(?:term|logterm|q|quorum)|has received|no leader|lost)"),
}
_HINTS: Final = (" at term ", "[term:", "quorum is not active", "switched to conf", "has received")


def parse(text: str) -> Parsed | None:
    """The sentence in a line; None if it has none of these."""
    if not any(hint in text for hint in _HINTS):
        return None
    for name, pattern in _RULES.items():
        if (match := pattern.search(text)) is not None:
            return Parsed(match[1], name, match.groups()[1:])
    return None


_Values: TypeAlias = tuple[str | None, ...]
_ROLES: Final[Mapping[str, Role]] = {
    "pre-candidate": "PreCandidate",
    "candidate": "Candidate",
    "leader": "Leader",
    "follower": "Follower",
}


@final
class Teller:
    """From sentences to facts: some give the reason for what the next one tells."""

    def __init__(self) -> None:
        self._reasons: dict[NodeName, str] = {}
        self._configurations = 0

    def tell(self, parsed: Parsed) -> tuple[facts.Fact, ...]:
        """What this sentence says; it comes after those before it."""
        rule: Callable[[NodeName, _Values], tuple[facts.Fact, ...]] | None = {
            "became": self._became,
            "starts": self._starts,
            "asked": _asked,
            "gave": _gave,
            "refused": _refused,
            "ignored": _ignored,
            "got": _got,
            "leader": _leader,
            "higher": self._higher,
            "inactive": self._inactive,
            "members": self._members,
        }.get(parsed.rule)
        return () if rule is None else rule(parsed.node, parsed.values)

    def _became(self, node: NodeName, values: _Values) -> tuple[facts.Fact, ...]:
        role = _ROLES[values[0] or ""]
        reason = self._reasons.pop(node, None)
        # Who takes office does so for votes, whatever was said before.
        reason = None if role == "Leader" else reason
        return (facts.Became(role, _number(values[1]), reason),)

    def _starts(self, node: NodeName, _: _Values) -> tuple[facts.Fact, ...]:
        self._reasons[node] = "it heard no leader for an election timeout"
        return ()

    def _higher(self, node: NodeName, values: _Values) -> tuple[facts.Fact, ...]:
        kind, sender, term = values
        self._reasons[node] = f"{kind} of the later term {term} from {sender}"
        return ()

    def _inactive(self, node: NodeName, _: _Values) -> tuple[facts.Fact, ...]:
        self._reasons[node] = "it reached no majority"
        return ()

    def _members(self, _: NodeName, values: _Values) -> tuple[facts.Fact, ...]:
        self._configurations += 1
        voters = tuple(f"{int(number):x}" for number in (values[0] or "").split())
        return (facts.Configured(self._configurations, Members(voters)),) if voters else ()


def _number(text: str | None) -> int:
    return int(text or 0)


def _request_kind(kind: str | None) -> str:
    return "RequestPreVote" if kind == "MsgPreVote" else "RequestVote"


def _asked(node: NodeName, values: _Values) -> tuple[facts.Fact, ...]:
    log_term, index, kind, receiver, term = values
    end = LogEnd(_number(index), _number(log_term))
    name = _request_kind(kind)
    packet = facts.Packet(name, node, receiver, _number(term), log_end=end)
    return (facts.Sent(packet),)


def _answer(
    node: NodeName, sender: str | None, kind: str | None, term: str | None, *, granted: bool
) -> tuple[facts.Fact, ...]:
    name = _request_kind(kind)
    # A request bears the term that is asked for; what it is answered in may be a later one.
    request = facts.Packet(name, sender, node, None)
    reply = facts.Packet(f"{name}Reply", node, sender, _number(term), is_positive=granted)
    return facts.Received(request), facts.Sent(reply)


def _gave(node: NodeName, values: _Values) -> tuple[facts.Fact, ...]:
    _, _, kind, candidate, term = values
    return _answer(node, candidate, kind, term, granted=True)


def _refused(node: NodeName, values: _Values) -> tuple[facts.Fact, ...]:
    _, _, kind, candidate, term = values
    return _answer(node, candidate, kind, term, granted=False)


def _ignored(node: NodeName, values: _Values) -> tuple[facts.Fact, ...]:
    _, _, kind, candidate = values
    return (facts.Received(facts.Packet(_request_kind(kind), candidate, node, None)),)


def _got(node: NodeName, values: _Values) -> tuple[facts.Fact, ...]:
    kind, rejection, voter, term = values
    if voter == node:
        return ()  # its own vote
    name = f"{_request_kind(kind)}Reply"
    packet = facts.Packet(name, voter, node, _number(term), is_positive=rejection is None)
    return (facts.Received(packet),)


def _leader(_: NodeName, values: _Values) -> tuple[facts.Fact, ...]:
    leader, term = values
    return (facts.LeaderKnown(leader or "", _number(term)),)
