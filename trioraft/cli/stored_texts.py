"""What is stored, in words and as JSON: as `backup`, `restore`, `inspect` and `recover` say it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ..backups.format import BackupHead, EndedHistory
from ..core.escaping import escaped
from ..core.types import Configuration
from ..member.identity import Ancestor, Identity
from ..net.addresses import host_port
from ..net.sentences import moment

_WIDTH: Final = 15


def in_bytes(size_bytes: int) -> str:
    """A size as people read it."""
    if size_bytes < 1024:
        return f"{size_bytes} B"
    size, units = float(size_bytes), iter(("KiB", "MiB", "GiB", "TiB"))
    unit = ""
    while size >= 1024 and (following := next(units, None)) is not None:
        size, unit = size / 1024, following
    return f"{size:.1f} {unit}"


def summary(head: BackupHead) -> str:
    """In a line."""
    snapshot = head.snapshot
    stale = ", stale" if head.is_stale else ""
    size = in_bytes(snapshot.size_bytes)
    return (
        f"backup of {head.cluster_id} up to index {snapshot.index} of term {snapshot.term}, taken "
        f"at {moment(head.taken_s)} from node {head.node_id}{stale}, {size}"
    )


def rows(head: BackupHead, format_version: int) -> list[tuple[str, str]]:
    """All of it, for people."""
    snapshot = head.snapshot
    said = (
        "what that node had; no majority was asked"
        if head.is_stale
        else ("all that was acknowledged before is in it")
    )
    found = [
        ("backup", f"format {format_version}, written by trioraft {head.written_by or '?'}"),
        ("cluster", head.cluster_id),
        ("machine", head.machine),
        ("taken", f"{moment(head.taken_s)} from node {head.node_id}: {said}"),
        (
            "last entry",
            f"index {snapshot.index}, term {snapshot.term}; the latest term {head.term}",
        ),
        ("content", f"{snapshot.size_bytes} bytes, CRC-32 {snapshot.checksum:08x}"),
        ("configuration", members(snapshot.configuration)),
        *[
            ("", f"{node} at {host_port(address)}")
            for node, address in snapshot.configuration.addresses.items()
        ],
        ("history", head.uuid or "none"),
    ]
    return [*found, *(("recovered from", _ended(each)) for each in head.ancestors)]


def fields(head: BackupHead) -> dict[str, Any]:
    """All of it, for programs."""
    snapshot, configuration = head.snapshot, head.snapshot.configuration
    return {
        "cluster_id": head.cluster_id,
        "node_id": head.node_id,
        "uuid": head.uuid,
        "index": snapshot.index,
        "index_term": snapshot.term,
        "term": head.term,
        "taken_at": moment(head.taken_s),
        "is_stale": head.is_stale,
        "machine": head.machine,
        "size_bytes": snapshot.size_bytes,
        "checksum": f"{snapshot.checksum:08x}",
        "voters": list(configuration.voters),
        "learners": list(configuration.learners),
        "addresses": {n: host_port(address) for n, address in configuration.addresses.items()},
        "ancestors": [_ancestor_fields(each) for each in head.ancestors],
        "written_by": head.written_by,
    }


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Names and what they are, one a line, the last without its end."""
    return "\n".join(escaped(f"{name:<{_WIDTH}}{text}".rstrip()) for name, text in rows)


def _ended(ancestor: EndedHistory | Ancestor) -> str:
    return f"{ancestor.uuid}, which ended at index {ancestor.index}, term {ancestor.term}"


def _ancestor_fields(ancestor: EndedHistory | Ancestor) -> dict[str, Any]:
    return {"uuid": ancestor.uuid, "index": ancestor.index, "term": ancestor.term}


def identity_rows(identity: Identity | None) -> list[tuple[str, str]]:
    """Whose disk it is, and of which history."""
    if identity is None:
        return [("history", "none")]
    formed = "" if identity.formed else ", not formed yet"
    founders = ", ".join(f"{node} on {disk}" for node, disk in (identity.record or {}).items())
    return [
        ("history", f"{identity.uuid or 'none'}{formed}"),
        ("disk", f"{identity.incarnation}, opening {identity.openings}"),
        ("founded by", founders or "others"),
        *(("recovered from", _ended(ancestor)) for ancestor in identity.ancestors),
    ]


def identity_fields(identity: Identity | None) -> dict[str, Any] | None:
    """The same, for programs."""
    if identity is None:
        return None
    return {
        "uuid": identity.uuid,
        "formed": identity.formed,
        "incarnation": identity.incarnation,
        "openings": identity.openings,
        "record": identity.record,
        "ancestors": [_ancestor_fields(each) for each in identity.ancestors],
    }


def members(configuration: Configuration) -> str:
    """Who is in it, and what is switched on."""
    if not configuration.voters:
        return "none"
    parts = [f"voters {', '.join(configuration.voters)}"]
    if configuration.outgoing:
        parts.append(f"joint with the outgoing {', '.join(configuration.outgoing)}")
    if configuration.learners:
        parts.append(f"learners {', '.join(configuration.learners)}")
    parts += [f"{feature} is on" for feature in configuration.features]
    return f"index {configuration.index}: {'; '.join(parts)}"
