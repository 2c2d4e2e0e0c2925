"""A raftlog, understood line by line: shapes of lines, the sentences of entries, leak reports.
Nothing here takes more than linear time, whatever the line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, TypeAlias, final, get_args

import attrs

from . import facts
from .model import ROLE_NAMED, LogEnd, MarkKind, Members, NodeName, ReportedLeak, Status

# --- shapes of lines ---------------------------------------------------------------------------

ENTRY: Final = re.compile(r"(\d\d:\d\d):(\d\d(?:\.\d{1,9})?) \[(\w+)\] (.*)", re.ASCII)
"""An entry as it is written, to be matched at the beginning."""
LOOSE_ENTRY: Final = re.compile(
    r"(?<!\d)(\d{1,2}:\d\d):(\d\d(?:\.\d{1,9})?) {1,3}\[ ?([\w.-]{1,64}(?: \w{1,8})?) ?\] ?(.*)",
    re.ASCII,
)
"""An entry as it is found, anywhere in the line."""
_DAMAGED: Final = re.compile(r"\d:\d\d:\d\d\b|\d:\d\d\.\d{3,}|^\S{0,12}\[\w+\] ", re.ASCII)
_SWITCH: Final = re.compile(r"=== (?:CONT|NAME)\s+(\S+)$")
_EXACT_VERDICT: Final = re.compile(r"--- (PASS|FAIL|SKIP): (\S+)")
_NOISE: Final = re.compile(r"[^\w=-]{1,4}(?=[=-]{2})")
_INDENTED: Final = "    "
"""What stands so far inside is a note, or the verdict of a part of a test."""
_STATUSES: Final[tuple[Status, ...]] = get_args(Status)
_VERDICT_HEADS: Final = tuple(f"--- {status}" for status in _STATUSES)
_FENCE: Final = re.compile(r"\s*[`~]{3,}\w*\s*$")


@attrs.frozen
class LineHeader:
    """`=== RUN   name`."""

    name: str


@attrs.frozen
class Switch:
    """`=== CONT  name`: what follows belongs to this run, until it is another one's turn."""

    name: str


@attrs.frozen
class Verdict:
    """`--- PASS: name (0.31s)`."""

    status: Status
    name: str


def special(line: str) -> LineHeader | Switch | Verdict | None:
    """The line as a header or a verdict, if it is one."""
    if "=" not in line[:12] and "-" not in line[:40]:
        return None
    if line.startswith(_INDENTED):
        match = _EXACT_VERDICT.match(line.strip())
        return None if match is None else Verdict(_status(match[1]), match[2])
    line = _NOISE.sub("", line.strip(), count=1)
    if (match := _SWITCH.match(line)) is not None:
        return Switch(match[1])
    head, name = _head_and_name(line, "=", ("=== RUN",))
    if head is not None:
        return LineHeader(name)
    head, name = _head_and_name(line.replace(":", ": ", 1), "-", _VERDICT_HEADS)
    return None if head is None else Verdict(_status(head[-4:]), name.partition("(")[0])


def _head_and_name(line: str, sign: str, heads: tuple[str, ...]) -> tuple[str | None, str]:
    """Which of the heads the line begins with, give or take a character, and the next word."""
    words = line.split(maxsplit=4)
    for count in range(1, min(len(words), 4)):
        found = " ".join(words[:count]).rstrip(":;,.")
        if sign not in found:
            return None, ""
        for head in heads:
            if _differ(found, head) <= 1:
                return head, words[count]
    return None, ""


def _status(word: str) -> Status:
    return next(status for status in _STATUSES if status == word)


def looks_damaged(line: str) -> bool:
    """Whether this may have been an entry: it has what looks like a time, or begins with an id."""
    return _DAMAGED.search(line) is not None


def is_decoration(line: str) -> bool:
    """Whether the line says nothing: it is empty, or a fence around pasted text."""
    return not line or line.isspace() or _FENCE.match(line) is not None


def is_close(one: str, other: str) -> bool:
    """Whether two names are the same but for a character or two."""
    return _differ(one, other) <= 2


def _differ(one: str, other: str) -> int:
    """How many characters must be lost, gained or changed to turn one into the other; 3 is many."""
    if one == other:
        return 0
    if abs(len(one) - len(other)) > 2:
        return 3
    row = list(range(len(other) + 1))
    for position, character in enumerate(one, start=1):
        diagonal, row[0] = row[0], position
        for column, wanted in enumerate(other, start=1):
            diagonal, row[column] = (
                row[column],
                min(row[column] + 1, row[column - 1] + 1, diagonal + (character != wanted)),
            )
    return min(row[-1], 3)


# --- texts of entries --------------------------------------------------------------------------

_Rule: TypeAlias = Callable[[str, NodeName], facts.Fact | None]

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
_LAST = re.compile(r" LastLogIndex:(-?\d{1,18}) LastLogTerm:(-?\d{1,18})")
_PREVIOUS = re.compile(r" PrevLogIndex:(-?\d{1,18}) PrevLogTerm:(-?\d{1,18})")
_ENTRY_TERM = re.compile(r"\{[^{}]*?\bTerm:(\d{1,18})")
_LOG = re.compile(r"log=\[(?:\d+\.\.(\d{1,18}) term (\d{1,18}))?\]")
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
_FORMING = re.compile(r"the cluster is forming: waiting for (.+)")
_WAITED_FOR = re.compile(r"(?:^|\), )([\w.-]+) \(")
_TRANSFERS = re.compile(r"hands leadership over to ([\w.-]+)")
_UNITS: Final[Mapping[str, float]] = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}
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


def parse_text(text: str, node: NodeName) -> facts.Fact | None:
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
def parse_test_text(text: str) -> facts.Fact:
    """What the test's own entry says; what is not known is a remark."""
    if match := _DONE_TO.match(text):
        return facts.Marked(_MARKS[match[1].lower()], (match[2],))
    if match := _CRASHES.match(text):  # as the simulation says it
        return facts.Marked("crash", (match[1],))
    first, _, rest = text.partition(" ")
    match first.lower():
        case "partition":
            groups = tuple(tuple(group.split()) for group in rest.split("|"))
            members = tuple(sorted({node for group in groups for node in group}))
            return facts.Marked("partition", members, groups)
        case "heal":
            return facts.Marked("heal")
        case "drop" if rest.startswith("connection ") and len(rest.split()) == 3:
            return facts.Marked("drop", tuple(rest.split()[1:]))
        case "cut" | "mend" | "dead" as kind if ways := _ways(rest):
            members = tuple(sorted({node for way in ways for node in way}))
            return facts.Marked(kind, members, ways)
        case "propose" | "submit":
            return facts.Marked("propose")
        case _ if named := _NUMBER.match(text):
            return facts.Named(named[2], named[1])
        case _:
            return facts.Marked("test")


def _ways(text: str) -> tuple[tuple[NodeName, ...], ...]:
    """`0>1 2>1`: from whom to whom; nothing if it is something else."""
    ways = tuple(tuple(word.split(">")) for word in text.split())
    return ways if all(len(way) == 2 and all(way) for way in ways) else ()


@lru_cache(maxsize=TEXTS_REMEMBERED)
def _request(text: str, node: NodeName) -> facts.Fact | None:
    match = _REQUEST.match(text)
    if match is None or match[2] is None:
        return None
    asker = _ASKER.search(match[2])
    sender = None if asker is None else asker[1]
    term = None if match[3] is None else int(match[3])
    voted_for = None if match[4] in (None, "-1") else match[4]
    return facts.Received(_packet(match[1], sender, node, match[2]), term, voted_for)


@lru_cache(maxsize=TEXTS_REMEMBERED)
def _reply(text: str, node: NodeName) -> facts.Fact | None:
    if match := _REPLY_FROM.match(text):
        packet = facts.Packet("AppendEntriesReply", match[1], node, None, is_positive=not match[2])
        return facts.Received(packet)
    if (match := _REPLY.match(text)) is not None:
        return facts.Sent(_packet(f"{match[1]}Reply", node, None, match[2]))
    return None


def _packet(
    kind: str, sender: NodeName | None, receiver: NodeName | None, body: str | None
) -> facts.Packet:
    if body is None:
        return facts.Packet(kind, sender, receiver, None)
    term, answer = _OWN_TERM.match(body), None
    count = 0
    if kind == "AppendEntries":
        _, _, listed = body.partition("Entries:[")
        count = 0 if listed.startswith("]") else _count_entries(listed)
    elif kind.endswith("Reply"):
        answer = _ANSWER.search(body)
    return facts.Packet(
        kind,
        sender,
        receiver,
        None if term is None else int(term[1]),
        body,
        None if answer is None else answer[1] == "true",
        count,
        _log_end(kind, body, count),
    )


def _log_end(kind: str, body: str, count: int) -> LogEnd | None:
    """Where the log of a candidate ends, or that of who takes these entries."""
    if kind == "RequestVote":
        last = _LAST.search(body)
        return None if last is None else LogEnd(int(last[1]), int(last[2]))
    previous = _PREVIOUS.search(body) if kind == "AppendEntries" else None
    if previous is None:
        return None
    terms = _ENTRY_TERM.findall(body, previous.end()) if count else ()
    return LogEnd(int(previous[1]) + count, int(terms[-1] if terms else previous[2]))


def _count_entries(listed: str) -> int:
    """`{Term:1 Index:4} {Term:1 Index:5} …+7] LeaderCommit:3}` has nine entries."""
    listed = listed[: listed.rfind("]")]
    _, more, count = listed.partition("…+")
    return listed.count("{") + (int(count) if more and count.isdigit() else 0)


def _becomes(text: str, _: NodeName) -> facts.Fact | None:
    match = _BECOMES.match(text)
    if match is None:
        return None
    term = _TERM.search(text) if match[1] == "Leader" else _TERM.search(text.partition(";")[0])
    log = _LOG.search(text)
    log_end = None if log is None else LogEnd(int(log[1] or 0), int(log[2] or 0))
    return facts.Became(
        ROLE_NAMED[match[1]], None if term is None else int(term[1]), log_end=log_end
    )


def _election(text: str, _: NodeName) -> facts.Fact | None:
    match = _TIMER.match(text)
    if match is None:
        return None
    try:
        return facts.TimerStarted(round(float(match[1]) * _UNITS[match[2]], 9), int(match[3]))
    except ValueError:
        return None  # 1.2.3ms


def _matching(
    pattern: re.Pattern[str], fact: Callable[[re.Match[str], NodeName], facts.Fact]
) -> _Rule:
    """The rule of a sentence that one pattern tells all of."""

    def rule(text: str, node: NodeName) -> facts.Fact | None:
        match = pattern.match(text)
        return None if match is None else fact(match, node)

    return rule


_commits = _matching(_COMMITS, lambda match, _: facts.Committed(int(match[1])))


def _dots(text: str, node: NodeName) -> facts.Fact | None:
    if text.startswith("... because "):
        return facts.Because(text.removeprefix("... because "))
    return _commits(text, node) or _reply(text, node)


def _configuration(text: str, _: NodeName) -> facts.Fact | None:
    match = _CONFIGURATION.match(text)
    if match is None:
        return None
    named = {name: tuple(nodes.split()) for name, nodes in _MEMBERS.findall(match[2])}
    if not named.get("voters"):
        return None
    members = Members(named["voters"], named.get("outgoing", ()), named.get("learners", ()))
    return facts.Configured(int(match[1]), members)


_REQUESTS: Final = (
    *("RequestVote:", "RequestPreVote:", "AppendEntries:", "InstallSnapshot:", "TimeoutNow:"),
    *("RequestReadIndex:", "ResultsCheck:"),
)
_remembering = lru_cache(maxsize=TEXTS_REMEMBERED)
_RULES: Final[Mapping[str, _Rule]] = {
    "sending": _remembering(
        _matching(
            _SENDING,
            lambda match, node: facts.Sent(_packet(match[1], node, match[2], match[3])),
        )
    ),
    "received": _remembering(
        _matching(
            _RECEIVED,
            lambda match, node: facts.Received(_packet(match[1], None, node, match[2])),
        )
    ),
    "AppendEntries": _reply,
    "...": _dots,
    "becomes": _becomes,
    "election": _election,
    "in": _matching(
        _BAILS, lambda match, _: facts.TimerBailed(None if match[1] is None else int(match[1]))
    ),
    "commit": _commits,
    "leader": _commits,
    "link": _matching(_LINK, lambda match, _: facts.LinkChanged(match[1], match[2] == "up")),
    "listening": lambda _, __: facts.Appeared(),
    "configuration": _configuration,
    "the": _matching(
        _FORMING, lambda match, _: facts.Forming(tuple(_WAITED_FOR.findall(match[1])))
    ),
    "hands": _matching(_TRANSFERS, lambda match, _: facts.TransferStarted(match[1])),
    **dict.fromkeys(_REQUESTS, _request),
}


# --- leak reports, of the Go project, of goleak, and ours --------------------------------------

_LEAKTEST: Final = re.compile(r"leaktest: leaked goroutine: (goroutine \d+(?: \[[^\]]*\])?)")
_GOLEAK: Final = re.compile(r"\[?(Goroutine \d+ in state [^,]+), with (\S+) on top of the stack")
_OURS: Final = re.compile(r"^\W*\d+\. ([a-z][a-z ]*: .+)$")
_OURS_BEGINS: Final = re.compile(r"\b\d+ leaks?: started in here")
_OURS_ENDS: Final = re.compile(r"^\W*(?:what to do:|… and \d+ more)")
_STARTED: Final = re.compile(r"^\W*started at\s+(.+)$")
_FUNCTION: Final = re.compile(r"^\s*(\S+\.\S*)\(")
_PLACE: Final = re.compile(r"^\s*(\S+\.go:\d+)")
_CREATED: Final = re.compile(r"^\s*created by (\S+)")
STACK_LINES_MAX: Final = 64
"""Lines of one leak's stack that are looked at."""


@final
@attrs.define
class LeakCollector:
    """Fed with every line that is no entry."""

    leaks: list[ReportedLeak] = attrs.Factory(list)
    _open: ReportedLeak | None = None
    _lines_left: int = 0
    _is_in_ours: bool = False
    _awaits_creator_place: bool = False

    def take(self, line: int, text: str) -> bool:
        """Whether the line belongs to a leak report."""
        if "leaktest:" in text and (match := _LEAKTEST.search(text)):
            self._begin(ReportedLeak(line, match[1], None))
            return True
        if "on top of the stack" in text and (match := _GOLEAK.search(text)):
            self._begin(ReportedLeak(line, match[1], match[2]))
            return True
        if _OURS_BEGINS.search(text):
            self.close()
            self._is_in_ours = True
            return True
        if self._is_in_ours:
            return self._take_ours(line, text)
        if self._open is not None:
            return self._take_stack(text)
        return "leaktest:" in text

    def close(self) -> None:
        """Something else begins: the report is over."""
        self._is_in_ours = False
        leak, self._open = self._open, None
        if leak is None:
            return
        known = {(other.what, other.place, other.started_at) for other in self.leaks}
        if (leak.what, leak.place, leak.started_at) not in known:
            self.leaks.append(leak)

    def _begin(self, leak: ReportedLeak) -> None:
        is_in_ours = self._is_in_ours
        self.close()
        self._open, self._lines_left = leak, STACK_LINES_MAX
        self._is_in_ours = is_in_ours
        self._awaits_creator_place = False

    def _take_ours(self, line: int, text: str) -> bool:
        if match := _OURS.match(text):
            self._begin(ReportedLeak(line, match[1], None))
        elif self._open is not None and (match := _STARTED.match(text)):
            place = None if match[1] == "unknown" else match[1]
            self._open = attrs.evolve(self._open, place=place, started_at=place)
        elif _OURS_ENDS.match(text):
            self.close()
        return True

    def _take_stack(self, text: str) -> bool:
        """Function and place of the top of a goroutine's stack, then who created it."""
        leak, self._lines_left = self._open, self._lines_left - 1
        if leak is None or self._lines_left < 0:
            self.close()
            return False
        if match := _CREATED.match(text):
            self._open = attrs.evolve(leak, started_at=match[1])
            self._awaits_creator_place = True
        elif match := _PLACE.match(text):
            if self._awaits_creator_place:
                self._awaits_creator_place = False
                self._open = attrs.evolve(leak, started_at=f"{leak.started_at} ({_file(match[1])})")
            elif leak.place is None or not leak.place.endswith(")"):
                self._open = attrs.evolve(leak, place=_with_file(leak.place, match[1]))
        elif match := _FUNCTION.match(text):
            if leak.place is None:
                self._open = attrs.evolve(leak, place=match[1])
        else:
            self.close()
            return False
        return True


def _with_file(function: str | None, place: str) -> str:
    return _file(place) if function is None else f"{function} ({_file(place)})"


def _file(place: str) -> str:
    """`raft.go:343` of `/home/…/part1/raft.go:343`: the directories are somebody's own."""
    return place.rpartition("/")[2]
