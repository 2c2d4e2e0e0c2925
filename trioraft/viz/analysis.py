"""A log file from beginning to end: read, measured, diagnosed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import attrs

from .cluster import ClusterView, statistics_of
from .failover import waits
from .findings.detectors import findings_of
from .model import Run
from .reading import read_lines, read_log, read_logs


def analyse_log(path: Path, progress: Callable[[int], None] | None = None) -> tuple[Run, ...]:
    """The runs of a log file, with statistics and findings.

    Args:
        path: raftlog text or JSON lines.
        progress: told now and then how many bytes were read.

    Raises:
        LogError: the file cannot be read, is empty or binary, or has no entry.
    """
    return tuple(analysed(run) for run in read_log(path, progress))


def analyse_logs(
    paths: Sequence[Path], progress: Callable[[Path, int], None] | None = None
) -> tuple[Run, ...]:
    """The runs of several files; files of one node each are one run, see `read_logs`.

    Args:
        paths: of the files.
        progress: told now and then: which file, and how many bytes of it are read.

    Raises:
        LogError: as `analyse_log`.
    """
    return tuple(analysed(run) for run in read_logs(paths, progress))


def analyse_lines(lines: Iterable[str], source: str) -> tuple[Run, ...]:
    """The runs in these lines, perhaps none; see `analyse_log`.

    Args:
        lines: of a log, with or without their ends.
        source: what to call where they come from.
    """
    return tuple(analysed(run) for run in read_lines(lines, source))


def analysed(run: Run) -> Run:
    """The run with its statistics and findings."""
    cluster = ClusterView(run)
    first = min((service.start_s for service in cluster.services()), default=None)
    statistics = attrs.evolve(
        statistics_of(cluster), failovers=waits(cluster), first_leader_s=first
    )
    measured = attrs.evolve(run, statistics=statistics)
    return attrs.evolve(measured, findings=findings_of(ClusterView(measured)))
