"""Arguments: what callers of a node give, checked before anything is done with it.

Rules of this file: one clear `ConfigError` that says what, which value, and what to do.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable

from ..core.config import Limits
from ..core.errors import ConfigError
from ..core.features import FEATURES, lacking
from ..core.types import ID_BYTES_MAX, MEMBERS_MAX, Address, Configuration, NodeId
from ..net.addresses import AddressRules, host_port, is_wildcard
from ..storage.base import Storage
from ..transport.base import Transport

_WELL_FORMED = AddressRules(has_tls=False, insecure=True)


def bootstrap_configuration(
    node_id: NodeId, voters: Iterable[NodeId], transport: Transport
) -> Configuration:
    """Who is in the cluster as its founders name it; nobody, for a node that joins."""
    check_id("node_id", node_id)
    ids = checked_ids("voters", voters)
    if ids and node_id not in ids:
        raise ConfigError(
            f"node_id {node_id!r} is not one of voters {list(ids)}; add it there, or give "
            "voters=() to join a cluster that exists"
        )
    if transport.node_id != node_id:
        raise ConfigError(
            f"the transport is node {transport.node_id!r}'s, but node_id is {node_id!r}: give "
            "each node its own transport"
        )
    known = {voter: transport.address_of(voter) for voter in sorted(ids)}
    addresses = {voter: address for voter, address in known.items() if address is not None}
    return Configuration(tuple(sorted(ids)), addresses=addresses)


def checked_ids(what: str, names: Iterable[NodeId]) -> tuple[NodeId, ...]:
    """Names of nodes, each once."""
    if isinstance(names, str):
        raise ConfigError(f"{what} is the string {names!r}; give a list of node ids")
    ids = tuple(names)
    for name in ids:
        check_id(f"a name in {what}", name)
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise ConfigError(f"{what} names {twice} twice; name each node once")
    if len(ids) > MEMBERS_MAX:
        raise ConfigError(f"{what} names {len(ids)} nodes; the most is {MEMBERS_MAX}")
    return ids


def checked_address(address: object, *, may_be_wildcard: bool = False) -> Address | None:
    """An address goes to every node: what cannot be one, or nobody can dial, never gets there."""
    if address is None:
        return None
    match address:
        case (str() as host, int() as port) if host and 0 < port < 2**16:
            checked = _WELL_FORMED.check("the address", (host, port), port_min=1)
            if is_wildcard(host) and not may_be_wildcard:
                raise ConfigError(
                    f"the address is {host_port(checked)}, which nobody can dial: give the name or "
                    "the address at which the other nodes reach it"
                )
            return checked
    raise ConfigError(f"the address is {address!r}: give (host, port), as ('10.0.0.3', 7000)")


def checked_features(names: Iterable[str] | None) -> tuple[str, ...]:
    """What a node may take part in; all that this release can, if that is not said."""
    if names is None:
        return tuple(FEATURES)
    if isinstance(names, str):
        raise ConfigError(f"features is the string {names!r}; give a list of names")
    given = tuple(names)
    unknown = lacking(given, FEATURES)
    if unknown:
        raise ConfigError(
            f"features names {', '.join(map(repr, unknown))}, and this release can do "
            f"{', '.join(FEATURES)}: give some of these, none, or leave it out"
        )
    return given


def check_is_bytes(data: object) -> None:
    """Anything else would break every node it reaches; a buffer could change under us."""
    if not isinstance(data, bytes):
        raise ConfigError(
            f"a command is bytes, but {type(data).__name__} was given: encode it, as "
            "text.encode() or bytes(buffer) do"
        )


def check_size(data: bytes, limits: Limits) -> None:
    """What is larger no node takes."""
    if len(data) > limits.command_bytes_max:
        raise ConfigError(
            f"a command of {len(data)} bytes exceeds Limits.command_bytes_max "
            f"({limits.command_bytes_max}): split it, or raise the limit on every node"
        )


def check_id(what: str, name: object) -> None:
    """A name of a node or a cluster."""
    if not isinstance(name, str) or not 0 < len(name.encode()) <= ID_BYTES_MAX:
        shown = repr(name) if len(repr(name)) < 80 else f"{repr(name)[:80]}…"
        raise ConfigError(
            f"{what} is {shown}: give a non-empty string of at most {ID_BYTES_MAX} bytes"
        )


def check_parts(cluster_id: object, machine: object, storage: Storage) -> None:
    """What a node is made of, and what for."""
    check_id("cluster_id", cluster_id)
    check_machine(machine)
    check_storage_methods(storage)


def check_machine(machine: object) -> None:
    """A state machine, as far as can be seen before it is used."""
    if isinstance(machine, type):
        raise ConfigError(
            f"machine is the class {machine.__name__}; give an instance: {machine.__name__}()"
        )
    for name in ("apply", "snapshot", "restore"):
        method = getattr(machine, name, None)
        if not callable(method):
            raise ConfigError(
                f"machine is a {type(machine).__name__}, which has no method {name!r}: see "
                "trioraft.StateMachine"
            )
        if inspect.iscoroutinefunction(method):
            raise ConfigError(
                f"{type(machine).__name__}.{name} is an async function: a state machine is "
                "synchronous, or commands could not be applied in order"
            )


def check_storage_methods(storage: Storage) -> None:
    """A storage takes all that it is called with; one that was written for an earlier trioraft may
    lack what came later."""
    for name, parameter in (("append", "identity"), ("install_snapshot", "identity")):
        kind = type(storage).__name__
        method = getattr(storage, name, None)
        if not callable(method):
            raise ConfigError(
                f"storage is a {kind}, which has no method {name!r}: see trioraft.storage.base"
            )
        parameters = inspect.signature(method).parameters
        takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
        if parameter not in parameters and not takes_any:
            raise ConfigError(
                f"{kind}.{name} does not take the parameter {parameter!r}: this storage was "
                "written for an earlier trioraft. Add it, as trioraft.storage.base.Storage has "
                "it, and run trioraft.testing.check_storage against it"
            )


def is_volatile(storage: Storage) -> bool:
    """Whether what it holds is gone with its process; one that does not say so keeps it."""
    return bool(getattr(storage, "is_volatile", False))
