"""What makes spans, where a tracer was given; opentelemetry-api is not needed elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .tracer import Tracer as Tracer

if TYPE_CHECKING:
    from .spans import Spans


def spans_of(tracer: Tracer | None, **attributes: str) -> Spans | None:
    """What makes spans by this tracer; None: nobody traces.

    Args:
        tracer: as of `opentelemetry.trace.get_tracer`.
        attributes: of all spans.
    """
    if tracer is None:
        return None
    from .spans import Spans

    return Spans(tracer, **attributes)
