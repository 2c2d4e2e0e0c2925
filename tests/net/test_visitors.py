"""Who has to make room at a full port, and who is looked at."""

from __future__ import annotations

import trio.testing

from trioraft.net.connection import Connection
from trioraft.net.visitors import LOOKS_AT_ONCE, Visitors


def visitor(host: str, *, idle_since_s: float | None = None, has_asked: bool = False) -> Connection:
    stream, _ = trio.testing.memory_stream_pair()
    return Connection(
        stream,
        f"{host}:1",
        lambda: None,
        remote_host=host,
        idle_since_s=idle_since_s,
        has_asked=has_asked,
    )


async def test_g6_the_host_with_the_most_strangers_makes_room_with_its_oldest() -> None:
    visitors = Visitors(strangers_max=3, guests_max=9)
    lone, *crowd = visitor("a"), visitor("b"), visitor("b")
    for stranger in (lone, *crowd, visitor("c")):
        visitors.arrive(stranger)
    assert [each.ended_because for each in (lone, *crowd)] == [
        "",
        "others came, and it kept silent",
        "",
    ]
    assert visitors.turned_away == 1
    assert len(visitors.strangers) == 3


async def test_g6_strangers_take_no_guests_place() -> None:
    visitors = Visitors(strangers_max=2, guests_max=2)
    guest = visitor("a", idle_since_s=0.0)
    visitors.arrive(guest)
    assert visitors.admit(guest) == ""
    for _ in range(50):
        visitors.arrive(visitor("a"))
    assert guest.ended_because == ""
    assert (len(visitors.strangers), len(visitors.guests)) == (2, 1)


async def test_of_idle_guests_the_busiest_hosts_oldest_goes_and_first_who_never_asked() -> None:
    visitors = Visitors(9, guests_max=4)
    lone = visitor("a", idle_since_s=0.0)
    asked = visitor("b", idle_since_s=1.0, has_asked=True)
    never = visitor("b", idle_since_s=2.0)
    busy = visitor("b")
    for guest in (lone, asked, never, busy):
        assert visitors.admit(guest) == ""
    for gone in (never, asked):
        assert visitors.admit(visitor("b")) == ""  # which is busy
        assert "idle longest" in gone.ended_because
    assert lone.ended_because == busy.ended_because == ""
    assert visitors.admit(visitor("a")) == ""
    assert "idle longest" in lone.ended_because  # nobody else is idle
    assert visitors.admit(visitor("a")) == "there are 4 connections, and all of them are busy"


async def test_one_host_never_has_all_places() -> None:
    visitors = Visitors(9, guests_max=4, guests_of_host_max=3)
    first = visitor("a", idle_since_s=0.0)
    for guest in (first, visitor("a"), visitor("a"), visitor("a")):
        assert visitors.admit(guest) == ""
    assert first.ended_because == "there are 3 connections from a, and it was idle longest"
    refused = visitors.admit(visitor("a"))
    assert refused == "there are 3 connections from a, and all of them are busy"
    assert visitors.admit(visitor("b")) == ""


async def test_who_leaves_gives_back_its_place_once() -> None:
    visitors = Visitors(9, guests_max=1)
    guest = visitor("a")
    assert visitors.admit(guest) == ""
    visitors.leave(guest)
    visitors.leave(guest)
    assert visitors.admit(visitor("a")) == ""
    assert visitors.admit(visitor("a")) != ""


async def test_a_host_that_got_in_is_looked_at_while_others_are_not_any_more() -> None:
    visitors = Visitors(9, guests_max=9)
    assert visitors.admit(visitor("friend")) == ""
    flood = [visitors.may_look(f"10.0.0.{number}", 5.0) for number in range(int(LOOKS_AT_ONCE) + 9)]
    assert flood.count(False) == 9
    assert not visitors.may_look("10.0.0.1", 5.0)
    assert visitors.may_look("friend", 5.0)
    assert visitors.may_look("10.0.0.1", 5.1)  # some are looked at again a moment later


async def test_g5_when_descriptors_are_scarce_strangers_go_first_and_busy_guests_never() -> None:
    visitors = Visitors(9, 9)
    stranger, idle, busy = visitor("a"), visitor("b", idle_since_s=0.0), visitor("c")
    visitors.arrive(stranger)
    assert visitors.admit(idle) == visitors.admit(busy) == ""
    for gone in (stranger, idle):
        visitors.make_room()
        assert "descriptors are scarce" in gone.ended_because
    visitors.make_room()
    assert busy.ended_because == ""
