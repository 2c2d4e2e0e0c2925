"""What the servers of a cluster say of themselves: a table, JSON, or a probe's yes or no.

Rules of this file: a server that does not answer is shown with the reason; it never hides the
others.
"""

from __future__ import annotations

import enum
import json
import sys
from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...client.client import Client
from ...core.errors import RaftError
from ...core.types import Address, NodeId
from ...net.addresses import host_port
from ...rpc.protocol import ServerStatus, printable
from .connecting import SaidNo

Statuses: TypeAlias = Mapping[Address, ServerStatus | RaftError]

_COLUMNS = ("node", "clients at", "role", "member", "term", "leader", "last", "commit", "applied")


class Check(enum.Enum):
    """What a probe asks."""

    READY = "ready"
    LIVE = "live"


async def check_one(client: Client, address: Address, timeout_s: float, check: Check) -> None:
    """Ask one server.

    Raises:
        SaidNo: it does not answer, or is not ready; standard error has the reason.
    """
    try:
        status = await client.status(address, timeout_s=timeout_s)
    except RaftError as error:
        _say_no(f"not {check.value}: {error}")
    why_not = _why_not_ready(status) if check is Check.READY else None
    if why_not is not None:
        _say_no(f"not ready: {why_not}")
    print(f"{check.value}: node {status.node_id} is {status.role} in term {status.term}")


def _why_not_ready(status: ServerStatus) -> str | None:
    if status.is_removed:
        return f"node {status.node_id} was removed from the cluster"
    if status.leader_id is None:
        return f"node {status.node_id} ({status.role}, term {status.term}) knows no leader"
    if status.node_id not in status.configuration.members:
        return f"node {status.node_id} was not added to the cluster yet"
    return None


def _say_no(text: str) -> Any:
    print(f"trioraft: {text}", file=sys.stderr)
    raise SaidNo


def print_json(statuses: Statuses) -> None:
    """One object: by address, the status or the error; the exit is "no" if nobody answered."""
    content = {
        host_port(address): {"error": str(status)}
        if isinstance(status, RaftError)
        else _as_fields(status)
        for address, status in statuses.items()
    }
    print(json.dumps({"servers": content}, indent=2))
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


def print_table(statuses: Statuses) -> None:
    """One row a server; the exit is "no" if nobody answered."""
    table = Table(*_COLUMNS, box=None, pad_edge=False)
    for column in table.columns[4:]:
        column.justify = "right"
    errors: list[str] = []
    for address, status in statuses.items():
        if isinstance(status, RaftError):
            row = ["?", host_port(address), "no answer", *[""] * (len(_COLUMNS) - 3)]
            errors.append(printable(str(status)))
        else:
            row = _row(address, status)
        table.add_row(*(Text(printable(cell)) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
    leader = _leader(statuses)
    if leader is not None:
        for line in _lines_of(leader):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    for error in errors:
        console.print(error, markup=False, highlight=False, soft_wrap=True)
    _refuse_silence(statuses)


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


def _leader(statuses: Statuses) -> ServerStatus | None:
    """Who leads the latest term."""
    leaders = [
        status
        for status in statuses.values()
        if isinstance(status, ServerStatus) and status.role == "Leader"
    ]
    return max(leaders, key=lambda status: status.term, default=None)


def _lines_of(leader: ServerStatus) -> list[str]:
    """What the leader knows of the others."""
    lines = [
        f"{peer}: {_membership(leader, peer)}, holds up to {progress.match_index} of "
        f"{leader.last_index} ({progress.state})"
        for peer, progress in sorted(leader.progress.items())
    ]
    if lines:
        lines.insert(0, f"as its leader {leader.node_id} sees the cluster:")
    return [printable(line) for line in lines]


def _refuse_silence(statuses: Statuses) -> None:
    if all(isinstance(status, RaftError) for status in statuses.values()):
        raise SaidNo
