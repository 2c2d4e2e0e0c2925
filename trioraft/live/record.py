"""Record: what was heard of a cluster in the last minutes, to be analysed, and to be taken home as
a log and as a picture."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from datetime import datetime
from typing import Final, final

import attrs

from ..viz.analysis import analysed
from ..viz.building import RunBuilder
from ..viz.facts import Fact
from ..viz.live import WINDOW_S
from ..viz.model import Finding, FindingKind, NodeName, Run
from ..viz.page.write import run_page

LINES_MAX: Final = 20_000
"""Lines that are kept."""
FOUND_IN_S: Final = 90.0
"""How far back findings are looked for: who looks at what happens needs no history."""
NEED_ALL: Final[frozenset[FindingKind]] = frozenset({"missed-heartbeats"})
"""What cannot be found where only some of the heartbeats are told of."""
TEST: Final = "TEST"


@attrs.frozen
class Line:
    """One line of the log."""

    at_s: float
    """In seconds since the epoch."""
    node: NodeName | None
    text: str
    fact: Fact | None


@final
class Record:
    """The last minutes.

    Args:
        name: of the run that they make.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._lines: deque[Line] = deque(maxlen=LINES_MAX)

    def add(
        self, at_s: float, node: NodeName | None, texts: Iterable[str], fact: Fact | None
    ) -> None:
        """Take what was said; the first line bears the fact."""
        for text in texts:
            self._lines.append(Line(at_s, node, text, fact))
            fact = None

    def lines(self, window_s: float = WINDOW_S) -> list[Line]:
        """Those of the last so many seconds, by time."""
        after_s = time.time() - window_s
        return sorted((line for line in self._lines if line.at_s > after_s), key=_by_time)

    def raftlog(self) -> str:
        """The same as a raftlog."""
        lines = self.lines()
        if not lines:
            return f"=== RUN   {self.name}\n--- PASS: {self.name} (0.00s)\n"
        lasted_s = lines[-1].at_s - lines[0].at_s
        entries = "\n".join(
            f"{datetime.fromtimestamp(line.at_s):%H:%M:%S.%f} [{line.node or TEST}] {line.text}"
            for line in lines
        )
        return f"=== RUN   {self.name}\n{entries}\n--- PASS: {self.name} ({lasted_s:.2f}s)\n"

    def picture(self) -> str:
        """The page of the run, as HTML that needs nothing else."""
        run = analysed(run_of(self.name, self.lines()))
        return run_page(attrs.evolve(run, findings=tuple(told(run.findings))))


def _by_time(line: Line) -> float:
    return line.at_s


def run_of(name: str, lines: list[Line]) -> Run:
    """These lines as a run, without statistics and findings."""
    builder = RunBuilder(name, f"{name}.raftlog", 1)
    began_s = lines[0].at_s if lines else 0.0
    for number, line in enumerate(lines, start=2):
        builder.add(number, line.at_s - began_s, line.node, line.text, line.fact)
    return builder.build()


def findings_in(lines: list[Line]) -> list[Finding]:
    """What there is to say about these lines. Takes a while: for a thread of its own."""
    return list(told(analysed(run_of("live", lines)).findings)) if lines else []


def told(findings: Iterable[Finding]) -> Iterable[Finding]:
    """Those that can be trusted."""
    return (finding for finding in findings if finding.kind not in NEED_ALL)
