"""How fast are logs read? `python -m benchmarks.viz.parse --lines 1000000`

Rules of this file: the log is made here, of the lines a busy cluster writes; half of its texts
occur once, so that remembering texts helps no more than it does in life. Reading and analysing are
measured apart, by the wall clock and by the processor's: on a busy machine they differ.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from trioraft.viz.analysis import analysed
from trioraft.viz.reading import read_log

NODES: Final = 5
STEP_S: Final = 0.0003


def lines(count: int) -> Iterator[str]:
    """So many lines of a raftlog: an election, then a leader that replicates and beats."""
    yield "=== RUN   TestBig\n"
    at_s = 0.0
    entry = f"{_stamp(at_s)} [0]"
    yield f"{entry} election timer started (150ms), term=0\n"
    yield f"{entry} becomes Candidate (currentTerm=1); log=[]\n"
    yield f"{entry} becomes Leader; term=1, log=[]\n"
    made, index = 4, 0
    while made < count:
        index += 1
        for follower in range(1, NODES):
            for line in _exchange(at_s, follower, index, has_entry=index % 2 == 0):
                if made == count:
                    return
                yield line
                made += 1
            at_s += 4 * STEP_S


def _exchange(at_s: float, follower: int, index: int, *, has_entry: bool) -> Iterator[str]:
    """An AppendEntries and its reply."""
    entries = f"{{Term:1 Index:{index + 1}}}" if has_entry else ""
    known = index if has_entry else 0
    body = (
        f"{{Term:1 LeaderId:0 PrevLogIndex:{known} PrevLogTerm:1 "
        f"Entries:[{entries}] LeaderCommit:{known}}}"
    )
    sent, arrived = _stamp(at_s), _stamp(at_s + STEP_S)
    yield f"{sent} [0] sending AppendEntries to {follower}: ni={known + 1}, args={body}\n"
    yield f"{arrived} [{follower}] AppendEntries: {body}\n"
    if has_entry:
        yield f"{arrived} [{follower}] commit index advances to {index}\n"
    yield f"{arrived} [{follower}] AppendEntries reply: {{Term:1 Success:true}}\n"
    yield f"{_stamp(at_s + 2 * STEP_S)} [0] received AppendEntriesReply {{Term:1 Success:true}}\n"


def _stamp(at_s: float) -> str:
    hours, rest = divmod(at_s, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{int(hours):02d}:{int(minutes):02d}:{seconds:09.6f}"


def measure(path: Path, count: int) -> None:
    """Read the log and say how long it took."""
    begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
    runs = read_log(path)
    read_s, read_cpu_s = time.perf_counter() - begun_s, time.process_time() - begun_cpu_s
    begun_s = time.perf_counter()
    found = sum(len(analysed(run).findings) for run in runs)
    analysed_s = time.perf_counter() - begun_s
    print(
        f"{count:,} lines read in {read_s:.1f} s (processor {read_cpu_s:.1f} s), "
        f"{count / read_s:,.0f} lines/s; analysed in {analysed_s:.1f} s: {found} findings, "
        f"{sum(len(run.messages) for run in runs):,} messages; "
        f"{_peak_mib():,.0f} MiB at most"
    )


def _peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / (1 << 10)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.viz.parse", description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000, help="lines of the log")
    parser.add_argument("log", type=Path, nargs="?", help="read this log instead of making one")
    options = parser.parse_args()
    if options.lines < 10:
        parser.error(f"--lines is {options.lines}: give at least 10")
    if options.log is not None:
        with open(options.log, "rb") as stream:
            count = sum(1 for _ in stream)
        measure(options.log, count)
        return
    with tempfile.TemporaryDirectory(prefix="viz-parse-") as directory:
        path = Path(directory) / "big.raftlog"
        with open(path, "w", encoding="utf-8") as out:
            out.writelines(lines(options.lines))
        measure(path, options.lines)


if __name__ == "__main__":
    main()
