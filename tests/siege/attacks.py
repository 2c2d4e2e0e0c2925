"""The attackers: one process with raw sockets, thousands of them, and no more work than needed.

Rules of this file:

* A connection has a kind; what it does then is in the table `KINDS`. When the server ends it, it
  comes again after a pause: a siege lasts.
* Nothing here waits but for the selector, and nobody's answer is decoded unless it is needed.
* Figures go to standard output, one line of JSON a second; the end of our input ends us.
"""

from __future__ import annotations

import errno
import heapq
import json
import os
import random
import resource
import selectors
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

from trioraft.core.messages import Introduction
from trioraft.core.types import Address
from trioraft.kv.commands import Cas, Get, encode
from trioraft.machines.sessions import CLIENT_ID_BYTES, encode_command, encode_open
from trioraft.rpc.protocol import (
    MAGIC,
    PROTOCOL_VERSION,
    ClientHello,
    GetStatus,
    Propose,
    Query,
    WatchStatus,
    frame,
)
from trioraft.transport.handshake import encode_hello

BIG_KEY: Final = "siege/big"
"""Holds a large value that attackers ask for."""
HALF_FRAME_BYTES: Final = 60 * 1024 * 1024
HALF_SENT_BYTES: Final = 50 * 1024 * 1024
WATCHES: Final = 1024
QUESTIONS: Final = 64
"""Asked in one go by who floods."""
STALLED_QUESTIONS: Final = 200
AGAIN_S: Final = (0.5, 2.0)
"""Pause before a connection that was ended comes again."""
STORM_S: Final = (0.05, 0.5)
"""Likewise, for those that come and go themselves."""
TRICKLE_S: Final = 1.0
SESSION_S: Final = 0.5
"""Between two commands of a session whose results are large."""
UNREAD_S: Final = 15.0
"""After this, who takes nothing begins anew: that it was ended, it does not see."""
RECEIVE_BYTES: Final = 1 << 18
HEADER: Final = struct.Struct(">I")


class Setup(msgspec.Struct):
    """What an attacking process is to do."""

    seed: int
    cluster_id: str
    clients: list[Address]
    """The members' client ports."""
    peers: list[tuple[str, Address]]
    """Their names and peers' ports."""
    counts: dict[str, int]
    """Connections of each kind."""
    hosts: int
    """Addresses of the loopback to come from."""
    core: int | None
    ramp_s: float
    """All are there after so long."""


class Knock:
    """One attacking connection, over all its lives."""

    __slots__ = ("at_peer", "data", "host", "is_up", "kind", "number", "owes", "sent", "session_id",
                 "sock", "target", "then")  # fmt: skip

    def __init__(self, number: int, kind: str, host: str) -> None:
        self.number = number
        self.kind = kind
        self.host = host
        self.sock: socket.socket | None = None
        self.target = 0
        self.at_peer = False
        self.data = memoryview(b"")
        self.sent = 0
        self.owes = 0
        self.session_id: int | None = None
        self.is_up = False
        self.then: Callable[[], bytes] | None = None


class Attackers:
    """All of one process.

    Args:
        setup: what is to be done.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._rng = random.Random(setup.seed)
        self._selector = selectors.DefaultSelector()
        self._agenda: list[tuple[float, int, Knock, Callable[[Knock], None]]] = []
        self._ticket = 0
        self.figures: Counter[str] = Counter()
        hello = ClientHello(MAGIC, PROTOCOL_VERSION, setup.cluster_id)
        self._hello = frame(hello)
        self._half = bytes(HALF_SENT_BYTES)
        statuses = b"".join(frame(GetStatus(number)) for number in range(1, QUESTIONS))
        stale = b"".join(
            frame(Query(1000 + number, _question(f"none/{number}"), "stale"))
            for number in range(QUESTIONS)
        )
        self._flood = statuses + stale
        self._watches = b"".join(frame(WatchStatus(9000 + n, 0.0)) for n in range(WATCHES))
        self._large = b"".join(
            frame(Query(n, _question(BIG_KEY), "stale")) for n in range(STALLED_QUESTIONS)
        )
        number = 0
        for kind, count in setup.counts.items():
            for _ in range(count):
                at = number % setup.hosts
                knock = Knock(number, kind, f"127.100.{at // 250}.{1 + at % 250}")
                self._after(self._rng.uniform(0, setup.ramp_s), knock, self._connect)
                number += 1

    def run(self) -> None:
        """Attack until standard input ends."""
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ, None)
        told_s = time.monotonic()
        while True:
            now_s = time.monotonic()
            while self._agenda and self._agenda[0][0] <= now_s:
                _, _, knock, do = heapq.heappop(self._agenda)
                do(knock)
            if now_s >= told_s + 1:
                told_s = now_s
                self._tell()
            next_s = min(told_s + 1, self._agenda[0][0] if self._agenda else told_s + 1)
            for key, mask in self._selector.select(max(0.0, next_s - time.monotonic())):
                if key.data is None:
                    self._tell()
                    return
                if key.data.sock is key.fileobj:
                    self._on_event(key.data, mask)

    def _tell(self) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        cpu_s = usage.ru_utime + usage.ru_stime
        print(json.dumps({**self.figures, "cpu_s": round(cpu_s, 2)}), flush=True)

    def _after(self, pause_s: float, knock: Knock, do: Callable[[Knock], None]) -> None:
        self._ticket += 1
        heapq.heappush(self._agenda, (time.monotonic() + pause_s, self._ticket, knock, do))

    # -- a connection's life -------------------------------------------------------------------

    def _connect(self, knock: Knock) -> None:
        rng, setup = self._rng, self._setup
        knock.target = rng.randrange(len(setup.clients))
        knock.at_peer = (knock.kind in AT_BOTH and rng.random() < 0.5) or knock.kind == "stranger"
        address = setup.peers[knock.target][1] if knock.at_peer else setup.clients[knock.target]
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT: ports last longer
        if knock.kind == "unread":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        try:
            sock.bind((knock.host, 0))
            code = sock.connect_ex(address)
        except OSError as error:
            code = error.errno or errno.EIO
        if code not in (0, errno.EINPROGRESS):
            self.figures[f"error {errno.errorcode.get(code, code)}"] += 1
            sock.close()
            self._after(rng.uniform(*AGAIN_S), knock, self._connect)
            return
        knock.sock, knock.is_up, knock.owes, knock.sent = sock, False, 0, 0
        knock.session_id = None
        self.figures["tried"] += 1
        self._selector.register(sock, selectors.EVENT_WRITE, knock)

    def _on_event(self, knock: Knock, mask: int) -> None:
        try:
            if not knock.is_up:
                self._on_up(knock)
            elif mask & selectors.EVENT_WRITE:
                self._write(knock)
            if knock.sock is not None and mask & selectors.EVENT_READ:
                self._read(knock)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self.figures[f"ended {errno.errorcode.get(error.errno or 0, error.errno)}"] += 1
            self._end(knock, AGAIN_S)

    def _on_up(self, knock: Knock) -> None:
        assert knock.sock is not None
        code = knock.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        knock.is_up = True
        self.figures["connected"] += 1
        self._send(knock, KINDS[knock.kind](self, knock))

    def _send(self, knock: Knock, data: bytes) -> None:
        if knock.sock is None:
            return
        knock.data = memoryview(data)
        knock.sent = 0
        self._listen(knock)
        if data:
            self._write(knock)

    def _listen(self, knock: Knock) -> None:
        assert knock.sock is not None
        mask = 0 if knock.kind == "unread" and knock.then is None else selectors.EVENT_READ
        if knock.sent < len(knock.data):
            mask |= selectors.EVENT_WRITE
        if mask:
            try:
                self._selector.modify(knock.sock, mask, knock)
            except KeyError:
                self._selector.register(knock.sock, mask, knock)
        else:
            with suppress(KeyError):
                self._selector.unregister(knock.sock)

    def _write(self, knock: Knock) -> None:
        assert knock.sock is not None
        size = knock.sock.send(knock.data[knock.sent : knock.sent + RECEIVE_BYTES])
        knock.sent += size
        self.figures["sent_bytes"] += size
        if knock.sent == len(knock.data):
            self._listen(knock)

    def _read(self, knock: Knock) -> None:
        assert knock.sock is not None
        data = knock.sock.recv(RECEIVE_BYTES)
        self.figures["received_bytes"] += len(data)
        if not data:
            self.figures["ended by the server"] += 1
            self._end(knock, AGAIN_S)
        elif knock.then is not None:
            then, knock.then = knock.then, None
            self.figures[f"admitted {knock.kind}"] += 1
            self._send(knock, then())
        elif knock.kind == "session" and knock.session_id is None:
            self._on_session(knock, data)
        elif knock.kind == "flood" and knock.sent == len(knock.data) and knock.number % 3:
            self.figures["floods"] += 1
            self._send(knock, self._flood)  # who watches only takes what comes

    def _end(self, knock: Knock, pause_s: tuple[float, float]) -> None:
        if knock.sock is not None:
            with suppress(KeyError):
                self._selector.unregister(knock.sock)
            knock.sock.close()
            knock.sock = None
        knock.then = None
        knock.data, knock.sent = memoryview(b""), 0
        self._after(self._rng.uniform(*pause_s), knock, self._connect)

    # -- the kinds -----------------------------------------------------------------------------

    def silent(self, _knock: Knock) -> bytes:
        """Says nothing."""
        return b""

    def half(self, knock: Knock) -> bytes:
        """Half of a handshake; now and then, once admitted, 50 MB of a frame of 60 MiB."""
        if knock.at_peer:
            hello = self._peer_hello(knock)
            return hello[: len(hello) // 2]
        if knock.number % 40:
            return self._hello[: len(self._hello) // 2]
        knock.then = lambda: HEADER.pack(HALF_FRAME_BYTES) + self._half
        return self._hello

    def storm(self, knock: Knock) -> bytes:
        """Comes and goes, every second time with a reset."""
        assert knock.sock is not None
        if self._rng.random() < 0.5:
            linger = struct.pack("ii", 1, 0)
            knock.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._end(knock, STORM_S)
        return b""

    def garbage(self, knock: Knock) -> bytes:
        """Bytes of no meaning, every third time after a right handshake."""
        rng = self._rng
        junk = rng.randbytes(rng.randrange(1, 4096))
        if rng.random() < 0.3:
            junk = HEADER.pack(len(junk)) + junk
            if not knock.at_peer:
                return self._hello + junk
        return junk

    def idle(self, knock: Knock) -> bytes:
        """Is admitted, and asks for nothing."""
        knock.then = bytes
        return self._hello

    def unread(self, knock: Knock) -> bytes:
        """Asks for large answers, and takes none."""
        sock = knock.sock

        def anew(_knock: Knock) -> None:
            if knock.sock is sock:
                self._end(knock, AGAIN_S)

        self._after(UNREAD_S, knock, anew)
        knock.then = lambda: self._large
        return self._hello

    def flood(self, knock: Knock) -> bytes:
        """Asks without end; every third watches the node a thousand times."""
        knock.then = lambda: self._watches if knock.number % 3 == 0 else self._flood
        return self._hello

    def session(self, knock: Knock) -> bytes:
        """Opens a session, and has it keep large results."""
        client_id = self._rng.randbytes(CLIENT_ID_BYTES)
        knock.then = lambda: frame(Propose(1, encode_open(client_id)))
        return self._hello

    def _on_session(self, knock: Knock, data: bytes) -> None:
        tag, _, value, *_ = msgspec.msgpack.decode(data[HEADER.size :])
        if tag != 0:  # it does not lead
            self._end(knock, AGAIN_S)
            return
        knock.session_id = value
        self.figures["sessions"] += 1
        self._ask_in_session(knock, knock.sock)

    def _ask_in_session(self, knock: Knock, sock: socket.socket | None) -> None:
        if knock.sock is not sock or knock.session_id is None:
            return
        knock.owes += 1
        cas = encode(Cas(BIG_KEY.encode(), b"no", b"no"))  # it fails: the result is what is there
        data = encode_command(knock.session_id, knock.owes, cas)
        try:
            self._send(knock, frame(Propose(knock.owes + 1, data)))
        except OSError:
            self._end(knock, AGAIN_S)
        else:
            self._after(SESSION_S, knock, lambda knock: self._ask_in_session(knock, sock))

    def trickle(self, knock: Knock) -> bytes:
        """A byte a second: of a handshake, or of a frame."""
        hello = self._peer_hello(knock) if knock.at_peer else self._hello
        if not knock.at_peer and self._rng.random() < 0.5:
            knock.then = lambda: self._drip(knock, HEADER.pack(1 << 20) + bytes(64), 1)
            return self._hello
        return self._drip(knock, hello, 1)

    def _drip(self, knock: Knock, data: bytes, at: int) -> bytes:
        sock = knock.sock

        def next_byte(_knock: Knock) -> None:
            if knock.sock is sock and sock is not None and at < len(data):
                try:
                    self._send(knock, self._drip(knock, data, at + 1))
                except OSError:
                    self._end(knock, AGAIN_S)

        self._after(TRICKLE_S, knock, next_byte)
        return data[at - 1 : at]

    def stranger(self, knock: Knock) -> bytes:
        """Says at the peers' port that it is a node that joins."""
        knock.then = lambda: HEADER.pack(1 << 20) + bytes(1 << 16)
        return self._peer_hello(knock)

    def _peer_hello(self, knock: Knock) -> bytes:
        said = Introduction(
            f"stranger-{knock.number}", self._setup.peers[knock.target][0], 0, 1 + knock.number
        )
        return encode_hello(cluster_id=self._setup.cluster_id, introduction=said)


def _question(key: str) -> bytes:
    return encode(Get(key.encode()))


AT_BOTH: Final = frozenset({"silent", "half", "storm", "garbage", "trickle"})
"""Who knocks at the peers' ports too."""
KINDS: Final[dict[str, Callable[[Attackers, Knock], bytes]]] = {
    "silent": Attackers.silent,
    "half": Attackers.half,
    "storm": Attackers.storm,
    "garbage": Attackers.garbage,
    "idle": Attackers.idle,
    "unread": Attackers.unread,
    "flood": Attackers.flood,
    "session": Attackers.session,
    "trickle": Attackers.trickle,
    "stranger": Attackers.stranger,
}
SHARES: Final[dict[str, float]] = {
    "silent": 0.22, "half": 0.10, "storm": 0.08, "garbage": 0.06, "idle": 0.36, "unread": 0.04,
    "flood": 0.03, "session": 0.005, "trickle": 0.10, "stranger": 0.005,
}  # fmt: skip
"""Of all connections, for each kind."""


def counts(connections: int, kinds: list[str]) -> dict[str, int]:
    """How many connections each kind has."""
    whole = sum(SHARES[kind] for kind in kinds)
    return {kind: max(1, round(connections * SHARES[kind] / whole)) for kind in kinds}


def spin() -> None:
    """Keep the core busy until standard input ends, as attackers do."""
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
    while not selector.select(0):
        sum(range(10_000))


def main(words: list[str]) -> None:
    """`spin CORE`, or a setup as JSON."""
    if words[0] == "spin":
        if words[1] != "any":
            os.sched_setaffinity(0, {int(words[1])})
        spin()
        return
    setup = msgspec.json.decode(words[0], type=Setup)
    if setup.core is not None:
        os.sched_setaffinity(0, {setup.core})
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    Attackers(setup).run()


if __name__ == "__main__":
    main(sys.argv[1:])
