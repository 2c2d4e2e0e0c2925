"""How deep a value is, told without descending into it."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from trioraft import ConfigError
from trioraft.machines.nesting import NESTING_MAX, check_nesting, is_deeper

encode = msgspec.msgpack.encode


def depth_of(value: Any) -> int:
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 0


def drawn(rng: random.Random, depth: int) -> Any:
    roll = rng.random()
    if depth and roll < 0.3:
        return [drawn(rng, depth - 1) for _ in range(rng.choice((0, 1, 17)))]
    if depth and roll < 0.6:
        return {str(key): drawn(rng, depth - 1) for key in range(rng.choice((1, 16)))}
    scalars = (None, True, rng.randrange(-(2**63), 2**64), rng.random(), rng.randbytes(300))
    return rng.choice((*scalars, "\x80" * rng.choice((3, 40, 300)), rng.randrange(-40, 300)))


def test_it_agrees_with_whoever_descends() -> None:
    rng = random.Random(1)
    for _ in range(60):
        value = drawn(rng, 3)
        data, depth = encode(value), depth_of(value)
        assert [is_deeper(data, most) for most in (depth - 1, depth)] == [depth > 0, False]


@pytest.mark.parametrize("brick", [b"\x91", b"\x81\x01", b"\xdc\x00\x01", b"\xdf\0\0\0\x01\x01"])
def test_a_tower_is_refused_however_it_is_built(brick: bytes) -> None:
    check_nesting(brick * NESTING_MAX + b"\x01")
    check_nesting(brick * (NESTING_MAX - 1) + b"\x90")
    with pytest.raises(ConfigError):
        check_nesting(brick * NESTING_MAX + b"\x90")
    with pytest.raises(ConfigError, match="nested more than 64 deep"):
        check_nesting(brick * (NESTING_MAX + 1) + b"\x01")
    with pytest.raises(ConfigError):
        check_nesting(brick * 100_000)  # and is never finished


def test_what_looks_like_a_tower_is_none() -> None:
    check_nesting(encode([b"\x91" * 5000, "x", b"\xdf" * 70_000]))
    check_nesting(encode([[[]]] * 5000))
