"""What is kept on purpose, and known to be."""

from __future__ import annotations

import functools
import os
import socket

import pytest
from trioleaks.descriptors import _peer, list_descriptors
from trioleaks.holders import CACHE, Holders
from trioleaks.probe import Left
from trioleaks.recorder import Recorder
from trioleaks.runs import TurnOwnership

from trioleaks import Leak, LeakKind, descriptors

UNHEARD = 200
"""A descriptor's number that is free; `os.dup2` is not listened to."""


@functools.cache
def kept_for_ever() -> socket.socket:
    return socket.socket()


@functools.lru_cache(maxsize=2)
def kept_for_a_while(_number: int) -> socket.socket:
    return socket.socket()


def test_what_functools_caches_is_known_and_nothing_else() -> None:
    with kept_for_ever() as first, kept_for_a_while(1) as second, socket.socket() as third:
        things = {"first": first, "second": second, "third": third}
        left = [Left(Leak(LeakKind.SOCKET, name), name, thing) for name, thing in things.items()]
        assert Holders().holding(left) == {"first": CACHE, "second": CACHE}


def test_to_ask_for_a_peer_opens_nothing() -> None:
    ends = os.pipe()
    with socket.socket() as unconnected:
        before = list_descriptors()
        assert [_peer(number) for number in (*ends, unconnected.fileno())] == [None] * 3
        assert list_descriptors() == before
    for end in ends:
        os.close(end)


def test_descriptors_are_listed_anew_only_if_something_was_opened_or_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not descriptors._is_counted():
        pytest.skip("this system does not count open descriptors")
    listings = 0

    def counted() -> dict[int, descriptors.Identity]:
        nonlocal listings
        listings += 1
        return list_descriptors()

    monkeypatch.setattr(descriptors, "list_descriptors", counted)
    recorder = Recorder(TurnOwnership("the test"))
    probe = recorder.descriptors
    reading, writing = os.pipe()  # unheard, as what C code opens
    recorder.start()
    try:
        assert probe.listed() is probe.listed()
        assert listings == 1
        with socket.socket() as opened:
            assert opened.fileno() in probe.listed()
        assert probe.listed() == list_descriptors()
        assert listings == 3
        os.close(writing)
        assert writing not in probe.listed()
        os.dup2(reading, UNHEARD)
        assert UNHEARD in probe.listed()
        os.close(UNHEARD)
        assert UNHEARD not in probe.listed()
        assert listings == 6
    finally:
        recorder.stop()
        os.close(reading)


def test_what_c_code_opens_in_the_place_of_another_is_taken_for_it() -> None:
    recorder = Recorder(TurnOwnership("the test"))
    pipe = os.pipe()
    os.dup2(0, UNHEARD)
    recorder.note("the test")
    try:
        os.dup2(pipe[0], UNHEARD)
        os.dup2(pipe[0], UNHEARD + 1)
        left = recorder.descriptors.left({"the test"})
        assert [each.key[1] for each in left if isinstance(each.key, tuple)] == [UNHEARD + 1]
    finally:
        for number in (*pipe, UNHEARD, UNHEARD + 1):
            os.close(number)
