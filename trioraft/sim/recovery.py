"""Recovery: a majority is healed, the rest stays broken, and the cluster must move again.

* Whoever is healed is whole: its disk, its clock, its links to the others that are healed. The
  rest is left as it is (slow, full, skewed, paused, …), or is down, cut off, deaf or mute.
* A broken node hears all of the healed ones or none, and so do they: a leader that reaches only
  some of its followers is one that Raft keeps, and no progress can be asked of the others.
* A majority means one of every configuration that any node may still go by.
* Time to recover is counted in election timeouts, and has a bound.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Final

from ..core.types import Configuration, NodeId
from .checks import is_majority
from .disk import Fate
from .draw import Draw
from .network import SimulatedNetwork
from .outcomes import RunRecording
from .process import Process

WAYS: Final = ("down", "cut off", "deaf", "mute", "no room", "as it is")
"""What may become of a node that is not healed."""
STEADY_TIMEOUTS: Final = 12
"""For so many election timeouts a recovered cluster is watched."""
STEADY_TERMS_MAX: Final = 3
"""So many terms may begin meanwhile (a leadership transfer, a leader that is taken out), and no
more."""
STEADY_TIMEOUT_MIN_S: Final = 0.1
"""With shorter election timeouts a slow disk or link alone may cost a leader."""
RECOVERY_TIMEOUTS_MAX: Final = 100
"""How many of the longest election timeouts a healed majority may take until all is well."""


def heal(
    processes: Mapping[NodeId, Process],
    network: SimulatedNetwork,
    recording: RunRecording,
    draw: Draw,
    rng: random.Random,
) -> tuple[tuple[NodeId, ...], bool]:
    """Heal a majority, and break the rest for good.

    Returns:
        Who is whole now; and whether nobody else can lead, so that leadership should be steady.
    """
    healed = _choose(processes, draw, rng)
    recording.note("heal", *healed)
    recording.remark(f"{', '.join(healed)} are healed, and nobody else")
    network.link_faults.clear()
    ids, is_steady = list(processes), draw.timing.election_timeout_s[0] >= STEADY_TIMEOUT_MIN_S
    network.mend_all((a, b) for a in ids for b in ids if a != b)
    for node_id in ids:
        process = processes[node_id]
        if node_id in healed:
            _make_whole(process)
        else:
            others = [other for other in ids if other != node_id]
            is_steady &= _break(process, network, others, draw, rng)
    return healed, is_steady and _is_guarded(draw)


def _choose(
    processes: Mapping[NodeId, Process], draw: Draw, rng: random.Random
) -> tuple[NodeId, ...]:
    configurations = [Configuration(draw.voters)]
    for process in processes.values():  # every one that may still count, in a log or on a disk
        configurations += process.known_configurations()
    candidates = [node for node, process in processes.items() if not process.disk.is_rotten]
    rng.shuffle(candidates)
    chosen: list[NodeId] = []
    for node in candidates:
        if all(is_majority(configuration, chosen.__contains__) for configuration in configurations):
            break
        chosen.append(node)
    return tuple(sorted(chosen))


def _make_whole(process: Process) -> None:
    process.disk.fails_next = False
    process.fuse = process.crash_in_write = None
    process.disk.is_full = False
    process.slow_s = 0.0
    process.run_clock_at(1.0)
    process.resume(timers_first=False)
    process.start()


def _break(
    process: Process,
    network: SimulatedNetwork,
    others: list[NodeId],
    draw: Draw,
    rng: random.Random,
) -> bool:
    """As it is, or worse; returns whether it can lead no more.

    Without pre-vote and check-quorum a node that is half cut off disturbs the others for ever, and
    rightly so: it is what they are for (dissertation 6.2, 9.6).
    """
    node_id = process.node_id
    inwards = [(other, node_id) for other in others]
    outwards = [(node_id, other) for other in others]
    how = rng.choice(WAYS) if _is_guarded(draw) else "down"
    if how == "down":
        process.crash(Fate.SURVIVES, "stays away")
    if how in ("cut off", "deaf"):
        network.cut(inwards)
    if how in ("cut off", "mute"):
        network.cut(outwards)
    if how == "no room":
        process.disk.is_full = True  # for good: whoever leads there has to let somebody else
    return how != "as it is"


def transfer_s(draw: Draw) -> float:
    """How long an entry takes to reach a node that lacks many, through windows this small. A single
    voter commits without waiting for its learners, so these may be far behind."""
    round_trip_s = 2 * (draw.delay_s[1] + draw.batch_s) + draw.disk_s[1] + draw.apply_s
    return round_trip_s / (draw.limits.append_entries_max * draw.limits.inflight_messages_max)


def _is_guarded(draw: Draw) -> bool:
    return draw.timing.pre_vote and draw.timing.check_quorum
