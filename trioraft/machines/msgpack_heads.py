"""How msgpack says how many items follow: for what is encoded, and read, piece by piece."""

from __future__ import annotations

import msgspec


def array_head(count: int) -> bytes:
    """What stands before so many items."""
    if count < 16:
        return bytes([0x90 | count])
    return (
        b"\xdc" + count.to_bytes(2, "big") if count < 2**16 else b"\xdd" + count.to_bytes(4, "big")
    )


def map_head(count: int) -> bytes:
    """What stands before so many keys, each with its value."""
    if count < 16:
        return bytes([0x80 | count])
    return (
        b"\xde" + count.to_bytes(2, "big") if count < 2**16 else b"\xdf" + count.to_bytes(4, "big")
    )


def bytes_head(size_bytes: int) -> bytes:
    """What stands before so many bytes."""
    if size_bytes < 2**8:
        return b"\xc4" + size_bytes.to_bytes(1, "big")
    if size_bytes < 2**16:
        return b"\xc5" + size_bytes.to_bytes(2, "big")
    return b"\xc6" + size_bytes.to_bytes(4, "big")


def head_bytes(count: int) -> int:
    """How long the head of an array or of a map of so many items is."""
    return 1 if count < 16 else 3 if count < 2**16 else 5


def map_count(encoded: msgspec.Raw) -> int:
    """How many keys a map has.

    Raises:
        DecodeError: it is none.
    """
    head = memoryview(encoded)
    first = head[0]
    if first & 0xF0 == 0x80:
        return first & 0x0F
    if first == 0xDE:
        return int.from_bytes(head[1:3], "big")
    if first == 0xDF:
        return int.from_bytes(head[1:5], "big")
    raise msgspec.DecodeError(f"no map begins with {first:#x}")
