"""Runs and findings as text, for people at a terminal, and as the JSON of `trioraft viz --json`,
whose shape is a contract: a key is never renamed or taken away.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from .findings.wording import ms
from .model import Durations, Failover, Finding, Run, Term

RUNS_SHOWN_MAX: Final = 30
"""Of more runs, those with something worse than `info` are shown, and the others counted."""
WIDTH: Final = 100
_INDENT: Final = "    "


def report(runs: Sequence[Run]) -> str:
    """The report on all runs."""
    shown = runs
    if len(runs) > RUNS_SHOWN_MAX:
        shown = [run for run in runs if _is_noteworthy(run)]
    blocks = ["\n".join(_run_lines(run)) for run in shown]
    if len(shown) < len(runs):
        blocks.append(f"{len(runs) - len(shown)} more runs, with nothing to worry about")
    return _printable("\n".join(blocks))


def _is_noteworthy(run: Run) -> bool:
    return run.status == "FAIL" or any(finding.severity != "info" for finding in run.findings)


def _run_lines(run: Run) -> Iterator[str]:
    status = run.status or "no verdict"
    yield (
        f"{run.name}: {status}, {_count(len(run.node_names), 'node')}, "
        f"{_count(len(run.entries), 'entry', 'entries')} in {ms(run.duration_s)}"
        + (f", {_count(run.unparsed, 'broken line')}" if run.unparsed else "")
    )
    if run.terms:
        yield from _wrapped(_terms(run))
        yield from _wrapped(_numbers(run))
    for finding in run.findings:
        yield from _finding_lines(finding)


def _terms(run: Run) -> str:
    leaders = [
        f"{term.number} {'-' if term.leader is None else f'node {term.leader}'}"
        for term in run.terms
    ]
    if len(leaders) > 12:
        leaders = [*leaders[:6], "…", *leaders[-5:]]
    return f"leaders by term: {', '.join(leaders)}"


def _numbers(run: Run) -> str:
    numbers = run.statistics
    parts = [f"{_count(numbers.elections, 'election')}, {numbers.elections_won} won"]
    if numbers.failovers:
        failovers = ", ".join(ms(one.waited_s) for one in numbers.failovers[:8])
        more = len(numbers.failovers) - 8
        parts.append(
            f"failovers, from the last heartbeat on, {failovers}"
            + (f" and {more} more" if more > 0 else "")
        )
    for name, durations in (
        ("vote round trip", numbers.vote_round_trip),
        ("heartbeat round trip", numbers.heartbeat_round_trip),
        ("heartbeats every", numbers.heartbeat_interval),
    ):
        if durations is not None:
            parts.append(f"{name} {_durations(durations)}")
    sent = sum(numbers.messages.values())
    if sent:
        parts.append(f"{_count(sent, 'message')}, {numbers.messages_lost} lost")
    return "; ".join(parts)


def _durations(durations: Durations) -> str:
    return f"{ms(durations.median_ms / 1000)} (at most {ms(durations.most_ms / 1000)})"


def _finding_lines(finding: Finding) -> Iterator[str]:
    yield f"  {finding.severity}: {finding.kind}"
    yield from _wrapped(finding.detail)
    if finding.lines:
        lines = ", ".join(str(line) for line in finding.lines)
        yield from _wrapped(f"see line{'' if len(finding.lines) == 1 else 's'} {lines}")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=_INDENT,
        subsequent_indent=_INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _count(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _printable(text: str) -> str:
    return "".join(
        character if character.isprintable() or character == "\n" else "�" for character in text
    )


def summary(runs: Iterable[Run]) -> str:
    """`3 runs, 2 errors, 5 warnings`: the last line."""
    runs = list(runs)
    counts = Counter(finding.severity for run in runs for finding in run.findings)
    parts = [_count(len(runs), "run")]
    parts += [_count(counts["error"], "error"), _count(counts["warning"], "warning")]
    return ", ".join(parts)


def runs_json(runs: Iterable[Run]) -> str:
    """`{"runs": [{"name": …, "status": …, …}]}`, on several lines."""
    return json_text({"runs": [_run(run) for run in runs]})


def json_text(plain: object) -> str:
    """Plain values as JSON on several lines."""
    return msgspec.json.format(msgspec.json.encode(plain), indent=2).decode()


def _run(run: Run) -> dict[str, object]:
    return {
        "name": run.name,
        "status": run.status if run.status in ("PASS", "FAIL") else None,
        "nodes": list(run.node_names),
        "entries": len(run.entries),
        "unparsed": run.unparsed,
        "terms": {str(term.number): _term(term) for term in run.terms},
        "failovers_ms": [round(value, 3) for value in run.statistics.failovers_ms],
        "failovers": [_failover(one) for one in run.statistics.failovers],
        "findings": [_finding(finding) for finding in run.findings],
    }


def _failover(one: Failover) -> dict[str, object]:
    return {
        "from": one.old_leader,
        "to": one.new_leader,
        "terms": [one.old_term, one.new_term],
        "waited_ms": round(one.waited_s * 1000, 3),
        "is_heartbeat_known": one.heard_s is not None,
    }


def _term(term: Term) -> dict[str, object]:
    return {"leader": term.leader, "candidates": list(term.candidates)}


def _finding(finding: Finding) -> dict[str, object]:
    return {
        "kind": finding.kind,
        "severity": finding.severity,
        "terms": list(finding.terms),
        "nodes": list(finding.nodes),
        "detail": finding.detail,
    }
