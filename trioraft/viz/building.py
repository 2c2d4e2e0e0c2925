"""From the facts of a log, in its order, to one run of the model. Nothing here judges: a log that
contradicts itself is told as it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias, final

import attrs

from . import facts
from .cluster import Connectivity
from .mailbox import Draft, Mailbox
from .model import (
    BrokenLine,
    CommitPoint,
    Fate,
    FormingPoint,
    LogEnd,
    LogEntry,
    Mark,
    MarkKind,
    Members,
    MembersPoint,
    NodeName,
    NodeTrace,
    ReportedLeak,
    Role,
    RoleSpan,
    Run,
    Status,
    Term,
    Timer,
    TimerEnd,
)


@attrs.frozen
class Start:
    """A timer started."""

    at_s: float
    entry: int
    timeout_s: float
    term: int


@attrs.frozen
class Bail:
    """A timer noticed that it is of no use."""

    at_s: float
    entry: int
    from_term: int | None


@attrs.frozen
class TimerExpiry:
    """An election began."""

    at_s: float
    entry: int


@attrs.frozen
class Stop:
    """The node became leader, or died."""

    at_s: float
    entry: int


@attrs.frozen
class Restart:
    """Something was heard that restarts timers: a leader, a candidate that got the vote."""

    at_s: float


TimerEvent: TypeAlias = Start | Bail | TimerExpiry | Stop | Restart


@attrs.define(eq=False)
class _Running:
    start: Start
    base_s: float

    @property
    def due_s(self) -> float:
        return self.base_s + self.start.timeout_s

    def ended(self, node: NodeName, at_s: float, entry: int | None, end: TimerEnd) -> Timer:
        start = self.start
        return Timer(
            node,
            start.term,
            start.at_s,
            max(at_s, start.at_s),
            start.timeout_s,
            end,
            start.entry,
            entry,
        )


def single_timers(node: NodeName, events: Iterable[TimerEvent], end_s: float) -> list[Timer]:
    """The timers of a node that has one at a time."""
    timers: list[Timer] = []
    running: _Running | None = None
    for event in events:
        if running is not None and isinstance(event, Start | TimerExpiry | Stop):
            how: TimerEnd = "replaced"
            if isinstance(event, TimerExpiry):
                how = "expired"
            elif isinstance(event, Stop):
                how = "stopped"
            timers.append(running.ended(node, event.at_s, event.entry, how))
            running = None
        if isinstance(event, Start):
            running = _Running(event, event.at_s)
    if running is not None:
        timers.append(running.ended(node, end_s, None, "open"))
    return timers


def goroutine_timers(node: NodeName, events: Iterable[TimerEvent], end_s: float) -> list[Timer]:
    """The timers of a node where each is on its own, as in the Go project: each is a goroutine that
    lives until it expires or notices that it is of no use. Its logs say "bailing out", ours never
    do. Of several, the one that expires is the one that is due."""
    timers: list[Timer] = []
    running: list[_Running] = []
    stopped: Stop | None = None
    for event in events:
        match event:
            case Start():
                running.append(_Running(event, event.at_s))
                stopped = None
            case Restart():
                for timer in running:
                    timer.base_s = max(timer.base_s, event.at_s)
            case Bail() if (bailed := _who_bails(running, event)) is not None:
                running.remove(bailed)
                timers.append(bailed.ended(node, event.at_s, event.entry, "bailed out"))
            case TimerExpiry() if running:
                expired = min(running, key=lambda timer: abs(timer.due_s - event.at_s))
                running.remove(expired)
                timers.append(expired.ended(node, event.at_s, event.entry, "expired"))
            case Stop():
                stopped = event
            case _:
                pass
    for timer in running:
        if stopped is None:
            timers.append(timer.ended(node, end_s, None, "open"))
        else:
            timers.append(timer.ended(node, stopped.at_s, stopped.entry, "stopped"))
    return sorted(timers, key=lambda timer: (timer.start_s, timer.start_entry))


def _who_bails(running: list[_Running], bail: Bail) -> _Running | None:
    if bail.from_term is None:
        return running[0] if running else None
    return next((timer for timer in running if timer.start.term == bail.from_term), None)


BROKEN_KEPT_MAX: Final = 1000
"""Lines that could not be read, of which the text is kept; the others are counted."""
BROKEN_CHARS_MAX: Final = 500
LOST_AFTER_S: Final = 0.02
"""A message sent so shortly before the end of the log may still have been on its way."""
UNANSWERED_MAX: Final = 64
"""Requests of one kind that a node may still answer; nobody waits for older ones."""
ALL: Final = "all"
"""`Kill all`."""

_Unanswered: TypeAlias = dict[str, list[Draft]]


@attrs.define
class _Span:
    role: Role
    term: int
    start_s: float
    entry: int | None
    reason: str | None = None
    is_guess: bool = False
    log_end: LogEnd | None = None


@attrs.define
class _Node:
    name: NodeName
    spans: list[_Span] = attrs.Factory(list)
    commits: list[CommitPoint] = attrs.Factory(list)
    timer_events: list[TimerEvent] = attrs.Factory(list)
    unanswered: _Unanswered = attrs.Factory(dict)
    has_facts: bool = False
    """Whether it said anything that only a node of a cluster says."""

    @property
    def now(self) -> _Span:
        return self.spans[-1]


@final
class RunBuilder:
    """Collects one run.

    Args:
        name: of the run.
        source: the file it comes from.
        start_line: where it begins.
    """

    def __init__(self, name: str, source: str, start_line: int) -> None:
        self.name = name
        self.status: Status | None = None
        self.leaks: list[ReportedLeak] = []
        self.has_silent_nodes = False  # nodes may be there whose own log is not
        self.sources: tuple[str, ...] = ()
        self.unknowns: tuple[str, ...] = ()
        self._source = source
        self._start_line = start_line
        self._entries: list[LogEntry] = []
        self._broken: list[BrokenLine] = []
        self._unparsed = 0
        self._nodes: dict[NodeName, _Node] = {}
        self._names: dict[NodeName, str] = {}
        self._silent: set[NodeName] = set()
        self._terms: dict[int, Term] = {}
        self._messages: list[Draft] = []
        self._kinds_received: set[str] = set()
        self._mailbox = Mailbox()
        self._network = Connectivity()
        self._marks: list[Mark] = []
        self._configured: dict[NodeName, facts.Configured] = {}
        self._members: list[MembersPoint] = []
        self._forming: list[FormingPoint] = []
        self._has_goroutines = False
        self._end_s = 0.0
        self._settled_s = 0.0  # what was sent before has arrived, or never will

    @property
    def has_entries(self) -> bool:
        """Whether anybody said anything yet."""
        return bool(self._entries)

    def add(
        self,
        line: int,
        at_s: float,
        node: NodeName | None,
        text: str,
        fact: facts.Fact | None,
        source: int = 0,
    ) -> None:
        """Take the next entry.

        Args:
            line: where it stands in the file.
            at_s: when, in seconds since the first entry.
            node: who says so; None: the test.
            text: what it says.
            fact: the same, understood; None if it is not.
            source: which of `sources` it stands in.
        """
        at_s = round(max(at_s, 0.0), 6)  # microseconds: floats of a time of day have dust
        self._end_s = max(self._end_s, at_s)
        index = len(self._entries)
        self._entries.append(LogEntry(line, at_s, node, text, source))
        if node is None:
            self._on_test(fact, at_s, text, index)
            return
        who = self._nodes.get(node)
        if who is None:
            who = self._nodes[node] = _Node(node)
            who.spans.append(_first_span(fact, at_s))
        rule = _RULES.get(type(fact))
        if rule is not None:
            who.has_facts = True
            rule(self, who, fact, at_s, index)

    def also(self, fact: facts.Fact) -> None:
        """Take what the last entry says besides."""
        index = len(self._entries) - 1
        entry = self._entries[index]
        rule = _RULES.get(type(fact))
        if rule is not None and entry.node is not None:
            rule(self, self._nodes[entry.node], fact, entry.at_s, index)

    def name_nodes(self, names: Mapping[NodeName, str]) -> None:
        """Give nodes their full names."""
        self._names.update(names)

    def add_broken(self, line: int, text: str) -> None:
        """Take a line that is nothing we know."""
        self._unparsed += 1
        if len(self._broken) < BROKEN_KEPT_MAX:
            self._broken.append(BrokenLine(line, text[:BROKEN_CHARS_MAX]))

    def build(self) -> Run:
        """The run, without statistics and findings."""
        if self.has_silent_nodes:
            self._add_silent()
        else:
            self._dismiss_bystanders()
        names = sorted(self._nodes, key=_by_number)
        self._settled_s = self._end_s - max(LOST_AFTER_S, 3 * self._mailbox.usual_s())
        return Run(
            name=self.name,
            status=self.status,
            source=self._source,
            start_line=self._start_line,
            duration_s=self._end_s,
            nodes=tuple(self._built_node(self._nodes[name]) for name in names),
            entries=tuple(self._entries),
            broken=tuple(self._broken),
            unparsed=self._unparsed,
            terms=tuple(self._terms[number] for number in sorted(self._terms)),
            messages=tuple(draft.finished(self._fate(draft)) for draft in self._messages),
            marks=tuple(self._marks),
            leaks=tuple(self.leaks),
            configurations=tuple(self._members),
            forming=tuple(self._forming),
            sources=self.sources,
            unknowns=self.unknowns,
        )

    # -- messages --------------------------------------------------------------------------

    def _on_sent(self, who: _Node, fact: facts.Sent, at_s: float, index: int) -> None:
        packet = fact.packet
        request = _answered(who, packet) if packet.is_reply else None
        receiver = packet.receiver
        if receiver is None and request is not None:
            receiver = request.sender
        draft = Draft(len(self._messages), packet, who.name, receiver, at_s, sent_entry=index)
        draft.is_cut = fact.is_lost
        if request is not None:
            draft.request, request.reply = request, draft
        if receiver is not None:
            draft.is_cut = draft.is_cut or not self._network.can_send(who.name, receiver)
        self._messages.append(draft)
        self._mailbox.put(draft)
        if packet.kind == "AppendEntries" and packet.term:
            self._heard_leader(packet.term, who.name, at_s)
        elif packet.kind == "RequestVoteReply" and packet.is_positive:
            who.timer_events.append(Restart(at_s))

    def _on_received(self, who: _Node, fact: facts.Received, at_s: float, index: int) -> None:
        packet = fact.packet
        draft = self._mailbox.take(packet, at_s)
        if draft is None:
            draft = Draft(len(self._messages), packet, packet.sender, who.name)
            self._messages.append(draft)
        draft.received_s, draft.received_entry = at_s, index
        if fact.term == packet.term:
            draft.receiver_vote = fact.voted_for  # a vote of an older term says nothing of this one
        self._kinds_received.add(packet.kind)
        if not packet.is_reply:
            waiting = who.unanswered.setdefault(packet.kind, [])
            waiting.append(draft)
            if len(waiting) > UNANSWERED_MAX:
                del waiting[0]
        if packet.kind == "AppendEntries":
            who.timer_events.append(Restart(at_s))

    def _fate(self, draft: Draft) -> Fate:
        if draft.received_s is not None:
            return "delivered"
        if draft.is_cut:
            return "lost"
        if draft.receiver in self._silent:
            return "unknown"  # its log was not given: nothing would say that it arrived
        sent_s = self._end_s if draft.sent_s is None else draft.sent_s
        if draft.packet.kind in self._kinds_received and sent_s < self._settled_s:
            return "lost"
        return "unknown"

    # -- roles and timers --------------------------------------------------------------------

    def _on_leader_known(
        self, who: _Node, fact: facts.LeaderKnown, at_s: float, index: int
    ) -> None:
        term = fact.term or (who.now.term if who.spans else 0)
        if term:
            self._heard_leader(term, fact.leader, at_s)

    def _on_role(self, who: _Node, fact: facts.Became, at_s: float, index: int) -> None:
        term = who.now.term if fact.term is None else fact.term
        who.spans.append(_Span(fact.role, term, at_s, index, fact.reason, log_end=fact.log_end))
        match fact.role:
            case "PreCandidate":
                who.timer_events.append(TimerExpiry(at_s, index))
            case "Candidate":
                who.timer_events.append(TimerExpiry(at_s, index))
                known = self._term(term, at_s)
                if who.name not in known.candidates:
                    candidates = (*known.candidates, who.name)
                    self._terms[term] = attrs.evolve(known, candidates=candidates)
            case "Leader":
                who.timer_events.append(Stop(at_s, index))
                self._lead(term, who.name, at_s)
                known = self._terms[term]
                if known.won_s is None:
                    self._terms[term] = attrs.evolve(known, won_s=at_s)
            case "Dead":
                who.timer_events.append(Stop(at_s, index))
                who.unanswered.clear()
            case "Follower":
                who.timer_events.append(Restart(at_s))

    def _on_timer(self, who: _Node, fact: facts.TimerStarted, at_s: float, index: int) -> None:
        self._rise(who, at_s, index, fact.term)
        if who.now.role == "Follower" and who.now.term != fact.term:
            if who.now.is_guess:
                who.now.term = fact.term
            elif fact.term > who.now.term:
                who.spans.append(_Span("Follower", fact.term, at_s, index))
        who.timer_events.append(Start(at_s, index, fact.timeout_s, fact.term))

    def _on_bail(self, who: _Node, fact: facts.TimerBailed, at_s: float, index: int) -> None:
        self._has_goroutines = True
        who.timer_events.append(Bail(at_s, index, fact.from_term))

    def _on_reason(self, who: _Node, fact: facts.Because, _: float, __: int) -> None:
        if who.now.reason is None and who.now.entry is not None:
            who.now.reason = fact.reason

    def _on_commit(self, who: _Node, fact: facts.Committed, at_s: float, index: int) -> None:
        who.commits.append(CommitPoint(at_s, fact.commit_index, index))

    def _on_appearance(self, who: _Node, _: facts.Appeared, at_s: float, index: int) -> None:
        self._rise(who, at_s, index, who.now.term)

    def _fall(self, who: _Node, at_s: float, index: int) -> None:
        """A node that is crashed is dead, whether it has time to say so or not."""
        if who.now.role != "Dead":
            who.spans.append(_Span("Dead", who.now.term, at_s, index))
            who.timer_events.append(Stop(at_s, index))
            who.unanswered.clear()

    def _rise(self, who: _Node, at_s: float, index: int, term: int) -> None:
        """A dead node that listens, or starts its timer, lives again, as a follower."""
        if who.now.role == "Dead":
            who.spans.append(_Span("Follower", term, at_s, index, is_guess=True))

    def _term(self, number: int, at_s: float) -> Term:
        return self._terms.setdefault(number, Term(number, None, (), at_s))

    def _lead(self, number: int, leader: NodeName, at_s: float) -> None:
        known = self._term(number, at_s)
        if leader not in known.leaders:
            self._terms[number] = attrs.evolve(
                known, leader=known.leader or leader, leaders=(*known.leaders, leader)
            )

    def _heard_leader(self, number: int, leader: NodeName, at_s: float) -> None:
        """Only a leader sends entries: the log need not show its election."""
        if not self._term(number, at_s).leaders:
            self._lead(number, leader, at_s)

    # -- the test ----------------------------------------------------------------------------

    def _on_test(self, fact: facts.Fact | None, at_s: float, text: str, index: int) -> None:
        match fact:
            case facts.Named():
                self._names[fact.number] = fact.full_name
            case facts.Marked():
                nodes = fact.nodes
                if nodes == (ALL,):
                    nodes = tuple(sorted(self._nodes, key=_by_number))
                nodes = self._numbered(nodes)
                is_known = fact.kind == "join" or all(node in self._nodes for node in nodes)
                known = fact.kind if is_known else "test"
                groups = tuple(self._numbered(group) for group in fact.groups)
                self._mark(Mark(known, at_s, nodes, text, index, groups))
                if known == "crash":
                    for name in nodes:
                        self._fall(self._nodes[name], at_s, index)
            case _:
                pass

    def _numbered(self, names: tuple[NodeName, ...]) -> tuple[NodeName, ...]:
        """The test may use the names that it has said the numbers of."""
        if not self._names or all(name in self._nodes for name in names):
            return names
        number_of = {name: number for number, name in self._names.items()}
        return tuple(name if name in self._nodes else number_of.get(name, name) for name in names)

    def _on_configuration(
        self, who: _Node, fact: facts.Configured, at_s: float, index: int
    ) -> None:
        """The latest configuration that any node has counts: a leader is the first to have it, and
        one that is truncated everywhere is gone."""
        self._configured[who.name] = fact
        members: Members = max(self._configured.values(), key=lambda known: known.index).members
        if self._members and self._members[-1].members == members:
            return
        self._members.append(MembersPoint(at_s, members, index))
        self._mark(Mark("configuration", at_s, (), self._entries[index].text, index))

    def _on_forming(self, _: _Node, fact: facts.Forming, at_s: float, index: int) -> None:
        self._forming.append(FormingPoint(at_s, fact.waiting_for, index))

    def _on_transfer(
        self, who: _Node, fact: facts.TransferStarted, at_s: float, index: int
    ) -> None:
        text = self._entries[index].text
        self._mark(Mark("transfer", at_s, (who.name, fact.peer), text, index))

    def _on_link(self, who: _Node, fact: facts.LinkChanged, at_s: float, index: int) -> None:
        kind: MarkKind = "link up" if fact.is_up else "link down"
        text = self._entries[index].text
        self._mark(Mark(kind, at_s, (who.name, fact.peer), text, index))

    def _mark(self, mark: Mark) -> None:
        self._marks.append(mark)
        after = self._network.after(mark)
        if after != self._network:
            self._network = after
            self._mailbox.cut(lambda sender, receiver: not after.can_send(sender, receiver))

    # -- building ------------------------------------------------------------------------------

    def _dismiss_bystanders(self) -> None:
        """Clients and services log beside the nodes; what they say is kept as the test's."""
        if not any(node.has_facts for node in self._nodes.values()):
            return
        bystanders = {
            name for name, node in self._nodes.items() if not node.has_facts and not name.isdigit()
        }
        if not bystanders:
            return
        for name in bystanders:
            del self._nodes[name]
        for index, entry in enumerate(self._entries):
            if entry.node in bystanders:
                text = f"[{entry.node}] {entry.text}"
                self._entries[index] = attrs.evolve(entry, node=None, text=text)

    def _add_silent(self) -> None:
        """Those that are members, or sent or were sent something: without them, a majority would be
        another one."""
        names = {name for draft in self._messages for name in (draft.sender, draft.receiver)}
        if self._members:
            names |= set(self._members[-1].members.voters)
        for name in names - {None}:
            if name not in self._nodes:
                self._nodes[str(name)] = _Node(str(name))
                self._silent.add(str(name))

    def _built_node(self, node: _Node) -> NodeTrace:
        timers_of = goroutine_timers if self._has_goroutines else single_timers
        return NodeTrace(
            node.name,
            tuple(self._built_spans(node)),
            tuple(node.commits),
            tuple(timers_of(node.name, node.timer_events, self._end_s)),
            self._names.get(node.name),
        )

    def _built_spans(self, node: _Node) -> list[RoleSpan]:
        spans: list[RoleSpan] = []
        start_s = 0.0
        for position, span in enumerate(node.spans):
            start_s = max(start_s, span.start_s)
            following = node.spans[position + 1 :][:1]
            end_s = max(start_s, following[0].start_s) if following else self._end_s
            if not spans and span.is_guess and end_s == start_s:
                continue  # its first line says what it is
            spans.append(
                RoleSpan(
                    span.role, span.term, start_s, end_s, span.entry, span.reason, span.log_end
                )
            )
        return spans


_RULES: Final[Mapping[type[Any], Callable[[RunBuilder, _Node, Any, float, int], None]]] = {
    facts.Sent: RunBuilder._on_sent,
    facts.Received: RunBuilder._on_received,
    facts.Committed: RunBuilder._on_commit,
    facts.TimerStarted: RunBuilder._on_timer,
    facts.TimerBailed: RunBuilder._on_bail,
    facts.Became: RunBuilder._on_role,
    facts.Because: RunBuilder._on_reason,
    facts.Appeared: RunBuilder._on_appearance,
    facts.LinkChanged: RunBuilder._on_link,
    facts.Configured: RunBuilder._on_configuration,
    facts.Forming: RunBuilder._on_forming,
    facts.TransferStarted: RunBuilder._on_transfer,
    facts.LeaderKnown: RunBuilder._on_leader_known,
}
"""What a node's facts do to the run."""


def _first_span(fact: facts.Fact | None, at_s: float) -> _Span:
    """What a node is before it says so: the log may begin in the middle."""
    match fact:
        case facts.Sent(facts.Packet(kind="AppendEntries", term=int(term))):
            return _Span("Leader", term, at_s, None, is_guess=True)
        case facts.Sent(facts.Packet(kind="RequestVote", term=int(term))):
            return _Span("Candidate", term, at_s, None, is_guess=True)
        case facts.Received(term=int(term)) | facts.TimerStarted(term=term):
            return _Span("Follower", term, at_s, None, is_guess=True)
        case _:
            return _Span("Follower", 0, at_s, None, is_guess=True)


def _answered(who: _Node, reply: facts.Packet) -> Draft | None:
    """The request that this reply of the node answers: the last one, unless it has an answer."""
    waiting = who.unanswered.get(reply.kind.removesuffix("Reply"))
    if not waiting:
        return None
    if reply.receiver is not None:  # not every format leaves it out
        for position in reversed(range(len(waiting))):
            if waiting[position].sender == reply.receiver:
                return waiting.pop(position)
        return None
    return waiting.pop()


def _by_number(name: NodeName) -> tuple[int, str]:
    """Numbers by value, then names."""
    is_number = name.isascii() and name.isdigit() and len(name) < 10
    return (int(name), name) if is_number else (1 << 40, name)
