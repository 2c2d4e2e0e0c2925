"""What a storage is: one atomic, durable write at a time, and snapshots beside it.

Rules of this file:

* `append` is all or nothing, and durable when it returns. It is the only call on the hot path.
* The methods are plain functions. A storage with `blocking = True` may wait for a disk; the node
  calls it in worker threads: `open`, `append`, `compact`, `receive_chunk`, `install_snapshot` and
  `close` one at a time, and beside them `write_snapshot` and the reads, one at a time among
  themselves.
* Beside all this it keeps one value that it does not understand, the identity: whose disk it is. It
  is written with `append` or `install_snapshot`, in the very transaction, and by nothing else.
* A storage never repairs in silence: what it cannot read as it was written is `CorruptStorage`.
  A quota that is used up is a full disk.
* Wherever `DiskFull` may be raised, any `ResourceExhausted` may: nothing was done, and the call may
  be made again. `open`, `read_snapshot` and `read_chunk` may raise it too, where a file cannot be
  opened for want of descriptors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from ..core.types import (
    Configuration,
    Entry,
    HardState,
    LogIndex,
    NodeId,
    Recovered,
    SnapshotMeta,
    Term,
)


class Together(Protocol):
    """What storages of one process have in common that write to one place."""

    def write_together(self, calls: Sequence[Callable[[], object]]) -> list[BaseException | None]:
        """Make these calls in this thread, and all that they append durable at once.

        Args:
            calls: each calls `append` of another one of these storages, once.

        Returns:
            What became of each, in their order: None, or the error that its `append` would have
            raised.
        """


class Storage(Protocol):
    """Where term, vote, log and snapshots survive a crash.

    One whose content is gone with its process may say so by an attribute `is_volatile = True`: then
    a leader that has such a storage replaces voters that came back with an empty one by itself
    (`open_node(auto_replace=…)`).

    A blocking one may have an attribute or property `append_is_short`: whether the next `append`
    does nothing but one write and one sync, and waits for no lock. The node makes such a call in
    its own thread where few wait, and this disk is measured to be quick
    (`trioraft.node.inline_writes`).

    A blocking one that shares its log with others may have an attribute or property `together`, the
    same `Together` for all of them: the nodes then have their appends made at once.
    """

    @property
    def blocking(self) -> bool:
        """Whether calls may wait for a disk and belong into a worker thread."""

    @property
    def notices(self) -> Sequence[str]:
        """What the last `open` found damaged and could do without, and what a tool has done to it,
        in sentences for the log."""

    def open(self, *, cluster_id: str, node_id: NodeId) -> Recovered | None:
        """Take the storage and return what it holds, or None when it is new.

        A storage that was opened once is not new any more, whatever was appended; `identity` is
        what was stored last, or None.

        Args:
            cluster_id: whose cluster this is; it is stored the first time, and compared ever after.
            node_id: whose storage this is; likewise.

        Raises:
            StorageError: in use by someone else, or it belongs to another node or cluster, or is
                of a format that this version does not know.
            CorruptStorage: what it holds is not what was written.
        """

    def append(
        self,
        hard_state: HardState | None,
        entries: Sequence[Entry],
        replace_from: LogIndex | None,
        identity: bytes | None = None,
    ) -> None:
        """Store atomically and durably: the hard state if given; then the log, cut before
        `replace_from` and continued with `entries` (which start there); the identity if given.

        Args:
            hard_state: None leaves the stored one as it is.
            entries: without a gap; may be empty.
            replace_from: where they go; None leaves the log as it is. What lies under the base or
                a snapshot is committed, and is never replaced.
            identity: opaque, a few kilobytes; stored in the same transaction as all the rest,
                instead of the one before. None leaves what is stored.

        Raises:
            DiskFull: nothing of this call is stored; it may be tried again.
            StorageError: it is not known what of this call is stored; the node dies. (Entries
                that do not fit the log are refused with it, too: those are not stored.)
        """

    def compact(self, base_index: LogIndex, base_term: Term) -> None:
        """Forget the entries up to `base_index`, whose term is `base_term`; a snapshot with at
        least that index is stored. Older snapshots but the last two go as well.

        A base that the log has passed already is no error, and nothing is done. Should the newest
        snapshot be damaged one day, the one before can serve only if the log still reaches back
        to it: a base no higher than the index of the second newest snapshot keeps that open.

        Args:
            base_index: the last entry to forget.
            base_term: the term of that entry.

        Raises:
            DiskFull: nothing changed; it may be tried again.
            StorageError: no snapshot reaches `base_index`, or the entry there is of another term
                (nothing changed); or the disk failed.
        """

    def write_snapshot(
        self,
        index: LogIndex,
        term: Term,
        configuration: Configuration,
        chunks: Iterable[bytes],
    ) -> SnapshotMeta:
        """Store a snapshot of this node's state machine, atomically and durably, and return its
        meta. `chunks` is consumed as it is written; if it raises, nothing is stored.

        Args:
            index: a stored entry; what is not stored cannot be replaced by a snapshot.
            term: the term of that entry.
            configuration: the one in force there.
            chunks: the content; empty chunks are allowed, and so is no chunk at all.

        Raises:
            DiskFull, StorageError: nothing of it is stored; the log is unharmed. Whatever `chunks`
                raises comes through.
        """

    def read_snapshot(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """The content of a stored snapshot, in chunks.

        Raises:
            CorruptStorage: at the end, if the content is not what was written.
            SnapshotGone: there is no such snapshot any more.
        """

    def read_chunk(self, meta: SnapshotMeta, offset: int, bytes_max: int) -> bytes:
        """Part of a stored snapshot: up to `bytes_max` bytes from `offset`.

        Args:
            meta: of a stored snapshot.
            offset: where in its content, in bytes from its beginning.
            bytes_max: how many bytes at most; fewer come only at the end.

        Raises:
            SnapshotGone: there is no such snapshot any more.
        """

    def receive_chunk(self, meta: SnapshotMeta, offset: int, data: bytes) -> int:
        """Keep part of a snapshot that another node sends, durably enough to resume.

        A chunk that does not continue what was received is not kept; a chunk of another snapshot
        than the last one starts a new transfer if its offset is 0, and is not kept otherwise.

        When the last chunk is here the content is checked; if it is not what `meta` says, it is
        thrown away.

        Args:
            meta: of the snapshot that is sent.
            offset: where in its content this part begins, in bytes.
            data: the part.

        Returns:
            The offset from which more of `meta` is wanted; `meta.size_bytes` when all is here and
            right, 0 when it was thrown away. (For an empty snapshot these are the same: install
            it, and be told.)

        Raises:
            DiskFull: the chunk was not kept.
        """

    def install_snapshot(self, meta: SnapshotMeta, identity: bytes | None = None) -> None:
        """Make a completely received snapshot the newest, atomically: the log keeps what follows
        entry (index, term) if it holds that very entry, and is empty after `index` otherwise.

        Args:
            meta: of a snapshot that was received.
            identity: as for `append`: stored in the same transaction, or, if this raises, as
                little as the snapshot is. None leaves what is stored.

        Raises:
            CorruptStorage: what was received is not the snapshot; it is thrown away, and the
                storage is as before.
            DiskFull: the storage is as before, and the snapshot is still there to be installed.
            StorageError: it was not received as a whole, or the log's base is beyond it (the
                storage is as before); or the disk failed.
        """

    def close(self) -> None:
        """Let go of it; what was appended stays. Idempotent."""
