"""The arenas that there are."""

from __future__ import annotations

from typing import Final

from .crews import Clients, Strangers
from .members import Members
from .ports import PortTarget

FEW: Final = (0, 0, 0, 1, 2, 5)
"""Requests at a time beside members, whose answers must not wait long."""
ARENAS: Final = (
    PortTarget(
        "members",
        "the peers' port of a leader, from the disks of its members, all of them played",
        lambda: (Members(), Clients(FEW)),
    ),
    PortTarget(
        "strangers",
        "the peers' ports of a cluster, by nodes that do not belong to it",
        lambda: (Strangers(),),
    ),
    PortTarget("clients", "the clients' ports of a cluster", lambda: (Clients(),)),
    PortTarget(
        "tls",
        "both ports of a cluster, through TLS, by strangers and clients",
        lambda: (Strangers(), Clients()),
        has_tls=True,
    ),
    PortTarget(
        "members-tls", "as members, through TLS", lambda: (Members(), Clients(FEW)), has_tls=True
    ),
)
BY_NAME: Final = {target.name: target for target in ARENAS}
