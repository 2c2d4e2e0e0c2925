"""What a node tells about itself, on its way to a log: JSON lines, a console, or a raftlog.

* Nothing is configured at import, and structlog's global configuration is never touched:
  `configure` returns a logger, and whoever wants one passes it on. Any structlog logger will do;
  give it `flatten_trace` or `describe_trace` as a processor. So will one of the standard library.
* Everything a node says goes through one funnel, `log_event`: one call a typed event, with the
  event itself as `trace`. What becomes of it (fields, a sentence, a line of a raftlog) is up to
  the processors, never to the node.
* When nobody listens nothing is built: ask `TraceLogger.enabled` before making an event.
"""

from __future__ import annotations

import enum
import io
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TextIO, TypeAlias, cast, final, get_args

import attrs
import msgspec
import structlog
from structlog.typing import ExcInfo, FilteringBoundLogger, Processor

from ..core import events
from ..core.errors import ConfigError
from ..core.escaping import escaped
from ..core.reasons import Reason
from ..core.types import Entry, NodeId
from ..transport.base import (
    AddressUnusable,
    CertificateExpires,
    CertificatesReloaded,
    CertificatesUnusable,
    ConnectionRejected,
    LinkDown,
    LinkReplaced,
    LinkUp,
    Listening,
    MessagesDropped,
)
from .event_texts import Traced, defuse, describe, event_kind
from .raftlog import RaftlogRun, run_name

Format: TypeAlias = Literal["json", "console", "raftlog"]
"""How a log looks."""
Level: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]
"""Least level that is written."""

HIGHEST_LEVEL: Final = logging.WARNING
"""Who does not write this writes no event, but for results that differ."""
NOTE_LINES_MAX: Final = 200
"""Lines of one note that are written; of a longer one, the last lines."""

# --- the funnel -----------------------------------------------------------------------------

# Roles and links tell the story at `info`; messages, timers and commits are for `debug`.
_LEVELS: Final[Mapping[type[Traced], Level]] = {
    events.RoleChanged: "info",
    events.ElectionWonEvent: "info",
    events.TimeoutsWidened: "info",
    events.TimingTooShort: "warning",
    events.TermJumped: "warning",
    events.ConfigurationChanged: "info",
    events.TransferStarted: "info",
    events.TransferGivenUp: "warning",
    events.SnapshotSaved: "info",
    events.SnapshotInstalled: "info",
    events.SnapshotDamaged: "warning",
    events.SnapshotRotten: "error",
    events.ResultsDiffer: "error",
    events.DiskIsFull: "warning",
    events.StorageWaits: "warning",
    events.AcknowledgedLost: "warning",
    events.ForeignDisk: "warning",
    events.Forming: "warning",
    events.StorageNotice: "warning",
    Listening: "info",
    LinkReplaced: "info",
    LinkUp: "info",
    LinkDown: "info",
    AddressUnusable: "warning",
    CertificatesReloaded: "info",
    CertificatesUnusable: "warning",
    CertificateExpires: "warning",
    ConnectionRejected: "warning",
    MessagesDropped: "warning",
}


@cache
def _kind(event_type: Any) -> str:
    return event_kind(event_type)


class EventLogger(Protocol):
    """What `log_event` needs of a logger: any structlog logger has it.

    `event`, `args` and `kw` are as structlog has them: a text, what is put into it, and words with
    their values.
    """

    def debug(self, event: str, *args: Any, **kw: Any) -> Any:
        """Log it for those who look closely."""

    def info(self, event: str, *args: Any, **kw: Any) -> Any:
        """Log it."""

    def warning(self, event: str, *args: Any, **kw: Any) -> Any:
        """Log it as a reason to look."""


AnyLogger: TypeAlias = EventLogger | logging.Logger | logging.LoggerAdapter[Any]
"""What may be given where a node, or a port, is opened: structlog's, or the standard library's."""


def log_event(logger: EventLogger, node_id: NodeId, event: Traced) -> None:
    """Log one typed event, at the level that its type has (`debug` if the table has no row).

    Args:
        logger: gets `logger.info("role_changed", node="0", trace=event)`, say.
        node_id: whose event it is.
        event: of the core or of the transport.

    Raises:
        Exception: whatever the logger raises, an `OSError` of its stream for one.
    """
    event_type: Any = type(event)
    level = _LEVELS.get(event_type, "debug")
    getattr(logger, level)(_kind(event_type), node=node_id, trace=event)


def resolved(logger: AnyLogger) -> EventLogger:
    """The logger as `log_event` uses it."""
    if isinstance(logger, logging.Logger | logging.LoggerAdapter):
        return StandardLogger(logger)
    # structlog's lazy proxy builds its logger at every call, unless it is bound once.
    bind = getattr(logger, "bind", None)
    return logger if bind is None else cast("EventLogger", bind())


def is_enabled(logger: EventLogger, level: int) -> bool:
    """Whether the logger writes what is logged at this level; True if it cannot say."""
    for name in ("is_enabled_for", "isEnabledFor"):
        # Asked of the class: some loggers answer to any name, by logging it.
        if hasattr(type(logger), name):
            return bool(getattr(logger, name)(level))
    return True


@final
@attrs.frozen
class TraceLogger:
    """One node's way to its log.

    Example::

        log = TraceLogger(logger, node_id)
        if log.enabled:
            log.event(LinkUp(trio.current_time(), peer))
    """

    _logger: EventLogger | None = attrs.field(converter=attrs.converters.optional(resolved))
    """None: nobody listens. structlog's configuration counts as it is at this moment."""
    _node_id: NodeId

    @property
    def enabled(self) -> bool:
        """Whether any event could reach the log; without it, do not even build events.

        True for a logger that cannot say (one without `is_enabled_for` or `isEnabledFor`).
        """
        return self._logger is not None and is_enabled(self._logger, HIGHEST_LEVEL)

    def event(self, event: Traced) -> None:
        """Log the event; nothing happens if nobody listens. See `log_event`."""
        if self._logger is not None:
            log_event(self._logger, self._node_id, event)


# --- loggers --------------------------------------------------------------------------------


@final
class StandardLogger:
    """The standard library's logging, in the shape of a structlog logger.

    Each event is one record: its message is the sentence that the console has, and it has the
    attributes `event` (its kind, as "role_changed"), `node`, and `fields`, which are those of the
    JSON lines.

    Args:
        logger: what has been got by `logging.getLogger`, or an adapter of it.
    """

    def __init__(self, logger: logging.Logger | logging.LoggerAdapter[Any]) -> None:
        self._logger = logger
        self._adapter = logger if isinstance(logger, logging.LoggerAdapter) else None

    def is_enabled_for(self, level: int) -> bool:
        """Whether what is logged at this level is handled by anybody."""
        return self._logger.isEnabledFor(level)

    def debug(self, event: str, *args: Any, **words: Any) -> None:
        """As the logger's."""
        self._log(logging.DEBUG, event, args, words)

    def info(self, event: str, *args: Any, **words: Any) -> None:
        """As the logger's."""
        self._log(logging.INFO, event, args, words)

    def warning(self, event: str, *args: Any, **words: Any) -> None:
        """As the logger's."""
        self._log(logging.WARNING, event, args, words)

    def error(self, event: str, *args: Any, **words: Any) -> None:
        """As the logger's."""
        self._log(logging.ERROR, event, args, words)

    def _log(self, level: int, event: str, args: tuple[Any, ...], words: dict[str, Any]) -> None:
        if not self._logger.isEnabledFor(level):
            return
        exc_info = words.pop("exc_info", None)
        said: MutableMapping[str, Any] = {}
        text = describe_trace(None, "", {"event": event, **words})["event"]
        fields = dict(flatten_trace(None, "", dict(words)))
        extra = {"event": event, "node": fields.pop("node", None), "fields": fields}
        # Nothing that peers or callers say reaches a terminal as it is.
        text, target = escaped(text), self._logger
        if self._adapter is not None:  # it would put its own words in the place of ours
            text, said = self._adapter.process(text, {})
            target = self._adapter.logger
        extra = {**(said.pop("extra", None) or {}), **extra}
        target.log(level, text, *args, **{**said, "exc_info": exc_info, "extra": extra})


def configure(
    format: Format,
    *,
    stream: TextIO | None = None,
    level: Level | None = None,
) -> FilteringBoundLogger:
    """A structlog logger that writes trioraft's events to a stream.

    structlog's global configuration is neither used nor changed.

    Args:
        format: `"json"` (one object a line, for machines), `"console"` (for a person; in colour
            if the stream is a terminal), `"raftlog"` (for the Go project's tools; see
            `Raftlog`).
        stream: where to; standard error by default. It stays the caller's, to close.
        level: least level to write; `"info"` by default, but `"debug"` for a raftlog, which is
            nothing without its messages.

    Returns:
        A logger for `TraceLogger`, or your own use.

    Raises:
        ConfigError: there is no such format, or no such level.
    """
    out = sys.stderr if stream is None else stream
    match format:
        case "raftlog":
            return sink_logger(Raftlog(out), level=level or "debug")
        case "json":
            chain = _JSON_CHAIN
        case "console":
            chain = _console_chain(colors=out.isatty())
        case _:
            raise ConfigError(f"format is {format!r}: give 'json', 'console' or 'raftlog'")
    return _wrap(structlog.WriteLogger(out), chain, level or "info")


def sink_logger(sink: Raftlog, *, level: Level = "debug") -> FilteringBoundLogger:
    """A structlog logger that writes into a raftlog, such as `current_sink()`.

    Args:
        sink: where the lines go.
        level: the lowest that is written.
    """
    chain = (structlog.processors.format_exc_info, _IntoRaftlog(sink))
    return _wrap(structlog.ReturnLogger(), chain, level)


def _wrap(target: object, chain: Sequence[Processor], level: Level) -> FilteringBoundLogger:
    threshold = logging.getLevelNamesMapping().get(level.upper())
    if threshold is None:
        raise ConfigError(f"level is {level!r}: give one of {', '.join(get_args(Level))}")
    logger = structlog.wrap_logger(
        target,
        processors=chain,
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        context_class=dict,
        cache_logger_on_first_use=False,
    )
    return cast("FilteringBoundLogger", logger.bind())  # see resolved


# --- processors -----------------------------------------------------------------------------

_EventDict: TypeAlias = MutableMapping[str, Any]


def flatten_trace(_logger: Any, _method: str, event_dict: _EventDict) -> _EventDict:
    """structlog processor: `trace` becomes plain fields, typed as they are, ready for JSON.

    A message becomes an object with its `type`; entries become their number, range and size; a
    reason becomes its `type`, values and `text`; bytes become their number.
    """
    trace = event_dict.pop("trace", None)
    if trace is not None:
        for name in _attrs_names(trace):
            event_dict[name] = _plain(getattr(trace, name))
    return event_dict


def describe_trace(_logger: Any, _method: str, event_dict: _EventDict) -> _EventDict:
    """structlog processor: `trace` becomes the sentence a person reads, as the event's text, with
    how often it was repeated, if it was."""
    trace = event_dict.pop("trace", None)
    if trace is not None:
        event_dict["event"] = " ".join(describe(trace))
        if (repeats := event_dict.pop("repeats", None)) is not None:
            event_dict["event"] += (
                f" ({repeats} more in the last {_span(event_dict.pop('over_s'))})"
            )
    return event_dict


def _span(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1 or abs(seconds - 60 * minutes) > 1:
        return f"{seconds:g} s"
    return "minute" if minutes == 1 else f"{minutes} minutes"


def _plain(value: object) -> object:
    """The value in JSON's types, bounded: no command's bytes, no list of entries."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case enum.Enum():
            return value.value
        case bytes():
            return {"bytes": len(value)}
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case tuple() | list():
            return [_plain(item) for item in value]
        case msgspec.Struct():
            return _plain_fields(value, value.__struct_fields__)
        case _ if attrs.has(type(value)):
            return _plain_fields(value, _attrs_names(value))
        case _:
            return str(value)


def _attrs_names(value: Any) -> list[str]:
    return [field.name for field in attrs.fields(type(value))]


def _plain_fields(value: Any, names: Iterable[str]) -> dict[str, object]:
    plain: dict[str, object] = {"type": type(value).__name__}
    for name in names:
        field = getattr(value, name)
        plain[name] = _plain_entries(field) if name == "entries" else _plain(field)
    if isinstance(value, Reason):
        plain["text"] = str(value)
    return plain


def _plain_entries(entries: tuple[Entry, ...]) -> dict[str, int | None]:
    return {
        "count": len(entries),
        "first_index": entries[0].index if entries else None,
        "last_index": entries[-1].index if entries else None,
        "data_bytes": sum(len(entry.data) for entry in entries),
    }


def _in_reading_order(_logger: Any, _method: str, event_dict: _EventDict) -> _EventDict:
    first = ("timestamp", "level", "node", "event")
    return {key: event_dict.pop(key) for key in first if key in event_dict} | dict(event_dict)


# The timestamp is when the line was written, by the machine's clock; durations are in `at_s`.
_JSON_CHAIN: Final[tuple[Processor, ...]] = (
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.add_log_level,
    structlog.processors.format_exc_info,
    flatten_trace,
    _in_reading_order,
    structlog.processors.JSONRenderer(),
)


_SEVERAL_LINES: Final = frozenset({"exception", "stack"})


def _escape_texts(_logger: Any, _method: str, event_dict: _EventDict) -> _EventDict:
    """Nothing that peers or callers say reaches a terminal as it is; colours come after this."""
    for key, value in event_dict.items():
        if isinstance(value, str):
            event_dict[key] = escaped(value, keep="\n\t" if key in _SEVERAL_LINES else "")
    return event_dict


def _escaped_traceback(stream: TextIO, exc_info: ExcInfo) -> None:
    written = io.StringIO()
    structlog.dev.plain_traceback(written, exc_info)
    stream.write(escaped(written.getvalue(), keep="\n\t"))


def _console_chain(*, colors: bool) -> tuple[Processor, ...]:
    return (
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=False),
        structlog.processors.add_log_level,
        describe_trace,
        _escape_texts,
        structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=_escaped_traceback),
    )


class _IntoRaftlog:
    """The last processor of a raftlog's chain: the raftlog writes, structlog has nothing left."""

    def __init__(self, raftlog: Raftlog) -> None:
        self._raftlog = raftlog

    def __call__(self, _logger: Any, _method: str, event_dict: _EventDict) -> str:
        node_id, trace = event_dict.pop("node", None), event_dict.pop("trace", None)
        traceback = event_dict.pop("exception", None)
        if node_id is not None and trace is not None:
            self._raftlog.event(node_id, trace)
        else:
            words = [str(event_dict.pop("event", ""))]
            words += [f"{name}={value}" for name, value in event_dict.items()]
            self._raftlog.remark(node_id, " ".join(words))
        if traceback is not None:
            self._raftlog.note(traceback)
        return ""


# --- raftlogs -------------------------------------------------------------------------------


@final
class Raftlog:
    """A raftlog being written: runs, and in each what nodes and the test say.

    What is written outside of any run gets one, called `trioraft`. Not for several threads.

    Args:
        stream: where to; flushed after each call, never closed.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._run: RaftlogRun | None = None
        self._is_implicit = False
        self._names: set[str] = set()
        self._ended = False

    @contextmanager
    def run(self, name: str) -> Iterator[RaftlogRun]:
        """Write the block as one run: `=== RUN   name` … `--- PASS: name (0.31s)`.

        Args:
            name: made a word by `run_name`, and unique in this raftlog by a number after it.

        Returns:
            The run; its `outcome` may be set. An exception makes it FAIL, and goes on.

        Raises:
            RuntimeError: a run is open already, or the raftlog has ended.
        """
        if self._ended:
            raise RuntimeError(f"the raftlog has ended: it cannot take the run {name!r}")
        if self._run is not None and not self._is_implicit:
            raise RuntimeError(f"run {name!r} inside run {self._run.name!r}: end that one first")
        self._close_run()
        run = self._open_run(name, is_implicit=False)
        try:
            yield run
        except BaseException:
            run.outcome = "FAIL"
            raise
        finally:
            self._close_run()

    def event(self, node_id: NodeId, event: Traced) -> None:
        """Write an event of this node.

        Args:
            node_id: whose it is.
            event: with its time.
        """
        if (run := self._current_run()) is not None:
            self._write(run.event_lines(node_id, event))

    def remark(self, node_id: NodeId | None, text: str, *, at_s: float | None = None) -> None:
        """Write a line of this node's, or (None) of the test's, that no event stands for.

        Args:
            node_id: whose it is; None: the test's.
            text: in words.
            at_s: when, in seconds of the clock that the events have; None: now.
        """
        if (run := self._current_run()) is not None:
            self._write(run.remark_lines(node_id, text, at_s))

    def test_line(self, text: str, *, at_s: float | None = None) -> None:
        """Say what the test does: `test_line("Disconnect 0")` is `… [TEST] Disconnect 0`.

        Args:
            text: on one line; what looks like a shape of the format is defused.
            at_s: when, in seconds of the clock that the nodes have; by default now.
        """
        self.remark(None, text, at_s=at_s)

    def note(self, text: str) -> None:
        """Write lines that are no entries, such as a report: indented, the last 200 of them."""
        if self._current_run() is not None:
            self._write(f"    {defuse(line)}" for line in text.splitlines()[-NOTE_LINES_MAX:])

    def end(self) -> None:
        """Write no more: what comes later is ignored, so a node may outlive its raftlog."""
        self._close_run()
        self._ended = True

    def _current_run(self) -> RaftlogRun | None:
        if self._run is None and not self._ended:
            return self._open_run("trioraft", is_implicit=True)
        return self._run

    def _open_run(self, name: str, *, is_implicit: bool) -> RaftlogRun:
        word = unique = run_name(name)
        count = 1
        while unique in self._names:
            count += 1
            unique = f"{word}_{count}"
        self._names.add(unique)
        self._run, self._is_implicit = RaftlogRun(unique), is_implicit
        self._write([self._run.header()])
        return self._run

    def _close_run(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            self._write([run.status_line()])

    def _write(self, lines: Iterable[str]) -> None:
        self._stream.write("".join(f"{line}\n" for line in lines))
        self._stream.flush()  # after a crash, every line is there


_CURRENT_SINK: ContextVar[Raftlog | None] = ContextVar("trioraft raftlog sink", default=None)


@contextmanager
def open_raftlog(path: str | Path) -> Iterator[Raftlog]:
    """A raftlog in a new file, closed at the end; what is written can be read at once.

    Args:
        path: replaced if it exists.

    Raises:
        OSError: it cannot be written.
    """
    with open(path, "w", encoding="utf-8", errors="backslashreplace") as stream:
        raftlog = Raftlog(stream)
        try:
            yield raftlog
        finally:
            raftlog.end()


def current_sink() -> Raftlog | None:
    """The raftlog that this test, or demo, writes; None when it writes none.

    `pytest --raftlog FILE` sets it around each test, and Trio's tasks inherit it. What opens
    nodes on a test's behalf gives them `sink_logger(sink)`, and says what it does to them
    with `sink.test_line("Disconnect 0")`.
    """
    return _CURRENT_SINK.get()


@contextmanager
def use_sink(sink: Raftlog | None) -> Iterator[None]:
    """Make this the `current_sink()` of the block, and of every task started in it."""
    token = _CURRENT_SINK.set(sink)
    try:
        yield
    finally:
        _CURRENT_SINK.reset(token)
