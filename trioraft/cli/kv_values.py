"""What all of `trioraft kv` shares: the group, its arguments, and how keys and values are shown."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from typing import Annotated, Any

from ..core.escaping import escaped
from ..kv.commands import VALUE_BYTES_MAX
from .connecting import parsed
from .saying import read_input, say_json
from .signature import Argument, Option
from .values import parse_duration_s

Key = Annotated[str, Argument(metavar="KEY", help="The key.")]
Value = Annotated[str, Argument(metavar="VALUE", help="The value; - for standard input.")]
AsJson = Annotated[bool, Option("--json", help="As JSON, one object a line.")]
Previous = Annotated[bool, Option("--previous", help="Show the value that was there before.")]
Prefix = Annotated[
    str, Argument(metavar="[PREFIX]", help="Of the keys; default: all.", show_default=False)
]


def shown(content: bytes) -> str:
    """As text, without anything that a terminal or a line would take for something else."""
    return escaped(content.decode("utf-8", "backslashreplace"))


def print_json(**fields: Any) -> None:
    exact: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, bytes):
            try:
                exact[name] = value.decode()
            except UnicodeDecodeError:
                exact[f"{name}_base64"] = base64.b64encode(value).decode()
        else:
            exact[name] = value
    say_json(json.dumps(exact, ensure_ascii=False))


def value_of(text: str) -> bytes:
    """At most one byte more than a value may have: the standard input may never end."""
    return read_input(VALUE_BYTES_MAX + 1) if text == "-" else as_bytes(text)


as_bytes: Callable[[str], bytes] = os.fsencode
"""An argument as the bytes that it was given as."""


def ttl_s_of(text: str | None) -> float | None:
    """The value of `--ttl`."""
    return None if text is None else parsed(parse_duration_s, text, "--ttl")
