"""What a process that puts load on a service is told, beside what a measured node is told.

Rules of this file: the programs in Go read and write the same lines.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from ..processes.pipe import Peers
from ..throughput.pipe import Load


class ClientSetup(msgspec.Struct, frozen=True):
    """What such a process is to be: its only argument."""

    endpoints: tuple[str, ...]
    """Of the servers, in order: where clients go."""
    connections: int = 1


class Look(msgspec.Struct, frozen=True, tag=True):
    """Answer with `Led`: which endpoint leads."""


class Seek(msgspec.Struct, frozen=True, tag=True):
    """One endpoint has just been killed: put until the others take it, and answer with `Led`."""

    other_than: str
    """The number of the endpoint."""


Order: TypeAlias = Peers | Load | Look | Seek

decode_setup = msgspec.json.Decoder(ClientSetup).decode
decode_order = msgspec.json.Decoder[Order](Order).decode
