"""Replication that goes wrong: too much is cut, acknowledged or committed.

Rules of this file: each breaks one rule of figure 2 of the paper and leaves the rest alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from trioraft.core import messages, quorum
from trioraft.core.leadership import Leadership
from trioraft.core.log import RaftLog
from trioraft.core.progress import Progress, ProgressState
from trioraft.core.raft import Raft
from trioraft.core.types import Configuration, Entry, LogIndex, NodeId, Role

from .bug import broken_core, patched

MERGE = RaftLog.merge
COMMITTABLE = Leadership.committable
ON_FAILURE = Leadership.on_failure
ON_MATCHED = Progress.on_matched


def commits_earlier_terms(leadership: Leadership, configuration: Configuration) -> LogIndex | None:
    """Hazard A1: an entry of an earlier term is committed by counting."""
    index = quorum.agreed(configuration, leadership._durable_index)
    return index if index > leadership.log.commit_index else None


def stops_at_earlier_terms(leadership: Leadership, configuration: Configuration) -> LogIndex | None:
    """Hazard A2: nothing is committed as long as an entry of an earlier term comes first."""
    log = leadership.log
    if log.term_at(log.commit_index + 1) not in (None, leadership.term):
        return None
    return COMMITTABLE(leadership, configuration)


def cuts_what_follows(log: RaftLog, entries: Sequence[Entry]) -> LogIndex | None:
    """Hazard A3: entries that come late cut whatever stands behind them."""
    cut_from = MERGE(log, entries)
    if entries and log.commit_index <= entries[-1].index < log.last_index:
        behind = entries[-1].index + 1
        log.truncate(behind)
        return behind if cut_from is None else min(behind, cut_from)
    return cut_from


def lets_commit_go_back(log: RaftLog, index: LogIndex) -> bool:
    """Hazard A4: the commit index is whatever was said last."""
    has_moved = index != log.commit_index and index <= log.last_index
    if has_moved:
        log.commit_index = index
    return has_moved


def lets_match_go_back(progress: Progress, match_index: LogIndex, now: float) -> bool:
    """Hazard A4: what a follower is known to hold is whatever it said last."""
    has_advanced = ON_MATCHED(progress, match_index, now)
    if progress.state is not ProgressState.SNAPSHOT:
        progress.match_index = match_index
    return has_advanced


def takes_a_hint_for_a_match(leadership: Leadership, message: messages.AppendEntriesReply) -> None:
    """Hazard A5: where a follower wants to be asked next is taken for what it holds."""
    if message.conflict_index:
        hint = min(message.conflict_index, leadership.log.last_index)
        progress = leadership.progress[message.sender]
        progress.on_matched(hint, progress.last_contact_s)
    else:
        ON_FAILURE(leadership, message)


class AcknowledgesAllItHas(Raft):
    """Hazard A5: an acknowledgement covers more than its message did."""

    def _reply_success(self, message: messages.AppendEntries, match_index: LogIndex) -> None:
        super()._reply_success(message, self.log.last_index)


def goes_below_the_match(progress: Progress, next_index: LogIndex) -> None:
    """Hazard A6: a follower is fed again from before what it is known to hold."""
    progress._become(ProgressState.PROBE)
    progress.next_index = next_index


def believes_any_refusal(progress: Progress, rejected_index: LogIndex) -> bool:
    """Hazard A6: a refusal that comes late lowers what is known to match."""
    if rejected_index <= progress.match_index:
        progress.match_index = max(0, rejected_index - 1)
    return False


class CommitsAllItHas(Raft):
    """Hazard A7: a follower commits up to its last entry, whoever that is from."""

    def _on_append_entries(self, message: messages.AppendEntries) -> None:
        super()._on_append_entries(message)
        is_current = message.term == self.term and self.role is Role.FOLLOWER
        if is_current and self.log.term_at(message.prev_log_index) == message.prev_log_term:
            self._follow_commit(min(message.leader_commit, self.log.last_index))


def commits_with_one_less(leadership: Leadership, configuration: Configuration) -> LogIndex | None:
    """Hazard A8: one voter less than a majority commits: in a cluster of three the leader alone."""
    log, voters = leadership.log, configuration.voters
    values = sorted((leadership._durable_index(voter) for voter in voters), reverse=True)
    index = values[max(0, quorum.majority(len(values)) - 2)]
    is_news = index > log.commit_index and log.term_at(index) == leadership.term
    return index if is_news else None


def counts_itself_at_once(leadership: Leadership, node_id: NodeId) -> LogIndex:
    """Hazard A8: the leader's own entries count before they are durable."""
    if node_id == leadership.node_id:
        return leadership.log.last_index
    return leadership.progress[node_id].match_index


BUGS = (
    patched("A1", Leadership, "committable", commits_earlier_terms),
    patched("A2", Leadership, "committable", stops_at_earlier_terms),
    patched("A3", RaftLog, "merge", cuts_what_follows),
    patched("A4", RaftLog, "commit_to", lets_commit_go_back),
    patched("A4", Progress, "on_matched", lets_match_go_back),
    patched("A5", Leadership, "on_failure", takes_a_hint_for_a_match),
    broken_core("A5", AcknowledgesAllItHas),
    patched("A6", Progress, "on_rejected", goes_below_the_match),
    patched("A6", Progress, "is_stale_rejection", believes_any_refusal),
    broken_core("A7", CommitsAllItHas),
    patched("A8", Leadership, "committable", commits_with_one_less),
    patched("A8", Leadership, "_durable_index", counts_itself_at_once),
)
