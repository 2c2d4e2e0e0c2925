"""Trials: one thing after the other goes wrong, and after each the cluster has to move on in time.

Rules of this file:

* To move on is: something that a client asked for afterwards is committed, by a leader that stays.
* What may take how long is said by `lines`; here it is measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ..core.errors import InvariantViolation
from ..core.features import command_of
from ..core.types import LogIndex, NodeId, Term
from .agenda import Agenda
from .checks import Checks
from .clients import ClientPool, SimulatedClient
from .directed import READ_BY_ASKING
from .draw import Draw, Fault, Trial
from .injection import FaultInjection
from .lines import (
    ASKER_PATIENCE_S,
    Strain,
    catching_up_bound_s,
    learning_bound_s,
    progress_bound_s,
    read_bound_s,
    stays_s,
    strain_of,
)
from .network import SimulatedNetwork
from .outcomes import RunOptions, RunRecording, Wait
from .process import Process

ASKERS: Final = 2


class TooSlowError(InvariantViolation):
    """Nothing is wrong but that it took longer than it may."""


class ProgressWatch:
    """Looks at a cluster after each event, until it has moved on since it was made."""

    def __init__(
        self, checks: Checks, processes: Mapping[NodeId, Process], agenda: Agenda, stays_s: float
    ) -> None:
        self.moved_s: float | None = None
        """When the first command was committed by the leader that leads now."""
        self._checks = checks
        self._processes = processes
        self._agenda = agenda
        self._stays_s = stays_s
        cores = [process.core for process in processes.values() if process.core is not None]
        # Whatever stands behind this, or is of a later term, was asked for afterwards.
        self._last_index = max((core.log.last_index for core in cores), default=0)
        self._last_term = max((core.term for core in cores), default=0)
        self._seen_index = checks.commit_index
        self._leaders_seen = 0
        self._term = 0

    def has_moved_on(self) -> bool:
        """Whether it has: call it after each event."""
        checks = self._checks
        if len(checks.leaders) != self._leaders_seen:
            self._leaders_seen, self._term = len(checks.leaders), max(checks.leaders, default=0)
            self.moved_s = None
        if checks.commit_index > self._seen_index:
            first, self._seen_index = self._seen_index + 1, checks.commit_index
            if self.moved_s is None and any(map(self._counts, range(first, self._seen_index + 1))):
                self.moved_s = self._agenda.now
        if self.moved_s is None or self._agenda.now < self.moved_s + self._stays_s:
            return False
        if _leads(self._processes[checks.leaders[self._term]], self._term):
            return True
        self.moved_s = None
        return False

    def _counts(self, index: LogIndex) -> bool:
        """Whether this is a client's command, asked for since, and of the newest leader."""
        entry = self._checks.committed.get(index)
        return (
            entry is not None
            and command_of(entry) is not None
            and entry.term == self._term
            and (index > self._last_index or entry.term > self._last_term)
        )


class Trials:
    """All trials of a run, one after the other.

    Args:
        draw: what the seed means.
        options: which faults are injected at all.
    """

    def __init__(
        self,
        seed: int,
        draw: Draw,
        options: RunOptions,
        *,
        agenda: Agenda,
        injection: FaultInjection,
        checks: Checks,
        processes: Mapping[NodeId, Process],
        network: SimulatedNetwork,
        pool: ClientPool,
        recording: RunRecording,
    ) -> None:
        self._draw = draw
        self._options = options
        self._agenda = agenda
        self._injection = injection
        self._checks = checks
        self._processes = processes
        self._network = network
        self._recording = recording
        self._lasting: dict[int, Fault] = {}
        self.askers: list[SimulatedClient] = [
            SimulatedClient(
                draw.clients + 1 + number, pool, seed, draw.nodes, patience_s=ASKER_PATIENCE_S
            )
            for number in range(ASKERS)
        ]

    def run(self) -> None:
        """Carry them out.

        Raises:
            TooSlowError: the cluster did not move on in time.
        """
        for asker in self.askers:
            asker.begin()
        for trial in self._draw.trials:
            begins = [number for number in trial.begins if self._options.injects(number)]
            if begins or any(number in self._lasting for number in trial.ends):
                self._carry_out(trial, begins)
        for asker in self.askers:
            asker.retire()

    def _carry_out(self, trial: Trial, begins: Iterable[int]) -> None:
        agenda, before, goal = self._agenda, self._strain, self._checks.commit_index
        begun_s = agenda.now
        self._end(trial.ends)
        begun = [self._draw.faults[number] for number in begins]
        for fault in begun:
            self._lasting[fault.number] = fault
            self._injection.begin(fault)
        if trial.learns is not None:
            self._await_learnt(trial.name, self._processes[trial.learns])
        self._await_progress(trial.name, before, begun)
        if trial.joins is not None:
            self._await_joined(trial.name, self._processes[trial.joins], goal, begun_s)
        agenda.run(agenda.now + trial.lasts_s, lambda: False)
        if self._strain.is_narrow:
            self._await_read(trial.name)
        if trial.heals:
            before = self._strain
            self._end(tuple(self._lasting))
            self._await_progress(f"{trial.name}, healed", before)

    @property
    def _strain(self) -> Strain:
        return strain_of(self._lasting.values())

    def _end(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if self._lasting.pop(number, None) is not None:
                self._recording.note("end", number)
                self._recording.remark(f"fault {number} ends")
                self._injection.end(number)
        if not self._strain.is_narrow:
            self._network.empty_queues()

    def _await_progress(self, name: str, before: Strain, begun: Sequence[Fault] = ()) -> None:
        now_s, strain = self._agenda.now, self._strain
        bound_s = progress_bound_s(self._draw, strain, before, begun)
        staying_s = stays_s(self._draw, strain)
        watch = ProgressWatch(self._checks, self._processes, self._agenda, staying_s)
        self._agenda.run(now_s + bound_s + staying_s, watch.has_moved_on)
        took_s = None if watch.moved_s is None else watch.moved_s - now_s
        what = "nothing that a client asked for was committed by a leader that stays"
        problem = self._judge(name, what, took_s, bound_s)
        if problem is not None:
            raise TooSlowError(problem)

    def _await_joined(self, name: str, process: Process, goal: LogIndex, begun_s: float) -> None:
        bound_s = catching_up_bound_s(self._draw, self._strain)
        has = self._agenda.run(begun_s + bound_s, lambda: process.applied_index >= goal)
        took_s = self._agenda.now - begun_s if has else None
        what = f"{process.node_id} has not caught up with entry {goal}"
        problem = self._judge(f"{name}: catching up", what, took_s, bound_s)
        if problem is not None:
            raise TooSlowError(problem)

    def _await_learnt(self, name: str, process: Process) -> None:
        cores = [each.core for each in self._processes.values() if each.core is not None]
        newest = max(cores, key=lambda core: core.log.commit_index)
        if process.node_id in newest.membership.at(newest.log.commit_index).members:
            return  # it was not taken out
        begun_s, bound_s = self._agenda.now, learning_bound_s(self._draw, self._strain)
        has = self._agenda.run(begun_s + bound_s, lambda: _knows_it_is_out(process))
        took_s = self._agenda.now - begun_s if has else None
        what = f"{process.node_id} has not learnt that it was taken out"
        problem = self._judge(f"{name}: learning", what, took_s, bound_s)
        if problem is not None:
            raise TooSlowError(problem)

    def _await_read(self, name: str) -> None:
        """A leader that is asked while its lines are as full as they get. If it leads no more it
        need not answer."""
        leader = next((p for p in self._processes.values() if p.leads()), None)
        if leader is None or leader.core is None:
            return
        term, answered = leader.core.term, self._recording.injected
        before, begun_s = answered[READ_BY_ASKING], self._agenda.now
        bound_s = read_bound_s(self._draw, self._strain)
        leader.probe(lease=False)
        has = self._agenda.run(begun_s + bound_s, lambda: answered[READ_BY_ASKING] > before)
        if not has and not _leads(leader, term):
            return
        what = f"{leader.node_id} leads, and did not answer a read"
        took_s = self._agenda.now - begun_s if has else None
        problem = self._judge(f"{name}: reading", what, took_s, bound_s)
        if problem is not None:
            raise TooSlowError(problem)

    def _judge(self, name: str, what: str, took_s: float | None, bound_s: float) -> str | None:
        """What is wrong with it, if it did not come in its time."""
        self._recording.waited(name, Wait(bound_s if took_s is None else took_s, bound_s))
        if took_s is not None and took_s <= bound_s:
            return None
        states = "; ".join(process.state() for process in self._processes.values())
        wrong = ", ".join(map(str, self._lasting.values())) or "nothing any more"
        return f"trial {name!r}: {what} within {bound_s:.2f} s; wrong is {wrong}: {states}"


def _knows_it_is_out(process: Process) -> bool:
    return process.core is not None and process.core.removed_index is not None


def _leads(process: Process, term: Term) -> bool:
    return process.leads() and process.core is not None and process.core.term == term
