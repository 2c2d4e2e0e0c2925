"""Versions of the clients' protocol: the highest common one is spoken, or it is said why not."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from trioraft import ConfigError
from trioraft.net.versions import common, said_by, why_none
from trioraft.rpc.protocol import (
    MAGIC,
    PROTOCOL,
    PROTOCOL_VERSION,
    Answer,
    ClientHello,
    Request,
    SwitchOnRequest,
    Welcome,
    decode_hello,
    decode_welcome,
    frame,
)

from .support import FakeServer, ends, open_client, result


@pytest.mark.parametrize(
    ("ours", "theirs", "spoken"),
    [
        ((1, 2), (1, 2), 2),
        ((1, 2), (1, 1), 1),
        ((2, 4), (1, 3), 3),
        ((2, 4), (4, 9), 4),
        ((3, 4), (1, 2), None),
        ((1, 2), (3, 4), None),
    ],
)
def test_the_highest_common_one_is_spoken(
    ours: tuple[int, int], theirs: tuple[int, int], spoken: int | None
) -> None:
    assert common(ours, theirs) == common(theirs, ours) == spoken


def test_without_a_common_one_both_ranges_and_a_remedy_are_named() -> None:
    assert why_none("client protocol", (3, 4), (1, 2), "this server") == (
        "client protocol 1 to 2 was offered, this server speaks 3 to 4: run a later release on the "
        "other side, one that speaks both (docs/upgrading.md)"
    )
    assert "run a later release on this side" in why_none("protocol", (1, 2), (3, 3), "this node")


def test_one_number_is_a_range_of_one() -> None:
    assert said_by(3, 0) == (3, 3)
    assert said_by(3, 5) == (3, 5)
    assert said_by(5, 3) == (5, 5)  # nobody says so; it is read all the same


def test_a_first_frame_of_a_later_client_is_read_as_far_as_it_goes() -> None:
    later = ClientHello(MAGIC, PROTOCOL_VERSION, "blue", 10, "", PROTOCOL[1] + 5)
    assert decode_hello(frame(later)[4:]) == later
    unknown = ClientHello(MAGIC, PROTOCOL[1] + 1, "blue", 10, "", PROTOCOL[1] + 5)
    assert decode_hello(frame(unknown)[4:]) == ClientHello(MAGIC, PROTOCOL[1] + 1, "")
    welcome = Welcome(MAGIC, PROTOCOL[1], node_id="0")
    assert decode_welcome(frame(welcome)[4:]) == welcome


async def test_what_a_server_of_an_earlier_release_cannot_be_asked_it_is_not_asked(
    autojump_clock: MockClock,
) -> None:
    server = FakeServer("0", "Leader")
    server.welcome = Welcome(MAGIC, 1, node_id="0")
    async with open_client(server) as client:
        with pytest.raises(ConfigError, match=r"leader 0 speaks version 1.*run a later release"):
            await ends(client.switch_on(["entry-checksums"]))
        assert await ends(client.call(b"x")) == b"x"  # all else goes on as before
    assert not any(isinstance(request, SwitchOnRequest) for request in server.requests)
    assert (server.hellos[0].version, server.hellos[0].version_max) == PROTOCOL


async def test_a_server_of_this_release_is_asked(autojump_clock: MockClock) -> None:
    def handler(_: FakeServer, request: Request) -> Answer:
        assert isinstance(request, SwitchOnRequest)
        assert request.features == ("entry-checksums",)
        return result(request, 7)

    server = FakeServer("0", "Leader", handler=handler)
    server.welcome = Welcome(MAGIC, 2, node_id="0")
    async with open_client(server) as client:
        assert await ends(client.switch_on(["entry-checksums"])) == 7
