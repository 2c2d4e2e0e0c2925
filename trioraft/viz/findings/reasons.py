"""What a learner asks why of: a leader that stepped down, a vote that was refused, an entry that
had to wait for one of the new term, a time without a majority.

None of them is wrong: each is Raft keeping one of its promises, and its finding says which.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import attrs

from ..cluster import ClusterView
from ..model import Finding, LogEnd, Message, NodeName, RoleSpan, Run
from ..states import StateChange, state_changes
from .wording import finding, leaderless_limit_s, listed, ms, nodes

LOST_QUORUM: Final = ("quorum lost", "it reached no majority")
"""How the reasons begin with which a leader steps down because nobody answers: ours, others'."""


def quorum_lost(cluster: ClusterView) -> Iterator[Finding]:
    """A leader stepped down because no majority answered it."""
    run = cluster.run
    for node in run.nodes:
        befores: tuple[RoleSpan | None, ...] = (None, *node.roles)
        for before, span in zip(befores, node.roles, strict=False):
            reason = span.reason or ""
            if span.role != "Follower" or not reason.startswith(LOST_QUORUM):
                continue
            start_s = span.start_s if before is None else before.start_s
            members = cluster.members(span.start_s)
            reached = [
                name
                for name in members.voters
                if name != node.name and cluster.can_talk(node.name, name, span.start_s)
            ]
            whom = nodes(reached) if reached else "nobody"
            told = "" if run.is_partial else f" It could talk to {whom} then."
            yield finding(
                run,
                "quorum-lost",
                "info",
                terms=(span.term,) if before is None else (before.term,),
                nodes=(node.name,),
                start_s=max(start_s, span.start_s - _silence_s(reason)),
                end_s=span.start_s,
                detail=f"Leader {node.name} stepped down by itself: {reason}. A leader that no "
                f"majority answers cannot commit anything, and others may have elected another "
                f"one, so it stops pretending.{told}",
                entries=(None if before is None else before.entry, span.entry),
            )


def _silence_s(reason: str) -> float:
    """`quorum lost for 275 ms`."""
    words = reason.split()
    is_told = len(words) > 3 and words[-1] == "ms" and words[-2].isdigit()
    return int(words[-2]) / 1000 if is_told else 0.0


# --- votes that were refused ----------------------------------------------------------------


@attrs.frozen
class _Refusal:
    """A vote that was refused for a reason that the log shows."""

    why: str
    """Which of the reasons: `given`, `behind`, `later term`, `protected`, `leads`."""
    said: str
    request: Message
    reply: Message


def vote_refused(cluster: ClusterView) -> Iterator[Finding]:
    """Votes that were refused, where the log shows why: the first election of each reason, and how
    many more there were. A long run has hundreds, and they are all alike."""
    run = cluster.run
    if run.is_partial:
        return
    refusals: dict[str, dict[tuple[NodeName | None, int | None], list[_Refusal]]] = {}
    logs: dict[NodeName, list[StateChange]] | None = None
    for reply in run.messages:
        if reply.is_positive is not False or reply.request is None or reply.sent_entry is None:
            continue
        request = run.messages[reply.request]
        if request.kind not in ("RequestVote", "RequestPreVote"):
            continue
        if logs is None:
            logs = _log_changes(run)
        told = _why_refused(cluster, request, reply, logs)
        if told is not None:
            refusal = _Refusal(*told, request, reply)
            election = (request.sender, request.term)
            refusals.setdefault(told[0], {}).setdefault(election, []).append(refusal)
    for elections in refusals.values():
        first, *others = elections.values()
        yield _refused(run, first, sum(len(other) for other in others))


def _refused(run: Run, refused: list[_Refusal], more: int) -> Finding:
    request = refused[0].request
    times_s = [refusal.reply.sent_s or 0.0 for refusal in refused]
    said = "; ".join(dict.fromkeys(f"node {one.reply.sender} {one.said}" for one in refused))
    asked = (
        f"asked for votes in term {request.term} and was refused"
        if request.kind == "RequestVote"
        else "asked who would vote for it (a pre-vote) and was told no"
    )
    again = f" For the same reason {more} more were refused in this run." if more else ""
    candidate = str(request.sender)
    return finding(
        run,
        "vote-refused",
        "info",
        terms=() if request.term is None else (request.term,),
        nodes=(candidate, *(str(one.reply.sender) for one in refused)),
        start_s=min(times_s),
        end_s=max(times_s),
        detail=f"Node {candidate} {asked}: {said}.{again}",
        entries=[
            entry for one in refused for entry in (one.request.received_entry, one.reply.sent_entry)
        ],
    )


def _log_changes(run: Run) -> dict[NodeName, list[StateChange]]:
    changes: dict[NodeName, list[StateChange]] = {}
    for change in state_changes(run):
        if change.field in ("lastIndex", "lastTerm"):
            changes.setdefault(change.node, []).append(change)
    return changes


def _log_at(changes: list[StateChange], entry: int) -> LogEnd | None:
    found: dict[str, int] = {}
    for change in changes:
        if change.entry > entry:
            break
        found[change.field] = int(change.value)
    if "lastIndex" not in found:
        return None
    return LogEnd(found["lastIndex"], found.get("lastTerm", 0))


def _why_refused(
    cluster: ClusterView,
    request: Message,
    reply: Message,
    logs: dict[NodeName, list[StateChange]],
) -> tuple[str, str] | None:
    """Which reason, and in words, if the log shows one; None if it leaves it open."""
    voter, candidate = reply.sender, request.sender
    if voter is None or reply.sent_entry is None or reply.sent_s is None:
        return None
    if request.term is not None and reply.term is not None and reply.term > request.term:
        return "later term", f"knew the later term {reply.term} already"
    is_vote = request.kind == "RequestVote"
    if is_vote and (request.term or 0) > (reply.term or request.term or 0):
        # Who considers a vote goes along with its term first; who protects a leader does not.
        return "protected", (
            "had heard a leader lately, and protects it from being deposed for nothing: it did not "
            f"even go along to term {request.term}"
        )
    if request.receiver_vote not in (None, candidate) and reply.term == request.term:
        whom = "itself" if request.receiver_vote == voter else f"node {request.receiver_vote}"
        return "given", f"had given its vote of this term to {whom}, and has one a term"
    own = _log_at(logs.get(voter, []), reply.sent_entry)
    asked = request.log_end
    if own is not None and asked is not None and (own.term, own.index) > (asked.term, asked.index):
        return (
            "behind",
            f"has a log that is further (entry {own.index} of term {own.term}, the candidate's "
            f"ends with {asked.index} of term {asked.term}): who lacks entries must not lead",
        )
    reign = next(
        (
            reign
            for reign in cluster.reigns
            if reign.start_s <= reply.sent_s <= reign.end_s
            and reign.leader != candidate
            and (reign.leader == voter or cluster.can_talk(reign.leader, voter, reply.sent_s))
        ),
        None,
    )
    if reign is None:
        return None
    if reign.leader == voter:
        return "leads", f"leads term {reign.term} itself"
    return (
        "protected",
        f"was hearing leader {reign.leader}, and protects it from being deposed for nothing",
    )


# --- entries of an older term ---------------------------------------------------------------


def older_term_commit(cluster: ClusterView) -> Iterator[Finding]:
    """A new leader had entries of an older term that nobody had committed: they became so with one
    of its own term only (paper, 5.4.2)."""
    run = cluster.run
    if run.is_partial:
        return
    committed = sorted(
        (point.at_s, point.commit_index, point.entry, node.name)
        for node in run.nodes
        for point in node.commits
    )
    for node in run.nodes:
        for span in node.roles:
            if span.role == "Leader" and span.log_end is not None and span.entry is not None:
                yield from _waited(run, node.name, span, span.log_end, committed)


def _took_office(run: Run, term: int) -> bool:
    """Whether the log shows how the leader of this term began."""
    spans = (span for node in run.nodes for span in node.roles)
    return any(
        span.role == "Leader" and span.term == term and span.entry is not None for span in spans
    )


def _waited(
    run: Run,
    leader: NodeName,
    span: RoleSpan,
    end: LogEnd,
    committed: list[tuple[float, int, int, str]],
) -> Iterator[Finding]:
    before = max((index for at_s, index, _, _ in committed if at_s < span.start_s), default=0)
    # What a cluster begins with has term 0, and is nobody's to commit.
    if end.index <= before or not 0 < end.term < span.term or end.index < 1:
        return
    if not _took_office(run, end.term):
        return  # the log begins in that reign, or behind it: it may have been committed before
    first = next(
        (
            (at_s, index, entry)
            for at_s, index, entry, name in committed
            if name == leader and span.start_s <= at_s <= span.end_s and index >= end.index
        ),
        None,
    )
    which = f"entry {end.index} of term {end.term} stood in its log and was"
    if end.index > before + 1:
        which = (
            f"entries {before + 1}–{end.index}, the last of term {end.term}, stood in its log and "
            "were"
        )
    if first is None:
        after = "In this reign that did not happen."
        end_s = span.end_s
    else:
        after = f"That happened {ms(first[0] - span.start_s)} later, with entry {first[1]}."
        end_s = first[0]
    yield finding(
        run,
        "older-term-commit",
        "info",
        terms=(end.term, span.term),
        nodes=(leader,),
        start_s=span.start_s,
        end_s=end_s,
        detail=f"When node {leader} took office in term {span.term}, {which} "
        "not committed. A majority that has an entry of an older term "
        "does not make it safe: it counts only together with an entry of the leader's own term "
        f"(paper, 5.4.2). {after}",
        entries=(span.entry, None if first is None else first[2]),
    )


# --- no majority for a while ----------------------------------------------------------------


def no_majority(cluster: ClusterView) -> Iterator[Finding]:
    """Between two leaders no majority was alive and connected for long."""
    run = cluster.run
    if run.is_partial:
        return
    limit_s = leaderless_limit_s(run)
    services = cluster.services()
    last_s = 0.0
    for before, after in pairwise(services):
        last_s = max(last_s, before.end_s)
        gap_s = after.start_s - last_s
        since_s = cluster.majority_since_s(last_s, after.start_s)
        could_s = 0.0 if since_s is None else after.start_s - since_s
        if gap_s < limit_s or gap_s - could_s < limit_s:
            continue
        members = cluster.members(last_s)
        middle_s = last_s + (gap_s - could_s) / 2
        there = [name for name in members.voters if not cluster.is_dead(name, middle_s)]
        yield finding(
            run,
            "no-leader",
            "info",
            terms=(before.reign.term, after.reign.term),
            nodes=members.voters,
            start_s=last_s,
            end_s=after.start_s,
            detail=f"Nobody led for {ms(gap_s)}, because no majority could talk for "
            f"{ms(gap_s - could_s)} of it: {members.majority} of {len(members.voters)} nodes are "
            f"needed, and {_there(there)}. Without a majority Raft can only wait.",
            entries=(before.reign.entry, after.reign.entry),
        )


def _there(names: list[NodeName]) -> str:
    if not names:
        return "none was running"
    return f"of those that ran ({listed(names)}) too few reached each other"
