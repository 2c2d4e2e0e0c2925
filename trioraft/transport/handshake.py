"""Who is there: the first frame of each connection, and its answer.

Rules of this file:

* The dialer says `PeerHello`; the listener answers with one `HelloReply`. Until then nothing else
  is read, so no term of a stranger is ever looked at.
* Whoever is of this cluster, means us and is who it says (`net.credentials`) is let in, also if we
  have not heard of it: a node that joins knows nobody, one that was removed must be told, and our
  own configuration may be old.
* A refusal names what was expected and what came, and the dialer is told: its log explains itself.
* Pure functions: bytes and values in, values or `BadMessage` out. Deadlines and sockets are the
  callers'.
* Fields are only ever appended, with a default: another version is still able to read them and
  to refuse with a sentence instead of garbage.
* Each side says which versions it speaks, the lowest where there was only one number before; the
  highest common one is spoken (`net.versions`).
"""

from __future__ import annotations

import msgspec

from ..core.decoding import UNREADABLE
from ..core.errors import BadMessage
from ..core.messages import Introduction, Message
from ..core.types import Address, NodeId
from ..net.framing import frame_of
from ..net.sentences import TEXT_CHARS_MAX, printable, quoted
from ..net.versions import Versions, common, said_by, shown, why_none
from .codec import decode_message

MAGIC = "trioraft"
"""What every connection opens with."""

PROTOCOL: Versions = (3, 4)
"""The lowest goes up when a release no longer speaks as the first one did; the highest, when there
is something to be said on a connection that earlier releases do not read. (4: there may be entries
of features, and introductions name those. Format 1 speaks 3.)"""

WITHOUT_FEATURES: Versions = (3, 3)
"""What a node speaks that can do none."""

HANDSHAKE_BYTES_MAX = 48 * 1024
"""Largest frame of a handshake: what a node says of itself names all first voters, twice, and has
addresses."""

NODE_ID_CHARS_MAX = 253
"""Longest name of a dialer: it is in task names and log lines from here on."""


class PeerHello(msgspec.Struct, frozen=True, array_like=True):
    """The dialer's first frame."""

    magic: str
    version: int
    cluster_id: str
    sender: NodeId
    receiver: NodeId
    introduction: Introduction
    """Whose disk the dialer is, and of which history."""
    address: Address | None = None
    """Where the dialer wants to be answered if we do not know it; a wildcard host stands for the
    one it is seen at."""
    invitation: str = ""
    """For those that were not told its name; empty: it has none."""
    version_max: int = 0
    """The highest version that the dialer speaks; `version` is the lowest. 0: the only one."""


class HelloReply(msgspec.Struct, frozen=True, array_like=True):
    """The listener's only frame: an empty reason means welcome."""

    magic: str
    version: int
    refused_because: str = ""
    introduction: Introduction | None = None
    """Whose disk the listener is, and of which history; None in a refusal."""
    invitation: str = ""
    """As the dialer's."""


_encoder = msgspec.msgpack.Encoder()
_hello_decoder = msgspec.msgpack.Decoder(PeerHello)
_reply_decoder = msgspec.msgpack.Decoder(HelloReply)


def encode_hello(
    *,
    cluster_id: str,
    introduction: Introduction,
    address: Address | None = None,
    invitation: str = "",
) -> bytes:
    """Return the dialer's first frame."""
    said = introduction
    lowest, highest = versions_of(introduction)
    hello = PeerHello(
        MAGIC,
        lowest,
        cluster_id,
        said.sender,
        said.receiver,
        said,
        address,
        invitation,
        0 if highest == lowest else highest,
    )
    return frame_of(_encoder.encode(hello))


def versions_of(said: Introduction) -> Versions:
    """Which versions a node of this release speaks that introduces itself so."""
    return PROTOCOL if said.features else WITHOUT_FEATURES


def encode_reply(
    introduction: Introduction | None,
    refused_because: str = "",
    invitation: str = "",
    version: int = PROTOCOL[0],
) -> bytes:
    """Return the listener's answer; a reason makes it a refusal. The version is what is spoken."""
    reason = refused_because[:TEXT_CHARS_MAX]
    reply = HelloReply(MAGIC, version, reason, introduction, invitation)
    return frame_of(_encoder.encode(reply))


def decode_hello(payload: bytes | bytearray) -> PeerHello:
    """Return what a dialer said.

    Raises:
        BadMessage: it is no `PeerHello` at all; nobody there would understand an answer.
    """
    try:
        hello = _hello_decoder.decode(payload)
    except UNREADABLE as error:
        raise BadMessage(f"the first frame is not a handshake: {error}") from error
    if hello.magic != MAGIC:
        raise BadMessage(f"the handshake begins with {quoted(hello.magic)}, not {MAGIC!r}")
    return hello


def check_hello(hello: PeerHello, *, cluster_id: str, node_id: NodeId) -> None:
    """Check that the dialer is of our cluster, means us, and says who it is. Whether that is so,
    its credentials say.

    Args:
        hello: what it said.
        cluster_id: the cluster this node belongs to.
        node_id: this node.

    Raises:
        BadMessage: the reason, to be sent back with `encode_reply`.
    """
    spoken_with(hello, PROTOCOL)
    if hello.cluster_id != cluster_id:
        raise BadMessage(
            f"the connection is for cluster {quoted(hello.cluster_id)}, "
            f"this node belongs to {quoted(cluster_id)}"
        )
    if hello.receiver != node_id:
        raise BadMessage(
            f"the connection is for node {quoted(hello.receiver)}, this is node {quoted(node_id)}"
        )
    _check_name(hello.sender, "the dialer calls itself")
    if hello.sender == node_id:
        raise BadMessage(this_very_node(node_id))
    _check_introduction(hello.introduction, hello.sender, hello.receiver)


def spoken_with(hello: PeerHello, ours: Versions) -> int:
    """The version that is spoken with this dialer.

    Raises:
        BadMessage: there is none that both know.
    """
    theirs = said_by(hello.version, hello.version_max)
    spoken = common(ours, theirs)
    if spoken is None:
        raise BadMessage(why_none("protocol version", ours, theirs, "this node"))
    return spoken


def this_very_node(node_id: NodeId) -> str:
    """Why a node does not take itself: whoever hears this has reached itself."""
    return f"the dialer says that it is node {quoted(node_id)}, which is this node"


def _check_introduction(said: Introduction, sender: NodeId, receiver: NodeId) -> None:
    if (said.sender, said.receiver) != (sender, receiver):
        raise BadMessage(
            f"in the handshake from {quoted(sender)} to {quoted(receiver)}, "
            f"{quoted(said.sender)} introduces itself to {quoted(said.receiver)}"
        )
    for name in (*said.voters, *(said.record or ())):
        _check_name(name, f"{quoted(sender)} knows a first voter")
    for name in said.seen_at:
        _check_name(name, f"{quoted(sender)} has seen a node")
    for name in said.features:
        _check_name(name, f"{quoted(sender)} can do")


def _check_name(name: NodeId, who: str) -> None:
    if not name.isprintable() or not 0 < len(name) <= NODE_ID_CHARS_MAX:
        raise BadMessage(
            f"{who} {quoted(name)}: a name has 1 to {NODE_ID_CHARS_MAX} printable characters"
        )


def check_said_again(said: Introduction, before: Introduction) -> Introduction:
    """What an admitted peer says of itself from now on.

    Raises:
        BadMessage: it is another disk: a connection belongs to the two that opened it; or it says
            what no handshake may.
    """
    if said.incarnation != before.incarnation:
        raise BadMessage(f"node {said.sender!r} became another disk within one connection")
    _check_introduction(said, before.sender, before.receiver)
    return said


def check_reply(
    payload: bytes | bytearray, *, sender: NodeId, receiver: NodeId, ours: Versions = PROTOCOL
) -> tuple[Introduction, str]:
    """Check that the listener took us.

    Args:
        payload: what it answered.
        sender: the listener, as we know it.
        receiver: this node.
        ours: the versions that this node has offered.

    Returns:
        What it says of itself, and its invitation, if it has one.

    Raises:
        BadMessage: it refused (the reason is its own words), or it is no trioraft node.
    """
    try:
        reply = _reply_decoder.decode(payload)
    except UNREADABLE as error:
        raise BadMessage(f"its answer to the handshake is not one: {error}") from error
    if reply.magic != MAGIC:
        raise BadMessage(f"its answer to the handshake begins with {quoted(reply.magic)}")
    if reply.refused_because:
        raise BadMessage(f"it refused the connection: {printable(reply.refused_because)}")
    if common(ours, said_by(reply.version, 0)) is None or reply.introduction is None:
        raise BadMessage(
            f"it answers in protocol version {reply.version}, this node offered {shown(ours)}"
        )
    _check_introduction(reply.introduction, sender, receiver)
    return reply.introduction, reply.invitation


def decode_from(peer: NodeId, node_id: NodeId, payload: bytes | bytearray) -> Message:
    """Decode a message of an admitted peer, holding it to what its handshake said.

    Raises:
        BadMessage: it is no message, or another node's name is on it.
    """
    message = decode_message(payload)
    if message.sender != peer:
        raise BadMessage(
            f"a message from {quoted(message.sender)} came over the connection of {quoted(peer)}"
        )
    if message.receiver != node_id:
        raise BadMessage(f"a message to {quoted(message.receiver)} came to node {quoted(node_id)}")
    return message
