"""HttpLimits: every bound of an HTTP port."""

from __future__ import annotations

import attrs

from ..core.config import check_bounds


@attrs.frozen
class HttpLimits:
    """Every bound of an HTTP port. Reaching one slows or refuses; it never grows memory.

    Raises:
        ConfigError: a bound is not a positive number, or a number of things not a whole one.
    """

    connections_max: int = 64
    """Connections at the same time."""
    connections_of_host_max: int = 48
    """Of them, from one address; the rest is for others."""
    head_bytes_max: int = 16 * 1024
    """A request's line and headers."""
    body_bytes_max: int = 64 * 1024
    """A request's body."""
    request_timeout_s: float = 5.0
    """How long a request may take to come, in seconds, handshake included."""
    idle_timeout_s: float = 60.0
    """How long a connection may wait for its next request, in seconds."""
    answer_timeout_s: float = 10.0
    """How long an answer may take to begin, and its reader to take a part of it, in seconds."""
    cpu_share: float = 0.1
    """Of one processor, in the long run: all that its thread may take."""

    def __attrs_post_init__(self) -> None:
        check_bounds(self)
