"""A member that is run by hand: every action is noted, and done when the test says so."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from typing import Any

from trioraft.core.config import Limits, Timing
from trioraft.core.raft import Raft
from trioraft.core.types import Configuration, LogIndex, Recovered, Term
from trioraft.member.actions import Action, Runner, StorageStep
from trioraft.member.lineage import Lineage
from trioraft.member.member import Member


class Noted:
    """A state machine that notes its commands; a snapshot is all of them, one a line."""

    def __init__(self) -> None:
        self.commands: list[bytes] = []
        self.raises: dict[bytes, Exception] = {b"raise": ValueError("the command says so")}

    def apply(self, index: LogIndex, data: bytes) -> Any:
        """The result is how many there are."""
        if data in self.raises:
            raise self.raises[data]
        self.commands.append(data)
        return len(self.commands)

    def snapshot(self) -> bytes:
        """As it is now."""
        return b"\n".join(self.commands)

    def restore(self, chunks: Iterable[bytes]) -> None:
        """As it was."""
        self.commands = b"".join(chunks).split(b"\n")


class Asked:
    """A proposal, and every outcome that it was ever given."""

    def __init__(self) -> None:
        self.index: LogIndex = 0
        self.term: Term = 0
        self.is_repeatable = False
        self.trace = None
        self.outcomes: list[Any] = []

    def resolve(self, value: Any) -> None:
        """Applied."""
        self.outcomes.append(value)

    def reject(self, error: Exception) -> None:
        """Applied, and raised."""
        self.outcomes.append(error)

    def fail(self, error: Exception) -> None:
        """Not applied here."""
        self.outcomes.append(error)


class ByHand:
    """One member of a cluster of these voters; it is the first of them."""

    def __init__(
        self,
        voters: tuple[str, ...] = ("1",),
        limits: Limits | None = None,
        lineage: Lineage | None = None,
        recovered: Recovered | None = None,
    ) -> None:
        self.now = 0.0
        self.machine = Noted()
        self.actions: list[Action] = []
        """All that it wanted done, the oldest first."""
        self.steps: deque[StorageStep] = deque()
        """On their way to the disk."""
        self.stores_at_once = False
        recovered = recovered or Recovered(configuration=Configuration(voters))
        limits = limits or Limits()
        raft = Raft(voters[0], recovered, Timing(), limits, random.Random(1))
        note = self.actions.append
        runner = Runner(
            send=note,
            store=self._store,
            apply=note,
            save_snapshot=note,
            read_chunk=note,
            admit_clients=note,
            tell=note,
        )
        self.member = Member(raft, self.machine, limits, runner, lineage)
        self.member.start(self.now)

    def _store(self, step: StorageStep) -> None:
        self.actions.append(step)
        if self.stores_at_once:
            self.member.on_stored(self.now)
        else:
            self.steps.append(step)

    def run(self) -> list[Action]:
        """Run the member; what it wants done now."""
        before = len(self.actions)
        self.member.run(self.now)
        return self.actions[before:]

    def stored(self) -> list[Action]:
        """The step on its way is durable; what it wants done then."""
        self.steps.popleft()
        self.member.on_stored(self.now)
        return self.run()

    def applied(self) -> None:
        """All that is on its way is written, and applied."""
        self.run()
        while self.steps:
            self.stored()
        while self.member.apply_next():
            pass

    def times_out(self) -> list[Action]:
        """Its patience ends."""
        self.now = self.member.deadline or 0.0
        self.member.on_timeout(self.now)
        return self.run()

    def elected(self) -> ByHand:
        """Alone, it leads as soon as its vote is durable; its clients are let in."""
        self.times_out()
        self.stored()
        self.member.go_on()
        self.applied()
        return self

    def propose(self, *commands: bytes) -> list[Asked]:
        """Of clients."""
        asked = [Asked() for _ in commands]
        for each, command in zip(asked, commands, strict=True):
            self.member.propose(command, each, self.now)
        return asked
