"""What a state machine is: commands in, results out, the same on every node."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from ..core.types import LogIndex


class StateMachine(Protocol):
    """The object that the cluster replicates (paper, sections 2 and 7)."""

    def apply(self, index: LogIndex, data: bytes) -> Any:
        """Apply one committed command; called once per index, in order, never concurrently.

        It reads no clock, no random source, no file, and nothing but its own state and its
        arguments; otherwise the nodes' states part for ever.

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

    def snapshot(self) -> bytes | Iterable[bytes]:
        """The whole state, as it is between two commands; called in the Trio thread, so be quick.

        A large state may be handed out piece by piece: the iterable is consumed in a worker
        thread (if the storage blocks) while further commands are applied, so it must be a view
        that they do not change: of a copy, or of a structure that is never changed in place.
        """

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the whole state by that of a snapshot.

        Args:
            chunks: the content in order, cut anywhere. Called in a worker thread if the storage
                blocks; nothing is applied meanwhile.
        """
