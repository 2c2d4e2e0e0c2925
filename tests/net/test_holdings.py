"""What all connections make a port keep together."""

from __future__ import annotations

import attrs

from trioraft.net.holdings import Holdings


@attrs.define(eq=False)
class Holder:
    ended_because: str = ""

    def end(self, reason: str) -> None:
        self.ended_because = reason


def test_g3_beyond_the_bound_who_has_held_longest_without_progress_goes() -> None:
    holdings = Holdings("half frames", 100)
    first, second, third = Holder(), Holder(), Holder()
    holdings.hold(first, 40)
    holdings.hold(second, 40)
    holdings.hold(first, 50)  # more of the same is no progress
    holdings.on_progress(first)
    holdings.hold(third, 20)
    assert second.ended_because == (
        "all half frames together pass 100 bytes, and its own have been there longest"
    )
    assert (first.ended_because, third.ended_because, holdings.bytes) == ("", "", 70)
    holdings.let_go(first)
    holdings.let_go(first)
    assert holdings.bytes == 20


def test_one_alone_may_keep_what_its_own_bound_allows() -> None:
    holdings = Holdings("answers", 100)
    lone = Holder()
    holdings.hold(lone, 1000)
    assert lone.ended_because == ""
    other = Holder()
    holdings.hold(other, 1)
    assert lone.ended_because
    assert holdings.bytes == 1


def test_g3_who_was_ended_does_not_come_back_behind_others() -> None:
    """Its task goes on until its cancellation comes through, and may read a little more."""
    holdings = Holdings("half frames", 100)
    first, second = Holder(), Holder()
    holdings.hold(first, 60)
    holdings.hold(second, 60)
    assert first.ended_because
    holdings.hold(first, 70)
    assert second.ended_because == ""
    assert holdings.bytes == 60
