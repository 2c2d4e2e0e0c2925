"""Mutations: an input that was right, and one that is a little wrong.

Rules of this file:

* All chance comes from one `random.Random`: the same seed and the same inputs give the same bytes.
* msgpack is taken apart and put together again, so that what is wrong is one field and not the
  whole; bytes within it that are msgpack themselves are taken apart as well.
* Some mutations know nothing of structure: those find what assumes that others do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final, final

import msgspec

INPUT_BYTES_MAX: Final = 1 << 16
"""Longest input that is made: what is longer costs time and says nothing else."""
INTEGERS: Final = (
    *(0, 1, 2, 3, 5, 10, 64, 100, 127, 128, 255, 256, 2**15, 2**16, 2**31 - 1, 2**31, 2**32),
    *(2**47, 2**48, 2**48 + 1, 2**53, 2**61, 2**62 - 1, 2**62, 2**62 + 1, 2**63 - 1, 2**63),
    *(2**64 - 1, -1, -2, -128, -(2**31), -(2**63)),
)
FLOATS: Final = (0.0, -0.0, 0.1, -1.0, 1e-9, 5e-324, 1e18, 1e308, math.nan, math.inf, -math.inf)
TEXTS: Final = (
    *("", "0", "1", "2", "a", "é" * 50, "\x1b[31m", "a" * 300, "a" * 5000, "\u202e", "\0", " "),
    *("\u2028", "😀", "../../x", "%s", "{}", "nan", "-1"),
)
ODD_BYTES: Final = bytes.fromhex("c0c1c4c6cacbcfd3dbdddf80ff")
LENGTHS: Final = (b"\xdd\xff\xff\xff\xff", b"\xdf\x7f\xff\xff\xff", b"\xc6\xff\xff\xff\xff")
"""An array, a map and bytes that are said to be very long."""
DEPTHS: Final = (2, 60, 64, 65, 66, 200, 1000, 5000, 50_000)
TOKENS: Final = (
    *(
        b"\n",
        b"\r\n",
        b"\t",
        b'"',
        b"'",
        b"[",
        b"]",
        b"{",
        b"}",
        b"=",
        b":",
        b",",
        b"#",
        b"\\u0000",
    ),
    *(b"NaN", b"Infinity", b"-1", b"1e999", b"0x", b"9" * 20, b"9" * 5000, b"null", b"true", b"\0"),
    *(b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"--- PASS:", b"=== RUN   ", b"\\ud800"),
    b"\x1b[",
)

_decode = msgspec.msgpack.Decoder().decode
_encode = msgspec.msgpack.Encoder().encode


def nested(depth: int, inside: bytes = b"\xc0", opening: bytes = b"\x91") -> bytes:
    """A list in a list in a list, as msgpack; to encode such a list would take the stack."""
    return opening * depth + inside


def unpacked(payload: bytes) -> Any:
    """What is in it, or the bytes themselves where that is not msgpack."""
    try:
        return _decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError, TypeError):
        return payload


@final
class Mutator:
    """Makes inputs.

    Args:
        rng: where all chance comes from.
        words: texts and bytes that mean something to the target, such as names of nodes.
    """

    def __init__(self, rng: Random, words: Sequence[str | bytes] = ()) -> None:
        self.rng = rng
        self._texts = (*TEXTS, *(word for word in words if isinstance(word, str)))
        self._words = (*TOKENS, *(w if isinstance(w, bytes) else w.encode() for w in words))

    # -- msgpack ---------------------------------------------------------------------------

    def packed(self, payload: bytes, others: Sequence[bytes]) -> bytes:
        """A payload of msgpack, changed.

        Args:
            payload: the one to change.
            others: of the same kind, to take parts from.
        """
        chance = self.rng.random()
        if chance < 0.2:
            return self.bytes_of(payload, others)
        value = _taken_apart(payload)
        if value is None:
            return self.bytes_of(payload, others)
        prefix, content = value
        if chance < 0.25 and isinstance(content, list):
            deep = nested(self.rng.choice(DEPTHS), opening=self.rng.choice((b"\x91", b"\x81\x01")))
            content = [*content, msgspec.Raw(deep)]
        elif chance < 0.35 and isinstance(content, list) and others:
            content = self._crossed(content, _taken_apart(self.rng.choice(others)))
        elif isinstance(content, list) and content and chance < 0.8:
            content = list(content)
            for _ in range(self.rng.randint(1, 2)):
                place = self.rng.randrange(len(content))
                content[place] = self.value(content[place])
        else:
            content = self.value(content)
        try:
            return prefix + _encode(content)[:INPUT_BYTES_MAX]
        except (TypeError, ValueError, OverflowError, RecursionError):
            return self.bytes_of(payload, others)

    def _crossed(self, content: list[Any], other: tuple[bytes, Any] | None) -> list[Any]:
        """The head of one and the tail of another."""
        if other is None or not isinstance(other[1], list):
            return [*content, None]
        return content[: self.rng.randint(0, len(content))] + other[1][self.rng.randint(0, 3) :]

    def value(self, value: Any, depth: int = 0) -> Any:
        """A value in place of this one: mostly of its type, and near it."""
        chance = self.rng.random()
        if chance < 0.12:
            return self.anything()
        if isinstance(value, bool) or value is None:
            return self.rng.choice((True, False, None))
        if isinstance(value, int):
            return self._integer(value)
        if isinstance(value, float):
            return self.rng.choice((*FLOATS, value * 2, -value))
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, bytes):
            return self._inside(value, depth)
        if isinstance(value, list):
            return self._list(value, depth)
        if isinstance(value, dict):
            return self._map(value, depth)
        return self.anything()

    def anything(self) -> Any:
        """A value of any type."""
        choose = self.rng.choice
        makers: tuple[Callable[[], Any], ...] = (
            lambda: choose(INTEGERS),
            lambda: choose(FLOATS),
            lambda: choose(self._texts),
            lambda: self.rng.randbytes(self.rng.choice((0, 1, 8, 16, 300))),
            lambda: choose((None, True, False)),
            lambda: choose(([], {}, [[]], {"a": {}}, [None] * 70, {str(n): n for n in range(70)})),
            lambda: msgspec.Raw(nested(choose(DEPTHS))),
            lambda: msgspec.Raw(choose(LENGTHS)),
            lambda: msgspec.Raw(b"\xa2\xff\xfe"),  # text that is no UTF-8
            lambda: msgspec.msgpack.Ext(choose((-1, 0, 5)), b"\0" * 12),
        )
        return choose(makers)()

    def _integer(self, value: int) -> int:
        choices = (value + 1, value - 1, value * 2, -value, value ^ 1, self.rng.choice(INTEGERS))
        return self.rng.choice(choices)

    def _text(self, value: str) -> str:
        place = self.rng.randint(0, len(value))
        odd = chr(self.rng.choice((0, 0x1B, 0x7F, 0x85, 0x202E, 0x10FFFF)))
        choices = (
            self.rng.choice(self._texts),
            value[:place],
            value + self.rng.choice(self._texts),
            value[:place] + odd + value[place:],
        )
        return self.rng.choice(choices)

    def _inside(self, value: bytes, depth: int) -> bytes:
        """Bytes: if they are msgpack themselves, as the commands of sessions are, mostly inside."""
        if depth < 4 and self.rng.random() < 0.7:
            taken = _taken_apart(value)
            if taken is not None:
                try:
                    return taken[0] + _encode(self.value(taken[1], depth + 1))
                except (TypeError, ValueError, OverflowError, RecursionError):
                    return value
        return self.bytes_of(value, ())

    def _list(self, value: list[Any], depth: int) -> list[Any]:
        changed = list(value)
        chance = self.rng.random()
        if changed and chance < 0.6:
            place = self.rng.randrange(len(changed))
            changed[place] = self.value(changed[place], depth + 1)
        elif changed and chance < 0.7:
            del changed[self.rng.randrange(len(changed))]
        elif changed and chance < 0.8:
            changed = changed + changed
        elif changed and chance < 0.85:
            changed = changed * self.rng.choice((10, 100, 1000))
            del changed[5000:]
        elif chance < 0.92:
            self.rng.shuffle(changed)
        else:
            changed.insert(self.rng.randint(0, len(changed)), self.anything())
        return changed

    def _map(self, value: dict[Any, Any], depth: int) -> dict[Any, Any]:
        changed = dict(value)
        if changed and self.rng.random() < 0.7:
            key = self.rng.choice(list(changed))
            item = changed.pop(key)
            if self.rng.random() < 0.7:
                changed[key] = self.value(item, depth + 1)
            elif isinstance(key, str):
                changed[self._text(key)] = item
            return changed
        changed[self.rng.choice((*self._texts, *INTEGERS))] = self.anything()
        return changed

    # -- bytes and text --------------------------------------------------------------------

    def bytes_of(self, data: bytes, others: Sequence[bytes]) -> bytes:
        """Bytes, changed without a look at what they mean."""
        changed = bytearray(data)
        for _ in range(self.rng.randint(1, 4)):
            self._scratch(changed, others)
        return bytes(changed[:INPUT_BYTES_MAX])

    def _scratch(self, data: bytearray, others: Sequence[bytes]) -> None:
        rng = self.rng
        chance = rng.random()
        place = rng.randint(0, len(data))
        if data and chance < 0.3:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        elif data and chance < 0.45:
            data[rng.randrange(len(data))] = rng.choice(ODD_BYTES)
        elif data and chance < 0.55:
            del data[place:]
        elif data and chance < 0.65:
            del data[place : place + rng.randint(1, 8)]
        elif chance < 0.75:
            data[place:place] = rng.randbytes(rng.randint(1, 8))
        elif chance < 0.8:
            data[place:place] = rng.choice(LENGTHS)
        elif chance < 0.83:
            data[place:place] = nested(rng.choice(DEPTHS))
        elif others and chance < 0.93:
            other = rng.choice(others)
            start = rng.randint(0, len(other))
            data[place:] = other[start : start + 4096]
        else:
            end = min(len(data), place + rng.randint(1, 40))
            data[place:place] = data[place:end] * rng.choice((1, 2, 50))

    def text(self, data: bytes, others: Sequence[bytes]) -> bytes:
        """Text of lines, changed: words, lines, numbers, and now and then mere bytes."""
        rng = self.rng
        if rng.random() < 0.2:
            return self.bytes_of(data, others)
        lines = data.split(b"\n")
        for _ in range(rng.randint(1, 3)):
            self._rewrite(lines, others)
        return b"\n".join(lines)[:INPUT_BYTES_MAX]

    def _rewrite(self, lines: list[bytes], others: Sequence[bytes]) -> None:
        rng = self.rng
        place = rng.randrange(len(lines)) if lines else 0
        line = lines[place] if lines else b""
        at = rng.randint(0, len(line))
        chance = rng.random()
        if not lines or chance < 0.1:
            lines.insert(place, rng.choice(self._words))
        elif chance < 0.45:
            lines[place] = line[:at] + rng.choice(self._words) + line[at + rng.choice((0, 1, 4)) :]
        elif chance < 0.55:
            lines[place] = _with_number(line, str(rng.choice((*INTEGERS, *FLOATS))).encode(), rng)
        elif chance < 0.62:
            del lines[place]
        elif chance < 0.69:
            lines.insert(rng.randint(0, len(lines)), line)
        elif chance < 0.75:
            lines.insert(rng.randint(0, len(lines)), lines.pop(place))
        elif chance < 0.8:
            opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"{a=", b"}")))
            depth = rng.choice(DEPTHS[:-1])
            lines[place] = line[:at] + opening * depth + closing * depth + line[at:]
        elif others and chance < 0.93:
            lines[place] = rng.choice(rng.choice(others).split(b"\n"))
        else:
            lines[place] = line[:at] + line[at:] * rng.choice((2, 20))


def _with_number(line: bytes, number: bytes, rng: Random) -> bytes:
    """The line with another number in place of one of its own."""
    starts = [
        place
        for place in range(len(line))
        if line[place : place + 1].isdigit() and not line[place - 1 : place].isdigit()
    ]
    if not starts:
        return line + number
    start = end = rng.choice(starts)
    while line[end : end + 1].isdigit():
        end += 1
    return line[:start] + number + line[end:]


def _taken_apart(payload: bytes) -> tuple[bytes, Any] | None:
    """What stands before the msgpack (a version of one byte, or nothing), and what that says."""
    for prefix in (payload[:0], payload[:1]):
        content = payload[len(prefix) :]
        if content and (content[0] >= 0x80 or prefix):
            found = unpacked(content)
            if isinstance(found, list | dict):
                return prefix, found
    return None
