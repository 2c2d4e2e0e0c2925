"""Software transactional memory: a function that reads and writes keys as if it were alone.

Rules of this file:

* Reads are recorded with the index that last changed the key; writes are kept here. In the end one
  transaction compares all that was read, and writes: it is as if all had happened at that moment.
* If anything has changed meanwhile nothing is written, and the function runs again, with what the
  failed comparison found. It may run several times: what it does outside is done so often.
* Before that it may see keys of different moments. What it concludes from them is never written.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar, final

import anyio

from ..core.errors import ConfigError
from .commands import (
    COMPARES_MAX,
    Compare,
    CompareBy,
    CompareHow,
    Delete,
    Found,
    Get,
    Look,
    Looked,
    Put,
    Txn,
    TxnDone,
)
from .leasing import LeaseLike, lease_id_of
from .requests import Text, key_of, ttl_ms_of, value_of
from .transactions import StmConflict

ATTEMPTS_MAX: Final = 32
"""So often the function runs at most, unless said otherwise."""
PAUSE_S: Final = 0.002
"""Longest pause after the first failed attempt; it doubles with each, to `PAUSE_S_MAX`."""
PAUSE_S_MAX: Final = 0.25

T = TypeVar("T")


@final
class Draft:
    """What one run of the function has read and written."""

    def __init__(self, known: dict[bytes, Found]) -> None:
        self.known = known
        """By key: as found by the last attempt; used when it is asked for."""
        self._read: dict[bytes, Found] = {}
        self._written: dict[bytes, Put | Delete] = {}

    def value_of(self, key: bytes) -> tuple[bool, bytes | None]:
        """Whether a key needs no look, and its value then."""
        written = self._written.get(key)
        if written is not None:
            return True, written.value if isinstance(written, Put) else None
        found = self._read.get(key) or self.known.get(key)
        if found is None:
            return False, None
        self.has_read(key, found)
        return True, found.value

    def has_read(self, key: bytes, found: Found) -> None:
        """A key was looked at."""
        if key not in self._read and len(self._read) >= COMPARES_MAX:
            raise ConfigError(f"a transaction reads more than {COMPARES_MAX} keys: read fewer")
        self._read[key] = found

    def put(self, key: Text, value: Text, lease: LeaseLike | None, ttl_s: float | None) -> None:
        """Set a key's value, in the end."""
        lease_id = None if lease is None else lease_id_of(lease)
        ttl_ms = None if ttl_s is None else ttl_ms_of(ttl_s)
        name = key_of(key)
        self._written[name] = Put(name, value_of(value), lease_id=lease_id, ttl_ms=ttl_ms)

    def delete(self, key: Text) -> None:
        """Remove a key, in the end."""
        name = key_of(key)
        self._written[name] = Delete(name)

    def txn(self) -> Txn | None:
        """What makes it so; None: nothing has to be asked, for it read one key at most."""
        if not self._written and len(self._read) <= 1:
            return None
        compares = tuple(
            Compare(key, CompareBy.CHANGED_INDEX, CompareHow.EQUAL, found.changed_index)
            for key, found in self._read.items()
        )
        if len(self._written) > COMPARES_MAX:
            raise ConfigError(f"a transaction writes more than {COMPARES_MAX} keys: write fewer")
        return Txn(compares, tuple(self._written.values()), tuple(Look(Get(k)) for k in self._read))

    def found_by(self, done: TxnDone) -> dict[bytes, Found]:
        """What is there instead, after one that failed."""
        answers = (each.answer for each in done.results if isinstance(each, Looked))
        return {
            key: answer
            for key, answer in zip(self._read, answers, strict=True)
            if isinstance(answer, Found)
        }


class Staging:
    """What the function of a transaction may write. Made by `Stm` and `BlockingStm`."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft

    def put(
        self,
        key: Text,
        value: Text,
        *,
        lease: LeaseLike | None = None,
        ttl_s: float | None = None,
    ) -> None:
        """Set a key's value, if the transaction succeeds.

        Args:
            key: which one.
            value: the whole new value.
            lease: the key goes with it.
            ttl_s: the key goes after so many seconds of log time.
        """
        self._draft.put(key, value, lease, ttl_s)

    def delete(self, key: Text) -> None:
        """Remove a key, likewise."""
        self._draft.delete(key)


@final
class Stm(Staging):
    """What the function of `KvClient.stm` is given. Made by that."""

    def __init__(self, draft: Draft, look: Callable[[bytes], Awaitable[Found]]) -> None:
        super().__init__(draft)
        self._look = look

    async def get(self, key: Text) -> bytes | None:
        """A key's value, or None if it is absent; what was put before in this function shows.

        Cancelling it gives the whole transaction up; nothing was written.
        """
        name = key_of(key)
        is_known, value = self._draft.value_of(name)
        if is_known:
            return value
        found = await self._look(name)
        self._draft.has_read(name, found)
        return found.value


@final
class BlockingStm(Staging):
    """What the function of `BlockingKvClient.stm` is given. Made by that."""

    def __init__(self, draft: Draft, look: Callable[[bytes], Found]) -> None:
        super().__init__(draft)
        self._look = look

    def get(self, key: Text) -> bytes | None:
        """`Stm.get`."""
        name = key_of(key)
        is_known, value = self._draft.value_of(name)
        if is_known:
            return value
        found = self._look(name)
        self._draft.has_read(name, found)
        return found.value


async def pause(attempts: int) -> None:
    """Wait after so many failed attempts, so that not all try again at once."""
    longest_s = min(PAUSE_S_MAX, PAUSE_S * 2**attempts)
    await anyio.sleep(random.uniform(0, longest_s))


def conflict(attempts: int) -> StmConflict:
    """All attempts failed."""
    return StmConflict(
        f"others changed what was read in each of {attempts} attempts: nothing was written; try "
        "again later, or have fewer write the same keys"
    )
