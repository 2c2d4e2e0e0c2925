"""Scenes, tier 2: a scenario on real nodes, in virtual time, scheduled as the seed says."""

from __future__ import annotations

import time
from functools import partial
from typing import Any, Final, final

import trio
from trio.testing import MockClock

from ...core.events import CommitAdvanced, MessageReceived, RoleChanged, TraceEvent
from ...core.types import LogIndex, Role, Term
from ...scenario import Scenario, ScenarioError
from ...tasks.slices import SLICE_CLOCK
from ...testing.cluster import open_cluster
from ...testing.leaks import no_leaks
from ...testing.scenarios import play
from ..agenda import Agenda
from ..outcomes import RunOptions, RunOutcome, RunRecording, kind_of
from ..scenes import picture_of, scenario_of
from .scheduler import deterministic

TIER: Final = 2


def run_seed(
    seed: int,
    options: RunOptions = RunOptions(),  # noqa: B008 - a frozen value
) -> RunOutcome:
    """Play the scenario of these options with this seed, on real nodes, under the leak check.

    Returns:
        What came of it. Whatever is not as expected is its failure, and is not raised.

    Raises:
        ScenarioError: the scenario asks for what such nodes cannot do.
    """
    begun_s = time.process_time()
    scenario, told = scenario_of(options), _Told(options)
    failure: Exception | None = None
    try:
        with deterministic(seed):
            clock = MockClock(autojump_threshold=0.0)
            trio.run(told.tell, scenario, seed, clock=clock)
    except ScenarioError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what this seed has found
        failure = error
        told.recording.remark(f"{type(failure).__name__}: {failure}")
    return RunOutcome(
        seed=seed,
        tier=TIER,
        failure=None if failure is None else f"{type(failure).__name__}: {failure}",
        failure_kind="" if failure is None else kind_of(failure),
        drawn={},
        schedule=(),
        injected={},
        delivered=told.recording.delivered,
        commits=told.commit_index,
        elections=len(told.terms),
        operations=0,
        virtual_s=round(told.watch.now, 6),
        recovery_timeouts=0.0,
        digest=told.recording.digest(),
        cpu_s=time.process_time() - begun_s,
        trace=told.recording.lines,
    )


@final
class _Told:
    """What was told of a run: the logger of its nodes."""

    def __init__(self, options: RunOptions) -> None:
        self.watch: Agenda = Agenda()
        """Tells the recording what time it is; nothing is ever put on it."""
        self.recording: RunRecording = RunRecording(self.watch, traced=options.traced)
        self.terms: set[Term] = set()
        self.commit_index: LogIndex = 0

    async def tell(self, scenario: Scenario, seed: int) -> None:
        SLICE_CLOCK.set(trio.current_time)
        async with no_leaks():
            opening = partial(open_cluster, seed=seed, logger=self)
            await play(scenario, opening=opening, picture=picture_of(scenario, seed, TIER))
        self.watch.now = trio.current_time()

    def debug(self, event: str, *_: Any, **told: Any) -> None:
        """An event of a node, or a line of the scenario's."""
        self.watch.now = trio.current_time()
        node, trace = told.get("node"), told.get("trace")
        if node is None or not isinstance(trace, TraceEvent):
            self.recording.note("told", event)
            self.recording.remark(event, node)
            return
        self.recording.note("event", node, event)
        if self.recording.traced:
            self.recording.event(node, trace)
        match trace:
            case MessageReceived():
                self.recording.delivered += 1
            case RoleChanged(role=Role.LEADER):
                self.terms.add(trace.term)
            case CommitAdvanced():
                self.commit_index = max(self.commit_index, trace.commit_index)

    info = warning = debug
