"""A backup of one node: what a majority has committed, from the snapshot that its storage has.

Rules of this file:

* The state is asked for as of now: a read barrier first (a follower asks its leader, which is all
  that the leader has to do with it), then a snapshot of it, as the node takes them anyway. So what
  was acknowledged before is in it, encoding it stops nobody, and it costs no memory.
* It is read from the file, which stays open meanwhile: that newer ones take its place does not
  matter. Each piece is read in a worker thread, and none before somebody has taken the one before.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Final, Self, TypeVar, final

import trio

from ..backups.draft import Draft
from ..backups.format import BackupHead, BackupWriter, EndedHistory
from ..core.errors import ConfigError, NodeDead, SnapshotGone
from ..core.types import SnapshotMeta
from ..member.state_machine import kind_of
from .runner import NodeRunner

T = TypeVar("T")

GONE_MAX: Final = 8
"""So often in a row may a snapshot be replaced by two newer ones before it was opened."""


@final
class OpenBackup:
    """A backup that is being read: an async iterator over its content, in pieces.

    Made by `Node.open_backup`.
    """

    def __init__(self, runner: NodeRunner, head: BackupHead, content: Iterator[bytes]) -> None:
        self.head: BackupHead = head
        """What it is of; `head.snapshot.size_bytes` is what the pieces amount to."""
        self._runner = runner
        self._content = content

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        content = self._content
        if self._runner.is_dead:
            raise NodeDead(f"node {self._runner.node_id!r} died: the backup is not whole")
        piece = b""
        while not piece:
            found = await self._runner.beside(lambda: next(content, None))
            await trio.lowlevel.checkpoint_if_cancelled()
            if found is None:
                raise StopAsyncIteration
            piece = found
        return piece


@asynccontextmanager
async def open_backup(
    runner: NodeRunner, *, stale: bool, patience_s: float = math.inf
) -> AsyncIterator[OpenBackup]:
    """See `Node.open_backup`."""
    if not stale:
        with trio.fail_after(patience_s):
            await runner.read_barrier(lease=False)
    taken_s = time.time()
    meta, content = await _opened(runner)
    try:
        yield OpenBackup(runner, _head(runner, meta, taken_s, is_stale=stale), content)
    finally:
        close: Callable[[], None] = getattr(content, "close", lambda: None)
        with trio.CancelScope(shield=True):
            await runner.beside(close)


async def _opened(runner: NodeRunner) -> tuple[SnapshotMeta, Iterator[bytes]]:
    """The newest snapshot, of at least what is applied now; open."""
    for _ in range(GONE_MAX - 1):
        try:
            return await _open_newest(runner)
        except SnapshotGone:
            continue
    return await _open_newest(runner)


async def _open_newest(runner: NodeRunner) -> tuple[SnapshotMeta, Iterator[bytes]]:
    await runner.take_snapshot(in_haste=False)
    meta = None if runner.raft is None else runner.raft.snapshot
    if meta is None:
        raise ConfigError(
            f"node {runner.node_id!r} has applied nothing yet: there is no state to back up"
        )
    return meta, await runner.beside(partial(runner.read_snapshot, meta))


def _head(runner: NodeRunner, meta: SnapshotMeta, taken_s: float, *, is_stale: bool) -> BackupHead:
    identity = None if runner.lineage is None else runner.lineage.identity
    ancestors = () if identity is None else identity.ancestors
    return BackupHead(
        cluster_id=runner.cluster_id,
        node_id=runner.node_id,
        uuid=None if identity is None else identity.uuid,
        snapshot=meta,
        term=runner.status().term,
        taken_s=taken_s,
        machine=kind_of(runner.machine),
        is_stale=is_stale,
        ancestors=tuple(EndedHistory(each.uuid, each.index, each.term) for each in ancestors),
        written_by=_release(),
    )


def _release() -> str:
    try:
        return metadata.version("trioraft")
    except metadata.PackageNotFoundError:
        return "0+unknown"


async def _in_thread(call: Callable[[], T]) -> T:
    """A call that waits for a disk; not given up half way."""
    with trio.CancelScope(shield=True):
        result = await trio.to_thread.run_sync(call)
    await trio.lowlevel.checkpoint_if_cancelled()
    return result


async def write_backup(runner: NodeRunner, path: Path, *, stale: bool) -> BackupHead:
    """See `Node.backup`."""
    async with open_backup(runner, stale=stale) as backup:
        draft = await _in_thread(partial(Draft, path))
        try:
            writer = await _in_thread(partial(BackupWriter, draft, backup.head))
            async for piece in backup:
                await _in_thread(partial(writer.add, piece))
            await _in_thread(writer.end)
            await _in_thread(draft.finish)
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(draft.discard)
    return backup.head
