"""The raftlog format: what a line looks like, the text of every event, the lines of a run.

Rules of this file:

* A raftlog is the test log of the Go project that trioraft starts from, so that its tools read
  ours. A line is one of four things, and its shape is named once, here, for writers and readers:
  a header (`=== RUN   name`), a status (`--- PASS: name (0.31s)`), an entry
  (`10:02:26.890095 [0] becomes Candidate (currentTerm=1); log=[]`), or a note, which is all else.
* Texts are rendered from typed events through one table. A text the Go project has is written
  exactly as there, byte for byte; what we add stands on a line of its own, or cannot be taken
  for one of theirs.
* Text that somebody else chose (a peer's name, an error, a test's remark) goes through `defuse`:
  it can never look like a header, a status, an entry or a change of role, nor span two lines.
* A line is bounded, whatever the event holds; a command's bytes are never written.
* The file is valid to its readers after every single line, so also after a crash: the first line
  is a header, and the nodes that wrote are 0, 1, … without a gap.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Literal, TypeAlias, final

import attrs
import msgspec
import trio

from .core.events import (
    CommitAdvanced,
    DiskIsFull,
    ElectionTimerStarted,
    ElectionWonEvent,
    MessageReceived,
    MessageSent,
    RoleChanged,
    SnapshotInstalled,
    SnapshotSaved,
    StaleReply,
    StorageNotice,
    TermOutOfDate,
    TimeoutsWidened,
    TraceEvent,
)
from .core.messages import (
    AppendEntries,
    AppendEntriesReply,
    InstallSnapshot,
    InstallSnapshotReply,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    RequestVoteReply,
)
from .core.types import Entry, NodeId, Role, SnapshotMeta
from .transport.base import (
    ConnectionRejected,
    LinkDown,
    LinkUp,
    Listening,
    MessagesDropped,
    TransportEvent,
)

RUN_PREFIX: Final = "=== RUN"
"""How a header starts; the run's name is the rest of the line, stripped."""
STATUS_RE: Final = re.compile(r"--- (\w+):\s+(\w+)", re.ASCII)
"""A status line, found anywhere in a line: the outcome, and the name exactly as in the header."""
ENTRY_RE: Final = re.compile(r"([0-9:.]+) \[(\w+)\] (.*)", re.ASCII)
"""An entry, found anywhere in a line: time, node number or `TEST`, text."""
TEST_ID: Final = "TEST"
"""Who speaks in an entry that no node wrote."""

ENTRIES_SHOWN_MAX: Final = 3
"""Entries of one AppendEntries that are written out; the others are counted."""
FREE_TEXT_CHARS_MAX: Final = 500
"""Longest text of somebody else's choice; the rest is cut."""
RUN_NAME_CHARS_MAX: Final = 200
"""Longest run name: readers make file names of them."""
NUMBER_KEPT_BELOW: Final = 16
"""An id that is a number below this keeps it as its column; other ids are numbered."""

Traced: TypeAlias = TraceEvent | TransportEvent
"""Everything a node can tell about itself."""
Label: TypeAlias = Callable[[NodeId], str]
"""How a text names a node."""
Outcome: TypeAlias = Literal["PASS", "FAIL", "SKIP"]
"""How a run ended, as its status line says it."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
# One space, at the one place where doubling it keeps a reader from recognising the line.
_SHAPE_SPACE = re.compile(r"(?<=---) (?=\w)|(?<=[0-9:.]) (?=\[)|(?<=becomes) |(?<=in state) ")


def defuse(text: str) -> str:
    """Somebody else's text, on one line, bounded, and unlike anything a reader looks for.

    Control characters become a space; where the text holds the shape of an entry, of a status or
    of a change of role, its space is doubled. To the eye it stays the same.
    """
    line = _SHAPE_SPACE.sub("  ", _CONTROL.sub(" ", text[: FREE_TEXT_CHARS_MAX + 1]))
    return line if len(text) <= FREE_TEXT_CHARS_MAX else line[:FREE_TEXT_CHARS_MAX] + "…"


def run_name(name: str) -> str:
    """A run's name as readers need it, letters, digits and `_`: `test_x[memory-3]` is
    `test_x_memory_3`."""
    word = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")
    return word[:RUN_NAME_CHARS_MAX] or "run"


def event_kind(event_type: type[Traced]) -> str:
    """The event's name in snake case, as logs use it: `role_changed`, `election_won`."""
    name = event_type.__name__.removesuffix("Event")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


@attrs.define
class NodeNumbers:
    """Which column of the picture a node has, for one run.

    The Go project's reader takes ids for indexes: those that wrote must be 0, 1, … without a
    gap. So an id that is a small number keeps it, and any other id gets the lowest number that
    is free when it first appears.
    """

    _number_of: dict[NodeId, int] = attrs.Factory(dict)
    _unannounced: list[str] = attrs.Factory(list)

    def label(self, node_id: NodeId) -> str:
        """The node's number, as text; decided at the first call and the same ever after."""
        number = self._number_of.get(node_id)
        if number is None:
            number = self._number_of[node_id] = self._choose(node_id)
            if str(number) != node_id:
                self._unannounced.append(f'node "{defuse(node_id)}" is {number}')
        return str(number)

    def take_announcements(self) -> list[str]:
        """`node "alpha" is 0` for each renaming since the last call: a reader must see them."""
        taken, self._unannounced = self._unannounced, []
        return taken

    def _choose(self, node_id: NodeId) -> int:
        taken = set(self._number_of.values())
        kept = int(node_id) if re.fullmatch("0|[1-9][0-9]?", node_id) else NUMBER_KEPT_BELOW
        if kept < NUMBER_KEPT_BELOW and kept not in taken:
            return kept
        return next(number for number in range(len(taken) + 1) if number not in taken)


# --- messages -------------------------------------------------------------------------------

_Fields: TypeAlias = tuple[tuple[str, str], ...]

# What is written of a message: (name in the text, attribute), in the Go project's order.
_SHOWN: Final[Mapping[type[Any], _Fields]] = {
    RequestVote: (
        ("Term", "term"),
        ("CandidateId", "sender"),
        ("LastLogIndex", "last_log_index"),
        ("LastLogTerm", "last_log_term"),
        ("LeadershipTransfer", "leadership_transfer"),
    ),
    RequestVoteReply: (("Term", "term"), ("VoteGranted", "vote_granted")),
    RequestPreVote: (
        ("Term", "term"),
        ("NextTerm", "next_term"),
        ("CandidateId", "sender"),
        ("LastLogIndex", "last_log_index"),
        ("LastLogTerm", "last_log_term"),
    ),
    RequestPreVoteReply: (
        ("Term", "term"),
        ("NextTerm", "next_term"),
        ("VoteGranted", "vote_granted"),
    ),
    AppendEntries: (
        ("Term", "term"),
        ("LeaderId", "sender"),
        ("PrevLogIndex", "prev_log_index"),
        ("PrevLogTerm", "prev_log_term"),
        ("Entries", "entries"),
        ("LeaderCommit", "leader_commit"),
    ),
    AppendEntriesReply: (
        ("Term", "term"),
        ("Success", "success"),
        ("ConflictIndex", "conflict_index"),
        ("ConflictTerm", "conflict_term"),
    ),
    InstallSnapshot: (
        ("Term", "term"),
        ("LeaderId", "sender"),
        ("Snapshot", "meta"),
        ("Offset", "offset"),
        ("Data", "data"),
    ),
    InstallSnapshotReply: (
        ("Term", "term"),
        ("Snapshot", "meta"),
        ("NextOffset", "next_offset"),
        ("Installed", "installed"),
    ),
    SnapshotMeta: (("Index", "index"), ("Term", "term"), ("Bytes", "size_bytes")),
}

# The Go project's messages have no such field: written only when it says something.
_ONLY_IF_SET: Final = frozenset({"leadership_transfer", "conflict_index", "conflict_term"})


def _struct_text(struct: msgspec.Struct, label: Label) -> str:
    """`{Term:1 VoteGranted:true}`; a message without a row in the table shows all its fields."""
    shown = _SHOWN.get(type(struct)) or _all_fields(type(struct))
    values = ((name, attribute, getattr(struct, attribute)) for name, attribute in shown)
    parts = [
        f"{name}:{label(value) if attribute == 'sender' else _value_text(value)}"
        for name, attribute, value in values
        if value or attribute not in _ONLY_IF_SET
    ]
    return "{" + " ".join(parts) + "}"


def _all_fields(struct_type: type[msgspec.Struct]) -> _Fields:
    addressing = ("sender", "receiver")
    names = (name for name in struct_type.__struct_fields__ if name not in addressing)
    return tuple((name.title().replace("_", ""), name) for name in names)


def _value_text(value: object) -> str:
    """A field as Go would print it; bytes by their number only."""
    match value:
        case bool():
            return "true" if value else "false"
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
        case tuple() if all(isinstance(item, Entry) for item in value):
            return _entries_text(value)
        case msgspec.Struct():
            return _struct_text(value, str)
        case _:
            return defuse(str(value))


def _entries_text(entries: tuple[Entry, ...]) -> str:
    shown = [f"{{Term:{entry.term} Index:{entry.index}}}" for entry in entries[:ENTRIES_SHOWN_MAX]]
    if len(entries) > ENTRIES_SHOWN_MAX:
        shown.append(f"…+{len(entries) - ENTRIES_SHOWN_MAX}")
    return f"[{' '.join(shown)}]"


def _sent(event: MessageSent, label: Label) -> str:
    message, name = event.message, type(event.message).__name__
    text = _struct_text(message, label)
    match message:
        case AppendEntries():
            to = label(message.receiver)
            return f"sending AppendEntries to {to}: ni={event.next_index}, args={text}"
        case AppendEntriesReply():
            return f"AppendEntries reply: {text}"
        case _ if name.endswith("Reply"):
            return f"... {name.removesuffix('Reply')} reply: &{text}"
        case _:
            return f"sending {name} to {label(message.receiver)}: {text}"


def _received(event: MessageReceived, label: Label) -> str:
    message, name = event.message, type(event.message).__name__
    text = _struct_text(message, label)
    match message:
        case RequestVote() | RequestPreVote():
            voted_for = "-1" if event.voted_for is None else label(event.voted_for)
            return f"{name}: {text} [currentTerm={event.term}, votedFor={voted_for}]"
        case _ if name.endswith("Reply"):
            return f"received {name} {text}"
        case _:
            return f"{name}: {text}"


# --- events ---------------------------------------------------------------------------------

# The sentences the Go project's reader knows a state by. "becomes PreCandidate" is ours, and does
# not contain "becomes Candidate": to that reader such a node is still a follower, which it is.
_BECOMES: Final[Mapping[Role, str]] = {
    Role.FOLLOWER: "becomes Follower with term={0.term}; log={0.log}",
    Role.PRE_CANDIDATE: "becomes PreCandidate (currentTerm={0.term}); log={0.log}",
    Role.CANDIDATE: "becomes Candidate (currentTerm={0.term}); log={0.log}",
    Role.LEADER: "becomes Leader; term={0.term}, log={0.log}",
    Role.DEAD: "becomes Dead",
}


def _widened(event: TimeoutsWidened, _: Label) -> str:
    if event.factor == 1:
        return "election timeouts back to normal"
    return f"election timeouts widened by {event.factor}"


def _rejected(event: ConnectionRejected, label: Label) -> str:
    who = "" if event.peer is None else f" (node {label(event.peer)})"
    return f"rejected connection from {defuse(event.remote)}{who}: {defuse(event.reason)}"


_TEXTS: Final[Mapping[type[Traced], Callable[[Any, Label], str]]] = {
    ElectionTimerStarted: lambda event, _: (
        f"election timer started ({event.timeout_s * 1000:.0f}ms), term={event.term}"
    ),
    RoleChanged: lambda event, _: _BECOMES[event.role].format(event),
    ElectionWonEvent: lambda event, _: f"wins election with {event.votes} votes",
    MessageSent: _sent,
    MessageReceived: _received,
    TermOutOfDate: lambda event, _: f"... term out of date in {type(event.message).__name__}",
    StaleReply: lambda event, _: f"while waiting for reply, state = {event.role.value}",
    CommitAdvanced: lambda event, _: f"commit index advances to {event.commit_index}",
    TimeoutsWidened: _widened,
    SnapshotSaved: lambda event, _: (
        f"snapshot of {event.size_bytes} bytes saved up to {event.index}; "
        f"the log begins after {event.base_index}"
    ),
    SnapshotInstalled: lambda event, label: (
        f"snapshot of {event.size_bytes} bytes from {label(event.sender)} installed "
        f"up to {event.index}"
    ),
    StorageNotice: lambda event, _: f"storage: {defuse(event.text)}",
    DiskIsFull: lambda event, _: "disk is full; the write is tried again",
    Listening: lambda event, _: f"listening at {defuse(event.address)}",
    LinkUp: lambda event, label: f"link to {label(event.peer)} up",
    LinkDown: lambda event, label: f"link to {label(event.peer)} down: {defuse(event.reason)}",
    ConnectionRejected: _rejected,
    MessagesDropped: lambda event, label: (
        f"dropped {event.count} messages to {label(event.peer)}: its queue is full"
    ),
}


def has_own_text(event_type: type[Traced]) -> bool:
    """Whether the table has a row for this event; without one it is shown field by field."""
    return event_type in _TEXTS


def describe(event: Traced, label: Label = str) -> tuple[str, ...]:
    """The event in words, one text a line: one, or two when a role changed for a reason.

    Args:
        event: of the core or of a transport; one without a row in the table is shown as its kind
            and its fields.
        label: how to name other nodes; by default by their ids.
    """
    text_of = _TEXTS.get(type(event), _by_fields)
    if isinstance(event, RoleChanged):
        return text_of(event, label), f"... because {defuse(str(event.reason))}"
    return (text_of(event, label),)


def _by_fields(event: Traced, _: Label) -> str:
    names = [field.name for field in attrs.fields(type(event)) if field.name != "at_s"]
    values = [f"{name}={_value_text(getattr(event, name))}" for name in names]
    return " ".join([event_kind(type(event)), *values])


# --- a run --------------------------------------------------------------------------------


def _local_now() -> datetime:
    # With a fixed offset: no change of daylight saving time can turn a run's clock back.
    return datetime.now().astimezone()


def _current_clock() -> trio.abc.Clock | None:
    try:
        return trio.lowlevel.current_clock()
    except RuntimeError:  # not in a Trio run, or not in its thread
        return None


@final
@attrs.define
class WallClock:
    """Wall time for events, which know only the seconds of Trio's clock.

    The first event is stamped with the wall time; later ones with that plus the seconds since,
    so that a picture shows virtual durations as they were. Another Trio run, known by its clock
    or by time going back, anchors anew. Stamps never go back.
    """

    _now: Callable[[], datetime] = _local_now
    _anchor: datetime | None = None
    _anchor_at_s: float = 0.0
    _clock: trio.abc.Clock | None = None
    _last: datetime | None = None
    _last_at_s: float = 0.0

    def stamp(self, at_s: float | None = None) -> datetime:
        """When something happened.

        Args:
            at_s: seconds of Trio's clock, as events have them. None: now, by Trio's clock if
                there is one here.
        """
        clock = _current_clock()
        if at_s is None:
            if clock is None:
                return self._remember(self._not_before_last(self._now()))
            at_s = clock.current_time()
        is_other_clock = clock is not None and clock is not self._clock
        if self._anchor is None or is_other_clock or at_s < self._last_at_s:
            self._anchor, self._anchor_at_s = self._not_before_last(self._now()), at_s
            self._clock = clock
        self._last_at_s = at_s
        since = timedelta(seconds=at_s - self._anchor_at_s)
        return self._remember(self._not_before_last(self._anchor + since))

    def _not_before_last(self, moment: datetime) -> datetime:
        return moment if self._last is None else max(moment, self._last)

    def _remember(self, moment: datetime) -> datetime:
        self._last = moment
        return moment


@final
@attrs.define
class Run:
    """One run of a raftlog, and the columns and the clock that are its own."""

    name: str
    """As header and status line have it."""
    outcome: Outcome = "PASS"
    """What the status line will say; an exception out of the block makes it FAIL."""
    _clock: WallClock = attrs.Factory(WallClock)
    _numbers: NodeNumbers = attrs.Factory(NodeNumbers)
    _columns: int = 0
    _started_s: float = attrs.Factory(time.monotonic)

    def header(self) -> str:
        """`=== RUN   name`."""
        return f"{RUN_PREFIX}   {self.name}"

    def status_line(self) -> str:
        """`--- PASS: name (0.31s)`, with the seconds that really passed."""
        return f"--- {self.outcome}: {self.name} ({time.monotonic() - self._started_s:.2f}s)"

    def event_lines(self, node_id: NodeId, event: Traced) -> list[str]:
        """The event's entries, and before them what a reader needs to make sense of them."""
        self._numbers.label(node_id)  # before the peers it speaks of: it may have their number
        return self._entries(node_id, describe(event, self._numbers.label), event.at_s)

    def remark_lines(self, node_id: NodeId | None, text: str, at_s: float | None) -> list[str]:
        """A remark of a node, or of the test."""
        return self._entries(node_id, (defuse(text),), at_s)

    def _entries(
        self, node_id: NodeId | None, texts: Iterable[str], at_s: float | None
    ) -> list[str]:
        stamp = self._clock.stamp(at_s).strftime("%H:%M:%S.%f")
        who = TEST_ID if node_id is None else self._numbers.label(node_id)
        lines = [f"{stamp} [{TEST_ID}] {text}" for text in self._numbers.take_announcements()]
        if node_id is not None:
            # A reader counts the ids that wrote and takes them for 0, 1, …: leave no gap.
            gap = range(self._columns, int(who))
            lines += [f"{stamp} [{number}] has not logged anything yet" for number in gap]
            self._columns = max(self._columns, int(who) + 1)
        return [*lines, *(f"{stamp} [{who}] {text}" for text in texts)]
