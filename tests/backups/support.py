"""What the tests of backups share: a backup by hand."""

from __future__ import annotations

import io
import zlib

from trioraft.backups.format import BackupHead, BackupReader, BackupWriter, EndedHistory
from trioraft.core.types import Configuration, SnapshotMeta

UUID = "0123456789abcdef0123456789abcdef"
THREE = Configuration(("0", "1", "2"), index=1, disks={"0": 100, "1": 101, "2": 102})


def head_of(content: bytes, machine: str = "kv in sessions") -> BackupHead:
    meta = SnapshotMeta(7, 3, THREE, len(content), zlib.crc32(content))
    ancestors = (EndedHistory("f" * 32, 5, 2),)
    return BackupHead("orders", "1", UUID, meta, 4, 1_700_000_000.0, machine, ancestors=ancestors)


def backup_of(*pieces: bytes, machine: str = "kv in sessions") -> bytes:
    """The file."""
    sink = io.BytesIO()
    writer = BackupWriter(sink, head_of(b"".join(pieces), machine))
    for piece in pieces:
        writer.add(piece)
    writer.end()
    return sink.getvalue()


def read(file: bytes) -> tuple[BackupHead, bytes]:
    """What is in it; whatever it is, it was read to its end."""
    reader = BackupReader(io.BytesIO(file), "the file")
    content = b"".join(reader.chunks())
    assert reader.is_whole
    return reader.head, content
