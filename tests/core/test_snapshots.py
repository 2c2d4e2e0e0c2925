"""Compaction and snapshots, as far as the core goes (paper, section 7; hazards S1, S2, D1).

Rules of this file: a snapshot's content is the list of entries that it stands for, so a state
machine that was restored from it can be compared with one that applied them.
"""

from __future__ import annotations

import itertools
from collections import deque

import attrs
import msgspec
import pytest

from trioraft.core import events
from trioraft.core.config import Limits, Timing
from trioraft.core.errors import BadMessage
from trioraft.core.events import TraceEvent
from trioraft.core.leadership import TRANSFER_TIMEOUTS
from trioraft.core.messages import AppendEntries, InstallSnapshot, InstallSnapshotReply
from trioraft.core.progress import ProgressState
from trioraft.core.types import Role, SnapshotMeta

from .conversation import THREE, Actor, Conversation, between, entries_of, terms_of, text
from .messages_by_hand import append, chunk, chunk_stored, matched, request_vote, snapshot_of, vote

NO_PRE_VOTE = Timing(pre_vote=False)
SHORT_TAIL = Limits(snapshot_tail_entries=1, snapshot_chunk_bytes=42, append_entries_max=3)

FIVE_ENTRIES = msgspec.msgpack.encode(list(entries_of(1, 1, 1, 1, 1)))
FOUR_ENTRIES = msgspec.msgpack.encode(list(entries_of(1, 1, 1, 1)))
HALF = len(FIVE_ENTRIES) // 2
META = snapshot_of(FIVE_ENTRIES, 5, 1)


def compacted(*terms: int, base: int) -> Actor:
    """Node "1" as a follower with all of this applied, its log cut up to `base`.

    The log reaches back to the last snapshot but one.
    """
    one = Actor("1", term=terms[-1], log=entries_of(*terms), limits=SHORT_TAIL)
    for index in (base, base + 1):
        one.hears(append("2", terms[-1], (terms[index - 1], index), commit=index))
        one.takes_snapshot()
    assert one.raft.log.base_index == base
    one.hears(append("2", terms[-1], (terms[-1], len(terms)), commit=len(terms)))
    one.says()
    return one


def leader_with(*terms: int) -> Actor:
    """Node "1" as a leader whose followers have said nothing yet."""
    term = terms[-1]
    one = Actor("1", term=term, log=entries_of(*terms), timing=NO_PRE_VOTE, limits=SHORT_TAIL)
    one.times_out()
    one.hears(vote("2", term + 1))
    assert one.is_now(Role.LEADER)
    one.says()
    return one


# -- what a snapshot stands for ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "match"),
    [
        pytest.param(append("2", 1, (1, 1), entries_of(1, first=2)), 2, id="all of it"),
        pytest.param(append("2", 1, (0, 0), entries_of(1, 1, 1)), 3, id="all, from the start"),
        pytest.param(append("2", 1, (0, 0)), 0, id="a heartbeat from the start"),
        pytest.param(append("2", 1, (1, 2)), 2, id="a heartbeat"),
        pytest.param(append("2", 1, (1, 2), entries_of(1, 1, 1, first=3)), 5, id="up to the base"),
        pytest.param(append("2", 1, (1, 3), entries_of(1, 1, 1, first=4)), 6, id="beyond the base"),
    ],
)
def test_entries_that_a_snapshot_stands_for_match(message: AppendEntries, match: int) -> None:
    """A leader that asks from far back must learn that all of it is here, or it asks for ever."""
    one = compacted(1, 1, 1, 1, 1, 1, 1, base=5)
    one.hears(message)
    assert one.says() == f"1->2 AppendEntriesReply term=1 match={match}"
    assert (one.raft.log.base_index, one.raft.log.last_index) == (5, 7)


def test_a_leader_that_starts_over_finds_a_follower_whose_log_begins_later() -> None:
    """A connection is lost before the first answer: the leader, not compacted, asks from 1."""
    logs = {"1": entries_of(*[1] * 9), "2": entries_of(*[1] * 9), "3": ()}
    talk = Conversation(
        *(Actor(n, term=1, log=logs[n], limits=SHORT_TAIL, timing=NO_PRE_VOTE) for n in THREE)
    )
    two = talk["2"]
    for index in (8, 9):
        two.hears(append("3", 1, (1, index), commit=index, to="2"))
        two.takes_snapshot()
    two.says()
    assert two.raft.log.base_index == 8
    talk.cut_off("1", "2")
    talk["1"].times_out()
    talk.talk(2)
    talk["1"].outbox.clear()
    talk["1"].loses("2")
    talk.talk()
    assert talk["1"].raft.log.commit_index == 10
    assert two.raft.log.last_index == 10


# -- sending one -------------------------------------------------------------------------------


def test_a_follower_far_behind_gets_the_snapshot_and_then_the_rest() -> None:
    talk = Conversation(*(Actor(n, limits=SHORT_TAIL, timing=NO_PRE_VOTE) for n in THREE))
    talk.elect("1")
    talk.cut_off("1", "2")
    for commands in ((b"a", b"b"), (b"c",)):
        talk["1"].proposes(*commands)
        talk.talk()
        talk["1"].takes_snapshot()
    assert talk["1"].raft.log.base_index == 3
    talk.heal()
    talk.transcript()
    talk["1"].loses("3")
    talk.talk()
    talk["1"].proposes(b"d")
    talk.talk()
    assert between(talk.transcript(), "1", "3") == text("""
        1->3 InstallSnapshot term=1 snapshot=(1,4) offset=0 bytes=42
        3->1 InstallSnapshotReply term=1 snapshot=(1,4) next=42 installed=True
        1->3 AppendEntries term=1 prev=(1,4) entries=[1] commit=4
        3->1 AppendEntriesReply term=1 match=5
    """)
    talk["1"].beats()
    talk.talk()
    assert talk["3"].applied_commands() == [b"a", b"b", b"c", b"d"]


def test_a_snapshot_that_is_gone_without_a_newer_one_is_not_asked_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was asked for again at once, and again: found by tier 2 of the simulator, seed 562, whose
    clock stands still while anybody works."""
    talk = Conversation(*(Actor(n, limits=SHORT_TAIL, timing=NO_PRE_VOTE) for n in THREE))
    one = talk.elect("1")
    talk.cut_off("1", "2")
    one.proposes(b"a", b"b", b"c")
    talk.talk()
    one.takes_snapshot()
    asked: list[int] = []

    def gone(_: object, meta: SnapshotMeta, offset: int, size: int) -> None:
        asked.append(offset)
        assert len(asked) < 5

    monkeypatch.setattr(type(one.disk), "read_chunk", gone)
    talk.heal()
    one.loses("3")
    talk.talk()
    assert asked == [0]
    one.now += NO_PRE_VOTE.election_timeout_s[1]
    one.beats()
    assert asked == [0, 0]


EVERY = 8
IN_CHUNKS = attrs.evolve(SHORT_TAIL, snapshot_chunk_bytes=10, snapshot_entries=EVERY)


def three_is_behind(limits: Limits = SHORT_TAIL) -> Conversation:
    """1 leads, and has compacted what 3 lacks, which hears it from now on."""
    talk = Conversation(*(Actor(n, limits=limits, timing=NO_PRE_VOTE) for n in THREE))
    one = talk.elect("1")
    talk.cut_off("1", "2")
    for commands in ((b"a", b"b"), (b"c",)):
        one.proposes(*commands)
        talk.talk()
        one.takes_snapshot()
    talk.heal()
    talk.transcript()
    for actor in talk.actors.values():
        actor.saves_by_itself = True
    return talk


def three_is_being_sent() -> tuple[Conversation, Actor]:
    """As `three_is_behind`, and the leader: the first chunk is there, the next is on its way."""
    talk = three_is_behind(IN_CHUNKS)
    one = talk["1"]
    one.loses("3")
    talk.talk(2)
    return talk, one


def told(actor: Actor, kind: type[TraceEvent]) -> int:
    """How many events of this kind there were."""
    return sum(isinstance(event, kind) for event in actor.events)


def test_p4_a_rotten_snapshot_is_noticed_before_it_is_sent_and_another_is_taken() -> None:
    talk = three_is_behind()
    one, three = talk["1"], talk["3"]
    meta, content = one.disk.snapshots[-1]
    one.disk.snapshots[-1] = (meta, bytes([content[0] ^ 1]) + content[1:])
    one.loses("3")
    talk.talk()
    assert "InstallSnapshot " not in talk.transcript()
    assert told(one, events.SnapshotRotten) == 1
    for _ in range(3):  # an entry that it does not cover, its snapshot, and that is sent
        one.beats()
        talk.talk()
    assert one.disk.snapshots[-1][0].index > meta.index
    assert three.raft.log.commit_index == one.raft.log.commit_index
    assert three.applied_commands() == [b"a", b"b", b"c"]
    assert told(three, events.SnapshotInstalled) == 1


def test_p4_what_comes_damaged_is_told_on_both_sides_and_sent_less_and_less_often() -> None:
    talk = three_is_behind()
    one = talk["1"]
    one.loses("3")
    sent_s = []
    for _ in range(200):
        said = list(one.outbox)
        one.outbox.clear()
        for message in said:
            if isinstance(message, InstallSnapshot):
                sent_s.append(one.now)
                one.hears(chunk_stored("3", 1, message.meta, 0, is_damaged=True))
        one.hears(matched("2", 1, one.raft.log.last_index))
        one.beats()
    gaps = [round(after - before, 3) for before, after in itertools.pairwise(sent_s)]
    assert gaps == sorted(gaps)
    assert gaps[-1] > 1.0
    assert told(one, events.SnapshotDamaged) == len(sent_s)
    assert told(one, events.SnapshotRotten) == 0


def test_p4_the_follower_says_that_what_came_is_damaged() -> None:
    one = Actor("1")
    wrong = bytes([FIVE_ENTRIES[0] ^ 1]) + FIVE_ENTRIES[1:]
    one.hears(chunk("2", 1, META, 0, wrong[:HALF]), chunk("2", 1, META, HALF, wrong[HALF:]))
    replies = [m for m in one.outbox if isinstance(m, InstallSnapshotReply)]
    assert [(reply.next_offset, reply.is_damaged) for reply in replies] == [
        (HALF, False),
        (0, True),
    ]
    assert told(one, events.SnapshotDamaged) == 1


def test_a_transfer_that_a_restart_has_lost_is_not_called_damaged() -> None:
    one = Actor("1")
    one.hears(chunk("2", 1, META, HALF, FIVE_ENTRIES[HALF:]))
    replies = [m for m in one.outbox if isinstance(m, InstallSnapshotReply)]
    assert [(reply.next_offset, reply.is_damaged) for reply in replies] == [(0, False)]


def test_p3_what_is_being_sent_is_not_pushed_out_by_newer_snapshots() -> None:
    """A storage keeps two: one newer one may come, and no third, until the transfer has ended or
    nothing more of it was stored for long."""
    talk, one = three_is_being_sent()
    sent = one.disk.snapshots[-1][0]
    talk.cut_off("1", "2")
    for _ in range(3 * EVERY):
        one.proposes(b"x")
        talk.talk()
    kept = [meta for meta, _ in one.disk.snapshots]
    assert kept[0] == sent
    assert kept[1].index <= sent.index + EVERY
    assert one.raft.log.base_index <= sent.index
    talk.heal()
    for _ in range(40):
        one.beats()
        talk.talk()
    assert talk["3"].raft.log.commit_index == one.raft.log.commit_index
    assert told(talk["3"], events.SnapshotInstalled) == 1
    assert one.disk.snapshots[0][0] == sent  # until there is something to apply
    one.proposes(b"y")
    talk.talk()
    assert one.disk.snapshots[0][0] == kept[1]


def test_p3_a_transfer_goes_on_where_it_was_though_its_connection_closes_all_the_time() -> None:
    talk, one = three_is_being_sent()
    three = talk["3"]
    sent = one.disk.snapshots[-1][0]
    for _ in range(6 * EVERY):
        one.proposes(b"x")  # there would be a newer snapshot after a few
        talk.talk(2)
        one.loses("3")
        one.outbox = deque(m for m in one.outbox if m.receiver != "3")
        one.beats()
        talk.talk(4)
    assert told(three, events.SnapshotInstalled) == 1
    first = [line for line in talk.transcript().splitlines() if "InstallSnapshot " in line]
    assert sum("offset=0 " in line for line in first) == 1
    assert sum("offset=" in line for line in first) < 2 * sent.size_bytes / 10
    assert three.raft.log.commit_index > sent.index


def test_p3_nothing_of_a_snapshot_is_sent_into_a_connection_that_closed() -> None:
    talk, one = three_is_being_sent()
    one.loses("3")
    one.outbox.clear()  # it was lost with the connection
    talk.cut_off("3")
    talk.transcript()
    for _ in range(20):
        one.beats()
        talk.talk()
    assert "InstallSnapshot " not in talk.transcript()
    talk.heal()
    one.beats()
    talk.talk()
    assert told(talk["3"], events.SnapshotInstalled) == 1


def test_p3_the_log_after_what_is_being_sent_stays_though_its_snapshot_is_gone() -> None:
    """Whoever drives the core may keep one snapshot: what follows the transfer is kept here."""
    talk, one = three_is_being_sent()
    one.saves_by_itself = False
    sent = one.disk.snapshots[-1][0]
    talk.cut_off("3")
    for _ in range(EVERY - 1):
        one.proposes(b"x")
        talk.talk()
        one.takes_snapshot()
    assert one.raft.snapshot is not None
    assert one.raft.snapshot.index > sent.index + SHORT_TAIL.snapshot_tail_entries
    assert one.raft.log.base_index <= sent.index


def test_p3_a_transfer_that_does_not_move_is_given_up() -> None:
    talk, one = three_is_being_sent()
    sent = one.disk.snapshots[-1][0]
    talk.cut_off("1", "2")
    given_up_s = one.now + TRANSFER_TIMEOUTS * NO_PRE_VOTE.election_timeout_s[1]
    while one.now < given_up_s:
        one.beats()
        one.proposes(b"x")
        talk.talk()
    one.proposes(b"x")
    talk.talk()
    assert sent not in [meta for meta, _ in one.disk.snapshots]


def test_p3_who_stays_away_pins_nothing_after_it_was_given_up() -> None:
    """What is taken since is not sent to it, and so not kept for it either, before it is heard."""
    talk, one = three_is_being_sent()
    one.loses("3")
    one.outbox.clear()  # it was lost with the connection
    talk.cut_off("1", "2")
    talk.transcript()
    given_up_s = one.now + TRANSFER_TIMEOUTS * NO_PRE_VOTE.election_timeout_s[1]
    while one.now < given_up_s:
        one.beats()
        talk.talk()
    for _ in range(6 * EVERY):
        one.proposes(b"x")
        one.beats()
        talk.talk()
    assert one.raft.log.last_index - one.disk.snapshots[0][0].index <= 3 * EVERY
    assert "InstallSnapshot " not in talk.transcript()
    talk.heal()
    for _ in range(40):
        one.beats()
        talk.talk()
    assert told(talk["3"], events.SnapshotInstalled) == 1
    assert talk["3"].raft.log.commit_index == one.raft.log.commit_index


def test_p3_what_takes_a_rotten_snapshots_place_waits_for_who_is_cut_off() -> None:
    talk = three_is_behind()
    one = talk["1"]
    meta, content = one.disk.snapshots[-1]
    one.disk.snapshots[-1] = (meta, bytes([content[0] ^ 1]) + content[1:])
    one.loses("3")
    talk.talk()
    one.loses("3")
    talk.cut_off("1", "2")
    for _ in range(6):
        one.beats()
        talk.talk()
    assert one.disk.snapshots[-1][0].index > meta.index
    assert "InstallSnapshot " not in talk.transcript()
    talk.heal()
    one.beats()
    talk.talk()
    assert told(talk["3"], events.SnapshotInstalled) == 1


@pytest.mark.parametrize("next_offset", [-1, -(2**40), META.size_bytes + 1])
def test_nobody_asks_for_what_is_not_in_a_snapshot(next_offset: int) -> None:
    """The offset goes to the storage: it must be one."""
    one = leader_with(1, 1, 1, 1, 1)
    with pytest.raises(BadMessage, match=rf"wants {next_offset} of a snapshot of"):
        one.hears(chunk_stored("2", 2, META, next_offset))


# -- receiving one -----------------------------------------------------------------------------


def test_a_snapshot_is_received_in_chunks_and_installed_once() -> None:
    one = Actor("1", term=1)
    one.hears(chunk("2", 1, META, 0, FIVE_ENTRIES[:HALF]))
    one.hears(chunk("2", 1, META, HALF, FIVE_ENTRIES[HALF:]))
    size = META.size_bytes
    assert one.says() == text(f"""
        1->2 InstallSnapshotReply term=1 snapshot=(1,5) next={HALF} installed=False
        1->2 InstallSnapshotReply term=1 snapshot=(1,5) next={size} installed=True
    """)
    assert one.applied == list(entries_of(1, 1, 1, 1, 1))
    assert (one.raft.log.base_index, one.raft.log.commit_index, terms_of(one.raft)) == (5, 5, ())
    one.hears(chunk("2", 1, META, 0, FIVE_ENTRIES[:HALF]))
    assert one.says().endswith("installed=True")
    assert one.raft.log.base_index == 5


def test_what_follows_a_snapshot_in_the_log_is_kept() -> None:
    one = Actor("1", term=1, log=entries_of(*[1] * 8))
    one.hears(chunk("2", 1, META, 0, FIVE_ENTRIES))
    assert (one.raft.log.base_index, one.raft.log.last_index) == (5, 8)
    one.crash_and_restart()
    assert (one.raft.log.base_index, one.raft.log.last_index) == (5, 8)


def test_a_log_that_does_not_hold_the_snapshots_entry_gives_way() -> None:
    meta = snapshot_of(FIVE_ENTRIES, 5, 2)
    one = Actor("1", term=2, log=entries_of(*[1] * 8))
    one.hears(chunk("2", 2, meta, 0, FIVE_ENTRIES))
    assert (one.raft.log.base_index, one.raft.log.last_index) == (5, 5)


def test_d1_a_snapshot_is_acknowledged_only_once_it_is_installed() -> None:
    one = Actor("1", term=1)
    one.disk_waits = True
    one.hears(chunk("2", 1, META, 0, FIVE_ENTRIES))
    one.persist(1)
    assert one.raft.log.base_index == 5  # in memory
    assert one.says() == ""
    one.persist()
    assert "installed=True" in one.says()


def test_d1_entries_that_a_snapshot_brings_are_acknowledged_only_once_it_is_installed() -> None:
    """A match that a crash takes back leaves the leader with nothing to send, for ever."""
    one = Actor("1", term=1)
    one.disk_waits = True
    one.hears(chunk("2", 1, META, 0, FIVE_ENTRIES))
    one.persist(1)
    one.hears(append("2", 1, (1, 5)), append("2", 1, (1, 2)))
    assert one.says() == ""
    one.persist()
    assert [line.split()[-1] for line in one.says().splitlines()] == [
        "installed=True",
        "match=5",
        "match=2",
    ]


def test_s1_nothing_is_applied_while_a_snapshot_is_being_installed() -> None:
    one = Actor("1", term=1)
    one.disk_waits = True
    one.hears(chunk("2", 1, META, 0, FIVE_ENTRIES))
    one.persist(1)
    one.hears(append("2", 1, (1, 5), entries_of(1, first=6), commit=6))
    assert (one.raft.log.commit_index, one.applied) == (6, [])
    one.persist()
    assert [entry.index for entry in one.applied] == [1, 2, 3, 4, 5, 6]


def test_s1_what_follows_a_snapshot_is_applied_after_it_though_it_was_durable_before() -> None:
    one = Actor("1", term=1, log=entries_of(*[1] * 8))
    one.disk_waits = True
    one.hears(chunk("2", 1, META, 0, FIVE_ENTRIES))
    one.persist(1)
    one.hears(append("2", 1, (1, 8), commit=8))
    assert (one.raft.log.commit_index, one.applied) == (8, [])
    one.persist()
    assert [entry.index for entry in one.applied] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_s2_a_snapshot_that_is_complete_is_installed_before_another_one_begins() -> None:
    """The storage holds one received snapshot: a new transfer would throw the last one away."""
    newer = snapshot_of(FIVE_ENTRIES, 9, 1)
    one = Actor("1", term=1)
    one.disk_waits = True
    one.hears(chunk("2", 1, META, 0, FIVE_ENTRIES), chunk("2", 1, newer, 0, FIVE_ENTRIES[:9]))
    one.persist(1)
    one.hears(chunk("2", 1, newer, 0, FIVE_ENTRIES[:9]))
    one.persist()
    assert one.raft.log.base_index == 5
    one.hears(chunk("2", 1, newer, 0, FIVE_ENTRIES))
    one.persist()
    assert one.raft.log.base_index == 9


def test_chunks_do_not_pile_up_before_a_slow_disk() -> None:
    one = Actor("1", term=1)
    one.disk_waits = True
    for _ in range(10):
        one.hears(chunk("2", 1, META, 0, FIVE_ENTRIES[:HALF]))
    assert sum(len(ready.chunks) for ready in one.unwritten) == 1
    one.persist()
    one.hears(chunk("2", 1, META, HALF, FIVE_ENTRIES[HALF:]))
    one.persist()
    assert one.raft.log.base_index == 5


def test_a_chunk_of_a_deposed_leader_is_refused_with_the_term() -> None:
    one = Actor("1", term=3)
    one.hears(chunk("2", 1, META, 0, FIVE_ENTRIES))
    assert one.says() == "1->2 InstallSnapshotReply term=3 snapshot=(1,5) next=0 installed=False"
    assert one.raft.log.base_index == 0


def test_a_snapshot_that_brings_nothing_new_is_answered_at_once() -> None:
    one = compacted(1, 1, 1, 1, 1, 1, 1, base=5)
    meta = snapshot_of(FOUR_ENTRIES, 4, 1)
    one.hears(chunk("2", 1, meta, 0, b""))
    assert one.says().endswith("installed=True")


@pytest.mark.parametrize(
    ("meta", "offset", "data"),
    [
        pytest.param(META, -1, b"x", id="negative offset"),
        pytest.param(META, META.size_bytes, b"x", id="beyond the end"),
        pytest.param(snapshot_of(FIVE_ENTRIES, 5, 9), 0, b"x", id="term beyond the leader's"),
        pytest.param(snapshot_of(FIVE_ENTRIES, 0, 0), 0, b"x", id="of nothing"),
    ],
)
def test_a_chunk_that_no_leader_sends_changes_nothing(
    meta: SnapshotMeta, offset: int, data: bytes
) -> None:
    one = Actor("1", term=1, timing=NO_PRE_VOTE)
    one.times_out()
    one.says()
    for term in (2, 7):
        with pytest.raises(BadMessage):
            one.hears(chunk("2", term, meta, offset, data))
        assert (one.raft.role, one.raft.term, one.says()) == (Role.CANDIDATE, 2, "")


# -- after one ---------------------------------------------------------------------------------


def test_a_compacted_node_comes_back_where_its_snapshot_stands() -> None:
    one = compacted(1, 1, 1, 1, 1, 1, 1, base=5)
    one.crash_and_restart()
    log = one.raft.log
    assert (log.base_index, log.applied_index, log.commit_index, log.last_index) == (5, 6, 6, 7)
    assert [entry.index for entry in one.applied] == [1, 2, 3, 4, 5, 6]


def test_a_node_whose_log_is_empty_but_for_a_snapshot_votes_by_it() -> None:
    one = Actor("1", term=1)
    one.hears(chunk("2", 1, META, 0, FIVE_ENTRIES))
    one.now += 1.0
    one.says()
    one.hears(request_vote("3", 2, (1, 4)), request_vote("3", 2, (1, 5)))
    assert one.says() == text("""
        1->3 RequestVoteReply term=2 refused
        1->3 RequestVoteReply term=2 granted
    """)


def test_while_it_gets_a_snapshot_a_follower_still_hears_its_leader() -> None:
    one = leader_with(1, 1, 1, 1, 1)
    for last in (6, 7):
        one.hears(matched("2", 2, last))
        one.takes_snapshot()
        one.proposes(b"x")
    one.loses("3")
    assert one.raft.leadership is not None
    assert one.raft.leadership.progress["3"].state is ProgressState.SNAPSHOT
    one.says()
    one.beats()
    assert "1->3 AppendEntries" in one.says()
