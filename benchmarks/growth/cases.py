"""What can grow, and how far `benchmarks.growth` lets it.

Rules of this file: values only. Every curve begins with none, or with the least that there can be;
what a server bounds grows to its default bound at most.
"""

from __future__ import annotations

from typing import Final

import attrs

DECADES: Final = (0, 1, 10, 100, 1000)
FLAT_MAX: Final = 1.2
"""How many times what it costs with none a proposal may cost, where it should not depend on it."""


@attrs.frozen
class Curve:
    """One thing that grows, while the same command is proposed again and again."""

    key: str
    name: str
    counts: tuple[int, ...]
    is_flat: bool = True
    """Whether a proposal should not depend on it: more members have more to do for each."""
    is_served: bool = False
    """Whether it grows at a server, which is a process of its own: `CPU` is the server's."""
    by_latency: bool = False
    """Whether it is a put's latency that should not depend on it: who watches a status is told ten
    times a second, however much or little is put."""
    weighs: str = ""
    """What one of them is called where its memory is told; empty: it is not."""


CURVES: Final = (
    Curve("waiters", "tasks in `node.wait`", DECADES),
    Curve("queue", "members of a lock's queue", DECADES),
    Curve("sessions", "sessions", (*DECADES, 9000), weighs="session"),
    Curve("watches/key", "watches of other keys", (*DECADES, 10_000), weighs="watch"),
    Curve("watches/prefix", "watches of other prefixes", (*DECADES, 10_000)),
    Curve("watches/range", "watches of other ranges", (*DECADES, 10_000)),
    Curve("keys", "keys", (0, 1000, 10_000, 100_000, 1_000_000), weighs="key of 12 + 100 bytes"),
    Curve("members", "members of the cluster", (3, 5, 7, 9), is_flat=False),
    Curve(
        "subscriptions/one",
        "subscriptions on one connection",
        (0, 1, 10, 100, 1000, 4000),
        is_served=True,
        weighs="subscription on a connection that is there",
    ),
    Curve(
        "subscriptions",
        "subscriptions of a `Client`",
        (0, 1, 10, 100, 1000, 4000),
        is_served=True,
        weighs="subscription of a `Client`",
    ),
    Curve(
        "status",
        "status watches of a `Client`",
        (0, 1, 10, 100, 200),
        is_served=True,
        by_latency=True,
        weighs="status watch of a `Client`, with its connection",
    ),
    Curve(
        "connections",
        "idle connections",
        (0, 1, 10, 100, 700),
        is_served=True,
        weighs="idle connection",
    ),
)


@attrs.frozen
class Point:
    """What a proposal cost at one count, in one round."""

    curve: str
    round: int
    count: int
    cpu_us: float
    """CPU time of one proposal: of the process that has the nodes."""
    p50_ms: float
    grown: int
    """How many more there are than at the point before."""
    grown_bytes: int
    """By how much what is resident has grown with them."""
