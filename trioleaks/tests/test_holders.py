"""What is kept on purpose, and known to be."""

from __future__ import annotations

import functools
import os
import socket

from trioleaks.descriptors import _peer, list_descriptors
from trioleaks.holders import CACHE, Holders
from trioleaks.probe import Left

from trioleaks import Leak, LeakKind


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
