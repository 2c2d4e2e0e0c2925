"""`trioraft recover` as a command: its options, its question, its exit code.

Rules of this file:

* Standard output has what was found and done; questions and problems go to standard error.
* Nothing is changed without the new voters' names and a confirmation. Whatever is not exactly the
  confirmation is a no.
* What the user got wrong is said in one message, with exit code 2.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from ...core.errors import ConfigError, StorageError
from ...core.types import Address, NodeId
from ...storage.recovery import Plan, StoppedNode, carry_out, find, plan
from ..exits import EXIT_FAILURE
from ..serve.values import parse_name, parse_peer
from .texts import as_json as found_as_json
from .texts import done, shown, warning

EXIT_USAGE: Final = 2

HELP: Final = """\
Make a stopped node go on alone, or with new ones, when the others are lost for good.

Without --voters it shows what the node has, and changes nothing. With --voters it explains what \
can be lost, asks, and writes the new configuration at the end of the node's log. The whole story \
is in docs/lost-quorum.md.

Example:  trioraft recover /var/lib/trioraft --voters 0

Exit code: 0 shown, or recovered; 1 it cannot be done, or was not confirmed; 2 a wrong option. \
After 1 and 2 nothing was changed, unless the message says that the disk failed.
"""
"""Paragraphs of one line each: typer keeps the ends of lines, whatever the terminal's width."""


def recover(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", exists=True, file_okay=False, help="The stopped node's data directory."
        ),
    ],
    voters: Annotated[
        str | None,
        typer.Option(
            metavar="ID,ID,…",
            show_default=False,
            help="All voters that shall be, this node among them. Best is this node alone.",
        ),
    ] = None,
    address: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID=HOST:PORT",
            show_default=False,
            help="Where a voter is reached, if that is new. May be repeated.",
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Only show what the node has.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Show it as one JSON object; changes nothing.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask: I have read docs/lost-quorum.md.")
    ] = False,
) -> None:
    """Run the command; see `HELP`."""
    if as_json and voters is not None and not show:
        _refuse("--json only shows: leave out --voters, or add --show")
    if voters is None and (address or yes):
        _refuse("name the voters that shall be, with --voters")
    try:
        found = find(directory.absolute())
        if voters is None or show:
            print(json.dumps(found_as_json(found), indent=2) if as_json else shown(found))
            return
        planned = plan(found, _voters(voters), _addresses(address or []))
        _explain(planned)
        if not yes and not _is_confirmed(found):
            _fail("not confirmed: nothing was changed")
        print(carry_out(planned, datetime.now(UTC)))
    except ConfigError as error:
        _refuse(str(error))
    except StorageError as error:
        _fail(str(error))
    print(done(planned))


def _voters(text: str) -> list[NodeId]:
    try:
        return [parse_name(name) for name in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--voters is {text!r}: {error}; as in --voters 0,1") from None


def _addresses(texts: list[str]) -> dict[NodeId, Address]:
    addresses: dict[NodeId, Address] = {}
    for text in texts:
        try:
            name, address = parse_peer(text)
        except ValueError as error:
            raise ConfigError(f"--address is {text!r}: {error}") from None
        if name in addresses:
            raise ConfigError(f"--address names {name!r} twice")
        addresses[name] = address
    return addresses


def _explain(planned: Plan) -> None:
    print(shown(planned.found), end="\n\n")
    print(warning(planned), end="\n\n", flush=True)


def _is_confirmed(found: StoppedNode) -> bool:
    """The name of the cluster is asked for, not a "y" that fingers type by themselves."""
    cluster_id = found.stored.cluster_id
    print(f"Type the name of the cluster, {cluster_id}, to do it: ", end="", file=sys.stderr)
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line.endswith("\n"):
        print(file=sys.stderr)
    return line.rstrip("\r\n") == cluster_id


def _refuse(problem: str) -> NoReturn:
    print(f"trioraft recover: {problem}", file=sys.stderr)
    raise typer.Exit(EXIT_USAGE)


def _fail(problem: str) -> NoReturn:
    print(f"trioraft recover: {problem}", file=sys.stderr)
    raise typer.Exit(EXIT_FAILURE)
