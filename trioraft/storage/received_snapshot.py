"""ReceivedSnapshot: a snapshot on its way from another node, in a file that survives a restart.

Rules of this file:

* One transfer at a time; its file says for which snapshot it is, and its length how far it got.
* Only what continues it is kept (hazard S2), and a restart resumes it (hazard S4).
* It becomes a snapshot only after its CRC-32 was found right: with the last chunk, and again when
  it is installed. The CRC runs along with the chunks; after a restart it is taken from the file,
  once.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import BinaryIO, final

import attrs

from ..core.errors import StorageError
from ..core.types import SnapshotMeta
from . import refusals
from .directory import BRING_BACK, Folder, create_private, is_named, sync_file
from .health import DISK_TROUBLE, Health, is_out_of_descriptors
from .snapshot_files import CHUNK_BYTES, SYNC_EVERY_BYTES, Description, encode_header, read_header

RECEIVED = "received.part"


@attrs.define
class _Transfer:
    meta: SnapshotMeta
    header_bytes: int
    received_bytes: int = 0
    crc: int = 0
    unsynced_bytes: int = 0


@final
class ReceivedSnapshot:
    """The transfer that is under way, if any. Called from the log's thread only."""

    def __init__(self, held: Folder, cluster_id: str, health: Health) -> None:
        self._held = held
        self.path: Path = held.path / RECEIVED
        self._cluster_id = cluster_id
        self._health = health
        self._transfer: _Transfer | None = None
        self._file: BinaryIO | None = None

    def find(self) -> SnapshotMeta | None:
        """Look at what an earlier process received, without changing anything.

        Returns:
            The meta, if all of it is here and right.

        Raises:
            DescriptorsExhausted: it cannot be looked at now.
        """
        try:
            with self.path.open("rb") as file:
                header = read_header(file, str(self.path))
                transfer = _Transfer(header.description.meta, header.header_bytes)
                if header.description.cluster_id != self._cluster_id:
                    return None
                while chunk := file.read(CHUNK_BYTES):
                    transfer.crc = zlib.crc32(chunk, transfer.crc)
                    transfer.received_bytes += len(chunk)
        except (OSError, StorageError) as error:
            if isinstance(error, OSError) and is_out_of_descriptors(error):
                raise self._health.error(f"opening {self.path}", error) from error
            return None  # it was never promised; the next transfer starts over
        if transfer.received_bytes > transfer.meta.size_bytes:
            return None
        self._transfer = transfer
        return transfer.meta if _is_right(transfer) else None

    def receive(self, meta: SnapshotMeta, offset: int, data: bytes) -> int:
        transfer = self._transfer
        if transfer is None or transfer.meta != meta:
            if offset != 0:
                return 0
            transfer = self._start(meta)
        end_bytes = offset + len(data)
        if offset == transfer.received_bytes and data and end_bytes <= meta.size_bytes:
            self._keep(transfer, data)
        # Of an empty one, 0 would say nothing: that is told when it is installed.
        if 0 < meta.size_bytes == transfer.received_bytes and not _is_right(transfer):
            self.throw_away()
            return 0
        return transfer.received_bytes

    def complete(self, meta: SnapshotMeta) -> Path:
        """The complete, durable file of this snapshot.

        Raises:
            CorruptStorage: it is not the snapshot; it is thrown away.
            StorageError: it was not received as a whole.
        """
        transfer = self._transfer
        if transfer is None or transfer.meta != meta or transfer.received_bytes < meta.size_bytes:
            here = transfer.received_bytes if transfer and transfer.meta == meta else 0
            raise refusals.incomplete(meta, here)
        if not _is_right(transfer):
            self.throw_away()
            raise refusals.not_as_sent(meta, transfer.crc)
        with self._health.watching(f"making {self.path} durable"):
            descriptor = self._opened(transfer).fileno()
            sync_file(descriptor)
        if not is_named(self.path, descriptor):  # before the log builds on it (hazard D7)
            raise self._health.fail(
                f"{self.path} was removed, moved or replaced while a snapshot was being received. "
                f"{BRING_BACK}"
            )
        return self.path

    def was_adopted(self) -> None:
        """The file has another name now; there is no transfer any more."""
        self.let_go()
        self._transfer = None

    def throw_away(self) -> None:
        """Forget the transfer."""
        self.was_adopted()
        with self._health.watching(f"removing {self.path}"):
            self.path.unlink(missing_ok=True)

    def let_go(self) -> None:
        """Close the file; the transfer may be resumed."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _start(self, meta: SnapshotMeta) -> _Transfer:
        self.throw_away()
        header = encode_header(Description(self._cluster_id, meta))
        with self._health.watching(f"writing {self.path}"):
            self._held.make()
            with self._held.syncing():
                self._file = os.fdopen(create_private(self.path), "w+b", buffering=0)
                _write_all(self._file, header)
                sync_file(self._file.fileno())
        self._transfer = _Transfer(meta, len(header))
        return self._transfer

    def _keep(self, transfer: _Transfer, data: bytes) -> None:
        file = self._opened(transfer)
        end_bytes = transfer.header_bytes + transfer.received_bytes
        try:
            file.seek(end_bytes)
            _write_all(file, data)
            transfer.unsynced_bytes += len(data)
            if transfer.unsynced_bytes >= SYNC_EVERY_BYTES:
                sync_file(file.fileno())
                transfer.unsynced_bytes = 0
        except DISK_TROUBLE as error:
            trouble = self._health.error(f"writing {self.path}", error)
            with self._health.watching(f"rolling back {self.path}"):
                file.truncate(end_bytes)
            raise trouble from error
        transfer.received_bytes += len(data)
        transfer.crc = zlib.crc32(data, transfer.crc)

    def _opened(self, transfer: _Transfer) -> BinaryIO:
        if self._file is None:
            with self._health.watching(f"opening {self.path}"):
                self._file = self.path.open("r+b", buffering=0)
                self._file.truncate(transfer.header_bytes + transfer.received_bytes)
        return self._file


def _is_right(transfer: _Transfer) -> bool:
    meta = transfer.meta
    return transfer.received_bytes == meta.size_bytes and transfer.crc == meta.checksum


def _write_all(file: BinaryIO, data: bytes) -> None:
    """An unbuffered write may take only a part, when the disk is nearly full."""
    view = memoryview(data)
    while view:
        view = view[os.write(file.fileno(), view) :]
