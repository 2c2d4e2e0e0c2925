"""Short names for messages that a test sends by hand.

Rules of this file: arguments stand in the order in which the transcript prints them; the
receiver is "1" unless a test says otherwise.
"""

from __future__ import annotations

import zlib

from trioraft.core import messages
from trioraft.core.types import Configuration, Entry, LogIndex, NodeId, SnapshotMeta, Term

Position = tuple[Term, LogIndex]
"""A place in a log as the transcripts print it: (term, index)."""


def request_vote(
    sender: NodeId, term: Term, log: Position = (0, 0), *, to: NodeId = "1", transfer: bool = False
) -> messages.RequestVote:
    """`sender` campaigns."""
    return messages.RequestVote(sender, to, term, log[1], log[0], transfer)


def vote(
    sender: NodeId, term: Term, *, granted: bool = True, to: NodeId = "1"
) -> messages.RequestVoteReply:
    """`sender` answers a campaign."""
    return messages.RequestVoteReply(sender, to, term, granted)


def request_pre_vote(
    sender: NodeId, term: Term, next_term: Term, log: Position = (0, 0), *, to: NodeId = "1"
) -> messages.RequestPreVote:
    """`sender` asks whether it could win."""
    return messages.RequestPreVote(sender, to, term, next_term, log[1], log[0])


def pre_vote(
    sender: NodeId, term: Term, next_term: Term, *, granted: bool = True, to: NodeId = "1"
) -> messages.RequestPreVoteReply:
    """`sender` answers that."""
    return messages.RequestPreVoteReply(sender, to, term, next_term, granted)


def append(
    sender: NodeId,
    term: Term,
    prev: Position = (0, 0),
    entries: tuple[Entry, ...] = (),
    commit: LogIndex = 0,
    *,
    to: NodeId = "1",
) -> messages.AppendEntries:
    """`sender` leads; without entries, a heartbeat."""
    return messages.AppendEntries(sender, to, term, prev[1], prev[0], entries, commit)


def matched(
    sender: NodeId, term: Term, match: LogIndex, *, to: NodeId = "1", number: int = 0
) -> messages.AppendEntriesReply:
    """`sender` holds everything up to `match`, and answers the round of this number."""
    return messages.AppendEntriesReply(
        sender, to, term, success=True, match_index=match, round=number
    )


def rejected(
    sender: NodeId,
    term: Term,
    index: LogIndex,
    conflict: Position = (0, 1),
    *,
    to: NodeId = "1",
) -> messages.AppendEntriesReply:
    """`sender` does not agree at `index`."""
    return messages.AppendEntriesReply(
        sender,
        to,
        term,
        success=False,
        match_index=0,
        rejected_index=index,
        conflict_index=conflict[1],
        conflict_term=conflict[0],
    )


def snapshot_of(content: bytes, index: LogIndex, term: Term) -> SnapshotMeta:
    """What is known of this content as a snapshot of everything up to `index`."""
    configuration = Configuration(("1", "2", "3"))
    return SnapshotMeta(index, term, configuration, len(content), zlib.crc32(content))


def chunk(
    sender: NodeId, term: Term, meta: SnapshotMeta, offset: int, data: bytes, *, to: NodeId = "1"
) -> messages.InstallSnapshot:
    """`sender` leads, and sends part of a snapshot."""
    return messages.InstallSnapshot(sender, to, term, meta, offset, data)


def chunk_stored(
    sender: NodeId,
    term: Term,
    meta: SnapshotMeta,
    next_offset: int,
    *,
    installed: bool = False,
    is_damaged: bool = False,
    to: NodeId = "1",
) -> messages.InstallSnapshotReply:
    """`sender` holds so much of it."""
    return messages.InstallSnapshotReply(
        sender, to, term, meta, next_offset, installed, is_damaged=is_damaged
    )
