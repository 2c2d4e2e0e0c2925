"""`trioraft certs` as a command: what is asked for, and what to do with what was made."""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import click

from ...core.errors import ConfigError
from ...core.types import NodeId
from ...net.certificates import PACKAGE, can_read
from ...net.sentences import moment
from ...net.tls import check_certifiable
from ..exits import EXIT_FAILURE, EXIT_USAGE
from ..saying import complain, say_block
from ..serve.options import OPTIONS
from ..signature import Argument, Exit, Option, command_of
from ..values import parse_name

if TYPE_CHECKING:
    from .directory import Team

HELP: Final = """\
Make the certificates of a small cluster, and renew them.

The directory belongs to whoever looks after the cluster; each node's directory in it goes to its \
machine. Run it again with another --node or --client, and what is missing is signed by the \
authorities that are there; what is there is never overwritten, unless --renew says so. Servers \
read changed files while they run.

Members and clients are signed by authorities of their own: a client's certificate never opens the \
members' port.

Example:  trioraft certs pki --node 0=10.0.0.1 --node 1=10.0.0.2 --node 2=10.0.0.3 --client alice

Every year: --renew, and bring each node its new files. An authority is exchanged in three steps, \
each brought to every machine before the next: --renew-ca, --renew, --retire-ca (docs/serve.md).

Exit code: 0 done; 1 the disk failed, or the package cryptography is missing; 2 it cannot be done \
like that, and nothing was changed.
"""
NODES: Final = ("0", "1", "2")
"""Of a new cluster, if none are named."""
DAYS: Final = 365
DAYS_MAX: Final = 3650


def command() -> click.Command:
    """The command."""
    return command_of(certs, "certs", HELP)


def certs(
    directory: Annotated[Path, Argument(metavar="DIR", help="Made if it is missing.")],
    node: Annotated[
        list[str] | None,
        Option(
            metavar="ID[=HOST,HOST,…]",
            show_default=False,
            help="A node, and the names and addresses at which clients and members reach it; once "
            "for each. In a new directory, by default: 0, 1 and 2. Without hosts, clients name it "
            "by its id: --address ID=HOST:PORT.",
        ),
    ] = None,
    client: Annotated[
        list[str] | None,
        Option(metavar="NAME", show_default=False, help="A client; once for each."),
    ] = None,
    days: Annotated[
        int,
        Option(min=1, max=DAYS_MAX, help="How long certificates are good for, in days."),
    ] = DAYS,
    renew: Annotated[
        bool,
        Option(
            "--renew",
            help="Make new certificates, and keys, of those named; of all if none are named.",
        ),
    ] = False,
    renew_ca: Annotated[
        bool,
        Option(
            "--renew-ca",
            help="Make new authorities, which sign from now on; the old ones are trusted as well.",
        ),
    ] = False,
    retire_ca: Annotated[
        bool,
        Option(
            "--retire-ca", help="Trust the old authorities no longer, once all else is renewed."
        ),
    ] = False,
) -> None:
    if not can_read():
        _end(f"it needs {PACKAGE}; install it with: pip install 'trioraft[tls]'", EXIT_FAILURE)
    try:
        _check_one_thing(node, client, renew=renew, renew_ca=renew_ca, retire_ca=retire_ca)
        _carry_out(
            directory.absolute(),
            dict(_node(text) for text in node or ()),
            [_client(text) for text in client or ()],
            days,
            step="renew-ca" if renew_ca else "retire-ca" if retire_ca else "renew" if renew else "",
        )
    except ConfigError as error:
        _end(str(error), EXIT_USAGE)


def _check_one_thing(
    node: Sequence[str] | None,
    client: Sequence[str] | None,
    *,
    renew: bool,
    renew_ca: bool,
    retire_ca: bool,
) -> None:
    if renew + renew_ca + retire_ca > 1:
        raise ConfigError(
            "--renew-ca, --renew and --retire-ca are three steps: bring the files of each to every "
            "machine before the next"
        )
    if (renew_ca or retire_ca) and (node or client):
        raise ConfigError("--renew-ca and --retire-ca concern all: leave out --node and --client")


def _carry_out(
    directory: Path,
    nodes: dict[NodeId, tuple[str, ...]],
    clients: Sequence[str],
    days: int,
    step: str,
) -> None:
    from .directory import Team, Wanted

    team = Team(directory)
    if step and team.is_new:
        raise ConfigError(f"there are no certificates in {directory} yet: leave out --{step}")
    if step == "renew-ca":
        team.renew_authorities()
    elif step == "retire-ca":
        team.retire_authorities()
    else:
        if not nodes and not clients:
            nodes = dict.fromkeys(team.nodes, ()) if step else {}
            clients = team.clients if step else ()
        if team.is_new and not nodes:
            nodes = dict.fromkeys(NODES, ())
        team.make(Wanted(nodes, clients, days, renew=bool(step)))
    for block in _told(team, step):
        say_block(block)


# -- what is asked for -----------------------------------------------------------------------


def _node(text: str) -> tuple[NodeId, tuple[str, ...]]:
    from .directory import CLIENTS

    name, equals, hosts = text.partition("=")
    try:
        parse_name(name)
        check_certifiable(name)
        node = name, tuple(_host(each) for each in hosts.split(",")) if equals else ()
    except (ValueError, ConfigError) as error:
        raise ConfigError(f"--node is {text!r}: {error}") from None
    if node[0] == CLIENTS:
        raise ConfigError(f"--node is {text!r}: that directory is for clients; give another name")
    return node


def _host(text: str) -> str:
    host = text.removeprefix("[").removesuffix("]")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        check_certifiable(host)
    except ConfigError:
        raise ValueError(
            f"{text!r} is no host: give names and IP addresses without ports, as "
            "0=node-0.example,10.0.0.1"
        ) from None
    return host


def _client(text: str) -> str:
    try:
        check_certifiable(text)
    except ConfigError:
        raise ConfigError(
            f"--client is {text!r}: give a name of letters, digits, '-' and '_', joined by dots"
        ) from None
    return text


# -- what was made ---------------------------------------------------------------------------


def _told(team: Team, step: str) -> Iterator[str]:
    yield f"{'made' if team.made else 'nothing is missing'} in {team.directory}:"
    for made in team.made:
        until = "" if made.expires_s is None else f", until {moment(made.expires_s)[:10]}"
        yield f"  {made.path.relative_to(team.directory)!s:24} {made.what}{until}"
    yield ""
    if step == "renew-ca":
        yield "Bring every node's peers-ca.pem and clients-ca.pem to its machine, and every client"
        yield "clients-ca.pem. Once all servers have read them (their logs say so): --renew"
    elif step == "renew":
        yield "Bring every node its files, one node after the other, and every client its own."
        yield "Running servers read them within seconds, or at once after SIGHUP."
    elif step == "retire-ca":
        yield "Bring every node's peers-ca.pem and clients-ca.pem to its machine, and every client"
        yield "clients-ca.pem: from then on nobody trusts what the old authorities signed."
    else:
        yield from _how_to_use(team)
    yield ""
    yield "Keep peers-ca.key and clients-ca.key offline: whoever has them can make members, and"
    yield "clients. Servers and clients never need them; this command does."


def _how_to_use(team: Team) -> Iterator[str]:
    files = {
        "tls-cert": "peer.pem",
        "tls-key": "peer.key",
        "tls-ca": "peers-ca.pem",
        "client-tls-cert": "client-port.pem",
        "client-tls-key": "client-port.key",
        "client-tls-ca": "clients-ca.pem",
        "invite-key": "invite.key",
    }
    for name in team.nodes:
        yield f"node {name}: bring {name}/ to its machine, for its service's user alone; start:"
        folder = team.directory / name
        words = [f"--{option} {shlex.quote(str(folder / file))}" for option, file in files.items()
                 if option in OPTIONS]  # fmt: skip
        yield "  " + " \\\n    ".join([f"trioraft serve --id {shlex.quote(name)} …", *words])
    for name in team.clients:
        own = team.directory / "clients"
        yield f"client {name}: bring it clients-ca.pem and clients/{name}.*; then:"
        words = [
            f"--ca {shlex.quote(str(team.directory / 'clients-ca.pem'))}",
            f"--cert {shlex.quote(str(own / f'{name}.pem'))}",
            f"--key {shlex.quote(str(own / f'{name}.key'))}",
        ]
        yield "  " + " \\\n    ".join(["trioraft kv get KEY --address ID=HOST:PORT", *words])


def _end(problem: str, code: int) -> NoReturn:
    complain(f"trioraft certs: {problem}")
    raise Exit(code)
