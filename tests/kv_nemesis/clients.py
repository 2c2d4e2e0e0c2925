"""The clients: each with a session of its own, and one record of what all of them were told."""

from __future__ import annotations

import random
from collections import Counter
from typing import Final

import attrs
import trio

from trioraft.client.client import Client
from trioraft.core.errors import RaftError
from trioraft.core.types import Address
from trioraft.kv import ERROR_TYPES, Do, Found, If, KvClient
from trioraft.testing import History, KeyValue, Transactions

CALL_TIMEOUT_S: Final = 5.0
"""Deadline of each call."""
SLACK_S: Final = 1.0
"""How late a call may notice its deadline: this process shares the machine with the servers."""
KEY_CALLS: Final = 150
"""After so many calls the clients go on to other keys: it keeps the histories checkable."""
KEYS: Final = 4
THINK_S: Final = 0.004
"""Longest pause between two calls of a client, usually."""
ABSENT_S: Final = 2.0
"""Longest pause now and then: who comes back meets a leader that was paused and deposed meanwhile,
and must not believe what it remembers."""
ABSENT_CHANCE: Final = 0.02


TXN_CALLS: Final = 100
"""After so many transactions the clients go on to other keys."""
TXN_KEYS: Final = 3
LOCK_TTL_S: Final = 1.5
LOCK_PATIENCE_S: Final = 3.0
"""How long a client wants the lock, having it included."""


@attrs.define
class Record:
    """What all clients did, and what came of it."""

    history: History = attrs.field(factory=History)
    transactions: History = attrs.field(factory=History)
    holder: str | None = None
    """Who has the lock, as far as it believes so itself."""
    tokens: list[int] = attrs.field(factory=list)
    """Of those who had it, in that order."""
    violations: list[str] = attrs.field(factory=list)
    """Two who had it at the same time, or in the wrong order."""
    appended: dict[str, list[str]] = attrs.field(factory=dict)
    """By client: the words of its own log that were acknowledged, in order."""
    uncertain: dict[str, set[str]] = attrs.field(factory=dict)
    """Those of which it is not known."""
    acknowledged: int = 0
    errors: Counter[str] = attrs.field(factory=Counter)
    progress: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)
    """Woken at each acknowledgement."""
    longest_s: float = 0.0
    calls: int = 0
    written_s: list[float] = attrs.field(factory=list)
    """When writes were acknowledged, by Trio's clock."""
    late: list[str] = attrs.field(factory=list)
    """Calls that outlived their deadline."""


class Caller:
    """One client.

    Args:
        name: of its session.
        record: where all clients write what they are told.
        rng: what it does, and when.
        think_s: its longest pause between two calls, usually.
    """

    def __init__(
        self, name: str, record: Record, rng: random.Random, *, think_s: float = THINK_S
    ) -> None:
        self.name = name
        self._record = record
        self._rng = rng
        self._think_s = think_s
        self._number = 0
        self._begun_s = 0.0
        record.appended[name] = []
        record.uncertain[name] = set()

    async def run(self, addresses: list[Address], stop: trio.Event, insecure: bool = False) -> None:
        """Call until told to stop."""
        async with Client(
            addresses,
            timeout_s=CALL_TIMEOUT_S,
            error_types=ERROR_TYPES,
            rng=self._rng,
            insecure=insecure,
        ) as client:
            kv = KvClient(client)
            while not stop.is_set():
                await self._call_once(kv)
                is_absent = self._rng.random() < ABSENT_CHANCE
                await trio.sleep(self._rng.uniform(0, ABSENT_S if is_absent else self._think_s))

    async def _call_once(self, kv: KvClient) -> None:
        record = self._record
        record.calls += 1
        self._begun_s = trio.current_time()
        choice = self._rng.random()
        try:
            if choice < 0.25:
                has_written = await self._append_to_own_log(kv)
            elif choice < 0.35:
                has_written = await self._transact(kv)
            elif choice < 0.38:
                has_written = await self._hold_the_lock(kv)
            else:
                has_written = await self._do_anything(kv)
        except RaftError as error:
            record.errors[type(error).__name__] += 1
        else:
            record.acknowledged += 1
            if has_written:
                record.written_s.append(trio.current_time())
            record.progress.unpark_all()
        self._on_ended()

    def _on_ended(self) -> None:
        """A call has ended, and the next one, if there is one, begins: each has a deadline."""
        record, now_s = self._record, trio.current_time()
        took_s, self._begun_s = now_s - self._begun_s, now_s
        record.longest_s = max(record.longest_s, took_s)
        if took_s > CALL_TIMEOUT_S + SLACK_S:
            record.late.append(
                f"client {self.name}: a call took {took_s:.2f} s, its deadline is {CALL_TIMEOUT_S}"
            )

    async def _append_to_own_log(self, kv: KvClient) -> bool:
        self._number += 1
        word = f"{self.name}.{self._number}"
        try:
            await kv.append(f"log/{self.name}", f"{word};")
        except BaseException:
            self._record.uncertain[self.name].add(word)
            raise
        self._record.appended[self.name].append(word)
        return True

    async def _transact(self, kv: KvClient) -> bool:
        """Move on from what one key was found to have, two keys at once."""
        record = self._record
        group = len(record.transactions) // TXN_CALLS
        first, second = (f"txn/{group}/{n}" for n in self._rng.sample(range(TXN_KEYS), 2))
        seen = ((await kv.get(first)) or b"").decode() or None
        self._on_ended()
        self._number += 1
        word = f"{self.name}.{self._number}"
        call = Transactions.Do({first: seen}, {first: word, second: word}, (first, second))
        looks = [Do.get(first), Do.get(second)]
        with record.transactions.operation(self.name, call) as operation:
            done = await kv.txn(
                if_=[If.absent(first) if seen is None else If.equals(first, seen)],
                then=[Do.put(first, word), Do.put(second, word), *looks],
                else_=looks,
            )
            found = [each.value for each in done.results if isinstance(each, Found)]
            values = tuple(None if value is None else value.decode() for value in found)
            operation.ok((done.succeeded, values))
        return done.succeeded

    async def _hold_the_lock(self, kv: KvClient) -> bool:
        """Nobody else has it meanwhile, and its token is the highest so far."""
        record = self._record
        with trio.move_on_after(LOCK_PATIENCE_S):
            async with kv.lock("mutex", ttl_s=LOCK_TTL_S) as grant:
                if record.holder is not None:
                    record.violations.append(f"{self.name} has what {record.holder} has")
                if record.tokens and grant.token <= record.tokens[-1]:
                    record.violations.append(f"token {grant.token} after {record.tokens[-1]}")
                record.tokens.append(grant.token)
                record.holder = self.name
                try:
                    await trio.sleep(self._rng.uniform(0, 0.05))
                finally:
                    record.holder = None
                return True
        return False

    async def _do_anything(self, kv: KvClient) -> bool:
        """Returns whether it was a write."""
        record, rng = self._record, self._rng
        self._number += 1
        key = f"{len(record.history) // (KEYS * KEY_CALLS)}/{rng.randrange(KEYS)}"
        word = f"{self.name}.{self._number};"
        choice = rng.random()
        if choice < 0.35:
            with record.history.operation(self.name, KeyValue.Get(key)) as operation:
                found = await kv.get(key)
                operation.ok(None if found is None else found.decode())
            return False
        if choice < 0.60:
            with record.history.operation(self.name, KeyValue.Append(key, word)) as operation:
                await kv.append(key, word)
                operation.ok()
        elif choice < 0.80:
            with record.history.operation(self.name, KeyValue.Put(key, word)) as operation:
                await kv.put(key, word)
                operation.ok()
        elif choice < 0.95:
            expected = (await kv.get(key) or b"").decode() or None
            self._on_ended()
            call = KeyValue.CompareAndSet(key, expected, word)
            with record.history.operation(self.name, call) as operation:
                operation.ok((await kv.cas(key, expected, word)).swapped)
        else:
            with record.history.operation(self.name, KeyValue.Delete(key)) as operation:
                await kv.delete(key)
                operation.ok()
        return True


def check_log(name: str, record: Record, log: str) -> None:
    """No acknowledged append of this client is lost, none is there twice, none is out of order."""
    words = log.split(";")[:-1]
    acknowledged = record.appended[name]
    twice = [word for word, count in Counter(words).items() if count > 1]
    if twice:
        raise AssertionError(f"client {name}: appended twice: {twice[:5]}")
    lost = set(acknowledged) - set(words)
    if lost:
        raise AssertionError(
            f"client {name}: {len(lost)} acknowledged and lost: {sorted(lost)[:5]}"
        )
    strange = set(words) - set(acknowledged) - record.uncertain[name]
    if strange:
        raise AssertionError(f"client {name}: never appended: {sorted(strange)[:5]}")
    if [word for word in words if word not in record.uncertain[name]] != acknowledged:
        raise AssertionError(f"client {name}: its appends are out of order")
