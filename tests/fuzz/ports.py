"""Ports: real servers are told what members and clients say, a little wrong.

Rules of this file:

* An arena is a cluster and those who attack it. It lives for some minutes, so that no damage that
  is allowed piles up; what is found is written down with all that was sent since the last check.
* What is checked: nobody has died, nothing ended in a traceback, memory and descriptors are
  bounded, somebody leads, and what was acknowledged is still there.
* Raft trusts its members: a member may depose, truncate and remove. So whoever plays members does
  it to a server whose other members are all played; of that one only life and answers are asked.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Final, Protocol, TypeAlias, final

import msgspec

from trioraft import BlockingClient, RaftError
from trioraft.core.types import NodeId
from trioraft.kv import commands as kv

from .crashes import Crash, Summary, save
from .decoders import replay_line
from .lines import Journal, Line, Step, again
from .mutation import Mutator
from .recording import Recording, record
from .servers import Cluster

MEMORY_MB_MAX: Final = 300.0
DESCRIPTORS_MORE_MAX: Final = 16
"""Above what a server had before anybody came, once all have gone."""
ARENA_SECONDS: Final = 240.0
CHECK_EVERY_S: Final = 2.0
CALM_EVERY: Final = 8
"""Every so many checks all lines are closed first, and descriptors are counted."""
ANSWER_SECONDS_MAX: Final = 15.0
LINES_MAX: Final = 12
FINDINGS_MAX: Final = 10
STARTS_MAX: Final = 3
"""So many clusters that do not start end a run."""
TELL_EVERY_S: Final = 60.0
EXCERPT_CHARS: Final = 3000
WITNESS: Final = b"\0witness of the fuzzers"
TRACES: Final = ("Traceback (most recent call last)", "InvariantViolation", "Exception Group")
WORDS: Final = (*Cluster.IDS, "3", "trioraft", "trioraft-client", "stale", "lease", "linearizable")

Tell: TypeAlias = Callable[[str], None]


class Crew(Protocol):
    """Some who attack, all in the same way."""

    needs_all: bool
    """Whether all servers go on; else it plays the others itself."""

    def begin(self, arena: Arena) -> None:
        """Once the cluster has a leader, and holds the witness."""

    def attack(self) -> None:
        """Send something."""

    def open(self, number: int, who: str, server: NodeId) -> Line | None:
        """Open a line as `who`, who is one of this crew's; None: it is refused."""

    def can_open(self, who: str) -> bool:
        """Whether that is one of this crew's."""

    def check(self) -> str | None:
        """What is wrong beyond what every arena looks at."""

    def finish(self) -> None:
        """Stop what runs beside."""

    def notes(self) -> list[str]:
        """Figures, for the summary."""


@final
class Arena:
    """A cluster, and those who attack it.

    Args:
        folder: an empty directory.
        rng: where all chance comes from, but for what the servers do.
        recording: what is really said.
        crews: who attacks.
        has_tls: whether the ports ask for certificates.
    """

    def __init__(
        self,
        folder: Path,
        rng: Random,
        recording: Recording,
        crews: Sequence[Crew],
        *,
        has_tls: bool,
    ) -> None:
        self.rng = rng
        self.mutator = Mutator(rng, WORDS)
        self.recording = recording
        self.cluster = Cluster(folder, has_tls=has_tls)
        self.inputs = 0
        self.refused = 0
        self.leader: NodeId = ""
        self.attacked: list[NodeId] = list(Cluster.IDS)
        """The servers that must live."""
        self._crews = crews
        self._needs_all = all(crew.needs_all for crew in crews)
        self._journal = Journal()
        self._lines: list[Line] = []
        self._descriptors: dict[NodeId, int] = {}
        self._checks = 0

    def begin(self) -> None:
        """Start the servers, put the witness, and let the crews come."""
        self.cluster.start()
        with self.cluster.client(ANSWER_SECONDS_MAX) as client:
            _put_witness(client, 0)
        self.leader = self.cluster.wait_for_leader(ANSWER_SECONDS_MAX)
        for crew in self._crews:
            crew.begin(self)
        for node_id in self.attacked:
            self._descriptors[node_id] = self.cluster.servers[node_id].descriptors()

    def end(self) -> None:
        """End everything."""
        for crew in self._crews:
            crew.finish()
        self.close_lines()
        self.cluster.kill()

    @property
    def steps(self) -> tuple[Step, ...]:
        """What was done since the last check that went well."""
        return tuple(self._journal.steps)

    def attack(self) -> None:
        """Each of the crews sends something."""
        for crew in self._crews:
            crew.attack()

    def some_server(self) -> NodeId:
        """One of those that are attacked; the leader half of the time."""
        return self.leader if self.rng.random() < 0.5 else self.rng.choice(self.attacked)

    # -- lines -------------------------------------------------------------------------------

    def line_of(self, who: str) -> Line | None:
        """An open line of this one, if there is one."""
        return next((line for line in self._lines if line.who == who), None)

    def new_line(self, who: str, server: NodeId) -> Line | None:
        """Open a line, and note it; the oldest ones give way."""
        number = self._journal.opened(who, server)
        line = self._open(number, who, server)
        if line is None:
            self.refused += 1
            self._journal.closed(number)
            return None
        self._lines.append(line)
        if len(self._lines) > LINES_MAX:
            self.drop(self.rng.choice(self._lines[:-1]))
        return line

    def _open(self, number: int, who: str, server: NodeId) -> Line | None:
        crew = next(crew for crew in self._crews if crew.can_open(who))
        return crew.open(number, who, server)

    def send(self, line: Line, data: bytes, inputs: int) -> None:
        """Send so many inputs, and note it; a line that is over is dropped."""
        self._journal.sent(line.number, data)
        self.inputs += inputs
        if not line.send(data):
            self.drop(line)

    def drop(self, line: Line) -> None:
        """Close a line."""
        line.close()
        if line in self._lines:
            self._lines.remove(line)
            self._journal.closed(line.number)

    def close_lines(self) -> None:
        """Close all of them."""
        for line in tuple(self._lines):
            self.drop(line)

    def do_again(self, steps: Sequence[Step]) -> None:
        """What somebody noted in another arena of this kind."""

        def open_line(number: int, who: str, server: str) -> Line | None:
            return self._open(number, who, server)

        self._lines += again(steps, open_line).values()

    # -- checks ------------------------------------------------------------------------------

    def check(self) -> str | None:
        """What is wrong; None, and the steps so far are forgotten, if nothing is."""
        self._checks += 1
        wrong = self._dead() or self._wrong_answers() or self._dead()
        if wrong is None and self._checks % CALM_EVERY == 0:
            self.close_lines()
            wrong = self._left_open()
        if wrong is None:
            self._journal.forget()
        return wrong

    def _dead(self) -> str | None:
        for node_id in self.attacked:
            server = self.cluster.servers[node_id]
            memory_mb = server.memory_mb()
            log = server.new_log()
            if server.exit_code is not None:
                log += server.new_log()
                return f"server {node_id} exited with {server.exit_code}\n{log[-EXCERPT_CHARS:]}"
            trace = next((log.index(words) for words in TRACES if words in log), None)
            if trace is not None:
                return f"server {node_id} logged\n{log[max(0, trace - 500) :][:EXCERPT_CHARS]}"
            if memory_mb > MEMORY_MB_MAX:
                return f"server {node_id} has {memory_mb:.0f} MB, at most {MEMORY_MB_MAX:.0f}"
        return None

    def _wrong_answers(self) -> str | None:
        for crew in self._crews:
            wrong = crew.check()
            if wrong is not None:
                return wrong
        if not self._needs_all:
            return None
        try:
            with self.cluster.client(ANSWER_SECONDS_MAX) as client:
                found = _witness(client)
                if found is None:
                    return "what was acknowledged is gone"
                _put_witness(client, found + 1)
            self.leader = self.cluster.leader() or self.leader
        except RaftError as error:
            return f"no put within {ANSWER_SECONDS_MAX:g} s: {error!r}\n{self.cluster.logs()}"
        return None

    def _left_open(self) -> str | None:
        """Descriptors of lines that we have closed."""
        end = time.monotonic() + ANSWER_SECONDS_MAX
        for node_id in self.attacked:
            server = self.cluster.servers[node_id]
            bound = self._descriptors[node_id] + DESCRIPTORS_MORE_MAX
            while server.exit_code is None and server.descriptors() > bound:
                if time.monotonic() >= end:
                    return (
                        f"server {node_id} has {server.descriptors()} descriptors open after all "
                        f"lines were closed; at first it had {self._descriptors[node_id]}"
                    )
                time.sleep(0.05)
        return None

    def notes(self) -> list[str]:
        """What the crews counted."""
        return [note for crew in self._crews for note in crew.notes()]


def _put_witness(client: BlockingClient, value: int) -> None:
    command = kv.encode(kv.Put(WITNESS, str(value).encode()))
    client.call(command, exactly_once=False)


def _witness(client: BlockingClient) -> int | None:
    found = client.query(kv.encode(kv.Get(WITNESS)), result_type=kv.Found)
    return None if found.value is None else int(found.value)


# -- runs ----------------------------------------------------------------------------------


class PortTarget(msgspec.Struct, frozen=True):
    """A kind of arena."""

    name: str
    what: str
    crews: Callable[[], Sequence[Crew]]
    has_tls: bool = False

    def arena(self, folder: Path, rng: Random, recording: Recording) -> Arena:
        """A new one."""
        return Arena(folder, rng, recording, self.crews(), has_tls=self.has_tls)


def fuzz(
    target: PortTarget,
    seed: str,
    *,
    seconds: float,
    folder: Path,
    tell: Tell = print,
    progress: Tell | None = None,
) -> Summary:
    """Attack servers, in one arena after the other.

    Args:
        target: how.
        seed: of everything that is drawn.
        seconds: end after so long.
        folder: where crashes are written.
        tell: is told of each crash, at once.
        progress: is told now and then how far it is.
    """
    summary = Summary(target.name)
    recording = record()
    begun = time.monotonic()
    memory: dict[NodeId, float] = {}
    arenas = refused = not_begun = 0
    notes: list[str] = []
    while len(summary.findings) < FINDINGS_MAX:
        left = seconds - (time.monotonic() - begun)
        if left <= 0:
            break
        rng = Random(f"{target.name} {seed} {arenas}")
        arenas += 1
        with tempfile.TemporaryDirectory(prefix="trioraft-fuzz-") as scratch:
            arena = target.arena(Path(scratch), rng, recording)
            try:
                if not _begun(arena, tell):
                    summary.notes.append("a cluster did not start")
                    not_begun += 1
                    if not_begun == STARTS_MAX:
                        summary.findings.append(f"{STARTS_MAX} clusters did not start")
                        break
                    continue
                wrong = _run(arena, min(left, ARENA_SECONDS), summary, progress)
                if wrong is not None:
                    path = save(Crash(target.name, seed, wrong, steps=arena.steps), folder)
                    summary.findings.append(str(path))
                    tell(f"{target.name}, seed {seed}: {wrong.strip()}\n{replay_line(path)}")
            finally:
                arena.end()
            refused += arena.refused
            notes = arena.notes()
            for node_id, server in arena.cluster.servers.items():
                memory[node_id] = max(memory.get(node_id, 0.0), server.memory_mb_max)
    summary.seconds = time.monotonic() - begun
    most = ", ".join(f"{node_id} {size_mb:.0f}" for node_id, size_mb in sorted(memory.items()))
    summary.notes += [f"memory at most, MB: {most}", f"{arenas} clusters", f"{refused} refused"]
    summary.notes += notes
    return summary


def _begun(arena: Arena, tell: Tell) -> bool:
    """Whether it could be started: a machine may be too busy for that, which is no finding."""
    try:
        arena.begin()
    except (RaftError, OSError) as error:
        tell(f"a cluster did not start: {error}")
        return False
    return True


def _run(arena: Arena, seconds: float, summary: Summary, progress: Tell | None) -> str | None:
    """Attack until the time is over, or something is wrong."""
    end = time.monotonic() + seconds
    before, told_s = summary.inputs, time.monotonic()
    while True:
        until = min(end, time.monotonic() + CHECK_EVERY_S)
        while time.monotonic() < until:
            arena.attack()
        wrong = arena.check()
        summary.inputs = before + arena.inputs
        if wrong is not None or time.monotonic() >= end:
            return wrong
        if progress is not None and time.monotonic() - told_s >= TELL_EVERY_S:
            told_s = time.monotonic()
            sizes = ", ".join(f"{arena.cluster.servers[s].memory_mb():.0f}" for s in arena.attacked)
            progress(f"{summary.target}: {summary.inputs:,} inputs, memory {sizes} MB")


def replay(target: PortTarget, crash: Crash) -> str | None:
    """What is wrong after the same steps, with servers that are new; None if nothing is."""
    rng = Random(f"{target.name} {crash.seed} replay")
    with tempfile.TemporaryDirectory(prefix="trioraft-fuzz-") as scratch:
        arena = target.arena(Path(scratch), rng, record())
        try:
            arena.begin()
            arena.do_again(crash.steps)
            return arena.check() or arena.check()
        finally:
            arena.end()
