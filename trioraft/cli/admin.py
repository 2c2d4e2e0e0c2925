"""`trioraft admin status|transfer|invite|add-learner|promote|move|remove|replace|snapshot` and
`new-token`: each does one thing, and says in a line or two what came of it.
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from typing import Annotated, Any, Final, NoReturn, TypeAlias, TypeVar

import anyio
import click
import msgspec

from ..core.errors import ConfigError, ConfigurationConflict, RaftError, Unreachable
from ..core.types import Address, Configuration, LogIndex, NodeId
from ..live.scene import latest_leader
from ..net.addresses import host_port
from ..net.sentences import moment
from ..rpc.protocol import ServerStatus, StatusNews
from .connecting import EXITS_HELP, ReachedCluster, SaidNo, parsed, reaching
from .saying import complain, say, say_json, say_table
from .signature import Argument, BadParameter, Commands, Option
from .values import parse_address, parse_duration_s, parse_name

HELP: Final = f"""\
Look at a cluster that runs, and change it.

Example:  trioraft admin status --address 127.0.0.1:8000

{EXITS_HELP}
"""

app: Commands = Commands(help=HELP)


def command() -> click.Command:
    """All of them."""
    return app.group("admin")


PROGRESS_S: Final = 0.5
"""How often a command that waits says how far things are, at most, in seconds."""
AGAIN_S: Final = 0.05
"""After what time a change that met another entry is tried once more."""

TOKEN_BYTES: Final = 32
"""Random ones in a token: nobody guesses it, so its hash may be read."""

T = TypeVar("T")

NodeName = Annotated[str, Argument(metavar="ID", help="The node's name.")]
AsJson = Annotated[bool, Option("--json", help="As one JSON object.")]


class Check(enum.StrEnum):
    """What a probe asks."""

    READY = "ready"
    LIVE = "live"


@app.command()
@reaching
async def status(
    cluster: ReachedCluster,
    as_json: AsJson = False,
    budgets: Annotated[
        bool,
        Option("--budgets", help="What is used of every bound that all who connect share."),
    ] = False,
    check: Annotated[
        Check | None,
        Option(
            show_default=False,
            help="For probes: ask only the first --address. live: it answers. ready: it is a "
            "member and follows, or is, a leader. Exit code 0 or 3.",
        ),
    ] = None,
) -> None:
    """What every server says of itself."""
    if check is not None and (as_json or budgets):
        raise BadParameter("--check says yes or no, with neither --json nor --budgets")
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
        Option(metavar="ID", show_default=False, help="To this node; default: who is ready first."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Have the leader transfer its leadership."""
    leader = await cluster.client.transfer_leadership(to)
    _tell(as_json, f"{leader} leads now", leader=leader)


@app.command()
@reaching
async def invite(
    cluster: ReachedCluster,
    node: NodeName,
    valid: Annotated[str, Option(metavar="TIME", help="For how long, as 24h or 30min.")] = "24h",
    as_json: AsJson = False,
) -> None:
    """Write an invitation for a node whose name the members were not told (--tls-peer-names).

    Start it with serve --join --invitation FILE, FILE being what this prints. It is for that name
    and for the first disk that shows it. The members need --invite-key. Over plain TCP nobody asks
    for one.
    """
    valid_s = parsed(parse_duration_s, valid, "--valid")
    invitation = await cluster.client.invite(node, valid_s)
    _tell(as_json, invitation, node=node, invitation=invitation, valid_s=valid_s)


@app.command("add-learner")
@reaching
async def add_learner(
    cluster: ReachedCluster,
    node: NodeName,
    peers_at: Annotated[
        str | None,
        Argument(
            metavar="[HOST:PORT]",
            show_default=False,
            help="Where the other nodes reach it: its --listen, or its --advertise.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add a node that gets the log and does not vote. Start it with `serve --join`.

    Of a member, voter or not, only the address can change.
    """
    address = None if peers_at is None else parsed(parse_address, peers_at, "HOST:PORT")
    seen: list[Configuration] = []

    async def add(leader: ServerStatus) -> LogIndex | None:
        seen[:] = [leader.configuration]
        is_member = node in leader.configuration.members
        if is_member and address in (None, leader.configuration.addresses.get(node)):
            return None
        return await cluster.client.add_learner(
            node, address, expected_index=leader.configuration_index
        )

    index = await _changed(cluster, add)
    before = seen[0]
    part = "voter" if before.is_voter(node) else "learner"
    text = f"{node} is a learner since index {index}"
    if node in before.members:
        changed = "nothing was changed"
        if address is not None and index is not None:
            changed = f"its address is {host_port(address)} since index {index}"
        text = f"{node} is a {part} already: {changed}"
    _tell(as_json, text, node=node, part=part, index=index)


@app.command()
@reaching
async def promote(cluster: ReachedCluster, node: NodeName, as_json: AsJson = False) -> None:
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
    since = "already: nothing was changed" if index is None else f"since index {index}"
    _tell(as_json, f"{node} is a voter {since}", node=node, part="voter", index=index)


@app.command()
@reaching
async def move(
    cluster: ReachedCluster,
    node: NodeName,
    peers_at: Annotated[
        str,
        Argument(
            metavar="HOST:PORT",
            help="Where the other nodes reach it from now on: its --listen, or its --advertise.",
        ),
    ],
    force: Annotated[
        bool,
        Option("--force", help="Whether it answers there or not: it is down, for instance."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say where a member is reached from now on, voter, learner or leader. Start it there first:
    unless it answers the leader at that address, nothing is changed.

    Clients find it by themselves, at its --client-listen or --client-advertise.
    """
    address = parsed(parse_address, peers_at, "HOST:PORT")

    async def relocate(leader: ServerStatus) -> tuple[LogIndex, ServerStatus]:
        if node not in leader.configuration.members:
            raise ConfigError(
                f"{node!r} is no member: {_names(leader.configuration.members)} are; "
                "trioraft admin add-learner adds one"
            )
        return await cluster.client.move(node, address, force=force), leader

    try:
        index, before = await _changed(cluster, relocate)
    except Unreachable as error:
        raise Unreachable(
            f"{error}. Start it there first; or say --force, if it is down or will be there later"
        ) from error
    after = await cluster.client.status()
    clients_at = after.client_addresses.get(node)
    lines = [
        _moved(before, after, node, address, index),
        "whether it answers there was not asked"
        if force
        else f"it answers there, to the leader {after.leader_id}",
    ]
    if clients_at is not None:
        lines.append(f"clients reach it at {host_port(clients_at)}, as it said last")
    _tell(
        as_json,
        *lines,
        node=node,
        part=_membership(after, node),
        index=index,
        clients_at=None if clients_at is None else host_port(clients_at),
    )


def _moved(
    before: ServerStatus, after: ServerStatus, node: NodeId, address: Address, index: LogIndex
) -> str:
    """What came of a move, in a line."""
    part, old = _membership(after, node), before.configuration.addresses.get(node)
    since = f"{node}, a {part}, is reached at {host_port(address)} since index {index}"
    if old == address:
        return f"{since}: that was so before"
    return f"{since}; before: {'nothing was known' if old is None else host_port(old)}"


@app.command()
@reaching
async def remove(cluster: ReachedCluster, node: NodeName, as_json: AsJson = False) -> None:
    """Take a node out of the cluster, whether it votes or not."""

    async def take_out(leader: ServerStatus) -> LogIndex:
        if node not in leader.configuration.members:
            raise ConfigError(f"{node!r} is no member: {_names(leader.configuration.members)} are")
        return await cluster.client.remove(node, expected_index=leader.configuration_index)

    index = await _changed(cluster, take_out)
    _tell(as_json, f"{node} is no member since index {index}", node=node, part=None, index=index)


async def _changed(cluster: ReachedCluster, change: Callable[[ServerStatus], Awaitable[T]]) -> T:
    """Change the members as they are now, once more where the leader has come between only to name
    a learner's disk: that changes nobody's part, and is done in a moment."""
    give_up_s = anyio.current_time() + cluster.timeout_s
    looked_at = await cluster.client.status()
    while True:
        try:
            return await change(looked_at)
        except ConfigurationConflict:
            now = await cluster.client.status()
            if not _only_names_disks(looked_at, now) or anyio.current_time() >= give_up_s:
                raise
            looked_at = now
        await anyio.sleep(AGAIN_S)


def _only_names_disks(before: ServerStatus, now: ServerStatus) -> bool:
    """Whether the configuration was being written, and what was has the same members."""
    old, new = before.configuration, now.configuration
    return (
        now.change is None
        and (before.commit_index < before.configuration_index != 0 or old.disks != new.disks)
        and (old.voters, old.outgoing, old.learners) == (new.voters, new.outgoing, new.learners)
    )


SWITCH_ON_HELP: Final = """\
Switch on what this release can do and an earlier one could not, on every member at once.

Without names: all that the leader's release can. Refused, and nothing is changed, as long as \
any member cannot, or is not there to say so. From then on no member can go back to an earlier \
release, and none with such a release may join: docs/upgrading.md. `status` says what is on, and \
who can do what.
"""


@app.command("switch-on", help=SWITCH_ON_HELP)
@reaching
async def switch_on(
    cluster: ReachedCluster,
    features: Annotated[
        list[str] | None,
        Argument(metavar="[FEATURE]...", show_default=False, help="Such as entry-checksums."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    seen: list[ServerStatus] = []

    async def switch(leader: ServerStatus) -> LogIndex | None:
        seen[:] = [leader]
        wanted = features or leader.can.get(leader.node_id, ())
        on = leader.configuration.features
        if wanted and all(name in on for name in wanted):
            return None
        return await cluster.client.switch_on(wanted, expected_index=leader.configuration_index)

    index = await _changed(cluster, switch)
    (leader,) = seen
    names = list(features or leader.can.get(leader.node_id, ()))
    since = "already: nothing was changed" if index is None else f"since index {index}"
    _tell(as_json, f"{', '.join(names)}: on {since}", features=names, index=index)


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
async def replace(cluster: ReachedCluster, node: NodeName, as_json: AsJson = False) -> None:
    failure: RaftError | None = None
    async with anyio.create_task_group() as telling:
        telling.start_soon(_tell_progress, cluster, node)
        try:
            index = await cluster.client.replace(node, timeout_s=cluster.timeout_s)
        except RaftError as error:  # raised outside, where it is no group
            failure = error
        telling.cancel_scope.cancel()
    if failure is not None:
        raise failure
    text = f"{node} is a voter with its new disk since index {index}"
    _tell(as_json, text, node=node, part="voter", index=index)


async def _tell_progress(cluster: ReachedCluster, node: NodeId) -> None:
    """Say on standard error how far a replacement is, as the leader sees it; until cancelled."""
    said = None
    while True:
        with suppress(RaftError):
            async with cluster.client.watch_status(interval_s=PROGRESS_S) as news:
                async for item in news:
                    text = _replaced(item.status, node) if isinstance(item, StatusNews) else None
                    if text is not None and text != said:
                        said = text
                        complain(f"{node} {text}")
        await anyio.sleep(PROGRESS_S)  # its server left; so would the next one, perhaps


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
    name: Annotated[str, Argument(metavar="NAME", help="Whose it is, as ci.")],
    role: Annotated[
        str, Option(metavar="read|write|admin", help="What its bearer may do.")
    ] = "read",
    backup: Annotated[
        bool, Option("--backup", help="Its bearer may take backups, whatever the role.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a client's token, and the section of the servers' --client-roles file that knows it.
    Asks no server."""
    section = _section_name(parsed(parse_name, name, "NAME"))
    if role not in ("read", "write", "admin"):
        raise BadParameter("give read, write or admin", param_hint="'--role'")
    token = f"trioraft-{secrets.token_urlsafe(TOKEN_BYTES)}"
    digest = hashlib.sha256(token.encode()).hexdigest()
    lines = [f"[tokens.{section}]", f'sha256 = "{digest}"', f'role = "{role}"']
    lines += ["backup = true"] if backup else []
    if as_json:
        say_json(json.dumps({"token": token, "section": "\n".join(lines)}))
        return
    for line in (token, "", *lines):
        say(line)


def _section_name(name: str) -> str:
    """As it stands in TOML."""
    if re.fullmatch(r"[A-Za-z0-9_-]+", name):
        return name
    if not name.isprintable() or '"' in name or "\\" in name:
        raise BadParameter("give a name of printable characters", param_hint="'NAME'")
    return f'"{name}"'


@app.command()
@reaching
async def snapshot(
    cluster: ReachedCluster,
    at: Annotated[
        str | None,
        Option(
            metavar="ID|HOST:PORT", show_default=False, help="At this server; default: the leader."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Have a server take a snapshot now."""
    where = parsed(parse_address, at, "HOST:PORT") if at is not None and ":" in at else at
    index = await cluster.client.take_snapshot(where)
    _tell(as_json, f"snapshot taken, up to index {index}", index=index)


def _tell(as_json: bool, *lines: str, **fields: Any) -> None:
    """What came of it: lines for people, or an object for programs."""
    if as_json:
        say_json(json.dumps(fields))
        return
    for line in lines:
        say(line)


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
        "features": list(configuration.features),
    }
    clients = status.client_addresses
    fields["client_addresses"] = {name: host_port(where) for name, where in clients.items()}
    fields["other_client_addresses"] = {
        name: [host_port(each) for each in others]
        for name, others in status.other_client_addresses.items()
    }
    return fields


def _print_table(statuses: _Statuses) -> None:
    """One row a server; the exit is "no" if nobody answered."""
    rows: list[list[str]] = []
    errors: list[str] = []
    for address, status in statuses.items():
        if isinstance(status, RaftError):
            row = ["?", host_port(address), "no answer", *[""] * (len(_COLUMNS) - 3)]
            errors.append(str(status))
        else:
            row = _row(address, status)
        rows.append(row)
    say_table(_COLUMNS, rows, numbers_from=4)
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
        for line in (*_lines_of(leader), *_features(leader)):
            say(line)
    for error in errors:
        say(error)
    _refuse_silence(statuses)


NEARLY_ALL: Final = 0.9
"""From what part of a budget on the table of servers says so."""
USUALLY_FULL: Final = frozenset({"changes_bytes"})
"""Budgets of what is kept as long as there is room: that there is none is nobody's business."""


def _print_budgets(statuses: _Statuses) -> None:
    """One line for each budget of each server."""
    known = [status for status in statuses.values() if isinstance(status, ServerStatus)]
    rows: list[tuple[str, ...]] = []
    for status in known:
        for name, (used, bound) in status.budgets.items():
            rows.append((status.node_id, name, str(used), "" if bound is None else str(bound)))
        for name in ("rejected", "turned_away"):
            rows.append((status.node_id, name, str(getattr(status, name)), ""))
    say_table(("node", "budget", "used", "of"), rows, numbers_from=2)
    _refuse_silence(statuses)


def _nearly_used_up(status: ServerStatus) -> list[str]:
    """Which budgets of a server are nearly used up, in words."""
    return [
        f"node {status.node_id}: {used} of {bound} {name.replace('_', ' ')} are used"
        for name, (used, bound) in status.budgets.items()
        if bound is not None and used >= NEARLY_ALL * bound and name not in USUALLY_FULL
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


def _features(leader: ServerStatus) -> Iterator[str]:
    """What is switched on; and what could be, or who keeps it from being."""
    on = leader.configuration.features
    if on:
        yield f"switched on: {', '.join(on)}"
    for name in leader.can.get(leader.node_id, ()):
        if name in on:
            continue
        members = leader.configuration.members
        cannot = [peer for peer in members if name not in leader.can.get(peer, ())]
        why_not = f"{_names(tuple(cannot))} cannot, or did not say so" if cannot else "all can"
        yield f"not switched on: {name} ({why_not})"


def _refuse_silence(statuses: _Statuses) -> None:
    if all(isinstance(status, RaftError) for status in statuses.values()):
        raise SaidNo
