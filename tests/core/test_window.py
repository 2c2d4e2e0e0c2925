"""How many bytes a leader has on their way to a follower, and what it sends again.

Rules of this file: the window by itself is fed answers; with a leader, what it says is looked at.
"""

from __future__ import annotations

import itertools

from trioraft.core.config import Limits, Timing
from trioraft.core.types import Entry
from trioraft.core.window import FIRST_BYTES, LEAST_BYTES, QUEUE_S, Window

from .conversation import Actor
from .messages_by_hand import matched, rejected, vote

KB = 1024
MB = 1024 * KB


def test_it_grows_while_all_of_it_is_answered_soon() -> None:
    window = Window(16 * MB)
    for _ in range(10):
        window.on_answered(0.002, window.size_bytes, window.size_bytes)
    assert window.size_bytes == 16 * MB


def test_it_does_not_grow_where_it_is_not_used() -> None:
    window = Window(16 * MB)
    for _ in range(1000):
        window.on_answered(0.002, 100, 100)
    assert window.size_bytes == FIRST_BYTES


def test_a_long_line_with_a_slow_disk_shrinks_nothing() -> None:
    window = Window(16 * MB)
    for _ in range(10):
        window.on_answered(0.75, window.size_bytes, window.size_bytes)
    assert window.size_bytes == 16 * MB


def test_a_narrow_line_is_given_what_it_drains() -> None:
    """125 kB/s: what is on its way is there a tenth of a second later than the first byte, or so,
    whatever was believed at first."""
    rate, window = 125_000, Window(16 * MB)
    window.on_answered(0.01, 100, 100)
    window.size_bytes = 4 * MB
    for _ in range(30):
        size = window.size_bytes
        window.on_answered(0.01 + size / rate, size, size)
    assert window.size_bytes <= 2 * max(LEAST_BYTES, QUEUE_S * rate)


def test_many_small_answers_shrink_it_no_more_than_one_large_one() -> None:
    one, many = Window(MB, size_bytes=MB), Window(MB, size_bytes=MB)
    for window in (one, many):
        window.on_answered(0.01, 100, 100)
    one.on_answered(5.0, MB, MB)
    for _ in range(64):
        many.on_answered(5.0, MB, MB // 64)
    assert one.size_bytes == MB // 2
    assert many.size_bytes > MB // 4


def test_a_line_that_became_longer_is_got_used_to() -> None:
    window = Window(MB)
    window.on_answered(0.01, 100, 100)
    for _ in range(300):
        window.on_answered(0.5, window.size_bytes, window.size_bytes)
    assert window.size_bytes == MB


def test_one_message_goes_however_large_it_is() -> None:
    one = leader()
    one.proposes(b"x" * MB, b"y" * MB)
    assert [line.split("entries=")[1].split()[0] for line in to_2(one)] == ["[1]"]
    one.hears(matched("2", 1, 2))
    assert [line.split("entries=")[1].split()[0] for line in to_2(one)] == ["[1]"]


def test_what_is_on_its_way_is_not_sent_again_but_asked_about_less_and_less_often() -> None:
    """Four seconds of silence about a mebibyte: neither does it leave again, nor is the line filled
    with questions."""
    one = leader()
    one.proposes(b"x" * MB)
    one.says()
    asked_s = []
    while one.now < 4.0:
        one.beats()
        one.hears(matched("3", 1, 2, number=one.raft.leadership.round))  # type: ignore[union-attr]  # it leads
        said = to_2(one)
        assert not any("entries=[1]" in line for line in said)
        if any("prev=(1,2)" in line for line in said):
            asked_s.append(one.now)
    gaps = [round(after - before, 3) for before, after in itertools.pairwise(asked_s)]
    assert gaps == sorted(gaps)
    assert gaps[-1] >= Timing().election_timeout_s[1]


def test_a_heartbeat_that_overtakes_the_first_entries_does_not_send_them_twice() -> None:
    """The follower answers it: the logs agree, and the entries are still on their way."""
    one = leader_of_an_empty_follower(20 * KB)
    assert sent_to_2(one) == ["prev=(0,0) entries=[1]"]
    one.beats()
    one.hears(matched("2", 2, 0, number=1))
    # What follows, and not the first again.
    assert sent_to_2(one) == ["prev=(1,1) entries=[1]", "prev=(1,2) entries=[2]"]
    one.hears(matched("2", 2, 1), matched("2", 2, 3))
    one.proposes(b"x")
    assert sent_to_2(one) == ["prev=(2,3) entries=[2]"]


def test_first_entries_that_were_lost_behind_such_a_heartbeat_are_asked_about() -> None:
    one = leader_of_an_empty_follower(20 * KB)
    one.beats()
    one.hears(matched("2", 2, 0, number=1), matched("3", 2, 3, number=1))
    one.says()
    patience_s = one.now + 4 * Timing().heartbeat_interval_s
    while not any("prev=(2,3) entries=[]" in line for line in to_2(one)):
        assert one.now < patience_s
        one.beats()
    one.hears(rejected("2", 2, 3))
    assert sent_to_2(one) == ["prev=(0,0) entries=[1]"]


def test_small_entries_are_sent_again_at_once_when_a_later_heartbeat_is_answered() -> None:
    one = leader_of_an_empty_follower(20)
    assert sent_to_2(one) == ["prev=(0,0) entries=[1,1,2]"]
    one.beats()
    one.hears(matched("2", 2, 0, number=1))
    assert sent_to_2(one) == ["prev=(0,0) entries=[1,1,2]"]


def leader_of_an_empty_follower(size_bytes: int) -> Actor:
    """Node "1" leads, and has just learnt that "2" has nothing of two commands of that size."""
    log = [Entry(index, 1, b"x" * size_bytes) for index in (1, 2)]
    limits = Limits(append_bytes_max=20 * KB)
    one = Actor("1", term=1, log=log, timing=Timing(pre_vote=False), limits=limits)
    one.times_out()
    one.hears(vote("2", 2))
    one.says()
    one.hears(rejected("2", 2, 2))
    return one


def sent_to_2(one: Actor) -> list[str]:
    """The entries that it sends to "2"."""
    said = (line.split(" term=2 ")[1].split(" commit")[0] for line in to_2(one))
    return [line for line in said if not line.endswith("entries=[]")]


def leader() -> Actor:
    """Node "1" leads, and "2" is known to hold its first entry."""
    one = Actor("1", timing=Timing(pre_vote=False), limits=Limits(command_bytes_max=2 * MB))
    one.times_out()
    one.hears(vote("2", 1), matched("2", 1, 1), matched("3", 1, 1))
    one.says()
    return one


def to_2(one: Actor) -> list[str]:
    """What it says to "2"."""
    return [line for line in one.says().splitlines() if line.startswith("1->2 ")]
