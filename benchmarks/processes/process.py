"""One process: start it, wait for what it says, talk to it, end it, hear what it complained of.

Rules of this file:

* Every wait has a bound, and says what it waited for, with what the process said last.
* Each runs in a session of its own, so that Ctrl-C is ours to answer. Leaving the `with` kills and
  buries it, with whatever it started.
* If we are killed ourselves, its input ends: a process that heeds that ends, too. One that does not
  read its input is started with `is_guarded`: a shell beside it reads, and kills it then.
* Standard error goes to a file and never blocks anyone.
* Whoever runs Trio awaits `lines` and `ended`; all others call `next_line` and `wait`.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Final, final

import trio

PATIENCE_S: Final = 60.0
"""How long anything may take, the start of a process on a busy machine included."""
LAST_LINES: Final = 12
"""How much of what a process complained of is repeated."""
READ_BYTES: Final = 2**16

ROOT: Final = Path(__file__).parents[2]

_GUARD: Final = """\
exec 3<&0
(read -r _ <&3; kill -9 0) >/dev/null 2>&1 &
exec "$@" 3<&- </dev/null
"""
"""Kills the session when standard input ends; by its group, whose number nobody else can get while
the guard is in it."""


class ProcessError(Exception):
    """A process did not do what it was to do; the message says which, what, and its last words."""


def python(module: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs a module of ours."""
    return (sys.executable, "-m", module, *arguments)


@final
class Process:
    """A process, from its start to its burial. Use it in a `with`, or call `kill` at last.

    Args:
        command: with its arguments. Our own modules are found wherever it runs.
        name: for messages.
        directory: where it runs.
        environment: all of it; None for ours.
        errors: file to which it appends its standard error; None: one of its own.
        joins_errors: its standard error goes where its standard output goes.
        terminal: descriptor of a terminal for all three of its streams; closed here.
        is_guarded: it does not read its input, and is to be killed if we are.

    Who awaits `lines` or `ended` is the one to bury it; others may send signals meanwhile.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        name: str = "the process",
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
        errors: Path | None = None,
        joins_errors: bool = False,
        terminal: int | None = None,
        is_guarded: bool = False,
    ) -> None:
        self.name = name
        self.code: int | None = None
        """Its exit code, once it is buried."""
        self._errors: IO[bytes] = (
            tempfile.TemporaryFile() if errors is None else errors.open("a+b")  # noqa: SIM115 - till `close`
        )
        variables = dict(os.environ if environment is None else environment)
        paths = (str(ROOT), variables.get("PYTHONPATH"))
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        guard = ("/bin/sh", "-c", _GUARD, "sh") if is_guarded else ()
        pipe = subprocess.PIPE if terminal is None else terminal
        errors_to = subprocess.STDOUT if joins_errors else self._errors
        try:
            with _ctrl_c_heeded():
                self._popen = subprocess.Popen(  # noqa: S603 - what a test or a benchmark starts
                    [*guard, *command],
                    bufsize=0,
                    stdin=pipe,
                    stdout=pipe,
                    stderr=errors_to if terminal is None else terminal,
                    cwd=directory,
                    env=variables,
                    start_new_session=True,
                )
        except BaseException:
            self._errors.close()
            raise
        finally:
            if terminal is not None:
                os.close(terminal)
        self._last_words = ""
        self._pidfd = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else None
        self._pending = b""

    @property
    def pid(self) -> int:
        """Its number."""
        return self._popen.pid

    @property
    def is_running(self) -> bool:
        """Whether it is there, if only stopped."""
        return self.code is None and not self._is_over(0.0)

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if error is not None and not isinstance(error, ProcessError):
            error.add_note(f"{self.name} complained last:\n{self.complaints()}")
        self.kill()

    # -- talking ---------------------------------------------------------------------------

    def say(self, line: bytes) -> None:
        """One line to its standard input; nothing happens if it does not read any more."""
        with suppress(BrokenPipeError, ValueError):
            _pipe(self._popen.stdin).write(line)

    def end_input(self) -> None:
        """There is nothing more to say."""
        _pipe(self._popen.stdin).close()

    def close_output(self) -> None:
        """What it says from now on, nobody reads."""
        _pipe(self._popen.stdout).close()

    def next_line(self) -> str:
        """The next line on its standard output, without its end.

        Raises:
            ProcessError: there is none, or it takes too long.
        """
        deadline_s = time.monotonic() + PATIENCE_S
        while b"\n" not in self._pending:
            data = self._read(deadline_s)
            if not data:
                raise self._error(f"said only {self._pending!r}, and no line")
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode(errors="replace")

    def rest(self) -> str:
        """Everything that it still says, until its output ends."""
        deadline_s = time.monotonic() + PATIENCE_S
        while data := self._read(deadline_s):
            self._pending += data
        said, self._pending = self._pending, b""
        return said.decode(errors="replace")

    async def lines(self) -> list[bytes]:
        """The lines that it says next, one at least; none when its output has ended."""
        output = _pipe(self._popen.stdout)
        while b"\n" not in self._pending:
            await trio.lowlevel.wait_readable(output)
            data = os.read(output.fileno(), READ_BYTES)
            if not data:
                return []
            self._pending += data
        *lines, self._pending = self._pending.split(b"\n")
        return lines

    def complaints(self) -> str:
        """The end of what it wrote on standard error; empty if it wrote nothing."""
        if self._errors.closed:
            return self._last_words
        size = os.fstat(self._errors.fileno()).st_size
        said = os.pread(self._errors.fileno(), READ_BYTES, max(0, size - READ_BYTES))
        return "\n".join(said.decode(errors="replace").strip().splitlines()[-LAST_LINES:])

    def _read(self, deadline_s: float) -> bytes:
        output = _pipe(self._popen.stdout)
        if not _is_readable(output.fileno(), deadline_s - time.monotonic()):
            raise self._error(f"said nothing more for {PATIENCE_S:g} s after {self._pending!r}")
        return os.read(output.fileno(), READ_BYTES)

    # -- its end ---------------------------------------------------------------------------

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        if self.code is None:
            os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait until it has ended, and bury it; returns its exit code.

        Raises:
            ProcessError: it takes too long.
        """
        if self.code is None:
            if not self._is_over(PATIENCE_S):
                raise self._error(f"has not ended within {PATIENCE_S:g} s")
            return self._bury()
        return self.code

    async def ended(self) -> int:
        """As `wait`, for as long as it takes."""
        if self._pidfd is None:
            await trio.to_thread.run_sync(self._popen.wait, abandon_on_cancel=True)
        elif self.code is None:
            await trio.lowlevel.wait_readable(self._pidfd)
        return self.wait()

    def kill(self) -> int:
        """SIGKILL; when this returns it is gone, with what it started. It may be gone already."""
        if self.code is None:
            self._kill_all()
        return self.wait()

    def _kill_all(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def _bury(self) -> int:
        self._kill_all()  # before it is reaped: until then the number is its own
        code = self.code = self._popen.wait()
        for stream in (self._popen.stdin, self._popen.stdout):
            if stream is not None:
                stream.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
        self._last_words = self.complaints()
        self._errors.close()
        return code

    def _is_over(self, patience_s: float) -> bool:
        if self._pidfd is not None:
            return _is_readable(self._pidfd, patience_s)
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(patience_s)
            return True
        return False

    def _error(self, what: str) -> ProcessError:
        return ProcessError(
            f"{self.name} {what}:\n{self.complaints() or 'it complained of nothing'}"
        )


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise RuntimeError("every process here has pipes")
    return stream


def _is_readable(descriptor: int, patience_s: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, patience_s) * 1000))


@contextmanager
def _ctrl_c_heeded() -> Iterator[None]:
    """Who ignores SIGINT, as what a shell runs in the background does, passes that on."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def patience(what: str) -> Iterator[None]:
    """Bound what Trio waits for in the block.

    Raises:
        ProcessError: it took too long.
    """
    with trio.move_on_after(PATIENCE_S):
        yield
        return
    raise ProcessError(f"waited {PATIENCE_S:g} s for {what}; is the machine overloaded?")
