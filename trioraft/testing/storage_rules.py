"""What the checks of a storage stand on: a bench to make and reopen storages, and `expect`.

Rules of this file: a failure says which rule of the protocol was broken, and with which values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, final

from ..core.errors import StorageError
from ..core.types import (
    Configuration,
    Entry,
    EntryKind,
    HardState,
    LogIndex,
    Recovered,
    Term,
)
from ..storage.base import Storage

StorageFactory: TypeAlias = Callable[[], Storage]
"""Gives a new, empty storage that was never opened."""

StorageReborn: TypeAlias = Callable[[Storage], Storage]
"""Gives a storage over what a closed one held, as a new process would; or the same object."""

CLUSTER = "conformance"
NODE = "0"


class StorageRuleBroken(AssertionError):  # noqa: N818 - reads as what it says
    """A storage does not keep the protocol; the message begins with the rule."""


def expect(rule: str, actual: object, expected: object) -> None:
    """Compare."""
    if actual != expected:
        raise StorageRuleBroken(f"{rule}: expected {expected!r}, got {actual!r}")


def expect_refusal(
    rule: str, call: Callable[[], object], kind: type[StorageError] = StorageError
) -> None:
    """The call must raise this kind of error."""
    try:
        result = call()
    except kind:
        return
    except StorageError as error:
        result = error
    raise StorageRuleBroken(f"{rule}: expected {kind.__name__}, got {result!r}")


@final
class StorageBench:
    """A storage under test, and how to have it anew."""

    def __init__(self, factory: StorageFactory, reborn: StorageReborn) -> None:
        self._reborn = reborn
        self.storage = factory()

    def open(self) -> Recovered | None:
        """Open it as the node it belongs to."""
        return self.storage.open(cluster_id=CLUSTER, node_id=NODE)

    def reopen(self) -> Recovered:
        """Close it, open it anew, and return what it holds."""
        self.storage.close()
        self.storage = self._reborn(self.storage)
        recovered = self.open()
        if recovered is None:
            raise StorageRuleBroken("a storage that was opened once is not new any more: got None")
        return recovered

    def append(self, first: LogIndex, *terms: Term) -> None:
        """Append one entry for each term, from `first` on."""
        self.storage.append(None, entries(first, *terms), first)

    def holds(
        self,
        rule: str,
        log: Sequence[Entry],
        hard_state: HardState | None = None,
        base: tuple[LogIndex, Term] = (0, 0),
    ) -> Recovered:
        """Reopen it, and compare; returns what it held."""
        recovered = self.reopen()
        expect(rule, recovered.entries, tuple(log))
        expect(f"{rule} (base)", (recovered.base_index, recovered.base_term), base)
        if hard_state is not None:
            expect(f"{rule} (hard state)", recovered.hard_state, hard_state)
        return recovered


def entries(first: LogIndex, *terms: Term) -> list[Entry]:
    """One entry for each term; the data says which, so that no other can stand for it."""
    return [
        Entry(index, term, f"entry {index} of term {term}".encode(), EntryKind.COMMAND.value)
        for index, term in enumerate(terms, first)
    ]


def configuration(*voters: str) -> Configuration:
    """A configuration with addresses, because those must survive too."""
    return Configuration(voters, (), ("learner",), {voters[0]: ("127.0.0.1", 4000)})
