"""How long a cluster was without a leader, as whoever waits for it counts: from the last heartbeat
of the old leader that reached the majority until the next one took office.

`cluster.failovers` counts otherwise: from when the old leader stopped leading, which its followers
do not know yet. Their patience, an election timeout, is most of what a client waits for.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TypeAlias

from .cluster import ClusterView, failovers
from .model import Failover, NodeName, Run


def waits(cluster: ClusterView) -> tuple[Failover, ...]:
    """Every change of leader, in order."""
    heard = _heard(cluster.run)
    found: list[Failover] = []
    for last, service, took_s in failovers(cluster):
        old, new = last.reign, service.reign
        heard_s = _last_heard_s(cluster, heard.get((old.leader, old.term), []), service.start_s)
        found.append(
            Failover(
                old.leader,
                old.term,
                new.leader,
                new.term,
                heard_s,
                service.start_s - took_s,
                service.start_s,
            )
        )
    return tuple(found)


_Heard: TypeAlias = list[tuple[float, NodeName]]


def _last_heard_s(cluster: ClusterView, heard: _Heard, before_s: float) -> float | None:
    """The last heartbeat that did any good: who is cut off with the old leader cannot go on with
    it, and hears it for nothing."""
    for position in reversed(range(bisect_right(heard, before_s, key=lambda one: one[0]))):
        at_s, receiver = heard[position]
        if not cluster.is_cut_off(receiver, at_s):
            return at_s
    return None


def _heard(run: Run) -> dict[tuple[NodeName, int], _Heard]:
    """When who heard which leader of which term, in order."""
    heard: dict[tuple[NodeName, int], _Heard] = {}
    for message in run.messages:
        if message.kind not in ("AppendEntries", "InstallSnapshot"):
            continue
        sender, receiver, term = message.sender, message.receiver, message.term
        if message.received_s is None or sender is None or receiver is None or term is None:
            continue
        heard.setdefault((sender, term), []).append((message.received_s, receiver))
    for arrivals in heard.values():
        arrivals.sort()
    return heard
