"""Today's structs beside the frozen ones: what differs, and whether that was meant.

Rules of this file:

* What a frozen struct has, today's has: the same tag, the same fields in the same order, of the
  same types, with the same defaults. Else somebody's disk, or the other half of a cluster, is read
  wrong.
* A field that was added since stands at the end, has a default, and stands in `ADDED`, with the
  reason why an earlier release may pass over it. That reason is what is asked for here: a release
  that does not know the field ignores it.
* A struct that is new stands in `NEW`, with who keeps it from those that do not know it.
"""

from __future__ import annotations

import enum
import importlib
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

HOMES: Final[dict[str, tuple[str, ...]]] = {
    "peers": ("core.types", "core.messages", "transport.handshake", "net.invitations"),
    "clients": ("rpc.protocol",),
    "disk": (
        "member.identity",
        "storage.records",
        "storage.log_database",
        "storage.shared_database",
        "storage.snapshot_files",
        "storage.directory",
    ),
    "sessions": ("machines.sessions",),
    "objects": ("machines.replicated.replica", "machines.replicated.calls"),
    "kv": ("kv.commands", "kv.leases", "kv.snapshot"),
}
"""Where the structs of each frozen module live today."""

ADDED: Final[dict[str, str]] = {
    "peers.Configuration.features": "Empty until a feature is on, and then nobody of format 1 is "
    "sent one: the entry is of a kind of its own, and members refuse such a peer.",
    "peers.Introduction.features": "What the sender can do is nothing to whoever can do none.",
    "peers.PeerHello.version_max": "Whoever passes over it speaks the lowest version.",
    "clients.ClientHello.version_max": "Whoever passes over it speaks the lowest version.",
    "clients.ServerStatus.can": "It is shown, and nothing depends on it.",
    "peers.Forward.trace": "It means nothing to the protocol; None takes no byte.",
    "clients.Propose.trace": "Likewise.",
    "clients.Query.trace": "Likewise.",
    "clients.Watch.window_bytes": "Whoever passes over it sends as much as the connection takes; "
    "one is asked for of servers that speak version 3.",
    "clients.WatchStatus.events_every": "Whoever passes over it tells of no events.",
}
"""Fields that format 1 does not have, and why it may pass over them."""

WIDENED: Final[dict[str, str]] = {
    "peers.Entry.kind": "Kinds 3 and 4 are written only once a feature is on.",
}
"""Fields that may hold more than in format 1, and who keeps that from those that would refuse."""

NEW: Final[dict[str, str]] = {
    "clients.SwitchOnRequest": "It is asked of servers that speak version 2.",
    "clients.Take": "It is said to servers that speak version 3.",
    "clients.ReadBackup": "Servers that do not know it say so, by the request's number.",
    "clients.EventNews": "It is told only to who asked for events.",
    "clients.EventsNews": "Likewise.",
    "peers.GroupsFrame": "It is sent to processes that have said in their introduction that they "
    "are of many groups, and to no others.",
    "peers.GroupMessage": "It stands only in a GroupsFrame.",
    "peers.GroupNote": "Likewise.",
    "peers.TraceContext": "It stands only in fields that format 1 passes over.",
    "peers.UntracedForward": "A `Forward` as format 1 has it, for what is encoded.",
    "clients.UntracedPropose": "Likewise, a `Propose`.",
    "clients.UntracedQuery": "Likewise, a `Query`.",
    "sessions._Stored": "A `_Session` as format 1 has it, whose results are not decoded yet.",
    "disk.StoredGroup": "It stands only in directories of many groups, which earlier releases do "
    "not take for theirs.",
}
"""Structs that format 1 does not have, and who keeps them from those that do not know them."""

WHAT_TO_DO: Final = (
    "Members and clients of an earlier release read and write this as it was (docs/upgrading.md). "
    "Take the change back; or make it a field at the end, with a default, that they may pass over, "
    "and say why they may in ADDED of tests/formats/frozen.py; or, if they may not, switch it on "
    "by a feature of its own (trioraft/core/features.py), or raise the version of that port or the "
    "format of the data directory"
)

StructType: TypeAlias = type[msgspec.Struct]


def structs_of(module: types.ModuleType) -> dict[str, StructType]:
    """The structs that a module defines."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, msgspec.Struct)
        and value.__module__ == module.__name__
    }


def frozen_structs(group: str) -> dict[str, StructType]:
    """Those of one frozen module."""
    return structs_of(importlib.import_module(f"tests.formats.format_1.{group}"))


def present_structs(group: str) -> dict[str, StructType]:
    """Those that stand in their place today."""
    found: dict[str, StructType] = {}
    for home in HOMES[group]:
        found |= structs_of(importlib.import_module(f"trioraft.{home}"))
    return found


def differences(
    group: str,
    frozen: Mapping[str, StructType],
    present: Mapping[str, StructType],
) -> Iterator[str]:
    """What is not as it was, and was not meant, in words."""
    for name, before in frozen.items():
        now = present.get(name)
        if now is None:
            yield f"{group}.{name} is gone, or was renamed"
        else:
            yield from _changes(f"{group}.{name}", before, now)
    for name in present:
        if name not in frozen and f"{group}.{name}" not in NEW:
            yield f"{group}.{name} is new, and does not stand in NEW of tests/formats/frozen.py"


def _changes(name: str, before: StructType, now: StructType) -> Iterator[str]:
    was, is_now = _config(before), _config(now)
    if was != is_now:
        yield f"{name} was encoded as {was}, and is as {is_now}"
    fields_before, fields_now = _fields(before), _fields(now)
    for place, (field, kind, default) in enumerate(fields_before):
        where = f"{name}.{field}"
        if place >= len(fields_now) or fields_now[place][0] != field:
            other = fields_now[place][0] if place < len(fields_now) else "nothing"
            yield f"{where} was field {place + 1}, where {other} stands now"
            return
        if fields_now[place][2] != default:
            yield f"{where} had the default {default}, and has {fields_now[place][2]}"
        if fields_now[place][1] != kind and where not in WIDENED:
            yield f"{where} was {kind}, and is {fields_now[place][1]}"
    for field, _, default in fields_now[len(fields_before) :]:
        where = f"{name}.{field}"
        if default == NO_DEFAULT:
            yield f"{where} was added without a default"
        if where not in ADDED:
            yield f"{where} was added, and does not stand in ADDED of tests/formats/frozen.py"


# -- a struct in words -----------------------------------------------------------------------

NO_DEFAULT: Final = "none"


def _config(struct: StructType) -> str:
    config = struct.__struct_config__
    shape = "array" if config.array_like else "map"
    tag = "no tag" if config.tag is None else f"tag {config.tag!r} in {config.tag_field!r}"
    return f"{shape}, {tag}, omitting defaults: {config.omit_defaults}"


def _fields(struct: StructType) -> list[tuple[str, str, str]]:
    hints = typing.get_type_hints(struct, include_extras=True)
    return [
        (field.encode_name, shown(hints[field.name]), _default(field))
        for field in msgspec.structs.fields(struct)
    ]


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default is not msgspec.NODEFAULT:
        return repr(field.default)
    if field.default_factory is not msgspec.NODEFAULT:
        return repr(field.default_factory())
    return NO_DEFAULT


def shown(kind: Any) -> str:
    """A type as a text in which modules play no part."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return f"{shown(arguments[0])} within {', '.join(map(repr, arguments[1:]))}"
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin in (typing.Union, types.UnionType):
        return " | ".join(sorted(shown(each) for each in arguments))
    if origin is not None:
        inner = ", ".join("…" if each is Ellipsis else shown(each) for each in arguments)
        return f"{origin.__name__}[{inner}]"
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return f"{kind.__name__} of {[member.value for member in kind]}"
    return kind.__name__ if isinstance(kind, type) else str(kind)
