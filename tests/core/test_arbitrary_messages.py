"""A core fed anything well-typed raises `BadMessage` and nothing else, and keeps its invariants.

Rules of this file: messages of every type are drawn without regard to sense, from members and
strangers; the node's own inputs (time, proposals, the disk) come in between.
"""

from __future__ import annotations

import contextlib
import zlib

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.thorough import tries
from trioraft.core import messages
from trioraft.core.config import Limits, Timing
from trioraft.core.errors import BadMessage, NotLeader
from trioraft.core.invariants import ClusterInvariants, NodeFacts, check_node, check_progressed
from trioraft.core.messages import Message
from trioraft.core.raft import Raft
from trioraft.core.types import Configuration, Entry, NodeId, Role, SnapshotMeta

from .conversation import Actor, entries_of
from .drawn import drawn
from .properties import quietly

# Small numbers meet each other; large and negative ones meet nobody.
numbers = st.one_of(st.integers(-2, 8), st.sampled_from([-(2**63), 2**31, 2**62]))
terms = st.integers(-1, 7)
senders = st.sampled_from(["1", "2", "3", "stranger"])
receivers = st.sampled_from(["1"] * 9 + ["3"])
entries = st.lists(
    st.builds(Entry, numbers, terms, st.binary(max_size=3), st.integers(-1, 4)), max_size=4
).map(tuple)

CONTENT = msgspec.msgpack.encode(list(entries_of(1, 1, 2, 2)))
metas = st.builds(
    SnapshotMeta,
    numbers,
    terms,
    st.just(Configuration(("1", "2", "3"))),
    st.just(len(CONTENT)),
    st.just(zlib.crc32(CONTENT)),
)


@st.composite
def sensible_entries(draw: st.DrawFn) -> messages.AppendEntries:
    """Entries that continue their predecessor: these get past the first check."""
    prev_index, prev_term = draw(st.integers(0, 6)), draw(st.integers(0, 5))
    rising = sorted(draw(st.lists(st.integers(prev_term, 6), max_size=4)))
    term = max([prev_term, *rising, draw(terms)])
    run = tuple(Entry(n, at, b"x") for n, at in enumerate(rising, prev_index + 1))
    sender = draw(senders)
    return messages.AppendEntries(sender, "1", term, prev_index, prev_term, run, draw(numbers))


TERMS = ("term", "next_term", "last_log_term", "prev_log_term", "conflict_term")
arbitrary: st.SearchStrategy[Message] = st.one_of(
    sensible_entries(),
    drawn(
        Message,
        ints=numbers,
        fields={
            **dict.fromkeys(TERMS, terms),
            "sender": senders,
            "receiver": receivers,
            "entries": entries,
            "meta": metas,
            "InstallSnapshot.offset": st.sampled_from([0, 0, 0, 3, -1, 2**62]),
            "InstallSnapshot.data": st.sampled_from(
                [b"", CONTENT, CONTENT, CONTENT[:3], CONTENT[3:]]
            ),
        },
    ),
)
own_inputs = st.sampled_from(["timeout", "beat", "propose", "persist", "lost", "crash", "snapshot"])
scripts = st.lists(st.one_of(arbitrary, own_inputs), max_size=40)


class OwnRules:
    """The rules that a node alone must keep: its peers here keep none."""

    def __init__(self) -> None:
        self._before: NodeFacts | None = None
        self._votes = ClusterInvariants()

    def observe(self, raft: Raft) -> None:
        check_node(raft)
        if self._before is not None:
            check_progressed(self._before, raft)
        self._before = NodeFacts.of(raft)

    def on_sent(self, message: Message) -> None:
        self._votes.on_sent(message)

    def on_restart(self, node_id: NodeId) -> None:
        self._before = None


def play(one: Actor, script: list[Message | str]) -> None:
    """Feed the script; an actor checks all invariants after every input."""
    for step in script:
        if isinstance(step, str):
            own_input(one, step)
            continue
        before = (one.raft.hard_state, one.raft.role, one.raft.leader_id, one.raft.log.last_index)
        try:
            one.hears(step)
        except BadMessage:
            after = one.raft
            assert before == (after.hard_state, after.role, after.leader_id, after.log.last_index)


def own_input(one: Actor, step: str) -> None:
    """What comes from this node's own clock, clients, disk and connections."""
    match step:
        case "timeout":
            one.times_out()
        case "beat" if one.raft.role is Role.LEADER:
            one.beats()
        case "propose":
            with contextlib.suppress(NotLeader):
                one.proposes(b"x")
        case "persist":
            one.persist()
        case "lost":
            one.loses("2")
        case "snapshot" if one.raft.log.applied_index > one.raft.log.base_index:
            one.takes_snapshot()
        case "crash":
            one.crash_and_restart()


@given(scripts, st.booleans(), st.booleans(), st.sampled_from([("1",), ("1", "2", "3")]))
@settings(quietly, max_examples=tries(100))
def test_a_core_survives_whatever_it_is_told(
    script: list[Message | str], pre_vote: bool, disk_waits: bool, voters: tuple[str, ...]
) -> None:
    one = Actor(
        "1",
        voters,
        timing=Timing(pre_vote=pre_vote),
        limits=Limits(append_entries_max=2, inflight_messages_max=2),
        checks=OwnRules(),
    )
    one.disk_waits = disk_waits
    play(one, script)


@given(scripts, st.booleans())
@settings(quietly, max_examples=tries(80))
def test_a_leader_survives_whatever_it_is_told(
    script: list[Message | str], disk_waits: bool
) -> None:
    one = Actor("1", timing=Timing(pre_vote=False), checks=OwnRules())
    one.times_out()
    one.hears(messages.RequestVoteReply("2", "1", 1, True))
    one.proposes(b"a", b"b")
    one.disk_waits = disk_waits
    play(one, script)
