"""The text of a raftlog's entry, understood: the Go project's sentences and ours.

Rules of this file:

* One table: the first word of a text decides which pattern may fit. What fits none is an entry
  all the same; it only says nothing to us.
* What an editor printed over the end of a line does not matter: patterns look at the beginning.
* A text is parsed once: the same text gives the same fact.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

from .facts import (
    Appeared,
    Became,
    Because,
    Committed,
    Configured,
    Fact,
    HandsOver,
    LinkChanged,
    Marked,
    Named,
    Packet,
    Received,
    Sent,
    TimerBailed,
    TimerStarted,
)
from .model import MarkKind, Members, NodeName, Role

TEXTS_REMEMBERED: Final = 1 << 14
"""Most log lines repeat an earlier text: heartbeats do."""

_BODY: Final = r"(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})?"
_SENDING = re.compile(rf"sending (\w+) to ([\w.-]+): (?:ni=-?\d+, )?(?:args=)?{_BODY}")
_REQUEST = re.compile(rf"(\w+): {_BODY}(?: \[currentTerm=(\d+), votedFor=([\w.-]+))?", re.ASCII)
_REPLY = re.compile(rf"(?:\.\.\. )?(\w+) reply: &?{_BODY}")
_REPLY_FROM = re.compile(r"AppendEntries reply from ([\w.-]+) (!?)success")
_RECEIVED = re.compile(rf"received (\w+Reply) &?{_BODY}")
_OWN_TERM = re.compile(r"\{Term:(\d+)")
_ASKER = re.compile(r" (?:CandidateId|LeaderId):([\w.-]+)")
_ANSWER = re.compile(r" (?:VoteGranted|Success):(true|false)")
_BECOMES = re.compile(r"becomes (PreCandidate|Candidate|Follower|Leader|Dead)\b")
_TERM = re.compile(r"[tT]erm=(\d+)")
_TIMER = re.compile(r"election timer started \(([\d.]+)(µs|us|ms|s)\), term=(\d+)")
_BAILS = re.compile(r"in election timer (?:term changed from (\d+) to|state=)")
_COMMITS = re.compile(
    r"(?:commit index advances to |\.\.\. setting commitIndex=|leader sets commitIndex := )(\d+)"
)
_LINK = re.compile(r"link to ([\w.-]+) (up|down)")
_NUMBER = re.compile(r"node \"(.*)\" is (\d+)$")
_DONE_TO = re.compile(
    r"(disconnect|reconnect|crash|restart|kill|leave|cancel|join)\w*:? +"
    r"(?:(?:node|peer|server|leader|follower) +)?([\w.-]+)",
    re.IGNORECASE,
)
_CRASHES = re.compile(r"([\w.-]+) crashes\b")
_CONFIGURATION = re.compile(r"configuration (\d+):(.*)")
_MEMBERS = re.compile(r"(voters|outgoing|learners)((?: [\w.-]+)+)")
_HANDS_OVER = re.compile(r"hands leadership over to ([\w.-]+)")
_UNITS: Final[Mapping[str, float]] = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}
_ROLES: Final[Mapping[str, Role]] = {
    "PreCandidate": "PreCandidate",
    "Candidate": "Candidate",
    "Follower": "Follower",
    "Leader": "Leader",
    "Dead": "Dead",
}
_MARKS: Final[Mapping[str, MarkKind]] = {
    "disconnect": "disconnect",
    "reconnect": "reconnect",
    "crash": "crash",
    "restart": "restart",
    "kill": "crash",
    "leave": "leave",
    "cancel": "leave",
    "join": "join",
}


def parse_text(text: str, node: NodeName) -> Fact | None:
    """What a node's entry says; None if it is no sentence we know.

    Args:
        text: what follows the time and the id.
        node: who wrote it.
    """
    rule = _RULES.get(text[: text.find(" ")] if " " in text else text)
    if rule is not None:
        return rule(text, node)
    return None


@lru_cache(maxsize=TEXTS_REMEMBERED)
def parse_test_text(text: str) -> Fact:
    """What the test's own entry says; what is not known is a remark."""
    if match := _DONE_TO.match(text):
        return Marked(_MARKS[match[1].lower()], (match[2],))
    if match := _CRASHES.match(text):  # as the simulation says it
        return Marked("crash", (match[1],))
    first, _, rest = text.partition(" ")
    match first.lower():
        case "partition":
            groups = tuple(tuple(group.split()) for group in rest.split("|"))
            members = tuple(sorted({node for group in groups for node in group}))
            return Marked("partition", members, groups)
        case "heal":
            return Marked("heal")
        case "drop" if rest.startswith("connection ") and len(rest.split()) == 3:
            return Marked("drop", tuple(rest.split()[1:]))
        case "cut" | "mend" as kind if ways := _ways(rest):
            members = tuple(sorted({node for way in ways for node in way}))
            return Marked(kind, members, ways)
        case "propose" | "submit":
            return Marked("propose")
        case _ if named := _NUMBER.match(text):
            return Named(named[2], named[1])
        case _:
            return Marked("test")


def _ways(text: str) -> tuple[tuple[NodeName, ...], ...]:
    """`0>1 2>1`: from whom to whom; nothing if it is something else."""
    ways = tuple(tuple(word.split(">")) for word in text.split())
    return ways if all(len(way) == 2 and all(way) for way in ways) else ()


# --- sentences ------------------------------------------------------------------------------


@lru_cache(maxsize=TEXTS_REMEMBERED)
def _sending(text: str, node: NodeName) -> Fact | None:
    match = _SENDING.match(text)
    if match is None:
        return None
    return Sent(_packet(match[1], node, match[2], match[3]))


@lru_cache(maxsize=TEXTS_REMEMBERED)
def _request(text: str, node: NodeName) -> Fact | None:
    match = _REQUEST.match(text)
    if match is None or match[2] is None:
        return None
    asker = _ASKER.search(match[2])
    sender = None if asker is None else asker[1]
    term = None if match[3] is None else int(match[3])
    voted_for = None if match[4] in (None, "-1") else match[4]
    return Received(_packet(match[1], sender, node, match[2]), term, voted_for)


@lru_cache(maxsize=TEXTS_REMEMBERED)
def _reply(text: str, node: NodeName) -> Fact | None:
    if match := _REPLY_FROM.match(text):
        packet = Packet("AppendEntriesReply", match[1], node, None, is_positive=not match[2])
        return Received(packet)
    if (match := _REPLY.match(text)) is not None:
        return Sent(_packet(f"{match[1]}Reply", node, None, match[2]))
    return None


@lru_cache(maxsize=TEXTS_REMEMBERED)
def _received(text: str, node: NodeName) -> Fact | None:
    match = _RECEIVED.match(text)
    return None if match is None else Received(_packet(match[1], None, node, match[2]))


def _packet(
    kind: str, sender: NodeName | None, receiver: NodeName | None, body: str | None
) -> Packet:
    if body is None:
        return Packet(kind, sender, receiver, None)
    term, answer = _OWN_TERM.match(body), None
    count = 0
    if kind == "AppendEntries":
        _, _, listed = body.partition("Entries:[")
        count = 0 if listed.startswith("]") else _count_entries(listed)
    elif kind.endswith("Reply"):
        answer = _ANSWER.search(body)
    return Packet(
        kind,
        sender,
        receiver,
        None if term is None else int(term[1]),
        body,
        None if answer is None else answer[1] == "true",
        count,
    )


def _count_entries(listed: str) -> int:
    """`{Term:1 Index:4} {Term:1 Index:5} …+7] LeaderCommit:3}` has nine entries."""
    listed = listed[: listed.rfind("]")]
    _, more, count = listed.partition("…+")
    return listed.count("{") + (int(count) if more and count.isdigit() else 0)


def _becomes(text: str, _: NodeName) -> Fact | None:
    match = _BECOMES.match(text)
    if match is None:
        return None
    term = _TERM.search(text) if match[1] == "Leader" else _TERM.search(text.partition(";")[0])
    return Became(_ROLES[match[1]], None if term is None else int(term[1]))


def _election(text: str, _: NodeName) -> Fact | None:
    match = _TIMER.match(text)
    if match is None:
        return None
    try:
        return TimerStarted(round(float(match[1]) * _UNITS[match[2]], 9), int(match[3]))
    except ValueError:
        return None  # 1.2.3ms


def _in_timer(text: str, _: NodeName) -> Fact | None:
    match = _BAILS.match(text)
    if match is None:
        return None
    return TimerBailed(None if match[1] is None else int(match[1]))


def _commits(text: str, _: NodeName) -> Fact | None:
    match = _COMMITS.match(text)
    return None if match is None else Committed(int(match[1]))


def _dots(text: str, node: NodeName) -> Fact | None:
    if text.startswith("... because "):
        return Because(text.removeprefix("... because "))
    return _commits(text, node) or _reply(text, node)


def _link(text: str, _: NodeName) -> Fact | None:
    match = _LINK.match(text)
    return None if match is None else LinkChanged(match[1], match[2] == "up")


def _configuration(text: str, _: NodeName) -> Fact | None:
    match = _CONFIGURATION.match(text)
    if match is None:
        return None
    named = {name: tuple(nodes.split()) for name, nodes in _MEMBERS.findall(match[2])}
    if not named.get("voters"):
        return None
    members = Members(named["voters"], named.get("outgoing", ()), named.get("learners", ()))
    return Configured(int(match[1]), members)


def _hands_over(text: str, _: NodeName) -> Fact | None:
    match = _HANDS_OVER.match(text)
    return None if match is None else HandsOver(match[1])


def _listening(_: str, __: NodeName) -> Fact | None:
    return Appeared()


_REQUESTS: Final = (
    *("RequestVote:", "RequestPreVote:", "AppendEntries:", "InstallSnapshot:", "TimeoutNow:"),
    "RequestReadIndex:",
)
_RULES: Final[Mapping[str, Callable[[str, NodeName], Fact | None]]] = {
    "sending": _sending,
    "received": _received,
    "AppendEntries": _reply,
    "...": _dots,
    "becomes": _becomes,
    "election": _election,
    "in": _in_timer,
    "commit": _commits,
    "leader": _commits,
    "link": _link,
    "listening": _listening,
    "configuration": _configuration,
    "hands": _hands_over,
    **dict.fromkeys(_REQUESTS, _request),
}
