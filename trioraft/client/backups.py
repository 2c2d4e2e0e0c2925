"""A backup on its way from a server: over a connection of its own, piece by piece.

A follower is asked rather than the leader: taking a snapshot and sending it is work that nobody
else waits for there. Whoever writes it slowly makes the server wait, and has one piece in memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Self, TypeAlias, TypeVar, final

import anyio
import anyio.to_thread

from ..backups.draft import Draft
from ..backups.format import BackupHead, BackupWriter, decode_head
from ..core.errors import RaftError
from ..core.types import Address, Role
from ..rpc.errors import ServerLeaving, ServerLost
from ..rpc.protocol import ServerStatus

T = TypeVar("T")
OnProgress: TypeAlias = Callable[[BackupHead, int], object]
"""Told what the backup is of, and how many bytes of its content have come."""


@final
class IncomingBackup:
    """A backup that is being read: an async iterator over its content, in pieces. When it ends
    without an error, all was there; `BackupWriter.end` says whether it is what the server has.

    Made by `Client.open_backup`.
    """

    def __init__(self, head: BackupHead, pieces: AsyncIterator[bytes]) -> None:
        self.head: BackupHead = head
        """What it is of; `head.snapshot.size_bytes` is what the pieces amount to."""
        self._pieces = pieces

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._pieces)
        except (ServerLost, ServerLeaving) as error:
            raise type(error)(f"{error}; the backup is not whole: take another one") from error


async def read_head(pieces: AsyncIterator[bytes]) -> BackupHead:
    """What comes first.

    Raises:
        ServerLost: nothing came.
        UnusableBackup: it is no head.
        Exception: what the server answered instead.
    """
    first = await anext(pieces, None)
    if first is None:
        raise ServerLost("the server ended a backup before it began; ask another one")
    return decode_head(first)


def in_order(statuses: Mapping[Address, ServerStatus | RaftError], *, stale: bool) -> list[Address]:
    """Whom to ask for a backup, the best first: a follower that is far, then the leader. Where
    nobody leads, only a stale one can be had: of whoever has applied most."""
    answers = {
        address: status for address, status in statuses.items() if isinstance(status, ServerStatus)
    }

    def merit(address: Address) -> tuple[bool, bool, int]:
        status = answers[address]
        is_useful = stale or status.leader_id is not None
        return is_useful, stale or status.role != Role.LEADER.value, status.applied_index

    return sorted(answers, key=merit, reverse=True)


def why_none(statuses: Mapping[Address, ServerStatus | RaftError]) -> ServerLost:
    """No server answers."""
    problems: Iterable[RaftError] = (
        each for each in statuses.values() if isinstance(each, RaftError)
    )
    why = next((str(each) for each in problems), "there is none")
    return ServerLost(f"no server to take a backup from answers: {why}")


async def write_backup(
    backup: IncomingBackup, path: Path, on_progress: OnProgress | None
) -> BackupHead:
    """Write it to a file, which gets its name when all is there and right."""
    draft = await _in_thread(partial(Draft, path))
    try:
        writer = await _in_thread(partial(BackupWriter, draft, backup.head))
        async for piece in backup:
            await _in_thread(partial(writer.add, piece))
            if on_progress is not None:
                on_progress(backup.head, writer.content_bytes)
        await _in_thread(writer.end)
        await _in_thread(draft.finish)
    finally:
        with anyio.CancelScope(shield=True):
            await _in_thread(draft.discard)
    return backup.head


async def _in_thread(call: Callable[[], T]) -> T:
    """A call that waits for a disk; not given up half way."""
    with anyio.CancelScope(shield=True):
        return await anyio.to_thread.run_sync(call)
    raise AssertionError("a shielded call was cancelled")
