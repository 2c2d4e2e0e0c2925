"""What `benchmarks.throughput` measures: systems, storages, ways to put load on them.

Rules of this file: values only. Cases that are to be compared with each other stand next to each
other in the order of measurement, so that both meet the same machine.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final

import attrs

COMMAND_BYTES: Final = 100
"""Size of each command."""
NODES: Final = 3
"""Processes of a cluster."""


class System(enum.StrEnum):
    """What is measured."""

    TRIORAFT = "trioraft"
    PYSYNCOBJ = "pysyncobj"
    HASHICORP = "hashicorp"
    """hashicorp/raft, by a program in Go that `benchmarks.peers` builds."""


class Storage(enum.StrEnum):
    """Where the log is kept."""

    MEMORY = "memory"
    """In the process: it survives nothing."""
    SQLITE = "sqlite"
    """trioraft's durable storage: nothing is acknowledged before its fsync."""
    JOURNAL = "journal"
    """PySyncObj's durable storage, flushed before anything leaves the node."""
    BOLT = "bolt"
    """hashicorp/raft's durable storage, which flushes each transaction."""


class Mode(enum.StrEnum):
    """How many commands are kept on their way."""

    TASKS = "tasks"
    """So many tasks, each of which awaits `propose` again and again."""
    WINDOW = "window"
    """One task that keeps so many `submit`ted commands on their way."""
    OPEN = "open"
    """So many commands a second, each at its moment, whatever has become of those before it."""


class Call(enum.StrEnum):
    """What is asked of the system."""

    PROPOSE = "propose"
    """Of a library: one command."""
    PUT = "put"
    """Of a service: a value of a key."""
    GET = "get"


class Kind(enum.StrEnum):
    """What a run of the benchmark is about."""

    THROUGHPUT = "throughput"
    """Operations per second and latencies, case by case."""
    ENDURANCE = "endurance"
    """Whether a command becomes dearer while the log grows."""
    RESTART = "restart"
    """How long a node takes to come back."""


class Collector(enum.StrEnum):
    """What is done about Python's cyclic garbage collector in the nodes."""

    DEFAULT = "default"
    """Nothing: what a program has that does nothing about it."""
    FREEZE = "freeze"
    """gc.freeze() once the node is open: what exists then is looked at no more."""
    OFF = "off"
    """gc.disable()."""


CONCURRENCIES: Final = {
    Mode.TASKS: (1, 64, 1000),
    Mode.WINDOW: (64, 1000, 10_000),
    Mode.OPEN: (2000,),
}
"""What is measured unless something else is asked for."""

STORAGES: Final = {
    System.TRIORAFT: (Storage.MEMORY, Storage.SQLITE),
    System.PYSYNCOBJ: (Storage.MEMORY, Storage.JOURNAL),
    System.HASHICORP: (Storage.BOLT,),
}
"""What each system has."""


@attrs.frozen
class Case:
    """One line of the table."""

    system: System
    storage: Storage
    mode: Mode
    concurrency: int
    command_bytes: int = COMMAND_BYTES

    def __str__(self) -> str:
        return f"{self.system}, {self.storage}, {self.mode} {self.concurrency}"

    @property
    def is_big(self) -> bool:
        """Whether commands are so large that a cluster may lose its leader over them: what fails
        is counted then, and the load goes on."""
        return self.command_bytes > COMMAND_BYTES

    @property
    def is_durable(self) -> bool:
        """Whether what is acknowledged survives a power failure."""
        return self.storage is not Storage.MEMORY

    @property
    def peers(self) -> tuple[bool, Mode, int]:
        """Equal for cases that may be compared: the same load, on storages of the same kind."""
        return self.is_durable, self.mode, self.concurrency


def cases_of(
    systems: Sequence[System],
    storages: Sequence[Storage],
    modes: Sequence[Mode],
    concurrencies: Sequence[int] | None,
) -> list[Case]:
    """Every case that was asked for, without repetitions; what a system has not got is left out.

    Args:
        systems: in the order in which they are to be measured beside each other.
        storages: in any order.
        modes: in any order.
        concurrencies: for each mode; None for those of `CONCURRENCIES`.
    """
    cases = [
        Case(system, storage, mode, concurrency)
        for is_durable in (False, True)
        for mode in Mode
        if mode in modes
        for concurrency in concurrencies or CONCURRENCIES[mode]
        for system in systems
        for storage in STORAGES[system]
        if storage in storages and is_durable is (storage is not Storage.MEMORY)
    ]
    return list(dict.fromkeys(cases))
