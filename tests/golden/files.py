"""How examples stand in a golden file, and how they are read back.

Rules of this file: a section is a line that begins with "# " and the example's name, a line with
the value, and lines of hexadecimal. A value is one line, whatever is in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import attrs

FOLDER: Final = Path(__file__).parent
LINE_BYTES: Final = 40
_RAW: Final = re.compile(r"<msgspec\.Raw object at 0x[0-9a-f]+>")
"""Python shows it by its address; what is in it stands in the bytes."""

Decode = Callable[[bytes], object]


@attrs.frozen
class Example:
    """One value, and the bytes that it is today."""

    name: str
    value: object
    data: bytes
    decode: Decode | None = None
    """Makes the value of the bytes again; None where another test does."""


@attrs.frozen
class Section:
    """One example as it stands in a file."""

    value: str
    data: bytes


def text_of(examples: Iterable[Example]) -> str:
    """The file that these examples make."""
    lines = []
    for example in examples:
        shown = _RAW.sub("Raw", repr(example.value))
        if "\n" in shown:
            raise ValueError(f"{example.name} is shown in more than one line: {shown}")
        lines += [f"# {example.name}", shown]
        for start in range(0, len(example.data), LINE_BYTES):
            lines.append(example.data[start : start + LINE_BYTES].hex())
        lines.append("")
    return "\n".join(lines)


def sections_of(text: str) -> Mapping[str, Section]:
    """What stands in a file, by its names."""
    found = {}
    for part in f"\n{text}".split("\n# ")[1:]:
        name, value, *lines = part.rstrip("\n").split("\n")
        found[name] = Section(value, bytes.fromhex("".join(lines)))
    return found


def differences(golden: str, present: str) -> list[str]:
    """Which examples are not what they were, in words."""
    before, now = sections_of(golden), sections_of(present)
    found = [f"{name} is gone" for name in before.keys() - now.keys()]
    found += [f"{name} is new" for name in now.keys() - before.keys()]
    for name in sorted(before.keys() & now.keys()):
        if before[name].data != now[name].data:
            found.append(
                f"{name} was {before[name].value} as {before[name].data.hex()}, and is "
                f"{now[name].value} as {now[name].data.hex()}"
            )
        elif before[name].value != now[name].value:
            found.append(f"{name} was shown as {before[name].value}, and is {now[name].value}")
    if not found and golden != present:
        found.append("the same examples stand in another order, or the file is written differently")
    return sorted(found)
