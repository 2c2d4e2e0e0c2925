"""The networks a test cluster can run on: in memory, or TCP over the loopback, with scissors.

* Both are cut by the same scissors, silently, so that a scenario means the same on either; both
  keep a node's address over its restarts.
* A cut leaves connections open and tells nobody, as a firewall does that drops packets: that is the
  hard case. `drop_connection` is the other one: both ends notice at once, and nothing is cut.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol, final

import attrs

from ..core.errors import ConfigError
from ..core.types import Address, NodeId
from ..transport.base import Transport
from ..transport.cuttable import CuttableTransport
from ..transport.memory import MemoryNetwork
from ..transport.tcp import TcpTransport


@final
class Cuts:
    """Which directed pairs of nodes are cut. Shared by all transports of one cluster."""

    def __init__(self) -> None:
        self._isolated: set[NodeId] = set()
        self._group_of: dict[NodeId, int] = {}
        self._sends_left: dict[NodeId, int] = {}
        self._pairs: set[frozenset[NodeId]] = set()

    def disconnect(self, node_id: NodeId) -> None:
        """Cut a node off from everyone, in both directions."""
        self._isolated.add(node_id)

    def reconnect(self, node_id: NodeId) -> None:
        """Undo `disconnect`."""
        self._isolated.discard(node_id)

    def partition(self, *groups: set[NodeId]) -> None:
        """Nodes of different groups do not hear each other; those not named form one more."""
        self._group_of = {node: number for number, group in enumerate(groups) for node in group}

    def cut(self, one: NodeId, other: NodeId) -> None:
        """These two do not hear each other, until `heal`."""
        self._pairs.add(frozenset((one, other)))

    def mute_after(self, node_id: NodeId, sends: int) -> None:
        """Let a node send so many messages more; further ones vanish until `heal`."""
        self._sends_left[node_id] = sends

    def heal(self) -> None:
        """Undo every cut."""
        self._isolated.clear()
        self._group_of.clear()
        self._pairs.clear()
        self._sends_left.clear()

    def lets_send(self, sender: NodeId, receiver: NodeId) -> bool:
        """Whether this message may leave; counts it."""
        if self.is_cut(sender, receiver):
            return False
        left = self._sends_left.get(sender)
        if left is None:
            return True
        self._sends_left[sender] = max(0, left - 1)
        return left > 0

    def lets_receive(self, sender: NodeId, receiver: NodeId) -> bool:
        """Whether what comes on this way may be heard."""
        return not self.is_cut(sender, receiver)

    def is_cut(self, sender: NodeId, receiver: NodeId) -> bool:
        """Whether messages from `sender` to `receiver` vanish."""
        if sender in self._isolated or receiver in self._isolated:
            return True
        if self._pairs and frozenset((sender, receiver)) in self._pairs:
            return True
        return self._group_of.get(sender, -1) != self._group_of.get(receiver, -1)


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
        self.cuts: Cuts = Cuts()
        self._carrier = carrier
        self._transports: dict[NodeId, CuttableTransport] = {}

    def transport(self, node_id: NodeId) -> Transport:
        """This node's transport, with its messages cut as `cuts` says."""
        cuttable = CuttableTransport(self._carrier.transport(node_id), self.cuts)
        self._transports[node_id] = cuttable
        return cuttable

    def drop_connection(self, one: NodeId, other: NodeId) -> None:
        """The connection between two nodes breaks, and is there again at once: both are told.

        Args:
            one: of the pair; nothing happens to a node that does not run.
            other: likewise.
        """
        for node_id, peer in ((one, other), (other, one)):
            owner = self._transports[node_id].owner if node_id in self._transports else None
            if owner is not None:
                owner.on_peer_lost(peer)

    def set_faults(
        self, *, delay_s: tuple[float, float] | None = None, loss: float | None = None
    ) -> None:
        """How messages fare from now on; None: as it is.

        Args:
            delay_s: least and greatest delay of a message, in seconds.
            loss: the share of messages that are lost, from 0 to 1.

        Raises:
            ConfigError: it is a network of sockets, or a value is out of its range.
        """
        if not isinstance(self._carrier, MemoryNetwork):
            raise ConfigError('delay and loss are those of the sockets: use network="memory"')
        faults = self._carrier.faults
        self._carrier.faults = attrs.evolve(
            faults,
            delay_s=faults.delay_s if delay_s is None else delay_s,
            drop=faults.drop if loss is None else loss,
        )


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
    loss: float = 0.0,
) -> Iterator[ClusterNetwork]:
    """A network of the kind asked for; its ports are given back at the end."""
    if kind == "tcp":
        if unreliable or loss:
            what = "unreliable=True" if unreliable else f"loss={loss}"
            raise ConfigError(f'{what} needs network="memory": TCP loses no messages')
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
            drop=LOSS_CHANCE if unreliable else loss,
            late=LATE if unreliable else (0.0, 0.0),
        )
    )
