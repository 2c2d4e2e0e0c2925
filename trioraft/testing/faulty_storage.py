"""FaultyStorage: any storage, with faults that a test switches on.

A fault comes before the storage within sees the call: what failed stored nothing, and what is held
up is not stored yet. Faults are switched from the test's thread while a worker thread writes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import final

from ..core.errors import (
    ConfigError,
    DescriptorsExhausted,
    DiskFull,
    ResourceExhausted,
    StorageError,
)
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
from ..storage.base import Storage


@final
class FaultyStorage:
    """A storage around another.

    ```python
    storage = FaultyStorage(SQLiteStorage(tmp_path), blocking=True)
    with storage.held():            # a disk that hangs
        proposal = node.submit(b"x")  # of a node that has this storage
    storage.disk_full = True        # until it is False again
    storage.no_descriptors = True   # snapshots can neither be written nor read
    storage.fail_next_append()      # an fsync that fails; the node must die of it
    ```

    Args:
        inner: what keeps the data.
        blocking: overrides what `inner` says; True sends a `MemoryStorage` into worker threads,
            so that it can be held up.

    All other methods are as `Storage` has them, and go to the storage inside.
    """

    def __init__(self, inner: Storage, *, blocking: bool | None = None) -> None:
        self.inner = inner
        self.blocking: bool = inner.blocking if blocking is None else blocking
        self.is_volatile: bool = getattr(inner, "is_volatile", False)
        self.disk_full = False
        """While True, whatever writes raises `DiskFull`."""
        self.no_descriptors = False
        """While True, whatever has to open a file raises `DescriptorsExhausted`: snapshots. What
        the log needs is open."""
        self.delay_s: float = 0.0
        """How long each append waits before it writes, in seconds. Blocking storages only."""
        self.writes: int = 0
        """How many appends have been written."""
        self.calls: list[str] = []
        """The name of every call, in order, failed ones too."""
        self._next_error: StorageError | None = None
        self._failure: StorageError | None = None
        self._may_write = threading.Event()
        self._may_write.set()
        self._waiting = threading.Event()

    # -- switches --------------------------------------------------------------------------

    def fail_next_append(self, error: StorageError | None = None) -> None:
        """Let the next append raise this error; after anything but a lack of
        something (`ResourceExhausted`) every call is refused until the storage is opened anew, as
        after a failed fsync."""
        self._next_error = error or StorageError(
            "the disk failed (on purpose): what is stored is unknown"
        )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold every append back until the end of the block: a disk that hangs.

        Raises:
            ConfigError: this storage is not called in threads, so it would stop everything.
        """
        self._check_may_wait("held()")
        self._may_write.clear()
        try:
            yield
        finally:
            self._waiting.clear()
            self._may_write.set()

    def wait_until_held(self, timeout_s: float) -> bool:
        """Wait until an append is being held back; call it in a thread beside Trio.

        Args:
            timeout_s: how long to wait, in seconds.

        Returns:
            Whether one is.
        """
        return self._waiting.wait(timeout_s)

    def _check_may_wait(self, what: str) -> None:
        if not self.blocking:
            raise ConfigError(
                f"{what} needs a storage that is called in threads: give FaultyStorage(…, "
                "blocking=True)"
            )

    # -- the storage -----------------------------------------------------------------------

    @property
    def notices(self) -> Sequence[str]:
        """What the inner storage found damaged."""
        return self.inner.notices

    def open(self, *, cluster_id: str, node_id: NodeId) -> Recovered | None:
        """See `Storage.open`; faults of the past are over."""
        self.calls.append("open")
        recovered = self.inner.open(cluster_id=cluster_id, node_id=node_id)
        self._failure = None
        return recovered

    def append(
        self,
        hard_state: HardState | None,
        entries: Sequence[Entry],
        replace_from: LogIndex | None,
        identity: bytes | None = None,
    ) -> None:
        """Fail or wait as was said; else as the storage inside."""
        self._begin("append")
        if self.delay_s:
            self._check_may_wait("delay_s")
            threading.Event().wait(self.delay_s)  # a worker thread's sleep
        if not self._may_write.is_set():
            self._waiting.set()
            self._may_write.wait()
        error, self._next_error = self._next_error, None
        if error is not None:
            if not isinstance(error, ResourceExhausted):
                self._failure = error
            raise error
        self._check_room()
        self.inner.append(hard_state, entries, replace_from, identity)
        self.writes += 1

    def compact(self, base_index: LogIndex, base_term: Term) -> None:
        """Fail as was said; else as the storage inside."""
        self._begin("compact")
        self._check_room()
        self.inner.compact(base_index, base_term)

    def write_snapshot(
        self,
        index: LogIndex,
        term: Term,
        configuration: Configuration,
        chunks: Iterable[bytes],
    ) -> SnapshotMeta:
        """Fail as was said; else as the storage inside."""
        self._begin("write_snapshot")
        self._check_room()
        self._check_descriptors()
        return self.inner.write_snapshot(index, term, configuration, chunks)

    def read_snapshot(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """Fail as was said; else as the storage inside."""
        self._begin("read_snapshot")
        self._check_descriptors()
        return self.inner.read_snapshot(meta)

    def read_chunk(self, meta: SnapshotMeta, offset: int, bytes_max: int) -> bytes:
        """Fail as was said; else as the storage inside."""
        self._begin("read_chunk")
        self._check_descriptors()
        return self.inner.read_chunk(meta, offset, bytes_max)

    def receive_chunk(self, meta: SnapshotMeta, offset: int, data: bytes) -> int:
        """Fail as was said; else as the storage inside."""
        self._begin("receive_chunk")
        self._check_room()
        self._check_descriptors()
        return self.inner.receive_chunk(meta, offset, data)

    def install_snapshot(self, meta: SnapshotMeta, identity: bytes | None = None) -> None:
        """Fail as was said; else as the storage inside."""
        self._begin("install_snapshot")
        self._check_room()
        self._check_descriptors()
        self.inner.install_snapshot(meta, identity)

    def close(self) -> None:
        """Close the storage inside."""
        self.calls.append("close")
        self.inner.close()

    def _begin(self, call: str) -> None:
        self.calls.append(call)
        if self._failure is not None:
            raise StorageError(f"the disk failed earlier (on purpose): {self._failure}")

    def _check_room(self) -> None:
        if self.disk_full:
            raise DiskFull("no room (on purpose): nothing of this call is stored")

    def _check_descriptors(self) -> None:
        if self.no_descriptors:
            raise DescriptorsExhausted("nothing can be opened (on purpose): it may be tried again")
