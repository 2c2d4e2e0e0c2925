"""Playing: what is not so fails, with its line and what was seen; and what cannot be done is said
before.

Rules of this file: each expectation is seen to fail; that it can come true docs/scenarios.md shows.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs
import pytest
from trio.testing import MockClock

from trioraft.core.types import Role
from trioraft.scenario import NodeView, ScenarioError, ScenarioFailed, parse
from trioraft.testing import open_cluster, play, scenarios


async def failure(text: str, **options: object) -> ScenarioFailed:
    with pytest.raises(ScenarioFailed) as caught:
        await play(parse(text, "mine.scenario"), opening=partial(open_cluster, **options))  # type: ignore[arg-type] # options of many kinds
    return caught.value


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("expect one leader within 100ms", "nobody leads (waited for 0.1 s)"),
        ("disconnect everyone\nexpect one leader within 1s", "nobody leads"),
        ("expect one leader\nexpect another leader within 1s", "node 0 leads term 1"),
        ("crash leader\nexpect the same leader within 1s", "leads term 2"),
        ("expect the same leader", "nobody was seen to lead before"),
        ("expect one leader\nexpect no leader", "node 0 leads term 1"),
        ("expect no leader for 1s", "after 213 ms, node 0 leads"),
        (
            "check-quorum off\ndisconnect leader\nexpect no leader anywhere",
            "node 0 led",
        ),
        ("expect one leader\nexpect leader is follower within 1s", "node 0 is Leader"),
        ("expect leader is not leader within 1s", "node 0 is Leader"),
        ("crash leader\nexpect another leader\nexpect term unchanged", "it was 1, and is 2"),
        ("disconnect a follower\nexpect term rises", "it was 1, and is 1"),
        (
            "crash leader\nexpect another leader\nexpect term of 2 unchanged",
            "node 2 had 1 and has 2",
        ),
        ("expect one leader\nexpect term is 7", "the term is 1"),
        ("disconnect everyone\npropose x\nexpect committed x within 1s", "no node has applied 'x'"),
        (
            "crash a follower\npropose x\nexpect committed x on 3 nodes",
            "'x' is applied on nodes",
        ),
        (
            "propose x\nexpect committed x\nexpect not committed x",
            "'x' is applied on nodes 0, 1, 2",
        ),
        ("propose x at a follower\nexpect answer to x is applied", "the answer to 'x' is refused"),
        ("propose x\nexpect answer to x is not applied", "the answer to 'x' is applied"),
        ("expect answer to x is applied", "'x' was not proposed"),
        ("disconnect 0, 1 and 2\nput x 1\nexpect get x is 1 within 1s", "client has no answer yet"),
        ("put x 1\nexpect get x is 2", "client reads '1'"),
        (
            "put x 1\nexpect value of x is 2 on 3 nodes within 1s",
            "x is '1' on node 0, '1' on node 1",
        ),
        ("put x 1\nexpect value of x is 2 at node 1 within 1s", "x is '1' on node 0"),
        ("put x 1\nexpect answer is 7", "the answer is nothing"),
        ("put x 1\nexpect answer is 7 as bob", "bob has asked for nothing"),
        ("swap x from 1 to 2\nexpect answer is done", "the answer is 'refused'"),
        ("disconnect everyone\ncrash leader", "there is no leader to speak of"),
        ("crash 0\ncrash 0", "node 0 is down already"),
        ("restart 0", "node 0 has not crashed"),
        ("crash it", "nothing was done to anybody before"),
        ("reconnect old leader", "no other node was seen to lead before this one"),
        ("crash followers\nafter 10ms\ncrash another follower", "there is no"),
    ],
)
async def test_what_is_not_so_fails_with_what_was_seen(
    text: str, seen: str, autojump_clock: MockClock
) -> None:
    failed = await failure(text)
    assert seen in failed.seen
    assert failed.line == text.count("\n") + 1
    assert str(failed).startswith(f"mine.scenario:{failed.line}: ")
    assert failed.picture in str(failed)


@pytest.mark.parametrize("what", ["pause leader", "resume"])
async def test_what_a_backend_cannot_do_is_said_before_anything_starts(
    what: str, autojump_clock: MockClock
) -> None:
    text = f"expect one leader within 1ms\n{what}"
    with pytest.raises(ScenarioError, match=r"mine\.scenario:2:1: .* needs pausing a node"):
        await play(parse(text, "mine.scenario"))


async def test_real_sockets_have_no_weather() -> None:
    over_tcp = partial(open_cluster, network="tcp")
    with pytest.raises(ScenarioError, match="a network whose delay and loss can be set"):
        await play(parse("network loss 10%"), opening=over_tcp)


async def test_where_messages_get_lost_the_same_leader_is_not_asked_for(
    autojump_clock: MockClock,
) -> None:
    text = "crash leader\nexpect another leader\nrestart\nexpect the same leader\n"
    text += "expect term unchanged"
    for seed in range(5):
        await play(parse(text), opening=partial(open_cluster, unreliable=True, seed=seed))


async def test_two_leaders_of_one_term_fail_whatever_was_expected(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As no cluster of ours shows it: views are forged."""
    real = scenarios._view
    monkeypatch.setattr(
        scenarios, "_view", lambda node: _evolved(real(node), role=Role.LEADER, term=5)
    )
    failed = await failure("expect one leader")
    assert "0 and 1 both led term 5" in failed.seen


def _evolved(view: NodeView, **changes: Any) -> NodeView:
    return attrs.evolve(view, **changes)


async def test_the_same_seed_is_the_same_run(autojump_clock: MockClock) -> None:
    for seed, leader in ((0, "0"), (2, None)):
        text = f"expect one leader\nexpect {leader or 'leader'} is leader"
        await play(parse(text), seed=seed)
