"""Raft's first promise, checked: one leader a term, one vote a node and term.

Only what the log says outright counts; a vote whose candidate it does not tell is no evidence.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from ..cluster import ClusterView
from ..model import Finding, NodeName
from .wording import finding, listed, ms, nodes


def two_leaders(cluster: ClusterView) -> Iterator[Finding]:
    """Several nodes took office in one term."""
    for term in cluster.run.terms:
        if len(term.leaders) < 2:
            continue
        reigns = [reign for reign in cluster.reigns if reign.term == term.number]
        start_s = max((reign.start_s for reign in reigns), default=term.start_s)
        first_s = min((reign.start_s for reign in reigns), default=term.start_s)
        yield finding(
            cluster.run,
            "two-leaders",
            "error",
            terms=(term.number,),
            nodes=term.leaders,
            start_s=start_s,
            end_s=max((reign.end_s for reign in reigns), default=start_s),
            detail=f"{nodes(term.leaders).capitalize()} led in the same term {term.number}, the "
            f"last one since {ms(start_s - first_s)} after the first. A term has one leader at "
            "most: a majority elects it, and two majorities share a node that votes once.",
            entries=(reign.entry for reign in reigns),
        )


def double_vote(cluster: ClusterView) -> Iterator[Finding]:
    """A node gave the vote of one term to several candidates."""
    run = cluster.run
    for (voter, term), votes in _votes(cluster).items():
        given = _counted(votes, _deaths(cluster, voter))
        if len(given) < 2:
            continue
        times_s = [run.entries[vote.entry].at_s for vote in given.values()]
        others = [candidate for candidate in given if candidate != voter]
        whom = listed(["itself", *others] if voter in given else others)
        yield finding(
            run,
            "double-vote",
            "error",
            terms=(term,),
            nodes=(voter, *others),
            start_s=min(times_s),
            end_s=max(times_s),
            detail=f"Node {voter} voted for {whom} in term {term}, within "
            f"{ms(max(times_s) - min(times_s))}. A node has one vote a term; with two, two leaders "
            "can be elected.",
            entries=[vote.entry for vote in given.values()],
        )


@attrs.frozen
class _Vote:
    """A vote as the log shows it."""

    candidate: NodeName
    at_s: float
    entry: int
    is_known: bool
    """Whether anybody but the voter has heard of it."""


def _counted(votes: list[_Vote], deaths_s: list[float]) -> dict[NodeName, _Vote]:
    """The first vote for each candidate. A vote that nobody heard of before the voter died counts
    only as long as it lived: it may never have reached the disk, nor left."""
    last_s = max(vote.at_s for vote in votes)
    counted: dict[NodeName, _Vote] = {}
    for vote in sorted(votes, key=lambda vote: vote.at_s):
        is_forgotten = not vote.is_known and any(
            vote.at_s <= death_s <= last_s for death_s in deaths_s
        )
        if not is_forgotten:
            counted.setdefault(vote.candidate, vote)
    return counted


def _deaths(cluster: ClusterView, name: NodeName) -> list[float]:
    return [
        span.start_s
        for node in cluster.run.nodes
        if node.name == name
        for span in node.roles
        if span.role == "Dead"
    ]


def _votes(cluster: ClusterView) -> dict[tuple[NodeName, int], list[_Vote]]:
    """Whom each node voted for in each term."""
    messages = cluster.run.messages
    asked = {
        (message.sender, message.term)
        for message in messages
        if message.kind == "RequestVote" and message.fate == "delivered"
    }
    votes: dict[tuple[NodeName, int], list[_Vote]] = {}
    for node in cluster.run.nodes:
        for span in node.roles:
            if span.role == "Candidate" and span.entry is not None:
                is_known = (node.name, span.term) in asked
                vote = _Vote(node.name, span.start_s, span.entry, is_known)
                votes.setdefault((node.name, span.term), []).append(vote)
    # Receipts of replies do not say from whom: if one of equal answers is missing, it may be any.
    unsure = {
        (message.receiver, message.term)
        for message in messages
        if message.kind == "RequestVoteReply" and message.fate != "delivered"
    }
    for message in messages:
        if message.kind != "RequestVoteReply" or not message.is_positive:
            continue
        if message.request is None or message.term is None or message.sent_entry is None:
            continue
        request = messages[message.request]
        if message.sender is None or request.sender is None or request.term != message.term:
            continue
        vote = _Vote(
            request.sender,
            message.sent_s or 0.0,
            message.sent_entry,
            (message.receiver, message.term) not in unsure,
        )
        votes.setdefault((message.sender, message.term), []).append(vote)
    return votes
