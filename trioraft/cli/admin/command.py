"""`trioraft admin status|transfer|add-learner|promote|remove|snapshot` as commands.

Rules of this file: each does one thing and says in one line what came of it; how the cluster is
reached, and the exit codes, are `connecting`'s.
"""

from __future__ import annotations

import enum
import sys
from typing import Annotated, Final

import typer

from ...client.client import Client
from ...core.errors import ConfigError
from ...core.types import Address
from ..serve.values import parse_address
from .connecting import EXITS_HELP, ClusterOptions, reaching
from .status import Check, check_one, print_json, print_table

HELP: Final = f"""\
Look at a cluster that runs, and change it.

Example:  trioraft admin status --address 127.0.0.1:8000

{EXITS_HELP}
"""

app = typer.Typer(no_args_is_help=True, help=HELP)

NodeName = Annotated[str, typer.Argument(metavar="ID", help="The node's name.")]


class CheckName(enum.StrEnum):
    """What a probe asks."""

    READY = "ready"
    LIVE = "live"


@app.command()
@reaching
def status(
    reach: ClusterOptions,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
    check: Annotated[
        CheckName | None,
        typer.Option(
            show_default=False,
            help="For probes: ask only the first --address. live: it answers. ready: it is a "
            "member and follows, or is, a leader. Exit code 0 or 3.",
        ),
    ] = None,
) -> None:
    """What every server says of itself."""

    async def ask(client: Client) -> None:
        if check is not None:
            await check_one(client, reach.addresses[0], reach.timeout_s, Check(check.value))
            return
        statuses = await client.statuses(timeout_s=reach.timeout_s)
        (print_json if as_json else print_table)(statuses)

    reach.run(ask)


@app.command()
@reaching
def transfer(
    reach: ClusterOptions,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="ID", show_default=False, help="To this node; default: who is ready first."
        ),
    ] = None,
) -> None:
    """Have the leader hand over."""

    async def ask(client: Client) -> None:
        _say(f"{await client.transfer_leadership(to)} leads now")

    reach.run(ask)


@app.command("add-learner")
@reaching
def add_learner(
    reach: ClusterOptions,
    node: NodeName,
    peers_at: Annotated[
        str | None,
        typer.Argument(
            metavar="[HOST:PORT]",
            show_default=False,
            help="Where the other nodes reach it: its --listen, or its --advertise.",
        ),
    ] = None,
) -> None:
    """Add a node that gets the log and does not vote. Start it with `serve --join`."""
    address = None if peers_at is None else _parsed(peers_at)

    async def ask(client: Client) -> None:
        index = await client.add_learner(node, address)
        _say(f"{node} is a learner since index {index}")

    reach.run(ask)


@app.command()
@reaching
def promote(reach: ClusterOptions, node: NodeName) -> None:
    """Make a learner a voter, once it has caught up."""

    async def ask(client: Client) -> None:
        leader = await client.status()
        configuration = leader.configuration
        if node in configuration.voters:
            _say(f"{node} is a voter already")
            return
        if node not in configuration.learners:
            raise ConfigError(
                f"{node!r} is no learner (voters: {_names(configuration.voters)}; learners: "
                f"{_names(configuration.learners)}): add it first, with trioraft admin add-learner"
            )
        index = await client.change_voters(
            [*configuration.voters, node], expected_index=leader.configuration_index
        )
        _say(f"{node} is a voter since index {index}")

    reach.run(ask)


@app.command()
@reaching
def remove(reach: ClusterOptions, node: NodeName) -> None:
    """Take a node out of the cluster, whether it votes or not."""

    async def ask(client: Client) -> None:
        leader = await client.status()
        if node not in leader.configuration.members:
            raise ConfigError(f"{node!r} is no member: {_names(leader.configuration.members)} are")
        index = await client.remove(node, expected_index=leader.configuration_index)
        _say(f"{node} is no member since index {index}")

    reach.run(ask)


@app.command()
@reaching
def snapshot(
    reach: ClusterOptions,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="ID|HOST:PORT", show_default=False, help="At this server; default: the leader."
        ),
    ] = None,
) -> None:
    """Have a server take a snapshot now."""
    where = _parsed(at) if at is not None and ":" in at else at

    async def ask(client: Client) -> None:
        _say(f"snapshot taken, up to index {await client.take_snapshot(where)}")

    reach.run(ask)


def _parsed(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: {error}", param_hint="'HOST:PORT'") from None


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"


def _say(text: str) -> None:
    print(text, file=sys.stdout)
