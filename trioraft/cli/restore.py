"""`trioraft restore`: the disks of a new cluster out of a backup; or whether a backup is whole.

Rules of this file:

* Standard output has what was done; problems go to standard error.
* Only empty directories are written to, so nothing is asked. Whatever goes wrong, nothing is left
  in them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Final, NoReturn, final

import click

from ..backups.format import BackupReader, BackupSource, UnusableBackup
from ..core.errors import ConfigError, RaftError
from ..core.types import Address, NodeId
from ..node.restoring import INDEX_GAP, RestoredBackup, restore_backup
from .contents import contents, in_words
from .exits import EXIT_FAILURE, EXIT_USAGE
from .saying import complain, input_stream, say, say_block, say_json, show_progress
from .signature import Argument, Exit, Option, command_of
from .stored_texts import fields, in_bytes, rows, summary, table
from .values import parse_name, parse_peer

HELP: Final = """\
Make the disks of a new cluster out of a backup.

With one --data it is a cluster of one, which the others join with empty directories. With \
several, these are all its voters: move each directory (do not copy it) to where its node runs. It \
is a new history: whoever belongs to the old one is refused. What was acknowledged after the \
backup is lost.

Examples:  trioraft restore orders.backup --verify

           trioraft restore orders.backup --data 0=/var/lib/trioraft

           trioraft restore orders.backup --data 0=./0 --data 1=./1 --data 2=./2

FILE may be - for standard input. The whole story is in docs/backup.md.

Exit code: 0 done, or the backup is whole; 1 it cannot be done, or the backup is not; 2 a wrong \
option. After 1 and 2 the directories are as they were.
"""

SERVED: Final = "kv in sessions"
"""The kind of machine that `trioraft serve` has."""
PROGRESS_BYTES: Final = 16 * 1024 * 1024


def command() -> click.Command:
    """The command."""
    return command_of(restore, "restore", HELP)


def restore(
    file: Annotated[str, Argument(metavar="FILE", help="What trioraft backup wrote; - is stdin.")],
    data: Annotated[
        list[str] | None,
        Option(
            metavar="ID=DIR",
            show_default=False,
            help="A voter of the new cluster, and its data directory: empty, or not there yet.",
        ),
    ] = None,
    verify: Annotated[
        bool, Option("--verify", help="Read and check all of it, and say what is in it.")
    ] = False,
    address: Annotated[
        list[str] | None,
        Option(metavar="ID=HOST:PORT", show_default=False, help="Where peers will reach it."),
    ] = None,
    cluster_id: Annotated[
        str | None,
        Option(
            metavar="NAME", show_default=False, help="The new cluster's name; default: the same."
        ),
    ] = None,
    any_machine: Annotated[
        bool, Option("--any-machine", help="Also if trioraft serve cannot open it: another can.")
    ] = False,
    index_gap: Annotated[
        int,
        Option(
            min=0,
            metavar="N",
            help="How many entries the old cluster can have written since: numbers go on after "
            "these, so that no fencing token or revision is handed out twice.",
        ),
    ] = INDEX_GAP,
    as_json: Annotated[bool, Option("--json", help="Say it as one JSON object.")] = False,
) -> None:
    if verify == bool(data):
        _refuse("say either --verify, or --data for each voter of the new cluster")
    try:
        with _opened(file) as source:
            if verify:
                _verify(source, file, as_json=as_json)
                return
            disks = _disks(data or [])
            kind = None if any_machine else SERVED
            restored = restore_backup(
                source,
                disks,
                cluster_id=None if cluster_id is None else _name(cluster_id),
                addresses=_addresses(address or []),
                machine_kind=kind,
                index_gap=index_gap,
            )
    except ConfigError as error:
        _refuse(str(error))
    except RaftError as error:
        _fail(str(error))
    _tell(restored, disks, as_json=as_json)


def _verify(source: _Watched, name: str, *, as_json: bool) -> None:
    """
    Raises:
        UnusableBackup: it is not whole.
    """
    reader = BackupReader(source, name)
    try:
        found = contents(reader.chunks())
    except ConfigError as error:
        raise UnusableBackup(
            f"{name} is whole, but its content is not what it says: {error}"
        ) from error
    if as_json:
        say_json(
            json.dumps({**fields(reader.head), "format": reader.format_version, "content": found})
        )
        return
    say_block(table([*rows(reader.head, reader.format_version), ("holds", in_words(found))]))
    say("It is whole: every checksum is right.")


def _tell(restored: RestoredBackup, disks: dict[NodeId, Path], *, as_json: bool) -> None:
    if as_json:
        told = {
            "cluster_id": restored.cluster_id,
            "uuid": restored.uuid,
            "index": restored.index,
            "term": restored.term,
            "disks": {node: str(path) for node, path in disks.items()},
            "backup": fields(restored.head),
        }
        say_json(json.dumps(told))
        return
    say(summary(restored.head))
    for node, path in disks.items():
        say(f"restored for node {node}: {path}")
    say(
        f"It is history {restored.uuid}, whose log goes on after index {restored.index}; what was "
        f"acknowledged after index {restored.head.snapshot.index} of the old one is lost."
    )
    say(_next(restored))


def _next(restored: RestoredBackup) -> str:
    voters = restored.voters
    if len(voters) == 1:
        return (
            f"Start node {voters[0]} with it. Start the others with empty directories, and add "
            "each of them: trioraft admin add-learner and promote."
        )
    return (
        f"Move each directory to where its node runs, and start nodes {', '.join(voters)} with "
        "--peer for each other: a majority is enough to begin with. Never start a copy of one."
    )


# -- what was given --------------------------------------------------------------------------


def _disks(texts: list[str]) -> dict[NodeId, Path]:
    disks: dict[NodeId, Path] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise ConfigError(f"--data is {text!r}: give ID=DIR, as --data 0=/var/lib/trioraft")
        if _name(name) in disks:
            raise ConfigError(f"--data names {name!r} twice: give each node one directory")
        disks[name] = Path(path).absolute()
    return disks


def _addresses(texts: list[str]) -> dict[NodeId, Address]:
    addresses: dict[NodeId, Address] = {}
    for text in texts:
        try:
            name, where = parse_peer(text)
        except ValueError as error:
            raise ConfigError(f"--address is {text!r}: {error}") from None
        addresses[name] = where
    return addresses


def _name(text: str) -> str:
    try:
        return parse_name(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} cannot be a name: {error}") from None


@final
class _Watched:
    """The file, and how far it was read, on a terminal."""

    def __init__(self, source: BackupSource) -> None:
        self._source = source
        self._is_shown = sys.stderr is not None and sys.stderr.isatty()
        self._read_bytes = 0
        self._shown_bytes = 0

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        self._read_bytes += len(data)
        if self._is_shown and self._read_bytes - self._shown_bytes >= PROGRESS_BYTES:
            self._shown_bytes = self._read_bytes
            show_progress(f"{in_bytes(self._read_bytes)} read")
        return data

    def end(self) -> None:
        """Take the line away."""
        if self._shown_bytes:
            show_progress("")


@contextmanager
def _opened(name: str) -> Iterator[_Watched]:
    with ExitStack() as stack:
        try:
            file = input_stream() if name == "-" else stack.enter_context(Path(name).open("rb"))
        except OSError as error:
            _fail(f"{name!r} cannot be read: {error.strerror}")
        watched = _Watched(file)
        stack.callback(watched.end)
        yield watched


def _refuse(problem: str) -> NoReturn:
    complain(f"trioraft restore: {problem}")
    raise Exit(EXIT_USAGE)


def _fail(problem: str) -> NoReturn:
    complain(f"trioraft restore: {problem}")
    raise Exit(EXIT_FAILURE)
