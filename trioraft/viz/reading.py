"""Reading a log file, line by line, into runs. No line, however broken, ends the reading: it is an
entry, something known, or it is counted.
"""

from __future__ import annotations

import codecs
import gc
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from math import inf
from pathlib import Path
from typing import IO, Final

import attrs

from .building import RunBuilder
from .facts import Fact
from .foreign import LEVELS, ForeignLog
from .jsonlines import JsonEntry, parse_json_line, times_of
from .model import NodeName, ReportedLeak, Run
from .raftlog import (
    ENTRY,
    LOOSE_ENTRY,
    LeakCollector,
    LineHeader,
    Switch,
    Verdict,
    is_close,
    is_decoration,
    looks_damaged,
    parse_test_text,
    parse_text,
    special,
)

TEST: Final = "TEST"
"""Who speaks in an entry of the test's own."""
DAY_S: Final = 86_400.0
SAME_RUN_S: Final = 5.0
"""Entries so soon after a verdict are the last words of its run; later ones lost their header."""
ENTRY_CHARS_MAX: Final = 2000
"""Longest text of an entry that is kept; the rest is cut."""
PENDING_MAX: Final = 10_000
"""Lines that may wait to hear whether they stand inside a run."""
TEXTS_SHARED_MAX: Final = 1 << 16
"""Equal texts are kept once, as long as there are no more different ones."""
REPORT_EVERY_LINES: Final = 50_000
LINE_CHARS_MAX: Final = 16 << 20
"""A longer line ends the reading."""
_BINARY_SAMPLE_BYTES: Final = 1 << 16
_INDENTED: Final = ("    ", "\t")


class LogError(Exception):
    """There is no log to show in this file. The message says why, and what would be one.

    Fault: the caller's.
    Remedy: give a file that `trioraft.logs` or `open_raftlog` wrote, or a log of etcd or
    hashicorp/raft.
    """


def read_log(path: Path, progress: Callable[[int], None] | None = None) -> tuple[Run, ...]:
    """Read a log file: raftlog text, JSON lines, or both.

    Args:
        path: the file. Encoding errors are replaced; UTF-16 with its mark is understood.
        progress: told now and then how many bytes were read.

    Returns:
        Its runs, without statistics and findings, in their order; at least one, with an entry.

    Raises:
        LogError: the file cannot be read, is empty or binary, or has no entry.
    """
    return _checked(_reader_of(path, progress).finish(), path)


def read_logs(
    paths: Sequence[Path], progress: Callable[[Path, int], None] | None = None
) -> tuple[Run, ...]:
    """Read several logs. If each is that of one node, and of another one, they are one run.

    Args:
        paths: the files.
        progress: told now and then which file is read, and how many bytes of it were.

    Raises:
        LogError: as `read_log`.
    """
    readers = [_reader_of(path, progress and partial(progress, path)) for path in paths]
    if len(paths) > 1 and all(reader.is_told for reader in readers):
        logs = [reader.told() for reader in readers]
        nodes = [next(one.node for one in log.entries if one.node is not None) for log in logs]
        if len(set(nodes)) == len(nodes):
            sources = [str(path) for path in paths]
            name = ", ".join(path.stem for path in paths)
            run = told_together(logs, sources, name).ended()
            return () if run is None else (run,)
    return tuple(
        run
        for path, reader in zip(paths, readers, strict=True)
        for run in _checked(reader.finish(), path)
    )


def _reader_of(path: Path, progress: Callable[[int], None] | None) -> _LogReader:
    """A reader that has read the whole file."""
    reader = _LogReader(str(path))
    try:
        with _without_collector(), open(path, "rb") as raw:
            # Text looks ahead; what it has not seen yet, it does not need to know.
            sample = raw.peek(_BINARY_SAMPLE_BYTES)[:_BINARY_SAMPLE_BYTES]
            _refuse_useless(sample, path)
            encoding = "utf-16" if sample.startswith(_UTF16_MARKS) else "utf-8-sig"
            with io.TextIOWrapper(raw, encoding, errors="replace", newline="\n") as stream:
                lines = _reporting(_bounded(stream, path), raw, progress)
                for number, line in enumerate(lines, start=1):
                    reader.feed(number, line)
    except OSError as error:
        raise LogError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeError as error:
        raise LogError(f"cannot read {path}: its encoding is broken: {error}") from error
    return reader


def _checked(runs: tuple[Run, ...], path: Path) -> tuple[Run, ...]:
    if not any(run.entries for run in runs):
        raise LogError(
            f"{path} has no log entry: expected lines such as "
            "'10:02:26.890095 [0] becomes Candidate (currentTerm=1); log=[]', "
            "trioraft's JSON lines, or a log of etcd or hashicorp/raft"
        )
    return runs


def read_lines(lines: Iterable[str], source: str) -> tuple[Run, ...]:
    """Read lines as `read_log` does.

    Args:
        lines: with or without their ends.
        source: what to call where they come from; entries before any run line form a run that
            bears this name, without directories and suffix.

    Returns:
        The runs, perhaps none.
    """
    reader = _LogReader(source)
    for number, line in enumerate(lines, start=1):
        reader.feed(number, line)
    return reader.finish()


@contextmanager
def _without_collector() -> Iterator[None]:
    """Reading makes many objects and no garbage: looking for it takes a fifth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


_UTF16_MARKS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def _refuse_useless(sample: bytes, path: Path) -> None:
    if not sample:
        raise LogError(f"{path} is empty: there is no log to show")
    if b"\x00" in sample and not sample.startswith(_UTF16_MARKS):
        raise LogError(f"{path} is a binary file, not a log")


def _bounded(stream: io.TextIOWrapper, path: Path) -> Iterator[str]:
    """Its lines; a file without ends of lines, which may itself have no end, is no log."""
    while line := stream.readline(LINE_CHARS_MAX):
        if len(line) == LINE_CHARS_MAX and not line.endswith("\n"):
            raise LogError(
                f"{path} has a line of more than {LINE_CHARS_MAX} characters: no log has"
            )
        yield line


def _reporting(
    stream: Iterable[str], raw: IO[bytes], progress: Callable[[int], None] | None
) -> Iterable[str]:
    if progress is None:
        yield from stream
        return
    for count, line in enumerate(stream):
        if count % REPORT_EVERY_LINES == 0:
            progress(raw.tell())
        yield line


@attrs.define(eq=False)
class _OpenRun:
    """A run being read."""

    builder: RunBuilder
    has_header: bool
    leaks: LeakCollector = attrs.Factory(LeakCollector)
    pending: list[tuple[int, str]] = attrs.Factory(list)
    """Lines that are nothing we know; broken ones, if the run goes on."""
    is_closed: bool = False
    first_s: float = 0.0
    last_s: float = 0.0
    day_s: float = 0.0

    def since_start_s(self, time_of_day_s: float) -> float:
        """Seconds since the run's first entry; the day may change meanwhile."""
        if not self.builder.has_entries:
            self.first_s = self.last_s = time_of_day_s
            return 0.0
        if time_of_day_s < self.last_s - DAY_S / 2:
            self.day_s += DAY_S
        elif time_of_day_s > self.last_s + DAY_S / 2 and self.day_s:
            # A line of yesterday among today's first: it was written a moment too late.
            return time_of_day_s - DAY_S + self.day_s - self.first_s
        self.last_s = time_of_day_s
        return time_of_day_s + self.day_s - self.first_s

    def settle_pending(self, *, goes_on: bool) -> None:
        """Count what was broken: all, if an entry follows, else only what looks like one."""
        for line, text in self.pending:
            if goes_on or looks_damaged(text):
                self.builder.add_broken(line, text)
        self.pending.clear()

    def ended(self) -> Run | None:
        """The run; None if a header was all there was of it."""
        self.settle_pending(goes_on=False)
        self.leaks.close()
        self.builder.leaks.extend(self.leaks.leaks)
        if not self.builder.has_entries and self.builder.status is None:
            return None
        return self.builder.build()


@attrs.frozen
class Told:
    """An entry that has a time of day and of year: it can stand beside those of another log."""

    line: int
    wall_s: float | None
    node: NodeName | None
    text: str
    facts: tuple[Fact, ...]


@attrs.frozen
class ToldLog:
    """All of one file."""

    entries: list[Told]
    names: Mapping[NodeName, str] = attrs.Factory(dict)
    unknowns: Sequence[str] = ()


CLOCKS_DIFFER: Final = (
    "Each log has the clock of its own machine: an arrow that arrives before it was sent shows by "
    "how much they differ at least."
)


def told_together(logs: Sequence[ToldLog], sources: Sequence[str], name: str) -> _OpenRun:
    """One run of several logs, by their clocks; each log keeps its own order."""
    dated = [
        (at_s, number, told)
        for number, log in enumerate(logs)
        for at_s, told in _in_order(log.entries)
    ]
    dated.sort(key=lambda one: one[:2])  # stable
    builder = RunBuilder(name, sources[0], dated[0][2].line if dated else 1)
    builder.has_silent_nodes = any(log.unknowns for log in logs)
    builder.sources = tuple(sources)
    unknowns = dict.fromkeys(unknown for log in logs for unknown in log.unknowns)
    if len(logs) > 1:
        unknowns[CLOCKS_DIFFER] = None
    builder.unknowns = tuple(unknowns)
    for log in logs:
        builder.name_nodes(log.names)
    start_s = dated[0][0] if dated else 0.0
    for at_s, number, told in dated:
        first, *others = told.facts or (None,)
        builder.add(told.line, at_s - start_s, told.node, told.text, first, number)
        for fact in others:
            if fact is not None:
                builder.also(fact)
    return _OpenRun(builder, has_header=False)


def _in_order(entries: Iterable[Told]) -> Iterator[tuple[float, Told]]:
    """With times that never run backwards: a line without one has that of the line before."""
    now_s = -inf
    waiting: list[Told] = []
    for told in entries:
        if told.wall_s is not None:
            now_s = max(now_s, told.wall_s)
            yield from ((now_s, earlier) for earlier in waiting)
            waiting.clear()
        if now_s == -inf:
            waiting.append(told)
        else:
            yield now_s, told
    yield from ((0.0, told) for told in waiting)


class _LogReader:
    """Takes lines, and knows which run they belong to."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._file_name = Path(source).stem or "log"
        self._runs: list[_OpenRun] = []
        self._current: _OpenRun | None = None
        self._json: list[JsonEntry] = []
        self._foreign = ForeignLog()
        self._minutes: dict[str, float] = {}
        self._texts: dict[str, str] = {}

    def feed(self, number: int, line: str) -> None:
        """Take the next line."""
        line = line.rstrip()
        match = ENTRY.match(line)
        if match is None or match[3] in LEVELS:
            self._feed_other(number, line)
        elif not self._feed_entry(number, *match.group(1, 2, 3, 4)):
            self._feed_unknown(number, line)

    def finish(self) -> tuple[Run, ...]:
        """No more lines: the runs, in the order in which they began."""
        self._finish_json()
        if self._foreign.has_entries:
            self._runs.append(told_together([self.told()], [self._source], self._file_name))
        ended = (run.ended() for run in self._runs)
        return tuple(run for run in ended if run is not None)

    # -- entries ---------------------------------------------------------------------------

    def _feed_entry(self, number: int, minute: str, second: str, who: str, text: str) -> bool:
        """Take an entry; False if its time is none."""
        minute_s = self._minutes.get(minute)
        if minute_s is None:
            hours, minutes = minute.split(":")
            if int(hours) > 23 or int(minutes) > 59:
                return False
            minute_s = self._minutes[minute] = int(hours) * 3600.0 + int(minutes) * 60.0
        second_s = float(second)
        if second_s >= 61.0:
            return False
        run = self._run_for(minute_s + second_s, number)
        if len(text) > ENTRY_CHARS_MAX:
            text = f"{text[:ENTRY_CHARS_MAX]}…"
        text = self._shared(text)
        node: NodeName | None = None
        if who == TEST:
            fact: Fact | None = parse_test_text(text)
        else:
            node, fact = who, parse_text(text, who)
        at_s = run.since_start_s(minute_s + second_s)
        if run.pending:
            run.settle_pending(goes_on=True)
        run.builder.add(number, at_s, node, text, fact)
        return True

    def _shared(self, text: str) -> str:
        known = self._texts.get(text)
        if known is not None:
            return known
        if len(self._texts) < TEXTS_SHARED_MAX:
            self._texts[text] = text
        return text

    def _run_for(self, time_of_day_s: float, number: int) -> _OpenRun:
        run = self._current
        if run is not None and run.is_closed:
            since_s = time_of_day_s - run.last_s
            if not 0 <= since_s % DAY_S <= SAME_RUN_S and not abs(since_s) < SAME_RUN_S:
                run = None
        if run is None:
            run = self._begin(self._file_name, number, has_header=False)
        return run

    # -- all else ----------------------------------------------------------------------------

    def _feed_other(self, number: int, line: str) -> None:
        if is_decoration(line):
            return
        if line[0] == "{" and (entry := parse_json_line(number, line)) is not None:
            self._json.append(entry)
            return
        if self._foreign.take(number, line):
            return
        found = LOOSE_ENTRY.search(line)
        if (
            found is not None
            and found[3] not in LEVELS
            and self._feed_entry(number, *found.group(1, 2, 3, 4))
        ):
            return
        what = special(line)
        match what:
            case LineHeader():
                self._begin(what.name, number, has_header=True)
            case Switch():
                self._switch_to(what.name)
            case Verdict() if self._judge(what):
                pass
            case _:
                self._feed_unknown(number, line)

    def _feed_unknown(self, number: int, line: str) -> None:
        run = self._current
        if run is None or run.leaks.take(number, line) or run.is_closed:
            return
        is_note = line.startswith(_INDENTED) and not looks_damaged(line)
        if not is_note and len(run.pending) < PENDING_MAX:
            run.pending.append((number, line))

    def _begin(self, name: str, number: int, *, has_header: bool) -> _OpenRun:
        if self._current is not None:
            self._current.settle_pending(goes_on=False)
        run = _OpenRun(RunBuilder(name, self._source, number), has_header)
        self._runs.append(run)
        self._current = run
        return run

    def _switch_to(self, name: str) -> None:
        for run in reversed(self._runs):
            if run.builder.name == name and not run.is_closed:
                self._current = run
                return

    def _judge(self, verdict: Verdict) -> bool:
        """Whether there is a run that this is the verdict of."""
        open_runs = [run for run in reversed(self._runs) if not run.is_closed]
        run = next((run for run in open_runs if run.builder.name == verdict.name), None)
        if run is None and open_runs and open_runs[0] is self._current:
            last = open_runs[0]
            if not last.has_header or is_close(last.builder.name, verdict.name):
                run = last
        if run is None:
            return False
        run.builder.status = verdict.status
        run.is_closed = True
        run.settle_pending(goes_on=False)
        return True

    def _finish_json(self) -> None:
        """JSON lines have no headers: those of a file are one run."""
        if not self._json:
            return
        run = self._begin(self._file_name, self._json[0].line, has_header=False)
        for entry, at_s in zip(self._json, times_of(self._json), strict=True):
            run.builder.add(entry.line, at_s, entry.node, entry.text, entry.fact)
            if entry.report is not None:
                self._take_report(run, entry.line, entry.report)

    def told(self) -> ToldLog:
        """What the file has of lines with a time of their own."""
        if self._foreign.has_entries:
            return ToldLog(
                [
                    Told(entry.line, entry.wall_s, entry.node, entry.text, entry.facts)
                    for entry in self._foreign.entries()
                ],
                self._foreign.names(),
                self._foreign.unknowns(),
            )
        return ToldLog(
            [
                Told(
                    one.line,
                    one.wall_s,
                    one.node,
                    one.text,
                    () if one.fact is None else (one.fact,),
                )
                for one in self._json
            ]
        )

    @property
    def is_told(self) -> bool:
        """Whether all of the file is lines with a time of their own, of one node."""
        if self._runs or not (self._json or self._foreign.has_entries):
            return False
        return len({one.node for one in self.told().entries if one.node is not None}) == 1

    def _take_report(self, run: _OpenRun, number: int, report: str) -> None:
        for line in report.splitlines():
            run.leaks.take(number, line)
        found: Iterable[ReportedLeak] = run.leaks.leaks
        run.leaks.leaks = [attrs.evolve(leak, line=number) for leak in found]
