"""An entry of a log, as far as its machine is one of ours: what a command says, name by name.

Rules of this file: nothing here fails: what cannot be read is shown as bytes. A session's id is its
secret (hazard G7): what tells sessions apart here is a hash of it, of which nobody can make the id.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

from ..core.decoding import UNREADABLE
from ..core.errors import BadMessage, EntryAltered, RaftError
from ..core.features import check_intact, command_of
from ..core.reconfiguration import CONFIGURATIONS, configuration_of
from ..core.types import Entry, EntryKind
from ..kv.commands import decode_command
from ..machines.replicated.replica import read_call
from ..machines.replicated.replicas import read_part
from ..machines.sessions import (
    CloseSession,
    OpenSession,
    PlainCommand,
    SessionCommand,
    decode_envelope,
)
from .stored_texts import members

BYTES_SHOWN_MAX: Final = 64
"""Of a key, a value or a command in a line."""
_HASH_CHARS: Final = 8


def entry_fields(entry: Entry) -> dict[str, Any]:
    """What it holds, for programs. Bytes that are UTF-8 are text, others `{"hex": …}`."""
    fields: dict[str, Any] = {
        "index": entry.index,
        "term": entry.term,
        "kind": EntryKind(entry.kind).name.lower(),
        "size_bytes": len(entry.data),
    }
    command = command_of(entry)
    if command is not None:
        return {**fields, **_altered(entry), **_of_command(command)}
    if entry.kind in CONFIGURATIONS:
        try:
            fields["configuration"] = msgspec.to_builtins(configuration_of(entry))
        except BadMessage as error:
            fields["unreadable"] = str(error)
    elif entry.data:
        fields["data"] = plain(entry.data)
    return fields


def entry_text(entry: Entry) -> str:
    """What it holds, in a line."""
    if entry.kind == EntryKind.NOOP:
        said = entry.data.decode(errors="backslashreplace")
        return f"nothing: {said}" if said else "nothing: a leader's first entry"
    command = command_of(entry)
    if command is None:
        try:
            return members(configuration_of(entry))
        except BadMessage as error:
            return str(error)
    altered = "(altered) " if _altered(entry) else ""
    return altered + _command_text(_of_command(command))


def _altered(entry: Entry) -> dict[str, Any]:
    """Whether its checksum says that it is not what the leader took."""
    try:
        check_intact(entry)
    except EntryAltered:
        return {"altered": True}
    return {}


def _command_text(fields: dict[str, Any]) -> str:
    around = ""
    if "session" in fields:
        number = f" #{fields['sequence']}" if "sequence" in fields else ""
        around = f"[session {fields['session']}{number}] "
    elif "opens" in fields:
        return f"open a session for client {fields['opens']}"
    elif "in_sessions" in fields:
        around = "[no session] "
    if "closes" in fields:
        return f"close session {fields['closes']}"
    where = f"{fields['object']}." if "object" in fields else ""
    if "command" in fields:
        return f"{around}{where}{fields['command']}({_arguments(fields['arguments'])})"
    return f"{around}{where}{_shown(fields['data'])}"


def plain(value: Any) -> Any:
    """A value as JSON has it; bytes as text if they are some."""
    if isinstance(value, bytes | bytearray | memoryview):
        content = bytes(value)
        try:
            return content.decode()
        except UnicodeDecodeError:
            return {"hex": content.hex()}
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {str(plain(key)): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def _of_command(data: bytes) -> dict[str, Any]:
    try:
        envelope = decode_envelope(data)
    except RaftError:
        return _of_machine(data)  # of a machine without sessions
    match envelope:
        case SessionCommand():
            return {
                "session": secret_hash(envelope.session_id),
                "sequence": envelope.sequence,
                "acknowledged_below": envelope.acknowledged_below,
                **_of_machine(envelope.data),
            }
        case OpenSession():
            return {"opens": secret_hash(envelope.client_id)}
        case CloseSession():
            return {"closes": secret_hash(envelope.session_id)}
        case PlainCommand():
            return {"in_sessions": True, **_of_machine(envelope.data)}


def _of_machine(data: bytes) -> dict[str, Any]:
    """A command of a machine of ours, or its bytes."""
    try:
        command = decode_command(data)
    except (RaftError, *UNREADABLE):
        return _of_object(data)
    arguments = {
        name: plain(getattr(command, name))
        for name, default in zip(command.__struct_fields__, _defaults(command), strict=True)
        if getattr(command, name) != default
    }
    return {"command": type(command).__name__, "arguments": arguments}


def _of_object(data: bytes) -> dict[str, Any]:
    part = read_part(data)
    if part is not None:
        call = read_call(part.data)
        if call is not None:
            return {"object": part.name, "command": call[0], "arguments": plain(call[1])}
    call = read_call(data)
    if call is not None:
        return {"command": call[0], "arguments": plain(call[1])}
    return {"data": plain(data)}


def _defaults(struct: msgspec.Struct) -> list[Any]:
    given = struct.__struct_defaults__
    missing = len(struct.__struct_fields__) - len(given)
    return [*([msgspec.NODEFAULT] * missing), *given]


def secret_hash(secret: int | bytes) -> str:
    """What tells one from another, and opens nothing."""
    content = secret if isinstance(secret, bytes) else secret.to_bytes(8, "big")
    return hashlib.blake2b(content, digest_size=16).hexdigest()[:_HASH_CHARS]


def _arguments(arguments: Any) -> str:
    if isinstance(arguments, dict):
        return ", ".join(f"{name}={_shown(value)}" for name, value in arguments.items())
    if isinstance(arguments, list):
        return ", ".join(map(_shown, arguments))
    return _shown(arguments)


def _shown(value: Any) -> str:
    if isinstance(value, dict) and value.keys() == {"hex"}:
        text = f"0x{value['hex']}"
    else:
        text = repr(value)
    if len(text) <= BYTES_SHOWN_MAX:
        return text
    return f"{text[:BYTES_SHOWN_MAX]}… ({len(text)} characters)"
