"""Spans: a command's way from its caller to the state machine, as OpenTelemetry tells it.

Rules of this file:

* A span is begun here only for who is traced: below a span that is sampled, in this process or in
  the one that the command comes from. What is not sampled is as if nobody traced.
* What travels is W3C Trace Context, as text; exporters, samplers and resources are the user's.
* The state machine sees no span: what it computes must not depend on whether somebody traces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Final, final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from opentelemetry.trace import Span as Span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ..core.types import TRACESTATE_CHARS_MAX, TraceContext
from .tracer import Tracer

LINKS_MAX: Final = 128
"""Commands of one durable write that its span has links to."""

_PROPAGATOR: Final = TraceContextTextMapPropagator()


def context_of(span: Span) -> TraceContext | None:
    """What travels, so that spans elsewhere are below this one; None: it is not sampled."""
    if not span.get_span_context().trace_flags.sampled:
        return None
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, trace.set_span_in_context(span, Context()))
    if "traceparent" not in carrier:
        return None
    state = carrier.get("tracestate", "")
    return TraceContext(carrier["traceparent"], state if len(state) <= TRACESTATE_CHARS_MAX else "")


def _parent_in(context: TraceContext) -> Context | None:
    """The span that a command comes from; None: it is not sampled, or nonsense."""
    carrier = {"traceparent": context.traceparent, "tracestate": context.tracestate}
    parent = _PROPAGATOR.extract(carrier, Context())
    found = trace.get_current_span(parent).get_span_context()
    return parent if found.is_valid and found.trace_flags.sampled else None


def end_span(span: Span, error: BaseException | None = None) -> None:
    """End it, well or with this error."""
    if error is not None:
        span.record_exception(error)
        span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
    span.end()


@final
class Spans:
    """Makes spans for one client, port or node.

    Args:
        tracer: the user's.
        attributes: of all of them.
    """

    def __init__(self, tracer: Tracer, **attributes: str) -> None:
        self._tracer = tracer
        self._attributes = {f"trioraft.{name}": value for name, value in attributes.items()}
        self.open: set[CommandSpans] = set()
        """Commands that are traced, and have no outcome yet."""

    def call(self, name: str, **attributes: Any) -> AbstractContextManager[Span]:
        """For the body, which asks another process: a span below the present one, in its place."""
        return self._present(name, SpanKind.CLIENT, attributes)

    def inside(self, name: str, **attributes: Any) -> AbstractContextManager[Span]:
        """Likewise, for what is done in this process."""
        return self._present(name, SpanKind.INTERNAL, attributes)

    def _present(
        self, name: str, kind: SpanKind, attributes: dict[str, Any]
    ) -> AbstractContextManager[Span]:
        named = self._named(attributes)
        present: AbstractContextManager[Span]
        present = self._tracer.start_as_current_span(name, kind=kind, attributes=named)
        return present

    def context_of(self, span: Span) -> TraceContext | None:
        """What travels, so that spans elsewhere are below this one; None: it is not sampled."""
        return context_of(span)

    def note_retry(self, error: Exception, node_id: str) -> None:
        """A call below the present span is made again, since this came of it."""
        trace.get_current_span().add_event(
            "trioraft.retry",
            {"trioraft.node": node_id, "exception.type": type(error).__name__},
        )

    def served(self, context: TraceContext, name: str, **attributes: Any) -> Span | None:
        """A server's span for what has come with this; None: it is not traced."""
        parent = _parent_in(context)
        if parent is None:
            return None
        named = self._named(attributes)
        span: Span = self._tracer.start_span(name, parent, kind=SpanKind.SERVER, attributes=named)
        return span

    def below(self, span: Span) -> AbstractContextManager[Span]:
        """For the body, which does not wait: this is the present span."""
        return trace.use_span(
            span, end_on_exit=False, record_exception=False, set_status_on_exception=False
        )

    def end(self, span: Span, error: BaseException | None = None) -> None:
        """End it, well or with this error."""
        end_span(span, error)

    def command(self, *, is_forwarded: bool = False) -> CommandSpans | None:
        """For a command that is brought here below the present span; None: that is not sampled.

        Args:
            is_forwarded: another node appends it, and says when it is committed.
        """
        span = trace.get_current_span()
        if not span.get_span_context().trace_flags.sampled:
            return None
        return CommandSpans(self, span, is_ours=False, is_forwarded=is_forwarded)

    def taken(self, context: TraceContext) -> CommandSpans | None:
        """For a command that another node has forwarded here; None: it is not traced."""
        span = self.served(context, "trioraft.take")
        return None if span is None else CommandSpans(self, span, is_ours=True)

    def write(self, commands: Iterable[CommandSpans], entries: int) -> Span | None:
        """A durable write that these commands share: below the first, with links to the others."""
        first, *others = [each.commit for each in commands if each.commit is not None]
        links = [Link(span.get_span_context()) for span in others[:LINKS_MAX]]
        return self.begin("trioraft.write", first, links=links, entries=entries)

    def begin(self, name: str, parent: Span, links: Iterable[Link] = (), **attributes: Any) -> Span:
        """A span below another one, whatever the present one is."""
        below = trace.set_span_in_context(parent, Context())
        named = self._named(attributes)
        span: Span = self._tracer.start_span(name, below, attributes=named, links=tuple(links))
        return span

    def _named(self, attributes: dict[str, Any]) -> dict[str, Any]:
        given = {f"trioraft.{name}": value for name, value in attributes.items()}
        return {**self._attributes, **given}


@final
class CommandSpans:
    """One traced command on one node.

    Args:
        spans: makes more of them.
        span: of whoever has brought it.
        is_ours: that one ends with the command's outcome here.
        is_forwarded: another node appends it.
    """

    __slots__ = ("_is_ours", "_span", "_spans", "commit", "context")

    def __init__(
        self, spans: Spans, span: Span, *, is_ours: bool, is_forwarded: bool = False
    ) -> None:
        self._spans, self._span, self._is_ours = spans, span, is_ours
        self.commit: Span | None = None
        """From the leader's log to a majority's disks."""
        self.context: TraceContext | None = None
        """Travels with it, if it does."""
        if is_forwarded:
            self.context = context_of(span)
        else:
            self.commit = spans.begin("trioraft.commit", span)
        spans.open.add(self)

    @property
    def is_uncommitted(self) -> bool:
        """Whether it waits here for that."""
        return self.commit is not None

    def committed(self, index: int, term: int) -> None:
        """It is. Idempotent."""
        commit, self.commit = self.commit, None
        if commit is not None:
            commit.set_attribute("trioraft.index", index)
            commit.set_attribute("trioraft.term", term)
            commit.end()

    def apply(self, function: Callable[[int, bytes], Any], index: int, data: bytes) -> Any:
        """Apply it, under a span."""
        span = self._spans.begin("trioraft.apply", self._span, index=index)
        try:
            value = function(index, data)
        except BaseException as error:
            end_span(span, error)
            raise
        span.end()
        return value

    def finished(self, error: BaseException | None = None) -> None:
        """It has its outcome here."""
        self._spans.open.discard(self)
        commit, self.commit = self.commit, None
        if commit is not None:
            end_span(commit, error)
        if self._is_ours:
            end_span(self._span, error)


def global_tracer() -> Tracer:
    """Of this process, as whoever has started it has set it up."""
    return trace.get_tracer("trioraft")


def has_provider() -> bool:
    """Whether anybody has set one up."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
