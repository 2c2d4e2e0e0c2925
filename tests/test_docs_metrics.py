"""docs/metrics.md shows the metrics and the alerts that there are."""

from __future__ import annotations

from tests.metrics_page import PAGE, alert_rows, metric_rows, updated


def test_the_page_shows_every_metric_and_every_alert() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert updated(page) == page, "python -m tests.metrics_page --update"
    assert all(row in page for row in (*metric_rows(), *alert_rows()))
