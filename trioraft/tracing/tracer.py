"""What is needed of OpenTelemetry where nobody needs to have it."""

from __future__ import annotations

from typing import Any, Protocol


class Tracer(Protocol):
    """An OpenTelemetry tracer, as `opentelemetry.trace.get_tracer` gives it."""

    def start_span(self, name: str, *args: Any, **options: Any) -> Any:
        """Begin a span.

        Args:
            name: what the span is called.
            args: as OpenTelemetry has them.
            options: as OpenTelemetry has them: `kind`, `attributes`, `links`, ….
        """

    def start_as_current_span(self, name: str, *args: Any, **options: Any) -> Any:
        """As `Tracer.start_span`, but of a body, in which it is the present one."""
