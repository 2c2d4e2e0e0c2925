"""`trioraft admin status|transfer|invite|add-learner|promote|remove|replace|snapshot|new-token`:
each does one thing, and says in one line what came of it.
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
import secrets
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Annotated, Any, Final, NoReturn, TypeAlias, TypeVar

import msgspec
import trio
import typer
from rich.console import Console
from rich.table import Table

from ..core.errors import ConfigError, ConfigurationConflict, RaftError
from ..core.types import Address, LogIndex, NodeId
from ..net.addresses import host_port
from ..net.sentences import moment
from ..rpc.protocol import ServerStatus, StatusNews
from ..tasks.background import running_beside
from .connecting import EXITS_HELP, ReachedCluster, SaidNo, latest_leader, parsed, reaching
from .saying import complain, say, say_json, shown_text
from .values import parse_address, parse_duration_s, parse_name

HELP: Final = f"""\
Look at a cluster that runs, and change it.

Example:  trioraft admin status --address 127.0.0.1:8000

{EXITS_HELP}
"""

app: typer.Typer = typer.Typer(no_args_is_help=True, help=HELP)


def add_to(app_above: typer.Typer) -> None:
    """Add the commands."""
    app_above.add_typer(app, name="admin")


PROGRESS_S: Final = 0.5
"""How often a command that waits says how far things are, at most, in seconds."""
AGAIN_S: Final = 0.05
"""After what time a change that met another entry is tried once more."""

TOKEN_BYTES: Final = 32
"""Random ones in a token: nobody guesses it, so its hash may be read."""

T = TypeVar("T")

NodeName = Annotated[str, typer.Argument(metavar="ID", help="The node's name.")]


class Check(enum.StrEnum):
    """What a probe asks."""

    READY = "ready"
    LIVE = "live"


@app.command()
@reaching
async def status(
    cluster: ReachedCluster,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
    budgets: Annotated[
        bool,
        typer.Option("--budgets", help="What is used of every bound that all who connect share."),
    ] = False,
    check: Annotated[
        Check | None,
        typer.Option(
            show_default=False,
            help="For probes: ask only the first --address. live: it answers. ready: it is a "
            "member and follows, or is, a leader. Exit code 0 or 3.",
        ),
    ] = None,
) -> None:
    """What every server says of itself."""
    if check is not None:
        await _check_one(cluster, check)
        return
    statuses = await cluster.client.statuses(timeout_s=cluster.timeout_s)
    (_print_json if as_json else _print_budgets if budgets else _print_table)(statuses)


@app.command()
@reaching
async def transfer(
    cluster: ReachedCluster,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="ID", show_default=False, help="To this node; default: who is ready first."
        ),
    ] = None,
) -> None:
    """Have the leader transfer its leadership."""
    say(f"{await cluster.client.transfer_leadership(to)} leads now")


@app.command()
@reaching
async def invite(
    cluster: ReachedCluster,
    node: NodeName,
    valid: Annotated[
        str, typer.Option(metavar="TIME", help="For how long, as 24h or 30min.")
    ] = "24h",
) -> None:
    """Write an invitation for a node whose name the members were not told (--tls-peer-names).

    Start it with serve --join --invitation FILE, FILE being what this prints. It is for that name
    and for the first disk that shows it. The members need --invite-key. Over plain TCP nobody asks
    for one.
    """
    valid_s = parsed(parse_duration_s, valid, "--valid")
    say(await cluster.client.invite(node, valid_s))


@app.command("add-learner")
@reaching
async def add_learner(
    cluster: ReachedCluster,
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
    address = None if peers_at is None else parsed(parse_address, peers_at, "HOST:PORT")

    async def add(_: ServerStatus) -> LogIndex:
        return await cluster.client.add_learner(node, address)

    index = await _changed(cluster, add)
    say(f"{node} is a learner since index {index}")


@app.command()
@reaching
async def promote(cluster: ReachedCluster, node: NodeName) -> None:
    """Make a learner a voter, once it has caught up."""

    async def give_vote(leader: ServerStatus) -> LogIndex | None:
        configuration = leader.configuration
        if node in configuration.voters:
            return None
        if node not in configuration.learners:
            raise ConfigError(
                f"{node!r} is no learner (voters: {_names(configuration.voters)}; learners: "
                f"{_names(configuration.learners)}): add it first, with trioraft admin add-learner"
            )
        return await cluster.client.change_voters(
            [*configuration.voters, node], expected_index=leader.configuration_index
        )

    index = await _changed(cluster, give_vote)
    since = "already" if index is None else f"since index {index}"
    say(f"{node} is a voter {since}")


@app.command()
@reaching
async def remove(cluster: ReachedCluster, node: NodeName) -> None:
    """Take a node out of the cluster, whether it votes or not."""

    async def take_out(leader: ServerStatus) -> LogIndex:
        if node not in leader.configuration.members:
            raise ConfigError(f"{node!r} is no member: {_names(leader.configuration.members)} are")
        return await cluster.client.remove(node, expected_index=leader.configuration_index)

    index = await _changed(cluster, take_out)
    say(f"{node} is no member since index {index}")


async def _changed(cluster: ReachedCluster, change: Callable[[ServerStatus], Awaitable[T]]) -> T:
    """Change the members as they are now, once more where the leader has come between only to name
    a learner's disk: that changes nobody's part, and is done in a moment."""
    give_up_s = trio.current_time() + cluster.timeout_s
    looked_at = await cluster.client.status()
    while True:
        try:
            return await change(looked_at)
        except ConfigurationConflict:
            now = await cluster.client.status()
            if not _only_names_disks(looked_at, now) or trio.current_time() >= give_up_s:
                raise
            looked_at = now
        await trio.sleep(AGAIN_S)


def _only_names_disks(before: ServerStatus, now: ServerStatus) -> bool:
    """Whether the configuration was being written, and what was has the same members."""
    old, new = before.configuration, now.configuration
    return (
        now.change is None
        and (before.commit_index < before.configuration_index != 0 or old.disks != new.disks)
        and (old.voters, old.outgoing, old.learners) == (new.voters, new.outgoing, new.learners)
    )


REPLACE_HELP: Final = """\
Make a voter that lost its disk a voter again, with the empty one that it has now.

First start it again under its id, with an empty data directory. Then its lost disk loses the \
vote, and the new one gets the log, and the vote once it has caught up. Whatever crashes \
meanwhile, the cluster goes on with it: call this again to wait for the rest.

A cluster of two voters always refuses: with one disk its majority is gone. Use trioraft recover \
on the node that is left.
"""


@app.command(help=REPLACE_HELP)
@reaching
async def replace(cluster: ReachedCluster, node: NodeName) -> None:
    watching = trio.CancelScope()
    tell = partial(_tell_progress, cluster, node, watching)
    async with running_beside(tell, stop=watching.cancel, name="admin.progress"):
        index = await cluster.client.replace(node, timeout_s=cluster.timeout_s)
    say(f"{node} is a voter with its new disk since index {index}")


async def _tell_progress(
    cluster: ReachedCluster,
    node: NodeId,
    scope: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    """Say on standard error how far a replacement is, as the leader sees it."""
    task_status.started()
    said = None
    with scope:
        while True:
            with suppress(RaftError):
                async with cluster.client.watch_status(interval_s=PROGRESS_S) as news:
                    async for item in news:
                        text = (
                            _replaced(item.status, node) if isinstance(item, StatusNews) else None
                        )
                        if text is not None and text != said:
                            said = text
                            complain(f"{node} {text}")
            await trio.sleep(PROGRESS_S)  # its server left; so would the next one, perhaps


def _replaced(status: ServerStatus, node: NodeId) -> str | None:
    """How far the replacement of this node is; None: it is not under way."""
    configuration = status.configuration
    if node in configuration.outgoing and node in configuration.returning:
        return "loses the vote of its lost disk"
    if node in configuration.returning:
        progress = status.progress.get(node)
        holds = "" if progress is None else f": up to {progress.match_index} of {status.last_index}"
        return f"gets the log{holds}"
    if configuration.outgoing and node in configuration.voters:
        return "gets its vote"
    return None


@app.command("new-token")
def new_token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is, as ci.")],
    role: Annotated[
        str, typer.Option(metavar="read|write|admin", help="What its bearer may do.")
    ] = "read",
) -> None:
    """Make a client's token, and the section of the servers' --client-roles file that knows it.
    Asks no server."""
    section = _section_name(parsed(parse_name, name, "NAME"))
    if role not in ("read", "write", "admin"):
        raise typer.BadParameter("give read, write or admin", param_hint="'--role'")
    token = f"trioraft-{secrets.token_urlsafe(TOKEN_BYTES)}"
    digest = hashlib.sha256(token.encode()).hexdigest()
    for line in (token, "", f"[tokens.{section}]", f'sha256 = "{digest}"', f'role = "{role}"'):
        say(line)


def _section_name(name: str) -> str:
    """As it stands in TOML."""
    if re.fullmatch(r"[A-Za-z0-9_-]+", name):
        return name
    if not name.isprintable() or '"' in name or "\\" in name:
        raise typer.BadParameter("give a name of printable characters", param_hint="'NAME'")
    return f'"{name}"'


@app.command()
@reaching
async def snapshot(
    cluster: ReachedCluster,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="ID|HOST:PORT", show_default=False, help="At this server; default: the leader."
        ),
    ] = None,
) -> None:
    """Have a server take a snapshot now."""
    where = parsed(parse_address, at, "HOST:PORT") if at is not None and ":" in at else at
    say(f"snapshot taken, up to index {await cluster.client.take_snapshot(where)}")


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"


# -- what servers say of themselves ---------------------------------------------------------

_Statuses: TypeAlias = Mapping[Address, ServerStatus | RaftError]

_COLUMNS = ("node", "clients at", "role", "member", "term", "leader", "last", "commit", "applied")


async def _check_one(cluster: ReachedCluster, check: Check) -> None:
    """Ask the first server.

    Raises:
        SaidNo: it does not answer, or is not ready; standard error has the reason.
    """
    try:
        status = await cluster.client.status(cluster.client.addresses[0])
    except RaftError as error:
        _say_no(f"not {check.value}: {error}")
    why_not = _why_not_ready(status) if check is Check.READY else None
    if why_not is not None:
        _say_no(f"not ready: {why_not}")
    say(f"{check.value}: node {status.node_id} is {status.role} in term {status.term}")


def _why_not_ready(status: ServerStatus) -> str | None:
    if status.is_removed:
        return f"node {status.node_id} was removed from the cluster"
    if status.waiting_for:
        return _forming(status)
    if status.leader_id is None:
        return f"node {status.node_id} ({status.role}, term {status.term}) knows no leader"
    if status.node_id not in status.configuration.members:
        return f"node {status.node_id} was not added to the cluster yet"
    return None


def _forming(status: ServerStatus) -> str:
    """Whom a new cluster waits for, and why."""
    why = (f"{peer} ({status.problems.get(peer, 'not met')})" for peer in status.waiting_for)
    return f"node {status.node_id}: the cluster is forming: waiting for {', '.join(why)}"


def _say_no(text: str) -> NoReturn:
    complain(f"trioraft: {text}")
    raise SaidNo


def _print_json(statuses: _Statuses) -> None:
    """One object: by address, the status or the error; the exit is "no" if nobody answered."""
    content = {
        host_port(address): {"error": str(status)}
        if isinstance(status, RaftError)
        else _as_fields(status)
        for address, status in statuses.items()
    }
    say_json(json.dumps({"servers": content}, indent=2))
    _refuse_silence(statuses)


def _as_fields(status: ServerStatus) -> dict[str, Any]:
    """With names for all that has some, and addresses as they are written."""
    fields: dict[str, Any] = msgspec.to_builtins(status)
    configuration = status.configuration
    fields["configuration"] = {
        "voters": list(configuration.voters),
        "outgoing": list(configuration.outgoing),
        "learners": list(configuration.learners),
        "addresses": {name: host_port(where) for name, where in configuration.addresses.items()},
    }
    clients = status.client_addresses
    fields["client_addresses"] = {name: host_port(where) for name, where in clients.items()}
    return fields


def _print_table(statuses: _Statuses) -> None:
    """One row a server; the exit is "no" if nobody answered."""
    table = Table(*_COLUMNS, box=None, pad_edge=False)
    for column in table.columns[4:]:
        column.justify = "right"
    errors: list[str] = []
    for address, status in statuses.items():
        if isinstance(status, RaftError):
            row = ["?", host_port(address), "no answer", *[""] * (len(_COLUMNS) - 3)]
            errors.append(str(status))
        else:
            row = _row(address, status)
        table.add_row(*(shown_text(cell) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
    known = [status for status in statuses.values() if isinstance(status, ServerStatus)]
    for status in known:
        if status.waiting_for:
            say(_forming(status))
        for line in _nearly_used_up(status):
            say(line)
    for status in known:
        for line in _certificates(status):
            say(line)
    leader = latest_leader(known)
    if leader is not None:
        for line in _lines_of(leader):
            say(line)
    for error in errors:
        say(error)
    _refuse_silence(statuses)


NEARLY_ALL: Final = 0.9
"""From what part of a budget on the table of servers says so."""


def _print_budgets(statuses: _Statuses) -> None:
    """One line for each budget of each server."""
    known = [status for status in statuses.values() if isinstance(status, ServerStatus)]
    table = Table("node", "budget", "used", "of", box=None, pad_edge=False)
    for column in table.columns[2:]:
        column.justify = "right"
    for status in known:
        for name, (used, bound) in status.budgets.items():
            cells = (status.node_id, name, str(used), "" if bound is None else str(bound))
            table.add_row(*(shown_text(cell) for cell in cells))
        for name in ("rejected", "turned_away"):
            cells = (status.node_id, name, str(getattr(status, name)), "")
            table.add_row(*(shown_text(cell) for cell in cells))
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    _refuse_silence(statuses)


def _nearly_used_up(status: ServerStatus) -> list[str]:
    """Which budgets of a server are nearly used up, in words."""
    return [
        f"node {status.node_id}: {used} of {bound} {name.replace('_', ' ')} are used"
        for name, (used, bound) in status.budgets.items()
        if bound is not None and used >= NEARLY_ALL * bound
    ]


def _row(address: Address, status: ServerStatus) -> list[str]:
    numbers = (status.last_index, status.commit_index, status.applied_index)
    return [
        status.node_id,
        host_port(address),
        status.role,
        _membership(status, status.node_id),
        str(status.term),
        status.leader_id or "none",
        *(str(number) for number in numbers),
    ]


def _membership(status: ServerStatus, node_id: NodeId) -> str:
    configuration = status.configuration
    if status.is_removed and node_id == status.node_id:
        return "removed"
    if configuration.is_voter(node_id):
        return "voter"
    return "learner" if node_id in configuration.learners else "not added"


def _certificates(status: ServerStatus) -> Iterator[str]:
    """Until when a server's certificates are good, as far as it knows."""
    ends = (
        ("peers", status.peer_certificate_expires_s),
        ("clients", status.client_certificate_expires_s),
    )
    known = [f"{moment(at_s)} (for {port})" for port, at_s in ends if at_s is not None]
    if known:
        yield f"{status.node_id}: certificates are good until {', '.join(known)}"


def _lines_of(leader: ServerStatus) -> list[str]:
    """What the leader knows of the others."""
    lines = [
        f"{peer}: {_membership(leader, peer)}, holds up to {progress.match_index} of "
        f"{leader.last_index} ({progress.state})"
        for peer, progress in sorted(leader.progress.items())
    ]
    if lines:
        lines.insert(0, f"as its leader {leader.node_id} sees the cluster:")
    return lines


def _refuse_silence(statuses: _Statuses) -> None:
    if all(isinstance(status, RaftError) for status in statuses.values()):
        raise SaidNo
