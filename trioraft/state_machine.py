"""What a state machine is: commands in, results out, the same on every node.

Rules of this file: `apply` is deterministic. It reads no clock, no random source, no file, and
nothing but its own state and its arguments; otherwise the nodes' states part for ever.
"""

from __future__ import annotations

from typing import Any, Protocol

from .core.types import LogIndex


class StateMachine(Protocol):
    """The object that the cluster replicates (paper, section 2)."""

    def apply(self, index: LogIndex, data: bytes) -> Any:
        """Apply one committed command; called once per index, in order, never concurrently.

        Args:
            index: position of the command in the log; rises, with gaps where the protocol's own
                entries stand.
            data: the command as it was proposed.

        Returns:
            The result that the proposer's `propose` gives back, on the node that proposed it.

        Raises:
            Exception: becomes the command's result: the proposer gets it raised. It must be
                raised on every node alike, and leave the state as it should be.
        """
