"""How much is told of those who are refused."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from trioraft.net.rejections import SENDERS_MAX, TOLD_AT_ONCE, TOLD_EACH_S, Rejections


async def test_g3_of_a_flood_a_few_are_told_and_then_how_many_were_not(
    autojump_clock: MockClock,
) -> None:
    told: list[tuple[str, str | None, str]] = []
    rejections = Rejections(lambda *each: told.append(each))
    for number in range(1000):
        rejections.add(f"host:{number}", None, "garbage")
    assert len(told) == TOLD_AT_ONCE
    rejections.add("host", "2", "a peer's")  # whose own are few
    assert list(told[-1]) == ["host", "2", "a peer's"]
    await trio.sleep(TOLD_EACH_S)
    rejections.add("host:x", None, "garbage")
    untold = 1000 - TOLD_AT_ONCE
    assert told[-1] == (
        "host:x",
        None,
        f"garbage ({untold} others since the last one were not told)",
    )
    assert rejections.count == 1002


async def test_many_names_are_one_stranger_in_the_end(autojump_clock: MockClock) -> None:
    told: list[str | None] = []
    rejections = Rejections(lambda _, peer, __: told.append(peer))
    for number in range(10_000):
        rejections.add("host", f"name {number}", "garbage")
    assert len(told) <= SENDERS_MAX + TOLD_AT_ONCE
