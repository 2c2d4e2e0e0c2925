"""Leadership: everything a node knows only because it leads. It exists only while it leads.

Rules of this file:

* One AppendEntries per follower carries whatever was proposed since the last one: messages are
  built lazily, when the caller asks for what to do, never in `propose`.
* A heartbeat carries what the follower is known to hold, so it cannot be refused, and may overtake
  entries. Where nothing comes of what was sent, an empty message that follows the last of it finds
  out what was lost; it must not overtake what it asks about.
* A lease is what a quorum has promised, each counted from when the round left that it answers: an
  answer says how old it is only by its round (hazards Q1, Q2).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Final

import attrs

from . import quorum
from .config import Limits, Timing
from .errors import InvariantViolation
from .features import check_intact
from .log import RaftLog
from .messages import AppendEntries, AppendEntriesReply, InstallSnapshotReply, TimeoutNow
from .pace import Pace, smoothed
from .progress import Progress, ProgressState
from .reads import PendingReads
from .ready import ChunkRequest
from .reconfiguration import MembershipChange
from .transfer import Transfer
from .types import Configuration, Incarnation, LogIndex, NodeId, SnapshotMeta, Term
from .window import Window

COMMIT_NOTICE_DELAY_S: Final = 0.002
"""How long a new commit index waits for entries to travel with before it gets a heartbeat of its
own. Under load it costs no message at all; an idle follower applies 2 ms later."""
TRANSFER_TIMEOUTS: Final = 100
"""After so many election timeouts without a chunk stored the transfer of a snapshot is given up."""
ROUNDS_KEPT: Final = 1024
"""Of so many rounds it is known when they left; an answer to an older one extends no lease."""


@attrs.define
class Leadership:
    """A leader's view of its followers in one term."""

    node_id: NodeId
    term: Term
    log: RaftLog
    timing: Timing
    limits: Limits
    pace: Pace
    """How long answers take, as this leader measures it by its rounds."""
    usual_patience_s: float
    """How long without a quorum's answer this leader goes on where answers are quick."""
    disk: Incarnation
    """This node's own disk: it counts for itself only if the configuration names it."""
    heartbeat_deadline: float
    """When the next regular heartbeats are due."""
    progress: dict[NodeId, Progress] = attrs.field(factory=dict)
    """One for each other member."""
    commit_notice_deadline: float | None = None
    """When followers must be told of a commit that no entry has carried to them."""
    round: int = 0
    """Number of the last heartbeat round; rises within the term."""
    change: MembershipChange | None = None
    """The change of members that is under way, if this leader carries one out."""
    transfer: Transfer | None = None
    """The leadership transfer that is under way: no command is taken meanwhile."""
    reads: PendingReads = attrs.field(factory=PendingReads)
    departing: dict[NodeId, tuple[LogIndex, float]] = attrs.field(factory=dict)
    """Members that were taken out and shall learn it: by which entry, and how long we try."""
    _other_voters: list[NodeId] = attrs.field(factory=list)
    _is_named: bool = True
    """Whether the configuration names our own disk."""
    _rounds_left_s: deque[float] = attrs.field(factory=lambda: deque(maxlen=ROUNDS_KEPT))
    """When the last rounds left, up to `round`."""
    _asked_to_campaign: bool = False

    def on_configuration(
        self, configuration: Configuration, seen: Mapping[NodeId, Incarnation], now: float
    ) -> None:
        """These are the members: feed the new ones, of whom nothing is known, from the end of the
        log; let those that leave learn it.

        Args:
            configuration: the one that counts from now on.
            seen: which disk was last seen under each id.
            now: the time.
        """
        self._is_named = configuration.disk_of(self.node_id) == self.disk
        self._other_voters = [
            peer
            for peer in configuration.members
            if peer != self.node_id and configuration.is_voter(peer)
        ]
        for peer in configuration.members:
            disk = configuration.disk_of(peer)
            if self.departing.pop(peer, None) is not None:
                del self.progress[peer]  # nobody knows what it did meanwhile
            known = self.progress.get(peer)
            if peer != self.node_id and (known is None or known.disk != disk):
                self.progress[peer] = Progress(
                    next_index=self.log.last_index + 1,
                    last_contact_s=now,
                    window=Window(self.limits.inflight_bytes_max),
                    disk=disk,
                )
                if peer in seen:
                    self.on_seen(peer, seen[peer])
        give_up_s = now + self.pace.timeout_s
        for peer in self.progress:
            if peer not in configuration.members:
                self.departing.setdefault(peer, (configuration.index, give_up_s))

    def names(self, peer: NodeId, disk: Incarnation) -> bool:
        """Whether this follower is known, and this is the disk of it that counts."""
        progress = self.progress.get(peer)
        return progress is not None and progress.disk == disk

    def on_seen(self, peer: NodeId, disk: Incarnation) -> None:
        """This disk is there under this id now: another than the one named is not fed."""
        progress = self.progress.get(peer)
        if progress is not None:
            progress.foreign_disk = 0 if disk == progress.disk or not progress.disk else disk

    @property
    def sees_foreign_disk(self) -> bool:
        """Whether any follower is there with another disk than the one named."""
        return any(progress.foreign_disk for progress in self.progress.values())

    def unfinished(self) -> str | None:
        """What this leader has under way, in a word or two. None: every member holds the whole log
        and knows that it is committed, and nobody waits for anything."""
        if self.change is not None or self.transfer is not None or self.departing:
            return "a change of members or leader"
        if self.reads.want_round or self.reads.await_confirmation:
            return "a read"
        last_index = self.log.last_index
        for progress in self.progress.values():
            is_fed = progress.state is ProgressState.REPLICATE and not progress.foreign_disk
            told = progress.sent_commit_index
            if not is_fed or not progress.match_index == told == last_index:
                return "a member that is behind"
        return None

    def _let_go(self, now: float) -> None:
        """Forget those that have learnt that they are out, and those that could not."""
        for peer, (index, give_up_s) in list(self.departing.items()):
            if self.progress[peer].sent_commit_index >= index or now >= give_up_s:
                del self.departing[peer], self.progress[peer]

    # -- what leaves -----------------------------------------------------------------------

    def heartbeats(self, now: float) -> Iterator[AppendEntries]:
        """One empty AppendEntries per follower, or two: a new round."""
        self.round += 1
        is_regular = now >= self.heartbeat_deadline  # otherwise it brings a commit index, or asks
        if is_regular:
            self.heartbeat_deadline = now + self.timing.heartbeat_interval_s
            self._measure()
            if self.departing:
                self._let_go(now)
        self.commit_notice_deadline = None
        self._rounds_left_s.append(now)
        for peer, progress in self.progress.items():
            if progress.foreign_disk:
                continue
            if progress.state is ProgressState.PROBE:
                yield self._heartbeat(peer, progress, progress.next_index - 1)
                continue
            yield self._heartbeat(peer, progress, progress.match_index)
            if is_regular and progress.must_ask(
                now,
                max(self.timing.heartbeat_interval_s / 4, 2 * progress.round_trip_s),
                self.pace.timeout_s,
            ):
                yield self._heartbeat(peer, progress, progress.next_index - 1)

    def _heartbeat(self, peer: NodeId, progress: Progress, prev_index: LogIndex) -> AppendEntries:
        if self.log.term_at(prev_index) is None:
            prev_index = 0  # compacted away: be heard all the same; the snapshot does the rest
        return self._message(peer, progress, prev_index, last=prev_index)

    @property
    def next_heartbeat_s(self) -> float:
        """When `heartbeats` wants to be called."""
        if self.commit_notice_deadline is None:
            return self.heartbeat_deadline
        return min(self.heartbeat_deadline, self.commit_notice_deadline)

    def on_commit(self, now: float) -> None:
        """Followers learn of it with the next entries, or soon without."""
        if self.commit_notice_deadline is None and self.progress:
            self.commit_notice_deadline = now + COMMIT_NOTICE_DELAY_S

    def appends(self, snapshot: SnapshotMeta | None, now: float) -> Iterator[AppendEntries]:
        """Whatever each follower lacks, as far as its window goes. One that is cut off gets nothing
        before it is heard: no newer snapshot is kept for it meanwhile (hazard P3).

        Args:
            now: the time.
            snapshot: the newest one here, for a follower that lacks what is compacted away.
        """
        last_index = self.log.last_index
        for peer, progress in self.progress.items():
            if progress.foreign_disk or progress.is_cut_off:
                continue
            if progress.next_index <= self.log.base_index:
                if snapshot is None:
                    raise InvariantViolation(
                        f"the log begins at {self.log.first_index}, but there is no snapshot"
                    )
                progress.on_behind(snapshot, now)
            while progress.next_index <= last_index and progress.has_room(self.limits):
                first = progress.next_index
                last = self.log.last_within(
                    first,
                    entries_max=self.limits.append_entries_max,
                    bytes_max=min(self.limits.append_bytes_max, progress.window.size_bytes),
                )
                if progress.state is ProgressState.PROBE:
                    self._check_intact(first, last)
                message = self._message(peer, progress, first - 1, last)
                progress.on_sent(last, self.log.size_bytes(first, last), now)
                yield message
        if self.commit_notice_deadline is not None and self._all_know_commit():
            self.commit_notice_deadline = None

    def _check_intact(self, first: LogIndex, last: LogIndex) -> None:
        """What is sent after something went wrong may have been altered here: a follower that
        notices ends its connection, and would do so for ever.

        Raises:
            EntryAltered: this node's memory has.
        """
        for entry in self.log.entries(first, last):
            check_intact(entry)

    def _all_know_commit(self) -> bool:
        commit_index = self.log.commit_index
        for progress in self.progress.values():
            if progress.sent_commit_index < commit_index:
                return False
        return True

    def _message(
        self, peer: NodeId, progress: Progress, prev_index: LogIndex, last: LogIndex
    ) -> AppendEntries:
        progress.sent_commit_index = min(self.log.commit_index, last)
        return AppendEntries(
            sender=self.node_id,
            receiver=peer,
            term=self.term,
            prev_log_index=prev_index,
            prev_log_term=self.log.term_at(prev_index) or 0,
            entries=self.log.entries(prev_index + 1, last) if last > prev_index else (),
            leader_commit=self.log.commit_index,
            round=self.round,
            round_trip_ms=int(self.pace.round_trip_s * 1000),
        )

    def chunk_requests(self, now: float, rotten: SnapshotMeta | None) -> Iterator[ChunkRequest]:
        """The chunks that followers in need of a snapshot are to get next; a chunk that is not
        answered within an election timeout, or within a multiple of what the last one took, is
        asked for again.

        Args:
            now: the time.
            rotten: a snapshot that nobody is sent.
        """
        for peer, progress in self.progress.items():
            if progress.snapshot in (None, rotten):
                continue
            if progress.snapshot is not None and progress.wants_chunk(now, self.pace.timeout_s):
                progress.on_chunk_asked(now)
                size_bytes = min(self.limits.snapshot_chunk_bytes, progress.window.size_bytes)
                yield ChunkRequest(peer, progress.snapshot, progress.snapshot_offset, size_bytes)

    def awaiting_chunk(self, request: ChunkRequest) -> Progress | None:
        """The follower that wants this very chunk next; None if the request is stale."""
        progress = self.progress.get(request.receiver)
        if progress is None or progress.snapshot != request.meta:
            return None
        return progress if progress.snapshot_offset == request.offset else None

    def oldest_sent_snapshot(self, now: float) -> LogIndex | None:
        """The oldest snapshot that a follower is being sent, unless that was given up: it has not
        stored any more of it for `TRANSFER_TIMEOUTS` (hazard P3)."""
        patience_s = TRANSFER_TIMEOUTS * self.pace.timeout_s
        return min(
            (
                progress.snapshot.index
                for progress in self.progress.values()
                if progress.snapshot is not None and now - progress.moved_s < patience_s
            ),
            default=None,
        )

    # -- what comes back -------------------------------------------------------------------

    def on_success(self, message: AppendEntriesReply, now: float) -> bool:
        """A follower matches up to `match_index`. True if it is news."""
        progress = self.progress[message.sender]
        is_news = progress.on_matched(message.match_index, now)
        if is_news:
            progress.matched_round = self.round
        return is_news

    def on_failure(self, message: AppendEntriesReply) -> LogIndex | None:
        """A follower refused: step back, by a whole term at a time (paper, end of 5.3).

        Returns:
            The last entry that it had acknowledged, if its refusal proves that it has lost it.
        """
        progress = self.progress[message.sender]
        if progress.proves_loss(message.rejected_index, message.round):
            acknowledged = progress.match_index
            progress.on_lost(max(1, min(message.conflict_index, message.rejected_index)))
            return acknowledged
        if progress.is_stale_rejection(message.rejected_index):
            return None
        hint = message.conflict_index
        if message.conflict_term:
            ours = self.log.last_index_of_term(message.conflict_term)
            if ours is not None:
                hint = ours + 1
        progress.on_rejected(max(1, min(hint, message.rejected_index)))
        return None

    def on_chunk_stored(self, reply: InstallSnapshotReply, now: float) -> bool:
        """A follower holds part of a snapshot, or has installed it. True if its match is news."""
        progress = self.progress[reply.sender]
        if reply.installed:
            is_news = progress.on_matched(reply.meta.index, now)
            if is_news:
                progress.matched_round = self.round
            return is_news
        progress.on_chunk_stored(reply.meta, reply.next_offset, now)
        return False

    def on_contact(self, peer: NodeId, now: float) -> None:
        """A follower answered in this term."""
        self.progress[peer].on_contact(now)

    # -- what follows ----------------------------------------------------------------------

    def committable(self, configuration: Configuration) -> LogIndex | None:
        """The index up to which entries may be committed now, if that is news."""
        index = quorum.agreed(configuration, self._durable_index)
        # Figure 8: an entry of an earlier term is never committed by counting, but with one of
        # this term that follows it (paper, section 5.4.2; hazards A1, A2).
        if index > self.log.commit_index and self.log.term_at(index) == self.term:
            return index
        return None

    def _durable_index(self, node_id: NodeId) -> LogIndex:
        if node_id == self.node_id:
            # Not last_index: our own disk counts like any (hazard A8), if it is the one named.
            return self.log.stable_index if self._is_named else 0
        progress = self.progress[node_id]
        # As `counted_index`: this is asked of everybody with each answer.
        return progress.match_index if progress.match_index >= progress.lost_index else 0

    def on_answered(self, reply: AppendEntriesReply, now: float) -> None:
        """A follower answered in this term."""
        progress = self.progress[reply.sender]
        progress.on_contact(now)
        if reply.round > progress.answered_round:
            progress.answered_round = reply.round
            left_s = self._left_s(reply.round)
            if left_s is not None:
                progress.newest_round_trip_s = now - left_s
                progress.round_trip_s = smoothed(progress.round_trip_s, now - left_s)
        self._note_promise(progress, reply)

    def _left_s(self, number: int) -> float | None:
        """When the round of this number left, if that is still known."""
        age = self.round - number
        return self._rounds_left_s[-1 - age] if 0 <= age < len(self._rounds_left_s) else None

    def _note_promise(self, progress: Progress, reply: AppendEntriesReply) -> None:
        drift, left_s = self.timing.lease_clock_drift_max, self._left_s(reply.round)
        if drift is None or left_s is None:
            return
        # The follower heard the round after it left, and promised from then on. A clock that runs
        # slow makes the same promise longer here: what is left of it is that much less.
        until_s = left_s + reply.promise_ms / 1000 * (1 - drift)
        progress.promised_until_s = max(progress.promised_until_s, until_s)

    def _measure(self) -> None:
        """How long as many voters take to answer as, without this leader, elect the next one."""
        voters = [self.progress[node] for node in self._other_voters]
        measured = sorted(voter.round_trip_s for voter in voters if voter.round_trip_s)
        half = (len(voters) + 1) // 2
        if measured and len(measured) >= half:  # a quorum with this leader
            self.pace.round_trip_s = measured[min(half, len(measured) - 1)]

    def confirmed_round(self, configuration: Configuration) -> int:
        """The last heartbeat round that a quorum has answered: this leader led when it left."""
        return quorum.agreed(configuration, self._answered_round)

    def _answered_round(self, node_id: NodeId) -> int:
        if node_id == self.node_id:
            return self.round if self._is_named else 0
        return self.progress[node_id].answered_round

    def has_lease(self, configuration: Configuration, now: float) -> bool:
        """Whether no other node can lead yet, by all clocks (dissertation 6.4.1): any majority
        that could elect one has a voter whose promise lasts."""
        if self.timing.lease_clock_drift_max is None or self._asked_to_campaign:
            return False
        return now < quorum.agreed(configuration, self._promised_until_s)

    def _promised_until_s(self, node_id: NodeId) -> float:
        if node_id == self.node_id:
            return float("inf") if self._is_named else float("-inf")
        return self.progress[node_id].promised_until_s

    def end_lease(self) -> None:
        """What was promised so far counts no more: neither the answers that came, nor those to
        rounds that have left already."""
        self._rounds_left_s.clear()
        for progress in self.progress.values():
            progress.promised_until_s = float("-inf")

    def timeout_now(self, target: NodeId) -> TimeoutNow:
        """The request to take over. However late it arrives, it may depose this leader before its
        lease ends: there is none any more."""
        self._asked_to_campaign = True
        return TimeoutNow(self.node_id, target, self.term, self.round + 1)

    def successor(self, configuration: Configuration, now: float) -> NodeId | None:
        """The voter that can take over soonest: of those heard lately, the one that holds most."""
        known = [
            (self.progress[voter].match_index, self.progress[voter].last_contact_s, voter)
            for voter in configuration.voters
            if voter != self.node_id and self.has_heard_lately(voter, now)
        ]
        return max(known)[2] if known else None

    def has_heard_lately(self, peer: NodeId, now: float) -> bool:
        """Whether this follower answered within an election timeout."""
        return now - self.progress[peer].last_contact_s <= self.pace.timeout_s

    def quorum_deadline(self, configuration: Configuration, now: float) -> float:
        """When this leader must have stepped down unless someone answers (dissertation 6.2)."""
        heard_s = quorum.agreed(configuration, lambda node: self._contact_s(node, now))
        return heard_s + self.patience_s

    @property
    def patience_s(self) -> float:
        """How long this leader waits for a quorum, and for its disk: for as long as it was elected
        with, until answers are seen to come sooner (dissertation 6.2)."""
        return self.usual_patience_s * self.pace.stretch

    def _contact_s(self, node_id: NodeId, now: float) -> float:
        if node_id == self.node_id:
            return now if self._is_named else float("-inf")
        return self.progress[node_id].last_contact_s
