"""A switch in user space: frames from one TAP to another, or not, or later.

Rules of this file:

* `Switch` is pure: frames, orders and the time go in, frames come out. `run` gives it TAPs, as a
  process of its own: `python -m tests.network_nemesis.switch SEED PORTS`.
* Who is at which port is known from the start: the last byte of a MAC address is the port.
* A line is one direction between two ports. What leaves a port shares its rate, and waits in one
  queue, which is bounded as a router's is: it drops what comes last.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias, final

import msgspec

MAC_PREFIX: Final = bytes((2, 0, 0, 0, 0))
"""Of every port's MAC address; its number comes last."""
FRAME_BYTES_MAX: Final = 2048
"""More than the MTU."""
HEADER_BYTES: Final = 14
"""Of Ethernet, before the packet."""
BURST: Final = 32
"""Frames taken from a port before the next one has its turn."""
QUEUE_BYTES: Final = 128 * 1024
"""What may wait for a port's rate: a tenth of a second at 10 Mbit/s."""
FLOWS_MAX: Final = 10_000
"""Connections that a firewall knows; what is older than so many, it lets pass."""

_TUN: Final = "/dev/net/tun"
_TUNSETIFF: Final = 0x400454CA
_TAP_WITHOUT_INFO: Final = 0x0002 | 0x1000
_TCP_FLAGS: Final = HEADER_BYTES + 20 + 13
_SYN_AND_ACK: Final = 0x12
_SYN: Final = 0x02


class Line(msgspec.Struct, frozen=True):
    """What one direction between two ports does to frames."""

    is_cut: bool = False
    loss: float = 0.0
    """Of 1."""
    delay_s: float = 0.0
    jitter_s: float = 0.0
    """So much more or less than `delay_s`, evenly."""
    keeps_order: bool = True
    """Whether a frame waits for those before it, whatever its own delay."""
    packet_bytes_max: int | None = None
    """What is larger vanishes, and nobody is told."""


CLEAN: Final = Line()


class SetLine(msgspec.Struct, frozen=True, tag=True):
    """Order: from each of these to each of those, the line is this."""

    sources: tuple[int, ...]
    targets: tuple[int, ...]
    line: Line


class SetRate(msgspec.Struct, frozen=True, tag=True):
    """Order: what leaves each of these ports does so at this rate."""

    ports: tuple[int, ...]
    bits_s: float


class Forget(msgspec.Struct, frozen=True, tag=True):
    """Order: a firewall between these ports loses its table: packets of the connections that are
    there vanish, new connections pass."""

    ports: tuple[int, ...]


class Heal(msgspec.Struct, frozen=True, tag=True):
    """Order: be a good switch again. Connections that were forgotten stay so until they are new."""


Order: TypeAlias = SetLine | SetRate | Forget | Heal


@final
class Switch:
    """Where frames go, and when.

    Args:
        size: number of ports.
        rng: which frames are lost, and how late they are.
    """

    def __init__(self, size: int, rng: random.Random) -> None:
        self._size = size
        self._rng = rng
        self._lines = {(s, t): CLEAN for s in range(size) for t in range(size) if s != t}
        self._bits_s: dict[int, float] = {}
        self._free_s: dict[int, float] = {}
        """When the last frame that waits for a port's rate will have left."""
        self._last_due_s: dict[tuple[int, int], float] = {}
        self._flows: dict[bytes, tuple[int, int]] = {}
        self._forgotten: set[bytes] = set()
        self._waiting: list[tuple[float, int, int, bytes]] = []
        """(when, number, port, frame): a heap."""
        self._number = 0

    def obey(self, order: Order) -> None:
        """Change the network."""
        match order:
            case SetLine(sources, targets, line):
                for pair in self._lines:
                    if pair[0] in sources and pair[1] in targets:
                        self._lines[pair] = line
            case SetRate(ports, bits_s):
                self._bits_s |= dict.fromkeys(ports, bits_s)
            case Forget(ports):
                inside = set(ports)
                self._forgotten |= {
                    flow for flow, pair in self._flows.items() if inside.issuperset(pair)
                }
            case Heal():
                self._lines = dict.fromkeys(self._lines, CLEAN)
                self._bits_s.clear()
                self._free_s.clear()

    def take(self, source: int, frame: bytes, now_s: float) -> None:
        """A frame has come in at a port."""
        if frame[:5] == MAC_PREFIX:
            target = frame[5]
            if target != source and target < self._size:
                self._pass_on(source, target, frame, now_s)
            return
        for target in range(self._size):  # for everyone
            if target != source:
                self._pass_on(source, target, frame, now_s)

    def due(self, now_s: float) -> Iterator[tuple[int, bytes]]:
        """(port, frame) of all that leave now, in order."""
        while self._waiting and self._waiting[0][0] <= now_s:
            _, _, port, frame = heapq.heappop(self._waiting)
            yield port, frame

    @property
    def next_due_s(self) -> float | None:
        """When the next frame leaves; None: none waits."""
        return self._waiting[0][0] if self._waiting else None

    def _pass_on(self, source: int, target: int, frame: bytes, now_s: float) -> None:
        line = self._lines[source, target]
        if self._is_dropped(line, frame) or self._is_of_forgotten_flow(source, target, frame):
            return
        due_s = self._sent_s(source, len(frame), now_s)
        if due_s is None:
            return
        if line is not CLEAN:
            due_s += max(0.0, line.delay_s + self._rng.uniform(-line.jitter_s, line.jitter_s))
            if line.keeps_order:
                due_s = max(due_s, self._last_due_s.get((source, target), 0.0))
            self._last_due_s[source, target] = due_s
        self._number += 1
        heapq.heappush(self._waiting, (due_s, self._number, target, frame))

    def _is_dropped(self, line: Line, frame: bytes) -> bool:
        if line is CLEAN:
            return False
        largest = line.packet_bytes_max
        if line.is_cut or (largest is not None and len(frame) - HEADER_BYTES > largest):
            return True
        return line.loss > 0 and self._rng.random() < line.loss

    def _is_of_forgotten_flow(self, source: int, target: int, frame: bytes) -> bool:
        if frame[12:14] != b"\x08\x00" or frame[23] != 6:  # IPv4, TCP
            return False
        flow = frame[26:38]  # addresses and ports
        if flow in self._forgotten:
            if frame[_TCP_FLAGS] & _SYN_AND_ACK != _SYN:
                return True
            back = flow[4:8] + flow[:4] + flow[10:12] + flow[8:10]
            self._forgotten -= {flow, back}
        if flow not in self._flows:
            if len(self._flows) >= FLOWS_MAX:
                del self._flows[next(iter(self._flows))]
            self._flows[flow] = (source, target)
        return False

    def _sent_s(self, source: int, size_bytes: int, now_s: float) -> float | None:
        """When the frame has left its port; None: there is no room left to wait in."""
        bits_s = self._bits_s.get(source)
        if bits_s is None:
            return now_s
        begins_s = max(now_s, self._free_s.get(source, 0.0))
        if (begins_s - now_s) * bits_s > 8 * QUEUE_BYTES:
            return None
        self._free_s[source] = begins_s + 8 * size_bytes / bits_s
        return self._free_s[source]


# --- the process ------------------------------------------------------------------------------


def open_tap(name: str) -> int:
    """A new TAP in this network namespace; it is gone when the descriptor is closed."""
    descriptor = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH", name.encode(), _TAP_WITHOUT_INFO))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def run(switch: Switch, taps: Sequence[int]) -> None:
    """Switch between TAPs and obey what comes on standard input, until that ends."""
    ports = {descriptor: port for port, descriptor in enumerate(taps)}
    orders = msgspec.json.Decoder(Order)
    pending = b""
    poll = select.epoll()
    for descriptor in (0, *taps):
        poll.register(descriptor, select.EPOLLIN)
    while True:
        for descriptor, _ in poll.poll(_patience_s(switch)):
            if descriptor != 0:
                _take_all(switch, ports[descriptor], descriptor)
                continue
            said = os.read(0, 65536)
            if not said:
                return
            *lines, pending = (pending + said).split(b"\n")
            for line in lines:
                switch.obey(orders.decode(line))
                os.write(1, b"done\n")
        for port, frame in switch.due(time.monotonic()):
            _write(taps[port], frame)


def _patience_s(switch: Switch) -> float | None:
    due_s = switch.next_due_s
    return None if due_s is None else max(0.0, due_s - time.monotonic())


def _take_all(switch: Switch, port: int, tap: int) -> None:
    for _ in range(BURST):
        try:
            frame = os.read(tap, FRAME_BYTES_MAX)
        except OSError:  # nothing more, or its end is down for the moment
            return
        switch.take(port, frame, time.monotonic())


def _write(tap: int, frame: bytes) -> None:
    try:
        os.write(tap, frame)
    except OSError:  # the other end is down: so the frame is lost
        return


def main(words: Sequence[str]) -> int:
    """Make the TAPs, say so, and switch."""
    seed, size = words[0], int(words[1])
    taps = [open_tap(f"tap{port}") for port in range(size)]
    os.write(1, b"ready\n")
    run(Switch(size, random.Random(seed)), taps)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
