"""Those who attack: clients, and strangers at the peers' port.

Rules of this file:

* Handshakes are made of the project's own structs, whatever fields they have by now.
* Strangers bear no member's name and belong to no history of the cluster's: whatever they say,
  nobody may notice.
* A client may change the members, which is no fault of a server: such requests are made so that
  they are always refused.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, final

import msgspec

from trioraft.core.errors import BadMessage
from trioraft.core.messages import Introduction
from trioraft.core.types import NUMBER_MAX, NodeId
from trioraft.net.framing import frame_of, piece_length
from trioraft.rpc import protocol
from trioraft.transport import codec, handshake

from .lines import Line, connected, frame_from
from .ports import Arena
from .servers import CLUSTER_ID

ODD_BEGINNINGS: Final = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64,
    b"\0\0\0\0" * 50,
    b"\xff\xff\xff\xff" + b"x" * 50,
    b"\x80\0\0\1x",
    b"\xc0\0\0\0",
    b"SSH-2.0-OpenSSH_9.6\r\n",
    b"\0\0\0\x0a12345",
    b"",
)
BATCHES: Final = (1, 1, 5, 20, 50)
NAMES: Final = ("guest-a", "guest-b", "guest-c", "guest-d")
FOREIGN_UUIDS: Final = ("0a" * 16, "f" * 32)
NOBODY: Final = "nobody-of-that-name"


def cut_up(arena: Arena, frames: list[bytes]) -> bytes:
    """The frames as a stream: some in pieces, some twice, out of order, or not to their end."""
    rng = arena.rng
    if rng.random() < 0.2:
        rng.shuffle(frames)
    if frames and rng.random() < 0.1:
        frames.append(rng.choice(frames))
    if rng.random() < 0.02:
        frames.append(rng.choice(ODD_BEGINNINGS))
    data = b"".join(frames)
    if rng.random() < 0.02:
        return data[: rng.randint(0, len(data))]
    return data


def in_pieces(arena: Arena, payload: bytes) -> bytes:
    """A frame as it may come over a narrow line."""
    at = arena.rng.randint(0, len(payload))
    first, last = payload[:at], payload[at:]
    return (
        piece_length(len(first), is_last=False)
        + first
        + piece_length(len(last), is_last=arena.rng.random() < 0.95)
        + last
    )


@final
class Contexts:
    """TLS for those who attack, by whose certificate they show; None where there is no TLS."""

    def __init__(self, arena: Arena) -> None:
        self._certificates = arena.cluster.certificates
        self._known: dict[tuple[str, str | None], ssl.SSLContext] = {}

    def of(self, authority: str, name: str | None) -> ssl.SSLContext | None:
        """What shows a certificate of this authority for that name; for no name, none."""
        if self._certificates is None:
            return None
        key = (authority, name)
        if key not in self._known:
            self._known[key] = self._certificates.dialing(authority, name)
        return self._known[key]


@final
class Clients:
    """Clients that say what clients say, a little wrong, over many lines, to all servers."""

    needs_all = True

    def __init__(self, batches: Sequence[int] = BATCHES) -> None:
        self._batches = batches

    def begin(self, arena: Arena) -> None:
        """Look at who is there."""
        self._arena = arena
        self._contexts = Contexts(arena)

    def can_open(self, who: str) -> bool:
        """All clients are alike, but for what they begin with."""
        return who in ("client", "deaf client", "odd client")

    def attack(self) -> None:
        """One line says something."""
        arena, rng = self._arena, self._arena.rng
        if rng.random() < 0.01:
            self._begin_oddly()
            return
        who = "deaf client" if rng.random() < 0.05 else "client"
        line = arena.line_of(who)
        if line is None or rng.random() < 0.02:
            line = arena.new_line(who, arena.some_server())
        if line is None:
            return
        frames = [frame_of(self._request()) for _ in range(rng.choice(self._batches))]
        arena.send(line, cut_up(arena, frames), len(frames))

    def _begin_oddly(self) -> None:
        """A first frame that is none."""
        arena, rng = self._arena, self._arena.rng
        line = arena.new_line("odd client", arena.some_server())
        if line is None:
            return
        hello = _client_hello()
        changed = frame_of(arena.mutator.packed(hello[4:], arena.recording.clients))
        data = rng.choice((changed, changed + frame_of(self._request()), *ODD_BEGINNINGS))
        arena.send(line, data, 1)

    def _request(self) -> bytes:
        arena = self._arena
        recorded = arena.recording.clients
        payload = arena.rng.choice(recorded)
        if arena.rng.random() < 0.9:
            payload = arena.mutator.packed(payload, recorded)
        return harmless_request(payload)

    def open(self, number: int, who: str, server: NodeId) -> Line | None:
        """Connect, and shake hands unless that is what shall go wrong."""
        with suppress(OSError, ValueError):
            address = self._arena.cluster.client_ports[server]
            stream = connected(address, self._contexts.of("clients", "somebody"))
            line = Line(number, who, stream, reads=who != "deaf client")
            if who == "odd client":
                return line
            try:
                stream.sendall(_client_hello())
                if not protocol.decode_welcome(frame_from(stream)).refused:
                    return line
            except (OSError, BadMessage):
                pass
            line.close()
        return None

    def check(self) -> str | None:
        """Nothing beyond what every arena looks at."""
        return None

    def finish(self) -> None:
        """Nothing runs beside."""

    def notes(self) -> list[str]:
        """No figures of its own."""
        return []


def _client_hello() -> bytes:
    hello = protocol.ClientHello(protocol.MAGIC, protocol.PROTOCOL_VERSION, CLUSTER_ID)
    return protocol.frame(hello)


_MEMBERSHIP: Final = (
    protocol.AddLearnerRequest,
    protocol.ChangeVotersRequest,
    protocol.RemoveNode,
)


def harmless_request(payload: bytes) -> bytes:
    """The payload, unless it is a right request that would change who the members are."""
    try:
        request = protocol.decode_request(payload)
    except BadMessage:
        return payload
    if isinstance(request, _MEMBERSHIP):
        request = msgspec.structs.replace(request, expected_index=NUMBER_MAX - 1)
    elif isinstance(request, protocol.ReplaceNode | protocol.MoveNode):
        request = msgspec.structs.replace(request, node_id=NOBODY)
    else:
        return payload
    return protocol.frame(request)[4:]


@final
class Strangers:
    """Nodes that belong to no history, or to another one, under names that no member has."""

    needs_all = True

    def begin(self, arena: Arena) -> None:
        """Look at who is there."""
        self._arena = arena
        self._contexts = Contexts(arena)

    def can_open(self, who: str) -> bool:
        """One of its names, or somebody who does not come to a handshake."""
        return who == "odd peer" or who.startswith("stranger ")

    def attack(self) -> None:
        """One line says something."""
        arena, rng = self._arena, self._arena.rng
        if rng.random() < 0.03:
            self._begin_oddly()
            return
        name = rng.choice(NAMES)
        who = f"stranger {name} {rng.choice(('joins', *FOREIGN_UUIDS))}"
        line = arena.line_of(who)
        server = arena.some_server()
        if line is None or rng.random() < 0.02:
            line = arena.new_line(who, server)
        if line is None:
            return
        payloads = [self._message(name, server) for _ in range(rng.choice(BATCHES))]
        frames = [
            in_pieces(arena, payload) if rng.random() < 0.05 else frame_of(payload)
            for payload in payloads
        ]
        arena.send(line, cut_up(arena, frames), len(frames))

    def _begin_oddly(self) -> None:
        arena, rng = self._arena, self._arena.rng
        server = arena.some_server()
        line = arena.new_line("odd peer", server)
        if line is None:
            return
        hello = hello_of(introduction_of(rng.choice(NAMES), server, "joins"))
        changed = frame_of(arena.mutator.packed(hello[4:], arena.recording.peers))
        message = frame_of(self._message(NAMES[0], server))
        data = rng.choice((changed, hello + message, changed + message, *ODD_BEGINNINGS))
        arena.send(line, data, 1)

    def _message(self, name: str, server: NodeId) -> bytes:
        arena = self._arena
        recorded = arena.recording.peers
        message = codec.decode_message(arena.rng.choice(recorded))
        if arena.rng.random() < 0.95:
            message = msgspec.structs.replace(message, sender=name, receiver=server)
        payload = codec.encode_frame(message)[4:]
        if arena.rng.random() < 0.7:
            payload = arena.mutator.packed(payload, recorded)
        return payload

    def open(self, number: int, who: str, server: NodeId) -> Line | None:
        """Connect, and shake hands unless that is what shall go wrong."""
        arena = self._arena
        with suppress(OSError, ValueError):
            name = None if who == "odd peer" else who.split()[1]
            authority = "clients" if name == NAMES[-1] else "peers"
            context = self._contexts.of(authority, name)
            stream = connected(arena.cluster.peer_ports[server], context)
            line = Line(number, who, stream)
            if name is None:
                return line
            try:
                stream.sendall(hello_of(introduction_of(name, server, who.split()[2])))
                handshake.check_reply(frame_from(stream), sender=server, receiver=name)
            except (OSError, BadMessage):
                line.close()
                return None
            return line
        return None

    def check(self) -> str | None:
        """Nothing beyond what every arena looks at."""
        return None

    def finish(self) -> None:
        """Nothing runs beside."""

    def notes(self) -> list[str]:
        """No figures of its own."""
        return []


def hello_of(introduction: Introduction) -> bytes:
    """A handshake, as one frame."""
    return handshake.encode_hello(cluster_id=CLUSTER_ID, introduction=introduction)


def introduction_of(name: str, server: NodeId, history: str) -> Introduction:
    """What a stranger says of itself."""
    uuid = None if history == "joins" else history
    return Introduction(name, server, 0, 77, uuid=uuid, formed=uuid is not None)
