"""Report: what came of many seeds, in words and as JSON, and of one as a raftlog.

A failure is shown with the one command that repeats it, all that its seed drew, and the fewest
faults with which it still fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import attrs

from ..logs.raftlog import RaftlogRun, WallClock, run_name
from .directed import READ_BY_ASKING, READ_BY_LEASE
from .draw import Kind
from .outcomes import RunOutcome, Wait


@attrs.frozen
class FailureReport:
    """A failing seed, and what was found out about it."""

    outcome: RunOutcome
    command: str
    """Repeats it, with the shrunk schedule."""
    shrunk: tuple[int, ...] | None
    """The faults that are needed; None: it was not shrunk."""
    files: tuple[str, ...] = ()
    """What was written for it."""


@attrs.define
class Summary:
    """Sums over all outcomes so far."""

    seeds: int = 0
    failed: int = 0
    delivered: int = 0
    commits: int = 0
    elections: int = 0
    operations: int = 0
    cpu_s: float = 0.0
    """Processor time of all seeds, whoever ran them."""
    recovery_timeouts_max: float = 0.0
    drawn: Counter[str] = attrs.field(factory=Counter)
    """In how many seeds each kind of fault was on."""
    happened: Counter[str] = attrs.field(factory=Counter)
    """In how many seeds each kind really happened."""
    injected: Counter[str] = attrs.field(factory=Counter)
    """How often each kind happened."""

    waits: dict[str, Wait] = attrs.field(factory=dict)
    """Of each trial of a directed run, the one that came closest to its bound."""

    def add(self, outcome: RunOutcome) -> None:
        """One more seed."""
        self.seeds += 1
        self.failed += outcome.failure is not None
        self.delivered += outcome.delivered
        self.commits += outcome.commits
        self.elections += outcome.elections
        self.operations += outcome.operations
        self.cpu_s += outcome.cpu_s
        self.recovery_timeouts_max = max(self.recovery_timeouts_max, outcome.recovery_timeouts)
        self.drawn.update(list(outcome.drawn.get("intensities", ())))
        self.injected.update(outcome.injected)
        self.happened.update(outcome.injected.keys())
        for name, wait in outcome.waits.items():
            known = self.waits.get(name)
            if known is None or wait.part > known.part:
                self.waits[name] = wait

    @property
    def reads(self) -> int:
        """Reads of directed runs that were answered."""
        return self.injected[READ_BY_LEASE] + self.injected[READ_BY_ASKING]

    @property
    def messages_per_s(self) -> float:
        """Delivered messages a second of one core."""
        return self.delivered / self.cpu_s if self.cpu_s else 0.0

    def lines(self) -> Iterator[str]:
        """For people."""
        yield (
            f"{self.seeds} seeds, {self.failed} failed; {self.delivered} messages delivered, "
            f"{self.messages_per_s:.0f} a second of one core; {self.commits} entries committed, "
            f"{self.elections} leaders, {self.operations} operations answered; recovery within "
            f"{self.recovery_timeouts_max:.1f} election timeouts"
        )
        if self.reads and not self.waits:
            yield (
                f"{self.reads} reads answered, none of them stale unless a seed says so: "
                f"{self.injected[READ_BY_LEASE]} that might go by a lease, "
                f"{self.injected[READ_BY_ASKING]} by asking; {self.cpu_s:.0f} s of one core"
            )
        if self.waits:
            yield "trials (what came closest to its bound: how long it took, and may take):"
            for name, wait in sorted(self.waits.items()):
                yield f"  {name:44} {wait.took_s:6.2f} of {wait.bound_s:6.2f} s {wait.part:5.0%}"
        yield "faults (seeds in which they were on / in which they happened / times):"
        for kind in Kind:
            name = kind.value
            if self.drawn[name]:
                counts = (self.drawn[name], self.happened[name], self.injected[name])
                yield f"  {name:16} {counts[0]:7} {counts[1]:7} {counts[2]:9}"
        never = [kind.value for kind in Kind if self.drawn[kind] and not self.injected[kind]]
        if never:
            yield f"  never happened: {', '.join(never)}"

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        plain = attrs.asdict(self)
        plain["messages_per_s"] = round(self.messages_per_s)
        for name in ("drawn", "happened", "injected"):
            plain[name] = dict(sorted(plain[name].items()))
        return plain


def failure_lines(failure: FailureReport) -> Iterator[str]:
    """A failing seed, for people."""
    outcome = failure.outcome
    yield f"seed {outcome.seed} FAILED: {outcome.failure}"
    if outcome.drawn:  # a scenario draws nothing
        yield f"  drawn: {outcome.drawn}"
    if failure.shrunk is not None:
        yield f"  needs {len(failure.shrunk)} of {len(outcome.schedule)} faults:"
        needed = set(failure.shrunk)
        for fault in outcome.schedule:
            if fault.number in needed:
                yield f"    {fault.number}: {fault.text}"
    for file in failure.files:
        yield f"  wrote {file}"
    yield f"  replay: {failure.command}"


def failure_json(failure: FailureReport) -> dict[str, Any]:
    """A failing seed, for programs."""
    return {
        **outcome_json(failure.outcome),
        "drawn": failure.outcome.drawn,
        "schedule": [[fault.number, fault.text] for fault in failure.outcome.schedule],
        "shrunk": failure.shrunk,
        "replay": failure.command,
        "files": failure.files,
    }


def outcome_json(outcome: RunOutcome) -> dict[str, Any]:
    """A seed in short, for programs."""
    names = ("seed", "tier", "failure", "failure_kind", "delivered", "commits", "elections")
    more = ("operations", "virtual_s", "recovery_timeouts", "digest", "injected")
    plain = {name: getattr(outcome, name) for name in (*names, *more)}
    if outcome.waits:
        plain["waits"] = {name: attrs.astuple(wait) for name, wait in outcome.waits.items()}
    return plain


EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""When every simulation begins."""


def raftlog_lines(outcome: RunOutcome) -> Iterator[str]:
    """A traced run, line by line: header, entries, status. Virtual time is the only time in it, so
    that the same run gives the same file."""
    clock = WallClock(lambda: EPOCH)
    run = RaftlogRun(run_name(f"sim tier {outcome.tier} seed {outcome.seed}"), clock=clock)
    yield run.header()
    for line in sorted(outcome.trace, key=lambda line: line.at_s):  # stable
        if isinstance(line.what, str):
            yield from run.remark_lines(line.node_id, line.what, line.at_s)
        elif line.node_id is not None:
            yield from run.event_lines(line.node_id, line.what)
    verdict = "PASS" if outcome.failure is None else "FAIL"
    yield f"--- {verdict}: {run.name} ({outcome.virtual_s:.2f}s)"
