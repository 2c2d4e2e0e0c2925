"""A development cluster in a process of its own, for tests that want real servers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue

import attrs

PATIENCE_S = 60.0
READY = "Ctrl-C ends them all."


@attrs.define
class Started:
    """A cluster that was started, and what it has said."""

    process: subprocess.Popen[str]
    said: list[str] = attrs.field(factory=list)
    _coming: SimpleQueue[str | None] = attrs.field(factory=SimpleQueue)

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._coming.put(line.rstrip("\n"))
        self._coming.put(None)

    def wait_for(self, pattern: str) -> str:
        """The first line, from here on, in which this is found."""
        give_up_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                line = self._coming.get(timeout=max(0.0, give_up_s - time.monotonic()))
            except Empty:
                line = None
            assert line is not None, f"{pattern!r} was not said:\n" + "\n".join(self.said)
            self.said.append(line)
            if re.search(pattern, line):
                return line

    def end(self, number: signal.Signals) -> int:
        """Its exit code after this signal; all that it said is read."""
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        while (line := self._coming.get(timeout=PATIENCE_S)) is not None:
            self.said.append(line)
        return code

    @property
    def addresses(self) -> str:
        (line,) = (line for line in self.said if "export TRIORAFT_ADDRESSES=" in line)
        return line.partition("=")[2]


@contextmanager
def started(*arguments: str, cwd: Path) -> Iterator[Started]:
    process = subprocess.Popen(
        [sys.executable, "-m", "trioraft", "cluster", *arguments],
        cwd=cwd,
        env={**os.environ, "TMPDIR": str(cwd), "TRIORAFT_JOIN": "true"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    cluster = Started(process)
    reader = threading.Thread(target=cluster.read)
    reader.start()
    try:
        yield cluster
    finally:
        process.kill()
        process.wait()
        reader.join()
        assert process.stdout is not None
        process.stdout.close()
