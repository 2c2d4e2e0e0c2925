"""`trioraft inspect`: what stands in a stopped node's directory, or in a backup. Writes nothing.

Rules of this file:

* Standard output has what was found, damage included; what keeps it from looking goes to standard
  error.
* What is damaged is told, the first first, and is the exit code: 3, the answer to "is it whole?" is
  no.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import click

from ..backups.format import MAGIC, BackupReader, UnusableBackup
from ..core.errors import ConfigError, CorruptStorage, StorageError
from ..core.types import LogIndex
from ..member.identity import Identity, decode_identity
from ..storage.inspection import FoundGroup, FoundSnapshot, Inspection, Wanted, inspect_directory
from .contents import contents, in_words
from .entries import entry_fields, entry_text
from .exits import EXIT_FAILURE, EXIT_NO
from .saying import complain, say, say_block, say_json
from .signature import Argument, BadParameter, Exit, Option, command_of
from .stored_texts import fields, identity_fields, identity_rows, in_bytes, members, rows, table

HELP: Final = """\
Look into a stopped node's directory, or a backup file, and change nothing.

It shows whose disk it is, its term and vote, the members as they changed, snapshots, and the \
newest entries of the log, with commands in words where they are of a machine of ours. What is \
damaged is told with its place.

Examples:  trioraft inspect /var/lib/trioraft

           trioraft inspect /var/lib/trioraft --from 1030 --to 1040

           trioraft inspect /var/lib/trioraft --verify

           trioraft inspect /var/lib/trioraft --group eu

           trioraft inspect orders.backup --verify

Exit code: 0 nothing is damaged, as far as was read; 1 it cannot be looked at; 2 a wrong option; 3 \
something is damaged.
"""


def command() -> click.Command:
    """The command."""
    return command_of(inspect, "inspect", HELP)


def inspect(
    path: Annotated[
        Path,
        Argument(
            metavar="DIR|FILE", exists=True, help="A stopped node's data directory, or a backup."
        ),
    ],
    first: Annotated[
        int | None,
        Option("--from", min=1, metavar="INDEX", show_default=False, help="Entries from here on."),
    ] = None,
    last: Annotated[
        int | None,
        Option("--to", min=1, metavar="INDEX", show_default=False, help="Entries up to here."),
    ] = None,
    limit: Annotated[
        int, Option(min=0, max=100_000, metavar="N", help="Show so many entries, the newest.")
    ] = 20,
    group: Annotated[
        str | None,
        Option(
            metavar="NAME", show_default=False, help="Of many groups in one directory, this one."
        ),
    ] = None,
    verify: Annotated[
        bool,
        Option("--verify", help="Read everything, snapshots too, and check every checksum."),
    ] = False,
    as_json: Annotated[bool, Option("--json", help="As one JSON object.")] = False,
) -> None:
    if first is not None and last is not None and last < first:
        raise BadParameter(f"--to is {last}, before --from, which is {first}")
    if not path.is_dir():
        if first is not None or last is not None or group is not None:
            raise BadParameter("--from, --to and --group are for a directory: a backup has no log")
        _inspect_backup(path.absolute(), verify=verify, as_json=as_json)
        return
    wanted = Wanted(first or 1, 2**62 if last is None else last, limit)
    held: dict[LogIndex, str] = {}

    def read_content(chunks: Iterable[bytes]) -> None:
        held[len(held)] = in_words(contents(chunks))

    try:
        found = inspect_directory(
            path.absolute(), wanted, verify=verify, read_content=read_content, group=group
        )
    except StorageError as error:
        _fail(str(error))
    identity = _identity(found)
    if as_json:
        say_json(json.dumps(_as_json(found, identity, verified=verify), indent=2))
    else:
        _show(found, identity, list(held.values()), verified=verify)
    if found.problems:
        raise Exit(EXIT_NO)


def _inspect_backup(path: Path, *, verify: bool, as_json: bool) -> None:
    try:
        with path.open("rb") as file:
            if not file.peek(len(MAGIC)).startswith(MAGIC):
                _fail(f"{path} is neither a data directory nor a backup of trioraft")
            reader = BackupReader(file, str(path))
            told = {"file": str(path), "format": reader.format_version, **fields(reader.head)}
            shown = rows(reader.head, reader.format_version)
            problem, found = _read_backup(reader) if verify else (None, None)
    except OSError as error:
        _fail(f"{path} cannot be read: {error.strerror}")
    except UnusableBackup as error:
        complain(f"trioraft inspect: {error}")
        raise Exit(EXIT_NO) from None
    if as_json:
        problems = [] if problem is None else [problem]
        say_json(
            json.dumps(
                {**told, "content": found, "verified": verify, "problems": problems}, indent=2
            )
        )
    else:
        if found is not None:
            shown.append(("holds", in_words(found)))
        say_block(table(shown))
        say(_verdict([] if problem is None else [problem], verified=verify))
    if problem is not None:
        raise Exit(EXIT_NO)


def _read_backup(reader: BackupReader) -> tuple[str | None, dict[str, Any] | None]:
    try:
        return None, contents(reader.chunks())
    except (UnusableBackup, ConfigError) as error:
        return str(error), None


def _identity(found: Inspection) -> Identity | None:
    if found.identity is None:
        return None
    try:
        return decode_identity(found.identity)
    except CorruptStorage as error:
        found.note(str(error))
        return None


def _fail(problem: str) -> NoReturn:
    complain(f"trioraft inspect: {problem}")
    raise Exit(EXIT_FAILURE)


# -- for people ------------------------------------------------------------------------------


def _show_groups(found: Inspection, groups: list[FoundGroup], *, verified: bool) -> None:
    owner = found.owner
    shown = [
        ("directory", str(found.directory)),
        ("format", f"{found.format_version or 'unknown'}, of many groups"),
        ("cluster", owner.cluster_id if owner else "unknown"),
        ("node", owner.node_id if owner else "unknown"),
        *[("group", f"{each.name}: {each.records} records") for each in groups],
    ]
    say_block(table(shown))
    say(_verdict(found.problems, verified=verified))


def _show(found: Inspection, identity: Identity | None, held: list[str], *, verified: bool) -> None:
    if found.groups is not None and found.group is None:
        _show_groups(found, found.groups, verified=verified)
        return
    owner, base, state = found.owner, found.base, found.hard_state
    last = f"index {found.last_index}, term {found.last_term}"
    shown = [
        ("directory", str(found.directory)),
        *([] if found.group is None else [("group", found.group)]),
        ("format", str(found.format_version or "unknown")),
        ("cluster", owner.cluster_id if owner else "unknown"),
        ("node", owner.node_id if owner else "unknown"),
        (
            "term",
            f"{state.term}, voted for {state.voted_for or 'nobody'}" if state else "unknown",
        ),
        ("log", f"after index {base.index}, term {base.term}" if base else "unknown"),
        ("last entry", last),
        ("records", str(found.records)),
        *identity_rows(identity),
    ]
    shown += [("snapshot", _snapshot_text(each)) for each in found.snapshots]
    shown += [("holds", each) for each in held]
    shown += [("configuration", members(each)) for each in found.configurations]
    shown += [("notice", text) for text in found.notices]
    say_block(table(shown))
    if found.entries:
        say("")
        width = len(str(found.entries[-1].index))
        for entry in reversed(found.entries):
            say(f"{entry.index:>{width}}  term {entry.term}  {entry_text(entry)}")
        say("")
    say(_verdict(found.problems, verified=verified))


def _snapshot_text(snapshot: FoundSnapshot) -> str:
    meta = snapshot.meta
    size = in_bytes(snapshot.file_bytes)
    if meta is None:
        return f"{snapshot.path.name}: {size}, damaged"
    part = "received so far, " if snapshot.is_received else ""
    return (
        f"{snapshot.path.name}: {part}up to index {meta.index}, term {meta.term}, "
        f"{meta.size_bytes} bytes, CRC-32 {meta.checksum:08x}"
    )


def _verdict(problems: list[str], *, verified: bool) -> str:
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        return f"Damaged{more}. The first: {problems[0]}"
    if verified:
        return "It is whole: everything was read, and every checksum is right."
    return "Nothing that was read is damaged; --verify reads everything."


# -- for programs ----------------------------------------------------------------------------


def _as_json(found: Inspection, identity: Identity | None, *, verified: bool) -> dict[str, Any]:
    owner, base, state = found.owner, found.base, found.hard_state
    return {
        "directory": str(found.directory),
        **_group_fields(found),
        "format": found.format_version,
        "cluster_id": owner.cluster_id if owner else None,
        "node_id": owner.node_id if owner else None,
        "term": state.term if state else None,
        "voted_for": state.voted_for if state else None,
        "base_index": base.index if base else None,
        "base_term": base.term if base else None,
        "last_index": found.last_index,
        "last_term": found.last_term,
        "records": found.records,
        "identity": identity_fields(identity),
        "snapshots": [_snapshot_fields(each) for each in found.snapshots],
        "configurations": [
            {
                "index": each.index,
                "voters": list(each.voters),
                "outgoing": list(each.outgoing),
                "learners": list(each.learners),
                "addresses": {node: list(where) for node, where in each.addresses.items()},
                "disks": each.disks,
            }
            for each in found.configurations
        ],
        "entries": [entry_fields(entry) for entry in reversed(found.entries)],
        "notices": list(found.notices),
        "verified": verified,
        "problems": found.problems,
    }


def _group_fields(found: Inspection) -> dict[str, Any]:
    """Nothing where there is only one node."""
    if found.groups is None:
        return {}
    groups = [{"name": each.name, "records": each.records} for each in found.groups]
    return {"group": found.group, "groups": groups}


def _snapshot_fields(snapshot: FoundSnapshot) -> dict[str, Any]:
    meta = snapshot.meta
    return {
        "file": snapshot.path.name,
        "file_bytes": snapshot.file_bytes,
        "is_received": snapshot.is_received,
        "index": meta.index if meta else None,
        "term": meta.term if meta else None,
        "size_bytes": meta.size_bytes if meta else None,
        "checksum": f"{meta.checksum:08x}" if meta else None,
    }
