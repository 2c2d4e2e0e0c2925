"""The log index, as commands see it: where they stand, the same on every node."""

from __future__ import annotations

import msgspec
import pytest
from trio.testing import MockClock

from tests.replicated.support import open_objects
from trioraft import ConfigError
from trioraft.machines.replicated import ReplicatedObject, command, query
from trioraft.machines.sessions import SessionMachine, encode_plain


class Tickets(ReplicatedObject):
    """Numbers nobody else has."""

    drawn: list[int] = msgspec.field(default_factory=list)

    @command
    def draw(self) -> int:
        """One."""
        self.drawn.append(self.log_index)
        return self.log_index

    @command
    def refuse(self) -> None:
        """Raises in the middle."""
        raise LookupError(str(self.log_index))

    @query
    def peek(self) -> int:
        """Asks where there is none."""
        return self.log_index


async def test_every_node_sees_the_index_of_the_entry(autojump_clock: MockClock) -> None:
    async with open_objects(Tickets) as objects:
        tickets = await objects.leading()
        drawn = [await tickets.draw() for _ in range(3)]
        assert drawn == sorted(set(drawn))
        leader, _ = await objects.cluster.check_single_leader()
        assert drawn[-1] == objects.cluster.nodes[leader].status.applied_index
        for node_id in objects.cluster.ids:
            await objects.at(node_id).wait(lambda tickets: tickets.drawn == drawn)


async def test_there_is_none_outside_a_command(autojump_clock: MockClock) -> None:
    async with open_objects(Tickets) as objects:
        tickets = await objects.leading()
        await tickets.draw()
        with pytest.raises(LookupError):
            await tickets.refuse()
        with pytest.raises(ConfigError, match="inside a command only"):
            await tickets.peek()
        with pytest.raises(ConfigError, match="inside a command only"):
            _ = tickets.log_index


def test_it_is_that_of_the_entry_in_a_session_too() -> None:
    tickets = Tickets()
    machine = SessionMachine(tickets)
    call = msgspec.msgpack.encode([0, "draw", 1, 0.0, []])
    machine.apply(17, encode_plain(call))
    assert tickets.drawn == [17]


def test_a_field_may_not_have_its_name() -> None:
    with pytest.raises(ConfigError, match="log_index has the name of something"):

        class _Taken(ReplicatedObject):
            log_index: int = 0
