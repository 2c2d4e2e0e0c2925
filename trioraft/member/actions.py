"""What a member wants done, and the table by which a runner does it.

An action is the thing itself: a message is to be sent, a write is to be made durable. A runner (the
Trio one in `node`, the simulator's in `sim`) fills in `Runner` with how it does each of them; what
takes time there comes back as an input of the member.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, final, get_args

import attrs

from ..core import events
from ..core.events import TraceEvent
from ..core.messages import Forward, Message
from ..core.ready import ChunkRequest, SnapshotChunk, Write
from ..core.types import Configuration, LogIndex, SnapshotMeta, Term, TraceContext
from .outcomes import Proposed


@attrs.frozen
class Install:
    """A snapshot that was received takes the place of the stored log up to its index."""

    meta: SnapshotMeta
    identity: bytes | None = None
    """Opaque record of whose disk this is; None leaves what is stored."""


@attrs.frozen
class Compact:
    """Forget the stored entries up to this index, which has this term."""

    base_index: LogIndex
    base_term: Term


StorageStep: TypeAlias = Write | Install | SnapshotChunk | Compact
"""One call of a storage. There is never more than one on its way."""


@attrs.frozen
class Apply:
    """Work waits in the apply queue. Until `Member.applies` is empty again: bring the state machine
    to where `Member.to_restore` stands, if there is one, and say `on_restored`; otherwise call
    `apply_next`."""


@attrs.frozen
class SaveSnapshot:
    """Store this view of the state machine; then `on_snapshot_saved`, or `_unsaved`. Entries go on
    being applied meanwhile."""

    index: LogIndex
    term: Term
    configuration: Configuration
    chunks: Iterable[bytes]


@attrs.frozen
class AdmitClients:
    """This member has just begun to lead, and says nothing until `Member.go_on`: whoever waits for
    a leader may propose first. Its first entry and theirs are one message then, and one write."""


Action: TypeAlias = (
    Message | StorageStep | Apply | SaveSnapshot | ChunkRequest | AdmitClients | TraceEvent
)
Perform: TypeAlias = Mapping[type[Any], Callable[[Any], object]]


@final
class Unawaited:
    """A proposal for whose outcome nobody here waits: it was forwarded to this member."""

    def __init__(self) -> None:
        self.index: LogIndex = 0
        self.term: Term = 0
        self.is_repeatable = True
        self.trace: TraceContext | None = None

    def resolve(self, value: Any) -> None:
        """Whoever has forwarded it learns that from its own log."""

    def reject(self, error: Exception) -> None:
        """Likewise."""

    def fail(self, error: Exception) -> None:
        """Likewise."""


def always_room(_message: Forward) -> Unawaited:
    """How a runner that bounds nothing takes commands of other members."""
    return Unawaited()


@attrs.frozen
class Runner:
    """How each kind of action is done. None of these may wait, or bring the member an input and
    then run it: what is known at once is brought as an input, and seen to in the same `run`."""

    send: Callable[[Message], object]
    store: Callable[[StorageStep], object]
    """Durably; then `Member.on_stored`, or `on_disk_full` as often as there is no room."""
    apply: Callable[[Apply], object]
    save_snapshot: Callable[[SaveSnapshot], object]
    read_chunk: Callable[[ChunkRequest], object]
    """Read it from the storage; then `Member.on_chunk_read` or `on_snapshot_gone`."""
    admit_clients: Callable[[AdmitClients], object]
    tell: Callable[[TraceEvent], object]
    make_room: Callable[[Forward], Proposed | None] = always_room
    """Room for a command that another member has forwarded here, until it has its outcome; None:
    there is none. No action: it is asked for."""

    def table(self) -> Perform:
        """By the type of the action, so that carrying one out costs one look and one call."""
        return {
            **dict.fromkeys(get_args(Message), self.send),
            **dict.fromkeys(get_args(StorageStep), self.store),
            **dict.fromkeys(_event_types(), self.tell),
            Apply: self.apply,
            SaveSnapshot: self.save_snapshot,
            ChunkRequest: self.read_chunk,
            AdmitClients: self.admit_clients,
        }


def _event_types() -> list[type[TraceEvent]]:
    kinds = (kind for kind in vars(events).values() if isinstance(kind, type))
    return [kind for kind in kinds if issubclass(kind, TraceEvent)]
