"""Changing a class between releases: the same outcome on every node, or none at all."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
import pytest
from trio.testing import MockClock

from tests.replicated.support import Objects, leads
from tests.support import open_single
from trioraft import ConfigError, Limits, MemoryStorage, OutcomeUnknown
from trioraft.machines.replicated import ReplicatedObject, command, query
from trioraft.machines.sessions import UnknownCommand
from trioraft.testing.cluster import open_cluster


class Old(ReplicatedObject):
    """The first release."""

    total: int = 0
    gone: str = "soon"

    @command
    def add(self, n: int) -> int:
        """Add."""
        self.total += n
        return self.total

    @query
    def get(self) -> int:
        """The total."""
        return self.total


class New(ReplicatedObject):
    """The second one: another field, another command, one field less."""

    version: ClassVar[int] = 2

    total: int = 0
    names: list[str] = msgspec.field(default_factory=lambda: ["new"])

    @command
    def add(self, n: int) -> int:
        """Add; twice as much in version 2."""
        self.total += n * self.active_version
        return self.total

    @command(since=2)
    def name(self, name: str) -> list[str]:
        """Remember a name."""
        self.names.append(name)
        return self.names

    @query
    def get(self) -> int:
        """The total."""
        return self.total


def log_of(*machines: ReplicatedObject) -> Any:
    """Applies one command to each machine and returns the outcomes."""
    index = 0

    def apply(name: str, *args: Any, version: int = 1) -> list[str]:
        nonlocal index
        index += 1
        data = msgspec.msgpack.encode(
            [1, version, 0.0]
            if name == "activate"
            else [0, name, version, 0.0, msgspec.Raw(msgspec.msgpack.encode(args))]
        )
        return [_outcome(machine, index, data) for machine in machines]

    return apply


def _outcome(machine: ReplicatedObject, index: int, data: bytes) -> str:
    try:
        return str(msgspec.msgpack.decode(machine.apply(index, data)))
    except Exception as error:  # noqa: BLE001 - which one it is, is looked at
        return type(error).__name__


def test_a_new_command_is_refused_alike_until_it_is_activated() -> None:
    old, new = Old(), New()
    apply = log_of(old, new)
    assert apply("add", 1) == ["1", "1"]
    assert apply("name", "x", version=2) == ["UnknownCommand", "UnknownCommand"]
    assert (old.total, new.total, new.names) == (1, 1, ["new"])
    assert apply("add", 1, version=2) == ["2", "2"]


def test_after_activation_the_old_class_says_nothing_and_the_new_one_goes_on() -> None:
    old, new = Old(), New()
    apply = log_of(old, new)
    apply("add", 1)
    assert apply("activate", version=2) == ["OutcomeUnknown", "2"]
    assert apply("name", "x", version=2) == ["OutcomeUnknown", "['new', 'x']"]
    assert apply("add", 1, version=2) == ["OutcomeUnknown", "3"]
    assert apply("activate", version=1) == ["OutcomeUnknown", "2"]  # it never goes back
    assert old.total == 1
    with pytest.raises(ConfigError, match="Restart it with the new class"):
        old.snapshot()


def test_the_first_command_makes_its_proposers_version_the_active_one() -> None:
    old, new = Old(), New()
    apply = log_of(old, new)
    assert apply("name", "x", version=2) == ["OutcomeUnknown", "['new', 'x']"]
    assert new.active_version == 2


def test_a_snapshot_of_the_old_class_is_read_by_the_new_one_and_not_vice_versa() -> None:
    old, new = Old(), New()
    log_of(old)("add", 5)
    new.restore(old.snapshot())
    assert (new.total, new.names, new.active_version) == (5, ["new"], 1)
    log_of(new)("activate", version=2)
    with pytest.raises(ConfigError, match="version 2 of Old active"):
        Old().restore(new.snapshot())


def test_the_log_time_is_in_the_snapshot() -> None:
    old, other = Old(), Old()
    old.apply(1, msgspec.msgpack.encode([0, "add", 1, 12.5, [1]]))
    other.restore(old.snapshot())
    assert other.log_time_s == 12.5


def test_a_snapshot_that_does_not_fit_is_refused() -> None:
    class Other(ReplicatedObject):
        total: list[int] = msgspec.field(default_factory=list)

    class Needs(ReplicatedObject):
        more: int

    with pytest.raises(ConfigError, match="give it another name"):
        Other().restore(Old().snapshot())
    with pytest.raises(ConfigError, match=r"has no Needs\.more"):
        Needs().restore(Old().snapshot())


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", b"something", msgspec.msgpack.encode([7, "add"])]
    + [
        msgspec.msgpack.encode([0, name, 1, at_s, args])
        for name, at_s, args in (
            ("nothing", 0.0, []),
            ("get", 0.0, []),
            ("add", 5.0, ["x"]),
            ("add", 0.0, []),
            ("add", -1.0, [1]),
            ("add", float("inf"), [1]),
        )
    ],
)
def test_what_cannot_be_read_is_one_typed_error_and_changes_nothing(data: bytes) -> None:
    old = Old()
    log_of(old)("add", 1)
    before = b"".join(old.snapshot())
    with pytest.raises(UnknownCommand):
        old.apply(2, data)
    assert b"".join(old.snapshot()) == before


async def test_a_rolling_upgrade(autojump_clock: MockClock) -> None:
    classes: list[type[ReplicatedObject]] = [Old]
    limits = Limits(snapshot_entries=5, snapshot_tail_entries=2)
    async with open_cluster(3, machine=lambda: classes[-1](), limits=limits) as cluster:
        objects = Objects[Any](cluster)
        for _ in range(12):
            await (await objects.leading()).add(1)
        classes.append(New)
        for node_id in cluster.ids:
            await cluster.crash(node_id)
            await cluster.restart(node_id)
            await (await objects.leading()).add(1)  # old and new ones, whoever leads
        leading = await objects.leading()
        with pytest.raises(UnknownCommand, match=r"await activate_version\(\)"):
            await leading.name("too early")
        assert await leading.activate_version() == 2
        assert await leading.name("x") == ["new", "x"]
        assert await leading.add(1) == 17
        following = await objects.following()
        await following.wait(lambda new: new.total == 17 and new.names == ["new", "x"])


async def test_a_node_that_was_left_behind_catches_up_with_the_new_class(
    autojump_clock: MockClock,
) -> None:
    storage = MemoryStorage()
    async with open_single(machine=(alone := Old()), storage=storage) as node:
        alone.attach(node)
        await node.wait(leads)
        await alone.add(1)
        with pytest.raises(OutcomeUnknown, match="Restart it with the new class"):
            await node.propose(msgspec.msgpack.encode([1, 2, 0.0]))
        with pytest.raises(ConfigError, match="Restart it with the new class"):
            await alone.add(1)
        with pytest.raises(ConfigError, match="Restart it with the new class"):
            await alone.get()
    async with open_single(machine=(new := New()), storage=storage) as node:
        new.attach(node)
        await node.wait(leads)
        assert await new.add(1) == 3
        assert await new.name("x") == ["new", "x"]
