"""What node processes and whoever started them say to each other: JSON, one line each.

Rules of this file:

* Orders go to a node's standard input, answers come from its standard output. What it should be,
  it is told in its only argument.
* The end of its input is the order to end: no node survives the process that started it.
* Here is what all have in common; what else is ordered stands with each benchmark.
"""

from __future__ import annotations

import sys

import msgspec

from trioraft import NodeId


class Peers(msgspec.Struct, frozen=True, tag=True):
    """Order: open the node; this is where everyone listens on the loopback."""

    ports: dict[NodeId, int]


class Bound(msgspec.Struct, frozen=True, tag=True):
    """Answer: the node will listen at this port."""

    port: int


class Failed(msgspec.Struct, frozen=True, tag=True):
    """It does not go on; one line says why."""

    reason: str


def line_of(message: msgspec.Struct) -> bytes:
    """One line, its end included."""
    return msgspec.json.encode(message) + b"\n"


def answer(message: msgspec.Struct) -> None:
    """Say something to the controlling process, at once."""
    sys.stdout.buffer.write(line_of(message))
    sys.stdout.buffer.flush()
