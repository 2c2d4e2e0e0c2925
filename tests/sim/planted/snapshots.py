"""Snapshots and sessions that lose something.

Rules of this file: each breaks one rule of a snapshot or of the session table in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

from trioraft.core.raft import Raft
from trioraft.core.types import NodeId, SnapshotMeta
from trioraft.machines.sessions import SessionCommand, SessionMachine
from trioraft.machines.viewed import ViewedDict

from .bug import broken_core, patched

SNAPSHOT = SessionMachine.snapshot


class AppliesPastASnapshot(Raft):
    """Hazard S1: installing a snapshot does not move what is to be applied next."""

    def _install(self, meta: SnapshotMeta, sender: NodeId) -> None:
        applying_index = self._applying_index
        super()._install(meta, sender)
        self._applying_index = applying_index


def leaves_sessions_out(machine: SessionMachine) -> Iterator[bytes]:
    """Hazard S5: the session table is not in the snapshot."""
    sessions, machine._sessions = machine._sessions, ViewedDict()
    try:
        return chain(list(SNAPSHOT(machine)))
    finally:
        machine._sessions = sessions


def forgets_to_put_aside(sessions: ViewedDict[Any, Any], key: Any) -> None:
    """Hazard S7: what is changed while a snapshot is written is not put aside before, and stands in
    it as it was later."""


def leaves_results_out(machine: SessionMachine) -> Iterator[bytes]:
    """Hazard S5: sessions are in the snapshot, and the results of their commands are not."""
    kept = {number: session.results for number, session in machine._sessions.items()}
    for session in machine._sessions.values():
        session.results = {}
    try:
        return chain(list(SNAPSHOT(machine)))
    finally:
        for number, session in machine._sessions.items():
            session.results = kept[number]


def applies_a_retry_again(machine: SessionMachine, index: int, command: SessionCommand) -> Any:
    """Hazard S6: a command that comes again is carried out again."""
    machine._use(command.session_id)
    return machine.machine.apply(index, command.data)


BUGS = (
    broken_core("S1", AppliesPastASnapshot),
    patched("S5", SessionMachine, "snapshot", leaves_sessions_out),
    patched("S5", SessionMachine, "snapshot", leaves_results_out),
    patched("S6", SessionMachine, "_apply_once", applies_a_retry_again),
    patched("S7", ViewedDict, "_put_aside", forgets_to_put_aside),
)
