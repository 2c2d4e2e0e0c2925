"""Where the members of a development cluster are: their addresses and directories, kept in a file,
so that the cluster that is started again is the same one."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import attrs
import msgspec

from ...core.errors import ConfigError
from ...core.types import Address
from ...net.addresses import host_port
from ...storage.directory import make_private
from ..files import read_small
from ..values import PORT_MAX

HOST: Final = "127.0.0.1"
FILE: Final = "cluster.json"
SIZE_MAX: Final = 9


class _Kept(msgspec.Struct, frozen=True):
    """What the file says."""

    clients: list[int]
    """Each member's port for clients."""
    peers: list[int]


@attrs.frozen
class Member:
    """One member, and where it is."""

    id: str
    clients: Address
    peers: Address
    data: Path


@attrs.frozen
class Layout:
    """All members."""

    members: tuple[Member, ...]

    def addresses(self) -> str:
        """Where clients reach them, as TRIORAFT_ADDRESSES has it."""
        return ",".join(host_port(member.clients) for member in self.members)

    def arguments(self, member: Member) -> list[str]:
        """What `trioraft serve` is told, for this member."""
        words = ["--id", member.id, "--data", str(member.data), "--create-data"]
        words += ["--listen", host_port(member.peers), "--client-listen", host_port(member.clients)]
        for other in self.members:
            if other is not member:
                words += ["--peer", f"{other.id}={host_port(other.peers)}"]
                words += ["--client-peer", f"{other.id}={host_port(other.clients)}"]
        return words if len(self.members) > 1 else [*words, "--found-alone"]


def laid_out(directory: Path, size: int | None, base_port: int | None) -> Layout:
    """The cluster in this directory: the one that is there, or a new one.

    Args:
        directory: made if it is missing.
        size: how many members; None: as many as there are, or three.
        base_port: the first of the ports, clients' first; None: those of last time, or free ones.

    Raises:
        ConfigError: it holds something else, or another number of members.
        OSError: it cannot be used.
    """
    make_private(directory)
    path = directory / FILE
    kept = _kept(path)
    if kept is None and any(directory.iterdir()):
        raise ConfigError(f"{str(directory)!r} is not empty, and no cluster's: name another one")
    if kept is not None and size not in (None, len(kept.clients)):
        raise ConfigError(
            f"{str(directory)!r} has a cluster of {len(kept.clients)}, not of {size}: leave the "
            "size out, or name another directory (members of a cluster that runs are changed with "
            "trioraft admin)"
        )
    count = size or (3 if kept is None else len(kept.clients))
    if base_port is not None:
        kept = _from(base_port, count)
    elif kept is None:
        kept = _free(count)
    path.write_bytes(msgspec.json.encode(kept))
    ports = enumerate(zip(kept.clients, kept.peers, strict=True))
    return Layout(
        tuple(
            Member(str(number), (HOST, clients), (HOST, peers), directory / str(number))
            for number, (clients, peers) in ports
        )
    )


def _kept(path: Path) -> _Kept | None:
    try:
        kept = msgspec.json.decode(read_small(path), type=_Kept)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{str(path)!r} cannot be read: {error}") from None
    ports = [*kept.clients, *kept.peers]
    if (
        len(kept.clients) != len(kept.peers)
        or not 1 <= len(kept.clients) <= SIZE_MAX
        or not all(0 < port <= PORT_MAX for port in ports)
        or len({*ports}) < len(ports)
    ):
        raise ConfigError(
            f"{str(path)!r} is not what trioraft cluster has written: give another --data, or "
            "remove it"
        )
    return kept


def _from(base_port: int, count: int) -> _Kept:
    last = base_port + 2 * count - 1
    if last > PORT_MAX:
        raise ConfigError(
            f"--base-port is {base_port}: {count} members have ports up to {last}; give one of at "
            f"most {PORT_MAX - 2 * count + 1}"
        )
    ports = range(base_port, last + 1)
    return _Kept([*ports[:count]], [*ports[count:]])


def _free(count: int) -> _Kept:
    """Ports that nobody has now, all different."""
    with ExitStack() as taken:
        ports = []
        for _ in range(2 * count):
            listener = taken.enter_context(socket.create_server((HOST, 0)))
            ports.append(listener.getsockname()[1])
    return _Kept(ports[:count], ports[count:])
