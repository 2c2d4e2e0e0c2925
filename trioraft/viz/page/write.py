"""Pages of runs, and the list of them, as files that need nothing else.

* A page is self-contained: style, scripts and data stand in it. Its content security policy names
  the hashes of just these, and forbids every connection: should text of a log ever get into the
  markup as markup, it could neither run nor fetch.
* Text of a log reaches the HTML through jinja2's escaping, or as JSON (`page_json`). Only that
  JSON and our own files are `safe` in the templates.
* Only names made here name files: a run's name is reduced to letters, digits, `-` and `_`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import attrs
import jinja2

from ..model import SEVERITIES, Durations, Role, Run
from .data import page_json

SPARK_WIDTH: Final = 180
SPARK_ROW_HEIGHT: Final = 9
SPARK_ROWS_MAX: Final = 9
TERMS_SHOWN_MAX: Final = 12

_SIGNS: Final = {"error": "✗", "warning": "!", "info": "i"}
# How high a role stands in its row: the second channel beside the colour.
_HEIGHTS: Final[Mapping[Role, int]] = {
    "Follower": 1,
    "PreCandidate": 4,
    "Candidate": 5,
    "Leader": 8,
    "Dead": 0,
}


@attrs.frozen
class Bar:
    """One rectangle of a spark, in pixels."""

    role: Role
    x: int
    y: float
    width: int
    height: int


@attrs.frozen
class Spark:
    """The roles of each node over time, in a few pixels."""

    bars: tuple[Bar, ...]
    height: int


@attrs.frozen
class Row:
    """One run in the list."""

    run: Run
    file: str
    """Its page, beside the index."""
    findings: tuple[tuple[str, str, int], ...]
    """(severity, sign, how many), worst first, without those of which there are none."""
    leaders: tuple[tuple[int, str | None], ...]
    """Term and leader, of the first terms."""
    terms_left_out: int
    lasted: str
    spark: Spark | None


def row_of(run: Run, file: str) -> Row:
    """What the list says of a run whose page is `file`."""
    counts = Counter(finding.severity for finding in run.findings)
    return Row(
        run=run,
        file=file,
        findings=tuple((name, _SIGNS[name], counts[name]) for name in SEVERITIES if counts[name]),
        leaders=tuple((term.number, term.leader) for term in run.terms[:TERMS_SHOWN_MAX]),
        terms_left_out=max(len(run.terms) - TERMS_SHOWN_MAX, 0),
        lasted=duration_text(run.duration_s * 1000),
        spark=_spark(run),
    )


def duration_text(duration_ms: float) -> str:
    """A duration for a person: `850 µs`, `12.3 ms`, `1.25 s`, `4 min 10 s`."""
    if duration_ms < 0.9995:
        return f"{duration_ms * 1000:.0f} µs"
    if duration_ms < 999.5:  # from here on, three digits are a second
        return f"{duration_ms:.3g} ms"
    if duration_ms < 120_000:
        return f"{duration_ms / 1000:.3g} s"
    minutes, seconds = divmod(round(duration_ms / 1000), 60)
    if minutes < 120:
        return f"{minutes} min {seconds} s"
    return f"{minutes // 60} h {minutes % 60} min"


def lead(runs: Sequence[Run]) -> str:
    """The sentence above the list."""
    failed = sum(run.status == "FAIL" for run in runs)
    findings = sum(len(run.findings) for run in runs)
    return (
        f"{_counted(len(runs), 'run')}, {failed} of them failed; {_counted(findings, 'finding')}."
    )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _spark(run: Run) -> Spark | None:
    if not run.nodes:
        return None
    bars: list[Bar] = []
    for row, node in enumerate(run.nodes[:SPARK_ROWS_MAX]):
        tallest: list[Role] = ["Dead"] * SPARK_WIDTH
        for span in node.roles:
            first = _pixel(span.start_s, run.duration_s)
            for x in range(first, max(_pixel(span.end_s, run.duration_s), first + 1)):
                # A short candidacy must not disappear behind the long role after it.
                if _HEIGHTS[span.role] >= _HEIGHTS[tallest[x]]:
                    tallest[x] = span.role
        bars += _bars(tallest, (row + 0.5) * SPARK_ROW_HEIGHT)
    return Spark(tuple(bars), min(len(run.nodes), SPARK_ROWS_MAX) * SPARK_ROW_HEIGHT)


def _pixel(at_s: float, duration_s: float) -> int:
    share = at_s / duration_s if duration_s > 0 else at_s
    return min(max(int(share * SPARK_WIDTH), 0), SPARK_WIDTH - 1)


def _bars(roles: Sequence[Role], middle: float) -> list[Bar]:
    """Equal neighbours become one rectangle."""
    bars: list[Bar] = []
    start = 0
    for x in range(1, len(roles) + 1):
        if x < len(roles) and roles[x] == roles[start]:
            continue
        role = roles[start]
        height = _HEIGHTS[role]
        if height:
            bars.append(Bar(role, start, middle - height / 2, x - start, height))
        start = x
    return bars


NAME_CHARS_MAX: Final = 80
"""Of a run's name in the name of its file."""

_RUN_STYLES: Final = ("base.css", "run.css")
_INDEX_STYLES: Final = ("base.css", "index.css")
# In the order in which they use each other; they share one scope.
_RUN_SCRIPTS: Final = (
    *("dom.js", "theme.js", "model.js", "view.js", "layout.js", "hits.js"),
    *("layer_frame.js", "layer_nodes.js", "layer_messages.js", "filters.js", "diagram.js"),
    *("overview.js", "table.js", "details.js", "pointer.js", "keyboard.js", "player.js"),
    *("print.js", "main.js"),
)
_INDEX_SCRIPTS: Final = ("dom.js", "theme.js", "index.js")


def write_pages(runs: Sequence[Run], out_dir: Path) -> Path:
    """Write a page for each run, and `index.html` that lists them.

    Args:
        runs: with their findings, in the order of the list. None: the list says so.
        out_dir: made if it does not exist; pages of the same name are replaced, other files stay.

    Returns:
        The path of `index.html`.

    Raises:
        OSError: it cannot be written there.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    names = file_names(runs)
    for run, name in zip(runs, names, strict=True):
        _write(out_dir / name, run_page(run))
    index = out_dir / "index.html"
    _write(index, index_page(runs, names))
    return index


def run_page(run: Run) -> str:
    """The page of one run, as HTML."""
    style, script = _joined(_RUN_STYLES), _script(_RUN_SCRIPTS)
    return _template("run.html").render(
        run=run,
        facts=_facts(run),
        policy=_policy(style, script),
        style=style,
        script=script,
        data=page_json(run),
    )


def index_page(runs: Sequence[Run], names: Sequence[str]) -> str:
    """The list of runs, whose pages are the files `names`, as HTML."""
    style, script = _joined(_INDEX_STYLES), _script(_INDEX_SCRIPTS)
    return _template("index.html").render(
        rows=[row_of(run, name) for run, name in zip(runs, names, strict=True)],
        lead=lead(runs),
        policy=_policy(style, script),
        style=style,
        script=script,
    )


def file_names(runs: Iterable[Run]) -> list[str]:
    """A file name for each run: its place in the list makes it one of a kind."""
    return [f"{place:03}-{_plain(run.name)}.html" for place, run in enumerate(runs, start=1)]


def _plain(name: str) -> str:
    return re.sub(r"[^0-9A-Za-z_-]+", "-", name).strip("-")[:NAME_CHARS_MAX] or "run"


def _write(path: Path, text: str) -> None:
    # What a broken log left of half a character is written as its escape.
    path.write_bytes(text.encode("utf-8", "backslashreplace"))


# --- what a page is made of ---------------------------------------------------------------------


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_static),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )


def _template(name: str) -> jinja2.Template:
    return _environment().get_template(name)


@cache
def _static(name: str) -> str:
    return files(__package__).joinpath("static", name).read_text(encoding="utf-8")


def _joined(names: Iterable[str]) -> str:
    return "\n".join(_static(name) for name in names)


def _script(names: Iterable[str]) -> str:
    """The files in one function: a scope of their own, in which they see each other."""
    return f'(() => {{\n"use strict";\n{_joined(names)}\n}})();\n'


def _policy(style: str, script: str) -> str:
    return (
        f"default-src 'none'; img-src data:; style-src {_hash_of(style)}; "
        f"script-src {_hash_of(script)}; base-uri 'none'; form-action 'none'"
    )


def _hash_of(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


# --- the run in numbers -------------------------------------------------------------------------


def _facts(run: Run) -> list[tuple[str, Any]]:
    """(name, value) of what stands above the picture; what is not known is left out."""
    numbers = run.statistics
    facts = [
        ("nodes", str(len(run.nodes))),
        ("lasted", duration_text(run.duration_s * 1000)),
        ("lines", f"{len(run.entries):,}"),
        ("elections", f"{numbers.elections}, won {numbers.elections_won}"),
        ("terms", f"{numbers.first_term} to {numbers.last_term}"),
        ("failovers", ", ".join(map(duration_text, numbers.failovers_ms[:4])) or "none"),
        ("messages", f"{sum(numbers.messages.values()):,}, lost {numbers.messages_lost:,}"),
        ("election timeout", _range_text(numbers.election_timeout)),
        ("vote round trip", _median_text(numbers.vote_round_trip)),
        ("heartbeat round trip", _median_text(numbers.heartbeat_round_trip)),
        ("heartbeat every", _median_text(numbers.heartbeat_interval)),
    ]
    if len(numbers.failovers_ms) > 4:
        facts[5] = ("failovers", f"{facts[5][1]} … ({len(numbers.failovers_ms)})")
    if run.unparsed:
        facts.append(("unreadable lines", f"{run.unparsed:,}"))
    return [(name, value) for name, value in facts if value]


def _median_text(durations: Durations | None) -> str:
    return "" if durations is None else duration_text(durations.median_ms)


def _range_text(durations: Durations | None) -> str:
    if durations is None:
        return ""
    return f"{durations.least_ms:.0f}–{durations.most_ms:.0f} ms"
