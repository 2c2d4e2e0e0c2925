"""The text of every event and message, as the raftlog format has it.

* Texts are rendered from typed events through one table. A text the Go project has is written
  exactly as there, byte for byte; what we add stands on a line of its own, or cannot be taken
  for one of theirs.
* Text that somebody else chose (a peer's name, an error, a test's remark) goes through `defuse`:
  it can never look like a header, a status, an entry or a change of role, nor span two lines.
* A text is bounded, whatever the event holds; a command's bytes are never written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, TypeAlias

import attrs
import msgspec

from ..core import events, messages
from ..core.config import Timing
from ..core.escaping import escaped
from ..core.types import Entry, NodeId, Role, SnapshotMeta
from ..transport.base import (
    AddressUnusable,
    CertificateExpires,
    CertificatesReloaded,
    CertificatesUnusable,
    ConnectionRejected,
    LinkDown,
    LinkReplaced,
    LinkUp,
    Listening,
    MessagesDropped,
    TransportEvent,
)

ENTRIES_SHOWN_MAX: Final = 3
"""Entries of one AppendEntries that are written out; the others are counted."""
FREE_TEXT_CHARS_MAX: Final = 500
"""Longest text of somebody else's choice; the rest is cut."""
Traced: TypeAlias = events.TraceEvent | TransportEvent
"""Everything a node can tell about itself."""
Label: TypeAlias = Callable[[NodeId], str]
"""How a text names a node."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
# One space, at the one place where doubling it keeps a reader from recognising the line.
_SHAPE_SPACE = re.compile(r"(?<=---) (?=\w)|(?<=[0-9:.]) (?=\[)|(?<=becomes) |(?<=in state) ")


def defuse(text: str) -> str:
    """Somebody else's text, on one line, bounded, and unlike anything a reader looks for.

    Control characters become a space, and what else is not printable is escaped; where the text
    holds the shape of an entry, of a status or of a change of role, its space is doubled.
    """
    line = _SHAPE_SPACE.sub("  ", escaped(_CONTROL.sub(" ", text[: FREE_TEXT_CHARS_MAX + 1])))
    return line if len(text) <= FREE_TEXT_CHARS_MAX else line[:FREE_TEXT_CHARS_MAX] + "…"


def event_kind(event_type: type[Traced]) -> str:
    """The event's name in snake case, as logs use it: `role_changed`, `election_won`."""
    name = event_type.__name__.removesuffix("Event")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


# --- messages -------------------------------------------------------------------------------

_FIRST: Final = "term sender"
# What is written of a message, in the Go project's order.
_SHOWN: Final[Mapping[type[Any], str]] = {
    messages.RequestVote: f"{_FIRST} last_log_index last_log_term leadership_transfer",
    messages.RequestVoteReply: "term vote_granted",
    messages.RequestPreVote: "term next_term sender last_log_index last_log_term",
    messages.RequestPreVoteReply: "term next_term vote_granted removed_index",
    messages.AppendEntries: f"{_FIRST} prev_log_index prev_log_term entries leader_commit",
    messages.AppendEntriesReply: "term success conflict_index conflict_term",
    messages.InstallSnapshot: f"{_FIRST} meta offset data",
    messages.InstallSnapshotReply: "term meta next_offset installed",
    messages.TimeoutNow: _FIRST,
    messages.RequestReadIndex: "term number",
    messages.RequestReadIndexReply: "term number read_index",
    messages.ResultsCheck: "term index checksum",
    SnapshotMeta: "index term size_bytes",
}
_CANDIDATES: Final = (messages.RequestVote, messages.RequestPreVote)
_OTHER_NAMES: Final = {"meta": "Snapshot", "size_bytes": "Bytes"}
"""Of other fields: `last_log_index` is `LastLogIndex`."""

# The Go project's messages have no such field: written only when it says something.
_ONLY_IF_SET: Final = frozenset(
    {"leadership_transfer", "conflict_index", "conflict_term", "removed_index"}
)


def _struct_text(struct: msgspec.Struct, label: Label) -> str:
    """`{Term:1 VoteGranted:true}`."""
    values = [
        (name, attribute, getattr(struct, attribute)) for name, attribute in _shown(type(struct))
    ]
    parts = [
        f"{name}:{label(value) if attribute == 'sender' else _value_text(value)}"
        for name, attribute, value in values
        if value or attribute not in _ONLY_IF_SET
    ]
    return "{" + " ".join(parts) + "}"


@cache
def _shown(struct_type: type[msgspec.Struct]) -> tuple[tuple[str, str], ...]:
    """Name in the text, and attribute; a type without a row in the table shows all it has."""
    shown = _SHOWN.get(struct_type)
    if shown is None:
        fields = struct_type.__struct_fields__
        attributes = [name for name in fields if name not in ("sender", "receiver")]
    else:
        attributes = shown.split()
    sender = "CandidateId" if struct_type in _CANDIDATES else "LeaderId"
    names = {"sender": sender, **_OTHER_NAMES}
    return tuple((names.get(name) or name.title().replace("_", ""), name) for name in attributes)


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


def _sent(event: events.MessageSent, label: Label) -> str:
    message, name = event.message, type(event.message).__name__
    text = _struct_text(message, label)
    match message:
        case messages.AppendEntries():
            to = label(message.receiver)
            return f"sending AppendEntries to {to}: ni={event.next_index}, args={text}"
        case messages.AppendEntriesReply():
            return f"AppendEntries reply: {text}"
        case _ if name.endswith("Reply"):
            return f"... {name.removesuffix('Reply')} reply: &{text}"
        case _:
            return f"sending {name} to {label(message.receiver)}: {text}"


def _received(event: events.MessageReceived, label: Label) -> str:
    message, name = event.message, type(event.message).__name__
    text = _struct_text(message, label)
    match message:
        case messages.RequestVote() | messages.RequestPreVote():
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


def _widened(event: events.TimeoutsWidened, _: Label) -> str:
    if event.factor == 1:
        return "election timeouts back to normal"
    return f"election timeouts widened by {event.factor}"


def _configuration(event: events.ConfigurationChanged, label: Label) -> str:
    configuration = event.configuration
    parts = [
        f"{name} {' '.join(label(node) for node in ids)}"
        for name, ids in (
            ("voters", configuration.voters),
            ("outgoing", configuration.outgoing),
            ("learners", configuration.learners),
        )
        if ids
    ]
    return f"configuration {configuration.index}: {', '.join(parts)}"


def _forming(event: events.Forming, label: Label) -> str:
    why = (
        f"{label(peer)} ({defuse(problem)})"
        for peer, problem in zip(event.waiting_for, event.problems, strict=True)
    )
    return f"the cluster is forming: waiting for {', '.join(why)}"


def _too_short(event: events.TimingTooShort, _: Label) -> str:
    low_s, high_s = event.election_timeout_s
    better = Timing.for_round_trip(event.round_trip_s, write_s=event.write_s)
    better_low_s, better_high_s = better.election_timeout_s
    return (
        f"a round trip takes {event.round_trip_s * 1000:.0f} ms and a durable write "
        f"{event.write_s * 1000:.0f} ms: too long for election timeouts of "
        f"{low_s * 1000:.0f}-{high_s * 1000:.0f} ms. Give every member "
        f"--election-timeout {better_low_s * 1000:.0f}ms-{better_high_s * 1000:.0f}ms "
        f"--heartbeat {better.heartbeat_interval_s * 1000:.0f}ms, or "
        f"Timing.for_round_trip({event.round_trip_s:.3f}, write_s={event.write_s:.3f})"
    )


def _given_up(event: events.TransferGivenUp, label: Label) -> str:
    waited_ms = event.waited_s * 1000
    return f"transfer to {label(event.target)} given up after {waited_ms:.0f} ms"


def _rejected(event: ConnectionRejected, label: Label) -> str:
    who = "" if event.peer is None else f" (node {label(event.peer)})"
    return f"rejected connection from {defuse(event.remote)}{who}: {defuse(event.reason)}"


def _expires(event: CertificateExpires, _: Label) -> str:
    what = f"certificate for {event.port} {defuse(event.file)}"
    renew = "renew it: it is read again as soon as the file changes"
    if event.left_days < 0:
        return f"{what} has expired, {event.expires}: new connections fail; {renew}"
    when = {0: "within a day", 1: "in a day"}.get(event.left_days, f"in {event.left_days} days")
    return f"{what} expires {when}, {event.expires}; {renew}"


_TEXTS: Final[Mapping[type[Traced], Callable[[Any, Label], str]]] = {
    events.ElectionTimerStarted: lambda event, _: (
        f"election timer started ({event.timeout_s * 1000:.0f}ms), term={event.term}"
    ),
    events.RoleChanged: lambda event, _: _BECOMES[event.role].format(event),
    events.ElectionWonEvent: lambda event, _: f"wins election with {event.votes} votes",
    events.MessageSent: _sent,
    events.MessageReceived: _received,
    events.TermOutOfDate: lambda event, _: (
        f"... term out of date in {type(event.message).__name__}"
    ),
    events.StaleReply: lambda event, _: f"while waiting for reply, state = {event.role.value}",
    events.CommitAdvanced: lambda event, _: f"commit index advances to {event.commit_index}",
    events.TimeoutsWidened: _widened,
    events.TimingTooShort: _too_short,
    events.TermJumped: lambda event, label: (
        f"{label(event.sender)} says that the term is {event.term}, {event.term - event.previous} "
        "later than ours: elections hardly explain that. Look at that node"
    ),
    events.ConfigurationChanged: _configuration,
    events.TransferStarted: lambda event, label: f"hands leadership over to {label(event.target)}",
    events.TransferGivenUp: _given_up,
    events.SnapshotSaved: lambda event, _: (
        f"snapshot of {event.size_bytes} bytes saved up to {event.index}; "
        f"the log begins after {event.base_index}"
    ),
    events.SnapshotInstalled: lambda event, label: (
        f"snapshot of {event.size_bytes} bytes from {label(event.sender)} installed "
        f"up to {event.index}"
    ),
    events.SnapshotDamaged: lambda event, label: (
        f"snapshot of {event.size_bytes} bytes up to {event.index} came to {label(event.receiver)} "
        f"from {label(event.sender)} damaged: its checksum is wrong; it is sent again"
    ),
    events.SnapshotRotten: lambda event, _: (
        f"the stored snapshot of {event.size_bytes} bytes up to {event.index} is damaged: its "
        "checksum is wrong; nobody is sent it, and another is taken. Check this disk"
    ),
    events.Forming: _forming,
    events.ForeignDisk: lambda event, label: (
        f"node {label(event.peer)} is there with disk {event.disk}, and disk {event.named_disk} "
        "counts: nothing of it is counted until it is replaced"
    ),
    events.AcknowledgedLost: lambda event, label: (
        f"node {label(event.peer)} has lost entries up to {event.acknowledged_index} that it had "
        "acknowledged: it is not counted meanwhile"
    ),
    events.StorageNotice: lambda event, _: f"storage: {defuse(event.text)}",
    events.ResultsDiffer: lambda event, _: _results_differ(event),
    events.StorageWaits: lambda event, _: (
        f"no {event.resource} are left for the storage: the disk has not failed, and it is tried "
        "again"
    ),
    events.DiskIsFull: lambda event, _: "disk is full; the write is tried again",
    Listening: lambda event, _: f"listening at {defuse(event.address)}",
    LinkUp: lambda event, label: f"link to {label(event.peer)} up",
    LinkReplaced: lambda event, label: (
        f"link to {label(event.peer)} goes on over another connection: it was silent"
    ),
    LinkDown: lambda event, label: f"link to {label(event.peer)} down: {defuse(event.reason)}",
    AddressUnusable: lambda event, label: (
        f"node {label(event.peer)} cannot be reached: {defuse(event.reason)}"
    ),
    CertificatesReloaded: lambda event, _: (
        f"certificates for {event.port} read again: new connections use them"
        + ("" if event.expires is None else f", until {event.expires}")
    ),
    CertificatesUnusable: lambda event, _: (
        f"certificates for {event.port} changed and are not used, the old ones are: "
        f"{defuse(event.reason)}"
    ),
    CertificateExpires: _expires,
    ConnectionRejected: _rejected,
    MessagesDropped: lambda event, label: (
        f"dropped {event.count} messages to {label(event.peer)}: its queue is full"
    ),
}


def _results_differ(event: events.ResultsDiffer) -> str:
    voters = ", ".join(map(defuse, event.voters))
    others = ", ".join(
        f"{defuse(node)} has {checksum:08x}" for node, checksum in event.differing.items()
    )
    if event.is_agreed:
        what = f"a majority of voters ({voters}) has {event.checksum:08x}; {others}, "
        what += "and is told to stop"
    else:
        what = f"here {event.checksum:08x}; {others}; no majority of voters agrees on one"
    return f"results up to entry {event.index} differ: {what}"


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
    if isinstance(event, events.RoleChanged):
        return text_of(event, label), f"... because {defuse(str(event.reason))}"
    return (text_of(event, label),)


def _by_fields(event: Traced, _: Label) -> str:
    names = [field.name for field in attrs.fields(type(event)) if field.name != "at_s"]
    values = [f"{name}={_value_text(getattr(event, name))}" for name in names]
    return " ".join([event_kind(type(event)), *values])
