"""A member's process in a laboratory: as `member`, and it does what the starter says over the pipe.

Rules of this file:

* The pipe is the one way to cut anything: whoever holds its other end has started this process, and
  may end it as well. No port leads here.
* A line is a `MemberOrder` in JSON; the last one counts.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Final, final

import attrs
import msgspec

from ...core.config import Timing
from ...core.types import NodeId
from ...transport.cuttable import CuttableTransport
from ...transport.tcp import TcpTransport
from ..application import main
from .lab_orders import NO_PRE_VOTE, MemberOrder
from .member import PATIENCE_S

LINE_BYTES_MAX: Final = 64 * 1024


NOBODY: Final[frozenset[NodeId]] = frozenset()


@final
@attrs.define(eq=False)
class MemberCuts:
    """Which ways of this member are cut. Replaced as a whole, from whatever thread."""

    to: frozenset[NodeId] = NOBODY
    """What it sends to these does not leave."""
    come_from: frozenset[NodeId] = NOBODY
    """What these send does not get to it."""

    def lets_send(self, sender: NodeId, receiver: NodeId) -> bool:
        """See `Scissors`."""
        return receiver not in self.to

    def lets_receive(self, sender: NodeId, receiver: NodeId) -> bool:
        """See `Scissors`."""
        return sender not in self.come_from


@final
@attrs.frozen
class LabServer:
    """What is different in a server of a laboratory (see `serve.run.Surroundings`)."""

    cuts: MemberCuts
    has_pre_vote: bool = True

    def transport(self, transport: TcpTransport) -> CuttableTransport:
        """The server's, with ways that can be cut."""
        return CuttableTransport(transport, self.cuts)

    def timing(self, timing: Timing) -> Timing:
        """The server's, with pre-vote or without."""
        return timing if self.has_pre_vote else attrs.evolve(timing, pre_vote=False)


def _obey(cuts: MemberCuts) -> None:
    decoder = msgspec.json.Decoder(MemberOrder)
    rest = b""
    while piece := os.read(0, 4096):
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > LINE_BYTES_MAX:
            break
        for line in lines:
            order = decoder.decode(line)
            cuts.to, cuts.come_from = frozenset(order.to), frozenset(order.come_from)
    os.kill(os.getpid(), signal.SIGTERM)
    gone = threading.Event()
    gone.wait(PATIENCE_S)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    has_pre_vote: bool = sys.argv[1:2] != [NO_PRE_VOTE]
    if not has_pre_vote:
        del sys.argv[1]
    server: LabServer = LabServer(MemberCuts(), has_pre_vote)
    threading.Thread(target=_obey, args=(server.cuts,), name="cluster.obey", daemon=True).start()
    main(server)
