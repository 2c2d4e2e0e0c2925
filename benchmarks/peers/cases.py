"""What `benchmarks.peers` measures: who stands beside whom, under which loads.

Rules of this file:

* Values only. Everything is durable: nothing is acknowledged before a majority's disks have it.
* A library's load runs in the leader's process, as in a program that embeds a node; a service's in
  a process of its own, through the client that comes with it.
* Each peer runs as it comes. What had to be said, or was chosen because it is better for the peer,
  is told in `CONFIGURATIONS`.
"""

from __future__ import annotations

import enum
from typing import Final

import attrs

from ..throughput.cases import COMMAND_BYTES, Call, Mode

MIB: Final = 2**20
BIG: Final = "64 callers, 1 MiB each"


class Peer(enum.StrEnum):
    """Who is measured."""

    TRIORAFT = "trioraft"
    HASHICORP = "hashicorp"
    ETCD = "etcd"
    PYSYNCOBJ = "pysyncobj"


NAMES: Final = {
    Peer.TRIORAFT: "trioraft",
    Peer.HASHICORP: "hashicorp/raft",
    Peer.ETCD: "etcd",
    Peer.PYSYNCOBJ: "PySyncObj",
}


class Level(enum.StrEnum):
    """What a load is put on."""

    LIBRARY = "library"
    SERVICE = "service"
    FAILOVER = "failover"
    """kill -9 of the leader's process, until the next commit."""


@attrs.frozen
class Load:
    """One row of the table."""

    key: str
    """How it is chosen."""
    name: str
    level: Level
    peers: tuple[Peer, ...]
    """In the order of measurement."""
    mode: Mode = Mode.TASKS
    concurrency: int = 1
    call: Call = Call.PROPOSE
    command_bytes: int = COMMAND_BYTES

    @property
    def is_big(self) -> bool:
        """Whether commands are so large that a cluster may lose its leader over them: what fails
        is counted then, and the load goes on."""
        return self.command_bytes > COMMAND_BYTES

    @property
    def is_judged_by_latency(self) -> bool:
        """Whether the rate is given, so that only latencies can be compared."""
        return self.mode is Mode.OPEN or self.level is Level.FAILOVER


_LIBRARIES: Final = (Peer.TRIORAFT, Peer.HASHICORP, Peer.PYSYNCOBJ)
_QUICK_LIBRARIES: Final = (Peer.TRIORAFT, Peer.HASHICORP)
_SERVICES: Final = (Peer.TRIORAFT, Peer.ETCD)


def _callers(number: int) -> str:
    return "1 caller" if number == 1 else f"{number:,} callers"


LOADS: Final = (
    *(
        Load(f"library/{n}", _callers(n), Level.LIBRARY, _LIBRARIES, concurrency=n)
        for n in (1, 64, 1000)
    ),
    Load("library/window", "window 10,000", Level.LIBRARY, _QUICK_LIBRARIES, Mode.WINDOW, 10_000),
    Load("library/open", "open loop, 2,000/s", Level.LIBRARY, _LIBRARIES, Mode.OPEN, 2000),
    *(
        Load(
            key,
            name,
            Level.LIBRARY,
            _QUICK_LIBRARIES,
            concurrency=callers,
            command_bytes=size_bytes,
        )
        for key, name, callers, size_bytes in (
            ("library/big", BIG, 64, MIB),
            ("library/big/16", "16 callers, 8 MiB each", 16, 8 * MIB),
            ("library/big/1000", "1,000 callers, 64 KiB each", 1000, MIB // 16),
        )
    ),
    *(
        Load(
            f"service/{call}/{n}",
            f"{call}, {_callers(n)}",
            Level.SERVICE,
            _SERVICES,
            concurrency=n,
            call=call,
        )
        for call in (Call.PUT, Call.GET)
        for n in (1, 64, 1000)
    ),
    Load(
        "service/open",
        "put, open loop, 2,000/s",
        Level.SERVICE,
        _SERVICES,
        Mode.OPEN,
        2000,
        Call.PUT,
    ),
    Load(
        "service/big",
        f"put, {BIG}",
        Level.SERVICE,
        _SERVICES,
        concurrency=64,
        call=Call.PUT,
        command_bytes=MIB,
    ),
    Load("kill", "kill -9, to the next commit", Level.FAILOVER, (*_LIBRARIES, Peer.ETCD)),
)
"""Everything, in the order of measurement."""

ETCD_CONNECTIONS: Final = 16
"""At most: fewer callers have one each. 1, 4 and 16 were not to be told apart; 100 are slower."""
ETCD_KILL_MS: Final = (50, 250)
"""Heartbeat interval and election timeout of etcd where its leader is killed; its defaults, 100
and 1,000, are for networks between places."""
HASHICORP_KILL_MS: Final = 150
"""hashicorp/raft's heartbeat, election and lease timeouts where its leader is killed; its defaults
are 1,000, 1,000 and 500."""

CONFIGURATIONS: Final = {
    Peer.TRIORAFT: "defaults; SQLite, `synchronous=FULL`: every write is flushed before anything is"
    " acknowledged. The service is `trioraft serve`, asked by one `trioraft.Client` over one"
    " connection.",
    Peer.HASHICORP: "defaults; Bolt by raft-boltdb, which flushes every transaction, behind a cache"
    " of 512 entries; a state machine that takes batches. A window of N is N callers: one that only"
    " hands in would get each command a transaction of its own. Where its leader is killed, all"
    f" timeouts are {HASHICORP_KILL_MS} ms.",
    Peer.ETCD: "defaults, which flush the write-ahead log before anything is acknowledged; its own"
    f" Go client, connected to the leader, over at most {ETCD_CONNECTIONS} connections;"
    " linearizable gets. Where its leader is killed: heartbeat"
    f" {ETCD_KILL_MS[0]} ms, election timeout {ETCD_KILL_MS[1]} ms.",
    Peer.PYSYNCOBJ: "defaults; its journal is flushed before anything leaves a node, which it does"
    " not do by itself.",
}
"""How each is configured, for whoever reads the figures."""
