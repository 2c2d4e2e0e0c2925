"""The networks a test cluster can run on: in memory, or TCP over the loopback.

Rules of this file: both are cut in the same way, silently, so that a scenario means the same on
either; both keep a node's address over its restarts.
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


class Network(Protocol):
    """What the harness needs of a network."""

    def transport(self, node_id: NodeId) -> Transport: ...
    def disconnect(self, node_id: NodeId) -> None: ...
    def reconnect(self, node_id: NodeId) -> None: ...
    def partition(self, *groups: set[NodeId]) -> None: ...
    def heal(self) -> None: ...
    def is_cut(self, sender: NodeId, receiver: NodeId) -> bool: ...


@final
class TcpNetwork:
    """Every node on a loopback port of its own, chosen by the system before any node starts."""

    def __init__(self, size: int, *, seed: int = 0) -> None:
        self._cuts = Cuts()
        self._transports: dict[NodeId, TcpTransport] = {}
        addresses: dict[NodeId, Address] = {}
        for node_id in map(str, range(size)):
            transport = TcpTransport(
                node_id, ("127.0.0.1", 0), {}, rng=random.Random(f"{seed}/{node_id}/tcp")
            )
            self._transports[node_id] = transport
            addresses[node_id] = transport.bind()
        for transport in self._transports.values():
            for peer, address in addresses.items():
                transport.set_peer(peer, address)
        self.disconnect = self._cuts.disconnect
        self.reconnect = self._cuts.reconnect
        self.partition = self._cuts.partition
        self.heal = self._cuts.heal
        self.is_cut = self._cuts.is_cut

    def transport(self, node_id: NodeId) -> Transport:
        """This node's transport; the same one again after a restart."""
        return CuttableTransport(self._transports[node_id], self._cuts)

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
) -> Iterator[Network]:
    """A network of the kind asked for; its ports are given back at the end."""
    if kind == "tcp":
        if unreliable:
            raise ConfigError('unreliable=True needs network="memory": TCP loses no messages')
        tcp = TcpNetwork(size, seed=seed)
        try:
            yield tcp
        finally:
            tcp.close()
        return
    if kind != "memory":
        raise ConfigError(f'network is {kind!r}; give "memory" or "tcp"')
    yield MemoryNetwork(
        random.Random(f"{seed}/network"),
        delay_s,
        drop=LOSS_CHANCE if unreliable else 0.0,
        late=LATE if unreliable else (0.0, 0.0),
    )
