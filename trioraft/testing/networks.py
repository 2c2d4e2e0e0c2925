"""The networks a test cluster can run on: in memory, or TCP over the loopback.

Rules of this file: both are cut by the same scissors, silently, so that a scenario means the same
on either; both keep a node's address over its restarts.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol, final

from ..core.errors import ConfigError
from ..core.types import Address, NodeId
from ..transport.base import Transport
from ..transport.memory import MemoryNetwork
from ..transport.tcp import TcpTransport
from .cuttable import Cuts, CuttableTransport

LOSS_CHANCE = 0.1
LATE = (0.1, 0.075)
"""The seeds' second stress mode: a tenth is lost, a tenth comes 75 ms late."""


class _Carrier(Protocol):
    """What really carries the messages."""

    def transport(self, node_id: NodeId) -> Transport:
        """This node's transport; it can be run again after a restart."""


@final
class ClusterNetwork:
    """A carrier, and the scissors for it."""

    def __init__(self, carrier: _Carrier) -> None:
        self.cuts = Cuts()
        self._carrier = carrier

    def transport(self, node_id: NodeId) -> Transport:
        """This node's transport, with its messages cut as `cuts` says."""
        return CuttableTransport(self._carrier.transport(node_id), self.cuts)


@final
class _Loopback:
    """Every node on a loopback port of its own, chosen by the system before any node starts."""

    def __init__(self, size: int, *, seed: int = 0) -> None:
        self._seed = seed
        self._transports: dict[NodeId, TcpTransport] = {}
        addresses: dict[NodeId, Address] = {}
        for node_id in map(str, range(size)):
            transport = self._transports[node_id] = self._new(node_id)
            addresses[node_id] = transport.bind()
        for transport in self._transports.values():
            for peer, address in addresses.items():
                transport.add_peer(peer, address)

    def transport(self, node_id: NodeId) -> Transport:
        """This node's transport; the same one again after a restart.

        One that was not there from the beginning joins: it knows nobody, and is known to nobody,
        until the configuration tells. Its own `address_of` says what to put there.
        """
        if node_id not in self._transports:
            joining = self._transports[node_id] = self._new(node_id)
            joining.bind()
        return self._transports[node_id]

    def _new(self, node_id: NodeId) -> TcpTransport:
        rng = random.Random(f"{self._seed}/{node_id}/tcp")
        return TcpTransport(node_id, ("127.0.0.1", 0), {}, rng=rng)

    def close(self) -> None:
        """Give back the ports of nodes that were never started."""
        for transport in self._transports.values():
            transport.close()


@contextmanager
def network_of(
    kind: Literal["memory", "tcp"],
    size: int,
    *,
    seed: int,
    unreliable: bool,
    delay_s: tuple[float, float],
) -> Iterator[ClusterNetwork]:
    """A network of the kind asked for; its ports are given back at the end."""
    if kind == "tcp":
        if unreliable:
            raise ConfigError('unreliable=True needs network="memory": TCP loses no messages')
        loopback = _Loopback(size, seed=seed)
        try:
            yield ClusterNetwork(loopback)
        finally:
            loopback.close()
        return
    if kind != "memory":
        raise ConfigError(f'network is {kind!r}; give "memory" or "tcp"')
    yield ClusterNetwork(
        MemoryNetwork(
            random.Random(f"{seed}/network"),
            delay_s,
            drop=LOSS_CHANCE if unreliable else 0.0,
            late=LATE if unreliable else (0.0, 0.0),
        )
    )
