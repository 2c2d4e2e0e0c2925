"""A run in numbers. Only what was measured: a round trip counts if the answer is in the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from .cluster import ClusterView, LeaderService
from .model import Durations, Message, Run, Statistics

_MS: Final = 1000.0


def statistics_of(cluster: ClusterView) -> Statistics:
    """The numbers of a run."""
    run = cluster.run
    terms = [span.term for node in run.nodes for span in node.roles]
    sent = Counter(message.kind for message in run.messages if message.sent_s is not None)
    return Statistics(
        elections=sum(1 for term in run.terms if term.candidates),
        elections_won=sum(1 for term in run.terms if term.candidates and term.leader is not None),
        failovers_ms=tuple(took_s * _MS for _, _, took_s in failovers(cluster)),
        first_term=min(terms, default=0),
        last_term=max(terms, default=0),
        messages=dict(sorted(sent.items())),
        messages_lost=sum(1 for message in run.messages if message.fate == "lost"),
        vote_round_trip=durations(round_trips_s(run, "RequestVote")),
        heartbeat_round_trip=durations(round_trips_s(run, "AppendEntries")),
        heartbeat_interval=durations(intervals_s(run.messages)),
        election_timeout=durations(timer.timeout_s for node in run.nodes for timer in node.timers),
    )


def durations(values_s: Iterable[float]) -> Durations | None:
    """Least, median and most of some durations; None of none."""
    ordered = sorted(values_s)
    if not ordered:
        return None
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return Durations(len(ordered), ordered[0] * _MS, median * _MS, ordered[-1] * _MS)


def round_trips_s(run: Run, kind: str, terms: range | None = None) -> list[float]:
    """From each request of this kind to the arrival of its answer, in seconds.

    Args:
        run: whose messages.
        kind: of the request.
        terms: only requests of these terms.
    """
    taken: list[float] = []
    for message in run.messages:
        if message.kind != kind or message.reply is None or message.sent_s is None:
            continue
        if terms is not None and message.term not in terms:
            continue
        arrived_s = run.messages[message.reply].received_s
        if arrived_s is not None:
            taken.append(max(0.0, arrived_s - message.sent_s))
    return taken


def intervals_s(messages: Iterable[Message]) -> list[float]:
    """Between two AppendEntries of a leader to the same follower in the same term, in seconds."""
    last: dict[tuple[str | None, str | None, int | None], float] = {}
    intervals: list[float] = []
    for message in messages:
        if message.kind != "AppendEntries" or message.sent_s is None:
            continue
        way = (message.sender, message.receiver, message.term)
        if way in last:
            intervals.append(max(0.0, message.sent_s - last[way]))
        last[way] = message.sent_s
    return intervals


def failovers(cluster: ClusterView) -> list[tuple[LeaderService, LeaderService, float]]:
    """Each change of leader: who had it, who has it, and how long nobody had it, in seconds: from
    when the leader died, stepped down or lost its majority until the next one took office. Time in
    which no majority could talk does not count, for nobody could have been elected."""
    found: list[tuple[LeaderService, LeaderService, float]] = []
    last: LeaderService | None = None
    for service in cluster.services():
        if last is not None and service.reign is not last.reign:
            lost_s = min(last.end_s, service.start_s)
            since_s = cluster.majority_since_s(lost_s, service.start_s)
            took_s = 0.0 if since_s is None else service.start_s - since_s
            if service.start_s == service.reign.start_s:
                found.append((last, service, took_s))
        if last is None or service.end_s >= last.end_s or service.reign is not last.reign:
            last = service
    return found
