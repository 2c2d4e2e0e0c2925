"""The cluster as a whole, at any moment of a run: who is alive, who reaches whom, who leads."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final, final

import attrs

from .model import (
    Durations,
    Mark,
    Members,
    Message,
    NodeName,
    NodeTrace,
    RoleSpan,
    Run,
    Statistics,
)


@final
@attrs.frozen
class Connectivity:
    """The network at one moment."""

    isolated: frozenset[NodeName] = frozenset()
    """Disconnected from all others, or muted."""
    groups: tuple[frozenset[NodeName], ...] = ()
    """Of a partition; a node in none of them is alone. Empty: there is none."""
    down: frozenset[tuple[NodeName, NodeName]] = frozenset()
    """Connections that are down, by who opened them and to whom."""
    cuts: tuple[tuple[NodeName, ...], ...] = ()
    """Ways that were cut, from whom to whom; as often as they were."""

    def after(self, mark: Mark) -> Connectivity:
        """What it is once this was done."""
        nodes = frozenset(mark.nodes)
        match mark.kind:
            case "disconnect":
                return attrs.evolve(self, isolated=self.isolated | nodes)
            case "reconnect":
                return attrs.evolve(self, isolated=self.isolated - nodes)
            case "partition":
                return attrs.evolve(self, groups=tuple(frozenset(group) for group in mark.groups))
            case "heal":
                return attrs.evolve(self, isolated=frozenset(), groups=(), cuts=())
            case "cut":
                return attrs.evolve(self, cuts=(*self.cuts, *mark.groups))
            case "mend":
                return attrs.evolve(self, cuts=_without(self.cuts, mark.groups))
            case "link down":
                return attrs.evolve(self, down=self.down | {(mark.nodes[0], mark.nodes[1])})
            case "link up":
                return attrs.evolve(self, down=self.down - {(mark.nodes[0], mark.nodes[1])})
            case "test" if mark.text.startswith("Mute "):
                # It is cut off some messages later; from here on nobody can blame it for silence.
                return attrs.evolve(self, isolated=self.isolated | set(mark.text.split()[1:2]))
            case "test" if mark.text.endswith(" is paused"):
                return attrs.evolve(self, isolated=self.isolated | set(mark.text.split()[:1]))
            case "test" if mark.text.endswith(" goes on"):
                return attrs.evolve(self, isolated=self.isolated - set(mark.text.split()[:1]))
            case _:
                return self

    def can_send(self, sender: NodeName, receiver: NodeName) -> bool:
        """Whether there is a way from one to the other."""
        if sender == receiver:
            return True
        if sender in self.isolated or receiver in self.isolated:
            return False
        if (sender, receiver) in self.down or (sender, receiver) in self.cuts:
            return False
        return not self.groups or any(
            sender in group and receiver in group for group in self.groups
        )

    def can_talk(self, one: NodeName, other: NodeName) -> bool:
        """Whether there is a way in both directions."""
        return self.can_send(one, other) and self.can_send(other, one)


def _without(
    cuts: tuple[tuple[NodeName, ...], ...], mended: tuple[tuple[NodeName, ...], ...]
) -> tuple[tuple[NodeName, ...], ...]:
    """Each of the mended ways is cut once less."""
    left = list(cuts)
    for way in mended:
        if way in left:
            left.remove(way)
    return tuple(left)


IDLE_ROLES: Final = ("Follower", "Dead")
"""Those of a node that has not campaigned yet."""


@attrs.frozen
class Reign:
    """One node's time in office."""

    leader: NodeName
    term: int
    start_s: float
    end_s: float
    entry: int | None


@attrs.frozen
class LeaderService:
    """A stretch of a reign in which the leader reached a majority."""

    reign: Reign
    start_s: float
    end_s: float


@attrs.frozen
class _Epoch:
    """From here on, until the next one, the same nodes are alive and reach the same others."""

    start_s: float
    network: Connectivity
    dead: frozenset[NodeName]
    members: Members


@final
class ClusterView:
    """What happened to the cluster during a run."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.names: tuple[NodeName, ...] = run.node_names
        self._nodes: dict[NodeName, NodeTrace] = {node.name: node for node in run.nodes}
        self._span_starts = {node.name: [span.start_s for span in node.roles] for node in run.nodes}
        self._epochs = _epochs(run)
        self._epoch_starts = [epoch.start_s for epoch in self._epochs]
        self._known_absences: dict[NodeName, list[tuple[float, float]]] = {}
        self.reigns: list[Reign] = _reigns(run)

    def members(self, at_s: float) -> Members:
        """Who belonged to the cluster at this moment."""
        return self._epoch(at_s).members

    def role(self, name: NodeName, at_s: float) -> RoleSpan | None:
        """What the node is at this moment; None before its first line."""
        starts = self._span_starts.get(name)
        position = -1 if starts is None else bisect_right(starts, at_s) - 1
        return self._nodes[name].roles[position] if position >= 0 else None

    def can_talk(self, one: NodeName, other: NodeName, at_s: float) -> bool:
        """Whether both are alive and messages pass in both directions."""
        epoch = self._epoch(at_s)
        if one in epoch.dead or other in epoch.dead:
            return False
        return epoch.network.can_talk(one, other)

    def is_cut_off(self, name: NodeName, at_s: float) -> bool:
        """Whether the node reaches too few others to be elected, or to lead."""
        return not self._reaches_majority(self._epoch(at_s), name)

    def is_dead(self, name: NodeName, at_s: float) -> bool:
        """Whether the node does not run."""
        return name in self._epoch(at_s).dead

    def has_majority(self, at_s: float) -> bool:
        """Whether somebody could lead at this moment."""
        return self._has_majority(self._epoch(at_s))

    def was_cut_off_since(self, name: NodeName, start_s: float, end_s: float) -> bool:
        """Whether the node was cut off, or dead, at any moment of this time."""
        return any(away_s <= end_s and start_s < back_s for away_s, back_s in self._absences(name))

    def last_absence(self, name: NodeName, before_s: float) -> tuple[float, float] | None:
        """When the node was last away, cut off or dead, and came back before this moment: from
        when to when. None if it never was, or still is."""
        absences = self._absences(name)
        position = bisect_right(absences, (before_s, before_s)) - 1
        if position < 0 or absences[position][1] > before_s:
            return None
        return absences[position]

    def majority_since_s(self, start_s: float, end_s: float) -> float | None:
        """Since when, from `start_s` on, a majority could talk without a break until `end_s`;
        None if it could not at the end."""
        since_s = start_s
        has = True
        for epoch, _ in self._epochs_with_ends(start_s, end_s):
            now_has = self._has_majority(epoch)
            if now_has and not has:
                since_s = max(start_s, epoch.start_s)
            has = now_has
        return since_s if has else None

    def formed_s(self) -> float:
        """Until when a new cluster waited for its first voters to meet, before which nobody may be
        elected; 0 if it did not."""
        spans = [span for node in self.run.nodes for span in node.roles]
        begun = (span.start_s for span in spans if span.term or span.role not in IDLE_ROLES)
        end_s = min(begun, default=self.run.duration_s)
        has_waited = any(point.at_s <= end_s for point in self.run.forming)
        return end_s if has_waited else 0.0

    def services(self) -> list[LeaderService]:
        """When somebody really led, in order."""
        services: list[LeaderService] = []
        for reign in self.reigns:
            for epoch, end_s in self._epochs_with_ends(reign.start_s, reign.end_s):
                if not self._reaches_majority(epoch, reign.leader):
                    continue
                start_s = max(epoch.start_s, reign.start_s)
                last = services[-1] if services else None
                if last is not None and last.reign is reign and last.end_s == start_s:
                    services[-1] = attrs.evolve(last, end_s=end_s)
                else:
                    services.append(LeaderService(reign, start_s, end_s))
        return sorted(services, key=lambda service: service.start_s)

    # -- epochs ----------------------------------------------------------------------------

    def _absences(self, name: NodeName) -> list[tuple[float, float]]:
        known = self._known_absences.get(name)
        if known is None:
            known = self._known_absences[name] = []
            away_s: float | None = None
            for epoch in self._epochs:
                is_away = not self._reaches_majority(epoch, name)
                if is_away and away_s is None:
                    away_s = epoch.start_s
                elif not is_away and away_s is not None:
                    known.append((away_s, epoch.start_s))
                    away_s = None
            if away_s is not None:
                known.append((away_s, math.inf))
        return known

    def _epoch(self, at_s: float) -> _Epoch:
        return self._epochs[max(0, bisect_right(self._epoch_starts, at_s) - 1)]

    def _epochs_with_ends(self, start_s: float, end_s: float) -> list[tuple[_Epoch, float]]:
        first = max(0, bisect_right(self._epoch_starts, start_s) - 1)
        found: list[tuple[_Epoch, float]] = []
        for position in range(first, len(self._epochs)):
            epoch = self._epochs[position]
            if position > first and epoch.start_s >= end_s:
                break
            following = self._epoch_starts[position + 1 : position + 2]
            found.append((epoch, min(end_s, following[0]) if following else end_s))
        return found

    def _reaches_majority(self, epoch: _Epoch, name: NodeName) -> bool:
        if name in epoch.dead or not epoch.members.has(name):
            return False
        reached = {
            other
            for other in self.names
            if other not in epoch.dead and epoch.network.can_talk(name, other)
        }
        return epoch.members.is_quorum(reached)

    def _has_majority(self, epoch: _Epoch) -> bool:
        return any(self._reaches_majority(epoch, name) for name in self.names)


def _epochs(run: Run) -> list[_Epoch]:
    """Every moment at which something changed, with what it changed to."""
    epochs = [_Epoch(0.0, Connectivity(), frozenset(), _first_members(run))]
    for at_s, _, change in sorted(_changes(run), key=lambda change: change[:2]):
        epochs.append(attrs.evolve(change(epochs[-1]), start_s=at_s))
    return epochs


def _changes(run: Run) -> Iterator[tuple[float, int, Callable[[_Epoch], _Epoch]]]:
    """When, at which entry, and what it does to an epoch."""
    network = Connectivity()
    for mark in run.marks:
        after = network.after(mark)
        if after != network:
            network = after
            yield mark.at_s, mark.entry, partial(attrs.evolve, network=network)
        if mark.kind == "crash":
            for name in mark.nodes:
                yield mark.at_s, mark.entry, partial(_with_life, name=name, is_dead=True)
    for point in run.configurations:
        yield point.at_s, point.entry, partial(attrs.evolve, members=point.members)
    for node in run.nodes:
        was_dead = False
        for span in node.roles:
            is_dead = span.role == "Dead"
            if is_dead != was_dead:
                change = partial(_with_life, name=node.name, is_dead=is_dead)
                yield span.start_s, span.entry or 0, change
            was_dead = is_dead


def _with_life(epoch: _Epoch, *, name: NodeName, is_dead: bool) -> _Epoch:
    dead = epoch.dead | {name} if is_dead else epoch.dead - {name}
    return attrs.evolve(epoch, dead=dead)


def _first_members(run: Run) -> Members:
    joined = {name for mark in run.marks if mark.kind == "join" for name in mark.nodes}
    return Members(tuple(name for name in run.node_names if name not in joined) or run.node_names)


def _reigns(run: Run) -> list[Reign]:
    reigns = [
        Reign(node.name, span.term, span.start_s, span.end_s, span.entry)
        for node in run.nodes
        for span in node.roles
        if span.role == "Leader"
    ]
    return sorted(reigns, key=lambda reign: (reign.start_s, reign.term))


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
