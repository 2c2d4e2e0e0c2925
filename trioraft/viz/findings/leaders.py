"""Leaders: deposed without need, deposed without knowing, or missing for long.

A leader is healthy while it is alive and reaches a majority. A follower that has just come back, or
was told to take over, is not to blame for asking for votes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import attrs

from ..cluster import ClusterView, Reign, failovers, intervals_s
from ..model import Finding, Message, NodeName, RoleSpan, Run
from .wording import finding, leaderless_limit_s, longest_timeout_s, ms, times

STALE_S: Final = 0.02
"""Shorter than this, a leader cannot know that it was deposed."""
LOSSES_MIN: Final = 2
"""If so many heartbeats in a row got lost, and none arrived, the network is to blame."""
SILENCES_MIN: Final = 2.0
"""A silence of so many of the longest intervals does not belong to their rhythm."""
INTERVALS_TO_HEAR: Final = 2.0
"""A connected leader hears of a newer one with its next heartbeats."""
_NO_BLAME: Final = ("connection to leader", "transfer")
"""How the reasons of elections begin that are meant to come early."""


# --- missed heartbeats ----------------------------------------------------------------------


@attrs.frozen
class _Heartbeats:
    """What a leader sent to one follower in one term, in the order of sending."""

    messages: list[Message]
    sent_s: list[float]

    def before(self, at_s: float) -> list[Message]:
        """Those sent up to this moment."""
        return self.messages[: bisect_right(self.sent_s, at_s)]

    def since(self, start_s: float, end_s: float) -> list[Message]:
        """Those sent in this time."""
        return self.messages[bisect_left(self.sent_s, start_s) : bisect_right(self.sent_s, end_s)]


def missed_heartbeats(cluster: ClusterView) -> Iterator[Finding]:
    """A connected follower timed out under a living leader; one finding a leader and follower."""
    run = cluster.run
    sent = _sent_by_leaders(run)
    seen: set[tuple[NodeName, NodeName, int]] = set()
    for node in run.nodes:
        expiries = {timer.end_entry: timer for timer in node.timers if timer.end == "expired"}
        for before, span in pairwise(node.roles):
            if before.role != "Follower" or span.role not in ("PreCandidate", "Candidate"):
                continue
            if span.reason is not None and span.reason.startswith(_NO_BLAME):
                continue
            timer = expiries.get(span.entry)
            timeout_s = longest_timeout_s(run) if timer is None else timer.timeout_s
            reign = _followed(cluster, node.name, before, span.start_s, timeout_s)
            if reign is None or (node.name, reign.leader, reign.term) in seen:
                continue
            heartbeats = sent.get((reign.leader, node.name, reign.term))
            if not _knew(heartbeats, before, reign, span.start_s, timeout_s):
                continue
            seen.add((node.name, reign.leader, reign.term))
            yield _missed(run, node.name, reign, span, timeout_s, heartbeats)


def _followed(
    cluster: ClusterView, follower: NodeName, before: RoleSpan, at_s: float, timeout_s: float
) -> Reign | None:
    """The healthy leader that the follower should have been hearing, if there is one."""
    for reign in cluster.reigns:
        is_its = reign.leader != follower and reign.term == before.term
        if not is_its or not reign.start_s < at_s <= reign.end_s:
            continue
        since_s = at_s - timeout_s
        if not cluster.can_talk(reign.leader, follower, at_s):
            continue
        if cluster.was_cut_off_since(follower, since_s, at_s):
            continue
        if not cluster.was_cut_off_since(reign.leader, since_s, at_s):
            return reign
    return None


def _knew(
    heartbeats: _Heartbeats | None,
    before: RoleSpan,
    reign: Reign,
    at_s: float,
    timeout_s: float,
) -> bool:
    """Whether the follower knew its leader, so that this is no election beside another one."""
    if heartbeats is not None and any(
        message.received_s is not None and message.received_s <= at_s
        for message in heartbeats.before(at_s)
    ):
        return True
    return at_s - max(reign.start_s, before.start_s) >= timeout_s


def _missed(
    run: Run,
    follower: NodeName,
    reign: Reign,
    span: RoleSpan,
    timeout_s: float,
    heartbeats: _Heartbeats | None,
) -> Finding:
    at_s = span.start_s
    known = [] if heartbeats is None else heartbeats.before(at_s)
    arrived = [
        message
        for message in known
        if message.received_s is not None and message.received_s <= at_s
    ]
    last = arrived[-1] if arrived else None
    silent_since_s = reign.start_s if last is None else (last.received_s or 0.0)
    unheard = known if last is None else known[known.index(last) + 1 :]
    are_lost = len(unheard) >= LOSSES_MIN and all(message.fate == "lost" for message in unheard)
    state = "alive, though nothing of what it sent arrived," if are_lost else "alive and connected,"
    return finding(
        run,
        "missed-heartbeats",
        "info" if are_lost else "warning",
        terms=(reign.term,),
        nodes=(follower, reign.leader),
        start_s=min(silent_since_s, at_s),
        end_s=at_s,
        detail=f"Node {follower} gave up on leader {reign.leader} of term {reign.term}, which was "
        f"{state} after {ms(at_s - silent_since_s)} of silence (its election timeout "
        f"was {ms(timeout_s)}). {_measured(known, heartbeats, reign, at_s, timeout_s)}",
        entries=[
            *(message.sent_entry for message in known[-3:]),
            *(message.received_entry for message in arrived[-1:]),
            span.entry,
        ],
    )


def _measured(
    known: list[Message],
    heartbeats: _Heartbeats | None,
    reign: Reign,
    at_s: float,
    timeout_s: float,
) -> str:
    """The measured heartbeat interval, or what there is instead of one."""
    if heartbeats is None or not known:
        office_s = at_s - reign.start_s
        return (
            f"The log shows no heartbeat to it since the leader took office {ms(office_s)} before."
        )
    lost = [
        message for message in heartbeats.since(at_s - timeout_s, at_s) if message.fate == "lost"
    ]
    losses = f" {len(lost)} sent in that time got lost." if lost else ""
    late_s = sorted(
        message.received_s - (message.sent_s or 0.0)
        for message in known
        if message.received_s is not None and message.received_s > at_s
    )
    if late_s:
        return (
            f"{len(late_s)} of its messages were on their way by then, and took "
            f"{ms(late_s[len(late_s) // 2])}: the network is slower than the follower is "
            f"patient.{losses}"
        )
    intervals = sorted(intervals_s(known))
    silent_s = at_s - (known[-1].sent_s or 0.0)
    if intervals and silent_s > SILENCES_MIN * intervals[-1]:
        # What came before may be an entry and its commit: close together, and no heartbeats.
        return (
            f"The leader sent it {len(known)} messages, {ms(intervals[-1])} apart at most, and "
            f"then nothing for {ms(silent_s)}: it stalled, or its heartbeat interval is longer "
            f"than that.{losses}"
        )
    if not intervals:
        return (
            f"The leader sent it a heartbeat only once, {ms(silent_s)} before: its heartbeat "
            f"interval is longer than {ms(silent_s)}.{losses}"
        )
    median_s = intervals[len(intervals) // 2]
    return (
        f"The leader sent it heartbeats every {ms(median_s)} (at most {ms(intervals[-1])} "
        f"apart), the last one {ms(silent_s)} before.{losses}"
    )


def _sent_by_leaders(run: Run) -> dict[tuple[NodeName, NodeName, int], _Heartbeats]:
    sent: dict[tuple[NodeName, NodeName, int], _Heartbeats] = {}
    for message in run.messages:
        if message.kind not in ("AppendEntries", "InstallSnapshot") or message.sent_s is None:
            continue
        if message.sender is None or message.receiver is None or message.term is None:
            continue
        way = (message.sender, message.receiver, message.term)
        heartbeats = sent.get(way)
        if heartbeats is None:
            heartbeats = sent[way] = _Heartbeats([], [])
        heartbeats.messages.append(message)
        heartbeats.sent_s.append(message.sent_s)
    return sent


# --- others -----------------------------------------------------------------------------------


def stale_leader(cluster: ClusterView) -> Iterator[Finding]:
    """A leader of an old term did not know that another one led."""
    run = cluster.run
    interval = run.statistics.heartbeat_interval
    patience_s = STALE_S
    if interval is not None:
        patience_s = max(patience_s, INTERVALS_TO_HEAR * interval.median_ms / 1000)
    for reign in cluster.reigns:
        newer = next(
            (
                other
                for other in cluster.reigns
                if other.term > reign.term
                and other.leader != reign.leader
                and other.start_s < reign.end_s
            ),
            None,
        )
        if newer is None:
            continue
        overlap_s = reign.end_s - newer.start_s
        was_away = cluster.was_cut_off_since(reign.leader, newer.start_s, reign.end_s)
        if overlap_s < (STALE_S if was_away else patience_s):
            continue
        why = (
            "It was cut off, so it could not know, and could not commit anything."
            if was_away
            else "It was connected, and should have heard of the newer term."
        )
        yield finding(
            run,
            "stale-leader",
            "info" if was_away else "warning",
            terms=(reign.term, newer.term),
            nodes=(reign.leader, newer.leader),
            start_s=newer.start_s,
            end_s=reign.end_s,
            detail=f"Node {reign.leader} took itself for the leader of term {reign.term} for "
            f"{ms(overlap_s)} after node {newer.leader} had become leader of term {newer.term}. "
            f"{why}",
            entries=(reign.entry, newer.entry),
        )


def disruptive_rejoin(cluster: ClusterView) -> Iterator[Finding]:
    """A node that came back made a healthy leader step down."""
    run = cluster.run
    window_s = leaderless_limit_s(run)
    candidacies = _candidacies(run)
    for reign in cluster.reigns:
        after = cluster.role(reign.leader, reign.end_s)
        if after is None or after.role != "Follower" or after.term <= reign.term:
            continue
        for name, span in candidacies.get(after.term, ()):
            absence = cluster.last_absence(name, reign.end_s)
            if absence is None or name == reign.leader:
                continue
            away_s, back_s = absence
            is_healthy = reign.start_s < back_s and not cluster.was_cut_off_since(
                reign.leader, back_s, reign.end_s
            )
            if not is_healthy or reign.end_s - back_s > window_s:
                continue
            if _heard_leader(run, name, back_s, min(span.start_s, reign.end_s)):
                continue
            yield _rejoined(run, reign, name, span, away_s, back_s, candidacies)
            break


def _rejoined(
    run: Run,
    reign: Reign,
    name: NodeName,
    span: RoleSpan,
    away_s: float,
    back_s: float,
    candidacies: dict[int, list[tuple[NodeName, RoleSpan]]],
) -> Finding:
    attempts = sum(
        1
        for spans in candidacies.values()
        for candidate, other in spans
        if candidate == name and away_s <= other.start_s < back_s
    )
    asked = f"asked for votes {times(attempts)} meanwhile" if attempts else "came back"
    return finding(
        run,
        "disruptive-rejoin",
        "warning",
        terms=(reign.term, span.term),
        nodes=(name, reign.leader),
        start_s=back_s,
        end_s=reign.end_s,
        detail=f"Node {name} was away for {ms(back_s - away_s)} and {asked}, which raised its "
        f"term. {ms(reign.end_s - back_s).capitalize()} after it was back, its higher term "
        f"{span.term} forced leader {reign.leader} of term {reign.term} to step down, although "
        "that leader was healthy. A pre-vote prevents this.",
        entries=(
            *(mark.entry for mark in run.marks if mark.at_s in (away_s, back_s)),
            span.entry,
            reign.entry,
        ),
    )


def _candidacies(run: Run) -> dict[int, list[tuple[NodeName, RoleSpan]]]:
    """Who asked for votes in which term."""
    found: dict[int, list[tuple[NodeName, RoleSpan]]] = {}
    for node in run.nodes:
        for span in node.roles:
            is_asked = span.role == "Candidate" and span.entry is not None
            if is_asked and not (span.reason or "").startswith(_NO_BLAME):
                found.setdefault(span.term, []).append((node.name, span))
    return found


def _heard_leader(run: Run, name: NodeName, start_s: float, end_s: float) -> bool:
    return any(
        message.receiver == name
        and message.kind in ("AppendEntries", "InstallSnapshot")
        and message.received_s is not None
        and start_s <= message.received_s < end_s
        for message in run.messages
    )


def _was_transferred(run: Run, reign: Reign) -> bool:
    return any(
        span.role == "Candidate"
        and span.term == reign.term
        and (span.reason or "").startswith("transfer")
        for node in run.nodes
        if node.name == reign.leader
        for span in node.roles
    )


def slow_failover(cluster: ClusterView) -> Iterator[Finding]:
    """Several election timeouts passed between two leaders."""
    run = cluster.run
    limit_s = leaderless_limit_s(run)
    for last, service, took_s in failovers(cluster):
        if took_s <= limit_s or _was_transferred(run, service.reign):
            continue
        start_s = service.start_s - took_s
        between = [term for term in run.terms if start_s <= term.start_s < service.start_s]
        yield finding(
            run,
            "slow-failover",
            "warning",
            terms=(last.reign.term, service.reign.term),
            nodes=(last.reign.leader, service.reign.leader),
            start_s=start_s,
            end_s=service.start_s,
            detail=f"{ms(took_s).capitalize()} passed from the loss of leader {last.reign.leader} "
            f"(term {last.reign.term}) until node {service.reign.leader} led in term "
            f"{service.reign.term}, with {len(between)} elections on the way. The longest election "
            f"timeout is {ms(longest_timeout_s(run))}.",
            entries=(last.reign.entry, service.reign.entry),
        )
