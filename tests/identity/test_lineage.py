"""Lineages by hand: whom they remember, and what they say of those with whom nothing can be."""

from __future__ import annotations

import random

import msgspec
import pytest

from tests.member.by_hand import ByHand
from tests.support import introduction
from trioraft.core.errors import PeerRefused
from trioraft.core.messages import SEEN_MAX, Introduction
from trioraft.core.types import NodeId
from trioraft.member.identity import encode_identity, opened
from trioraft.member.lineage import MET_MAX, REMEMBERED_MAX, Lineage


def lineage_of(node: NodeId, *voters: NodeId) -> Lineage:
    """Of a node that is opened for the first time."""
    identity = opened(
        None,
        cluster_id="c",
        node_id=node,
        voters=voters,
        others=voters,
        rng=random.Random(f"disk of {node}"),
    )
    return Lineage(
        node, cluster_id="c", identity=identity, voters=voters, others=voters, addresses={}
    )


def store(lineage: Lineage) -> None:
    while lineage.take_identity() is not None:
        lineage.on_stored()


def said(lineage: Lineage, to: NodeId) -> Introduction:
    return lineage.introduction(to)


def test_disks_that_come_and_go_are_not_remembered_for_ever() -> None:
    """Found by emptying one learner again and again: each of its disks stayed in the record of
    all others, which was written anew for each."""
    lineage = lineage_of("0", "0")
    uuid = lineage.identity.uuid
    lasting = introduction("1", "0", incarnation=7, uuid=uuid, formed=True, opening=(3, 33))
    assert lineage.meet(lasting, is_live=True)
    for number in range(REMEMBERED_MAX + 50):
        emptied = introduction(
            "2", "0", incarnation=1000 + number, uuid=uuid, formed=True, opening=(1, number)
        )
        assert lineage.meet(emptied, is_live=True)
    store(lineage)
    remembered = lineage.identity.remembered
    assert len(remembered) == REMEMBERED_MAX
    assert remembered[7] == (3, 33)  # it is there
    assert list(remembered)[-1] == 1000 + REMEMBERED_MAX + 49
    assert len(encode_identity(lineage.identity)) < 32 * REMEMBERED_MAX
    with pytest.raises(PeerRefused, match="older copy"):
        lineage.meet(msgspec.structs.replace(lasting, opening=(2, 22)), is_live=True)


def test_names_that_come_and_go_are_not_remembered_for_ever() -> None:
    lineage = lineage_of("0", "0", "1")
    member = ByHand(("0", "1"), lineage=lineage).member
    for number in range(1, 3 * MET_MAX):
        stranger = introduction(str(number), "0", incarnation=number + 1)
        assert member.meet(stranger, 0.0, is_live=True)
        lineage.introduction(stranger.sender)
        assert lineage.met.keys() <= member.raft.seen.keys()  # else nobody says it again
    newest = str(3 * MET_MAX - 1)
    assert len(lineage.met) == MET_MAX
    assert {"1", newest} <= lineage.met.keys()  # a first voter is not forgotten
    assert len(lineage._said) <= MET_MAX
    assert len(member.raft.seen) <= 2 * MET_MAX


def test_first_voters_that_agreed_on_different_disks_say_so() -> None:
    """Found by emptying a node in each moment of forming: the others were told that they belonged
    to different clusters, and should be replaced in one of them; there was none."""
    zero, one = lineage_of("0", "0", "1", "2"), lineage_of("1", "0", "1", "2")
    old, new = (introduction("2", "", incarnation=n, voters=("0", "1", "2")) for n in (21, 22))
    for lineage, other, two in ((zero, said(one, "0"), old), (one, said(zero, "1"), new)):
        lineage.meet(other, is_live=True)
        lineage.meet(two, is_live=True)
        store(lineage)
    assert zero.identity.uuid != one.identity.uuid is not None
    with pytest.raises(PeerRefused, match=r"agreed with different disks.*emptied while"):
        zero.meet(said(one, "0"), is_live=True)
    assert zero.problems()["1"].endswith(
        "other disks; none of these disks holds anything: empty all"
    )
    one.identity = msgspec.structs.replace(one.identity, formed=True)
    store(one)
    with pytest.raises(PeerRefused, match="a data directory of another cluster"):
        zero.meet(said(one, "0"), is_live=True)


def test_nobody_is_told_to_empty_disks_while_somebody_may_have_formed() -> None:
    """Hazard I4. Found by reading: "1" had formed with a disk that is gone, and committed; "0"
    missed that, met the new disk of "2" alone, and said that nothing was committed."""
    voters = ("0", "1", "2")
    zero = lineage_of("0", *voters)
    one, two = (introduction(n, "0", incarnation=10 + int(n), voters=voters) for n in "12")
    zero.meet(one, is_live=True)
    zero.meet(two, is_live=True)
    store(zero)
    record = zero.identity.record
    assert record is not None
    emptied = msgspec.structs.replace(two, incarnation=99)
    zero.on_peer_lost("1")
    zero.on_peer_lost("2")
    zero.meet(emptied, is_live=True)
    assert zero.problems()["2"].endswith(
        "empty nothing before 1 said whether the cluster has formed"
    )
    holds = msgspec.structs.replace(one, record=record, uuid=zero.identity.uuid)
    zero.meet(holds, is_live=True)
    assert zero.problems()["2"].endswith("none of these disks holds anything: empty all")
    for silent in (True, False):  # what was said before may be old, whoever is still connected
        zero.ask_again()
        zero.meet(emptied, is_live=True)
        if not silent:
            zero.meet(holds, is_live=True)
        zero.ask_again()
        assert ("empty nothing" in zero.problems()["2"]) is silent
        zero.meet(holds, is_live=True)
        assert "empty nothing" not in zero.problems()["2"]
    zero.meet(msgspec.structs.replace(holds, formed=True), is_live=True)
    assert zero.identity.formed

    fresh = lineage_of("2", *voters)
    unformed = msgspec.structs.replace(zero.introduction("2"), record=record, formed=False)
    fresh.meet(unformed, is_live=True)
    assert fresh.problems().keys() == {"1"}
    fresh.meet(msgspec.structs.replace(holds, receiver="2"), is_live=True)
    assert fresh.problems()["0"].endswith("its own status says what to do")


# -- addresses that are told -----------------------------------------------------------------


def told(lineage: Lineage) -> dict[NodeId, Introduction]:
    """What it says now, by receiver."""
    return {each.receiver: each for each in lineage.take_messages()}


def test_where_a_node_takes_clients_is_told_to_all_at_once_and_to_whoever_comes() -> None:
    lineage = lineage_of("0", "0", "1", "2")
    store(lineage)
    told(lineage)
    lineage.meet(introduction("3", "0", incarnation=7), is_live=True)
    lineage.announce(("10.0.0.1", 8000))
    assert lineage.has_news
    now = told(lineage)
    assert set(now) == {"1", "2", "3"}
    assert {each.clients_at for each in now.values()} == {("10.0.0.1", 8000)}
    lineage.announce(("10.0.0.1", 8000))
    assert told(lineage) == {}  # that is no news
    assert said(lineage, "4").clients_at == ("10.0.0.1", 8000)


def test_what_others_say_of_their_clients_is_kept_while_they_are_away() -> None:
    lineage = lineage_of("0", "0", "1")
    announcing = introduction("1", "0", incarnation=7, clients_at=("10.0.0.2", 8000))
    lineage.meet(announcing, is_live=True)
    lineage.meet(introduction("2", "0", incarnation=8), is_live=True)
    assert lineage.announced() == {"1": ("10.0.0.2", 8000)}
    lineage.meet(msgspec.structs.replace(announcing, clients_at=("::1", 8001)), is_live=False)
    assert lineage.announced() == {"1": ("::1", 8001)}


def test_where_members_were_seen_is_told_until_the_configuration_has_it() -> None:
    lineage = lineage_of("0", "0", "1", "2")
    store(lineage)
    told(lineage)
    there = ("10.0.0.9", 7000)
    lineage.note_seen_at("1", there)
    assert {each.seen_at["1"] for each in told(lineage).values()} == {there}
    lineage.note_seen_at("1", there)
    assert told(lineage) == {}
    lineage.note_seen_at("1", None)
    assert {len(each.seen_at) for each in told(lineage).values()} == {0}
    for number in range(3 * SEEN_MAX):
        lineage.note_seen_at(f"m{number}", there)
    assert len(said(lineage, "1").seen_at) == SEEN_MAX
    lineage.meet(introduction("2", "0", incarnation=8, seen_at={"5": there}), is_live=True)
    lineage.meet(introduction("3", "0", incarnation=9, seen_at={"5": there}), is_live=True)
    assert lineage.addresses_told_of("5") == [there]
    assert lineage.addresses_told_of("6") == []
