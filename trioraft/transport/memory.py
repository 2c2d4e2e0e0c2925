"""A network inside the process: the same frames as TCP's, and every way a network can fail.

Rules of this file:

* Messages are really encoded and decoded; what arrives is what a socket would have brought.
* All randomness comes from the given rng, drawn in the order of the sends: same seed and same
  sends, same deliveries.
* No task per message: each transport is one task, asleep until its earliest message is due.
* A cut is directed and silent, and takes with it what is in flight. A node that ends is noticed
  by the others, as a closed TCP connection would be, unless a cut keeps that from them.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Collection
from functools import partial
from heapq import heapify, heappop, heappush
from typing import TypeAlias, final

import attrs
import trio

from ..core.config import Limits
from ..core.errors import BadMessage, ConfigError
from ..core.messages import Introduction, Message
from ..core.types import Address, NodeId
from ..net.framing import LENGTH_BYTES
from .base import ConnectionRejected, Listening, MessagesDropped, TransportEvent, TransportOwner
from .codec import encode_frame
from .handshake import decode_from

_UNNAMED_GROUP = -1


@final
@attrs.frozen
class NetworkFaults:
    """How messages fare on the way; chances are 0 … 1, and drawn for each message.

    Raises:
        ConfigError: a chance is not within 0 … 1, or a time is negative or not finite.
    """

    delay_s: tuple[float, float] = (0.001, 0.005)
    """Range of the one-way delay, in seconds. A wide one reorders messages."""
    drop: float = 0.0
    """Chance that a message is lost."""
    duplicate: float = 0.0
    """Chance that a message arrives twice; the second copy has a delay of its own."""
    late: tuple[float, float] = (0.0, 0.0)
    """Chance that a message is late, and by how many seconds more."""

    def __attrs_post_init__(self) -> None:
        low, high = self.delay_s
        if not (0 <= low <= high and math.isfinite(high)):
            raise ConfigError(
                f"delay_s is {self.delay_s!r}: give (lower, upper) in seconds, from 0"
            )
        chance, extra_s = self.late
        if not (extra_s >= 0 and math.isfinite(extra_s)):
            raise ConfigError(f"late is {self.late!r}: give (chance, extra seconds), from 0")
        for name, value in (("drop", self.drop), ("duplicate", self.duplicate), ("late", chance)):
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} has the chance {value!r}: give 0 … 1")

    def draw_delay_s(self, rng: random.Random) -> float:
        """Draw how long one copy of a message takes."""
        low, high = self.delay_s
        delay_s = low + (high - low) * rng.random()
        chance, extra_s = self.late
        if chance and rng.random() < chance:
            delay_s += extra_s
        return delay_s


@final
@attrs.frozen
class _PeerEnded:
    """Stands in an inbox for the end of a peer's connection."""


_Parcel: TypeAlias = bytes | _PeerEnded | TransportEvent
"""What waits in an inbox: a frame, the end of its sender, or something to tell the own node."""


@final
@attrs.define(eq=False)
class _Inbox:
    """What is on its way to one running node. Lives as long as the node's `run`."""

    node_id: NodeId
    owner: TransportOwner
    cluster_id: str
    limits: Limits
    due: list[tuple[float, int, NodeId, _Parcel, Introduction | None]] = attrs.Factory(list)
    """A heap: when it arrives, its number, whom it is from, what it is, and what the sender said of
    itself."""
    due_bytes: int = 0
    nap: trio.CancelScope = attrs.Factory(trio.CancelScope)
    """The receiver's sleep; its deadline is when the earliest parcel arrives."""
    dropped: dict[NodeId, int] = attrs.Factory(dict)
    """Messages of this node that found the inbox of that peer full, not told yet."""

    def has_room_for(self, frame: bytes) -> bool:
        limits = self.limits
        return not self.due or (
            len(self.due) < limits.link_queue_messages_max
            and self.due_bytes + len(frame) <= limits.link_queue_bytes_max
        )

    def put(
        self,
        at_s: float,
        number: int,
        sender: NodeId,
        parcel: _Parcel,
        origin: Introduction | None = None,
    ) -> None:
        heappush(self.due, (at_s, number, sender, parcel, origin))
        if type(parcel) is bytes:
            self.due_bytes += len(parcel)
        if at_s < self.nap.deadline:
            self.nap.deadline = at_s

    def lose(self, is_lost: Callable[[NodeId], bool]) -> None:
        """Take out what is in flight from the senders that `is_lost` picks."""
        self.due[:] = [
            item for item in self.due if isinstance(item[3], TransportEvent) or not is_lost(item[2])
        ]
        heapify(self.due)
        self.due_bytes = sum(len(item[3]) for item in self.due if type(item[3]) is bytes)

    async def deliver_forever(self) -> None:
        due = self.due
        while True:
            with trio.CancelScope(deadline=due[0][0] if due else math.inf) as self.nap:
                await trio.sleep_forever()
            now_s = trio.current_time()
            while due and due[0][0] <= now_s:
                _, _, sender, parcel, origin = heappop(due)
                if type(parcel) is bytes and origin is not None:
                    self._deliver(sender, parcel, origin)
                elif isinstance(parcel, TransportEvent):
                    self.owner.on_transport_event(parcel)
                elif isinstance(parcel, _PeerEnded):
                    self.owner.on_peer_lost(sender)
            self.owner.on_batch_end()

    def _deliver(self, sender: NodeId, frame: bytes, origin: Introduction) -> None:
        self.due_bytes -= len(frame)
        try:
            message = decode_from(sender, self.node_id, frame[LENGTH_BYTES:])
            self.owner.on_message(message, origin)
        except BadMessage as error:
            self.lose(lambda other: other == sender)  # as the end of its connection would
            self.owner.on_transport_event(
                ConnectionRejected(trio.current_time(), _address(sender), sender, str(error))
            )


@final
class MemoryNetwork:
    """A network between the nodes of one process (and one Trio run).

    Args:
        rng: the only source of chance.
        delay_s: range of the one-way delay, in seconds.
        drop: chance that a message is lost, 0 … 1.
        duplicate: chance that a message arrives twice, 0 … 1.
        late: chance that a message is late, and by how many seconds more.
        tell_lost: whether the others notice when a node's transport ends, as TCP would let them
            (`on_peer_lost`); False is a network whose machines vanish without a word.

    Raises:
        ConfigError: a value is out of its range.

    What is unreachable is known to nobody: sending goes on, and the messages are lost.
    """

    def __init__(
        self,
        rng: random.Random,
        delay_s: tuple[float, float] = (0.001, 0.005),
        drop: float = 0.0,
        duplicate: float = 0.0,
        *,
        late: tuple[float, float] = (0.0, 0.0),
        tell_lost: bool = True,
    ) -> None:
        self.faults: NetworkFaults = NetworkFaults(delay_s, drop, duplicate, late)
        """How messages fare from now on; assign another value at any time."""
        self.tell_lost = tell_lost
        """Whether the end of a node is noticed by the others; may be changed at any time."""
        self._rng = rng
        self._numbers = itertools.count()
        self._transports: dict[NodeId, MemoryTransport] = {}
        self._inboxes: dict[NodeId, _Inbox] = {}  # of the nodes that run
        self._event_loop: trio.lowlevel.TrioToken | None = None  # theirs
        self._cuts: set[tuple[NodeId, NodeId]] = set()
        self._isolated: set[NodeId] = set()
        self._group_of: dict[NodeId, int] = {}

    def transport(self, node_id: NodeId) -> MemoryTransport:
        """Return the node's transport: one for each id, also after a restart of the node."""
        if node_id not in self._transports:
            self._transports[node_id] = MemoryTransport(self, node_id)
        return self._transports[node_id]

    # -- faults: each takes effect at once, and on what is in flight --------------------------

    def cut(self, sender: NodeId, receiver: NodeId) -> None:
        """Lose everything from `sender` to `receiver`, in this direction only.

        Args:
            sender: whose messages are lost.
            receiver: who does not get them.
        """
        self._cuts.add((sender, receiver))
        self._lose_in_flight()

    def mend(self, sender: NodeId, receiver: NodeId) -> None:
        """Undo `cut` in this direction. A partition or `disconnect` stays.

        Args:
            sender: as for `cut`.
            receiver: as for `cut`.
        """
        self._cuts.discard((sender, receiver))

    def disconnect(self, node_id: NodeId) -> None:
        """Lose everything from and to this node."""
        self._isolated.add(node_id)
        self._lose_in_flight()

    def reconnect(self, node_id: NodeId) -> None:
        """Undo `disconnect`. A partition or `cut` stays."""
        self._isolated.discard(node_id)

    def partition(self, *groups: Collection[NodeId]) -> None:
        """Lose everything between these groups; nodes in none of them form one more.

        It takes the place of an earlier partition; cuts and disconnected nodes stay as they are.

        Raises:
            ConfigError: a node is in two groups.
        """
        group_of: dict[NodeId, int] = {}
        for number, group in enumerate(groups):
            for node_id in group:
                if group_of.setdefault(node_id, number) != number:
                    raise ConfigError(
                        f"node {node_id!r} is in two groups of the partition: name it in one"
                    )
        self._group_of = group_of
        self._lose_in_flight()

    def heal(self) -> None:
        """Undo every cut, partition and disconnection."""
        self._cuts.clear()
        self._isolated.clear()
        self._group_of = {}

    def is_cut(self, sender: NodeId, receiver: NodeId) -> bool:
        """Whether messages from `sender` to `receiver` are lost for certain.

        Args:
            sender: who would send.
            receiver: who would be sent to.
        """
        group_of = self._group_of
        return (
            (sender, receiver) in self._cuts
            or sender in self._isolated
            or receiver in self._isolated
            or group_of.get(sender, _UNNAMED_GROUP) != group_of.get(receiver, _UNNAMED_GROUP)
        )

    def _lose_in_flight(self) -> None:
        for receiver, inbox in self._inboxes.items():
            inbox.lose(partial(self.is_cut, receiver=receiver))

    # -- traffic -------------------------------------------------------------------------------

    def _carry(self, sender: NodeId, message: Message) -> None:
        origin = self._inboxes.get(sender)
        inbox = self._inboxes.get(message.receiver)
        if origin is None or inbox is None or inbox is origin:
            return
        if origin.cluster_id != inbox.cluster_id or self.is_cut(sender, message.receiver):
            return
        faults, rng = self.faults, self._rng
        if faults.drop and rng.random() < faults.drop:
            return
        # There are no connections: each message brings what its sender has said of itself.
        said = origin.owner.introduction(message.receiver)
        if isinstance(message, Introduction):
            said = message
        frame = encode_frame(message)
        copies = 2 if faults.duplicate and rng.random() < faults.duplicate else 1
        for _ in range(copies):
            delay_s = faults.draw_delay_s(rng)
            if inbox.has_room_for(frame):
                at_s = trio.current_time() + delay_s
                inbox.put(at_s, next(self._numbers), sender, frame, said)
                if origin.dropped:
                    self._tell_dropped(origin, message.receiver)
            else:
                origin.dropped[message.receiver] = origin.dropped.get(message.receiver, 0) + 1

    def _tell_dropped(self, origin: _Inbox, receiver: NodeId) -> None:
        """Tell once for each time an inbox was full, when it has room again."""
        count = origin.dropped.pop(receiver, 0)
        if count:
            self._tell(origin, MessagesDropped(trio.current_time(), receiver, count))

    def _tell(self, inbox: _Inbox, event: TransportEvent) -> None:
        """Have the node's own task pass an event on: owners are not called from others' tasks."""
        inbox.put(trio.current_time(), next(self._numbers), inbox.node_id, event)

    # -- nodes ---------------------------------------------------------------------------------

    def _join(self, inbox: _Inbox) -> None:
        if inbox.node_id in self._inboxes:
            raise trio.BusyResourceError(f"the transport of {inbox.node_id!r} already runs")
        event_loop = trio.lowlevel.current_trio_token()
        if self._inboxes and self._event_loop is not event_loop:
            raise ConfigError(
                f"node {inbox.node_id!r} is in another event loop than {sorted(self._inboxes)}, as "
                "nodes of trioraft.aio and trioraft.sync are: a MemoryNetwork is for one. Use "
                "TcpTransport, or open_async_cluster of trioraft.testing"
            )
        self._event_loop = event_loop
        for other in self._inboxes.values():
            if other.cluster_id != inbox.cluster_id:
                self._tell_of_other_cluster(inbox, other)
                self._tell_of_other_cluster(other, inbox)
        self._inboxes[inbox.node_id] = inbox

    def _tell_of_other_cluster(self, inbox: _Inbox, other: _Inbox) -> None:
        reason = (
            f"node {other.node_id!r} belongs to cluster {other.cluster_id!r}, "
            f"this node to {inbox.cluster_id!r}"
        )
        where = _address(other.node_id)
        self._tell(inbox, ConnectionRejected(trio.current_time(), where, None, reason))

    def _leave(self, inbox: _Inbox) -> None:
        """End a node: what is on its way to it is lost, what it sent still arrives."""
        gone = inbox.node_id
        del self._inboxes[gone]
        if not self.tell_lost:
            return
        for other in self._inboxes.values():
            if other.cluster_id == inbox.cluster_id and not self.is_cut(gone, other.node_id):
                in_flight = [item[0] for item in other.due if item[2] == gone]
                delay_s = self.faults.draw_delay_s(self._rng)
                # A stream ends behind its last byte, so this overtakes no message.
                arrives_s = max([trio.current_time() + delay_s, *in_flight])
                other.put(arrives_s, next(self._numbers), gone, _PeerEnded())


@final
class MemoryTransport:
    """One node's end of a `MemoryNetwork`. Made by `MemoryNetwork.transport`."""

    def __init__(self, network: MemoryNetwork, node_id: NodeId) -> None:
        self._network = network
        self._node_id = node_id

    @property
    def node_id(self) -> NodeId:
        """Whose transport this is."""
        return self._node_id

    @property
    def given_peers(self) -> Collection[NodeId]:
        """Nobody: nodes in one process have no addresses."""
        return ()

    def set_peer(self, peer: NodeId, address: Address | None) -> None:
        """As `Transport.set_peer`, but does nothing: nodes in one process reach each other by name,
        members or not."""

    def address_of(self, peer: NodeId) -> Address | None:
        """Return None: nodes in one process have no addresses."""
        return None

    def send(self, message: Message) -> None:
        """Put a message on its way; lose it if its receiver does not run or is cut off."""
        self._network._carry(self._node_id, message)

    async def run(
        self,
        owner: TransportOwner,
        *,
        cluster_id: str,
        limits: Limits,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Deliver messages until cancelled, all from this task. May be run again afterwards.

        Args:
            owner: the node; called from this task only.
            cluster_id: nodes that name another cluster cannot reach this one.
            limits: `link_queue_messages_max` and `link_queue_bytes_max` bound what may be on its
                way to this node.
            task_status: `started()` once messages reach this node.

        Raises:
            trio.BusyResourceError: it is already running.
            ConfigError: other nodes of the network are in another event loop.
        """
        inbox = _Inbox(self._node_id, owner, cluster_id, limits)
        self._network._join(inbox)
        try:
            owner.on_transport_event(Listening(trio.current_time(), _address(self._node_id)))
            task_status.started()
            await inbox.deliver_forever()
        finally:
            self._network._leave(inbox)


def _address(node_id: NodeId) -> str:
    return f"memory:{node_id}"
