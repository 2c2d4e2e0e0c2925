"""What `benchmarks.peers` found, as a Markdown block for people.

Rules of this file:

* Every figure is a median over the rounds; a ratio is the median of the rounds' ratios, with the
  interval in which it lies.
* What limits the worth of a figure stands below the table: versions, configurations, the load.
* In a file, the block stands between two marks; what is around it is never touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from .. import stats
from .cases import CONFIGURATIONS, LOADS, NAMES, Level, Load, Peer
from .results import Results, Sample, p50, p99, rate

BEGIN: Final = "<!-- python -m benchmarks.peers --update: begin -->"
END: Final = "<!-- python -m benchmarks.peers --update: end -->"

TITLES: Final = {
    Level.LIBRARY: "As libraries, durable; the load in the leader's process",
    Level.SERVICE: "As services, durable; the load in a process of its own",
    Level.FAILOVER: "kill -9 of the leader's process, until the next commit",
}
_HEADS: Final = {
    Level.LIBRARY: "| load | | ops/s | × | p50 ms | p99 ms | p99.9 ms | CPU µs/op |",
    Level.SERVICE: "| load | | ops/s | × | p50 ms | p99 ms | p99.9 ms | servers' CPU µs/op |",
    Level.FAILOVER: "| | trials | min ms | p50 ms | p90 ms | max ms | × p50 |",
}


def markdown(results: Results) -> str:
    """All of it, without the marks."""
    lines: list[str] = []
    for level in Level:
        loads = [load for load in results.loads() if load.level is level]
        if loads:
            head = _HEADS[level]
            lines += [f"**{TITLES[level]}**", "", head, "|---" * (head.count("|") - 1) + "|"]
            lines += [row for load in loads for row in _rows(results, load)]
            lines.append("")
    lines += [*_notes(results), ""]
    return "\n".join(lines)


def _rows(results: Results, load: Load) -> Iterator[str]:
    for number, peer in enumerate(results.peers_of(load)):
        if load.level is Level.FAILOVER:
            yield _failover_row(results, load, peer)
            continue
        name = load.name if number == 0 else ""
        figures = (
            f"{results.median(load, peer, rate):,.0f}",
            comparison(results, load, peer),
            *(
                milliseconds(results.median(load, peer, figure))
                for figure in (p50, p99, lambda sample: sample.p999_ms)
            ),
            f"{results.median(load, peer, lambda sample: sample.cpu_us_per_op):,.0f}",
        )
        yield f"| {name} | {NAMES[peer]} | {' | '.join(figures)} |"


def _failover_row(results: Results, load: Load, peer: Peer) -> str:
    trials_ms = results.trials_ms(load, peer)
    took = stats.summarize(trials_ms)
    ours = results.trials_ms(load, Peer.TRIORAFT)
    ratio = ""
    if peer is not Peer.TRIORAFT and ours:
        ratio = f"{took.p50 / stats.percentile(ours, 50):.3g}"
    times = " | ".join(f"{value:,.0f}" for value in (took.min, took.p50, took.p90, took.max))
    return f"| {NAMES[peer]} | {took.n} | {times} | {ratio} |"


def comparison(results: Results, load: Load, peer: Peer) -> str:
    """How many times better trioraft is than this peer; empty beside trioraft itself."""
    if peer is Peer.TRIORAFT:
        return ""
    if not load.is_judged_by_latency:
        ratio = results.ratio(load, peer, rate, is_rate=True)
        return "" if ratio is None else f"**{ratio.median:.2f}** ({_spread(ratio)})"
    parts = [
        f"{name} **{ratio.median:.2f}** ({_spread(ratio)})"
        for name, figure in (("p50", p50), ("p99", p99))
        if (ratio := results.ratio(load, peer, figure, is_rate=False)) is not None
    ]
    return ", ".join(parts)


def _spread(ratio: stats.Interval) -> str:
    return f"{ratio.low:.2f}–{ratio.high:.2f}"


def milliseconds(value: float) -> str:
    """With as many digits as are worth something."""
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def _notes(results: Results) -> Iterator[str]:
    rounds = 1 + max(sample.round for sample in results.samples)
    peers = [p for p in Peer if any(sample.peer is p for sample in results.samples)]
    busiest = max(sample.load_average for sample in results.samples)
    yield (
        f"{rounds} rounds of {results.seconds:g} s for each load and peer, one after the other in "
        "each round (A B A B), three processes each, over the loopback, values of 100 bytes "
        "unless said. Medians; ×: how many times trioraft is ahead, above 1 always in its favour, "
        "the median of the rounds' ratios and (between which it lies). In the open loop, latency "
        "counts from the moment at which a call was due, and × compares latencies. "
        f"Load average of the machine meanwhile: up to {busiest:.1f} on "
        f"{results.machine.get('cpus')} processors."
    )
    for sample in _troubles(results):
        yield ""
        yield sample
    for failure in results.failures:
        yield ""
        yield f"Failed: {failure}"
    yield ""
    for peer in peers:
        yield f"* {NAMES[peer]}: {CONFIGURATIONS[peer]}"
    for name, reason in results.left_out.items():
        yield f"* {name} was left out: {reason}"
    yield "* " + ", ".join(f"{name} {version}" for name, version in results.versions.items())


def _troubles(results: Results) -> Iterator[str]:
    """Failed calls and changes of leaders, in words; each load that lets calls fail is told."""
    for load in LOADS:
        for peer in results.peers_of(load):
            samples = results.of(load, peer)
            failed, terms = (sum(map(of, samples)) for of in (_failed, _terms))
            if load.is_big or failed or terms:
                done = sum(sample.ops for sample in samples)
                yield (
                    f"{load.level}, {load.name}, {NAMES[peer]}: {done:,} done, {failed:,} failed, "
                    f"{terms} more terms."
                )


def _failed(sample: Sample) -> int:
    return sample.failed


def _terms(sample: Sample) -> int:
    return sample.terms


def updated(text: str, block: str) -> str:
    """A page with this block between the marks instead of what stood there.

    Raises:
        ValueError: the page has no such marks, or not once each in this order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in after or END in before:
        raise ValueError(f"give a file with {BEGIN!r} and after it {END!r}, once each")
    return f"{before}{BEGIN}\n\n{block.strip()}\n\n{END}{after}"


def plain_rows(results: Results) -> Sequence[str]:
    """For a terminal: the same tables, without Markdown's emphasis."""
    return markdown(results).replace("**", "").splitlines()
