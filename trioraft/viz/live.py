"""LiveRun: a run while it happens, in bounded memory, and what has changed since the last look.

Rules of this file:

* What several nodes say comes in any order: a message may arrive before anybody said that it was
  sent. The two belong together if they say the same of it, word by word, the oldest first.
* What is older than the window, or too much, is forgotten, oldest first; numbers are never used
  twice. A row that has changed is told again, under its number.
* Times are whole microseconds since this began; -1 stands for None. The rows are a contract with
  `page/static/live_store.js`, field by field; nodes and kinds stand there by name.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, final

import attrs

from . import facts
from .cluster import Connectivity
from .mailbox import family_of
from .model import Finding, Mark, MarkKind, Members, NodeName, Role
from .page.data import KIND_OF_FAMILY, KIND_OF_TYPE, EntryKind, finding_data
from .trouble import OutageLevel, states_of

ENTRIES_MAX: Final = 8_000
"""Entries that are kept."""
ROWS_MAX: Final = 8_000
"""Of anything else, too."""
WINDOW_S: Final = 300.0
"""How long anything is kept."""
SETTLED_S: Final = 1.5
"""A message that did not arrive for so long, in seconds, was lost, if its receiver is heard."""
FOUND_AGAIN_S: Final = 30.0
"""So long it may arrive all the same, as at a process that was paused."""

Row: TypeAlias = list[Any]
Key: TypeAlias = tuple[Any, ...]


# Fields of rows, by their place.
_END = 5
_SENT, _RECEIVED, _FATE, _PARTNER, _SENT_ENTRY, _RECEIVED_ENTRY = 7, 8, 9, 12, 13, 14


@attrs.define(eq=False)
class Column:
    """Rows of one kind, by their numbers."""

    times_at: tuple[int, ...]
    """Which fields of a row say how old it is; the latest counts, and -1 for what still lasts."""
    rows: dict[int, Row] = attrs.Factory(dict)
    changed: set[int] = attrs.Factory(set)
    next_id: int = 0

    def add(self, *fields: Any) -> Row:
        """A new row; its number is its first field."""
        row = [self.next_id, *fields]
        self.rows[self.next_id] = row
        self.changed.add(self.next_id)
        self.next_id += 1
        return row

    def touch(self, row: Row) -> None:
        """A row was changed."""
        if row[0] in self.rows:
            self.changed.add(row[0])

    def forget(self, before_us: int, rows_max: int) -> None:
        """Drop what ended before that, and what is too much, from the oldest on."""
        for number in list(self.rows):
            row = self.rows[number]
            end_us = max(row[place] for place in self.times_at)
            if len(self.rows) <= rows_max and not end_us < before_us:
                return
            if end_us >= 0 or len(self.rows) > rows_max:
                del self.rows[number]
                self.changed.discard(number)

    @property
    def first_id(self) -> int:
        """Of the rows that are kept."""
        return next(iter(self.rows), self.next_id)

    def take(self) -> list[Row]:
        """The rows that have changed since the last call, in order."""
        taken = [list(self.rows[number]) for number in sorted(self.changed)]
        self.changed.clear()
        return taken


@attrs.define(eq=False)
class _Node:
    role: Row | None = None
    timer: Row | None = None
    unanswered: dict[tuple[str, NodeName | None], tuple[Row, facts.Packet]] = attrs.Factory(dict)
    configured: facts.Configured | None = None
    is_heard: bool = True
    silent_until_us: int = -1
    """What was lost on its way to it before this cannot be told."""


@final
class LiveRun:
    """A run while it happens.

    Args:
        began_s: the zero of its times, in seconds since the epoch.
    """

    def __init__(self, began_s: float) -> None:
        self.began_s = began_s
        self.columns: dict[str, Column] = {
            "entries": Column((1,)),
            "messages": Column((_SENT, _RECEIVED)),
            "roles": Column((_END,)),
            "timers": Column((4,)),
            "commits": Column((2,)),
            "marks": Column((2,)),
            "outages": Column((3,)),
        }
        self._terms: dict[int, dict[str, Any]] = {}
        self._terms_changed: set[int] = set()
        self._findings: list[Any] | None = None
        self._findings_shown: list[Any] = []
        self._nodes: dict[NodeName, _Node] = {}
        self._members: Members | None = None
        self._network = Connectivity()
        self._outages: dict[NodeName, Row] = {}
        self._sent: dict[Key, deque[Row]] = {}
        self._received: dict[Key, deque[Row]] = {}
        self._unsettled: deque[tuple[int, Key, Row]] = deque()
        self._now_us = 0
        self._before_us = 0

    # -- what is said ----------------------------------------------------------------------

    def add(self, at_s: float, node: NodeName | None, text: str, fact: facts.Fact | None) -> None:
        """Take what a node, or (None) somebody else, says.

        Args:
            at_s: when it happened, in seconds since the epoch.
            node: who says so.
            text: in words.
            fact: the same, understood.
        """
        at_us = self._us(at_s)
        kind = _kind_of(node, fact)
        entry = self.columns["entries"].add(at_us, node, kind, text)
        if node is None:
            if isinstance(fact, facts.Marked):
                self._on_mark(fact, at_us, text, entry)
            return
        who = self._node(node, at_us)
        rule = _RULES.get(type(fact))
        if rule is not None:
            rule(self, node, who, fact, at_us, entry)

    def is_in_role(self, node: NodeName, role: Role, term: int, reason: str, at_s: float) -> None:
        """A node says what it is; nothing is new if that is known."""
        who = self._node(node, self._us(at_s))
        now = who.role
        if now is None or now[_END] >= 0 or now[2] != role or now[3] != term:
            self._take_role(node, who, role, term, self._us(at_s), -1, reason)

    def is_silent(self, node: NodeName, at_s: float) -> None:
        """Nothing is heard of this node from here on."""
        who = self._node(node, self._us(at_s))
        who.is_heard = False
        self._close(who, self._us(at_s))
        self._note_outages(self._us(at_s))

    def is_heard(self, node: NodeName, at_s: float) -> None:
        """It is heard again."""
        who = self._node(node, self._us(at_s))
        if not who.is_heard:
            who.is_heard, who.silent_until_us = True, self._us(at_s)
            self._note_outages(self._us(at_s))

    def has_gap(self, node: NodeName, at_s: float) -> None:
        """Some of what happened in it until now was not told."""
        self._node(node, self._us(at_s)).silent_until_us = self._us(at_s)

    def find(self, findings: list[Finding], began_s: float) -> None:
        """What is found, all of it; times in seconds since `began_s`."""
        shift_us = self._us(began_s)
        found = []
        for finding in findings:
            data = finding_data(finding)
            data["start"] += shift_us
            data["end"] += shift_us
            data["lines"] = data["entries"] = []
            found.append(data)
        if found != self._findings_shown:
            self._findings = self._findings_shown = found

    # -- what is told ----------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Time passes: what is old is forgotten, what did not arrive is lost."""
        self._now_us = now_us = self._us(now_s)
        self._settle(now_us)
        before_us = now_us - round(WINDOW_S * 1e6)
        entries = self.columns["entries"]
        entries.forget(before_us, ENTRIES_MAX)
        if entries.rows and entries.next_id > len(entries.rows):
            # With the lines goes what they tell of: the picture begins where the log does.
            before_us = max(before_us, entries.rows[entries.first_id][1])
        self._before_us = before_us
        for name, column in self.columns.items():
            if name != "entries":
                column.forget(before_us, ROWS_MAX)
        for number in list(self._terms):
            ends_us = min((t["start"] for n, t in self._terms.items() if n > number), default=-1)
            if 0 <= ends_us < before_us:
                del self._terms[number]
                self._terms_changed.discard(number)

    def take_changes(self) -> dict[str, Any]:
        """What has changed since the last call."""
        changes: dict[str, Any] = {"now": self._now_us}
        for name, column in self.columns.items():
            if column.changed:
                changes[name] = column.take()
        if self._terms_changed:
            changes["terms"] = [self._terms[number] for number in sorted(self._terms_changed)]
            self._terms_changed.clear()
        if self._findings is not None:
            changes["findings"], self._findings = self._findings, None
        return changes | self._bounds()

    def everything(self) -> dict[str, Any]:
        """All that is kept, for who sees it for the first time."""
        whole: dict[str, Any] = {"now": self._now_us, **self._bounds()}
        for name, column in self.columns.items():
            whole[name] = [list(row) for row in column.rows.values()]
        whole["terms"] = [self._terms[number] for number in sorted(self._terms)]
        whole["findings"] = self._findings_shown
        return whole

    def _bounds(self) -> dict[str, Any]:
        """What is forgotten: what ended before that moment, and what has a lower number."""
        firsts = {name: column.first_id for name, column in self.columns.items()}
        return {"before": self._before_us, "first": firsts | {"terms": min(self._terms, default=0)}}

    def _node(self, name: NodeName, at_us: int) -> _Node:
        """What is known of it; before it was heard for the first time, that is nothing."""
        node = self._nodes.get(name)
        if node is None:
            node = self._nodes[name] = _Node(silent_until_us=at_us)
        return node

    def _us(self, at_s: float) -> int:
        return max(0, round((at_s - self.began_s) * 1e6))

    # -- messages --------------------------------------------------------------------------

    def _on_sent(
        self, node: NodeName, who: _Node, fact: facts.Sent, at_us: int, entry: Row
    ) -> None:
        packet = fact.packet
        key = _key(packet)
        row = self._waiting(self._received, key)
        if row is not None:
            row[_SENT], row[_SENT_ENTRY] = at_us, entry[0]
            # Two clocks are never the same: nothing arrives before it was sent.
            row[_RECEIVED] = max(row[_RECEIVED], at_us)
            self.columns["messages"].touch(row)
        else:
            row = self._new(packet, node, packet.receiver, sent=at_us, sent_entry=entry[0])
            self._sent.setdefault(key, deque()).append(row)
            self._unsettled.append((at_us, key, row))
        if packet.is_reply:
            self._answer(who, packet, row)
        elif packet.kind == "AppendEntries" and packet.term:
            self._lead(packet.term, node, at_us)

    def _on_received(
        self, node: NodeName, who: _Node, fact: facts.Received, at_us: int, entry: Row
    ) -> None:
        packet = fact.packet
        key = _key(packet)
        row = self._waiting(self._sent, key)
        if row is not None:
            row[_RECEIVED] = max(at_us, row[_SENT])
            row[_FATE], row[_RECEIVED_ENTRY] = "delivered", entry[0]
            self.columns["messages"].touch(row)
        else:
            row = self._new(packet, packet.sender, node, received=at_us, received_entry=entry[0])
            self._received.setdefault(key, deque()).append(row)
            self._unsettled.append((at_us, key, row))
        if not packet.is_reply:
            who.unanswered[packet.kind, packet.sender] = (row, packet)

    def _new(
        self,
        packet: facts.Packet,
        sender: NodeName | None,
        receiver: NodeName | None,
        *,
        sent: int = -1,
        received: int = -1,
        sent_entry: int = -1,
        received_entry: int = -1,
    ) -> Row:
        term = -1 if packet.term is None else packet.term
        positive = -1 if packet.is_positive is None else int(packet.is_positive)
        return self.columns["messages"].add(
            *(
                _message_kind(packet, None),
                packet.kind,
                sender,
                receiver,
                term,
                packet.entries_count,
            ),
            *(sent, received, "unknown" if received < 0 else "delivered"),
            *(int(packet.is_reply), positive, -1, sent_entry, received_entry),
        )

    def _answer(self, who: _Node, packet: facts.Packet, row: Row) -> None:
        asked = who.unanswered.pop((packet.kind.removesuffix("Reply"), packet.receiver), None)
        if asked is None or asked[0][_PARTNER] >= 0:
            return
        request, its = asked
        request[_PARTNER], row[_PARTNER] = row[0], request[0]
        row[1] = _message_kind(packet, its)
        self.columns["messages"].touch(request)
        self.columns["messages"].touch(row)

    @staticmethod
    def _waiting(waiting: dict[Key, deque[Row]], key: Key) -> Row | None:
        rows = waiting.get(key)
        if not rows:
            return None
        row = rows.popleft()
        if not rows:
            del waiting[key]
        return row

    def _settle(self, now_us: int) -> None:
        """What has not arrived for long was lost; nobody waits for what is older still."""
        kept: deque[tuple[int, Key, Row]] = deque()
        for at_us, key, row in self._unsettled:
            if now_us - at_us < SETTLED_S * 1e6:
                kept.append((at_us, key, row))
                continue
            rows = self._sent.get(key) if row[_RECEIVED] < 0 else self._received.get(key)
            if rows is None or row not in rows:
                continue  # both ends are known
            if row[_RECEIVED] < 0 and row[_FATE] == "unknown" and self._was_told_of(row):
                row[_FATE] = "lost"
                self.columns["messages"].touch(row)
            if now_us - at_us < FOUND_AGAIN_S * 1e6:
                kept.append((at_us, key, row))
                continue
            rows.remove(row)
            if not rows:
                for waiting in (self._sent, self._received):
                    if waiting.get(key) is rows:
                        del waiting[key]
        self._unsettled = kept

    def _was_told_of(self, row: Row) -> bool:
        """Whether its receiver would have said that it came."""
        receiver = self._nodes.get(row[4])
        return receiver is not None and receiver.is_heard and receiver.silent_until_us < row[_SENT]

    # -- roles, timers, commits ------------------------------------------------------------

    def _on_role(
        self, node: NodeName, who: _Node, fact: facts.Became, at_us: int, entry: Row
    ) -> None:
        now = who.role
        known = 0 if now is None else now[3]
        term = known if fact.term is None else fact.term
        self._take_role(node, who, fact.role, term, at_us, entry[0], fact.reason or "")
        if fact.role in ("PreCandidate", "Candidate"):
            self._end_timer(who, at_us, "expired", entry[0])
        if fact.role in ("Leader", "Dead"):
            self._end_timer(who, at_us, "stopped", entry[0])
        if fact.role == "Candidate":
            candidates = self._term(term, at_us)["candidates"]
            if node not in candidates:
                candidates.append(node)
        if fact.role == "Leader":
            self._lead(term, node, at_us)
            if self._terms[term]["won"] < 0:
                self._terms[term]["won"] = at_us
        if fact.role == "Dead":
            who.unanswered.clear()

    def _take_role(
        self,
        node: NodeName,
        who: _Node,
        role: Role,
        term: int,
        at_us: int,
        entry: int,
        reason: str,
    ) -> None:
        if who.role is not None and who.role[_END] < 0:
            who.role[_END] = max(at_us, who.role[4])
            self.columns["roles"].touch(who.role)
        who.role = self.columns["roles"].add(node, role, term, at_us, -1, entry, reason)

    def _close(self, who: _Node, at_us: int) -> None:
        if who.role is not None and who.role[_END] < 0:
            who.role[_END] = max(at_us, who.role[4])
            self.columns["roles"].touch(who.role)
        self._end_timer(who, at_us, "stopped")

    def _on_timer(
        self, node: NodeName, who: _Node, fact: facts.TimerStarted, at_us: int, entry: Row
    ) -> None:
        self._end_timer(who, at_us, "replaced", entry[0])
        timeout_us = round(fact.timeout_s * 1e6)
        who.timer = self.columns["timers"].add(
            node, fact.term, at_us, -1, timeout_us, "open", entry[0], -1
        )

    def _end_timer(self, who: _Node, at_us: int, how: str, entry: int = -1) -> None:
        timer, who.timer = who.timer, None
        if timer is not None:
            timer[4], timer[6], timer[8] = max(at_us, timer[3]), how, entry
            self.columns["timers"].touch(timer)

    def _on_commit(
        self, node: NodeName, _: _Node, fact: facts.Committed, at_us: int, entry: Row
    ) -> None:
        self.columns["commits"].add(node, at_us, fact.commit_index, entry[0])

    def _on_appearance(
        self, node: NodeName, who: _Node, _: facts.Appeared, at_us: int, entry: Row
    ) -> None:
        if who.role is not None and who.role[2] == "Dead" and who.role[_END] < 0:
            self._take_role(node, who, "Follower", who.role[3], at_us, entry[0], "it is started")

    # -- terms -----------------------------------------------------------------------------

    def _term(self, number: int, at_us: int) -> dict[str, Any]:
        term = self._terms.get(number)
        if term is None:
            term = self._terms[number] = {
                "number": number, "leader": None, "leaders": 0, "candidates": [],
                "start": at_us, "won": -1,
            }  # fmt: skip
        self._terms_changed.add(number)
        return term

    def _lead(self, number: int, leader: NodeName, at_us: int) -> None:
        term = self._terms.get(number)
        if term is not None and term["leader"] == leader:
            return
        term = self._term(number, at_us)
        if term["leader"] is None:
            term["leader"], term["leaders"] = leader, 1
        else:
            term["leaders"] = 2

    # -- marks -----------------------------------------------------------------------------

    def _on_mark(self, fact: facts.Marked, at_us: int, text: str, entry: Row) -> None:
        mark = Mark(fact.kind, at_us / 1e6, fact.nodes, text, entry[0], fact.groups)
        self._mark(mark, at_us)
        if fact.kind == "crash":
            for name in fact.nodes:
                who = self._nodes.get(name)
                if who is not None and who.role is not None and who.role[2] != "Dead":
                    self._take_role(name, who, "Dead", who.role[3], at_us, entry[0], "killed")
                    self._end_timer(who, at_us, "stopped")
                    who.unanswered.clear()

    def _on_link(
        self, node: NodeName, _: _Node, fact: facts.LinkChanged, at_us: int, entry: Row
    ) -> None:
        kind: MarkKind = "link up" if fact.is_up else "link down"
        self._mark(Mark(kind, at_us / 1e6, (node, fact.peer), entry[4], entry[0]), at_us)

    def _on_configuration(
        self, node: NodeName, who: _Node, fact: facts.Configured, at_us: int, entry: Row
    ) -> None:
        who.configured = fact
        known = [each.configured for each in self._nodes.values() if each.configured is not None]
        members = max(known, key=lambda each: each.index).members
        if members != self._members:
            self._members = members
            self._mark(Mark("configuration", at_us / 1e6, (), entry[4], entry[0]), at_us)

    def _on_transfer(
        self, node: NodeName, _: _Node, fact: facts.TransferStarted, at_us: int, entry: Row
    ) -> None:
        self._mark(Mark("transfer", at_us / 1e6, (node, fact.peer), entry[4], entry[0]), at_us)

    def _mark(self, mark: Mark, at_us: int) -> None:
        nodes = list(mark.nodes)
        self.columns["marks"].add(mark.kind, at_us, nodes, ", ".join(nodes), mark.text, mark.entry)
        after = self._network.after(mark)
        if after != self._network:
            self._network = after
            self._note_outages(at_us)

    def _note_outages(self, at_us: int) -> None:
        """Whose state is another one now than it was."""
        states: dict[NodeName, tuple[OutageLevel, str]] = {
            name: ("off", "nothing is heard from it")
            for name, node in self._nodes.items()
            if not node.is_heard
        }
        heard = tuple(name for name in self._nodes if name not in states)
        states |= states_of(self._network, heard)
        for name in self._nodes:
            row, now = self._outages.get(name), states.get(name)
            if row is not None and (now is None or (row[4], row[5]) != now):
                row[3] = at_us
                self.columns["outages"].touch(row)
                del self._outages[name]
                row = None
            if row is None and now is not None:
                self._outages[name] = self.columns["outages"].add(name, at_us, -1, *now)


_RULES: Final[Mapping[type[Any], Callable[[LiveRun, NodeName, _Node, Any, int, Row], None]]] = {
    facts.Sent: LiveRun._on_sent,
    facts.Received: LiveRun._on_received,
    facts.Became: LiveRun._on_role,
    facts.TimerStarted: LiveRun._on_timer,
    facts.Committed: LiveRun._on_commit,
    facts.Appeared: LiveRun._on_appearance,
    facts.LinkChanged: LiveRun._on_link,
    facts.Configured: LiveRun._on_configuration,
    facts.TransferStarted: LiveRun._on_transfer,
}
"""What a node's facts do to the run."""

_KINDS: Final[Mapping[type[Any], EntryKind]] = {
    facts.Became: "role",
    facts.Configured: "role",
    facts.TimerStarted: "timer",
    facts.Committed: "commit",
    facts.LinkChanged: "link",
    facts.TransferStarted: "transfer",
}


def _key(packet: facts.Packet) -> Key:
    return packet.kind, packet.sender, packet.receiver, packet.term, packet.body


def _kind_of(node: NodeName | None, fact: facts.Fact | None) -> EntryKind:
    if node is None:
        return "test"
    if isinstance(fact, facts.Sent | facts.Received):
        return _message_kind(fact.packet, None)
    return _KINDS.get(type(fact), "other")


def _message_kind(packet: facts.Packet, request: facts.Packet | None) -> EntryKind:
    by_type = KIND_OF_TYPE.get(packet.kind)
    return by_type or KIND_OF_FAMILY.get(family_of(packet, request), "message")
