"""A backup file proves itself: nothing that is not exactly what was written is taken for it."""

from __future__ import annotations

import io
import random

import msgspec
import pytest

from trioraft.backups.format import (
    BLOCK_BYTES_MAX,
    BackupHead,
    BackupReader,
    BackupWriter,
    UnusableBackup,
)

from .support import backup_of, head_of, read

PIECES = (b"one", b"", b"two" * 50, b"x" * 1000)
WHOLE = backup_of(*PIECES)


@pytest.mark.parametrize("pieces", [(), (b"",), PIECES, (bytes(3 * BLOCK_BYTES_MAX + 1),)])
def test_what_was_written_is_read(pieces: tuple[bytes, ...]) -> None:
    content = b"".join(pieces)
    assert read(backup_of(*pieces)) == (head_of(content), content)


def test_wherever_it_is_cut_it_is_refused() -> None:
    for length in range(len(WHOLE)):
        with pytest.raises(UnusableBackup, match=r"half a backup|is empty|is damaged"):
            read(WHOLE[:length])


def test_whichever_bit_is_another_it_is_refused() -> None:
    for position in range(len(WHOLE)):
        damaged = bytearray(WHOLE)
        damaged[position] ^= 1 << position % 8
        with pytest.raises(UnusableBackup):
            read(bytes(damaged))


def test_nothing_may_follow_it() -> None:
    with pytest.raises(UnusableBackup, match=f"at byte {len(WHOLE)}: something follows"):
        read(WHOLE + b"\0")


def test_a_damage_is_told_with_its_place() -> None:
    at = WHOLE.index(b"twotwo") - 8  # the block's own head
    damaged = WHOLE.replace(b"twotwo", b"twotwi", 1)
    with pytest.raises(UnusableBackup, match=f"the file is damaged at byte {at}: its CRC-32"):
        read(damaged)


def test_blocks_in_another_order_are_refused() -> None:
    one, other = backup_of(b"a" * 9, b"b" * 9), backup_of(b"b" * 9, b"a" * 9)
    begins = one.index(b"a" * 9) - 8
    swapped = (
        one[:begins]
        + one[begins + 17 : begins + 34]
        + one[begins : begins + 17]
        + one[begins + 34 :]
    )
    assert len(swapped) == len(one) == len(other)
    with pytest.raises(UnusableBackup, match=f"at byte {begins}:"):
        read(swapped)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (b"", "is empty"),
        (b"SQLite format 3\0" + bytes(100), r"no backup of trioraft: it begins with b'SQLite"),
        (WHOLE[:16] + b"\x00\x02" + WHOLE[18:], "format 2, written by a newer trioraft"),
        (WHOLE[:16] + b"\x00\x00" + WHOLE[18:], "its head cannot be"),
        (WHOLE[:18] + b"\xff\xff\xff\xff" + WHOLE[22:], "its head cannot be"),
    ],
    ids=["empty", "foreign", "newer", "format 0", "long head"],
)
def test_what_is_none_is_said(file: bytes, words: str) -> None:
    with pytest.raises(UnusableBackup, match=words):
        read(file)


def test_a_block_longer_than_any_is_never_allocated() -> None:
    at = WHOLE.index(b"one") - 8
    with pytest.raises(UnusableBackup, match=f"at byte {at}: a block of 4294967295 bytes"):
        read(WHOLE[:at] + b"\xff\xff\xff\xff" + WHOLE[at + 4 :])


def test_more_than_was_announced_is_refused_before_it_is_written() -> None:
    sink = io.BytesIO()
    writer = BackupWriter(sink, head_of(b"content"))
    writer.add(b"conten")
    before = sink.getvalue()
    with pytest.raises(UnusableBackup, match="8 of 7 bytes"):
        writer.add(b"ts")
    assert sink.getvalue() == before


@pytest.mark.parametrize("came", [b"conten", b"Content", b""])
def test_what_is_not_what_was_announced_gets_no_end(came: bytes) -> None:
    sink = io.BytesIO()
    writer = BackupWriter(sink, head_of(b"content"))
    writer.add(came)
    with pytest.raises(UnusableBackup, match="not the backup that was announced"):
        writer.end()
    with pytest.raises(UnusableBackup):
        read(sink.getvalue())


def test_a_content_that_is_not_what_the_head_says_is_refused_at_the_end() -> None:
    """All is right with it, but it is the content of another backup."""
    one, other = backup_of(b"content 1"), backup_of(b"content 2")
    content_begins = one.index(b"content 1") - 8
    with pytest.raises(UnusableBackup, match="and its head says 9 bytes"):
        read(one[:content_begins] + other[content_begins:])


def test_a_pipe_that_gives_little_at_a_time_will_do() -> None:
    class Pipe(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 0, 3) if size and size > 0 else size)

    reader = BackupReader(Pipe(WHOLE), "a pipe")
    assert b"".join(reader.chunks()) == b"".join(PIECES)


def test_fields_of_later_releases_are_passed_over() -> None:
    later = msgspec.msgpack.encode((*msgspec.structs.astuple(head_of(b"")), "later"))
    assert msgspec.msgpack.decode(later, type=BackupHead) == head_of(b"")


def test_garbage_is_refused_as_garbage() -> None:
    rng = random.Random(1)
    for _ in range(300):
        keep = rng.choice([0, 16, 26, rng.randrange(len(WHOLE))])
        with pytest.raises(UnusableBackup):
            read(WHOLE[:keep] + rng.randbytes(rng.randrange(200)))
