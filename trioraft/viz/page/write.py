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
from typing import Final

import attrs
import jinja2

from ..compare import Comparison, moments, value_text
from ..model import SEVERITIES, Durations, Failover, Role, Run
from .data import page_json, script_json

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

_RUN_STYLES: Final = ("base.css", "picture.css", "run.css")
_INDEX_STYLES: Final = ("base.css", "index.css")
# In the order in which they use each other; they share one scope.
PICTURE_SCRIPTS: Final = (
    *("dom.js", "theme.js", "model.js", "axis.js", "view.js", "layout.js", "hits.js"),
    *("layer_frame.js", "layer_nodes.js", "layer_marks.js", "layer_messages.js"),
    *("diagram.js", "states.js", "pointer.js", "picture.js"),
)
"""All that a picture needs: data in, canvas out (`picture.js`), for a page of another making."""
PICTURE_STYLES: Final = ("base.css", "picture.css")
_RUN_SCRIPTS: Final = (
    *PICTURE_SCRIPTS,
    *("words.js", "filters.js", "legend.js", "overview.js", "table.js", "details.js"),
    *("findings.js", "player.js", "panes.js", "keyboard.js", "print.js", "main.js"),
)
_COMPARE_STYLES: Final = ("base.css", "picture.css", "compare.css")
_COMPARE_SCRIPTS: Final = (
    *PICTURE_SCRIPTS,
    *("words.js", "legend.js", "findings.js", "details.js", "compare.js"),
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
    style, script = joined(_RUN_STYLES), script_of(_RUN_SCRIPTS)
    return template("run.html").render(
        run=run,
        source=source_text(run),
        facts=_facts(run),
        unknowns=run.unknowns,
        policy=_policy(style, script),
        style=style,
        script=script,
        data=page_json(run),
    )


def index_page(runs: Sequence[Run], names: Sequence[str]) -> str:
    """The list of runs, whose pages are the files `names`, as HTML."""
    style, script = joined(_INDEX_STYLES), script_of(_INDEX_SCRIPTS)
    return template("index.html").render(
        rows=[row_of(run, name) for run, name in zip(runs, names, strict=True)],
        lead=lead(runs),
        policy=_policy(style, script),
        style=style,
        script=script,
    )


def write_comparisons(comparisons: Sequence[Comparison], out_dir: Path) -> list[Path]:
    """Write a page for each two runs.

    Args:
        comparisons: in the order of the files.
        out_dir: made if it does not exist; pages of the same name are replaced.

    Returns:
        The files.

    Raises:
        OSError: it cannot be written there.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for place, comparison in enumerate(comparisons, start=1):
        name = f"compare-{place:03}-{_plain(comparison.before.name)}.html"
        paths.append(out_dir / name)
        _write(paths[-1], compare_page(comparison))
    return paths


def compare_page(comparison: Comparison) -> str:
    """The page of two runs, as HTML."""
    before, after = comparison.before, comparison.after
    style, script = joined(_COMPARE_STYLES), script_of(_COMPARE_SCRIPTS)
    of_before, of_after = moments(before), moments(after)
    shared = {
        name: [round(at_s * 1e6), round(of_after[name] * 1e6)]
        for name, at_s in of_before.items()
        if name in of_after
    }
    return template("compare.html").render(
        before=before,
        after=after,
        is_guess=comparison.is_guess,
        rows=[
            {
                "name": row.name,
                "before": value_text(row.before, row.unit),
                "after": value_text(row.after, row.unit),
                "difference": row.difference,
                "meaning": row.meaning,
            }
            for row in comparison.rows
        ],
        moments=list(shared),
        policy=_policy(style, script),
        style=style,
        script=script,
        data_before=page_json(before),
        data_after=page_json(after),
        data_moments=script_json(shared),
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


def template(name: str) -> jinja2.Template:
    return _environment().get_template(name)


@cache
def _static(name: str) -> str:
    return files(__package__).joinpath("static", name).read_text(encoding="utf-8")


def picture_style() -> str:
    """The style sheet of a page with a picture: colours, and the stage."""
    return joined(PICTURE_STYLES)


def picture_script(*own: str) -> str:
    """A picture's scripts and then a page's own, in one scope of their own.

    Args:
        own: JavaScript, which may use all that `picture.js` and those before it define.
    """
    return _in_one_scope(f"{joined(PICTURE_SCRIPTS)}\n{chr(10).join(own)}")


def joined(names: Iterable[str]) -> str:
    return "\n".join(_static(name) for name in names)


def script_of(names: Iterable[str]) -> str:
    """The files in one function: a scope of their own, in which they see each other."""
    return _in_one_scope(joined(names))


def _in_one_scope(text: str) -> str:
    return f'(() => {{\n"use strict";\n{text}\n}})();\n'


def _policy(style: str, script: str) -> str:
    return (
        f"default-src 'none'; img-src data:; style-src {hash_of(style)}; "
        f"script-src {hash_of(script)}; base-uri 'none'; form-action 'none'"
    )


def hash_of(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


# --- the run in numbers -------------------------------------------------------------------------

FAILOVERS_SHOWN_MAX: Final = 4


def source_text(run: Run) -> str:
    """Where the run was read from, in a few words."""
    if len(run.sources) > 1:
        return f"{len(run.sources)} logs: {', '.join(Path(name).name for name in run.sources)}"
    return f"{run.source}, from line {run.start_line}"


def _facts(run: Run) -> list[tuple[str, str, str]]:
    """(name, value, what it means) of what stands above the picture; what is not known is left
    out."""
    numbers = run.statistics
    facts = [
        ("nodes", str(len(run.nodes)), ""),
        ("lasted", duration_text(run.duration_s * 1000), "From the first line to the last."),
        ("lines", f"{len(run.entries):,}", ""),
        (
            "elections",
            f"{numbers.elections}, won {numbers.elections_won}",
            "Terms in which somebody asked for votes, and those that had a winner.",
        ),
        ("terms", f"{numbers.first_term} to {numbers.last_term}", ""),
        ("first leader", _moment_text(numbers.first_leader_s), "After the first line."),
        (
            "failover",
            _failovers_text(numbers.failovers),
            "What a client waits for when a leader is lost: from its last heartbeat that reached "
            "the majority until the next one took office.",
        ),
        (
            "messages",
            f"{sum(numbers.messages.values()):,}, lost {numbers.messages_lost:,}",
            "",
        ),
        ("election timeout", _range_text(numbers.election_timeout), "As drawn, least to most."),
        ("vote round trip", _median_text(numbers.vote_round_trip), "The median."),
        ("heartbeat round trip", _median_text(numbers.heartbeat_round_trip), "The median."),
        ("heartbeat every", _median_text(numbers.heartbeat_interval), "The median."),
    ]
    if run.unparsed:
        facts.append(("unreadable lines", f"{run.unparsed:,}", "Kept out of the picture."))
    return [fact for fact in facts if fact[1]]


def _failovers_text(failovers: Sequence[Failover]) -> str:
    shown = [
        f"{duration_text(one.waited_s * 1000)} ({one.old_leader} → {one.new_leader})"
        for one in failovers[:FAILOVERS_SHOWN_MAX]
    ]
    left = len(failovers) - len(shown)
    return ", ".join(shown) + (f" … ({left} more)" if left else "") or "none"


def _moment_text(at_s: float | None) -> str:
    return "never" if at_s is None else f"after {duration_text(at_s * 1000)}"


def _median_text(durations: Durations | None) -> str:
    return "" if durations is None else duration_text(durations.median_ms)


def _range_text(durations: Durations | None) -> str:
    if durations is None:
        return ""
    return f"{durations.least_ms:.0f}–{durations.most_ms:.0f} ms"
