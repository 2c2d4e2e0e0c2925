"""Nesting: how deep a command may be, looked at before it is proposed.

Decoding, encoding and comparing descend with the value. How deep a stack may be differs between
machines and releases of Python; what stands in the log, and in a result, is far from any such end
(hazard E1). A node does not open where its stack has not much more room than that.
"""

from __future__ import annotations

from typing import Final

from ..core.errors import ConfigError

NESTING_MAX: Final = 64
"""Lists and maps within each other, at most, in the msgpack of one command."""

_CONTAINERS: Final = bytes([*range(0x80, 0xA0), *range(0xDC, 0xE0)])
_OTHERS: Final = bytes(set(range(256)) - set(_CONTAINERS))
_FIXED: Final = {  # bytes of a value that has no length of its own, with its first one
    **dict.fromkeys((*range(0x80), 0xC0, 0xC1, 0xC2, 0xC3, *range(0xE0, 0x100)), 1),
    **{0xA0 + length: 1 + length for length in range(32)},
    0xCA: 5,
    0xCB: 9,
    0xCC: 2,
    0xCD: 3,
    0xCE: 5,
    0xCF: 9,
    0xD0: 2,
    0xD1: 3,
    0xD2: 5,
    0xD3: 9,
    0xD4: 3,
    0xD5: 4,
    0xD6: 6,
    0xD7: 10,
    0xD8: 18,
}
_COUNTED: Final = {  # bytes of the length, and what else stands before the content
    0xC4: (1, 0),
    0xC5: (2, 0),
    0xC6: (4, 0),
    0xC7: (1, 1),
    0xC8: (2, 1),
    0xC9: (4, 1),
    0xD9: (1, 0),
    0xDA: (2, 0),
    0xDB: (4, 0),
}


def check_nesting(data: bytes) -> None:
    """Refuse what is nested too deep.

    Args:
        data: msgpack; what is wrong with it otherwise is not looked at.

    Raises:
        ConfigError: it is deeper than `NESTING_MAX`.
    """
    if is_deeper(data, NESTING_MAX):
        raise ConfigError(
            f"the command is nested more than {NESTING_MAX} deep: it was not taken. Send flatter "
            "values"
        )


def check_result_nesting(encoded: bytes) -> None:
    """Refuse a result that is nested too deep. Its command is applied, with this error.

    Raises:
        ConfigError: it is deeper than `NESTING_MAX`.
    """
    if is_deeper(encoded, NESTING_MAX):
        raise result_too_deep()


def result_too_deep() -> ConfigError:
    """What such a command has as its result, on every node."""
    return ConfigError(
        f"the command was applied, but its result is nested more than {NESTING_MAX} deep: return "
        "flatter values"
    )


def is_deeper(data: bytes, depth_max: int) -> bool:
    """Whether more than so many lists and maps are within each other, as far as the first value
    of this msgpack goes."""
    if len(data) <= depth_max or len(data.translate(None, _OTHERS)) <= depth_max:
        return False  # there are not so many, wherever they stand
    missing: list[int] = []  # of each that is open: items that are still to come
    place, end = 0, len(data)
    while place < end:
        first = data[place]
        size_bytes = _FIXED.get(first)
        items = 0
        if size_bytes is not None:
            place += size_bytes
        elif first in _COUNTED:
            width, more = _COUNTED[first]
            place += 1 + width + more
            place += int.from_bytes(data[place - width - more : place - more], "big")
        else:
            if len(missing) == depth_max:
                return True
            items, place = _items(data, place)
        if items:
            missing.append(items)
            continue
        while missing:
            missing[-1] -= 1
            if missing[-1]:
                break
            missing.pop()
        else:
            return False
    return False


def _items(data: bytes, place: int) -> tuple[int, int]:
    """How many values a list or map at this place has, and where the first of them stands."""
    first = data[place]
    if first < 0xA0:
        items, width = first & 0x0F, 0
    else:
        width = 4 if first & 1 else 2
        items = int.from_bytes(data[place + 1 : place + 1 + width], "big")
    is_map = first < 0x90 or first >= 0xDE
    return (2 * items if is_map else items), place + 1 + width
