"""Who has to make room at a full port."""

from __future__ import annotations

import trio.testing

from trioraft.net.connection import Connection
from trioraft.net.visitors import Visitors

NOBODY = frozenset[str]().__contains__


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
    visitors = Visitors(NOBODY, strangers_max=3, guests_max=9)
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
    visitors = Visitors(NOBODY, strangers_max=2, guests_max=2)
    guest = visitor("a", idle_since_s=0.0)
    visitors.arrive(guest)
    assert visitors.admit(guest) == ""
    for _ in range(50):
        visitors.arrive(visitor("a"))
    assert guest.ended_because == ""
    assert (len(visitors.strangers), len(visitors.guests)) == (2, 1)


async def test_g6_a_host_that_was_of_use_makes_room_last_among_strangers() -> None:
    visitors = Visitors({"friend"}.__contains__, strangers_max=3, guests_max=9)
    friends = visitor("friend"), visitor("friend")
    lone = visitor("a")
    for stranger in (*friends, lone, visitor("b")):
        visitors.arrive(stranger)
    assert lone.ended_because == "others came, and it kept silent"
    assert [each.ended_because for each in friends] == ["", ""]


async def test_who_never_asked_makes_room_before_any_host_with_many_that_did() -> None:
    visitors = Visitors(NOBODY, 9, guests_max=4)
    pool = [visitor("a", idle_since_s=0.0) for _ in range(3)]
    idler = visitor("b", idle_since_s=9.0)
    for guest in (*pool, idler):
        assert visitors.admit(guest) == ""
    for guest in pool:
        guest.note_use()
    assert visitors.admit(visitor("c")) == ""
    assert "idle longest" in idler.ended_because
    assert visitors.admit(visitor("c")) == ""
    assert [bool(guest.ended_because) for guest in pool] == [True, False, False]


async def test_of_idle_guests_the_busiest_hosts_oldest_goes_and_first_who_never_asked() -> None:
    visitors = Visitors(NOBODY, 9, guests_max=4)
    lone = visitor("a", idle_since_s=0.0, has_asked=True)
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
    visitors = Visitors(NOBODY, 9, guests_max=4, guests_of_host_max=3)
    first = visitor("a", idle_since_s=0.0)
    for guest in (first, visitor("a"), visitor("a"), visitor("a")):
        assert visitors.admit(guest) == ""
    assert first.ended_because == "there are 3 connections from a, and it was idle longest"
    refused = visitors.admit(visitor("a"))
    assert refused == "there are 3 connections from a, and all of them are busy"
    assert visitors.admit(visitor("b")) == ""


async def test_who_leaves_gives_back_its_place_once() -> None:
    visitors = Visitors(NOBODY, 9, guests_max=1)
    guest = visitor("a")
    assert visitors.admit(guest) == ""
    visitors.leave(guest)
    visitors.leave(guest)
    assert visitors.admit(visitor("a")) == ""
    assert visitors.admit(visitor("a")) != ""


async def test_g5_when_descriptors_are_scarce_strangers_go_first_and_busy_guests_never() -> None:
    visitors = Visitors(NOBODY, 9, 9)
    stranger, idle, busy = visitor("a"), visitor("b", idle_since_s=0.0), visitor("c")
    visitors.arrive(stranger)
    assert visitors.admit(idle) == visitors.admit(busy) == ""
    for gone in (stranger, idle):
        visitors.make_room()
        assert "descriptors are scarce" in gone.ended_because
    visitors.make_room()
    assert busy.ended_because == ""
