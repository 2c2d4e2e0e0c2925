"""`trioraft backup`: a consistent backup of a cluster that runs, from a follower, into a file.

Rules of this file:

* A file has its name only when it is whole, checked and durable; what was there before stays until
  then. Standard output has what was done; with `-o -` it has the backup, and nothing else.
* Nothing is removed but whole backups of the same cluster, named as this command names them, and
  only after a newer one is there.
"""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, final

import anyio
import click

from ..backups.draft import SUFFIX, is_abandoned
from ..backups.format import BackupHead, BackupReader, BackupWriter, UnusableBackup
from ..client.backups import IncomingBackup, write_backup
from ..core.types import Address, NodeId
from .connecting import EXITS_HELP, ReachedCluster, parsed, reaching
from .saying import complain, say, say_bytes, say_json, show_progress
from .signature import BadParameter, Option, command_of
from .stored_texts import fields, in_bytes, summary
from .values import parse_address

HELP: Final = f"""\
Write a backup of a cluster that runs: all keys, leases and sessions as of one index.

What was acknowledged before the command began is in it. It is taken from a follower if there is \
one; the others do not notice. The file gets its name when it is complete, checked and durable.

Examples:  trioraft backup 10.0.0.1:8000 10.0.0.2:8000 -o /var/backups/orders.backup

           trioraft backup 10.0.0.1:8000 -o /var/backups/ --keep 7

The other way: trioraft restore. The whole story is in docs/backup.md.

{EXITS_HELP}
"""

PROGRESS_S: Final = 0.2
"""How often a terminal is told how far it is, at most, in seconds."""
ENDING: Final = ".backup"
_STAMP: Final = "%Y%m%dT%H%M%SZ"


def command() -> click.Command:
    """The command."""
    return command_of(reaching(backup, by_arguments=True), "backup", HELP)


async def backup(
    cluster: ReachedCluster,
    output: Annotated[
        str,
        Option(
            "-o",
            "--output",
            metavar="FILE|DIR|-",
            help="The file; or a directory, in which it is named by cluster, time and index; or "
            "standard output.",
        ),
    ],
    keep: Annotated[
        int | None,
        Option(
            min=1,
            metavar="N",
            show_default=False,
            help="Of a directory: when it is done, remove all but the newest N of this cluster.",
        ),
    ] = None,
    at: Annotated[
        str | None,
        Option(
            metavar="ID|HOST:PORT",
            show_default=False,
            help="From this server; default: a follower, else the leader.",
        ),
    ] = None,
    stale: Annotated[
        bool,
        Option(
            "--stale",
            help="What the server has, without asking a majority: for a cluster that has none.",
        ),
    ] = False,
    as_json: Annotated[
        bool, Option("--json", help="Say what was done as one JSON object.")
    ] = False,
) -> None:
    place = _Place(output, keep)
    if as_json and place.is_stdout:
        raise BadParameter("--json and the backup itself cannot both be standard output")
    where = parsed(parse_address, at, "--at") if at is not None and ":" in at else at
    path, head = await _take(cluster, place, where, stale=stale)
    if path is None:
        complain(f"trioraft backup: {summary(head)}")
        return
    removed = [] if keep is None else place.prune(path, head, keep)
    if as_json:
        say_json(json.dumps({**fields(head), "file": str(path), "removed": removed}))
        return
    say(f"{summary(head)}: {path}")
    for name in removed:
        say(f"removed {name}")


async def _take(
    cluster: ReachedCluster, place: _Place, where: NodeId | Address | None, *, stale: bool
) -> tuple[Path | None, BackupHead]:
    progress = _Progress()
    try:
        async with cluster.client.open_backup(
            where, stale=stale, timeout_s=cluster.timeout_s
        ) as incoming:
            if place.is_stdout:
                await _to_stdout(incoming, progress)
                return None, incoming.head
            path = place.path_for(incoming.head)
            await write_backup(incoming, path, progress)
            return path, incoming.head
    finally:
        progress.end()


async def _to_stdout(backup: IncomingBackup, progress: _Progress) -> None:
    """Whoever reads it makes us wait, and we the server."""
    writer = BackupWriter(_Stdout(), backup.head)
    async for piece in backup:
        writer.add(piece)
        progress(backup.head, writer.content_bytes)
    writer.end()


@final
class _Stdout:
    def write(self, data: bytes) -> None:
        say_bytes(data)


@final
class _Place:
    """Where backups go.

    Raises:
        BadParameter: it cannot be.
    """

    def __init__(self, output: str, keep: int | None) -> None:
        self.is_stdout: bool = output == "-"
        self._path = Path(output).absolute()
        self._is_directory = self._path.is_dir()
        if not output or (output.endswith(os.sep) and not self._is_directory):
            raise BadParameter(f"there is no directory {output!r}: make it first")
        if keep is not None and not self._is_directory:
            raise BadParameter("--keep needs a directory as -o, in which it names the files")

    def path_for(self, head: BackupHead) -> Path:
        """The file of this one."""
        if not self._is_directory:
            return self._path
        taken = datetime.fromtimestamp(head.taken_s, UTC).strftime(_STAMP)
        return self._path / f"{_stem(head)}-{taken}-{head.snapshot.index}{ENDING}"

    def prune(self, taken: Path, head: BackupHead, keep: int) -> list[str]:
        """Remove what is not kept, and what killed backups have left; return its names. The one
        just taken is the newest, whatever the clock says of the server that it is from."""
        pattern = re.compile(
            re.escape(_stem(head)) + r"-\d{8}T\d{6}Z-\d+" + re.escape(ENDING) + r"(\.part)?"
        )
        names = sorted(name for name in os.listdir(self._path) if pattern.fullmatch(name))
        whole = [name for name in names if not name.endswith(SUFFIX) and name != taken.name]
        others = [name for name in whole if _is_of(self._path / name, head)]
        old = others[: max(0, len(others) + 1 - keep)]
        left = [n for n in names if n.endswith(SUFFIX) and is_abandoned(self._path / n)]
        removed = []
        for name in (*old, *left):
            with suppress(FileNotFoundError):
                (self._path / name).unlink()
                removed.append(name)
        return removed


def _stem(head: BackupHead) -> str:
    """The cluster's name, as far as every file system has it."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", head.cluster_id)[:100]


def _is_of(path: Path, head: BackupHead) -> bool:
    """Whether it is a backup of the same cluster, as far as it says."""
    try:
        with path.open("rb") as file:
            return BackupReader(file, str(path)).head.cluster_id == head.cluster_id
    except (OSError, UnusableBackup):
        return False


@final
class _Progress:
    """How far it is, on a terminal."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr is not None and sys.stderr.isatty()
        self._begun_s: float | None = None
        self._again_s = 0.0
        if self._is_shown:
            show_progress("the server takes a snapshot")

    def __call__(self, head: BackupHead, content_bytes: int) -> None:
        now_s = anyio.current_time()
        if self._begun_s is None:
            self._begun_s = now_s
        if not self._is_shown or now_s < self._again_s:
            return
        self._again_s = now_s + PROGRESS_S
        total = head.snapshot.size_bytes
        rate = content_bytes / max(now_s - self._begun_s, 1e-3)
        show_progress(
            f"{in_bytes(content_bytes)} of {in_bytes(total)} "
            f"({100 * content_bytes // max(1, total)} %), {in_bytes(int(rate))}/s"
        )

    def end(self) -> None:
        """Take the line away."""
        if self._is_shown:
            show_progress("")
