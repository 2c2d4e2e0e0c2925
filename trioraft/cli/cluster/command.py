"""`trioraft cluster` as a command: its options, what it says first, how it ends."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import click
import trio

from ...core.errors import ConfigError
from ...core.types import Address
from ...net.sentences import sentence_of
from ..connecting import ADDRESSES_VARIABLE, parsed
from ..exits import EXIT_USAGE, exiting
from ..saying import complain
from ..signature import Argument, Exit, Option, command_of
from ..values import PORT_MAX, parse_format, parse_level, parse_local_address
from .layout import SIZE_MAX, Layout, laid_out
from .run import Beside, MembersEnded, RunningCluster, Tell

HELP: Final = f"""\
Start members of a development cluster, on this machine.

Each is a trioraft serve of its own. Their logs come together here, each line with its member; \
Ctrl-C ends them all, and so does whatever ends this command. A member that ends, for you may kill \
one and watch, is said, and not started again.

Example:  trioraft cluster 3 --data ./my-cluster

Then, in another terminal, with the {ADDRESSES_VARIABLE} that it prints:  trioraft watch

What the environment sets for trioraft serve does not count. Not for production: all members share \
one machine's fate.

Exit code: 130 after Ctrl-C, 143 after SIGTERM, 1 a member did not start, or none is left, 2 a \
wrong option.
"""


def command() -> click.Command:
    """The command."""
    return command_of(cluster, "cluster", HELP)


_SIZE: Final = Argument(
    metavar="[SIZE]",
    min=1,
    max=SIZE_MAX,
    help="How many members; 3, 5 or 7 make sense. Default: 3, or as many as there are.",
)
_DATA: Final = Option(
    metavar="DIR",
    show_default=False,
    help="Where the members keep their data; made if it is missing. The same cluster goes on there "
    "another time. Default: a temporary directory.",
)
_BASE_PORT: Final = Option(
    metavar="PORT",
    min=1,
    max=PORT_MAX,
    show_default=False,
    help="Clients reach the members at this port and those after it; then come the members' own. "
    "Default: those of last time, or free ones.",
)
_PAGE: Final = "The laboratory"
_LAB: Final = Option(
    "--lab",
    panel=_PAGE,
    help="Serve a page that shows the cluster as it happens, with buttons that disconnect, pause, "
    "kill, restart and partition its members.",
)
_LAB_LISTEN: Final = Option(
    metavar="HOST:PORT",
    panel=_PAGE,
    help="Where that page is served, on this machine; port 0: a free one.",
)


def cluster(
    size: Annotated[int | None, _SIZE] = None,
    data: Annotated[Path | None, _DATA] = None,
    base_port: Annotated[int | None, _BASE_PORT] = None,
    keep: Annotated[bool, Option("--keep", help="Keep the temporary directory.")] = False,
    lab: Annotated[bool, _LAB] = False,
    lab_listen: Annotated[str, _LAB_LISTEN] = "127.0.0.1:0",
    log_format: Annotated[
        str, Option(metavar="json|console|raftlog", help="What the log looks like.")
    ] = "console",
    log_level: Annotated[str, Option(metavar="LEVEL", help="Least level that is logged.")] = "info",
) -> None:
    parsed(parse_format, log_format, "--log-format")
    parsed(parse_level, log_level, "--log-level")
    listen = parsed(parse_local_address, lab_listen, "--lab-listen")
    if lab:
        from ..extras import require_http

        require_http()
    with (
        exiting("trioraft cluster", MembersEnded, ConfigError),
        _directory(data, keep) as directory,
    ):
        try:
            layout = laid_out(directory, size, base_port)
        except ConfigError as error:
            complain(f"trioraft cluster: {error}")
            raise Exit(EXIT_USAGE) from None
        except OSError as error:
            complain(
                f"trioraft cluster: --data {str(directory)!r} cannot be used: "
                f"{sentence_of(error)}; give a directory that can be made and written"
            )
            raise Exit(EXIT_USAGE) from None
        running = RunningCluster(
            layout,
            ["--log-format", log_format, "--log-level", log_level],
            is_marked=log_format == "console",
            ready=partial(_tell_how_to_use, layout, directory, keep or data is not None),
            lab=_laboratory(layout, directory, listen) if lab else None,
        )
        raise Exit(trio.run(running.run))


def _laboratory(layout: Layout, directory: Path, listen: Address) -> Beside:
    from .laboratory import Laboratory

    return Laboratory(layout, directory, listen).open


@contextmanager
def _directory(data: Path | None, keep: bool) -> Iterator[Path]:
    """Where the members' data is, for as long as they run, and longer if that was asked for."""
    if data is not None:
        yield data.absolute()
        return
    path = Path(tempfile.mkdtemp(prefix="trioraft-cluster-"))
    try:
        yield path
    finally:
        if not keep:
            shutil.rmtree(path, ignore_errors=True)


def _tell_how_to_use(layout: Layout, directory: Path, is_kept: bool, tell: Tell) -> None:
    count = len(layout.members)
    end = "kept" if is_kept else "removed at the end; --keep or --data DIR keep it"
    for line in (
        "",
        f"{count} member{'s' * (count > 1)} serve{'s' * (count == 1)} clients at "
        f"{layout.addresses().replace(',', ', ')}.",
        f"Their data is in {directory} ({end}).",
        "Try, in another terminal:",
        "",
        f"    export {ADDRESSES_VARIABLE}={layout.addresses()}",
        "    trioraft kv put greeting hello",
        "    trioraft kv get greeting",
        "    trioraft admin status",
        "    trioraft watch",
        "",
        "Ctrl-C ends them all.",
        "",
    ):
        tell(line)
