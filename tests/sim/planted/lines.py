"""Lines and disks that are slow, and rules for them that are left out: nothing is unsafe, and the
cluster does not move on in time.

Rules of this file: these are hunted by the runs that are directed at lines. Two rules are the
transport's, which no simulated cluster has: there the simulated network breaks the same rule.
"""

from __future__ import annotations

from trioraft.core.messages import Message
from trioraft.core.progress import Progress
from trioraft.core.raft import Raft
from trioraft.core.types import LogIndex, SnapshotMeta
from trioraft.core.window import Window
from trioraft.member.member import Member
from trioraft.sim import network
from trioraft.sim.draw import Pair
from trioraft.sim.lines import LINES
from trioraft.sim.network import SimulatedNetwork

from .bug import broken_core, patched


def never_closes(window: Window, took_s: float, used_bytes: int, answered_bytes: int) -> None:
    """Hazard P2: as much is on its way to a follower as may be, however late answers come."""
    window.answer_s = took_s
    window.size_bytes = window.bytes_max


def waits_behind_bulk(message: Message) -> bool:
    """Hazard P2: heartbeats and votes wait behind entries and snapshots (in the simulated network;
    the rule is the transport's)."""
    return False


def trusts_a_silent_connection(
    lines: SimulatedNetwork, message: Message, link: object, pair: Pair
) -> bool:
    """no connection is made beside one that is silent (in the simulated network; the rule is the
    transport's)"""
    return False


def takes_snapshots_all_the_same(member: Member) -> bool:
    """Hazard P3: newer snapshots push out the one that a follower is being sent."""
    return False


class CutsWhatComesAfterASentSnapshot(Raft):
    """Hazard P3: the log after a snapshot that is being sent is cut: who has it needs another."""

    def on_snapshot_saved(
        self, meta: SnapshotMeta, now: float, *, keep_after: LogIndex | None = None
    ) -> None:
        leadership, self._leadership = self._leadership, None
        super().on_snapshot_saved(meta, now)
        self._leadership = leadership


def sends_what_is_rotten(progress: Progress, offset: int, data: bytes) -> bool:
    """Hazard P4: a leader does not look whether the snapshot that it sends is what it saved."""
    return True


class AsksNobodyWhetherItIsOut(Raft):
    """Hazard P5: a learner that was taken out while it was away waits for a leader for ever."""

    def _ask_whether_removed(self) -> None:
        pass


BUGS = (
    patched("P2", Window, "on_answered", never_closes, directed=LINES),
    patched("P2", network, "_overtakes", waits_behind_bulk, directed=LINES),
    patched("-", SimulatedNetwork, "_connects_anew", trusts_a_silent_connection, directed=LINES),
    patched(
        "P3",
        Member,
        "_would_push_out_what_is_sent",
        takes_snapshots_all_the_same,
        directed=LINES,
    ),
    broken_core("P3", CutsWhatComesAfterASentSnapshot, directed=LINES),
    patched("P4", Progress, "is_as_stored", sends_what_is_rotten, directed=LINES),
    broken_core("P5", AsksNobodyWhetherItIsOut, directed=LINES),
)
