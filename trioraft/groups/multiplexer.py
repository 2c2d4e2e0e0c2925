"""Multiplexer: the messages of all groups between two processes, over one transport.

Rules of this file:

* Each group's node has a `GroupTransport`, and takes it for a transport of its own. What nodes send
  in one pass of the scheduler leaves in one frame for each process: one of what is urgent, and
  others of entries and snapshots.
* A member's messages say by a number what it has said of itself before (`Introduction`), which
  goes ahead of the first one. Whoever lacks that asks, and drops the message: Raft repeats it.
* What a member will not have from another member costs these two their exchange in this group, for
  a moment, and nobody else anything. What is no message costs the connection: that is the process.
* An error of one group's node is that group's.
"""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Callable, Collection, Iterator
from typing import Final, Protocol, final

import attrs
import msgspec
import trio

from ..core.config import Limits, Timing
from ..core.errors import BadMessage, PeerRefused
from ..core.messages import (
    GROUPS_IN_FRAME_MAX,
    AppendEntries,
    GroupMessage,
    GroupNote,
    GroupsFrame,
    Introduction,
    Message,
)
from ..core.types import Address, Incarnation, NodeId
from ..tasks.wakeup import Wakeup
from ..transport.base import (
    ConnectionRejected,
    LinkReplaced,
    LinkUp,
    Transport,
    TransportEvent,
    TransportOwner,
)
from ..transport.codec import encode_message
from ..transport.handshake import decode_from
from ..transport.outgoing import is_bulk
from . import notes

KEPT_MAX: Final = 64
"""Messages that wait for one group's node to be opened; further ones are lost, as on any line."""
KEPT_BYTES_MAX: Final = 1024 * 1024
"""And so many bytes of them, or less than one message more: one alone must be able to wait."""
PART_BYTES_MAX: Final = 96
"""What a message or a note of a group takes in a frame beside its payload: its name, most of it."""
NOTES_MAX: Final = 256
"""Most notes in one frame, beside messages: less than `GROUPS_OVERHEAD_BYTES` of them."""
MUTED_TIMEOUTS: Final = 1.0
"""For so many of the longest election timeouts a member is not listened to that has said what no
member says."""
TOLD_MAX: Final = 1000
"""Groups of which it is told that a peer speaks of them and they are not here, or was refused."""


class MultiplexerHost(Protocol):
    """Who knows the groups. None of these may block."""

    def leads(self) -> int:
        """How many groups this process leads."""

    def on_absent(self, peer: NodeId, message: GroupMessage) -> None:
        """A message for a group that has no node at this moment."""

    def on_note(self, peer: NodeId, note: GroupNote) -> None:
        """What another process says of a group; `WHO` is not among it."""

    def on_heard(self, peer: NodeId, life: Incarnation, leads: int) -> bool:
        """A frame has come. Returns whether it is the first of this life of that process."""

    def on_process_lost(self, peer: NodeId) -> None:
        """A connection with this process has ended."""

    def on_group_failed(self, group: str, error: Exception) -> None:
        """What its node was handed has made it fail."""

    def has_member(self, peer: NodeId) -> bool:
        """Whether any group here, awake or not, has a member in that process."""

    def on_transport_event(self, event: TransportEvent) -> None:
        """Something that belongs into the log."""


@attrs.define
class _Pass:
    """What leaves for one process in this pass."""

    urgent: list[GroupMessage] = attrs.Factory(list)
    bulk: list[GroupMessage] = attrs.Factory(list)
    bulk_groups: set[str] = attrs.Factory(set)
    notes: list[GroupNote] = attrs.Factory(list)


@final
class GroupTransport:
    """The transport of one group's node, as `Transport` has it. Made by `Multiplexer.transport`."""

    __slots__ = ("_asked_s", "_heard", "_multiplexer", "_muted_until_s", "_told", "group", "owner")

    def __init__(self, multiplexer: Multiplexer, group: str) -> None:
        self.group = group
        self.owner: TransportOwner | None = None
        self._multiplexer = multiplexer
        self._told: dict[NodeId, tuple[Introduction, int]] = {}  # what we have said, its number
        self._heard: dict[NodeId, tuple[int, Introduction]] = {}  # what they have said last
        self._asked_s: dict[NodeId, float] = {}
        self._muted_until_s: dict[NodeId, float] = {}

    @property
    def node_id(self) -> NodeId:
        """Whose transport this is."""
        return self._multiplexer.node_id

    @property
    def given_peers(self) -> Collection[NodeId]:
        """Nobody: the processes are not all in every group; its voters are named to it."""
        return ()

    def address_of(self, peer: NodeId) -> Address | None:
        """Where that process can be reached."""
        return self._multiplexer.real.address_of(peer)

    def set_peer(self, peer: NodeId, address: Address | None) -> None:
        """As `Transport.set_peer`: a process leaves when it is in no group any more."""
        self._multiplexer.set_peer(peer, address)

    async def run(
        self,
        owner: TransportOwner,
        *,
        cluster_id: str,
        limits: Limits,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Take part until cancelled.

        Args:
            owner: the group's node.
            cluster_id: of the group; the processes have agreed on theirs.
            limits: those of the process count.
            task_status: `started()` at once.
        """
        self.owner = owner
        self._multiplexer.running[self.group] = self
        try:
            task_status.started()
            await trio.lowlevel.checkpoint()
            self._multiplexer.hand_over_kept(self.group)
            await trio.sleep_forever()
        finally:
            self.owner = None
            if self._multiplexer.running.get(self.group) is self:
                del self._multiplexer.running[self.group]

    # -- to others -------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Let a message leave with this pass, after what the receiver has to know of us."""
        owner, peer = self.owner, message.receiver
        if owner is None:
            return
        told = self._told.get(peer)
        current = owner.introduction(peer)
        if type(message) is Introduction:
            number = self._number_of(message, current)
            self._multiplexer.put(self.group, number, message)
            return
        if told is None or told[0] is not current:
            told = self._told[peer] = (current, self._multiplexer.next_number())
            self._multiplexer.put(self.group, told[1], current)
        self._multiplexer.put(self.group, told[1], message)

    def _number_of(self, said: Introduction, current: Introduction) -> int:
        """It may be what we say at this moment, as a question; or what we have said before."""
        peer = said.receiver
        number = self._multiplexer.next_number()
        if said is current or msgspec.structs.replace(said, wants_reply=False) == current:
            self._told[peer] = (current, number)
        return number

    def say_again(self, peer: NodeId) -> None:
        """That process does not know what this node has said of itself."""
        if self.owner is not None:
            current = self.owner.introduction(peer)
            told = self._told[peer] = (current, self._multiplexer.next_number())
            self._multiplexer.put(self.group, told[1], current)

    def forget(self, peer: NodeId, *, is_gone: bool) -> None:
        """What was said to that process may be lost; `is_gone`: what it has said counts no more."""
        self._told.pop(peer, None)
        if is_gone:
            self._heard.pop(peer, None)
            self._asked_s.pop(peer, None)

    # -- from others -----------------------------------------------------------------------

    def take(self, said: int, message: Message) -> None:
        """A message has come for this group.

        Raises:
            Exception: what the node makes of it, `BadMessage` apart.
        """
        owner, peer = self.owner, message.sender
        now = trio.current_time()
        if owner is None or now < self._muted_until_s.get(peer, now):
            return
        heard = self._heard.get(peer)
        if type(message) is Introduction:
            heard = self._heard[peer] = (said, message)
            self._asked_s.pop(peer, None)
        elif heard is None or heard[0] != said:
            self._ask(peer, now)
            return
        try:
            owner.on_message(message, heard[1])
        except BadMessage as error:
            self._muted_until_s[peer] = now + MUTED_TIMEOUTS * owner.timing.election_timeout_s[1]
            self.forget(peer, is_gone=True)
            self._multiplexer.note_refused(self.group, peer, str(error))

    def _ask(self, peer: NodeId, now: float) -> None:
        """Have the member say who it is, and not for each of its messages."""
        pause_s = self._multiplexer.timing.heartbeat_interval_s
        if now - self._asked_s.get(peer, -pause_s) >= pause_s:
            self._asked_s[peer] = now
            self._multiplexer.note(peer, GroupNote(self.group, notes.WHO))


@final
class Multiplexer:
    """The owner of the process's transport: a `TransportOwner`.

    Args:
        real: the process's transport.
        host: who knows the groups.
        timing: as all groups have it.
        limits: of the process.
        life: the number of this life of the process.
        rng: where numbers begin.
    """

    def __init__(
        self,
        real: Transport,
        host: MultiplexerHost,
        *,
        timing: Timing,
        limits: Limits,
        life: Incarnation,
        rng: random.Random,
    ) -> None:
        self.real: Final = real
        self.node_id: Final = real.node_id
        self.running: Final[dict[str, GroupTransport]] = {}
        """Those whose node is there."""
        self._host = host
        self._timing = timing
        self._frame_bytes = min(notes.BULK_BYTES, limits.frame_bytes_max)  # a frame is no larger
        self._life = life
        self._said: dict[NodeId, Introduction] = {}
        self._admitted: dict[NodeId, Introduction] = {}
        self._numbers = itertools.count(rng.getrandbits(40) << 16)
        self._passes: dict[NodeId, _Pass] = {}
        self._work = Wakeup()
        self._touched: dict[str, GroupTransport] = {}
        self._kept: dict[str, deque[tuple[NodeId, GroupMessage]]] = {}
        self._addresses: dict[NodeId, Address] = {}
        self._refused: dict[tuple[str, NodeId], str] = {}

    # -- the transport's owner -------------------------------------------------------------

    @property
    def timing(self) -> Timing:
        """When nodes lose patience."""
        return self._timing

    def introduction(self, peer: NodeId) -> Introduction:
        """What this process says of itself: its life, and that it is one of many groups. Whose
        disks its members are, they say themselves."""
        said = self._said.get(peer)
        if said is None:
            said = self._said[peer] = Introduction(
                self.node_id, peer, 0, self._life, features=(notes.FEATURE,)
            )
        return said

    def disk_of(self, peer: NodeId) -> Incarnation | None:
        """None: a process has no disk of its own."""
        return None

    def on_introduction(self, said: Introduction) -> None:
        """Another process is there. Raises PeerRefused if it is none of many groups."""
        if notes.FEATURE not in said.features:
            raise PeerRefused(
                f"{said.sender!r} is a node of one group, and {self.node_id!r} a process of many "
                "(open_groups): give them different names of the cluster, or open both alike"
            )
        self._admitted[said.sender] = said

    def on_message(self, message: Message, origin: Introduction) -> None:
        """A frame. Raises BadMessage if no correct process sends it."""
        peer = origin.sender
        if self._admitted.get(peer) is not origin:
            self.on_introduction(origin)
        if type(message) is Introduction:
            return
        if type(message) is not GroupsFrame:
            raise BadMessage(f"{type(message).__name__} of no group came from process {peer!r}")
        if self._host.on_heard(peer, origin.incarnation, message.leads):
            for transport in list(self.running.values()):
                transport.forget(peer, is_gone=True)
        for part in message.messages:
            transport_or_none = self.running.get(part.group)
            if transport_or_none is None:
                self._host.on_absent(peer, part)
            else:
                self._hand_over(transport_or_none, peer, part)
        for note in message.notes:
            if note.kind != notes.WHO:
                self._host.on_note(peer, note)
            elif note.group in self.running:
                self.running[note.group].say_again(peer)

    def decoded(self, peer: NodeId, part: GroupMessage) -> Message:
        """Raises BadMessage: it is none, or another member's."""
        message = decode_from(peer, self.node_id, part.payload)
        if type(message) is GroupsFrame:
            raise BadMessage(f"process {peer!r} sent a frame of groups within one")
        return message

    def _hand_over(self, transport: GroupTransport, peer: NodeId, part: GroupMessage) -> None:
        message = self.decoded(peer, part)
        self._touched[transport.group] = transport
        try:
            transport.take(part.said, message)
        except Exception as error:  # noqa: BLE001 - that group's, whatever it is
            self._host.on_group_failed(transport.group, error)

    def on_batch_end(self) -> None:
        """What had arrived was handed over: the nodes act on it, and their answers leave."""
        while self._touched:
            _, transport = self._touched.popitem()
            self._guarded(transport, lambda owner: owner.on_batch_end())
        self.flush()

    def _guarded(self, transport: GroupTransport, call: Callable[[TransportOwner], object]) -> None:
        owner = transport.owner
        if owner is None:
            return
        try:
            call(owner)
        except Exception as error:  # noqa: BLE001 - that group's, whatever it is
            self._host.on_group_failed(transport.group, error)

    def on_peer_lost(self, peer: NodeId) -> None:
        """A connection with that process ended: a hint for each group."""
        self._admitted.pop(peer, None)
        for transport in list(self.running.values()):
            transport.forget(peer, is_gone=False)
            self._guarded(transport, lambda owner: owner.on_peer_lost(peer))
        self._host.on_process_lost(peer)
        self.flush()

    def on_seen_at(self, peer: NodeId, address: Address) -> None:
        """Nothing: where processes are, the transport knows, and no group's log has to."""

    def addresses_told_of(self, peer: NodeId) -> Collection[Address]:
        """None: processes do not tell each other."""
        return ()

    def on_transport_event(self, event: TransportEvent) -> None:
        """Something that belongs into the log of the process."""
        if isinstance(event, LinkUp | LinkReplaced):  # what was said before may be lost
            for transport in list(self.running.values()):
                transport.forget(event.peer, is_gone=False)
        self._host.on_transport_event(event)

    # -- what leaves -----------------------------------------------------------------------

    def next_number(self) -> int:
        """Of something that a member says of itself."""
        return next(self._numbers)

    def set_peer(self, peer: NodeId, address: Address | None) -> None:
        """As the groups' configurations say; the newest word counts."""
        if address is None:
            if not self._host.has_member(peer):
                self._addresses.pop(peer, None)
                self.real.set_peer(peer, None)
        elif self._addresses.get(peer) != address:
            self._addresses[peer] = address
            self.real.set_peer(peer, address)

    def put(self, group: str, said: int, message: Message) -> None:
        """Let a member's message leave with this pass."""
        waiting = self._pass_to(message.receiver)
        part = GroupMessage(group, said, encode_message(message))
        # An empty one must not overtake what it asks about.
        is_behind = type(message) is AppendEntries and group in waiting.bulk_groups
        if is_behind or is_bulk(message):
            waiting.bulk.append(part)
            waiting.bulk_groups.add(group)
        else:
            waiting.urgent.append(part)

    def note(self, peer: NodeId, note: GroupNote) -> None:
        """Let a note leave with this pass."""
        self._pass_to(peer).notes.append(note)

    def _pass_to(self, peer: NodeId) -> _Pass:
        waiting = self._passes.get(peer)
        if waiting is None:
            waiting = self._passes[peer] = _Pass()
            self._work.set()
        return waiting

    async def run_sender(self) -> None:
        """Come round once for all that was sent meanwhile, until cancelled."""
        while True:
            await self._work.wait()
            self.flush()

    def flush(self) -> None:
        """All of it leaves."""
        passes, self._passes = self._passes, {}
        if not passes:
            return
        leads = self._host.leads()
        for peer, waiting in passes.items():
            for frame in self._frames(peer, waiting, leads):
                self.real.send(frame)

    def send_pulse(self, peer: NodeId) -> None:
        """Be heard by that process, which has nothing else to hear."""
        self.real.send(GroupsFrame(self.node_id, peer, 0, leads=self._host.leads()))

    def _frames(self, peer: NodeId, waiting: _Pass, leads: int) -> Iterator[GroupsFrame]:
        size_bytes = self._frame_bytes
        urgent = _in_frames(waiting.urgent, size_bytes)
        for at in range(0, len(waiting.notes), NOTES_MAX):
            said = tuple(waiting.notes[at : at + NOTES_MAX])
            yield GroupsFrame(self.node_id, peer, 0, next(urgent, ()), said, leads)
        for parts in urgent:
            yield GroupsFrame(self.node_id, peer, 0, parts, (), leads)
        for parts in _in_frames(_fairly(waiting.bulk), size_bytes):
            yield GroupsFrame(self.node_id, peer, 0, parts, (), leads, is_bulk=True)

    # -- messages that wait for a node -----------------------------------------------------

    def keep(self, peer: NodeId, part: GroupMessage) -> None:
        """Until the group's node is there."""
        kept = self._kept.setdefault(part.group, deque())
        kept_bytes = sum(len(each.payload) for _, each in kept)
        if len(kept) < KEPT_MAX and kept_bytes < KEPT_BYTES_MAX:
            kept.append((peer, part))

    def hand_over_kept(self, group: str) -> None:
        """It is there."""
        transport = self.running.get(group)
        for peer, part in self._kept.pop(group, ()):
            if transport is not None:
                try:
                    self._hand_over(transport, peer, part)
                except BadMessage as error:
                    self.note_refused(group, peer, str(error))
        self.on_batch_end()

    def forget_kept(self, group: str) -> None:
        """The group is not here any more."""
        self._kept.pop(group, None)

    # -- what is told ----------------------------------------------------------------------

    def note_refused(self, group: str, peer: NodeId, reason: str) -> None:
        """A member of that process is not listened to in this group: told once for each reason."""
        key = (group, peer)
        if self._refused.get(key) == reason:
            return
        if len(self._refused) >= TOLD_MAX:
            del self._refused[next(iter(self._refused))]
        self._refused[key] = reason
        event = ConnectionRejected(trio.current_time(), f"group {group}", peer, reason)
        self._host.on_transport_event(event)


def _in_frames(
    parts: Collection[GroupMessage], bytes_max: int
) -> Iterator[tuple[GroupMessage, ...]]:
    """In frames of so many bytes at most, or of one part."""
    frame: list[GroupMessage] = []
    size_bytes = 0
    for part in parts:
        part_bytes = len(part.payload) + PART_BYTES_MAX
        if frame and (size_bytes + part_bytes > bytes_max or len(frame) >= GROUPS_IN_FRAME_MAX):
            yield tuple(frame)
            frame, size_bytes = [], 0
        frame.append(part)
        size_bytes += part_bytes
    if frame:
        yield tuple(frame)


def _fairly(parts: list[GroupMessage]) -> list[GroupMessage]:
    """Whoever has least to send goes first; each group's own in their order."""
    sizes: dict[str, int] = {}
    for part in parts:
        sizes[part.group] = sizes.get(part.group, 0) + len(part.payload)
    return sorted(parts, key=lambda part: sizes[part.group]) if len(sizes) > 1 else parts
