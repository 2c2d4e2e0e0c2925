"""What clients and servers say to each other. Frozen: format 1."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from .peers import Address, Configuration, Count, LogIndex, NodeId, Term

FRAME_BYTES_MAX: Final = 64 * 1024 * 1024

ShortText: TypeAlias = Annotated[str, msgspec.Meta(max_length=256)]


class ClientHello(msgspec.Struct, frozen=True, array_like=True):
    magic: str
    version: int
    cluster_id: ShortText
    frame_bytes_max: Count = FRAME_BYTES_MAX
    token: ShortText = ""


class Welcome(msgspec.Struct, frozen=True, array_like=True):
    magic: str
    version: int
    refused: str = ""
    reason: str = ""
    node_id: NodeId = ""
    cluster_id: str = ""
    requests_max: Count = 1
    frame_bytes_max: Count = FRAME_BYTES_MAX
    has_sessions: bool | None = None


class _Opening(msgspec.Struct, frozen=True, array_like=True):
    magic: str
    version: int = 0


RequestId: TypeAlias = Count


class _Tagged(msgspec.Struct, frozen=True, array_like=True):
    kind: Count
    id: RequestId


class Propose(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    id: RequestId
    data: bytes


Consistency: TypeAlias = Literal["linearizable", "lease", "stale"]


class Query(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    id: RequestId
    data: bytes
    consistency: Consistency = "linearizable"


class GetStatus(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    id: RequestId


Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1000000000.0)]


class TransferLeadership(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    id: RequestId
    to: NodeId | None = None
    timeout_s: Seconds | None = None


class AddLearnerRequest(msgspec.Struct, frozen=True, array_like=True, tag=4):
    id: RequestId
    node_id: NodeId
    address: Address | None = None
    expected_index: LogIndex | None = None


class ChangeVotersRequest(msgspec.Struct, frozen=True, array_like=True, tag=5):
    id: RequestId
    ids: tuple[NodeId, ...]
    addresses: dict[NodeId, Address] | None = None
    expected_index: LogIndex | None = None


class RemoveNode(msgspec.Struct, frozen=True, array_like=True, tag=6, gc=False):
    id: RequestId
    node_id: NodeId
    expected_index: LogIndex | None = None


class TakeSnapshot(msgspec.Struct, frozen=True, array_like=True, tag=7, gc=False):
    id: RequestId


class Watch(msgspec.Struct, frozen=True, array_like=True, tag=8, gc=False):
    id: RequestId
    data: bytes


class WatchStatus(msgspec.Struct, frozen=True, array_like=True, tag=9, gc=False):
    id: RequestId
    interval_s: Seconds = 0.1


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag=10, gc=False):
    id: RequestId


class Ping(msgspec.Struct, frozen=True, array_like=True, tag=11, gc=False):
    id: RequestId


class ReplaceNode(msgspec.Struct, frozen=True, array_like=True, tag=12, gc=False):
    id: RequestId
    node_id: NodeId


class InviteNode(msgspec.Struct, frozen=True, array_like=True, tag=13, gc=False):
    id: RequestId
    node_id: NodeId
    valid_s: float


class MoveNode(msgspec.Struct, frozen=True, array_like=True, tag=14, gc=False):
    id: RequestId
    node_id: NodeId
    address: Address
    force: bool = False


class Result(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    id: RequestId
    value: msgspec.Raw


class Failure(msgspec.Struct, frozen=True, array_like=True, tag=1):
    id: RequestId
    kind: str
    message: str
    type_name: str = ""
    leader_id: NodeId | None = None
    leader_address: Address | None = None


class Item(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    id: RequestId
    value: msgspec.Raw


class GoingAway(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    reason: str = ""


class PeerStatus(msgspec.Struct, frozen=True):
    match_index: LogIndex
    next_index: LogIndex
    state: str


class ChangeStatus(msgspec.Struct, frozen=True):
    stage: str
    voters: tuple[NodeId, ...]
    catching_up: tuple[NodeId, ...] = ()


class ServerStatus(msgspec.Struct, frozen=True):
    node_id: NodeId
    cluster_id: str
    role: str
    term: Term
    leader_id: NodeId | None
    last_index: LogIndex
    commit_index: LogIndex
    applied_index: LogIndex
    configuration: Configuration
    configuration_index: LogIndex
    progress: dict[NodeId, PeerStatus]
    last_role_change: str
    is_removed: bool = False
    change: ChangeStatus | None = None
    client_addresses: dict[NodeId, Address] = {}
    connections: int = 0
    links: dict[NodeId, bool] = {}
    waiting_for: tuple[NodeId, ...] = ()
    problems: dict[NodeId, str] = {}
    uuid: str | None = None
    incarnation: Count = 0
    differing: dict[NodeId, LogIndex] = {}
    budgets: dict[str, tuple[Count, Count | None]] = {}
    turned_away: Count = 0
    rejected: Count = 0
    peer_certificate_expires_s: float | None = None
    client_certificate_expires_s: float | None = None
    other_client_addresses: dict[NodeId, tuple[Address, ...]] = {}


class RoleNews(msgspec.Struct, frozen=True, tag="role"):
    node_id: NodeId
    role: str
    previous: str
    term: Term
    reason: str
    missed: int = 0


class StatusNews(msgspec.Struct, frozen=True, tag="status"):
    status: ServerStatus


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
    | Ping
    | ReplaceNode
    | InviteNode
    | MoveNode
)

Answer: TypeAlias = Result | Failure | Item | GoingAway

NodeNews: TypeAlias = RoleNews | StatusNews

Refusal: TypeAlias = Literal["not-a-client", "version", "cluster", "no-role", "too-many", "leaving"]
