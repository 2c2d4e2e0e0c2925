"""The multiplexer: many groups' messages in one frame, each group's trouble its own."""

from __future__ import annotations

import random
from collections.abc import Collection

import pytest
import trio
from trio.testing import MockClock

from tests.groups.support import Counting, open_processes
from tests.support import introduction
from trioraft.core.config import Limits, Timing
from trioraft.core.errors import ApplyFailed, BadMessage, PeerRefused
from trioraft.core.messages import (
    AppendEntries,
    GroupMessage,
    GroupNote,
    GroupsFrame,
    Introduction,
    Message,
    RequestVote,
)
from trioraft.core.types import Address, Entry, Incarnation, NodeId
from trioraft.groups import notes
from trioraft.groups.host import GROUPS_OVERHEAD_BYTES, open_group, open_groups
from trioraft.groups.multiplexer import KEPT_BYTES_MAX, KEPT_MAX, GroupTransport, Multiplexer
from trioraft.storage.groups import MemoryGroupStorages
from trioraft.transport.base import ConnectionRejected, TransportEvent, TransportOwner
from trioraft.transport.codec import encode_message
from trioraft.transport.memory import MemoryNetwork


class Line:
    """A transport that keeps what it was given."""

    node_id = "a"
    given_peers = ()

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.peers: dict[NodeId, Address | None] = {}

    async def run(
        self,
        owner: TransportOwner,
        *,
        cluster_id: str,
        limits: Limits,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        task_status.started()

    def send(self, message: Message) -> None:
        self.sent.append(message)

    def set_peer(self, peer: NodeId, address: Address | None) -> None:
        self.peers[peer] = address

    def address_of(self, peer: NodeId) -> Address | None:
        return None


class Table:
    """The host, as far as the multiplexer knows it."""

    def __init__(self) -> None:
        self.absent: list[GroupMessage] = []
        self.failed: list[tuple[str, Exception]] = []
        self.events: list[TransportEvent] = []
        self.members = {"b"}

    def leads(self) -> int:
        return 5

    def on_absent(self, peer: NodeId, message: GroupMessage) -> None:
        self.absent.append(message)

    def on_note(self, peer: NodeId, note: GroupNote) -> None:
        pass

    def on_heard(self, peer: NodeId, life: Incarnation, leads: int) -> bool:
        return False

    def on_process_lost(self, peer: NodeId) -> None:
        pass

    def on_group_failed(self, group: str, error: Exception) -> None:
        self.failed.append((group, error))

    def has_member(self, peer: NodeId) -> bool:
        return peer in self.members

    def on_transport_event(self, event: TransportEvent) -> None:
        self.events.append(event)


class Owner:
    """A group's node."""

    timing = Timing()

    def __init__(self, group: str) -> None:
        self.said = introduction("a", "b", voters=(group,))
        self.heard: list[Message] = []
        self.refuses: Exception | None = None

    def introduction(self, peer: NodeId) -> Introduction:
        return self.said

    def disk_of(self, peer: NodeId) -> Incarnation | None:
        return None

    def on_introduction(self, said: Introduction) -> None:
        pass

    def on_message(self, message: Message, origin: Introduction) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.heard.append(message)

    def on_batch_end(self) -> None:
        pass

    def on_peer_lost(self, peer: NodeId) -> None:
        pass

    def on_seen_at(self, peer: NodeId, address: Address) -> None:
        pass

    def addresses_told_of(self, peer: NodeId) -> Collection[Address]:
        return ()

    def on_transport_event(self, event: TransportEvent) -> None:
        pass


def opened(
    *groups: str, limits: Limits | None = None
) -> tuple[Multiplexer, Line, Table, dict[str, Owner]]:
    """A multiplexer with nodes of these groups."""
    line, table = Line(), Table()
    multiplexer = Multiplexer(
        line, table, timing=Timing(), limits=limits or Limits(), life=7, rng=random.Random(1)
    )
    owners = {}
    for group in groups:
        transport = multiplexer.running[group] = GroupTransport(multiplexer, group)
        transport.owner = owners[group] = Owner(group)
    return multiplexer, line, table, owners


PROCESS = introduction("b", "a", features=(notes.FEATURE,))


def vote(sender: NodeId = "b", receiver: NodeId = "a") -> RequestVote:
    return RequestVote(sender, receiver, 3, 1, 1)


def frame(*parts: tuple[str, int, Message]) -> GroupsFrame:
    """From the other process."""
    messages = tuple(
        GroupMessage(group, said, encode_message(message)) for group, said, message in parts
    )
    return GroupsFrame("b", "a", 0, messages)


async def test_the_messages_of_a_pass_leave_in_one_frame() -> None:
    multiplexer, line, _, _ = opened("x", "y", "z")
    for group in ("x", "y", "z"):
        multiplexer.running[group].send(vote("a", "b"))
    multiplexer.flush()
    (only,) = line.sent
    assert isinstance(only, GroupsFrame)
    # What each node says of itself goes ahead of its first message.
    assert [part.group for part in only.messages] == ["x", "x", "y", "y", "z", "z"]
    assert only.leads == 5
    multiplexer.running["x"].send(vote("a", "b"))
    multiplexer.flush()
    second = line.sent[1]
    assert isinstance(second, GroupsFrame)
    assert len(second.messages) == 1  # it was said already


async def test_urgent_messages_go_first_and_small_groups_before_large_ones() -> None:
    multiplexer, line, _, _ = opened("x", "y")
    large = AppendEntries("a", "b", 3, 1, 1, (Entry(2, 3, bytes(400_000)),), 1)
    small = AppendEntries("a", "b", 3, 1, 1, (Entry(2, 3, b"little"),), 1)
    empty = AppendEntries("a", "b", 3, 2, 3, (), 1)
    for group, message in (("x", large), ("y", small), ("x", empty), ("y", vote("a", "b"))):
        multiplexer.running[group].send(message)
    multiplexer.flush()
    frames = [sent for sent in line.sent if isinstance(sent, GroupsFrame)]
    assert [one.is_bulk for one in frames] == [False, True, True, True]
    order = [part.group for one in frames if one.is_bulk for part in one.messages]
    assert order == ["y", "x", "x"]  # and the empty one does not overtake what it asks about


async def test_no_frame_is_larger_than_any_process_takes() -> None:
    """Neither by what is in it, nor by the names of many groups, nor by notes."""
    limits = Limits(
        frame_bytes_max=32 * 1024,
        append_bytes_max=8 * 1024,
        command_bytes_max=8 * 1024,
        snapshot_chunk_bytes=8 * 1024,
    )
    names = [f"{number:064}" for number in range(1500)]
    multiplexer, line, _, _ = opened(*names, limits=limits)
    for group in names:
        entry = Entry(2, 3, bytes(8 * 1024 if group in names[:20] else 10))
        multiplexer.running[group].send(AppendEntries("a", "b", 3, 1, 1, (entry,), 1))
        multiplexer.running[group].send(vote("a", "b"))
        multiplexer.note("b", GroupNote(group, notes.WAKE, 3, 1))
    multiplexer.flush()
    frames = [sent for sent in line.sent if isinstance(sent, GroupsFrame)]
    taken_bytes = limits.frame_bytes_max + GROUPS_OVERHEAD_BYTES
    assert max(len(encode_message(one)) for one in frames) <= taken_bytes
    assert sorted(note.group for one in frames for note in one.notes) == names
    sent = sorted(part.group for one in frames for part in one.messages)
    assert sent == sorted(3 * names)  # what each says of itself, too


async def test_what_waits_for_a_node_is_bounded_in_bytes() -> None:
    multiplexer, _, _, owners = opened()
    multiplexer.keep("b", GroupMessage("x", 1, encode_message(introduction("b", "a"))))
    large = AppendEntries("b", "a", 3, 1, 1, (Entry(2, 3, bytes(KEPT_BYTES_MAX)),), 1)
    for _ in range(3):
        multiplexer.keep("b", GroupMessage("x", 1, encode_message(large)))
    transport = multiplexer.running["x"] = GroupTransport(multiplexer, "x")
    transport.owner = owners["x"] = Owner("x")
    multiplexer.hand_over_kept("x")
    assert len(owners["x"].heard) == 2  # one alone may always wait: it is needed


async def test_the_trouble_of_one_group_is_no_other_groups() -> None:
    multiplexer, _, table, owners = opened("x", "y")
    owners["x"].refuses = BadMessage("no correct member says this")
    said = introduction("b", "a")
    multiplexer.on_message(
        frame(("x", 1, said), ("y", 1, said), ("x", 1, vote()), ("y", 1, vote())), PROCESS
    )
    assert owners["y"].heard == [said, vote()]
    (event,) = table.events
    assert isinstance(event, ConnectionRejected)
    assert (event.remote, event.peer) == ("group x", "b")
    owners["x"].refuses = None
    multiplexer.on_message(frame(("x", 1, vote())), PROCESS)
    assert owners["x"].heard == []  # it is not listened to for a moment


async def test_the_error_of_a_node_is_that_groups() -> None:
    multiplexer, _, table, owners = opened("x", "y")
    owners["x"].refuses = error = RuntimeError("the node of x fails")
    said = introduction("b", "a")
    multiplexer.on_message(frame(("x", 1, said), ("y", 1, said)), PROCESS)
    assert table.failed == [("x", error)]
    assert owners["y"].heard == [said]


async def test_who_was_not_introduced_is_asked_and_not_heard() -> None:
    multiplexer, line, _, owners = opened("x")
    multiplexer.on_message(frame(("x", 4, vote()), ("x", 4, vote())), PROCESS)
    multiplexer.on_batch_end()
    assert owners["x"].heard == []
    (asked,) = line.sent
    assert isinstance(asked, GroupsFrame)
    assert asked.notes == (GroupNote("x", notes.WHO),)
    multiplexer.on_message(frame(("x", 4, introduction("b", "a")), ("x", 4, vote())), PROCESS)
    assert owners["x"].heard[1:] == [vote()]
    multiplexer.on_message(GroupsFrame("b", "a", 0, (), (GroupNote("x", notes.WHO),)), PROCESS)
    multiplexer.on_batch_end()
    answer = line.sent[-1]
    assert isinstance(answer, GroupsFrame)
    assert answer.messages[0].payload == encode_message(owners["x"].said)


@pytest.mark.parametrize(
    "wrong",
    [
        frame(("x", 1, vote(sender="c"))),
        frame(("x", 1, vote(receiver="c"))),
        GroupsFrame("b", "a", 0, (GroupMessage("x", 1, b"no message"),)),
        frame(("x", 1, GroupsFrame("b", "a", 0))),
        vote(),
    ],
    ids=["another sender", "another receiver", "no message", "a frame in a frame", "no frame"],
)
async def test_what_no_process_says_costs_the_connection(wrong: Message) -> None:
    multiplexer, _, _, owners = opened("x")
    with pytest.raises(BadMessage):
        multiplexer.on_message(wrong, PROCESS)
    assert owners["x"].heard == []


async def test_a_node_of_one_group_is_no_process_of_many() -> None:
    multiplexer, _, _, _ = opened("x")
    with pytest.raises(PeerRefused, match="a node of one group"):
        multiplexer.on_introduction(introduction("b", "a"))
    with pytest.raises(PeerRefused):
        multiplexer.on_message(frame(), introduction("b", "a"))


async def test_a_process_stays_known_while_any_group_has_a_member_there() -> None:
    multiplexer, line, table, _ = opened("x", "y")
    multiplexer.running["x"].set_peer("b", ("10.0.0.2", 7000))
    multiplexer.running["x"].set_peer("b", None)
    assert line.peers == {"b": ("10.0.0.2", 7000)}
    table.members.clear()
    multiplexer.running["x"].set_peer("b", None)
    assert line.peers == {"b": None}


async def test_what_waits_for_a_node_is_bounded() -> None:
    multiplexer, _, _, owners = opened()
    multiplexer.keep("b", GroupMessage("x", 1, encode_message(introduction("b", "a"))))
    for _ in range(2 * KEPT_MAX):
        multiplexer.keep("b", GroupMessage("x", 1, encode_message(vote())))
    transport = multiplexer.running["x"] = GroupTransport(multiplexer, "x")
    transport.owner = owners["x"] = Owner("x")
    multiplexer.hand_over_kept("x")
    assert len(owners["x"].heard) == KEPT_MAX


class Failing(Counting):
    """A machine that this process cannot go on with."""

    def apply(self, index: int, data: bytes) -> int:
        if data == b"fail":
            raise MemoryError("of this machine alone")
        return super().apply(index, data)


async def test_a_machine_that_fails_ends_its_own_group_alone(autojump_clock: MockClock) -> None:
    network = MemoryNetwork(random.Random(1))
    async with open_groups(
        "a", storage=MemoryGroupStorages(), transport=network.transport("a")
    ) as groups:
        async with open_group(groups, "y", voters=("a",), machine=Counting()) as other:
            with pytest.raises(ApplyFailed):
                async with open_group(groups, "x", voters=("a",), machine=Failing()) as group:
                    await group.propose(b"fail")
            assert await other.propose(b"1") == 1
        assert len(groups) == 0


async def test_groups_that_are_not_here_are_answered_and_forgotten(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork(random.Random(1))
    async with open_processes(("x",), network) as processes:
        host = processes["a"].groups._host
        for number in range(1000):
            host.on_absent("b", GroupMessage(f"stranger{number}", 1, b""))
        assert len(host.multiplexer._kept) == 0
        assert await processes["a"].open["x"].forward(b"1") == 1
