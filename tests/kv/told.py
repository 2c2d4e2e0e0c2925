"""A machine that is told commands one after the other, by a clock that the test sets."""

from __future__ import annotations

from typing import Any

import msgspec

from trioraft.kv import Change, KvMachine, commands
from trioraft.kv.commands import Changed, Changes, Command, Page, Query, Range, encode


class Told:
    """A machine, an index that counts up, and what the time is when something is proposed."""

    def __init__(self, tested: KvMachine | None = None) -> None:
        self.machine = tested or KvMachine()
        self.index = 0
        self.now_s = 0.0

    def do(self, command: Command) -> Any:
        self.index += 1
        if hasattr(command, "at_s"):
            command = msgspec.structs.replace(command, at_s=self.now_s)
        return self.machine.apply(self.index, encode(command))

    def expire(self) -> commands.Deleted:
        """As a leader does that sees that something is over."""
        ended = self.do(commands.Expire(self.now_s))
        assert isinstance(ended, commands.Deleted)
        return ended

    def ask(self, query: Query) -> Any:
        return self.machine.query(encode(query))

    def pairs(self, **options: Any) -> list[tuple[bytes, bytes]]:
        page = self.ask(Range(**options))
        assert isinstance(page, Page)
        return [(pair.key, pair.value) for pair in page.pairs]

    def keys(self) -> list[bytes]:
        return [key for key, _ in self.pairs()]

    def changes(self, from_index: int = 1, **options: Any) -> tuple[Change, ...]:
        changed = self.ask(Changes(from_index, **options))
        assert isinstance(changed, Changed)
        return changed.changes

    def content(self) -> bytes:
        return b"".join(self.machine.snapshot())

    def restarted(self) -> Told:
        """Another machine that has this one's snapshot."""
        other = Told()
        other.machine.restore([self.content()])
        other.index, other.now_s = self.index, self.now_s
        return other
