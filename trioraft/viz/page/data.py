"""A run as the JSON that its page reads: columns of numbers, and each text once.

The shape is a contract with `static/model.js`: a column here is a typed array there. Times are
whole microseconds since the run's first entry; -1 stands for None; nodes, kinds and texts are
indexes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

import attrs

from ..findings.detectors import EXPLANATIONS
from ..model import ROLES, Fate, Finding, Mark, Message, NodeName, NodeTrace, Run
from ..states import STATE_FIELDS, state_changes
from ..trouble import outages, weather

EntryKind: TypeAlias = Literal[
    "vote",
    "prevote",
    "heartbeat",
    "entries",
    "snapshot",
    "transfer",
    "read",
    "message",
    "role",
    "timer",
    "commit",
    "link",
    "test",
    "other",
]
"""What an entry tells of; `message` is a message of any other type."""
ENTRY_KINDS: Final[tuple[EntryKind, ...]] = get_args(EntryKind)

KIND_OF_FAMILY: Final[Mapping[str, EntryKind]] = {
    "vote": "vote",
    "pre-vote": "prevote",
    "heartbeat": "heartbeat",
    "entries": "entries",
    "snapshot": "snapshot",
}
KIND_OF_TYPE: Final[Mapping[str, EntryKind]] = {
    "TimeoutNow": "transfer",
    "RequestReadIndex": "read",
    "RequestReadIndexReply": "read",
}
_FATES: Final[tuple[Fate, ...]] = get_args(Fate)
_CONTINUED: Final = "..."
"""How a line begins that goes on where the node's last line stopped."""

Columns: TypeAlias = dict[str, Any]


def page_json(run: Run) -> str:
    """The run for its page, as JSON that can stand inside a `<script>` element.

    Args:
        run: with its findings.

    Returns:
        JSON without any `<`, so that no text of a log can end the element.
    """
    return script_json(page_data(run))


def script_json(plain: object) -> str:
    """Plain values as JSON that can stand inside a `<script>` element."""
    text = json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def page_data(run: Run) -> Columns:
    """The same as plain values; see the head of this file for the shape."""
    number_of = {node.name: number for number, node in enumerate(run.nodes)}
    return {
        "name": run.name,
        "duration": _us(run.duration_s),
        "sources": [Path(source).name for source in run.sources] or [Path(run.source).name],
        "sourceOf": [entry.source for entry in run.entries] if len(run.sources) > 1 else [],
        "unknowns": run.unknowns,
        "nodes": [{"name": node.name, "fullName": node.full_name} for node in run.nodes],
        "kinds": ENTRY_KINDS,
        "entries": _entries(run, number_of),
        "roles": _roles(run.nodes),
        "messages": _messages(run.messages, number_of),
        "timers": _timers(run.nodes),
        "commits": _commits(run.nodes),
        "marks": [_mark(mark, number_of) for mark in run.marks],
        "terms": _terms(run),
        "findings": [finding_data(finding) for finding in run.findings],
        "outages": _outages(run, number_of),
        "weather": _weather(run),
        "states": _states(run, number_of),
        "explanations": {
            finding.kind: attrs.asdict(EXPLANATIONS[finding.kind]) for finding in run.findings
        },
    }


def message_kind(message: Message) -> EntryKind:
    """How the page sorts a message: by its type where that says more than its family."""
    by_type = KIND_OF_TYPE.get(message.kind)
    return by_type or KIND_OF_FAMILY.get(message.family, "message")


def _us(seconds: float | None) -> int:
    return -1 if seconds is None else round(seconds * 1_000_000)


def _index(value: int | None) -> int:
    return -1 if value is None else value


def _flag(value: bool | None) -> int:
    return -1 if value is None else int(value)


class _StringTable:
    """Texts, each of them once."""

    def __init__(self) -> None:
        self._number_of: dict[str, int] = {}

    def number(self, text: str) -> int:
        """The text's place in `texts`."""
        return self._number_of.setdefault(text, len(self._number_of))

    @property
    def texts(self) -> list[str]:
        """All, in the order of their numbers."""
        return list(self._number_of)


# --- entries ------------------------------------------------------------------------------------


def _entries(run: Run, number_of: Mapping[NodeName, int]) -> Columns:
    table = _StringTable()
    kind_number = {kind: number for number, kind in enumerate(ENTRY_KINDS)}
    return {
        "time": [_us(entry.at_s) for entry in run.entries],
        "node": [-1 if entry.node is None else number_of[entry.node] for entry in run.entries],
        "kind": [kind_number[kind] for kind in entry_kinds(run)],
        "line": [entry.line for entry in run.entries],
        "text": [table.number(entry.text) for entry in run.entries],
        "texts": table.texts,
    }


def entry_kinds(run: Run) -> list[EntryKind]:
    """The kind of every entry of the run."""
    kinds: list[EntryKind | None] = [None] * len(run.entries)
    for place, kind in _claims(run):
        if place is not None:
            kinds[place] = kind
    last_of: dict[NodeName | None, EntryKind] = {}
    found: list[EntryKind] = []
    for entry, claimed in zip(run.entries, kinds, strict=True):
        own = claimed or ("test" if entry.node is None else "other")
        if claimed is None and entry.text.startswith(_CONTINUED):
            own = last_of.get(entry.node, own)
        last_of[entry.node] = own
        found.append(own)
    return found


def _claims(run: Run) -> Iterator[tuple[int | None, EntryKind]]:
    """Who says what an entry is; a later claim is stronger."""
    for node in run.nodes:
        for timer in node.timers:
            yield timer.end_entry, "timer"
            yield timer.start_entry, "timer"
        for point in node.commits:
            yield point.entry, "commit"
    for message in run.messages:
        kind = message_kind(message)
        yield message.sent_entry, kind
        yield message.received_entry, kind
    for mark in run.marks:
        yield mark.entry, _mark_kind(mark)
    for node in run.nodes:
        for span in node.roles:
            yield span.entry, "role"


def _mark_kind(mark: Mark) -> EntryKind:
    if mark.kind.startswith("link"):
        return "link"
    if mark.kind == "configuration":
        return "role"
    return "transfer" if mark.kind == "transfer" else "test"


# --- nodes and messages -------------------------------------------------------------------------


def _roles(nodes: Sequence[NodeTrace]) -> Columns:
    spans = [(number, span) for number, node in enumerate(nodes) for span in node.roles]
    return {
        "names": ROLES,
        "node": [number for number, _ in spans],
        "role": [ROLES.index(span.role) for _, span in spans],
        "term": [span.term for _, span in spans],
        "start": [_us(span.start_s) for _, span in spans],
        "end": [_us(span.end_s) for _, span in spans],
        "entry": [_index(span.entry) for _, span in spans],
        "reason": [span.reason for _, span in spans],
    }


def _timers(nodes: Sequence[NodeTrace]) -> Columns:
    timers = [(number, timer) for number, node in enumerate(nodes) for timer in node.timers]
    timers.sort(key=lambda pair: (pair[0], pair[1].start_s))
    return {
        "node": [number for number, _ in timers],
        "term": [timer.term for _, timer in timers],
        "start": [_us(timer.start_s) for _, timer in timers],
        "end": [_us(timer.end_s) for _, timer in timers],
        "timeout": [_us(timer.timeout_s) for _, timer in timers],
        "endKind": [timer.end for _, timer in timers],
        "endEntry": [_index(timer.end_entry) for _, timer in timers],
        "startEntry": [timer.start_entry for _, timer in timers],
    }


def _commits(nodes: Sequence[NodeTrace]) -> Columns:
    points = [(number, point) for number, node in enumerate(nodes) for point in node.commits]
    return {
        "node": [number for number, _ in points],
        "time": [_us(point.at_s) for _, point in points],
        "index": [point.commit_index for _, point in points],
        "entry": [point.entry for _, point in points],
    }


def _messages(messages: Sequence[Message], number_of: Mapping[NodeName, int]) -> Columns:
    types = _StringTable()

    def numbers(names: Iterable[NodeName | None]) -> list[int]:
        return [-1 if name is None else number_of.get(name, -1) for name in names]

    return {
        "kind": [ENTRY_KINDS.index(message_kind(message)) for message in messages],
        "type": [types.number(message.kind) for message in messages],
        "types": types.texts,
        "from": numbers(message.sender for message in messages),
        "to": numbers(message.receiver for message in messages),
        "term": [_index(message.term) for message in messages],
        "sent": [_us(message.sent_s) for message in messages],
        "received": [_us(message.received_s) for message in messages],
        "fate": [_FATES.index(message.fate) for message in messages],
        "fates": _FATES,
        "reply": [int(message.is_reply) for message in messages],
        "positive": [_flag(message.is_positive) for message in messages],
        "entries": [message.entries_count for message in messages],
        "partner": [
            _index(message.request if message.is_reply else message.reply) for message in messages
        ],
        "sentEntry": [_index(message.sent_entry) for message in messages],
        "receivedEntry": [_index(message.received_entry) for message in messages],
    }


# --- what happened ------------------------------------------------------------------------------


def _mark(mark: Mark, number_of: Mapping[NodeName, int]) -> Columns:
    return {
        "kind": mark.kind,
        "time": _us(mark.at_s),
        # A test may speak of nodes that never wrote: they have a name but no lane.
        "nodes": [number_of[name] for name in mark.nodes if name in number_of],
        "names": ", ".join(mark.nodes),
        "text": mark.text,
        "entry": mark.entry,
    }


def _terms(run: Run) -> list[Columns]:
    began: dict[int, int] = {}
    won: dict[int, int] = {}
    for node in run.nodes:
        for span in node.roles:
            if span.entry is not None and span.role in ("Candidate", "Leader"):
                began[span.term] = min(span.entry, began.get(span.term, span.entry))
            if span.entry is not None and span.role == "Leader":
                won[span.term] = min(span.entry, won.get(span.term, span.entry))
    return [
        {
            "entry": began.get(term.number, -1),
            "wonEntry": won.get(term.number, -1),
            "number": term.number,
            "leader": term.leader,
            "leaders": len(term.leaders),
            "candidates": term.candidates,
            "start": _us(term.start_s),
            "won": _us(term.won_s),
        }
        for term in run.terms
    ]


def finding_data(finding: Finding) -> Columns:
    """A finding as its page has it."""
    return {
        "kind": finding.kind,
        "severity": finding.severity,
        "terms": finding.terms,
        "nodes": finding.nodes,
        "start": _us(finding.start_s),
        "end": _us(finding.end_s),
        "detail": finding.detail,
        "lines": finding.lines,
        "entries": finding.entries,
    }


def _outages(run: Run, number_of: Mapping[NodeName, int]) -> list[Columns]:
    return [
        {
            "node": number_of[outage.node],
            "start": _us(outage.start_s),
            "end": _us(outage.end_s),
            "level": outage.level,
            "text": outage.text,
        }
        for outage in outages(run)
    ]


def _weather(run: Run) -> list[Columns]:
    return [
        {
            "start": _us(one.start_s),
            "end": _us(one.end_s),
            "label": one.label,
            "entry": one.entry,
            "row": one.row,
        }
        for one in weather(run)
    ]


def _states(run: Run, number_of: Mapping[NodeName, int]) -> Columns:
    """Changes, a row each: numbers as they are, names as indexes of `texts`."""
    changes = state_changes(run)
    table = _StringTable()
    return {
        "names": STATE_FIELDS,
        "field": [STATE_FIELDS.index(change.field) for change in changes],
        "node": [number_of[change.node] for change in changes],
        "entry": [change.entry for change in changes],
        "value": [
            table.number(change.value) if isinstance(change.value, str) else change.value
            for change in changes
        ],
        "texts": table.texts,
    }
