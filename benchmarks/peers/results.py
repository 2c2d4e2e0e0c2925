"""What was measured: one figure after the other, their medians, and how they compare.

Rules of this file:

* Like is compared with like: a ratio is of two figures of the same round, taken right after each
  other; what is told is the median of the rounds' ratios, and how far they lie apart.
* A ratio above 1 always means that trioraft is ahead: rates are divided by the peer's, latencies
  the other way round.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from .. import stats
from .cases import LOADS, Load, Peer


@attrs.frozen
class Sample:
    """One load on one peer, once."""

    round: int
    load: str
    """Its key."""
    peer: Peer
    ops_per_s: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    p999_ms: float = 0.0
    cpu_us_per_op: float = 0.0
    """Of all processes of the cluster, and of the load where it runs in one of them."""
    rss_mb: float = 0.0
    """The most that one of them had resident."""
    failed: int = 0
    terms: int = 0
    """How many terms higher the leader's was at the end."""
    ops: int = 0
    load_average: float = 0.0
    trials_ms: tuple[float, ...] = ()
    """What each trial took, where there are any."""


@attrs.frozen
class Results:
    """Everything so far."""

    samples: tuple[Sample, ...]
    versions: Mapping[str, str]
    machine: Mapping[str, Any]
    left_out: Mapping[str, str]
    """Peers that could not be measured, and why."""
    seconds: float
    was_interrupted: bool = False
    failures: tuple[str, ...] = ()
    """Measurements that failed, and why."""

    def loads(self) -> list[Load]:
        """Those of which there is something to tell."""
        keys = {sample.load for sample in self.samples}
        return [load for load in LOADS if load.key in keys]

    def of(self, load: Load, peer: Peer) -> list[Sample]:
        """What was measured, round by round."""
        return [s for s in self.samples if s.load == load.key and s.peer is peer]

    def peers_of(self, load: Load) -> list[Peer]:
        """Who was measured under it."""
        return [peer for peer in load.peers if self.of(load, peer)]

    def median(self, load: Load, peer: Peer, figure: Callable[[Sample], float]) -> float:
        """Over all rounds."""
        return statistics.median(map(figure, self.of(load, peer)))

    def trials_ms(self, load: Load, peer: Peer) -> list[float]:
        """Those of all rounds."""
        return [trial for sample in self.of(load, peer) for trial in sample.trials_ms]

    def ratio(
        self, load: Load, peer: Peer, figure: Callable[[Sample], float], *, is_rate: bool
    ) -> stats.Interval | None:
        """How many times better trioraft is, over the rounds in which both were measured."""
        ours = {sample.round: figure(sample) for sample in self.of(load, Peer.TRIORAFT)}
        theirs = {sample.round: figure(sample) for sample in self.of(load, peer)}
        return ratio_of(ours, theirs, is_rate=is_rate)


def ratio_of(
    ours: Mapping[int, float], theirs: Mapping[int, float], *, is_rate: bool
) -> stats.Interval | None:
    """The median of the rounds' ratios; None where no round has both.

    Args:
        ours: our figure of each round.
        theirs: the peer's.
        is_rate: more is better; else less is.
    """
    above, below = (ours, theirs) if is_rate else (theirs, ours)
    ratios = [above[r] / below[r] for r in ours if r in theirs and below[r]]
    return stats.median_interval(ratios) if ratios else None


def document(results: Results) -> dict[str, Any]:
    """The content of the JSON file."""
    content = attrs.asdict(results, value_serializer=lambda _i, _a, value: value)
    return {"benchmark": "peers", **content}


def read(document: Mapping[str, Any]) -> Results:
    """The results in such a file.

    Raises:
        ValueError: it is none.
    """
    if document.get("benchmark") != "peers":
        raise ValueError("this is no file of benchmarks.peers")
    fields = {name: value for name, value in document.items() if name != "benchmark"}
    samples = tuple(_sample(each) for each in fields["samples"])
    return Results(**fields | {"samples": samples, "failures": tuple(fields["failures"])})


def _sample(fields: Mapping[str, Any]) -> Sample:
    trials_ms = tuple(fields["trials_ms"])
    return Sample(**{**fields, "peer": Peer(fields["peer"]), "trials_ms": trials_ms})


def rate(sample: Sample) -> float:
    """Operations a second."""
    return sample.ops_per_s


def p50(sample: Sample) -> float:
    """The median latency."""
    return sample.p50_ms


def p99(sample: Sample) -> float:
    """Ninety-nine of a hundred take no longer."""
    return sample.p99_ms


def merged(all_results: Sequence[Results]) -> Results:
    """Several runs as one, their rounds one after the other."""
    first, *others = all_results
    samples = list(first.samples)
    for other in others:
        after = 1 + max((sample.round for sample in samples), default=-1)
        samples += [attrs.evolve(s, round=s.round + after) for s in other.samples]
    failures = tuple(failure for results in all_results for failure in results.failures)
    return attrs.evolve(first, samples=tuple(samples), failures=failures)
