"""Holdings: a bound on the bytes that all connections of a port make it keep together.

Rules of this file:

* Each connection has bounds of its own elsewhere; this one is for all, since a thousand small
  things are a large one.
* When it is passed, the connection whose bytes have been kept longest without progress is ended:
  what honest programs send and take is gone in a moment. One alone may always keep what its own
  bound allows.
"""

from __future__ import annotations

from typing import Protocol, final


class Holder(Protocol):
    """A connection, as far as it matters here."""

    @property
    def ended_because(self) -> str:
        """See `Connection.ended_because`."""

    def end(self, reason: str) -> None:
        """See `Connection.end`."""


@final
class Holdings:
    """Bytes that are kept for connections, and for whom.

    Args:
        what: what they are, as "half frames".
        bytes_max: bound on all of them together.
    """

    def __init__(self, what: str, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes: int = 0
        """What is kept at present."""
        self._what = what
        self._held: dict[Holder, int] = {}  # who has made progress last stands last

    def hold(self, connection: Holder, size_bytes: int) -> None:
        """So many bytes are kept for this connection now. One that was ended counts no more, though
        its task may go on for a moment: or it would stand behind others, and they would go."""
        if connection.ended_because:
            return
        self.bytes += size_bytes - self._held.get(connection, 0)
        self._held[connection] = size_bytes
        while self.bytes > self.bytes_max and len(self._held) > 1:
            oldest = next(iter(self._held))
            self.let_go(oldest)
            oldest.end(
                f"all {self._what} together pass {self.bytes_max} bytes, and its own have been "
                "there longest"
            )

    def on_progress(self, connection: Holder) -> None:
        """Some of its bytes were taken, and others are kept."""
        held = self._held.pop(connection, None)
        if held is not None:
            self._held[connection] = held

    def let_go(self, connection: Holder) -> None:
        """Nothing is kept for this connection any more. Idempotent."""
        self.bytes -= self._held.pop(connection, 0)
