"""What is counted: only what comes from the very disk that the configuration names (R1)."""

from __future__ import annotations

import random

import pytest

from trioraft.core.config import Limits, Timing
from trioraft.core.events import AcknowledgedLost, ForeignDisk
from trioraft.core.messages import (
    AppendEntriesReply,
    Message,
    RequestPreVoteReply,
    RequestVoteReply,
)
from trioraft.core.raft import HINT_TIMEOUTS, Raft
from trioraft.core.types import Configuration, HardState, Incarnation, NodeId, Recovered, Role

DISKS = {"1": 11, "2": 22, "3": 33}
OTHER = 99
NAMED = Configuration(("1", "2", "3"), disks=DISKS)
TIMING = Timing(pre_vote=False)


class One:
    """The core of node "1", whose writes are durable at once."""

    def __init__(
        self,
        disk: Incarnation = 11,
        timing: Timing = TIMING,
        configuration: Configuration = NAMED,
    ) -> None:
        recovered = Recovered(HardState(1, None), configuration=configuration, incarnation=disk)
        self.raft = Raft("1", recovered, timing, Limits(), random.Random(1), tracing=True)
        self.now = 0.0
        self.sent: list[Message] = []
        self.events: list[object] = []
        self.raft.start(self.now)

    def settle(self) -> None:
        """Do what it wants done."""
        while (ready := self.raft.ready()) is not None:
            self.events.extend(ready.events)
            self.sent.extend((*ready.messages, *ready.messages_after_persist))
            self.raft.on_persisted(ready.number, self.now)

    def times_out(self) -> None:
        """Its patience ends."""
        self.now = self.raft.deadline or self.now
        self.raft.on_timeout(self.now)
        self.settle()

    def hears(self, message: Message, disk: Incarnation) -> None:
        """A message comes from this disk."""
        self.raft.step(message, self.now, disk)
        self.settle()

    def votes(self, voter: NodeId, disk: Incarnation) -> None:
        """It is voted for."""
        self.hears(RequestVoteReply(voter, "1", self.raft.term, True), disk)

    def is_now(self, role: Role) -> bool:
        """Whether it has this role."""
        return self.raft.role is role

    def leads(self) -> bool:
        """Whether it does."""
        return self.raft.role is Role.LEADER

    def acknowledges(self, peer: NodeId, match_index: int, disk: Incarnation) -> None:
        """A follower has this much."""
        round_ = self.raft.leadership.round if self.raft.leadership else 0
        self.hears(
            AppendEntriesReply(peer, "1", self.raft.term, True, match_index, round=round_), disk
        )


def leader() -> One:
    """Node "1", elected by "2"."""
    one = One()
    one.times_out()
    one.votes("2", 22)
    assert one.leads()
    return one


def test_a_vote_of_another_disk_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hazard I1."""
    one = One()
    one.times_out()
    assert one.raft.role is Role.CANDIDATE
    one.votes("2", OTHER)
    one.votes("3", OTHER)
    assert not one.leads()
    one.votes("3", 33)
    assert one.leads()
    monkeypatch.setattr(Raft, "_counts", lambda self, voter, disk: True)
    one = One()
    one.times_out()
    one.votes("2", OTHER)
    assert one.leads()  # that is what the rule is for


def test_a_disk_that_is_not_named_does_not_campaign() -> None:
    """Hazard I1."""
    one = One(disk=OTHER)
    for _ in range(5):
        one.times_out()
    assert (one.raft.role, one.raft.term, one.sent) == (Role.FOLLOWER, 1, [])


def test_an_answer_of_another_disk_commits_nothing() -> None:
    """Hazard I7."""
    one = leader()
    last = one.raft.log.last_index
    one.acknowledges("2", last, OTHER)
    one.acknowledges("3", last, OTHER)
    assert one.raft.log.commit_index == 0
    one.acknowledges("2", last, 22)
    assert one.raft.log.commit_index == last


def test_another_disk_is_no_contact_either() -> None:
    """Or a leader whose quorum was emptied would lead on."""
    one = leader()
    for _ in range(20):
        one.now += 0.05
        one.acknowledges("2", 0, OTHER)
        one.raft.on_timeout(one.now)
        one.settle()
    assert not one.leads()


def test_another_disk_is_not_fed_and_told_of() -> None:
    one = leader()
    one.sent.clear()
    one.raft.on_seen("2", OTHER, one.now)
    one.raft.propose(b"x", one.now)
    one.settle()
    one.now = one.raft.heartbeat_deadline or 0.0
    one.raft.on_heartbeat_due(one.now)
    one.settle()
    assert {message.receiver for message in one.sent} == {"3"}
    (told,) = [event for event in one.events if isinstance(event, ForeignDisk)]
    assert (told.peer, told.named_disk, told.disk) == ("2", 22, OTHER)
    one.raft.on_seen("2", 22, one.now)
    one.now = one.raft.heartbeat_deadline or 0.0
    one.raft.on_heartbeat_due(one.now)
    one.settle()
    assert "2" in {message.receiver for message in one.sent}


def test_a_follower_that_lost_what_it_acknowledged_is_fed_and_not_counted() -> None:
    """Hazard I2."""
    one = leader()
    for _ in range(3):
        one.raft.propose(b"x", one.now)
    one.settle()
    last = one.raft.log.last_index
    one.acknowledges("2", last, 22)
    one.now = one.raft.heartbeat_deadline or 0.0
    one.raft.on_heartbeat_due(one.now)  # a round that begins after the acknowledgement
    one.settle()
    leadership = one.raft.leadership
    assert leadership is not None
    refusal = AppendEntriesReply(
        "2", "1", one.raft.term, False, 0, last, 2, 0, round=leadership.round
    )
    one.hears(refusal, 22)
    progress = leadership.progress["2"]
    assert [e.acknowledged_index for e in one.events if isinstance(e, AcknowledgedLost)] == [last]
    assert (progress.match_index, progress.counted_index, progress.next_index) == (0, 0, 2)
    one.raft.propose(b"y", one.now)
    one.settle()
    one.acknowledges("2", last - 1, 22)
    assert progress.counted_index == 0
    one.acknowledges("2", last, 22)
    assert progress.counted_index == last


def test_a_late_refusal_is_no_proof_of_a_loss() -> None:
    """It answers a message that left before the acknowledgement came."""
    one = leader()
    one.raft.propose(b"x", one.now)
    one.settle()
    last = one.raft.log.last_index
    leadership = one.raft.leadership
    assert leadership is not None
    early = leadership.round
    one.acknowledges("2", last, 22)
    one.hears(AppendEntriesReply("2", "1", one.raft.term, False, 0, last, 1, 0, round=early), 22)
    assert leadership.progress["2"].match_index == last


def test_one_peers_word_that_it_is_removed_expires() -> None:
    """Hazard I6."""
    timing = Timing()
    one = One(timing=timing)
    one.times_out()
    assert one.is_now(Role.PRE_CANDIDATE)
    told = RequestPreVoteReply("3", "1", 1, 2, False, removed_index=7)
    one.hears(told, 33)
    quiet_until_s = one.now + HINT_TIMEOUTS * timing.election_timeout_s[1]
    assert one.raft.removed_index is None
    one.hears(RequestPreVoteReply("2", "1", 1, 2, True), 22)
    assert one.is_now(Role.CANDIDATE)  # a majority would have it
    one = One(timing=timing)
    one.times_out()
    one.hears(told, 33)
    one.sent.clear()
    while one.now < quiet_until_s:
        assert one.sent == []
        one.times_out()
    one.times_out()
    assert one.sent != []


def test_a_quorum_that_says_so_is_believed() -> None:
    one = One(timing=Timing())
    one.times_out()
    for peer in ("2", "3"):
        one.hears(RequestPreVoteReply(peer, "1", 1, 2, False, removed_index=7), DISKS[peer])
    assert one.raft.removed_index == 7


@pytest.mark.parametrize("is_2_there", [True, False], ids=["2 answers", "2 is silent"])
def test_nobody_is_replaced_unasked_whom_the_rest_could_not_do_without(is_2_there: bool) -> None:
    """A late word of a disk that is long replaced (a duplicate), and
    a healthy voter that cannot be heard: without it, and without one that is really gone, nobody
    could decide anything any more."""
    one = One(timing=Timing(pre_vote=False, check_quorum=False))
    one.raft.replaces_lost_disks = True
    one.times_out()
    one.votes("2", 22)
    one.acknowledges("2", 1, 22)
    one.acknowledges("3", 1, 33)
    one.raft.on_seen("3", OTHER, one.now)
    for _ in range(20):
        one.now += TIMING.heartbeat_interval_s
        one.raft.on_heartbeat_due(one.now)
        one.settle()
        if is_2_there:
            one.acknowledges("2", 1, 22)
    is_replaced = "3" in one.raft.configuration.outgoing
    assert is_replaced is is_2_there
