"""The sentences of hashicorp/raft, as Consul, Vault and Nomad log them: old ones
(`Node at 10.0.0.1:8300 [Candidate] entering Candidate state in term 280`) and new ones
(`entering candidate state: node="Node at 10.0.0.1:8300 [Candidate]" term=280`).

Most do not name the node that writes them. It is who writes this log (`origin`); its own name is
the address in `Node at …`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeAlias, final

import attrs

from . import facts
from .model import Members, NodeName, Role

UNKNOWNS: Final = (
    "hashicorp/raft logs messages only where they fail, and votes only where it debugs: there are "
    "no heartbeats and no election timers in the picture, and a failover counts from when the old "
    "leader is known to be gone.",
    "A follower's term is not in its log: it is shown as the last that the node named.",
    "Of a node whose log was not given, only that is shown which the others say of it.",
)


@attrs.frozen
class Parsed:
    """A sentence, taken apart."""

    rule: str
    node: NodeName | None
    """Who wrote it, if it says so."""
    values: Mapping[str, str]
    servers: tuple[tuple[str, str], ...] = ()
    """Ids and addresses of servers that it names."""


_MODULE: Final = re.compile(r"(?:^|[\s:\]])(?:[\w-]+\.){0,3}raft: +(.*)", re.DOTALL)
_SELF: Final = re.compile(r"\bNode at ([\w.:\[\]-]{1,260}) \[(Follower|Candidate|Leader)\]")
_SERVER: Final = re.compile(r"\{(?:Voter|Nonvoter|Staging) (\S{1,260}) ([^\s}]{1,260})\}")
_LISTED: Final = re.compile(
    r"\{Suffrage:(?:Voter|Nonvoter) ID:(\S{1,260}) Address:([^\s}]{1,260})\}"
)
_ASKED: Final = re.compile(r"^asking for pre-vote: .{0,40}from=(\S{1,260}) address=(\S{1,260})")
_TERM: Final = re.compile(r"\bterm[= ](\d{1,18})")
_WHO: Final = r"(?P<who>[\w.:\[\]-]{1,260})"
_RULES: Final[Mapping[str, re.Pattern[str]]] = {
    "role": re.compile(r"\bentering (?P<role>follower|candidate|leader) state", re.IGNORECASE),
    "heartbeat": re.compile(r"^heartbeat timeout (?:from .{0,260} )?reached", re.IGNORECASE),
    "again": re.compile(r"^election timeout reached, restarting", re.IGNORECASE),
    "granted": re.compile(rf"^vote granted(?:: from=| from ){_WHO}", re.IGNORECASE),
    "pre-vote": re.compile(rf"^pre-vote (?P<answer>granted|denied): from={_WHO}"),
    "rejected": re.compile(
        rf"^rejecting vote request .{{0,40}}?(?:from[= ]){_WHO}"
        r"(?:.{0,40}?leader[=:] ?(?P<leader>[\w.:\[\]-]{1,260}))?",
        re.IGNORECASE,
    ),
    "unheard vote": re.compile(r"^failed to make requestVote RPC", re.IGNORECASE),
    "unheard": re.compile(r"^failed to (?:heartbeat|appendEntries) to:?", re.IGNORECASE),
    "no quorum": re.compile(r"^failed to contact quorum of nodes, stepping down", re.IGNORECASE),
    "newer": re.compile(
        r"^(?:lost leadership because received .{0,40} newer term|peer .{0,260} has newer term)",
        re.IGNORECASE,
    ),
    "configuration": re.compile(r"^initial configuration", re.IGNORECASE),
}
_TARGET: Final = re.compile(
    r"(?:RPC|heartbeat|AppendEntries) to:? ?(?:peer=\"?)?([^\s\"{:]+:\d+)", re.I
)
_PEER: Final = re.compile(r"\b(?:peer|target|backup address)=\"?([^\s\"{]{1,260})")


def parse(text: str) -> Parsed | None:
    """The sentence in a line; None if it is none of raft's."""
    found = _MODULE.search(text)
    if found is None:
        return None
    sentence = found[1]
    servers = (*_SERVER.findall(sentence), *_LISTED.findall(sentence), *_ASKED.findall(sentence))
    own = _SELF.search(sentence)
    node = None if own is None else own[1]
    for name, pattern in _RULES.items():
        if (match := pattern.search(sentence)) is not None:
            values = {key: value for key, value in match.groupdict().items() if value}
            if (term := _TERM.search(sentence)) is not None:
                values["term"] = term[1]
            if name.startswith("unheard"):
                values |= _target(sentence, servers)
            return Parsed(name, node, values, servers)
    return Parsed("other", node, {}, servers)


def _target(sentence: str, servers: Sequence[tuple[str, str]]) -> dict[str, str]:
    if servers:
        return {"who": servers[0][1]}
    match = _TARGET.search(sentence) or _PEER.search(sentence)
    return {} if match is None else {"who": match[1]}


def doubts(lines: Iterable[Parsed]) -> list[str]:
    """What these lines leave open beyond `UNKNOWNS`."""
    asked = [line for line in lines if line.values.get("role", "").lower() == "candidate"]
    if asked and not any("term" in line.values for line in asked):
        return [
            "This log has no terms: candidacies are counted from 1, by each node on its own. How "
            "many terms passed elsewhere is not known."
        ]
    return []


_Told: TypeAlias = tuple[facts.Fact, ...]


@final
class Teller:
    """From sentences to facts.

    Args:
        lines: all of a log, with the origin of each: whose they are is told by any of them.
    """

    def __init__(self, lines: Iterable[tuple[str, Parsed]]) -> None:
        self._own: dict[str, set[NodeName]] = {}
        self._address_of: dict[str, str] = {}
        for origin, parsed in lines:
            own = self._own.setdefault(origin, set())
            if parsed.node is not None:
                own.add(parsed.node)
            self._address_of.update(parsed.servers)
        self._reasons: dict[NodeName | None, str] = {}
        self._terms: dict[NodeName, int] = {}

    def owner(self, origin: str) -> NodeName | None:
        """Who writes what comes from here; None if several do."""
        own = self._own.get(origin, set())
        if len(own) == 1:
            return next(iter(own))
        return (origin or WRITER) if origin in self._own and not own else None

    def has_nameless(self) -> bool:
        """Whether somebody wrote without ever saying its address."""
        return any(not own for own in self._own.values())

    def tell(self, origin: str, parsed: Parsed) -> tuple[NodeName | None, _Told]:
        """Who says it, and what it says; it comes after the sentences before it."""
        node = parsed.node or self.owner(origin)
        rule = self._rules().get(parsed.rule)
        return node, () if rule is None else rule(node, parsed)

    def _rules(self) -> Mapping[str, Callable[[NodeName | None, Parsed], _Told]]:
        return {
            "role": self._role,
            "heartbeat": self._reason("it heard no leader for its heartbeat timeout"),
            "again": self._reason("nobody won before its election timeout"),
            "no quorum": self._reason("it reached no majority"),
            "newer": self._reason("a later term"),
            "granted": self._granted,
            "pre-vote": self._granted,
            "rejected": self._rejected,
            "unheard vote": self._unheard("RequestVote"),
            "unheard": self._unheard("AppendEntries"),
            "configuration": self._configuration,
        }

    def _address(self, name: str) -> NodeName:
        """Votes are told by id, nodes by address."""
        return self._address_of.get(name, name)

    def _reason(self, text: str) -> Callable[[NodeName | None, Parsed], _Told]:
        def keep(node: NodeName | None, _: Parsed) -> _Told:
            self._reasons[node] = text
            return ()

        return keep

    def _role(self, node: NodeName | None, parsed: Parsed) -> _Told:
        role = _ROLES[parsed.values["role"].lower()]
        reason = self._reasons.pop(node, None) or self._reasons.pop(None, None)
        if node is None:
            return ()
        term = int(parsed.values["term"]) if "term" in parsed.values else None
        if term is None and role == "Candidate":
            term = self._terms.get(node, 0) + 1
        if term is not None:
            self._terms[node] = term
        return (facts.Became(role, term, None if role == "Leader" else reason),)

    def _granted(self, node: NodeName | None, parsed: Parsed) -> _Told:
        voter = self._address(parsed.values["who"].rstrip("."))
        if node is None or voter == node:
            return ()
        term = int(parsed.values["term"]) if "term" in parsed.values else self._terms.get(node)
        answer = parsed.values.get("answer")
        kind = "RequestVoteReply" if answer is None else "RequestPreVoteReply"
        reply = facts.Packet(kind, voter, node, term, is_positive=answer != "denied")
        return (facts.Received(reply),)

    def _rejected(self, node: NodeName | None, parsed: Parsed) -> _Told:
        candidate = self._address(parsed.values["who"])
        if node is None:
            return ()
        told: list[facts.Fact] = [
            facts.Received(facts.Packet("RequestVote", candidate, node, None)),
            facts.Sent(facts.Packet("RequestVoteReply", node, candidate, None, is_positive=False)),
        ]
        if "leader" in parsed.values:
            told.append(facts.LeaderKnown(self._address(parsed.values["leader"]), None))
        return tuple(told)

    def _unheard(self, kind: str) -> Callable[[NodeName | None, Parsed], _Told]:
        def sent(node: NodeName | None, parsed: Parsed) -> _Told:
            if node is None or "who" not in parsed.values:
                return ()
            receiver = self._address(parsed.values["who"])
            packet = facts.Packet(kind, node, receiver, self._terms.get(node))
            return (facts.Sent(packet, is_lost=True),)

        return sent

    def _configuration(self, _: NodeName | None, parsed: Parsed) -> _Told:
        voters = tuple(address for _, address in parsed.servers)
        return (facts.Configured(0, Members(voters)),) if voters else ()


WRITER: Final = "this node"
"""Who wrote a log that names nobody."""
_ROLES: Final[Mapping[str, Role]] = {
    "follower": "Follower",
    "candidate": "Candidate",
    "leader": "Leader",
}
