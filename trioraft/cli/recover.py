"""`trioraft recover`: a cluster that lost its quorum for good goes on from what is left of it.

Rules of this file:

* Standard output has what was found and done; questions and problems go to standard error.
* Nothing is changed without the new voters' names and a confirmation. Whatever is not exactly the
  confirmation is a no.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import click

from ..core.errors import ConfigError, StorageError
from ..core.escaping import escaped
from ..core.types import Address, NodeId
from ..member.identity import (
    Identity,
    decode_identity,
    encode_identity,
    recovered_by_force,
)
from ..net.addresses import host_port
from ..storage.recovery import Plan, StoppedNode, carry_out, find, plan
from .exits import EXIT_FAILURE, EXIT_USAGE
from .saying import ask, complain, say, say_block, say_json
from .signature import Argument, Exit, Option, command_of
from .stored_texts import identity_fields, identity_rows, members
from .values import parse_name, parse_peer

HELP: Final = """\
Make a stopped node go on alone when the others are lost for good.

Without --voters it shows what the node has, and changes nothing. With --voters it explains what \
can be lost, asks, and writes the new configuration at the end of the node's log. The whole story \
is in docs/lost-quorum.md.

Examples:  trioraft recover /var/lib/trioraft --voters 0

           trioraft recover /var/lib/trioraft --group eu --voters 0

Exit code: 0 shown, or recovered; 1 it cannot be done, or was not confirmed; 2 a wrong option. \
After 1 and 2 nothing was changed, unless the message says that the disk failed.
"""


def command() -> click.Command:
    """The command."""
    return command_of(recover, "recover", HELP)


def recover(
    directory: Annotated[
        Path,
        Argument(
            metavar="DIR", exists=True, file_okay=False, help="The stopped node's data directory."
        ),
    ],
    voters: Annotated[
        str | None,
        Option(
            metavar="ID,ID,…",
            show_default=False,
            help="Who shall vote: this node alone; the others join when it runs.",
        ),
    ] = None,
    address: Annotated[
        list[str] | None,
        Option(
            metavar="ID=HOST:PORT",
            show_default=False,
            help="Where this node is reached, if that is new.",
        ),
    ] = None,
    group: Annotated[
        str | None,
        Option(
            metavar="NAME", show_default=False, help="Of many groups in one directory, this one."
        ),
    ] = None,
    skip: Annotated[
        int | None,
        Option(
            metavar="INDEX",
            show_default=False,
            help="Take out this entry, which ends every member that applies it (ApplyFailed).",
        ),
    ] = None,
    show: Annotated[bool, Option("--show", help="Only show what the node has.")] = False,
    as_json: Annotated[
        bool, Option("--json", help="Show it as one JSON object; changes nothing.")
    ] = False,
    yes: Annotated[
        bool, Option("--yes", help="Do not ask: I have read docs/lost-quorum.md.")
    ] = False,
) -> None:
    if as_json and voters is not None and not show:
        _refuse("--json only shows: leave out --voters, or add --show")
    if voters is None and (address or yes or skip is not None):
        _refuse("name the voters that shall be, with --voters")
    with _failures_told():
        found = find(directory.absolute(), group)
        if voters is None or show:
            _show(found, as_json=as_json)
            return
        planned = _planned(found, _voters(voters), _addresses(address or []), skip)
        _explain(planned)
        if not yes and not _is_confirmed(found):
            _fail("not confirmed: nothing was changed")
        say(carry_out(planned, datetime.now(UTC)))
    say(_done(planned))


@contextmanager
def _failures_told() -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        _refuse(str(error))
    except StorageError as error:
        _fail(str(error))


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
            raise ConfigError(f"--address names {name!r} twice: give each node one address")
        addresses[name] = address
    return addresses


def _planned(
    found: StoppedNode, voters: list[NodeId], addresses: dict[NodeId, Address], skip: int | None
) -> Plan:
    """What would be written, in the name of a new history."""
    identity = recovered_by_force(
        found.stored.recovered.identity,
        last_index=found.last_index,
        last_term=found.last_term,
        rng=random.SystemRandom(),
    )
    return plan(
        found,
        voters,
        addresses,
        disk=identity.incarnation,
        identity=encode_identity(identity),
        skip=skip,
    )


def _show(found: StoppedNode, *, as_json: bool) -> None:
    if as_json:
        say_json(json.dumps(_as_json(found), indent=2))
    else:
        say_block(_shown(found))


def _explain(planned: Plan) -> None:
    say_block(_shown(planned.found) + "\n")
    say_block(_warning(planned) + "\n")


def _is_confirmed(found: StoppedNode) -> bool:
    """The name of the cluster is asked for, not a "y" that fingers type by themselves."""
    cluster_id = found.stored.cluster_id
    line = ask(f"Type the name of the cluster, {cluster_id}, to do it: ")
    return line.rstrip("\r\n") == cluster_id


def _refuse(problem: str) -> NoReturn:
    complain(f"trioraft recover: {problem}")
    raise Exit(EXIT_USAGE)


def _fail(problem: str) -> NoReturn:
    complain(f"trioraft recover: {problem}")
    raise Exit(EXIT_FAILURE)


# -- texts: plain words, for somebody who has a broken cluster and little time ---------------

_WIDTH = 15


def _shown(found: StoppedNode) -> str:
    """What a node has, for people; lines, the last without its end."""
    recovered, configuration = found.stored.recovered, found.configuration
    voted_for = found.hard_state.voted_for
    snapshot = recovered.snapshot
    first = recovered.base_index + 1
    rows = [
        ("directory", str(found.directory)),
        *([] if found.stored.group is None else [("group", found.stored.group)]),
        ("cluster", found.stored.cluster_id),
        ("node", found.node_id),
        ("term", f"{found.hard_state.term}, voted for {voted_for or 'nobody'}"),
        ("last entry", f"index {found.last_index}, term {found.last_term}"),
        ("entries", f"{first} to {found.last_index}" if recovered.entries else "none"),
        (
            "snapshot",
            "none"
            if snapshot is None
            else f"up to index {snapshot.index}, term {snapshot.term}, {snapshot.size_bytes} bytes",
        ),
        ("configuration", members(configuration)),
        *identity_rows(_identity(found)),
    ]
    for node, address in configuration.addresses.items():
        rows.append(("", f"{node} at {host_port(address)}"))
    rows += [("notice", text) for text in found.stored.notices]
    return "\n".join(escaped(f"{name:<{_WIDTH}}{text}".rstrip()) for name, text in rows)


def _identity(found: StoppedNode) -> Identity | None:
    stored = found.stored.recovered.identity
    return None if stored is None else decode_identity(stored)


def _as_json(found: StoppedNode) -> dict[str, Any]:
    """What a node has, for programs."""
    recovered, configuration = found.stored.recovered, found.configuration
    snapshot = recovered.snapshot
    return {
        "directory": str(found.directory),
        **({} if found.stored.group is None else {"group": found.stored.group}),
        "cluster_id": found.stored.cluster_id,
        "node_id": found.node_id,
        "term": found.hard_state.term,
        "voted_for": found.hard_state.voted_for,
        "last_index": found.last_index,
        "last_term": found.last_term,
        "base_index": recovered.base_index,
        "snapshot": None
        if snapshot is None
        else {
            "index": snapshot.index,
            "term": snapshot.term,
            "size_bytes": snapshot.size_bytes,
        },
        "configuration": {
            "index": configuration.index,
            "voters": list(configuration.voters),
            "outgoing": list(configuration.outgoing),
            "learners": list(configuration.learners),
            "is_joint": bool(configuration.outgoing),
            "addresses": {
                node: host_port(address) for node, address in configuration.addresses.items()
            },
        },
        "identity": identity_fields(_identity(found)),
        "notices": list(found.stored.notices),
    }


def _warning(plan: Plan) -> str:
    """What the plan is and what it may cost; paragraphs, the last without its end."""
    found, entry = plan.found, plan.entry
    left_out = [
        node for node in found.configuration.members if node not in plan.configuration.voters
    ]
    paragraphs = [
        f"Node {found.node_id} would go on with the voters "
        f"{', '.join(plan.configuration.voters)}: configuration entry {entry.index} and term "
        f"{entry.term} would be written at the end of its log.",
        "This is only for a cluster that has lost a majority of its voters for good. If they can "
        "come back, wait for them: then nothing is lost.",
        f"What can be lost: this log ends at index {found.last_index}, term {found.last_term}. "
        "Whatever the cluster acknowledged after that is gone, and commands whose clients were "
        "never answered may turn out to be done. Recover exactly one node: the survivor with the "
        "highest last term, and among those the highest last index. Compare all survivors with "
        "trioraft recover --show first.",
    ]
    if plan.skipped is not None:
        skipped = plan.skipped
        paragraphs.append(
            f"Entry {skipped.index} of term {skipped.term}, a command of {len(skipped.data)} "
            "bytes, would be taken out: it is applied nowhere, whatever its client was told. Do "
            "this only if every member ends with ApplyFailed at this entry. If one of "
            "them has applied it, recover that one, without --skip."
        )
    if left_out and found.stored.group is None:
        paragraphs.append(
            f"Nodes {', '.join(left_out)} must never be started again with their old directories: "
            "this node refuses them from then on, but together they could go on as the cluster "
            "that was. To take one back, empty its directory and add it as a new node."
        )
    elif left_out:
        paragraphs.append(
            f"Processes {', '.join(left_out)} must never open this group again with what they have "
            "of it: this one refuses them from then on, but together they could go on as the group "
            "that was. To take one back, call SharedLog.forget there and add it as a new member."
        )
    return "\n\n".join(map(escaped, paragraphs))


def _done(plan: Plan) -> str:
    """What comes next."""
    if plan.found.stored.group is not None:
        return (
            f"Start process {plan.found.node_id}. Then add members until the group has as many as "
            "before: node.add_learner and node.change_voters, on the node of Group.awake."
        )
    return (
        f"Start node {plan.found.node_id}. Then add nodes until the cluster has as many as before: "
        "trioraft admin add-learner and promote, or node.add_learner and node.change_voters."
    )
