"""The tables of `docs/metrics.md`, from the metrics' and the alerts' own descriptions:
`python -m tests.metrics_page --update` writes them, and without `--update` it says what differs."""

from __future__ import annotations

import re
import sys

from tests import generated_page
from tests.http.recording import ROOT, rules
from trioraft.http.metrics import METRICS

PAGE = ROOT / "docs" / "metrics.md"
METRICS_HEAD = "| metric | kind | labels | |\n|---|---|---|---|\n"
ALERTS_HEAD = "| alert | severity | what it says | why |\n|---|---|---|---|\n"


def metric_rows() -> list[str]:
    """A line for each metric."""
    return [
        f"| `{metric.exposed}` | {metric.kind} | "
        f"{', '.join(f'`{label}`' for label in metric.labels)} | {metric.help} |"
        for metric in METRICS
    ]


def alert_rows() -> list[str]:
    """A line for each alert."""
    found = []
    for name, rule in rules().items():
        told = rule["annotations"]
        summary = re.sub(r"\{\{ \$(labels\.)?(\w+).*?\}\}", r"*\2*", told["summary"])
        found.append(
            f"| `{name}` | {rule['labels']['severity']} | {summary} | {told['description']} |"
        )
    return found


def updated(page: str) -> str:
    """The page with both tables as they should be; each ends with an empty line."""
    for head, rows in ((METRICS_HEAD, metric_rows()), (ALERTS_HEAD, alert_rows())):
        before, _, after = page.partition(head)
        _, _, after = f"\n{after}".partition("\n\n")
        page = before + head + "".join(f"{row}\n" for row in rows) + "\n" + after
    return page


if __name__ == "__main__":
    sys.exit(generated_page.run(PAGE, updated))
