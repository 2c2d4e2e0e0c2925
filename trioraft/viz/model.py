"""What a log says, as typed values: runs, nodes, roles, messages, timers, marks, findings.

Every time is in seconds since the run's first entry (`_s`), never negative. A `line` is a line
number of the log file, from 1; an `entry` is an index into `Run.entries`; a `message` is one into
`Run.messages`. What is not known is None, never a guess. New fields come last, with a default.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Final, Literal, TypeAlias, get_args

import attrs

NodeName: TypeAlias = str
"""A node's id as the log has it: `"0"`, or `"alpha"` in JSON lines."""
Role: TypeAlias = Literal["Follower", "PreCandidate", "Candidate", "Leader", "Dead"]
"""A node's role, in the words of the log."""
ROLES: Final[tuple[Role, ...]] = get_args(Role)
ROLE_NAMED: Final[Mapping[str, Role]] = {role: role for role in ROLES}
Status: TypeAlias = Literal["PASS", "FAIL", "SKIP"]
"""How a run ended, as its status line says it."""
Severity: TypeAlias = Literal["error", "warning", "info"]
"""`error`: Raft's promises or the test's are broken. `warning`: it works, but badly.
`info`: worth knowing, and explained by what was done to the cluster."""
SEVERITIES: Final[tuple[Severity, ...]] = get_args(Severity)
Family: TypeAlias = Literal["vote", "pre-vote", "heartbeat", "entries", "snapshot", "other"]
"""What a message is about; a reply belongs to the family of its request."""
Fate: TypeAlias = Literal["delivered", "lost", "unknown"]
"""What became of a message. `unknown`: the log does not show receipts of its kind, or ended."""
TimerEnd: TypeAlias = Literal["expired", "replaced", "bailed out", "stopped", "open"]
"""How an election timer ended: an election began; a newer timer took its place; it noticed that
the role or the term had changed; the node became leader or died; the log ended."""
MarkKind: TypeAlias = Literal[
    "crash",
    "restart",
    "disconnect",
    "reconnect",
    "partition",
    "heal",
    "propose",
    "test",
    "link up",
    "link down",
    "join",
    "leave",
    "drop",
    "cut",
    "mend",
    "transfer",
    "configuration",
    "dead",
]
"""What was done to the cluster; `test` is any other line of the test. `drop`: a connection broke
and may be made again at once. `cut`, `mend`: some ways, each in one direction. `leave`: on purpose,
or cancelled. `transfer` and `configuration` are the cluster's own doing: leadership moves, the
members change. `dead`: connections that carry nothing any more, until new ones are made."""
FindingKind: TypeAlias = Literal[
    "two-leaders",
    "double-vote",
    "split-vote",
    "election-livelock",
    "missed-heartbeats",
    "orphan-timer",
    "leak",
    "no-leader",
    "stale-leader",
    "disruptive-rejoin",
    "slow-failover",
    "quorum-lost",
    "vote-refused",
    "older-term-commit",
]
FINDING_KINDS: Final[tuple[FindingKind, ...]] = get_args(FindingKind)


@attrs.frozen
class LogEntry:
    """One timestamped line of the log."""

    line: int
    at_s: float
    node: NodeName | None
    """Who wrote it; None: the test."""
    text: str
    """What follows the time and the id."""
    source: int = 0
    """Which of `Run.sources`."""


@attrs.frozen
class BrokenLine:
    """A line inside a run that is nothing we know; it is kept as it is, cut at a limit."""

    line: int
    text: str


@attrs.frozen
class LogEnd:
    """The last entry of a log: index and term, as the line has them."""

    index: int
    term: int


@attrs.frozen
class RoleSpan:
    """A time during which a node had one role in one term."""

    role: Role
    term: int
    start_s: float
    end_s: float
    entry: int | None = None
    """Where the log says so; None for what a node is before it says anything."""
    reason: str | None = None
    """Why it took the role, if the log gives a reason."""
    log_end: LogEnd | None = None
    """Where the node's log ended then, if the line says so."""


@attrs.frozen
class Members:
    """Who belongs to the cluster (paper, section 6)."""

    voters: tuple[NodeName, ...]
    outgoing: tuple[NodeName, ...] = ()
    """The voters before, while a joint configuration counts; else none."""
    learners: tuple[NodeName, ...] = ()

    @property
    def majority(self) -> int:
        """How many voters are more than half."""
        return len(self.voters) // 2 + 1

    def has(self, name: NodeName) -> bool:
        """Whether this node belongs to it."""
        return name in self.voters or name in self.outgoing or name in self.learners

    def is_quorum(self, reached: Container[NodeName]) -> bool:
        """Whether these are a majority of the voters, and of those before as long as they count."""
        return all(
            sum(name in reached for name in voters) > len(voters) // 2
            for voters in (self.voters, self.outgoing)
            if voters
        )


@attrs.frozen
class MembersPoint:
    """From here on these are the members."""

    at_s: float
    members: Members
    entry: int


@attrs.frozen
class FormingPoint:
    """A node of a new cluster says here for whom it waits."""

    at_s: float
    waiting_for: tuple[NodeName, ...]
    entry: int


@attrs.frozen
class CommitPoint:
    """From here on the node knows the log to be committed up to this index."""

    at_s: float
    commit_index: int
    entry: int


@attrs.frozen
class Timer:
    """One election timer."""

    node: NodeName
    term: int
    start_s: float
    end_s: float
    timeout_s: float
    """As drawn; hearing the leader may have restarted the timer meanwhile."""
    end: TimerEnd
    start_entry: int
    end_entry: int | None = None


@attrs.frozen
class NodeTrace:
    """What one node did during the run."""

    name: NodeName
    roles: tuple[RoleSpan, ...] = ()
    """In order and without gaps, from the node's first line to the end of the run."""
    commits: tuple[CommitPoint, ...] = ()
    timers: tuple[Timer, ...] = ()
    """By start. They overlap only if the node had several at once."""
    full_name: str | None = None
    """Its real id, if the log gave it a number instead."""


@attrs.frozen
class Message:
    """One message between two nodes."""

    kind: str
    """`RequestVote`, `RequestVoteReply`, `AppendEntries`, …: the message's type."""
    family: Family
    sender: NodeName | None
    receiver: NodeName | None
    term: int | None
    sent_s: float | None
    """None: only its arrival is in the log."""
    received_s: float | None
    """None: it never arrived, or nobody said so; see `fate`."""
    fate: Fate
    is_reply: bool = False
    request: int | None = None
    """Of a reply: the message that it answers."""
    reply: int | None = None
    """Of a request: the message that answers it."""
    is_positive: bool | None = None
    """Of a reply: granted, or successful. None for requests."""
    entries_count: int = 0
    """Of an AppendEntries: how many entries it carries; 0 is a heartbeat."""
    sent_entry: int | None = None
    received_entry: int | None = None
    log_end: LogEnd | None = None
    """Of a RequestVote: where the candidate's log ends. Of an AppendEntries: where the receiver's
    does once it has taken the entries."""
    receiver_vote: NodeName | None = None
    """Of a RequestVote: whom the receiver had voted for in this term when it came, if its line says
    so."""


@attrs.frozen
class Mark:
    """Something done to the cluster, or said by the test."""

    kind: MarkKind
    at_s: float
    nodes: tuple[NodeName, ...]
    """Whom it concerns; for a partition all nodes in its groups; for a link both ends."""
    text: str
    entry: int
    groups: tuple[tuple[NodeName, ...], ...] = ()
    """Of a partition: who can still talk to whom."""


@attrs.frozen
class Term:
    """One term, as far as it came to an election."""

    number: int
    leader: NodeName | None
    """Who won it; the first, should there be several."""
    candidates: tuple[NodeName, ...]
    """Who asked for votes, in the order of their candidacy."""
    start_s: float
    """The first candidacy, or the first sign of the leader."""
    won_s: float | None = None
    """When the leader took office."""
    leaders: tuple[NodeName, ...] = ()
    """All that took office: more than one breaks Raft's first promise."""


@attrs.frozen
class Durations:
    """How long something took, over all times it was measured, in milliseconds."""

    count: int
    least_ms: float
    median_ms: float
    most_ms: float


@attrs.frozen
class Failover:
    """A change of leader."""

    old_leader: NodeName
    old_term: int
    new_leader: NodeName
    new_term: int
    heard_s: float | None
    """When a heartbeat of the old leader last reached a node that could reach a majority; None: the
    log does not show it."""
    lost_s: float
    """When the old one stopped leading, or, if later, when a majority could talk again."""
    won_s: float
    """When the next one took office."""

    @property
    def waited_s(self) -> float:
        """From the last heartbeat to the new leader; if none is known, from the loss."""
        return self.won_s - (
            self.lost_s if self.heard_s is None else min(self.heard_s, self.lost_s)
        )


@attrs.frozen
class Statistics:
    """A run in numbers."""

    elections: int = 0
    """Terms in which somebody asked for votes."""
    elections_won: int = 0
    failovers_ms: tuple[float, ...] = ()
    """From the loss of a leader (while a majority could talk) to the next one in office."""
    first_term: int = 0
    last_term: int = 0
    messages: Mapping[str, int] = attrs.Factory(dict)
    """How many were sent, by kind."""
    messages_lost: int = 0
    vote_round_trip: Durations | None = None
    """From asking for a vote to having the answer."""
    heartbeat_round_trip: Durations | None = None
    heartbeat_interval: Durations | None = None
    """Between two AppendEntries of a leader to the same follower."""
    election_timeout: Durations | None = None
    """As drawn by the election timers."""
    failovers: tuple[Failover, ...] = ()
    """The same changes as in `failovers_ms`, as those count who wait."""
    first_leader_s: float | None = None
    """When somebody first led, with a majority."""


@attrs.frozen
class Finding:
    """Something that a reader of the log should know."""

    kind: FindingKind
    severity: Severity
    terms: tuple[int, ...]
    nodes: tuple[NodeName, ...]
    start_s: float
    end_s: float
    detail: str
    """A sentence for somebody new to Raft, with the values that were measured."""
    lines: tuple[int, ...] = ()
    """Line numbers of the log file that show it."""
    entries: tuple[int, ...] = ()
    """The same as indexes into `Run.entries`, where they are entries."""


@attrs.frozen
class ReportedLeak:
    """One leaked goroutine, task, thread, … as a leak check reported it in the log."""

    line: int
    what: str
    """`goroutine 46 [chan receive]`, `task: heartbeats`."""
    place: str | None
    """Where it is, or where it was started: function and `file:line`, as far as reported."""
    started_at: str | None = None


@attrs.frozen
class Run:
    """One run of a log: a test, a demo, a simulation."""

    name: str
    status: Status | None
    """None: the log has no verdict."""
    source: str
    """The file it was read from, as the user named it."""
    start_line: int
    """Its header, or its first entry if it has none."""
    duration_s: float
    """From the first entry to the last."""
    nodes: tuple[NodeTrace, ...] = ()
    """Sorted: numbers by value, then names."""
    entries: tuple[LogEntry, ...] = ()
    broken: tuple[BrokenLine, ...] = ()
    """The first lines that could not be read; `unparsed` counts all."""
    unparsed: int = 0
    terms: tuple[Term, ...] = ()
    """In order."""
    messages: tuple[Message, ...] = ()
    """In the order of their first entry."""
    marks: tuple[Mark, ...] = ()
    leaks: tuple[ReportedLeak, ...] = ()
    findings: tuple[Finding, ...] = ()
    """Worst first, then by time."""
    statistics: Statistics = attrs.Factory(Statistics)
    configurations: tuple[MembersPoint, ...] = ()
    """Changes of the members, in order; before the first, all that write and did not join later
    are voters."""
    forming: tuple[FormingPoint, ...] = ()
    """Who waited for whom before a new cluster had formed, in order."""
    sources: tuple[str, ...] = ()
    """All files, if several logs tell of the run together; `LogEntry.source` counts them."""
    unknowns: tuple[str, ...] = ()
    """What logs of this kind do not tell, in sentences."""

    @property
    def is_partial(self) -> bool:
        """Whether a leader may have led, or a vote been given, that these logs do not show."""
        return bool(self.unknowns)

    @property
    def node_names(self) -> tuple[NodeName, ...]:
        """The ids of all nodes that wrote."""
        return tuple(node.name for node in self.nodes)
