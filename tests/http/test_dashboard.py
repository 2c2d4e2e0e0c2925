"""The dashboard asks for metrics that there are. That each panel has data on a real Prometheus,
`python -m tests.prometheus` shows."""

from __future__ import annotations

import json
import re

from tests.prometheus import DASHBOARD, queries
from trioraft.http.metrics import METRICS

OF_ANY_PROCESS = {
    *("process_cpu_seconds_total", "process_resident_memory_bytes"),
    *("process_open_fds", "process_max_fds"),
}


def test_each_panel_asks_for_metrics_that_there_are() -> None:
    known = {metric.exposed for metric in METRICS} | OF_ANY_PROCESS
    histograms = {metric.name for metric in METRICS if metric.kind == "histogram"}
    known |= {f"{name}{ending}" for name in histograms for ending in ("_bucket", "_count", "_sum")}
    for query in queries():
        asked = set(re.findall(r"\b(?:trioraft|process)_[a-z_]+", query.expr))
        assert asked, query
        assert asked <= known, query


def test_each_panel_has_a_place_of_its_own_and_a_query() -> None:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [tuple(panel["gridPos"][side] for side in "xy") for panel in panels]
    assert len({*places}) == len(panels)
    for panel in panels:
        assert panel["type"] == "row" or panel["targets"], panel["title"]
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
