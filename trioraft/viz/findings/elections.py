"""Elections that nobody won, clusters that nobody led, and votes and leaders that are too many.

An election fails for one of four reasons, told apart by who could talk to whom: the candidates were
cut off; no majority could talk; whoever was not cut off asked when a later term had begun
elsewhere; or all was well, and the votes were split or came too late, which alone is any worry.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Final, Literal, TypeAlias

import attrs

from ..cluster import ClusterView, round_trips_s
from ..model import Finding, NodeName, Run, Severity, Term
from .wording import (
    finding,
    leaderless_limit_s,
    listed,
    longest_timeout_s,
    ms,
    ms_range,
    nodes,
    shortest_timeout_s,
    terms,
    times,
)


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


LIVELOCK_TERMS_MIN: Final = 5
"""So many failed elections in a row are no accident."""

LOSS_SHARE: Final = 0.5
"""If so much of what was sent gets lost, no timeout helps."""

_Cause: TypeAlias = Literal["cut off", "no majority", "too late", "split"]


@attrs.frozen
class _Failed:
    """An election that nobody won."""

    term: Term
    cause: _Cause
    end_s: float


def split_vote(cluster: ClusterView) -> Iterator[Finding]:
    """Terms with candidates and no leader; one finding for terms in a row with the same cause."""
    for group in _in_a_row(_failed_elections(cluster)):
        numbers = [failed.term.number for failed in group]
        candidates = _candidates(group)
        is_explained = group[0].cause != "split"
        yield finding(
            cluster.run,
            "split-vote",
            "info" if is_explained or len(group) == 1 else "warning",
            terms=numbers,
            nodes=candidates,
            start_s=group[0].term.start_s,
            end_s=group[-1].end_s,
            detail=_why(cluster, group, candidates),
            entries=_candidacies(cluster, group),
        )


def election_livelock(cluster: ClusterView) -> Iterator[Finding]:
    """Five or more elections in a row failed although a majority could talk."""
    for group in _in_a_row(_failed_elections(cluster)):
        if group[0].cause != "split" or len(group) < LIVELOCK_TERMS_MIN:
            continue
        numbers = range(group[0].term.number, group[-1].term.number + 1)
        candidates = _candidates(group)
        start_s, end_s = group[0].term.start_s, group[-1].end_s
        lost, sent = _losses(cluster, numbers)
        is_over = any(reign.term > numbers[-1] for reign in cluster.reigns)
        yield finding(
            cluster.run,
            "election-livelock",
            "warning" if lost >= LOSS_SHARE * sent > 0 or is_over else "error",
            terms=numbers,
            nodes=candidates,
            start_s=start_s,
            end_s=end_s,
            detail=f"{len(group)} elections in a row ({terms(list(numbers))}) had candidates and "
            f"no winner, for {ms(end_s - start_s)}: {_livelock_cause(cluster, numbers)}"
            + (" In the end somebody was elected." if is_over else ""),
            entries=_candidacies(cluster, group),
        )


def no_leader(cluster: ClusterView) -> Iterator[Finding]:
    """At the beginning or at the end nobody led for a long time."""
    run = cluster.run
    if not any(node.timers for node in run.nodes) and not run.terms:
        return  # these nodes do not elect
    limit_s = leaderless_limit_s(run)
    formed_s = cluster.formed_s()
    if formed_s >= limit_s:
        yield _was_forming(cluster, formed_s)
    services = cluster.services()
    if services:
        gaps = [(formed_s, services[0].start_s)]
        gaps.append((max(service.end_s for service in services), run.duration_s))
    else:
        gaps = [(formed_s, run.duration_s)]
    for start_s, end_s in gaps:
        if end_s - start_s < limit_s:
            continue
        yield from _nobody_led(cluster, start_s, end_s, limit_s, ever=bool(services))


def _was_forming(cluster: ClusterView, end_s: float) -> Finding:
    said = [point for point in cluster.run.forming if point.at_s <= end_s]
    missing = sorted({peer for point in said for peer in point.waiting_for})
    return finding(
        cluster.run,
        "no-leader",
        "info",
        terms=[],
        nodes=cluster.names,
        start_s=0.0,
        end_s=end_s,
        detail=f"Nobody could be elected for {ms(end_s)}: a new cluster forms once all its first "
        f"voters have met, and it waited for {', '.join(missing)}.",
        entries=[point.entry for point in said],
    )


def _nobody_led(
    cluster: ClusterView, start_s: float, end_s: float, limit_s: float, *, ever: bool
) -> Iterator[Finding]:
    since_s = cluster.majority_since_s(start_s, end_s)
    could_s = 0.0 if since_s is None else end_s - since_s
    asked = [term for term in cluster.run.terms if start_s <= term.start_s < end_s]
    if cluster.run.is_partial:
        why = "as far as these logs tell; they begin and end in the middle of a cluster's life."
    elif could_s >= limit_s:
        why = (
            f"although a majority could talk for the last {ms(could_s)}; there were "
            f"{len(asked)} elections in that time, and the longest election timeout is "
            f"{ms(longest_timeout_s(cluster.run))}."
        )
    else:
        why = (
            f"because no majority ({_needed(cluster, end_s)} nodes) could talk: "
            "without one, nobody can be elected."
        )
    yield finding(
        cluster.run,
        "no-leader",
        _severity(cluster.run, could_s, limit_s, ever=ever),
        terms=[term.number for term in asked],
        nodes=cluster.names,
        start_s=start_s,
        end_s=end_s,
        detail=f"Nobody led for {ms(end_s - start_s)}, {why}",
        entries=_candidacies(cluster, [_Failed(term, "split", end_s) for term in asked]),
    )


def _severity(run: Run, could_s: float, limit_s: float, *, ever: bool) -> Severity:
    if could_s < limit_s or run.is_partial:
        return "info"
    return "warning" if ever else "error"


# --- which elections failed, and why ----------------------------------------------------------


def _failed_elections(cluster: ClusterView) -> list[_Failed]:
    run = cluster.run
    failed: list[_Failed] = []
    for position, term in enumerate(run.terms):
        if term.leader is not None or not term.candidates:
            continue
        following = run.terms[position + 1 :][:1]
        end_s = following[0].start_s if following else run.duration_s
        if not following and end_s - term.start_s < shortest_timeout_s(run):
            continue  # the log ends before the election does
        failed.append(_Failed(term, _cause(cluster, term), max(end_s, term.start_s)))
    return failed


def _cause(cluster: ClusterView, term: Term) -> _Cause:
    began_s = _began_s(cluster, term)
    if not any(cluster.has_majority(at_s) for at_s in began_s.values()):
        return "no majority"
    if all(cluster.is_cut_off(name, at_s) for name, at_s in began_s.items()):
        return "cut off"
    late = _late(cluster, term)
    if late and all(name in late or cluster.is_cut_off(name, began_s[name]) for name in began_s):
        return "too late"
    return "split"


def _began_s(cluster: ClusterView, term: Term) -> dict[NodeName, float]:
    """When each candidate of a term first asked for votes in it."""
    began_s = dict.fromkeys(term.candidates, term.start_s)
    for node in cluster.run.nodes:
        for span in reversed(node.roles):
            if span.role == "Candidate" and span.term == term.number:
                began_s[node.name] = span.start_s
    return began_s


def _late(cluster: ClusterView, term: Term) -> dict[NodeName, Term]:
    """Which candidates asked when a later term had begun elsewhere, and which one it was then."""
    late: dict[NodeName, Term] = {}
    for name, at_s in _began_s(cluster, term).items():
        for later in cluster.run.terms:
            if later.number > term.number and later.start_s < at_s:
                late[name] = later
    return late


def _in_a_row(failed: list[_Failed]) -> Iterator[list[_Failed]]:
    """Elections of one cause whose terms follow each other."""

    def key(pair: tuple[int, _Failed]) -> tuple[int, _Cause, tuple[NodeName, ...]]:
        position, election = pair
        is_own = election.cause in ("cut off", "too late")
        who = election.term.candidates if is_own else ()
        return election.term.number - position, election.cause, who

    for _, group in groupby(enumerate(failed), key):
        yield [election for _, election in group]


def _candidates(group: list[_Failed]) -> list[NodeName]:
    return sorted({name for failed in group for name in failed.term.candidates})


def _candidacies(cluster: ClusterView, group: list[_Failed]) -> list[int | None]:
    numbers = {failed.term.number for failed in group}
    return [
        span.entry
        for node in cluster.run.nodes
        for span in node.roles
        if span.role == "Candidate" and span.term in numbers
    ]


# --- in words -------------------------------------------------------------------------------


def _why(cluster: ClusterView, group: list[_Failed], candidates: list[NodeName]) -> str:
    which = terms([failed.term.number for failed in group])
    who = nodes(candidates)
    needed = _needed(cluster, group[0].term.start_s)
    match group[0].cause:
        case "cut off":
            return (
                f"{who.capitalize()} asked for votes in {which} while cut off from a majority "
                f"({needed}), so nobody could win. Each attempt raises the term."
            )
        case "no majority":
            return (
                f"{who.capitalize()} asked for votes in {which}, but fewer than {needed} nodes "
                "could talk at all: nobody could win."
            )
        case "too late":
            return f"Nobody won {which}: {_lateness(cluster, group[0].term)}"
        case "split":
            return f"Nobody won {which}: {_tally(cluster, group[0].term)}" + (
                f" The same happened {times(len(group))} in a row." if len(group) > 1 else ""
            )


def _lateness(cluster: ClusterView, term: Term) -> str:
    """Who asked while cut off, and who when the others had gone on to another term."""
    began_s, late = _began_s(cluster, term), _late(cluster, term)
    told = [
        f"node {name} asked {ms(at_s - term.start_s)} later, when term {late[name].number} had "
        "already begun elsewhere"
        if name in late
        else f"node {name} asked while cut off from a majority"
        for name, at_s in began_s.items()
    ]
    return f"{', and '.join(told)}."


def _needed(cluster: ClusterView, at_s: float) -> str:
    """How many voters are a majority of how many."""
    members = cluster.members(at_s)
    return f"{members.majority} of {len(members.voters)}"


def _tally(cluster: ClusterView, term: Term) -> str:
    """Who got how many votes."""
    run = cluster.run
    votes = dict.fromkeys(term.candidates, 1)  # everybody votes for itself
    for message in run.messages:
        if message.kind == "RequestVoteReply" and message.term == term.number:
            is_counted = message.is_positive and message.fate == "delivered"
            if is_counted and message.receiver in votes:
                votes[message.receiver] += 1
    counted = ", ".join(f"node {name} got {count}" for name, count in votes.items())
    if run.is_partial:
        return f"as far as these logs tell ({counted}, itself included)."
    needed = f"{_needed(cluster, term.start_s)} votes were needed"
    if len(term.candidates) == 1:
        return f"{counted} in time, and {needed}."
    return f"the votes were divided ({counted}), and {needed}."


def _losses(cluster: ClusterView, numbers: range) -> tuple[int, int]:
    """How many requests for votes and answers got lost in these terms, and how many there were."""
    fates = [
        message.fate
        for message in cluster.run.messages
        if message.family == "vote" and message.term in numbers
    ]
    return fates.count("lost"), len(fates)


def _livelock_cause(cluster: ClusterView, numbers: range) -> str:
    run = cluster.run
    timeouts = [
        timer.timeout_s for node in run.nodes for timer in node.timers if timer.term in numbers
    ]
    trips = sorted(round_trips_s(run, "RequestVote", numbers))
    drawn = f"timeouts {ms_range(min(timeouts), max(timeouts))}" if timeouts else "timeouts unknown"
    if not trips:
        return f"{drawn}, and not one answer to a request for votes came back."
    lost, sent = _losses(cluster, numbers)
    if lost >= LOSS_SHARE * sent:
        return (
            f"{drawn}; {lost} of {sent} requests for votes and answers got lost, so it is the "
            "network that keeps them from a majority."
        )
    trip_s = trips[len(trips) // 2]
    sentence = f"{drawn} against a vote round trip of {ms(trip_s)}."
    if timeouts and trip_s >= min(timeouts):
        return f"{sentence} The next election begins before the votes of this one arrive."
    return f"{sentence} Votes arrive in time, so candidates keep colliding: spread the timeouts."
