"""Runs as JSON: the shape that `trioraft viz --json` promises.

Rules of this file:

* The shape is the contract: a key is never renamed or taken away.
* `status` is `PASS`, `FAIL` or null (a skipped run is neither); nodes are text; `entries` counts
  every timestamped line of the run, the test's own included.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from .model import Finding, Run, Term


def runs_json(runs: Iterable[Run]) -> str:
    """`{"runs": [{"name": …, "status": …, …}]}`, on several lines."""
    plain = {"runs": [_run(run) for run in runs]}
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
        "findings": [_finding(finding) for finding in run.findings],
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
