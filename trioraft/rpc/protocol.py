"""What a client and a server say to each other: requests, answers, and the frames around them.

Rules of this file:

* A frame is four bytes of big-endian length, then that many bytes of msgpack. Lengths are compared
  with a bound before anything is allocated (`net.framing.Deframer`).
* Every request has an id that its client chose; answers bear it and come in any order.
* Fields are only ever appended, with a default; new kinds of requests and answers get new tags.
  What an old server would misread needs a further version in `PROTOCOL`.
* Values of the state machine are opaque here: commands are bytes, results are msgpack that only
  the caller decodes.
* Pure: bytes and values in, values or `BadMessage` out. Neither Trio nor asyncio.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

from ..core.decoding import UNREADABLE
from ..core.errors import BadMessage
from ..core.types import (
    FEATURES_MAX,
    Address,
    Configuration,
    Count,
    FeatureName,
    LogIndex,
    NodeId,
    Term,
    TraceContext,
)
from ..machines.questions import Consistency as Consistency
from ..net.framing import LENGTH_BYTES
from ..net.versions import Versions, common, said_by

MAGIC: Final = "trioraft-client"
"""What every connection opens with; not what peers say, so that no port takes the wrong ones."""
PROTOCOL_VERSION: Final = 1
"""The lowest that is spoken. It goes up when a release no longer speaks as the first one did."""
PROTOCOL: Final[Versions] = (PROTOCOL_VERSION, 3)
"""From which to which version is spoken: the highest that both sides know. (2: there is
`SwitchOnRequest`; 3: `Take`, and windows of `Watch`.)"""
SWITCHES_ON: Final = 2
"""The version from which on a server can be asked to switch features on."""
WINDOWS: Final = 3
"""The version from which on a server heeds the windows of subscriptions, so that many may share a
connection."""
ITEM_BYTES: Final = 64
"""What an `Item` counts in a window beside its value: many small ones need room too."""
FRAME_BYTES_MAX: Final = 64 * 1024 * 1024
"""Largest frame accepted afterwards, unless said otherwise."""

RequestId: TypeAlias = Count
"""A request's name on its connection; a client never uses one twice there."""
Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
"""A time that somebody may wait: never negative, infinite or no number at all."""
ShortText: TypeAlias = Annotated[str, msgspec.Meta(max_length=256)]

# -- the handshake -------------------------------------------------------------------------

Refusal: TypeAlias = Literal["not-a-client", "version", "cluster", "no-role", "too-many", "leaving"]
"""Why a server does not take a connection."""


class ClientHello(msgspec.Struct, frozen=True, array_like=True):
    """The client's first frame."""

    magic: str
    version: int
    cluster_id: ShortText
    frame_bytes_max: Count = FRAME_BYTES_MAX
    """Largest frame that this client reads."""
    token: ShortText = ""
    """Whose bearer may do what the server's roles say; empty: none."""
    version_max: int = 0
    """The highest version that the client speaks; `version` is the lowest. 0: the only one."""

    def __repr__(self) -> str:
        """Without the token: what is shown may end in a log."""
        token = "there is one" if self.token else "none"
        return (
            f"ClientHello({self.magic!r}, {self.version}, {self.cluster_id!r}, "
            f"{self.frame_bytes_max}, token: {token})"
        )


class Welcome(msgspec.Struct, frozen=True, array_like=True):
    """The server's first frame. Unless `refused` is empty, it is also the last."""

    magic: str
    version: int
    refused: str = ""
    """A `Refusal`, or empty."""
    reason: str = ""
    """The refusal as a sentence."""
    node_id: NodeId = ""
    cluster_id: str = ""
    requests_max: Count = 1
    """Requests that may be unanswered on this connection; with more, the server stops reading."""
    frame_bytes_max: Count = FRAME_BYTES_MAX
    """Largest frame that this server reads."""
    has_sessions: bool | None = None
    """Whether commands go to a `SessionMachine`; None: not said."""


class _Opening(msgspec.Struct, frozen=True, array_like=True):
    """What can be read of a first frame of whatever version."""

    magic: str
    version: int = 0


class _Tagged(msgspec.Struct, frozen=True, array_like=True):
    """What can be read of a request of whatever kind."""

    kind: Count
    id: RequestId


# -- requests ------------------------------------------------------------------------------

REQUEST_KIND_MAX: Final = 21
"""Largest tag of a request that this release knows."""


class Propose(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """Have the cluster apply a command; the answer is its result. Leader only."""

    id: RequestId
    data: bytes
    trace: TraceContext | None = None
    """For whoever traces it. None takes no byte, here and in `Query`."""


class Query(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """Ask the state machine (`machine.query(data)`) without going through the log. Any server."""

    id: RequestId
    data: bytes
    consistency: Consistency = "linearizable"
    trace: TraceContext | None = None


class GetStatus(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """Ask a server what it is; the answer is a `ServerStatus`."""

    id: RequestId


class TransferLeadership(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """`Node.transfer_leadership`; the answer is the new leader's id."""

    id: RequestId
    to: NodeId | None = None
    timeout_s: Seconds | None = None


class AddLearnerRequest(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """`Node.add_learner`; the answer is the configuration's index."""

    id: RequestId
    node_id: NodeId
    address: Address | None = None
    """Where peers reach it."""
    expected_index: LogIndex | None = None


class ChangeVotersRequest(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """`Node.change_voters`; the answer is the configuration's index."""

    id: RequestId
    ids: tuple[NodeId, ...]
    addresses: dict[NodeId, Address] | None = None
    expected_index: LogIndex | None = None


class RemoveNode(msgspec.Struct, frozen=True, array_like=True, tag=6, gc=False):
    """`Node.remove`; the answer is the configuration's index."""

    id: RequestId
    node_id: NodeId
    expected_index: LogIndex | None = None


class TakeSnapshot(msgspec.Struct, frozen=True, array_like=True, tag=7, gc=False):
    """`Node.take_snapshot`; the answer is the index that it stands for."""

    id: RequestId


class Watch(msgspec.Struct, frozen=True, array_like=True, tag=8, gc=False):
    """Subscribe to the state machine (`machine.watch(data)`): `Item`s until one side ends it."""

    id: RequestId
    data: bytes
    window_bytes: Count = 0
    """Not 0: an item comes only while those that came and were not taken (`Take`) are less than
    this, each with `ITEM_BYTES` more. 0: as many come as the connection takes. Of version 3."""


class WatchStatus(msgspec.Struct, frozen=True, array_like=True, tag=9, gc=False):
    """Subscribe to a node: each `Item` is a `NodeNews`."""

    id: RequestId
    interval_s: Seconds = 0.1
    """Shortest time between two statuses, in seconds; changes in between are summed up."""
    events_every: Count = 0
    """Not 0: what happens is told too (`EventsNews`), of the heartbeats those whose round this
    number divides, so that all nodes tell of the same ones."""


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag=10, gc=False):
    """Nobody waits for that request any more. It has no answer of its own, and may come late."""

    id: RequestId


class Take(msgspec.Struct, frozen=True, array_like=True, tag=21, gc=False):
    """So much of that subscription was taken, since the last time: there is room in its window. It
    has no answer of its own, and may come late. Of version 3."""

    id: RequestId
    taken_bytes: Count


class Ping(msgspec.Struct, frozen=True, array_like=True, tag=11, gc=False):
    """Are you there? The answer is nil."""

    id: RequestId


class ReplaceNode(msgspec.Struct, frozen=True, array_like=True, tag=12, gc=False):
    """`Node.replace`; the answer is the configuration's index."""

    id: RequestId
    node_id: NodeId


class InviteNode(msgspec.Struct, frozen=True, array_like=True, tag=13, gc=False):
    """`Node.invite`; the answer is the text. Any server that has the key."""

    id: RequestId
    node_id: NodeId
    valid_s: float


class SwitchOnRequest(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """`Node.switch_on`; the answer is the configuration's index. Of version 2."""

    id: RequestId
    features: Annotated[tuple[FeatureName, ...], msgspec.Meta(max_length=FEATURES_MAX)] = ()
    expected_index: LogIndex | None = None


class MoveNode(msgspec.Struct, frozen=True, array_like=True, tag=14, gc=False):
    """`Node.move`; the answer is the configuration's index."""

    id: RequestId
    node_id: NodeId
    address: Address
    """Where peers reach it from now on."""
    force: bool = False


class ReadBackup(msgspec.Struct, frozen=True, array_like=True, tag=15, gc=False):
    """`Node.open_backup`: the first `Item` is a `BackupHead`, as msgpack, and each further one a
    piece of the content; the `Result` after them is nil. Any server."""

    id: RequestId
    is_stale: bool = False
    patience_s: Seconds = 10.0
    """How long the server may wait for a majority to say what is committed, in seconds."""


Request: TypeAlias = (
    Propose
    | Query
    | GetStatus
    | TransferLeadership
    | AddLearnerRequest
    | ChangeVotersRequest
    | RemoveNode
    | TakeSnapshot
    | Watch
    | WatchStatus
    | Cancel
    | Take
    | Ping
    | ReplaceNode
    | SwitchOnRequest
    | InviteNode
    | MoveNode
    | ReadBackup
)


class UntracedPropose(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """A `Propose` as it travels where nobody traces. Made by who knows that nobody does, it costs
    not even the look."""

    id: RequestId
    data: bytes


class UntracedQuery(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """Likewise."""

    id: RequestId
    data: bytes
    consistency: Consistency


Untraced: TypeAlias = UntracedPropose | UntracedQuery


def _as_it_travels(request: Any) -> Any:
    """A `Propose` or `Query`; without the field that nobody has set."""
    if request.trace is not None:
        return request
    if isinstance(request, Propose):
        return UntracedPropose(request.id, request.data)
    return UntracedQuery(request.id, request.data, request.consistency)


# -- answers -------------------------------------------------------------------------------


class Result(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """The request was carried out."""

    id: RequestId
    value: msgspec.Raw
    """What it returned, as msgpack."""


class Failure(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """It failed; `rpc.failures` makes an error of it again."""

    id: RequestId
    kind: str
    """One of `rpc.failures`."""
    message: str
    type_name: str = ""
    """For "command": the class of what the state machine raised."""
    leader_id: NodeId | None = None
    leader_address: Address | None = None
    """Where that leader takes *clients*, if this server knows."""


class Item(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """The next piece of a subscription; a `Result` or a `Failure` of the same id ends it."""

    id: RequestId
    value: msgspec.Raw


class GoingAway(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """The server is leaving: what is under way will be answered, anything new will be refused.

    With a reason, only this connection ends, for others' sake: nothing is under way, what has no
    answer before this was not taken, and whoever wants may come again.
    """

    reason: str = ""


Answer: TypeAlias = Result | Failure | Item | GoingAway

# -- what answers hold ---------------------------------------------------------------------


class PeerStatus(msgspec.Struct, frozen=True):
    """How far a leader knows one of its followers to be."""

    match_index: LogIndex
    next_index: LogIndex
    state: str
    """"probe", "replicate" or "snapshot"."""


class ChangeStatus(msgspec.Struct, frozen=True):
    """How far a change of members has come."""

    stage: str
    """"adding learners", "catching up", "joint" or "final"."""
    voters: tuple[NodeId, ...]
    """Who shall vote when it is through."""
    catching_up: tuple[NodeId, ...] = ()


class ServerStatus(msgspec.Struct, frozen=True):
    """`Status` of a node, as its clients see it."""

    node_id: NodeId
    cluster_id: str
    role: str
    """As `Role`'s value: "Leader", "Follower", …"""
    term: Term
    leader_id: NodeId | None
    last_index: LogIndex
    commit_index: LogIndex
    applied_index: LogIndex
    configuration: Configuration
    configuration_index: LogIndex
    progress: dict[NodeId, PeerStatus]
    """Each other member, on a leader; empty elsewhere."""
    last_role_change: str
    """Why the node is what it is."""
    is_removed: bool = False
    change: ChangeStatus | None = None
    """On a leader: the change of members that is under way."""
    client_addresses: dict[NodeId, Address] = {}
    """Where servers take clients, as far as this one knows: what they say themselves comes
    first."""
    connections: int = 0
    """Clients that are connected to this server."""
    links: dict[NodeId, bool] = {}
    """Which of its peers the node's own connections reach."""
    waiting_for: tuple[NodeId, ...] = ()
    """While a new cluster forms: of whom this server has to hear first."""
    problems: dict[NodeId, str] = {}
    """Why each of them is waited for."""
    uuid: str | None = None
    """The history that its log belongs to; None: none yet."""
    incarnation: Count = 0
    """Which disk it has."""
    differing: dict[NodeId, LogIndex] = {}
    """On a leader: whose results were others than its own, and up to which entry."""
    budgets: dict[str, tuple[Count, Count | None]] = {}
    """What all clients of this server share, by name: what is used of it, and its
    bound; None: it has none."""
    turned_away: Count = 0
    """Connections that were closed for others', or unlooked at, since the server started."""
    rejected: Count = 0
    """Connections that were refused, or ended for what they did."""
    peer_certificate_expires_s: float | None = None
    """When the certificates of its port for peers cannot be used any more, in seconds since the
    epoch; None: there are none, or it is not known."""
    client_certificate_expires_s: float | None = None
    """Likewise, of its port for clients."""
    other_client_addresses: dict[NodeId, tuple[Address, ...]] = {}
    """Where else they may take clients: what the operator says and the server itself does not, or a
    guess."""
    can: dict[NodeId, tuple[str, ...]] = {}
    """Which features each member's release can do, as this server was told; those in
    `configuration` are on."""


class RoleNews(msgspec.Struct, frozen=True, tag="role"):
    """A node took a role."""

    node_id: NodeId
    role: str
    previous: str
    term: Term
    reason: str
    missed: int = 0
    """Events that were dropped since the subscription began, because they came too fast."""


class StatusNews(msgspec.Struct, frozen=True, tag="status"):
    """What a node is now."""

    status: ServerStatus


class EventNews(msgspec.Struct, frozen=True, array_like=True):
    """One thing that happened in a node."""

    at_s: float
    """When, by the clock on the node's wall, in seconds since the epoch."""
    event: str
    """Its name, as in JSON lines: "message_sent"."""
    texts: tuple[str, ...]
    """As a raftlog has it."""
    fields: dict[str, Any]
    """As JSON lines have them."""


class EventsNews(msgspec.Struct, frozen=True, tag="events"):
    """What happened in a node since the last time. Whose messages are many tells of some; how many
    there were, `messages` counts."""

    node_id: NodeId
    sent_s: float
    """When this was put together, by the same clock."""
    events: tuple[EventNews, ...]
    messages: dict[str, Count]
    """All that were sent and received, by type: `{"AppendEntries": 120}`."""
    left_out: Count = 0
    """Events that should have been told, and were too many."""


NodeNews: TypeAlias = RoleNews | StatusNews | EventsNews

# -- bytes ---------------------------------------------------------------------------------

Sent: TypeAlias = Request | Untraced | Answer | ClientHello | Welcome
"""What may stand in a frame."""

_encoder = msgspec.msgpack.Encoder()
_opening_decoder = msgspec.msgpack.Decoder(_Opening)
_hello_decoder = msgspec.msgpack.Decoder(ClientHello)
_welcome_decoder = msgspec.msgpack.Decoder(Welcome)
_request_decoder: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_tagged_decoder = msgspec.msgpack.Decoder(_Tagged)
_answer_decoder: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def append_frame(buffer: bytearray, message: Sent) -> int:
    """Append the message as one frame, length included, and return the payload's size in bytes.

    Raises:
        TypeError, ValueError, OverflowError: a field cannot be encoded; the buffer is unchanged.
    """
    start = len(buffer)
    buffer += bytes(LENGTH_BYTES)
    kind = type(message)
    travels = _as_it_travels(message) if kind is Propose or kind is Query else message
    try:
        _encoder.encode_into(travels, buffer, start + LENGTH_BYTES)
        size_bytes = len(buffer) - start - LENGTH_BYTES
        buffer[start : start + LENGTH_BYTES] = size_bytes.to_bytes(LENGTH_BYTES, "big")
    except (TypeError, ValueError, OverflowError):
        del buffer[start:]
        raise
    return size_bytes


def frame(message: Sent) -> bytes:
    """The message as one frame, length included."""
    buffer = bytearray()
    append_frame(buffer, message)
    return bytes(buffer)


def encode_value(value: Any) -> msgspec.Raw:
    """What a state machine returned, for a `Result` or an `Item`.

    Raises:
        TypeError, ValueError, OverflowError: msgspec cannot encode it.
    """
    return msgspec.Raw(_encoder.encode(value))


def weight_bytes(value: msgspec.Raw) -> int:
    """What an `Item` of this value counts in a window."""
    return len(value) + ITEM_BYTES


def decode_hello(payload: bytes | bytearray) -> ClientHello:
    """Read a client's first frame.

    Raises:
        BadMessage: it is none. One of another version comes back with that version, and only that.
    """
    try:
        opening = _opening_decoder.decode(payload)
        if opening.magic != MAGIC or opening.version > PROTOCOL[1]:
            return ClientHello(opening.magic, opening.version, "")
        return _hello_decoder.decode(payload)
    except UNREADABLE as error:
        raise BadMessage(f"what it opened with is no client's first frame: {error}") from error


def decode_welcome(payload: bytes | bytearray) -> Welcome:
    """Read a server's first frame.

    Raises:
        BadMessage: it is none. One of another magic or version comes back with these, and only
            these.
    """
    try:
        opening = _opening_decoder.decode(payload)
        if opening.magic != MAGIC or common(PROTOCOL, said_by(opening.version, 0)) is None:
            return Welcome(opening.magic, opening.version)
        return _welcome_decoder.decode(payload)
    except UNREADABLE as error:
        raise BadMessage(f"its answer to the handshake is not one: {error}") from error


def decode_request(payload: bytes | bytearray) -> Request:
    """Read a request.

    Raises:
        BadMessage: it is none that this release knows, or a number in it is out of range.
    """
    try:
        return _request_decoder.decode(payload)
    except UNREADABLE as error:
        raise BadMessage(f"a frame of {len(payload)} bytes is not a request: {error}") from error


def id_of_unknown(payload: bytes | bytearray) -> RequestId | None:
    """The id of a request of a kind that a later release may have added; None if it is garbage."""
    try:
        tagged = _tagged_decoder.decode(payload)
    except UNREADABLE:
        return None
    return tagged.id if tagged.kind > REQUEST_KIND_MAX else None


def decode_answer(payload: bytes | bytearray) -> Answer:
    """Read an answer.

    Raises:
        BadMessage: it is none that this release knows.
    """
    try:
        return _answer_decoder.decode(payload)
    except UNREADABLE as error:
        raise BadMessage(f"a frame of {len(payload)} bytes is not an answer: {error}") from error
