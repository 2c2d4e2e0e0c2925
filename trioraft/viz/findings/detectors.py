"""All kinds of findings: who detects them, what they mean, and what to do about them.

A detector looks at the whole cluster and yields findings of one kind; it neither knows the others
nor changes anything. Explanations are for somebody who has not read the paper, but may.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import attrs

from ..cluster import ClusterView
from ..model import SEVERITIES, Finding, FindingKind
from .elections import double_vote, election_livelock, no_leader, split_vote, two_leaders
from .leaders import disruptive_rejoin, missed_heartbeats, slow_failover, stale_leader
from .reasons import no_majority, older_term_commit, quorum_lost, vote_refused
from .timers import leaks, orphan_timers

DETECTORS: Final[tuple[Callable[[ClusterView], Iterator[Finding]], ...]] = (
    two_leaders,
    double_vote,
    split_vote,
    election_livelock,
    missed_heartbeats,
    orphan_timers,
    leaks,
    no_leader,
    stale_leader,
    disruptive_rejoin,
    slow_failover,
    no_majority,
    quorum_lost,
    vote_refused,
    older_term_commit,
)


def findings_of(cluster: ClusterView) -> tuple[Finding, ...]:
    """What there is to say about a run, worst first, then by time.

    Args:
        cluster: of a run that has its statistics.
    """
    found = [finding for detector in DETECTORS for finding in detector(cluster)]
    order = {severity: position for position, severity in enumerate(SEVERITIES)}
    return tuple(sorted(found, key=lambda finding: (order[finding.severity], finding.start_s)))


@attrs.frozen
class Explanation:
    """The row of one kind."""

    title: str
    meaning: str
    advice: str


EXPLANATIONS: Final[Mapping[FindingKind, Explanation]] = {
    "two-leaders": Explanation(
        "Two leaders in one term",
        "Two nodes took office in the same term. Raft's first promise is that this cannot be: a "
        "leader needs a majority, and a node has one vote a term (paper, 5.2).",
        "Look for a node that voted twice, or that forgot its vote when it restarted.",
    ),
    "double-vote": Explanation(
        "A node voted twice in one term",
        "A node gave its vote of one term to two candidates, so both may win (paper, 5.2).",
        "The vote must be stored before it is given, and kept for the whole term: also when the "
        "node becomes a follower in the same term, and over a restart.",
    ),
    "split-vote": Explanation(
        "Nobody won the election",
        "There were candidates, but none got a majority; the next term tries again. Now and then "
        "this is normal: candidates that start together divide the votes. A node that is cut off "
        "can ask, but nobody answers.",
        "If it happens often, spread the election timeouts further (paper, 9.3).",
    ),
    "election-livelock": Explanation(
        "Elections that never end",
        "Term after term there are candidates and no leader: each election ends before its votes "
        "arrive, or collides with the next one.",
        "Election timeouts must be much longer than a vote's round trip, and spread wide.",
    ),
    "missed-heartbeats": Explanation(
        "A follower lost patience with a living leader",
        "The leader was alive and connected, but its heartbeats came too late or not at all, so "
        "a follower began an election nobody needed.",
        "Send heartbeats several times within the shortest election timeout, and look for what "
        "delays or drops them.",
    ),
    "orphan-timer": Explanation(
        "A node had several election timers at once",
        "A timer that was replaced went on running beside the new one. Orphans expire on their "
        "own and begin elections nobody needs.",
        "Stop the old timer before starting the next; a node needs one.",
    ),
    "leak": Explanation(
        "Something outlived the test",
        "The leak check found a task, goroutine, thread or descriptor that was still there when "
        "everything should have been gone.",
        "Whatever starts it must also end it and wait for the end.",
    ),
    "no-leader": Explanation(
        "Nobody led",
        "For a long time no leader could reach a majority: nothing could be committed.",
        "If a majority was connected, see what the elections failed at; if not, Raft can only "
        "wait.",
    ),
    "stale-leader": Explanation(
        "A leader did not know that it was deposed",
        "A node went on as leader of an old term while another one led already. It cannot commit "
        "anything, but clients may wait for it, and reads from it may be old.",
        "A leader that hears no majority for an election timeout should step down "
        "(dissertation, 6.2).",
    ),
    "disruptive-rejoin": Explanation(
        "A node came back and deposed a healthy leader",
        "While it was away, the node asked for votes again and again, and each time raised its "
        "term. Back again, its higher term forces the leader to step down, for no good reason.",
        "A pre-vote keeps the term of such a node down (dissertation, 9.6).",
    ),
    "slow-failover": Explanation(
        "It took long to get a new leader",
        "The leader was lost, a majority could talk, and yet several election timeouts passed "
        "before somebody led.",
        "See whether elections collided, or votes were refused or lost, in between.",
    ),
    "quorum-lost": Explanation(
        "A leader stepped down because nobody answered",
        "A leader that hears no majority for an election timeout cannot know whether another one "
        "was elected meanwhile. It steps down, so that its clients go and ask elsewhere "
        "(dissertation, 6.2).",
        "Look for what kept its followers from it: a cut, a crash, or a pause.",
    ),
    "vote-refused": Explanation(
        "A vote was refused",
        "A node gives one vote a term, to a candidate whose log is at least as far as its own "
        "(paper, 5.2 and 5.4.1); and while it hears a leader, it helps nobody to depose it "
        "(dissertation, 4.2.3).",
        "Nothing: it is how two leaders of one term, and lost entries, are kept from happening.",
    ),
    "older-term-commit": Explanation(
        "Entries of an older term waited for one of the new term",
        "An entry of an older term may stand on a majority and be overwritten all the same. So a "
        "leader commits by counting only entries of its own term, and all before them with it "
        "(paper, 5.4.2 and figure 8).",
        "A leader that commits an empty entry when it takes office ends that wait at once.",
    ),
}
