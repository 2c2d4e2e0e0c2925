"""msgpack that is read piece by piece is what msgspec makes of it as a whole."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from trioraft.machines.items import ALIKE, ItemReader
from trioraft.machines.msgpack_heads import array_head, bytes_head, head_bytes, map_head
from trioraft.machines.sessions import (
    _USUAL,
    CLIENT_ID_BYTES,
    SessionMachine,
    encode_command,
    encode_open,
)
from trioraft.machines.viewed import PIECE_ENTRIES_MAX

encode, decode = msgspec.msgpack.encode, msgspec.msgpack.decode


def drawn(rng: random.Random, depth: int = 0) -> Any:
    """Something that msgpack has, of any kind and size."""
    sizes = (0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536)
    kind = rng.randrange(12 if depth < 3 else 9)
    match kind:
        case 0:
            return rng.choice([None, True, False])
        case 1:
            return rng.choice([-1, 1]) * rng.randrange(2 ** rng.choice([3, 7, 8, 16, 32, 63]))
        case 2:
            return rng.random()
        case 3 | 4:
            return "ä" * (rng.choice(sizes[: 8 if depth else 10]) // 2)
        case 5:
            return bytes(rng.choice(sizes[: 8 if depth else 10]))
        case 6:
            return datetime.fromtimestamp(rng.randrange(2**34) + rng.choice([0, 0.5]), UTC)
        case 7:
            return msgspec.msgpack.Ext(rng.randrange(1, 100), bytes(rng.choice([*sizes[:8], 2, 4])))
        case 8:
            return msgspec.msgpack.Ext(5, bytes(rng.choice([1, 2, 4, 8, 16])))
        case 9:
            return [drawn(rng, depth + 1) for _ in range(rng.choice([0, 3, 15, 16, 20]))]
        case _:
            return {n: drawn(rng, depth + 1) for n in range(rng.choice([0, 2, 15, 16]))}


def cut(rng: random.Random, data: bytes) -> list[bytes]:
    """The same, cut anywhere."""
    chunks = []
    while data:
        size = rng.choice([0, 1, 2, 7, 100, 70_000])
        chunks.append(data[:size])
        data = data[size:]
    return chunks


@pytest.mark.parametrize("seed", range(40))
def test_it_is_what_msgspec_reads(seed: int) -> None:
    print("seed", seed)
    rng = random.Random(seed)
    values = [drawn(rng) for _ in range(10)]
    many = [drawn(rng, 3) for _ in range(rng.choice([0, 15, 16, 1200]))]
    table = {number: drawn(rng, 3) for number in range(rng.choice([0, 15, 16, 1200]))}
    large = rng.randbytes(rng.choice([0, 100, 300, 70_000]))
    whole = b"".join(map(encode, [*values, many, table, large, 7]))
    reader = ItemReader(cut(rng, whole))
    assert [reader.one() for _ in values] == list(map(encode, values))
    assert reader.count(is_map=True) is None
    assert reader.count(is_map=False) == len(many)
    pieces = list(reader.pieces(len(many), 1, array_head))
    assert encode([item for piece in pieces for item in decode(piece)]) == encode(many)
    assert all(len(decode(piece)) <= PIECE_ENTRIES_MAX for piece in pieces)
    assert reader.count(is_map=False) is None
    assert reader.count(is_map=True) == len(table)
    read: dict[Any, Any] = {}
    for piece in reader.pieces(len(table), 2, map_head):
        read.update(decode(piece))
    assert encode(read) == encode(table)
    assert b"".join(reader.binary()) == large
    assert not reader.is_at_end()
    assert reader.one() == encode(7)
    assert reader.is_at_end()


@pytest.mark.parametrize("seed", range(20))
def test_what_is_cut_short_is_said_to_be_so(seed: int) -> None:
    print("seed", seed)
    rng = random.Random(seed)
    whole = encode([drawn(rng) for _ in range(3)])
    reader = ItemReader(cut(rng, whole[: rng.randrange(len(whole))]))
    with pytest.raises(msgspec.DecodeError, match="cut short"):
        reader.one()


def test_what_is_no_msgpack_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError, match="0xc1"):
        ItemReader([b"\xc1"]).one()
    with pytest.raises(msgspec.DecodeError, match="cut short"):
        ItemReader([b"\xdf\xff\xff\xff\xff" + b"\x01" * 100]).one()


@pytest.mark.parametrize("count", [0, 15, 16, 65_535, 65_536])
def test_heads_are_those_of_msgspec(count: int) -> None:
    items, entries = encode([1] * count), encode(dict.fromkeys(range(count), 1))
    assert items[: head_bytes(count)] == array_head(count)
    assert entries[: head_bytes(count)] == map_head(count)
    assert encode(bytes(count)) == bytes_head(count) + bytes(count)


def test_a_piece_is_bounded_however_large_the_chunks_are() -> None:
    data = encode(list(range(100_000)))
    reader = ItemReader([data])
    assert reader.count(is_map=False) == 100_000
    pieces = list(reader.pieces(100_000, 1, array_head))
    assert max(len(decode(piece)) for piece in pieces) == PIECE_ENTRIES_MAX


def a_session(rng: random.Random) -> list[Any]:
    """Something like a session of `SessionMachine`, mostly a usual one."""
    results: dict[int, Any] = {}
    for _ in range(rng.choice([0, 1, 1, 1, 1, 1, 1, 20]) if rng.random() < 0.1 else 1):
        value = bytes(rng.choice([31, 32, 300]) if rng.random() < 0.05 else 2)
        results[rng.randrange(2 ** rng.choice([7, 8, 16, 62]))] = [0, value]
    return [rng.randrange(2**62), [rng.randbytes(16), rng.randrange(300), results, 7]]


@pytest.mark.parametrize("seed", range(20))
def test_what_looks_alike_is_found_as_what_does_not(seed: int) -> None:
    print("seed", seed)
    rng = random.Random(seed)
    many = [a_session(rng) for _ in range(rng.choice([0, 5, 64, 512, 2000]))]
    reader = ItemReader(cut(rng, encode(many)))
    count = reader.count(is_map=False) or 0
    pieces = list(reader.pieces(count, 1, array_head, _USUAL))
    assert [item for piece in pieces for item in decode(piece)] == many
    assert all(len(decode(piece)) <= PIECE_ENTRIES_MAX for piece in pieces)
    assert reader.is_at_end()


@pytest.mark.parametrize("result", [None, 7, "short", list(range(20))])
def test_a_session_with_a_short_result_looks_as_usual(result: Any) -> None:
    """As `SessionMachine` writes them now: otherwise reading takes several times as long."""
    machine = SessionMachine(Answering(result))
    for number in range(1, ALIKE + 1):
        opening = encode_open(number.to_bytes(CLIENT_ID_BYTES, "big"))
        session_id = machine.apply(number, machine.prepare_command(opening))
        machine.apply(number + 1000, encode_command(session_id, number * 10**9, b""))
    table = b"".join(machine.snapshot())
    assert _USUAL.search(table)


class Answering:
    """Says always the same."""

    def __init__(self, result: Any) -> None:
        self.result = result

    def apply(self, index: int, data: bytes) -> Any:
        """Say it."""
        return self.result

    def snapshot(self) -> bytes:
        """There is no state."""
        return b""

    def restore(self, chunks: Iterable[bytes]) -> None:
        """There is none."""
