"""What the tests of ports share."""

from __future__ import annotations

from trioraft.net.framing import Deframer


def payloads_of(deframer: Deframer, data: bytes) -> list[bytes]:
    deframer.feed(data)
    found = []
    while (payload := deframer.next_payload()) is not None:
        found.append(bytes(payload))
    return found
