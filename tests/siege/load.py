"""The honest load, in a process of its own: so many puts a second, come what may.

Rules of this file:

* A put's time counts from the moment when it was due: a server that stalls is not excused.
* Each key is written by one client, with growing numbers. What is there in the end must be what was
  acknowledged last, or a write that overlapped with that one, or one that nobody ever learnt the
  outcome of: it may come at any time after it was sent (`KeyWrites`).
* Orders come as lines: a word names the phase that begins; "end" ends the load. The report is one
  line of JSON.
"""

from __future__ import annotations

import math
import os
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import msgspec
import trio

from tests.kv_nemesis.clients import Caller, Record, check_log
from trioraft.client.client import Client
from trioraft.core.errors import OutcomeUnknown, RaftError, SessionExpired
from trioraft.core.types import Address
from trioraft.kv import ERROR_TYPES, KvClient
from trioraft.testing import KeyValue, check_linearizable, save_history

KEYS: Final = 400
"""Of each client: one is written again long after its last write has ended."""
TIMEOUT_S: Final = 10.0
LAST_S: Final = 30.0
CHECK_S: Final = 120.0
THINK_S: Final = 0.25
"""A caller's longest pause between two calls."""
KEYS_CHECKED: Final = 400
"""So many keys of the callers' history are checked, drawn by the seed."""


class Setup(msgspec.Struct):
    """What the load is."""

    seed: int
    addresses: list[Address]
    clients: int
    puts_per_s: float
    callers: int
    """Further clients, which do anything and record it: see `tests.kv_nemesis`."""
    keep_in: str
    """Where a history that cannot be is written."""


class Phase(msgspec.Struct):
    """What became of the puts of one phase, in milliseconds."""

    name: str
    puts: int
    failed: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class Report(msgspec.Struct):
    """What the load saw."""

    phases: list[Phase]
    errors: dict[str, int]
    lost: list[str]
    """What was acknowledged and is not there, or what is there and never was written."""
    checked: int
    """Operations whose history was found to be linearizable."""
    acknowledged: int


class KeyWrites:
    """The writes of one key, and which of them may be there in the end."""

    def __init__(self) -> None:
        self._begun_s: dict[int, float] = {}
        self._ended_s: dict[int, float] = {}  # infinity: it may be applied yet
        self._acknowledged: dict[int, float] = {}  # with when each began

    def begins(self, number: int, now_s: float) -> None:
        """This one is sent."""
        self._begun_s[number] = now_s
        self._ended_s[number] = math.inf

    def ends(self, number: int, now_s: float, *, was_applied: bool, is_known: bool) -> None:
        """It was acknowledged; or certainly not applied; or nobody knows."""
        begun_s = self._begun_s.pop(number)
        if was_applied:
            self._ended_s[number] = now_s
            self._acknowledged[number] = begun_s
            latest_s = max(self._acknowledged.values())
            for each, ended_s in [*self._ended_s.items()]:  # something came wholly after these
                if ended_s < latest_s:
                    del self._ended_s[each]
                    del self._acknowledged[each]
        elif is_known:
            del self._ended_s[number]

    @property
    def last(self) -> int | None:
        """The last that was acknowledged."""
        return max(self._acknowledged, default=None)

    @property
    def possible(self) -> frozenset[int]:
        """What may be there."""
        return frozenset(self._ended_s)


class Load:
    """All clients of the load.

    Args:
        setup: what it is.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._phase = "start"
        self._took_s: dict[str, list[float]] = {}
        self._failed: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._written: dict[str, KeyWrites] = {}
        self._count = 0
        self._stop = trio.Event()
        self._record = Record()

    async def run(self) -> Report:
        """Until told to end; then look what is there."""
        setup = self._setup
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._obey)
            for number in range(setup.clients):
                nursery.start_soon(self._put_all_the_time, number)
            for number in range(setup.callers):
                rng = random.Random(f"{setup.seed}/{number}")
                caller = Caller(f"c{number}", self._record, rng, think_s=THINK_S)
                nursery.start_soon(caller.run, setup.addresses, self._stop)
        lost = await self._check()
        phases = [self._report(name) for name in self._took_s]
        errors = self._errors + self._record.errors
        acknowledged = self._count + self._record.acknowledged
        return Report(phases, dict(errors), lost, self._check_history(lost), acknowledged)

    async def _obey(self) -> None:
        async with trio.lowlevel.FdStream(os.dup(0)) as stdin:
            while data := await stdin.receive_some():
                self._phase = data.decode().splitlines()[-1]
                if self._phase == "end":
                    break
        self._stop.set()

    async def _put_all_the_time(self, number: int) -> None:
        setup = self._setup
        pause_s = setup.clients / setup.puts_per_s
        async with Client(
            setup.addresses, timeout_s=TIMEOUT_S, error_types=ERROR_TYPES
        ) as client, trio.open_nursery() as nursery:  # fmt: skip
            kv = KvClient(client)
            due_s = trio.current_time() + pause_s * number / setup.clients
            count = 0
            while not self._stop.is_set():
                await trio.sleep_until(due_s)
                key = f"steady/{number}/{count % KEYS}"
                nursery.start_soon(self._put, kv, key, count, due_s, self._phase)
                count += 1
                due_s += pause_s

    async def _put(self, kv: KvClient, key: str, count: int, due_s: float, phase: str) -> None:
        written = self._written.setdefault(key, KeyWrites())
        written.begins(count, trio.current_time())
        took_s = self._took_s.setdefault(phase, [])
        try:
            await kv.put(key, str(count))
        except RaftError as error:
            self._failed[phase] += 1
            self._errors[type(error).__name__] += 1
            is_known = not isinstance(error, OutcomeUnknown | SessionExpired)
            written.ends(count, trio.current_time(), was_applied=False, is_known=is_known)
        else:
            self._count += 1
            written.ends(count, trio.current_time(), was_applied=True, is_known=True)
        took_s.append(trio.current_time() - due_s)

    def _report(self, name: str) -> Phase:
        took = sorted(self._took_s[name])

        def at(share: float) -> float:
            return round(1000 * took[min(len(took) - 1, int(share * len(took)))], 1)

        return Phase(name, len(took), self._failed[name], at(0.5), at(0.99), at(1.0))

    async def _check(self) -> list[str]:
        wrong: list[str] = []
        async with Client(
            self._setup.addresses, timeout_s=LAST_S, error_types=ERROR_TYPES
        ) as client:
            kv = KvClient(client)
            for key, written in self._written.items():
                last = written.last
                if last is None:
                    continue
                found = await kv.get(key)
                if found is None or int(found) not in written.possible:
                    wrong.append(f"{key}: {last} was acknowledged, {found!r} is there")
            for name in self._record.appended:
                log = (await kv.get(f"log/{name}") or b"").decode()
                try:
                    check_log(name, self._record, log)
                except AssertionError as error:
                    wrong.append(str(error))
        return wrong + self._record.late

    def _check_history(self, wrong: list[str]) -> int:
        operations = self._record.history.operations()
        keys = sorted({operation.call.key for operation in operations})
        rng = random.Random(self._setup.seed)
        drawn = set(rng.sample(keys, min(len(keys), KEYS_CHECKED)))
        sampled = [operation for operation in operations if operation.call.key in drawn]
        result = check_linearizable(sampled, KeyValue(), CHECK_S)
        if not result:
            path = Path(self._setup.keep_in) / "siege-history.jsonl"
            save_history(path, sampled, KeyValue())
            wrong.append(f"{result}; the history is in {path}")
        return len(sampled)


def main(words: list[str]) -> None:
    """A setup as JSON."""
    setup = msgspec.json.decode(words[0], type=Setup)
    report = trio.run(Load(setup).run)
    print(msgspec.json.encode(report).decode(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
