"""ServiceLimits: the bounds of a client port, validated when they are set.

Rules of this file: as `core.config`: reaching a bound slows or refuses; it never grows memory.
"""

from __future__ import annotations

import attrs

from ..core.config import FRAME_BYTES_LIMIT
from ..core.errors import ConfigError
from ..rpc.protocol import FRAME_BYTES_MAX


@attrs.frozen
class ServiceLimits:
    """Every bound of a client port.

    Raises:
        ConfigError: a bound is not positive.
    """

    connections_max: int = 1024
    """Clients connected at the same time; one more is told so and closed."""
    requests_max: int = 1024
    """Unanswered requests of one connection; then it is not read any further."""
    frame_bytes_max: int = FRAME_BYTES_MAX
    """Largest request; checked before anything is allocated."""
    unsent_bytes_max: int = 4 * 1024 * 1024
    """Answers that wait for one client to take them; then its connection is not read further."""
    handshake_timeout_s: float = 5.0
    """How long a new connection may take to say who it is, in seconds."""
    frame_timeout_s: float = 10.0
    """How long a half-read request, or an answer that nobody takes, may last, in seconds."""
    leave_timeout_s: float = 2.0
    """How long a shutdown waits for what is under way to be answered, in seconds."""
    watch_interval_min_s: float = 0.02
    """Shortest time between two statuses of a subscription, whatever was asked, in seconds."""

    def __attrs_post_init__(self) -> None:
        for field in attrs.fields(ServiceLimits):
            value = getattr(self, field.name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not value > 0:
                raise ConfigError(
                    f"ServiceLimits.{field.name} is {value!r}: give a positive number"
                )
        if self.frame_bytes_max > FRAME_BYTES_LIMIT:
            raise ConfigError(
                f"ServiceLimits.frame_bytes_max is {self.frame_bytes_max}: the length of a frame "
                f"has four bytes; give at most {FRAME_BYTES_LIMIT}"
            )
