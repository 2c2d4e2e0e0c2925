"""What is in a snapshot, as far as its machine is one of ours: every piece is read, and decoded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..kv.snapshot import MAGIC as KV_MAGIC
from ..kv.snapshot import decode_state
from ..machines.chunks import ChunkReader
from ..machines.replicated.replicas import objects_in
from ..machines.sessions import sessions_in
from ..member.results import split


def contents(chunks: Iterable[bytes]) -> dict[str, Any]:
    """What a snapshot holds, by name; all of it is read.

    Raises:
        ConfigError: it says that it is a state of ours, and cannot be read as one.
        Exception: what `chunks` raises.
    """
    _, rest = split(iter(chunks))
    reader = ChunkReader(rest)
    found: dict[str, Any] = {}
    sessions = sessions_in(reader)
    if sessions is not None:
        found["sessions"] = sessions
    if reader.begins_with(KV_MAGIC):
        state = decode_state(reader.rest())
        found["keys"] = sum(map(len, state.parts))
        found["changes"] = sum(1 for _ in state.changes)
        found["leases"] = sum(1 for _ in state.leases)
        found["last_command"] = state.index
    elif (names := objects_in(reader)) is not None:
        found["objects"] = names
    else:
        found["bytes_of_the_machine"] = sum(map(len, reader.rest()))
    for _ in reader.rest():
        pass
    return found


def in_words(found: dict[str, Any]) -> str:
    """The same, for people."""
    names = found.get("objects")
    parts = [] if names is None else [f"objects {', '.join(names)}"]
    if "keys" in found:
        parts += [
            f"{found['keys']} keys",
            f"{found['leases']} leases",
            f"the last {found['changes']} changes",
        ]
    if "bytes_of_the_machine" in found:
        parts.append(f"{found['bytes_of_the_machine']} bytes of the state machine")
    if "sessions" in found:
        parts.append(f"{found['sessions']} sessions")
    return ", ".join(parts)
