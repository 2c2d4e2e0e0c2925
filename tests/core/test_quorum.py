"""Majorities, against a deliberately dumb version that tries every subset.

Rules of this file: the dumb version counts nothing; it lists all sets of nodes and asks whether
a quorum among them has what is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioraft.core.quorum import Outcome, agreed, majority, tally
from trioraft.core.types import Configuration, NodeId

from .properties import quietly

NODES = ("1", "2", "3", "4", "5", "6", "7")

node_sets = st.lists(st.sampled_from(NODES), min_size=1, max_size=7, unique=True).map(tuple)
configurations = st.builds(
    Configuration, voters=node_sets, outgoing=st.one_of(st.just(()), node_sets)
)
ballots = st.dictionaries(st.sampled_from((*NODES, "stranger")), st.booleans())


def quorums(configuration: Configuration) -> Iterator[set[NodeId]]:
    """Every set of members that may decide: more than half of each half."""
    members = configuration.members
    for size in range(len(members) + 1):
        for chosen in combinations(members, size):
            halves: list[Sequence[NodeId]] = [configuration.voters]
            if configuration.outgoing:
                halves.append(configuration.outgoing)
            if all(2 * len(set(half) & set(chosen)) > len(half) for half in halves):
                yield set(chosen)


@given(configurations, ballots)
@quietly
def test_an_election_is_won_where_some_quorum_granted(
    configuration: Configuration, votes: dict[NodeId, bool]
) -> None:
    granted = {node for node, vote in votes.items() if vote}
    refused = set(votes) - granted
    won = any(quorum <= granted for quorum in quorums(configuration))
    open_still = any(not quorum & refused for quorum in quorums(configuration))
    expected = Outcome.WON if won else Outcome.PENDING if open_still else Outcome.LOST
    assert tally(configuration, votes) is expected


@given(configurations, st.lists(st.integers(0, 5), min_size=7, max_size=7))
@quietly
def test_the_agreed_index_is_the_highest_that_some_quorum_holds(
    configuration: Configuration, indexes: list[int]
) -> None:
    match = dict(zip(NODES, indexes, strict=True))
    expected = max(min(match[node] for node in quorum) for quorum in quorums(configuration))
    assert agreed(configuration, match.__getitem__) == expected


@given(configurations)
@quietly
def test_any_two_quorums_share_a_node(configuration: Configuration) -> None:
    found = list(quorums(configuration))
    assert all(a & b for a in found for b in found)


@pytest.mark.parametrize(("count", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (7, 4)])
def test_a_majority_is_more_than_half(count: int, needed: int) -> None:
    assert majority(count) == needed


def test_nobody_decides_in_an_empty_configuration() -> None:
    assert tally(Configuration(()), {"1": True}) is Outcome.LOST


def test_learners_do_not_count() -> None:
    configuration = Configuration(("1", "2", "3"), learners=("4", "5"))
    assert tally(configuration, {"1": True, "4": True, "5": True}) is Outcome.PENDING
    assert agreed(configuration, lambda node: 9 if node in "45" else 1) == 1
